package server

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/store"
)

// TokenPrefix begins an administrator's token; 64 hexadecimal digits follow.
const TokenPrefix = "donjon-steward-"

// IsToken says whether a text has the form of a token.
func IsToken(text string) bool {
	rest, ok := strings.CutPrefix(text, TokenPrefix)
	b, err := hex.DecodeString(rest)
	return ok && err == nil && len(b) == 32
}

// NewToken makes an administrator's token: its text, which is shown once, and what
// the store keeps.
func NewToken(name string, scopes []store.Scope, expires time.Time) (text string, t store.Token) {
	b := make([]byte, 32)
	rand.Read(b)
	id := make([]byte, 4)
	rand.Read(id)
	text = TokenPrefix + hex.EncodeToString(b)
	return text, store.Token{ID: hex.EncodeToString(id), Name: name, Hash: TokenHash(text), Scopes: scopes, Expires: expires}
}

// TokenCreate asks for a token.
type TokenCreate struct {
	Name    string        `json:"name"`
	Scopes  []store.Scope `json:"scopes"`
	Expires time.Time     `json:"expires,omitzero"`
}

// TokenView is a token as administrators see it; Token alone is its text, once.
type TokenView struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Scopes  []store.Scope `json:"scopes"`
	Created time.Time     `json:"created"`
	By      string        `json:"by"`
	Expires time.Time     `json:"expires,omitzero"`
	Revoked time.Time     `json:"revoked,omitzero"`
	Doubt   string        `json:"doubt,omitempty"` // unproven, forged, unchecked: it is good for nothing
	Token   string        `json:"token,omitempty"`
}

func tokenView(t store.Token) TokenView {
	return TokenView{ID: t.ID, Name: t.Name, Scopes: t.Scopes, Created: t.Created, By: t.By, Expires: t.Expires, Revoked: t.Revoked, Doubt: t.Doubt}
}

func (s *Server) listTokens(w http.ResponseWriter, r *http.Request) {
	list, err := s.o.Store.Tokens(r.Context())
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	out := make([]TokenView, 0, len(list))
	for _, t := range list {
		out = append(out, tokenView(t))
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) createToken(w http.ResponseWriter, r *http.Request) {
	var body TokenCreate
	if !s.readJSON(w, r, 4096, &body) {
		return
	}
	bad := ""
	for _, x := range body.Scopes {
		if !slices.Contains(AllScopes(), x) {
			bad = fmt.Sprintf("found the scope %q, wanted some of %v", x, AllScopes())
		}
	}
	switch {
	case len(body.Scopes) == 0:
		bad = fmt.Sprintf("no scopes, wanted some of %v", AllScopes())
	case body.Name == "" || len(body.Name) > 128:
		bad = "name: wanted 1 to 128 bytes"
	case !body.Expires.IsZero() && !body.Expires.After(s.o.Clock()):
		bad = "expires: found a time that has passed"
	}
	if bad != "" {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), bad)
		return
	}
	text, t := NewToken(body.Name, body.Scopes, body.Expires)
	actor := s.actor(r)
	t.Created, t.By = actor.At, actor.Who
	if err := s.o.Store.PutToken(r.Context(), t, actor); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	v := tokenView(t)
	v.Token = text
	writeJSON(w, http.StatusCreated, v)
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) {
	if err := s.o.Store.RevokeToken(r.Context(), r.PathValue("id"), s.actor(r)); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
