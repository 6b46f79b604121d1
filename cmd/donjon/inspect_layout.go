//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/dcap"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/layout"
	"github.com/donjon-tee/donjon/attest/nitro"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/attest/tpm"
)

// layouts lays out every structure of the evidence. One that does not parse is left
// out: the checks say what is wrong with it.
func layouts(e *envelope.Envelope) []part {
	var out []part
	add := func(name string, b []byte, f func([]byte) ([]layout.Field, error)) {
		if b == nil {
			return
		}
		if fields, err := f(b); err == nil {
			out = append(out, part{Name: name, Fields: fields, original: b})
		}
	}
	switch e.Kind {
	case envelope.SNP:
		add("SEV-SNP attestation report", e.Evidence, snp.Layout)
	case envelope.DCAP:
		add("DCAP quote", e.Evidence, dcap.Layout)
	case envelope.Nitro:
		add("Nitro attestation document", e.Evidence, nitro.Layout)
	case envelope.TPM:
		add("TPMS_ATTEST", e.TPMEvidence.Message, tpm.LayoutAttest)
		if c := e.TPMEvidence.Composite; c != nil {
			add("HCL report", c.Raw, tpm.LayoutHCL)
			add("SEV-SNP attestation report", c.Report, snp.Layout)
		}
	}
	return out
}

// otherLayout lays out what is no evidence and no collateral.
func otherLayout(b []byte) ([]layout.Field, string, bool) {
	if fields, err := tpm.LayoutLog(b); err == nil {
		return fields, "event log", true
	}
	rows, err := snp.ParseCertTable(b)
	if err != nil || !slices.ContainsFunc(rows, func(r snp.CertEntry) bool { _, known := r.GUID.Name(); return known }) {
		return nil, "", false // anything may look like a table of nothing that is known
	}
	fields, err := snp.TableLayout(b)
	return fields, "certificate table", err == nil
}

// items lists collateral, one line each.
func items(set *collateral.Set, at time.Time) []string {
	b := &collateral.Bundle{}
	b.Add(set, at)
	var out []string
	for _, l := range b.Summary(at) {
		s := string(l.Kind)
		for _, x := range []string{l.Subject, l.TEE, l.FMSPC} {
			if x != "" {
				s += " " + x
			}
		}
		if l.Issuer != "" && l.Issuer != l.Subject {
			s += ", by " + l.Issuer
		}
		if l.Number != "" {
			s += ", number " + l.Number
		}
		if l.Eval != 0 {
			s += fmt.Sprintf(", evaluation number %d", l.Eval)
		}
		s += ", " + l.From.Format(time.DateOnly) + " to " + l.Until.Format(time.DateOnly)
		switch {
		case l.Expired:
			s += " (ended)"
		case l.Future:
			s += " (not begun)"
		}
		out = append(out, s)
	}
	return out
}
