package server

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

// notes are what handlers add to their request's line in the log. No secret, no body
// and no token ever gets there.
type notes struct {
	mu   sync.Mutex
	list []any
}

type notesKey struct{}

func note(r *http.Request, a ...any) {
	if n, ok := r.Context().Value(notesKey{}).(*notes); ok {
		n.mu.Lock()
		n.list = append(n.list, a...)
		n.mu.Unlock()
	}
}

// observe gives each request an id, headers that hold for all answers, a line in the
// log, its place in the metrics, and an end where a handler panics.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id, n := newRequestID(), &notes{}
		ctx := context.WithValue(context.WithValue(r.Context(), keyRequestID, id), notesKey{}, n)
		r = r.WithContext(ctx)
		h := w.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		rec := &recorder{ResponseWriter: w}
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				s.metrics.panics.Inc()
				s.o.Log.Error("a handler panicked", "request", id, "panic", p, "stack", string(debug.Stack()))
				if rec.status == 0 {
					s.problem(rec, r, http.StatusInternalServerError, "internal", "")
				}
			}
			s.logRequest(r, rec, n, id, time.Since(start))
			if p == http.ErrAbortHandler {
				panic(p) // the connection ends, and the client sees it
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func (s *Server) logRequest(r *http.Request, rec *recorder, n *notes, id string, took time.Duration) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	route := routeOf(r)
	s.metrics.requests.WithLabelValues(route, strconv.Itoa(rec.status)).Inc()
	s.metrics.seconds.WithLabelValues(route).Observe(took.Seconds())
	level := slog.LevelInfo
	switch {
	case rec.status >= 500:
		level = slog.LevelError
	case route == "/healthz" || route == "/readyz" || route == "/metrics":
		level = slog.LevelDebug
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	args := append([]any{"request", id, "method", r.Method, "path", r.URL.Path, "status", rec.status, "bytes", rec.n,
		"took", took.Round(time.Microsecond), "client", r.RemoteAddr}, n.list...)
	s.o.Log.Log(r.Context(), level, "request", args...)
}

// routeOf is the route's pattern: what a client may choose does not become a label.
func routeOf(r *http.Request) string {
	p := r.Pattern
	if _, path, ok := strings.Cut(p, " "); ok {
		p = path
	}
	if p == "" {
		return "other"
	}
	return p
}

// recorder remembers an answer's status and size.
type recorder struct {
	http.ResponseWriter
	status int
	n      int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.n += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
