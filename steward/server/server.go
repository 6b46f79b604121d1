// Package server is the Steward on the network: one TLS 1.3 port with the enrolment,
// the administrators' interface, the public form's appraisal, Enarx's form where it is
// wanted, health and metrics. It decides nothing itself: that is next door in enrol.
// What is remembered is store's, who issues is authority, pages are web's.
//
// docs/steward-protocol.md has the routes and codes in words.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
)

// Options are what a Server is made of. Store and Authority are needed; the rest has
// the defaults that stand with it.
type Options struct {
	Store     store.Store
	Authority *authority.Authority
	Names     authority.Names // the Steward's own
	Seal      Sealer          // nil: secrets can be neither set nor released

	AllowSimulated bool
	TrustDomain    string                 // "": the authority's
	Collateral     func() *collateral.Set // nil: none but what is stapled
	Seen           *collateral.HighWater  // nil: not remembered. Kept in Store while it serves
	Enarx          *enrol.Enarx           // nil: the endpoint is off

	// Retention is how long decisions are kept, at least MinRetention; 0: for ever.
	Retention time.Duration

	// Publish writes the roots where people take them from, after another process made
	// new ones; nil: nowhere.
	Publish func() error

	// Web makes the pages for everything that is no route of this package; nil: there
	// are none.
	Web func(*Server) http.Handler

	Limits Limits
	Log    *slog.Logger     // nil: nothing is logged
	Clock  func() time.Time // nil: time.Now
	Build  string
}

// A Sealer keeps secrets at rest; steward/sealing is one.
type Sealer interface {
	// Seal seals a secret's version; what it gives names the key by its id.
	// It opens with the policy that it was set under, and no other.
	Seal(k store.SecretKey, version uint64, policy audit.Digest, plain []byte) (sealed []byte, keyID string, err error)
	Open(s store.Secret) ([]byte, error)
	// Confirm makes a confirmation, Confirmed says whether one holds.
	Confirm(k store.SecretKey, version uint64, policy audit.Digest) (store.Confirmation, error)
	Confirmed(s store.Secret, c store.Confirmation) error
}

// Limits bound what clients may take. Zero fields have the defaults.
type Limits struct {
	// Rate and Burst are what one client (an IPv4 address, an IPv6 /64) may ask for, in
	// requests a second and at once: 2,000 and 4,000. A refused request counts
	// RefusedCost times: 40.
	Rate, Burst, RefusedCost float64
	// Public is the same for the public form: 1 a second, 10 at once for one client,
	// and 20 a second, 50 at once for all.
	PublicRate, PublicBurst, PublicAllRate, PublicAllBurst float64
	Running                                                int // enrolments judged at once: 64
	Waiting                                                int // and that wait for it: 512
	Connections                                            int // 4,096
	ClientConnections                                      int // of one client: 512
}

func (l Limits) withDefaults() Limits {
	set := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	count := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Rate, 2000)
	set(&l.Burst, 4000)
	set(&l.RefusedCost, 40)
	set(&l.PublicRate, 1)
	set(&l.PublicBurst, 10)
	set(&l.PublicAllRate, 20)
	set(&l.PublicAllBurst, 50)
	count(&l.Running, 64)
	count(&l.Waiting, 512)
	count(&l.Connections, 4096)
	count(&l.ClientConnections, 512)
	return l
}

// Server is a Steward.
type Server struct {
	o        Options
	identity *identity
	enrol    *enrol.Service
	metrics  *metrics
	clients  *buckets
	public   *buckets
	everyone *buckets
	gate     *gate
	handler  http.Handler
	closing  atomic.Bool
	pinged   lately[struct{}]
	seen     seen

	unpublished bool // of the goroutine that rereads
}

// New makes a Server. Its TLS key is new and in memory alone.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TrustDomain == "" {
		o.TrustDomain = o.Authority.TrustDomain()
	}
	o.Limits = o.Limits.withDefaults()
	l := o.Limits
	s := &Server{o: o, clients: newBuckets(l.Rate, l.Burst, o.Clock), public: newBuckets(l.PublicRate, l.PublicBurst, o.Clock),
		everyone: newBuckets(l.PublicAllRate, l.PublicAllBurst, o.Clock), gate: newGate(l.Running, l.Waiting)}
	var err error
	if s.identity, err = newIdentity(o.Authority, o.Names, o.Clock); err != nil {
		return nil, err
	}
	e := enrol.Options{Store: o.Store, Authority: o.Authority, SPKI: s.identity.spki, Names: o.Names, Collateral: o.Collateral, Seen: o.Seen,
		AllowSimulated: o.AllowSimulated, TrustDomain: o.TrustDomain, Build: o.Build, Clock: o.Clock, Enarx: o.Enarx}
	if o.Seal != nil {
		e.Unseal, e.Confirmed = o.Seal.Open, o.Seal.Confirmed
	}
	if s.enrol, err = enrol.New(ctx, e); err != nil {
		return nil, err
	}
	if o.Retention != 0 && o.Retention < MinRetention {
		return nil, fmt.Errorf("decisions kept for %s, wanted at least %s: certificates may be that old", o.Retention, MinRetention)
	}
	s.metrics = newMetrics(s)
	s.seen = seen{store: o.Store, have: o.Seen, log: o.Log}
	s.handler = s.routes()
	return s, nil
}

// Handler is the Server without its TLS, for tests and for the command line, which
// asks the store of a state folder through the same routes.
func (s *Server) Handler() http.Handler { return s.handler }

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST "+protocol.PathChallenge, s.challenge)
	m.HandleFunc("POST "+protocol.PathEnrol, s.enrolRequest)
	m.HandleFunc("POST /v1/verify", s.verify)
	m.HandleFunc("GET /ca.pem", s.caPEM)
	m.HandleFunc("GET /jwks.json", s.jwks)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	m.HandleFunc("GET /readyz", s.ready)
	m.HandleFunc("GET /metrics", s.metricsPage)
	s.adminRoutes(m)
	m.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, http.StatusNotFound, "not-found", "there is no such route: docs/steward-protocol.md lists them")
	})
	if s.o.Enarx != nil {
		m.HandleFunc("POST /{$}", s.enarx)
		m.HandleFunc("GET /enarx-ca.pem", func(w http.ResponseWriter, _ *http.Request) { writePEM(w, s.o.Authority.EnarxPEM()) })
	}
	if s.o.Web != nil {
		m.Handle("/", s.o.Web(s))
	}
	return s.observe(m)
}

// TLSConfig is TLS 1.3 without resumption: each connection has its own exporter.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, GetCertificate: s.identity.certificate, NextProtos: []string{"http/1.1"}}
}

// Serve answers on l until ctx ends, then finishes what has begun, for grace at
// most. Every so often it reads what other processes changed and forgets what is old.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	h := &http.Server{
		Handler: s.handler, TLSConfig: s.TLSConfig(), ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		// Between challenge and request a Keep has its report made.
		IdleTimeout: enrol.ChallengeLife, MaxHeaderBytes: 32 << 10,
	}
	h.Protocols = new(http.Protocols)
	h.Protocols.SetHTTP1(true)
	if err := s.seen.sync(ctx); err != nil {
		return err
	}
	tick, stop := context.WithCancel(ctx)
	defer stop()
	kept := make(chan struct{})
	go func() { defer close(kept); s.keep(tick) }()
	done := make(chan error, 1)
	go func() {
		err := h.Serve(tls.NewListener(newListener(l, s.o.Limits.Connections, s.o.Limits.ClientConnections), h.TLSConfig))
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		s.closing.Store(true) // readyz says so
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if h.Shutdown(end) != nil {
			_ = h.Close()
		}
		err = <-done
	}
	stop()
	<-kept
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.seen.sync(last); err != nil {
		s.o.Log.Error("what was seen of collateral could not be kept", "error", err)
	}
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// keep does what must be done from time to time.
func (s *Server) keep(ctx context.Context) {
	fast, slow := time.NewTicker(10*time.Second), time.NewTicker(time.Minute)
	defer fast.Stop()
	defer slow.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-fast.C:
			s.reread(ctx)
			if err := s.seen.sync(ctx); err != nil && ctx.Err() == nil {
				s.o.Log.Error("what was seen of collateral could not be kept", "error", err)
			}
		case <-slow.C:
			s.keepStore(ctx)
		}
	}
}

// reread takes up what other processes changed.
func (s *Server) reread(ctx context.Context) {
	fresh, err := s.o.Authority.Reload()
	if err != nil {
		s.o.Log.Error("the keys could not be read again", "error", err)
	}
	if fresh {
		s.o.Log.Info("keys were read again")
		s.unpublished = true
	}
	if s.unpublished && s.o.Publish != nil {
		if err := s.o.Publish(); err != nil { // the next time, then
			s.o.Log.Error("the new roots could not be written", "error", err)
		} else {
			s.unpublished = false
		}
	}
	if err := s.identity.renew(); err != nil {
		s.o.Log.Error("the server's certificate could not be renewed", "error", err)
	}
	if err := s.enrol.Refresh(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.Error("the epoch could not be read", "error", err)
	}
}

// keepStore forgets old challenges and signs the log's end.
func (s *Server) keepStore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// A challenge is remembered for an hour after its end already (enrol); purging
	// behind the clock leaves room for one that is set back.
	if _, err := s.o.Store.Purge(ctx, s.o.Clock().Add(-time.Hour), 100_000); err != nil && ctx.Err() == nil {
		s.o.Log.Error("old challenges could not be forgotten", "error", err)
	}
	if err := s.forgetDecisions(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.Error("old decisions could not be forgotten", "error", err)
	}
	if _, err := s.signHead(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.Error("the audit log's head could not be kept", "error", err)
	}
}
