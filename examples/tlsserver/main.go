// Command tlsserver is a web server on a listener that it did not open: the
// configuration declares it, the warden ends TLS on it, and the program sees
// plain HTTP. Nothing in it knows of Keeps; README.md shows how it is run.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tlsserver:", err)
		os.Exit(1)
	}
}

func run() error {
	fd, err := descriptor(os.Getenv("FD_NAMES"), os.Getenv("FD_COUNT"), "web")
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "web")
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("descriptor %d is no listener: %w", fd, err)
	}
	f.Close()
	fmt.Fprintln(os.Stderr, "tlsserver: serving on descriptor", fd)
	s := &http.Server{
		Handler:           handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	// The Keep closes the listener when it is told to end.
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "hello from a Keep\nyou asked for %s over %s\n", r.Host, r.Proto)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if _, err := copyAtMost(w, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
	})
	return mux
}

// descriptor finds the number of the descriptor called name: FD_NAMES holds the
// names in the order of the numbers, joined by colons, and FD_COUNT how many
// there are.
func descriptor(names, count, name string) (int, error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return 0, fmt.Errorf("FD_COUNT is %q, wanted a number: run me in a Keep, or see README.md", count)
	}
	list := strings.Split(names, ":")
	if len(list) != n {
		return 0, fmt.Errorf("FD_NAMES has %d names, FD_COUNT says %d", len(list), n)
	}
	for fd, s := range list {
		if s == name {
			return fd, nil
		}
	}
	return 0, fmt.Errorf("no descriptor is called %q: FD_NAMES is %q", name, names)
}
