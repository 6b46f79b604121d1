//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

func TestDays(t *testing.T) {
	day := 24 * time.Hour
	for text, want := range map[string]time.Duration{"": 0, "90d": 90 * day, "31d": 31 * day, "2y": 730 * day, "100y": 36500 * day,
		"30d": -1, "90": -1, "d": -1, "-90d": -1, "+90d": -1, "90 d": -1, "1.5y": -1, "101y": -1, "99999999999999999999d": -1, "90h": -1, "0y": -1} {
		got, err := parseDays(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: found %s, %v", text, got, err)
		}
	}
}

// audit verify says what was purged and by whom, and finds records that nobody purged.
func TestVerifySaysWhatWasPurged(t *testing.T) {
	a, out := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	if err := s.publish(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if _, err := s.store.Decide(ctx, storetest.Admitted(i, storetest.T0)); err != nil {
			t.Fatal(err)
		}
	}
	n, err := s.store.PurgeDecisions(ctx, store.DecisionPurge{Before: storetest.T0.Add(time.Hour), Limit: 2, Why: "old ones", Sign: func(p *audit.Purged, log audit.LogID) error {
		return p.Sign(s.authority.AuditKey(), log)
	}}, store.Actor{Who: "retention", At: storetest.T0})
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	s.close()
	if code := a.run([]string{"steward", "audit", "verify", "--state", dir}); code != 0 || !strings.Contains(out.String(), "purged       2 decisions up to record 3, in 1 signed purges") ||
		!strings.Contains(out.String(), "by retention: old ones") {
		t.Fatalf("status %d: %s", code, out)
	}
	// Somebody takes one more record, as a purge would.
	s = testState(t, a, dir)
	recs, err := s.store.AuditRecords(ctx, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	stub, err := (&audit.Stub{Seq: 4, Hash: audit.Hash(recs[0]), Last: true}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	forge(t, s, "DELETE FROM decisions WHERE seq = 4")
	forge(t, s, "UPDATE audit SET record = x'"+hex.EncodeToString(stub)+"' WHERE seq = 4")
	s.close()
	out.Reset()
	if code := a.run([]string{"steward", "audit", "verify", "--state", dir}); code != 1 || !strings.Contains(out.String(), "no record says so") {
		t.Errorf("status %d: %s", code, out)
	}
}
