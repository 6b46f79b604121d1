// Package web is the Steward's pages: rendered on the server, without a script, a
// build step or anything from elsewhere. An administrator reads decisions, the fleet,
// workloads and what expires; anyone may drop evidence into a form and read the
// verdict on its platform. Nothing can be changed here: that is for the command line
// and the API. docs/steward-web.md says what a page shows and to whom.
//
// Every text that came from evidence, a client or the database is escaped twice: for
// terminals and eyes (verdict.Escape: control and bidirectional characters, THREATS
// T30) and for HTML (html/template).
package web

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// Store is what the pages need of steward/store.
type Store interface {
	Decisions(ctx context.Context, f store.DecisionFilter) ([]store.DecisionRow, error)
	Decision(ctx context.Context, seq uint64) (*store.DecisionDetail, error)
	Counts(ctx context.Context, from, to time.Time, span store.Span) ([]store.Count, error)
	Workload(ctx context.Context, digest string) (*store.Workload, error)
	Workloads(ctx context.Context, after string, limit int) ([]store.Workload, error)
	Policy(ctx context.Context, workload string) (*store.Policy, error)
	PolicyVersion(ctx context.Context, workload string, version uint64) (*store.Policy, error)
	Policies(ctx context.Context, workload string, limit int) ([]store.Policy, error)
	Subjects(ctx context.Context, after string, limit int) ([]store.Policy, error)
	SignedVersion(ctx context.Context, signer, name string) (uint64, error)
	AllSecrets(ctx context.Context, after store.SecretKey, limit int) ([]store.Secret, error)
	Certificates(ctx context.Context, f store.CertificateFilter) ([]store.CertificateRow, error)
	Certificate(ctx context.Context, serial []byte) (*store.CertificateRow, error)
	Leases(ctx context.Context, workload string, now time.Time) ([]store.Lease, error)
	TokenByHash(ctx context.Context, hash [32]byte) (*store.Token, error)
	Epoch(ctx context.Context) (store.Epoch, error)
	Value(ctx context.Context, key string) (*store.Value, error)
	PutValue(ctx context.Context, key string, v store.Value) error
	Append(ctx context.Context, r audit.Record, by store.Actor) (store.Receipt, error)
}

// Submission is what somebody dropped into the form.
type Submission struct {
	Evidence   []byte          // 1 byte to envelope.MaxSize
	Collateral *collateral.Set // vendor data sent along; nil: none
}

// Options are the pages'. Store, Verify and TokenHash must be set.
type Options struct {
	Store Store
	// Verify judges the platform alone, at the present time, for anyone who asks: it
	// fetches nothing, and writes neither cache nor decision (THREATS T29). nil: it is
	// too busy.
	Verify func(ctx context.Context, s Submission) *verdict.Verdict
	// TokenHash is how Store knows an administrator's token, given without space around
	// it.
	TokenHash func(token string) [32]byte
	// Confirmed says whether a confirmation of a secret holds. nil: none does.
	Confirmed func(store.Secret, store.Confirmation) error
	// Collateral describes the vendor data that the Steward has. nil: it keeps none.
	Collateral func(ctx context.Context) ([]collateral.Line, error)
	// Sessions keeps who is signed in. nil: a value in Store, which replicas share.
	Sessions Sessions
	// Quota says whether a client may have evidence judged now, or when to ask again.
	// nil: 10 at once and one more every 6 seconds for each client.
	Quota func(r *http.Request) (retry time.Duration, ok bool)
	// Client names who asks, for quotas and the log. nil: the connection's address,
	// of IPv6 the first 64 bits.
	Client func(r *http.Request) string
	// AllowSimulated says that the Steward admits simulated evidence: every page then
	// says so.
	AllowSimulated bool
	// CAPath and HealthPath are where the server answers with the root certificates
	// and its health; "": /ca.pem and /healthz.
	CAPath, HealthPath string
	Now                func() time.Time // nil: time.Now
	Random             io.Reader        // nil: crypto/rand
	Log                *slog.Logger     // nil: nothing is logged
}

// site is the pages with what they work on.
type site struct {
	Options
	signIns *limiter
	refused refusals
	reading chan struct{} // a place for each upload that is being read
	judging chan struct{} // and for each that is being judged
}

// Uploads at once. Memory is bounded by readers x maxUpload.
const (
	readers = 12
	judges  = 2
)

// New makes the pages' handler, to be mounted at /. It panics without Store, Verify
// or TokenHash.
func New(o Options) http.Handler {
	if o.Store == nil || o.Verify == nil || o.TokenHash == nil {
		panic("web: New needs Store, Verify and TokenHash")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = clientAddress
	}
	if o.Sessions == nil {
		o.Sessions = storeSessions{o.Store}
	}
	if o.CAPath == "" {
		o.CAPath = "/ca.pem"
	}
	if o.HealthPath == "" {
		o.HealthPath = "/healthz"
	}
	if o.Quota == nil {
		l, client := newLimiter(10, 6*time.Second, o.Now), o.Client
		o.Quota = func(r *http.Request) (time.Duration, bool) { return l.take(client(r)) }
	}
	s := &site{Options: o, signIns: newLimiter(8, 15*time.Second, o.Now), refused: refusals{limit: newLimiter(20, time.Minute, o.Now)},
		reading: make(chan struct{}, readers), judging: make(chan struct{}, judges)}
	return secured(s.routes())
}

// route is one address. Every route that is not public goes through signedIn: the
// tests walk this table.
type route struct {
	pattern string
	public  bool
	handle  func(s *site, w http.ResponseWriter, r *http.Request)
}

func table() []route {
	return []route{
		{"GET /{$}", true, (*site).home},
		{"GET /verify", true, (*site).verifyForm},
		{"POST /verify", true, (*site).verifyUpload},
		{"GET /sign-in", true, (*site).signInForm},
		{"POST /sign-in", true, (*site).signIn},
		{"GET /assets/{name}", true, (*site).asset},
		{"POST /sign-out", false, (*site).signOut},
		{"GET /decisions", false, (*site).decisions},
		{"GET /decisions/{seq}", false, (*site).decision},
		{"GET /workloads", false, (*site).workloads},
		{"GET /workloads/{subject}", false, (*site).workload},
		{"GET /certificates", false, (*site).certificates},
		{"GET /collateral", false, (*site).collateral},
		{"/", true, (*site).nothing},
	}
}

func (s *site) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range table() {
		handle := r.handle
		if !r.public {
			handle = signedIn(handle)
		}
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, q *http.Request) { handle(s, w, q) })
	}
	return mux
}
