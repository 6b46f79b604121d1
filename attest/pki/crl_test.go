package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

// A list that is no whole one says nothing about who is not on it.
func TestPartialLists(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, SubjectKeyId: []byte{1}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	standard := func(n int, critical bool) []pkix.Extension {
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, n}, Critical: critical, Value: []byte{0x30, 0}}}
	}
	for _, c := range []struct {
		name  string
		extra []pkix.Extension
		whole bool
	}{
		{"a whole list", nil, true},
		{"a delta list", standard(27, true), false},
		{"a delta list that does not say so critically", standard(27, false), false},
		{"a distribution point's list", standard(28, true), false},
		{"a distribution point's list that does not say so critically", standard(28, false), false},
		{"an unknown critical extension", standard(99, true), false},
		{"an unknown extension", standard(99, false), true},
	} {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.AddDate(0, 1, 0), ExtraExtensions: c.extra}, issuer, key)
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		got := Revoked([]*x509.Certificate{issuer}, issuer, []*x509.RevocationList{l}, at, 0, nil)
		if got.Current != c.whole {
			t.Errorf("%s: found %+v, wanted used %v", c.name, got, c.whole)
		}
	}
}
