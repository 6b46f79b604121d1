// Command pipe joins the first connection of the listener "web" that says something to
// the connection "peer", both ways, and ends with them.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var web net.Listener
	var peer net.Conn
	var err error
	for fd, name := range strings.Split(os.Getenv("FD_NAMES"), ":") {
		switch name {
		case "web":
			web, err = net.FileListener(os.NewFile(uintptr(fd), name))
		case "peer":
			// Else a read that waits stops the whole program.
			if err := syscall.SetNonblock(fd, true); err != nil {
				return err
			}
			peer, err = net.FileConn(os.NewFile(uintptr(fd), name))
		}
		if err != nil {
			return err
		}
	}
	var c net.Conn
	first := make([]byte, 4096)
	n := 0
	for n == 0 { // who only looks at the Keep says nothing
		if c, err = web.Accept(); err != nil {
			return err
		}
		if n, err = c.Read(first); n == 0 {
			_ = c.Close()
		}
	}
	if _, err := peer.Write(first[:n]); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, peer)
		_ = c.Close()
	}()
	_, err = io.Copy(peer, c)
	_ = peer.Close()
	return err
}
