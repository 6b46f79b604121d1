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
	serving *serving         // nil: as serve was last started
	sealing *sealingSettings // nil: as in serving
	move    *sealingSettings // to these, from those; nil: no move
}

// state is an open state folder.
type state struct {
	dir       string
	serving   serving
	authority *authority.Authority
	store     store.Store
	ring      *sealing.Ring
	// sealedFirst says that the first sealing key was made in a Keep now.
	sealedFirst bool
	names       authority.Names
	collateral  atomic.Pointer[collateral.Set]
	enarx       *enrol.Enarx
	limits      server.Limits
	seen        collateral.HighWater // collateral, since the process began (THREATS T25)
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }
func (s *state) close() {
	_ = s.store.Close()
	s.ring.Close()
}

func (a *app) openState(ctx context.Context, dir string, o stateOptions) (*state, error) {
	s := &state{dir: dir}
	if !o.create {
		if _, err := os.Stat(s.path(stewardKeys)); errors.Is(err, fs.ErrNotExist) {
			return nil, failHint(statusFailed, "donjon steward serve --state "+dir+" makes one", fmt.Errorf("%s is no Steward's state folder", dir))
		}
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fail(statusFailed, err)
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
		return nil, fail(statusFailed, err)
	}
	if o.sealing == nil {
		o.sealing = s.serving.Sealing
	}
	if o.move != nil && o.sealing == nil {
		o.sealing = o.move.before(sealingDir(s.path(stewardKeys)))
	}
	keys, err := a.sealingConfig(o.sealing, s.path(stewardKeys))
	if err == nil && o.move != nil {
		from := keys
		keys, err = a.sealingConfig(o.move, s.path(stewardKeys))
		keys.From = &from
		o.sealing = o.move
	}
	if err != nil {
		return nil, err
	}
	s.serving.Sealing = nil
	if o.sealing != nil {
		s.serving.Sealing = o.sealing.recorded()
	}
	if !o.create {
		if err := firstKeyThere(dir, keys.Dir); err != nil {
			return nil, err
		}
	}
	if keys.Keep != nil {
		// Whoever lets policies admit simulated evidence has allowed this too.
		keys.Keep.AllowSimulated = keys.Keep.AllowSimulated || s.serving.AllowSimulated
		if keys.Lazy = !o.create && o.move == nil; keys.Lazy { // a verb that needs no key starts no Keep
			keys.Keep.Use = a.saysWhy(keys.Keep.Use)
		}
		s.sealedFirst = notThere(filepath.Join(keys.Dir, sealing.Current))
	}
	if keys.From != nil && keys.From.Keep != nil {
		keys.From.Keep.AllowSimulated = keys.From.Keep.AllowSimulated || s.serving.AllowSimulated
	}
	s.ring, err = sealing.Open(keys)
	for _, c := range []*sealing.Config{&keys, keys.From} {
		if c != nil {
			clear(c.Token.PIN)
			clear(c.Passphrase)
		}
	}
	if err != nil {
		return nil, sealingError(err, keys.Dir)
	}
	if s.serving.Database != "" {
		s.store, err = store.OpenPostgres(ctx, s.serving.Database, store.Options{})
	} else {
		s.store, err = store.OpenSQLite(ctx, s.path(stewardDB), store.Options{})
	}
	if err != nil {
		return nil, fail(statusFailed, fmt.Errorf("the Steward's database: %w", err))
	}
	return s, nil
}

// firstKeyThere refuses to go on where opening the keys would make the first one: a verb
// knows no steward.toml, and that key would not be protected as it says.
func firstKeyThere(dir, keys string) error {
	if !notThere(filepath.Join(keys, sealing.Current)) {
		return nil
	}
	return failHint(statusFailed, "donjon steward serve --state "+dir+" makes the first", fmt.Errorf("%s holds no key that seals secrets", keys))
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
	return server.New(ctx, server.Options{Store: s.store, Authority: s.authority, Names: s.names, Seal: ringSealer{s.ring}, AllowSimulated: s.serving.AllowSimulated,
		TrustDomain: s.serving.TrustDomain, Collateral: s.collateral.Load, Seen: &s.seen, Enarx: s.enarx, Limits: s.limits, Log: log, Build: buildVersion().Version, Web: s.pages(log)})
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
	return s.writeServing()
}

func (s *state) writeServing() error {
	b, err := json.MarshalIndent(s.serving, "", "  ")
	if err != nil {
		return err
	}
	return authority.WriteFile(s.path(stewardServing), append(b, '\n'), 0o600)
}

// firstToken makes the first administrator's token where there is none. It says
// whether it did.
func (s *state) firstToken(ctx context.Context) (bool, error) {
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
	return true, s.store.PutToken(ctx, t, store.Actor{Who: "serve", At: now})
}
