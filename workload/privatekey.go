package workload

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"regexp"
)

// maxKey is more than any private key has: RSA-16384 in PKCS#8 has 9 KiB.
const maxKey = 16 << 10 // bytes

// noPrivateKey refuses a private key: a workload is no secret, everyone who may
// fetch it reads it (THREATS T16). It finds keys in PEM (PKCS#1, SEC 1, PKCS#8,
// encrypted or not, OpenSSH, OpenPGP) anywhere in the file, PuTTY keys, and files
// that are one key in DER. It is a guard against accidents: a key inside another
// container is not found.
func noPrivateKey(name string, b []byte) error {
	if !hasPEMKey(b) && !isDERKey(b) && !bytes.HasPrefix(b, []byte("PuTTY-User-Key-File-")) {
		return nil
	}
	return &ConfigError{File: name, What: "it holds a private key, and a workload's files are no secret",
		Suggestion: "remove it from the workload; a Keep makes its own TLS key"}
}

// hasPEMKey looks for the first line of a PEM private key. The label alone would
// not do: programs and documents that mention keys hold it too.
func hasPEMKey(b []byte) bool {
	label := []byte("PRIVATE KEY")
	if !bytes.Contains(b, label) {
		return false
	}
	line := regexp.MustCompile(`-----BEGIN ([A-Z0-9]{1,16} ){0,3}PRIVATE KEY( BLOCK)?-----`)
	// The plain search is a hundred times faster than the expression, and a data
	// folder may have a gibibyte.
	for {
		i := bytes.Index(b, label)
		if i < 0 {
			return false
		}
		from, to := max(0, i-64), min(len(b), i+32)
		if line.Match(b[from:to]) {
			return true
		}
		b = b[i+len(label):]
	}
}

// isDERKey says whether b is one private key in DER: PKCS#8 of any algorithm
// (RFC 5958), PKCS#1 or SEC 1.
func isDERKey(b []byte) bool {
	if len(b) < 16 || len(b) > maxKey || b[0] != 0x30 {
		return false
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(b, &outer)
	if err != nil {
		return false
	}
	b = b[:len(b)-len(rest)] // a newline behind the key does not hide it
	var pkcs8 struct {
		Version   int
		Algorithm struct {
			OID        asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Key        []byte
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
		Public     asn1.RawValue `asn1:"optional,tag:1"`
	}
	if _, err := asn1.Unmarshal(b, &pkcs8); err == nil && pkcs8.Version >= 0 && pkcs8.Version <= 1 {
		return true
	}
	if _, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return true
	}
	_, err = x509.ParseECPrivateKey(b)
	return err == nil
}
