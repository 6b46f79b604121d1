//go:build linux

// Command init stands in for donjon-keep in the tests of package vm: it boots,
// says hello on the link, and echoes 8 bytes a time until the link is gone.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/donjon-tee/donjon/warden/boot"
)

// mute makes it open the link and say nothing; a test sets it when it builds.
var mute string

func main() {
	if !boot.IsInit(os.Args) {
		fmt.Fprintln(os.Stderr, "init: only as a virtual machine's first process")
		os.Exit(2)
	}
	defer boot.PowerOff()
	f, err := boot.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	if mute != "" {
		select {}
	}
	hello := make([]byte, 16)
	copy(hello, "DONJON-K")
	if _, err := f.Write(hello); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var b [8]byte
	for {
		if _, err := io.ReadFull(f, b[:]); err != nil {
			return
		}
		if _, err := f.Write(b[:]); err != nil {
			return
		}
	}
}
