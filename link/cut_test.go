package link

import (
	"io"
	"testing"
	"time"
)

// A relay that is cut from outside ends in disorder on both sides, once, whenever that
// is asked for.
func TestCut(t *testing.T) {
	for name, when := range map[string]func(cut, relay func()){
		"in use":               func(cut, relay func()) { relay(); cut() },
		"twice":                func(cut, relay func()) { relay(); cut(); cut() },
		"as soon as it begins": func(cut, relay func()) { relay(); go cut() },
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := sessions(t)
			st, err := guest.Open(ServiceDial, nil)
			if err != nil {
				t.Fatal(err)
			}
			other, err := host.Accept()
			if err != nil {
				t.Fatal(err)
			}
			near, far := socketPair(t)
			defer far.Close()
			near2, far2 := socketPair(t)
			defer far2.Close()
			ended := make(chan bool, 4)
			note := func(_ int, orderly bool) { ended <- orderly }
			other.Relay(near2, nil, note)
			when(st.Cut, func() { st.Relay(near, nil, note) })
			for range 2 {
				select {
				case orderly := <-ended:
					if orderly {
						t.Error("a cut passed for the end")
					}
				case <-time.After(10 * time.Second):
					t.Fatal("the cut is not told")
				}
			}
			_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("found %d bytes, %v", n, err)
			}
		})
	}
	// Of a stream that is no relay, or of a session that has ended, nothing comes.
	host, guest := sessions(t)
	st, err := guest.Open(ServiceDial, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := host.Accept()
	if err != nil {
		t.Fatal(err)
	}
	st.Cut()
	if _, err := st.Write([]byte("still here")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 10)
	if _, err := io.ReadFull(other, b); err != nil || string(b) != "still here" {
		t.Errorf("found %q, %v", b, err)
	}
	_ = guest.Close()
	st.Cut()
}
