// Package audit is the Steward's log of what it decided: records in a hash chain,
// heads signed with a key that the database does not hold, and the verification of
// an export without the Steward. docs/steward-audit.md has the format in words.
//
// The rows are kept by steward/store; what a decision looks at is steward/enrol's.
package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Bounds of a record, in bytes unless said otherwise.
const (
	MaxRecord = 64 << 10
	MaxText   = 1024 // every text
	MaxChecks = 256  // checks in a record
)

// Kind says what a record is about.
type Kind string

// The kinds. A reader that meets another one still verifies the chain.
const (
	Genesis       Kind = "genesis"         // the first record: a new log
	Decision      Kind = "decision"        // a request was judged
	Workload      Kind = "workload"        // a workload was made known, or changed
	Policy        Kind = "policy"          // a policy version was written
	SecretSet     Kind = "secret-set"      // a secret version was stored
	SecretConfirm Kind = "secret-confirm"  // a secret may be released under another policy
	SecretDelete  Kind = "secret-delete"   // a secret was deleted
	SecretRewrap  Kind = "secret-rewrap"   // sealed again under another key
	TokenCreate   Kind = "token-create"    // an administrator's token was made
	TokenRevoke   Kind = "token-revoke"    // and taken back
	LeaseEnd      Kind = "lease-end"       // an administrator ended an instance's lease
	EpochOpen     Kind = "epoch-open"      // a backup was restored: grants are suspended
	EpochConfirm  Kind = "epoch-confirm"   // grants go on
	SignIn        Kind = "sign-in"         // an administrator signed in to the pages, Who; Text is the client
	SignInRefused Kind = "sign-in-refused" // somebody could not; Who is the client, Version how many since the record before
	SignOut       Kind = "sign-out"
	Purge         Kind = "purge" // records of decisions were taken, Purged says which; Text why
	Note          Kind = "note"  // anything else, in Text: CA rotation, start of a service
)

// Digest is a SHA-256. All zero: none.
type Digest [32]byte

// IsZero says that there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// A Check is a check of the verdict as the log keeps it. Found and Wanted may hold
// text from evidence; whoever prints them escapes them.
type Check struct {
	Code     string         `cbor:"1,keyasint"`
	Status   verdict.Status `cbor:"2,keyasint"`
	Found    string         `cbor:"3,keyasint,omitempty"`
	Wanted   string         `cbor:"4,keyasint,omitempty"`
	Waived   string         `cbor:"5,keyasint,omitempty"`
	Informal bool           `cbor:"6,keyasint,omitempty"`
}

// Checks shortens a verdict's checks to what the log keeps: texts to MaxText bytes,
// the number to MaxChecks. What was cut is in the detail, which the record names by
// its digest.
func Checks(cs []verdict.Check) []Check {
	out := make([]Check, 0, min(len(cs), MaxChecks))
	for _, c := range cs[:min(len(cs), MaxChecks)] {
		out = append(out, Check{
			Code: Clip(string(c.Code)), Status: c.Status, Found: Clip(c.Found), Wanted: Clip(c.Wanted),
			Waived: Clip(c.Waived), Informal: c.Informal,
		})
	}
	return out
}

// Clip makes any text fit a record: valid UTF-8, no NUL, at most MaxText bytes.
func Clip(s string) string { return ClipTo(s, MaxText) }

// ClipTo is Clip with a bound of n bytes.
func ClipTo(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		// Not in the middle of a character.
		for i := 0; i < utf8.UTFMax && len(s) > 0; i++ {
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size > 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	if !utf8.ValidString(s) || bytes.IndexByte([]byte(s), 0) >= 0 {
		s = string(bytes.ReplaceAll(bytes.ToValidUTF8([]byte(s), []byte("?")), []byte{0}, []byte("?")))
		if len(s) > n {
			return ClipTo(s, n)
		}
	}
	return s
}

// Record is one row of the log. Which fields mean something depends on Kind; those
// that do not are empty and are not encoded. Seq, Prev, Time and Epoch are set by
// the store.
type Record struct {
	Seq   uint64 `cbor:"1,keyasint"` // from 1
	Time  int64  `cbor:"2,keyasint"` // microseconds since 1970, UTC, of the clock of whoever decided
	Epoch uint64 `cbor:"3,keyasint"` // the store's: restoring a backup opens a new one
	Kind  Kind   `cbor:"4,keyasint"`
	Prev  Digest `cbor:"5,keyasint"` // the previous record's Hash; of the first: Start

	Who  string `cbor:"6,keyasint,omitempty"` // the administrator's token, or the client's address
	Text string `cbor:"7,keyasint,omitempty"`

	Workload string `cbor:"8,keyasint,omitempty"`  // the workload digest, sha256:<hex>
	Name     string `cbor:"9,keyasint,omitempty"`  // of the secret, workload or token
	Version  uint64 `cbor:"10,keyasint,omitempty"` // of the secret or policy that was written

	// Of a decision:
	Request       string          `cbor:"11,keyasint,omitempty"` // request id
	Instance      string          `cbor:"12,keyasint,omitempty"` // the Keep's, hexadecimal
	TEE           string          `cbor:"13,keyasint,omitempty"`
	Simulated     bool            `cbor:"14,keyasint,omitempty"`
	Challenge     Digest          `cbor:"15,keyasint,omitzero"` // of the challenge
	Evidence      Digest          `cbor:"16,keyasint,omitzero"` // of the evidence
	Claims        Digest          `cbor:"17,keyasint,omitzero"` // of the claims, canonical JSON
	PolicyVersion uint64          `cbor:"18,keyasint,omitempty"`
	Policy        Digest          `cbor:"19,keyasint,omitzero"` // of the policy's text; also of a policy record
	Outcome       verdict.Outcome `cbor:"20,keyasint,omitempty"`
	Code          string          `cbor:"21,keyasint,omitempty"` // of the refusal, docs/steward-protocol.md
	Checks        []Check         `cbor:"22,keyasint,omitempty"`
	Detail        Digest          `cbor:"23,keyasint,omitzero"`  // of the verdict's JSON that the store keeps beside
	Serial        []byte          `cbor:"24,keyasint,omitempty"` // of the certificate
	Secrets       []string        `cbor:"25,keyasint,omitempty"` // released, name@version
	Signer        string          `cbor:"26,keyasint,omitempty"` // key id, of the signature that was verified, with
	SignedName    string          `cbor:"27,keyasint,omitempty"` // the workload's name in it, and
	SignedVersion uint64          `cbor:"28,keyasint,omitempty"` // its version

	Purged *Purged `cbor:"29,keyasint,omitempty"` // of a purge

	// Expires is of a token that was made: when it ends, as Time; 0: never. nil: the record
	// is from before the log said so.
	Expires *int64 `cbor:"30,keyasint,omitempty"`
}

// At is the record's time.
func (r *Record) At() time.Time { return time.UnixMicro(r.Time).UTC() }

// The domain separation of what is hashed and signed.
const (
	startLabel  = "donjon steward audit start/1\x00"
	recordLabel = "donjon steward audit record/1\x00"
)

// LogID names one log, random. It is in every head and decides the first Prev.
type LogID [16]byte

// Start is the first record's Prev.
func Start(log LogID) Digest {
	return sha256.Sum256(append([]byte(startLabel), log[:]...))
}

// Hash is what the next record names as Prev, and what a head signs: SHA-256 over a
// label and the record's bytes.
func Hash(record []byte) Digest {
	h := sha256.New()
	h.Write([]byte(recordLabel))
	h.Write(record)
	return Digest(h.Sum(nil))
}

// encoding is built once, from constants; it holds no state.
var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   4,
		MaxArrayElements:  1024,
		MaxMapPairs:       64,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

// ErrRecord is a record that is not in its form.
var ErrRecord = errors.New("audit: a record is not in its form")

// Encode gives the record's bytes, deterministic CBOR (RFC 8949, 4.2.1).
func (r *Record) Encode() ([]byte, error) {
	if err := r.valid(); err != nil {
		return nil, err
	}
	b, err := encoding.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: found %d bytes, at most %d", ErrRecord, len(b), MaxRecord)
	}
	return b, nil
}

// Parse reads a record. Bytes that Encode would not give are refused, so a record
// has one form only.
func Parse(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: found %d bytes, at most %d", ErrRecord, len(b), MaxRecord)
	}
	var r Record
	if err := decoding.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	again, err := r.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, again) {
		return nil, fmt.Errorf("%w: its CBOR is not deterministic", ErrRecord)
	}
	return &r, nil
}

func (r *Record) valid() error {
	if r.Seq == 0 {
		return fmt.Errorf("%w: found number 0, they begin at 1", ErrRecord)
	}
	if r.Kind == "" {
		return fmt.Errorf("%w: it has no kind", ErrRecord)
	}
	if len(r.Checks) > MaxChecks || len(r.Secrets) > MaxChecks {
		return fmt.Errorf("%w: found %d checks and %d secrets, at most %d", ErrRecord, len(r.Checks), len(r.Secrets), MaxChecks)
	}
	if (r.Kind == Purge) != (r.Purged != nil) || r.Purged != nil && len(r.Purged.Signature) > 128 {
		return fmt.Errorf("%w: found a record of the kind %s, with or without what was purged", ErrRecord, r.Kind)
	}
	if r.Expires != nil && r.Kind != TokenCreate {
		return fmt.Errorf("%w: found a token's end in a record of the kind %s", ErrRecord, r.Kind)
	}
	if len(r.Serial) > 64 {
		return fmt.Errorf("%w: found a serial number of %d bytes, at most 64", ErrRecord, len(r.Serial))
	}
	texts := []string{string(r.Kind), r.Who, r.Text, r.Workload, r.Name, r.Request, r.Instance, r.TEE, string(r.Outcome), r.Code, r.Signer, r.SignedName}
	texts = append(texts, r.Secrets...)
	for _, c := range r.Checks {
		texts = append(texts, c.Code, string(c.Status), c.Found, c.Wanted, c.Waived)
	}
	for _, t := range texts {
		if len(t) > MaxText {
			return fmt.Errorf("%w: found a text of %d bytes, at most %d", ErrRecord, len(t), MaxText)
		}
		if !utf8.ValidString(t) {
			return fmt.Errorf("%w: found a text that is not UTF-8", ErrRecord)
		}
	}
	return nil
}
