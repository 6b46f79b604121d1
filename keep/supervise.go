package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// Silicon is the simulated secure processor that answers a Keep's requests.
type Silicon interface {
	Report(data [64]byte) ([]byte, error)
	Certs() []byte
	// DeriveKey takes the processor's own request form.
	DeriveKey(request []byte) ([]byte, error)
}

// Ceilings are the host's own bounds, applied as the minimum with what the
// configuration says (THREATS T28). Zero values mean the defaults.
type Ceilings struct {
	Memory uint64        // bytes of guest memory; 0: 4 GiB
	CPU    time.Duration // 0: none
	Dials  int           // connections to peers over the Keep's life; 0: 256
	Log    int64         // bytes of log, each line 64 more than its text; 0: 1 MiB
}

// Options say how a Keep is supervised.
type Options struct {
	Workload       *workload.Workload
	Machine        Machine
	TEE            string
	Silicon        Silicon
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer
	Terminals      uint8             // bits 0 to 2: stdin, stdout, stderr are a terminal
	Bind           map[string]string // listener name → address:port instead of the configured one
	HostDirs       []*os.Root        // in the order of the configuration's host_dirs
	Dialer         Dialer
	Blobs          Blobs
	Ceilings       Ceilings
	// Stop ends the Keep when it is closed: listeners and stdin close at once,
	// the rest within Grace (0: 2 s).
	Stop  <-chan struct{}
	Grace time.Duration
	// WantEvidence asks for evidence once the Keep can give it. Nonce may be nil.
	// Evidence that cannot be had or that OnEvidence refuses ends the Keep.
	WantEvidence bool
	Nonce        []byte
	OnEvidence   func([]byte) error
	// Log is called with what the Keep says (unescaped) and what goes on here;
	// level 1 is for --verbose.
	Log func(level int, text string)
	// Patience is how long the Keep may take to say hello and to ask for its
	// workload; 0: 30 s each.
	Patience time.Duration
	NoCache  bool
	Weak     bool
	Verbose  bool
}

// Outcome is how a Keep ended.
type Outcome struct {
	Exit    link.Exit
	Stopped bool // it was asked to stop
}

// A StageError says at which stage a Keep was lost, with the last lines that it
// printed outside the link.
type StageError struct {
	Stage   string
	Err     error
	Console []string
}

func (e *StageError) Error() string {
	s := fmt.Sprintf("the Keep failed at stage %q: %v", e.Stage, e.Err)
	for _, l := range e.Console {
		s += "\n  | " + l
	}
	return s
}

func (e *StageError) Unwrap() error { return e.Err }

// An OutputError says that what the workload writes cannot be handed on: its
// reader is gone (EPIPE), a disk is full. It ends the Keep.
type OutputError struct {
	What string // stdout or stderr
	Err  error
}

func (e *OutputError) Error() string { return e.What + " cannot be written: " + e.Err.Error() }
func (e *OutputError) Unwrap() error { return e.Err }

type supervisor struct {
	Options
	sess *link.Session
	ctx  context.Context

	stage   atomic.Pointer[string]
	exit    chan link.Exit
	broken  chan *OutputError // an output that cannot be written
	proof   chan error        // what came of the evidence, once; nil where none is wanted
	outputs sync.WaitGroup
	asked   chan struct{} // closed when the Keep asks for its workload
	once    sync.Once

	mu        sync.Mutex
	stopping  bool
	listeners []io.Closer
	stdin     *link.Stream
	opened    map[opening]bool
	serving   map[link.Service]int // streams that are being served

	dials   atomic.Int32
	logLeft atomic.Int64
	conns   chan struct{} // one token for each connection that is open
}

// Supervise serves a launched Keep until it ends, and leaves nothing behind.
func Supervise(ctx context.Context, o Options) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		_ = o.Machine.Kill()
		_ = o.Machine.Wait()
	}()
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 2 * time.Second
	}
	if o.Ceilings.Dials == 0 {
		o.Ceilings.Dials = 256
	}
	if o.Ceilings.Log == 0 {
		o.Ceilings.Log = 1 << 20
	}
	s := &supervisor{
		Options: o, ctx: ctx,
		exit:   make(chan link.Exit, 1),
		broken: make(chan *OutputError, 2),
		asked:  make(chan struct{}),
		opened: map[opening]bool{}, serving: map[link.Service]int{},
		conns: make(chan struct{}, link.MaxStreams-128),
	}
	s.logLeft.Store(o.Ceilings.Log)
	s.at("hello")
	if err := s.greet(); err != nil {
		return Outcome{Stopped: s.stopAsked()}, s.lost(err)
	}
	defer s.sess.Close()
	defer s.closeListeners()
	go s.acceptLoop()
	if o.WantEvidence {
		s.proof = make(chan error, 1)
		go func() { s.proof <- s.fetchEvidence() }()
	}
	return s.wait()
}

func (s *supervisor) at(stage string) { s.stage.Store(&stage) }

func (s *supervisor) lost(err error) error {
	return &StageError{Stage: *s.stage.Load(), Err: err, Console: s.Machine.Console()}
}

func (s *supervisor) stopAsked() bool {
	select {
	case <-s.Stop:
		return true
	default:
		return false
	}
}

func (s *supervisor) greet() error {
	type result struct {
		sess *link.Session
		err  error
	}
	done := make(chan result, 1)
	go func() {
		sess, err := link.Host(s.Machine.Link())
		done <- result{sess, err}
	}()
	timer := time.NewTimer(s.Patience)
	defer timer.Stop()
	var err error
	select {
	case r := <-done:
		if s.sess = r.sess; r.err == nil {
			s.at("workload")
			return nil
		}
		if errors.Is(r.err, io.EOF) || errors.Is(r.err, io.ErrUnexpectedEOF) {
			return errors.New("it ended before its first word")
		}
		return r.err
	case <-timer.C:
		err = fmt.Errorf("no word from it within %s", s.Patience)
	case <-s.Stop:
		err = errors.New("stopped")
	case <-s.ctx.Done():
		err = context.Cause(s.ctx)
	}
	_ = s.Machine.Link().Close()
	return err
}

func (s *supervisor) wait() (Outcome, error) {
	patience := time.NewTimer(s.Patience)
	defer patience.Stop()
	stop, asked, proof := s.Stop, s.asked, s.proof
	var grace <-chan time.Time
	var out Outcome
	for {
		select {
		case <-asked:
			asked = nil
			patience.Stop()
		case <-patience.C:
			if asked != nil {
				return out, s.lost(fmt.Errorf("it did not ask for its workload within %s", s.Patience))
			}
		case <-stop:
			stop = nil
			out.Stopped = true
			s.beginStop()
			t := time.NewTimer(s.Grace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			out.Exit = link.Exit{Kind: link.ExitStopped}
			return out, nil
		case <-s.ctx.Done():
			return out, s.lost(context.Cause(s.ctx))
		case err := <-s.broken:
			return out, err
		case err := <-proof:
			if proof = nil; err != nil {
				return out, err
			}
		case e := <-s.exit:
			out.Exit = e
			return s.finish(out, stop, grace, proof)
		case <-s.sess.Done():
			select {
			case e := <-s.exit:
				out.Exit = e
				return out, nil
			case <-time.After(20 * time.Millisecond): // its last record may still be on its way through a goroutine
			}
			if out.Stopped {
				return out, nil
			}
			err := s.sess.Err()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = s.howItEnded()
			}
			return out, s.lost(err)
		}
	}
}

// finish waits for what is still on its way after a Keep's last word: what the
// workload wrote, and the evidence.
func (s *supervisor) finish(out Outcome, stop <-chan struct{}, grace <-chan time.Time, proof <-chan error) (Outcome, error) {
	switch out.Exit.Kind {
	case link.ExitStatus, link.ExitTrap, link.ExitLimit:
	default:
		proof = nil // a Keep that ran nothing may have none to give
	}
	if out.Exit.Kind == link.ExitLimit && grace == nil {
		// A limit ends the run, also where nobody reads what was written.
		t := time.NewTimer(s.Grace)
		defer t.Stop()
		grace = t.C
	}
	drained := make(chan struct{})
	go func(done chan<- struct{}) { s.outputs.Wait(); close(done) }(drained)
	patience := time.NewTimer(s.Patience) // with the evidence; a slow reader is waited for
	defer patience.Stop()
	for drained != nil || proof != nil {
		select {
		case <-drained:
			drained = nil
		case err := <-proof:
			if proof = nil; err != nil {
				return out, err
			}
		case <-patience.C:
			if proof != nil {
				return out, fmt.Errorf("evidence: the Keep gave none within %s of the workload's end", s.Patience)
			}
		case <-stop:
			out.Stopped = true
			return out, nil
		case <-grace:
			return out, nil
		case <-s.sess.Done():
			drained, proof = nil, nil
		}
	}
	select {
	case err := <-s.broken:
		return out, err
	default:
		return out, nil
	}
}

// howItEnded says why the link is gone: the machine may know, if it has ended by
// itself or does at once.
func (s *supervisor) howItEnded() error {
	ended := make(chan error, 1)
	go func() { ended <- s.Machine.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return err
		}
	case <-time.After(500 * time.Millisecond):
	}
	return errors.New("it ended without a last word")
}

func (s *supervisor) beginStop() {
	s.closeListeners()
	s.mu.Lock()
	stdin := s.stdin
	s.mu.Unlock()
	if stdin != nil {
		_ = stdin.CloseWrite()
	}
	if st, err := s.sess.Open(link.ServiceStop, nil); err == nil {
		_ = st.CloseWrite()
	}
}

func (s *supervisor) closeListeners() {
	s.mu.Lock()
	s.stopping = true
	ls := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	for _, l := range ls {
		_ = l.Close()
	}
}

// keepListener remembers what a stop must close; false: it is too late.
func (s *supervisor) keepListener(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.listeners = append(s.listeners, c)
	return true
}

func (s *supervisor) fetchEvidence() error {
	st, err := s.sess.Open(link.ServiceEvidence, link.Marshal(link.EvidenceRequest{Nonce: s.Nonce}))
	if err == nil {
		defer st.Close()
		var r link.EvidenceReply
		err = link.ReadRecord(st, link.MaxReportRecord, &r)
		if err == nil && r.Error != "" {
			err = errors.New("the Keep says " + r.Error)
		}
		if err == nil {
			err = s.OnEvidence(r.Evidence)
		}
	}
	if err != nil && s.sess.Err() != nil {
		return nil // how the Keep ended is what counts
	}
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return nil
}

func (s *supervisor) acceptLoop() {
	for {
		st, err := s.sess.Accept()
		if err != nil {
			return
		}
		switch st.Service() {
		case link.ServiceWorkload, link.ServiceStdin, link.ServiceStdout, link.ServiceStderr, link.ServiceLog, link.ServiceExit:
			if !s.firstOnly(st.Service(), 0) {
				st.Reset(link.CodeRefused, "it was opened before")
				continue
			}
		}
		if !s.admit(st.Service()) {
			st.Reset(link.CodeBusy, "too many streams of this service are open")
			continue
		}
		if st.Service() == link.ServiceStdout || st.Service() == link.ServiceStderr {
			s.outputs.Add(1) // here, so that the last record cannot overtake it
		}
		go func() {
			defer s.leave(st.Service())
			s.serve(st)
		}()
	}
}

func (s *supervisor) serve(st *link.Stream) {
	switch st.Service() {
	case link.ServiceWorkload:
		s.once.Do(func() { close(s.asked) })
		s.at("self-check, compiling and running")
		s.serveWorkload(st)
	case link.ServiceStdin:
		s.serveStdin(st)
	case link.ServiceStdout:
		defer s.outputs.Done()
		s.serveOutput(st, "stdout", s.Stdout)
	case link.ServiceStderr:
		defer s.outputs.Done()
		s.serveOutput(st, "stderr", s.Stderr)
	case link.ServiceDial:
		s.serveDial(st)
	case link.ServiceListen:
		s.serveListen(st)
	case link.ServiceReport:
		s.serveReport(st)
	case link.ServiceDeriveKey:
		s.serveDeriveKey(st)
	case link.ServiceBlobs:
		s.Blobs.serve(st)
	case link.ServiceLog:
		s.serveLog(st)
	case link.ServiceExit:
		var e link.Exit
		err := link.ReadRecord(st, link.MaxRecord, &e)
		if err == nil {
			err = e.Check()
		}
		if err != nil { // there will be no other
			e = link.Exit{Kind: link.ExitFailed, Text: "its last word cannot be read: " + err.Error()}
		}
		s.exit <- e
	case link.ServiceDir:
		s.serveDir(st)
	default:
		st.Reset(link.CodeUnknown, fmt.Sprintf("service %d is unknown here", st.Service()))
	}
}

func (s *supervisor) serveReport(st *link.Stream) {
	defer st.Close()
	for {
		b, err := link.ReadRaw(st, 64)
		if err != nil || len(b) != 64 {
			return
		}
		reply := link.ReportReply{Certs: s.Silicon.Certs()}
		if reply.Report, err = s.Silicon.Report([64]byte(b)); err != nil {
			reply = link.ReportReply{Error: err.Error()}
		}
		if link.WriteRecord(st, reply) != nil {
			return
		}
	}
}

func (s *supervisor) serveDeriveKey(st *link.Stream) {
	defer st.Close()
	b, err := link.ReadRaw(st, 256)
	if err != nil {
		return
	}
	var reply link.KeyReply
	if reply.Key, err = s.Silicon.DeriveKey(b); err != nil {
		reply = link.KeyReply{Error: err.Error()}
	}
	_ = link.WriteRecord(st, reply)
}

// logLine is what a line of the log costs beside its text: empty ones are not free.
const logLine = 64

func (s *supervisor) serveLog(st *link.Stream) {
	for {
		var l link.LogLine
		if err := link.ReadRecord(st, link.MaxRecord, &l); err != nil {
			return
		}
		if s.logLeft.Add(-int64(len(l.Text))-logLine) < 0 {
			s.Log(0, "the Keep's log is over its bound; the rest is dropped")
			st.Reset(link.CodeBusy, "enough")
			return
		}
		s.Log(int(l.Level), l.Text)
	}
}

func (s *supervisor) serveStdin(st *link.Stream) {
	if s.Stdin == nil {
		_ = st.CloseWrite()
		return
	}
	s.mu.Lock()
	s.stdin = st
	s.mu.Unlock()
	_, _ = io.CopyBuffer(onlyWriter{st}, onlyReader{s.Stdin}, make([]byte, link.MaxPayload))
	_ = st.CloseWrite()
}

type onlyReader struct{ io.Reader }

func (s *supervisor) serveOutput(st *link.Stream, what string, w io.Writer) {
	if w == nil {
		w = io.Discard
	}
	st.Grow(1 << 20)
	noting := &notingWriter{w: w}
	_, err := io.CopyBuffer(onlyWriter{noting}, onlyReader{st}, make([]byte, link.MaxPayload))
	if noting.err != nil {
		s.broken <- &OutputError{What: what, Err: reason(noting.err)} // two outputs, room for two
		st.Reset(link.CodeFailed, what+" cannot be written")
		return
	}
	if err == nil {
		_ = st.Close()
	}
}

// notingWriter remembers that writing failed: a copy's error may be its reader's.
type notingWriter struct {
	w   io.Writer
	err error
}

func (n *notingWriter) Write(p []byte) (int, error) {
	m, err := n.w.Write(p)
	if err != nil {
		n.err = err
	}
	return m, err
}

var _ net.Conn = (*link.Stream)(nil)
