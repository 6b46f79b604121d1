//go:build linux

package child

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/vfs"
)

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
