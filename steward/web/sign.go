package web

import (
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/donjon-tee/donjon/attest/verdict"
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
		s.Log.Warn("sign-in refused", "client", verdict.Escape(client), "reason", "too many tries")
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
		s.Log.Warn("sign-in refused", "client", verdict.Escape(client), "reason", "token")
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
	dropCookie(w, sessionCookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
