// Package format is what every format's verifier (snp, dcap, tpm, nitro) is given
// and what it gives: evidence of one form in, claims and checks out. Policy is not
// asked here; package attest puts the two together.
package format

import (
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Options are what a verifier may know beside the evidence.
type Options struct {
	// At is the time of judging. It is the caller's word; the zero time is an error of
	// the caller's, and every certificate is then not yet valid.
	At time.Time
	// Collateral is vendor data at hand, stapled to the evidence or not. nil: none.
	// Nothing in it is a trust anchor.
	Collateral *collateral.Set
	// SimulatedRoots names roots, by SHA-256 of their DER, that are no vendor's and
	// may vouch nevertheless. Claims under one say so.
	SimulatedRoots []pki.Hash
	// MaxAge, if above 0, shortens how long collateral counts as current.
	MaxAge time.Duration
}

// Named says whether h is one of the simulated roots.
func (o *Options) Named(h pki.Hash) bool {
	for _, r := range o.SimulatedRoots {
		if r == h {
			return true
		}
	}
	return false
}

// Result is what a verifier found. Checks always holds at least the check form;
// Claims is nil where the bytes do not parse, and may be relied on only where no
// check of the kind verdict.Genuineness failed.
type Result struct {
	Claims *claims.Claims
	Checks []verdict.Check
}

// Add appends checks.
func (r *Result) Add(c ...verdict.Check) { r.Checks = append(r.Checks, c...) }
