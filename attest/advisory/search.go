package advisory

import (
	"slices"
	"strings"
)

// Query narrows the table; an empty field does not.
type Query struct {
	Text    string // a part of id, name, CVE, what or note, in any case
	TEE     string // snp, tdx, sgx, pef
	Product string // an AMD product or an FMSPC, in any case
	Class   Class
}

// Search gives the rows that fit q, in the order of the table.
func Search(q Query) []Row {
	out := []Row{}
	each(func(r *Row) {
		if q.TEE != "" && !slices.Contains(r.TEE, q.TEE) || q.Class != "" && r.Class != q.Class ||
			q.Product != "" && !r.on(q.Product) || q.Text != "" && !r.mentions(strings.ToLower(q.Text)) {
			return
		}
		out = append(out, r.clone())
	})
	return out
}

// on says whether the row is about the product: named, or about all of its TEE.
func (r *Row) on(product string) bool {
	if isAMD(product) {
		return slices.Contains(r.TEE, "snp") && (len(r.Product) == 0 || holds(r.Product, product))
	}
	return slices.ContainsFunc(r.Fix, func(f Fix) bool { return strings.EqualFold(f.FMSPC, product) })
}

func isAMD(product string) bool { return holds([]string{milan, genoa, turin}, product) }

// Products lists what Query.Product can be: AMD products and the FMSPCs that the
// table has levels for.
func Products() []string {
	out := []string{milan, genoa, turin}
	each(func(r *Row) {
		for _, f := range r.Fix {
			if f.FMSPC != "" && !slices.Contains(out, f.FMSPC) {
				out = append(out, f.FMSPC)
			}
		}
	})
	return out
}

func (r *Row) mentions(low string) bool {
	for _, list := range [...][]string{{r.ID, r.What, r.Note}, r.Names, r.CVEs} {
		for _, s := range list {
			if strings.Contains(strings.ToLower(s), low) {
				return true
			}
		}
	}
	return false
}
