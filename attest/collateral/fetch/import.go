package fetch

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/snp"
)

// Imported is what became of one piece of imported collateral.
type Imported struct {
	Request Request
	Set     *collateral.Set
	Until   time.Time
	Kept    bool
	// Why says why it was not kept: what the cache has is as new, or it does not
	// verify, which Err tells apart.
	Why string
	Err error
}

// Import puts into the cache what b holds, as if it had come from the vendors at the
// moments that b names, though not later than now. What does not verify up to Roots,
// and what is no newer than what the cache has, is not kept. Certificates that no
// server gives (VLEKs, PCK certificates, chains by themselves) are left out.
// The error is the cache's.
func (c *Client) Import(b *collateral.Bundle) ([]Imported, error) {
	if c.Cache == nil {
		return nil, errors.New("fetch: there is no cache to import into")
	}
	ctx := context.Background() // nobody is asked
	all := b.Set()
	entries := identify(all)
	withChains := collateral.Merge(all)
	for _, e := range entries {
		if e.Request.needs != nil {
			if chain, ok := c.cached(ctx, *e.Request.needs); ok {
				withChains = collateral.Merge(withChains, chain.Set)
			}
		}
	}
	verified := collateral.Verified(withChains, c.Roots, &c.signatures)
	var out []Imported
	for _, e := range entries {
		i := Imported{Request: e.Request, Set: e.Set, Until: until(e.Set)}
		set, err := e.Request.pick(only(e.Set, verified))
		if err != nil {
			i.Err = errors.New("its signature does not hold up to the vendor's root with the certificates at hand")
			i.Why = i.Err.Error()
			out = append(out, i)
			continue
		}
		i.Set = set
		fetched := c.Now()
		if t := fetchedAt(b, set); t.Before(fetched) {
			fetched = t
		}
		if have, ok := c.cached(ctx, e.Request); ok && !newer(set, fetched, have) {
			i.Why = "the cache has it as new or newer"
			out = append(out, i)
			continue
		}
		if err := c.keep(e.Request, set, fetched); err != nil {
			return out, err
		}
		i.Kept = true
		out = append(out, i)
	}
	return out, nil
}

// newer says whether set takes the place of what the cache has.
func newer(set *collateral.Set, fetched time.Time, have Result) bool {
	if notOlder(set, have.Set) != nil {
		return false
	}
	if u := until(set); !u.Equal(have.Until) {
		return u.After(have.Until)
	}
	return fetched.After(have.Fetched)
}

// only is the part of s that is in good.
func only(s, good *collateral.Set) *collateral.Set {
	out := &collateral.Set{Certificates: intersect(s.Certificates, good.Certificates)}
	for _, l := range s.Lists {
		for _, g := range good.Lists {
			if string(l.Raw) == string(g.Raw) {
				out.Lists = append(out.Lists, l)
				break
			}
		}
	}
	documents := func(a, b []collateral.Document) (out []collateral.Document) {
		for _, x := range a {
			for _, y := range b {
				if string(x.Body) == string(y.Body) && string(x.Signature) == string(y.Signature) {
					out = append(out, x)
					break
				}
			}
		}
		return out
	}
	out.TCBInfos = documents(s.TCBInfos, good.TCBInfos)
	out.QEIdentities = documents(s.QEIdentities, good.QEIdentities)
	return out
}

// fetchedAt is when the main item of set was got; the chain's moments do not count.
func fetchedAt(b *collateral.Bundle, set *collateral.Set) time.Time {
	var main collateral.Bundle
	part := *set
	if len(part.Lists)+len(part.TCBInfos)+len(part.QEIdentities) > 0 {
		part.Certificates = nil
	}
	main.Add(&part, time.Time{})
	var out time.Time
	for _, m := range main.Items {
		for _, i := range b.Items {
			if i.Same(m) && (out.IsZero() || i.Fetched.Before(out)) {
				out = i.Fetched
			}
		}
	}
	return out
}

// entry is a piece of collateral, its issuer's chain, and what asks for it.
type entry struct {
	Request Request
	Set     *collateral.Set
}

// identify finds out what a vendor would have to be asked for to get what s holds.
func identify(s *collateral.Set) []entry {
	var out []entry
	add := func(r Request, err error, set *collateral.Set) {
		if err == nil {
			out = append(out, entry{r, set})
		}
	}
	named := func(names ...string) (found []*x509.Certificate) {
		for _, c := range s.Certificates {
			for _, n := range names {
				if c.Subject.CommonName == n {
					found = append(found, c)
				}
			}
		}
		return found
	}
	for _, product := range []string{"Milan", "Genoa", "Turin"} {
		for _, vlek := range []bool{false, true} {
			key := "SEV-"
			if vlek {
				key = "SEV-VLEK-"
			}
			if len(named(key+product)) > 0 {
				r, err := AMDChain(product, vlek)
				add(r, err, &collateral.Set{Certificates: named(key+product, "ARK-"+product)})
			}
		}
	}
	for _, c := range s.Certificates {
		e, err := snp.ParseEndorsement(c)
		product, found := strings.CutPrefix(c.Issuer.CommonName, "SEV-")
		if err != nil || e.HWID == nil || !found {
			continue
		}
		chip := make([]byte, 64)
		copy(chip, e.HWID)
		tcb := claims.SNPTCB{BootLoader: e.BootLoader, TEE: e.TEE, SNP: e.SNP, Microcode: e.Microcode}
		if e.HasFMC {
			tcb.FMC = &e.FMC
		}
		r, err := VCEK(product, chip, tcb)
		add(r, err, &collateral.Set{Certificates: []*x509.Certificate{c}})
	}
	for _, l := range s.Lists {
		set := &collateral.Set{Lists: []*x509.RevocationList{l}}
		cn := l.Issuer.CommonName
		ca := map[string]string{"Intel SGX PCK Platform CA": "platform", "Intel SGX PCK Processor CA": "processor"}[cn]
		switch product, amd := strings.CutPrefix(cn, "ARK-"); {
		case amd:
			r, err := AMDList(product)
			add(r, err, set)
		case ca != "":
			set.Certificates = named(cn, "Intel SGX Root CA")
			r, err := PCKList(ca)
			add(r, err, set)
		case cn == "Intel SGX Root CA":
			add(IntelRootList(), nil, set)
		}
	}
	chain := named("Intel SGX TCB Signing", "Intel SGX Root CA")
	for _, d := range s.TCBInfos {
		if h, err := d.Head(); err == nil {
			fmspc, _ := hex.DecodeString(h.FMSPC) // 6 bytes, as Head says
			r, err := TCBInfo(strings.ToLower(h.ID), fmspc, Standard)
			add(r, err, &collateral.Set{TCBInfos: []collateral.Document{d}, Certificates: chain})
		}
	}
	for _, d := range s.QEIdentities {
		h, err := d.Head()
		tee := map[string]string{"QE": claims.SGX, "TD_QE": claims.TDX}[h.ID]
		if err == nil && tee != "" {
			r, err := QEIdentity(tee, Standard)
			add(r, err, &collateral.Set{QEIdentities: []collateral.Document{d}, Certificates: chain})
		}
	}
	return out
}

// Bundle is everything in the cache that verifies, with the moments it was got, and
// how many items do not. keys are the cache's (Dir.Keys).
func (c *Client) Bundle(keys []string) (b *collateral.Bundle, bad int) {
	b = &collateral.Bundle{}
	if c.Cache == nil {
		return b, 0
	}
	raw := &collateral.Bundle{}
	for _, k := range keys {
		enc, err := c.Cache.Load(k)
		if err != nil {
			bad++
			continue
		}
		one, err := collateral.ParseBundle(enc)
		if err != nil {
			bad++
			continue
		}
		raw.Merge(one)
	}
	verified := collateral.Verified(raw.Set(), c.Roots, &c.signatures)
	var good collateral.Bundle
	good.Add(verified, time.Time{})
	for _, i := range raw.Items {
		found := false
		for _, g := range good.Items {
			found = found || g.Same(i)
		}
		if found {
			b.Items = append(b.Items, i)
		} else {
			bad++
		}
	}
	return b, bad
}
