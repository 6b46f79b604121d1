//go:build linux

package warden

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const handshakeTime = 15 * time.Second

// serverTLS is the configuration of a listener with prot = "tls": TLS 1.3 alone,
// the Keep's certificate of the moment, no resumption (a resumed session proves nothing
// about the present). clients are the authorities whose certificates a client
// may show, nil for none.
func (w *warden) serverTLS(clients *x509.CertPool, require bool) (*tls.Config, error) {
	if _, err := w.identity.tlsCertificate(); err != nil {
		return nil, err // now, and not at the first client
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return w.identity.tlsCertificate()
		},
		SessionTicketsDisabled: true,
		Time:                   w.now,
	}
	if clients != nil {
		cfg.ClientCAs = clients
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if require {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return cfg, nil
}

// clientTLS is the configuration of a connection with prot = "tls" to host:
// Mozilla's roots, compiled in, or the workload's own, never the host's; the
// name is checked; the Keep's certificate is shown to a server that asks.
func (w *warden) clientTLS(host string, roots *x509.CertPool) (*tls.Config, error) {
	if _, err := w.identity.tlsCertificate(); err != nil {
		return nil, err
	}
	if roots == nil {
		var err error
		if roots, err = publicRoots(); err != nil {
			return nil, err
		}
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ServerName:             host,
		RootCAs:                roots,
		SessionTicketsDisabled: true,
		Time:                   w.now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return w.identity.tlsCertificate()
		},
	}, nil
}

// publicRoots are Mozilla's, with the constraints Mozilla puts on some.
func publicRoots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for r := range bundle.Roots() {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("warden: a root that is compiled in: %w", err)
		}
		if r.Constraint == nil {
			pool.AddCert(c)
		} else {
			pool.AddCertWithConstraint(c, r.Constraint)
		}
	}
	return pool, nil
}

// authorities reads the PEM certificates of a file of the workload.
func authorities(name string, pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("warden: %s: found no certificate in PEM form", name)
	}
	return pool, nil
}

// tlsHint says what to do about a failed handshake.
func tlsHint(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return `name the authority with ca = "FILE.pem" in this connect entry; the host's certificates are never used`
	case errors.As(err, &name):
		return "the server's certificate is for other names than host in the configuration"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server must renew its certificate; see also the clock of this machine"
	}
	return ""
}
