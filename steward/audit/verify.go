package audit

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"
)

// The errors of a log that does not hold. Verify wraps them with what was found.
var (
	ErrSequence  = errors.New("audit: a record was removed, inserted or moved")
	ErrChain     = errors.New("audit: a record was changed")
	ErrTruncated = errors.New("audit: the log was cut")
	ErrRewritten = errors.New("audit: the log was rewritten")
	ErrUnsigned  = errors.New("audit: no signed head covers the end of the log")
	ErrPurge     = errors.New("audit: records are gone that no signed purge took")
	ErrLog       = errors.New("audit: it is another log")
)

// Options says what an export is verified against.
type Options struct {
	// Keys are the public keys of the Steward that may have signed heads: Ed25519 or
	// ECDSA P-256. At least one.
	Keys []crypto.PublicKey
	// Heads were got elsewhere, from certificates, tokens and refusals: only they
	// find a log that was cut or rewritten by someone who also has an older head.
	Heads []*Head
	// Unsigned admits records after the last signed head; Report says how many.
	// Whoever writes the database could have made them.
	Unsigned bool
	// Each, where given, sees every record once the chain up to it holds. Nothing is
	// sure before Verify returned: heads come later.
	Each func(*Record, Digest) error
}

// Report says what was verified.
type Report struct {
	Log      LogID
	Records  uint64
	Signed   uint64 // the last record that a signed head covers
	Unsigned uint64 // records after it
	Heads    int    // of the export, all of them verified
	Given    int    // of Options.Heads
	First    time.Time
	Last     time.Time
	Epochs   uint64
	// Backwards counts records whose time is before the one before them: clocks of
	// replicas differ a little; much of it is a clock that was set back.
	Backwards uint64
	End       Digest // hash of the last record

	// Purged is how many records were taken by purges, PurgedTo the last one of them.
	// Records counts them too: their hashes are in the chain.
	Purged     uint64
	PurgedTo   uint64
	Purges     uint64    // records that say so
	LastPurge  time.Time // of the last of them
	PurgedBy   string    // its Who
	PurgedText string    // and its Text
}

// Verify reads an export and finds any record that was changed, removed, inserted or
// moved, and a chain computed anew, against signed heads. Memory does not grow with
// the log.
//
// What it cannot find: records that were never written, and what the holder of the
// signing key does.
func Verify(r io.Reader, o Options) (*Report, error) {
	if len(o.Keys) == 0 {
		return nil, fmt.Errorf("%w: found no key", ErrKey)
	}
	for _, k := range o.Keys {
		if err := CheckKey(k); err != nil {
			return nil, err
		}
	}
	in, err := newReader(r)
	if err != nil {
		return nil, err
	}
	rep := &Report{Log: in.log}
	given := map[uint64][]*Head{}
	for _, h := range o.Heads {
		if err := h.Verify(o.Keys...); err != nil {
			return nil, err
		}
		if h.Log != in.log {
			return nil, fmt.Errorf("%w: the export is of %x, the head of %x", ErrLog, in.log, h.Log)
		}
		given[h.Seq] = append(given[h.Seq], h)
	}
	start := NewChain(in.log)
	chain := &start
	for {
		kind, b, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if kind == entryHead {
			if err := rep.head(b, chain, o.Keys); err != nil {
				return nil, err
			}
			continue
		}
		if kind == entryStub {
			if err := rep.stub(b, chain, given); err != nil {
				return nil, err
			}
			continue
		}
		rec, err := chain.Add(b)
		if err != nil {
			return nil, err
		}
		if rec.Kind == Purge {
			if err := rep.purge(rec, o.Keys); err != nil {
				return nil, err
			}
		}
		if rep.First.IsZero() {
			rep.First = rec.At()
		} else if rec.At().Before(rep.Last) {
			rep.Backwards++
		}
		rep.Last, rep.Epochs = rec.At(), rec.Epoch
		for _, h := range given[rec.Seq] {
			if h.Hash != chain.Hash || h.Epoch != rec.Epoch {
				return nil, fmt.Errorf("%w: record %d has the hash %s, the head of %s says %s", ErrRewritten, rec.Seq, chain.Hash, h.At().Format(time.RFC3339), h.Hash)
			}
			rep.Given++
			rep.Signed = max(rep.Signed, h.Seq)
		}
		if o.Each != nil {
			if err := o.Each(rec, chain.Hash); err != nil {
				return nil, err
			}
		}
	}
	if err := chain.End(); err != nil {
		return nil, err
	}
	rep.Records, rep.End = chain.Seq, chain.Hash
	for seq, hs := range given {
		if seq > chain.Seq {
			return nil, fmt.Errorf("%w: it ends at record %d, the head of %s is of record %d", ErrTruncated, chain.Seq, hs[0].At().Format(time.RFC3339), seq)
		}
	}
	rep.Unsigned = chain.Seq - rep.Signed
	if rep.Unsigned > 0 && !o.Unsigned || chain.Seq == 0 {
		return rep, fmt.Errorf("%w: found %d records, a signature over %d", ErrUnsigned, chain.Seq, rep.Signed)
	}
	return rep, nil
}

// stub takes what is left of a record. Heads of it still say its hash.
func (rep *Report) stub(b []byte, chain *Chain, given map[uint64][]*Head) error {
	s, err := chain.AddStub(b)
	if err != nil {
		return err
	}
	for _, h := range given[s.Seq] {
		if h.Hash != s.Hash {
			return fmt.Errorf("%w: record %d, of which the hash %s is left, has %s in the head of %s", ErrRewritten, s.Seq, s.Hash, h.Hash, h.At().Format(time.RFC3339))
		}
		rep.Given++
		rep.Signed = max(rep.Signed, h.Seq)
	}
	return nil
}

// purge looks at who purged; the chain has seen that it fits.
func (rep *Report) purge(r *Record, keys []crypto.PublicKey) error {
	if err := r.Purged.Verify(rep.Log, keys...); err != nil {
		return err
	}
	rep.Purges++
	rep.Purged += r.Purged.Count
	rep.PurgedTo, rep.LastPurge, rep.PurgedBy, rep.PurgedText = r.Purged.To, r.At(), r.Who, r.Text
	return nil
}

// head looks at a head of the export itself: it is of the record before it.
func (rep *Report) head(b []byte, chain *Chain, keys []crypto.PublicKey) error {
	h, err := ParseHead(b)
	if err != nil {
		return err
	}
	if err := h.Verify(keys...); err != nil {
		return err
	}
	switch {
	case h.Log != rep.Log:
		return fmt.Errorf("%w: the export is of %x, its head of %x", ErrLog, rep.Log, h.Log)
	case h.Seq > chain.Seq:
		return fmt.Errorf("%w: its head is of record %d, the last one before it is %d", ErrTruncated, h.Seq, chain.Seq)
	case h.Seq != chain.Seq:
		return fmt.Errorf("%w: found the head of record %d after record %d", ErrFormat, h.Seq, chain.Seq)
	case h.Hash != chain.Hash:
		return fmt.Errorf("%w: record %d has the hash %s, its signed head says %s", ErrRewritten, h.Seq, chain.Hash, h.Hash)
	}
	rep.Heads++
	rep.Signed = max(rep.Signed, h.Seq)
	return nil
}

// Chain follows records one after another.
type Chain struct {
	Seq   uint64 // of the last record; 0: none yet
	Hash  Digest // of the last record
	Epoch uint64

	purged purges
}

// NewChain begins before the first record of a log.
func NewChain(log LogID) Chain { return Chain{Hash: Start(log)} }

// Add looks whether a record is the next one, and makes it the last.
func (c *Chain) Add(b []byte) (*Record, error) {
	rec, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w (after record %d)", err, c.Seq)
	}
	if rec.Seq != c.Seq+1 {
		return nil, fmt.Errorf("%w: found record %d after record %d", ErrSequence, rec.Seq, c.Seq)
	}
	if rec.Prev != c.Hash {
		if rec.Seq == 1 {
			return nil, fmt.Errorf("%w: the first record does not begin this log", ErrChain)
		}
		return nil, fmt.Errorf("%w: record %d, or %d: the chain between them does not hold", ErrChain, c.Seq, rec.Seq)
	}
	if (rec.Seq == 1) != (rec.Kind == Genesis) {
		return nil, fmt.Errorf("%w: record %d is of the kind %s", ErrSequence, rec.Seq, rec.Kind)
	}
	if rec.Epoch < c.Epoch {
		return nil, fmt.Errorf("%w: record %d is of epoch %d, the one before it of %d", ErrChain, rec.Seq, rec.Epoch, c.Epoch)
	}
	if rec.Kind == Purge {
		if err := c.purged.said(rec); err != nil {
			return nil, err
		}
	}
	c.Seq, c.Hash, c.Epoch = rec.Seq, Hash(b), rec.Epoch
	return rec, c.purged.see(c.Seq, c.Hash, nil)
}

// AddStub looks whether a stub stands in the next record's place. That it is what was
// left of that record is known once the record after it fits, and that it was purged
// once End holds.
func (c *Chain) AddStub(b []byte) (*Stub, error) {
	s, err := ParseStub(b)
	if err != nil {
		return nil, fmt.Errorf("%w (after record %d)", err, c.Seq)
	}
	if s.Seq != c.Seq+1 || s.Seq == 1 {
		return nil, fmt.Errorf("%w: found what is left of record %d after record %d", ErrSequence, s.Seq, c.Seq)
	}
	c.Seq, c.Hash = s.Seq, s.Hash
	return s, c.purged.see(s.Seq, s.Hash, s)
}

// End says whether each record that is gone was purged, as far as the chain says.
func (c *Chain) End() error { return c.purged.end() }

// Next completes a record to be the next one, encodes it, and makes it the last.
func (c *Chain) Next(r *Record, at time.Time) ([]byte, error) {
	r.Seq, r.Prev, r.Time = c.Seq+1, c.Hash, at.UnixMicro()
	b, err := r.Encode()
	if err != nil {
		return nil, err
	}
	c.Seq, c.Hash, c.Epoch = r.Seq, Hash(b), r.Epoch
	return b, nil
}
