//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A server is one side of a row that serves.
type server struct {
	name string
	addr string
	tls  bool
	cmd  *exec.Cmd
	pids []int
	errs strings.Builder
}

// keepConfig is the configuration of a guest with one listener.
func keepConfig(listener, prot string) string {
	return fmt.Sprintf("[[files]]\nkind = 'null'\nname = 'stdin'\n[[files]]\nkind = 'stdout'\n[[files]]\nkind = 'stderr'\n"+
		"[[files]]\nkind = 'listen'\nname = '%s'\nprot = '%s'\naddr = '127.0.0.1'\nport = 1\n", listener, prot)
}

// startKeep runs a guest in a sim Keep, with its listener on a free port.
func (e *env) startKeep(ctx context.Context, name, wasm, listener string, tls bool) (*server, error) {
	prot := "tcp"
	if tls {
		prot = "tls"
	}
	config := filepath.Join(e.scratch, listener+"."+prot+".toml")
	if err := os.WriteFile(config, []byte(keepConfig(listener, prot)), 0o644); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, addr: addr, tls: tls}
	return s, s.start(ctx, exec.Command(e.bin, "run", "-q", "--tee", "sim", "--config", config, "--bind", listener+"="+addr, wasm), e.environ(e.warm()))
}

// startOne runs the same guest on the engine in one process, on a plain socket.
func (e *env) startOne(ctx context.Context, name, wasm, listener string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, addr: addr}
	return s, s.start(ctx, exec.Command(e.guest("oneprocess"), "-cache", filepath.Join(e.out, "one-cache"), "-listen", listener+"="+addr, wasm), nil)
}

// startNative runs what bench/native calls service.
func (e *env) startNative(ctx context.Context, name, service string, tls bool) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	args := []string{"-addr", addr}
	if tls {
		args = append(args, "-tls")
	}
	s := &server{name: name, addr: addr, tls: tls}
	return s, s.start(ctx, exec.Command(e.guest("native"), append(args, service)...), nil)
}

// start starts the program and waits until it takes connections.
func (s *server) start(ctx context.Context, cmd *exec.Cmd, environ []string) error {
	cmd.Env = environ
	cmd.Stderr = &s.errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	deadline := time.Now().Add(2 * time.Minute)
	for {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
			s.pids = tree(cmd.Process.Pid)
			return nil
		}
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case syscall.Kill(cmd.Process.Pid, 0) != nil || ended(cmd.Process.Pid):
			err = errors.New("it ended: " + s.errs.String())
		case time.Now().Before(deadline):
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s.stop()
		return fmt.Errorf("starting %s: %w", s.name, err)
	}
}

// ended says whether a child waits to be reaped.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}

// stop ends it, by force where it does not end by itself.
func (s *server) stop() {
	if s == nil || s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(os.Interrupt)
	t := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer t.Stop()
	_ = s.cmd.Wait()
}

func stopAll(servers []*server) {
	for _, s := range servers {
		s.stop()
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
