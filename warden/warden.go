//go:build linux

package warden

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

const (
	bulkWindow = 1 << 20
	// handoverTime bounds how long the host may take over each step before the
	// guest runs: a host that stalls keeps no Keep alive.
	handoverTime = 2 * time.Minute
)

// Options are what the program around the warden gives it.
type Options struct {
	Link  io.ReadWriteCloser
	Child *child.Process // spawned, and told nothing yet
	// Notes are what could not be applied to confine this process.
	Notes []string
	// Weak may be asked for by the host in a sim Keep alone; CheckSandbox gives
	// an error where the sandbox is not what it must be.
	CheckSandbox func(weak bool) error
	// TEE is what this program was built to run in: "sim" or "vm".
	TEE string
	// NoCache: the engine of this processor caches nothing.
	NoCache bool
	// Now is the clock of the host; nil is time.Now.
	Now func() time.Time
}

type warden struct {
	Options
	sess     *link.Session
	logs     *link.Stream
	offer    link.Offer
	manifest workload.Manifest
	cfg      *workload.Config
	config   []byte   // the configuration's bytes
	args     []string // of the guest, without its name
	env      []string
	digest   [32]byte
	identity *identity
	proved   chan struct{} // closed once the Keep's own report agrees
	admitted chan struct{} // closed once the workload is known and may run: identity can give evidence
	stopping chan struct{} // closed once the host asks for the end
	peers    peers
	code     chan *codeCache // given once the child knows whether machine code comes
	limit    atomic.Pointer[link.Exit]
	stopped  atomic.Bool
	output   atomic.Int64
	ports    ports
	sealing  sync.Mutex // of the built-in sealer

	// Of a Keep whose configuration names a Steward:
	steward      atomic.Pointer[stewardTime]
	stewardRoots *x509.CertPool
	enrolled     *enrolment // the first
	certEnd      atomic.Pointer[time.Time]
	notRenewed   atomic.Pointer[string] // why, where the last try failed
}

// Run is the whole life of a Keep. It gives the exit status of the process, which
// nobody relies on: how the workload ended is said on the link.
func Run(o Options) int {
	w := &warden{Options: o, proved: make(chan struct{}), admitted: make(chan struct{}), stopping: make(chan struct{}), code: make(chan *codeCache, 1)}
	defer o.Child.Kill()
	timer := time.AfterFunc(handoverTime, func() { _ = o.Link.Close() })
	sess, err := link.Guest(o.Link)
	timer.Stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w.sess = sess
	defer sess.Close()
	// The end of the link is the end of the Keep, whatever the guest is doing.
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-sess.Done():
			o.Child.Kill()
		case <-ended:
		}
	}()
	exit := w.live()
	st, err := sess.Open(link.ServiceExit, nil)
	if err != nil {
		return 1
	}
	if err := link.WriteRecord(st, exit); err != nil {
		return 1
	}
	_ = st.CloseWrite()
	<-sess.Done() // the host closes the link once it has read all, however slow its own reader is
	o.Child.Kill()
	<-o.Child.Ended() // waited for, its processor time counts as this process's
	return 0
}

// log says something to the host's user. The host may read it: no secret ever
// goes here (THREATS T32).
func (w *warden) log(level uint8, format string, args ...any) {
	if w.logs != nil {
		_ = link.WriteRecord(w.logs, link.LogLine{Level: level, Text: fmt.Sprintf(format, args...)})
	}
}

// exitFor turns an error into the Keep's last word.
func exitFor(err error) link.Exit {
	e := link.Exit{Kind: link.ExitFailed, Text: err.Error()}
	var refused *refusedError
	var config *configError
	var guest *child.GuestError
	var enrol *enrolError
	switch {
	case errors.As(err, &refused), errors.As(err, &enrol) && enrol.refused:
		e.Kind = link.ExitRefused
	case errors.As(err, &config):
		e.Kind = link.ExitConfig
	case errors.As(err, &guest) && guest.Module:
		e.Kind = link.ExitModule
	}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		e.Hint = h.Hint()
	}
	return e
}

// A configError says that the configuration asks for what this Keep cannot give.
type configError struct{ what, hint string }

func (e *configError) Error() string { return e.what }
func (e *configError) Hint() string  { return e.hint }

func (w *warden) live() link.Exit {
	if st, err := w.sess.Open(link.ServiceLog, nil); err == nil {
		w.logs = st
	}
	go w.acceptLoop()
	data, err := w.takeIn()
	if err != nil {
		return exitFor(err)
	}
	if err := w.admit(); err != nil {
		return exitFor(err)
	}
	if err := w.peers.load(w.cfg, func(path string) ([]byte, error) { return w.named(path, data) }); err != nil {
		return exitFor(err)
	}
	for name, p := range w.peers.policies {
		if p.Trust == policy.TrustFirstUse {
			w.log(0, "%s was written at first contact and compared with nothing", name)
		}
	}
	for _, n := range w.Notes {
		w.log(0, "sandbox: not applied: %s", n)
	}
	close(w.admitted)
	if w.cfg.Builtin == workload.BuiltinSealer {
		return w.runSealer()
	}
	if w.cfg.Steward != "" {
		if err := w.enrolFirst(data); err != nil {
			return exitFor(err)
		}
	}
	exit, err := w.runGuest(data)
	if err != nil {
		if over := w.limit.Load(); over != nil {
			return *over
		}
		if w.stopped.Load() {
			return link.Exit{Kind: link.ExitStopped}
		}
		return exitFor(err)
	}
	return exit
}

// acceptLoop takes the streams that the host opens. A stream's goroutine may
// outlive it for a while, and the host can open and reset streams without end:
// what bounds the goroutines is served.
func (w *warden) acceptLoop() {
	served := make(chan struct{}, link.MaxStreams)
	for {
		st, err := w.sess.Accept()
		if err != nil {
			return
		}
		var serve func(*link.Stream)
		switch st.Service() {
		case link.ServiceConn:
			serve = w.ports.accept
		case link.ServiceStop:
			_ = st.Close()
			if !w.stopped.Swap(true) {
				close(w.stopping)
			}
			continue
		case link.ServiceEvidence:
			serve = w.serveEvidence
		case link.ServiceSeal:
			serve = w.serveSeal
		default:
			st.Reset(link.CodeUnknown, "no such service in a Keep")
			continue
		}
		select {
		case served <- struct{}{}:
			go func() { defer func() { <-served }(); serve(st) }()
		default:
			st.Reset(link.CodeBusy, "too much is going on in the Keep")
		}
	}
}

// serveEvidence answers a host that wants a proof to show around.
func (w *warden) serveEvidence(st *link.Stream) {
	defer st.Close()
	var q link.EvidenceRequest
	if err := link.Unmarshal(st.Params(), &q); err != nil {
		st.Reset(link.CodeFailed, "the request does not decode")
		return
	}
	select {
	case <-w.admitted:
	case <-w.sess.Done():
		return
	}
	var r link.EvidenceReply
	ev, err := w.identity.evidence("file", q.Nonce)
	if errors.Is(err, errBusy) {
		st.Reset(link.CodeBusy, err.Error())
		return
	}
	if err == nil {
		r.Evidence, err = ev.Encode()
	}
	if err != nil {
		r = link.EvidenceReply{Error: err.Error()}
	}
	_ = link.WriteRecord(st, r)
}

// watch ends the guest when a limit is reached. The child is killed: nothing
// else interrupts compiled code.
func (w *warden) watch(ctx context.Context) {
	cpu, wall := w.cfg.Limits.CPUTime, w.cfg.Limits.WallTime
	cpuHint := "raise limits.cpu_time or --cpu-time"
	if c := time.Duration(w.offer.MaxCPU) * time.Millisecond; c > 0 && (cpu == 0 || c < cpu) {
		cpu, cpuHint = c, "this is the host's own ceiling; raise --max-cpu"
	}
	if cpu == 0 && wall == 0 {
		return
	}
	start := time.Now()
	before, err := w.Child.CPU() // what compiling took is not the workload's
	if err != nil {
		before = 0
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if wall > 0 && time.Since(start) >= wall {
			w.over(fmt.Sprintf("the workload reached its limit of %s of wall time", wall), "raise limits.wall_time or --wall-time")
			return
		}
		if cpu > 0 {
			if used, err := w.Child.CPU(); err == nil && used-before >= cpu {
				w.over(fmt.Sprintf("the workload reached its limit of %s of processor time", cpu), cpuHint)
				return
			}
		}
	}
}

func (w *warden) over(text, hint string) {
	if w.limit.CompareAndSwap(nil, &link.Exit{Kind: link.ExitLimit, Text: text, Hint: hint}) {
		w.Child.Kill()
	}
}
