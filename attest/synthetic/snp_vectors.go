package synthetic

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// snpCase is one vector in the making. A case changes what it is about; the rest is
// right.
type snpCase struct {
	b      *snpBench
	a      *AMD
	report snp.Report
	raw    func([]byte)          // changes the report before it is signed
	signed func([]byte) []byte   // and after
	signer *AMDKey               // signs instead of the certified key
	e      AMDEndorsement        // of the certificate
	der    func([]byte)          // changes the certificate
	set    func(*collateral.Set) // changes the collateral
	list   AMDList
	roots  []pki.Hash
	at     time.Time
}

// snpBench is what the cases share: making RSA keys takes long.
type snpBench struct {
	milan, genoa, turin, unlisted, revoking *AMD
	foreign                                 *AMD // of the same names as genoa, with other keys
	amdNames                                *AMD // of AMD's names
	other                                   *AMDKey
	rsaKey                                  *rsa.PrivateKey
}

func newSNPBench() *snpBench {
	var keys [2][3]*rsa.PrivateKey
	for i := range keys {
		for j := range keys[i] {
			keys[i][j] = must(rsa.GenerateKey(rand.Reader, 2048))
		}
	}
	make := func(o AMDOptions, k [3]*rsa.PrivateKey) *AMD { return must(newAMD(o, k)) }
	b := &snpBench{
		milan: make(AMDOptions{Product: snp.Milan}, keys[0]), genoa: make(AMDOptions{Product: snp.Genoa}, keys[0]),
		turin: make(AMDOptions{Product: snp.Turin}, keys[0]), unlisted: make(AMDOptions{Unlisted: true}, keys[0]),
		revoking: make(AMDOptions{ASKMayRevoke: true}, keys[0]), foreign: make(AMDOptions{}, keys[1]),
		amdNames: make(AMDOptions{AMDNames: true}, keys[1]), rsaKey: keys[1][0],
	}
	b.other = must(b.genoa.Endorse(b.genoa.VCEK(b.genoa.Report(5))))
	return b
}

func (b *snpBench) start(a *AMD, version uint32, vlek bool) *snpCase {
	c := &snpCase{b: b, a: a, report: a.Report(version), at: a.At, roots: []pki.Hash{a.Root()}}
	if vlek {
		c.report.KeyInfo = 1 << 2
		c.report.ChipID = [64]byte{}
		c.e = a.VLEK(c.report, "SYNTHETIC cloud")
		return c
	}
	c.e = a.VCEK(c.report)
	return c
}

func (c *snpCase) finish() (evidence []byte, set *collateral.Set) {
	key := must(c.a.Endorse(c.e))
	if c.der != nil {
		der := bytes.Clone(key.Certificate.Raw)
		c.der(der)
		key.Certificate = must(x509.ParseCertificate(der))
	}
	evidence = EncodeSNPReport(c.report)
	if c.raw != nil {
		c.raw(evidence)
	}
	signer := key
	if c.signer != nil {
		signer = c.signer
	}
	if err := signer.Sign(evidence); err != nil {
		panic(err)
	}
	if c.signed != nil {
		evidence = c.signed(evidence)
	}
	set = must(c.a.Collateral(key))
	if c.list.Signer != nil || c.list.Revoked != nil || !c.list.ThisUpdate.IsZero() || !c.list.NextUpdate.IsZero() || c.list.Extensions != nil {
		set.Lists = []*x509.RevocationList{must(c.a.CRL(c.list))}
	}
	if c.set != nil {
		c.set(set)
	}
	return evidence, set
}

// SNPVectors makes evidence in SEV-SNP's form, right and wrong in one thing each: a
// few that are good, so that a verifier which refuses everything is found out, and
// many that are not. Those whose code is of the kind verdict.Admission are refused by
// the default policy, with simulated roots allowed. Evidence is a bare report; keys
// differ from call to call. It panics where keys cannot be made.
func SNPVectors() []Vector {
	b := newSNPBench()
	var out []Vector
	for _, x := range snpGood() {
		out = append(out, b.vector(x, verdict.Passed))
	}
	for _, x := range snpNotMade() {
		out = append(out, b.vector(x, verdict.NotMade))
	}
	for _, list := range [][]snpSpec{snpForm(), snpSignature(), snpEndorsement(), snpChain(), snpRefused()} {
		for _, x := range list {
			out = append(out, b.vector(x, verdict.Failed))
		}
	}
	return out
}

// snpSpec is a row of the tables.
type snpSpec struct {
	name   string
	code   verdict.Code
	make   func(*snpBench) *snpCase // nil: Genoa, version 5, VCEK
	change func(*snpCase)
}

func (b *snpBench) vector(x snpSpec, s verdict.Status) Vector {
	var c *snpCase
	if x.make != nil {
		c = x.make(b)
	} else {
		c = b.start(b.genoa, 5, false)
	}
	if x.change != nil {
		x.change(c)
	}
	evidence, set := c.finish()
	return Vector{Name: "snp: " + x.name, Evidence: evidence, Collateral: set, Roots: c.roots, At: c.at, Code: x.code, Status: s}
}

func genoaVLEK(b *snpBench) *snpCase { return b.start(b.genoa, 5, true) }
func turinVCEK(b *snpBench) *snpCase { return b.start(b.turin, 5, false) }
func milanVCEK(b *snpBench) *snpCase { return b.start(b.milan, 3, false) }

func snpGood() []snpSpec {
	return []snpSpec{
		{name: "good, Genoa, version 5"},
		{name: "good, Genoa, version 4", make: func(b *snpBench) *snpCase { return b.start(b.genoa, 4, false) }},
		{name: "good, Genoa, version 3", make: func(b *snpBench) *snpCase { return b.start(b.genoa, 3, false) }},
		{name: "good, Genoa, version 2", make: func(b *snpBench) *snpCase { return b.start(b.genoa, 2, false) }},
		{name: "good, Genoa's model 0xa0", change: func(c *snpCase) { c.report.CPUModel = 0xa0 }},
		{name: "good, Turin", make: turinVCEK},
		{name: "good, VLEK", make: genoaVLEK},
		{name: "good, VLEK of Turin", make: func(b *snpBench) *snpCase { return b.start(b.turin, 5, true) }},
		{name: "good, hidden chip id", change: func(c *snpCase) { c.report.ChipID = [64]byte{} }},
		{name: "good, between keys of other chips and products", change: func(c *snpCase) {
			c.set = func(s *collateral.Set) {
				other := c.e
				other.HWID = bytes.Repeat([]byte{9}, 64)
				turin := must(c.b.turin.Endorse(c.b.turin.VCEK(c.b.turin.Report(5))))
				s.Certificates = append([]*x509.Certificate{must(c.a.Endorse(other)).Certificate, turin.Certificate, c.b.other.Certificate}, s.Certificates...)
			}
		}},
		{name: "good, a root that can have no list", make: func(b *snpBench) *snpCase { return b.start(b.unlisted, 5, false) },
			change: func(c *snpCase) { c.set = func(s *collateral.Set) { s.Lists = nil } }},
	}
}

func snpNotMade() []snpSpec {
	times := func(from, to int) func(*snpCase) { // years from now
		return func(c *snpCase) { c.e.NotBefore, c.e.NotAfter = c.at.AddDate(from, 0, 0), c.at.AddDate(to, 0, 0) }
	}
	without := func(drop func(*snpCase, *x509.Certificate) bool) func(*snpCase) {
		return func(c *snpCase) {
			c.set = func(s *collateral.Set) {
				var kept []*x509.Certificate
				for _, x := range s.Certificates {
					if !drop(c, x) {
						kept = append(kept, x)
					}
				}
				s.Certificates = kept
			}
		}
	}
	leaf := func(c *snpCase, x *x509.Certificate) bool { return !x.IsCA }
	return []snpSpec{
		{name: "no endorsement key", code: verdict.EndorsementKey, change: without(leaf)},
		{name: "no endorsement key, VLEK", code: verdict.EndorsementKey, make: genoaVLEK, change: without(leaf)},
		{name: "an endorsement key of Turin alone", code: verdict.EndorsementKey, change: func(c *snpCase) {
			c.set = func(s *collateral.Set) {
				turin := must(c.b.turin.Endorse(c.b.turin.VCEK(c.b.turin.Report(5))))
				s.Certificates = append(s.Certificates[:3:3], turin.Certificate)
			}
		}},
		{name: "an endorsement key that has expired", code: verdict.CertificateValidity, change: times(-3, -1)},
		{name: "an endorsement key of the future", code: verdict.CertificateValidity, change: times(1, 3)},
		{name: "everything expired", code: verdict.CertificateValidity, change: func(c *snpCase) { c.at = c.at.AddDate(40, 0, 0) }},
		{name: "before everything", code: verdict.CertificateValidity, change: func(c *snpCase) { c.at = c.at.AddDate(-40, 0, 0) }},
		{name: "no revocation list", code: verdict.RootCRL, change: func(c *snpCase) { c.set = func(s *collateral.Set) { s.Lists = nil } }},
		{name: "a revocation list that has ended", code: verdict.RootCRL, change: func(c *snpCase) {
			c.list.ThisUpdate, c.list.NextUpdate = c.at.AddDate(-2, 0, 0), c.at.AddDate(-1, 0, 0)
		}},
		{name: "a revocation list of the future", code: verdict.RootCRL, change: func(c *snpCase) {
			c.list.ThisUpdate, c.list.NextUpdate = c.at.AddDate(0, 0, 1), c.at.AddDate(1, 0, 0)
		}},
		{name: "a revocation list by another key of that name", code: verdict.RootCRL, change: func(c *snpCase) { c.list.Signer = c.b.foreign.ARK }},
		{name: "a revocation list of another product", code: verdict.RootCRL, change: func(c *snpCase) { c.list.Signer = c.b.turin.ARK }},
		{name: "a delta list alone", code: verdict.RootCRL, change: func(c *snpCase) { c.list.Extensions = deltaList() }},
		{name: "a list with an unknown critical extension", code: verdict.RootCRL, change: func(c *snpCase) { c.list.Extensions = unknownCritical() }},
	}
}

// serial is a certificate's serial number, for a list.
func serial(a *AMDAuthority) []*big.Int { return []*big.Int{a.Certificate.SerialNumber} }

// must is for what cannot fail short of a broken machine.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
