package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDescriptor(t *testing.T) {
	for _, tt := range []struct {
		names, count string
		want         int
		fails        bool
	}{
		{"stdin:stdout:stderr:web", "4", 3, false},
		{"web", "1", 0, false},
		{"stdin:stdout:stderr", "3", 0, true},
		{"stdin:web", "3", 0, true},
		{"", "", 0, true},
		{"", "0", 0, true},
		{"web", "one", 0, true},
	} {
		fd, err := descriptor(tt.names, tt.count, "web")
		if (err != nil) != tt.fails || fd != tt.want {
			t.Errorf("%q, %q: found %d, %v", tt.names, tt.count, fd, err)
		}
	}
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "hello from a Keep\nyou asked for example.com over HTTP/1.1\n"},
		{"GET", "/healthz", "", 200, "ok\n"},
		{"GET", "/other", "", 404, "404 page not found\n"},
		{"POST", "/echo", "abc", 200, "abc"},
		{"POST", "/echo", strings.Repeat("x", maxEcho+1), 413, "more than a mebibyte\n"},
	} {
		w := httptest.NewRecorder()
		handler().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
		if w.Code != tt.status || w.Body.String() != tt.want {
			t.Errorf("%s %s: found %d %q, wanted %d %q", tt.method, tt.path, w.Code, w.Body.String(), tt.status, tt.want)
		}
	}
}
