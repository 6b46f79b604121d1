package advisory

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// PhysicalWords is what is said about attacks with hands on the machine, which no
// evidence answers.
const PhysicalWords = "physical attacks: not addressed by this evidence"

// Sources of a statement.
const (
	intelList = "Intel, the signed list of the matched TCB levels"
	tableRow  = "advisory table"
)

// Assess says for each row that concerns the evidence's TEE and product whether it
// is fixed, exposed or cannot be told, and why. Ids in Intel's signed list that the
// table does not know are exposed too. at is the time of judging: a row that was
// published later says so.
func Assess(c *claims.Claims, at time.Time) []verdict.Advisory {
	if c == nil {
		return nil
	}
	var listed []string
	if c.Intel != nil {
		listed = slices.Clone(c.Intel.AdvisoryIDs)
	}
	var out []verdict.Advisory
	each(func(r *Row) {
		named := holds(listed, r.ID)
		if !named && !r.concerns(c) {
			return
		}
		a := verdict.Advisory{ID: r.ID, Names: slices.Clone(r.Names), CVEs: slices.Clone(r.CVEs), Source: tableRow + " (" + string(r.Confidence) + "): " + r.Source}
		if named {
			listed = slices.DeleteFunc(listed, func(s string) bool { return strings.EqualFold(s, r.ID) })
			a.State, a.Why, a.Source = Exposed, intelSays(c), intelList
		} else {
			a.State, a.Why = r.judge(c)
		}
		if late(r.Published, at) {
			a.Why += "; published " + r.Published + ", after the time of judging"
		}
		out = append(out, a)
	})
	for _, id := range slices.Compact(slices.Sorted(slices.Values(listed))) {
		out = append(out, verdict.Advisory{ID: id, State: Exposed, Why: intelSays(c) + "; the advisory table does not know it", Source: intelList})
	}
	return out
}

func intelSays(c *claims.Claims) string {
	why := "Intel names it for this platform's TCB level"
	if c.Intel.Status != "" {
		why += " (" + c.Intel.Status + ")"
	}
	return why
}

// concerns says whether the row is about the TEE and product of the evidence.
func (r *Row) concerns(c *claims.Claims) bool {
	if !slices.Contains(r.TEE, c.TEE) {
		return false
	}
	if len(r.Product) == 0 || c.SNP == nil || c.SNP.Product == "" {
		return len(r.Product) == 0 || c.SNP != nil
	}
	return slices.Contains(r.Product, c.SNP.Product)
}

func (r *Row) judge(c *claims.Claims) (state, why string) {
	switch {
	case r.NoFix != "" && c.SNP != nil && c.SNP.Product == "" && len(r.Product) > 0:
		return CannotTell, "the evidence does not name its product; on " + strings.Join(r.Product, ", ") + ": " + r.NoFix
	case r.NoFix != "":
		return Exposed, r.NoFix
	case r.Unseen != "":
		return CannotTell, r.Unseen
	case r.Class == Protocol:
		return judgeProtocol(c)
	}
	state, why = r.judgeFixes(c)
	switch {
	case state == Fixed && r.Confidence == Memory:
		return CannotTell, why + "; this number was checked against no source"
	case state == Fixed && c.Intel != nil && c.Intel.Status == "":
		return CannotTell, why + ", but no TCB info is at hand and Intel's list could still name it"
	case state == Exposed && r.Confidence == Memory:
		why += " (a number that was checked against no source)"
	}
	return state, why
}

// judgeFixes is fixed where one fix that fits holds, exposed where each of them is
// missed, and else cannot tell.
func (r *Row) judgeFixes(c *claims.Claims) (state, why string) {
	var missed, unknown []string
	none := "nothing in the evidence shows it"
	if c.Intel != nil {
		none = "the table has no level for it; that Intel's list does not name it proves nothing"
	}
	for i := range r.Fix {
		f := &r.Fix[i]
		if because := f.misfit(c); because != "" {
			none = because
			continue
		}
		all := f.All
		line := f.CPU == "" || strings.HasPrefix(cpuOf(c.SNP), f.CPU)
		if !line { // what is the same for all lines can still show an exposure
			all = slices.DeleteFunc(slices.Clone(all), func(k Condition) bool { return k.Component == Microcode })
		}
		state, why := judgeAll(all, c)
		if state != Exposed && !line {
			if c.SNP == nil || c.SNP.Family != 0 {
				none = "the table has no microcode level for processor " + cpuOf(c.SNP)
				continue
			}
			state, why = CannotTell, fmt.Sprintf("a report of version %d does not name the processor, and microcode numbers count for one line only", c.SNP.ReportVersion)
		}
		switch state {
		case Fixed:
			return Fixed, why
		case Exposed:
			missed = append(missed, why)
		default:
			unknown = append(unknown, why)
		}
	}
	switch {
	case len(unknown) > 0:
		return CannotTell, unknown[0]
	case len(missed) > 0:
		return Exposed, strings.Join(slices.Compact(missed), "; ")
	}
	return CannotTell, none
}

// misfit is why f is about another platform; "" where it is about this one.
func (f *Fix) misfit(c *claims.Claims) string {
	if f.FMSPC != "" {
		switch {
		case c.Intel == nil || len(c.Intel.FMSPC) == 0:
			return "the platform's FMSPC is not known"
		case !strings.EqualFold(f.FMSPC, c.Intel.FMSPC.String()):
			return "the table has no level for FMSPC " + c.Intel.FMSPC.String() + "; that Intel's list does not name it proves nothing"
		}
	}
	if f.Product != "" && c.SNP != nil && f.Product != c.SNP.Product {
		if c.SNP.Product == "" {
			return "the evidence does not name its product"
		}
		return "the table has no level for product " + c.SNP.Product
	}
	for _, k := range f.All {
		major, ok := tdxSVN(c.TDX, 1)
		if ok && (k.Component == Module01 && major != 1 || k.Component == Module03 && major != 3) {
			return fmt.Sprintf("the table has no level for TDX module %d", major)
		}
	}
	return ""
}

func cpuOf(s *claims.SNPClaims) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%02x-%02x-%x", s.Family, s.Model, s.Stepping)
}

// judgeAll is conditions together: exposed where one is not met, fixed where all are.
func judgeAll(all []Condition, c *claims.Claims) (state, why string) {
	state = Fixed
	var fixed []string
	for _, k := range all {
		s, found := k.judge(c)
		line := k.Component.words() + ": found " + found + ", wanted " + k.wanted()
		switch {
		case s == Exposed:
			return Exposed, line
		case s == CannotTell && state == Fixed:
			state, why = CannotTell, line
		case s == Fixed:
			fixed = append(fixed, line)
		}
	}
	if len(all) == 0 {
		return CannotTell, "no source gives the level that fixes it"
	}
	if state == Fixed {
		why = strings.Join(fixed, "; ")
	}
	return state, why
}

func (c Condition) wanted() string {
	if c.Op == AtLeast {
		return "at least " + c.Value
	}
	return "bit " + c.Value + " " + string(c.Op)
}

// judgeProtocol is for attacks on how evidence is used. Evidence alone never shows
// that the attack fails: the checks nonce and channel-binding do, for one connection.
func judgeProtocol(c *claims.Claims) (state, why string) {
	nonce := c.Nonce
	if c.Keep != nil { // a Keep's claims hold their own
		nonce = c.Keep.Nonce
	}
	if len(c.Key) > 0 && len(nonce) == 0 && (c.Keep == nil || len(c.Keep.Exporter) == 0) {
		return Exposed, "the evidence binds a key and neither a nonce nor a connection: it can be replayed and diverted"
	}
	return CannotTell, "the checks nonce and channel-binding say whether this evidence was made for this connection"
}

// late says whether a publication day or month lies after at.
func late(published string, at time.Time) bool {
	if at.IsZero() {
		return false
	}
	for _, layout := range [...]string{time.DateOnly, "2006-01"} {
		if t, err := time.Parse(layout, published); err == nil {
			return t.After(at)
		}
	}
	return false
}
