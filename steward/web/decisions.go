package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

const perPage = 50

// filter is the list's form, as it was typed.
type filter struct {
	Outcome, TEE, Workload, Instance, From, To, Simulated string
}

type decisionsView struct {
	Filter   filter
	Message  string // what is wrong with the form
	Rows     []store.DecisionRow
	Older    string // query of the next page; "": none
	Newest   string // query of the first page; "": this is it
	Outcomes []verdict.Outcome
	TEEs     []string
}

func isDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(digits) == 64 && isHex(digits)
}

func isInstance(s string) bool { return len(s) >= 1 && len(s) <= 128 && isHex(s) }

// isHex says whether s has no other characters than hexadecimal digits in lower case.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// parseFilter reads the form; problem says what in it is wrong.
func parseFilter(q url.Values) (form filter, f store.DecisionFilter, problem string) {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	form = filter{get("outcome"), get("tee"), get("workload"), get("instance"), get("from"), get("to"), get("simulated")}
	f = store.DecisionFilter{Outcome: verdict.Outcome(form.Outcome), TEE: form.TEE, Workload: form.Workload, Instance: form.Instance, Limit: perPage + 1}
	var err error
	switch {
	case form.Outcome != "" && !slices.Contains(outcomes(), f.Outcome):
		return form, f, "There is no such outcome."
	case form.TEE != "" && !slices.Contains(tees(), form.TEE):
		return form, f, "There is no such TEE."
	case form.Workload != "" && !isDigest(form.Workload):
		return form, f, "A workload is sha256: and 64 hexadecimal digits, in lower case."
	case form.Instance != "" && !isInstance(form.Instance):
		return form, f, "An instance is hexadecimal digits, in lower case."
	}
	if f.From, err = day(form.From); err != nil {
		return form, f, "From: wanted a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z."
	}
	if f.To, err = day(form.To); err != nil {
		return form, f, "Until: wanted a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z."
	}
	if len(form.To) == len(time.DateOnly) {
		f.To = f.To.Add(24 * time.Hour) // the day is part of it
	}
	switch form.Simulated {
	case "":
	case "yes", "no":
		yes := form.Simulated == "yes"
		f.Simulated = &yes
	default:
		return form, f, "Simulated: wanted yes or no."
	}
	if b := q.Get("before"); b != "" {
		if f.Before, err = strconv.ParseUint(b, 10, 63); err != nil || f.Before == 0 {
			return form, f, "There is no such page."
		}
	}
	return form, f, ""
}

func day(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	return t.UTC(), err
}

// query is the form as a query, without what is empty.
func (f filter) query(before uint64) string {
	q := url.Values{}
	for _, p := range [][2]string{{"outcome", f.Outcome}, {"tee", f.TEE}, {"workload", f.Workload}, {"instance", f.Instance},
		{"from", f.From}, {"to", f.To}, {"simulated", f.Simulated}} {
		if p[1] != "" {
			q.Set(p[0], p[1])
		}
	}
	if before != 0 {
		q.Set("before", strconv.FormatUint(before, 10))
	}
	return "?" + q.Encode()
}

func (s *site) decisions(w http.ResponseWriter, r *http.Request) {
	form, f, problem := parseFilter(r.URL.Query())
	v := decisionsView{Filter: form, Message: problem, Outcomes: outcomes(), TEEs: tees()}
	if problem != "" {
		s.show(w, r, http.StatusBadRequest, "decisions", page{Title: "Decisions", At: "decisions", Body: v})
		return
	}
	rows, err := s.Store.Decisions(r.Context(), f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(rows) > perPage {
		rows = rows[:perPage]
		v.Older = form.query(rows[perPage-1].Seq)
	}
	if f.Before != 0 {
		v.Newest = form.query(0)
	}
	v.Rows = rows
	s.show(w, r, http.StatusOK, "decisions", page{Title: "Decisions", At: "decisions", Body: v})
}

type decisionView struct {
	*store.DecisionDetail
	Verdict *judged
	// Short says that the verdict itself is not kept, only what the log holds of it.
	Short       bool
	Certificate *store.CertificateRow
	Secrets     []string
	Now         time.Time
}

// Subject is whose policy it was judged by: the signer's, where a signature was
// verified.
func (v decisionView) Subject() string {
	if r := &v.Record; r.Signer != "" {
		return "signer:" + r.Signer + "/" + r.SignedName
	}
	return v.Workload
}

func (s *site) decision(w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 63)
	if err != nil || seq == 0 {
		s.fail(w, r, store.ErrNotFound)
		return
	}
	d, err := s.Store.Decision(r.Context(), seq)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := decisionView{DecisionDetail: d, Secrets: d.Record.Secrets, Now: s.Now().UTC()}
	if v.Verdict, v.Short = recorded(d); v.Verdict == nil {
		s.Log.Error("decision", "seq", seq, "error", "its detail is no verdict")
	}
	if len(d.Record.Serial) > 0 {
		c, err := s.Store.Certificate(r.Context(), d.Record.Serial)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			s.fail(w, r, err)
			return
		}
		v.Certificate = c
	}
	s.show(w, r, http.StatusOK, "decision", page{Title: "Decision " + strconv.FormatUint(seq, 10), At: "decisions", Body: v})
}

// recorded is the verdict of a decision: as it is kept, or what the audit record has
// of it (short). What decides is the record: its outcome is shown whatever the
// verdict says, since a Steward may refuse more than attest does.
func recorded(d *store.DecisionDetail) (j *judged, short bool) {
	var v verdict.Verdict
	if d.Detail != nil && json.Unmarshal(d.Detail, &v) == nil {
		return newJudged(&v, false), false
	}
	v = verdict.Verdict{Outcome: d.Record.Outcome, At: d.At, Simulated: d.Simulated, TCBStatus: d.TCBStatus, Checks: fromLog(d.Record.Checks)}
	return newJudged(&v, false), true
}

func fromLog(list []audit.Check) []verdict.Check {
	var out []verdict.Check
	for _, c := range list {
		out = append(out, verdict.Check{Code: verdict.Code(c.Code), Status: c.Status, Found: c.Found, Wanted: c.Wanted, Waived: c.Waived, Informal: c.Informal})
	}
	return out
}
