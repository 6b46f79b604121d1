package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/workload"
)

var digest = workload.Digest{1, 2, 3}

// fixedKey is a test key that everybody knows.
func fixedKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }

func sign(t testing.TB, key crypto.Signer, d workload.Digest, name string, version uint64) []byte {
	t.Helper()
	e, err := Sign(key, d, name, version)
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSignAndVerify(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"Ed25519": fixedKey(), "P-256": p256} {
		t.Run(name, func(t *testing.T) {
			e, err := Parse(sign(t, key, digest, "acme.db", MaxVersion))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Verify(); err != nil {
				t.Error(err)
			}
			der, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if e.Workload != digest || e.Name != "acme.db" || e.Version != MaxVersion || e.Signer.ID() != sha256.Sum256(der) {
				t.Errorf("found %+v", e.Statement)
			}
		})
	}
}

// The form, byte by byte: what was signed once must verify in every later release.
func TestForm(t *testing.T) {
	const statement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"0102030000000000000000000000000000000000000000000000000000000000"}}],` +
		`"predicateType":"https://github.com/donjon-tee/donjon/signed-workload/v1","predicate":{"key":"MCowBQYDK2VwAyEAO2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=","version":7}}`
	// DSSE v1, "Signature Definition": "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
	message := "DSSEv1 28 application/vnd.in-toto+json " + strconv.Itoa(len(statement)) + " " + statement
	der, err := base64.StdEncoding.DecodeString("MCowBQYDK2VwAyEAO2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=")
	if err != nil {
		t.Fatal(err)
	}
	id := KeyID(sha256.Sum256(der)).String()
	want := `{"payloadType":"application/vnd.in-toto+json","payload":"` + base64.StdEncoding.EncodeToString([]byte(statement)) +
		`","signatures":[{"keyid":"` + id + `","sig":"` + base64.StdEncoding.EncodeToString(ed25519.Sign(fixedKey(), []byte(message))) + `"}]}`
	if got := sign(t, fixedKey(), digest, "a", 7); string(got) != want {
		t.Errorf("found\n%s\nwanted\n%s", got, want)
	}
}

// openssl verifies what is signed here: another reader of the same form.
func TestOpenSSL(t *testing.T) {
	tool, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl (apt-get install openssl)")
	}
	dir := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command(tool, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return out
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, kind := range [][]string{{"-algorithm", "ed25519"}, {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}} {
		run(append(append([]string{"genpkey"}, kind...), "-out", path("key"))...)
		file, err := os.ReadFile(path("key"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParsePrivateKey(file)
		if err != nil {
			t.Fatal(err)
		}
		var j struct {
			Payload    []byte
			Signatures []struct{ Sig []byte }
		}
		if err := json.Unmarshal(sign(t, key, digest, "a", 1), &j); err != nil {
			t.Fatal(err)
		}
		message := append([]byte("DSSEv1 28 application/vnd.in-toto+json "+strconv.Itoa(len(j.Payload))+" "), j.Payload...)
		if err := errors.Join(os.WriteFile(path("message"), message, 0o600), os.WriteFile(path("sig"), j.Signatures[0].Sig, 0o600)); err != nil {
			t.Fatal(err)
		}
		pub := run("pkey", "-in", path("key"), "-pubout")
		if k, err := ParsePublicKey(pub); err != nil || !bytes.Equal(k.PEM(), pub) {
			t.Errorf("openssl's public key: %v", err)
		}
		verify := []string{"pkeyutl", "-verify", "-rawin", "-inkey", path("key"), "-in", path("message"), "-sigfile", path("sig")}
		if len(kind) > 2 {
			verify = append(verify, "-digest", "sha256")
		}
		if out := run(verify...); !bytes.Contains(out, []byte("Verified Successfully")) {
			t.Errorf("%v: %s", kind, out)
		}
	}
}

// rewrite changes an envelope's payload and signs it again, so that the form alone is
// what is wrong.
func rewrite(change func(string) string) func([]byte) []byte {
	return func(b []byte) []byte {
		var j jsonEnvelope
		if err := json.Unmarshal(b, &j); err != nil {
			panic(err)
		}
		payload := []byte(change(string(j.Payload)))
		if bytes.Equal(payload, j.Payload) {
			panic("nothing changed")
		}
		j.Payload, j.Signatures[0].Sig = payload, ed25519.Sign(fixedKey(), pae(payload))
		out, err := json.Marshal(j)
		if err != nil {
			panic(err)
		}
		return out
	}
}

func replaced(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}

// Each is a good envelope with one thing changed, and none is read.
func TestRefusedForms(t *testing.T) {
	good := sign(t, fixedKey(), digest, "a", 7)
	other := sign(t, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), digest, "a", 7)
	text := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(replaced(from, to)(string(b))) }
	}
	member := func(b []byte, name string) string { // with its value
		var m map[string]json.RawMessage
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return `"` + name + `":` + string(m[name])
	}
	key := base64.StdEncoding.EncodeToString
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki := func(k any) string {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return key(der)
	}
	ours := spki(fixedKey().Public())
	for name, change := range map[string]func([]byte) []byte{
		"nothing":                     func([]byte) []byte { return nil },
		"null":                        func([]byte) []byte { return []byte("null") },
		"an array":                    func(b []byte) []byte { return []byte("[" + string(b) + "]") },
		"a byte behind":               func(b []byte) []byte { return append(b, ' ') },
		"another behind":              func(b []byte) []byte { return append(b, b...) },
		"cut":                         func(b []byte) []byte { return b[:len(b)-1] },
		"over the bound":              func(b []byte) []byte { return append(bytes.Repeat([]byte(" "), MaxSize), b...) },
		"deeply nested":               func([]byte) []byte { return bytes.Repeat([]byte("["), MaxSize) },
		"a space":                     text(`":"`, `": "`),
		"a letter escaped":            text(`"payloadType"`, `"payloadTyp\u0065"`),
		"another payload type":        text(PayloadType, "application/vnd.in-toto+jsom"),
		"no payload type":             text(member(good, "payloadType")+",", ""),
		"an unknown member":           text(`{"payloadType"`, `{"a":1,"payloadType"`),
		"a member twice":              text(`{"payloadType"`, `{`+member(good, "payload")+`,"payloadType"`),
		"a member in capitals":        text(`"payload":`, `"PAYLOAD":`),
		"another order":               text(member(good, "payloadType")+","+member(good, "payload"), member(good, "payload")+","+member(good, "payloadType")),
		"no signature":                text(member(good, "signatures"), `"signatures":[]`),
		"two signatures":              text(member(good, "signatures"), strings.TrimSuffix(member(good, "signatures"), "]")+","+strings.TrimPrefix(member(other, "signatures"), `"signatures":[`)),
		"another's key id":            text(member(good, "signatures"), member(other, "signatures")),
		"no key id":                   text(`"keyid":"`, `"keyid":"","x":"`),
		"base64 without padding":      text(`="}]}`, `"}]}`),
		"a statement of another type": rewrite(replaced("Statement/v1", "Statement/v0")),
		"another predicate":           rewrite(replaced("signed-workload/v1", "signed-workload/v2")),
		"no subject":                  rewrite(func(s string) string { a, b := strings.Index(s, "[")+1, strings.Index(s, "]"); return s[:a] + s[b:] }),
		"two subjects": rewrite(func(s string) string {
			a, b := strings.Index(s, "[")+1, strings.Index(s, "]")
			return s[:b] + "," + s[a:]
		}),
		"a digest of another algorithm": rewrite(replaced(`"sha256"`, `"sha512"`)),
		"a digest beside":               rewrite(replaced(`{"sha256"`, `{"sha1":"00","sha256"`)),
		"a short digest":                rewrite(replaced(`000"}`, `0"}`)),
		"a digest in capitals":          rewrite(replaced(`"0102030`, `"010203A`)),
		"no name":                       rewrite(replaced(`"name":"a"`, `"name":""`)),
		"a name in capitals":            rewrite(replaced(`"name":"a"`, `"name":"A"`)),
		"a name with a slash":           rewrite(replaced(`"name":"a"`, `"name":"a/b"`)),
		"a name twice":                  rewrite(replaced(`"name":"a"`, `"name":"b","name":"a"`)),
		"version 0":                     rewrite(replaced(`"version":7`, `"version":0`)),
		"a negative version":            rewrite(replaced(`"version":7`, `"version":-7`)),
		"a version with a point":        rewrite(replaced(`"version":7`, `"version":7.0`)),
		"a version with an exponent":    rewrite(replaced(`"version":7`, `"version":7e1`)),
		"a version as text":             rewrite(replaced(`"version":7`, `"version":"7"`)),
		"a version over the bound":      rewrite(replaced(`"version":7`, `"version":9007199254740992`)),
		"a version twice":               rewrite(replaced(`"version":7`, `"version":9,"version":7`)),
		"no version":                    rewrite(replaced(`,"version":7`, ``)),
		"predicate members turned":      rewrite(replaced(`"key":"`+ours+`","version":7`, `"version":7,"key":"`+ours+`"`)),
		"an unknown predicate member":   rewrite(replaced(`"version":7`, `"version":7,"until":9`)),
		"a byte behind the statement":   rewrite(func(s string) string { return s + "\n" }),
		"no key":                        rewrite(replaced(ours, "")),
		"an RSA key":                    rewrite(replaced(ours, spki(&rsaKey.PublicKey))),
		"a P-384 key":                   rewrite(replaced(ours, spki(&p384.PublicKey))),
		"a key with a byte behind":      rewrite(replaced(ours, key(append(mustDecode(t, ours), 0)))),
		"a cut key":                     rewrite(replaced(ours, key(mustDecode(t, ours)[:43]))),
	} {
		t.Run(name, func(t *testing.T) {
			b := change(bytes.Clone(good))
			if bytes.Equal(b, good) {
				t.Fatal("nothing was changed")
			}
			if e, err := Parse(b); err == nil {
				t.Errorf("read as %+v", e.Statement)
			}
		})
	}
	if _, err := Parse(good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func mustDecode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each is in its form, and none verifies.
func TestRefusedSignatures(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for kind, k := range map[string]crypto.Signer{"Ed25519": fixedKey(), "P-256": p256} {
		good := sign(t, k, digest, "a", 7)
		for name, change := range map[string]func(*jsonEnvelope){
			"a bit":         func(j *jsonEnvelope) { j.Signatures[0].Sig[20] ^= 1 },
			"the last bit":  func(j *jsonEnvelope) { s := j.Signatures[0].Sig; s[len(s)-1] ^= 1 },
			"none":          func(j *jsonEnvelope) { j.Signatures[0].Sig = []byte{} },
			"cut":           func(j *jsonEnvelope) { j.Signatures[0].Sig = j.Signatures[0].Sig[1:] },
			"a byte behind": func(j *jsonEnvelope) { j.Signatures[0].Sig = append(j.Signatures[0].Sig, 0) },
			"of another version": func(j *jsonEnvelope) {
				j.Payload = bytes.Replace(j.Payload, []byte(`"version":7`), []byte(`"version":8`), 1)
			},
			"of another name": func(j *jsonEnvelope) {
				j.Payload = bytes.Replace(j.Payload, []byte(`"name":"a"`), []byte(`"name":"b"`), 1)
			},
			"of another digest": func(j *jsonEnvelope) {
				j.Payload = bytes.Replace(j.Payload, []byte(`"01020300`), []byte(`"01020301`), 1)
			},
			"without the PAE": func(j *jsonEnvelope) {
				var err error
				msg, opts := j.Payload, crypto.SignerOpts(crypto.Hash(0))
				if kind == "P-256" {
					sum := sha256.Sum256(msg)
					msg, opts = sum[:], crypto.SHA256
				}
				if j.Signatures[0].Sig, err = k.Sign(rand.Reader, msg, opts); err != nil {
					t.Fatal(err)
				}
			},
		} {
			var j jsonEnvelope
			if err := json.Unmarshal(good, &j); err != nil {
				t.Fatal(err)
			}
			change(&j)
			b, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			e, err := Parse(b)
			if err != nil {
				t.Errorf("%s, %s: it is not in its form: %v", kind, name, err)
				continue
			}
			if err := e.Verify(); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %s: found %v", kind, name, err)
			}
		}
	}
}

// A signer that answers with another key's signature makes none.
type liar struct{ crypto.Signer }

func (l liar) Public() crypto.PublicKey { return fixedKey().Public() }

func TestSignRefuses(t *testing.T) {
	if _, err := Sign(liar{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}, digest, "a", 1); !errors.Is(err, ErrSignature) {
		t.Errorf("found %v", err)
	}
	for _, name := range []string{"", "-a", "a-", ".", "..", "a/b", "A", "ä", "a b", "a\n", strings.Repeat("a", MaxName+1)} {
		if _, err := Sign(fixedKey(), digest, name, 1); err == nil {
			t.Errorf("signed the name %q", name)
		}
	}
	for _, v := range []uint64{0, MaxVersion + 1, 1 << 63} {
		if _, err := Sign(fixedKey(), digest, "a", v); err == nil {
			t.Errorf("signed the version %d", v)
		}
	}
}

func TestKeys(t *testing.T) {
	pub, private, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := NewPublicKey(key.Public()); err != nil || k.ID() != pub.ID() {
		t.Errorf("found the key %v, %v", k, err)
	}
	if k, err := ParsePublicKey(append([]byte("signer       "+pub.ID().String()+"\n"), pub.PEM()...)); err != nil || k.ID() != pub.ID() {
		t.Errorf("with a line before it: %v", err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	rsaPrivate := block("PRIVATE KEY", pkcs8, err)
	spki, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	rsaPublic := block("PUBLIC KEY", spki, err)
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("key"), "two keys": append(bytes.Clone(private), private...), "the public half": pub.PEM(), "RSA": rsaPrivate,
		"a label of old": bytes.ReplaceAll(private, []byte("PRIVATE KEY"), []byte("EC PRIVATE KEY")), "a header": bytes.Replace(private, []byte("KEY-----\n"), []byte("KEY-----\nA: b\n\n"), 1),
		"large": append(bytes.Repeat([]byte("\n"), maxKeyFile), private...), "cut": block("PRIVATE KEY", pkcs8[:40], nil)} {
		if _, err := ParsePrivateKey(b); err == nil {
			t.Errorf("private key, %s: read", name)
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "two keys": append(pub.PEM(), pub.PEM()...), "the private half": private, "RSA": rsaPublic, "large": append(bytes.Repeat([]byte("\n"), maxKeyFile), pub.PEM()...)} {
		if _, err := ParsePublicKey(b); err == nil {
			t.Errorf("public key, %s: read", name)
		}
	}
	for _, s := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("A", 64), strings.Repeat("0", 66), "sha256:" + strings.Repeat("0", 64)} {
		if id, err := ParseKeyID(s); err == nil {
			t.Errorf("key id %q: read as %s", s, id)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x.sig")
	if list, err := ReadFile(name); err != nil || list != nil {
		t.Errorf("none there: %v, %v", list, err)
	}
	one, two := sign(t, fixedKey(), digest, "a", 1), sign(t, fixedKey(), digest, "b", 2)
	good := append(append(append(bytes.Clone(one), '\n'), two...), '\n')
	list, err := ParseFile(good)
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Fatalf("found %v, %v", list, err)
	}
	again, err := EncodeFile(list)
	if err != nil || !bytes.Equal(again, good) {
		t.Errorf("encoded again: %v\n%s", err, again)
	}
	for what, b := range map[string][]byte{"an empty line": []byte("\n"), "an empty line between": append(append(bytes.Clone(one), "\n\n"...), two...),
		"nine": bytes.Repeat(append(bytes.Clone(one), '\n'), MaxCount+1), "a carriage return": append(bytes.Clone(one), "\r\n"...), "large": bytes.Repeat([]byte("x"), MaxCount*(MaxSize+1)+1)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := ReadFile(name); err == nil {
			t.Errorf("%s: read as %d", what, len(list))
		}
	}
	if _, err := ReadFile(dir); err == nil {
		t.Error("a folder: read")
	}
	if got := Beside(dir); got != filepath.Join(dir, "Donjon.sig") {
		t.Errorf("beside a folder: %s", got)
	}
	if got := Beside("a/x.wasm"); got != "a/x.wasm.sig" {
		t.Errorf("beside a file: %s", got)
	}
}

// What may stand beside a workload may be sent.
func TestBoundsAreTheProtocols(t *testing.T) {
	if MaxCount != protocol.MaxSignatures || MaxSize != protocol.MaxSignature {
		t.Errorf("found %d of %d bytes, the protocol has %d of %d", MaxCount, MaxSize, protocol.MaxSignatures, protocol.MaxSignature)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sign(f, fixedKey(), digest, "a", 7))
	f.Add(sign(f, fixedKey(), digest, strings.Repeat("a", MaxName), MaxVersion))
	f.Add([]byte(`{"payloadType":"","payload":"","signatures":[{"keyid":"","sig":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encoded again: %v\n%q\n%q", err, again, b)
		}
		_ = e.Verify()
	})
}

// FuzzStatement reads what a hostile signer signed.
func FuzzStatement(f *testing.F) {
	for _, v := range []uint64{1, MaxVersion} {
		e, err := Sign(fixedKey(), digest, "a.b-c_d", v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStatement(b)
		if err != nil {
			return
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encoded again: %v\n%q\n%q", err, again, b)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	one := sign(f, fixedKey(), digest, "a", 7)
	f.Add(append(one, '\n'))
	f.Add(append(append(bytes.Clone(one), '\n'), one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseFile(b)
		if err == nil && len(list) > MaxCount {
			t.Fatalf("found %d", len(list))
		}
	})
}
