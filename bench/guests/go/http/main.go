// Command http answers requests on the pre-opened listener called "web"
// (bench/guests/README.md).
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	fd := slices.Index(strings.Split(os.Getenv("FD_NAMES"), ":"), "web")
	if fd < 0 {
		fmt.Fprintf(os.Stderr, "http: no listener is called %q in FD_NAMES\n", "web")
		os.Exit(1)
	}
	f := os.NewFile(uintptr(fd), "web")
	l, err := net.FileListener(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
	f.Close()
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello from a Keep\n")
	})}
	if err := s.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}
