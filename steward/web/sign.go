package web

import (
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

type signInView struct {
	Form, Next, Message string
}

// signedIn lets administrators through and sends others to sign in, before anything
// is looked up.
func signedIn(next func(*site, http.ResponseWriter, *http.Request)) func(*site, http.ResponseWriter, *http.Request) {
	return func(s *site, w http.ResponseWriter, r *http.Request) {
		a, err := s.administrator(r)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case a == nil && r.Method == http.MethodGet || a == nil && r.Method == http.MethodHead:
			to := "/sign-in"
			if here := r.URL.Path; isNext(here) {
				to += "?next=" + here
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
		case a == nil:
			s.problem(w, r, http.StatusForbidden, "Nobody is signed in", "Sign in first.")
		default:
			next(s, w, r.WithContext(withAdmin(r.Context(), a)))
		}
	}
}

// isNext says whether a sign-in may lead there: a page of this site, nothing else.
func isNext(path string) bool { return afterSignIn().MatchString(path) }

var afterSignIn = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^/(decisions(/[0-9]{1,20})?|workloads(/sha256:[0-9a-f]{64})?|certificates|collateral)$`)
})

func (s *site) signInForm(w http.ResponseWriter, r *http.Request) {
	a, err := s.administrator(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if a != nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.showSignIn(w, r, http.StatusOK, r.URL.Query().Get("next"), "")
}

func (s *site) showSignIn(w http.ResponseWriter, r *http.Request, status int, next, message string) {
	form, err := s.visit(w, r, "/sign-in")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !isNext(next) {
		next = ""
	}
	s.show(w, r, status, "sign-in", page{Title: "Sign in", At: "sign-in", Body: signInView{form, next, message}})
}

// signIn exchanges an administrator's token for a session. What is wrong with a token
// is not said.
func (s *site) signIn(w http.ResponseWriter, r *http.Request) {
	client := s.Client(r)
	if wait, ok := s.signIns.take(client); !ok {
		retryAfter(w, wait)
		s.signInRefused(r, client, "too many tries")
		s.showSignIn(w, r, http.StatusTooManyRequests, "", "Too many tries. Wait a minute, then try again.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
	if err := r.ParseForm(); err != nil {
		s.showSignIn(w, r, http.StatusBadRequest, "", "The form did not arrive whole.")
		return
	}
	next := r.PostForm.Get("next")
	if !formTokenHolds(cookieBytes(r, visitCookie), "/sign-in", r.PostForm.Get("form")) {
		s.showSignIn(w, r, http.StatusForbidden, next, "This page was too old, or cookies are off. Try again.")
		return
	}
	hash := s.TokenHash(strings.TrimSpace(r.PostForm.Get("token")))
	t, err := s.token(r.Context(), hash)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if t == nil {
		s.signInRefused(r, client, "token")
		s.showSignIn(w, r, http.StatusForbidden, next, "No: this token is not known, has ended, or may not read.")
		return
	}
	id, err := s.newID()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	now := s.Now()
	if old := cookieBytes(r, sessionCookie); old != nil {
		if err := s.Sessions.Remove(r.Context(), sessionHash(old)); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	// In the log before there is a session: who looked is known, or nobody looks.
	if _, err := s.Store.Append(r.Context(), audit.Record{Kind: audit.SignIn, Text: audit.Clip(client)}, store.Actor{Who: t.ID, At: now}); err != nil {
		s.fail(w, r, err)
		return
	}
	if err := s.Sessions.Add(r.Context(), Session{Hash: sessionHash(id), Token: hash, Expires: now.Add(sessionLife)}, now); err != nil {
		s.fail(w, r, err)
		return
	}
	s.Log.Info("signed in", "client", verdict.Escape(client), "token", verdict.Escape(t.ID))
	dropCookie(w, visitCookie)
	setCookie(w, sessionCookie, id)
	if !isNext(next) {
		next = "/"
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// refusals bounds what refused sign-ins write into the audit log: 20 records at once
// and one more a minute, for all clients together. What is left out is counted, and the
// next record says it.
type refusals struct {
	limit *limiter
	mu    sync.Mutex
	left  uint64 // not in the log yet
}

// count counts a refusal; a number says that a record of so many is to be written.
func (f *refusals) count() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left++
	if _, ok := f.limit.take(""); !ok {
		return 0
	}
	n := f.left
	f.left = 0
	return n
}

func (s *site) signInRefused(r *http.Request, client, reason string) {
	s.Log.Warn("sign-in refused", "client", verdict.Escape(client), "reason", reason)
	n := s.refused.count()
	if n == 0 {
		return
	}
	if _, err := s.Store.Append(r.Context(), audit.Record{Kind: audit.SignInRefused, Text: reason, Version: n}, store.Actor{Who: audit.Clip(client), At: s.Now()}); err != nil {
		s.Log.Error("a refused sign-in is not in the audit log", "error", err)
	}
}

func (s *site) signOut(w http.ResponseWriter, r *http.Request) {
	a := adminOf(r.Context())
	r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
	if err := r.ParseForm(); err != nil || !formTokenHolds(a.id, "/sign-out", r.PostForm.Get("form")) {
		s.problem(w, r, http.StatusForbidden, "Not signed out", "The form did not come from a page of this site. Go back, reload, and try again.")
		return
	}
	if err := s.Sessions.Remove(r.Context(), a.hash); err != nil {
		s.fail(w, r, err)
		return
	}
	client := s.Client(r)
	s.Log.Info("signed out", "client", verdict.Escape(client), "token", verdict.Escape(a.token))
	if _, err := s.Store.Append(r.Context(), audit.Record{Kind: audit.SignOut, Text: audit.Clip(client)}, store.Actor{Who: a.token, At: s.Now()}); err != nil {
		s.Log.Error("a sign-out is not in the audit log", "error", err) // it has happened
	}
	dropCookie(w, sessionCookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
