package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/store"
)

// subject is a workload digest in the path (64 hexadecimal digits, with or without
// "sha256:"), or signer:KEY/NAME, escaped. It answers where there is none.
func (s *Server) subject(w http.ResponseWriter, r *http.Request) (string, bool) {
	subject, err := enrol.ParseSubject(r.PathValue("digest"))
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return "", false
	}
	return subject, true
}

// shown is the newest policy for people and for who writes the next one: it is given
// with Doubt where nothing may be judged by it.
func (s *Server) shown(ctx context.Context, subject string) (*store.Policy, error) {
	list, err := s.o.Store.Policies(ctx, subject, 1)
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
	Doubt    string    `json:"doubt,omitempty"`     // unproven, forged, unchecked: nothing is judged by it
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
	if enrol.IsSigner(digest) {
		if body.Policy == "" || body.Name != "" || body.Manifest != nil {
			s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "a signer's workload has a policy, and neither a manifest nor another name")
			return
		}
		s.writePolicy(w, r, digest, PolicyPut{Policy: body.Policy})
		return
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
	if _, err := s.shown(r.Context(), digest); err != nil {
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
	if err := d.CheckSubject(digest); err != nil {
		return nil, err
	}
	if enrol.IsSigner(digest) {
		return d, nil // the signatures say which workloads
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
	// Before the newest is read: what is written after this is a conflict.
	next, err := s.o.Store.NextPolicy(ctx, digest)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	old, err := s.shown(ctx, digest)
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
	// One that was written between the two.
	if old != nil && old.Doubt == "" && next != version+1 {
		s.storeProblem(w, r, store.ErrConflict)
		return
	}
	if err := s.o.Store.PutPolicy(ctx, store.Policy{Workload: digest, Version: next, Text: []byte(put.Policy)}, actor); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	p, err := s.o.Store.PolicyVersion(ctx, digest, next)
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
