//go:build linux

package child

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// Process is a child as the warden holds it. Spawn, then Confine, Compile, Code
// (where the job has a cache), Compiled, Start and Wait once each in this order;
// Slot before Compiled; Kill at any time.
type Process struct {
	ctl  *os.File
	proc *os.Process

	cache    bool // a slot is wanted
	ready    sync.Once
	slot     *os.File
	notes    []string
	readyErr error

	once  sync.Once
	state *os.ProcessState
	werr  error
	ended chan struct{}
}

// Spawn starts this very program anew as a child: `donjon-keep exec`, with the
// control socket as descriptor 3 and an empty environment. Call it before the
// sandbox forbids new programs, from a thread that lives as long as the process:
// the child dies with that thread.
func Spawn() (*Process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("child: control socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	// Non-blocking on this side alone: the runtime's poller waits for it.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, fmt.Errorf("child: control socket: %w", err)
	}
	p := &Process{ctl: os.NewFile(uintptr(pair[0]), "control"), ended: make(chan struct{})}
	p.proc, err = os.StartProcess("/proc/self/exe", []string{"donjon-keep", "exec"}, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stderr, os.Stderr, theirs}, // the empty stdin of the Keep's process; console
		Env:   []string{"GOTRACEBACK=none"},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		_ = p.ctl.Close()
		return nil, fmt.Errorf("child: starting the process that runs the guest: %w", err)
	}
	go func() {
		p.state, p.werr = p.proc.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Kill ends the child at once.
func (p *Process) Kill() {
	p.once.Do(func() { _ = p.proc.Kill() })
}

// Ended is closed once the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// CPU is the processor time the child has used.
func (p *Process) CPU() (time.Duration, error) {
	// The clock id of another process: linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK
	// with CPUCLOCK_SCHED (2).
	id := int32(^p.proc.Pid)<<3 | 2
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// Confine tells the child that the file system is what it will be: it confines
// itself. cache says that there is a cache folder, in the Keep's own memory.
func (p *Process) Confine(cache bool) error {
	var body []byte
	if p.cache = cache; cache {
		body = []byte("cache")
	}
	return p.tell(wordConfine, body)
}

// Compile hands over the module, which is closed here whatever comes of it.
func (p *Process) Compile(job Job, module *os.File) error {
	defer module.Close()
	body, err := cbor.Marshal(job)
	if err != nil {
		return fmt.Errorf("child: %w", err)
	}
	return p.tell(wordCompile, body, rawFD(module))
}

// Slot is the file in the Keep's own memory that machine code is written to
// before Code names it; nil where there is none. The caller closes it.
func (p *Process) Slot() (*os.File, error) {
	err := p.confined()
	return p.slot, err
}

// confined waits until the child has confined itself.
func (p *Process) confined() error {
	p.ready.Do(func() {
		e, f, err := p.next()
		if f != nil && (e.Kind != eventReady || !p.cache) {
			_ = f.Close()
			f = nil
		}
		if err == nil && e.Kind != eventReady {
			err = fmt.Errorf("child: event %d before it was confined", e.Kind)
		}
		if err != nil {
			p.readyErr = p.gone(err)
			return
		}
		p.slot, p.notes = f, e.Notes
	})
	return p.readyErr
}

// Code says what the engine calls the machine code in the slot; "": none comes,
// and the child compiles.
func (p *Process) Code(name string) error {
	body, err := cbor.Marshal(code{Name: name})
	if err != nil {
		return fmt.Errorf("child: %w", err)
	}
	return p.tell(wordCode, body)
}

// A GuestError says that the guest cannot be run. Module: the module itself is
// at fault; else what surrounds it.
type GuestError struct {
	Module     bool
	Text, hint string
}

func (e *GuestError) Error() string { return e.Text }

// Hint is what to do about it.
func (e *GuestError) Hint() string { return e.hint }

// Compiled waits until the module is compiled and nothing of it has run. Where
// the child compiled anew and was allowed a cache, the machine code comes as a
// file with its name; the caller owns it. Nothing that the child sends later is
// ever taken as a cache entry (THREATS T16).
func (p *Process) Compiled() (cacheName string, cache *os.File, notes []string, err error) {
	if err := p.confined(); err != nil {
		return "", nil, nil, err
	}
	e, f, err := p.next()
	if err != nil {
		return "", nil, nil, p.gone(err)
	}
	if e.Kind != eventCompiled && f != nil { // nothing else has a descriptor
		_ = f.Close()
	}
	if e.Kind == eventFailed {
		return "", nil, nil, &GuestError{Module: e.Module, Text: e.Text, hint: e.Hint}
	}
	if e.Kind != eventCompiled {
		return "", nil, nil, fmt.Errorf("child: event %d before the module was compiled", e.Kind)
	}
	return e.CacheName, f, p.notes, nil
}

// Start lets the compiled guest run, with one descriptor for each file that is
// not null and for each mount that takes one. They are closed here whatever comes
// of it.
func (p *Process) Start(spec Spec, guest []*os.File) error {
	defer func() {
		for _, f := range guest {
			_ = f.Close()
		}
	}()
	body, err := cbor.Marshal(spec)
	if err != nil {
		return fmt.Errorf("child: %w", err)
	}
	if len(body) > maxSpec || len(guest) > MaxDescriptors {
		return fmt.Errorf("child: arguments and environment of %d bytes with %d descriptors, at most %d and %d", len(body), len(guest), maxSpec, MaxDescriptors)
	}
	sf, err := Bytes("spec", body)
	if err != nil {
		return err
	}
	defer sf.Close()
	// Fd puts nothing back into blocking mode for files made non-blocking, and
	// memory files never block: the descriptors are only named here.
	fds := []int{rawFD(sf)}
	for _, f := range guest {
		fds = append(fds, rawFD(f))
	}
	return p.tell(wordRun, nil, fds...)
}

// Outcome is how the guest ended, by the child's word.
type Outcome struct {
	Status        uint32
	Trap          string
	MemoryRefused bool
}

// Wait waits for the guest's end and for the end of the process.
func (p *Process) Wait() (Outcome, error) {
	e, f, err := p.next()
	if f != nil {
		_ = f.Close()
	}
	if err != nil {
		return Outcome{}, p.gone(err)
	}
	switch e.Kind {
	case eventFailed:
		return Outcome{}, &GuestError{Module: e.Module, Text: e.Text, hint: e.Hint}
	case eventDone:
		return Outcome{Status: e.Status, Trap: e.Trap, MemoryRefused: e.MemoryRefused}, nil
	}
	return Outcome{}, fmt.Errorf("child: event %d, wanted the guest's end", e.Kind)
}

// gone explains a lost control socket by how the process ended.
func (p *Process) gone(err error) error {
	p.Kill()
	<-p.ended
	if p.werr != nil {
		return fmt.Errorf("child: %w", p.werr)
	}
	if errors.Is(err, errGone) {
		return fmt.Errorf("child: the process that runs the guest ended (%s)", p.state)
	}
	return err
}

// Pid is the child's process id, in the warden's own namespace.
func (p *Process) Pid() int { return p.proc.Pid }
