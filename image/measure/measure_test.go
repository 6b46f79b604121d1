package measure

import (
	"crypto/sha256"
	"testing"
)

// Every input changes the digest, and nothing else does.
func TestSimulated(t *testing.T) {
	base := Launch{Firmware: []byte("firmware"), Kernel: sha256.Sum256([]byte("k")), Initrd: sha256.Sum256([]byte("i")), Cmdline: "quiet"}
	want := Simulated(base)
	if Simulated(base) != want {
		t.Fatal("the same launch gives two digests")
	}
	for name, change := range map[string]func(*Launch){
		"firmware": func(l *Launch) { l.Firmware = []byte("firmwarf") },
		"kernel":   func(l *Launch) { l.Kernel[0] ^= 1 },
		"initrd":   func(l *Launch) { l.Initrd[31] ^= 1 },
		"cmdline":  func(l *Launch) { l.Cmdline = "quiet " },
		"none":     func(l *Launch) { l.Firmware = nil },
	} {
		l := base
		change(&l)
		if Simulated(l) == want {
			t.Errorf("another %s gives the same digest", name)
		}
	}
	if Sim([32]byte{1}) == Sim([32]byte{2}) {
		t.Error("another program gives the same digest")
	}
}
