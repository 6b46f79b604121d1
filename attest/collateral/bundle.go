package collateral

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MediaType names a bundle's encoding, docs/collateral.md. It stands in the bundle.
const MediaType = "application/vnd.donjon.collateral+json"

// bundleVersion is the one version there is.
const bundleVersion = 1

// Kind says what an item of collateral is.
type Kind string

// The kinds.
const (
	Certificate Kind = "certificate"
	List        Kind = "crl"
	TCBInfo     Kind = "tcb-info"
	QEIdentity  Kind = "qe-identity"
)

// Item is one piece of collateral with the moment it was got from its vendor.
// Certificate and List have DER, TCBInfo and QEIdentity a Document.
type Item struct {
	Kind    Kind
	Fetched time.Time // whole seconds, UTC
	DER     []byte
	Document
}

// Bundle is collateral for carrying about: to machines without a network, beside
// evidence, in a cache. The same items always have the same encoding. It is as
// hostile as any other file: nothing in it is trusted for being in a bundle, the
// moments in Fetched not either.
type Bundle struct{ Items []Item }

// wireBundle and wireItem are the encoding.
type wireBundle struct {
	MediaType string     `json:"media_type"`
	Version   int        `json:"version"`
	Items     []wireItem `json:"items"`
}

type wireItem struct {
	Kind      Kind   `json:"kind"`
	Fetched   string `json:"fetched"`
	DER       []byte `json:"der,omitempty"`
	Body      string `json:"body,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// Add adds everything of s, fetched at the given moment. Of what is there already
// the later moment counts.
func (b *Bundle) Add(s *Set, fetched time.Time) {
	if s == nil {
		return
	}
	for _, c := range s.Certificates {
		b.add(Item{Kind: Certificate, DER: c.Raw, Fetched: fetched})
	}
	for _, l := range s.Lists {
		b.add(Item{Kind: List, DER: l.Raw, Fetched: fetched})
	}
	for _, d := range s.TCBInfos {
		b.add(Item{Kind: TCBInfo, Document: d, Fetched: fetched})
	}
	for _, d := range s.QEIdentities {
		b.add(Item{Kind: QEIdentity, Document: d, Fetched: fetched})
	}
}

// Merge adds every item of o.
func (b *Bundle) Merge(o *Bundle) {
	for _, i := range o.Items {
		b.add(i)
	}
}

func (b *Bundle) add(i Item) {
	i.Fetched = i.Fetched.UTC().Truncate(time.Second)
	for n := range b.Items {
		if b.Items[n].Same(i) {
			if i.Fetched.After(b.Items[n].Fetched) {
				b.Items[n].Fetched = i.Fetched
			}
			return
		}
	}
	b.Items = append(b.Items, i)
}

// Same says whether two items are the same but for the moment they were got.
func (i Item) Same(o Item) bool {
	return i.Kind == o.Kind && bytes.Equal(i.DER, o.DER) && bytes.Equal(i.Body, o.Body) && bytes.Equal(i.Signature, o.Signature)
}

// digest orders items: by kind, then by the SHA-256 of their bytes.
func (i Item) digest() [32]byte {
	h := sha256.New()
	h.Write(i.DER)
	h.Write(i.Body)
	h.Write(i.Signature)
	return [32]byte(h.Sum(nil))
}

// Encode gives the bundle's one encoding. Errors: an item that is no collateral of
// its kind, more than a Set holds, more than MaxFile bytes.
func (b *Bundle) Encode() ([]byte, error) {
	w := wireBundle{MediaType: MediaType, Version: bundleVersion, Items: []wireItem{}}
	items := slices.Clone(b.Items)
	slices.SortStableFunc(items, func(x, y Item) int {
		if x.Kind != y.Kind {
			if x.Kind < y.Kind {
				return -1
			}
			return 1
		}
		dx, dy := x.digest(), y.digest()
		return bytes.Compare(dx[:], dy[:])
	})
	for _, i := range items {
		w.Items = append(w.Items, wireItem{Kind: i.Kind, Fetched: i.Fetched.UTC().Format(time.RFC3339),
			DER: i.DER, Body: string(i.Body), Signature: hex.EncodeToString(i.Signature)})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(w); err != nil {
		return nil, fmt.Errorf("collateral: encoding a bundle: %w", err)
	}
	if _, err := ParseBundle(out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// ParseBundle reads a bundle: exactly what Encode writes, white space around it
// apart. Nothing is verified.
func ParseBundle(raw []byte) (*Bundle, error) {
	b, err := parseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("collateral: bundle: %w", err)
	}
	return b, nil
}

func parseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("%w: found %d bytes, wanted at most %d", ErrLimit, len(raw), MaxFile)
	}
	raw = bytes.TrimSpace(raw)
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	var w wireBundle
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return nil, fmt.Errorf("its fields are not a bundle's: %w", err)
	}
	if w.MediaType != MediaType || w.Version != bundleVersion {
		return nil, fmt.Errorf("found %.80q version %d, wanted %q version %d", w.MediaType, w.Version, MediaType, bundleVersion)
	}
	b := &Bundle{}
	counts := map[Kind]int{}
	var last Item
	for n, i := range w.Items {
		item, err := i.item()
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", n, err)
		}
		if counts[item.Kind]++; counts[item.Kind] > limitOf(item.Kind) {
			return nil, fmt.Errorf("%w: more than %d of the kind %s", ErrLimit, limitOf(item.Kind), item.Kind)
		}
		if n > 0 {
			da, db := last.digest(), item.digest()
			if last.Kind > item.Kind || last.Kind == item.Kind && bytes.Compare(da[:], db[:]) >= 0 {
				return nil, fmt.Errorf("item %d is out of order or there twice", n)
			}
		}
		last = item
		b.Items = append(b.Items, item)
	}
	// One encoding: no other spelling of names, of base64, of white space.
	var again bytes.Buffer
	e := json.NewEncoder(&again)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if w.Items == nil {
		w.Items = []wireItem{}
	}
	if err := e.Encode(w); err != nil || !bytes.Equal(bytes.TrimSpace(again.Bytes()), raw) {
		return nil, errors.New("it is not encoded as bundles are")
	}
	return b, nil
}

func limitOf(k Kind) int {
	switch k {
	case Certificate:
		return MaxCertificates
	case List:
		return MaxLists
	}
	return MaxDocuments
}

// item checks and converts one item.
func (w wireItem) item() (Item, error) {
	i := Item{Kind: w.Kind, DER: w.DER}
	at, err := time.Parse(time.RFC3339, w.Fetched)
	if err != nil || at.UTC().Format(time.RFC3339) != w.Fetched {
		return i, fmt.Errorf("fetched: found %.40q, wanted a time as 2006-01-02T15:04:05Z", w.Fetched)
	}
	i.Fetched = at.UTC()
	one := &Set{}
	switch w.Kind {
	case Certificate, List:
		if w.Body != "" || w.Signature != "" {
			return i, fmt.Errorf("a %s has no body and no signature", w.Kind)
		}
		if w.Kind == Certificate {
			_, err = x509.ParseCertificate(w.DER)
		} else {
			_, err = x509.ParseRevocationList(w.DER)
		}
		if err != nil {
			return i, fmt.Errorf("der is no %s: %w", w.Kind, err)
		}
		return i, nil
	case TCBInfo, QEIdentity:
		if w.DER != nil {
			return i, fmt.Errorf("a %s has no der", w.Kind)
		}
		if err := checkJSON([]byte(w.Body)); err != nil {
			return i, fmt.Errorf("body: %w", err)
		}
		name := "tcbinfo"
		if w.Kind == QEIdentity {
			name = "qeidentity"
		}
		text, _ := json.Marshal(w.Body)
		sig, _ := json.Marshal(w.Signature)
		if why := one.document(name, text, map[string]json.RawMessage{name + "signature": sig}); why != "" {
			return i, errors.New(why)
		}
		i.Document = append(one.TCBInfos, one.QEIdentities...)[0]
		if string(i.Body) != w.Body {
			return i, errors.New("body: something is around the document")
		}
		return i, nil
	}
	return i, fmt.Errorf("found kind %.40q, wanted %s, %s, %s or %s", w.Kind, Certificate, List, TCBInfo, QEIdentity)
}

// Set gives everything that the bundle holds. Items that are not what their kind
// says are left out; there are none in a parsed bundle.
func (b *Bundle) Set() *Set {
	s := &Set{}
	for _, i := range b.Items {
		switch i.Kind {
		case Certificate:
			if c, err := x509.ParseCertificate(i.DER); err == nil {
				s.Certificates = append(s.Certificates, c)
			}
		case List:
			if l, err := x509.ParseRevocationList(i.DER); err == nil {
				s.Lists = append(s.Lists, l)
			}
		case TCBInfo:
			s.TCBInfos = append(s.TCBInfos, i.Document)
		case QEIdentity:
			s.QEIdentities = append(s.QEIdentities, i.Document)
		}
	}
	return s
}
