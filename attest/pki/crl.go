package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Revocation is what the lists at hand say about certificates of one issuer.
type Revocation struct {
	// List is the one that was used: the newest of this issuer whose signature holds;
	// nil: none is at hand.
	List *x509.RevocationList
	// Revoked is the first certificate found revoked, by any list whose signature
	// holds, current or not: what is revoked stays so.
	Revoked *x509.Certificate
	// Current says that List is current at the time of judging.
	Current bool
	// Why says what is the matter where List is nil or not current.
	Why string
}

// Revoked looks certs, all issued by issuer, up in the lists. A list that issuer
// did not sign, that is no full list (delta, other distribution point) or that has an
// unknown critical extension is passed over. bound, if above 0, shortens nextUpdate:
// a list is current for at most that long after its thisUpdate.
func Revoked(certs []*x509.Certificate, issuer *x509.Certificate, lists []*x509.RevocationList, at time.Time, bound time.Duration, cache *Cache) Revocation {
	var r Revocation
	var wrong error
	for _, l := range lists {
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) {
			continue
		}
		if err := CheckList(l, issuer, cache); err != nil {
			wrong = err
			continue
		}
		for _, c := range certs {
			if r.Revoked == nil && onList(l, c.SerialNumber) {
				r.Revoked = c
			}
		}
		if r.List == nil || newer(l, r.List, at) {
			r.List = l
		}
	}
	switch {
	case r.List == nil && wrong != nil:
		r.Why = fmt.Sprintf("the list of %s cannot be used: %v", issuer.Subject, wrong)
	case r.List == nil:
		r.Why = fmt.Sprintf("no revocation list of %s is at hand", issuer.Subject)
	default:
		r.Why = stale(r.List, at, bound)
		r.Current = r.Why == ""
	}
	return r
}

// newer prefers a list that has begun over one from the future, then the later one.
func newer(a, b *x509.RevocationList, at time.Time) bool {
	if af, bf := a.ThisUpdate.After(at), b.ThisUpdate.After(at); af != bf {
		return bf
	}
	return a.ThisUpdate.After(b.ThisUpdate)
}

func stale(l *x509.RevocationList, at time.Time, bound time.Duration) string {
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case at.Before(l.ThisUpdate):
		return "the list begins on " + day(l.ThisUpdate) + " only"
	case l.NextUpdate.IsZero():
		return "the list has no end"
	case at.After(l.NextUpdate):
		return "the list ended on " + day(l.NextUpdate)
	case bound > 0 && at.After(l.ThisUpdate.Add(bound)):
		return "the list is from " + day(l.ThisUpdate) + ", older than the policy allows (" + bound.String() + ")"
	}
	return ""
}

// CheckList says whether issuer signed the list and whether it is a whole one: no
// delta list, no distribution point of its own, no unknown critical extension. cache
// may be nil.
func CheckList(l *x509.RevocationList, issuer *x509.Certificate, cache *Cache) error {
	for _, x := range l.Extensions {
		standard := len(x.Id) == 4 && x.Id[0] == 2 && x.Id[1] == 5 && x.Id[2] == 29
		switch {
		case standard && x.Id[3] == 27:
			return errors.New("it is a delta list")
		case standard && x.Id[3] == 28: // critical or not: it may be a part of the whole
			return errors.New("it is a list for one distribution point")
		case x.Critical && (!standard || x.Id[3] != 20 && x.Id[3] != 35):
			return fmt.Errorf("it has the unknown critical extension %s", x.Id)
		}
	}
	h := sha256.New()
	issued := Fingerprint(issuer)
	h.Write([]byte("donjon pki list\x00"))
	h.Write(issued[:])
	h.Write(l.Raw)
	key := Hash(h.Sum(nil))
	if cache.Has(key) {
		return nil
	}
	if err := CheckKey(issuer.PublicKey); err != nil {
		return fmt.Errorf("the issuer has %w", err)
	}
	if err := l.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	cache.Add(key)
	return nil
}

func onList(l *x509.RevocationList, serial *big.Int) bool {
	for i := range l.RevokedCertificateEntries {
		if l.RevokedCertificateEntries[i].SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}
