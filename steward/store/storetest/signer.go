package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
)

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
	for name, wanted := range map[string]uint64{"a": 7, "b": 1, "c": 0} {
		v, err := s.SignedVersion(ctx, "key:1", name)
		ok(t, err)
		equal(t, "the highest version of "+name, v, wanted)
	}
	v, err := s.SignedVersion(ctx, "key:2", "a")
	ok(t, err)
	equal(t, "the highest version of another signer", v, 0)
	// The record has it without being told.
	d, err := s.Decisions(ctx, store.DecisionFilter{Limit: 1})
	ok(t, err)
	one, err := s.Decision(ctx, d[0].Seq)
	ok(t, err)
	equal(t, "signer, name and version in the record", fmt.Sprint(one.Record.Signer, one.Record.SignedName, one.Record.SignedVersion), "key:1b1")
	ok(t, store.Agree(ctx, s))
}

// testSignerRace lets many callers, over two connections, bring versions in any order:
// what is admitted never goes down, in the order of the log.
func testSignerRace(t *testing.T, f func(store.Options) store.Store) {
	stores, ctx := []store.Store{open(t, f), open(t, f)}, context.Background()
	var mu sync.Mutex
	admitted := map[uint64]uint64{} // version by record
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			d, v := Admitted(i, T0), uint64(1+i*7%10)
			d.Signer = &store.SignerMark{Signer: "key:1", Name: "a", Version: v}
			r, err := stores[i%2].Decide(ctx, d)
			switch {
			case err == nil:
				mu.Lock()
				admitted[r.Seq] = v
				mu.Unlock()
			case !errors.Is(err, store.ErrDowngrade):
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	var highest uint64
	for _, seq := range slices.Sorted(maps.Keys(admitted)) {
		if v := admitted[seq]; v < highest {
			t.Errorf("record %d admits version %d after %d", seq, v, highest)
		} else {
			highest = v
		}
	}
	equal(t, "the highest version admitted", highest, 10)
	Verify(t, stores[0])
}

// testSignerStanding lets decisions rest on a signer's policy, secrets and places.
func testSignerStanding(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	subject := "signer:" + strings.Repeat("ab", 32) + "/app"
	put := func(of string, version uint64) {
		t.Helper()
		ok(t, s.PutPolicy(ctx, store.Policy{Workload: of, Version: version, Text: fmt.Appendf(nil, "%s %d", of, version)}, By))
	}
	put(subject, 1)
	ok(t, s.PutSecret(ctx, store.Secret{SecretKey: store.SecretKey{Workload: subject, Name: "db"}, Version: 1, Sealed: []byte("x"), KeyID: "k", Policy: Digest("policy", 1)}, By))
	decide := func(n int, change func(*store.Decision)) error {
		d := Admitted(n, T0)
		d.Record.Workload = fmt.Sprintf("sha256:%d", n)
		d.Standing = &store.Standing{Subject: subject, Policy: 1, Secrets: map[string]uint64{"db": 1}, Alone: true}
		d.Lease = &store.LeaseRequest{Subject: subject, Instance: d.Record.Instance, Until: T0.Add(time.Hour), Max: 2}
		if change != nil {
			change(&d)
		}
		_, err := s.Decide(ctx, d)
		return err
	}
	ok(t, decide(1, nil))
	want(t, decide(2, func(d *store.Decision) { d.Standing.Policy = 2 }), store.ErrConflict)
	want(t, decide(3, func(d *store.Decision) { d.Standing.Secrets["db"] = 2 }), store.ErrConflict)
	put("sha256:4", 1) // allowed, or taken away, by its digest meanwhile
	want(t, decide(4, nil), store.ErrConflict)
	put(subject, 2)
	want(t, decide(5, nil), store.ErrConflict)
	second := func(d *store.Decision) { d.Standing.Policy = 2 }
	ok(t, decide(6, second))
	// Two digests took the signer's two places.
	want(t, decide(7, second), store.ErrInstances)
	ls, err := s.Leases(ctx, subject, T0)
	ok(t, err)
	equal(t, "places of the signer", len(ls), 2)
	ls, err = s.Leases(ctx, "sha256:1", T0)
	ok(t, err)
	equal(t, "places of the digest", len(ls), 0)
}
