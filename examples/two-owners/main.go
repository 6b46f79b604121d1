// Command two-owners finds out how many customers two owners have in common and what
// these spend together, and tells both owners that and nothing else. It runs twice, in
// two Keeps, in the roles alice and bob. README.md says who learns what.
//
// Nothing in it knows of attestation: that the other end of the connection "peer" is
// this very program, in the other role, is the configuration's to demand.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "two-owners:", err)
		os.Exit(1)
	}
}

func run() error {
	owner, peer := -1, -1
	for fd, name := range strings.Split(os.Getenv("FD_NAMES"), ":") {
		switch name {
		case "owner":
			owner = fd
		case "peer":
			peer = fd
		}
	}
	if owner < 0 || peer < 0 {
		return errors.New("no owner or no peer among the descriptors: run me in a Keep, see README.md")
	}
	l, err := net.FileListener(os.NewFile(uintptr(owner), "owner"))
	if err != nil {
		return err
	}
	d := &desk{given: make(chan table, 1)}
	switch role := os.Getenv("DONJON_ROLE"); role {
	case "alice":
		c, err := net.FileConn(os.NewFile(uintptr(peer), "peer"))
		if err != nil {
			return err
		}
		go func() { d.finish(alice(c, <-d.given)) }()
	case "bob":
		p, err := net.FileListener(os.NewFile(uintptr(peer), "peer"))
		if err != nil {
			return err
		}
		go func() {
			mine := <-d.given
			c, err := p.Accept()
			if err != nil {
				d.finish("", err)
				return
			}
			d.finish(bob(c, mine))
		}()
	default:
		return fmt.Errorf("found the role %q, wanted alice or bob", role)
	}
	fmt.Fprintln(os.Stderr, "two-owners: ready, in the role", os.Getenv("DONJON_ROLE"))
	s := &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	if err := s.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// A desk is where an owner gives the data, once, and waits for the result: more tries
// would be more questions about the other's data.
type desk struct {
	given chan table

	mu     sync.Mutex
	taken  bool
	result string
	err    error
	wait   []chan struct{}
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		http.Error(w, "POST / with lines of customer,cents", http.StatusNotFound)
		return
	}
	mine, err := readTable(http.MaxBytesReader(w, r.Body, maxTable))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	if d.taken {
		d.mu.Unlock()
		http.Error(w, "this Keep has its data: one table, one result", http.StatusConflict)
		return
	}
	d.taken = true
	end := make(chan struct{})
	d.wait = append(d.wait, end)
	d.mu.Unlock()
	d.given <- mine
	select {
	case <-end:
	case <-r.Context().Done():
		return
	}
	if d.err != nil {
		http.Error(w, d.err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, d.result)
}

func (d *desk) finish(result string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.result, d.err = result, err
	for _, c := range d.wait {
		close(c)
	}
	d.wait = nil
}
