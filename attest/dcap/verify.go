package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

var errBadDocument = errors.New("a document that is too long or whose signature is not 64 bytes")

// Where the demands come from.
const (
	srcSGX     = "SGX QL, A.4"
	srcTDX     = "TDX QL, A.3 and A.4"
	srcPCK     = "PCK profile, 1.3 and 1.4"
	srcTCBInfo = "PCS, Get TCB Info"
	srcQE      = "PCS, Get QE Identity"
)

const fetchHint = "fetch Intel's collateral for this platform, or give it with --collateral"

// Verifier verifies quotes. It remembers, within bounds, parsed chains and
// documents and which signatures hold; what changes with time is looked at each
// time. The zero value works; many goroutines may use one. It must not be copied.
type Verifier struct {
	signatures  pki.Cache
	chains      pki.Memo[*pckChain]
	documents   pki.Memo[*parsed]
	signersSeen pki.Memo[*signer]

	once sync.Once
	seed maphash.Seed
}

// pckChain is a quote's certification data taken apart. It is shared and never
// changed.
type pckChain struct {
	pck, ca, root *x509.Certificate // root is nil where the quote leaves it out
	key           *ecdsa.PublicKey  // the PCK's
	platform      *Platform
	hash          pki.Hash // of the certification data
	rootHash      pki.Hash // of root
	key64         pki.Hash // where it is remembered
	data          []byte   // the certification data, a copy
	err           error
}

// Verify checks a quote up to Intel's root, or to a simulated one that o names, and
// compares the platform with Intel's collateral. It never fails otherwise than in
// the checks: form is always among them.
func (v *Verifier) Verify(quote []byte, o *format.Options) format.Result {
	if o == nil {
		o = &format.Options{}
	}
	r := format.Result{Checks: make([]verdict.Check, 0, 16)}
	q, err := ParseQuote(quote)
	source := srcTDX
	if err != nil {
		hint := ""
		if errors.Is(err, ErrNoPCKChain) {
			hint = "have the quoting service put the PCK chain (certification data type 5) into the quote"
		}
		r.Add(verdict.Fail(verdict.Form, err.Error(), "an SGX or TDX quote with a PCK chain").From(srcSGX + "; " + srcTDX).Advise(hint))
		return r
	}
	if !q.TDX {
		source = srcSGX
	}
	c, known := v.chain(q.CertData)
	if c.err != nil {
		r.Add(verdict.Fail(verdict.Form, "the PCK chain does not parse: "+c.err.Error(), "a PCK chain in PEM").From(srcPCK))
		return r
	}
	r.Add(verdict.Pass(verdict.Form, q.String()).From(source))
	a := &appraisal{v: v, q: q, c: c, known: known, o: o, r: &r}
	r.Claims = q.claims(c)
	a.intel = r.Claims.Intel
	if a.trust() {
		a.chain()
		a.collateral()
	}
	a.signatures(source)
	return r
}

// String names the quote's form.
func (q *Quote) String() string {
	return fmt.Sprintf("%s quote, version %d, body type %d", map[bool]string{false: "SGX", true: "TDX"}[q.TDX], q.Version, q.BodyType)
}

// chain parses certification data, or remembers that it did. What is remembered is
// found by a quick hash and compared as a whole.
func (v *Verifier) chain(data []byte) (c *pckChain, known bool) {
	v.once.Do(func() { v.seed = maphash.MakeSeed() })
	var key pki.Hash
	binary.LittleEndian.PutUint64(key[:], maphash.Bytes(v.seed, data))
	if c, ok := v.chains.Get(key); ok && bytes.Equal(c.data, data) {
		return c, true
	}
	c = &pckChain{hash: sha256.Sum256(data), key64: key, data: bytes.Clone(data)}
	var certs []*x509.Certificate
	if certs, c.err = parseChain(c.data); c.err != nil {
		return c, false
	}
	c.pck, c.ca, c.key = certs[0], certs[1], certs[0].PublicKey.(*ecdsa.PublicKey)
	if len(certs) == 3 {
		c.root, c.rootHash = certs[2], pki.Fingerprint(certs[2])
	}
	c.platform, c.err = ParsePlatform(c.pck)
	return c, false
}

// rootFor finds a root that may vouch and that issued the CA.
func (v *Verifier) rootFor(c *pckChain, o *format.Options) (root *x509.Certificate, hash pki.Hash, simulated, ok bool) {
	if c.root != nil {
		hash = c.rootHash
		simulated = hash != IntelRoot()
		return c.root, hash, simulated, !simulated || o.Named(hash)
	}
	if root, err := IntelRootCertificate(); err == nil && bytes.Equal(root.RawSubject, c.ca.RawIssuer) {
		return root, IntelRoot(), false, true
	}
	if o.Collateral != nil && len(o.SimulatedRoots) > 0 {
		for _, x := range o.Collateral.Certificates {
			if bytes.Equal(x.RawSubject, c.ca.RawIssuer) && o.Named(pki.Fingerprint(x)) {
				return x, pki.Fingerprint(x), true, true
			}
		}
	}
	return nil, hash, true, false
}

// linked says whether the chain holds up to root, or remembers that it does. Only
// chains that hold are remembered: nobody else can fill the memory.
func (v *Verifier) linked(c *pckChain, root *x509.Certificate, hash pki.Hash) error {
	h := sha256.New()
	h.Write([]byte("donjon dcap chain\x00"))
	h.Write(c.hash[:])
	h.Write(hash[:])
	key := pki.Hash(h.Sum(nil))
	if v.signatures.Has(key) {
		v.remember(c)
		return nil
	}
	err := pki.VerifyChain([]*x509.Certificate{c.pck, c.ca, root}, &v.signatures)
	switch {
	case err != nil:
		return err
	case c.pck.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the PCK may not sign")
	case c.ca.KeyUsage&x509.KeyUsageCRLSign == 0 || root.KeyUsage&x509.KeyUsageCRLSign == 0:
		return errors.New("the CA or the root may not sign revocation lists")
	}
	v.signatures.Add(key)
	v.remember(c)
	return nil
}

func (v *Verifier) remember(c *pckChain) {
	if old, ok := v.chains.Get(c.key64); !ok || old != c {
		v.chains.Put(c.key64, c)
	}
}

// signatures checks what the quote itself carries: the PCK signed the QE's report,
// that binds the attestation key, and that signed the quote.
func (a *appraisal) signatures(source string) {
	q, c := a.q, a.c
	if a.v.qeSigned(q, c) {
		a.r.Add(verdict.Pass(verdict.QEReport, "signed by the PCK").From(source))
	} else {
		a.r.Add(verdict.Fail(verdict.QEReport, "the QE report's signature does not hold under the PCK of this chain", "a signature by the PCK").From(source))
	}
	h := sha256.New()
	h.Write(q.AK)
	h.Write(q.QEAuth)
	var sum [64]byte
	h.Sum(sum[:0])
	if bytes.Equal(sum[:], q.QEReport.ReportData) {
		a.r.Add(verdict.Pass(verdict.AttestationKey, hex.EncodeToString(sum[:32])).From(source))
	} else {
		a.r.Add(verdict.Fail(verdict.AttestationKey, "QE report data "+hex.EncodeToString(q.QEReport.ReportData), hex.EncodeToString(sum[:])+", the hash of attestation key and authentication data").From(source))
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.AK...))
	switch {
	case err != nil:
		a.r.Add(verdict.Fail(verdict.Signature, "the attestation key is no point of P-256", "a P-256 key").From(source))
	case verify64(key, q.Signed, q.Signature):
		a.r.Add(verdict.Pass(verdict.Signature, "signed by the attestation key").From(source))
	default:
		a.r.Add(verdict.Fail(verdict.Signature, "the quote's signature does not hold under the attestation key", "a signature by it").From(source))
	}
}

// qeSigned checks the QE report's signature. Quotes of one machine share QE report
// and key until the QE makes a new one, so it is remembered.
func (v *Verifier) qeSigned(q *Quote, c *pckChain) bool {
	key := qeKey(q, c.hash)
	if v.signatures.Has(key) {
		return true
	}
	if !verify64(c.key, q.QERaw, q.QESignature) {
		return false
	}
	v.signatures.Add(key)
	return true
}

func qeKey(q *Quote, chain pki.Hash) pki.Hash {
	h := sha256.New()
	h.Write([]byte("donjon dcap qe\x00"))
	h.Write(chain[:])
	h.Write(q.QESignature)
	h.Write(q.QERaw)
	return pki.Hash(h.Sum(nil))
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// none says that no document of a kind fits, and which others are at hand.
func none(kind string, others []string) string {
	if len(others) == 0 {
		return "no " + kind + " is at hand"
	}
	return "no " + kind + " for it is at hand, only: " + strings.Join(others, "; ")
}
