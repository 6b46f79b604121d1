//go:build linux

package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/web"
)

// What a state folder holds.
const (
	stewardDB       = "steward.db"
	stewardKeys     = "keys"
	stewardCA       = "ca.pem"
	stewardEnarxCA  = "enarx-ca.pem"
	stewardAuditKey = "audit-key.pem"
	stewardToken    = "admin.token"
	stewardConfig   = "steward.toml"
	stewardLock     = "serving.lock" // held by the server that runs
	stewardServing  = "serving.json" // how serve was last started: what the other verbs must know
)

// serving is what the other verbs must know of the server.
type serving struct {
	Listen         string   `json:"listen"`
	Names          []string `json:"names"`
	AllowSimulated bool     `json:"allow_simulated"`
	TrustDomain    string   `json:"trust_domain"`
	Database       string   `json:"database,omitempty"` // a PostgreSQL URL; "": steward.db

	Sealing *sealingSettings `json:"sealing,omitempty"` // nil: file or passphrase
}

// stateOptions say how a state folder is opened.
type stateOptions struct {
	create  bool             // make what is not there
	restore bool             // an empty database is what is wanted
	serving *serving         // nil: as serve was last started
	sealing *sealingSettings // nil: as in serving
	move    *sealingSettings // to these, from those; nil: no move
	// unsealed goes on where the sealing keys cannot be used, with state.noRing saying why:
	// for looking at what needs none of them.
	unsealed bool
}

// state is an open state folder.
type state struct {
	dir       string
	serving   serving
	authority *authority.Authority
	store     store.Store
	ring      *sealing.Ring
	noRing    error // why there is none, of an unsealed state
	// sealedFirst says that the first sealing key was made in a Keep now.
	sealedFirst bool
	names       authority.Names
	collateral  atomic.Pointer[collateral.Set]
	enarx       *enrol.Enarx
	limits      server.Limits
	retention   time.Duration        // of decisions; 0: for ever
	seen        collateral.HighWater // collateral (THREATS T25); the server keeps it in the store
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }
func (s *state) close() {
	_ = s.store.Close()
	if s.ring != nil {
		s.ring.Close()
	}
}

func (a *app) openState(ctx context.Context, dir string, o stateOptions) (*state, error) {
	s := &state{dir: dir}
	if !o.create {
		if _, err := os.Stat(s.path(stewardKeys)); errors.Is(err, fs.ErrNotExist) {
			return nil, failHint(statusFailed, "donjon steward serve --state "+dir+" makes one", fmt.Errorf("%s is no Steward's state folder", dir))
		}
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, folderError(dir, err)
	} else if err := s.keysGone(); err != nil {
		return nil, err
	}
	if o.serving != nil {
		s.serving = *o.serving
	} else if err := s.readServing(); err != nil {
		return nil, err
	}
	var err error
	if s.names, err = authority.OwnNames(s.serving.Names); err != nil {
		return nil, fail(statusUsage, err)
	}
	if s.authority, err = authority.Open(authority.Options{Dir: s.path(stewardKeys)}); err != nil {
		return nil, folderError(dir, err)
	}
	if err := a.openRing(s, o); err != nil {
		if !o.unsealed {
			return nil, err
		}
		s.noRing = err
	}
	if !o.restore {
		if err := s.databaseGone(); err != nil {
			return nil, err
		}
	}
	var guard store.Options
	if s.ring != nil {
		guard.Guard = ringGuard{s.ring}
	}
	if s.serving.Database != "" {
		s.store, err = store.OpenPostgres(ctx, s.serving.Database, guard)
	} else {
		s.store, err = store.OpenSQLite(ctx, s.path(stewardDB), guard)
	}
	if err != nil {
		return nil, s.databaseError(err)
	}
	return s, nil
}

// databaseError says what to do about a database that cannot be opened.
func (s *state) databaseError(err error) error {
	hint, where := "", s.path(stewardDB)
	if s.serving.Database != "" {
		where = "the server's data folder"
	}
	left, known := room(s.dir)
	switch {
	case errors.Is(err, store.ErrDamaged) && s.serving.Database != "":
		hint = "PostgreSQL's log says more: restore the database from its own backups, or an empty one from donjon steward restore"
	case errors.Is(err, store.ErrDamaged):
		hint = fmt.Sprintf("no server must run; move %[1]s, %[1]s-wal and %[1]s-shm away (keep them: they are evidence), then donjon steward restore --state %[2]s BACKUP with the newest backup, and confirm", where, s.dir)
	case errors.Is(err, store.ErrFull):
		hint = "make room where " + where + " is; what was answered is not lost"
	case errors.Is(err, store.ErrReadOnly):
		hint = fmt.Sprintf("%s and the folder it is in must belong to the user that runs this, mode 0600 and 0700, on a file system that is mounted for writing", where)
	}
	if hint == "" && s.serving.Database == "" && known && left < 1<<20 {
		hint = fmt.Sprintf("%d KiB are left where %s is: make room; what was answered is not lost", left>>10, where)
	}
	return failHint(statusFailed, hint, fmt.Errorf("the Steward's database: %w", err))
}

// room is how many bytes are left for this user on a folder's file system.
func room(dir string) (int64, bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true
}

// folderError says what to do where a file of the state folder cannot be written.
func folderError(dir string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		hint = dir + " and what is in it must belong to the user that runs this, on a file system that is mounted for writing"
	} else if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		hint = "make room where " + dir + " is"
	}
	return failHint(statusFailed, hint, err)
}

// databaseGone refuses a SQLite state whose database was there once: a new, empty one
// would begin another audit log, and nobody would notice.
func (s *state) databaseGone() error {
	b, err := os.ReadFile(s.path(stewardServing))
	var before serving
	if err != nil || json.Unmarshal(b, &before) != nil || before.Database != "" || s.serving.Database != "" {
		return nil // the first start, or one on another database
	}
	if st, err := os.Stat(s.path(stewardDB)); err == nil && st.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return failHint(statusFailed, fmt.Sprintf("donjon steward restore --state %s BACKUP restores a backup; where an empty database is wanted, with a new audit log, remove %s", s.dir, s.path(stewardServing)),
		fmt.Errorf("%s is gone or empty, and this Steward had one", s.path(stewardDB)))
}

// keysGone refuses a state whose database outlived its keys: new ones would be pinned
// by no workload and open no secret.
func (s *state) keysGone() error {
	if _, err := os.Stat(s.path(stewardKeys)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range []string{stewardDB, stewardServing} {
		if _, err := os.Stat(s.path(name)); err == nil {
			return failHint(statusFailed, "put back a copy of the folder; for new keys, which are a new ca.pem in every workload, name another --state",
				fmt.Errorf("%s is gone, and %s is here", s.path(stewardKeys), name))
		}
	}
	return nil
}

func (s *state) readServing() error {
	b, err := os.ReadFile(s.path(stewardServing))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail(statusFailed, err)
	}
	if err := json.Unmarshal(b, &s.serving); err != nil {
		return failHint(statusFailed, "donjon steward serve writes it anew", fmt.Errorf("%s: %w", s.path(stewardServing), err))
	}
	return nil
}

// server makes the Server over the state.
func (s *state) server(ctx context.Context, log *slog.Logger) (*server.Server, error) {
	var seal server.Sealer
	if s.ring != nil {
		seal = ringSealer{s.ring}
	}
	return server.New(ctx, server.Options{Store: s.store, Authority: s.authority, Names: s.names, Seal: seal, AllowSimulated: s.serving.AllowSimulated,
		TrustDomain: s.serving.TrustDomain, Collateral: s.collateral.Load, Seen: &s.seen, Enarx: s.enarx, Limits: s.limits, Log: log, Build: buildVersion().Version, Web: s.pages(log), Publish: s.publishRoots, Retention: s.retention})
}

// pages makes the web pages of the Server; without a log there is no server, and no
// pages.
func (s *state) pages(log *slog.Logger) func(*server.Server) http.Handler {
	if log == nil {
		return nil
	}
	return func(srv *server.Server) http.Handler {
		return web.New(web.Options{Store: s.store, TokenHash: server.TokenHash, Confirmed: ringSealer{s.ring}.Confirmed, AllowSimulated: s.serving.AllowSimulated, Log: log,
			Collateral: func(context.Context) ([]collateral.Line, error) {
				var b collateral.Bundle
				if set := s.collateral.Load(); set != nil {
					b.Add(set, time.Time{})
				}
				return b.Summary(time.Now()), nil
			},
			Verify: func(_ context.Context, x web.Submission) *verdict.Verdict {
				return srv.Appraise(x.Evidence, x.Collateral)
			}})
	}
}

// publish writes what others read: the roots, the audit log's public key, and how the
// server is started.
func (s *state) publish() error {
	if err := s.publishRoots(); err != nil {
		return err
	}
	return s.writeServing()
}

// publishRoots writes what comes of the keys: the roots, and the audit log's public key.
func (s *state) publishRoots() error {
	if err := s.authority.WriteCA(s.path(stewardCA)); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&s.authority.AuditKey().PublicKey)
	if err != nil {
		return err
	}
	files := map[string][]byte{stewardAuditKey: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
	if s.enarx != nil {
		files[stewardEnarxCA] = s.authority.EnarxPEM()
	}
	for name, b := range files {
		if err := authority.WriteFile(s.path(name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) writeServing() error {
	b, err := json.MarshalIndent(s.serving, "", "  ")
	if err != nil {
		return err
	}
	return authority.WriteFile(s.path(stewardServing), append(b, '\n'), 0o600)
}

// firstToken makes the first administrator's token where there is none. It says
// whether it did. Of many that start at once on one folder, or on one database, one
// makes it.
func (s *state) firstToken(ctx context.Context) (bool, error) {
	dir, err := os.Open(s.dir)
	if err != nil {
		return false, err
	}
	defer dir.Close() // which unlocks
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return false, fmt.Errorf("locking %s: %w", s.dir, err)
	}
	list, err := s.store.Tokens(ctx)
	if err != nil {
		return false, err
	}
	if len(list) > 0 {
		return false, nil // it was taken away: whoever did has it
	}
	now := time.Now()
	text, t := server.NewToken("first administrator", server.AllScopes(), time.Time{})
	t.Created, t.By = now, "serve"
	// A file that is here already is from a start that was cut off: the database knows no
	// token at all.
	if err := authority.WriteFile(s.path(stewardToken), []byte(text+"\n"), 0o600); err != nil {
		return false, err
	}
	err = s.store.PutFirstToken(ctx, t, store.Actor{Who: "serve", At: now})
	if errors.Is(err, store.ErrConflict) { // another server on the database, from a folder of its own, was first
		return false, os.Remove(s.path(stewardToken))
	}
	return err == nil, err
}
