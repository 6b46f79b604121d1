//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/audit"
	ca "github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/protocol"
)

// A replicaKeep speaks the wire of a Keep on SIMULATED silicon, and may take each step
// at another replica. It fails no test: its Steward is killed beneath it.
type replicaKeep struct {
	silicon  *silicon.Silicon
	roots    *x509.CertPool // pinned before the rotation
	manifest []byte
	config   []byte
	measured [48]byte
}

// enrolled is what an enrolment that was answered gave.
type enrolled struct {
	challenge []byte
	serial    []byte
	head      *audit.Head
	secrets   protocol.Secrets
	at        string // the address that answered
}

// dial opens one connection; the client has it alone.
func (k *replicaKeep) dial(addr string) (*http.Client, tls.ConnectionState, func(), error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{RootCAs: k.roots, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, tls.ConnectionState{}, nil, err
	}
	conn, used := c.(*tls.Conn), false
	tr := &http.Transport{MaxConnsPerHost: 1, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, io.ErrClosedPipe
		}
		used = true
		return conn, nil
	}}
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}, conn.ConnectionState(), func() { _ = conn.Close() }, nil
}

// post gives a *protocol.Problem where it was refused, another error where there was
// no whole answer.
func post(c *http.Client, url string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := c.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		p := &protocol.Problem{}
		if err := json.Unmarshal(b, p); err != nil || p.Code == "" {
			return fmt.Errorf("status %d without a problem: %s", resp.StatusCode, b)
		}
		return p
	}
	return json.Unmarshal(b, into)
}

func (k *replicaKeep) challenge(addr string) ([]byte, error) {
	client, _, end, err := k.dial(addr)
	if err != nil {
		return nil, err
	}
	defer end()
	var c protocol.ChallengeResponse
	err = post(client, "https://"+addr+protocol.PathChallenge, struct{}{}, &c)
	return c.Challenge, err
}

// enrol uses a challenge, wherever it was made, on a new connection with a new key.
func (k *replicaKeep) enrol(addr string, challenge []byte) (*enrolled, error) {
	p, err := k.prepare(addr, challenge)
	if err != nil {
		return nil, err
	}
	defer p.end()
	if err := p.send(); err != nil {
		return nil, err
	}
	return p.read()
}

// prepared is a request that is ready to be sent, on the connection it is for.
type prepared struct {
	k         *replicaKeep
	addr      string
	client    *http.Client
	end       func()
	challenge []byte
	steward   []byte // its SubjectPublicKeyInfo
	spki      []byte
	seal      *ecdh.PrivateKey
	body      *protocol.EnrolRequest
	out       protocol.EnrolResponse
}

func (p *prepared) send() error {
	return post(p.client, "https://"+p.addr+protocol.PathEnrol, p.body, &p.out)
}

// prepare does what a Keep does before it sends its request.
func (k *replicaKeep) prepare(addr string, challenge []byte) (_ *prepared, err error) {
	client, state, end, err := k.dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	seal, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	exporter, err := protocol.Exporter(&state, challenge)
	if err != nil {
		return nil, err
	}
	steward := state.PeerCertificates[0].RawSubjectPublicKeyInfo
	stewardKey, sealKey := sha256.Sum256(steward), sha256.Sum256(seal.PublicKey().Bytes())
	claims := evidence.Claims{PubkeyHash: sha256.Sum256(spki), Nonce: challenge, WorkloadDigest: sha256.Sum256(k.manifest), Purpose: evidence.PurposeEnrol,
		TLSExporter: exporter, StewardKey: stewardKey[:], SealingKey: sealKey[:]}
	rand.Read(claims.Instance[:])
	csr, err := k.request(claims, key)
	if err != nil {
		return nil, err
	}
	return &prepared{k: k, addr: addr, client: client, end: end, challenge: challenge, steward: steward, spki: spki, seal: seal,
		body: &protocol.EnrolRequest{Request: csr, Manifest: k.manifest, Config: k.config, SealingKey: seal.PublicKey().Bytes()}}, nil
}

// read looks at what was answered: it must be good, and where it is not, that is no
// lost answer.
func (p *prepared) read() (_ *enrolled, err error) {
	e := &enrolled{challenge: p.challenge, at: p.addr}
	if e.serial, e.head, err = p.k.check(&p.out, p.spki); err != nil {
		return nil, &wrongAnswer{err}
	}
	if e.secrets, err = protocol.Open(p.seal, protocol.Binding{Challenge: p.challenge, SPKI: p.spki, Steward: p.steward}, p.out.Sealed); err != nil {
		return nil, &wrongAnswer{err}
	}
	return e, nil
}

// wrongAnswer is an answer of 200 that a Keep must not accept.
type wrongAnswer struct{ err error }

func (w *wrongAnswer) Error() string { return "admitted with a wrong answer: " + w.err.Error() }

func (k *replicaKeep) request(c evidence.Claims, key *ecdsa.PrivateKey) ([]byte, error) {
	raw, err := c.Encode()
	if err != nil {
		return nil, err
	}
	g := k.silicon.Guest(silicon.Launch{HostData: c.WorkloadDigest}, func() [48]byte { return k.measured })
	report, err := g.Report(evidence.ReportData(raw))
	if err != nil {
		return nil, err
	}
	list, err := evidence.CertificateExtensions(evidence.Evidence{Report: report, Certs: g.Certs(), Claims: raw})
	if err != nil {
		return nil, err
	}
	t := &x509.CertificateRequest{}
	for _, x := range list {
		if x.Id.Equal(ca.CMWOID) {
			t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: x.Id, Value: x.Value})
		}
	}
	return x509.CreateCertificateRequest(rand.Reader, t, key)
}

// check is whether the certificate is this key's and chains to the root that was
// pinned at first.
func (k *replicaKeep) check(out *protocol.EnrolResponse, spki []byte) (serial []byte, head *audit.Head, err error) {
	between := x509.NewCertPool()
	var leaf *x509.Certificate
	for i, der := range out.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			leaf = c
		} else {
			between.AddCert(c)
		}
	}
	if leaf == nil || !bytes.Equal(leaf.RawSubjectPublicKeyInfo, spki) {
		return nil, nil, fmt.Errorf("found %d certificates, wanted this key's first", len(out.Certificates))
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: k.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, nil, err
	}
	var text string
	for _, x := range leaf.Extensions {
		if x.Id.Equal(ca.AuditHeadOID) {
			if _, err := asn1.UnmarshalWithParams(x.Value, &text, "utf8"); err != nil {
				return nil, nil, err
			}
		}
	}
	head, err = audit.ParseHeadText(text)
	return leaf.SerialNumber.Bytes(), head, err
}
