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

// sessions gives the two ends of a link over a socket pair, as a Keep has one.
func sessions(t *testing.T) (host, guest *Session) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return sessionsOver(t, os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link"))
}

func sessionsOver(t *testing.T, a, b io.ReadWriteCloser) (host, guest *Session) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		guest, err = Guest(b)
		done <- err
	}()
	host, err := Host(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(); guest.Close() })
	return host, guest
}

// Firmware writes to the port before the guest does: the host drops it.
func TestHostDropsWhatComesBeforeTheHello(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		_, _ = b.Write([]byte("SeaBIOS DONJON- DONJODONJON-D"))
		_, _ = Guest(b)
	}()
	s, err := Host(a)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestHelloRefuses(t *testing.T) {
	for name, said := range map[string][]byte{
		"another version": append([]byte("DONJON-K"), 0, 9, 0, 0, 0, 0, 0, 0),
		"reserved bytes":  append([]byte("DONJON-K"), 0, 1, 0, 0, 0, 0, 0, 7),
		"noise only":      bytes.Repeat([]byte("x"), maxNoise+64),
		"an early end":    []byte("DONJ"),
	} {
		a, b := net.Pipe()
		go func() { _, _ = b.Write(said); _ = b.Close() }()
		if _, err := Host(a); err == nil {
			t.Errorf("%s: accepted", name)
		}
		_ = a.Close()
	}
}

func TestBytesArriveBothWays(t *testing.T) {
	t.Run("a descriptor", func(t *testing.T) {
		host, guest := sessions(t)
		bothWays(t, host, guest)
	})
	t.Run("no descriptor", func(t *testing.T) {
		a, b := net.Pipe()
		host, guest := sessionsOver(t, a, b)
		bothWays(t, host, guest)
	})
}

func bothWays(t *testing.T, host, guest *Session) {
	t.Helper()
	want := make([]byte, 3<<20+17)
	rand.Read(want)
	go func() {
		st, err := host.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(st, st)
		_ = st.CloseWrite()
	}()
	st, err := guest.Open(ServiceDial, []byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = st.Write(want); _ = st.CloseWrite() }()
	got, err := io.ReadAll(st)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("found %d bytes (%v), wanted the same %d", len(got), err, len(want))
	}
}

// A stream that nobody reads stands still at its window and lets others pass.
func TestSlowReaderSlowsOnlyItsOwnStream(t *testing.T) {
	host, guest := sessions(t)
	slow, _ := guest.Open(ServiceStdout, nil)
	sent := make(chan int, 1)
	go func() {
		_ = slow.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, _ := slow.Write(make([]byte, 1<<20))
		sent <- n
	}()
	unread, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fast, _ := guest.Open(ServiceStderr, nil)
	go func() { _, _ = fast.Write(make([]byte, 1<<20)); _ = fast.CloseWrite() }()
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, other); err != nil || n != 1<<20 {
		t.Fatalf("the fast stream: %d bytes, %v", n, err)
	}
	if n := <-sent; n != InitialWindow {
		t.Errorf("the slow stream took %d bytes, wanted its window of %d", n, InitialWindow)
	}
	_ = unread.Close()
}

func TestResetTellsWhy(t *testing.T) {
	host, guest := sessions(t)
	st, _ := guest.Open(ServiceDial, nil)
	peer, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer.Reset(CodeRefused, "not declared")
	var r *ResetError
	if _, err := st.Read(make([]byte, 1)); !errors.As(err, &r) || r.Code != CodeRefused || r.Text != "not declared" {
		t.Fatalf("found %v", err)
	}
}

// What no session of ours sends ends the session, never the process.
func TestProtocolErrors(t *testing.T) {
	frame := func(k frameType, id uint32, p string) []byte {
		return append(appendHeader(nil, k, len(p), id), p...)
	}
	many := frame(frameOpen, 1, "\x01")
	for i := 0; i <= InitialWindow/MaxPayload; i++ {
		many = append(many, frame(frameData, 1, string(make([]byte, MaxPayload)))...)
	}
	for name, raw := range map[string][]byte{
		"stream 0":         frame(frameData, 0, "x"),
		"unknown type":     frame(9, 1, ""),
		"never opened":     frame(frameData, 1, "x"),
		"wrong first id":   frame(frameOpen, 3, "\x01"),
		"host's id":        frame(frameOpen, 2, "\x01"),
		"open twice":       append(frame(frameOpen, 1, "\x01"), frame(frameOpen, 1, "\x01")...),
		"empty data":       append(frame(frameOpen, 1, "\x01"), frame(frameData, 1, "")...),
		"over the window":  many,
		"huge credit":      append(frame(frameOpen, 1, "\x01"), frame(frameCredit, 1, "\xff\xff\xff\xff")...),
		"no credit":        append(frame(frameOpen, 1, "\x01"), frame(frameCredit, 1, "\x00\x00\x00\x00")...),
		"data after end":   append(frame(frameOpen, 1, "\x01"), append(frame(frameFin, 1, ""), frame(frameData, 1, "x")...)...),
		"payload too long": appendHeader(nil, frameData, MaxPayload+1, 1),
	} {
		a, b := net.Pipe()
		go func() {
			_, _ = b.Write(hello(guestMagic))
			_, _ = io.ReadFull(b, make([]byte, helloSize))
			go func() { _, _ = io.Copy(io.Discard, b) }()
			_, _ = b.Write(raw)
		}()
		s, err := Host(a)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the session lives on", name)
		}
		var pe *ProtocolError
		if !errors.As(s.Err(), &pe) {
			t.Errorf("%s: found %v, wanted a protocol error", name, s.Err())
		}
		_ = b.Close()
	}
}

// More streams than are allowed are refused one by one (T28); the session lives.
func TestTooManyStreams(t *testing.T) {
	host, guest := sessions(t)
	var kept []*Stream
	go func() {
		for {
			st, err := host.Accept()
			if err != nil {
				return
			}
			_, _ = st.Write([]byte("."))
		}
	}()
	var err error
	for range 4 * MaxStreams { // the other side may have reset some as busy
		var st *Stream
		if st, err = guest.Open(ServiceConn, nil); err != nil {
			break
		}
		kept = append(kept, st)
	}
	if err == nil || len(kept) < MaxStreams {
		t.Fatalf("opened %d streams, %v; wanted at least %d and then an error", len(kept), err, MaxStreams)
	}
	if guest.Err() != nil {
		t.Fatalf("the session ended: %v", guest.Err())
	}
}

func TestRecords(t *testing.T) {
	var b bytes.Buffer
	if err := WriteRecord(&b, Exit{Kind: ExitTrap, Text: "x"}); err != nil {
		t.Fatal(err)
	}
	var e Exit
	if err := ReadRecord(bytes.NewReader(b.Bytes()), MaxRecord, &e); err != nil || e.Text != "x" || e.Check() != nil {
		t.Fatalf("found %+v, %v", e, err)
	}
	if err := ReadRecord(bytes.NewReader(b.Bytes()), 2, &e); err == nil {
		t.Error("a record over its bound is read")
	}
	if err := Unmarshal(append(Marshal(e), 0), &e); err == nil {
		t.Error("trailing bytes are accepted")
	}
	if err := Unmarshal([]byte{0xa2, 1, 1, 1, 2}, &e); err == nil {
		t.Error("a key that stands twice is accepted")
	}
	if (Exit{Kind: 99}).Check() == nil {
		t.Error("an unknown way to end is accepted")
	}
}

// FuzzHost and FuzzGuest feed a session what the other side might send.
func FuzzHost(f *testing.F) {
	f.Add(appendHeader(nil, frameOpen, 0, 1))
	f.Add(append(appendHeader(nil, frameOpen, 1, 1), 1))
	f.Fuzz(func(t *testing.T, b []byte) { feed(t, b, false) })
}

func FuzzGuest(f *testing.F) {
	f.Add(append(appendHeader(nil, frameOpen, 1, 2), 7))
	f.Fuzz(func(t *testing.T, b []byte) { feed(t, b, true) })
}

func feed(t *testing.T, b []byte, guest bool) {
	rw := &fed{r: bytes.NewReader(b)}
	s, err := newSession(rw, guest)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			st, err := s.Accept()
			if err != nil {
				return
			}
			if st.Service()%2 == 0 {
				ours, theirs := socketPair(t)
				st.Relay(ours, nil, nil)
				wg.Go(func() { _, _ = io.Copy(theirs, theirs); _ = theirs.Close() })
				continue
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, st) })
		}
	})
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the session does not end with its channel")
	}
	wg.Wait()
}

type fed struct{ r io.Reader }

func (f *fed) Read(p []byte) (int, error)  { return f.r.Read(p) }
func (f *fed) Write(p []byte) (int, error) { return len(p), nil }
func (f *fed) Close() error                { return nil }

func FuzzRecords(f *testing.F) {
	f.Add(Marshal(Offer{Manifest: []byte("{}"), MaxMemory: 1, MaxCPU: 2, TEE: "sim", Args: []string{"a", ""}, Env: []string{"K=V"}, Signatures: [][]byte{{1}, {}}}))
	f.Add(Marshal(Exit{Kind: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []any{new(Offer), new(Exit), new(PortReply), new(ReportReply), new(BlobRequest), new(Conn), new(LogLine), new(EvidenceReply), new(SealRequest), new(SealReply)} {
			_ = Unmarshal(b, v)
		}
	})
}

// FuzzSealRequest is a record of the host's.
func FuzzSealRequest(f *testing.F) {
	f.Add(Marshal(SealRequest{Op: OpSeal, Data: []byte("x"), AAD: []byte("y")}))
	f.Add(Marshal(SealRequest{Op: OpOpen, Data: make([]byte, MaxSealed)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q SealRequest
		if Unmarshal(b, &q) == nil && q.Check() == nil && (len(q.Data) > MaxSealed || len(q.AAD) > MaxSealAAD) {
			t.Errorf("accepted %d bytes and %d of AAD", len(q.Data), len(q.AAD))
		}
	})
}
