//go:build linux

package warden

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/snp"
	"github.com/donjon-tee/donjon/link"
)

// A provider is where reports about this very Keep come from. Which one is used
// is fixed in the measured program (THREATS T2): this build has the simulated
// processor at the other end of the link, and no other.
type provider interface {
	// report asks for a report over 64 bytes and gives the raw report and the
	// certificates that came along, both unchecked.
	report(data [64]byte) (raw, certs []byte, err error)
}

// simulated asks the simulated secure processor that the host runs. It proves
// nothing to anyone who does not trust that host. One caller at a time: see
// reportQueue.
type simulated struct{ st *link.Stream }

// reportTime bounds how long the host may take over one report. An answer that
// comes later is over other bytes than the next one asked for, and refused.
const reportTime = time.Minute

func (p *simulated) report(data [64]byte) ([]byte, []byte, error) {
	_ = p.st.SetReadDeadline(time.Now().Add(reportTime))
	defer func() { _ = p.st.SetReadDeadline(time.Time{}) }()
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		if err := link.WriteRaw(p.st, data[:]); err != nil {
			return nil, nil, fmt.Errorf("warden: asking for a report: %w", err)
		}
		var r link.ReportReply
		if err := link.ReadRecord(p.st, link.MaxReportRecord, &r); err != nil {
			return nil, nil, fmt.Errorf("warden: asking for a report: %w", err)
		}
		switch {
		case r.Busy && wait < time.Second:
			time.Sleep(wait)
		case r.Busy:
			return nil, nil, errors.New("warden: asking for a report: the processor is busy")
		case r.Error != "":
			return nil, nil, fmt.Errorf("warden: asking for a report: the host says %q", r.Error)
		default:
			return r.Report, r.Certs, nil
		}
	}
}

// An identity is what the Keep is and can prove: the local report it checked
// first, the workload, and its key with its certificate.
type identity struct {
	from     *reportQueue
	workload [32]byte
	instance [16]byte
	role     string // of those that the configuration lists; "": none
	signed   []byte // signatures over the workload, the host's word; see attached
	local    snp.Report
	now      func() time.Time

	mu   sync.Mutex
	key  tlsKey
	cert *tls.Certificate // nil: none yet
}

// A tlsKey is a key that ends TLS in the Keep.
type tlsKey struct {
	private *ecdsa.PrivateKey
	spki    []byte // SubjectPublicKeyInfo, DER
}

func newTLSKey() (k tlsKey, err error) {
	if k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		k.spki, err = x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	}
	if err != nil {
		return k, fmt.Errorf("warden: making a key: %w", err)
	}
	return k, nil
}

// newIdentity makes the self-check: a report over bytes that nobody could know
// before must name the workload that was handed over. Then it makes the key.
func newIdentity(from provider, workload [32]byte, now func() time.Time) (*identity, error) {
	id := &identity{from: newReportQueue(from), workload: workload, now: now}
	var nonce [64]byte
	rand.Read(nonce[:])
	rand.Read(id.instance[:])
	raw, _, err := id.from.report(laneOwn, nonce)
	if err != nil {
		return nil, err
	}
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, fmt.Errorf("warden: the Keep's own report: %w", err)
	}
	switch {
	case r.ReportData != nonce:
		return nil, errors.New("warden: the Keep's own report is not over the bytes asked for: it is replayed or made up")
	case r.HostData != workload:
		return nil, &refusedError{fmt.Sprintf("the Keep was launched for another workload: the report's host data is %x, the digest of what the host handed over %x", r.HostData, workload)}
	case r.VMPL != 0:
		return nil, &refusedError{fmt.Sprintf("the Keep's own report is of VMPL %d, wanted 0", r.VMPL)}
	case r.Policy&(1<<19) != 0:
		return nil, &refusedError{"the Keep was launched with debugging allowed (policy bit 19)"}
	}
	id.local = r
	if id.key, err = newTLSKey(); err != nil {
		return nil, err
	}
	return id, nil
}

// evidence has a report made over claims about this Keep's TLS key. Nobody but
// the warden chooses a claim (THREATS T3): a caller gives a nonce and a purpose.
func (id *identity) evidence(purpose string, nonce []byte) (evidence.Evidence, error) {
	id.mu.Lock()
	spki := id.key.spki
	id.mu.Unlock()
	return id.prove(evidence.Claims{PubkeyHash: sha256.Sum256(spki), Nonce: nonce, Purpose: purpose})
}

// prove has a report made over claims, to which it adds what the Keep is.
func (id *identity) prove(c evidence.Claims) (evidence.Evidence, error) {
	c.WorkloadDigest, c.Instance, c.Role = id.workload, id.instance, id.role
	claims, err := c.Encode()
	if err != nil {
		return evidence.Evidence{}, err
	}
	want := evidence.ReportData(claims)
	raw, certs, err := id.from.report(laneOf(c.Purpose), want)
	if err != nil {
		return evidence.Evidence{}, err
	}
	r, err := snp.ParseReport(raw)
	if err != nil {
		return evidence.Evidence{}, fmt.Errorf("warden: a report: %w", err)
	}
	if r.ReportData != want {
		return evidence.Evidence{}, errors.New("warden: a report is not over the bytes asked for")
	}
	if what := differs(id.local, r); what != "" {
		return evidence.Evidence{}, &refusedError{"a report differs from the Keep's first one in its " + what + ": the processor was switched"}
	}
	return evidence.Evidence{Report: raw, Certs: certs, Claims: claims}, nil
}

// differs names the first field in which two reports of one Keep differ and may
// not (THREATS T2). Report data, the signature and the current TCB may.
func differs(a, b snp.Report) string {
	switch {
	case a.Version != b.Version:
		return "version"
	case a.HostData != b.HostData:
		return "host data"
	case a.Measurement != b.Measurement:
		return "measurement"
	case a.Policy != b.Policy:
		return "policy"
	case a.VMPL != b.VMPL:
		return "VMPL"
	case a.GuestSVN != b.GuestSVN:
		return "guest SVN"
	case !bytes.Equal(a.ChipID[:], b.ChipID[:]):
		return "chip id"
	case a.ReportID != b.ReportID:
		return "report id"
	}
	return ""
}

// tlsCertificate is what the Keep shows to its peers now: the Steward's, where it has
// enrolled, else a self-signed one that carries the evidence, made once. Of that one
// the validity is the Keep's clock's word; what it proves is the evidence's.
func (id *identity) tlsCertificate() (*tls.Certificate, error) {
	id.mu.Lock()
	c := id.cert
	id.mu.Unlock()
	switch {
	case c == nil:
	case c.Leaf != nil && !id.now().Before(c.Leaf.NotAfter): // the Steward's; a self-signed one has no Leaf here
		return nil, errors.New("warden: the Keep's certificate has ended")
	default:
		return c, nil
	}
	made, err := id.makeCertificate()
	if err != nil {
		return nil, err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.cert == nil {
		id.cert = &made
	}
	return id.cert, nil
}

// take puts a key and its certificate in the place of the ones before: new handshakes
// and new evidence are about it.
func (id *identity) take(k tlsKey, c *tls.Certificate) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.key, id.cert = k, c
}

func (id *identity) makeCertificate() (tls.Certificate, error) {
	ev, err := id.evidence(evidence.PurposeCertificate, nil)
	if err != nil {
		return tls.Certificate{}, err
	}
	ext, err := evidence.CertificateExtensions(ev)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] &= 0x7f
	now := id.now()
	t := &x509.Certificate{
		SerialNumber:    new(big.Int).SetBytes(serial),
		Subject:         pkix.Name{CommonName: "localhost", Organization: []string{"Donjon Keep"}},
		DNSNames:        []string{"localhost"},
		NotBefore:       now.Add(-time.Hour),
		NotAfter:        now.Add(365 * 24 * time.Hour),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ExtraExtensions: ext,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &id.key.private.PublicKey, id.key.private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("warden: the Keep's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key.private}, nil
}

// A refusedError says that the Keep is not what it should be; the workload does
// not run.
type refusedError struct{ what string }

func (e *refusedError) Error() string { return "warden: refused: " + e.what }
