package synthetic

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/tpm"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// TPMVectors are quotes under an authority that is made anew with each call.
// Composites need an SEV-SNP report: RuntimeData, HCL and AzureJSON make them over any.
func TPMVectors() []Vector {
	v := &tpmVectors{at: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	v.ca = mustMake(NewTPMAuthority(v.at))
	v.rsa = mustMake(NewTPMKey(tpm.AlgRSASSA, tpm.AlgSHA256, nil))
	v.lists = &collateral.Set{Lists: []*x509.RevocationList{
		mustMake(v.ca.Root.List(v.at, rand.Reader)), mustMake(v.ca.Issuer.List(v.at, rand.Reader)),
	}}
	v.good = v.quote(v.rsa, tpm.AlgSHA256)
	v.goodOnes()
	v.endorsement()
	v.attributes()
	v.form()
	v.logs()
	return v.out
}

type tpmVectors struct {
	at    time.Time
	ca    *TPMAuthority
	rsa   *TPMKey
	lists *collateral.Set
	good  TPMQuote
	out   []Vector
}

// quote is a good one: certified, with public area and event log.
func (v *tpmVectors) quote(k *TPMKey, bank tpm.Algorithm) TPMQuote {
	leaf := mustMake(v.ca.Certify(v.ca.Template("SYNTHETIC attestation key", false), k.Private.Public()))
	return TPMQuote{
		Key: k, Nonce: []byte("a nonce of 16 by"), Bank: bank, PCRs: Registers(bank, BootEvents()...), Public: k.Public(),
		Certificates: [][]byte{leaf.Raw, v.ca.Issuer.Certificate.Raw, v.ca.Root.Certificate.Raw},
		EventLog:     EventLog([]tpm.Algorithm{tpm.AlgSHA1, bank}, BootEvents()...),
	}
}

func (v *tpmVectors) add(name string, q TPMQuote, c verdict.Code, s verdict.Status) *Vector {
	return v.raw(name, mustMake(q.JSON()), c, s)
}

func (v *tpmVectors) raw(name string, b []byte, c verdict.Code, s verdict.Status) *Vector {
	v.out = append(v.out, Vector{Name: "tpm: " + name, Evidence: b, Collateral: v.lists, Roots: []pki.Hash{v.ca.Fingerprint()}, At: v.at, Code: c, Status: s})
	return &v.out[len(v.out)-1]
}

// with is the good quote with a change.
func (v *tpmVectors) with(change func(*TPMQuote)) TPMQuote {
	q := v.good
	change(&q)
	return q
}

func (v *tpmVectors) goodOnes() {
	v.add("good, RSASSA", v.good, "", verdict.Passed)
	pss := *v.rsa
	pss.Scheme = tpm.AlgRSAPSS
	v.add("good, RSAPSS", v.quote(&pss, tpm.AlgSHA256), "", verdict.Passed)
	for _, h := range []tpm.Algorithm{tpm.AlgSHA256, tpm.AlgSHA384} {
		k := mustMake(NewTPMKey(tpm.AlgECDSA, h, nil))
		v.add("good, ECDSA with "+h.String(), v.quote(k, tpm.AlgSHA384), "", verdict.Passed)
	}
	v.add("good, some registers", v.with(func(q *TPMQuote) { q.Select = []byte{0x95, 0x02, 0} }), "", verdict.Passed)
	v.add("good, padded log", v.with(func(q *TPMQuote) { q.EventLog = append(bytes.Clone(q.EventLog), bytes.Repeat([]byte{0xff}, 99)...) }), "", verdict.Passed)
	// The issuers from collateral instead of from the evidence.
	k := v.add("good, issuers as collateral", v.with(func(q *TPMQuote) { q.Certificates = q.Certificates[:1] }), "", verdict.Passed)
	k.Collateral = &collateral.Set{Certificates: []*x509.Certificate{v.ca.Root.Certificate, v.ca.Issuer.Certificate}, Lists: v.lists.Lists}
}

func (v *tpmVectors) endorsement() {
	const code = verdict.AKEndorsed
	pub := v.rsa.Private.Public()
	certs := func(leaf *x509.Certificate, more ...*x509.Certificate) TPMQuote {
		return v.with(func(q *TPMQuote) {
			q.Certificates = [][]byte{leaf.Raw}
			for _, c := range more {
				q.Certificates = append(q.Certificates, c.Raw)
			}
		})
	}
	issuers := []*x509.Certificate{v.ca.Issuer.Certificate, v.ca.Root.Certificate}
	template := func(change func(*x509.Certificate)) *x509.Certificate {
		t := v.ca.Template("SYNTHETIC attestation key", false)
		change(t)
		return mustMake(v.ca.Certify(t, pub))
	}
	v.add("no certificate", v.with(func(q *TPMQuote) { q.Certificates = nil }), code, verdict.NotMade)
	v.add("root named nowhere", v.good, code, verdict.NotMade).Roots = nil
	v.add("issuer missing", v.with(func(q *TPMQuote) { q.Certificates = q.Certificates[:1] }), code, verdict.NotMade)
	other := mustMake(NewTPMKey(tpm.AlgECDSA, tpm.AlgSHA256, nil))
	v.add("certificate of another key", certs(mustMake(v.ca.Certify(v.ca.Template("SYNTHETIC other", false), other.Private.Public())), issuers...), code, verdict.Failed)
	fake := mustMake(NewTPMAuthority(v.at))
	v.add("issuer of the same name", certs(mustMake(fake.Certify(fake.Template("SYNTHETIC attestation key", false), pub)), issuers...), code, verdict.Failed)
	v.add("certificate for a server", certs(template(func(t *x509.Certificate) {
		t.UnknownExtKeyUsage, t.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}), issuers...), code, verdict.Failed)
	v.add("certificate for no use", certs(template(func(t *x509.Certificate) { t.UnknownExtKeyUsage = nil }), issuers...), code, verdict.Failed)
	v.add("certificate of an authority", certs(template(func(t *x509.Certificate) { t.IsCA = true }), issuers...), code, verdict.Failed)
	v.add("certificate of a key that may not sign", certs(template(func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageKeyEncipherment }), issuers...), code, verdict.Failed)
	no := v.ca.Template("SYNTHETIC no authority", false)
	leaf := mustMake(issueEC(no, v.ca.Issuer, elliptic.P256(), rand.Reader))
	forged := &TPMAuthority{At: v.at, Issuer: leaf, serial: 99}
	v.add("issued by a key that may not", certs(mustMake(forged.Certify(forged.Template("SYNTHETIC attestation key", false), pub)), append([]*x509.Certificate{leaf.Certificate}, issuers...)...), code, verdict.Failed)
	v.add("certificate that is none", v.with(func(q *TPMQuote) { q.Certificates = [][]byte{{0x30, 0}} }), code, verdict.Failed)

	v.add("certificate expired", v.good, verdict.CertificateValidity, verdict.NotMade).At = v.at.AddDate(0, 0, 16)
	v.add("certificate not yet valid", v.good, verdict.CertificateValidity, verdict.NotMade).At = v.at.AddDate(0, 0, -16)
	revoked := template(func(*x509.Certificate) {})
	k := v.add("key's certificate revoked", certs(revoked, issuers...), verdict.IntermediateCRL, verdict.Failed)
	k.Collateral = &collateral.Set{Lists: []*x509.RevocationList{mustMake(v.ca.Issuer.List(v.at, rand.Reader, revoked.SerialNumber))}}
	k = v.add("issuer revoked", v.good, verdict.RootCRL, verdict.Failed)
	k.Collateral = &collateral.Set{Lists: []*x509.RevocationList{mustMake(v.ca.Root.List(v.at, rand.Reader, v.ca.Issuer.Certificate.SerialNumber))}}
	k = v.add("list demanded and missing", certs(template(func(t *x509.Certificate) { t.CRLDistributionPoints = []string{"http://synthetic.invalid/list"} }), issuers...), verdict.IntermediateCRL, verdict.NotMade)
	k.Collateral = nil
}

func (v *tpmVectors) attributes() {
	const code = verdict.AKRestricted
	v.add("bare key", v.with(func(q *TPMQuote) { q.Public = nil }), code, verdict.NotMade)
	for name, change := range map[string]tpm.Attributes{
		"not restricted": tpm.Restricted, "not fixed to its TPM": tpm.FixedTPM, "not fixed to its parent": tpm.FixedParent,
		"made outside": tpm.SensitiveDataOrigin, "no signing key": tpm.Sign, "decrypts too": tpm.Decrypt,
	} {
		k := *v.rsa
		k.Attributes ^= change
		v.add("key "+name, v.with(func(q *TPMQuote) { q.Public = k.Public() }), code, verdict.Failed)
	}
	other := mustMake(NewTPMKey(tpm.AlgECDSA, tpm.AlgSHA256, nil))
	v.add("public area of another key", v.with(func(q *TPMQuote) { q.Public = other.Public() }), code, verdict.Failed)

	v.add("signed by another key", v.with(func(q *TPMQuote) {
		k := *mustMake(NewTPMKey(tpm.AlgRSASSA, tpm.AlgSHA256, nil))
		q.Signer = &k
	}), verdict.Signature, verdict.Failed)
	v.add("signed by a key of another kind", v.with(func(q *TPMQuote) { q.Signer = other }), verdict.Signature, verdict.Failed)
	v.add("register changed", v.with(func(q *TPMQuote) {
		q.Sent = slices.Clone(q.PCRs)
		q.Sent[4] = bytes.Repeat([]byte{1}, 32)
	}), verdict.PCRDigest, verdict.Failed)
	v.add("registers swapped", v.with(func(q *TPMQuote) {
		q.Sent = slices.Clone(q.PCRs)
		q.Sent[4], q.Sent[7] = q.Sent[7], q.Sent[4]
	}), verdict.PCRDigest, verdict.Failed)
	v.add("register of another size", v.with(func(q *TPMQuote) {
		q.Sent = slices.Clone(q.PCRs)
		q.Sent[4] = append(bytes.Clone(q.Sent[4]), 0)
	}), verdict.PCRDigest, verdict.Failed)
}

func (v *tpmVectors) form() {
	bad := func(name string, change func(*TPMQuote)) { v.add(name, v.with(change), verdict.Form, verdict.Failed) }
	bad("another magic", func(q *TPMQuote) { q.Magic = 0xff544346 })
	bad("a certification, no quote", func(q *TPMQuote) { q.Type = 0x8017 })
	bad("trailing byte", func(q *TPMQuote) { q.Tail = []byte{0} })
	bad("no register", func(q *TPMQuote) { q.Select = []byte{0, 0, 0} })
	bad("register 24", func(q *TPMQuote) { q.Select = []byte{1, 0, 0, 1} })
	bad("SHA-1 bank", func(q *TPMQuote) { q.Bank, q.EventLog = tpm.AlgSHA1, nil })
	bad("two banks", func(q *TPMQuote) {
		q.Raw = tpmJoin(tpmU32(uint32(2)), tpmU16(tpm.AlgSHA256), []byte{3, 1, 0, 0}, tpmU16(tpm.AlgSHA384), []byte{3, 1, 0, 0})
	})
	bad("one bank twice", func(q *TPMQuote) {
		q.Raw = tpmJoin(tpmU32(uint32(2)), tpmU16(tpm.AlgSHA256), []byte{3, 1, 0, 0}, tpmU16(tpm.AlgSHA256), []byte{3, 2, 0, 0})
	})
	bad("huge count of banks", func(q *TPMQuote) { q.Raw = tpmU32(uint32(0xffffffff)) })
	bad("nonce of 67 bytes", func(q *TPMQuote) { q.Nonce = make([]byte, 67) })
	bad("23 registers", func(q *TPMQuote) { q.Sent = q.PCRs[:23] })
	bad("unknown member", func(q *TPMQuote) { q.Extra = map[string]any{"svn": "1"} })
	bad("member in capitals", func(q *TPMQuote) { q.Extra = map[string]any{"AK_PUBLIC": ""} })
	bad("public area cut short", func(q *TPMQuote) { q.Public = q.Public[:len(q.Public)-1] })
	bad("reserved attribute", func(q *TPMQuote) {
		k := *q.Key
		k.Attributes |= 1
		q.Public = k.Public()
	})
	sha1 := *v.rsa
	sha1.Hash = tpm.AlgSHA1
	bad("SHA-1 signature", func(q *TPMQuote) { q.Signer = &sha1 })
	whole := mustMake(v.good.JSON())
	v.raw("trailing object", append(bytes.Clone(whole), "{}"...), verdict.Form, verdict.Failed)
	v.raw("member twice", append([]byte(`{"ak_public":"AA==",`), whole[1:]...), verdict.Form, verdict.Failed)
	v.raw("not UTF-8", bytes.Replace(whole, []byte(`"pcrs"`), []byte("\"pcr\xff\""), 1), verdict.Form, verdict.Failed)
}

func (v *tpmVectors) logs() {
	const code = verdict.EventLog
	events := BootEvents()
	log := func(name string, b []byte) {
		v.add(name, v.with(func(q *TPMQuote) { q.EventLog = b }), code, verdict.Failed)
	}
	both := []tpm.Algorithm{tpm.AlgSHA1, tpm.AlgSHA256}
	changed := slices.Clone(events)
	changed[3].Data = []byte("SYNTHETIC evil loader")
	log("log of another loader", EventLog(both, changed...))
	log("log without a register", EventLog(both, slices.DeleteFunc(slices.Clone(events), func(e LogEvent) bool { return e.Index == 4 })...))
	log("log without an event", EventLog(both, events[1:]...))
	log("log with one more event", EventLog(both, append(slices.Clone(events), LogEvent{4, 0xd, []byte("x")})...))
	log("log in another order", EventLog(both, append([]LogEvent{events[len(events)-4]}, slices.Delete(slices.Clone(events), len(events)-4, len(events)-3)...)...))
	log("log with its data changed", bytes.Replace(v.good.EventLog, []byte("Calling EFI"), []byte("Calling efi"), 1))
	log("log of SHA-1 alone", EventLog(both[:1], events...))
	log("log of another bank", EventLog([]tpm.Algorithm{tpm.AlgSHA384}, events...))
	log("log with something after it", append(bytes.Clone(v.good.EventLog), 0xff, 0xff, 0))
	log("log cut short", v.good.EventLog[:len(v.good.EventLog)-1])
	log("log of register 99", EventLog(both, append(slices.Clone(events), LogEvent{99, 0xd, nil})...))
}
