//go:build linux

package warden

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/warden/http1"
	"github.com/donjon-tee/donjon/workload"
)

// Enrolment is what steward/protocol says: a challenge, evidence that binds this very
// connection, the key to be certified and the key that secrets are sealed to, and the
// Steward's answer. Everything up to the end of the TLS handshake is the host's and
// hostile; what comes after it is the word of a Steward that the workload pins, and is
// bounded and checked nevertheless.
const (
	enrolTime    = time.Minute // one enrolment, from the dial to the answer
	maxChallenge = 64 << 10    // bytes of an answer that holds one
	maxProblem   = 256 << 10
	maxChain     = 6 // certificates in an answer
	busyTries    = 4 // while the Steward says that it is busy
)

// An enrolment is what a Steward gave.
type enrolment struct {
	key        tlsKey
	cert       *tls.Certificate
	notAfter   time.Time
	renewAfter time.Time
	secrets    protocol.Secrets // those the workload declares; nil at a renewal
}

// forget wipes the secrets.
func (e *enrolment) forget() {
	for _, v := range e.secrets {
		clear(v)
	}
	e.secrets = nil
}

// An enrolError says why there was no enrolment.
type enrolError struct {
	what, hint string
	refused    bool // the Steward's decision, or it is not the Steward
	busy       bool // it may work a little later
	err        error
}

func (e *enrolError) Error() string {
	s := "warden: enrolling with " + e.what
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

func (e *enrolError) Hint() string  { return e.hint }
func (e *enrolError) Unwrap() error { return e.err }

// checkSignatures bounds what the host gave for the Steward. What it says is the
// Steward's to judge: the warden trusts no signer.
func checkSignatures(list [][]byte) error {
	if n := len(list); n > protocol.MaxSignatures {
		return &refusedError{fmt.Sprintf("the host's offer has %d signatures, at most %d", n, protocol.MaxSignatures)}
	}
	for _, b := range list {
		if n := len(b); n < 1 || n > protocol.MaxSignature {
			return &refusedError{fmt.Sprintf("the host's offer has a signature of %d bytes, wanted 1 to %d", n, protocol.MaxSignature)}
		}
	}
	return nil
}

// enrolFirst enrols before the guest runs, and takes the secrets that the workload
// declares.
func (w *warden) enrolFirst(data []*os.File) error {
	pem, err := w.named(w.cfg.StewardCA, data)
	if err != nil {
		return err
	}
	roots, err := authorities(w.cfg.StewardCA, pem)
	if err != nil {
		return &configError{what: err.Error()}
	}
	w.stewardRoots = roots
	wait := time.Second
	for try := 1; ; try++ {
		e, err := w.enrol(w.identity.key, enrolTime, true)
		if err == nil {
			w.enrolled = e
			w.identity.take(e.key, e.cert)
			w.log(1, "enrolled with %s: the certificate ends at %s", w.cfg.Steward, e.notAfter.UTC().Format(time.RFC3339))
			return nil
		}
		var ee *enrolError
		if !errors.As(err, &ee) || !ee.busy || try == busyTries {
			return err
		}
		select {
		case <-time.After(jitter(wait)):
		case <-w.sess.Done():
			return err
		}
		wait *= 2
	}
}

// enrol makes one whole enrolment for a key, within the time given.
func (w *warden) enrol(key tlsKey, within time.Duration, first bool) (*enrolment, error) {
	conn, state, err := w.dialSteward(within)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	challenge, err := askChallenge(conn.http)
	if err != nil {
		return nil, w.about(err)
	}
	exporter, err := protocol.Exporter(state, challenge)
	if err != nil {
		return nil, err
	}
	sealing, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("warden: making a key: %w", err)
	}
	steward := state.PeerCertificates[0].RawSubjectPublicKeyInfo
	stewardKey, sealingKey := sha256.Sum256(steward), sha256.Sum256(sealing.PublicKey().Bytes())
	ev, err := w.identity.prove(evidence.Claims{PubkeyHash: sha256.Sum256(key.spki), Nonce: challenge, Purpose: evidence.PurposeEnrol,
		TLSExporter: exporter, StewardKey: stewardKey[:], SealingKey: sealingKey[:]})
	if err != nil {
		return nil, err
	}
	csr, err := certificateRequest(key, ev)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(protocol.EnrolRequest{Request: csr, Manifest: w.offer.Manifest, Config: w.config, SealingKey: sealing.PublicKey().Bytes(), Signatures: w.offer.Signatures})
	if err != nil {
		return nil, fmt.Errorf("warden: enrolling: %w", err)
	}
	if len(body) > protocol.MaxRequest {
		return nil, &configError{fmt.Sprintf("manifest, configuration and evidence make a request of %d bytes, and a Steward takes %d", len(body), protocol.MaxRequest),
			"make the configuration smaller: long texts can be data files"}
	}
	var r protocol.EnrolResponse
	if err := ask(conn.http, protocol.PathEnrol, body, protocol.MaxResponse, &r); err != nil {
		return nil, w.about(err)
	}
	e, err := w.checkCertificates(key, r)
	if err != nil {
		return nil, w.about(err)
	}
	if !first || len(w.cfg.Secrets) == 0 {
		return e, nil
	}
	if len(r.Sealed) > 0 {
		b := protocol.Binding{Challenge: challenge, SPKI: key.spki, Steward: steward}
		if e.secrets, err = protocol.Open(sealing, b, r.Sealed); err != nil {
			return nil, w.about(&enrolError{what: "the secrets", err: err, refused: true})
		}
	}
	if names := missing(w.cfg.Secrets, e.secrets); names != "" {
		return nil, w.about(&enrolError{what: "it releases no secret " + names, refused: true,
			hint: "donjon steward secret set --workload WORKLOAD NAME, where the Steward is, sets one"})
	}
	for name, v := range e.secrets { // no more than was declared is kept
		if !slices.ContainsFunc(w.cfg.Secrets, func(s workload.Secret) bool { return s.Name == name }) {
			clear(v)
			delete(e.secrets, name)
		}
		if len(v) > protocol.MaxSecret {
			return nil, w.about(&enrolError{what: fmt.Sprintf("the secret %q has %d bytes, at most %d", name, len(v), protocol.MaxSecret), refused: true})
		}
	}
	return e, nil
}

// about names the Steward in an error of enrolment.
func (w *warden) about(err error) error {
	var e *enrolError
	if errors.As(err, &e) {
		out := *e
		out.what = w.cfg.Steward + ": " + e.what
		return &out
	}
	out := &enrolError{what: w.cfg.Steward, err: err}
	if late(err) {
		out.hint = lateHint
	}
	return out
}

// askChallenge gets a challenge, 32 to 64 bytes.
func askChallenge(c *http1.Conn) ([]byte, error) {
	var r protocol.ChallengeResponse
	if err := ask(c, protocol.PathChallenge, []byte("{}"), maxChallenge, &r); err != nil {
		return nil, err
	}
	if n := len(r.Challenge); n < protocol.MinChallenge || n > protocol.MaxChallenge {
		return nil, fmt.Errorf("a challenge of %d bytes, wanted %d to %d", n, protocol.MinChallenge, protocol.MaxChallenge)
	}
	return r.Challenge, nil
}

// ask posts and reads the answer into v, or gives the Steward's problem as an error.
func ask(c *http1.Conn, path string, body []byte, most int, v any) error {
	r, err := c.Post(path, body, max(most, maxProblem))
	if err != nil {
		return err
	}
	if r.Status != 200 {
		return refusal(r)
	}
	if r.Type != "application/json" {
		return fmt.Errorf("an answer of the type %q, wanted application/json", clip(r.Type))
	}
	if len(r.Body) > most {
		return fmt.Errorf("an answer of %d bytes, at most %d", len(r.Body), most)
	}
	if err := json.Unmarshal(r.Body, v); err != nil {
		return errors.New("an answer that is not in its form")
	}
	return nil
}

// certificateRequest is the PKCS#10 request, which carries the evidence. It asks for
// no names: which ones the Keep gets is the policy's to say.
func certificateRequest(key tlsKey, ev evidence.Evidence) ([]byte, error) {
	ext, err := evidence.CertificateExtensions(ev)
	if err != nil {
		return nil, err
	}
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Donjon Keep"}, ExtraExtensions: ext[:1]}
	csr, err := x509.CreateCertificateRequest(rand.Reader, t, key.private)
	if err != nil {
		return nil, fmt.Errorf("warden: the certificate request: %w", err)
	}
	return csr, nil
}

// checkCertificates takes a certificate for our key that chains to the pinned
// authorities and is good now. Its beginning is the Steward's word on the time, given
// to a challenge of the moment: a host whose clock is behind is not followed.
func (w *warden) checkCertificates(key tlsKey, r protocol.EnrolResponse) (*enrolment, error) {
	bad := func(format string, args ...any) (*enrolment, error) {
		return nil, &enrolError{what: "its certificate: " + fmt.Sprintf(format, args...), refused: true}
	}
	if n := len(r.Certificates); n == 0 || n > maxChain {
		return bad("found %d certificates, wanted 1 to %d", n, maxChain)
	}
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i, der := range r.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("certificate %d: %v", i, err)
		}
		if i == 0 {
			leaf = c
		} else {
			between.AddCert(c)
		}
	}
	if !slices.Equal(leaf.RawSubjectPublicKeyInfo, key.spki) {
		return bad("it is for another key")
	}
	if leaf.IsCA {
		return bad("it is an authority's")
	}
	at := w.now()
	if leaf.NotBefore.After(at) {
		at = leaf.NotBefore
	}
	ways, err := leaf.Verify(x509.VerifyOptions{Roots: w.stewardRoots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return bad("%v", err)
	}
	w.raise(leaf.NotBefore)
	now := w.now()
	end := now
	for _, way := range ways { // good as long as one of them is
		if e := endOf(way); e.After(end) {
			end = e
		}
	}
	if !now.Before(end) {
		return bad("it has ended, and now it is %s", now.UTC().Format(time.RFC3339))
	}
	e := &enrolment{key: key, notAfter: end, renewAfter: renewal(now, r.RenewAfter, end)}
	e.cert = &tls.Certificate{Certificate: r.Certificates, PrivateKey: key.private, Leaf: leaf}
	return e, nil
}

// endOf is when the first certificate of a chain ends.
func endOf(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}
