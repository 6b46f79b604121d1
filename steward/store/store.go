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
	// ErrKeyGone comes with ErrTampered: the row says that a key authenticated it which is
	// not here. A Steward may have written it, or anybody.
	ErrKeyGone = errors.New("the key that it is to be authenticated under is not here")
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

	// PutPolicy writes the next version. Version is NextPolicy's, else ErrConflict. Rows
	// whose MAC does not hold and that nothing leads to, which NextPolicy does not count,
	// are removed, and the log says so.
	PutPolicy(ctx context.Context, p Policy, by Actor) error
	// NextPolicy is the version that follows the newest one of a workload that is proven,
	// and those that follow that without a gap. A row further on is no Steward's.
	NextPolicy(ctx context.Context, workload string) (uint64, error)
	Policy(ctx context.Context, workload string) (*Policy, error) // the newest
	PolicyVersion(ctx context.Context, workload string, version uint64) (*Policy, error)
	Policies(ctx context.Context, workload string, limit int) ([]Policy, error) // its versions, newest first
	Subjects(ctx context.Context, after string, limit int) ([]Policy, error)    // the newest policy of each workload or signer, by Workload
	SignedVersion(ctx context.Context, signer, name string) (uint64, error)     // the highest admitted of a signed workload; 0: none was

	// PutSecret stores the next version: Version is SecretVersion plus one, else
	// ErrConflict (seal again with the right version). The ciphertexts of earlier
	// versions are erased. Rows behind a gap in the versions, which SecretVersion does not
	// count, are removed: no Steward wrote them.
	PutSecret(ctx context.Context, s Secret, by Actor) error
	// SecretVersion is the newest version, deleted or not, up to the first gap; 0: never set.
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
	// alone, so that a new value can be put. Where none can follow, it gives 0.
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
