package keep

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// T28: a last word that comes while the host is busy can be said again. The one exit
// stream of a Keep is used up by being served, not by being turned away.
func TestT28LastWordAfterBusy(t *testing.T) {
	a, b := net.Pipe()
	ends := make(chan *link.Session, 1)
	go func() {
		g, err := link.Guest(b)
		if err != nil {
			t.Error(err)
		}
		ends <- g
	}()
	host, err := link.Host(a)
	if err != nil {
		t.Fatal(err)
	}
	guest := <-ends
	t.Cleanup(func() { _ = guest.Close(); _ = host.Close() })
	s := &supervisor{sess: host, exit: make(chan link.Exit, 1), opened: map[opening]bool{}, serving: map[link.Service]int{link.ServiceDial: maxServing}}
	go s.acceptLoop()

	say := func() error {
		st, err := guest.Open(link.ServiceExit, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = link.WriteRecord(st, link.Exit{Kind: link.ExitStatus, Status: 7})
		_ = st.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = io.Copy(io.Discard, st)
		return err
	}
	var reset *link.ResetError
	if err := say(); !errors.As(err, &reset) || reset.Code != link.CodeBusy {
		t.Fatalf("while the host is busy: %v, wanted busy", err)
	}
	s.mu.Lock()
	delete(s.serving, link.ServiceDial)
	s.mu.Unlock()
	st, err := guest.Open(link.ServiceExit, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = link.WriteRecord(st, link.Exit{Kind: link.ExitStatus, Status: 7})
	select {
	case e := <-s.exit:
		if e.Status != 7 {
			t.Errorf("found status %d, wanted 7", e.Status)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the last word, said again, does not arrive")
	}
	// Served once, it is refused from then on.
	if err := say(); !errors.As(err, &reset) || reset.Code != link.CodeRefused {
		t.Errorf("a second last word: %v, wanted refused", err)
	}
}
