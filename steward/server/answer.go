package server

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/donjon-tee/donjon/attest/strict"
	"github.com/donjon-tee/donjon/steward/enrol"
	"github.com/donjon-tee/donjon/steward/protocol"
)

type contextKey int

const (
	keyRequestID contextKey = iota
	keyActor
)

func requestID(r *http.Request) string {
	id, _ := r.Context().Value(keyRequestID).(string)
	return id
}

func newRequestID() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func writePEM(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	_, _ = w.Write(b)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	writeAs(w, status, "application/json", v)
}

func writeAs(w http.ResponseWriter, status int, mediaType string, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// problem answers with a problem that has no code of enrolment.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, status int, code, detail string) {
	s.answer(w, r, &protocol.Problem{Type: "https://github.com/donjon-tee/donjon/blob/main/docs/steward-protocol.md#" + code,
		Title: http.StatusText(status), Status: status, Detail: detail, Instance: requestID(r), Code: code})
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, p *protocol.Problem) {
	if p.Status >= 400 && p.Status < 500 {
		s.clients.punish(clientOf(r.RemoteAddr), s.o.Limits.RefusedCost)
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	note(r, slog.String("code", p.Code))
	writeAs(w, p.Status, "application/problem+json", p)
}

// admitClient takes one from a client's bucket, or answers that there is none.
func (s *Server) admitClient(w http.ResponseWriter, r *http.Request, b *buckets) bool {
	wait, ok := b.take(clientOf(r.RemoteAddr))
	if ok {
		return true
	}
	s.metrics.limited.Inc()
	s.tooMany(w, r, wait)
	return false
}

func (s *Server) tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds)))
	p := enrol.ProblemFor(enrol.CodeBusy, requestID(r), fmt.Sprintf("too many requests from this address: try again in %d seconds", max(1, seconds)))
	p.Status = http.StatusTooManyRequests
	note(r, slog.String("code", p.Code))
	writeAs(w, p.Status, "application/problem+json", p)
}

// readBody reads a body of a type, most bytes of it. It answers where it cannot.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, mediaType string, most int64) ([]byte, bool) {
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "" && (err != nil || got != mediaType) {
		s.problem(w, r, http.StatusUnsupportedMediaType, string(enrol.CodeMalformed), "found the content type "+strconv.Quote(r.Header.Get("Content-Type"))+", wanted "+mediaType)
		return nil, false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		s.answer(w, r, enrol.ProblemFor(enrol.CodeTooLarge, requestID(r), fmt.Sprintf("more than %d bytes", most)))
		return nil, false
	case err != nil:
		s.answer(w, r, enrol.ProblemFor(enrol.CodeMalformed, requestID(r), "the body could not be read to its end"))
		return nil, false
	}
	return b, true
}

// readJSON reads a body of one JSON object without unknown or repeated keys.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, most int64, into any) bool {
	b, ok := s.readBody(w, r, "application/json", most)
	if !ok {
		return false
	}
	err := strict.JSON(b, strict.Limits{Depth: 8})
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(into)
	}
	if err != nil {
		s.answer(w, r, enrol.ProblemFor(enrol.CodeMalformed, requestID(r), err.Error()))
		return false
	}
	return true
}
