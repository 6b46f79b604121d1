package audit

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"testing"
	"time"
)

// purgedLog is a log of n records of which the decisions up to record to were purged in
// two goes, and the records say so.
func purgedLog(t testing.TB, key crypto.Signer, id LogID, n int) [][]byte {
	t.Helper()
	recs := log(t, id, n)
	chain := NewChain(id)
	for _, b := range recs {
		if _, err := chain.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	from := 1
	for _, to := range []int{n / 3, n / 2} {
		p := Purged{From: uint64(from), To: uint64(to)}
		sum := NewHashes(p.From)
		for seq := from; seq <= to; seq++ {
			hash := Hash(recs[seq-1])
			sum.Add(hash)
			if seq == 1 || seq == from+1 && seq != to { // the genesis, and one that is no decision
				continue
			}
			p.Count++
			b, err := (&Stub{Seq: uint64(seq), Hash: hash, Last: seq == to}).Encode()
			if err != nil {
				t.Fatal(err)
			}
			recs[seq-1] = b
		}
		p.Hashes = sum.Sum()
		if err := p.Sign(key, id); err != nil {
			t.Fatal(err)
		}
		b, err := chain.Next(&Record{Kind: Purge, Epoch: 2, Who: "retention", Text: "old", Purged: &p}, t0.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, b)
		from = to + 1
	}
	return recs
}

func TestPurged(t *testing.T) {
	for name, key := range keys(t) {
		id := LogID{1}
		recs := purgedLog(t, key, id, 12)
		whole := log(t, id, 12)
		o := Options{Keys: []crypto.PublicKey{key.Public()}, Heads: []*Head{head(t, key, id, whole, 4), head(t, key, id, whole, 10)}}
		rep, err := Verify(bytes.NewReader(export(t, id, recs, head(t, key, id, recs, 14))), o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if rep.Records != 14 || rep.Purged != 4 || rep.PurgedTo != 6 || rep.Purges != 2 || rep.PurgedBy != "retention" || rep.Given != 2 {
			t.Errorf("%s: found %+v", name, rep)
		}
	}
}

// TestPurgedTampering does to a purged log what someone who writes the database can.
func TestPurgedTampering(t *testing.T) {
	key, thief := keys(t)["ed25519"], keys(t)["ed25519"]
	id := LogID{1}
	recs := purgedLog(t, key, id, 12)
	edit := func(f func([][]byte) [][]byte) [][]byte { return f(slices.Clone(recs)) }
	stub := func(seq int, change func(*Stub)) func([][]byte) [][]byte {
		return func(r [][]byte) [][]byte {
			s := &Stub{Seq: uint64(seq), Hash: Hash(r[seq-1])}
			if IsStub(r[seq-1]) {
				var err error
				if s, err = ParseStub(r[seq-1]); err != nil {
					t.Fatal(err)
				}
			}
			change(s)
			b, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			r[seq-1] = b
			return r
		}
	}
	// anew makes the log after record n again, with another record of a purge.
	anew := func(signer crypto.Signer, change func(*Purged)) [][]byte {
		out := slices.Clone(recs[:12])
		chain := NewChain(id)
		for _, b := range out {
			var err error
			if IsStub(b) {
				_, err = chain.AddStub(b)
			} else {
				_, err = chain.Add(b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range recs[12:] {
			r, _ := Parse(b)
			change(r.Purged)
			if err := r.Purged.Sign(signer, id); err != nil {
				t.Fatal(err)
			}
			b, err := chain.Next(r, r.At())
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b)
		}
		return out
	}
	end := func(recs [][]byte) *Head {
		for i := len(recs) - 1; ; i-- {
			if !IsStub(recs[i]) {
				return head(t, key, id, recs, i+1)
			}
		}
	}
	for name, c := range map[string]struct {
		recs [][]byte
		want error
	}{
		"another hash":                  {edit(stub(4, func(s *Stub) { s.Hash[0]++ })), ErrPurge},
		"another number":                {edit(stub(4, func(s *Stub) { s.Seq++ })), ErrSequence},
		"the end of a purge moved":      {edit(stub(4, func(s *Stub) { s.Last = false })), ErrPurge},
		"one more record taken":         {edit(stub(8, func(*Stub) {})), ErrPurge},
		"one more, as a purge":          {edit(stub(8, func(s *Stub) { s.Last = true })), ErrPurge},
		"the genesis taken":             {edit(stub(1, func(*Stub) {})), ErrSequence},
		"a kept record among them":      {edit(stub(2, func(*Stub) {})), ErrPurge},
		"no record of a purge":          {edit(func(r [][]byte) [][]byte { return r[:13] }), ErrPurge},
		"nor of any":                    {edit(func(r [][]byte) [][]byte { return r[:12] }), ErrPurge},
		"a stub removed":                {edit(func(r [][]byte) [][]byte { return slices.Delete(r, 2, 3) }), ErrSequence},
		"garbage for a stub":            {edit(func(r [][]byte) [][]byte { r[2] = []byte{0x84, 1, 3, 0x40, 0xf4}; return r }), ErrRecord},
		"the records signed by a thief": {anew(thief, func(*Purged) {}), ErrSignature},
		"other numbers, signed":         {anew(key, func(p *Purged) { p.Count++ }), ErrPurge},
		"nothing":                       {anew(key, func(*Purged) {}), nil},
	} {
		_, err := Verify(bytes.NewReader(export(t, id, c.recs, end(c.recs))), Options{Keys: []crypto.PublicKey{key.Public()}})
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: found %v, wanted %v", name, err, c.want)
		}
	}
	// A head that somebody kept of a record that was taken still says its hash.
	whole := log(t, id, 12)
	bad := head(t, key, id, whole, 4)
	forged, err := Sign(key, id, bad.Epoch, 4, Digest{7}, t0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(bytes.NewReader(export(t, id, recs, end(recs))), Options{Keys: []crypto.PublicKey{key.Public()}, Heads: []*Head{forged}}); !errors.Is(err, ErrRewritten) {
		t.Errorf("found %v", err)
	}
}

func FuzzStub(f *testing.F) {
	b, _ := (&Stub{Seq: 7, Hash: Digest{1}, Last: true}).Encode()
	f.Add(b)
	f.Add([]byte{0x84, 1, 1, 0x40, 0xf4})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStub(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) || !IsStub(b) {
			t.Fatalf("found %x after %x, %v", again, b, err)
		}
	})
}
