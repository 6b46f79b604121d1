// Package store is the Steward's memory: workloads, policies, secrets (sealed),
// decisions, certificates, leases, administrators' tokens, and the audit log, in
// SQLite or in PostgreSQL. Both are equally durable: what was answered is on disk.
//
// Everything that grants something goes through Decide, which records the use of the
// challenge, the decision, its audit record, the lease and the certificate in one
// transaction: nothing may be released before it returned without an error
// (THREATS T15). Every method that writes also writes an audit record in its
// transaction. Rows are chained as steward/audit says; secrets come sealed by
// steward/sealing; the suite in storetest runs on both databases.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
)

// Bounds, in bytes unless said otherwise. Texts are UTF-8 without NUL. What is over
// a bound is refused with ErrInvalid; only what is shown (checks, addresses) is for
// the caller to shorten, with audit.Clip.
const (
	MaxText     = audit.MaxText
	MaxPolicy   = 256 << 10
	MaxManifest = 256 << 10
	MaxSealed   = 80 << 10 // a secret's ciphertext
	MaxDetail   = 256 << 10
	MaxValue    = 1 << 20
	MaxPage     = 1000 // rows a list method gives at most
)

// The errors a caller chooses by. Each may come wrapped with what was found.
var (
	ErrNotFound      = errors.New("store: not found")
	ErrInvalid       = errors.New("store: not storable")                             // a bound, a NUL, an empty key
	ErrConflict      = errors.New("store: changed meanwhile")                        // the version is not the one expected
	ErrChallengeUsed = errors.New("store: the challenge was used, or may have been") // also a clock that stepped back over a purge
	ErrInstances     = errors.New("store: the workload runs as often as it may")
	ErrDowngrade     = errors.New("store: the signer's version is lower than one admitted before")
	ErrEpoch         = errors.New("store: the challenge is from before a backup was restored")
	ErrSuspended     = errors.New("store: a backup was restored, and grants are not confirmed")
	ErrBusy          = errors.New("store: busy")        // too many wait, or the writer lock was not to be had: try again
	ErrUnavailable   = errors.New("store: unavailable") // database gone, disk full. A write may or may not have happened
	ErrNotEmpty      = errors.New("store: not empty")
	ErrBackup        = errors.New("store: the backup is not in its form")
	ErrDurability    = errors.New("store: the database does not keep what it answers")
	ErrTampered      = errors.New("store: a row is not what a Steward wrote")
	// Kinds of ErrUnavailable that a person must do something about.
	ErrDamaged  = fmt.Errorf("%w: the database file is damaged", ErrUnavailable)
	ErrFull     = fmt.Errorf("%w: the disk is full", ErrUnavailable)
	ErrReadOnly = fmt.Errorf("%w: the database cannot be written", ErrUnavailable)
	ErrKey      = fmt.Errorf("%w: the key that authenticates rows cannot be used", ErrUnavailable)
	// ErrUnproven comes with ErrTampered: the row is from before rows were
	// authenticated, or somebody took its MAC away. Unproven says what is to be done.
	ErrUnproven = errors.New("it has no MAC: donjon steward adopt shows such rows and takes those over that the audit log knows")
)

// Store is what the Steward needs of a database. Safe for many goroutines. Times are
// kept to the microsecond, in UTC; zero times stay zero. Lists come in the order
// said, at most MaxPage rows.
type Store interface {
	// Decide records one decision. All of it is on disk when it returns without an
	// error, and none of it is there when it returns one, but for ErrUnavailable,
	// where it cannot be known: then nothing may be released. Concurrent calls share
	// transactions.
	//
	// Errors: ErrChallengeUsed, ErrInstances, ErrDowngrade, ErrEpoch, ErrSuspended
	// (whatever is admitted, while the epoch is not confirmed), ErrConflict (Standing
	// does not hold any more: judge again), ErrBusy, ErrInvalid, ErrUnavailable. None of these is itself recorded: the caller records the
	// refusal with a Decision of its own, without Once and Lease.
	Decide(ctx context.Context, d Decision) (Receipt, error)

	// Decisions lists, newest first.
	Decisions(ctx context.Context, f DecisionFilter) ([]DecisionRow, error)
	// Decision gives one with its audit record and the verdict's JSON. ErrTampered
	// where they do not agree.
	Decision(ctx context.Context, seq uint64) (*DecisionDetail, error)
	// Counts gives how many decisions there were in each span, oldest first; spans
	// without any are left out.
	Counts(ctx context.Context, from, to time.Time, span Span) ([]Count, error)

	PutWorkload(ctx context.Context, w Workload, by Actor) error // new, or another name or manifest for the same digest; FirstSeen stays
	Workload(ctx context.Context, digest string) (*Workload, error)
	Workloads(ctx context.Context, after string, limit int) ([]Workload, error) // by digest

	// Policies and tokens are authenticated (Guard). What Policy, PolicyVersion and
	// TokenByHash give is; else they give ErrTampered. Lists give such rows too, with
	// Doubt: they are for people.

	// PutPolicy writes the next version. Version is the one that the caller saw (0:
	// none) plus one, else ErrConflict.
	PutPolicy(ctx context.Context, p Policy, by Actor) error
	Policy(ctx context.Context, workload string) (*Policy, error) // the newest
	PolicyVersion(ctx context.Context, workload string, version uint64) (*Policy, error)
	Policies(ctx context.Context, workload string, limit int) ([]Policy, error) // its versions, newest first
	Subjects(ctx context.Context, after string, limit int) ([]Policy, error)    // the newest policy of each workload or signer, by Workload
	SignedVersion(ctx context.Context, signer, name string) (uint64, error)     // the highest admitted of a signed workload; 0: none was

	// PutSecret stores the next version: Version is SecretVersion plus one, else
	// ErrConflict (seal again with the right version). The ciphertexts of earlier
	// versions are erased.
	PutSecret(ctx context.Context, s Secret, by Actor) error
	// SecretVersion is the newest version, deleted or not; 0: never set.
	SecretVersion(ctx context.Context, workload, name string) (uint64, error)
	// Secrets are the newest versions of a workload's secrets, without those deleted,
	// by name, with the policies they are confirmed for.
	Secrets(ctx context.Context, workload string) ([]Secret, error)
	AllSecrets(ctx context.Context, after SecretKey, limit int) ([]Secret, error) // without ciphertext, by workload and name
	// ConfirmSecret allows a version's release under a policy that it was not set
	// under. ErrConflict where version is not the newest. Confirmed again, it has the
	// new MAC.
	ConfirmSecret(ctx context.Context, k SecretKey, version uint64, c Confirmation, by Actor) error
	DeleteSecret(ctx context.Context, k SecretKey, by Actor) error
	// StaleSecrets are those sealed or confirmed under another key than keyID, for
	// rotation.
	StaleSecrets(ctx context.Context, keyID string, limit int) ([]Secret, error)
	// RewrapSecret replaces a ciphertext with the same secret under another key, and
	// the MACs of the confirmations in it whose key is another.
	// ErrConflict where version or the old key id is not what is there.
	RewrapSecret(ctx context.Context, s Secret, oldKeyID string, by Actor) error

	// Certificates lists by notAfter, the next to expire first.
	Certificates(ctx context.Context, f CertificateFilter) ([]CertificateRow, error)
	Certificate(ctx context.Context, serial []byte) (*CertificateRow, error)

	Leases(ctx context.Context, workload string, now time.Time) ([]Lease, error) // those that run, by instance
	EndLease(ctx context.Context, workload, instance string, by Actor) error

	PutToken(ctx context.Context, t Token, by Actor) error
	TokenByHash(ctx context.Context, hash [32]byte) (*Token, error) // also one expired or revoked: the caller looks
	Tokens(ctx context.Context) ([]Token, error)
	RevokeToken(ctx context.Context, id string, by Actor) error
	// PutFirstToken is PutToken where there is no token at all, else ErrConflict.
	PutFirstToken(ctx context.Context, t Token, by Actor) error

	// AdoptToken and AdoptPolicy authenticate a row that was listed as Unproven, as it
	// was listed; ErrConflict where it is another now.
	AdoptToken(ctx context.Context, t Token, by Actor) error
	AdoptPolicy(ctx context.Context, p Policy, by Actor) error
	// Reprove authenticates under the current key, whose id is given, at most limit rows
	// that another key did, and says how many there were; 0: none is left. A row that
	// does not hold does not hold afterwards.
	Reprove(ctx context.Context, keyID string, limit int, by Actor) (int, error)

	// Value and PutValue keep small states: the newest collateral seen, for one.
	// Version is that read (0: none) plus one, else ErrConflict: merge and try again.
	// They are not audited, but authenticated: with ErrTampered Value gives the version
	// alone, so that a new value can be put.
	Value(ctx context.Context, key string) (*Value, error)
	PutValue(ctx context.Context, key string, v Value) error

	// Epoch is the current one. The challenge key belongs to an epoch.
	Epoch(ctx context.Context) (Epoch, error)
	OpenEpoch(ctx context.Context, reason string, by Actor) (Epoch, error)
	ConfirmEpoch(ctx context.Context, number uint64, by Actor) error

	// Log names the audit log, Head is its end. Append adds a record (Kind, Text,
	// Name, Workload, Version) that nothing else writes: a note, who signed in or out.
	Log() audit.LogID
	Head(ctx context.Context) (Receipt, error)
	Append(ctx context.Context, r audit.Record, by Actor) (Receipt, error)
	// AuditRecords gives the records from number from on, oldest first; for one that was
	// purged what is left of it (audit.IsStub).
	AuditRecords(ctx context.Context, from uint64, limit int) ([][]byte, error)
	// Records calls f for each, all from one moment, and gives the end of the log at that
	// moment.
	Records(ctx context.Context, f func(record []byte) error) (Receipt, error)
	// PutHead keeps a signed head beside the log, LatestHead gives it back
	// (audit.Head's bytes). The store does not verify it.
	PutHead(ctx context.Context, seq uint64, head []byte) error
	LatestHead(ctx context.Context) ([]byte, error)

	// Purge forgets used challenges and leases that expired before the time given
	// (challenges of a clock that steps back over it are refused from then on), at
	// most limit rows, and says how many it forgot.
	Purge(ctx context.Context, before time.Time, limit int) (int, error)

	// PurgeDecisions forgets decisions: rows, certificates, and of each record of the log
	// all but its hash. It goes through the log in its order, ends at the first decision
	// that is not from before, and writes a record that says what it took. It gives how
	// many decisions that were.
	PurgeDecisions(ctx context.Context, p DecisionPurge, by Actor) (int, error)

	// Backup writes everything, from one moment, in a form that both databases
	// restore. It holds secrets as they are stored: sealed. Restore reads it into an
	// empty store (else ErrNotEmpty), verifies the audit chain, and opens an epoch.
	Backup(ctx context.Context, w io.Writer) error
	Restore(ctx context.Context, r io.Reader, by Actor) (Epoch, error)

	Stats(ctx context.Context) (Stats, error)
	Ping(ctx context.Context) error // can it be read and written
	Close() error
}

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
	Unchecked = "unchecked" // the key cannot be had
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
