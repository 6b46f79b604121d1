//go:build linux

package warden

import (
	"errors"
	"sync"

	"github.com/donjon-tee/donjon/attest/evidence"
)

// errBusy says that too many callers wait for a report already.
var errBusy = errors.New("warden: busy: too many reports are asked for at once; ask again later")

// maxAsked is how many reports may be waited for on behalf of others.
const maxAsked = 16

// A lane says on whose behalf a report is asked for.
type lane uint8

const (
	laneAsked lane = iota // the host, a connection, anyone
	laneOwn               // the Keep itself: its self-check, its certificate, its enrolment
)

// laneOf gives the lane of a purpose. What is not known to be the Keep's own use
// waits with everybody else.
func laneOf(purpose string) lane {
	switch purpose {
	case evidence.PurposeCertificate, evidence.PurposeEnrol:
		return laneOwn
	}
	return laneAsked
}

// A reportQueue lets one caller at a time at the processor. Real ones take
// milliseconds a report and refuse guests that ask too often, so whoever may ask
// could keep the Keep from enrolling (THREATS T28): the Keep's own use goes
// first, and of the others no more than maxAsked wait.
type reportQueue struct {
	from provider

	mu     sync.Mutex
	turn   sync.Cond
	inUse  bool
	own    int // callers of laneOwn that wait
	others int // callers of laneAsked that wait or are served
}

func newReportQueue(from provider) *reportQueue {
	q := &reportQueue{from: from}
	q.turn.L = &q.mu
	return q
}

func (q *reportQueue) report(l lane, data [64]byte) (raw, certs []byte, err error) {
	q.mu.Lock()
	if l == laneOwn {
		q.own++
		for q.inUse {
			q.turn.Wait()
		}
		q.own--
	} else {
		if q.others >= maxAsked {
			q.mu.Unlock()
			return nil, nil, errBusy
		}
		q.others++
		for q.inUse || q.own > 0 {
			q.turn.Wait()
		}
	}
	q.inUse = true
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.inUse = false
		if l == laneAsked {
			q.others--
		}
		q.turn.Broadcast()
		q.mu.Unlock()
	}()
	return q.from.report(data)
}
