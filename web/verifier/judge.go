// Package verifier is what the verifier page shows: one piece of evidence judged by
// attest in the reader's own browser, in words that can be put on a page as text.
//
// The page is page/, the program that runs in it is wasm/, and make verifier puts both
// into a folder that any web server can serve. Nothing here does I/O: the page reads
// files and asks Keeps.
package verifier

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// MaxCollateral bounds how many files of vendor data are taken.
const MaxCollateral = 16

// A File is one that was dropped, with its name for messages.
type File struct {
	Name  string
	Bytes []byte
}

// Input is what is judged, and by what.
type Input struct {
	Evidence   []byte
	Policy     string // TOML; "": the defaults, which name no software
	Nonce      string // hexadecimal, 8 to 64 bytes; "": none
	Collateral []File
	At         time.Time
	// PlatformOnly judges the platform and leaves software and workload alone.
	PlatformOnly bool
	// FromKeep says that a Keep has just given it by HTTP, for Nonce.
	FromKeep bool
}

// View is a verdict for the page. All of it is text in which nothing can steer a
// reader (THREATS T30).
type View struct {
	Error      string   `json:"error,omitempty"` // nothing was judged, and why
	Outcome    string   `json:"outcome"`         // of verdict.Outcome
	Headline   string   `json:"headline"`
	Simulated  bool     `json:"simulated"`
	Unbound    bool     `json:"unbound"` // made for a request by HTTP: no connection is shown
	Facts      []Fact   `json:"facts"`
	Checks     []Check  `json:"checks"`
	Advisories []Check  `json:"advisories"`
	Ignored    []string `json:"ignored"` // vendor data that was not used
	JSON       string   `json:"json"`    // the verdict in its published form
}

// A Fact is one line.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Check is one check, or one advisory, for people. Status is passed, failed or
// not-made; Word says the same in words.
type Check struct {
	Code   string `json:"code"`
	Status string `json:"status"`
	Sign   string `json:"sign"`
	Word   string `json:"word"`
	Facts  []Fact `json:"facts"`
	Hint   string `json:"hint,omitempty"`
}

// A Judge remembers, bounded, which signatures of vendors hold. Its zero value is ready.
type Judge struct{ verifier attest.Verifier }

// Judge judges.
func (j *Judge) Judge(in Input) View {
	v, ignored, err := j.verdict(in)
	if err != nil {
		return View{Error: verdict.Escape(err.Error())}
	}
	out := show(v, in.PlatformOnly)
	for _, i := range ignored {
		out.Ignored = append(out.Ignored, verdict.Escape(i.Name+": "+i.Why))
	}
	return out
}

func (j *Judge) verdict(in Input) (*verdict.Verdict, []collateral.Ignored, error) {
	o := attest.Options{At: in.At, PlatformOnly: in.PlatformOnly}
	if len(bytes.TrimSpace(in.Evidence)) == 0 {
		return nil, nil, errors.New("there is no evidence: choose a file, paste some, or name a Keep")
	}
	if len(in.Evidence) > envelope.MaxSize {
		return nil, nil, fmt.Errorf("the evidence has %d bytes, at most %d", len(in.Evidence), envelope.MaxSize)
	}
	if n := strings.TrimSpace(in.Nonce); n != "" {
		b, err := hex.DecodeString(n)
		if err != nil || len(b) < 8 || len(b) > 64 {
			return nil, nil, errors.New("the nonce: wanted 8 to 64 bytes in hexadecimal")
		}
		o.Nonce = b
	}
	if strings.TrimSpace(in.Policy) != "" {
		p, err := policy.Parse([]byte(in.Policy))
		if err != nil {
			return nil, nil, err
		}
		o.Policy = p
	}
	if in.FromKeep {
		o.Purpose = evidence.PurposeHTTP
	}
	if len(in.Collateral) > MaxCollateral {
		return nil, nil, fmt.Errorf("%d files of vendor data, at most %d", len(in.Collateral), MaxCollateral)
	}
	set := &collateral.Set{}
	for _, f := range in.Collateral {
		if err := set.Add(f.Name, f.Bytes); err != nil {
			return nil, nil, fmt.Errorf("vendor data: %s: %w", f.Name, err)
		}
	}
	o.Collateral = set
	return j.verifier.Verify(in.Evidence, o), set.Ignored, nil
}

// unbound says that evidence was made for a request by HTTP: its check channel-binding is
// not made, no policy waives that, and so it is never admitted (THREATS T17).
func unbound(v *verdict.Verdict) bool {
	return v.Claims != nil && v.Claims.Keep != nil && v.Claims.Keep.Purpose == evidence.PurposeHTTP
}

func show(v *verdict.Verdict, platformOnly bool) View {
	out := View{Outcome: string(v.Outcome), Headline: v.Headline(), Simulated: v.Simulated, Unbound: unbound(v), Checks: []Check{}, Advisories: []Check{}, Ignored: []string{}}
	if only := v.Deciding(); out.Unbound && v.Outcome == verdict.CannotTell && len(only) == 1 && only[0].Code == verdict.ChannelBinding {
		out.Headline = "a genuine Keep that the policy admits exists; NOT shown: that any connection ends in it"
		if platformOnly {
			out.Headline = "a genuine platform made this, and what runs on it was not judged; NOT shown: that any connection ends there"
		}
		if v.Simulated {
			out.Headline = "SIMULATED, no hardware vouches: " + out.Headline
		}
	}
	out.Facts = facts(v)
	for _, c := range v.Checks {
		out.Checks = append(out.Checks, check(c))
	}
	slices.SortStableFunc(out.Checks, func(a, b Check) int { return rank(a) - rank(b) })
	for _, state := range []string{"exposed", "cannot_tell", "fixed"} {
		for _, a := range v.Advisories {
			if a.State == state {
				out.Advisories = append(out.Advisories, advisory(a))
			}
		}
	}
	if b, err := json.MarshalIndent(v, "", "  "); err == nil {
		out.JSON = quiet(b)
	}
	return out
}

// quiet writes the characters that could turn the direction of a text as JSON's escapes;
// encoding/json has done so with control characters.
func quiet(b []byte) string {
	var out strings.Builder
	for _, r := range string(b) {
		if unicode.Is(unicode.Bidi_Control, r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// rank puts what decides before what does not.
func rank(c Check) int {
	return slices.Index([]string{"FAILED", "NOT MADE", "not made, waived", "not made, not demanded", "passed"}, c.Word)
}

func check(c verdict.Check) Check {
	out := Check{Code: verdict.Escape(string(c.Code)), Sign: verdict.Mark(c.Status), Hint: verdict.Escape(c.Hint)}
	found := "found"
	switch {
	case c.Status == verdict.Passed:
		out.Status, out.Word = "passed", "passed"
	case c.Status == verdict.Failed:
		out.Status, out.Word = "failed", "FAILED"
	case c.Waived != "":
		out.Status, out.Word, found = "not-made", "not made, waived", "why"
	case c.Informal:
		out.Status, out.Word, found = "not-made", "not made, not demanded", "why"
	default:
		out.Status, out.Word, found = "not-made", "NOT MADE", "why"
	}
	for _, f := range []Fact{{found, c.Found}, {"wanted", c.Wanted}, {"waived", c.Waived}, {"source", c.Source}} {
		if f.Value != "" {
			out.Facts = append(out.Facts, Fact{f.Name, verdict.Escape(f.Value)})
		}
	}
	return out
}

func advisory(a verdict.Advisory) Check {
	out := Check{Code: verdict.Escape(strings.Join(append([]string{a.ID}, a.Names...), " ")), Status: "not-made", Sign: verdict.Mark(verdict.NotMade), Word: "cannot tell"}
	switch a.State {
	case "exposed":
		out.Status, out.Sign, out.Word = "failed", verdict.Mark(verdict.Failed), "EXPOSED"
	case "fixed":
		out.Status, out.Sign, out.Word = "passed", verdict.Mark(verdict.Passed), "fixed"
	}
	for _, f := range []Fact{{"why", a.Why}, {"CVEs", strings.Join(a.CVEs, ", ")}, {"source", a.Source}} {
		if f.Value != "" {
			out.Facts = append(out.Facts, Fact{f.Name, verdict.Escape(f.Value)})
		}
	}
	return out
}

// facts are the lines above the checks: those of the verdict's own text, and what a
// Keep says of itself.
func facts(v *verdict.Verdict) []Fact {
	out := []Fact{{"form", verdict.Escape(v.Form)}, {"SHA-256", v.Evidence}, {"judged at", v.At.Format(time.RFC3339) + ", this browser's clock"}}
	if v.Policy != "" {
		out = append(out, Fact{"policy, SHA-256", v.Policy})
	}
	for _, f := range v.Facts() {
		out = append(out, Fact{f[0], verdict.Escape(f[1])})
	}
	if c := v.Claims; c != nil && c.Keep != nil {
		out = append(out, Fact{"Keep's workload", c.Keep.WorkloadDigest.String()}, Fact{"Keep's instance", c.Keep.Instance.String()},
			Fact{"made for", verdict.Escape(c.Keep.Purpose)}, Fact{"Keep's key", c.Key.String()})
	}
	return slices.DeleteFunc(out, func(f Fact) bool { return f.Value == "" })
}
