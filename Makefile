# make build   bin/donjon and bin/donjon-keep
# make run     build, run the example workload in a Keep, show its proof
# make test    install what the tests need (as root), then run all of them
GO      ?= go
GOFLAGS  = -trimpath
LDFLAGS  = -s -w
export CGO_ENABLED = 0

.PHONY: build run test check cross clean

build:
	$(GO) build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o bin/donjon ./cmd/donjon
	$(GO) build $(GOFLAGS) -buildvcs=false -ldflags "$(LDFLAGS)" -o bin/donjon-keep ./cmd/donjon-keep
