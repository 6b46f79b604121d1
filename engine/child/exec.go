//go:build linux

package child

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/vfs"
)

// Hooks is what the program around the child does to the process itself.
type Hooks struct {
	// Compiling confines the process before it reads the module; Running confines
	// it further before guest code runs. They give what could not be applied, and
	// an error where the guest must not run.
	Compiling, Running func(weak bool) (missing []string, err error)
	// CacheDir is a folder in the Keep's own memory.
	CacheDir string
}

const (
	controlFD    = 3
	maxModule    = 256 << 20
	maxCacheFile = 1 << 30
	maxArchive   = 1 << 30
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

func life(h Hooks) (event, *os.File) {
	msg, fds, err := receive(controlFD, MaxDescriptors+1)
	if err != nil || string(msg) != "load" || len(fds) < 2 {
		return event{}, nil
	}
	body, err := mapMemory(fds[0], maxSpec)
	if err != nil {
		return failed(err), nil
	}
	var spec Spec
	if err := unmarshal(body, &spec); err != nil {
		return failed(fmt.Errorf("child: what to run does not decode: %w", err)), nil
	}
	missing, err := h.Compiling(spec.Weak)
	if err != nil {
		return failed(err), nil
	}
	module, err := mapMemory(fds[1], maxModule)
	if err != nil {
		return failed(err), nil
	}
	rest := fds[2:]
	opts := engine.Options{Workers: 2, MaxMemory: spec.MaxMemory}
	if spec.Cache {
		opts.CacheDir = h.CacheDir
	}
	if spec.CacheName != "" {
		if len(rest) == 0 {
			return failed(errors.New("child: no descriptor for the cache entry")), nil
		}
		if err := putCache(h.CacheDir, spec.CacheName, rest[0]); err != nil {
			return failed(err), nil
		}
		rest = rest[1:]
	}
	prog, err := engine.Compile(context.Background(), module, opts)
	if err != nil {
		return failed(err), nil
	}
	guest, err := assemble(spec, rest)
	if err != nil {
		return failed(err), nil
	}
	compiled := event{Kind: eventCompiled, Notes: missing}
	var entry *os.File
	if spec.Cache && spec.CacheName == "" {
		compiled.CacheName, entry = takeCache(h.CacheDir)
	}
	if err := say(compiled, entry); err != nil {
		return event{}, nil
	}
	if entry != nil {
		_ = entry.Close()
	}
	if msg, _, err := receive(controlFD, 0); err != nil || string(msg) != "go" {
		return event{}, nil
	}
	if _, err := h.Running(spec.Weak); err != nil {
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
	g := engine.Guest{Args: spec.Args, Env: spec.Env}
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
		g.Files = append(g.Files, engine.File{Name: f.Name, Kind: engine.FileKind(f.Kind), FD: fd})
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

// putCache writes the machine code that the warden has authenticated to where
// the engine looks for it.
func putCache(dir, name string, fd int) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("child: cache entry named %q", name)
	}
	data, err := mapMemory(fd, maxCacheFile)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("child: cache: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("child: cache: %w", err)
	}
	return nil
}

// takeCache opens what the engine has just compiled. That there is nothing is no
// fault: the interpreter caches nothing.
func takeCache(dir string) (string, *os.File) {
	var name string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name = path
		}
		return nil
	})
	if name == "" {
		return "", nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", nil
	}
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		_ = f.Close()
		return "", nil
	}
	return rel, f
}
