package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// lingerTime is how long a peer that takes nothing holds up the end of a Keep.
const lingerTime = 30 * time.Second

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
	ending    bool // the Keep has said its last word
	listeners []io.Closer
	stdin     *link.Stream
	opened    map[opening]bool
	serving   map[link.Service]int // streams that are being served

	dials   atomic.Int32
	steward pace // of connections to the Steward
	logLeft atomic.Int64
	conns   chan struct{} // one token for each connection that is open
}

// Supervise serves a launched Keep until it ends, and leaves nothing behind.
func Supervise(ctx context.Context, o Options) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inOrder := false
	defer func() {
		if inOrder && o.TEE == "sim" {
			awaitEnd(o.Machine)
		}
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
		conns: make(chan struct{}, link.MaxConns),
	}
	s.logLeft.Store(o.Ceilings.Log)
	s.at("hello")
	if err := s.greet(); err != nil {
		return Outcome{Stopped: s.stopAsked()}, s.lost(err)
	}
	defer s.sess.Close()
	defer s.closeListeners()
	go s.acceptLoop()
	if o.attend != nil {
		o.attend(s.sess)
	}
	if o.WantEvidence {
		s.proof = make(chan error, 1)
		go func() { s.proof <- s.fetchEvidence() }()
	}
	out, err := s.wait()
	s.mu.Lock()
	inOrder = err == nil && s.ending
	s.mu.Unlock()
	return out, err
}

// awaitEnd lets a process that has said its last word end by itself: so its own
// waits for its children are made, and their processor time counts. It is given
// little time, for it is hostile.
func awaitEnd(m Machine) {
	ended := make(chan struct{})
	go func() { _ = m.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(250 * time.Millisecond):
	}
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
				return s.finish(out, stop, grace, proof)
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
	if (out.Exit.Kind == link.ExitLimit || out.Exit.Kind == link.ExitFailed) && grace == nil {
		// A limit, or a certificate that has run out, ends the run, also where nobody
		// reads what was written.
		t := time.NewTimer(s.Grace)
		defer t.Stop()
		grace = t.C
	}
	s.mu.Lock()
	s.ending = true // no output begins any more
	s.mu.Unlock()
	drained, over := make(chan struct{}), s.sess.Done()
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
		case <-over: // what has come is still to be read
			over = nil
			if proof != nil {
				return out, errors.New("evidence: the link ended before the Keep gave any")
			}
		}
	}
	s.deliver(stop, grace)
	select {
	case err := <-s.broken:
		return out, err
	default:
		return out, nil
	}
}

// deliver waits until what the workload sent to its peers is in their sockets, or
// they take nothing for too long.
func (s *supervisor) deliver(stop <-chan struct{}, grace <-chan time.Time) {
	late := time.NewTimer(lingerTime)
	defer late.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for s.sess.Undelivered() > 0 && s.sess.Err() == nil {
		select {
		case <-tick.C:
		case <-late.C:
			return
		case <-stop:
			return
		case <-grace:
			return
		}
	}
}

// countOutput notes an output, here and not where it is served, so that the last
// record cannot overtake it; false: it comes too late.
func (s *supervisor) countOutput() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.outputs.Add(1)
	}
	return !s.ending
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

func (s *supervisor) acceptLoop() {
	for {
		st, err := s.sess.Accept()
		if err != nil {
			return
		}
		if !s.admit(st.Service()) {
			st.Reset(link.CodeBusy, "too many streams of this service are open")
			continue
		}
		// What was busy may come again: only a stream that is served uses up the one that
		// such a service has. A last word that was refused for ever would never be said.
		switch st.Service() {
		case link.ServiceWorkload, link.ServiceStdin, link.ServiceStdout, link.ServiceStderr, link.ServiceLog, link.ServiceExit:
			if !s.firstOnly(st.Service(), 0) {
				s.leave(st.Service())
				st.Reset(link.CodeRefused, "it was opened before")
				continue
			}
		}
		if st.Service() == link.ServiceStdout || st.Service() == link.ServiceStderr {
			if !s.countOutput() {
				st.Reset(link.CodeRefused, "the Keep has said its last word")
				s.leave(st.Service())
				continue
			}
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
	case link.ServiceSteward:
		s.serveSteward(st)
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

var _ net.Conn = (*link.Stream)(nil)
