//go:build linux

package warden

import (
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// runSealer is the life of a Keep with the built-in sealer: no guest runs, and the
// host asks (serveSeal) until it wants no more.
func (w *warden) runSealer() link.Exit {
	w.Child.Kill() // it has nothing to do
	select {
	case <-w.stopping:
	case <-w.sess.Done():
	}
	return link.Exit{Kind: link.ExitStopped}
}

// serveSeal seals or opens one thing for the host.
func (w *warden) serveSeal(st *link.Stream) {
	defer st.Close()
	select {
	case <-w.admitted:
	case <-w.sess.Done():
		return
	}
	if w.cfg.Builtin != workload.BuiltinSealer {
		st.Reset(link.CodeUnknown, "this Keep is no sealer")
		return
	}
	_ = st.SetDeadline(time.Now().Add(handoverTime))
	var q link.SealRequest
	if err := link.ReadRecord(st, link.MaxSealRecord, &q); err != nil {
		st.Reset(link.CodeFailed, "the request does not decode")
		return
	}
	_ = link.WriteRecord(st, w.sealerAnswer(q))
	clear(q.Data)
}

func (w *warden) sealerAnswer(q link.SealRequest) link.SealReply {
	err := q.Check()
	if err != nil {
		return link.SealReply{Error: err.Error()}
	}
	// One at a time: the host serves few such streams of its processor at once.
	w.sealing.Lock()
	defer w.sealing.Unlock()
	c := sealContext{workload: w.digest}
	local := &w.identity.local
	var out []byte
	if q.Op == link.OpSeal {
		out, err = sealBytes(w.deriveKey, uint64(local.CommittedTCB), local.GuestSVN, c, q.Data, q.AAD)
	} else {
		out, err = openSealed(w.deriveKey, c, q.Data, q.AAD)
	}
	if err != nil {
		return link.SealReply{Error: err.Error()}
	}
	return link.SealReply{Data: out}
}
