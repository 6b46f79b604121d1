package atls

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Attacks on the one-way form. In each row somebody who is not the Keep that the policy
// names answers the client, with all that he can get hold of; the control before them
// differs in nothing but that the Keep answers.

// proofOf is what an attacker gets who connects to a genuine Keep and gives it his nonce:
// its proof for that connection.
func (k *keep) proofOf(t *testing.T, nonce []byte) Proof {
	t.Helper()
	near, far := connected(t)
	go func() {
		conn := tls.Server(far, k.server().TLS(k.tls()))
		_, _ = k.server().Attest(context.Background(), conn)
		_ = conn.Close()
	}()
	conn := tls.Client(near, (&Config{}).TLS())
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Error(err)
		return Proof{}
	}
	if err := write(conn, kindRequest, request{Nonce: nonce}); err != nil {
		t.Error(err)
	}
	kind, body, err := read(conn, kindEvidence)
	if err != nil {
		t.Error(err)
		return Proof{}
	}
	p, err := decodeProof(kind, body)
	if err != nil {
		t.Error(err)
	}
	return Proof{Evidence: p.Evidence}
}

func TestAttacksOneWay(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	stranger := newCertificate(t)
	// The control, and what it leaves behind for who listens at the Keep's end.
	var recorded Proof
	recording := proverFunc(func(ctx context.Context, nonce, exporter []byte) (p Proof, err error) {
		recorded, err = k.Prove(ctx, nonce, exporter)
		return recorded, err
	})
	if c, _ := meet(t, client, &Server{Prover: recording}, k.tls()); c.err != nil || recorded.Evidence == nil {
		t.Fatalf("control: %+v", c.err)
	}

	relay := proverFunc(func(_ context.Context, nonce, _ []byte) (Proof, error) { return k.proofOf(t, nonce), nil })
	again := proverFunc(func(context.Context, []byte, []byte) (Proof, error) { return recorded, nil })
	// lying is a Keep on genuine silicon whose program lies in one claim: what no host can
	// have made shows that each check stands alone.
	lying := func(edit func(*evidence.Claims)) *keep {
		liar := *k
		liar.edit = edit
		return &liar
	}
	bare := proverFunc(func(_ context.Context, nonce, _ []byte) (Proof, error) {
		var d [64]byte
		copy(d[:], nonce)
		report, err := k.guest.Report(d)
		return Proof{Evidence: report}, err
	})
	attested := *k // a key attestation: the same claims under the report data of another use
	attested.bind = func(claims []byte) [64]byte { return evidence.PurposeReportData("sign", claims) }
	elsewhere := newKeep(t, newSilicon(t), 1)
	elsewhere.cert, elsewhere.key = k.cert, k.key

	for _, x := range []struct {
		name    string
		by      Prover
		cert    tls.Certificate
		want    string
		outcome verdict.Outcome
	}{
		{"relay of the Keep's evidence to another key", relay, stranger, "channel-binding", verdict.NotGenuine},
		{"relay with the Keep's stolen key: the exporter of another connection", relay, k.cert, "channel-binding", verdict.NotGenuine},
		{"replay of an old session, or of a Keep that has ended", again, stranger, "channel-binding nonce", verdict.NotGenuine},
		{"replay with the stolen key", again, k.cert, "channel-binding nonce", verdict.NotGenuine},
		{"another machine's silicon", elsewhere, k.cert, "trusted-root platforms", verdict.NotGenuine},
		{"no exporter", lying(func(c *evidence.Claims) { c.TLSExporter = nil }), k.cert, "channel-binding", verdict.NotGenuine},
		{"a part of the exporter", lying(func(c *evidence.Claims) { c.TLSExporter = c.TLSExporter[:16] }), k.cert, "channel-binding", verdict.NotGenuine},
		{"no nonce", lying(func(c *evidence.Claims) { c.Nonce = nil }), k.cert, "nonce", verdict.NotGenuine},
		{"another key", lying(func(c *evidence.Claims) { c.PubkeyHash[0] ^= 1 }), k.cert, "key-binding", verdict.NotGenuine},
		{"this connection's evidence beside another key", k, stranger, "key-binding", verdict.NotGenuine},
		{"HTTP evidence shown as live", lying(func(c *evidence.Claims) { c.Purpose, c.TLSExporter = evidence.PurposeHTTP, nil }), k.cert, "channel-binding purpose", verdict.NotGenuine},
		{"a certificate's evidence shown as live", lying(func(c *evidence.Claims) { c.Purpose, c.TLSExporter, c.Nonce = evidence.PurposeCertificate, nil, nil }), k.cert, "channel-binding nonce purpose", verdict.NotGenuine},
		{"another purpose with this exporter", lying(func(c *evidence.Claims) { c.Purpose = evidence.PurposeEnrol }), k.cert, "purpose", verdict.NotGenuine},
		{"a key attestation shown as RA-TLS", &attested, k.cert, "report-data", verdict.NotGenuine},
		{"a bare report over the nonce", bare, k.cert, "channel-binding purpose", verdict.NotGenuine},
		{"no evidence at all", proverFunc(func(context.Context, []byte, []byte) (Proof, error) { return Proof{Evidence: []byte("hello")}, nil }), k.cert, "form", verdict.NotGenuine},
	} {
		c, srv := meet(t, client, &Server{Prover: x.by}, &tls.Config{Certificates: []tls.Certificate{x.cert}})
		if got := failedCodes(c.err); got != x.want || outcome(c.err) != x.outcome {
			t.Errorf("%s: found %q (%s), wanted %q (%s): %v", x.name, got, outcome(c.err), x.want, x.outcome, c.err)
		}
		if remote, ok := srv.err.(*RemoteError); !ok || remote.Code != RefuseVerdict || srv.conn != nil {
			t.Errorf("%s: the server found %v", x.name, srv.err)
		}
	}
}

// A purpose that evidence states of itself is good enough for no connection, whatever the
// options say.
func TestPurposeIsNotAsStated(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	client.Options.AsStated = true
	if c, _ := meet(t, client, k.server(), k.tls()); c.err != nil {
		t.Fatalf("control: %+v", c.err)
	}
	k.edit = func(c *evidence.Claims) { c.Purpose = evidence.PurposeEnrol }
	if c, _ := meet(t, client, k.server(), k.tls()); failedCodes(c.err) != "purpose" {
		t.Errorf("found %v, wanted a refusal by purpose", c.err)
	}
}

// The connection ends in a genuine Keep, and in another one than was wanted.
func TestDiversion(t *testing.T) {
	s := newSilicon(t)
	wanted, other, twin := newKeep(t, s, 1), newKeep(t, s, 2), newKeep(t, s, 1)
	client := admits(t, s, wanted)
	c, _ := meet(t, client, other.server(), other.tls())
	if got := failedCodes(c.err); got != "workload" || outcome(c.err) != verdict.Refused {
		t.Errorf("another workload: found %q, %v", got, c.err)
	}
	// Policies name software. Who must know which instance it is reads the verdict.
	for _, k := range []*keep{wanted, twin} {
		c, _ := meet(t, client, k.server(), k.tls())
		if c.err != nil || string(c.conn.Verdict.Claims.Keep.Instance) != string(k.instance[:]) {
			t.Errorf("same workload: %+v", c.err)
		}
	}
}

// A host wires a Keep to itself, or shows it what it has shown.
func TestT13Reflection(t *testing.T) {
	s := newSilicon(t)
	a, twin := newKeep(t, s, 1), newKeep(t, s, 1)
	policyOfA := admits(t, s, a)
	// Control: the same workload in another instance is another Keep.
	client, server := mutual(t, a, twin, policyOfA, policyOfA)
	if c, srv := meet(t, client, server, twin.tls()); c.err != nil || srv.err != nil {
		t.Fatalf("control: %+v, %+v", c.err, srv.err)
	}
	client, server = mutual(t, a, a, policyOfA, policyOfA)
	if c, _ := meet(t, client, server, a.tls()); failedCodes(c.err) != "channel-binding" {
		t.Errorf("to itself: found %v", c.err)
	}
	// By its instance where it has another key meanwhile, and by its key where the
	// instance is not known.
	renewed := *a
	renewed.cert = newCertificate(t)
	renewed.key = newKey(renewed.cert)
	client, server = mutual(t, a, &renewed, policyOfA, policyOfA)
	if c, _ := meet(t, client, server, renewed.tls()); failedCodes(c.err) != "channel-binding" {
		t.Errorf("its instance: found %v", c.err)
	}
	client, server = mutual(t, a, a, policyOfA, policyOfA)
	client.Instance = nil
	if c, _ := meet(t, client, server, a.tls()); failedCodes(c.err) != "channel-binding" {
		t.Errorf("its key: found %v", c.err)
	}
	// The server's side judges so too: the client, which looks at nothing, is the mirror.
	client, server = mutual(t, a, a, policyOfA, policyOfA)
	client.Judge = looksAway
	if _, srv := meet(t, client, server, a.tls()); failedCodes(srv.err) != "channel-binding" {
		t.Errorf("the server: found %v", srv.err)
	}
}

// Attacks on the mutual form: a client that is no admitted Keep.
func TestAttacksMutual(t *testing.T) {
	s := newSilicon(t)
	a, b := newKeep(t, s, 1), newKeep(t, s, 2)
	ofA, ofB := admits(t, s, a), admits(t, s, b)
	stranger, other := newCertificate(t), newKeep(t, s, 3)
	// What a attests to whoever it connects to: here an attacker's own Keep, which a's
	// policy admits, and which passes a's proof on.
	passedOn := func(nonce []byte) Proof {
		var p Proof
		trap, server := mutual(t, a, b, ofB, ofA)
		server.Peer.Judge = looksAway
		nonceGiven := nonce
		trap.Prover = proverFunc(func(ctx context.Context, _, exporter []byte) (Proof, error) {
			var err error
			p, err = a.Prove(ctx, nonceGiven, exporter) // the trap chooses its nonce
			return p, err
		})
		meet(t, trap, server, b.tls())
		return p
	}
	for _, x := range []struct {
		name string
		cert tls.Certificate
		by   Prover
		want string
	}{
		{"control", a.cert, a, ""},
		{"relay of a's proof to another key", stranger, proverFunc(func(_ context.Context, nonce, _ []byte) (Proof, error) { return passedOn(nonce), nil }), "channel-binding"},
		{"relay with a's stolen key", a.cert, proverFunc(func(_ context.Context, nonce, _ []byte) (Proof, error) { return passedOn(nonce), nil }), "channel-binding"},
		{"this connection's proof beside another key", stranger, a, "key-binding"},
		{"another workload", other.cert, other, "workload"},
	} {
		client, server := mutual(t, a, b, ofB, ofA)
		client.Certificate, client.Prover = &x.cert, x.by
		server.Peer.Instance, server.Peer.Certificate = nil, nil
		c, srv := meet(t, client, server, b.tls())
		if got := failedCodes(srv.err); got != x.want || (srv.err == nil) != (x.want == "") {
			t.Errorf("%s: found %q, wanted %q: %v", x.name, got, x.want, srv.err)
		}
		if remote, ok := c.err.(*RemoteError); x.want != "" && (!ok || remote.Code != RefuseVerdict) {
			t.Errorf("%s: the client found %v", x.name, c.err)
		}
	}
	// A client that is no Keep, and one that says so only when it is asked.
	_, server := mutual(t, a, b, ofB, ofA)
	client := ofB
	client.Certificate = &stranger
	c, srv := meet(t, client, server, b.tls())
	if remote, ok := c.err.(*RemoteError); !ok || remote.Code != RefuseEvidence || srv.err != ErrUnproven {
		t.Errorf("found %v, %v", c.err, srv.err)
	}
}

// The role is in the exporter's context: what a server must show is not what a client
// shows, though nonce, key and connection are the same.
func TestRoleIsBound(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	client := admits(t, s, k)
	for _, role := range []Role{RoleServer, RoleClient} {
		near, far := connected(t)
		go func() {
			conn := tls.Server(far, k.server().TLS(k.tls()))
			defer conn.Close()
			if conn.Handshake() != nil {
				return
			}
			_, body, _ := read(conn, kindRequest)
			q, _ := decodeRequest(body)
			state := conn.ConnectionState()
			_ = prove(context.Background(), k, conn, &state, q.Nonce, role, kindEvidence, nil)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, err := client.Client(context.Background(), near)
		if want := map[Role]string{RoleClient: "channel-binding"}[role]; failedCodes(err) != want || (err == nil) != (want == "") {
			t.Errorf("%s: found %v", role, err)
		}
	}
}

// A judge that says yes without having looked at the binding admits nobody.
func TestJudgeMustLook(t *testing.T) {
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	for name, judge := range map[string]func(v *verdict.Verdict){
		"no checks":          func(v *verdict.Verdict) { v.Checks = nil },
		"no channel binding": func(v *verdict.Verdict) { v.Checks = []verdict.Check{verdict.Pass(verdict.KeyBinding, "x")} },
		"no key binding":     func(v *verdict.Verdict) { v.Checks = []verdict.Check{verdict.Pass(verdict.ChannelBinding, "x")} },
	} {
		client := admits(t, s, k)
		client.Judge = judged(judge)
		if c, _ := meet(t, client, k.server(), k.tls()); c.err == nil {
			t.Errorf("%s: admitted", name)
		}
	}
	client := admits(t, s, k)
	client.Judge = none
	if c, _ := meet(t, client, k.server(), k.tls()); c.err == nil {
		t.Error("no verdict: admitted")
	}
	client.Judge = judged(func(v *verdict.Verdict) {
		v.Checks = []verdict.Check{verdict.Pass(verdict.ChannelBinding, "x"), verdict.Pass(verdict.KeyBinding, "x")}
	})
	if c, _ := meet(t, client, k.server(), k.tls()); c.err != nil {
		t.Errorf("control: %v", c.err)
	}
}

var _ net.Conn = (*Conn)(nil)
