//go:build linux

package child

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/vfs"
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

// assemble gives each guest descriptor and mount its kernel descriptor, in order.
func assemble(spec Spec, fds []int) (engine.Guest, error) {
	g := engine.Guest{Args: spec.Args, Env: spec.Env, MaxMemory: spec.MaxMemory}
	if spec.NotBefore > 0 {
		g.Now = notBefore(time.Now, time.Unix(spec.NotBefore, 0))
	}
	next := func() (int, error) {
		if len(fds) == 0 {
			return -1, errors.New("child: fewer descriptors came than were announced")
		}
		fd := fds[0]
		fds = fds[1:]
		return fd, nil
	}
	for _, f := range spec.Files {
		fd := -1
		if engine.FileKind(f.Kind) != engine.Null {
			var err error
			if fd, err = next(); err != nil {
				return g, err
			}
		}
		g.Files = append(g.Files, engine.File{Name: f.Name, Kind: engine.FileKind(f.Kind), FD: fd, Terminal: f.TTY})
	}
	for _, m := range spec.Mounts {
		dir, err := mount(m, next)
		if err != nil {
			return g, err
		}
		g.Preopens = append(g.Preopens, engine.Preopen{Guest: m.Guest, Dir: dir})
	}
	if len(fds) != 0 {
		return g, fmt.Errorf("child: %d descriptors more came than were announced", len(fds))
	}
	return g, nil
}

// notBefore is a clock that never shows less than floor (THREATS T10).
func notBefore(now func() time.Time, floor time.Time) func() time.Time {
	return func() time.Time {
		if t := now(); t.After(floor) {
			return t
		}
		return floor
	}
}

func mount(m Mount, next func() (int, error)) (vfs.Dir, error) {
	switch m.Kind {
	case MountScratch:
		return vfs.NewMemory(vfs.Limits{Bytes: int64(m.Size)}), nil
	case MountArchive:
		fd, err := next()
		if err != nil {
			return nil, err
		}
		tar, err := mapMemory(fd, maxArchive)
		if err != nil {
			return nil, err
		}
		dir, err := vfs.OpenArchive(tar, vfs.Limits{})
		if err != nil {
			return nil, fmt.Errorf("child: data for %s: %w", m.Guest, err)
		}
		return dir, nil
	case MountHost:
		fd, err := next()
		if err != nil {
			return nil, err
		}
		return vfs.Dial(&socket{fd}), nil
	}
	return nil, fmt.Errorf("child: mount of unknown kind %d", m.Kind)
}

// socket reads and writes a blocking descriptor without the runtime's poller: the
// guest's thread is the only one that uses it.
type socket struct{ fd int }

func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, p)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 && len(p) > 0 {
			return 0, fs.ErrClosed
		}
		return max(n, 0), err
	}
}

func (s *socket) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(s.fd, p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (s *socket) Close() error { return unix.Close(s.fd) }

// slotName is the file that the warden writes machine code to, in the folder where
// the engine looks for it: the sandbox lets no file move between folders.
const slotName = "slot"

// openSlot makes that file, where there is a cache folder: its descriptor goes to
// the warden, which may open nothing itself.
func openSlot(cacheDir string) (*os.File, string) {
	if cacheDir == "" {
		return nil, ""
	}
	dir, err := engine.CodeDir(cacheDir)
	if err != nil {
		return nil, ""
	}
	f, err := os.OpenFile(filepath.Join(dir, slotName), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, ""
	}
	return f, dir
}

// takeCode waits for the warden's word about the machine code, which it has
// authenticated, and puts it where the engine looks for it. false: there is none.
// The word comes where there is no folder too.
func takeCode(dir string) bool {
	body, _, err := listen(wordCode, 0)
	if dir == "" {
		return false
	}
	slot := filepath.Join(dir, slotName)
	defer os.Remove(slot) // gone already where it was taken
	var c code
	if err != nil || unmarshal(body, &c) != nil || !isName(c.Name) {
		return false
	}
	return os.Rename(slot, filepath.Join(dir, c.Name)) == nil
}

// isName says whether s names a file of a folder, and not the slot.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && s != slotName && !strings.ContainsAny(s, "/\x00")
}

// takeCache opens what the engine has just compiled. That there is nothing is no
// fault: the interpreter caches nothing.
func takeCache(dir string) (string, *os.File) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != slotName {
			f, err := os.Open(filepath.Join(dir, e.Name()))
			if err != nil {
				return "", nil
			}
			return e.Name(), f
		}
	}
	return "", nil
}
