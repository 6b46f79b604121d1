//go:build unix

package p11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The errors of a connection. Each call's error is one of these, an RV, ErrMalformed
// or ErrTooLarge.
var (
	ErrUnreachable = errors.New("p11: the module cannot be reached")
	ErrGone        = errors.New("p11: the module ended or closed the connection")
	ErrTimeout     = errors.New("p11: the module did not answer in time")
)

// maxAnswer bounds an answer's body, in bytes: the client asks for little.
const maxAnswer = 256 << 10

// Conn is a connection to a module, after C_Initialize. One goroutine uses it. After an
// error that is no RV it is of no use.
type Conn struct {
	Version Version

	ctx    context.Context
	rw     io.ReadWriter
	end    func() // at once
	hangUp func() // says that nothing more comes
	child  *exec.Cmd
	said   *tail // by the child on stderr
	stop   func() bool
	id     uint32
	broken error
}

// Spawn runs p11-kit remote with a module, an absolute path, and initializes it. The
// child gets environ and nothing else; it is killed when ctx ends. Errors:
// ErrUnreachable and those of a call.
func Spawn(ctx context.Context, module string, environ []string) (*Conn, error) {
	if st, err := os.Stat(module); err != nil || !filepath.IsAbs(module) || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: found no module %q", ErrUnreachable, module)
	}
	program, err := exec.LookPath("p11-kit")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnreachable, err), inR.Close(), inW.Close())
	}
	said := &tail{}
	child := exec.Command(program, "remote", module)
	child.Env, child.Stdin, child.Stdout, child.Stderr = environ, inR, outW, said
	child.Dir = "/"
	child.WaitDelay = time.Second // for whoever holds stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = child.Start()
	_, _ = inR.Close(), outW.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnreachable, err), inW.Close(), outR.Close())
	}
	end := sync.OnceFunc(func() {
		_ = syscall.Kill(-child.Process.Pid, syscall.SIGKILL)
		_, _ = inW.Close(), outR.Close()
	})
	c := &Conn{ctx: ctx, rw: struct {
		io.Reader
		io.Writer
	}{outR, inW}, end: end, hangUp: func() { _ = inW.Close() }, child: child, said: said}
	return c.begin()
}

// Dial connects to a server, as p11-kit server is one, by its address: unix:path=/… .
// Whoever can make that path gets PINs, so its folder must be one that others cannot
// write to. Errors: ErrUnreachable and those of a call.
func Dial(ctx context.Context, address string) (*Conn, error) {
	path, ok := strings.CutPrefix(address, "unix:path=")
	if !ok || !filepath.IsAbs(path) || strings.ContainsAny(path, "%;,") {
		return nil, fmt.Errorf("%w: found the address %q, wanted unix:path=/…", ErrUnreachable, address)
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if dir.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%w: others can write to %s, and so pose as the module", ErrUnreachable, filepath.Dir(path))
	}
	var d net.Dialer
	n, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	end := sync.OnceFunc(func() { _ = n.Close() })
	c := &Conn{ctx: ctx, rw: n, end: end, hangUp: end}
	return c.begin()
}

// begin agrees on the version, and initializes.
func (c *Conn) begin() (*Conn, error) {
	c.stop = context.AfterFunc(c.ctx, c.end)
	var v [1]byte
	_, err := c.rw.Write([]byte{byte(Version2)})
	if err == nil {
		_, err = io.ReadFull(c.rw, v[:])
	}
	if err != nil {
		err = c.breaks(err)
	} else if c.Version = Version(v[0]); c.Version > Version2 {
		err = c.breaks(fmt.Errorf("%w: found the version %d, offered %d", ErrMalformed, v[0], Version2))
	} else {
		_, err = c.call(NewEncoder(Initialize, Request).Bytes([]byte(Handshake)).Byte(0).Bytes([]byte{}))
	}
	if errors.Is(err, CKRAlreadyInitialized) {
		err = nil
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// breaks says what an error of the transport means, and ends the connection.
func (c *Conn) breaks(err error) error {
	c.end()
	switch {
	case c.ctx.Err() != nil:
		err = ErrTimeout
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrTooLarge):
	default: // end of file, broken pipe
		err = ErrGone
		if c.child != nil {
			c.reap()
			if how := c.child.ProcessState.String(); how != "signal: killed" { // by end
				err = fmt.Errorf("%w (%s)", err, how)
			}
			if said := c.said.last(); said != "" {
				err = fmt.Errorf("%w; it said %.200q", err, said)
			}
		}
	}
	c.broken = err
	return err
}

// call sends a request and reads the answer to it.
func (c *Conn) call(e *Encoder) (*Decoder, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	body, err := e.Message()
	if err != nil {
		return nil, err
	}
	defer clear(body) // a PIN may be in it
	c.id++
	frame, err := AppendFrame(nil, Frame{ID: c.id, Body: body})
	if err != nil {
		return nil, err
	}
	_, err = c.rw.Write(frame)
	clear(frame)
	if err != nil {
		return nil, c.breaks(err)
	}
	answer, err := ReadFrame(c.rw, maxAnswer)
	if err != nil {
		return nil, c.breaks(err)
	}
	if answer.ID != c.id {
		return nil, c.breaks(fmt.Errorf("%w: an answer to %d, wanted to %d", ErrMalformed, answer.ID, c.id))
	}
	d, err := Decode(answer.Body, Answer)
	if err != nil {
		return nil, c.breaks(err)
	}
	if d.Call == CallError {
		rv := d.Ulong()
		if err := d.Done(); err != nil {
			return nil, c.breaks(err)
		}
		if rv == 0 {
			return nil, c.breaks(fmt.Errorf("%w: %s: an error that is CKR_OK", ErrMalformed, e.call))
		}
		return nil, fmt.Errorf("%s: %w", e.call, RV(rv))
	}
	if d.Call != e.call {
		return nil, c.breaks(fmt.Errorf("%w: an answer to %s, wanted to %s", ErrMalformed, d.Call, e.call))
	}
	return d, nil
}

// done ends reading an answer.
func (c *Conn) done(d *Decoder) error {
	if err := d.Done(); err != nil {
		return c.breaks(err)
	}
	return nil
}

// quiet makes a call that answers nothing.
func (c *Conn) quiet(e *Encoder) error {
	d, err := c.call(e)
	if err != nil {
		return err
	}
	return c.done(d)
}

// Close finalizes the module where it still answers, and ends it: at once where it does
// not, or ctx ended.
func (c *Conn) Close() {
	if c.broken == nil {
		limit := time.AfterFunc(2*time.Second, c.end)
		if c.quiet(NewEncoder(Finalize, Request)) == nil {
			c.hangUp()
			_, _ = io.Copy(io.Discard, io.LimitReader(c.rw, maxAnswer)) // until it ends
		}
		limit.Stop()
	}
	c.stop()
	c.end()
	c.reap()
	c.broken = ErrGone
}

// reap waits for the child, which end has killed: not before, since its number may be
// another process's afterwards.
func (c *Conn) reap() {
	if c.child != nil && c.child.ProcessState == nil {
		_ = c.child.Wait()
	}
}

// tail keeps the end of what a child says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-1024):]...)
	t.b = bytes.Clone(t.b[max(0, len(t.b)-1024):])
	return len(p), nil
}

// last is the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return lines[len(lines)-1]
}
