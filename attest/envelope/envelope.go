// Package envelope opens whatever evidence travels in: text encodings, CMW
// (RFC 9999) in JSON, CBOR and X.509, RA-TLS certificates, certificate requests,
// and the bare binary forms. It finds out by content what it was given and takes it
// apart into one piece of evidence, what was stapled to it, and what the evidence
// is said to bind. It verifies nothing: that is for attest, with the formats'
// packages.
//
// One verdict, one evidence (THREATS T26): bytes that could be read as two pieces of
// evidence are refused.
package envelope

import (
	"fmt"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/tpm"
)

// MaxSize bounds evidence, in bytes, text encodings included.
const MaxSize = 4 << 20

// Kind says which format's verifier the evidence is for.
type Kind string

// The kinds.
const (
	SNP   Kind = "snp"   // ATTESTATION_REPORT
	DCAP  Kind = "dcap"  // SGX or TDX quote
	TPM   Kind = "tpm"   // TPM 2.0 quote, alone or beside an SNP report
	Nitro Kind = "nitro" // AWS Nitro attestation document
)

// Envelope is evidence taken apart.
type Envelope struct {
	Kind Kind
	// Form is what was found, in words, outermost first: "PEM, X.509 certificate, ...".
	Form string
	// Evidence is the report, quote or document, exactly as it was signed. For TPM
	// it is nil, and TPMEvidence is set.
	Evidence    []byte
	TPMEvidence *tpm.Evidence
	// Stapled is vendor data that came along; nil: none.
	Stapled *collateral.Set
	// Binds says what the evidence's report data should bind.
	Binds Binding
	// Aside names what was seen and not looked at, such as an older extension that
	// repeats the evidence.
	Aside []string
}

// Binding is what came along for the report data to bind. The zero value: nothing.
type Binding struct {
	// Claims are the exact bytes of a claims buffer: report data is their SHA-256, then
	// zeros. nil: there are none.
	Claims []byte
	// SPKI is the public key of the certificate or request that carries the evidence.
	SPKI []byte
	// Direct says how SPKI is bound where there are no claims.
	Direct Direct
	// SelfSigned holds the reason why the carrier's own signature does not hold; ""
	// where it does. SignedBy names another issuer.
	Signature error
	SignedBy  string
	// Carrier is the certificate that carries the evidence, DER; nil for a request and
	// for evidence without one.
	Carrier []byte
}

// Direct is how report data binds a key without a claims buffer.
type Direct string

// The direct forms: report data is this hash of the SubjectPublicKeyInfo, then zeros.
const (
	DirectNone   Direct = ""
	DirectSHA256 Direct = "sha256"
	DirectSHA384 Direct = "sha384"
)

// A FormError says that bytes are no evidence of a known form.
type FormError struct {
	Form string // as far as it was recognised
	Err  error
	What string // to do
}

func (e *FormError) Error() string {
	if e.Form == "" {
		return fmt.Sprintf("evidence: %v", e.Err)
	}
	return fmt.Sprintf("evidence: %s: %v", e.Form, e.Err)
}
func (e *FormError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *FormError) Hint() string { return e.What }

// Open takes evidence apart.
func Open(b []byte) (*Envelope, error) {
	if len(b) > MaxSize {
		return nil, &FormError{Err: fmt.Errorf("found %d bytes, at most %d", len(b), MaxSize)}
	}
	o := &opener{}
	e, err := o.text(b)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// opener remembers the words of the form while it goes inwards.
type opener struct{ form []string }

func (o *opener) errorf(format string, a ...any) error {
	return &FormError{Form: o.words(), Err: fmt.Errorf(format, a...)}
}

func (o *opener) words() string {
	out := ""
	for i, w := range o.form {
		if i > 0 {
			out += ", "
		}
		out += w
	}
	return out
}

func (o *opener) enter(word string) { o.form = append(o.form, word) }
