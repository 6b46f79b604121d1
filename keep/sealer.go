package keep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// A Sealer is a running Keep of the built-in sealer (workload.Sealer). What it answers
// is a Keep's word: whoever relies on it has it prove itself first.
type Sealer struct {
	sess     *link.Session
	deadline time.Time
}

// ErrLink says that the Keep's answer did not come whole.
var ErrLink = errors.New("the link to the Keep failed")

// UseSealer supervises a launched Keep of the built-in sealer, lets use ask it, and
// ends it. ctx has a deadline: a Keep that does not answer holds nobody up. The error
// is that of use, or says how the Keep was lost.
func UseSealer(ctx context.Context, o Options, use func(*Sealer) error) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return errors.New("keep: a sealer is used without a deadline")
	}
	stop, used := make(chan struct{}), make(chan error, 1)
	o.Stop, o.Stdin, o.Stdout, o.Stderr = stop, nil, nil, nil
	spoke := false
	o.attend = func(sess *link.Session) {
		spoke = true
		go func() {
			err := use(&Sealer{sess: sess, deadline: deadline})
			used <- err
			if errors.Is(err, ErrLink) { // how the Keep ended says more than that it does not answer
				select {
				case <-sess.Done():
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
			close(stop)
		}()
	}
	out, lost := Supervise(ctx, o)
	if !spoke {
		return lost
	}
	err := <-used // the link is closed: no answer is waited for any more
	switch {
	case err == nil, !errors.Is(err, ErrLink):
		return err
	case lost != nil:
		return lost
	case out.Exit.Text != "":
		return &SaidError{out.Exit.Text}
	}
	return err
}

// Evidence has the Keep prove itself over a nonce of 8 to 64 bytes: evidence of the
// purpose file, unjudged.
func (s *Sealer) Evidence(nonce []byte) ([]byte, error) {
	b, err := askEvidence(s.sess, nonce, s.deadline)
	return b, linkError(err)
}

// Seal seals 1 to link.MaxSealPlain bytes.
func (s *Sealer) Seal(plain, aad []byte) ([]byte, error) {
	return s.ask(link.SealRequest{Op: link.OpSeal, Data: plain, AAD: aad})
}

// Open opens what a Keep of the same workload, program and processor sealed.
func (s *Sealer) Open(sealed, aad []byte) ([]byte, error) {
	return s.ask(link.SealRequest{Op: link.OpOpen, Data: sealed, AAD: aad})
}

func (s *Sealer) ask(q link.SealRequest) ([]byte, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	st, err := s.sess.Open(link.ServiceSeal, nil)
	if err != nil {
		return nil, linkError(err)
	}
	defer st.Close()
	_ = st.SetDeadline(s.deadline)
	if err := link.WriteRecord(st, q); err != nil {
		return nil, linkError(err)
	}
	var r link.SealReply
	if err := link.ReadRecord(st, link.MaxSealRecord, &r); err != nil {
		return nil, linkError(err)
	}
	if r.Error != "" || len(r.Data) == 0 {
		return nil, &SaidError{r.Error}
	}
	return r.Data, nil
}

func linkError(err error) error {
	var said *SaidError
	if err == nil || errors.As(err, &said) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLink, err)
}
