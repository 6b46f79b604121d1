package fetch

import (
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Requests lists everything that a verifier needs beside evidence with these claims,
// the chains first. Claims need not be verified for this, and may be lies: a lie
// asks for collateral that does not fit. Whoever serves evidence of strangers does
// not call it for them: each made-up chip id would cost a request of the key server.
// Claims that lack something give the requests that can be made, and an error.
func Requests(c *claims.Claims, u Update) ([]Request, error) {
	l := &lister{}
	switch {
	case c == nil:
		return nil, errors.New("fetch: no claims")
	case c.SNP != nil:
		l.snp(c.SNP)
	case c.SGX != nil:
		l.intel(claims.SGX, c.Intel, u)
	case c.TDX != nil:
		l.intel(claims.TDX, c.Intel, u)
	case c.Nitro != nil || c.TPM != nil:
		// Their chains travel in the evidence.
	default:
		return nil, errors.New("fetch: claims of no known TEE")
	}
	return l.out, errors.Join(l.errs...)
}

type lister struct {
	out  []Request
	errs []error
}

func (l *lister) add(r Request, err error) {
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	l.out = append(l.out, r)
}

// ErrNoProduct is what Requests gives for a report that does not say what made it:
// reports of version 2 do not. The caller may know, and set it in the claims.
var ErrNoProduct = errors.New("fetch: the report does not name its product")

func (l *lister) snp(s *claims.SNPClaims) {
	if s.Product == "" {
		l.errs = append(l.errs, ErrNoProduct)
		return
	}
	switch s.SigningKey {
	case "vcek":
		l.add(AMDChain(s.Product, false))
		l.add(VCEK(s.Product, s.ChipID, s.Reported))
	case "vlek":
		// A VLEK is the provider's, who hands it out with the report; no server has it.
		l.add(AMDChain(s.Product, true))
	default:
		l.errs = append(l.errs, fmt.Errorf("fetch: the report is signed by %.20q, wanted vcek or vlek", s.SigningKey))
	}
	l.add(AMDList(s.Product))
}

func (l *lister) intel(tee string, p *claims.IntelPlatform, u Update) {
	if p == nil {
		l.errs = append(l.errs, errors.New("fetch: the quote names no platform: it carries no PCK certificate"))
		return
	}
	l.add(TCBInfo(tee, p.FMSPC, u))
	l.add(QEIdentity(tee, u))
	// Platforms of the scalable types have certificates of the platform authority,
	// those of the standard type of the processor authority (Intel SGX PCK
	// Certificate and CRL Specification, "SGX Type").
	ca := "processor"
	if p.SGXType != 0 {
		ca = "platform"
	}
	l.add(PCKList(ca))
	l.add(IntelRootList(), nil)
}

// Product lists what all processors of an AMD product have in common: both chains
// and the revocation list.
func Product(name string) ([]Request, error) {
	l := &lister{}
	l.add(AMDChain(name, false))
	l.add(AMDChain(name, true))
	l.add(AMDList(name))
	if len(l.errs) > 0 {
		return nil, l.errs[0]
	}
	return l.out, nil
}
