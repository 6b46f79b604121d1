// Package collateral holds vendor data that a verifier needs beside the evidence:
// certificates, revocation lists, Intel's TCB info and QE identities. It takes
// bundles, loose files and JSON objects apart, by content and not by name, and
// judges nothing: a file in here is as hostile as evidence until a format's
// verifier has checked its signature up to a pinned root. No certificate of a Set is
// ever a trust anchor.
//
// It does no I/O; fetch, next door, gets collateral from the vendors.
package collateral

import (
	"crypto/x509"
	"encoding/json"
)

// Bounds on what a Set holds; more is an error.
const (
	MaxFile         = 4 << 20
	MaxCertificates = 256
	MaxLists        = 64
	MaxDocuments    = 64 // TCB infos and QE identities, each
	MaxIgnored      = 4096
)

// Set is collateral taken apart. The zero value is empty; nil is allowed wherever a
// *Set is taken. A Set is not changed once it is given to a verifier.
type Set struct {
	Certificates []*x509.Certificate
	Lists        []*x509.RevocationList
	TCBInfos     []Document
	QEIdentities []Document
	// Ignored names what was not understood, and why.
	Ignored []Ignored
}

// Document is a signed JSON document of Intel's: the exact bytes that are signed,
// and the signature.
type Document struct {
	Body      json.RawMessage // the object under "tcbInfo" or "enclaveIdentity", byte for byte
	Signature []byte          // 64 bytes, r and s, big endian
}

// Ignored is a file that holds nothing of use.
type Ignored struct {
	Name, Why string
}

// Merge is a Set with everything of each.
func Merge(sets ...*Set) *Set {
	out := &Set{}
	for _, s := range sets {
		if s == nil {
			continue
		}
		out.Certificates = append(out.Certificates, s.Certificates...)
		out.Lists = append(out.Lists, s.Lists...)
		out.TCBInfos = append(out.TCBInfos, s.TCBInfos...)
		out.QEIdentities = append(out.QEIdentities, s.QEIdentities...)
		out.Ignored = append(out.Ignored, s.Ignored...)
	}
	return out
}
