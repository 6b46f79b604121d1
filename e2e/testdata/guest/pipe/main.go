// Command pipe joins the first connection of the listener "web" to the connection
// "peer", both ways, and ends with them.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
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
			peer, err = net.FileConn(os.NewFile(uintptr(fd), name))
		}
		if err != nil {
			return err
		}
	}
	c, err := web.Accept()
	if err != nil {
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
