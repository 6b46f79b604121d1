//go:build linux

// Package sim launches a Keep as a sandboxed process with simulated silicon: for
// development, on any Linux machine. It is not a TEE: whoever owns this machine
// can read the Keep's memory, and its evidence chains to a root made here.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/image/measure"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/warden/sandbox"
)

type machine struct {
	link    *net.UnixConn
	cmd     *exec.Cmd
	console *console
	notes   []string

	measureOnce sync.Once
	program     string
	early       *Hash
	measurement [48]byte

	waitOnce sync.Once
	waitErr  error
	killOnce sync.Once
}

// Launch starts donjon-keep in fresh namespaces, as far as this host allows,
// with the link as its only descriptor. early may be nil, or a hash of the program
// that was begun before.
func Launch(_ context.Context, spec keep.Spec, early *Hash) (keep.Machine, error) {
	if spec.Arch != "" && spec.Arch != runtime.GOARCH {
		return nil, fmt.Errorf("sim: a sim Keep runs on this processor (%s) alone, not on %s", runtime.GOARCH, spec.Arch)
	}
	// Descriptors that this process was started with are not the Keep's business.
	if err := sandbox.InheritNothing(); err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("sim: making the link: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "link")
	defer theirs.Close()
	ours := os.NewFile(uintptr(fds[0]), "link")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, fmt.Errorf("sim: making the link: %w", err)
	}
	m := &machine{link: conn.(*net.UnixConn), console: newConsole(), program: spec.KeepProgram, early: early}
	if err := m.startConfined(spec, theirs); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("sim: starting %s: %w", spec.KeepProgram, err)
	}
	go m.Measurement() // needed in a moment: computed beside the Keep's own start
	return m, nil
}

// startConfined starts the program in as many namespaces of its own as this host
// allows, and notes what it does not.
func (m *machine) startConfined(spec keep.Spec, link *os.File) error {
	if m.start(spec, link, sandbox.AllNamespaces()) == nil {
		return nil
	}
	attr, _, missing := sandbox.Namespaces()
	for _, x := range missing {
		m.notes = append(m.notes, x.What+": "+x.Why)
	}
	err := m.start(spec, link, attr)
	if err != nil && attr.Cloneflags != 0 {
		m.notes = append(m.notes, "namespaces: "+err.Error())
		err = m.start(spec, link, &syscall.SysProcAttr{})
	}
	return err
}

func (m *machine) start(spec keep.Spec, link *os.File, attr *syscall.SysProcAttr) error {
	args := []string{"sim"}
	if attr.Cloneflags&unix.CLONE_NEWNS == 0 {
		args = append(args, "shared-mounts")
	}
	m.cmd = exec.Command(spec.KeepProgram, args...)
	m.cmd.Env = []string{"GOTRACEBACK=none"}
	m.cmd.ExtraFiles = []*os.File{link}
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	// A session of its own: Ctrl-C at a terminal is for the host's program, which
	// ends the Keep in order.
	attr.Setsid = true
	m.cmd.SysProcAttr = attr
	return m.cmd.Start()
}

func (m *machine) Link() io.ReadWriteCloser { return m.link }
func (m *machine) Notes() []string          { return m.notes }
func (m *machine) Console() []string        { return m.console.lines() }

// Measurement is the SNP launch digest algorithm over the program that was
// started (docs/measurement.md). It is computed once.
func (m *machine) Measurement() [48]byte {
	m.measureOnce.Do(func() {
		// The very file that runs, not what lies under its name by now.
		f, err := os.Open(fmt.Sprintf("/proc/%d/exe", m.cmd.Process.Pid))
		if err != nil {
			if f, err = os.Open(m.program); err != nil {
				return
			}
		}
		defer f.Close()
		if sum, err := m.early.of(f); err == nil {
			m.measurement = measure.Sim(sum)
		}
	})
	return m.measurement
}

func (m *machine) Kill() error {
	m.killOnce.Do(func() {
		_ = m.link.Close()
		_ = m.cmd.Process.Kill() // its children die with it, or by the parent-death signal
	})
	return nil
}

func (m *machine) Wait() error {
	m.waitOnce.Do(func() {
		m.waitErr = m.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(m.waitErr, &exit) {
			m.waitErr = fmt.Errorf("sim: the Keep's process ended (%s)", exit.ProcessState)
		}
	})
	return m.waitErr
}

// A console keeps the last lines a Keep's process printed outside the link.
type console struct {
	mu   sync.Mutex
	tail []byte
}

const consoleBytes = 8 << 10

func newConsole() *console { return &console{} }

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p)
	p = p[max(0, n-consoleBytes):]
	c.tail = append(c.tail, p...)
	if over := len(c.tail) - consoleBytes; over > 0 {
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	return n, nil
}

func (c *console) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.TrimRight(string(c.tail), "\n")
	if s == "" {
		return nil
	}
	l := strings.Split(s, "\n")
	return l[max(0, len(l)-12):]
}
