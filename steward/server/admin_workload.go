package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/store"
)

// WorkloadView is a workload, or what a signer signs under a name, as administrators
// see it.
type WorkloadView struct {
	Subject   string      `json:"subject"`          // what other routes take as {w}
	Digest    string      `json:"digest,omitempty"` // "" for a signer's
	Name      string      `json:"name,omitempty"`
	FirstSeen time.Time   `json:"first_seen,omitzero"`
	Policy    uint64      `json:"policy_version"` // 0: none
	Removed   bool        `json:"removed,omitempty"`
	Doubt     string      `json:"doubt,omitempty"` // of the policy: unproven, forged, unchecked
	Signed    *SignedView `json:"signed,omitempty"`
}

// SignedView is what is known of a signer's workload.
type SignedView struct {
	Signer     string `json:"signer"`                // key id
	MinVersion uint64 `json:"min_version,omitempty"` // the policy's
	Highest    uint64 `json:"highest,omitempty"`     // that was admitted: none lower is from then on
}

// listWorkloads gives digests, and behind them signers: by subject, as they sort.
func (s *Server) listWorkloads(w http.ResponseWriter, r *http.Request) {
	limit, err := limitOf(r)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return
	}
	after, out := r.URL.Query().Get("after"), []WorkloadView{}
	if !enrol.IsSigner(after) {
		if out, err = s.digests(r.Context(), after, limit); err != nil {
			s.storeProblem(w, r, err)
			return
		}
		after = enrol.SignerPrefix
	}
	if room := limit - len(out); room > 0 {
		signers, err := s.signers(r.Context(), after, room)
		if err != nil {
			s.storeProblem(w, r, err)
			return
		}
		out = append(out, signers...)
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) digests(ctx context.Context, after string, limit int) ([]WorkloadView, error) {
	list, err := s.o.Store.Workloads(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]WorkloadView, 0, len(list))
	for _, x := range list {
		v := WorkloadView{Subject: x.Digest, Digest: x.Digest, Name: x.Name, FirstSeen: x.FirstSeen}
		p, err := s.shown(ctx, x.Digest)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if p != nil {
			v.Policy, v.Removed, v.Doubt = p.Version, string(p.Text) == enrol.RemovedPolicy, p.Doubt
		}
		out = append(out, v)
	}
	return out, nil
}

func (s *Server) signers(ctx context.Context, after string, limit int) ([]WorkloadView, error) {
	list, err := s.o.Store.Subjects(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	var out []WorkloadView
	for _, p := range list {
		signer, name, ok := enrol.SplitSigner(p.Workload)
		if !ok {
			continue
		}
		v := WorkloadView{Subject: p.Workload, Name: name, Policy: p.Version, Removed: string(p.Text) == enrol.RemovedPolicy, Doubt: p.Doubt, Signed: &SignedView{Signer: signer}}
		if d, err := enrol.ParseDocument(p.Text); err == nil && d.Grant.Signed != nil {
			v.Signed.MinVersion = d.Grant.Signed.MinVersion
		}
		if v.Signed.Highest, err = s.o.Store.SignedVersion(ctx, signer, name); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
