package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

func testLists(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	for i := range 30 {
		d := Admitted(i, T0.Add(time.Duration(i)*time.Hour))
		if i%3 == 0 {
			d = Refused(i, T0.Add(time.Duration(i)*time.Hour))
			d.Record.TEE, d.Record.Simulated = "tdx", true
		}
		_, err := s.Decide(ctx, d)
		ok(t, err)
	}
	list := func(f store.DecisionFilter) []store.DecisionRow {
		t.Helper()
		rows, err := s.Decisions(ctx, f)
		ok(t, err)
		return rows
	}
	yes, no := true, false
	equal(t, "all", len(list(store.DecisionFilter{})), 30)
	equal(t, "refused", len(list(store.DecisionFilter{Outcome: verdict.Refused})), 10)
	equal(t, "tee", len(list(store.DecisionFilter{TEE: "snp"})), 20)
	equal(t, "simulated", len(list(store.DecisionFilter{Simulated: &yes})), 10)
	equal(t, "not simulated", len(list(store.DecisionFilter{Simulated: &no})), 20)
	equal(t, "workload", len(list(store.DecisionFilter{Workload: Admitted(1, T0).Record.Workload})), 5)
	equal(t, "instance", len(list(store.DecisionFilter{Instance: Admitted(4, T0).Record.Instance})), 1)
	equal(t, "span", len(list(store.DecisionFilter{From: T0.Add(2 * time.Hour), To: T0.Add(5 * time.Hour)})), 3)
	// Pages meet and do not overlap.
	var seen []uint64
	for before := uint64(0); ; {
		rows := list(store.DecisionFilter{Before: before, Limit: 7})
		for _, r := range rows {
			if len(seen) > 0 && r.Seq >= seen[len(seen)-1] {
				t.Fatalf("found %d after %d", r.Seq, seen[len(seen)-1])
			}
			seen = append(seen, r.Seq)
		}
		if len(rows) < 7 {
			break
		}
		before = rows[len(rows)-1].Seq
	}
	equal(t, "over pages", len(seen), 30)
	hours, err := s.Counts(ctx, T0, T0.Add(48*time.Hour), store.Hour)
	ok(t, err)
	equal(t, "hours", len(hours), 30)
	days, err := s.Counts(ctx, T0.Truncate(24*time.Hour), T0.Add(72*time.Hour), store.Day)
	ok(t, err)
	var n uint64
	for _, c := range days {
		if c.TEE == "tdx" {
			n += c.N
		}
	}
	equal(t, "tdx of days", n, 10)
	equal(t, "days times TEEs", len(days), 4)
	_, err = s.Counts(ctx, T0, T0.AddDate(100, 0, 0), store.Hour)
	want(t, err, store.ErrInvalid)
}

func testCertificates(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	for i := range 10 {
		d := Admitted(i, T0.Add(time.Duration(i)*time.Minute))
		if i == 9 { // renews the one of 2
			d.Record.Workload, d.Record.Instance = Admitted(2, T0).Record.Workload, Admitted(2, T0).Record.Instance
		}
		_, err := s.Decide(ctx, d)
		ok(t, err)
	}
	list := func(f store.CertificateFilter) []store.CertificateRow {
		t.Helper()
		rows, err := s.Certificates(ctx, f)
		ok(t, err)
		return rows
	}
	equal(t, "all", len(list(store.CertificateFilter{})), 10)
	now := T0.Add(time.Hour)
	rows := list(store.CertificateFilter{From: now, To: now.Add(4 * time.Minute)})
	equal(t, "about to expire", len(rows), 4)
	equal(t, "the next", string(rows[0].Serial), string(Serial(0)))
	rows = list(store.CertificateFilter{From: now, To: now.Add(4 * time.Minute), Newest: true})
	equal(t, "about to expire and not renewed", len(rows), 3)
	equal(t, "TEE", rows[0].TEE, "snp")
	page := list(store.CertificateFilter{Limit: 6})
	last := page[5]
	equal(t, "second page", len(list(store.CertificateFilter{From: last.NotAfter, After: last.Serial})), 4)
	equal(t, "of an instance", len(list(store.CertificateFilter{Workload: rows[0].Workload, Instance: rows[0].Instance})), 1)
}

func testWorkloads(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	ok(t, s.PutWorkload(ctx, store.Workload{Digest: "sha256:b", Name: "b", Manifest: []byte("{}")}, By))
	ok(t, s.PutWorkload(ctx, store.Workload{Digest: "sha256:a"}, By))
	later := store.Actor{Who: "x", At: T0.Add(time.Hour)}
	ok(t, s.PutWorkload(ctx, store.Workload{Digest: "sha256:b", Name: "c"}, later))
	w, err := s.Workload(ctx, "sha256:b")
	ok(t, err)
	equal(t, "name", w.Name, "c")
	equal(t, "manifest", string(w.Manifest), "{}")
	equal(t, "first seen", w.FirstSeen, T0)
	ws, err := s.Workloads(ctx, "", 1)
	ok(t, err)
	equal(t, "first", ws[0].Digest, "sha256:a")
	ws, err = s.Workloads(ctx, "sha256:a", 10)
	ok(t, err)
	equal(t, "rest", len(ws), 1)
	_, err = s.Workload(ctx, "sha256:z")
	want(t, err, store.ErrNotFound)
}

func testPolicies(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	_, err := s.Policy(ctx, "w")
	want(t, err, store.ErrNotFound)
	put := func(w string, v uint64, text string) error {
		return s.PutPolicy(ctx, store.Policy{Workload: w, Version: v, Text: []byte(text)}, By)
	}
	ok(t, put("w", 1, "a"))
	want(t, put("w", 1, "b"), store.ErrConflict)
	want(t, put("w", 3, "b"), store.ErrConflict)
	ok(t, put("w", 2, "b"))
	ok(t, put("v", 1, "c"))
	p, err := s.Policy(ctx, "w")
	ok(t, err)
	equal(t, "text", string(p.Text), "b")
	equal(t, "by", p.By, By.Who)
	old, err := s.PolicyVersion(ctx, "w", 1)
	ok(t, err)
	equal(t, "old text", string(old.Text), "a")
	all, err := s.Policies(ctx, "w", 10)
	ok(t, err)
	equal(t, "versions", len(all), 2)
	equal(t, "newest first", all[0].Version, 2)
	subjects, err := s.Subjects(ctx, "", 10)
	ok(t, err)
	equal(t, "subjects", len(subjects), 2)
	equal(t, "newest of w", string(subjects[1].Text), "b")
}
