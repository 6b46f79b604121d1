//go:build linux

package link

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPair gives a raw descriptor for a relay and the other end as a
// connection.
func socketPair(t *testing.T) (int, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "far")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], c.(*net.UnixConn)
}

// relayed opens a stream from guest to host with a relay at both ends: near and
// far are what the two descriptors lead to.
func relayed(t *testing.T, host, guest *Session, filters ...func() Filter) (near, far *net.UnixConn, ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{}, 2)
	done := func(int, bool) { ended <- struct{}{} }
	st, err := guest.Open(ServiceDial, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var f [2]Filter
	for i, make := range filters {
		f[i] = make()
	}
	a, near := socketPair(t)
	b, far := socketPair(t)
	st.Relay(a, f[0], done)
	other.Relay(b, f[1], done)
	t.Cleanup(func() { near.Close(); far.Close() })
	for _, c := range []*net.UnixConn{near, far} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return near, far, ended
}

func wait(t *testing.T, ended chan struct{}, n int) {
	t.Helper()
	for range n {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a relay did not end")
		}
	}
}

func TestRelayCarriesBothWays(t *testing.T) {
	host, guest := sessions(t)
	near, far, ended := relayed(t, host, guest)
	want := make([]byte, 5<<20+13)
	rand.Read(want)
	var wg sync.WaitGroup
	for _, c := range []*net.UnixConn{near, far} {
		wg.Go(func() {
			_, _ = c.Write(want)
			_ = c.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("found %d bytes and %v, wanted the %d that were sent", len(got), err, len(want))
			}
		})
	}
	wg.Wait()
	wait(t, ended, 2)
	if n := streamsOf(host); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func streamsOf(s *Session) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// A half-closed direction leaves the other one alone.
func TestRelayHalfClose(t *testing.T) {
	host, guest := sessions(t)
	near, far, ended := relayed(t, host, guest)
	_, _ = near.Write([]byte("question"))
	_ = near.CloseWrite()
	if b, err := io.ReadAll(far); err != nil || string(b) != "question" {
		t.Fatalf("found %q, %v", b, err)
	}
	_, _ = far.Write([]byte("answer"))
	_ = far.CloseWrite()
	if b, err := io.ReadAll(near); err != nil || string(b) != "answer" {
		t.Fatalf("found %q, %v", b, err)
	}
	wait(t, ended, 2)
}

// Who answers and closes at once is still heard, although the asker has more to
// say.
func TestRelayAnswerBeforeTheEndOfTheQuestion(t *testing.T) {
	host, guest := sessions(t)
	near, far, ended := relayed(t, host, guest)
	answer := make([]byte, 300<<10)
	rand.Read(answer)
	go func() {
		_, _ = io.ReadFull(far, make([]byte, 10))
		_, _ = far.Write(answer)
		_ = far.Close()
	}()
	go func() {
		for {
			if _, err := near.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	}()
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(near, got); err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("the answer did not arrive: %v", err)
	}
	wait(t, ended, 1)
	_ = near.Close()
	wait(t, ended, 1)
}

// A peer that reads nothing holds up its own stream and no other, and what waits
// is no more than the window.
func TestRelayBackPressure(t *testing.T) {
	host, guest := sessions(t)
	near, far, _ := relayed(t, host, guest)
	near2, far2, _ := relayed(t, host, guest)
	sent := make(chan int, 1)
	go func() {
		n := 0
		_ = near.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			m, err := near.Write(make([]byte, 4096))
			n += m
			if err != nil {
				sent <- n
				return
			}
		}
	}()
	for i := range 50 {
		_, _ = near2.Write([]byte{byte(i)})
		var b [1]byte
		if _, err := io.ReadFull(far2, b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("the other stream stands still: %v", err)
		}
	}
	n := <-sent
	if n > 2<<20 {
		t.Errorf("%d bytes vanished into a peer that reads none", n)
	}
	got, err := 0, error(nil)
	buf := make([]byte, 64<<10)
	for got < n && err == nil {
		var m int
		m, err = far.Read(buf)
		got += m
	}
	if got != n {
		t.Errorf("found %d bytes, wanted %d: %v", got, n, err)
	}
}

func TestRelayEndsWithItsSession(t *testing.T) {
	host, guest := sessions(t)
	near, far, ended := relayed(t, host, guest)
	host.Close()
	wait(t, ended, 2)
	for _, c := range []*net.UnixConn{near, far} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("found %v, wanted the end", err)
		}
	}
}

// What was received before the relay began goes first.
func TestRelayTakesOverWhatCameBefore(t *testing.T) {
	host, guest := sessions(t)
	st, err := guest.Open(ServiceDial, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = st.Write([]byte("early "))
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var b [2]byte
	if _, err := io.ReadFull(other, b[:]); err != nil {
		t.Fatal(err)
	}
	_, _ = st.Write([]byte("late"))
	_ = st.CloseWrite()
	fd, far := socketPair(t)
	defer far.Close()
	other.Relay(fd, nil, nil)
	if got, err := io.ReadAll(far); err != nil || string(got) != "rly late" {
		t.Errorf("found %q, %v", got, err)
	}
}

// Many connections at once, opened and closed while bytes flow.
func TestRelayMany(t *testing.T) {
	host, guest := sessions(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		var all []chan struct{}
		var pairs [][2]*net.UnixConn
		for range 50 {
			near, far, ended := relayed(t, host, guest)
			pairs, all = append(pairs, [2]*net.UnixConn{near, far}), append(all, ended)
		}
		go func() {
			defer wg.Done()
			for _, p := range pairs {
				wg.Go(func() { _, _ = io.Copy(p[1], p[1]); _ = p[1].Close() })
				wg.Go(func() {
					for i := range 20 {
						msg := bytes.Repeat([]byte{byte(i)}, 700)
						_, _ = p[0].Write(msg)
						got := make([]byte, len(msg))
						if _, err := io.ReadFull(p[0], got); err != nil || !bytes.Equal(got, msg) {
							t.Errorf("echo: %v", err)
							return
						}
					}
					_ = p[0].Close()
				})
			}
			for _, e := range all {
				wait(t, e, 2)
			}
		}()
	}
	wg.Wait()
	if n := streamsOf(guest); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// A session that has ended, with relays under way, leaves no descriptor open.
func TestEndedSessionsLeaveNoDescriptors(t *testing.T) {
	descriptors := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := descriptors()
	for range 20 {
		host, guest := sessions(t)
		near, far, ended := relayed(t, host, guest)
		_, _ = near.Write([]byte("under way"))
		_ = host.Close()
		wait(t, ended, 2)
		// A relay that comes too late is closed as well.
		st := newStream(host, 2, ServiceConn, nil)
		fd, late := socketPair(t)
		st.Relay(fd, nil, func(int, bool) { ended <- struct{}{} })
		wait(t, ended, 1)
		_, _, _, _ = near.Close(), far.Close(), late.Close(), guest.Close()
	}
	n := descriptors()
	for i := 0; i < 500 && n > before; i++ { // loops end on their own
		time.Sleep(10 * time.Millisecond)
		n = descriptors()
	}
	if n > before {
		t.Errorf("%d descriptors are left open, %d were", n, before)
	}
}

// What came before a relay began, with its end and even a reset behind it, reaches
// the descriptor.
func TestRelayBeginsAfterTheEnd(t *testing.T) {
	host, guest := sessions(t)
	st, err := guest.Open(ServiceDial, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = st.Write([]byte("last words"))
	_ = st.Close()
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { other.mu.Lock(); defer other.mu.Unlock(); return other.wasReset })
	fd, far := socketPair(t)
	defer far.Close()
	other.Relay(fd, nil, nil)
	if got, err := io.ReadAll(far); err != nil || string(got) != "last words" {
		t.Errorf("found %q, %v", got, err)
	}
}

func TestReadEndsBeforeAReset(t *testing.T) {
	host, guest := sessions(t)
	st, err := guest.Open(ServiceStdout, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = st.Write([]byte("last words"))
	_ = st.Close()
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { other.mu.Lock(); defer other.mu.Unlock(); return other.wasReset })
	if got, err := io.ReadAll(other); err != nil || string(got) != "last words" {
		t.Errorf("found %q, %v", got, err)
	}
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it does not come")
}

// A connection that is cut is no end at the other side.
func TestRelayTellsACut(t *testing.T) {
	host, guest := sessions(t)
	st, err := guest.Open(ServiceDial, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := Take(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	near, far := socketPair(t)
	defer far.Close()
	ended := make(chan bool, 1)
	st.Relay(near, nil, func(_ int, orderly bool) { ended <- orderly })
	other.Relay(fd, nil, nil)
	_, _ = client.Write([]byte("half an upl"))
	if _, err := io.ReadFull(far, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	select {
	case orderly := <-ended:
		if orderly {
			t.Error("a cut passed for the end")
		}
	case <-time.After(10 * time.Second):
		t.Error("the cut is not told")
	}
}
