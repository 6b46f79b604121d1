// Package fetch gets collateral from its vendors: AMD's key distribution service,
// Intel's provisioning certification service, or a PCCS that stands in for it.
//
// It asks only addresses that its caller or this package named, never one that
// stands in evidence or in a certificate. What comes back is kept only if it is what
// was asked for and its signatures hold up to a root that the caller has pinned.
// Network, clock, sleep and cache are given; nothing here is trusted by a verifier,
// which looks at everything again.
package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
)

// Doer sends a request; an *http.Client is one. NewHTTP makes a fitting one.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Client gets collateral. Its fields are set before first use and not changed after;
// it may then be used by several goroutines.
type Client struct {
	HTTP Doer
	// Cache keeps answers; nil: none are kept.
	Cache Store
	// Now is the time; Sleep waits, or gives ctx's error. Both are needed.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	// Roots are the vendors' roots, pinned by the caller. Nothing is taken that does
	// not hang from one of them.
	Roots []*x509.Certificate

	// Base addresses, https (http on a loopback address); "": the vendor's. With PCCS
	// set, it answers all that Intel's two servers do.
	KDSBase, PCSBase, IntelCABase, PCCS string

	// Offline asks nobody; what the cache holds is given however old it is.
	Offline bool
	// MaxAge is how long revocation lists and documents are used without asking the
	// vendor again, beside their own nextUpdate; 0: DefaultMaxAge.
	MaxAge time.Duration
	// Tries bounds how often one request is sent; 0: 4.
	Tries int
	// TryTime bounds one try, from the first byte sent to the last received; 0: 30 s.
	TryTime time.Duration
	// MaxWait is the longest wait between tries; where a server asks for a longer
	// one, the request fails, and further ones fail at once until then; 0: 30 s.
	MaxWait time.Duration
	// Pace is the least time between two requests for a VCEK; 0: 10 s.
	Pace time.Duration

	signatures pki.Cache
	mu         sync.Mutex
	flights    map[string]*flight
	notBefore  map[string]time.Time // by host: it asked to be left alone
	nextPaced  map[string]time.Time
}

// DefaultMaxAge is Client.MaxAge's default.
const DefaultMaxAge = 24 * time.Hour

// Result is an answer, from the vendor or from the cache.
type Result struct {
	Request Request
	Set     *collateral.Set // what was asked for, and the chain of its issuer
	Fetched time.Time
	// Until is the earliest nextUpdate of lists and documents, else the end of the
	// certificates.
	Until time.Time
	// Cached says that it comes from the cache; Problem why the vendor's answer does
	// not take its place, nil where it was fresh enough not to ask.
	Cached  bool
	Problem error
}

// Expired says whether the answer counts no more at the time.
func (r Result) Expired(at time.Time) bool { return !at.Before(r.Until) }

// ErrNotCached is what Get gives offline for something that the cache lacks.
var ErrNotCached = errors.New("fetch: not in the cache, and no server is asked")

type flight struct {
	done chan struct{}
	res  Result
	err  error
}

// Get gives what r asks for: from the cache while that is fresh, else from the
// vendor, else from the cache however old, with Problem set. Callers that ask for the
// same at once share one request.
func (c *Client) Get(ctx context.Context, r Request) (Result, error) {
	if r.pick == nil || c.Now == nil || c.Sleep == nil {
		return Result{}, errors.New("fetch: the request or the client is not made up whole")
	}
	key := r.Key()
	for {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		c.mu.Lock()
		f := c.flights[key]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			if c.flights == nil {
				c.flights = map[string]*flight{}
			}
			c.flights[key] = f
			c.mu.Unlock()
			return c.fly(ctx, r, f)
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-f.done:
		}
		// Whoever asked may have gone away; then this caller asks itself.
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return f.res, f.err
		}
	}
}

// fly makes the request that others wait for.
func (c *Client) fly(ctx context.Context, r Request, f *flight) (Result, error) {
	f.err = errors.New("fetch: the request ended without a word") // a panic on the way
	defer func() {
		c.mu.Lock()
		delete(c.flights, r.Key())
		c.mu.Unlock()
		close(f.done)
	}()
	f.res, f.err = c.get(ctx, r)
	return f.res, f.err
}

func (c *Client) get(ctx context.Context, r Request) (Result, error) {
	cached, have := c.cached(ctx, r)
	now := c.Now()
	if have && c.fresh(cached, now) {
		return cached, nil
	}
	if c.Offline {
		if !have {
			return Result{}, fmt.Errorf("%w: %s", ErrNotCached, r.What)
		}
		cached.Problem = errors.New("fetch: offline")
		return cached, nil
	}
	set, err := c.ask(ctx, r)
	if err == nil && have {
		if err = notOlder(set, cached.Set); err != nil {
			err = &Error{URL: c.address(r), Err: err}
		}
	}
	if err != nil {
		if have && ctx.Err() == nil {
			cached.Problem = err
			return cached, nil
		}
		return Result{}, err
	}
	res := Result{Request: r, Set: set, Fetched: c.Now(), Until: until(set)}
	if err := c.keep(r, set, res.Fetched); err != nil {
		res.Problem = err // got, but not kept
	}
	return res, nil
}

// notOlder says whether a server gave something older than what it gave before.
func notOlder(set, before *collateral.Set) error {
	var seen collateral.HighWater
	seen.Raise(before)
	for _, c := range collateral.Rollback(set, &seen) {
		if c.Wanted != "" {
			return fmt.Errorf("found %s, wanted %s, as the cache has", c.Found, c.Wanted)
		}
	}
	return nil
}

// fresh says whether an answer of the cache needs no asking.
func (c *Client) fresh(r Result, now time.Time) bool {
	maxAge := c.MaxAge
	if maxAge <= 0 {
		maxAge = DefaultMaxAge
	}
	if r.Expired(now) || now.Before(r.Fetched) { // the clock ran backwards: ask
		return false
	}
	changes := len(r.Set.Lists)+len(r.Set.TCBInfos)+len(r.Set.QEIdentities) > 0
	return !changes || now.Before(r.Fetched.Add(maxAge))
}

func until(s *collateral.Set) time.Time {
	var out time.Time
	earlier := func(t time.Time) {
		if out.IsZero() || t.Before(out) {
			out = t
		}
	}
	for _, l := range s.Lists {
		earlier(l.NextUpdate) // zero, no end: never fresh
	}
	for _, d := range append(append([]collateral.Document{}, s.TCBInfos...), s.QEIdentities...) {
		if h, err := d.Head(); err == nil {
			earlier(h.NextUpdate)
		}
	}
	if len(s.Lists)+len(s.TCBInfos)+len(s.QEIdentities) == 0 {
		for _, x := range s.Certificates {
			earlier(x.NotAfter)
		}
	}
	return out
}

// cached loads r's answer. Anything that is not right with it is the same as none.
func (c *Client) cached(ctx context.Context, r Request) (Result, bool) {
	if c.Cache == nil {
		return Result{}, false
	}
	raw, err := c.Cache.Load(r.Key())
	if err != nil {
		return Result{}, false
	}
	b, err := collateral.ParseBundle(raw)
	if err != nil || len(b.Items) == 0 {
		return Result{}, false
	}
	set, err := c.accept(ctx, r, b.Set(), true)
	if err != nil {
		return Result{}, false
	}
	fetched := b.Items[0].Fetched
	for _, i := range b.Items {
		if i.Fetched.Before(fetched) {
			fetched = i.Fetched
		}
	}
	return Result{Request: r, Set: set, Fetched: fetched, Until: until(set), Cached: true}, true
}

func (c *Client) keep(r Request, set *collateral.Set, fetched time.Time) error {
	if c.Cache == nil {
		return nil
	}
	var b collateral.Bundle
	b.Add(set, fetched)
	raw, err := b.Encode()
	if err != nil {
		return err
	}
	return c.Cache.Save(r.Key(), raw)
}

// accept takes what was asked for out of an answer and verifies it up to Roots. Of
// chains, only what is verified stays. With local, what that needs further comes
// from the cache alone.
func (c *Client) accept(ctx context.Context, r Request, answer *collateral.Set, local bool) (*collateral.Set, error) {
	set, err := r.pick(answer)
	if err != nil {
		return nil, err
	}
	good := collateral.Verified(set, c.Roots, &c.signatures)
	if r.needs != nil && len(good.Certificates) == 0 {
		chain, have := c.cached(ctx, *r.needs)
		if !have && !local {
			if chain, err = c.Get(ctx, *r.needs); err != nil {
				return nil, fmt.Errorf("its issuer: %w", err)
			}
			have = true
		}
		if have {
			all := collateral.Verified(collateral.Merge(set, chain.Set), c.Roots, &c.signatures)
			if good.Certificates = all.Certificates; len(good.Certificates) > 0 {
				good, err = r.pick(&collateral.Set{Certificates: intersect(set.Certificates, good.Certificates)})
				if err != nil {
					return nil, errors.New("it is not signed by its issuer")
				}
			}
		}
	}
	switch {
	case len(good.Lists) != len(set.Lists) || len(good.TCBInfos) != len(set.TCBInfos) || len(good.QEIdentities) != len(set.QEIdentities):
		return nil, errors.New("its signature does not hold up to the vendor's root")
	case len(set.Lists)+len(set.TCBInfos)+len(set.QEIdentities) == 0 && len(good.Certificates) != len(set.Certificates):
		return nil, errors.New("its signature does not hold up to the vendor's root")
	}
	return good, nil
}

func intersect(a, b []*x509.Certificate) (out []*x509.Certificate) {
	for _, x := range a {
		for _, y := range b {
			if x.Equal(y) {
				out = append(out, x)
				break
			}
		}
	}
	return out
}

// All gets several things, one after the other. Each has its result or its error;
// set is everything that was got. The error is ctx's alone.
func (c *Client) All(ctx context.Context, requests []Request) (set *collateral.Set, results []Outcome, err error) {
	set = &collateral.Set{}
	for _, r := range requests {
		res, err := c.Get(ctx, r)
		if err := ctx.Err(); err != nil {
			return set, results, err
		}
		res.Request = r
		results = append(results, Outcome{res, err})
		if err == nil {
			set = collateral.Merge(set, res.Set)
		}
	}
	return set, results, nil
}

// Outcome is what became of one request.
type Outcome struct {
	Result
	Err error
}
