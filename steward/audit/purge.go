package audit

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// What a purge leaves of a record is a Stub: its number and its hash, so that the
// chain still holds together. A record of the kind Purge, signed by the Steward, says
// which records were taken: no stub stands without one, and whoever can write the
// database alone can make none.

// Stub is what is left of a record.
type Stub struct {
	Seq  uint64
	Hash Digest // of the record that was there
	Last bool   // it is the last one of its purge
}

type stubForm struct {
	_    struct{} `cbor:",toarray"`
	Form uint64
	Seq  uint64
	Hash Digest
	Last bool
}

// MaxStub bounds a stub's bytes.
const MaxStub = 64

// IsStub says whether bytes that stand in a record's place are a stub: an array, which
// no record is.
func IsStub(b []byte) bool { return len(b) > 0 && b[0]>>5 == 4 }

// Encode gives the stub's bytes, deterministic CBOR.
func (s *Stub) Encode() ([]byte, error) {
	b, err := encoding.Marshal(stubForm{Form: 1, Seq: s.Seq, Hash: s.Hash, Last: s.Last})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return b, nil
}

// ParseStub reads a stub.
func ParseStub(b []byte) (*Stub, error) {
	if len(b) > MaxStub {
		return nil, fmt.Errorf("%w: found a stub of %d bytes, at most %d", ErrRecord, len(b), MaxStub)
	}
	var f stubForm
	if err := decoding.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if f.Form != 1 || f.Seq == 0 {
		return nil, fmt.Errorf("%w: found a stub of form %d, number %d", ErrRecord, f.Form, f.Seq)
	}
	s := &Stub{Seq: f.Seq, Hash: f.Hash, Last: f.Last}
	if again, err := s.Encode(); err != nil || string(again) != string(b) {
		return nil, fmt.Errorf("%w: a stub's CBOR is not deterministic", ErrRecord)
	}
	return s, nil
}

// Purged is what a record of the kind Purge says: of the records From to To, Count were
// taken, and these are the hashes of all, taken or not. From follows the To of the
// purge before, or is 1.
type Purged struct {
	From      uint64 `cbor:"1,keyasint"`
	To        uint64 `cbor:"2,keyasint"` // was taken
	Count     uint64 `cbor:"3,keyasint"`
	Hashes    Digest `cbor:"4,keyasint"` // see Hashes
	Signature []byte `cbor:"5,keyasint"`
}

const (
	purgeLabel  = "donjon steward audit purge/1\x00"
	hashesLabel = "donjon steward audit purged hashes/1\x00"
)

// Hashes sums the hashes of records, in their order, from one on.
type Hashes struct{ h hash.Hash }

// NewHashes begins at record from.
func NewHashes(from uint64) Hashes {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64([]byte(hashesLabel), from))
	return Hashes{h}
}

// Add adds the next record's hash.
func (s Hashes) Add(d Digest) { s.h.Write(d[:]) }

// Sum is SHA-256 over a label, the first number in 8 bytes, big endian, and the hashes.
func (s Hashes) Sum() Digest { return Digest(s.h.Sum(nil)) }

func (p *Purged) signed(log LogID) []byte {
	b := append([]byte(purgeLabel), log[:]...)
	for _, n := range []uint64{p.From, p.To, p.Count} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, p.Hashes[:]...)
}

// Sign signs what a purge says, with a key that signs heads.
func (p *Purged) Sign(key crypto.Signer, log LogID) (err error) {
	if err := CheckKey(key.Public()); err != nil {
		return err
	}
	p.Signature, err = sign(key, p.signed(log))
	return err
}

// Verify says whether one of the keys signed it.
func (p *Purged) Verify(log LogID, keys ...crypto.PublicKey) error {
	if !verifies(p.signed(log), p.Signature, keys) {
		return fmt.Errorf("%w: the purge of records %d to %d, %d keys tried", ErrSignature, p.From, p.To, len(keys))
	}
	return nil
}

// purges holds stubs against the records that say what was purged.
type purges struct {
	next  uint64 // the first record of the range that is gone through
	sum   Hashes
	count uint64
	open  []Purged // ranges that ended and that no record has said yet
}

// maxOpenPurges bounds the ranges that wait for their records: a purge's record comes soon after
// it, in the order of the log.
const maxOpenPurges = 1 << 20

// see takes the next record's hash; a stub is not nil.
func (p *purges) see(seq uint64, hash Digest, stub *Stub) error {
	if p.next == 0 {
		p.next, p.sum = seq, NewHashes(seq)
	}
	p.sum.Add(hash)
	if stub == nil {
		return nil
	}
	p.count++
	if !stub.Last {
		return nil
	}
	if len(p.open) >= maxOpenPurges {
		return fmt.Errorf("%w: %d purges without a record", ErrPurge, len(p.open))
	}
	p.open = append(p.open, Purged{From: p.next, To: seq, Count: p.count, Hashes: p.sum.Sum()})
	p.next, p.count, p.sum = seq+1, 0, NewHashes(seq+1)
	return nil
}

// said holds a record of the kind Purge against what was seen.
func (p *purges) said(r *Record) error {
	d := r.Purged
	if d == nil {
		return fmt.Errorf("%w: record %d says nothing", ErrPurge, r.Seq)
	}
	if len(p.open) == 0 {
		return fmt.Errorf("%w: record %d says that records %d to %d were, and they were not", ErrPurge, r.Seq, d.From, d.To)
	}
	o := p.open[0]
	p.open = p.open[1:]
	if d.From != o.From || d.To != o.To || d.Count != o.Count || d.Hashes != o.Hashes {
		return fmt.Errorf("%w: record %d says %d of the records %d to %d, found %d of %d to %d, or other hashes", ErrPurge, r.Seq, d.Count, d.From, d.To, o.Count, o.From, o.To)
	}
	return nil
}

// end says whether every stub was accounted for.
func (p *purges) end() error {
	switch {
	case p.count > 0:
		return fmt.Errorf("%w: %d records after record %d are gone, and no purge ends there", ErrPurge, p.count, p.next-1)
	case len(p.open) > 0:
		return fmt.Errorf("%w: of the records %d to %d, %d are gone, and no record says so", ErrPurge, p.open[0].From, p.open[0].To, p.open[0].Count)
	}
	return nil
}
