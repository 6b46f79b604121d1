//go:build linux

package warden

import (
	"encoding/json"
	"fmt"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/warden/http1"
)

// refusal turns an answer that grants nothing into an error: the Steward's problem,
// with the check that failed.
func refusal(r http1.Response) error {
	if r.Status >= 300 && r.Status < 400 {
		return fmt.Errorf("an answer with the status %d: redirects are not followed", r.Status)
	}
	e := &enrolError{busy: r.Status == 429 || r.Status == 503, refused: r.Status == 403 || r.Status == 422}
	var p protocol.Problem
	if r.Type != "application/problem+json" || len(r.Body) > maxProblem || json.Unmarshal(r.Body, &p) != nil {
		e.what = fmt.Sprintf("an answer with the status %d and no problem in its form", r.Status)
		return e
	}
	if !isCode(p.Code) {
		p.Code = "unknown"
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	p.Detail = clip(p.Detail)
	more := 0
	var worst *verdict.Check // the first that failed, else the first that was not made
	for i := range p.Checks {
		c := &p.Checks[i]
		if c.Status == verdict.Passed || c.Informal || c.Waived != "" {
			continue
		}
		if c.Status != verdict.NotMade {
			c.Status = verdict.Failed
		}
		more++
		if worst == nil || worst.Status != verdict.Failed && c.Status == verdict.Failed {
			worst = c
		}
	}
	p.Checks, e.refused = nil, e.refused || worst != nil
	if worst != nil {
		if !isCode(string(worst.Code)) {
			worst.Code = "unknown"
		}
		worst.Found, worst.Wanted, e.hint = clip(worst.Found), clip(worst.Wanted), clip(worst.Hint)
		p.Checks = []verdict.Check{*worst}
	}
	e.what = p.Error()
	if more > 1 {
		e.what += fmt.Sprintf(" (and %d more)", more-1)
	}
	return e
}

// isCode says whether s is a name of a problem or a check, as opposed to text.
func isCode(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// clip bounds a text that others chose, and makes it one line that moves no cursor.
func clip(s string) string {
	const most = 400
	if len(s) > most {
		s = s[:most] + "…"
	}
	return verdict.Escape(s)
}
