package server

import (
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"log/slog"
	"net/http"

	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
)

// challenge gives a challenge. Nothing is stored, so that asking costs the Steward
// one hash.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	if !s.admitClient(w, r, s.clients) {
		return
	}
	var empty struct{}
	if !s.readJSON(w, r, 1024, &empty) {
		return
	}
	s.metrics.challenges.Inc()
	writeJSON(w, http.StatusOK, s.enrol.Challenge())
}

func (s *Server) enrolRequest(w http.ResponseWriter, r *http.Request) {
	if !s.admitClient(w, r, s.clients) {
		return
	}
	var body protocol.EnrolRequest
	if !s.readJSON(w, r, protocol.MaxRequest, &body) {
		return
	}
	if r.TLS == nil {
		s.problem(w, r, http.StatusForbidden, string(enrol.CodeBinding), "no TLS connection that evidence could be bound to")
		return
	}
	leave, err := s.gate.enter(r.Context())
	if err != nil {
		s.answer(w, r, enrol.ProblemFor(enrol.CodeBusy, requestID(r), err.Error()))
		return
	}
	defer leave()
	out := s.enrol.Enrol(r.Context(), &body, enrol.Peer{Address: r.RemoteAddr, Request: requestID(r),
		Exporter: func(challenge []byte) ([]byte, error) { return protocol.Exporter(r.TLS, challenge) }})
	s.account(r, out)
	if out.Problem != nil {
		s.answer(w, r, out.Problem)
		return
	}
	writeJSON(w, http.StatusOK, out.Response)
}

// account puts a decision into the log and the metrics.
func (s *Server) account(r *http.Request, out enrol.Result) {
	code, tee := "admitted", ""
	if out.Problem != nil {
		code = out.Problem.Code
	}
	if out.Verdict != nil {
		note(r, slog.String("outcome", string(out.Verdict.Outcome)))
		if c := out.Verdict.Claims; c != nil { // else nobody looked at the evidence
			tee = c.TEE
			note(r, slog.Bool("simulated", out.Verdict.Simulated))
		}
		if d := out.Verdict.Deciding(); len(d) > 0 {
			note(r, slog.String("check", string(d[0].Code)), slog.String("check_status", string(d[0].Status)))
		}
	}
	if out.Workload != "" {
		note(r, slog.String("workload", out.Workload))
	}
	if out.Receipt.Seq > 0 {
		note(r, slog.Uint64("decision", out.Receipt.Seq))
	}
	if out.Err != nil {
		note(r, slog.String("error", out.Err.Error()))
	}
	if out.Response != nil {
		note(r, slog.Int("secrets", out.Secrets), slog.Time("not_after", out.Response.NotAfter))
		s.metrics.released.Add(float64(out.Secrets))
	}
	s.metrics.decisions.WithLabelValues(code, tee).Inc()
}

func (s *Server) caPEM(w http.ResponseWriter, _ *http.Request) { writePEM(w, s.o.Authority.PEM()) }

// jwks are the keys that tokens (EAR) and audit heads are signed with (RFC 7517).
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	type jwk struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		Alg   string `json:"alg"`
		Use   string `json:"use"`
		ID    string `json:"kid"`
		X     string `json:"x"`
		Y     string `json:"y"`
	}
	of := func(key *ecdsa.PublicKey) (jwk, error) {
		point, err := key.Bytes()
		if err != nil {
			return jwk{}, err
		}
		id, err := authority.Thumbprint(key)
		enc := base64.RawURLEncoding.EncodeToString
		return jwk{"EC", "P-256", "ES256", "sig", enc(id), enc(point[1:33]), enc(point[33:65])}, err
	}
	token, err := of(&s.o.Authority.TokenKey().PublicKey)
	if err != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	writeAs(w, http.StatusOK, "application/jwk-set+json", map[string]any{"keys": []jwk{token}})
}

// ready says whether a request would be decided.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.closing.Load() {
		writeText(w, http.StatusServiceUnavailable, "shutting down\n")
		return
	}
	if _, err := s.pinged.ask(func(ctx context.Context) (struct{}, error) { return struct{}{}, s.o.Store.Ping(ctx) }); err != nil {
		note(r, slog.String("error", err.Error()))
		writeText(w, http.StatusServiceUnavailable, "the database cannot be reached\n")
		return
	}
	if !s.enrol.Epoch().Confirmed {
		writeText(w, http.StatusServiceUnavailable, "a backup was restored, and grants are not confirmed\n")
		return
	}
	writeText(w, http.StatusOK, "ok\n")
}
