package link

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Version of the link's wire form. Both sides must speak the same one: the Keep's
// program and the host's come from one release.
const Version = 1

// A hello is 16 bytes: magic (8), version (u16, big endian), six zero bytes.
const (
	helloSize  = 16
	guestMagic = "DONJON-K"
	hostMagic  = "DONJON-H"
	// maxNoise is how much firmware and kernel noise the host skips before the
	// guest's magic must have come.
	maxNoise = 64 << 10
)

func hello(magic string) []byte {
	b := make([]byte, helloSize)
	copy(b, magic)
	binary.BigEndian.PutUint16(b[8:], Version)
	return b
}

func checkHello(b []byte) error {
	if v := binary.BigEndian.Uint16(b[8:10]); v != Version {
		return fmt.Errorf("link: version: found %d, wanted %d", v, Version)
	}
	for _, c := range b[10:helloSize] {
		if c != 0 {
			return protocolErrorf("reserved bytes of the hello are not zero")
		}
	}
	return nil
}

// greetHost is the guest's half of the greeting: it speaks first.
func greetHost(rw io.ReadWriter) error {
	if _, err := rw.Write(hello(guestMagic)); err != nil {
		return fmt.Errorf("link: greeting the host: %w", err)
	}
	var b [helloSize]byte
	if _, err := io.ReadFull(rw, b[:]); err != nil {
		return fmt.Errorf("link: waiting for the host's answer: %w", err)
	}
	if string(b[:8]) != hostMagic {
		return protocolErrorf("the host's answer begins with %q, wanted %q", b[:8], hostMagic)
	}
	return checkHello(b[:])
}

// greetGuest is the host's half: it drops everything before the guest's magic
// and only then says its own.
func greetGuest(rw io.ReadWriter) error {
	var b [helloSize]byte
	n, skipped := 0, 0
	for {
		m, err := io.ReadAtLeast(rw, b[n:helloSize], 1)
		if err != nil {
			return fmt.Errorf("link: waiting for the Keep's first word: %w", err)
		}
		n += m
		// Drop bytes until the buffer begins with as much of the magic as it holds.
		for n > 0 && string(b[:min(n, 8)]) != guestMagic[:min(n, 8)] {
			copy(b[:], b[1:n])
			n--
			skipped++
		}
		if skipped > maxNoise {
			return protocolErrorf("no hello in the first %d bytes", maxNoise)
		}
		if n == helloSize {
			break
		}
	}
	if err := checkHello(b[:]); err != nil {
		return err
	}
	if _, err := rw.Write(hello(hostMagic)); err != nil {
		return fmt.Errorf("link: greeting the Keep: %w", err)
	}
	return nil
}
