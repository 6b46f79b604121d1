package storetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// export writes a store's log with its head signed.
func export(t testing.TB, s store.Store, key ed25519.PrivateKey) []byte {
	t.Helper()
	ctx := context.Background()
	head, err := s.Head(ctx)
	ok(t, err)
	var buf bytes.Buffer
	w := audit.NewWriter(&buf, s.Log())
	for from := uint64(1); from <= head.Seq; {
		recs, err := s.AuditRecords(ctx, from, 7)
		ok(t, err)
		for _, r := range recs {
			ok(t, w.Record(r))
		}
		from += uint64(len(recs))
	}
	h, err := audit.Sign(key, s.Log(), head.Epoch, head.Seq, head.Hash, T0)
	ok(t, err)
	ok(t, w.Head(h))
	ok(t, w.Close())
	return buf.Bytes()
}

// Verify verifies a store's log from its first record to its head.
func Verify(t testing.TB, s store.Store) *audit.Report {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	ok(t, err)
	rep, err := audit.Verify(bytes.NewReader(export(t, s, key)), audit.Options{Keys: []crypto.PublicKey{key.Public()}})
	ok(t, err)
	return rep
}

func testAudit(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	ok(t, s.PutWorkload(ctx, store.Workload{Digest: "sha256:a"}, By))
	ok(t, s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("a")}, By))
	ok(t, s.PutSecret(ctx, secret("a", 1, 1), By))
	r, err := s.Append(ctx, audit.Record{Kind: audit.Note, Text: "the CA was rotated"}, By)
	ok(t, err)
	_, err = s.Append(ctx, audit.Record{Kind: audit.Decision, Text: "forged"}, By)
	want(t, err, store.ErrInvalid)
	rep := Verify(t, s)
	equal(t, "records", rep.Records, r.Seq)
	var kinds []string
	recs, err := s.AuditRecords(ctx, 1, 100)
	ok(t, err)
	for _, b := range recs {
		rec, err := audit.Parse(b)
		ok(t, err)
		kinds = append(kinds, string(rec.Kind))
		if bytes.Contains(b, []byte("sealed a 1")) {
			t.Fatal("the log holds a ciphertext")
		}
	}
	equal(t, "kinds", strings.Join(kinds, " "), "genesis workload policy secret-set note")
}

func testBusy(t *testing.T, f func(store.Options) store.Store) {
	s := f(store.Options{Guard: Guard{}, Queue: 1, Batch: 1, Clock: func() time.Time { return T0 }})
	t.Cleanup(func() { _ = s.Close() })
	ctx := context.Background()
	var busy, done atomic.Int32
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := s.Decide(ctx, Admitted(i, T0)); err == nil {
				done.Add(1)
			} else if errors.Is(err, store.ErrBusy) {
				busy.Add(1)
			} else {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if busy.Load() == 0 || done.Load() == 0 {
		t.Fatalf("found %d busy and %d done, wanted some of each", busy.Load(), done.Load())
	}
	st, err := s.Stats(ctx)
	ok(t, err)
	equal(t, "decisions", st.Decisions, uint64(done.Load()))
	// A caller that has gone: what it is told is true.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.Decide(gone, Admitted(1000, T0))
	_, there := s.Certificate(ctx, Serial(1000))
	if (err == nil) != (there == nil) {
		t.Fatalf("found the answer %v, and the certificate %v", err, there)
	}
	ok(t, s.Close())
	_, err = s.Decide(ctx, Admitted(1001, T0))
	want(t, err, store.ErrUnavailable)
}

func testReopen(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	r, err := s.Decide(ctx, Admitted(1, T0))
	ok(t, err)
	log := s.Log()
	ok(t, s.Close())
	s = open(t, f)
	equal(t, "log", s.Log(), log)
	head, err := s.Head(ctx)
	ok(t, err)
	equal(t, "head", head, r)
	_, err = s.Decide(ctx, Admitted(1, T0))
	want(t, err, store.ErrChallengeUsed)
}
