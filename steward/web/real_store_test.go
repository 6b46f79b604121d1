package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// The Steward's store is one.
var _ Store = store.Store(nil)

// TestOnSQLite: the pages on the store that the Steward uses by default.
func TestOnSQLite(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "steward.db")
	db, err := store.OpenSQLite(ctx, path, store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	by := store.Actor{Who: "cli", At: testNow.Add(-time.Hour)}
	policy := []byte("version = 1\nname = \"billing\"\n")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(db.PutToken(ctx, store.Token{ID: "t1", Name: "operator", Hash: testHash(testToken), Scopes: []store.Scope{store.ScopeRead}, Created: by.At}, by))
	must(db.PutWorkload(ctx, store.Workload{Digest: digestOf(0), Name: "billing"}, by))
	must(db.PutPolicy(ctx, store.Policy{Workload: digestOf(0), Version: 1, Text: policy}, by))
	must(db.PutSecret(ctx, store.Secret{SecretKey: store.SecretKey{Workload: digestOf(0), Name: "db-password"}, Version: 1, Sealed: []byte("sealed-bytes"), KeyID: "k", Policy: audit.Digest(sha256.Sum256(policy))}, by))
	v := syntheticVerdicts(t, false)[0]
	detail, err := json.Marshal(v)
	must(err)
	epoch, err := db.Epoch(ctx)
	must(err)
	var last store.Receipt
	for i := range 60 {
		d := store.Decision{At: testNow.Add(time.Duration(i-60) * time.Minute), Epoch: epoch.Number, Detail: detail, Exposed: []string{"AMD-SB-3023"},
			Record: audit.Record{Kind: audit.Decision, Workload: digestOf(0), Instance: fmt.Sprintf("%032x", i), TEE: "snp", Simulated: true, Outcome: verdict.Admitted,
				Checks: audit.Checks(v.Checks), Detail: sha256.Sum256(detail), Serial: []byte{9, byte(i)}, PolicyVersion: 1}}
		d.Certificate = &store.NewCertificate{Serial: d.Record.Serial, CA: "workloads", NotBefore: d.At, NotAfter: testNow.Add(time.Duration(i+1) * time.Hour)}
		last, err = db.Decide(ctx, d)
		must(err)
	}
	f := newFixture(t, false, func(o *Options) { o.Store, o.Sessions = db, nil })
	a := f.admin(t)
	for path, want := range map[string]string{
		"/":                                  "60 Keeps",
		"/?span=hours":                       "60 admitted, 0 not",
		"/decisions":                         "Older",
		"/decisions?simulated=no":            "No decision is like that",
		"/certificates":                      "More",
		"/certificates?within=1":             "There is none",
		"/certificates?within=2":             "1 h 0 min",
		"/workloads":                         "billing",
		"/workloads/" + digestOf(0):          "under the newest policy",
		"/decisions/" + fmt.Sprint(last.Seq): "until",
	} {
		w := a.get(path)
		lint(t, path, w.Body.String())
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: found %d, wanted it to show %q", path, w.Code, want)
		}
	}
	// Every page of the certificates, by the links alone.
	n := 0
	for path := "/certificates"; path != ""; {
		page := a.get(path).Body.String()
		n += strings.Count(page, `data-label="ends"`)
		path = nextPage(page)
	}
	if n != 60 {
		t.Errorf("found %d certificates on the pages, wanted 60", n)
	}
	if w := a.get("/decisions/999999"); w.Code != http.StatusNotFound {
		t.Errorf("found %d, wanted 404", w.Code)
	}
	for _, path := range []string{"/workloads/signer:%00", "/workloads/signer:%ff", "/workloads/signer:" + strings.Repeat("%F0%9F%98%80", 500), "/decisions?to=9999-12-31"} {
		if w := a.get(path); w.Code >= 500 {
			t.Errorf("%s: found %d", path, w.Code)
		}
	}
	// A session that somebody wrote into the database signs nobody in, and ends the others.
	id := bytes.Repeat([]byte{7}, idSize)
	thief := f.client(t)
	thief.cookies[sessionCookie] = base64.RawURLEncoding.EncodeToString(id)
	forged, err := json.Marshal([]Session{{Hash: sessionHash(id), Token: testHash(testToken), Expires: testNow.Add(time.Hour)}})
	must(err)
	raw, err := sql.Open("sqlite", path)
	must(err)
	defer raw.Close()
	res, err := raw.Exec("UPDATE kept SET data = ? WHERE name = ?", forged, sessionsKey)
	must(err)
	if n, _ := res.RowsAffected(); n != 1 {
		t.Fatalf("changed %d rows", n)
	}
	if w := thief.get("/decisions"); w.Code != http.StatusSeeOther {
		t.Errorf("with a session made up: found %d", w.Code)
	}
	a = f.admin(t)
	if w := a.get("/decisions"); w.Code != http.StatusOK {
		t.Errorf("signed in again: found %d", w.Code)
	}
	must(db.RevokeToken(ctx, "t1", store.Actor{Who: "cli", At: testNow}))
	if w := a.get("/decisions"); w.Code != http.StatusSeeOther {
		t.Errorf("with a revoked token: found %d", w.Code)
	}
}
