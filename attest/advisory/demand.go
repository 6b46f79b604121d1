package advisory

import (
	"slices"
	"strings"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// Demand turns a policy's fixed_advisories (ids, CVEs or names, in any case) into
// checks: passed where every advisory so called is fixed, failed where one is
// exposed, not made where that cannot be told or nothing so called was assessed.
func Demand(want []string, found []verdict.Advisory) []verdict.Check {
	var out []verdict.Check
	for _, w := range want {
		word := strings.TrimSpace(w)
		var hits []verdict.Advisory
		for _, a := range found {
			if strings.EqualFold(a.ID, word) || holds(a.CVEs, word) || holds(a.Names, word) {
				hits = append(hits, a)
			}
		}
		out = append(out, demanded(word, hits).Want(word+" fixed").From("policy: fixed_advisories"))
	}
	return out
}

func demanded(word string, hits []verdict.Advisory) verdict.Check {
	of := func(state string) int {
		return slices.IndexFunc(hits, func(a verdict.Advisory) bool { return a.State == state })
	}
	if len(hits) == 0 {
		why := "no advisory of that name"
		if _, known := Lookup(word); known {
			why = "the advisory is not about this TEE and product"
		}
		return verdict.Skip(verdict.Advisories, word+": "+why, "donjon advisory lists what is known; take it out of fixed_advisories where it cannot apply")
	}
	if i := of(Exposed); i >= 0 {
		return verdict.Fail(verdict.Advisories, hits[i].ID+" exposed: "+hits[i].Why, "").Advise("donjon advisory " + hits[i].ID + " says what fixes it")
	}
	for _, a := range hits {
		if a.State != Fixed { // cannot tell, or a state that does not exist
			return verdict.Skip(verdict.Advisories, a.ID+": "+a.Why, "the evidence does not show it; donjon advisory "+a.ID+" says what would")
		}
	}
	return verdict.Pass(verdict.Advisories, hits[0].ID+" fixed: "+hits[0].Why)
}
