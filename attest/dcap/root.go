package dcap

import (
	"crypto/x509"
	_ "embed" // the root is data

	"github.com/donjon-tee/donjon/attest/pki"
)

//go:embed roots/intel-sgx-root-ca.der
var intelRootDER string

// IntelRoot is the SHA-256 of the DER of Intel's SGX Root CA.
func IntelRoot() pki.Hash {
	return pki.Hash{
		0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
		0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
	}
}

// IntelRootCertificate is Intel's SGX Root CA, as pinned.
func IntelRootCertificate() (*x509.Certificate, error) {
	return x509.ParseCertificate([]byte(intelRootDER))
}
