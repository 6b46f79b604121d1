//go:build linux

// Command guest is the first process of the virtual machines that package vmbench
// measures. Its link-time variable says what it does: "off" powers the machine off
// at once, "port" opens the link's port and says hello, then does what the host
// asks for: bytes over the port as they are, or over a session of package link.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/warden/boot"
)

var mode = "port"

func main() {
	if !boot.IsInit(os.Args) {
		fmt.Fprintln(os.Stderr, "guest: only as a virtual machine's first process")
		os.Exit(2)
	}
	defer boot.PowerOff()
	if mode == "off" {
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// serve says hello and takes one order: a letter and a number of bytes.
func serve() error {
	f, err := boot.Run()
	if err != nil {
		return err
	}
	if _, err := f.Write([]byte{'!'}); err != nil {
		return err
	}
	order := make([]byte, 9)
	if _, err := io.ReadFull(f, order); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint64(order[1:]))
	if order[0] == 'r' {
		return exchange(f, n)
	}
	sess, err := link.Guest(f)
	if err != nil {
		return err
	}
	defer sess.Close()
	st, err := sess.Open(link.ServiceStdin, nil)
	if err != nil {
		return err
	}
	st.Grow(link.MaxWindow)
	if err := exchange(st, n); err != nil {
		return err
	}
	<-sess.Done()
	return nil
}

// exchange takes n bytes, says so with one, and sends n bytes.
func exchange(rw io.ReadWriter, n int64) error {
	buf := make([]byte, link.MaxPayload)
	if _, err := io.CopyBuffer(onlyWriter{io.Discard}, io.LimitReader(rw, n), buf); err != nil {
		return err
	}
	if _, err := rw.Write([]byte{'.'}); err != nil {
		return err
	}
	for n > 0 {
		m := min(n, int64(len(buf)))
		if _, err := rw.Write(buf[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// onlyWriter hides ReadFrom, so that the copy uses the buffer it is given.
type onlyWriter struct{ io.Writer }
