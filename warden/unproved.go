//go:build linux

package warden

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// What clients can make a Keep hold beside a window of the link before it knows them is
// little for each, and more for a few: of 1,024 that anybody can make, 256 KiB each would
// be the workload's memory.
const (
	// freeProof is what every client may send behind its handshake, in bytes of TLS: the
	// proof of a Keep that staples little.
	freeProof = 16 << 10
	// maxLarge is how many may send more at once. Each reads at most evidence.MaxSize.
	maxLarge = 8
)

// An unproved client sends what is to prove it. What goes beyond freeProof waits for one
// of the places, and has it until done.
type unproved struct {
	ctx    context.Context // as long as the proof may take
	places chan struct{}
	left   int // bytes that may be read without a place
	has    bool
}

// room gives how many of n bytes may be read of st now.
func (u *unproved) room(st *link.Stream, n int) (int, error) {
	if u.has {
		return n, nil
	}
	if u.left > 0 {
		return min(n, u.left), nil
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case u.places <- struct{}{}:
			u.has = true
			return n, nil
		case <-u.ctx.Done():
			return 0, fmt.Errorf("warden: too many clients prove themselves at once: %w", u.ctx.Err())
		case <-tick.C:
			if st.Ended() { // nobody waits any more
				return 0, errors.New("warden: the client left before it had proved itself")
			}
		}
	}
}

func (u *unproved) took(n int) { u.left -= n }

func (u *unproved) done() {
	if u.has {
		<-u.places
		u.has = false
	}
}
