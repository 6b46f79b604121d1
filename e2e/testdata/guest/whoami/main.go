// Command whoami answers each connection of the listener "web" with what the Keep says
// about the client in its PROXY protocol header, one fact a line, and then with the
// first line that the client sends.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
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
	var err error
	for fd, name := range strings.Split(os.Getenv("FD_NAMES"), ":") {
		if name == "web" {
			if web, err = net.FileListener(os.NewFile(uintptr(fd), name)); err != nil {
				return err
			}
		}
	}
	for {
		c, err := web.Accept()
		if err != nil {
			return nil // the host closed the listener: a stop
		}
		if err := answer(c); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = c.Close()
	}
}

func answer(c net.Conn) error {
	r := bufio.NewReader(c)
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if string(head[:12]) != "\r\n\r\n\x00\r\nQUIT\n" || head[12] != 0x21 || head[13] != 0 {
		return fmt.Errorf("no PROXY header: %x", head)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	facts, err := fields(body)
	if err != nil {
		return err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "%ssaid %s", facts, line)
	return err
}

// fields prints the TLVs, those within the one about TLS too.
func fields(b []byte) (string, error) {
	out := ""
	for len(b) > 0 {
		if len(b) < 3 {
			return "", errors.New("a TLV is cut")
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		kind, rest := b[0], b[3:]
		if n > len(rest) {
			return "", errors.New("a TLV is longer than the header")
		}
		v := rest[:n]
		b = rest[n:]
		switch kind {
		case 0x20:
			if n < 5 {
				return "", errors.New("the TLV about TLS is cut")
			}
			inner, err := fields(v[5:])
			if err != nil {
				return "", err
			}
			out += fmt.Sprintf("ssl %x verify %d\n%s", v[0], binary.BigEndian.Uint32(v[1:]), inner)
		case 0x21, 0x22, 0xe7:
			out += fmt.Sprintf("%x %s\n", kind, v)
		default:
			out += fmt.Sprintf("%x %x\n", kind, v)
		}
	}
	return out, nil
}
