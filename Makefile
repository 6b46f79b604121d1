# make build   bin/donjon and bin/donjon-keep
# make run     build, run the example workload in a Keep, judge its proof
# make verifier  the verifier page, in out/verifier: a folder for any web server
# make test    install what the tests need (as root), then run all of them
# make check   gofmt, vet, staticcheck, cross-builds (attest for macOS, Windows and the browser too)
# make cross   donjon-keep for every processor
# make bench   measure the rows of docs/benchmarks.md, and write them there
GO      ?= go
GOFLAGS  = -trimpath -buildvcs=false
LDFLAGS  = -s -w
ARCHES   = amd64 arm64 ppc64le
# What is measured must not depend on this machine's C library.
export CGO_ENABLED = 0

VERIFIER = out/verifier

.PHONY: build run verifier test deps check cross examples bench-guests bench clean

build:
	$(GO) build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o bin/donjon ./cmd/donjon
	$(GO) build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o bin/donjon-keep ./cmd/donjon-keep

examples:
	@$(MAKE) --no-print-directory -C examples

bench-guests:
	$(MAKE) -C bench/guests

# The page, the Steward's style, Go's loader and the program: docs/verifier-page.md.
verifier:
	mkdir -p $(VERIFIER)
	GOOS=js GOARCH=wasm $(GO) build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o $(VERIFIER)/verifier.wasm ./web/verifier/wasm
	cp web/verifier/page/index.html web/verifier/page/page.css web/verifier/page/page.js steward/web/assets/style.css steward/web/assets/icon.svg \
		"$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" $(VERIFIER)

bench:
	$(GO) run ./bench/measure -o docs/benchmarks.md

run: build examples
	nonce=$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n'); \
	./bin/donjon run --tee sim --evidence out/evidence.cbor --nonce $$nonce out/examples/hello && \
	./bin/donjon policy init --from out/evidence.cbor --nonce $$nonce > out/policy.toml && \
	./bin/donjon verify --policy out/policy.toml --nonce $$nonce out/evidence.cbor

# Debian 12, 13 and Ubuntu 24.04 have these names.
PACKAGES = clang lld wasi-libc libclang-rt-dev-wasm32 rustc libstd-rust-dev-wasm32 curl openssl libnss3-tools \
	qemu-system-x86 qemu-system-arm qemu-system-ppc postgresql softhsm2 p11-kit opensc openssh-client cpio gcc libc6-dev systemd
# Node may come from elsewhere, and then Debian's cannot stand beside it.
PACKAGES += $(if $(shell which npm 2>/dev/null),,nodejs npm)
# Ubuntu has no package of this name, so it must not stand among the others.
CHROMIUM = command -v chromium || command -v chromium-browser || command -v google-chrome
deps:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		dpkg -s $(PACKAGES) >/dev/null 2>&1 || { apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(PACKAGES); } || \
		echo "apt-get failed: tests that need what is missing skip"; \
		{ $(CHROMIUM); } >/dev/null || { apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium; } || \
		echo "no chromium: the Steward's pages and the verifier page are not tried in a browser"; \
		command -v maude >/dev/null || { apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends maude; } || \
		echo "no maude: the model of the attested connection is not explored"; \
	else \
		{ $(CHROMIUM); } >/dev/null || echo "missing: chromium, without which these tests skip: the pages in a browser (steward/web, web/verifier)"; \
		command -v maude >/dev/null || echo "missing: maude, without which this test skips: the model of the attested connection (attest/atls)"; \
		for p in $(PACKAGES); do \
			case $$p in \
			clang|lld|wasi-libc|libclang-*) what="C guests (engine, examples, bench/guests, e2e)";; \
			qemu-*) what="vm Keeps (keep/vm, e2e's vm stories)";; \
			libnss3-tools) what="a browser that trusts the Steward (e2e)";; \
			curl|openssl) what="TLS from outside (e2e's serve stories)";; \
			postgresql) what="the Steward's store on PostgreSQL (steward/store)";; \
			softhsm2|p11-kit|opensc) what="keys in a PKCS#11 token (keyring/p11, steward/sealing, e2e)";; \
			openssh-client) what="ssh through an attested connection (e2e)";; \
			gcc|libc6-dev) what="the bench guests on this machine (bench/guests)";; \
			cpio) what="an initramfs as others read it (image)";; \
			systemd) what="the unit (packaging)";; \
			*) what="some";; \
			esac; \
			dpkg -s $$p >/dev/null 2>&1 || echo "missing: $$p, without which these tests skip: $$what (as root, make test installs it)"; \
		done; \
	fi

test: deps build examples
	$(GO) test -timeout 15m ./...

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	for a in $(ARCHES); do GOARCH=$$a $(GO) build ./... || exit 1; done
	for t in darwin/arm64 windows/amd64 js/wasm; do GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build ./attest/... || exit 1; done
	GOOS=js GOARCH=wasm $(GO) vet ./web/verifier/wasm

cross:
	for a in $(ARCHES); do GOARCH=$$a $(GO) build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o bin/donjon-keep-$$a ./cmd/donjon-keep || exit 1; done

clean:
	rm -rf bin out
