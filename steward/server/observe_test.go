package server

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/donjon-tee/donjon/steward/store"
)

// A counting store counts the questions that anyone can cause.
type counting struct {
	store.Store
	pings, stats atomic.Int64
}

func (c *counting) Ping(ctx context.Context) error {
	c.pings.Add(1)
	return c.Store.Ping(ctx)
}

func (c *counting) Stats(ctx context.Context) (store.Stats, error) {
	c.stats.Add(1)
	return c.Store.Stats(ctx)
}

// A ping takes the writers' lock, which decisions need.
func TestReadinessAndMetricsDoNotLoadTheStore(t *testing.T) {
	c := &counting{}
	s := newSteward(t, func(o *Options) { c.Store = o.Store; o.Store = c })
	const n = 100
	for range n {
		for _, path := range []string{"/readyz", "/metrics"} {
			if code := s.adminAs("", "GET", path, nil, nil); code != 200 {
				t.Fatalf("%s: status %d", path, code)
			}
		}
	}
	if p, st := c.pings.Load(), c.stats.Load(); p == 0 || st == 0 || p > n/2 || st > n/2 {
		t.Errorf("%d requests each: found %d pings and %d counts of the store, wanted one a second", n, p, st)
	}
}
