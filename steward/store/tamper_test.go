package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// TestTampered changes rows behind the store's back.
func TestTampered(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		change string
		seen   func(s store.Store) error
	}{
		"outcome":                {"UPDATE decisions SET outcome = 'refused' WHERE seq = 3", decision(3)},
		"detail":                 {"UPDATE decisions SET detail = x'007b7d' WHERE seq = 3", decision(3)},
		"detail that is no form": {"UPDATE decisions SET detail = x'07' WHERE seq = 3", decision(3)},
		"detail gone":            {"UPDATE decisions SET detail = NULL WHERE seq = 3", decision(3)},
		"record":                 {"UPDATE audit SET record = (SELECT record FROM audit WHERE seq = 4) WHERE seq = 3", decision(3)},
		"record gone":            {"DELETE FROM audit WHERE seq = 3", decision(3)},
		"the next record":        {"UPDATE audit SET record = (SELECT record FROM audit WHERE seq = 2) WHERE seq = 4", decision(3)},
		"the end":                {"UPDATE state SET hash = zeroblob(32)", decision(5)},
		"policy": {"UPDATE policies SET text = x'00'", func(s store.Store) error {
			_, err := s.Policy(ctx, "w")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "steward.db")
			s, err := store.OpenSQLite(ctx, path, store.Options{Guard: storetest.Guard{}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, storetest.By); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if _, err := s.Decide(ctx, storetest.Admitted(i, storetest.T0)); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.seen(s); err != nil {
				t.Fatal(err)
			}
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			res, err := raw.Exec(c.change)
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := res.RowsAffected(); n != 1 {
				t.Fatalf("changed %d rows", n)
			}
			if err := c.seen(s); !errors.Is(err, store.ErrTampered) {
				t.Fatalf("found %v", err)
			}
		})
	}
}

// TestRowsAgreeWithTheLog changes what stands beside the log, and leaves the log alone.
func TestRowsAgreeWithTheLog(t *testing.T) {
	ctx := context.Background()
	const w = "sha256:a"
	for name, change := range map[string]string{
		"nothing":                     "",
		"an outcome":                  "UPDATE decisions SET outcome = 'refused' WHERE seq = 6",
		"a decision gone":             "DELETE FROM decisions WHERE seq = 6",
		"a decision made up":          "INSERT INTO decisions SELECT 99, at, workload, instance, tee, simulated, outcome, code, tcb_status, platform, exposed, policy, request, who, detail FROM decisions WHERE seq = 6",
		"a policy and its digest":     "UPDATE policies SET text = x'61', digest = x'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb'",
		"a policy gone":               "DELETE FROM policies",
		"a newer policy":              "INSERT INTO policies SELECT workload, 2, text, digest, at, who, mac, key_id FROM policies",
		"a policy of somebody else":   "INSERT INTO policies SELECT 'sha256:b', version, text, digest, at, who, mac, key_id FROM policies",
		"what a secret was set for":   "UPDATE secrets SET policy = zeroblob(32)",
		"a secret's workload":         "UPDATE secrets SET workload = 'sha256:b'",
		"a secret gone":               "DELETE FROM secrets WHERE name = 'a'",
		"a deleted secret back":       "UPDATE secrets SET deleted = 0 WHERE name = 'b'",
		"a confirmation":              "INSERT INTO confirmations VALUES ('sha256:a', 'a', 1, x'0909090909090909090909090909090909090909090909090909090909090909', 1, 'x', x'00', 'k')",
		"a token's hash":              "UPDATE tokens SET hash = zeroblob(32) WHERE id = 't'",
		"a token's scopes":            "UPDATE tokens SET scopes = 'admin' WHERE id = 't'",
		"a token that was taken back": "UPDATE tokens SET revoked = 0 WHERE id = 'u'",
		"a highest version":           "UPDATE signers SET version = 1",
		"a highest version gone":      "DELETE FROM signers",
		"a token made up":             "INSERT INTO tokens SELECT 'v', name, zeroblob(32), scopes, created, who, expires, 0, mac, key_id FROM tokens WHERE id = 't'",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "steward.db")
			s, err := store.OpenSQLite(ctx, path, store.Options{Guard: storetest.Guard{}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			by := storetest.By
			sec := store.Secret{SecretKey: store.SecretKey{Workload: w, Name: "a"}, Version: 1, Sealed: []byte{1}, KeyID: "k", Policy: storetest.Digest("policy", 1)}
			other := sec
			other.Name = "b"
			for _, err := range []error{
				s.PutPolicy(ctx, store.Policy{Workload: w, Version: 1, Text: []byte("p")}, by),
				s.PutSecret(ctx, sec, by), s.PutSecret(ctx, other, by), s.DeleteSecret(ctx, other.SecretKey, by),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range 2 { // records 6 and 7
				d := storetest.Admitted(i, storetest.T0)
				d.Signer = &store.SignerMark{Signer: "s", Name: "n", Version: 7}
				if _, err := s.Decide(ctx, d); err != nil {
					t.Fatal(err)
				}
			}
			for i, id := range []string{"t", "u"} {
				if err := s.PutToken(ctx, store.Token{ID: id, Hash: storetest.Digest("token", i), Scopes: []store.Scope{store.ScopeRead}}, by); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.RevokeToken(ctx, "u", by); err != nil {
				t.Fatal(err)
			}
			if change == "" {
				if err := store.Agree(ctx, s); err != nil {
					t.Error(err)
				}
				return
			}
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			res, err := raw.Exec(change)
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := res.RowsAffected(); n == 0 {
				t.Fatal("nothing was changed")
			}
			if err := store.Agree(ctx, s); !errors.Is(err, store.ErrTampered) {
				t.Errorf("found %v, wanted ErrTampered", err)
			}
		})
	}
}

// TestBeforeProofs opens a database from before rows were authenticated, and restores a
// backup of one.
func TestBeforeProofs(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "steward.db")
	o := store.Options{Guard: storetest.Guard{}}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.OpenSQLite(ctx, path, o)
	ok(err)
	hash := storetest.Digest("token", 1)
	ok(s.PutToken(ctx, store.Token{ID: "t", Hash: hash, Scopes: []store.Scope{store.ScopeRead}, Expires: storetest.T0.Add(time.Hour)}, storetest.By))
	ok(s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, storetest.By))
	ok(s.PutValue(ctx, "v", store.Value{Version: 1}))
	var backup bytes.Buffer
	ok(s.Backup(ctx, &backup))
	ok(s.Close())
	raw, err := sql.Open("sqlite", path)
	ok(err)
	defer raw.Close()
	for _, q := range []string{"DELETE FROM schema_version WHERE version_id >= 2", "ALTER TABLE state DROP COLUMN retained",
		"ALTER TABLE tokens DROP COLUMN mac", "ALTER TABLE tokens DROP COLUMN key_id", "ALTER TABLE policies DROP COLUMN mac",
		"ALTER TABLE policies DROP COLUMN key_id", "ALTER TABLE kept DROP COLUMN mac", "ALTER TABLE kept DROP COLUMN key_id"} {
		_, err := raw.Exec(q)
		ok(err)
	}
	ok(raw.Close())
	migrated, err := store.OpenSQLite(ctx, path, o)
	ok(err)
	defer migrated.Close()
	restored, err := store.OpenSQLite(ctx, filepath.Join(t.TempDir(), "steward.db"), o)
	ok(err)
	defer restored.Close()
	_, err = restored.Restore(ctx, bytes.NewReader(firstForm(t, backup.Bytes())), storetest.By)
	ok(err)
	raw, err = sql.Open("sqlite", path)
	ok(err)
	defer raw.Close()
	for end, want := range map[int64]bool{1 << 60: false, storetest.T0.Add(time.Hour).UnixMicro(): true} {
		_, err = raw.Exec("UPDATE tokens SET expires = ?", end)
		ok(err)
		rows, err := store.UnprovenRows(ctx, migrated)
		if ok(err); len(rows) != 2 || rows[0].Token == nil || rows[0].Logged != want {
			t.Errorf("a token that ends at %d: found %+v, wanted that it is in the log: %t", end, rows, want)
		}
	}
	// No key is needed to see that a row has no MAC, or one that did not hold.
	keyless, err := store.OpenSQLite(ctx, path, store.Options{})
	ok(err)
	defer keyless.Close()
	if err := store.Agree(ctx, keyless); !errors.Is(err, store.ErrUnproven) {
		t.Errorf("without keys: found %v", err)
	}
	_, err = raw.Exec("UPDATE policies SET key_id = 'k'")
	ok(err)
	if err := store.Agree(ctx, keyless); !errors.Is(err, store.ErrTampered) || errors.Is(err, store.ErrUnproven) {
		t.Errorf("without keys, a MAC that did not hold: found %v", err)
	}
	_, err = raw.Exec("UPDATE policies SET key_id = ''")
	ok(err)
	for name, s := range map[string]store.Store{"migrated": migrated, "restored": restored} {
		_, terr := s.TokenByHash(ctx, hash)
		_, perr := s.Policy(ctx, "w")
		_, verr := s.Value(ctx, "v")
		for _, err := range []error{terr, perr, verr} {
			if !errors.Is(err, store.ErrUnproven) || !errors.Is(err, store.ErrTampered) {
				t.Errorf("%s: found %v", name, err)
			}
		}
		rows, err := store.UnprovenRows(ctx, s)
		if err != nil || len(rows) != 2 {
			t.Fatalf("%s: found %+v, %v", name, rows, err)
		}
		for _, r := range rows {
			ok(store.Adopt(ctx, s, r, storetest.By))
			r.Logged = false
			if err := store.Adopt(ctx, s, r, storetest.By); !errors.Is(err, store.ErrTampered) {
				t.Errorf("%s: what the log does not know: %v", name, err)
			}
		}
		_, terr = s.TokenByHash(ctx, hash)
		_, perr = s.Policy(ctx, "w")
		if terr != nil || perr != nil {
			t.Errorf("%s: after adopting: %v, %v", name, terr, perr)
		}
	}
}

// firstForm is a backup as the first form had it: without mac and key_id of policies,
// tokens and kept, and retained of state.
func firstForm(t *testing.T, b []byte) []byte {
	t.Helper()
	out, in := bytes.Clone(b[:8]), b[8:]
	for i := 0; ; i++ {
		n := binary.BigEndian.Uint32(in)
		entry := in[4 : 4+n]
		in = in[4+n:]
		var err error
		switch {
		case n == 0:
			out = binary.BigEndian.AppendUint32(out, 0)
			sum := sha256.Sum256(out)
			return append(out, sum[:]...)
		case i == 0:
			entry, err = cbor.Marshal(map[int]any{1: 1, 2: "sqlite"})
		default:
			var row []cbor.RawMessage
			if err = cbor.Unmarshal(entry, &row); err != nil {
				t.Fatal(err)
			}
			if row[0][0] == 0 {
				entry, err = cbor.Marshal(row[:len(row)-1])
			}
			if k := row[0][0]; k == 9 || k == 12 || k == 13 {
				entry, err = cbor.Marshal(row[:len(row)-2])
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(entry))), entry...)
	}
}

func decision(seq uint64) func(store.Store) error {
	return func(s store.Store) error {
		_, err := s.Decision(context.Background(), seq)
		return err
	}
}

// TestLocked has another process hold the database.
func TestLocked(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "steward.db")
	s, err := store.OpenSQLite(ctx, path, store.Options{Guard: storetest.Guard{}, Wait: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	other, err := raw.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decide(ctx, storetest.Admitted(1, storetest.T0)); !errors.Is(err, store.ErrBusy) {
		t.Fatalf("found %v", err)
	}
	if err := s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, storetest.By); !errors.Is(err, store.ErrBusy) {
		t.Fatalf("found %v", err)
	}
	// Reading goes on.
	if _, err := s.Head(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decide(ctx, storetest.Admitted(1, storetest.T0)); err != nil {
		t.Fatal(err)
	}
}
