// Package enrol decides who is a Keep that gets a certificate, a token and secrets:
// it makes and checks challenges, has the evidence judged, holds it against the
// connection, the workload and the policy, and gives away nothing before the
// decision is on disk (THREATS T15).
//
// What the messages are is next door, in protocol; who issues is authority; what is
// remembered is store. Nothing here knows of HTTP.
package enrol

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/ear"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/workload/signature"
)

// ChallengeLife is how long a challenge is good: a report made under emulation takes
// its time.
const ChallengeLife = 5 * time.Minute

// Store is what enrolment needs of steward/store.
type Store interface {
	Decide(ctx context.Context, d store.Decision) (store.Receipt, error)
	Policy(ctx context.Context, workload string) (*store.Policy, error)
	Secrets(ctx context.Context, workload string) ([]store.Secret, error)
	SignedVersion(ctx context.Context, signer, name string) (uint64, error)
	Epoch(ctx context.Context) (store.Epoch, error)
	Log() audit.LogID
}

// Options are what a Service is made of. Store, Authority and SPKI are needed.
type Options struct {
	Store     Store
	Authority *authority.Authority
	// SPKI is the SubjectPublicKeyInfo of this server's TLS key, DER.
	SPKI []byte
	// Names are the Steward's own: no workload gets them.
	Names authority.Names
	// Unseal opens a stored secret; nil: none can be released.
	Unseal func(store.Secret) ([]byte, error)
	// Confirmed says whether a confirmation of a secret holds; nil: none does.
	Confirmed func(store.Secret, store.Confirmation) error
	// Collateral gives vendor data beside what is stapled to evidence; nil: none.
	Collateral func() *collateral.Set
	// Seen is what was seen of collateral before (THREATS T25); nil: not remembered.
	Seen *collateral.HighWater
	// AllowSimulated lets policies admit what is simulated. Without it every policy is
	// read as if allow_simulated were false (THREATS T8).
	AllowSimulated bool
	// TrustDomain of SPIFFE IDs and the tokens' issuer; "": Authority.TrustDomain.
	TrustDomain string
	Build       string // of the Steward, for tokens
	// Clock gives the time; nil: time.Now.
	Clock func() time.Time
	// Enarx are the rules of the endpoint in Enarx's form; nil: it is off.
	Enarx *Enarx
}

// Service judges requests. Many goroutines may use it at once.
type Service struct {
	o          Options
	verifier   attest.Verifier
	epoch      atomic.Pointer[store.Epoch]
	stewardKey [32]byte // SHA-256 of SPKI

	mu   sync.Mutex
	docs map[audit.Digest]*Document
}

// New makes a Service; it reads the store's epoch.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.TrustDomain == "" {
		o.TrustDomain = o.Authority.TrustDomain()
	}
	s := &Service{o: o, stewardKey: sha256.Sum256(o.SPKI), docs: map[audit.Digest]*Document{}}
	return s, s.Refresh(ctx)
}

// Refresh reads what another process may have changed: the epoch.
func (s *Service) Refresh(ctx context.Context) error {
	e, err := s.o.Store.Epoch(ctx)
	if err != nil {
		return fmt.Errorf("enrol: the epoch: %w", err)
	}
	s.epoch.Store(&e)
	return nil
}

// Epoch is the one that challenges are made in.
func (s *Service) Epoch() store.Epoch { return *s.epoch.Load() }

// Challenge makes a challenge.
func (s *Service) Challenge() protocol.ChallengeResponse {
	keys := s.o.Authority.ChallengeKeys()
	expires := s.o.Clock().Add(ChallengeLife).UTC().Truncate(time.Second)
	return protocol.ChallengeResponse{Challenge: makeChallenge(keys[len(keys)-1], s.Epoch().Number, expires), Expires: expires}
}

// Peer is who asks, over which connection.
type Peer struct {
	Address string // for the log
	Request string // the request's id
	// Exporter is protocol.Exporter of the connection.
	Exporter func(challenge []byte) ([]byte, error)
}

// Result is what became of a request, for logs and metrics beside the answer.
type Result struct {
	Response *protocol.EnrolResponse
	Problem  *protocol.Problem
	Verdict  *verdict.Verdict // nil: nothing was judged
	Receipt  store.Receipt    // zero: nothing was recorded
	Err      error            // what the caller must not read; for the log
	Workload string
	Secrets  int
}

// request is one enrolment on its way.
type request struct {
	*protocol.EnrolRequest
	peer      Peer
	at        time.Time
	csr       parsedRequest
	challenge []byte
	expires   time.Time
	digest    [32]byte // the manifest's
	subject   string   // sha256:<hex>
	epoch     uint64

	// signed is the verified signature that the policy was found by; nil: the policy is
	// the digest's, or there is none.
	signed  *signature.Envelope
	doc     *Document
	version uint64
	verdict *verdict.Verdict
	detail  []byte
}

// Enrol judges one request. It never returns a Result with neither a response nor a
// problem.
func (s *Service) Enrol(ctx context.Context, body *protocol.EnrolRequest, peer Peer) Result {
	r := &request{EnrolRequest: body, peer: peer, at: s.o.Clock(), epoch: s.Epoch().Number}
	if p := s.open(r); p != nil {
		return Result{Problem: p, Workload: r.subject}
	}
	// Where an administrator changes the policy or a secret meanwhile, what was judged
	// gives nothing: it is judged again.
	for try := 1; ; try++ {
		if out := s.decide(ctx, r); !errors.Is(out.Err, store.ErrConflict) || try == 4 {
			return out
		}
	}
}

// decide judges a request by what stands now, and records it.
func (s *Service) decide(ctx context.Context, r *request) Result {
	r.signed, r.doc, r.version, r.verdict, r.detail = nil, nil, 0, nil, nil
	policy, err := s.o.Store.Policy(ctx, r.subject)
	var code Code
	switch {
	case errors.Is(err, store.ErrNotFound):
		policy, code, err = s.signedPolicy(ctx, r)
	case err == nil && string(policy.Text) == RemovedPolicy: // no signature brings it back
		r.verdict, code = unknownWorkload(r), CodeWorkloadUnknown
	}
	if err != nil {
		return s.failed(r, err)
	}
	if code != "" {
		return s.refuse(ctx, r, code)
	}
	if r.doc, err = s.document(policy); err == nil {
		err = r.doc.CheckSubject(r.rests())
	}
	if err != nil {
		return s.failed(r, fmt.Errorf("the stored policy %s version %d: %w", r.rests(), policy.Version, err))
	}
	r.version = policy.Version
	if code := s.judge(r); code != "" {
		return s.refuse(ctx, r, code)
	}
	return s.admit(ctx, r)
}

// open reads the request as far as its challenge: until that is known to be ours,
// nothing is worth a signature check or a record.
func (s *Service) open(r *request) *protocol.Problem {
	malformed := func(err error) *protocol.Problem { return problem(CodeMalformed, r.peer, err.Error(), nil) }
	for _, x := range []struct {
		name     string
		n, least int
		most     int
	}{{"request", len(r.Request), 1, evidence.MaxSize + 16<<10}, {"manifest", len(r.Manifest), 1, maxManifest}, {"config", len(r.Config), 0, maxConfig}, {"sealing_key", len(r.SealingKey), 32, 32}} {
		if x.n < x.least || x.n > x.most {
			return malformed(fmt.Errorf("%s: found %d bytes, wanted %d to %d", x.name, x.n, x.least, x.most))
		}
	}
	if n := len(r.Signatures); n > protocol.MaxSignatures {
		return malformed(fmt.Errorf("signatures: found %d, at most %d", n, protocol.MaxSignatures))
	}
	for i, b := range r.Signatures {
		if len(b) < 1 || len(b) > protocol.MaxSignature {
			return malformed(fmt.Errorf("signatures: number %d: found %d bytes, wanted 1 to %d", i+1, len(b), protocol.MaxSignature))
		}
	}
	r.digest = sha256.Sum256(r.Manifest)
	r.subject = "sha256:" + hex.EncodeToString(r.digest[:])
	var err error
	if r.csr, err = parseRequest(r.Request); err != nil {
		return malformed(err)
	}
	r.challenge = r.csr.nonce
	r.expires, err = checkChallenge(s.o.Authority.ChallengeKeys(), r.epoch, r.challenge, r.at, ChallengeLife)
	switch {
	case errors.Is(err, errChallengeExpired):
		return problem(CodeChallengeExpired, r.peer, "the challenge ended at "+r.expires.Format(time.RFC3339)+", and it is "+r.at.UTC().Format(time.RFC3339), nil)
	case err != nil:
		return problem(CodeChallengeUnknown, r.peer, "the nonce in the evidence is "+err.Error()+": ask for one", nil)
	}
	return nil
}

// admit gives what the policy grants, once the decision is on disk.
func (s *Service) admit(ctx context.Context, r *request) Result {
	names, err := s.o.Names.Grant(r.doc.Grant.DNS)
	if err != nil {
		r.verdict.Checks = append(r.verdict.Checks, verdict.Fail(verdict.Attributes, err.Error(), "a name that is not the Steward's own").From("policy: [steward] dns"))
		r.conclude()
		return s.refuse(ctx, r, CodeRefused)
	}
	secrets, released, versions, code, err := s.secrets(ctx, r)
	defer wipe(secrets)
	if err != nil {
		return s.failed(r, err)
	}
	if code != "" {
		return s.refuse(ctx, r, code)
	}
	until := s.o.Authority.Until(r.doc.Grant.validity())
	if !until.After(r.at) {
		return s.failed(r, errors.New("the authority's certificates have ended: donjon steward rotate"))
	}
	serial := authority.Serial()
	d := s.decision(r)
	d.Record.Secrets, d.Record.Serial = released, serial.Bytes()
	d.Certificate = &store.NewCertificate{Serial: serial.Bytes(), CA: "workloads", NotBefore: r.at, NotAfter: until}
	d.Standing = &store.Standing{Subject: r.rests(), Policy: r.version, Secrets: versions, Alone: r.signed != nil}
	if e := r.signed; e != nil {
		d.Signer = &store.SignerMark{Signer: e.Signer.ID().String(), Name: e.Name, Version: e.Version}
	}
	if n := r.doc.Grant.MaxInstances; n > 0 {
		d.Lease = &store.LeaseRequest{Subject: r.rests(), Instance: r.verdict.Claims.Keep.Instance.String(), Until: until, Max: n}
	}
	receipt, err := s.o.Store.Decide(ctx, d)
	code, refusal := refusalOf(err)
	switch {
	case code == CodeChallengeUsed: // what it was used for is in the log already
		return Result{Problem: problem(code, r.peer, "", nil), Verdict: r.verdict, Workload: r.subject}
	case refusal:
		r.addStoreCheck(code)
		return s.refuse(ctx, r, code)
	case err != nil:
		return s.failed(r, err)
	}
	// From here on the decision stands, whatever becomes of the answer.
	out, err := s.answer(r, names, secrets, serial.Bytes(), until, receipt)
	if err != nil {
		res := s.failed(r, err)
		res.Receipt = receipt
		return res
	}
	return Result{Response: out, Verdict: r.verdict, Receipt: receipt, Workload: r.subject, Secrets: len(secrets)}
}

func (s *Service) answer(r *request, names []string, secrets protocol.Secrets, serial []byte, until time.Time, receipt store.Receipt) (*protocol.EnrolResponse, error) {
	head, err := s.head(receipt, r.at)
	if err != nil {
		return nil, err
	}
	id := authority.SPIFFE(s.o.TrustDomain, r.digest)
	if e := r.signed; e != nil {
		id = authority.SignerSPIFFE(s.o.TrustDomain, e.Signer.ID(), e.Name)
	}
	chain, err := s.o.Authority.Workload(authority.Leaf{Key: r.csr.key, DNS: names, SPIFFE: id,
		Serial: bigInt(serial), NotAfter: until, Verdict: sha256.Sum256(r.detail), Head: head, Evidence: r.csr.carried})
	if err != nil {
		return nil, err
	}
	audience := r.doc.Grant.Audience
	if audience == "" {
		audience = s.o.TrustDomain
	}
	token, err := ear.Encode(r.verdict, s.o.Authority.TokenKey(), ear.Options{IssuedAt: r.at, Lifetime: ear.MaxLifetime, NotAfter: until,
		Audience: audience, Issuer: s.o.TrustDomain, Verifier: ear.Verifier{Developer: "https://github.com/donjon-tee/donjon", Build: s.build()},
		Key: authority.SPKI(r.csr.spki), AuditHead: head, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	out := &protocol.EnrolResponse{Certificates: chain, Token: token, NotAfter: until, RenewAfter: r.at.Add(until.Sub(r.at) * 2 / 3).UTC().Truncate(time.Second)}
	if len(secrets) > 0 {
		out.Sealed, err = protocol.Seal(r.SealingKey, protocol.Binding{Challenge: r.challenge, SPKI: r.csr.spki, Steward: s.o.SPKI}, secrets)
	}
	return out, err
}

func (s *Service) build() string {
	if s.o.Build == "" {
		return "donjon steward"
	}
	return "donjon " + s.o.Build
}

// head signs the log's end once a decision stands in it.
func (s *Service) head(r store.Receipt, at time.Time) (string, error) {
	h, err := audit.Sign(s.o.Authority.AuditKey(), s.o.Store.Log(), r.Epoch, r.Seq, r.Hash, at)
	if err != nil {
		return "", err
	}
	return h.Text()
}

// document parses a stored policy, once for each text.
func (s *Service) document(p *store.Policy) (*Document, error) {
	s.mu.Lock()
	d := s.docs[p.Digest]
	s.mu.Unlock()
	if d != nil {
		return d, nil
	}
	d, err := ParseDocument(p.Text)
	if err != nil {
		return nil, err
	}
	if d.Digest != p.Digest {
		return nil, errors.New("the store's digest of it is another")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.docs) >= maxDocuments {
		clear(s.docs)
	}
	s.docs[d.Digest] = d
	return d, nil
}

const maxDocuments = 4096

func (r *request) conclude() {
	r.verdict.Conclude()
	r.detail = nil
}

// detailJSON is the verdict for the audit log and the certificate's digest of it.
func (r *request) detailJSON() []byte {
	if r.detail != nil || r.verdict == nil {
		return r.detail
	}
	b, err := json.Marshal(r.verdict)
	if err != nil || len(b) > store.MaxDetail {
		short := *r.verdict // claims and advisories can be had from the evidence again
		short.Claims, short.Advisories = nil, []verdict.Advisory{}
		if b, err = json.Marshal(&short); err != nil || len(b) > store.MaxDetail {
			b = nil
		}
	}
	r.detail = b
	return b
}
