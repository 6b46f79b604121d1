//go:build linux

package warden

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
)

// guestEnd makes a guest's end readable by this test without blocking a thread.
func guestEnd(t *testing.T, f *os.File) *os.File {
	t.Helper()
	var fd int
	control(f, func(n int) { fd, _ = unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3) })
	if err := errors.Join(unix.SetNonblock(fd, true), f.Close()); err != nil {
		t.Fatal(err)
	}
	g := os.NewFile(uintptr(fd), "guest")
	t.Cleanup(func() { _ = g.Close() })
	return g
}

// piped relays between a peer and a guest and gives both far ends.
func piped(t *testing.T) (peer *link.Stream, guest *os.File, done chan struct{}) {
	t.Helper()
	host, inside := sessions(t)
	ours, theirs, err := rawPair()
	if err != nil {
		t.Fatal(err)
	}
	st, err := inside.Open(link.ServiceDial, nil)
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = host.Accept(); err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{})
	st.Relay(ours, nil, func(int, bool) { close(done) })
	return peer, guestEnd(t, theirs), done
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: it does not end", what)
	}
}

// Each direction ends on its own, and bytes that were on their way arrive.
func TestRelayHalfCloses(t *testing.T) {
	peer, guest, done := piped(t)
	_, _ = peer.Write([]byte("question"))
	_ = peer.CloseWrite()
	if b, err := io.ReadAll(guest); err != nil || string(b) != "question" {
		t.Errorf("the guest found %q, %v", b, err)
	}
	// The guest answers after the peer has ended its direction.
	answer := bytes.Repeat([]byte("answer"), 100_000)
	go func() { _, _ = guest.Write(answer); _ = guest.Close() }()
	if b, err := io.ReadAll(peer); err != nil || !bytes.Equal(b, answer) {
		t.Errorf("the peer found %d bytes, %v", len(b), err)
	}
	within(t, "the relay", done)
}

// A peer that breaks off ends the guest's connection, and the other way round.
func TestRelayBreaks(t *testing.T) {
	peer, guest, done := piped(t)
	peer.Reset(link.CodeFailed, "gone")
	within(t, "a reset", done)
	if _, err := io.ReadAll(guest); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
	peer, guest, done = piped(t)
	_ = guest.Close()
	within(t, "a guest that closed", done)
	_ = peer.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the peer is not told: %v", err)
	}
}

// The budget of output is kept to the byte.
func TestMoveKeepsItsBudget(t *testing.T) {
	for _, c := range []struct {
		budget, size int64
		out          int64
		over         bool
	}{{10, 9, 9, false}, {10, 10, 10, false}, {10, 11, 10, true}, {0, 1, 0, true}, {pumpBuffer + 5, 3 * pumpBuffer, pumpBuffer + 5, true}} {
		var left atomic.Int64
		left.Store(c.budget)
		var out bytes.Buffer
		n, err := move(&out, strings.NewReader(strings.Repeat("x", int(c.size))), &left)
		if n != c.out || int64(out.Len()) != c.out || errors.Is(err, errLimit) != c.over {
			t.Errorf("%d of %d: found %d bytes, %v", c.size, c.budget, out.Len(), err)
		}
	}
}

// T19: a guest that does what it likes with its end of a listener harms nobody
// but itself.
func TestT19HostileListener(t *testing.T) {
	conn := func() *os.File {
		_, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = theirs.Close() })
		return theirs
	}
	t.Run("passes", func(t *testing.T) {
		ours, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		defer theirs.Close()
		// What the guest writes into its listener is never read, be it descriptors.
		control(theirs, func(fd int) {
			for unix.Sendmsg(fd, []byte("evil"), unix.UnixRights(0, 1, 2), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) == nil {
			}
		})
		if err := pass(ours, conn()); err != nil {
			t.Fatal(err)
		}
		var one [1]byte
		oob := make([]byte, 64)
		control(theirs, func(fd int) {
			n, m, _, _, err := unix.Recvmsg(fd, one[:], oob, unix.MSG_CMSG_CLOEXEC)
			if err != nil || n != 1 {
				t.Errorf("found %d, %v", n, err)
				return
			}
			msgs, err := unix.ParseSocketControlMessage(oob[:m])
			if err != nil || len(msgs) != 1 {
				t.Errorf("found %d messages, %v", len(msgs), err)
				return
			}
			fds, err := unix.ParseUnixRights(&msgs[0])
			if err != nil || len(fds) != 1 {
				t.Errorf("found %v, %v", fds, err)
			}
			for _, f := range fds {
				_ = unix.Close(f)
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		ours, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		_ = theirs.Close()
		if err := pass(ours, conn()); err == nil {
			t.Error("a connection was passed to nobody")
		}
	})
	t.Run("accepts nothing", func(t *testing.T) {
		ours, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c := conn()
			for pass(ours, c) == nil {
			}
		}()
		select {
		case <-ended:
			t.Error("passing failed although the listener is open")
		case <-time.After(300 * time.Millisecond):
		}
		_ = ours.Close() // the host closed the listener, or the link ended
		within(t, "a pass that waits", ended)
	})
}
