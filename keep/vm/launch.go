//go:build linux

package vm

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
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/keep"
)

// Launch boots a Keep and returns when its first byte has come over the link (and
// is still to be read from it). A boot that fails is a *StageError. The machine
// ends with ctx, with Kill, with this process, or by itself.
func Launch(ctx context.Context, spec keep.Spec, o Options) (keep.Machine, error) {
	p, err := Prepare(ctx, spec, o)
	if err != nil {
		return nil, err
	}
	return p.Launch(ctx, spec, o)
}

// Launch boots what was prepared.
func (p *Plan) Launch(ctx context.Context, spec keep.Spec, o Options) (keep.Machine, error) {
	times := o.Times.withDefaults(p.target.arch)
	m, err := p.tryKVM(ctx, spec, o, times)
	if m != nil || ctx.Err() != nil {
		return m, err
	}
	var notes []string
	if err != nil {
		notes = append(notes, "emulated, and slow: no KVM: "+err.Error())
	}
	em, err := p.boot(ctx, false, times)
	if err != nil {
		return nil, err
	}
	em.notes = notes
	return em, nil
}

// tryKVM boots with KVM where it is known to work, or nothing is known yet. /dev/kvm
// proves little: where this host is itself a guest, KVM may exist and hang. So
// the first boot is the test, with a short deadline, and what it showed is kept.
func (p *Plan) tryKVM(ctx context.Context, spec keep.Spec, o Options, times Times) (keep.Machine, error) {
	if o.NoKVM || p.target.kvm == "" || p.target.arch != runtime.GOARCH {
		return nil, nil // KVM is not for this Keep, and that is nothing to talk about
	}
	if err := kvmUsable(); err != nil {
		return nil, err
	}
	works, known := p.kvmKnown(o.CacheDir)
	if known && !works {
		return nil, errors.New("an earlier boot with it failed on this host")
	}
	if !known && spec.Progress != nil {
		spec.Progress("trying KVM, once for this kernel")
	}
	t := times
	if !known {
		t.Kernel = times.Probe
	}
	m, err := p.boot(ctx, true, t)
	if err == nil {
		if !known {
			p.rememberKVM(o.CacheDir, true)
		}
		return m, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	p.rememberKVM(o.CacheDir, false)
	var stage *StageError
	if errors.As(err, &stage) {
		return nil, fmt.Errorf("the boot stopped at stage %s", stage.Stage)
	}
	return nil, err
}

// boot starts QEMU and waits for the first byte of the link.
func (p *Plan) boot(ctx context.Context, kvm bool, times Times) (*machine, error) {
	m, err := p.start(kvm)
	if err != nil {
		return nil, err
	}
	if err := m.await(ctx, times); err != nil {
		_ = m.Kill()
		_ = m.Wait()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = m.Kill() })
	go func() { <-m.done; stop() }()
	return m, nil
}

// sealed puts b into an anonymous file that nobody can change any more, under
// whose descriptor QEMU reads it: what was measured is what is booted.
func sealed(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("vm: making a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("vm: filling a file in memory: %w", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("vm: sealing a file in memory: %w", err)
	}
	return f, nil
}

func (p *Plan) start(kvm bool) (*machine, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("vm: making the link: %w", err)
	}
	files := []*os.File{os.NewFile(uintptr(fds[1]), "link")}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	ours := os.NewFile(uintptr(fds[0]), "link")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, fmt.Errorf("vm: making the link: %w", err)
	}
	link := conn.(*net.UnixConn)
	for _, part := range []struct {
		name string
		b    []byte
	}{{"kernel", p.kernel}, {"initrd", p.initrd}, {"firmware", p.firmware}} {
		f, err := sealed(part.name, part.b)
		if err != nil {
			_ = link.Close()
			return nil, err
		}
		files = append(files, f)
	}
	m := &machine{link: link, console: newConsole(), measurement: p.Measurement, done: make(chan struct{})}
	m.cmd = exec.Command(p.QEMU, p.target.arguments(kvm, p.MemoryMiB, p.Cmdline)...)
	m.cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	m.cmd.ExtraFiles = files
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	m.cmd.WaitDelay = time.Second
	// A process group of its own: a ^C at the terminal is donjon's to handle. The
	// kill at the parent's death comes when the *thread* that started QEMU ends, so
	// that thread is kept until QEMU has ended.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			m.end(m.cmd.Wait())
		}
	}()
	if err := <-started; err != nil {
		_ = link.Close()
		return nil, fmt.Errorf("vm: stage start: %w", err)
	}
	return m, nil
}

type machine struct {
	link        *net.UnixConn
	cmd         *exec.Cmd
	console     *console
	notes       []string
	measurement [48]byte

	mu     sync.Mutex
	killed bool
	err    error
	done   chan struct{} // closed when QEMU has ended
}

func (m *machine) Link() io.ReadWriteCloser { return m.link }
func (m *machine) Measurement() [48]byte    { return m.measurement }
func (m *machine) Console() []string        { return m.console.lines() }
func (m *machine) Notes() []string          { return m.notes }

// errKilled: this process ended the machine.
var errKilled = errors.New("vm: the machine was ended")

// end records how QEMU ended.
func (m *machine) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case m.killed:
		m.err = errKilled
	case errors.As(err, &exit):
		m.err = fmt.Errorf("QEMU ended: %s", exit.ProcessState)
	case err != nil:
		m.err = fmt.Errorf("vm: QEMU: %w", err)
	}
	close(m.done)
}

func (m *machine) Wait() error {
	<-m.done
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *machine) Kill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.killed {
		m.killed = true
		_ = m.link.Close()
		_ = m.cmd.Process.Kill()
	}
	return nil
}

// A StageError is a boot that did not reach the link's first byte.
type StageError struct {
	Stage   string        // start, kernel, init or link: what was under way
	After   time.Duration // since this stage began
	Cause   string        // what ended it
	Console []string      // the last lines from QEMU and the guest, raw
}

func (e *StageError) Error() string {
	s := fmt.Sprintf("vm: stage %s: %s", e.Stage, e.Cause)
	if len(e.Console) == 0 {
		return s + "; the console is empty"
	}
	return s + "; the last lines of the console:\n  " + strings.Join(e.Console, "\n  ")
}

// CauseEnded is the cause of a boot that stopped because QEMU did.
const CauseEnded = "the machine ended"

// Hint says what to do.
func (e *StageError) Hint() string {
	switch e.Stage {
	case "start":
		for _, l := range e.Console {
			if strings.Contains(l, "cannot set up guest memory") {
				return "this host cannot give the machine that much: a lower limits.memory, --memory or --max-memory asks for less"
			}
		}
		return "the lines above are QEMU's; donjon platform shows what this host has"
	case "kernel":
		return "another kernel may boot: --kernel FILE; donjon cache clean makes donjon fetch its own again"
	}
	return ""
}

// await follows the boot to the link's first byte, stage by stage.
func (m *machine) await(ctx context.Context, times Times) error {
	first := make(chan error, 1)
	go func() { first <- m.firstByte() }()
	stages := []struct {
		name  string
		limit time.Duration
		over  <-chan struct{}
	}{
		{"kernel", times.Kernel, m.console.reached("init")},
		{"init", times.Init, m.console.reached("link")},
		{"link", times.Link, nil},
	}
	for _, s := range stages {
		began := time.Now()
		timer := time.NewTimer(s.limit)
		fail := func(cause string) error {
			name := s.name
			if name == "kernel" && m.ended() && time.Since(began) < 2*time.Second && !m.console.spoke() {
				name = "start" // QEMU refused: nothing of the guest ever ran
			}
			return &StageError{Stage: name, After: time.Since(began), Cause: cause, Console: m.Console()}
		}
		select {
		case <-s.over:
			timer.Stop()
			continue
		case err := <-first:
			timer.Stop()
			if err == nil {
				return nil
			}
			select { // QEMU's end says more than the closed link
			case <-m.done:
				return fail(CauseEnded)
			case <-time.After(time.Second):
				return fail(err.Error())
			}
		case <-m.done:
			timer.Stop()
			return fail(CauseEnded)
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("vm: stage %s: %w", s.name, ctx.Err())
		case <-timer.C:
			return fail(fmt.Sprintf("nothing for %v", s.limit))
		}
	}
	return nil
}

func (m *machine) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// firstByte waits until the link has a byte to read, and leaves it there.
func (m *machine) firstByte() error {
	raw, err := m.link.SyscallConn()
	if err != nil {
		return err
	}
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			return false
		case err != nil:
			peeked = err
		case n == 0:
			peeked = errors.New("the link was closed before its first byte")
		}
		return true
	})
	if err != nil {
		return err
	}
	return peeked
}
