package keep

import (
	"fmt"
	"io"
	"time"

	"github.com/donjon-tee/donjon/link"
)

func (s *supervisor) fetchEvidence() error {
	b, err := askEvidence(s.sess, s.Nonce, time.Time{})
	if err == nil {
		err = s.OnEvidence(b)
	}
	if err != nil && s.sess.Err() != nil {
		return nil // how the Keep ended is what counts
	}
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return nil
}

// askEvidence has a Keep prove itself. The zero deadline is none.
func askEvidence(sess *link.Session, nonce []byte, deadline time.Time) ([]byte, error) {
	st, err := sess.Open(link.ServiceEvidence, link.Marshal(link.EvidenceRequest{Nonce: nonce}))
	if err != nil {
		return nil, err
	}
	defer st.Close()
	_ = st.SetDeadline(deadline)
	var r link.EvidenceReply
	if err := link.ReadRecord(st, link.MaxReportRecord, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, &SaidError{r.Error}
	}
	return r.Evidence, nil
}

// A SaidError is what a Keep says in place of an answer. Its text is the Keep's, and
// hostile.
type SaidError struct{ Text string }

func (e *SaidError) Error() string { return "the Keep says " + e.Text }

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
