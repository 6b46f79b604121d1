// Package synthetic makes attestation evidence of its own for tests: vendor
// hierarchies, reports and collateral that nobody has published, such as revoked
// endorsement keys, wrong signers and levels that no platform has. Every name in it
// says SYNTHETIC, and none of its roots is a vendor's: a verifier accepts it only
// where the caller names the root.
//
// It is exported so that other verifiers can be tested with it. Keys are made anew
// for each hierarchy, from the randomness that the caller gives.
package synthetic

import (
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// A Vector is one piece of evidence with a known verdict.
type Vector struct {
	Name       string
	Evidence   []byte
	Collateral *collateral.Set
	Roots      []pki.Hash // simulated roots to name; without them nothing here is genuine
	At         time.Time
	// Code is the check that must come out as Status. For a negative vector that
	// check decides; Code "" and verdict.Passed: every check passes.
	Code   verdict.Code
	Status verdict.Status
}
