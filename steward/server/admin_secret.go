package server

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
)

// SecretView is a secret as administrators see it: never its value.
type SecretView struct {
	Workload string    `json:"workload"`
	Name     string    `json:"name"`
	Version  uint64    `json:"version"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Policy   string    `json:"policy"` // digest of the policy it was set under
	// Releasable says whether the policy in force releases it; nil where it was not
	// compared.
	Releasable *bool `json:"releasable,omitempty"`
}

// secretName is a name as configurations may have it.
var secretName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`) })

func (s *Server) secretKey(w http.ResponseWriter, r *http.Request) (store.SecretKey, bool) {
	digest, ok := s.subject(w, r)
	if !ok {
		return store.SecretKey{}, false
	}
	name := r.PathValue("name")
	if !secretName().MatchString(name) {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed),
			fmt.Sprintf("found the secret's name %q, wanted up to 128 letters, digits, dots, hyphens and underscores", name))
		return store.SecretKey{}, false
	}
	return store.SecretKey{Workload: digest, Name: name}, true
}

func (s *Server) listSecrets(w http.ResponseWriter, r *http.Request) {
	ctx, q := r.Context(), r.URL.Query()
	var list []store.Secret
	var err error
	var policy *store.Policy
	if q.Get("workload") != "" {
		r.SetPathValue("digest", q.Get("workload"))
		digest, ok := s.subject(w, r)
		if !ok {
			return
		}
		if policy, err = s.shown(ctx, digest); err != nil && !errors.Is(err, store.ErrNotFound) {
			s.storeProblem(w, r, err)
			return
		}
		list, err = s.o.Store.Secrets(ctx, digest)
	} else {
		var limit int
		if limit, err = limitOf(r); err != nil {
			s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
			return
		}
		list, err = s.o.Store.AllSecrets(ctx, store.SecretKey{Workload: q.Get("after_workload"), Name: q.Get("after_name")}, limit)
	}
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	out := make([]SecretView, 0, len(list))
	for _, x := range list {
		v := SecretView{Workload: x.Workload, Name: x.Name, Version: x.Version, At: x.At, By: x.By, Policy: x.Policy.String()}
		if policy != nil {
			yes := policy.Doubt == "" && x.Releasable(policy.Digest, s.confirmed())
			v.Releasable = &yes
		}
		out = append(out, v)
	}
	writeJSON(w, http.StatusOK, out)
}

// putSecret stores the body as a secret's next version, under the policy in force.
func (s *Server) putSecret(w http.ResponseWriter, r *http.Request) {
	k, ok := s.secretKey(w, r)
	if !ok {
		return
	}
	plain, ok := s.readBody(w, r, "application/octet-stream", protocol.MaxSecret)
	if !ok {
		return
	}
	defer clear(plain)
	if s.o.Seal == nil {
		s.problem(w, r, http.StatusServiceUnavailable, string(enrol.CodeInternal), "this Steward has no key to seal secrets with")
		return
	}
	policy, err := s.o.Store.Policy(r.Context(), k.Workload)
	if errors.Is(err, store.ErrNotFound) {
		s.problem(w, r, http.StatusNotFound, "workload-unknown", "allow the workload first: a secret is set under a policy")
		return
	}
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	version, err := s.o.Store.SecretVersion(r.Context(), k.Workload, k.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.storeProblem(w, r, err)
		return
	}
	version++
	sealed, keyID, err := s.o.Seal.Seal(k, version, policy.Digest, plain)
	if err != nil {
		s.storeProblem(w, r, fmt.Errorf("sealing: %w", err))
		return
	}
	actor := s.actor(r)
	err = s.o.Store.PutSecret(r.Context(), store.Secret{SecretKey: k, Version: version, Sealed: sealed, KeyID: keyID, Policy: policy.Digest, At: actor.At, By: actor.Who}, actor)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	yes := true
	writeJSON(w, http.StatusOK, SecretView{Workload: k.Workload, Name: k.Name, Version: version, At: actor.At, By: actor.Who, Policy: policy.Digest.String(), Releasable: &yes})
}

func (s *Server) deleteSecret(w http.ResponseWriter, r *http.Request) {
	k, ok := s.secretKey(w, r)
	if !ok {
		return
	}
	if err := s.o.Store.DeleteSecret(r.Context(), k, s.actor(r)); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// confirmed verifies confirmations; nil: none holds.
func (s *Server) confirmed() func(store.Secret, store.Confirmation) error {
	if s.o.Seal == nil {
		return nil
	}
	return s.o.Seal.Confirmed
}

// SecretConfirm lets a secret be released under a policy that it was not set under.
// Both are named, so that nobody confirms what was changed meanwhile.
type SecretConfirm struct {
	Version uint64 `json:"version"`
	Policy  string `json:"policy"` // digest, of the policy in force
}

func (s *Server) confirmSecret(w http.ResponseWriter, r *http.Request) {
	k, ok := s.secretKey(w, r)
	var body SecretConfirm
	if !ok || !s.readJSON(w, r, 4096, &body) {
		return
	}
	b, err := hex.DecodeString(strings.TrimPrefix(body.Policy, "sha256:"))
	if err != nil || len(b) != 32 {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "policy: wanted the digest of the policy in force")
		return
	}
	if s.o.Seal == nil {
		s.problem(w, r, http.StatusServiceUnavailable, string(enrol.CodeInternal), "this Steward has no key to confirm secrets with")
		return
	}
	policy, err := s.o.Store.Policy(r.Context(), k.Workload)
	if err == nil && policy.Digest != audit.Digest(b) {
		err = store.ErrConflict
	}
	var c store.Confirmation
	if err == nil {
		c, err = s.o.Seal.Confirm(k, body.Version, policy.Digest)
	}
	if err == nil {
		err = s.o.Store.ConfirmSecret(r.Context(), k, body.Version, c, s.actor(r))
	}
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
