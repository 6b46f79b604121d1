package keep

import (
	"fmt"
	"io"

	"github.com/donjon-tee/donjon/link"
)

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
