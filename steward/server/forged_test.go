package server

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestForgedRowsReleaseNoSecret has somebody write the database who holds no key: a
// wide policy is in force, and rows say that a secret may be released under it (T8).
func TestForgedRowsReleaseNoSecret(t *testing.T) {
	const unconfirmed, insert = "secret-unconfirmed", "INSERT INTO confirmations (workload, name, version, policy, at, who, mac, key_id) "
	for name, c := range map[string]struct {
		before string // what administrators did
		forge  string // {wide} is the digest of the policy in force
		code   string // "": admitted
		log    string
	}{
		"nothing, confirmed":     {"confirm", "", "", ""},
		"nothing, not confirmed": {"", "", unconfirmed, ""},
		"the policy it was set under": {"", "UPDATE secrets SET policy = {wide} WHERE name = 'db-password'", "internal",
			"opening the secret db-password@1: sealing: what was sealed was changed, or belongs elsewhere"},
		"a confirmation made up": {"", insert + "SELECT workload, name, version, {wide}, 1, 'x', zeroblob(32), key_id FROM secrets WHERE name = 'db-password'", unconfirmed, "does not hold"},
		"a confirmation with no MAC": {"", insert + "SELECT workload, name, version, {wide}, 1, 'x', x'', key_id FROM secrets WHERE name = 'db-password'", unconfirmed,
			"does not hold"},
		"a confirmation under a key of theirs": {"", insert + "SELECT workload, name, version, {wide}, 1, 'x', zeroblob(32), '0000000000000000' FROM secrets WHERE name = 'db-password'",
			unconfirmed, "does not hold"},
		"another secret's confirmation": {"confirm other", insert + "SELECT workload, 'db-password', version, policy, at, who, mac, key_id FROM confirmations WHERE name = 'other'",
			unconfirmed, "does not hold"},
		"another version's confirmation": {"confirm and set anew", "UPDATE confirmations SET version = 2", unconfirmed, "does not hold"},
		"another policy's confirmation":  {"confirm narrow", "UPDATE confirmations SET policy = {wide}", unconfirmed, "does not hold"},
		"a bit of the MAC":               {"confirm", "flip", unconfirmed, "does not hold"},
		"the key's id":                   {"confirm", "UPDATE confirmations SET key_id = '../sealing/current'", unconfirmed, "does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteward(t)
			w := newWorkload(secretConfig)
			s.allow(w, s.platforms())
			secrets := "/v1/admin/secrets/" + w.subject()
			do := func(wanted int, method, path string, body any) {
				t.Helper()
				if code := s.admin(method, path, body, nil); code != wanted {
					t.Fatalf("%s %s: status %d", method, path, code)
				}
			}
			narrow := s.policyFor(w, s.platforms())
			wide := strings.Replace(narrow, "[snp]", "[snp]\nallow_debug = true", 1)
			put := func(policy string) string {
				t.Helper()
				var v PolicyView
				if code := s.admin("PUT", "/v1/admin/policies/"+w.subject(), PolicyPut{Policy: policy}, &v); code != 200 {
					t.Fatalf("writing a policy: status %d", code)
				}
				return v.Digest
			}
			do(200, "PUT", secrets+"/other", []byte("x"))
			if c.before == "confirm narrow" {
				digest := put(narrow + "\n# again\n")
				do(204, "POST", secrets+"/db-password/confirm", SecretConfirm{1, digest})
			}
			digest := put(wide)
			switch c.before {
			case "confirm":
				do(204, "POST", secrets+"/db-password/confirm", SecretConfirm{1, digest})
			case "confirm other":
				do(204, "POST", secrets+"/other/confirm", SecretConfirm{1, digest})
			case "confirm and set anew":
				do(204, "POST", secrets+"/db-password/confirm", SecretConfirm{1, digest})
				put(narrow)
				do(200, "PUT", secrets+"/db-password", []byte("newer"))
				put(wide)
			}
			raw, err := sql.Open("sqlite", filepath.Join(s.dir, "steward.db")+"?_pragma=busy_timeout(5000)")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			if b, err := hex.DecodeString(digest); err != nil || len(b) != 32 {
				t.Fatalf("the digest %q: %v", digest, err)
			}
			forge := strings.ReplaceAll(c.forge, "{wide}", "x'"+digest+"'")
			if forge == "flip" {
				var mac []byte
				if err := raw.QueryRow("SELECT mac FROM confirmations").Scan(&mac); err != nil {
					t.Fatal(err)
				}
				mac[31] ^= 1
				forge = fmt.Sprintf("UPDATE confirmations SET mac = x'%x'", mac)
			}
			if forge != "" {
				res, err := raw.Exec(forge)
				if err != nil {
					t.Fatal(err)
				}
				if n, _ := res.RowsAffected(); n != 1 {
					t.Fatalf("changed %d rows", n)
				}
			}
			_, out, p := s.keep(w).enrol()
			if c.code == "" {
				if p != nil || len(out.Sealed) == 0 {
					t.Fatalf("found %+v, wanted the secret", p)
				}
				return
			}
			if p == nil || p.Code != c.code || out != nil {
				t.Fatalf("found %+v, wanted %s", p, c.code)
			}
			said := s.log.String()
			if c.code == unconfirmed {
				b, err := json.Marshal(p.Checks)
				if err != nil || !strings.Contains(said, unconfirmed) {
					t.Errorf("%v; the log says %s", err, said)
				}
				said = string(b)
			}
			if !strings.Contains(said, c.log) {
				t.Errorf("found %s, wanted %q in it", said, c.log)
			}
			// Administrators see the same.
			var list []SecretView
			if code := s.admin("GET", "/v1/admin/secrets?workload="+w.subject(), nil, &list); code != 200 || list[0].Name != "db-password" {
				t.Fatalf("listing: status %d, %+v", code, list)
			}
			if c.code == unconfirmed && (list[0].Releasable == nil || *list[0].Releasable) {
				t.Errorf("listed as %+v", list[0])
			}
		})
	}
}
