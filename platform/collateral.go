package platform

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"path"
	"strings"
	"time"
)

// Where host-wide caches of vendor data lie. The folders are those that Enarx's
// tools fill; a Keep needs none of them to run, only whoever verifies its
// evidence without asking the vendor.
const (
	amdCache   = "/var/cache/amd-sev"
	intelCache = "/var/cache/intel-sgx"
)

const (
	maxCRLFile = 4 << 20
	maxCRLs    = 64
)

// crlCache adds a check that is not required: cached revocation lists are there
// and none has expired. An expired list must not make the TEE look absent.
func (p *prober) crlCache(l *list, code, vendor, file string) bool {
	c := Check{
		Code: code, Title: vendor + " revocation lists in the cache", Source: file,
		Wanted: "there and not expired",
		Hint:   "not needed to run a Keep; a verifier gets its own lists",
	}
	b, err := p.read(file, maxCRLFile)
	if err != nil || p.h.Now == nil {
		c.Found = "not there"
		return l.may(false, c)
	}
	next, err := earliestUpdate(b)
	if err != nil {
		c.Found = reason(err)
		return l.may(false, c)
	}
	c.Found = "next update due " + next.UTC().Format(time.DateOnly)
	if !p.h.Now().Before(next) {
		c.Found = "expired on " + next.UTC().Format(time.DateOnly)
		return l.may(false, c)
	}
	return l.may(true, c)
}

// earliestUpdate finds the certificate revocation lists in a cache file and gives
// the earliest of their nextUpdate times. The file is DER: one list, lists one
// after the other, or a sequence of either them or of (URL, list) pairs. At most
// three levels are opened and maxCRLs lists read; bytes that are no DER are an
// error.
func earliestUpdate(der []byte) (time.Time, error) {
	var first time.Time
	n := 0
	level := [][]byte{der}
	for depth := 0; depth < 3 && len(level) > 0; depth++ {
		var below [][]byte
		for _, rest := range level {
			for len(rest) > 0 {
				var v asn1.RawValue
				var err error
				if rest, err = asn1.Unmarshal(rest, &v); err != nil {
					return time.Time{}, fmt.Errorf("the cache is not DER: %w", err)
				}
				if v.Class != asn1.ClassUniversal || v.Tag != asn1.TagSequence {
					continue // the URL of a pair
				}
				crl, err := x509.ParseRevocationList(v.FullBytes)
				if err != nil {
					below = append(below, v.Bytes)
					continue
				}
				if n++; n > maxCRLs {
					return time.Time{}, fmt.Errorf("the cache holds more than %d lists", maxCRLs)
				}
				if !crl.NextUpdate.IsZero() && (first.IsZero() || crl.NextUpdate.Before(first)) {
					first = crl.NextUpdate
				}
			}
		}
		if n > 0 {
			break
		}
		level = below
	}
	if first.IsZero() {
		return time.Time{}, fmt.Errorf("the cache holds no revocation list with a next update")
	}
	return first, nil
}

// cached adds a check that is not required: a file whose name starts with prefix
// lies in dir.
func (p *prober) cached(l *list, code, title, dir, prefix string) bool {
	c := Check{
		Code: code, Title: title, Source: path.Join(dir, prefix+"*"), Wanted: "there",
		Found: "not there", Hint: "not needed to run a Keep; saves whoever verifies its evidence a request to the vendor",
	}
	if p.h.List == nil {
		return l.may(false, c)
	}
	names, err := p.h.List(dir)
	if err != nil {
		return l.may(false, c)
	}
	for _, n := range names {
		if strings.HasPrefix(n, prefix) {
			c.Found = n
			return l.may(true, c)
		}
	}
	return l.may(false, c)
}
