//go:build linux

// Command attested is what donjon connect is measured with and beside
// (docs/benchmarks.md): a server that proves itself with simulated silicon, so that no
// Keep's own speed is in the figure, and a plain TLS proxy that copies as connect does
// and verifies nobody. Neither is a way to run anything.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/evidence"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
)

func main() {
	fmt.Fprintln(os.Stderr, "attested:", run(os.Args[1:]))
	os.Exit(1)
}

// run serves until that fails.
func run(args []string) error {
	fs := flag.NewFlagSet("attested", flag.ContinueOnError)
	listen := fs.String("listen", "", "`ADDRESS:PORT` to listen on")
	state := fs.String("silicon", "", "serve: `FOLDER` of the simulated processor")
	ca := fs.String("ca", "", "serve: `FILE` to write the CA's certificate to, for ordinary clients")
	to := fs.String("to", "", "proxy: `ADDRESS:PORT` of the server")
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch fs.Arg(0) {
	case "serve":
		return serve(*listen, *state, *ca)
	case "proxy":
		return proxy(*listen, *to)
	}
	return fmt.Errorf("found %q, wanted serve or proxy", fs.Args())
}

// copies are of connect's size.
var copies = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// proxy carries each local connection over a TLS connection of its own.
func proxy(listen, to string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	for {
		local, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer local.Close()
			far, err := tls.Dial("tcp", to, cfg)
			if err != nil {
				fmt.Fprintln(os.Stderr, "attested:", err)
				return
			}
			defer far.Close()
			done := make(chan struct{})
			go func() {
				move(far, local)
				_ = far.CloseWrite()
				close(done)
			}()
			move(local, far)
			_ = local.(*net.TCPConn).CloseWrite()
			<-done
		}()
	}
}

// move copies by reads and writes alone: neither side may take the other's place.
func move(to io.Writer, from io.Reader) {
	b := copies.Get().(*[64 << 10]byte)
	defer copies.Put(b)
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, b[:])
}

// A prover proves one key on simulated silicon, as a Keep's warden does.
type prover struct {
	guest    *silicon.Guest
	key      [32]byte
	instance [16]byte
	workload [32]byte

	count, nanos atomic.Int64 // of the reports made
}

// Prove implements atls.Prover, and counts and times itself.
func (p *prover) Prove(ctx context.Context, nonce, exporter []byte) (atls.Proof, error) {
	begin := time.Now()
	out, err := p.prove(nonce, exporter)
	p.count.Add(1)
	p.nanos.Add(int64(time.Since(begin)))
	return out, err
}

func (p *prover) prove(nonce, exporter []byte) (atls.Proof, error) {
	claims, err := evidence.Claims{PubkeyHash: p.key, Nonce: nonce, WorkloadDigest: p.workload,
		Purpose: evidence.PurposeConnect, Instance: p.instance, TLSExporter: exporter}.Encode()
	if err != nil {
		return atls.Proof{}, err
	}
	report, err := p.guest.Report(evidence.ReportData(claims))
	if err != nil {
		return atls.Proof{}, err
	}
	b, err := evidence.Evidence{Report: report, Certs: p.guest.Certs(), Claims: claims}.Encode()
	return atls.Proof{Evidence: b}, err
}

// serve answers clients, attested where they ask for it: 'd' and a size for so many
// bytes, 'u' and a size for so many bytes of theirs and one byte then, 'i' for an 'i'
// and silence, 'r' for how many reports were made and in how many nanoseconds,
// 'e' and a size for an exchange of as many bytes as an attestation has, and then again.
func serve(listen, dir, ca string) error {
	s, cfg, err := identity(dir, ca) // before it listens: the processor may have to be made
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		raw, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer raw.Close()
			conn := tls.Server(raw, cfg)
			defer conn.Close()
			if err := conn.Handshake(); err != nil {
				return
			}
			if conn.ConnectionState().NegotiatedProtocol == atls.Protocol {
				if _, err := s.Attest(context.Background(), conn); err != nil {
					return
				}
			}
			answer(conn, s.Prover.(*prover))
		}()
	}
}

// The messages of donjon-attest/1 around the evidence, in bytes.
const (
	requestSize = 46
	acceptSize  = 6
	maxEvidence = 1 << 20
)

func answer(conn *tls.Conn, p *prover) {
	var q [9]byte
	r := bufio.NewReaderSize(conn, 16)
	if _, err := io.ReadFull(r, q[:1]); err != nil {
		return
	}
	if q[0] == 'r' {
		b := binary.BigEndian.AppendUint64(nil, uint64(p.count.Load()))
		_, _ = conn.Write(binary.BigEndian.AppendUint64(b, uint64(p.nanos.Load())))
		return
	}
	if q[0] == 'i' {
		_, _ = conn.Write(q[:1])
		_, _ = r.ReadByte()
		return
	}
	if _, err := io.ReadFull(r, q[1:]); err != nil {
		return
	}
	n := int64(binary.BigEndian.Uint64(q[1:]))
	if q[0] == 'e' {
		var accepted [acceptSize]byte
		if _, err := io.CopyN(io.Discard, r, requestSize-int64(len(q))); err != nil || n > maxEvidence {
			return
		}
		if _, err := conn.Write(make([]byte, n)); err != nil {
			return
		}
		if _, err := io.ReadFull(r, accepted[:]); err == nil {
			answer(conn, p)
		}
		return
	}
	b := copies.Get().(*[64 << 10]byte)
	defer copies.Put(b)
	if q[0] == 'd' {
		for n > 0 {
			k, err := conn.Write(b[:min(n, int64(len(b)))])
			if err != nil {
				return
			}
			n -= int64(k)
		}
		_ = conn.CloseWrite()
		_, _ = r.ReadByte()
		return
	}
	for n -= int64(r.Buffered()); n > 0; {
		k, err := conn.Read(b[:])
		if err != nil {
			return
		}
		n -= int64(k)
	}
	_, _ = conn.Write([]byte{'k'})
	_, _ = conn.Read(b[:])
}

// identity makes the server's key and a certificate by a CA, both of the kind that a Keep
// has from a Steward, and what proves the key.
func identity(dir, ca string) (*atls.Server, *tls.Config, error) {
	sil, err := silicon.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, root, root, issuer.Public(), issuer)
	if err != nil {
		return nil, nil, err
	}
	if ca != "" {
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			return nil, nil, err
		}
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: root.NotBefore, NotAfter: root.NotAfter}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), issuer); err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	p := &prover{key: sha256.Sum256(spki), workload: sha256.Sum256([]byte("bench"))}
	rand.Read(p.instance[:])
	p.guest = sil.Guest(silicon.Launch{HostData: p.workload}, func() [48]byte { return [48]byte{1} })
	s := &atls.Server{Prover: p}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	attested := s.TLS(cfg)
	cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if atls.Asked(h) {
			return attested, nil
		}
		return nil, nil
	}
	return s, cfg, nil
}
