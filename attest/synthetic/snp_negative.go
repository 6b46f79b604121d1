package synthetic

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// snpForm are reports that do not parse, signed rightly as they are.
func snpForm() []snpSpec {
	at := func(offset int, value byte) func(*snpCase) {
		return func(c *snpCase) { c.raw = func(b []byte) { b[offset] = value } }
	}
	cut := func(f func([]byte) []byte) func(*snpCase) { return func(c *snpCase) { c.signed = f } }
	version := func(v uint32) func(*snpBench) *snpCase {
		return func(b *snpBench) *snpCase { return b.start(b.genoa, v, false) }
	}
	out := []snpSpec{
		{name: "no bytes", change: cut(func([]byte) []byte { return nil })},
		{name: "the last byte is missing", change: cut(func(b []byte) []byte { return b[:len(b)-1] })},
		{name: "a byte too many", change: cut(func(b []byte) []byte { return append(b, 0) })},
		{name: "the signed part alone", change: cut(func(b []byte) []byte { return b[:snp.SignedSize] })},
		{name: "a byte behind the signature", change: cut(func(b []byte) []byte { b[snp.SignedSize+144] = 1; return b })},
		{name: "report version 0", change: at(0, 0)},
		{name: "report version 1", change: at(0, 1)},
		{name: "report version 6", change: at(0, 6)},
		{name: "report version 0x105", change: at(1, 1)},
		{name: "policy bit 17 is zero", change: func(c *snpCase) { c.report.Policy &^= 1 << 17 }},
		{name: "VMPL 4", change: func(c *snpCase) { c.report.VMPL = 4 }},
		{name: "VMPL 2^32-1, the host", change: func(c *snpCase) { c.report.VMPL = 1<<32 - 1 }},
		{name: "signature algorithm 0", change: func(c *snpCase) { c.report.SignatureAlgo = 0 }},
		{name: "signature algorithm 2", change: func(c *snpCase) { c.report.SignatureAlgo = 2 }},
		{name: "signing key 2", change: func(c *snpCase) { c.report.KeyInfo = 2 << 2 }},
		{name: "a reserved bit of the key information", change: func(c *snpCase) { c.report.KeyInfo = 1 << 5 }},
		{name: "family in a report of version 2", make: version(2), change: at(0x188, 0x19)},
		{name: "mitigations in a report of version 4", make: version(4), change: at(0x1f8, 1)},
		{name: "a reserved byte of the current TCB", change: func(c *snpCase) { c.report.CurrentTCB |= 1 << 16 }},
		{name: "a reserved byte of the launch TCB", change: func(c *snpCase) { c.report.LaunchTCB |= 1 << 40 }},
		{name: "a reserved byte of Turin's committed TCB", make: turinVCEK, change: func(c *snpCase) { c.report.CommittedTCB |= 1 << 48 }},
	}
	for _, offset := range []int{0x4c, 0x4f, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x208, 0x29f} {
		out = append(out, snpSpec{name: "the reserved byte " + hexByte(offset), change: at(offset, 1)})
	}
	for i := range out {
		out[i].code = verdict.Form
	}
	return out
}

func hexByte(n int) string {
	const digits = "0123456789abcdef"
	return "0x" + string([]byte{digits[n>>8&15], digits[n>>4&15], digits[n&15]})
}

// snpSignature are reports that the endorsed key did not sign as they are.
func snpSignature() []snpSpec {
	flip := func(offset int) func(*snpCase) {
		return func(c *snpCase) { c.signed = func(b []byte) []byte { b[offset] ^= 1; return b } }
	}
	part := func(f func(r, s []byte)) func(*snpCase) {
		return func(c *snpCase) {
			c.signed = func(b []byte) []byte { f(b[snp.SignedSize:][:72], b[snp.SignedSize+72:][:72]); return b }
		}
	}
	order := elliptic.P384().Params().N.Bytes()
	slices.Reverse(order)
	out := []snpSpec{
		{name: "another guest SVN", change: flip(0x04)},
		{name: "another guest policy", change: flip(0x0a)},
		{name: "other report data", change: flip(0x50)},
		{name: "another launch digest", change: flip(0x90)},
		{name: "other host data", change: flip(0xc0)},
		{name: "another ID key", change: flip(0xe0)},
		{name: "another launch TCB", change: flip(0x1f7)},
		{name: "another mitigation vector", change: flip(0x200)},
		{name: "another r", change: flip(snp.SignedSize)},
		{name: "another s", change: flip(snp.SignedSize + 72)},
		{name: "r is zero", change: part(func(r, _ []byte) { clear(r) })},
		{name: "s is zero", change: part(func(_, s []byte) { clear(s) })},
		{name: "no signature", change: part(func(r, s []byte) { clear(r); clear(s) })},
		{name: "r is the order of the curve", change: part(func(r, _ []byte) { clear(r); copy(r, order) })},
		{name: "s is the order of the curve", change: part(func(_, s []byte) { clear(s); copy(s, order) })},
		{name: "r is 72 bytes long", change: part(func(r, _ []byte) { r[71] = 1 })},
		{name: "r and s are swapped", change: part(func(r, s []byte) {
			t := bytes.Clone(r)
			copy(r, s)
			copy(s, t)
		})},
		{name: "r and s are big endian", change: part(func(r, s []byte) { slices.Reverse(r[:48]); slices.Reverse(s[:48]) })},
		{name: "signed by the key of another certificate", change: func(c *snpCase) { c.signer = c.b.other }},
		{name: "an unsigned report", change: func(c *snpCase) { c.report.KeyInfo = uint32(snp.None) << 2 }},
		{name: "an endorsement key on P-256", change: func(c *snpCase) {
			c.e.Key, c.signer = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), c.b.other
		}},
		{name: "an endorsement key on P-521", change: func(c *snpCase) {
			c.e.Key, c.signer = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), c.b.other
		}},
		{name: "an endorsement key of RSA", change: func(c *snpCase) { c.e.Key, c.signer = c.b.rsaKey, c.b.other }},
	}
	for i := range out {
		out[i].code = verdict.Signature
	}
	return out
}

func amdOID(arcs ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...)
}

func deltaList() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
}

func unknownCritical() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
}

// snpEndorsement are right chains to a key that is not the report's, or whose
// certificate cannot be read.
func snpEndorsement() []snpSpec {
	tcb := func(bit uint) func(*snpCase) { return func(c *snpCase) { c.e.TCB ^= 1 << bit } }
	set := func(value []byte, arcs ...int) func(*snpCase) {
		return func(c *snpCase) {
			c.e.Extensions = func(x []pkix.Extension) []pkix.Extension {
				for i := range x {
					if x[i].Id.Equal(amdOID(arcs...)) {
						x[i].Value = value
						return x
					}
				}
				return append(x, pkix.Extension{Id: amdOID(arcs...), Value: value})
			}
		}
	}
	drop := func(arcs ...int) func(*snpCase) {
		return func(c *snpCase) {
			c.e.Extensions = func(x []pkix.Extension) []pkix.Extension {
				return slices.DeleteFunc(x, func(e pkix.Extension) bool { return e.Id.Equal(amdOID(arcs...)) })
			}
		}
	}
	return []snpSpec{
		{name: "the key of another chip", code: verdict.KeyToReport, change: func(c *snpCase) { c.e.HWID = bytes.Repeat([]byte{7}, 64) }},
		{name: "the key of another chip, in the last byte", code: verdict.KeyToReport, change: func(c *snpCase) { c.e.HWID = bytes.Clone(c.e.HWID); c.e.HWID[63] ^= 1 }},
		{name: "the key of another chip of Turin", code: verdict.KeyToReport, make: turinVCEK, change: func(c *snpCase) { c.e.HWID = bytes.Repeat([]byte{7}, 8) }},
		{name: "Turin's chip id with bytes behind it", code: verdict.KeyToReport, make: turinVCEK, change: func(c *snpCase) { c.report.ChipID[8] = 1 }},
		{name: "the key of another boot loader", code: verdict.KeyToReport, change: tcb(0)},
		{name: "the key of another TEE level", code: verdict.KeyToReport, change: tcb(8)},
		{name: "the key of another SNP level", code: verdict.KeyToReport, change: tcb(48)},
		{name: "the key of another microcode", code: verdict.KeyToReport, change: tcb(56)},
		{name: "the key of another FMC", code: verdict.KeyToReport, make: turinVCEK, change: tcb(0)},
		{name: "Turin's TCB in Genoa's order", code: verdict.KeyToReport, make: turinVCEK, change: func(c *snpCase) { c.e.FMC = false }},
		{name: "a VLEK at another TCB", code: verdict.KeyToReport, make: genoaVLEK, change: tcb(48)},
		{name: "a VLEK where a VCEK signed", code: verdict.KeyToReport, change: func(c *snpCase) { c.e = c.a.VLEK(c.report, "SYNTHETIC cloud") }},
		{name: "a VCEK where a VLEK signed", code: verdict.KeyToReport, make: genoaVLEK, change: func(c *snpCase) { c.e = c.a.VCEK(c.report) }},
		{name: "a certificate that says Milan for a chip of Genoa", code: verdict.KeyToReport, change: func(c *snpCase) { c.e.Product = "Milan-B0" }},
		{name: "a report that says Milan for a chip of Genoa", code: verdict.KeyToReport, change: func(c *snpCase) { c.report.CPUModel = 1 }},
		{name: "a report of an unknown family", code: verdict.KeyToReport, change: func(c *snpCase) { c.report.CPUFamily = 0x2b }},
		{name: "a certificate without a level", code: verdict.EndorsementKey, change: drop(3, 8)},
		{name: "a certificate with an unknown level", code: verdict.EndorsementKey, change: func(c *snpCase) {
			c.e.Extensions = func(x []pkix.Extension) []pkix.Extension {
				return append(x, pkix.Extension{Id: amdOID(3, 17), Value: []byte{2, 1, 1}})
			}
		}},
		{name: "a certificate with level 256", code: verdict.EndorsementKey, change: set([]byte{2, 2, 1, 0}, 3, 3)},
		{name: "a certificate with level -1", code: verdict.EndorsementKey, change: set([]byte{2, 1, 0xff}, 3, 3)},
		{name: "a certificate with a reserved level", code: verdict.EndorsementKey, change: set([]byte{2, 1, 1}, 3, 5)},
		{name: "a certificate with bytes behind a level", code: verdict.EndorsementKey, change: set([]byte{2, 1, 1, 0}, 3, 1)},
		{name: "a certificate of a later structure", code: verdict.EndorsementKey, change: set([]byte{2, 1, 2}, 1)},
		{name: "a certificate with a short chip id", code: verdict.EndorsementKey, change: set(make([]byte, 63), 4)},
		{name: "a certificate of a chip and a provider", code: verdict.EndorsementKey, change: set([]byte{0x16, 1, 'x'}, 5)},
		{name: "a certificate of neither chip nor provider", code: verdict.EndorsementKey, change: drop(4)},
		{name: "a certificate with an unknown extension of AMD's", code: verdict.EndorsementKey, change: set([]byte{5, 0}, 6)},
	}
}

// snpChain are certificates that do not lead to a trusted root.
func snpChain() []snpSpec {
	replace := func(f func(c *snpCase) (old *AMDAuthority, by *x509.Certificate)) func(*snpCase) {
		return func(c *snpCase) {
			c.set = func(s *collateral.Set) {
				old, by := f(c)
				s.Certificates = slices.DeleteFunc(s.Certificates, func(x *x509.Certificate) bool { return x.Equal(old.Certificate) })
				if by != nil {
					s.Certificates = append(s.Certificates, by)
				}
			}
		}
	}
	// mid replaces the intermediate by one of the same key that is changed.
	mid := func(change func(*snpCase, *x509.Certificate)) func(*snpCase) {
		return replace(func(c *snpCase) (*AMDAuthority, *x509.Certificate) {
			t := c.a.template(99, amdName("SEV-"+c.a.Product), 0)
			t.KeyUsage = x509.KeyUsageCertSign
			change(c, t)
			parent := c.a.ARK
			if t.Issuer.CommonName == "foreign" {
				parent = c.b.foreign.ARK
			}
			return c.a.ASK, must(c.a.Issue(t, parent, c.a.ASK.Key)).Certificate
		})
	}
	return []snpSpec{
		{name: "a root that nobody named", code: verdict.TrustedRoot, change: func(c *snpCase) { c.roots = nil }},
		{name: "another root was named", code: verdict.TrustedRoot, change: func(c *snpCase) { c.roots = []pki.Hash{c.b.foreign.Root()} }},
		{name: "an intermediate was named, not the root", code: verdict.TrustedRoot, change: func(c *snpCase) { c.roots = []pki.Hash{pki.Fingerprint(c.a.ASK.Certificate)} }},
		{name: "AMD's names and other keys", code: verdict.TrustedRoot, make: func(b *snpBench) *snpCase { return b.start(b.amdNames, 5, false) },
			change: func(c *snpCase) { c.roots = nil }},
		{name: "AMD's names, and no certificate but the key's", code: verdict.Chain, make: func(b *snpBench) *snpCase { return b.start(b.amdNames, 5, false) },
			change: func(c *snpCase) { c.set = func(s *collateral.Set) { s.Certificates = s.Certificates[3:] } }},
		{name: "signed by another intermediate of that name", code: verdict.Chain, change: func(c *snpCase) { c.e.Signer = c.b.foreign.ASK }},
		{name: "signed with PKCS #1 v1.5", code: verdict.Chain, change: func(c *snpCase) { c.e.Algorithm = x509.SHA384WithRSA }},
		{name: "signed with SHA-256", code: verdict.Chain, change: func(c *snpCase) { c.e.Algorithm = x509.SHA256WithRSAPSS }},
		{name: "the certificate's signature is damaged", code: verdict.Chain, change: func(c *snpCase) { c.der = func(b []byte) { b[len(b)-1] ^= 1 } }},
		{name: "an unknown critical extension in the endorsement key", code: verdict.Chain, change: func(c *snpCase) {
			c.e.Extensions = func(x []pkix.Extension) []pkix.Extension {
				return append(x, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 99}, Critical: true, Value: []byte{5, 0}})
			}
		}},
		{name: "no intermediate", code: verdict.Chain, change: replace(func(c *snpCase) (*AMDAuthority, *x509.Certificate) { return c.a.ASK, nil })},
		{name: "no root", code: verdict.Chain, change: replace(func(c *snpCase) (*AMDAuthority, *x509.Certificate) { return c.a.ARK, nil })},
		{name: "another root of that name", code: verdict.Chain, change: replace(func(c *snpCase) (*AMDAuthority, *x509.Certificate) { return c.a.ARK, c.b.foreign.ARK.Certificate })},
		{name: "an intermediate by another root of that name", code: verdict.Chain, change: mid(func(_ *snpCase, t *x509.Certificate) { t.Issuer.CommonName = "foreign" })},
		{name: "an intermediate that may not sign certificates", code: verdict.Chain, change: mid(func(_ *snpCase, t *x509.Certificate) { t.KeyUsage = x509.KeyUsageDigitalSignature })},
		{name: "an intermediate that is no authority", code: verdict.Chain, change: mid(func(_ *snpCase, t *x509.Certificate) { t.IsCA, t.MaxPathLen, t.MaxPathLenZero = false, 0, false })},
		{name: "an intermediate with an unknown critical extension", code: verdict.Chain, change: mid(func(_ *snpCase, t *x509.Certificate) {
			t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 99}, Critical: true, Value: []byte{5, 0}}}
		})},
		{name: "a revoked ASK", code: verdict.RootCRL, change: func(c *snpCase) { c.list.Revoked = serial(c.a.ASK) }},
		{name: "a revoked ASVK", code: verdict.RootCRL, make: genoaVLEK, change: func(c *snpCase) { c.list.Revoked = serial(c.a.ASVK) }},
		{name: "an ASK revoked by a list that has ended", code: verdict.RootCRL, change: func(c *snpCase) {
			c.list.Revoked = serial(c.a.ASK)
			c.list.ThisUpdate, c.list.NextUpdate = c.at.AddDate(-2, 0, 0), c.at.AddDate(-1, 0, 0)
		}},
		{name: "an ASK revoked by the older of two lists", code: verdict.RootCRL, change: func(c *snpCase) {
			c.set = func(s *collateral.Set) {
				old := must(c.a.CRL(AMDList{Revoked: serial(c.a.ASK), ThisUpdate: c.at.AddDate(-2, 0, 0), NextUpdate: c.at.AddDate(-1, 0, 0)}))
				s.Lists = append(s.Lists, old)
			}
		}},
		{name: "a revoked endorsement key", code: verdict.IntermediateCRL, make: func(b *snpBench) *snpCase { return b.start(b.revoking, 5, false) },
			change: func(c *snpCase) {
				c.e.Serial = 77
				c.set = func(s *collateral.Set) {
					l := must(c.a.CRL(AMDList{Signer: c.a.ASK, Revoked: serial(&AMDAuthority{Certificate: s.Certificates[3]})}))
					s.Lists = append(s.Lists, l)
				}
			}},
	}
}

// snpRefused are genuine, and refused by the default policy.
func snpRefused() []snpSpec {
	tcb := func(change func(*snp.Report)) func(*snpCase) {
		return func(c *snpCase) { change(&c.report); c.e.TCB = c.report.ReportedTCB }
	}
	const spl, ucode = 48, 56
	low := func(t *snp.TCB) { *t = *t&^(0xff<<spl) | 22<<spl }
	return []snpSpec{
		{name: "debugging", code: verdict.Debug, change: func(c *snpCase) { c.report.Policy |= 1 << 19 }},
		{name: "a migration agent", code: verdict.Migration, change: func(c *snpCase) { c.report.Policy |= 1 << 18 }},
		{name: "CXL memory", code: verdict.GuestPolicy, change: func(c *snpCase) { c.report.Policy |= 1 << 21 }},
		{name: "policy bit 26", code: verdict.GuestPolicy, change: func(c *snpCase) { c.report.Policy |= 1 << 26 }},
		{name: "policy bit 63", code: verdict.GuestPolicy, change: func(c *snpCase) { c.report.Policy |= 1 << 63 }},
		{name: "VMPL 1", code: verdict.VMPL, change: func(c *snpCase) { c.report.VMPL = 1 }},
		{name: "VMPL 3", code: verdict.VMPL, change: func(c *snpCase) { c.report.VMPL = 3 }},
		{name: "Milan", code: verdict.ProductAllowed, make: milanVCEK},
		{name: "Milan, version 2", code: verdict.ProductAllowed, make: func(b *snpBench) *snpCase { return b.start(b.milan, 2, false) }},
		{name: "reported TCB under the floor", code: verdict.TCBFloor, change: tcb(func(r *snp.Report) { low(&r.ReportedTCB) })},
		{name: "launch TCB under the floor", code: verdict.TCBFloor, change: func(c *snpCase) { low(&c.report.LaunchTCB) }},
		{name: "every TCB under the floor", code: verdict.TCBFloor, change: tcb(func(r *snp.Report) {
			for _, t := range []*snp.TCB{&r.ReportedTCB, &r.CommittedTCB, &r.CurrentTCB, &r.LaunchTCB} {
				low(t)
			}
		})},
		{name: "Milan under the floor", code: verdict.TCBFloor, make: milanVCEK, change: tcb(func(r *snp.Report) { low(&r.ReportedTCB) })},
		{name: "reported TCB over the committed", code: verdict.TCBOrder, change: tcb(func(r *snp.Report) { r.ReportedTCB += 1 << ucode })},
		{name: "committed TCB over the current", code: verdict.TCBOrder, change: func(c *snpCase) { c.report.CommittedTCB += 1 << spl }},
		{name: "Turin's FMC reported over the committed", code: verdict.TCBOrder, make: turinVCEK, change: tcb(func(r *snp.Report) { r.ReportedTCB++ })},
		{name: "committed firmware over the current", code: verdict.TCBOrder, change: func(c *snpCase) { c.report.CommittedMinor++ }},
	}
}
