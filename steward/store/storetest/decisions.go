package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

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
