// Command relay answers lines: on each connection of the listener "web" it reads
// one line, passes it on to the connection "peer" where there is one, and answers
// with what the peer said, or with the line itself. With the argument "once" it
// asks the peer once, with its second argument, and prints the answer.
package main

import (
	"bufio"
	"fmt"
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
	var from *bufio.Reader
	if peer != nil {
		from = bufio.NewReader(peer)
	}
	ask := func(line string) (string, error) {
		if peer == nil {
			return line, nil
		}
		if _, err := fmt.Fprintln(peer, line); err != nil {
			return "", err
		}
		s, err := from.ReadString('\n')
		return strings.TrimSpace(s), err
	}
	if len(os.Args) == 3 && os.Args[1] == "once" {
		s, err := ask(os.Args[2])
		fmt.Println(s)
		return err
	}
	for {
		c, err := web.Accept()
		if err != nil {
			return nil // the host closed the listener: a stop
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil {
			if line, err = ask(strings.TrimSpace(line)); err == nil {
				_, err = fmt.Fprintln(c, "answer", line)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = c.Close()
	}
}
