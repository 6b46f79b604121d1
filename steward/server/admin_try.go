package server

import (
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/linediff"
	"github.com/donjon-tee/donjon/steward/store"
)

// PolicyTest asks whether evidence would pass: by the policy given, or by that which
// is in force. Nothing is recorded.
type PolicyTest struct {
	Policy     string   `json:"policy,omitempty"`
	Evidence   string   `json:"evidence"`             // base64
	Signatures [][]byte `json:"signatures,omitempty"` // for a signer's policy: what stands beside the workload
}

func (s *Server) testPolicy(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	var body PolicyTest
	if !ok || !s.readJSON(w, r, 8<<20, &body) {
		return
	}
	b, err := base64.StdEncoding.DecodeString(body.Evidence)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "evidence: wanted base64")
		return
	}
	if len(b) == 0 {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "evidence: found no bytes at all")
		return
	}
	text := body.Policy
	if text == "" {
		p, err := s.policyOf(r, digest)
		if err != nil {
			s.storeProblem(w, r, err)
			return
		}
		text = string(p.Text)
	}
	d, err := enrol.ParseDocument([]byte(text))
	if err != nil {
		s.policyProblem(w, r, err)
		return
	}
	t := enrol.Trial{Evidence: b, Signatures: body.Signatures}
	if x := d.Grant.Signed; x != nil {
		if err := d.CheckSubject(digest); err != nil {
			s.policyProblem(w, r, err)
			return
		}
		if t.Highest, err = s.o.Store.SignedVersion(r.Context(), x.Signer, x.Name); err != nil {
			s.storeProblem(w, r, err)
			return
		}
	}
	v, err := s.enrol.Dry(t, d)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// PolicyDiff is what would change: lines of the text, and lines of the words that
// explain it.
type PolicyDiff struct {
	From uint64   `json:"from"`
	Text []string `json:"text"`  // "+ ", "- " or "  " and a line
	Word []string `json:"words"` // those that change
}

func (s *Server) diffPolicy(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	var body PolicyPut
	if !ok || !s.readJSON(w, r, 1<<20, &body) {
		return
	}
	fresh, err := s.checkPolicy(body.Policy, digest)
	if err != nil {
		s.policyProblem(w, r, err)
		return
	}
	p, err := s.policyOf(r, digest)
	if errors.Is(err, store.ErrNotFound) {
		p, err = &store.Policy{}, nil
	}
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	var before []string
	if old, err := enrol.ParseDocument(p.Text); err == nil {
		before = old.Describe()
	}
	out := PolicyDiff{From: p.Version, Text: linediff.Texts(string(p.Text), body.Policy), Word: []string{}}
	for _, l := range linediff.Lines(before, fresh.Describe()) {
		if l[0] != ' ' {
			out.Word = append(out.Word, l)
		}
	}
	writeJSON(w, http.StatusOK, out)
}
