//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/snp"
)

// This file makes the minimal check of evidence: that it is what it says, under a
// simulated root that was named. It is no appraisal: no policy is asked, no
// runtime is pinned, no revocation looked up.

type checkStatus string

const (
	checkPassed  checkStatus = "passed"
	checkFailed  checkStatus = "failed"
	checkNotMade checkStatus = "not_made"
)

// A check is one line of what was looked at. Found may come from the evidence:
// it is escaped where it is printed.
type check struct {
	Code   string      `json:"code"`
	Status checkStatus `json:"status"`
	Found  string      `json:"found,omitempty"`
	Wanted string      `json:"wanted,omitempty"`
	Source string      `json:"source,omitempty"` // of what was wanted
	Hint   string      `json:"hint,omitempty"`
}

// evidenceWanted is what a check compares with.
type evidenceWanted struct {
	root       string    // SHA-256 of the simulated root's DER, hexadecimal; "": none is known
	rootSource string    // where root is from
	nonce      []byte    // nil: none is demanded
	at         time.Time // for the certificates' validity
}

// evidenceParts is evidence taken apart, each part parsed strictly.
type evidenceParts struct {
	raw           evidence.Evidence
	report        snp.Report
	claims        evidence.Claims
	leaf          *x509.Certificate
	intermediates []*x509.Certificate
	root          *x509.Certificate
}

// openEvidence reads a CMW collection with everything in it. An error means
// malformed: there is no judging part of it (THREATS T26).
func openEvidence(data []byte) (evidenceParts, error) {
	var p evidenceParts
	var err error
	if p.raw, err = evidence.Parse(data); err != nil {
		return p, err
	}
	if p.report, err = snp.ParseReport(p.raw.Report); err != nil {
		return p, err
	}
	if p.claims, err = evidence.ParseClaims(p.raw.Claims); err != nil {
		return p, err
	}
	rows, err := snp.ParseCertTable(p.raw.Certs)
	if err != nil {
		return p, err
	}
	for _, row := range rows {
		c, err := x509.ParseCertificate(row.Data)
		if err != nil {
			return p, fmt.Errorf("certificate %x of the table: %w", row.GUID, err)
		}
		switch row.GUID {
		case snp.GUIDVCEK, snp.GUIDVLEK:
			if p.leaf != nil {
				return p, errors.New("the certificate table holds a VCEK and a VLEK, wanted one of them")
			}
			p.leaf = c
		case snp.GUIDARK:
			p.root = c
		case snp.GUIDASK:
			p.intermediates = append(p.intermediates, c)
		default:
			return p, fmt.Errorf("the certificate table holds an entry of unknown kind, %x", row.GUID)
		}
	}
	if p.leaf == nil || p.root == nil {
		return p, errors.New("the certificate table holds no VCEK or no ARK")
	}
	return p, nil
}

func (p evidenceParts) rootFingerprint() string {
	h := sha256.Sum256(p.root.Raw)
	return hex.EncodeToString(h[:])
}

// checkEvidence makes the minimal check of a CMW collection. The run verb and
// inspect share it.
func checkEvidence(data []byte, w evidenceWanted) []check {
	p, err := openEvidence(data)
	if err != nil {
		return []check{{Code: "form", Status: checkFailed, Found: err.Error(), Wanted: "a CMW collection with report, certs and claims", Source: "RFC 9999, docs/evidence.md"}}
	}
	return append([]check{{Code: "form", Status: checkPassed, Found: fmt.Sprintf("a CMW collection of %d bytes", len(data))}}, p.check(w)...)
}

func (p evidenceParts) check(w evidenceWanted) []check {
	return []check{
		p.checkRoot(w),
		result("chain", "a valid chain from the VCEK to the root in the evidence", "the certificates", p.verifyChain(w.at)),
		result("vcek-report", "a certificate for the report's chip and TCB", "the report", p.verifyEndorsement()),
		p.checkSignature(),
		p.checkReportData(),
		compare("host-data", p.report.HostData[:], p.claims.WorkloadDigest[:], "the claim workload-digest"),
		p.checkNonce(w.nonce),
		{Code: "runtime-pinned", Status: checkNotMade, Found: hex.EncodeToString(p.report.Measurement[:]),
			Hint: "host data is the launcher's word: compare the measurement with one that you computed"},
	}
}

// result is a check whose error says what was found.
func result(code, wanted, source string, err error) check {
	c := check{Code: code, Status: checkPassed, Wanted: wanted, Source: source}
	if err != nil {
		c.Status, c.Found = checkFailed, err.Error()
	}
	return c
}

func compare(code string, found, wanted []byte, source string) check {
	c := check{Code: code, Status: checkPassed, Found: hex.EncodeToString(found), Wanted: hex.EncodeToString(wanted), Source: source}
	if !bytes.Equal(found, wanted) {
		c.Status = checkFailed
	}
	return c
}

func (p evidenceParts) checkRoot(w evidenceWanted) check {
	c := check{Code: "simulated-root", Status: checkPassed, Found: p.rootFingerprint(), Wanted: w.root, Source: w.rootSource}
	if w.root == "" || c.Found != strings.ToLower(w.root) {
		c.Status = checkFailed
		c.Hint = "this root is not the one that was named; --root FILE|FINGERPRINT names another, if you know whose machine made it"
	}
	if w.root == "" {
		c.Wanted = "a root that was named"
	}
	return c
}

func (p evidenceParts) verifyChain(at time.Time) error {
	roots, mids := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(p.root)
	for _, c := range p.intermediates {
		mids.AddCert(c)
	}
	if err := p.root.CheckSignatureFrom(p.root); err != nil {
		return fmt.Errorf("the root does not sign itself: %w", err)
	}
	_, err := p.leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mids, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

func (p evidenceParts) verifyEndorsement() error {
	e, err := snp.ParseEndorsement(p.leaf)
	if err != nil {
		return err
	}
	return e.Agrees(p.report)
}

func (p evidenceParts) checkSignature() check {
	key, ok := p.leaf.PublicKey.(*ecdsa.PublicKey)
	err := errors.New("the VCEK's key is not on a curve of NIST's")
	if ok {
		err = snp.Verify(p.raw.Report, key)
	}
	return result("report-signature", "a signature over the report by the VCEK", "the certificates", err)
}

// checkReportData compares with the RA-TLS form: every purpose that a Keep makes
// evidence for today is about the key that ends TLS in the warden (THREATS T3).
func (p evidenceParts) checkReportData() check {
	want := evidence.ReportData(p.raw.Claims)
	return compare("report-data", p.report.ReportData[:], want[:], "SHA-256 of the claims, then zeros")
}

func (p evidenceParts) checkNonce(want []byte) check {
	if want == nil {
		return check{Code: "nonce", Status: checkNotMade, Found: hex.EncodeToString(p.claims.Nonce), Hint: "--nonce HEX compares it: without one, evidence may be old"}
	}
	return compare("nonce", p.claims.Nonce, want, "--nonce")
}
