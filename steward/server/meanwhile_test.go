package server

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/store"
)

// A meddler is a store whose administrator acts while a request is judged: after its
// reads, before its decision is written.
type meddler struct {
	store.Store
	once sync.Once
	act  func()
}

func (m *meddler) Decide(ctx context.Context, d store.Decision) (store.Receipt, error) {
	m.once.Do(m.act)
	return m.Store.Decide(ctx, d)
}

func TestChangedWhileJudged(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(s *steward, w testWorkload)
		want string // code; "": admitted
	}{
		"nothing": {func(*steward, testWorkload) {}, ""},
		"the workload removed": {func(s *steward, w testWorkload) {
			s.admin("DELETE", "/v1/admin/workloads/"+w.subject(), nil, nil)
		}, "workload-unknown"},
		"the policy widened": {func(s *steward, w testWorkload) {
			s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: s.policyFor(w, "platforms = [\"any\"]\n")}, nil)
		}, "secret-unconfirmed"},
		"the policy narrowed": {func(s *steward, w testWorkload) {
			s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: s.policyFor(w, "platforms = [\"simulated:"+w.subject()[7:]+"\"]\n")}, nil)
		}, "refused"},
		"the secret deleted": {func(s *steward, w testWorkload) {
			s.admin("DELETE", "/v1/admin/secrets/"+w.subject()+"/db-password", nil, nil)
		}, "secret-missing"},
		"the secret set anew": {func(s *steward, w testWorkload) {
			s.admin("PUT", "/v1/admin/secrets/"+w.subject()+"/db-password", []byte("newer"), nil)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := &meddler{}
			s := newSteward(t, func(o *Options) { m.Store = o.Store; o.Store = m })
			w := newWorkload(secretConfig)
			s.allow(w, s.platforms())
			m.act = func() { c.act(s, w) }
			session, out, p := s.keep(w).enrol()
			if c.want != "" {
				if p == nil || p.Code != c.want {
					t.Fatalf("found %+v, wanted %s", p, c.want)
				}
				s.recordsRefusal()
				return
			}
			if p != nil {
				t.Fatal(p)
			}
			wanted := theSecret
			if name == "the secret set anew" {
				wanted = "newer"
			}
			if got, err := session.secrets(out); err != nil || string(got["db-password"]) != wanted {
				t.Errorf("found the secrets %q, %v, wanted %q", got, err, wanted)
			}
		})
	}
}

// recordsRefusal says that the newest record holds the verdict that refused, and none
// of an attempt that nothing came of.
func (s *steward) recordsRefusal() {
	s.t.Helper()
	rows, err := s.store.Decisions(context.Background(), store.DecisionFilter{Limit: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := s.store.Decision(context.Background(), rows[0].Seq)
	if err != nil {
		s.t.Fatal(err)
	}
	var v verdict.Verdict
	if err := json.Unmarshal(d.Detail, &v); err != nil || v.Outcome != d.Record.Outcome || v.Outcome == verdict.Admitted {
		s.t.Errorf("the record says %s, its verdict %s, %v", d.Record.Outcome, v.Outcome, err)
	}
}

// New roots that another process made are written out, once it can be done.
func TestNewRootsArePublished(t *testing.T) {
	var written int
	failing := true
	s := newSteward(t, func(o *Options) {
		o.Publish = func() error {
			if failing {
				return errors.New("disk full")
			}
			written++
			return nil
		}
	})
	s.stop()
	reread := func() { s.server.reread(t.Context()) }
	reread()
	if written != 0 {
		t.Fatal("nothing changed, and it was written")
	}
	other, err := authority.Open(authority.Options{Dir: filepath.Join(s.dir, "keys"), Clock: s.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Rotate(); err != nil {
		t.Fatal(err)
	}
	reread()
	failing = false
	reread()
	reread()
	if written != 1 {
		t.Errorf("written %d times, wanted once", written)
	}
	if string(s.auth.PEM()) != string(other.PEM()) {
		t.Error("the roots are not the new ones")
	}
}
