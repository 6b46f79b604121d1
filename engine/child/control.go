//go:build linux

package child

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tell says one word, with what belongs to it.
func (p *Process) tell(word byte, body []byte, fds ...int) error {
	return p.control(func(fd int) error { return send(fd, append([]byte{word}, body...), fds) })
}

func rawFD(f *os.File) int {
	c, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	_ = c.Control(func(u uintptr) { fd = int(u) })
	return fd
}

func (p *Process) control(do func(fd int) error) error {
	c, err := p.ctl.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Write(func(fd uintptr) bool {
		inner = do(int(fd))
		return inner != unix.EAGAIN
	}); err != nil {
		return err
	}
	if inner != nil {
		return fmt.Errorf("child: control socket: %w", inner)
	}
	return nil
}

func (p *Process) next() (event, *os.File, error) {
	var msg []byte
	var fds []int
	c, err := p.ctl.SyscallConn()
	if err != nil {
		return event{}, nil, err
	}
	var inner error
	err = c.Read(func(fd uintptr) bool {
		msg, fds, inner = receive(int(fd), 1)
		return !errors.Is(inner, unix.EAGAIN)
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return event{}, nil, err
	}
	var f *os.File
	if len(fds) == 1 {
		f = os.NewFile(uintptr(fds[0]), "cache")
	}
	var e event
	if err := unmarshal(msg, &e); err != nil {
		if f != nil {
			_ = f.Close()
		}
		return event{}, nil, fmt.Errorf("child: a control message does not decode: %w", err)
	}
	return e, f, nil
}
