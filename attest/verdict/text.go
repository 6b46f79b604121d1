package verdict

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Headline is the outcome in words, one line.
func (v *Verdict) Headline() string {
	s := map[Outcome]string{
		Admitted:   "genuine, and admitted",
		NotGenuine: "NOT GENUINE",
		Refused:    "genuine, and REFUSED",
		CannotTell: "CANNOT TELL: something that is demanded could not be checked",
	}[v.Outcome]
	if v.Outcome == Admitted && v.platformOnly() {
		s = "genuine, and the platform is admitted; what runs on it was not judged"
	}
	if v.Outcome == Refused && v.unsettled() {
		s = "REFUSED, and whether it is genuine could not be checked"
	}
	if v.Simulated {
		s = "SIMULATED, no hardware vouches: " + s
	}
	return s
}

// platformOnly says that nobody asked which program runs.
func (v *Verdict) platformOnly() bool {
	for _, c := range v.Checks {
		if c.Code == RuntimePinned && c.Status == NotMade && c.Informal {
			return true
		}
	}
	return false
}

// unsettled says that something was not checked, waived or not, without which nobody
// can say that the evidence is genuine.
func (v *Verdict) unsettled() bool {
	for _, c := range v.Checks {
		if info, ok := lookup(c.Code); ok && info.Kind == Genuineness && !info.Waivable && c.Status == NotMade && !c.Informal {
			return true
		}
	}
	return false
}

// Text is the verdict for people. Whatever came from evidence is escaped, so that it
// can neither steer a terminal nor forge a line (THREATS T30). mark gives the sign for
// a status; nil: ✔, ✗ and –.
func (v *Verdict) Text(mark func(Status) string) string {
	if mark == nil {
		mark = Mark
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  %-12s %s\n  %-12s %s\n", v.Headline(), "evidence", Escape(v.Form), "judged at", v.At.Format("2006-01-02 15:04:05 MST"))
	for _, f := range v.Facts() {
		fmt.Fprintf(&b, "  %-12s %s\n", f[0], Escape(f[1]))
	}
	b.WriteString("\nchecks\n")
	for _, c := range v.Checks {
		c.write(&b, mark)
	}
	if len(v.Advisories) > 0 {
		b.WriteString("\nadvisories\n")
		for _, state := range []string{"exposed", "fixed", "cannot_tell"} {
			v.advisories(&b, state)
		}
	}
	return b.String()
}

// Mark is the sign for a status.
func Mark(s Status) string {
	switch s {
	case Passed:
		return "✔"
	case Failed:
		return "✗"
	}
	return "–"
}

// Line is the check for people: one line, and a second one with what to do. What came
// from evidence is escaped.
func (c Check) Line(mark func(Status) string) string {
	var b strings.Builder
	c.write(&b, mark)
	return b.String()
}

func (c Check) write(b *strings.Builder, mark func(Status) string) {
	fmt.Fprintf(b, "  %s %-22s ", mark(c.Status), c.Code)
	switch {
	case c.Status == Passed:
		fmt.Fprintf(b, "%s\n", Escape(c.Found))
		return
	case c.Status == Failed:
		fmt.Fprintf(b, "found %s, wanted %s", Escape(c.Found), Escape(c.Wanted))
	case c.Waived != "" && strings.HasPrefix(c.Waived, c.Found):
		fmt.Fprintf(b, "not made: %s; waived by the policy", Escape(c.Found))
	case c.Waived != "":
		fmt.Fprintf(b, "not made: %s; waived: %s", Escape(c.Found), Escape(c.Waived))
	case c.Informal:
		fmt.Fprintf(b, "not made: %s (not demanded)", Escape(c.Found))
	default:
		fmt.Fprintf(b, "not made: %s", Escape(c.Found))
	}
	if c.Source != "" {
		fmt.Fprintf(b, " [%s]", Escape(c.Source))
	}
	b.WriteByte('\n')
	if c.Hint != "" {
		fmt.Fprintf(b, "      %s\n", Escape(c.Hint))
	}
}

func (v *Verdict) advisories(b *strings.Builder, state string) {
	var ids []string // what nobody need act on now is named, and donjon advisory explains it
	for _, a := range v.Advisories {
		switch {
		case a.State != state:
		case state != "exposed":
			ids = append(ids, Escape(a.ID))
		default:
			name := a.ID
			if len(a.Names) > 0 {
				name += " " + strings.Join(a.Names, ", ")
			}
			fmt.Fprintf(b, "  %-12s %s: %s\n", strings.ReplaceAll(state, "_", " "), Escape(name), Escape(a.Why))
		}
	}
	if len(ids) > 0 {
		fmt.Fprintf(b, "  %-12s %s\n", strings.ReplaceAll(state, "_", " "), strings.Join(ids, ", "))
	}
}

// Facts are lines about the platform and what runs on it, name and value. They hold text
// from the evidence: whoever prints it escapes it.
func (v *Verdict) Facts() [][2]string {
	c := v.Claims
	if c == nil {
		return nil
	}
	var out [][2]string
	add := func(k, f string, a ...any) { out = append(out, [2]string{k, fmt.Sprintf(f, a...)}) }
	add("root", "%s", c.Root.Name)
	if s := c.SNP; s != nil {
		add("platform", "SEV-SNP %s, reported TCB boot loader %d, TEE %d, SNP %d, microcode %d", s.Product, s.Reported.BootLoader, s.Reported.TEE, s.Reported.SNP, s.Reported.Microcode)
		add("measured", "launch digest %s", s.LaunchDigest)
	}
	if s := c.TDX; s != nil {
		add("measured", "MRTD %s", s.MRTD)
	}
	if s := c.SGX; s != nil {
		add("measured", "MRENCLAVE %s, MRSIGNER %s", s.MRENCLAVE, s.MRSIGNER)
	}
	if s := c.Nitro; s != nil {
		add("platform", "AWS Nitro, module %s, document of %s", s.ModuleID, s.Timestamp.UTC().Format("2006-01-02 15:04:05 MST"))
		add("measured", "PCR0 %s", s.PCRs[0])
	}
	if s := c.TPM; s != nil {
		add("tpm", "%s bank, %d registers, key %s", s.Bank, len(s.PCRs), s.AKSHA256)
	}
	if i := c.Intel; i != nil {
		add("platform", "%s, FMSPC %s, TCB status %s%s", strings.ToUpper(c.TEE), i.FMSPC, orNone(i.Status), list(i.AdvisoryIDs))
	}
	if c.HostData != nil {
		add("host data", "%s", c.HostData)
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

func list(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return ", Intel lists " + strings.Join(s, ", ")
}

// Escape shows control characters, bidirectional overrides, line separators and what
// is no UTF-8 as escapes, newlines included: the result is one line. It is cut after
// 2,000 characters.
func Escape(s string) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(s); n++ {
		if n == 2000 {
			b.WriteString(" …")
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}
