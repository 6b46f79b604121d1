//go:build linux

package warden

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Who a client is, said to the guest in the first bytes of its connection: a header of
// the PROXY protocol, version 2 (HAProxy, "The PROXY protocol", section 2.2). The
// address is not among it, being the host's word. docs/keep-to-keep.md has the table.

// What the header is made of; the custom types are in the range left to applications,
// apart from those that clouds use.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyVersion   = 0x21 // version 2, command PROXY
	proxyUnspec    = 0x00 // AF_UNSPEC

	tlvSSL        = 0x20
	tlvSSLVersion = 0x21
	tlvSSLName    = 0x22
	tlvKey        = 0xe4 // SHA-256 of the client's SubjectPublicKeyInfo, 32 bytes
	tlvWorkload   = 0xe5 // workload digest of an attested client, 32 bytes
	tlvInstance   = 0xe6 // its instance, 16 bytes
	tlvRole       = 0xe7 // its role, text; absent where it has none

	sslUsed = 0x01
	sslCert = 0x02 // a certificate on this connection

	maxCommonName = 256 // bytes; a longer one is left out, not cut
)

// A clientIdentity is what the Keep knows of the other end of a connection that came in.
type clientIdentity struct {
	key      []byte // SHA-256 of its SubjectPublicKeyInfo; nil: it showed none
	name     string // common name, where an authority that the workload names vouches for it
	vouched  bool
	workload []byte // of a Keep that was judged; nil: it is none
	instance []byte
	role     string
}

// clientOf is what is known once handshake and attestation are over.
func clientOf(s tls.ConnectionState, v *verdict.Verdict) clientIdentity {
	var c clientIdentity
	if len(s.PeerCertificates) > 0 {
		leaf := s.PeerCertificates[0]
		key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		c.key = key[:]
		if c.vouched = len(s.VerifiedChains) > 0; c.vouched && len(leaf.Subject.CommonName) <= maxCommonName {
			c.name = leaf.Subject.CommonName
		}
	}
	if v != nil && v.Outcome == verdict.Admitted && v.Claims != nil && v.Claims.Keep != nil {
		c.workload, c.instance, c.role = v.Claims.Keep.WorkloadDigest, v.Claims.Keep.Instance, v.Claims.Keep.Role
	}
	return c
}

// encode is the header, under 1 KiB.
func (c clientIdentity) encode() []byte {
	ssl := []byte{sslUsed, 0, 0, 0, 1} // verify: not 0 where nobody vouches for the certificate
	if c.key != nil {
		ssl[0] |= sslCert
	}
	if c.vouched || c.workload != nil {
		ssl[4] = 0
	}
	ssl = tlv(ssl, tlvSSLVersion, []byte("TLSv1.3"))
	if c.name != "" {
		ssl = tlv(ssl, tlvSSLName, []byte(c.name))
	}
	body := tlv(nil, tlvSSL, ssl)
	for _, x := range []struct {
		kind  byte
		value []byte
	}{{tlvKey, c.key}, {tlvWorkload, c.workload}, {tlvInstance, c.instance}, {tlvRole, []byte(c.role)}} {
		if len(x.value) > 0 {
			body = tlv(body, x.kind, x.value)
		}
	}
	out := append([]byte(proxySignature), proxyVersion, proxyUnspec)
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)))
	return append(out, body...)
}

func tlv(dst []byte, kind byte, value []byte) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}
