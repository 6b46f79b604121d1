package synthetic

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/pki"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Scene is a quote with all that a verifier needs, before it is made: change what
// shall be wrong, then call Vector.
type Scene struct {
	Intel    *Intel
	Quote    *Quote
	TCBInfo  *TCBInfo
	Identity *QEIdentity
	RootList *List // nil: none at hand
	PCKList  *List
	Certs    []*x509.Certificate // beside the quote's own chain
	Roots    []pki.Hash
	At       time.Time

	// Finish changes the collateral when all is signed.
	Finish func(*collateral.Set)
	// TCBKey and IdentityKey sign the documents; nil: the TCB signing key.
	TCBKey, IdentityKey *Identity
}

// List says what a revocation list shall hold. From and To are days from the
// hierarchy's time.
type List struct {
	Issuer   *Identity
	From, To int
	Revoked  []*x509.Certificate
}

// NewScene is a good quote of a version and body type under a new hierarchy.
func NewScene(version, bodyType uint16, o IntelOptions) (*Scene, error) {
	i, err := NewIntel(o)
	if err != nil {
		return nil, err
	}
	tdx := bodyType != 1
	return &Scene{
		Intel: i, Quote: i.NewQuote(version, bodyType), TCBInfo: i.NewTCBInfo(tdx), Identity: i.NewQEIdentity(tdx),
		RootList: &List{Issuer: &i.Root, From: -10, To: 355}, PCKList: &List{Issuer: &i.CA, From: -10, To: 20},
		Certs: []*x509.Certificate{i.Signer.Certificate, i.Root.Certificate, i.CA.Certificate},
		Roots: []pki.Hash{i.Pinned()}, At: i.At,
	}, nil
}

// Vector makes the scene's quote and collateral.
func (s *Scene) Vector(name string, code verdict.Code, status verdict.Status) (Vector, error) {
	v := Vector{Name: name, Roots: s.Roots, At: s.At, Code: code, Status: status, Collateral: &collateral.Set{Certificates: s.Certs}}
	var err error
	if v.Evidence, err = s.Intel.Quote(s.Quote); err != nil {
		return v, err
	}
	for _, l := range []*List{s.RootList, s.PCKList} {
		if l == nil {
			continue
		}
		made, err := s.Intel.List(*l.Issuer, s.Intel.At.AddDate(0, 0, l.From), s.Intel.At.AddDate(0, 0, l.To), l.Revoked...)
		if err != nil {
			return v, err
		}
		v.Collateral.Lists = append(v.Collateral.Lists, made)
	}
	if s.TCBInfo != nil {
		d, err := s.document(s.TCBInfo, s.TCBKey)
		if err != nil {
			return v, err
		}
		v.Collateral.TCBInfos = append(v.Collateral.TCBInfos, d)
	}
	if s.Identity != nil {
		d, err := s.document(s.Identity, s.IdentityKey)
		if err != nil {
			return v, err
		}
		v.Collateral.QEIdentities = append(v.Collateral.QEIdentities, d)
	}
	if s.Finish != nil {
		s.Finish(v.Collateral)
	}
	return v, nil
}

func (s *Scene) document(v any, by *Identity) (collateral.Document, error) {
	d, err := s.Intel.Sign(v)
	if err == nil && by != nil {
		return s.Intel.SignRaw(d.Body, by.Key)
	}
	return d, err
}

// dcapCase is a line of the tables below.
type dcapCase struct {
	name          string
	version, body uint16
	options       IntelOptions
	edit          func(*Scene)
	code          verdict.Code
	status        verdict.Status
}

// DCAPVectors are SGX and TDX quotes, good ones of every form first, then every way
// to be wrong that no real evidence is known of. Each is under a hierarchy of its
// own, made anew with each call; it takes some hundred milliseconds. Judged by a
// policy with the defaults of [sgx] and [tdx] that allows simulated roots, the check
// Code comes out as Status.
func DCAPVectors() []Vector {
	var out []Vector
	for _, table := range [][]dcapCase{dcapGood(), dcapForms(), dcapChains(), dcapLists(), dcapDocuments(), dcapEnclaves(), dcapLevels(), dcapPolicies()} {
		for _, c := range table {
			v, err := c.vector()
			if err != nil {
				panic(fmt.Sprintf("synthetic: %s: %v", c.name, err)) // a table below is wrong
			}
			out = append(out, v)
		}
	}
	return out
}

func (c dcapCase) vector() (Vector, error) {
	s, err := NewScene(c.version, c.body, c.options)
	if err != nil {
		return Vector{}, err
	}
	if c.edit != nil {
		c.edit(s)
	}
	status := c.status
	if c.code == "" {
		status = verdict.Passed
	}
	return s.Vector("dcap: "+c.name, c.code, status)
}

func dcapGood() []dcapCase {
	return []dcapCase{
		{name: "SGX, version 3", version: 3, body: 1},
		{name: "SGX, version 4", version: 4, body: 1},
		{name: "SGX, version 5", version: 5, body: 1},
		{name: "TDX 1.0, version 4", version: 4, body: 2},
		{name: "TDX 1.0, version 5", version: 5, body: 2},
		{name: "TDX 1.5, version 5", version: 5, body: 3},
		{name: "Processor CA", version: 3, body: 1, options: IntelOptions{ProcessorCA: true, Machine: withoutInstance()}},
		{name: "version 4 with zero padding", version: 4, body: 2, edit: func(s *Scene) {
			s.Quote.AfterSigning = func(b []byte) []byte { return append(b, make([]byte, 307)...) }
		}},
		{name: "FMSPC in capitals", version: 4, body: 2, edit: func(s *Scene) { s.TCBInfo.FMSPC = "5EC06F000000" }},
		{name: "the root left out of the quote", version: 4, body: 2, edit: func(s *Scene) { s.Quote.Chain = s.Intel.ChainPEM(&s.Intel.PCK, &s.Intel.CA) }},
		{name: "a TDX 1.0 module", version: 4, body: 2, edit: func(s *Scene) { copy(s.Quote.Body, []byte{5, 0, 2}) }},
		{name: "a TCB info with a higher number that has not begun beside a current one", version: 4, body: 2, edit: func(s *Scene) {
			later := s.Intel.NewTCBInfo(true)
			later.Evaluation, later.IssueDate, later.NextUpdate = 30, s.Intel.date(30), s.Intel.date(60)
			later.Levels = later.Levels[2:]
			s.beside(later)
		}},
		{name: "a stale TCB info with a lower number beside a current one", version: 4, body: 2, edit: func(s *Scene) {
			stale := s.Intel.NewTCBInfo(true)
			stale.Evaluation, stale.IssueDate, stale.NextUpdate = 2, s.Intel.date(-60), s.Intel.date(-30)
			stale.Levels = stale.Levels[2:]
			s.beside(stale)
		}},
		{name: "another platform's TCB info beside the right one", version: 4, body: 2, edit: func(s *Scene) {
			other := s.Intel.NewTCBInfo(true)
			other.FMSPC, other.Levels = "000000000000", other.Levels[2:]
			s.beside(other)
		}},
	}
}

// beside puts another signed TCB info first.
func (s *Scene) beside(t *TCBInfo) {
	finish := s.Finish
	s.Finish = func(c *collateral.Set) {
		if d, err := s.Intel.Sign(t); err == nil {
			c.TCBInfos = append([]collateral.Document{d}, c.TCBInfos...)
		}
		if finish != nil {
			finish(c)
		}
	}
}

func withoutInstance() *Machine {
	m := NewMachine()
	m.InstanceID = nil
	return &m
}
