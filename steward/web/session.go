package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
)

// The cookies. __Host- keeps them to this very host, over TLS, so that no
// neighbouring host can set or read one.
const (
	sessionCookie = "__Host-donjon-session"
	visitCookie   = "__Host-donjon-visit"
)

const (
	sessionLife = 8 * time.Hour
	maxSessions = 256
	idSize      = 32
)

// Session is somebody signed in. The cookie's id is not kept, only its hash.
type Session struct {
	Hash    [32]byte  `json:"hash"`  // of the id
	Token   [32]byte  `json:"token"` // the administrator's token, as Options.TokenHash gives it
	Expires time.Time `json:"expires"`
}

// Sessions keeps who is signed in.
type Sessions interface {
	// Add keeps a session, and may forget those that ended before now or, past a
	// bound, the one that ends next.
	Add(ctx context.Context, s Session, now time.Time) error
	// Find gives the session with the hash, ended or not; nil: there is none.
	Find(ctx context.Context, hash [32]byte) (*Session, error)
	Remove(ctx context.Context, hash [32]byte) error
}

// storeSessions keeps the sessions in one value of the store, so that replicas share
// them and a restart ends none.
type storeSessions struct{ store Store }

const sessionsKey = "web/sessions"

func (t storeSessions) load(ctx context.Context) ([]Session, uint64, error) {
	v, err := t.store.Value(ctx, sessionsKey)
	if errors.Is(err, store.ErrNotFound) || err == nil && v == nil {
		return nil, 0, nil
	}
	if errors.Is(err, store.ErrTampered) && v != nil {
		return nil, v.Version, nil // nobody is signed in
	}
	if err != nil {
		return nil, 0, err
	}
	var list []Session
	if err := json.Unmarshal(v.Data, &list); err != nil {
		return nil, v.Version, nil // nobody is signed in
	}
	return list, v.Version, nil
}

// change edits the list, once more where another replica did so at the same time.
func (t storeSessions) change(ctx context.Context, edit func([]Session) []Session) error {
	for range 5 {
		list, version, err := t.load(ctx)
		if err != nil {
			return err
		}
		data, err := json.Marshal(edit(list))
		if err != nil {
			return err
		}
		if err = t.store.PutValue(ctx, sessionsKey, store.Value{Data: data, Version: version + 1}); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("web: sessions: %w", store.ErrBusy)
}

func (t storeSessions) Add(ctx context.Context, s Session, now time.Time) error {
	return t.change(ctx, func(list []Session) []Session {
		list = slices.DeleteFunc(list, func(o Session) bool { return !now.Before(o.Expires) })
		slices.SortFunc(list, func(a, b Session) int { return a.Expires.Compare(b.Expires) })
		if n := len(list) - maxSessions + 1; n > 0 {
			list = list[n:]
		}
		return append(list, s)
	})
}

func (t storeSessions) Find(ctx context.Context, hash [32]byte) (*Session, error) {
	list, _, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	var found *Session
	for i := range list {
		if subtle.ConstantTimeCompare(list[i].Hash[:], hash[:]) == 1 {
			found = &list[i]
		}
	}
	return found, nil
}

func (t storeSessions) Remove(ctx context.Context, hash [32]byte) error {
	return t.change(ctx, func(list []Session) []Session {
		return slices.DeleteFunc(list, func(o Session) bool { return o.Hash == hash })
	})
}

// admin is who is signed in.
type admin struct {
	id    []byte // of the session
	hash  [32]byte
	token string // its id
	Name  string
}

// administrator gives who is signed in, nil where nobody is. The token is looked up
// each time: one that was revoked or has expired ends its sessions.
func (s *site) administrator(r *http.Request) (*admin, error) {
	id := cookieBytes(r, sessionCookie)
	if id == nil {
		return nil, nil
	}
	a := &admin{id: id, hash: sessionHash(id)}
	sess, err := s.Sessions.Find(r.Context(), a.hash)
	if err != nil || sess == nil || !s.Now().Before(sess.Expires) {
		return nil, err
	}
	t, err := s.token(r.Context(), sess.Token)
	if err != nil || t == nil {
		return nil, err
	}
	a.token = t.ID
	if a.Name = t.Name; a.Name == "" {
		a.Name = t.ID
	}
	return a, nil
}

// token gives the token with this hash where it may read now, else nil.
func (s *site) token(ctx context.Context, hash [32]byte) (*store.Token, error) {
	t, err := s.Store.TokenByHash(ctx, hash)
	if errors.Is(err, store.ErrNotFound) || err == nil && t == nil {
		return nil, nil
	}
	if errors.Is(err, store.ErrTampered) {
		s.Log.Error("a token whose row in the database does not hold was shown", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(t.Hash[:], hash[:]) != 1 || !t.Has(store.ScopeRead, s.Now()) {
		return nil, nil
	}
	return t, nil
}

func sessionHash(id []byte) [32]byte {
	return sha256.Sum256(append([]byte("donjon steward web session/1\x00"), id...))
}

func (s *site) newID() ([]byte, error) {
	id := make([]byte, idSize)
	_, err := io.ReadFull(s.Random, id)
	return id, err
}

// cookieBytes is a cookie's id; nil where there is none, or more than one, or it is
// not in its form.
func cookieBytes(r *http.Request, name string) []byte {
	list := r.CookiesNamed(name)
	if len(list) != 1 {
		return nil
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(list[0].Value)
	if err != nil || len(id) != idSize {
		return nil
	}
	return id
}

func setCookie(w http.ResponseWriter, name string, id []byte) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: base64.RawURLEncoding.EncodeToString(id), Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteStrictMode})
}

func dropCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// formToken is the hidden field that shows a form came from a page of this site: a
// MAC of where it goes, under the id in the cookie. It needs no state, and replicas
// agree on it.
func formToken(id []byte, action string) string {
	m := hmac.New(sha256.New, id)
	m.Write([]byte("donjon steward web form/1\x00" + action))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func formTokenHolds(id []byte, action, token string) bool {
	return id != nil && subtle.ConstantTimeCompare([]byte(formToken(id, action)), []byte(token)) == 1
}

// visit is the hidden field of a form that needs no sign-in; its cookie is set where
// there is none.
func (s *site) visit(w http.ResponseWriter, r *http.Request, action string) (string, error) {
	id := cookieBytes(r, visitCookie)
	if id == nil {
		var err error
		if id, err = s.newID(); err != nil {
			return "", err
		}
		setCookie(w, visitCookie, id)
	}
	return formToken(id, action), nil
}
