//go:build linux

package link

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // io.Discard's buffers are pooled, and a pool outlives one collection
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// T28: the most that one side can make the other buffer is a window for each
// stream that may be open; more streams are busy, and the session lives.
func TestT28BufferedBytes(t *testing.T) {
	host, guest := sessions(t)
	before := heap()
	unread := make(chan *Stream, MaxStreams)
	go func() {
		for {
			st, err := host.Accept()
			if err != nil {
				return
			}
			unread <- st
		}
	}()
	fill := make([]byte, InitialWindow+1)
	var kept []*Stream
	for range MaxStreams {
		st, err := guest.Open(ServiceConn, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = st.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if n, err := st.Write(fill[:InitialWindow]); n != InitialWindow || err != nil {
			t.Fatalf("found %d, %v", n, err)
		}
		kept = append(kept, st)
		<-unread
	}
	_ = kept[0].SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := kept[0].Write(fill); n != 0 || err == nil {
		t.Errorf("%d bytes were taken over the window, %v", n, err)
	}
	if got := heap() - before; got > 2*MaxStreams*InitialWindow {
		t.Errorf("%d MiB are held, wanted at most %d", got>>20, 2*MaxStreams*InitialWindow>>20)
	}
	if _, err := guest.Open(ServiceConn, nil); err == nil {
		t.Error("one stream more is open")
	}
	for _, st := range kept {
		st.Reset(CodeCancelled, "")
	}
	st, err := guest.Open(ServiceConn, nil)
	if err != nil {
		t.Fatalf("closing them gives no room: %v", err)
	}
	_ = st.Close()
	if host.Err() != nil || guest.Err() != nil {
		t.Errorf("the session ended: %v, %v", host.Err(), guest.Err())
	}
}

// T28: 100,000 streams opened and reset leave nothing in either session.
func TestT28HundredThousandStreams(t *testing.T) {
	for name, swap := range map[string]bool{"by the guest": false, "by the host": true} {
		t.Run(name, func(t *testing.T) {
			victim, attacker := sessions(t)
			if swap {
				victim, attacker = attacker, victim
			}
			go func() {
				for {
					st, err := victim.Accept()
					if err != nil {
						return
					}
					go func() { _, _ = io.Copy(io.Discard, st); _ = st.Close() }()
				}
			}()
			before := heap()
			for range 100_000 {
				st, err := attacker.Open(ServiceDial, []byte("parameters"))
				if err != nil {
					t.Fatal(err)
				}
				st.Reset(CodeCancelled, "enough")
			}
			// What is asked last is answered: nothing hangs, nothing was lost.
			last, err := attacker.Open(ServiceDial, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = last.CloseWrite()
			_ = last.SetReadDeadline(time.Now().Add(30 * time.Second))
			var reset *ResetError
			if _, err := last.Read(make([]byte, 1)); err != io.EOF && !errors.As(err, &reset) {
				t.Errorf("found %v", err)
			}
			for _, s := range []*Session{victim, attacker} {
				for range 500 { // resets are on their way
					if streamsOf(s) == 0 {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				if n := streamsOf(s); n != 0 || s.Err() != nil {
					t.Errorf("%d streams are left, %v", n, s.Err())
				}
			}
			if now := heap(); now > before+16<<20 {
				t.Errorf("%d MiB are left", (now-before)>>20)
			}
		})
	}
}

// T28: who makes us answer and reads nothing is cut off at a bound.
func TestT28AnswersThatNobodyReads(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	s, err := newSession(a, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text := make([]byte, MaxParams-1)
	go func() { // opens more than may be open: each one more is answered
		for id := uint32(1); ; id += 2 {
			f := append(appendHeader(nil, frameOpen, 1+len(text), id), byte(ServiceConn))
			if _, err := b.Write(append(f, text...)); err != nil {
				return
			}
		}
	}()
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
		t.Fatal("the session lives on")
	}
	var pe *ProtocolError
	if !errors.As(s.Err(), &pe) {
		t.Errorf("found %v, wanted a protocol error", s.Err())
	}
}

// Who opens and resets streams faster than the channel takes them waits for it:
// that is not the other side's fault.
func TestT28OpeningWaitsForTheChannel(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	s, err := newSession(a, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const count = 10 * maxPendingHard / MaxParams
	var opened atomic.Int64
	done := make(chan error, 1)
	go func() {
		for range count {
			st, err := s.Open(ServiceConn, make([]byte, MaxParams-1))
			if err != nil {
				done <- err
				return
			}
			st.Reset(CodeCancelled, "")
			opened.Add(1)
		}
		done <- nil
	}()
	for last := int64(-1); opened.Load() != last; time.Sleep(200 * time.Millisecond) { // until it stands still
		last = opened.Load()
	}
	if n := opened.Load(); n == count {
		t.Error("all are open although nobody reads")
	}
	go func() { _, _ = io.Copy(io.Discard, b) }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("after %d streams: %v", opened.Load(), err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits on although the channel is read")
	}
}
