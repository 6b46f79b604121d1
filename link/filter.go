//go:build linux

package link

// A Filter stands between a stream and the descriptor it is relayed to, such as
// TLS. It keeps no bytes longer than it must and never waits. Its methods append
// to dst and give the result; the session's loop alone calls them.
type Filter interface {
	// In takes bytes of the stream and gives what they hold for the descriptor.
	// io.EOF: the peer has ended this direction in good order.
	In(dst, p []byte) ([]byte, error)
	// Ended says whether the stream may end here: an error where bytes are missing.
	Ended() error
	// Out takes bytes of the descriptor and gives what is sent for them.
	Out(dst, p []byte) ([]byte, error)
	// Owed gives what must be sent on the filter's own account.
	Owed(dst []byte) []byte
	// End gives the last bytes of the outgoing direction.
	End(dst []byte) []byte
}

// maxOwed bounds what a filter sends on its own account and the other side does
// not take.
const maxOwed = 64 << 10

func (r *relay) filterOut() error {
	if r.s.queuedMuch() {
		return errWouldBlock
	}
	l := &r.s.loop
	if l.scratch == nil {
		l.scratch = make([]byte, filtered)
	}
	n, err := readNow(r.fd, l.scratch)
	if err != nil {
		return err
	}
	if r.toPeer, err = r.filter.Out(r.toPeer, l.scratch[:n]); err != nil {
		return err
	}
	r.drain()
	return nil
}

func (r *relay) sendOwed() {
	if r.finSent {
		return
	}
	if r.toPeer = r.filter.Owed(r.toPeer); len(r.toPeer) > 0 {
		r.drain()
	}
}

// drain queues what waits for the peer, as far as there is credit.
func (r *relay) drain() {
	for len(r.toPeer) > 0 {
		r.st.mu.Lock()
		n := min(len(r.toPeer), r.st.credit, MaxPayload)
		r.st.credit -= n
		r.st.mu.Unlock()
		if n == 0 {
			return
		}
		r.s.queue(frameData, r.st.id, r.toPeer[:n])
		r.toPeer = r.toPeer[n:]
	}
	r.toPeer = nil
	if r.outEnd {
		r.fin()
	}
}

// lastWords ends the direction to the peer.
func (r *relay) lastWords() {
	if r.filter != nil {
		r.toPeer = r.filter.End(r.toPeer)
	}
	r.drain()
}
