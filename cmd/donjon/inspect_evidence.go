//go:build linux

package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

// evidenceOptions are what inspect takes for an evidence file. Zero values: this
// machine's own simulated root, no nonce demanded, words, the time now.
type evidenceOptions struct {
	root   string // FILE (a certificate, DER or PEM) or FINGERPRINT (SHA-256, hexadecimal)
	nonce  string // hexadecimal, 8 to 64 bytes
	asJSON bool
	at     time.Time
}

// inspectEvidence shows an evidence file in words or as JSON, with the minimal
// check. The status is 10 where it is malformed or a check fails.
func inspectEvidence(a *app, data []byte, o evidenceOptions) error {
	w := evidenceWanted{at: o.at}
	if w.at.IsZero() {
		w.at = time.Now()
	}
	if o.nonce != "" {
		n, err := hex.DecodeString(o.nonce)
		if err != nil || len(n) < 8 || len(n) > 64 {
			return failHint(statusUsage, "donjon help inspect", fmt.Errorf("--nonce: found %q, wanted 8 to 64 bytes in hexadecimal", o.nonce))
		}
		w.nonce = n
	}
	var err error
	if w.root, w.rootSource, err = a.namedRoot(o.root); err != nil {
		return err
	}
	p, err := openEvidence(data)
	if err != nil {
		if o.asJSON {
			if jerr := a.printJSON(evidenceResult{Kind: "evidence", Appraisal: notAppraised, Checks: checkEvidence(data, w)}); jerr != nil {
				return jerr
			}
		}
		return fail(statusNotGenuine, fmt.Errorf("evidence is malformed: %w", err))
	}
	r := describe(p, checkEvidence(data, w))
	if o.asJSON {
		err = a.printJSON(r)
	} else {
		err = a.printEvidence(r)
	}
	if err != nil {
		return err
	}
	for _, c := range r.Checks {
		if c.Status == checkFailed {
			return failHint(statusNotGenuine, c.Hint, fmt.Errorf("evidence is not genuine: the check %s failed: found %s, wanted %s", c.Code, c.Found, c.Wanted))
		}
	}
	return nil
}

// namedRoot gives the fingerprint of the simulated root to hold evidence against
// and says where it is from. With nothing named it is this machine's own; where
// there is none yet, the fingerprint is empty.
func (a *app) namedRoot(named string) (fingerprint, source string, err error) {
	if named == "" {
		state, err := a.stateDir()
		if err != nil {
			return "", "this user has no home folder", nil
		}
		s, err := silicon.Read(filepath.Join(state, "silicon"))
		if errors.Is(err, fs.ErrNotExist) {
			return "", "this machine has made no root yet", nil
		}
		if err != nil {
			return "", "", fail(statusFailed, err)
		}
		return s.RootFingerprint(), "this machine's simulated root", nil
	}
	if b, err := hex.DecodeString(named); err == nil && len(b) == sha256.Size {
		return strings.ToLower(named), "--root", nil
	}
	b, err := os.ReadFile(named)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", failHint(statusNotFound, "--root takes the file of a certificate, or 64 hexadecimal digits", fmt.Errorf("--root %s: not found", named))
	}
	if err != nil {
		return "", "", fail(statusFailed, fmt.Errorf("--root: %w", err))
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	if _, err := x509.ParseCertificate(b); err != nil {
		return "", "", fail(statusUsage, fmt.Errorf("--root %s: no certificate: %w", named, err))
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), "--root", nil
}

const notAppraised = "not made"

// evidenceResult is the JSON of inspect for evidence; docs/evidence.md has it.
// Bytes are hexadecimal without separators.
type evidenceResult struct {
	Kind      string          `json:"kind"`                // "evidence"
	Root      string          `json:"root,omitempty"`      // fingerprint of the root in the evidence
	RootKind  string          `json:"root_kind,omitempty"` // "simulated": the root that was named; "unknown": another
	Appraisal string          `json:"appraisal"`           // always "not made"
	Report    *reportResult   `json:"report,omitempty"`
	Claims    *claimsResult   `json:"claims,omitempty"`
	Chain     []subjectResult `json:"chain,omitempty"` // from the VCEK to the root
	Checks    []check         `json:"checks"`
}

type reportResult struct {
	Version      uint32 `json:"version"`
	VMPL         uint32 `json:"vmpl"`
	GuestSVN     uint32 `json:"guest_svn"`
	Policy       string `json:"policy"`
	Debug        bool   `json:"debug"`
	Measurement  string `json:"measurement"`
	HostData     string `json:"host_data"`
	ReportData   string `json:"report_data"`
	ReportID     string `json:"report_id"`
	ChipID       string `json:"chip_id"`
	ReportedTCB  string `json:"reported_tcb"`
	CommittedTCB string `json:"committed_tcb"`
	LaunchTCB    string `json:"launch_tcb"`
	PlatformInfo string `json:"platform_info"`
}

type claimsResult struct {
	Purpose        string `json:"purpose"`
	WorkloadDigest string `json:"workload_digest"`
	PubkeyHash     string `json:"pubkey_hash"`
	Nonce          string `json:"nonce,omitempty"`
	Instance       string `json:"instance"`
	TLSExporter    string `json:"tls_exporter,omitempty"`
}

type subjectResult struct {
	Subject  string `json:"subject"`
	NotAfter string `json:"not_after"`
}

func describe(p evidenceParts, checks []check) evidenceResult {
	r, c := p.report, p.claims
	out := evidenceResult{
		Kind: "evidence", Root: p.rootFingerprint(), Appraisal: notAppraised, Checks: checks,
		RootKind: "unknown",
		Report: &reportResult{
			Version: r.Version, VMPL: r.VMPL, GuestSVN: r.GuestSVN,
			Policy: fmt.Sprintf("%#x", r.Policy), Debug: r.DebugAllowed(),
			Measurement: hex.EncodeToString(r.Measurement[:]), HostData: hex.EncodeToString(r.HostData[:]),
			ReportData: hex.EncodeToString(r.ReportData[:]), ReportID: hex.EncodeToString(r.ReportID[:]),
			ChipID: hex.EncodeToString(r.ChipID[:]), ReportedTCB: fmt.Sprintf("%016x", uint64(r.ReportedTCB)),
			CommittedTCB: fmt.Sprintf("%016x", uint64(r.CommittedTCB)), LaunchTCB: fmt.Sprintf("%016x", uint64(r.LaunchTCB)),
			PlatformInfo: fmt.Sprintf("%#x", r.PlatformInfo),
		},
		Claims: &claimsResult{
			Purpose: c.Purpose, WorkloadDigest: hex.EncodeToString(c.WorkloadDigest[:]), PubkeyHash: hex.EncodeToString(c.PubkeyHash[:]),
			Nonce: hex.EncodeToString(c.Nonce), Instance: hex.EncodeToString(c.Instance[:]), TLSExporter: hex.EncodeToString(c.TLSExporter),
		},
	}
	for _, c := range checks {
		if c.Code == "simulated-root" && c.Status == checkPassed {
			out.RootKind = "simulated"
		}
	}
	chain := append([]*x509.Certificate{p.leaf}, p.intermediates...)
	for _, c := range append(chain, p.root) {
		out.Chain = append(out.Chain, subjectResult{c.Subject.String(), c.NotAfter.UTC().Format(time.RFC3339)})
	}
	return out
}

func (a *app) printEvidence(r evidenceResult) error {
	var b strings.Builder
	if r.RootKind == "simulated" {
		fmt.Fprintf(&b, "SIMULATED: chains to root %s made on a machine, not by a vendor\n", r.Root)
	} else {
		fmt.Fprintf(&b, "UNKNOWN ROOT: names root %s, which is not the one wanted\n", r.Root)
	}
	debug := "off"
	if r.Report.Debug {
		debug = "ALLOWED"
	}
	section := func(title string, rows ...[2]string) {
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, x := range rows {
			if x[1] != "" {
				fmt.Fprintf(&b, "  %-16s %s\n", x[0], oneLine(x[1]))
			}
		}
	}
	section("claims", [2]string{"purpose", r.Claims.Purpose}, [2]string{"workload digest", r.Claims.WorkloadDigest},
		[2]string{"public key hash", r.Claims.PubkeyHash}, [2]string{"nonce", r.Claims.Nonce},
		[2]string{"instance", r.Claims.Instance}, [2]string{"tls exporter", r.Claims.TLSExporter})
	section("report", [2]string{"form", fmt.Sprintf("SEV-SNP attestation report, version %d", r.Report.Version)},
		[2]string{"measurement", r.Report.Measurement}, [2]string{"host data", r.Report.HostData},
		[2]string{"report data", r.Report.ReportData}, [2]string{"guest policy", r.Report.Policy + ", debugging " + debug},
		[2]string{"vmpl", fmt.Sprint(r.Report.VMPL)}, [2]string{"guest svn", fmt.Sprint(r.Report.GuestSVN)},
		[2]string{"tcb", "reported " + r.Report.ReportedTCB + ", committed " + r.Report.CommittedTCB + ", at launch " + r.Report.LaunchTCB},
		[2]string{"chip id", r.Report.ChipID}, [2]string{"report id", r.Report.ReportID})
	var chain [][2]string
	for _, c := range r.Chain {
		chain = append(chain, [2]string{"until " + c.NotAfter[:10], c.Subject})
	}
	section("chain", chain...)
	b.WriteString("\nchecks\n")
	for _, c := range r.Checks {
		a.writeEvidenceCheck(&b, c)
	}
	b.WriteString("\nappraisal: not made\n")
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// writeEvidenceCheck writes one line for a check that passed, more where it did
// not.
func (a *app) writeEvidenceCheck(b *strings.Builder, c check) {
	switch c.Status {
	case checkPassed:
		fmt.Fprintf(b, "  %s %s\n", a.mark(true), c.Code)
		return
	case checkFailed:
		fmt.Fprintf(b, "  %s %s: found %s, wanted %s (%s)\n", a.mark(false), c.Code, oneLine(c.Found), oneLine(c.Wanted), oneLine(c.Source))
	default:
		fmt.Fprintf(b, "  - %s: not made\n", c.Code)
	}
	if c.Hint != "" {
		fmt.Fprintf(b, "      %s\n", c.Hint)
	}
}
