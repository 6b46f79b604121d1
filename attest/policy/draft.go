package policy

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Draft is a policy that is written for one piece of evidence.
type Draft struct {
	Claims   *claims.Claims
	At       time.Time // when the evidence was judged
	Evidence string    // SHA-256 of it, for the comment
	Nonce    bool      // a nonce was given, and is demanded from now on
	// Compared says what was compared with what; "": nothing was.
	Compared string
	// Trust is the policy's, where the evidence was got from whoever answered at an
	// address: what was compared with nothing.
	Trust string
	Waive []Waiver
}

// Waives says whether the draft waives a check.
func (d *Draft) Waives(c verdict.Code) bool {
	for _, w := range d.Waive {
		if w.Check == c {
			return true
		}
	}
	return false
}

// writer writes TOML with a comment before or behind each key.
type writer struct{ b strings.Builder }

func (w *writer) comment(f string, a ...any) {
	for _, line := range strings.Split(fmt.Sprintf(f, a...), "\n") {
		w.b.WriteString(strings.TrimRight("# "+verdict.Escape(line), " ") + "\n")
	}
}

func (w *writer) blank() { w.b.WriteByte('\n') }

func (w *writer) table(name string) { fmt.Fprintf(&w.b, "\n[%s]\n", name) }

// key writes one key; value is TOML; note may be "".
func (w *writer) key(name, value, note string) {
	line := name + " = " + value
	if note != "" {
		line += " # " + verdict.Escape(note)
	}
	w.b.WriteString(line + "\n")
}

// text is a TOML string that reads back as s. What could steer a terminal or hide is
// written as an escape; what is not UTF-8 cannot be written, and becomes U+FFFD.
func text(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && r != utf8.RuneError:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// bare is a part of a TOML key, in quotes where it must be.
func bare(s string) string {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return text(s)
		}
	}
	return s
}

func texts(list ...string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// quotedHexes is a list of byte strings in hexadecimal.
func quotedHexes(list ...claims.Hex) string {
	out := make([]string, len(list))
	for i, h := range list {
		out[i] = text(h.String())
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// TOML is the policy, commented.
func (d *Draft) TOML() []byte {
	c, w := d.Claims, &writer{}
	w.comment("A policy for donjon verify, written from one piece of evidence:")
	w.comment("SHA-256 %s, judged at %s.", d.Evidence, d.At.UTC().Format(time.RFC3339))
	if d.Compared == "" {
		w.comment("What it shows was believed and compared with nothing: whether the program that was\nmeasured is the one you want is for you to find out (donjon image measure).")
	} else {
		w.comment("Compared: %s.", d.Compared)
	}
	w.comment("Remove what you do not want admitted; donjon policy check explains this file.")
	w.blank()
	w.key("version", "1", "")
	if d.Nonce {
		w.key("freshness", `"nonce"`, "evidence holds the nonce it was asked for with: that of verify --nonce; connect sends its own")
	} else {
		w.key("freshness", `"none"`, `a recording is admitted; "nonce" demands a fresh answer`)
	}
	if d.Trust != "" {
		w.key("trust", text(d.Trust), TrustNote(d.Trust))
	}
	if h := c.HostData; h != nil && !claims.Zero(h) && (len(h) <= 32 || claims.Zero(h[32:])) {
		w.key("workloads", quotedHexes(h[:min(32, len(h))]), "accepted workload digests, as the hardware's host data has them")
	}
	if c.Keep != nil {
		w.key("require_claims", "true", "a bare report, without the claims of a Keep, is refused")
	}
	if c.Root.Simulated {
		w.blank()
		w.comment("SIMULATED: the root was made on a machine, not by a vendor. Nothing under it is confidential.")
		w.key("simulated_roots", quotedHexes(c.Root.SHA256), "")
		w.key("allow_simulated", "true", "")
	}
	for _, x := range d.Waive {
		w.b.WriteString("\n[[waive]]\n")
		w.key("check", text(string(x.Check)), "")
		w.key("reason", text(x.Reason), "")
	}
	for _, s := range []struct {
		there bool
		write func(*writer, *claims.Claims)
	}{{c.SNP != nil, draftSNP}, {c.TDX != nil, draftTDX}, {c.SGX != nil, draftSGX}, {c.TPM != nil, draftTPM}, {c.Nitro != nil, draftNitro}} {
		if s.there {
			s.write(w, c)
		}
	}
	return []byte(w.b.String())
}
