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

var _ net.Conn = (*link.Stream)(nil)
