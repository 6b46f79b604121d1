package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/store"
)

// adminRoute is a route for administrators, with the scope it needs.
type adminRoute struct {
	route string
	scope store.Scope
	f     http.HandlerFunc
}

func (s *Server) adminRoutes(m *http.ServeMux) {
	for _, r := range s.adminTable() {
		m.HandleFunc(r.route, s.authorised(r.scope, r.f))
	}
}

// adminTable is all of them: the tests walk it.
func (s *Server) adminTable() []adminRoute {
	return []adminRoute{
		{"GET /v1/admin/settings", store.ScopeRead, s.settings},
		{"GET /v1/admin/workloads", store.ScopeRead, s.listWorkloads},
		{"PUT /v1/admin/workloads/{digest}", store.ScopePolicy, s.putWorkload},
		{"DELETE /v1/admin/workloads/{digest}", store.ScopePolicy, s.removeWorkload},
		{"GET /v1/admin/workloads/{digest}/leases", store.ScopeRead, s.listLeases},
		{"DELETE /v1/admin/workloads/{digest}/leases/{instance}", store.ScopePolicy, s.endLease},
		{"GET /v1/admin/policies", store.ScopeRead, s.listPolicies},
		{"GET /v1/admin/policies/{digest}", store.ScopeRead, s.getPolicy},
		{"GET /v1/admin/policies/{digest}/versions", store.ScopeRead, s.policyVersions},
		{"PUT /v1/admin/policies/{digest}", store.ScopePolicy, s.putPolicy},
		{"POST /v1/admin/policies/{digest}/test", store.ScopeRead, s.testPolicy},
		{"POST /v1/admin/policies/{digest}/diff", store.ScopeRead, s.diffPolicy},
		{"GET /v1/admin/secrets", store.ScopeRead, s.listSecrets},
		{"PUT /v1/admin/secrets/{digest}/{name}", store.ScopeSecret, s.putSecret},
		{"DELETE /v1/admin/secrets/{digest}/{name}", store.ScopeSecret, s.deleteSecret},
		{"POST /v1/admin/secrets/{digest}/{name}/confirm", store.ScopeSecret, s.confirmSecret},
		{"GET /v1/admin/decisions", store.ScopeRead, s.listDecisions},
		{"GET /v1/admin/decisions/{seq}", store.ScopeRead, s.getDecision},
		{"GET /v1/admin/certificates", store.ScopeRead, s.listCertificates},
		{"GET /v1/admin/audit/head", store.ScopeAudit, s.auditHead},
		{"GET /v1/admin/audit/export", store.ScopeAudit, s.auditExport},
		{"GET /v1/admin/backup", store.ScopeAdmin, s.backup},
		{"GET /v1/admin/epoch", store.ScopeRead, s.getEpoch},
		{"POST /v1/admin/epoch/{number}/confirm", store.ScopeAdmin, s.confirmEpoch},
		{"GET /v1/admin/tokens", store.ScopeAdmin, s.listTokens},
		{"POST /v1/admin/tokens", store.ScopeAdmin, s.createToken},
		{"DELETE /v1/admin/tokens/{id}", store.ScopeAdmin, s.revokeToken},
	}
}

// AllScopes are those of the first administrator.
func AllScopes() []store.Scope {
	return []store.Scope{store.ScopeRead, store.ScopePolicy, store.ScopeSecret, store.ScopeAudit, store.ScopeAdmin}
}

// AsLocal marks a context as that of whoever owns the state folder: the command line
// asks the routes so, without a token. It cannot come from the network.
func AsLocal(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, keyActor, "local:"+who)
}

// authorised lets a request through that carries a token with the scope. Each
// refusal costs the client as a refused enrolment does.
func (s *Server) authorised(scope store.Scope, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if who, ok := r.Context().Value(keyActor).(string); ok && who != "" {
			next(w, r)
			return
		}
		if !s.admitClient(w, r, s.clients) {
			return
		}
		text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || text == "" || len(text) > 256 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="donjon steward"`)
			s.problem(w, r, http.StatusUnauthorized, "token", "no bearer token: the first one is in admin.token in the state folder")
			return
		}
		// The store has hashes alone, and is asked for equality of a hash: there is
		// nothing to learn from how long that takes.
		t, err := s.o.Store.TokenByHash(r.Context(), TokenHash(text))
		switch {
		case errors.Is(err, store.ErrNotFound):
			w.Header().Set("WWW-Authenticate", `Bearer realm="donjon steward", error="invalid_token"`)
			s.problem(w, r, http.StatusUnauthorized, "token", "the token is not one of this Steward's")
			return
		case errors.Is(err, store.ErrTampered):
			s.o.Log.Error("a token whose row in the database does not hold was shown", "client", r.RemoteAddr, "error", err)
			detail := "the token's row in the database is not one that this Steward wrote: donjon steward audit verify --state FOLDER, where the Steward is"
			if errors.Is(err, store.ErrUnproven) {
				detail = "the token is from before tokens were authenticated: donjon steward adopt --state FOLDER, where the Steward is, takes it over"
			}
			s.problem(w, r, http.StatusForbidden, "token", detail)
			return
		case err != nil:
			s.storeProblem(w, r, err)
			return
		}
		note(r, slog.String("token", t.ID))
		if !t.Has(scope, s.o.Clock()) {
			detail := "the token lacks the scope " + string(scope)
			if slices.Contains(t.Scopes, scope) {
				detail = "the token has ended"
			}
			s.problem(w, r, http.StatusForbidden, "scope", detail)
			return
		}
		// A token that was taken back may be back with a restored backup.
		if scope != store.ScopeRead && !s.enrol.Epoch().Confirmed {
			s.problem(w, r, http.StatusForbidden, string(enrol.CodeSuspended),
				"a backup was restored, with tokens that may have been taken back since: tokens only read before donjon steward confirm --state FOLDER, where the Steward is")
			return
		}
		next(w, r.WithContext(context.WithValue(r.Context(), keyActor, t.ID)))
	}
}

// TokenHash is what the store knows of a token.
func TokenHash(token string) [32]byte {
	return sha256.Sum256([]byte("donjon steward token/1\x00" + token))
}

func (s *Server) actor(r *http.Request) store.Actor {
	who, _ := r.Context().Value(keyActor).(string)
	return store.Actor{Who: who, At: s.o.Clock()}
}

// missing says what there is none of. The digest is a subject here, or the store would
// not have been asked.
func missing(r *http.Request) string {
	subject := r.PathValue("digest")
	if x, err := enrol.ParseSubject(subject); err == nil {
		subject = x
	}
	version := r.URL.Query().Get("version")
	switch number := r.PathValue("seq") + r.PathValue("number"); {
	case r.PathValue("name") != "":
		return "there is no secret " + r.PathValue("name") + " of " + subject
	case r.PathValue("instance") != "":
		return "no place of " + subject + " is held by the instance " + r.PathValue("instance")
	case subject != "" && version != "":
		return "there is no version " + version + " of a policy of " + subject
	case subject != "":
		return "there is no policy of " + subject + ": one changed byte makes another workload (donjon steward workload list)"
	case number != "":
		return "there is none with the number " + number
	case r.PathValue("id") != "":
		return "there is no token " + r.PathValue("id")
	}
	return "there is none"
}

// storeProblem answers with what the store said.
func (s *Server) storeProblem(w http.ResponseWriter, r *http.Request, err error) {
	note(r, slog.String("error", err.Error()))
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.problem(w, r, http.StatusNotFound, "not-found", missing(r))
	case errors.Is(err, store.ErrInvalid):
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
	case errors.Is(err, store.ErrConflict):
		s.problem(w, r, http.StatusConflict, "conflict", "somebody changed it meanwhile: read it again")
	case errors.Is(err, store.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		s.problem(w, r, http.StatusServiceUnavailable, string(enrol.CodeBusy), "the database is busy: try again")
	case errors.Is(err, store.ErrKey):
		s.problem(w, r, http.StatusServiceUnavailable, string(enrol.CodeInternal), "the key that authenticates the database's rows cannot be used: the log of the Steward says why")
	case errors.Is(err, store.ErrUnavailable):
		s.problem(w, r, http.StatusServiceUnavailable, string(enrol.CodeInternal), "the database cannot be reached")
	case errors.Is(err, store.ErrTampered):
		s.problem(w, r, http.StatusInternalServerError, "tampered", err.Error()+"; donjon steward audit verify --state FOLDER says more")
	default:
		s.problem(w, r, http.StatusInternalServerError, string(enrol.CodeInternal), "")
	}
}

// Settings are what the command line must know of a server to write policies.
type Settings struct {
	ID             string   `json:"id"`
	AllowSimulated bool     `json:"allow_simulated"`
	TrustDomain    string   `json:"trust_domain"`
	Names          []string `json:"names"` // its own host names
}

func (s *Server) settings(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, Settings{s.o.Authority.ID(), s.o.AllowSimulated, s.o.TrustDomain, s.o.Names.DNS()})
}
