package dcap

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/format"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// appraisal is one call of Verify under way.
type appraisal struct {
	v        *Verifier
	q        *Quote
	c        *pckChain
	known    bool // c is remembered: it holds up to its own root
	o        *format.Options
	r        *format.Result
	root     *x509.Certificate
	rootHash pki.Hash
	intel    *claims.IntelPlatform
}

// trust finds the root.
func (a *appraisal) trust() bool {
	root, hash, simulated, ok := a.v.rootFor(a.c, a.o)
	name := a.c.ca.Issuer.CommonName
	if root != nil {
		name = root.Subject.CommonName
		a.r.Claims.Root.SHA256 = claims.Hex(hash[:])
	}
	a.r.Claims.Root.Name, a.r.Claims.Root.Simulated = name, simulated
	if !ok {
		found := fmt.Sprintf("%q", name)
		if root != nil {
			found += ", SHA-256 " + hexOf(hash[:])
		}
		a.r.Add(verdict.Fail(verdict.TrustedRoot, found, "the Intel SGX Root CA").From(srcPCK))
		return false
	}
	a.root, a.rootHash = root, hash
	a.r.Add(verdict.Pass(verdict.TrustedRoot, name).From(srcPCK))
	return true
}

// chain checks the PCK chain's signatures, and its validity and revocation with that
// of the TCB signing certificates that are used.
func (a *appraisal) chain() {
	var err error
	if !a.known || a.c.root == nil {
		err = a.v.linked(a.c, a.root, a.rootHash)
	}
	if err != nil {
		a.r.Add(verdict.Fail(verdict.Chain, err.Error(), "PCK, CA and root, each signed by the next").From(srcPCK))
		return
	}
	a.r.Add(verdict.Pass(verdict.Chain, a.c.pck.Subject.CommonName+", "+a.c.ca.Subject.CommonName+", "+a.root.Subject.CommonName).From(srcPCK))
}

// collateral compares the platform with Intel's documents, then looks at validity
// and revocation of every certificate that was used.
func (a *appraisal) collateral() {
	var set collateral.Set
	if a.o.Collateral != nil {
		set = *a.o.Collateral
	}
	signers := a.v.signers(a.root, a.rootHash, a.o)
	info := a.tcbInfo(set.TCBInfos, signers)
	qe := a.qeIdentity(set.QEIdentities, signers)
	var used []*x509.Certificate
	for _, d := range []*chosen{info, qe} {
		if d != nil && d.signer != nil && (len(used) == 0 || used[0] != d.signer) {
			used = append(used, d.signer)
		}
	}
	a.level(info, qe)
	a.certificates(used, set.Lists)
}

func (a *appraisal) until(t time.Time) {
	if !t.IsZero() && (a.intel.CollateralUntil.IsZero() || t.Before(a.intel.CollateralUntil)) {
		a.intel.CollateralUntil = t
	}
}

func (a *appraisal) certificates(used []*x509.Certificate, lists []*x509.RevocationList) {
	all := append(make([]*x509.Certificate, 0, 5), a.c.pck, a.c.ca, a.root)
	all = append(all, used...)
	if until, err := pki.Validity(all, a.o.At); err != nil {
		a.r.Add(verdict.Skip(verdict.CertificateValidity, err.Error(), "judge at a time when the chain was valid (--at), or get a quote with a newer chain").From(srcPCK))
	} else {
		a.r.Add(verdict.Pass(verdict.CertificateValidity, "until "+day(until)).From(srcPCK))
	}
	if len(lists) > collateral.MaxLists {
		lists = lists[:collateral.MaxLists]
	}
	a.revoked(verdict.RootCRL, append([]*x509.Certificate{a.c.ca}, used...), a.root, lists)
	a.revoked(verdict.IntermediateCRL, []*x509.Certificate{a.c.pck}, a.c.ca, lists)
}

func (a *appraisal) revoked(code verdict.Code, certs []*x509.Certificate, issuer *x509.Certificate, lists []*x509.RevocationList) {
	rev := pki.Revoked(certs, issuer, lists, a.o.At, a.o.MaxAge, &a.v.signatures)
	if rev.List != nil {
		a.until(rev.List.NextUpdate)
	}
	switch {
	case rev.Revoked != nil:
		a.r.Add(verdict.Fail(code, fmt.Sprintf("%s, serial %x, is revoked", rev.Revoked.Subject.CommonName, rev.Revoked.SerialNumber), "certificates that are not revoked").From(srcPCK).
			Advise("do not trust this platform: its issuer has withdrawn the certificate"))
	case !rev.Current:
		a.r.Add(verdict.Skip(code, rev.Why, fetchHint).From(srcPCK))
	default:
		a.r.Add(verdict.Pass(code, "current until "+day(rev.List.NextUpdate)).From(srcPCK))
	}
}

// tcbInfo chooses the TCB info for this platform and TEE; nil: none is at hand.
func (a *appraisal) tcbInfo(docs []collateral.Document, signers []*signer) *chosen {
	p, id := a.c.platform, "SGX"
	if a.q.TDX {
		id = "TDX"
	}
	best, others := a.v.choose(docs, false, signers, a.o, func(d *parsed) bool {
		return d.info.ID == id && string(d.info.FMSPC) == string(p.FMSPC) && string(d.info.PCEID) == string(p.PCEID)
	})
	if best == nil {
		wanted := fmt.Sprintf("%s TCB info for FMSPC %x, PCE id %x", id, p.FMSPC, p.PCEID)
		a.r.Add(verdict.Skip(verdict.TCBInfoMatch, none("TCB info", others), fetchHint).Want(wanted).From(srcTCBInfo))
		return nil
	}
	a.r.Add(verdict.Pass(verdict.TCBInfoMatch, best.name).From(srcTCBInfo))
	return a.sound(best, signers, verdict.TCBInfoSignature, verdict.TCBInfoCurrent, srcTCBInfo)
}

// qeIdentity chooses the QE identity and compares the quoting enclave with it.
func (a *appraisal) qeIdentity(docs []collateral.Document, signers []*signer) *chosen {
	id := "QE"
	if a.q.TDX {
		id = "TD_QE"
	}
	const hint = "the quote is not made by Intel's quoting enclave: anybody could have made it"
	if a.q.QEReport.Attributes[0]&2 != 0 {
		a.r.Add(verdict.Fail(verdict.QEIdentity, "the quoting enclave runs with debugging", "Intel's, without").From(srcQE).Advise(hint))
		return nil
	}
	best, others := a.v.choose(docs, true, signers, a.o, func(d *parsed) bool { return d.qe.ID == id })
	if best == nil {
		a.r.Add(verdict.Skip(verdict.QEIdentity, none("QE identity", others), fetchHint).Want("QE identity " + id).From(srcQE))
		return nil
	}
	if best = a.sound(best, signers, verdict.QEIdentitySignature, verdict.QEIdentityCurrent, srcQE); best == nil {
		a.r.Add(verdict.Skip(verdict.QEIdentity, "the QE identity at hand is not signed by Intel", fetchHint).From(srcQE))
		return nil
	}
	if d := best.qe.differs(a.q.QEReport); d != "" {
		a.r.Add(verdict.Fail(verdict.QEIdentity, d, "Intel's quoting enclave").From(srcQE).Advise(hint))
		return nil
	}
	a.r.Add(verdict.Pass(verdict.QEIdentity, fmt.Sprintf("%s, ISVSVN %d", id, a.q.QEReport.ISVSVN)).From(srcQE))
	return best
}

// sound says whether Intel signed the document and whether it is current. A document
// that Intel signed is used even where it is stale: what is bad in it stays bad.
func (a *appraisal) sound(d *chosen, signers []*signer, signature, current verdict.Code, source string) *chosen {
	switch {
	case d.signer != nil:
		a.r.Add(verdict.Pass(signature, "signed by "+d.signer.Subject.CommonName).From(source))
	case len(signers) == 0:
		a.r.Add(verdict.Skip(signature, "no TCB signing certificate under this root is at hand", fetchHint).From(source))
		return nil
	default:
		a.r.Add(verdict.Fail(signature, d.name+": the signature does not hold under any TCB signing certificate at hand", "Intel's signature").From(source))
		return nil
	}
	w := d.window()
	a.until(w.NextUpdate)
	if d.stale != "" {
		a.r.Add(verdict.Skip(current, d.stale, fetchHint).Want("current at " + day(a.o.At)).From(source))
	} else {
		a.r.Add(verdict.Pass(current, d.current).From(source))
	}
	return d
}

// level gives the platform its status.
func (a *appraisal) level(info, qe *chosen) {
	in := a.intel
	var qeLevel *judged
	if qe != nil {
		in.QEEvaluation = qe.evaluation()
		if qeLevel = reached(qe.qe.Levels, a.q.QEReport.ISVSVN); qeLevel != nil {
			in.QEStatus = qeLevel.Status
		} else {
			in.QEStatus = NotSupported
		}
	}
	if info == nil {
		if a.q.TDX {
			a.r.Add(verdict.Skip(verdict.TDXModule, "no TCB info that Intel signed is at hand", fetchHint).From(srcTCBInfo))
		}
		a.refuse(in.QEStatus, fmt.Sprintf("the quoting enclave's SVN is %d", a.q.QEReport.ISVSVN))
		return
	}
	in.Evaluation = info.evaluation()
	var tee []byte
	if a.q.TDX {
		tee = a.q.TD.TEETCBSVN
		if d := info.info.moduleDiffers(a.q.TD); d != "" {
			a.r.Add(verdict.Fail(verdict.TDXModule, d, "a TDX module that Intel names").From(srcTCBInfo))
		} else {
			a.r.Add(verdict.Pass(verdict.TDXModule, fmt.Sprintf("version %d, SVN %d", tee[1], tee[0])).From(srcTCBInfo))
		}
	}
	s := info.info.stand(a.c.platform, tee)
	in.PlatformStatus, in.ModuleStatus = s.platform, s.module
	if a.q.TDX && a.q.TD.TEETCBSVN2 != nil {
		now := info.info.stand(a.c.platform, a.q.TD.TEETCBSVN2)
		in.CurrentStatus = now.status
		if s.status != NotSupported && now.status == NotSupported {
			s.why = "the TCB that the TD runs on now (TEE_TCB_SVN2): " + now.why
		}
		s.status = relaunch(s.status, now.status)
	}
	if qeLevel != nil {
		s.add(qeLevel)
	}
	if in.QEStatus != "" {
		if in.QEStatus == NotSupported && s.why == "" {
			s.why = fmt.Sprintf("the quoting enclave's SVN is %d, the lowest level wants %d", a.q.QEReport.ISVSVN, lowest(qe.qe.Levels))
		}
		s.status = converge(s.status, in.QEStatus)
		if in.CurrentStatus != "" {
			in.CurrentStatus = converge(in.CurrentStatus, in.QEStatus)
		}
	}
	in.Status, in.TCBDate, in.AdvisoryIDs = s.status, s.date, known(s.advisories)
	a.refuse(s.status, s.why)
}

// refuse fails the check tcb-status where no policy may accept the status. What
// else there is of statuses is policy's to accept.
func (a *appraisal) refuse(status, why string) {
	switch status {
	case NotSupported:
		a.r.Add(verdict.Fail(verdict.TCBStatus, "TCB level not supported: "+strings.TrimSpace(why), "a TCB that reaches one of Intel's levels").From(srcTCBInfo).
			Advise("update the machine's firmware, microcode and TDX module"))
	case Revoked:
		a.r.Add(verdict.Fail(verdict.TCBStatus, "Revoked", "a TCB that Intel has not revoked").From(srcTCBInfo).
			Advise("do not trust this platform"))
	}
}
