// Package advisory is a table of known vulnerabilities of trusted execution
// environments, and what a piece of evidence says about each: fixed, exposed or
// cannot tell.
//
// The table is Go, one file a TEE, and not a data file: it is read at every
// verification, where parsing would cost more than the signature of the report, and
// the compiler knows its fields. donjon advisory --json prints it for other
// programs. Every row names its source and how far that was checked (Confidence).
//
// Fixed is said only where the evidence shows it. Intel signs lists of advisories
// with each TCB level; what stands in the list of the level that matched is
// exposed, and what does not stand there proves nothing: the lists are not
// monotonic. docs/advisories.md says more.
package advisory

import (
	"slices"
	"strings"
)

// Class says where a vulnerability lives, and so who can fix it.
type Class string

// The classes.
const (
	TCB      Class = "tcb"      // firmware or microcode that the TCB version counts
	Module   Class = "module"   // the TDX module
	Guest    Class = "guest"    // the guest's own software
	Config   Class = "config"   // how the machine or the guest is set up
	Physical Class = "physical" // needs hands on the machine
	Protocol Class = "protocol" // how evidence is used, not how it is made
)

// Classes lists every class.
func Classes() []Class { return []Class{TCB, Module, Guest, Config, Physical, Protocol} }

// Confidence says how far a row was checked.
type Confidence string

// Vendor: id, CVEs and what fixes it stand in a document of the vendor's that was
// read (a CVE record by the vendor, CSAF, TCB info). Derived: the fix follows from
// vendor data, or another party quotes the vendor. Memory: not checked; such a row
// never says fixed.
const (
	Vendor  Confidence = "vendor"
	Derived Confidence = "derived"
	Memory  Confidence = "memory"
)

// Row is one known vulnerability.
type Row struct {
	ID    string   `json:"id"`
	Names []string `json:"names,omitempty"`
	CVEs  []string `json:"cves,omitempty"`
	// Published is a day (2006-01-02) or a month (2006-01); "" where no source gave it.
	Published string   `json:"published,omitempty"`
	TEE       []string `json:"tee"`
	// Product lists AMD products; empty: every product with the TEE.
	Product    []string   `json:"product,omitempty"`
	Class      Class      `json:"class"`
	What       string     `json:"what"` // one line: what an attacker gains, or where the fault is
	Source     string     `json:"source"`
	Confidence Confidence `json:"confidence"`

	// Fix is what evidence can show. Of those that fit the product any one is enough.
	Fix []Fix `json:"fix,omitempty"`
	// NoFix is why nothing fixes it: every product of the row is exposed.
	NoFix string `json:"no_fix,omitempty"`
	// Unseen is why no evidence shows whether it is fixed.
	Unseen string `json:"unseen,omitempty"`
	// Note is what the fields above cannot say.
	Note string `json:"note,omitempty"`
}

// Fix is one way in which a row is fixed on one product: all conditions together. A
// Fix without conditions is an update whose level no source gives.
type Fix struct {
	Product string `json:"product,omitempty"` // AMD product; "": any
	FMSPC   string `json:"fmspc,omitempty"`   // Intel, hexadecimal; "": any
	// CPU is the silicon line, family-model-stepping in hexadecimal ("19-11-2") or a
	// beginning of it: AMD's microcode numbers count for one line only.
	CPU string      `json:"cpu,omitempty"`
	All []Condition `json:"all"`
}

// Op compares what was found with the value.
type Op string

// The operators: a number, version or SVN at least the value; a bit, by its
// number, that is set or clear.
const (
	AtLeast Op = ">="
	Set     Op = "set"
	Clear   Op = "clear"
)

// Condition is one demand on a component of the evidence (components.go).
type Condition struct {
	Component Component `json:"component"`
	Op        Op        `json:"op"`
	Value     string    `json:"value"`
}

func (c Condition) String() string {
	if c.Op == AtLeast {
		return c.Component.words() + " >= " + c.Value
	}
	return c.Component.words() + " bit " + c.Value + " " + string(c.Op)
}

// All is the whole table, in the order of its files. The caller may change what it
// gets.
func All() []Row {
	var out []Row
	for _, part := range [...][]Row{snpRows, sgxRows, tdxRows, otherRows} {
		for _, r := range part {
			out = append(out, r.clone())
		}
	}
	return out
}

// each calls f with every row; f must not change it.
func each(f func(*Row)) {
	for _, part := range [...][]Row{snpRows, sgxRows, tdxRows, otherRows} {
		for i := range part {
			f(&part[i])
		}
	}
}

func (r Row) clone() Row {
	r.Names, r.CVEs, r.TEE, r.Product = slices.Clone(r.Names), slices.Clone(r.CVEs), slices.Clone(r.TEE), slices.Clone(r.Product)
	r.Fix = slices.Clone(r.Fix)
	for i := range r.Fix {
		r.Fix[i].All = slices.Clone(r.Fix[i].All)
	}
	return r
}

// Lookup finds a row by its id, one of its CVEs or one of its names, without regard
// to case. A CVE may stand in more than one row: the first counts.
func Lookup(word string) (Row, bool) {
	var found *Row
	each(func(r *Row) {
		if found == nil && r.called(word) {
			found = r
		}
	})
	if found == nil {
		return Row{}, false
	}
	return found.clone(), true
}

func (r *Row) called(word string) bool {
	return strings.EqualFold(r.ID, word) || holds(r.CVEs, word) || holds(r.Names, word)
}

func holds(list []string, word string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
}
