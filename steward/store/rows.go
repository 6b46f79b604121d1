package store

import (
	"errors"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
)

// Actor is who changes something, and when.
type Actor struct {
	Who string // the token's id, "cli", …
	At  time.Time
}

// OnceKind says of what a Once is the digest.
type OnceKind string

// The kinds of what is accepted once.
const (
	OnceChallenge OnceKind = "challenge"
	OnceEvidence  OnceKind = "evidence" // Enarx requests have no challenge
)

// Once is something that is accepted one time.
type Once struct {
	Kind    OnceKind
	Digest  [32]byte  // SHA-256
	Expires time.Time // after it, it may be forgotten; zero: never
}

// LeaseRequest takes one of a workload's (or of a signer's workload's) places.
type LeaseRequest struct {
	Subject  string // whose; "": the record's workload
	Instance string
	Until    time.Time // no earlier than the certificate's notAfter
	Max      int       // places, at least 1
}

// Standing is what a decision rests on and must be so still when it is written: what
// an administrator was told is gone is not released to a request that was on its way.
type Standing struct {
	Subject string            // whose policy and secrets; "": the record's workload
	Policy  uint64            // the newest version of its policy
	Secrets map[string]uint64 // by name, the newest versions, not deleted; at most 64
	// Alone says that the record's workload has no policy of its own, which would go
	// before the Subject's.
	Alone bool
}

// SignerMark is the version of a signed workload (THREATS T12). Admitted, it is the
// lowest that is admitted from then on.
type SignerMark struct {
	Signer  string // key id
	Name    string
	Version uint64
}

// NewCertificate is a certificate that will be issued once the decision is on disk.
type NewCertificate struct {
	Serial    []byte // at most 20
	CA        string // which of the Steward's CAs
	NotBefore time.Time
	NotAfter  time.Time
}

// Decision is one request judged. The record's Seq, Prev, Time and Epoch are set by
// the store: Time and Epoch from At and Epoch. Detail's digest must be its Detail.
type Decision struct {
	At    time.Time
	Epoch uint64 // under whose challenge key it was judged

	Once        []Once // at most 4
	Lease       *LeaseRequest
	Signer      *SignerMark     // only with the outcome admitted; the record gets it too
	Standing    *Standing       // nil: nothing is compared
	Certificate *NewCertificate // only with the outcome admitted
	Record      audit.Record    // Kind is audit.Decision
	Detail      []byte          // the verdict's JSON, for people; nil: none

	// For lists and the fleet's page, at most MaxText each.
	TCBStatus string
	Platform  string   // chip id or the like
	Exposed   []string // advisories the platform is exposed to, at most 64
}

// Receipt is where a record stands in the log: what a head signs.
type Receipt struct {
	Seq   uint64
	Hash  audit.Digest
	Epoch uint64
}

// DecisionFilter chooses decisions. Zero fields do not choose.
type DecisionFilter struct {
	Before    uint64 // sequence number, exclusive: the page's end
	Workload  string
	Instance  string
	TEE       string
	Outcome   verdict.Outcome
	From, To  time.Time // From inclusive, To exclusive
	Simulated *bool
	Limit     int // 1 to MaxPage; 0: 100
}

// DecisionRow is a decision in a list.
type DecisionRow struct {
	Seq       uint64
	At        time.Time
	Workload  string
	Instance  string
	TEE       string
	Simulated bool
	Outcome   verdict.Outcome
	Code      string
	TCBStatus string
	Platform  string
	Exposed   []string
	Policy    uint64 // version
	Request   string
	Who       string
}

// DecisionDetail is all of a decision.
type DecisionDetail struct {
	DecisionRow
	Record audit.Record
	Raw    []byte // the record's bytes
	Hash   audit.Digest
	Detail []byte
}

// Span is the width of a Count.
type Span time.Duration

// The spans that are counted.
const (
	Hour = Span(time.Hour)
	Day  = Span(24 * time.Hour)
)

// Count is a number of decisions.
type Count struct {
	Start   time.Time
	TEE     string
	Outcome verdict.Outcome
	N       uint64
}

// Workload is a workload that was made known.
type Workload struct {
	Digest    string // sha256:<hex>
	Name      string
	FirstSeen time.Time
	Manifest  []byte // nil where only the digest is known
}

// Policy is one version of what a workload (or a signer's workloads) must prove.
type Policy struct {
	Workload string // the workload digest, or signer:<key id>/<name>
	Version  uint64
	Text     []byte
	Digest   audit.Digest // of Text; set by the store
	At       time.Time    // set from the Actor, with By
	By       string
	Doubt    string // of lists: Unproven, Forged, Unchecked; "": it is what a Steward wrote
}

// What is in doubt about a row.
const (
	Unproven  = "unproven"  // no MAC: from before rows were authenticated
	Forged    = "forged"    // the MAC does not hold
	Unchecked = "unchecked" // the key cannot be had, or is not here
)

// SecretKey names a secret.
type SecretKey struct{ Workload, Name string }

// Secret is one version of a secret, sealed.
type Secret struct {
	SecretKey
	Version   uint64
	Sealed    []byte // nil where deleted, replaced, or not asked for
	KeyID     string
	Policy    audit.Digest   // it was set under
	Confirmed []Confirmation // what a holder of the secret scope confirmed since
	At        time.Time
	By        string
}

// Confirmation lets a version of a secret be released under a further policy. The
// store keeps the MAC and does not know the key: whoever can write the database cannot
// make one.
type Confirmation struct {
	Policy audit.Digest
	MAC    []byte // empty: it held under no key when the sealing key was rotated
	KeyID  string // of the sealing key that MAC's key was derived from
}

// Releasable says whether this version may be released under a policy (THREATS T8):
// the one it was set under, which opening it proves, or one with a confirmation that
// holds. With holds nil, none does.
func (s *Secret) Releasable(policy audit.Digest, holds func(Secret, Confirmation) error) bool {
	ok, _ := s.ReleasableBy(policy, holds)
	return ok
}

// ReleasableBy is Releasable that also says why a confirmation for the policy does not
// hold; nil where there is none for it.
func (s *Secret) ReleasableBy(policy audit.Digest, holds func(Secret, Confirmation) error) (bool, error) {
	if policy.IsZero() {
		return false, nil
	}
	if s.Policy == policy {
		return true, nil
	}
	for _, c := range s.Confirmed {
		if c.Policy != policy { // it is there once
			continue
		}
		if holds == nil {
			return false, errors.New("no key to verify confirmations with")
		}
		err := holds(*s, c)
		return err == nil, err
	}
	return false, nil
}

// CertificateFilter chooses certificates. Zero fields do not choose.
type CertificateFilter struct {
	Workload string
	Instance string
	From, To time.Time // of notAfter: From inclusive, To exclusive. [now, now+span): about to expire; From now: the fleet
	// Newest leaves out those that the same instance of the workload has a newer one
	// of.
	Newest bool
	After  []byte // serial number: the page's end, with From set to its notAfter
	Limit  int    // 1 to MaxPage; 0: 100
}

// CertificateRow is a certificate with what its decision says.
type CertificateRow struct {
	Serial    []byte
	CA        string
	NotBefore time.Time
	NotAfter  time.Time
	Seq       uint64 // of the decision
	Workload  string
	Instance  string
	TEE       string
	Simulated bool
	TCBStatus string
	Platform  string
	Exposed   []string
}

// Lease is a place taken.
type Lease struct {
	Workload string
	Instance string
	Until    time.Time
	Seq      uint64 // of the decision that gave or renewed it
}

// Scope is what an administrator's token may do.
type Scope string

// The scopes. None holds another.
const (
	ScopeRead   Scope = "read"
	ScopePolicy Scope = "policy"
	ScopeSecret Scope = "secret"
	ScopeAudit  Scope = "audit"
	ScopeAdmin  Scope = "admin"
)

// Token is an administrator's token: the store knows its SHA-256 only.
type Token struct {
	ID      string
	Name    string
	Hash    [32]byte
	Scopes  []Scope // at least one
	Created time.Time
	By      string
	Expires time.Time // zero: does not
	Revoked time.Time // zero: is not
	Doubt   string    // of lists: Unproven, Forged, Unchecked; "": it is what a Steward wrote
}

// Has says whether the token holds a scope now.
func (t *Token) Has(s Scope, now time.Time) bool {
	if t.Doubt != "" || !t.Revoked.IsZero() || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return false
	}
	for _, have := range t.Scopes {
		if have == s {
			return true
		}
	}
	return false
}

// Value is a small state.
type Value struct {
	Data    []byte
	Version uint64
}

// Epoch is a span of the store's life, ended by restoring a backup.
type Epoch struct {
	Number    uint64 // from 1
	Opened    time.Time
	Reason    string
	Confirmed bool // grants are given; the first epoch is confirmed from its start
}

// Stats is for metrics and readiness.
type Stats struct {
	Database  string // sqlite or postgresql
	Version   string // its own
	Schema    int64
	Bytes     int64 // on disk
	Decisions uint64
	Used      uint64 // challenges remembered
	Waiting   int    // Decide calls that wait for their transaction
}
