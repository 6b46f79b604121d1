package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/store"
)

// DecisionView is a decision in a list.
type DecisionView struct {
	Seq       uint64          `json:"decision"`
	At        time.Time       `json:"at"`
	Workload  string          `json:"workload,omitempty"`
	Instance  string          `json:"instance,omitempty"`
	TEE       string          `json:"tee,omitempty"`
	Simulated bool            `json:"simulated"`
	Outcome   verdict.Outcome `json:"outcome"`
	Code      string          `json:"code,omitempty"`
	TCBStatus string          `json:"tcb_status,omitempty"`
	Platform  string          `json:"platform,omitempty"`
	Exposed   []string        `json:"exposed,omitempty"`
	Policy    uint64          `json:"policy_version,omitempty"`
	Request   string          `json:"request"`
	Client    string          `json:"client"`
}

func decisionView(d store.DecisionRow) DecisionView {
	return DecisionView{d.Seq, d.At, d.Workload, d.Instance, d.TEE, d.Simulated, d.Outcome, d.Code, d.TCBStatus, d.Platform, d.Exposed, d.Policy, d.Request, d.Who}
}

// times reads from and to of a query, RFC 3339.
func times(r *http.Request) (from, to time.Time, err error) {
	for name, t := range map[string]*time.Time{"from": &from, "to": &to} {
		if text := r.URL.Query().Get(name); text != "" {
			if *t, err = time.Parse(time.RFC3339, text); err != nil {
				return from, to, fmt.Errorf("%s: found %q, wanted RFC 3339", name, text)
			}
		}
	}
	return from, to, nil
}

func (s *Server) listDecisions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := store.DecisionFilter{Workload: q.Get("workload"), Instance: q.Get("instance"), TEE: q.Get("tee"), Outcome: verdict.Outcome(q.Get("outcome"))}
	var err error
	if f.From, f.To, err = times(r); err == nil {
		f.Limit, err = limitOf(r)
	}
	if text := q.Get("before"); text != "" && err == nil {
		if f.Before, err = strconv.ParseUint(text, 10, 63); err != nil {
			err = fmt.Errorf("before: found %q, wanted a decision's number", text)
		}
	}
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return
	}
	list, err := s.o.Store.Decisions(r.Context(), f)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	out := make([]DecisionView, 0, len(list))
	for _, d := range list {
		out = append(out, decisionView(d))
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) getDecision(w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 63)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "wanted a decision's number")
		return
	}
	d, err := s.o.Store.Decision(r.Context(), seq)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		DecisionView
		Hash    string          `json:"record_sha256"`
		Secrets []string        `json:"secrets,omitempty"` // released, name@version
		Serial  string          `json:"serial,omitempty"`
		Signed  *SignatureView  `json:"signed,omitempty"`
		Verdict json.RawMessage `json:"verdict,omitempty"`
	}{decisionView(d.DecisionRow), d.Hash.String(), d.Record.Secrets, hex.EncodeToString(d.Record.Serial), signatureOf(&d.Record), d.Detail})
}

// SignatureView is the workload's signature that a decision rests on, or that it
// refused although it verified.
type SignatureView struct {
	Signer  string `json:"signer"`
	Name    string `json:"name"`
	Version uint64 `json:"version"`
}

func signatureOf(r *audit.Record) *SignatureView {
	if r.Signer == "" {
		return nil
	}
	return &SignatureView{r.Signer, r.SignedName, r.SignedVersion}
}

// CertificateView is a certificate in a list.
type CertificateView struct {
	Serial    string    `json:"serial"`
	CA        string    `json:"ca"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Decision  uint64    `json:"decision"`
	Workload  string    `json:"workload,omitempty"`
	Instance  string    `json:"instance,omitempty"`
	TEE       string    `json:"tee,omitempty"`
	Simulated bool      `json:"simulated"`
	TCBStatus string    `json:"tcb_status,omitempty"`
	Platform  string    `json:"platform,omitempty"`
}

func (s *Server) listCertificates(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := store.CertificateFilter{Workload: q.Get("workload"), Instance: q.Get("instance"), Newest: q.Get("newest") == "true"}
	var err error
	if f.From, f.To, err = times(r); err == nil {
		f.Limit, err = limitOf(r)
	}
	if text := q.Get("after"); text != "" && err == nil {
		f.After, err = hex.DecodeString(text)
	}
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), err.Error())
		return
	}
	list, err := s.o.Store.Certificates(r.Context(), f)
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	out := make([]CertificateView, 0, len(list))
	for _, c := range list {
		out = append(out, CertificateView{hex.EncodeToString(c.Serial), c.CA, c.NotBefore, c.NotAfter, c.Seq, c.Workload, c.Instance, c.TEE, c.Simulated, c.TCBStatus, c.Platform})
	}
	writeJSON(w, http.StatusOK, out)
}

// signHead signs the log's end as it is now and keeps it beside the log.
func (s *Server) signHead(ctx context.Context) (*audit.Head, error) {
	end, err := s.o.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	return s.signEnd(ctx, end)
}

func (s *Server) signEnd(ctx context.Context, end store.Receipt) (*audit.Head, error) {
	h, err := audit.Sign(s.o.Authority.AuditKey(), s.o.Store.Log(), end.Epoch, end.Seq, end.Hash, s.o.Clock())
	if err != nil {
		return nil, err
	}
	b, err := h.Encode()
	if err != nil {
		return nil, err
	}
	return h, s.o.Store.PutHead(ctx, end.Seq, b)
}

func (s *Server) auditHead(w http.ResponseWriter, r *http.Request) {
	h, err := s.signHead(r.Context())
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	text, err := h.Text()
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"record": h.Seq, "record_sha256": h.Hash.String(), "epoch": h.Epoch, "at": h.At(), "head": text})
}

// auditExport streams the log with a signed head at its end (docs/steward-audit.md).
func (s *Server) auditExport(w http.ResponseWriter, r *http.Request) {
	if _, err := s.o.Store.Head(r.Context()); err != nil { // while it can be said
		s.storeProblem(w, r, err)
		return
	}
	s.unbounded(w)
	w.Header().Set("Content-Type", "application/vnd.donjon.audit")
	out := audit.NewWriter(w, s.o.Store.Log())
	end, err := s.o.Store.Records(r.Context(), out.Record)
	if err != nil {
		s.cutOff(r, err)
	}
	h, err := s.signEnd(r.Context(), end)
	if err == nil {
		err = out.Head(h)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		s.cutOff(r, err)
	}
}

// cutOff ends an answer that has begun, so that the client sees it is not whole.
func (s *Server) cutOff(r *http.Request, err error) {
	s.o.Log.Error("an answer was cut off", "request", requestID(r), "error", err)
	note(r, slog.String("error", err.Error()))
	panic(http.ErrAbortHandler)
}

// unbounded takes the time limit from an answer that is as long as the store.
func (s *Server) unbounded(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}

func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	s.unbounded(w)
	w.Header().Set("Content-Type", "application/vnd.donjon.steward-backup")
	if err := s.o.Store.Backup(r.Context(), w); err != nil {
		s.cutOff(r, err)
	}
}

// EpochView is a span of the store's life.
type EpochView struct {
	Number    uint64    `json:"number"`
	Opened    time.Time `json:"opened"`
	Reason    string    `json:"reason,omitempty"`
	Confirmed bool      `json:"confirmed"`
}

func (s *Server) getEpoch(w http.ResponseWriter, r *http.Request) {
	e, err := s.o.Store.Epoch(r.Context())
	if err != nil {
		s.storeProblem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, EpochView(e))
}

func (s *Server) confirmEpoch(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseUint(r.PathValue("number"), 10, 63)
	if err != nil {
		s.problem(w, r, http.StatusBadRequest, string(enrol.CodeMalformed), "wanted an epoch's number")
		return
	}
	if err := s.o.Store.ConfirmEpoch(r.Context(), n, s.actor(r)); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	if err := s.enrol.Refresh(r.Context()); err != nil {
		s.storeProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// AuditKey is the public key that heads are signed with.
func AuditKey(a *authority.Authority) any { return &a.AuditKey().PublicKey }
