package storetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// Fresh makes an empty database and gives what opens it, once more at each call.
type Fresh func(t testing.TB) (open func(store.Options) store.Store)

// Run runs the suite.
func Run(t *testing.T, fresh Fresh) {
	for name, f := range map[string]func(*testing.T, func(store.Options) store.Store){
		"decide":             testDecide,
		"challenge-once":     testOnce,
		"challenge-race":     testRace,
		"lease":              testLease,
		"lease-race":         testLeaseRace,
		"signer":             testSigner,
		"standing":           testStanding,
		"purge":              testPurge,
		"epoch":              testEpoch,
		"batch-with-one-bad": testBatch,
		"lists":              testLists,
		"certificates":       testCertificates,
		"workloads":          testWorkloads,
		"policies":           testPolicies,
		"secrets":            testSecrets,
		"secret-race":        testSecretRace,
		"tokens":             testTokens,
		"values":             testValues,
		"audit":              testAudit,
		"agree":              testAgree,
		"hostile-text":       testHostileText,
		"invalid":            testInvalid,
		"busy":               testBusy,
		"reopen":             testReopen,
	} {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
	t.Run("backup", func(t *testing.T) { Backup(t, fresh, fresh) })
	t.Run("backup-hostile", func(t *testing.T) { testBackupHostile(t, fresh(t), fresh) })
}

func open(t testing.TB, f func(store.Options) store.Store) store.Store {
	t.Helper()
	s := f(store.Options{Clock: func() time.Time { return T0 }})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("found the error %v, wanted %v", err, target)
	}
}

func equal[T comparable](t testing.TB, what string, found, wanted T) {
	t.Helper()
	if found != wanted {
		t.Fatalf("%s: found %v, wanted %v", what, found, wanted)
	}
}

func testDecide(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	before, err := s.Head(ctx)
	ok(t, err)
	d := Admitted(1, T0.Add(1234567*time.Microsecond))
	d.Lease = &store.LeaseRequest{Instance: d.Record.Instance, Until: T0.Add(time.Hour), Max: 2}
	d.Exposed = []string{"AMD-SB-3015"}
	r, err := s.Decide(ctx, d)
	ok(t, err)
	equal(t, "number", r.Seq, before.Seq+1)
	after, err := s.Head(ctx)
	ok(t, err)
	equal(t, "head", after, r)
	got, err := s.Decision(ctx, r.Seq)
	ok(t, err)
	equal(t, "time", got.At, d.At)
	equal(t, "detail", string(got.Detail), string(d.Detail))
	equal(t, "hash", got.Hash, r.Hash)
	equal(t, "previous", got.Record.Prev, before.Hash)
	equal(t, "exposed", strings.Join(got.Exposed, " "), "AMD-SB-3015")
	equal(t, "serial in the record", string(got.Record.Serial), string(Serial(1)))
	c, err := s.Certificate(ctx, Serial(1))
	ok(t, err)
	equal(t, "the certificate's decision", c.Seq, r.Seq)
	equal(t, "notAfter", c.NotAfter, d.Certificate.NotAfter)
	ls, err := s.Leases(ctx, d.Record.Workload, d.At)
	ok(t, err)
	equal(t, "leases", len(ls), 1)
	_, err = s.Decision(ctx, r.Seq+1)
	want(t, err, store.ErrNotFound)
	// A record that is no decision.
	_, err = s.Decision(ctx, 1)
	want(t, err, store.ErrNotFound)
	ref := Refused(2, T0)
	ref.Detail, ref.Record.Detail = nil, audit.Digest{}
	r2, err := s.Decide(ctx, ref)
	ok(t, err)
	got, err = s.Decision(ctx, r2.Seq)
	ok(t, err)
	equal(t, "no detail", got.Detail == nil, true)
	st, err := s.Stats(ctx)
	ok(t, err)
	equal(t, "decisions", st.Decisions, 2)
	equal(t, "used", st.Used, 1)
	if st.Bytes == 0 || st.Version == "" || st.Schema == 0 {
		t.Fatalf("stats: %+v", st)
	}
	ok(t, s.Ping(ctx))
}

func testStanding(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	n := 0
	decide := func(policy uint64, secrets map[string]uint64) error {
		n += 7 // one workload for all
		d := Admitted(n, T0)
		d.Standing = &store.Standing{Policy: policy, Secrets: secrets}
		_, err := s.Decide(ctx, d)
		return err
	}
	w := Admitted(7, T0).Record.Workload
	put := func(version uint64, text string) {
		t.Helper()
		ok(t, s.PutPolicy(ctx, store.Policy{Workload: w, Version: version, Text: []byte(text)}, By))
	}
	set := func(version uint64) {
		t.Helper()
		ok(t, s.PutSecret(ctx, store.Secret{SecretKey: store.SecretKey{Workload: w, Name: "a"}, Version: version, Sealed: []byte{1}, KeyID: "k", Policy: Digest("policy", 1)}, By))
	}
	want(t, decide(1, nil), store.ErrConflict) // there is none
	put(1, "one")
	ok(t, decide(1, nil))
	want(t, decide(1, map[string]uint64{"a": 1}), store.ErrConflict)
	set(1)
	ok(t, decide(1, map[string]uint64{"a": 1}))
	want(t, decide(1, map[string]uint64{"A": 1}), store.ErrConflict)
	set(2)
	want(t, decide(1, map[string]uint64{"a": 1}), store.ErrConflict)
	ok(t, decide(1, map[string]uint64{"a": 2}))
	ok(t, s.DeleteSecret(ctx, store.SecretKey{Workload: w, Name: "a"}, By))
	want(t, decide(1, map[string]uint64{"a": 2}), store.ErrConflict)
	put(2, "two")
	want(t, decide(1, nil), store.ErrConflict)
	ok(t, decide(2, nil))
	want(t, decide(0, nil), store.ErrInvalid)
	// What a refused one would have used up is not.
	d := Admitted(7000, T0)
	d.Standing = &store.Standing{Policy: 1}
	_, err := s.Decide(ctx, d)
	want(t, err, store.ErrConflict)
	d.Standing.Policy = 2
	_, err = s.Decide(ctx, d)
	ok(t, err)
}

func testAgree(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	ok(t, store.Agree(ctx, s))
	fill(t, s)
	ok(t, store.Agree(ctx, s))
}

func testOnce(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	_, err := s.Decide(ctx, Admitted(1, T0))
	ok(t, err)
	head, err := s.Head(ctx)
	ok(t, err)
	again := Admitted(2, T0)
	again.Once = Admitted(1, T0).Once
	_, err = s.Decide(ctx, again)
	want(t, err, store.ErrChallengeUsed)
	// Nothing of it is there.
	now, err := s.Head(ctx)
	ok(t, err)
	equal(t, "head", now, head)
	_, err = s.Certificate(ctx, Serial(2))
	want(t, err, store.ErrNotFound)
	// The same digest of another kind is another thing; the same twice in one is not.
	again.Once[0].Kind = store.OnceEvidence
	_, err = s.Decide(ctx, again)
	ok(t, err)
	twice := Admitted(3, T0)
	twice.Once = append(twice.Once, twice.Once...)
	_, err = s.Decide(ctx, twice)
	want(t, err, store.ErrChallengeUsed)
}

// testRace lets many callers, over two connections, use the same challenges.
func testRace(t *testing.T, f func(store.Options) store.Store) {
	stores, ctx := []store.Store{open(t, f), open(t, f)}, context.Background()
	const challenges, callers = 20, 16
	var won [challenges]atomic.Int32
	var wg sync.WaitGroup
	for c := range challenges {
		for i := range callers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				d := Admitted(c, T0)
				d.Certificate.Serial = Serial(c*callers + i)
				_, err := stores[i%2].Decide(ctx, d)
				switch {
				case err == nil:
					won[c].Add(1)
				case !errors.Is(err, store.ErrChallengeUsed):
					t.Errorf("challenge %d: %v", c, err)
				}
			}()
		}
	}
	wg.Wait()
	for c := range won {
		equal(t, fmt.Sprintf("uses of challenge %d", c), won[c].Load(), 1)
	}
	Verify(t, stores[1])
}

func lease(n int, at time.Time, max int) store.Decision {
	d := Admitted(n, at)
	d.Record.Workload = "sha256:one"
	d.Lease = &store.LeaseRequest{Instance: d.Record.Instance, Until: at.Add(time.Hour), Max: max}
	return d
}

func testLease(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	for i := range 2 {
		_, err := s.Decide(ctx, lease(i, T0, 2))
		ok(t, err)
	}
	_, err := s.Decide(ctx, lease(2, T0, 2))
	want(t, err, store.ErrInstances)
	// Renewal of one that runs.
	renew := lease(0, T0.Add(30*time.Minute), 2)
	renew.Once[0].Digest, renew.Certificate.Serial = Digest("challenge", 100), Serial(100)
	_, err = s.Decide(ctx, renew)
	ok(t, err)
	ls, err := s.Leases(ctx, "sha256:one", T0.Add(70*time.Minute))
	ok(t, err)
	equal(t, "leases that run on", len(ls), 1)
	equal(t, "its end", ls[0].Until, T0.Add(90*time.Minute))
	// The other one is over: its place is free, and no more than that.
	_, err = s.Decide(ctx, lease(3, T0.Add(70*time.Minute), 2))
	ok(t, err)
	_, err = s.Decide(ctx, lease(4, T0.Add(70*time.Minute), 2))
	want(t, err, store.ErrInstances)
	ok(t, s.EndLease(ctx, "sha256:one", ls[0].Instance, By))
	want(t, s.EndLease(ctx, "sha256:one", ls[0].Instance, By), store.ErrNotFound)
	_, err = s.Decide(ctx, lease(4, T0.Add(70*time.Minute), 2))
	ok(t, err)
	// Another workload has places of its own.
	other := lease(5, T0.Add(70*time.Minute), 1)
	other.Record.Workload = "sha256:two"
	_, err = s.Decide(ctx, other)
	ok(t, err)
}

func testLeaseRace(t *testing.T, f func(store.Options) store.Store) {
	stores, ctx := []store.Store{open(t, f), open(t, f)}, context.Background()
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := stores[i%2].Decide(ctx, lease(i, T0, 3))
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, store.ErrInstances) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	equal(t, "instances", won.Load(), 3)
}

func testSigner(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	signed := func(n int, name string, v uint64) error {
		d := Admitted(n, T0)
		d.Signer = &store.SignerMark{Signer: "key:1", Name: name, Version: v}
		_, err := s.Decide(ctx, d)
		return err
	}
	ok(t, signed(1, "a", 5))
	want(t, signed(2, "a", 4), store.ErrDowngrade)
	ok(t, signed(3, "a", 5))
	ok(t, signed(4, "a", 7))
	want(t, signed(5, "a", 6), store.ErrDowngrade)
	ok(t, signed(6, "b", 1))
}

func testPurge(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	for i := range 5 {
		_, err := s.Decide(ctx, Admitted(i, T0.Add(time.Duration(i)*time.Minute)))
		ok(t, err)
	}
	forever := Admitted(9, T0)
	forever.Once = []store.Once{{Kind: store.OnceEvidence, Digest: Digest("evidence", 9)}}
	_, err := s.Decide(ctx, forever)
	ok(t, err)
	// Those of minutes 2 and 3 expired before minute 4, the one of minute 4 at it.
	n, err := s.Purge(ctx, T0.Add(4*time.Minute), 1000)
	ok(t, err)
	equal(t, "forgotten", n, 2)
	// A clock that stepped back: the challenge is in its time again, and forgotten.
	back := Admitted(0, T0)
	back.Certificate.Serial = Serial(100)
	_, err = s.Decide(ctx, back)
	want(t, err, store.ErrChallengeUsed)
	// Forgetting less later does not bring it back.
	_, err = s.Purge(ctx, T0.Add(time.Minute), 1000)
	ok(t, err)
	_, err = s.Decide(ctx, back)
	want(t, err, store.ErrChallengeUsed)
	// What is not forgotten is still known, and what never expires is.
	kept := Admitted(4, T0.Add(4*time.Minute))
	kept.Certificate.Serial = Serial(101)
	_, err = s.Decide(ctx, kept)
	want(t, err, store.ErrChallengeUsed)
	forever.Certificate.Serial = Serial(102)
	_, err = s.Decide(ctx, forever)
	want(t, err, store.ErrChallengeUsed)
	// A lease before what is forgotten cannot be counted.
	_, err = s.Decide(ctx, lease(50, T0.Add(3*time.Minute), 5))
	want(t, err, store.ErrInstances)
	_, err = s.Decide(ctx, lease(51, T0.Add(5*time.Minute), 5))
	ok(t, err)
	// In small steps.
	n, err = s.Purge(ctx, T0.Add(time.Hour), 1)
	ok(t, err)
	equal(t, "forgotten", n, 1)
}

func testEpoch(t *testing.T, f func(store.Options) store.Store) {
	s, two, ctx := open(t, f), open(t, f), context.Background()
	e, err := s.Epoch(ctx)
	ok(t, err)
	equal(t, "epoch", e, store.Epoch{Number: 1, Opened: T0, Reason: "first start", Confirmed: true})
	e, err = s.OpenEpoch(ctx, "a test", By)
	ok(t, err)
	equal(t, "epoch", e, store.Epoch{Number: 2, Opened: T0, Reason: "a test"})
	// The other replica has not noticed: what it judged is of the old epoch.
	_, err = two.Decide(ctx, Admitted(1, T0))
	want(t, err, store.ErrEpoch)
	d := Admitted(1, T0)
	d.Epoch = 2
	_, err = two.Decide(ctx, d)
	want(t, err, store.ErrSuspended)
	// Refusals are recorded.
	r := Refused(2, T0)
	rec, err := two.Decide(ctx, r)
	ok(t, err)
	equal(t, "epoch of a refusal", rec.Epoch, 2)
	want(t, s.ConfirmEpoch(ctx, 1, By), store.ErrConflict)
	ok(t, s.ConfirmEpoch(ctx, 2, By))
	want(t, s.ConfirmEpoch(ctx, 2, By), store.ErrConflict)
	_, err = two.Decide(ctx, d)
	ok(t, err)
	Verify(t, s)
}

// testBatch has decisions that cannot be written among those that can, all at once.
func testBatch(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	var wg sync.WaitGroup
	var refused atomic.Int32
	for i := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			d := Admitted(i, T0)
			if i%8 == 0 {
				d.Certificate.Serial = Serial(0) // one of these is the first
			}
			if _, err := s.Decide(ctx, d); errors.Is(err, store.ErrConflict) && i%8 == 0 {
				refused.Add(1)
			} else if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}()
	}
	wg.Wait()
	equal(t, "refused", refused.Load(), 7)
	Verify(t, s)
}

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

func secret(name string, v uint64, policy int) store.Secret {
	return store.Secret{SecretKey: store.SecretKey{Workload: "w", Name: name}, Version: v,
		Sealed: fmt.Appendf(nil, "sealed %s %d", name, v), KeyID: "k1", Policy: Digest("policy", policy)}
}

func confirmation(policy int, key string) store.Confirmation {
	return store.Confirmation{Policy: Digest("policy", policy), MAC: fmt.Appendf(nil, "mac %d %s", policy, key), KeyID: key}
}

func stands(store.Secret, store.Confirmation) error { return nil }

func testSecrets(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	ok(t, s.PutSecret(ctx, secret("a", 1, 1), By))
	ok(t, s.PutSecret(ctx, secret("b", 1, 1), By))
	want(t, s.PutSecret(ctx, secret("a", 1, 1), By), store.ErrConflict)
	v, err := s.SecretVersion(ctx, "w", "a")
	ok(t, err)
	equal(t, "version", v, 1)
	k := store.SecretKey{Workload: "w", Name: "a"}
	ok(t, s.ConfirmSecret(ctx, k, 1, confirmation(2, "k1"), By))
	ok(t, s.ConfirmSecret(ctx, k, 1, confirmation(2, "k1"), By)) // again is no harm
	want(t, s.ConfirmSecret(ctx, k, 2, confirmation(2, "k1"), By), store.ErrConflict)
	list, err := s.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "secrets", len(list), 2)
	for policy, releasable := range []bool{false, true, true, false} {
		equal(t, fmt.Sprint("releasable under ", policy), list[0].Releasable(Digest("policy", policy), stands), releasable)
	}
	equal(t, "releasable under none", list[0].Releasable(audit.Digest{}, stands), false)
	// A new version is confirmed for nothing but its own policy, and the old one's
	// ciphertext is gone.
	ok(t, s.PutSecret(ctx, secret("a", 2, 3), By))
	list, err = s.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "sealed", string(list[0].Sealed), "sealed a 2")
	equal(t, "releasable under the confirmed", list[0].Releasable(Digest("policy", 2), stands), false)
	want(t, s.ConfirmSecret(ctx, k, 1, confirmation(2, "k1"), By), store.ErrConflict)
	// Rotation.
	stale, err := s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	equal(t, "stale", len(stale), 2)
	re := stale[0]
	re.Sealed, re.KeyID = []byte("again"), "k2"
	ok(t, s.RewrapSecret(ctx, re, "k1", By))
	want(t, s.RewrapSecret(ctx, re, "k1", By), store.ErrConflict)
	stale, err = s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	equal(t, "stale", len(stale), 1)
	testRotatedConfirmations(t, s)
	// Deletion.
	ok(t, s.DeleteSecret(ctx, k, By))
	want(t, s.DeleteSecret(ctx, k, By), store.ErrNotFound)
	want(t, s.ConfirmSecret(ctx, k, 2, confirmation(2, "k1"), By), store.ErrNotFound)
	want(t, s.RewrapSecret(ctx, re, "k2", By), store.ErrConflict)
	all, err := s.AllSecrets(ctx, store.SecretKey{}, 10)
	ok(t, err)
	equal(t, "all", len(all), 1)
	equal(t, "without ciphertext", len(all[0].Sealed), 0)
	v, err = s.SecretVersion(ctx, "w", "a")
	ok(t, err)
	equal(t, "version after deletion", v, 2)
	ok(t, s.PutSecret(ctx, secret("a", 3, 1), By))
	all, err = s.AllSecrets(ctx, k, 10)
	ok(t, err)
	equal(t, "page", all[0].Name, "b")
}

// testRotatedConfirmations has a's version 2, which k2 sealed, confirmed under k1.
func testRotatedConfirmations(t *testing.T, s store.Store) {
	ctx, k := context.Background(), store.SecretKey{Workload: "w", Name: "a"}
	for _, p := range []int{4, 5, 6} {
		ok(t, s.ConfirmSecret(ctx, k, 2, confirmation(p, "k1"), By))
	}
	ok(t, s.ConfirmSecret(ctx, k, 2, confirmation(4, "k0"), By)) // again: the newer MAC
	list, err := s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	equal(t, "stale", len(list), 2)
	x := list[0]
	said := func(x store.Secret) string {
		out := map[audit.Digest]string{}
		for _, c := range x.Confirmed {
			out[c.Policy] = string(c.MAC) + "/" + c.KeyID
		}
		return fmt.Sprint(len(out), " ", out[Digest("policy", 4)], " ", out[Digest("policy", 5)], " ", out[Digest("policy", 6)])
	}
	equal(t, "confirmations", said(x), "3 mac 4 k0/k0 mac 5 k1/k1 mac 6 k1/k1")
	ok(t, s.ConfirmSecret(ctx, k, 2, confirmation(6, "k2"), By)) // meanwhile
	old := x.KeyID
	x.KeyID = "k2"
	for i := range x.Confirmed {
		x.Confirmed[i].MAC, x.Confirmed[i].KeyID = []byte("rotated"), "k2"
		if x.Confirmed[i].Policy == Digest("policy", 5) {
			x.Confirmed[i].MAC = nil // it did not hold
		}
	}
	ok(t, s.RewrapSecret(ctx, x, old, By))
	list, err = s.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "rotated", said(list[0]), "3 rotated/k2 /k2 mac 6 k2/k2")
	list, err = s.StaleSecrets(ctx, "k2", 10)
	ok(t, err)
	for _, y := range list {
		equal(t, "still stale", y.Name, "b")
	}
}

func testSecretRace(t *testing.T, f func(store.Options) store.Store) {
	stores, ctx := []store.Store{open(t, f), open(t, f)}, context.Background()
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := stores[i%2].PutSecret(ctx, secret("a", 1, i), By)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	equal(t, "written", won.Load(), 1)
}

func testTokens(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	tok := store.Token{ID: "t1", Name: "ops", Hash: Digest("token", 1), Scopes: []store.Scope{store.ScopeRead, store.ScopeSecret}, Expires: T0.Add(time.Hour)}
	ok(t, s.PutToken(ctx, tok, By))
	want(t, s.PutToken(ctx, tok, By), store.ErrConflict)
	same := tok
	same.ID = "t2"
	want(t, s.PutToken(ctx, same, By), store.ErrConflict)
	got, err := s.TokenByHash(ctx, tok.Hash)
	ok(t, err)
	equal(t, "read", got.Has(store.ScopeRead, T0), true)
	equal(t, "policy", got.Has(store.ScopePolicy, T0), false)
	equal(t, "expired", got.Has(store.ScopeRead, T0.Add(time.Hour)), false)
	_, err = s.TokenByHash(ctx, Digest("token", 2))
	want(t, err, store.ErrNotFound)
	ok(t, s.RevokeToken(ctx, "t1", By))
	want(t, s.RevokeToken(ctx, "t1", By), store.ErrNotFound)
	got, err = s.TokenByHash(ctx, tok.Hash)
	ok(t, err)
	equal(t, "revoked", got.Has(store.ScopeRead, T0), false)
	list, err := s.Tokens(ctx)
	ok(t, err)
	equal(t, "tokens", len(list), 1)
	tok.ID, tok.Hash, tok.Scopes = "t3", Digest("token", 3), []store.Scope{"everything"}
	want(t, s.PutToken(ctx, tok, By), store.ErrInvalid)
	tok.Scopes = nil
	want(t, s.PutToken(ctx, tok, By), store.ErrInvalid)
}

func testValues(t *testing.T, f func(store.Options) store.Store) {
	s, two, ctx := open(t, f), open(t, f), context.Background()
	_, err := s.Value(ctx, "seen")
	want(t, err, store.ErrNotFound)
	ok(t, s.PutValue(ctx, "seen", store.Value{Data: []byte{0, 1, 255}, Version: 1}))
	want(t, two.PutValue(ctx, "seen", store.Value{Data: []byte("x"), Version: 1}), store.ErrConflict)
	v, err := two.Value(ctx, "seen")
	ok(t, err)
	equal(t, "data", string(v.Data), "\x00\x01\xff")
	ok(t, two.PutValue(ctx, "seen", store.Value{Version: v.Version + 1}))
	want(t, s.PutValue(ctx, "seen", store.Value{Data: []byte("x"), Version: 2}), store.ErrConflict)
	v, err = s.Value(ctx, "seen")
	ok(t, err)
	equal(t, "empty", len(v.Data), 0)
	_, err = s.LatestHead(ctx)
	want(t, err, store.ErrNotFound)
	ok(t, s.PutHead(ctx, 5, []byte("five")))
	ok(t, two.PutHead(ctx, 4, []byte("four")))
	h, err := s.LatestHead(ctx)
	ok(t, err)
	equal(t, "head", string(h), "five")
}

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
	s := f(store.Options{Queue: 1, Batch: 1, Clock: func() time.Time { return T0 }})
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
