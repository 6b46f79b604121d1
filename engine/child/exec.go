//go:build linux

package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
)

// Hooks is what the program around the child does to the process itself.
type Hooks struct {
	// Compiling confines the process before it is told of the module; Running
	// confines it further before guest code runs. They give what could not be
	// applied, and an error where the guest must not run, unless the host's user
	// wants it nevertheless.
	Compiling func(cacheDir string) (missing []string, err error)
	Running   func() (missing []string, err error)
	// CacheDir is a folder in the Keep's own memory, used where the warden says
	// that it is there.
	CacheDir string
}

const (
	controlFD  = 3
	maxModule  = 256 << 20
	maxArchive = 1 << 30
)

// Main is the whole life of a child process. It gives its exit status; how the
// guest ended is said on the control socket.
func Main(h Hooks) int {
	unix.CloseOnExec(controlFD)
	e, f := life(h)
	if e.Kind == 0 {
		return 1 // the warden is gone: nobody is there to be told
	}
	if err := say(e, f); err != nil {
		return 1
	}
	return 0
}

func say(e event, f *os.File) error {
	const most = 4 << 10 // of text, so that the message fits
	e.Text, e.Trap, e.Hint = clip(e.Text, most), clip(e.Trap, most), clip(e.Hint, most)
	b, err := cbor.Marshal(e)
	if err != nil {
		return err
	}
	var fds []int
	if f != nil {
		fds = []int{rawFD(f)}
	}
	return send(controlFD, b, fds)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

func failed(err error) event {
	e := event{Kind: eventFailed, Text: err.Error()}
	var me *engine.ModuleError
	e.Module = errors.As(err, &me)
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		e.Hint = h.Hint()
	}
	return e
}

// listen receives a message that begins with word.
func listen(word byte, maxFDs int) ([]byte, []int, error) {
	msg, fds, err := receive(controlFD, maxFDs)
	if err != nil {
		return nil, nil, err
	}
	if msg[0] != word {
		closeAll(fds)
		return nil, nil, fmt.Errorf("child: the warden says %q, wanted %q", msg[0], word)
	}
	return msg[1:], fds, nil
}

func life(h Hooks) (event, *os.File) {
	// Little is allocated before the guest runs, unless the module is compiled:
	// until then collecting garbage costs more than it gives.
	debug.SetGCPercent(-1)
	own, _, err := listen(wordConfine, 0)
	if err != nil {
		return event{}, nil
	}
	if string(own) != "cache" {
		h.CacheDir = ""
	}
	missing, weakness := h.Compiling(h.CacheDir)
	slot, codeDir := openSlot(h.CacheDir)
	if err := say(event{Kind: eventReady, Notes: missing}, slot); err != nil {
		return event{}, nil
	}
	if slot != nil {
		_ = slot.Close()
	}
	body, fds, err := listen(wordCompile, 1)
	if err != nil || len(fds) != 1 {
		return event{}, nil
	}
	var job Job
	if err := unmarshal(body, &job); err != nil {
		return failed(fmt.Errorf("child: what to compile does not decode: %w", err)), nil
	}
	if weakness != nil && !job.Weak {
		return failed(weakness), nil
	}
	module, err := mapMemory(fds[0], maxModule)
	if err != nil {
		return failed(err), nil
	}
	_ = unix.Close(fds[0])
	prog, compiled, entry, err := compile(h, job, codeDir, module)
	if err != nil {
		return failed(err), nil
	}
	if err := say(compiled, entry); err != nil {
		return event{}, nil
	}
	if entry != nil {
		_ = entry.Close()
	}
	return execute(h, prog)
}

// compile compiles the module, with the machine code that comes where one does.
func compile(h Hooks, job Job, codeDir string, module []byte) (*engine.Program, event, *os.File, error) {
	opts := engine.Options{Workers: 2}
	warm := make(chan bool, 1)
	if job.Cache {
		if codeDir != "" {
			opts.CacheDir = h.CacheDir
		}
		ready := make(chan struct{})
		opts.CacheReady = ready
		go func() {
			ok := takeCode(codeDir)
			if !ok {
				debug.SetGCPercent(100)
			}
			warm <- ok
			close(ready)
		}()
	} else {
		debug.SetGCPercent(100)
		warm <- false
	}
	prog, err := engine.Compile(context.Background(), module, opts)
	if err != nil {
		return nil, event{}, nil, err
	}
	compiled := event{Kind: eventCompiled}
	var entry *os.File
	if !<-warm {
		if opts.CacheDir != "" {
			compiled.CacheName, entry = takeCache(codeDir)
		}
		debug.FreeOSMemory() // compiling leaves much behind
	}
	calm()
	return prog, compiled, entry, nil
}

// calm sets the garbage collector for a process that mostly runs code which it
// cannot interrupt: it collects when there is much to gain, and else never.
func calm() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(int64(m.Sys-m.HeapReleased) + int64(m.HeapAlloc) + 64<<20)
}

// execute runs the guest that the warden describes.
func execute(h Hooks, prog *engine.Program) (event, *os.File) {
	_, fds, err := listen(wordRun, MaxDescriptors+1)
	if err != nil || len(fds) == 0 {
		return event{}, nil
	}
	body, err := mapMemory(fds[0], maxSpec)
	if err != nil {
		return failed(err), nil
	}
	_ = unix.Close(fds[0])
	var spec Spec
	if err := unmarshal(body, &spec); err != nil {
		return failed(fmt.Errorf("child: what to run does not decode: %w", err)), nil
	}
	guest, err := assemble(spec, fds[1:])
	if err != nil {
		return failed(err), nil
	}
	if _, err := h.Running(); err != nil && !spec.Weak {
		return failed(err), nil
	}
	out, err := prog.Run(context.Background(), guest)
	if err != nil {
		return failed(err), nil
	}
	return event{Kind: eventDone, Status: out.Status, Trap: out.Trap, MemoryRefused: out.MemoryRefused}, nil
}
