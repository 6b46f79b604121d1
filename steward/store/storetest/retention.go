package storetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

func testRetention(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	_, key, err := ed25519.GenerateKey(nil)
	ok(t, err)
	purge := func(before time.Time, limit int) int {
		t.Helper()
		n, err := s.PurgeDecisions(ctx, store.DecisionPurge{Before: before, Limit: limit, Why: "old", Sign: func(p *audit.Purged, log audit.LogID) error { return p.Sign(key, log) }},
			store.Actor{Who: "retention", At: T0.Add(time.Hour)})
		ok(t, err)
		return n
	}
	verify := func(s store.Store, heads ...*audit.Head) *audit.Report {
		t.Helper()
		rep, err := audit.Verify(bytes.NewReader(export(t, s, key)), audit.Options{Keys: []crypto.PublicKey{key.Public()}, Heads: heads})
		ok(t, err)
		ok(t, store.Agree(ctx, s))
		return rep
	}
	equal(t, "of nothing", purge(T0.Add(time.Hour), 10), 0)
	// Twenty decisions a minute apart, with other records between them.
	for i := range 20 {
		if i%4 == 0 {
			ok(t, s.PutPolicy(ctx, store.Policy{Workload: "w", Version: uint64(i/4 + 1), Text: []byte("p")}, By))
		}
		_, err := s.Decide(ctx, Admitted(i, T0.Add(time.Duration(i)*time.Minute)))
		ok(t, err)
	}
	var kept []*audit.Head // that somebody has, of each tenth record
	for seq := uint64(5); seq <= 25; seq += 10 {
		recs, err := s.AuditRecords(ctx, seq, 1)
		ok(t, err)
		h, err := audit.Sign(key, s.Log(), 1, seq, audit.Hash(recs[0]), T0)
		ok(t, err)
		kept = append(kept, h)
	}
	equal(t, "nothing that old", purge(T0, 10), 0)
	equal(t, "a batch", purge(T0.Add(10*time.Minute), 7), 7)
	equal(t, "purged", verify(s, kept...).Purged, 7)
	equal(t, "the rest", purge(T0.Add(10*time.Minute), 7), 3)
	equal(t, "no more", purge(T0.Add(10*time.Minute), 7), 0)
	rep := verify(s, kept...)
	equal(t, "purged", rep.Purged, 10)
	equal(t, "purges", rep.Purges, 2)
	equal(t, "by", rep.PurgedBy, "retention")
	equal(t, "heads", rep.Given, 3)
	rows, err := s.Decisions(ctx, store.DecisionFilter{Limit: 100})
	ok(t, err)
	equal(t, "rows", len(rows), 10)
	certs, err := s.Certificates(ctx, store.CertificateFilter{Limit: 100})
	ok(t, err)
	equal(t, "certificates", len(certs), 10)
	_, err = s.Decision(ctx, 3)
	want(t, err, store.ErrNotFound)
	_, err = s.Decision(ctx, rows[len(rows)-1].Seq)
	ok(t, err)
	recs, err := s.AuditRecords(ctx, 1, 100)
	ok(t, err)
	stubs := 0
	for _, b := range recs {
		if audit.IsStub(b) {
			stubs++
			if bytes.Contains(b, []byte("192.0.2.1")) {
				t.Error("a client's address is left")
			}
		}
	}
	equal(t, "stubs", stubs, 10)
	// What is used once stays so, and the log goes on.
	again := Admitted(2, T0.Add(30*time.Minute))
	_, err = s.Decide(ctx, again)
	want(t, err, store.ErrChallengeUsed)
	_, err = s.Decide(ctx, Admitted(100, T0.Add(30*time.Minute)))
	ok(t, err)
	// A backup has what is left, and a purge of the restored one goes on from there.
	var b bytes.Buffer
	ok(t, s.Backup(ctx, &b))
	equal(t, "the next ones", purge(T0.Add(15*time.Minute), 100), 5)
	equal(t, "purged", verify(s, kept...).Purged, 15)
	// All of the log from one moment.
	n := 0
	end, err := s.Records(ctx, func([]byte) error { n++; return nil })
	ok(t, err)
	head, err := s.Head(ctx)
	ok(t, err)
	equal(t, "the end", end, head)
	equal(t, "records", uint64(n), head.Seq)
	_, err = s.PurgeDecisions(ctx, store.DecisionPurge{Before: T0, Why: "x"}, By)
	want(t, err, store.ErrInvalid)
	_, err = s.PurgeDecisions(ctx, store.DecisionPurge{Before: T0.Add(time.Hour), Why: "x", Sign: func(*audit.Purged, audit.LogID) error { return context.Canceled }}, By)
	want(t, err, store.ErrUnavailable)
	equal(t, "nothing was purged", verify(s).Purged, 15)
}

// RestorePurged restores a backup of a purged log in another database.
func RestorePurged(t *testing.T, fresh, other Fresh) {
	s, ctx := open(t, fresh(t)), context.Background()
	_, key, err := ed25519.GenerateKey(nil)
	ok(t, err)
	purge := func(s store.Store, before time.Time) int {
		t.Helper()
		n, err := s.PurgeDecisions(ctx, store.DecisionPurge{Before: before, Why: "old", Sign: func(p *audit.Purged, log audit.LogID) error { return p.Sign(key, log) }}, By)
		ok(t, err)
		return n
	}
	for i := range 10 {
		_, err := s.Decide(ctx, Admitted(i, T0.Add(time.Duration(i)*time.Minute)))
		ok(t, err)
	}
	equal(t, "purged", purge(s, T0.Add(4*time.Minute)), 4)
	var b bytes.Buffer
	ok(t, s.Backup(ctx, &b))
	to := open(t, other(t))
	_, err = to.Restore(ctx, &b, By)
	ok(t, err)
	equal(t, "purged after it", purge(to, T0.Add(6*time.Minute)), 2)
	rep, err := audit.Verify(bytes.NewReader(export(t, to, key)), audit.Options{Keys: []crypto.PublicKey{key.Public()}})
	ok(t, err)
	equal(t, "purged", rep.Purged, 6)
	ok(t, store.Agree(ctx, to))
}
