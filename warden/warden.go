//go:build linux

package warden

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

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

// Released is the earliest time a Keep believes in: no clock of a host was ever
// honest and behind the day this program was made (THREATS T10). Raised with
// every release.
var released = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

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
	args     []string // of the guest, without its name
	env      []string
	digest   [32]byte
	identity *identity
	proved   chan struct{}   // closed once identity can give evidence
	code     chan *codeCache // given once the child knows whether machine code comes
	limit    atomic.Pointer[link.Exit]
	stopped  atomic.Bool
	output   atomic.Int64
	ports    ports
}

// now is the Keep's clock: the host's, but never behind the release.
func (w *warden) now() time.Time {
	now := w.Options.Now
	if now == nil {
		now = time.Now
	}
	if t := now(); t.After(released) {
		return t
	}
	return released
}

// Run is the whole life of a Keep. It gives the exit status of the process, which
// nobody relies on: how the workload ended is said on the link.
func Run(o Options) int {
	w := &warden{Options: o, proved: make(chan struct{}), code: make(chan *codeCache, 1)}
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
	select { // the host closes the link once it has read all
	case <-sess.Done():
	case <-time.After(handoverTime):
	}
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
	switch {
	case errors.As(err, &refused):
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
	for _, n := range w.Notes {
		w.log(0, "sandbox: not applied: %s", n)
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

// takeIn receives the manifest, makes the self-check against its digest, and
// receives the configuration, the module and the data, each hashed as it comes
// and compared with the manifest. The child compiles the module meanwhile; nothing
// of it runs before all of this has ended well.
func (w *warden) takeIn() (data []*os.File, err error) {
	st, err := w.sess.Open(link.ServiceWorkload, nil)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	_ = st.SetReadDeadline(time.Now().Add(handoverTime))
	st.Grow(bulkWindow)
	if err := link.ReadRecord(st, link.MaxOfferRecord, &w.offer); err != nil {
		return nil, fmt.Errorf("warden: the host's offer: %w", err)
	}
	if err := w.CheckSandbox(w.offer.Weak); err != nil {
		return nil, err
	}
	w.digest = sha256.Sum256(w.offer.Manifest)
	if w.manifest, err = workload.ParseManifest(w.offer.Manifest); err != nil {
		return nil, &refusedError{"the manifest: " + err.Error()}
	}
	// The report is asked for while the bytes come.
	checked := make(chan error, 1)
	go func() { checked <- w.prove() }()
	data, err = w.takeBlobs(st)
	if perr := <-checked; perr != nil {
		// Whatever came is not this Keep's workload: that is the finding.
		return nil, perr
	}
	return data, err
}

// weak says whether the host's user wants the guest to run although its sandbox
// cannot be applied. Elsewhere than in a sim Keep the host has no say in it.
func (w *warden) weak() bool { return w.offer.Weak && w.TEE == "sim" }

// compile lets the child compile the module, and fetches the machine code that
// the host has kept.
func (w *warden) compile(module *os.File) error {
	cached := !w.NoCache && !w.offer.NoCache
	if err := w.Child.Compile(child.Job{Cache: cached, Weak: w.weak()}, module); err != nil {
		return err
	}
	if !cached {
		w.code <- nil
		return nil
	}
	go func() {
		select {
		case <-w.proved: // the key is this Keep's own
			w.code <- w.fetchCode()
		case <-w.sess.Done():
			w.code <- nil
		}
	}()
	return nil
}

func (w *warden) prove() error {
	rst, err := w.sess.Open(link.ServiceReport, nil)
	if err != nil {
		return err
	}
	w.identity, err = newIdentity(&simulated{st: rst}, w.digest, w.now)
	if err != nil {
		return err
	}
	close(w.proved)
	return nil
}

func (w *warden) takeBlobs(st io.Reader) (data []*os.File, err error) {
	config := make([]byte, w.manifest.Config.Size) // bounded by ParseManifest
	if _, err := io.ReadFull(st, config); err != nil {
		return nil, fmt.Errorf("warden: receiving the configuration: %w", err)
	}
	if d := sha256.Sum256(config); d != w.manifest.Config.Digest {
		return nil, changed("the configuration", d, w.manifest.Config.Digest)
	}
	if w.cfg, err = workload.ParseConfig(config); err != nil {
		return nil, &refusedError{"the configuration: " + err.Error()}
	}
	if w.args, w.env, err = w.cfg.Input(workload.HostInput{Args: w.offer.Args, Env: w.offer.Env}); err != nil {
		return nil, &refusedError{err.Error()}
	}
	names := w.cfg.Paths()
	if len(w.manifest.Layers) != 1+len(names) {
		return nil, &refusedError{fmt.Sprintf("the manifest has %d layers, the configuration names %d files beside the module", len(w.manifest.Layers), len(names))}
	}
	for i, l := range w.manifest.Layers {
		what := "the module"
		if i > 0 {
			what = names[i-1].Path
		}
		f, err := takeBlob(st, what, l)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			data = append(data, f)
			continue
		}
		if err := w.compile(f); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// takeBlob copies a blob in, into memory that nobody else can reach, hashes that
// memory, and seals it.
func takeBlob(st io.Reader, what string, d workload.Descriptor) (*os.File, error) {
	var got [32]byte
	f, err := child.Memory("blob", d.Size, func(w io.Writer) error {
		h := sha256.New()
		buf := make([]byte, min(d.Size, 256<<10))
		for left := d.Size; left > 0; {
			part := buf[:min(left, int64(len(buf)))]
			if _, err := io.ReadFull(st, part); err != nil {
				return fmt.Errorf("warden: receiving %s: %w", what, err)
			}
			h.Write(part)
			if _, err := w.Write(part); err != nil {
				return fmt.Errorf("warden: keeping %s: %w", what, err)
			}
			left -= int64(len(part))
		}
		h.Sum(got[:0])
		return nil
	})
	if err != nil {
		return nil, err
	}
	if got != d.Digest {
		_ = f.Close()
		return nil, changed(what, got, d.Digest)
	}
	return f, nil
}

func changed(what string, got, want [32]byte) error {
	return &refusedError{fmt.Sprintf("%s is not what the manifest names: found sha256:%x, wanted sha256:%x", what, got, want)}
}

// admit refuses a configuration that asks for what this Keep does not do: to run
// without it would be to fail open.
func (w *warden) admit() error {
	if w.cfg.Steward != "" || len(w.cfg.Secrets) > 0 {
		return &configError{"the configuration names a Steward or secrets, and this release cannot enrol with a Steward",
			"see LIMITATIONS.md; remove steward, steward_ca and secrets to run without"}
	}
	if len(w.cfg.TEE) > 0 {
		for _, t := range w.cfg.TEE {
			if t == w.Options.TEE {
				return nil
			}
		}
		return &configError{fmt.Sprintf("the configuration admits tee = %q, and this is %s, which is no TEE", w.cfg.TEE, w.Options.TEE), "run it with --tee of one of these"}
	}
	return nil
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
			w.stopped.Store(true)
			continue
		case link.ServiceEvidence:
			serve = w.serveEvidence
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
	case <-w.proved:
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
