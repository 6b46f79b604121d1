//go:build linux

package warden

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

// A connection with attest in its entry is between Keeps: each end judges the other by
// a policy that is part of its own workload, over the connection itself. What a Keep
// names the other by, and by which clock it judges, is in docs/keep-to-keep.md.

// maxJudged is how much evidence is judged at once; more waits, as long as its
// handshake may take.
const maxJudged = 4

// peers is what is needed to judge other Keeps.
type peers struct {
	policies map[string]*policy.Policy
	vendor   *collateral.Set
	verifier attest.Verifier
	seen     collateral.HighWater
	slots    chan struct{}
	large    chan struct{} // see unproved
}

// load reads the policies and the vendor data that the configuration names.
func (p *peers) load(cfg *workload.Config, file func(string) ([]byte, error)) (err error) {
	p.slots, p.large = make(chan struct{}, maxJudged), make(chan struct{}, maxLarge)
	if p.policies, err = cfg.Policies(file); err == nil {
		p.vendor, err = cfg.VendorData(file)
	}
	var bad *workload.ConfigError
	if errors.As(err, &bad) {
		return &configError{"warden: " + bad.Error(), bad.Hint()}
	}
	return err
}

// peerConfig is the Keep as one end that judges the other by a policy.
func (w *warden) peerConfig(by string, cert *tls.Certificate, proof atls.Prover) *atls.Config {
	p := w.peers.policies[by]
	if p == nil {
		p = &policy.Policy{} // admits nothing
	}
	return &atls.Config{
		Options:     attest.Options{Policy: p, Collateral: w.peers.vendor, Seen: &w.peers.seen},
		MaxEvidence: evidence.MaxSize,                            // of each client, admitted or not: a Keep has little memory
		Judge:       w.judge, Time: w.now, MaxAge: atls.NoMaxAge, // a relay takes it over, and limitAge cuts that
		Certificate: cert, Prover: proof, Instance: w.identity.instance[:],
	}
}

// judge appraises another Keep's proof, with what this one knows of itself and of the
// other's certificate.
func (w *warden) judge(ctx context.Context, p atls.Proof, o attest.Options) (*verdict.Verdict, error) {
	select {
	case w.peers.slots <- struct{}{}:
		defer func() { <-w.peers.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("warden: too much evidence is judged at once: %w", ctx.Err())
	}
	o.TimeSource = policy.TimeHost
	if w.enrolled != nil { // to a challenge of this Keep's; see checkCertificates
		o.TimeSource = policy.TimeVouched
	}
	o.Peer = &policy.Peer{Own: w.digest[:], Role: w.cfg.Role(), SPIFFE: w.spiffe(o.Channel.Certificates, o.At), Signed: signedBy(p.Signature)}
	v := w.peers.verifier.Verify(p.Evidence, o)
	w.raise(w.peers.seen.Latest())
	return v, nil
}

// maxAttached is what a proof may hold of signatures, in bytes (donjon-attest/1).
const maxAttached = 4 << 10

// attached are the signatures that the host gave, as a proof carries them: a line each,
// in their order, as many as there is room for.
func attached(list [][]byte) []byte {
	var out []byte
	for _, s := range list {
		if len(out)+len(s)+1 > maxAttached {
			break
		}
		out = append(append(out, s...), '\n')
	}
	return out
}

// signedBy are the statements of a peer's signatures, where each of those is in its form
// and holds. Whose word counts, and whether it is about the peer's workload, the policy
// says.
func signedBy(b []byte) []policy.Signed {
	if len(b) == 0 || len(b) > maxAttached {
		return nil
	}
	list, err := signature.ParseFile(b)
	if err != nil {
		return nil
	}
	var out []policy.Signed
	for _, e := range list {
		if e.Verify() != nil {
			return nil
		}
		id := e.Signer.ID()
		out = append(out, policy.Signed{Workload: e.Workload[:], Key: id[:], Name: e.Name, Version: e.Version})
	}
	return out
}

// spiffe gives the SPIFFE IDs of a peer's certificate that the pinned Steward issued to
// a workload; none of any other.
func (w *warden) spiffe(shown []*x509.Certificate, at time.Time) []string {
	if w.stewardRoots == nil || len(shown) == 0 || len(shown) > maxChain || shown[0].IsCA {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	ways, err := shown[0].Verify(x509.VerifyOptions{Roots: w.stewardRoots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil
	}
	for _, way := range ways {
		if len(way) >= 2 && marked(way[1]) { // what issues Stewards' certificates names no workload
			return nil
		}
	}
	var out []string
	for _, u := range shown[0].URIs {
		if u.Scheme == "spiffe" {
			out = append(out, u.String())
		}
	}
	return out
}

// shownToKeeps is shown, on a listener whose clients must be Keeps that a policy admits.
func (w *warden) shownToKeeps(by string) (*tls.Certificate, *atls.Server, error) {
	cert, s, err := w.shown()
	if err == nil {
		s.Peer = w.peerConfig(by, cert, s.Prover)
	}
	return cert, s, err
}

// limitAge cuts the connection of a stream when the verdict on its peer has become too
// old. The function it gives is called at the connection's own end.
func (w *warden) limitAge(st *link.Stream, f workload.File) func(int, bool) {
	t := time.AfterFunc(f.MaxAge, func() {
		w.log(0, "%s %q: a connection is cut that was judged %s ago (max_age)", f.Kind, f.Name, f.MaxAge)
		st.Cut()
	})
	return func(int, bool) { t.Stop() }
}

// attestPeer makes the attested connection of a connect entry. The guest hears of it
// once both ends have admitted each other.
func (w *warden) attestPeer(st *link.Stream, f workload.File) (*tlsFilter, error) {
	cert, err := w.identity.tlsCertificate()
	if err != nil {
		return nil, err
	}
	proof, err := w.identity.proverFor(cert)
	if err != nil {
		return nil, err
	}
	c := w.peerConfig(f.Attest, cert, proof)
	c.ServerName = f.Host
	pipe := &tlsPipe{Stream: st}
	conn, err := c.Client(context.Background(), pipe)
	addr := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
	if err != nil {
		return nil, peerError(addr, err)
	}
	w.log(1, "the Keep at %s is admitted: workload %s, instance %s, role %q", addr, conn.Verdict.Claims.Keep.WorkloadDigest, conn.Verdict.Claims.Keep.Instance, conn.Verdict.Claims.Keep.Role)
	return &tlsFilter{conn: conn.Conn, pipe: pipe}, nil
}

// peerError says which check a Keep was refused by, or why there is no connection.
func peerError(addr string, err error) error {
	var refused *verdict.Error
	var remote *atls.RemoteError
	switch {
	case errors.As(err, &refused):
		c, more := decided(refused.Verdict)
		text := fmt.Sprintf("warden: the Keep at %s is refused: check %s %s: found %s", addr, c.Code, c.Status, clip(c.Found))
		if c.Wanted != "" {
			text += ", wanted " + clip(c.Wanted)
		}
		if more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
		return &portError{text, clip(c.Hint)}
	case errors.As(err, &remote):
		return &portError{fmt.Sprintf("warden: the Keep at %s refuses this one: %s", addr, clip(remote.Error())), "the policy of the other side says what it admits"}
	}
	return &portError{fmt.Sprintf("warden: no attested connection to %s: %s", addr, clip(err.Error())), "is a Keep listening there, with prot = \"tls\"?"}
}

// decided is the first check that decided a verdict, and how many more there are.
func decided(v *verdict.Verdict) (verdict.Check, int) {
	list := v.Deciding()
	if len(list) == 0 { // a verdict without checks
		return verdict.Check{Code: verdict.Form, Status: verdict.Failed}, 0
	}
	return list[0], len(list) - 1
}

// errOrdinary: a client that does not ask for the protocol, where only Keeps are served.
var errOrdinary = errors.New("warden: the client is no Keep")

// refusals tells the log, by the check's name alone, of clients that are turned away
// because of what they are: at most one line a second, however many come.
func (w *warden) refusals(name string, keeps bool) func(error) {
	var mu sync.Mutex
	var last time.Time
	var untold int
	return func(err error) {
		var refused *verdict.Error
		var code verdict.Code
		switch {
		case errors.As(err, &refused):
			c, _ := decided(refused.Verdict)
			code = c.Code
		case errors.Is(err, errOrdinary), keeps && errors.Is(err, atls.ErrUnproven):
			code = verdict.Protocol
		default:
			return // a connection that broke says nothing about anyone
		}
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < time.Second {
			untold++
			return
		}
		more := ""
		if untold > 0 {
			more = fmt.Sprintf(" (and %d more before)", untold)
		}
		last, untold = time.Now(), 0
		w.log(0, "listener %q: a client is refused: check %s%s", name, code, more)
	}
}
