//go:build linux

package link

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"testing"
)

// A file arrives as it is, between frames of other streams, and a stream's window
// holds for it too.
func TestSendFile(t *testing.T) {
	host, guest := sessions(t)
	want := make([]byte, 3<<20+11)
	rand.Read(want)
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(want); err != nil {
		t.Fatal(err)
	}
	near, far, _ := relayed(t, host, guest)
	go func() { _, _ = io.Copy(far, far) }()
	st, err := host.Open(ServiceConn, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := guest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		sent <- st.SendFile(f, int64(len(want)))
		_ = st.CloseWrite()
	}()
	for i := range 200 { // meanwhile another stream goes on
		_, _ = near.Write([]byte{byte(i)})
		var b [1]byte
		if _, err := io.ReadFull(near, b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("echo: %v", err)
		}
	}
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("found %d bytes, %v", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	// A file that is shorter than was said: the stream fails, and no other.
	st, err = host.Open(ServiceConn, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err = guest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }()
	if err := st.SendFile(f, int64(len(want))+5); err == nil {
		t.Error("a file was longer than it is")
	}
	_, _ = near.Write([]byte("x"))
	var b [1]byte
	if _, err := io.ReadFull(near, b[:]); err != nil {
		t.Errorf("echo after it: %v", err)
	}
}
