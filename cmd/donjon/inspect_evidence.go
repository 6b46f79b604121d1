//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/layout"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
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

// inspection is the JSON of inspect for what is no workload; docs/evidence.md has it.
type inspection struct {
	Kind string `json:"kind"` // evidence, collateral, event log
	Form string `json:"form"`
	// RootKind is vendor, simulated (the one that was named) or unknown; absent where no
	// chain was seen to hold up to a root.
	Root      string            `json:"root,omitempty"`
	RootKind  string            `json:"root_kind,omitempty"`
	Appraisal string            `json:"appraisal,omitempty"` // always "not made"
	Report    map[string]string `json:"report,omitempty"`    // measurement, host_data, report_data
	Claims    *claims.Claims    `json:"claims,omitempty"`
	Parts     []part            `json:"parts"`
	Items     []string          `json:"items,omitempty"` // collateral, stapled or the file itself
	Aside     []string          `json:"aside,omitempty"` // seen and not looked at
	Checks    []verdict.Check   `json:"checks,omitempty"`
}

// part is one structure, field by field. Offsets are from the start of the file where
// the structure lies in it as it is, else from its own start.
type part struct {
	Name     string         `json:"name"`
	InFile   bool           `json:"offsets_in_file"`
	Fields   []layout.Field `json:"fields"`
	original []byte
}

// inspectFile shows evidence, collateral or an event log. The status is 10 where it is
// malformed or evidence is not genuine as far as the file itself can tell.
func inspectFile(a *app, name string, data []byte, o evidenceOptions) error {
	nonce, err := nonceFlag(o.nonce)
	if err != nil {
		return err
	}
	e, openErr := envelope.Open(data)
	if openErr != nil {
		if r, ok := inspectOther(name, data); ok {
			return a.printInspection(r, o.asJSON)
		}
		if o.asJSON {
			r := inspection{Kind: "unknown", Form: "unknown", Parts: []part{}, Checks: []verdict.Check{verdict.Fail(verdict.Form, openErr.Error(), "evidence, collateral or an event log")}}
			if err := a.printJSON(r); err != nil {
				return err
			}
		}
		return fail(statusNotGenuine, fmt.Errorf("neither a workload nor evidence nor collateral: %w", openErr))
	}
	options := attest.Options{At: o.at, Nonce: nonce, PlatformOnly: true}
	if options.At.IsZero() {
		options.At = time.Now()
	}
	if options.SimulatedRoots, err = a.namedRoots(o.root); err != nil {
		return err
	}
	var v attest.Verifier
	verified := v.Verify(data, options)
	r := inspection{Kind: "evidence", Form: e.Form, Appraisal: "not made", Claims: verified.Claims, Aside: e.Aside, Parts: parts(e, data)}
	for _, c := range verified.Checks {
		// What a policy would say, and for which use it is, are verify's business.
		if info, ok := verdict.Lookup(c.Code); ok && info.Kind == verdict.Genuineness && c.Code != verdict.Purpose {
			r.Checks = append(r.Checks, c)
		}
	}
	if c := verified.Claims; c != nil {
		r.Root, r.RootKind = c.Root.SHA256.String(), rootKind(r.Checks, c)
		r.Report = map[string]string{"report_data": c.ReportData.String(), "host_data": c.HostData.String(), "measurement": measurement(c)}
	}
	if e.Stapled != nil {
		r.Items = items(e.Stapled, options.At)
	}
	if err := a.printInspection(r, o.asJSON); err != nil {
		return err
	}
	if verdict.Conclude(r.Checks) == verdict.NotGenuine {
		return verdictStatus(&verdict.Verdict{Outcome: verdict.NotGenuine, Exit: statusNotGenuine, Checks: r.Checks})
	}
	return nil
}

func rootKind(checks []verdict.Check, c *claims.Claims) string {
	trusted := false
	for _, k := range checks {
		switch {
		case k.Code == verdict.TrustedRoot && k.Status == verdict.Failed:
			return "unknown"
		case k.Code == verdict.TrustedRoot:
			trusted = k.Status == verdict.Passed
		case k.Code == verdict.Chain && k.Status == verdict.Failed:
			return ""
		}
	}
	switch {
	case !trusted:
		return ""
	case c.Root.Simulated:
		return "simulated"
	}
	return "vendor"
}

func measurement(c *claims.Claims) string {
	switch {
	case c.SNP != nil:
		return c.SNP.LaunchDigest.String()
	case c.TDX != nil:
		return c.TDX.MRTD.String()
	case c.SGX != nil:
		return c.SGX.MRENCLAVE.String()
	case c.Nitro != nil:
		return c.Nitro.PCRs[0].String()
	}
	return ""
}

// inspectOther shows what is no evidence: collateral or an event log.
func inspectOther(name string, data []byte) (inspection, bool) {
	if fields, what, ok := otherLayout(data); ok {
		return inspection{Kind: what, Form: what, Parts: []part{{Name: what, InFile: true, Fields: fields}}}, true
	}
	set := &collateral.Set{}
	if err := set.Add(name, data); err != nil || len(set.Certificates)+len(set.Lists)+len(set.TCBInfos)+len(set.QEIdentities) == 0 {
		return inspection{}, false
	}
	return inspection{Kind: "collateral", Form: "collateral", Parts: []part{}, Items: items(set, time.Now())}, true
}

// parts lays the structures of the evidence out.
func parts(e *envelope.Envelope, file []byte) []part {
	out := []part{}
	for _, p := range layouts(e) {
		if at := bytes.Index(file, p.original); at >= 0 && len(p.original) > 0 && bytes.LastIndex(file, p.original) == at {
			p.InFile, p.Fields = true, layout.Shift(p.Fields, at, "")
		}
		out = append(out, p)
	}
	return out
}

// namedRoots is the simulated root to hold evidence against: the one named, else this
// machine's own, if it has made one.
func (a *app) namedRoots(named string) ([]pki.Hash, error) {
	if named == "" {
		state, err := a.stateDir()
		if err != nil {
			return nil, nil // this user has no home folder
		}
		s, err := silicon.Read(filepath.Join(state, "silicon"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fail(statusFailed, err)
		}
		named = s.RootFingerprint()
	}
	if b, err := hex.DecodeString(named); err == nil && len(b) == sha256.Size {
		return []pki.Hash{pki.Hash(b)}, nil
	}
	b, err := os.ReadFile(named)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failHint(statusNotFound, "a root is named by the file of its certificate, or by 64 hexadecimal digits", fmt.Errorf("root %s: not found", named))
	}
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("root: %w", err))
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	if _, err := x509.ParseCertificate(b); err != nil {
		return nil, fail(statusUsage, fmt.Errorf("root %s: no certificate: %w", named, err))
	}
	return []pki.Hash{sha256.Sum256(b)}, nil
}

func (a *app) printInspection(r inspection, asJSON bool) error {
	if asJSON {
		return a.printJSON(r)
	}
	var b strings.Builder
	switch r.RootKind {
	case "simulated":
		fmt.Fprintf(&b, "SIMULATED: chains to root %s made on a machine, not by a vendor\n", r.Root)
	case "unknown":
		fmt.Fprintf(&b, "UNKNOWN ROOT: names root %s, which is not the one wanted\n", r.Root)
	}
	fmt.Fprintf(&b, "%s: %s\n", r.Kind, oneLine(r.Form))
	for _, x := range r.Aside {
		fmt.Fprintf(&b, "not looked at: %s\n", oneLine(x))
	}
	if c := r.Claims; c != nil && c.Keep != nil {
		k := c.Keep
		fmt.Fprintf(&b, "\nclaims\n")
		for _, x := range [][2]string{{"purpose", k.Purpose}, {"workload digest", k.WorkloadDigest.String()}, {"public key hash", c.Key.String()},
			{"nonce", k.Nonce.String()}, {"instance", k.Instance.String()}, {"role", k.Role}, {"tls exporter", k.Exporter.String()}} {
			if x[1] != "" {
				fmt.Fprintf(&b, "  %-16s %s\n", x[0], oneLine(x[1]))
			}
		}
	}
	for _, p := range r.Parts {
		where := "offsets in the file"
		if !p.InFile {
			where = "offsets from its start"
		}
		fmt.Fprintf(&b, "\n%s (%s)\n", oneLine(p.Name), where)
		for _, f := range p.Fields {
			fmt.Fprintf(&b, "  %6d %5d  %-22s %s", f.Offset, f.Size, oneLine(f.Name), oneLine(f.Value))
			if f.Note != "" {
				fmt.Fprintf(&b, "  (%s)", oneLine(f.Note))
			}
			b.WriteByte('\n')
		}
	}
	if len(r.Items) > 0 {
		fmt.Fprintf(&b, "\ncertificates, lists and collateral\n")
		for _, i := range r.Items {
			fmt.Fprintf(&b, "  %s\n", oneLine(i))
		}
	}
	if r.Kind == "evidence" {
		b.WriteString("\nchecks\n")
		for _, c := range r.Checks {
			b.WriteString(c.Line(a.verdictMark))
		}
		b.WriteString("\nappraisal: not made (donjon verify judges evidence)\n")
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
