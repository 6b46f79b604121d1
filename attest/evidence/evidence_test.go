package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"
)

// goldenClaims are the bytes that docs/evidence.md shows.
const goldenClaims = "a5656e6f6e6365486e6f6e63652d2d3167707572706f73656466696c6568696e7374616e636550020202020202020202020202020202026b7075626b65792d686173685824820158200303030303030303030303030303030303030303030303030303030303030303" +
	"6f776f726b6c6f61642d64696765737458200101010101010101010101010101010101010101010101010101010101010101"

func fill[T [16]byte | [32]byte](v byte) (out T) {
	for i := range len(out) {
		switch p := any(&out).(type) {
		case *[16]byte:
			p[i] = v
		case *[32]byte:
			p[i] = v
		}
	}
	return out
}

func sample() Claims {
	return Claims{PubkeyHash: fill[[32]byte](3), Nonce: []byte("nonce--1"), WorkloadDigest: fill[[32]byte](1), Purpose: PurposeFile, Instance: fill[[16]byte](2)}
}

func TestClaimsGolden(t *testing.T) {
	b, err := sample().Encode()
	if err != nil || hex.EncodeToString(b) != goldenClaims {
		t.Fatalf("found %x, %v, wanted %s", b, err, goldenClaims)
	}
	c, err := ParseClaims(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := c.Encode(); !bytes.Equal(again, b) {
		t.Errorf("found %x after reading and writing", again)
	}
}

// A role is the one text that the host chooses among a configuration's; the golden
// claims, which have none, stay what they were.
func TestClaimsRole(t *testing.T) {
	c := sample()
	c.Role = "alice"
	b, err := c.Encode()
	want := "a6" + "64726f6c65" + "65616c696365" + goldenClaims[2:]
	if err != nil || hex.EncodeToString(b) != want {
		t.Fatalf("found %x, %v, wanted %s", b, err, want)
	}
	if back, err := ParseClaims(b); err != nil || back.Role != "alice" {
		t.Errorf("found %+v, %v", back, err)
	}
	for name, hexed := range map[string]string{
		"empty": "a6" + "64726f6c65" + "60" + goldenClaims[2:],
		"bytes": "a6" + "64726f6c65" + "45616c696365" + goldenClaims[2:],
		"space": "a6" + "64726f6c65" + "65616c206365" + goldenClaims[2:],
	} {
		b, err := hex.DecodeString(hexed)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := ParseClaims(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, c)
		}
	}
}

func TestClaimsBounds(t *testing.T) {
	for name, change := range map[string]func(*Claims){
		"no purpose":         func(c *Claims) { c.Purpose = "" },
		"unknown purpose":    func(c *Claims) { c.Purpose = "File" },
		"nonce of 7 bytes":   func(c *Claims) { c.Nonce = make([]byte, 7) },
		"nonce of 65 bytes":  func(c *Claims) { c.Nonce = make([]byte, 65) },
		"exporter too large": func(c *Claims) { c.TLSExporter = make([]byte, 65) },
		"role in capitals":   func(c *Claims) { c.Role = "Alice" },
		"role of 33 bytes":   func(c *Claims) { c.Role = strings.Repeat("a", 33) },
	} {
		c := sample()
		change(&c)
		if b, err := c.Encode(); err == nil {
			t.Errorf("%s: encoded as %x", name, b)
		}
	}
	for _, n := range []int{8, 64} {
		c := sample()
		c.Nonce, c.TLSExporter = make([]byte, n), make([]byte, 32)
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseClaims(b); err != nil || len(back.Nonce) != n || len(back.TLSExporter) != 32 {
			t.Errorf("a nonce of %d bytes: found %+v, %v", n, back, err)
		}
	}
}

// T26: one meaning for one piece of evidence. Each vector is the golden claims in
// another form.
func TestT26ClaimsRefused(t *testing.T) {
	good, _ := hex.DecodeString(goldenClaims)
	swap := func(old, new string) []byte {
		o, _ := hex.DecodeString(old)
		n, _ := hex.DecodeString(new)
		if bytes.Count(good, o) != 1 {
			t.Fatalf("%s stands %d times in the golden claims", old, bytes.Count(good, o))
		}
		return bytes.Replace(good, o, n, 1)
	}
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"short":               good[:len(good)-1],
		"trailing byte":       append(bytes.Clone(good), 0),
		"no map":              {0x80},
		"indefinite map":      append(append([]byte{0xbf}, good[1:]...), 0xff),
		"tagged":              append([]byte{0xd9, 0xea, 0x60}, good...),
		"long form of a size": swap("656e6f6e636548", "656e6f6e63655808"),
		"duplicate key":       append(append([]byte{0xa6}, good[1:]...), append([]byte("\x65nonce\x48"), "nonce--2"...)...),
		"key order":           append(append([]byte{0xa5}, good[15:]...), good[1:15]...),
		"other case of a key": swap("656e6f6e6365", "654e6f6e6365"),
		"unknown key":         swap("656e6f6e6365", "656e6f6e6366"),
		"hash algorithm 2":    swap("58248201", "58248202"),
		"short nonce":         swap("486e6f6e63652d2d31", "426e6f"),
		"text for bytes":      swap("486e6f6e63652d2d31", "686e6f6e63652d2d31"),
	} {
		if c, err := ParseClaims(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, c)
		}
	}
}

func TestT26CollectionRefused(t *testing.T) {
	e := Evidence{Report: []byte("report"), Certs: []byte("certs"), Claims: []byte("claims")}
	good, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(good)
	if err != nil || !bytes.Equal(back.Report, e.Report) || !bytes.Equal(back.Certs, e.Certs) || !bytes.Equal(back.Claims, e.Claims) {
		t.Fatalf("found %q, %v", back, err)
	}
	replace := func(old, new string) []byte {
		if bytes.Count(good, []byte(old)) != 1 {
			t.Fatalf("%q stands %d times in the collection", old, bytes.Count(good, []byte(old)))
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"trailing byte":        append(bytes.Clone(good), 0),
		"indefinite":           append(append([]byte{0xbf}, good[1:]...), 0xff),
		"other type":           replace("evidence/1", "evidence/2"),
		"other media type":     replace("vnd.donjon.claims", "vnd.donjon.claimz"),
		"other record":         replace("\x66claims\x83", "\x66claimz\x83"),
		"claims as other role": replace("\x46claims\x04", "\x46claims\x02"),
		"no role":              replace("\x46claims\x04", "\x46claims\x00"),
		"text for bytes":       replace("\x46claims\x04", "\x66claims\x04"),
		"record of four":       replace("\x46claims\x04", "\x46claims\x04\x00"),
		"a record twice":       append(append([]byte{good[0] + 1}, good[1:]...), good[bytes.Index(good, []byte("\x65certs\x83")):]...),
		"too large":            append(bytes.Clone(good), make([]byte, MaxSize)...),
	} {
		if got, err := Parse(b); err == nil {
			t.Errorf("%s: accepted as %q", name, got)
		}
	}
	for n := range good {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("%d of %d bytes: accepted", n, len(good))
		}
	}
}

// The two forms of report data never meet.
func TestT03ReportData(t *testing.T) {
	claims := []byte("claims")
	h := sha256.Sum256(claims)
	d := ReportData(claims)
	if !bytes.Equal(d[:32], h[:]) || !bytes.Equal(d[32:], make([]byte, 32)) {
		t.Errorf("found %x", d)
	}
	if got, want := PurposeReportData("seal", claims), sha512.Sum512([]byte("donjon/seal/1\x00claims")); got != want {
		t.Errorf("found %x, wanted %x", got, want)
	}
	if PurposeReportData("seal", claims) == PurposeReportData("sign", claims) {
		t.Error("two purposes have the same report data")
	}
}

func TestCertificate(t *testing.T) {
	e := Evidence{Report: []byte("report"), Certs: []byte("certs"), Claims: []byte("claims")}
	ext, err := CertificateExtensions(e)
	if err != nil || len(ext) != 2 || ext[0].Critical || ext[1].Critical {
		t.Fatalf("found %+v, %v", ext, err)
	}
	back, err := FromCertificate(&x509.Certificate{Extensions: ext})
	if err != nil || !bytes.Equal(back.Claims, e.Claims) {
		t.Fatalf("found %q, %v", back, err)
	}
	other, _ := CertificateExtensions(Evidence{Report: []byte("report"), Certs: []byte("certs"), Claims: []byte("others")})
	long := ext[0]
	long.Value = append(bytes.Clone(long.Value), 0)
	text := ext[0]
	text.Value = append([]byte{0x0c}, text.Value[1:]...)
	for name, c := range map[string]*x509.Certificate{
		"none":               {},
		"the tagged alone":   {Extensions: ext[1:]},
		"two":                {Extensions: append(ext[:2:2], ext[0])},
		"two tagged":         {Extensions: append(ext[:2:2], ext[1])},
		"forms that differ":  {Extensions: append(ext[:1:1], other[1])},
		"trailing byte":      {Extensions: append(ext[1:2:2], long)},
		"a UTF8String":       {Extensions: append(ext[1:2:2], text)},
		"claims of another":  {Extensions: append(other[:1:1], ext[1])},
		"empty CMW":          {Extensions: append(ext[1:2:2], ext[0], ext[0])},
		"tagged of no sense": {Extensions: append(ext[:1:1], text)},
	} {
		if got, err := FromCertificate(c); err == nil {
			t.Errorf("%s: accepted as %q", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := Evidence{Report: []byte("report"), Certs: []byte("certs"), Claims: []byte("claims")}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
		}
	})
}

func FuzzClaims(f *testing.F) {
	b, err := hex.DecodeString(goldenClaims)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClaims(b)
		if err != nil {
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
		}
	})
}
