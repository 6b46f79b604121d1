package server

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
)

// forge changes the database as somebody does who can write it and has no key.
func (s *steward) forge(change string, args ...any) {
	s.t.Helper()
	raw, err := sql.Open("sqlite", filepath.Join(s.dir, "steward.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer raw.Close()
	res, err := raw.Exec(change, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n != 1 {
		s.t.Fatalf("%s: changed %d rows", change, n)
	}
}

// A token that somebody wrote into the database, or changed there, opens nothing.
func TestForgedTokensOpenNothing(t *testing.T) {
	theirs, row := NewToken("theirs", AllScopes(), time.Time{})
	insert := "INSERT INTO tokens (id, name, hash, scopes, created, who, expires, revoked, mac, key_id) "
	for name, c := range map[string]struct {
		forge string
		args  []any
		token string // "": that with the scope read
		text  string // in the answer
	}{
		"made up, without a MAC":   {insert + "VALUES ('x', 'x', ?, 'read admin', 1, 'x', 0, 0, x'', '')", []any{row.Hash[:]}, theirs, "steward adopt"},
		"made up, with some MAC":   {insert + "SELECT 'x', name, ?, scopes, created, who, expires, revoked, mac, key_id FROM tokens WHERE name = 'of read'", []any{row.Hash[:]}, theirs, "not one that this Steward wrote"},
		"made up, under their key": {insert + "VALUES ('x', 'x', ?, 'read admin', 1, 'x', 0, 0, zeroblob(32), 'theirs')", []any{row.Hash[:]}, theirs, "not one that this Steward wrote"},
		"another's hash":           {"UPDATE tokens SET hash = ? WHERE name = 'test'", []any{row.Hash[:]}, theirs, "not one that this Steward wrote"},
		"more scopes":              {"UPDATE tokens SET scopes = 'read admin' WHERE name = 'of read'", nil, "", "not one that this Steward wrote"},
		"no end":                   {"UPDATE tokens SET expires = 0 WHERE name = 'of read'", nil, "", "not one that this Steward wrote"},
		"back again":               {"UPDATE tokens SET revoked = 0 WHERE name = 'of read'", nil, "", "not one that this Steward wrote"},
		"another name":             {"UPDATE tokens SET id = 'test' WHERE name = 'of read'", nil, "", "not one that this Steward wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteward(t)
			var v TokenView
			if code := s.admin("POST", "/v1/admin/tokens", TokenCreate{Name: "of read", Scopes: []store.Scope{store.ScopeRead}, Expires: s.now().Add(time.Hour)}, &v); code != 201 {
				t.Fatalf("status %d", code)
			}
			if name == "back again" {
				if code := s.admin("DELETE", "/v1/admin/tokens/"+v.ID, nil, nil); code != 204 {
					t.Fatalf("status %d", code)
				}
			}
			s.forge(c.forge, c.args...)
			token := c.token
			if token == "" {
				token = v.Token
			}
			var b []byte
			if code := s.adminAs(token, "GET", "/v1/admin/settings", nil, &b); code != 403 || !strings.Contains(string(b), c.text) {
				t.Errorf("status %d, %s, wanted 403 with %q", code, b, c.text)
			}
			if !strings.Contains(s.log.String(), "whose row in the database does not hold") {
				t.Error("the log does not say so")
			}
		})
	}
}

// Nobody is admitted under a policy that somebody wrote into the database, and an
// administrator can write the next one over it.
func TestForgedPoliciesAdmitNobody(t *testing.T) {
	for name, forge := range map[string]string{
		"changed":             "UPDATE policies SET text = ?1, digest = ?2",
		"the next version":    "INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, 2, ?1, ?2, at, who, mac, key_id FROM policies",
		"the last version":    "INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, 9223372036854775807, ?1, ?2, at, who, mac, key_id FROM policies",
		"without a MAC":       "INSERT INTO policies (workload, version, text, digest, at, who) SELECT workload, 2, ?1, ?2, at, who FROM policies",
		"a MAC of theirs":     "INSERT INTO policies SELECT workload, 2, ?1, ?2, at, who, zeroblob(32), key_id FROM policies",
		"a version as newer":  "UPDATE policies SET version = 2 WHERE ?1 <> ?2",
		"who wrote it":        "UPDATE policies SET who = 'root' WHERE ?1 <> ?2",
		"another workload's":  "UPDATE policies SET workload = ?3 WHERE workload <> ?3 AND ?1 <> ?2",
		"the MAC taken away":  "UPDATE policies SET mac = x'', key_id = '' WHERE ?1 <> ?2",
		"a MAC under no key":  "UPDATE policies SET key_id = '../current' WHERE ?1 <> ?2",
		"a text that differs": "UPDATE policies SET text = ?1 WHERE ?1 <> ?2",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteward(t)
			w := newWorkload("")
			s.allow(w, s.platforms())
			policy := s.policyFor(w, s.platforms())
			if _, _, p := s.keep(w).enrol(); p != nil {
				t.Fatal(p)
			}
			wide := []byte(strings.Replace(policy, "[snp]", "[snp]\nallow_debug = true", 1))
			digest := sha256.Sum256(wide)
			subject := w.subject()
			if name == "another workload's" {
				w = newWorkload("name = \"other\"\n")
			}
			s.forge(forge, wide, digest[:], w.subject())
			_, out, p := s.keep(w).enrol()
			if p == nil || p.Code != "internal" || out != nil {
				t.Fatalf("found %+v, wanted internal", p)
			}
			if !strings.Contains(s.log.String(), "not what a Steward wrote") {
				t.Error("the log does not say why")
			}
			var list []PolicyView
			if code := s.admin("GET", "/v1/admin/policies", nil, &list); code != 200 || len(list) != 1 || list[0].Doubt == "" {
				t.Errorf("listed as %+v, status %d", list, code)
			}
			if name == "another workload's" {
				return
			}
			if code := s.admin("PUT", "/v1/admin/policies/"+subject, PolicyPut{Policy: policy}, nil); code != 200 {
				t.Fatalf("writing it anew: status %d", code)
			}
			if _, _, p := s.keep(w).enrol(); p != nil {
				t.Errorf("after it was written anew: %+v", p)
			}
		})
	}
}

// A session that somebody wrote into the database signs nobody in: the web's own test
// has the pages; here the value is not read.
func TestForgedValues(t *testing.T) {
	s := newSteward(t)
	ctx := t.Context()
	if err := s.store.PutValue(ctx, "a", store.Value{Data: []byte("x"), Version: 1}); err != nil {
		t.Fatal(err)
	}
	for i, change := range []string{"UPDATE kept SET data = x'00' WHERE name = 'a'", "UPDATE kept SET name = 'b' WHERE name = 'a'", "UPDATE kept SET version = 7 WHERE name = 'b'"} {
		s.forge(change)
		name := []string{"a", "b", "b"}[i]
		v, err := s.store.Value(ctx, name)
		if err == nil || v == nil || v.Data != nil {
			t.Errorf("%s: found %+v, %v", change, v, err)
		}
	}
	v, _ := s.store.Value(ctx, "b")
	if err := s.store.PutValue(ctx, "b", store.Value{Data: []byte("y"), Version: v.Version + 1}); err != nil {
		t.Errorf("writing it anew: %v", err)
	}
	if v, err := s.store.Value(ctx, "b"); err != nil || string(v.Data) != "y" {
		t.Errorf("found %v, %v", fmt.Sprintf("%+v", v), err)
	}
}

// A meanwhile is a store in which another replica writes once the newest policy was read.
type meanwhile struct {
	store.Store
	write func()
}

func (m *meanwhile) Policies(ctx context.Context, workload string, limit int) ([]store.Policy, error) {
	list, err := m.Store.Policies(ctx, workload, limit)
	if write := m.write; write != nil {
		m.write = nil
		write()
	}
	return list, err
}

// Where the newest row is forged, too, a version that was written meanwhile is not written
// over unseen.
func TestPolicyMeanwhile(t *testing.T) {
	m := &meanwhile{}
	s := newSteward(t, func(o *Options) { m.Store = o.Store; o.Store = m })
	w := newWorkload("")
	s.allow(w, s.platforms())
	policy := s.policyFor(w, s.platforms())
	s.forge("INSERT INTO policies (workload, version, text, digest, at, who, mac, key_id) SELECT workload, 77, text, digest, at, who, mac, key_id FROM policies")
	m.write = func() {
		if err := s.store.PutPolicy(t.Context(), store.Policy{Workload: w.subject(), Version: 2, Text: []byte(policy + "# theirs\n")}, store.Actor{Who: "other", At: s.now()}); err != nil {
			t.Error(err)
		}
	}
	seen := uint64(77)
	put := PolicyPut{Policy: policy + "# ours\n", Seen: &seen}
	if code := s.admin("PUT", "/v1/admin/policies/"+w.subject(), put, nil); code != 409 {
		t.Errorf("found status %d, wanted 409", code)
	}
	if p, err := s.store.Policy(t.Context(), w.subject()); err != nil || p.Version != 2 || !strings.Contains(string(p.Text), "theirs") {
		t.Errorf("found %+v, %v", p, err)
	}
}
