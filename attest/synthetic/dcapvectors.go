package synthetic

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// after changes the finished quote.
func after(f func([]byte) []byte) func(*Scene) {
	return func(s *Scene) { s.Quote.AfterSigning = f }
}

// put writes bytes at an offset of the finished quote.
func put(at int, v ...byte) func(*Scene) {
	return after(func(b []byte) []byte { copy(b[at:], v); return b })
}

func edit(f func(*Scene)) func(*Scene) { return f }

// dcapForms do not parse.
func dcapForms() []dcapCase {
	// The signature data of a version 4 quote of TDX 1.0 begins after header, body and
	// its length; in it stand 64 + 64 bytes, then the outer certification data.
	const sig4 = 48 + 584 + 4
	const inner4 = sig4 + 128 + 6
	const sig3 = 48 + 384 + 4
	var out []dcapCase
	for _, c := range []struct {
		name    string
		v, body uint16
		edit    func(*Scene)
	}{
		{"version 2", 3, 1, edit(func(s *Scene) { s.Quote.Version = 2 })},
		{"version 6", 4, 2, edit(func(s *Scene) { s.Quote.Version = 6 })},
		{"attestation key type 3", 4, 2, edit(func(s *Scene) { s.Quote.KeyType = 3 })},
		{"TEE type 1", 4, 2, edit(func(s *Scene) { s.Quote.TEE = 1 })},
		{"version 3 with a TEE type", 3, 1, edit(func(s *Scene) { s.Quote.TEE = 0x81 })},
		{"a foreign QE vendor", 4, 2, edit(func(s *Scene) { s.Quote.Vendor[0]++ })},
		{"body type 4", 5, 3, edit(func(s *Scene) { s.Quote.BodyType = 4 })},
		{"SGX body type under TDX", 5, 3, edit(func(s *Scene) { s.Quote.BodyType = 1 })},
		{"TDX body type under SGX", 5, 1, edit(func(s *Scene) { s.Quote.BodyType = 2 })},
		{"body size of the other TDX", 5, 3, edit(func(s *Scene) { s.Quote.BodySize = 584 })},
		{"body size past the end", 5, 3, edit(func(s *Scene) { s.Quote.BodySize = 1 << 31 })},
		{"reserved bytes in the report body", 3, 1, edit(func(s *Scene) { s.Quote.Body[SGXReserved] = 1 })},
		{"certification data type 1", 3, 1, edit(func(s *Scene) { s.Quote.CertType = 1 })},
		{"certification data type 2", 4, 2, edit(func(s *Scene) { s.Quote.CertType = 2 })},
		{"certification data type 3", 3, 1, edit(func(s *Scene) { s.Quote.CertType = 3 })},
		{"certification data type 4", 3, 1, edit(func(s *Scene) { s.Quote.CertType = 4 })},
		{"certification data type 6 inside 6", 4, 2, edit(func(s *Scene) { s.Quote.CertType = 6 })},
		{"certification data type 7", 4, 2, edit(func(s *Scene) { s.Quote.CertType = 7 })},
		{"certification data type 5 outside", 4, 2, edit(func(s *Scene) { s.Quote.Outer = 5 })},
		{"padding that is not zero", 4, 2, after(func(b []byte) []byte { return append(b, 0, 0, 1) })},
		{"padding without end", 4, 2, after(func(b []byte) []byte { return append(b, make([]byte, 1<<15)...) })},
		{"padding of version 3", 3, 1, after(func(b []byte) []byte { return append(b, 0) })},
		{"cut by one byte", 4, 2, after(func(b []byte) []byte { return b[:len(b)-1] })},
		{"cut after the body", 3, 1, after(func(b []byte) []byte { return b[:sig3-4] })},
		{"signature data length of 4 GiB", 4, 2, put(sig4-4, 0xff, 0xff, 0xff, 0xff)},
		{"signature data length of zero", 4, 2, put(sig4-4, 0, 0, 0, 0)},
		{"outer length of 4 GiB", 4, 2, put(sig4+130, 0xff, 0xff, 0xff, 0xff)},
		{"authentication data past the end", 4, 2, put(inner4+448, 0xff, 0xff)},
		{"chain length past the end", 4, 2, put(inner4+448+2+32+2, 0xff, 0xff, 0xff, 0x7f)},
		{"chain shorter than its room", 4, 2, put(inner4+448+2+32+2, 1, 0, 0, 0)},
		{"an empty chain", 4, 2, edit(func(s *Scene) { s.Quote.Chain = nil })},
		{"a PCK alone", 4, 2, edit(func(s *Scene) { s.Quote.Chain = s.Intel.ChainPEM(&s.Intel.PCK) })},
		{"a chain of four", 4, 2, edit(func(s *Scene) {
			s.Quote.Chain = s.Intel.ChainPEM(&s.Intel.PCK, &s.Intel.CA, &s.Intel.Root, &s.Intel.Root)
		})},
		{"a chain from the root down", 4, 2, edit(func(s *Scene) {
			s.Quote.Chain = s.Intel.ChainPEM(&s.Intel.Root, &s.Intel.CA, &s.Intel.PCK)
		})},
		{"the TCB signing certificate as PCK", 4, 2, edit(func(s *Scene) {
			s.Quote.Chain = s.Intel.ChainPEM(&s.Intel.Signer, &s.Intel.CA, &s.Intel.Root)
		})},
		{"text before the chain", 4, 2, edit(func(s *Scene) { s.Quote.Chain = append([]byte("hello\n"), s.Quote.Chain...) })},
		{"a chain that is no PEM", 4, 2, edit(func(s *Scene) { s.Quote.Chain = bytes.Repeat([]byte{0x30}, 900) })},
	} {
		out = append(out, dcapCase{c.name, c.v, c.body, IntelOptions{}, c.edit, verdict.Form, verdict.Failed})
	}
	broken := func(name string, o IntelOptions) {
		out = append(out, dcapCase{name, 4, 2, o, nil, verdict.Form, verdict.Failed})
	}
	extension := func(f func(c *x509.Certificate)) IntelOptions {
		return IntelOptions{Edit: func(what string, c *x509.Certificate) {
			if what == IntelPCK {
				f(c)
			}
		}}
	}
	broken("PCK without SGX extension", extension(func(c *x509.Certificate) { c.ExtraExtensions = nil }))
	broken("PCK extension cut", IntelOptions{EditExtension: func(b []byte) []byte { return b[:len(b)-1] }})
	broken("PCK extension with bytes behind", IntelOptions{EditExtension: func(b []byte) []byte { return append(b, 5, 0) }})
	broken("PCK extension that is empty", IntelOptions{EditExtension: func([]byte) []byte { return []byte{0x30, 0} }})
	machine := func(f func(*Machine)) IntelOptions { m := NewMachine(); f(&m); return IntelOptions{Machine: &m} }
	broken("SVN of 256 in the PCK", machine(func(m *Machine) { m.CompSVN[3] = 256 }))
	broken("negative SVN in the PCK", machine(func(m *Machine) { m.CompSVN[3] = -1 }))
	broken("PCESVN of 65536 in the PCK", machine(func(m *Machine) { m.PCESVN = 65536 }))
	broken("SGX type 3 in the PCK", machine(func(m *Machine) { m.SGXType = 3 }))
	broken("platform instance id of 15 bytes", machine(func(m *Machine) { m.InstanceID = make([]byte, 15) }))
	broken("two FMSPCs in the PCK", IntelOptions{EditExtension: func(b []byte) []byte {
		// The identifier of the PCE id becomes that of the FMSPC.
		id := []byte{0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, 0x03}
		if at := bytes.Index(b, id); at >= 0 {
			b[at+len(id)-1] = 4
		}
		return b
	}})
	out = append(out, dcapCase{"PCK on P-384", 4, 2, IntelOptions{PCKCurve: elliptic.P384()}, func(s *Scene) { s.Quote.QEKey = s.Intel.CA.Key }, verdict.Form, verdict.Failed})
	return out
}

// dcapChains parse, and chain or signatures do not hold.
func dcapChains() []dcapCase {
	failed := func(name string, v, body uint16, o IntelOptions, code verdict.Code, f func(*Scene)) dcapCase {
		return dcapCase{name, v, body, o, f, code, verdict.Failed}
	}
	certificate := func(what string, f func(*x509.Certificate)) IntelOptions {
		return IntelOptions{Edit: func(w string, c *x509.Certificate) {
			if w == what {
				f(c)
			}
		}}
	}
	out := []dcapCase{
		failed("a root that nobody names", 4, 2, IntelOptions{}, verdict.TrustedRoot, func(s *Scene) { s.Roots = nil }),
		failed("another root of the same name", 4, 2, IntelOptions{}, verdict.TrustedRoot, func(s *Scene) { s.Roots = []pki.Hash{s.twin().Pinned()} }),
		failed("a root in the collateral alone", 4, 2, IntelOptions{}, verdict.TrustedRoot, func(s *Scene) {
			s.Quote.Chain, s.Roots = s.Intel.ChainPEM(&s.Intel.PCK, &s.Intel.CA), nil
		}),
		failed("the root of a twin hierarchy", 4, 2, IntelOptions{}, verdict.Chain, func(s *Scene) {
			t := s.twin()
			s.Quote.Chain, s.Roots = s.Intel.ChainPEM(&s.Intel.PCK, &s.Intel.CA, &t.Root), []pki.Hash{t.Pinned()}
		}),
		failed("the CA of a twin hierarchy", 4, 2, IntelOptions{}, verdict.Chain, func(s *Scene) {
			s.Quote.Chain = s.Intel.ChainPEM(&s.Intel.PCK, &s.twin().CA, &s.Intel.Root)
		}),
		failed("a PCK that the root signed", 4, 2, IntelOptions{PCKIssuer: IntelRoot}, verdict.Chain, nil),
		failed("a PCK that signed itself", 4, 2, IntelOptions{PCKIssuer: IntelPCK}, verdict.Chain, nil),
		failed("a CA that is none", 4, 2, certificate(IntelCA, func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }), verdict.Chain, func(s *Scene) { s.PCKList = nil }),
		failed("a CA that may not sign certificates", 4, 2, certificate(IntelCA, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), verdict.Chain, nil),
		failed("a CA that may not sign lists", 4, 2, certificate(IntelCA, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), verdict.Chain, func(s *Scene) { s.PCKList = nil }),
		failed("a PCK that may not sign", 4, 2, certificate(IntelPCK, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), verdict.Chain, nil),
		failed("an unknown critical extension in the PCK", 4, 2, certificate(IntelPCK, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
		}), verdict.Chain, nil),
		failed("the quote signed by another key", 4, 2, IntelOptions{}, verdict.Signature, func(s *Scene) { s.Quote.QuoteKey = s.Intel.PCK.Key }),
		failed("MRTD changed after signing", 4, 2, IntelOptions{}, verdict.Signature, put(48+TDMRTD, 1)),
		failed("report data changed after signing", 3, 1, IntelOptions{}, verdict.Signature, put(48+SGXReportData, 1)),
		failed("header changed after signing", 5, 3, IntelOptions{}, verdict.Signature, put(8, 1)),
		failed("an attestation key that is no point", 4, 2, IntelOptions{}, verdict.Signature, put(48+584+4+64, bytes.Repeat([]byte{0xff}, 64)...)),
		failed("a signature of zeros", 3, 1, IntelOptions{}, verdict.Signature, put(48+384+4, make([]byte, 64)...)),
		failed("the QE report signed by another key", 4, 2, IntelOptions{}, verdict.QEReport, func(s *Scene) { s.Quote.QEKey = s.Intel.CA.Key }),
		failed("the QE report signed by a twin's PCK", 3, 1, IntelOptions{}, verdict.QEReport, func(s *Scene) { s.Quote.QEKey = s.twin().PCK.Key }),
		failed("QE report changed after signing", 3, 1, IntelOptions{}, verdict.QEReport, put(48+384+4+128+SGXSVN, 9)),
		failed("an attestation key that is not bound", 4, 2, IntelOptions{}, verdict.AttestationKey, func(s *Scene) { s.Quote.KeepQEData = true }),
		failed("authentication data changed after signing", 3, 1, IntelOptions{}, verdict.AttestationKey, put(48+384+4+128+384+64+2, 1)),
		failed("QE report data with more than the hash", 4, 2, IntelOptions{}, verdict.AttestationKey, func(s *Scene) { s.Quote.QEReport[SGXReportData+40] = 1 }),
	}
	for _, what := range []string{IntelRoot, IntelCA, IntelPCK, IntelSigner} {
		out = append(out,
			dcapCase{"expired: " + what, 4, 2, certificate(what, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Hour) }), nil, verdict.CertificateValidity, verdict.NotMade},
			dcapCase{"not yet valid: " + what, 4, 2, certificate(what, func(c *x509.Certificate) { c.NotBefore = c.NotAfter.Add(-time.Hour) }), nil, verdict.CertificateValidity, verdict.NotMade})
	}
	return out
}

// twin is another hierarchy with the same names.
func (s *Scene) twin() *Intel {
	t, err := NewIntel(IntelOptions{Rand: s.Intel.rand, At: s.Intel.At})
	if err != nil {
		panic(err) // the same options made s
	}
	return t
}

// dcapLists have something wrong with revocation.
func dcapLists() []dcapCase {
	revoked := func(name string, code verdict.Code, f func(*Scene)) dcapCase {
		return dcapCase{name, 4, 2, IntelOptions{}, f, code, verdict.Failed}
	}
	notMade := func(name string, code verdict.Code, f func(*Scene)) dcapCase {
		return dcapCase{name, 3, 1, IntelOptions{}, f, code, verdict.NotMade}
	}
	return []dcapCase{
		revoked("revoked PCK", verdict.IntermediateCRL, func(s *Scene) { s.PCKList.Revoked = []*x509.Certificate{s.Intel.PCK.Certificate} }),
		revoked("revoked intermediate", verdict.RootCRL, func(s *Scene) { s.RootList.Revoked = []*x509.Certificate{s.Intel.CA.Certificate} }),
		revoked("revoked TCB signer", verdict.RootCRL, func(s *Scene) { s.RootList.Revoked = []*x509.Certificate{s.Intel.Signer.Certificate} }),
		revoked("PCK revoked by a list that has ended", verdict.IntermediateCRL, func(s *Scene) {
			s.PCKList.Revoked, s.PCKList.From, s.PCKList.To = []*x509.Certificate{s.Intel.PCK.Certificate}, -60, -30
		}),
		revoked("PCK revoked by an older list beside a clean one", verdict.IntermediateCRL, func(s *Scene) {
			s.Finish = func(c *collateral.Set) {
				if l, err := s.Intel.List(s.Intel.CA, s.Intel.At.AddDate(0, 0, -40), s.Intel.At.AddDate(0, 0, -12), s.Intel.PCK.Certificate); err == nil {
					c.Lists = append([]*x509.RevocationList{l}, c.Lists...)
				}
			}
		}),
		notMade("no list of the root", verdict.RootCRL, func(s *Scene) { s.RootList = nil }),
		notMade("no list of the CA", verdict.IntermediateCRL, func(s *Scene) { s.PCKList = nil }),
		notMade("the root's list has ended", verdict.RootCRL, func(s *Scene) { s.RootList.To = -1 }),
		notMade("the CA's list has ended", verdict.IntermediateCRL, func(s *Scene) { s.PCKList.To = -1 }),
		notMade("the root's list has not begun", verdict.RootCRL, func(s *Scene) { s.RootList.From = 1 }),
		notMade("the CA's list has not begun", verdict.IntermediateCRL, func(s *Scene) { s.PCKList.From = 1 }),
		notMade("the root's list by a twin", verdict.RootCRL, func(s *Scene) { s.RootList.Issuer = &s.twin().Root }),
		notMade("the CA's list by a twin", verdict.IntermediateCRL, func(s *Scene) { s.PCKList.Issuer = &s.twin().CA }),
	}
}

// dcapDocuments have something wrong with TCB info or QE identity.
func dcapDocuments() []dcapCase {
	row := func(name string, body uint16, code verdict.Code, status verdict.Status, f func(*Scene)) dcapCase {
		version := uint16(4)
		if body == 1 {
			version = 3
		}
		return dcapCase{name, version, body, IntelOptions{}, f, code, status}
	}
	raw := func(f func(tcb, qe *collateral.Document)) func(*Scene) {
		return func(s *Scene) { s.Finish = func(c *collateral.Set) { f(&c.TCBInfos[0], &c.QEIdentities[0]) } }
	}
	// resigned changes the TCB info's text and signs that.
	resigned := func(old, new string) func(*Scene) {
		return func(s *Scene) {
			s.Finish = func(c *collateral.Set) {
				body := bytes.Replace(c.TCBInfos[0].Body, []byte(old), []byte(new), 1)
				if d, err := s.Intel.SignRaw(body, s.Intel.Signer.Key); err == nil {
					c.TCBInfos[0] = d
				}
			}
		}
	}
	const f, n = verdict.Failed, verdict.NotMade
	return []dcapCase{
		row("no TCB info", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo = nil }),
		row("no QE identity", 2, verdict.QEIdentity, n, func(s *Scene) { s.Identity = nil }),
		row("no TCB signing certificate", 2, verdict.TCBInfoSignature, n, func(s *Scene) { s.Certs = nil }),
		row("TCB info for another FMSPC", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo.FMSPC = "5ec06f000001" }),
		row("TCB info for another PCE id", 1, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo.PCEID = "0001" }),
		row("TDX quote with SGX TCB info", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo = s.Intel.NewTCBInfo(false) }),
		row("SGX quote with TDX TCB info", 1, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo = s.Intel.NewTCBInfo(true) }),
		row("TDX quote with SGX QE identity", 2, verdict.QEIdentity, n, func(s *Scene) { s.Identity = s.Intel.NewQEIdentity(false) }),
		row("SGX quote with TDX QE identity", 1, verdict.QEIdentity, n, func(s *Scene) { s.Identity = s.Intel.NewQEIdentity(true) }),
		row("TCB info ended", 2, verdict.TCBInfoCurrent, n, func(s *Scene) { s.TCBInfo.NextUpdate = s.Intel.date(-1) }),
		row("TCB info not begun", 1, verdict.TCBInfoCurrent, n, func(s *Scene) { s.TCBInfo.IssueDate = s.Intel.date(1) }),
		row("QE identity ended", 2, verdict.QEIdentityCurrent, n, func(s *Scene) { s.Identity.NextUpdate = s.Intel.date(-1) }),
		row("QE identity not begun", 1, verdict.QEIdentityCurrent, n, func(s *Scene) { s.Identity.IssueDate = s.Intel.date(1) }),
		row("ended TCB info that says OutOfDate", 2, verdict.TCBStatus, f, func(s *Scene) {
			s.TCBInfo.NextUpdate, s.TCBInfo.Levels = s.Intel.date(-1), s.TCBInfo.Levels[1:]
		}),
		row("TCB info changed after signing", 2, verdict.TCBInfoSignature, f, raw(func(t, _ *collateral.Document) {
			t.Body = bytes.Replace(t.Body, []byte(`"pcesvn":13`), []byte(`"pcesvn":12`), 1)
		})),
		row("space in the TCB info after signing", 2, verdict.TCBInfoSignature, f, raw(func(t, _ *collateral.Document) { t.Body = append([]byte(" "), t.Body...) })),
		row("QE identity changed after signing", 1, verdict.QEIdentitySignature, f, raw(func(_, q *collateral.Document) {
			q.Body = bytes.Replace(q.Body, []byte(`"isvprodid":1`), []byte(`"isvprodid":2`), 1)
		})),
		row("swapped signatures", 2, verdict.TCBInfoSignature, f, raw(func(t, q *collateral.Document) { t.Signature, q.Signature = q.Signature, t.Signature })),
		row("TCB info signed by the PCK", 2, verdict.TCBInfoSignature, f, func(s *Scene) { s.TCBKey = &s.Intel.PCK }),
		row("TCB info signed by the CA", 2, verdict.TCBInfoSignature, f, func(s *Scene) { s.TCBKey = &s.Intel.CA }),
		row("QE identity signed by the PCK", 1, verdict.QEIdentitySignature, f, func(s *Scene) { s.IdentityKey = &s.Intel.PCK }),
		row("documents and signer of a twin", 2, verdict.TCBInfoSignature, n, func(s *Scene) {
			t := s.twin()
			s.TCBKey, s.IdentityKey, s.Certs = &t.Signer, &t.Signer, []*x509.Certificate{t.Signer.Certificate, t.Root.Certificate}
		}),
		row("TCB info of version 2", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo.Version = 2 }),
		row("TCB info of type 1", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo.TCBType = 1 }),
		row("TCB info without levels", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo.Levels = nil }),
		row("TCB info with 15 components", 2, verdict.TCBInfoMatch, n, func(s *Scene) { s.TCBInfo.Levels[0].TCB.SGX = s.TCBInfo.Levels[0].TCB.SGX[:15] }),
		row("TCB info without PCESVN", 2, verdict.TCBInfoMatch, n, resigned(`"pcesvn":13`, `"other":13`)),
		row("TCB info with a key twice", 2, verdict.TCBInfoMatch, n, resigned(`"version":3`, `"version":3,"fmspc":"5ec06f000000"`)),
		row("TCB info with a key twice, in capitals", 2, verdict.TCBInfoMatch, n, resigned(`"version":3`, `"version":3,"FMSPC":"5ec06f000000"`)),
		row("TCB info that is no JSON", 2, verdict.TCBInfoMatch, n, resigned(`{`, `[`)),
		row("QE identity of version 1", 1, verdict.QEIdentity, n, func(s *Scene) { s.Identity.Version = 1 }),
		row("QE identity with a short MRSIGNER", 1, verdict.QEIdentity, n, func(s *Scene) { s.Identity.MRSigner = "5e" }),
	}
}

// dcapEnclaves have another quoting enclave than Intel's.
func dcapEnclaves() []dcapCase {
	report := func(name string, at int, v ...byte) dcapCase {
		return dcapCase{name, 4, 2, IntelOptions{}, func(s *Scene) { copy(s.Quote.QEReport[at:], v) }, verdict.QEIdentity, verdict.Failed}
	}
	svn := func(name string, v byte) dcapCase {
		return dcapCase{name, 3, 1, IntelOptions{}, func(s *Scene) { s.Quote.QEReport[SGXSVN] = v }, verdict.TCBStatus, verdict.Failed}
	}
	return []dcapCase{
		report("wrong QE signer", SGXMRSIGNER, 0),
		report("wrong QE product", SGXProdID, 3),
		report("the SGX QE for a TD", SGXProdID, 1),
		report("debug QE", SGXAttributes, 0x17),
		report("QE with unknown attributes", SGXAttributes+2, 1),
		report("QE with MISCSELECT", SGXMiscSelect, 1),
		svn("QE out of date", 7),
		svn("QE revoked", 5),
		svn("QE under every level", 3),
		{"debug QE without QE identity", 3, 1, IntelOptions{}, func(s *Scene) { s.Quote.QEReport[SGXAttributes], s.Identity = 0x17, nil }, verdict.QEIdentity, verdict.Failed},
	}
}

// dcapLevels have a platform or TDX module that Intel does not call up to date.
func dcapLevels() []dcapCase {
	machine := func(name string, body uint16, f func(*Machine)) dcapCase {
		m := NewMachine()
		f(&m)
		return dcapCase{name, 5, body, IntelOptions{Machine: &m}, nil, verdict.TCBStatus, verdict.Failed}
	}
	td := func(name string, body uint16, code verdict.Code, f func(*Scene)) dcapCase {
		return dcapCase{name, 5, body, IntelOptions{}, f, code, verdict.Failed}
	}
	out := []dcapCase{
		machine("platform out of date by PCESVN", 1, func(m *Machine) { m.PCESVN = 12 }),
		machine("platform out of date, module up to date", 3, func(m *Machine) { m.PCESVN = 12 }),
		machine("Revoked level", 1, func(m *Machine) { m.CompSVN[0] = 1 }),
		machine("Revoked level of a TD", 2, func(m *Machine) { m.CompSVN[0] = 1 }),
		machine("wrong SPL: no level", 1, func(m *Machine) { m.CompSVN[0] = 0 }),
		machine("SEAMLDR under every level", 3, func(m *Machine) { m.CompSVN[7] = 3 }),
		machine("PCESVN under every level", 3, func(m *Machine) { m.PCESVN = 9 }),
		td("module out of date", 2, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN] = 6 }),
		td("module revoked", 2, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN] = 4 }),
		td("module under every level", 2, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN] = 2 }),
		td("module that Intel does not know", 2, verdict.TDXModule, func(s *Scene) { s.Quote.Body[TDTEETCBSVN+1] = 0x11 }),
		td("microcode of the TD under the level", 2, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN+2], s.TCBInfo.Levels = 1, s.TCBInfo.Levels[:2] }),
		td("a TDX 1.0 module under the level", 2, verdict.TCBStatus, func(s *Scene) {
			copy(s.Quote.Body, []byte{4, 0, 2})
			s.TCBInfo.Levels = s.TCBInfo.Levels[:2]
		}),
		td("module with another signer", 3, verdict.TDXModule, func(s *Scene) { s.Quote.Body[TDMRSignerSEAM] = 1 }),
		td("module with attributes", 3, verdict.TDXModule, func(s *Scene) { s.Quote.Body[TDSEAMAttributes] = 1 }),
		td("module identity of another signer", 3, verdict.TDXModule, func(s *Scene) { s.TCBInfo.Modules[1].MRSigner = "11" + zero48[2:] }),
		td("TD to be launched anew", 3, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN] = 6 }),
		td("TD that runs on an unsupported module", 3, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN2] = 1 }),
		td("revoked by a stale TCB info whose number is higher than the current one's", 2, verdict.TCBStatus, func(s *Scene) {
			stale := s.Intel.NewTCBInfo(true)
			stale.Evaluation, stale.IssueDate, stale.NextUpdate = 30, s.Intel.date(-60), s.Intel.date(-30)
			stale.Levels = stale.Levels[2:]
			s.beside(stale)
		}),
		td("TD that runs on a revoked module", 3, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN2] = 4 }),
		td("TD that runs on a module out of date", 3, verdict.TCBStatus, func(s *Scene) { s.Quote.Body[TDTEETCBSVN2] = 6 }),
		td("open advisory", 1, verdict.Advisories, func(s *Scene) { s.TCBInfo.Levels[0].Advisories = []string{"INTEL-SA-00615"} }),
		td("QE level with an open advisory", 1, verdict.Advisories, func(s *Scene) { s.Identity.Levels[0].Advisories = []string{"INTEL-SA-00615"} }),
	}
	for _, status := range []string{"SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded", "SplendidlyUpToDate", "uptodate"} {
		out = append(out, td("status "+status, 1, verdict.TCBStatus, func(s *Scene) { s.TCBInfo.Levels[0].Status = status }))
	}
	return out
}

// dcapPolicies are genuine and refused by the defaults of a policy.
func dcapPolicies() []dcapCase {
	td := func(name string, code verdict.Code, attributes uint64, at int, v ...byte) dcapCase {
		return dcapCase{name, 5, 3, IntelOptions{}, func(s *Scene) {
			binary.LittleEndian.PutUint64(s.Quote.Body[TDAttributes:], attributes)
			copy(s.Quote.Body[at:], v)
		}, code, verdict.Failed}
	}
	sgx := func(name string, code verdict.Code, at int, v ...byte) dcapCase {
		return dcapCase{name, 3, 1, IntelOptions{}, func(s *Scene) { copy(s.Quote.Body[at:], v) }, code, verdict.Failed}
	}
	const good = 1 << 28
	return []dcapCase{
		td("debug TD", verdict.Debug, good|1, 0),
		td("TD with another TUD bit", verdict.Debug, good|1<<6, 0),
		td("TD with #VE on private pages", verdict.Attributes, 0, 0),
		td("TD that can be migrated", verdict.Migration, good|1<<29, 0),
		td("TD that a service TD can migrate", verdict.Migration, good|1<<29, TDMRServiceTD, 1),
		td("TD with a service TD", verdict.ServiceTD, good, TDMRServiceTD, 1),
		td("TD with an unknown attribute", verdict.Attributes, good|1<<40, 0),
		td("TD with an unknown XFAM bit", verdict.Attributes, good, TDXFAM+7, 0x40),
		sgx("debug enclave", verdict.Debug, SGXAttributes, 0x87),
		sgx("enclave with the provisioning key", verdict.Attributes, SGXAttributes, 0x95),
		sgx("enclave with the launch key", verdict.Attributes, SGXAttributes, 0xa5),
		sgx("enclave of 32 bits", verdict.Attributes, SGXAttributes, 0x81),
		sgx("enclave with an unknown attribute", verdict.Attributes, SGXAttributes+1, 0x80),
		sgx("enclave with an unknown XFRM bit", verdict.Attributes, SGXAttributes+15, 0x40),
		sgx("enclave with unknown MISCSELECT", verdict.Attributes, SGXMiscSelect, 0x80),
	}
}
