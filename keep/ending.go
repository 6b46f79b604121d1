package keep

import (
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// lingerTime is how long a peer that takes nothing holds up the end of a Keep.
const lingerTime = 30 * time.Second

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
