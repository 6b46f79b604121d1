package server

import (
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/steward/store"
)

// aList is a set with an issuer's revocation list of that number.
func aList(issuer string, number int64) *collateral.Set {
	return &collateral.Set{Lists: []*x509.RevocationList{{RawIssuer: []byte(issuer), Number: big.NewInt(number), ThisUpdate: time.Unix(1e9, 0)}}}
}

// older says whether the memory refuses a list as older than one seen.
func older(h *collateral.HighWater, s *collateral.Set) bool {
	checks := collateral.Rollback(s, h)
	return len(checks) > 0 && checks[0].Status == "failed"
}

// What one server saw of collateral counts at its replicas, and after a restart.
func TestSeenIsKeptAndShared(t *testing.T) {
	one, two := &collateral.HighWater{}, &collateral.HighWater{}
	s := newSteward(t, func(o *Options) { o.Seen = one })
	ctx := t.Context()
	replica := seen{store: s.store, have: two, log: s.server.o.Log}
	one.Raise(aList("a", 7))
	two.Raise(aList("b", 5))
	for _, x := range []*seen{&s.server.seen, &replica, &s.server.seen} {
		if err := x.sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for name, h := range map[string]*collateral.HighWater{"the first": one, "the replica": two} {
		if !older(h, aList("a", 6)) || older(h, aList("a", 7)) || !older(h, aList("b", 4)) || older(h, aList("b", 5)) {
			t.Errorf("%s does not know what both saw", name)
		}
	}
	// The end of a server keeps what it saw last; the next one begins with it.
	one.Raise(aList("a", 9))
	s.stop()
	again := &collateral.HighWater{}
	s.start(func(o *Options) { o.Seen = again })
	for end := time.Now().Add(5 * time.Second); !older(again, aList("a", 8)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("after a restart an older list is not told apart")
		}
	}
}

// A value that was changed in the database lowers nothing that was seen here.
func TestSeenThatWasForged(t *testing.T) {
	have := &collateral.HighWater{}
	s := newSteward(t, func(o *Options) { o.Seen = have })
	s.stop()
	have.Raise(aList("a", 7))
	ctx := t.Context()
	if err := s.server.seen.sync(ctx); err != nil {
		t.Fatal(err)
	}
	s.forge("UPDATE kept SET data = ?", []byte(`{"version":1,"marks":{}}`))
	if err := s.server.seen.sync(ctx); err != nil || !older(have, aList("a", 6)) || !strings.Contains(s.log.String(), "was changed in the database") {
		t.Errorf("found %v", err)
	}
	fresh := seen{store: s.store, have: &collateral.HighWater{}, log: s.server.o.Log}
	if err := fresh.sync(ctx); err != nil || !older(fresh.have, aList("a", 6)) {
		t.Errorf("it was not written anew: %v", err)
	}
	// What a newer release wrote is an error, and stays.
	v, err := s.store.Value(ctx, seenKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.PutValue(ctx, seenKey, store.Value{Data: []byte(`{"version":2,"marks":{}}`), Version: v.Version + 1}); err != nil {
		t.Fatal(err)
	}
	have.Raise(aList("a", 8))
	if err := s.server.seen.sync(ctx); err == nil {
		t.Error("a memory in an unknown form is none")
	}
	if w, err := s.store.Value(ctx, seenKey); err != nil || !strings.Contains(string(w.Data), `"version":2`) {
		t.Errorf("it was written over: %v", err)
	}
}
