package server

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/linediff"
	"github.com/donjon-tee/donjon/steward/store"
)

// subject is a workload digest in the path: 64 hexadecimal digits, with or without
// "sha256:". It answers where there is none.
func (s *Server) subject(w http.ResponseWriter, r *http.Request) (string, bool) {
	text := r.PathValue("digest")
	d, err := hex.DecodeString(strings.TrimPrefix(text, "sha256:"))
	if err != nil || len(d) != 32 {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), fmt.Sprintf("found the workload %q, wanted sha256: and 64 hexadecimal digits", text))
		return "", false
	}
	return "sha256:" + hex.EncodeToString(d), true
}

// WorkloadView is a workload as administrators see it.
type WorkloadView struct {
	Digest    string    `json:"digest"`
	Name      string    `json:"name,omitempty"`
	FirstSeen time.Time `json:"first_seen"`
	Policy    uint64    `json:"policy_version"` // 0: none
	Removed   bool      `json:"removed,omitempty"`
	Doubt     string    `json:"doubt,omitempty"` // of the policy: unproven, forged
}

func (s *Server) listWorkloads(w http.ResponseWriter, r *http.Request) {
	limit, err := limitOf(r)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return
	}
	list, err := s.o.Store.Workloads(r.Context(), r.URL.Query().Get("after"), limit)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	out := make([]WorkloadView, 0, len(list))
	for _, x := range list {
		v := WorkloadView{Digest: x.Digest, Name: x.Name, FirstSeen: x.FirstSeen}
		p, err := s.shown(r, x.Digest)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			s.storeProblem(w, r, err)
			return
		}
		if p != nil {
			v.Policy, v.Removed, v.Doubt = p.Version, string(p.Text) == enrol.RemovedPolicy, p.Doubt
		}
		out = append(out, v)
	}
	writeJSON(w, http.StatusOK, out)
}

// shown is the newest policy for people and for who writes the next one: it is given
// with Doubt where nothing may be judged by it.
func (s *Server) shown(r *http.Request, digest string) (*store.Policy, error) {
	list, err := s.o.Store.Policies(r.Context(), digest, 1)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, store.ErrNotFound
	}
	return &list[0], nil
}

// limitOf is the query's limit; 0: none was given.
func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > store.MaxPage {
		return 0, fmt.Errorf("limit: found %q, wanted 1 to %d", text, store.MaxPage)
	}
	return n, nil
}

// WorkloadPut makes a workload known, with its policy where one is given.
type WorkloadPut struct {
	Name     string `json:"name,omitempty"`
	Manifest []byte `json:"manifest,omitempty"`
	Policy   string `json:"policy,omitempty"`
}

// PolicyPut is the next version of a policy.
type PolicyPut struct {
	Policy string `json:"policy"`
	// Seen is the version that the writer saw; nil: the newest, whatever it is.
	Seen *uint64 `json:"seen,omitempty"`
}

// PolicyView is a version of a policy.
type PolicyView struct {
	Workload string    `json:"workload"`
	Version  uint64    `json:"version"`
	Digest   string    `json:"digest"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Policy   string    `json:"policy,omitempty"`
	Same     bool      `json:"unchanged,omitempty"` // it was so before: nothing was written
	Doubt    string    `json:"doubt,omitempty"`     // unproven, forged: nothing is judged by it
	// Unconfirmed are the secrets that this version does not release before somebody
	// with the secret scope confirms them (THREATS T8).
	Unconfirmed []string `json:"secrets_unconfirmed,omitempty"`
}

func viewOf(p *store.Policy) PolicyView {
	return PolicyView{Workload: p.Workload, Version: p.Version, Digest: p.Digest.String(), At: p.At, By: p.By, Policy: string(p.Text), Doubt: p.Doubt}
}

func (s *Server) putWorkload(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	var body WorkloadPut
	if !ok || !s.readJSON(w, r, 1<<20, &body) {
		return
	}
	if body.Policy != "" {
		if _, err := s.checkPolicy(body.Policy, digest); err != nil {
			s.policyProblem(w, r, err)
			return
		}
	}
	if err := s.o.Store.PutWorkload(r.Context(), store.Workload{Digest: digest, Name: body.Name, Manifest: body.Manifest}, s.actor(r)); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	if body.Policy == "" {
		writeJSON(w, http.StatusOK, PolicyView{Workload: digest})
		return
	}
	s.writePolicy(w, r, digest, PolicyPut{Policy: body.Policy})
}

func (s *Server) removeWorkload(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	if !ok {
		return
	}
	if _, err := s.shown(r, digest); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	s.writePolicy(w, r, digest, PolicyPut{Policy: enrol.RemovedPolicy})
}

// checkPolicy reads a policy and refuses one that cannot be the workload's.
func (s *Server) checkPolicy(text, digest string) (*enrol.Document, error) {
	d, err := enrol.ParseDocument([]byte(text))
	if err != nil {
		return nil, err
	}
	if _, err := s.o.Names.Grant(d.Grant.DNS); err != nil {
		return nil, err
	}
	if d.Policy.Workloads == nil {
		return nil, errors.New(`policy: it names no workload, wanted workloads = ["` + digest + `"]`)
	}
	for _, x := range d.Policy.Workloads {
		if "sha256:"+hex.EncodeToString(x) != digest {
			return nil, fmt.Errorf("policy: workloads: found %s in the policy of %s", x, digest)
		}
	}
	return d, nil
}

func (s *Server) policyProblem(w http.ResponseWriter, r *http.Request, err error) {
	s.problem(w, r, http.StatusUnprocessableEntity, "policy", err.Error())
}

func (s *Server) putPolicy(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	var body PolicyPut
	if !ok || !s.readJSON(w, r, 1<<20, &body) {
		return
	}
	if _, err := s.checkPolicy(body.Policy, digest); err != nil {
		s.policyProblem(w, r, err)
		return
	}
	s.writePolicy(w, r, digest, body)
}

// writePolicy writes a version; where the newest is the same, nothing.
func (s *Server) writePolicy(w http.ResponseWriter, r *http.Request, digest string, put PolicyPut) {
	ctx, actor := r.Context(), s.actor(r)
	old, err := s.shown(r, digest)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.storeProblem(w, r, err)
		return
	}
	var version uint64
	if old != nil {
		version = old.Version
	}
	if put.Seen != nil && *put.Seen != version {
		s.storeProblem(w, r, store.ErrConflict)
		return
	}
	if old != nil && old.Doubt == "" && string(old.Text) == put.Policy {
		v := viewOf(old)
		v.Same = true
		s.withUnconfirmed(w, r, v, old)
		return
	}
	if err := s.o.Store.PutPolicy(ctx, store.Policy{Workload: digest, Version: version + 1, Text: []byte(put.Policy)}, actor); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	p, err := s.o.Store.PolicyVersion(ctx, digest, version+1)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	s.withUnconfirmed(w, r, viewOf(p), p)
}

func (s *Server) withUnconfirmed(w http.ResponseWriter, r *http.Request, v PolicyView, p *store.Policy) {
	list, err := s.o.Store.Secrets(r.Context(), p.Workload)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	for _, x := range list {
		if !x.Releasable(p.Digest, s.confirmed()) {
			v.Unconfirmed = append(v.Unconfirmed, x.Name)
		}
	}
	writeJSON(w, http.StatusOK, v)
}

func (s *Server) listPolicies(w http.ResponseWriter, r *http.Request) {
	limit, err := limitOf(r)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return
	}
	list, err := s.o.Store.Subjects(r.Context(), r.URL.Query().Get("after"), limit)
	s.writePolicies(w, r, list, err)
}

func (s *Server) policyVersions(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	if !ok {
		return
	}
	list, err := s.o.Store.Policies(r.Context(), digest, store.MaxPage)
	s.writePolicies(w, r, list, err)
}

func (s *Server) writePolicies(w http.ResponseWriter, r *http.Request, list []store.Policy, err error) {
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	out := make([]PolicyView, 0, len(list))
	for i := range list {
		v := viewOf(&list[i])
		v.Policy = ""
		out = append(out, v)
	}
	writeJSON(w, http.StatusOK, out)
}

// policyOf is the version that the query names, else the newest.
func (s *Server) policyOf(r *http.Request, digest string) (*store.Policy, error) {
	text := r.URL.Query().Get("version")
	if text == "" {
		return s.o.Store.Policy(r.Context(), digest)
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return nil, fmt.Errorf("%w: version: found %q", store.ErrInvalid, text)
	}
	return s.o.Store.PolicyVersion(r.Context(), digest, n)
}

func (s *Server) getPolicy(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	if !ok {
		return
	}
	p, err := s.policyOf(r, digest)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, viewOf(p))
}

// PolicyTest asks whether evidence would pass: by the policy given, or by that which
// is in force. Nothing is recorded.
type PolicyTest struct {
	Policy   string `json:"policy,omitempty"`
	Evidence string `json:"evidence"` // base64
}

func (s *Server) testPolicy(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	var body PolicyTest
	if !ok || !s.readJSON(w, r, 8<<20, &body) {
		return
	}
	b, err := base64.StdEncoding.DecodeString(body.Evidence)
	if err != nil || len(b) == 0 {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "evidence: wanted base64")
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
	v := s.enrol.Dry(b, d)
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
		before = old.Policy.Describe()
	}
	out := PolicyDiff{From: p.Version, Text: linediff.Texts(string(p.Text), body.Policy), Word: []string{}}
	for _, l := range linediff.Lines(before, fresh.Policy.Describe()) {
		if l[0] != ' ' {
			out.Word = append(out.Word, l)
		}
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) listLeases(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	if !ok {
		return
	}
	list, err := s.o.Store.Leases(r.Context(), digest, s.o.Clock())
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	type lease struct {
		Instance string    `json:"instance"`
		Until    time.Time `json:"until"`
		Decision uint64    `json:"decision"`
	}
	out := make([]lease, 0, len(list))
	for _, l := range list {
		out = append(out, lease{l.Instance, l.Until, l.Seq})
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) endLease(w http.ResponseWriter, r *http.Request) {
	digest, ok := s.subject(w, r)
	if !ok {
		return
	}
	if err := s.o.Store.EndLease(r.Context(), digest, r.PathValue("instance"), s.actor(r)); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
