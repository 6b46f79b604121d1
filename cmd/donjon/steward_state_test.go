//go:build linux

package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

func testApp() (*app, *bytes.Buffer) {
	var b bytes.Buffer
	return &app{stdin: strings.NewReader(""), stdout: &b, stderr: &b, getenv: func(string) string { return "" }}, &b
}

func TestOneServerAState(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	unlock, err := a.claim(ctx, dir, "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.claim(ctx, dir, "", nil, nil); err == nil || !strings.Contains(err.Error(), "another server runs") {
		t.Errorf("a second server: found %v", err)
	}
	if _, err := a.alone(ctx, dir, ""); err == nil || !strings.Contains(err.Error(), "another server runs") {
		t.Errorf("a move beside a server: found %v", err)
	}
	unlock()
	if unlock, err = a.claim(ctx, dir, "", nil, nil); err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	unlock()
}

// On a PostgreSQL many servers run at once, from folders of their own, and sealing keys
// are moved while none does.
func TestMoveBesideReplicas(t *testing.T) {
	dsn := storetest.Postgres(t).Database(t)
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	words := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(words, []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(name string) string { return map[string]string{passphraseVariable: words}[name] }}
	s, err := a.openState(ctx, dir, stateOptions{create: true, serving: &serving{Database: dsn}, sealing: &sealingSettings{Kind: sealing.KindFile}})
	if err == nil {
		err = s.publish()
		s.close()
	}
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(want string) {
		t.Helper()
		if got, err := sealing.Kinds(filepath.Join(dir, stewardKeys, "sealing")); err != nil || strings.Join(got, " ") != want {
			t.Errorf("found keys of the kinds %v, %v, wanted %s", got, err, want)
		}
	}
	rotate := func(status int, words ...string) {
		t.Helper()
		out.Reset()
		got := a.run([]string{"steward", "rotate", "--sealing-key", "--sealing", "passphrase", "--state", dir})
		for _, w := range words {
			if !strings.Contains(out.String(), w) {
				t.Errorf("found %q, wanted %q in it", out.String(), w)
			}
		}
		if got != status {
			t.Fatalf("found status %d, %s, wanted %d", got, &out, status)
		}
	}
	log := slog.New(slog.DiscardHandler)
	moved := make(chan error, 1)
	ends := func(err error) { moved <- err }
	one, err := a.claim(ctx, dir, dsn, log, ends)
	if err != nil {
		t.Fatal(err)
	}
	two, err := a.claim(ctx, filepath.Join(t.TempDir(), "another"), dsn, log, ends)
	if err != nil {
		t.Fatalf("a second replica: %v", err)
	}
	rotate(statusFailed, "servers run", "by 2 processes", "hint: end every server")
	one()
	rotate(statusFailed, "servers run", "by 1 processes")
	kinds("file")
	two()
	end, err := a.alone(ctx, dir, dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.claim(ctx, dir, dsn, log, ends); err == nil || !strings.Contains(err.Error(), "are being moved") {
		t.Errorf("a server that starts meanwhile: found %v", err)
	}
	rotate(statusFailed, "another process moves the keys")
	end()
	rotate(statusDone, "protected by passphrase")
	kinds("passphrase")

	// A server that the database has forgotten ends where the keys are moved meanwhile.
	three, err := a.claim(ctx, dir, dsn, log, ends)
	if err != nil {
		t.Fatal(err)
	}
	defer three()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'donjon-steward-serving'"); err != nil {
		t.Fatal(err)
	}
	for {
		if end, err = a.alone(ctx, dir, dsn); err == nil {
			break
		} else if !strings.Contains(err.Error(), "servers run") {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // its server process needs a moment to end
	}
	if err := <-moved; !strings.Contains(err.Error(), "are being moved") {
		t.Errorf("found %v", err)
	}
	end()
}

// A move that was cut off leaves rows under a key that lies there, and that the new
// settings do not open: another rotation gives none of them up, and the move is finished.
func TestRotateBesideCutMove(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	words := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(words, []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := testApp()
	a.getenv = func(name string) string { return map[string]string{passphraseVariable: words}[name] }
	open := func(o stateOptions, f func(*state) error) error {
		t.Helper()
		s, err := a.openState(ctx, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		return f(s)
	}
	passphrase := &sealingSettings{Kind: sealing.KindPassphrase}
	err := open(stateOptions{create: true, serving: &serving{}, sealing: &sealingSettings{Kind: sealing.KindFile}}, func(s *state) error {
		if err := s.publish(); err != nil {
			return err
		}
		return s.store.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("p")}, store.Actor{Who: "t", At: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = open(stateOptions{move: passphrase}, func(s *state) error { _, err := s.ring.Rotate(); return err }) // and no further
	if err != nil {
		t.Fatal(err)
	}
	err = open(stateOptions{create: true, serving: &serving{}, sealing: passphrase}, func(s *state) error {
		if _, err := s.store.Policy(ctx, "w"); !errors.Is(err, store.ErrKey) || errors.Is(err, store.ErrTampered) {
			t.Errorf("under a key of another kind: found %v, wanted that it cannot be told", err)
		}
		if err := s.publish(); err != nil { // as a server does that starts
			t.Fatal(err)
		}
		return s.rotateSealing(ctx)
	})
	if err == nil {
		t.Error("a rotation went on without a key that lies there")
	}
	err = open(stateOptions{move: passphrase}, func(s *state) error { return s.rotateSealing(ctx) })
	if err != nil {
		t.Fatal(err)
	}
	err = open(stateOptions{sealing: passphrase}, func(s *state) error { _, err := s.store.Policy(ctx, "w"); return err })
	if err != nil {
		t.Errorf("after the move was finished: %v", err)
	}
}

// What the keys before a move are read with.
func TestMoveFrom(t *testing.T) {
	file, keep, token := &sealingSettings{Kind: sealing.KindFile}, &sealingSettings{Kind: sealing.KindKeep}, &sealingSettings{Kind: sealing.KindPKCS11}
	for _, c := range []struct {
		name         string
		recorded, to *sealingSettings
		files        []string
		want         string
	}{
		{"nothing is recorded", nil, keep, []string{"key"}, sealing.KindFile},
		{"as recorded", token, keep, []string{"p11"}, sealing.KindPKCS11},
		{"from Keep to Keep", keep, keep, []string{"keep"}, sealing.KindKeep},
		{"cut off, and served since", keep, keep, []string{"key", "keep"}, sealing.KindFile},
		{"back", keep, file, []string{"key", "keep"}, sealing.KindKeep},
	} {
		dir := t.TempDir()
		for i, end := range c.files {
			if err := os.WriteFile(filepath.Join(dir, strings.Repeat(string(rune('a'+i)), 16)+"."+end), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := sealing.Kinds(dir); err != nil || len(got) != len(c.files) {
			t.Fatalf("%s: found the kinds %q, %v", c.name, got, err)
		}
		if got := c.to.from(c.recorded, dir); got.Kind != c.want {
			t.Errorf("%s: found %s, wanted %s", c.name, got.Kind, c.want)
		}
	}
}

func testState(t *testing.T, a *app, dir string) *state {
	t.Helper()
	s, err := a.openState(context.Background(), dir, stateOptions{create: true, serving: &serving{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDatabaseWithoutItsKeys(t *testing.T) {
	a, out := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	key := store.SecretKey{Workload: "sha256:" + strings.Repeat("0", 64), Name: "a"}
	sealed, id, err := ringSealer{s.ring}.Seal(key, 1, audit.Digest{1}, []byte("x"))
	if err == nil {
		err = s.store.PutSecret(ctx, store.Secret{SecretKey: key, Version: 1, Sealed: sealed, KeyID: id, Policy: [32]byte{1}}, store.Actor{Who: "t", At: time.Now()})
	}
	if err == nil {
		err = a.sealedElsewhere(ctx, s)
	}
	if err != nil || strings.Contains(out.String(), "cannot be opened") {
		t.Fatalf("found %v, %s", err, out)
	}
	s.close()
	if err := os.RemoveAll(filepath.Join(dir, stewardKeys, "sealing")); err != nil {
		t.Fatal(err)
	}
	s = testState(t, a, dir)
	if err := a.sealedElsewhere(ctx, s); err != nil || !strings.Contains(out.String(), "1 secrets cannot be opened") {
		t.Errorf("without the sealing keys: found %v, %q", err, out)
	}
	s.close()
	if err := os.RemoveAll(filepath.Join(dir, stewardKeys)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.openState(ctx, dir, stateOptions{create: true, serving: &serving{}}); err == nil {
		t.Error("without any keys: new ones were made")
	}
	if _, err := os.Stat(filepath.Join(dir, stewardKeys)); err == nil {
		t.Error("a folder of new keys is there")
	}
}

// A first start that was cut off between the file and the database leaves no token
// that nobody knows.
func TestFirstTokenAfterACut(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, dir)
	defer s.close()
	if err := os.WriteFile(filepath.Join(dir, stewardToken), []byte("donjon-steward-unknown\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, made := range []bool{true, false} {
		if got, err := s.firstToken(ctx); err != nil || got != made {
			t.Fatalf("start %d: found %v, %v", i, got, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, stewardToken))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.store.TokenByHash(ctx, server.TokenHash(strings.TrimSpace(string(text)))); err != nil {
			t.Errorf("start %d: the file's token: %v", i, err)
		}
	}
}

// After a restore the other verbs find the database that was restored into.
func TestRestoreSaysWhichDatabase(t *testing.T) {
	a, _ := testApp()
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "S")
	s := testState(t, a, filepath.Join(t.TempDir(), "old"))
	var backup bytes.Buffer
	if err := s.store.Backup(ctx, &backup); err != nil {
		t.Fatal(err)
	}
	s.close()
	// How serve ran here before: on a database that is not this one.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh := testState(t, a, dir)
	fresh.serving = serving{Listen: "127.0.0.1:1", AllowSimulated: true, Database: "postgres://nowhere.invalid/db"}
	if err := fresh.publish(); err != nil {
		t.Fatal(err)
	}
	fresh.close()
	for _, name := range []string{stewardDB, stewardDB + "-wal", stewardDB + "-shm"} {
		_ = os.Remove(filepath.Join(dir, name))
	}
	if err := a.stewardRestore(dir, "", nil, &backup); err != nil {
		t.Fatal(err)
	}
	got, err := a.openState(ctx, dir, stateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.close()
	if e, err := got.store.Epoch(ctx); err != nil || e.Number != 2 || e.Confirmed || !got.serving.AllowSimulated {
		t.Errorf("found %+v, %v, %+v", e, err, got.serving)
	}
}
