// Package verdict is the result of an appraisal: a list of checks, each passed,
// failed or not made, and what they come to together.
//
// Every package under attest that looks at evidence answers in checks of this
// package. Which codes exist, what a failure of each means and whether a policy may
// waive it stands in one table, codes.go; docs/verdicts.md explains them to people.
// What evidence says is next door in claims.
package verdict

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Status says what became of a check.
type Status string

// The three ways a check can end. A check that was not made is never shown as
// passed.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	NotMade Status = "not_made"
)

// A Check is one thing that was looked at. Found may hold text from the evidence:
// whoever prints it escapes it.
type Check struct {
	Code   Code   `json:"code"`
	Status Status `json:"status"`
	Found  string `json:"found,omitempty"`
	Wanted string `json:"wanted,omitempty"`
	Source string `json:"source,omitempty"` // specification and section, or where the wish is from
	Hint   string `json:"hint,omitempty"`   // what to do
	// Waived is the reason the policy gives for doing without a check that could not
	// be made; "" where it does not.
	Waived string `json:"waived,omitempty"`
	// Informal marks a check that nobody demands: not made, it does not keep the
	// evidence from being admitted.
	Informal bool `json:"informal,omitempty"`
}

// Pass is a passed check: what was found. The caller adds what else is known.
func Pass(code Code, found string) Check { return Check{Code: code, Status: Passed, Found: found} }

// Fail is a failed check: what was found, what was wanted.
func Fail(code Code, found, wanted string) Check {
	return Check{Code: code, Status: Failed, Found: found, Wanted: wanted}
}

// Skip is a check that could not be made, and why.
func Skip(code Code, why, hint string) Check {
	return Check{Code: code, Status: NotMade, Found: why, Hint: hint}
}

// From is c with the source: specification and section.
func (c Check) From(source string) Check { c.Source = source; return c }

// Want is c with what was wanted.
func (c Check) Want(wanted string) Check { c.Wanted = wanted; return c }

// Advise is c with a hint of what to do.
func (c Check) Advise(hint string) Check { c.Hint = hint; return c }

// Outcome is what the checks come to.
type Outcome string

// The outcomes, and the exit statuses of donjon verify.
const (
	Admitted   Outcome = "admitted"    // 0: genuine, and the policy admits it
	NotGenuine Outcome = "not_genuine" // 10: malformed, or signature, chain or binding does not hold
	Refused    Outcome = "refused"     // 11: genuine, and refused
	CannotTell Outcome = "cannot_tell" // 12: nothing refused it, but something demanded was not checked
)

// ExitStatus is the outcome as donjon verify's exit status.
func (o Outcome) ExitStatus() int {
	switch o {
	case Admitted:
		return 0
	case Refused:
		return 11
	case CannotTell:
		return 12
	}
	return 10
}

// Advisory is one line about a known vulnerability and this platform.
type Advisory struct {
	ID    string   `json:"id"`
	Names []string `json:"names,omitempty"`
	CVEs  []string `json:"cves,omitempty"`
	State string   `json:"state"` // fixed, exposed, cannot_tell
	Why   string   `json:"why"`
	// Source says whose statement it is: the vendor's signed list for this level, or
	// a row of the advisory table.
	Source string `json:"source,omitempty"`
}

// Verdict is an appraisal's result. Its JSON form is published as
// docs/verdict.schema.json.
type Verdict struct {
	Outcome  Outcome   `json:"outcome"`
	Exit     int       `json:"exit_status"`
	Form     string    `json:"form"`            // what the evidence turned out to be
	Evidence string    `json:"evidence_sha256"` // of the bytes given
	Policy   string    `json:"policy_sha256,omitempty"`
	At       time.Time `json:"at"`
	// Simulated says that the root which vouches is no vendor's.
	Simulated  bool           `json:"simulated"`
	TCBStatus  string         `json:"tcb_status,omitempty"` // in the vendor's spelling
	Checks     []Check        `json:"checks"`
	Advisories []Advisory     `json:"advisories"`
	Claims     *claims.Claims `json:"claims,omitempty"`
}

// Conclude sets the outcome from the checks. A verdict without any check, or with a
// code that the table does not know, is not genuine: it fails closed.
func (v *Verdict) Conclude() {
	v.Outcome = Conclude(v.Checks)
	v.Exit = v.Outcome.ExitStatus()
}

// Conclude is what checks come to.
func Conclude(checks []Check) Outcome {
	if len(checks) == 0 {
		return NotGenuine
	}
	out := Admitted
	for _, c := range checks {
		info, known := lookup(c.Code)
		switch {
		case !known:
			return NotGenuine
		case c.Status == Passed:
		case c.Status == Failed && info.Kind == Genuineness:
			return NotGenuine
		case c.Status == Failed:
			out = Refused
		case c.Status == NotMade && (c.Informal || c.Waived != "" && info.Waivable):
		case c.Status == NotMade:
			if out == Admitted {
				out = CannotTell
			}
		default:
			return NotGenuine // no status that exists
		}
	}
	return out
}

// Err is nil for evidence that is admitted, else an *Error.
func (v *Verdict) Err() error {
	if v.Outcome == Admitted {
		return nil
	}
	return &Error{Verdict: v}
}

// Error is a verdict that does not admit. %v prints what decided, %+v every check.
type Error struct{ Verdict *Verdict }

func (e *Error) Error() string {
	var first []string
	for _, c := range e.Verdict.Deciding() {
		first = append(first, fmt.Sprintf("%s %s: found %s, wanted %s", c.Code, c.Status, c.Found, c.Wanted))
	}
	return fmt.Sprintf("attest: %s: %s", e.Verdict.Outcome, strings.Join(first, "; "))
}

// Format gives %+v every check.
func (e *Error) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('+') {
		for _, c := range e.Verdict.Checks {
			fmt.Fprintf(f, "%s %s: found %s, wanted %s\n", c.Code, c.Status, c.Found, c.Wanted)
		}
		return
	}
	_, _ = f.Write([]byte(e.Error()))
}

// Deciding are the checks that led to the outcome; none where it admits.
func (v *Verdict) Deciding() []Check {
	var out []Check
	for _, c := range v.Checks {
		if Conclude([]Check{c}) == v.Outcome && v.Outcome != Admitted {
			out = append(out, c)
		}
	}
	return out
}

// Digest is the SHA-256 of the evidence in hexadecimal.
func Digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
