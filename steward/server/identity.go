package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/steward/authority"
)

// serverLife is a TLS certificate's; it is renewed when a third of it is left.
const serverLife = 7 * 24 * time.Hour

// identity is the Steward's own TLS key, which lives as long as the process, and its
// certificate, which is renewed.
type identity struct {
	authority *authority.Authority
	names     authority.Names
	clock     func() time.Time
	key       *ecdsa.PrivateKey
	spki      []byte
	current   atomic.Pointer[tls.Certificate]
}

func newIdentity(a *authority.Authority, names authority.Names, clock func() time.Time) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	i := &identity{authority: a, names: names, clock: clock, key: key}
	if i.spki, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		return nil, err
	}
	return i, i.renew()
}

// renew issues a certificate where there is none, the last is ageing, or the
// authority issues under another intermediate.
func (i *identity) renew() error {
	if c := i.current.Load(); c != nil {
		left := c.Leaf.NotAfter.Sub(i.clock())
		if left > serverLife/3 && left <= serverLife && i.authority.IssuedServer(c.Leaf) {
			return nil
		}
	}
	chain, err := i.authority.Server(&i.key.PublicKey, i.names, serverLife)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	i.current.Store(&tls.Certificate{Certificate: chain, PrivateKey: i.key, Leaf: leaf})
	return nil
}

func (i *identity) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return i.current.Load(), nil
}
