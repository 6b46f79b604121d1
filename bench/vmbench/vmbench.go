//go:build linux

// Package vmbench measures what a virtual machine costs a Keep: the time until a
// workload's first instruction against the bare boot of the same kernel, and the
// link's throughput against the raw port's. Its programs for the guest are in
// guest; make bench and the benchmarks beside this file use it.
package vmbench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/vm"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// A Cost is what one run took: time that passed, and processor time of QEMU, which
// other programs on the machine disturb less.
type Cost struct{ Wall, CPU time.Duration }

// Bench holds what is booted. Make it with New.
type Bench struct {
	Options vm.Options // where kernels are found

	dir, off, port, keep string
}

// New builds the programs for the guest with the Go tool, into dir. It has to be
// called inside the source tree.
func New(ctx context.Context, dir string, o vm.Options) (*Bench, error) {
	b := &Bench{Options: o, dir: dir, off: filepath.Join(dir, "off"), port: filepath.Join(dir, "port"), keep: filepath.Join(dir, "donjon-keep")}
	for _, p := range []struct{ out, flags, pkg string }{
		{b.off, "-s -w -X main.mode=off", "github.com/donjon-tee/donjon/bench/vmbench/guest"},
		{b.port, "-s -w", "github.com/donjon-tee/donjon/bench/vmbench/guest"},
		{b.keep, "-s -w", "github.com/donjon-tee/donjon/cmd/donjon-keep"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", p.flags, "-o", p.out, p.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("vmbench: building %s: %w\n%s", p.pkg, err, out)
		}
	}
	return b, nil
}

// measure runs do and says what it cost; do waits for the machine it starts.
func measure(do func() error) (Cost, error) {
	before, err := children()
	if err != nil {
		return Cost{}, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return Cost{}, err
	}
	wall := time.Since(began)
	after, err := children()
	return Cost{wall, after - before}, err
}

func children() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r); err != nil {
		return 0, fmt.Errorf("vmbench: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

func (b *Bench) prepare(ctx context.Context, program string, memory uint64) (*vm.Plan, keep.Spec, error) {
	spec := keep.Spec{KeepProgram: program, Memory: memory}
	p, err := vm.Prepare(ctx, spec, b.Options)
	return p, spec, err
}

// Empty boots the kernel to a first process that powers the machine off, and waits
// for its end: the least that any workload under this kernel costs.
func (b *Bench) Empty(ctx context.Context) (Cost, error) {
	p, spec, err := b.prepare(ctx, b.off, 0)
	if err != nil {
		return Cost{}, err
	}
	return measure(func() error {
		m, err := p.Launch(ctx, spec, b.Options)
		if err == nil {
			_ = m.Kill()
			return errors.New("vmbench: a machine that only powers off spoke")
		}
		var stage *vm.StageError
		if !errors.As(err, &stage) || stage.Cause != vm.CauseEnded {
			return err
		}
		return nil
	})
}

// Hello boots a Keep and runs the module in it, compiled anew, up to the first byte
// of its output: a little after its first instruction. spoke is the part of it up
// to the Keep's first word on the link, memory the machine's in MiB.
func (b *Bench) Hello(ctx context.Context, module string) (spoke, said Cost, memory uint64, err error) {
	w, err := workload.Load(module, workload.Flags{})
	if err != nil {
		return spoke, said, 0, err
	}
	sil, err := silicon.Open(filepath.Join(b.dir, "silicon"))
	if err != nil {
		return spoke, said, 0, err
	}
	p, spec, err := b.prepare(ctx, b.keep, 60<<20)
	if err != nil {
		return spoke, said, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &firstByte{seen: make(chan struct{})}
	began := time.Now()
	said, err = measure(func() error {
		m, err := p.Launch(ctx, spec, b.Options)
		if err != nil {
			return err
		}
		spoke = Cost{time.Since(began), running()}
		ended := make(chan error, 1)
		go func() {
			o, err := keep.Supervise(ctx, keep.Options{Workload: w, Machine: m, TEE: "vm", Stdout: out, Stderr: io.Discard, NoCache: true,
				Silicon: sil.Guest(silicon.Launch{HostData: w.Digest}, m.Measurement), Log: func(int, string) {}})
			if err == nil && o.Exit.Text != "" {
				err = errors.New(o.Exit.Text)
			}
			ended <- err
		}()
		select {
		case <-out.seen:
		case err := <-ended:
			return fmt.Errorf("vmbench: the workload said nothing: %w", err)
		}
		_ = m.Kill()
		_ = m.Wait()
		return nil
	})
	return spoke, said, p.MemoryMiB, err
}

// running is the processor time of the children that have not ended, 0 where
// /proc does not say.
func running() (sum time.Duration) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		pids, _ := os.ReadFile(l)
		for _, pid := range strings.Fields(string(pids)) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			_, rest, _ := strings.Cut(string(stat), ") ") // behind the name
			if f := strings.Fields(rest); len(f) > 12 {
				user, _ := strconv.ParseInt(f[11], 10, 64) // in ticks of 10 ms
				system, _ := strconv.ParseInt(f[12], 10, 64)
				sum += time.Duration(user+system) * 10 * time.Millisecond
			}
		}
	}
	return sum
}

type firstByte struct{ seen chan struct{} }

func (f *firstByte) Write(p []byte) (int, error) {
	select {
	case <-f.seen:
	default:
		close(f.seen)
	}
	return len(p), nil
}

// A Rate is how long n bytes took in each direction.
type Rate struct{ In, Out time.Duration }

// Raw moves n bytes into and out of a machine over the port alone.
func (b *Bench) Raw(ctx context.Context, n int64) (Rate, error) {
	m, err := b.ask(ctx, 'r', n)
	if err != nil {
		return Rate{}, err
	}
	defer m.Wait()
	defer m.Kill()
	return exchange(m.Link(), n)
}

// Link moves n bytes into and out of a machine over a stream of the link.
func (b *Bench) Link(ctx context.Context, n int64) (Rate, error) {
	m, err := b.ask(ctx, 'l', n)
	if err != nil {
		return Rate{}, err
	}
	defer m.Wait()
	defer m.Kill()
	sess, err := link.Host(m.Link())
	if err != nil {
		return Rate{}, err
	}
	defer sess.Close()
	st, err := sess.Accept()
	if err != nil {
		return Rate{}, err
	}
	st.Grow(link.MaxWindow)
	return exchange(st, n)
}

func (b *Bench) ask(ctx context.Context, what byte, n int64) (keep.Machine, error) {
	p, spec, err := b.prepare(ctx, b.port, 0)
	if err != nil {
		return nil, err
	}
	m, err := p.Launch(ctx, spec, b.Options)
	if err != nil {
		return nil, err
	}
	hello := make([]byte, 1)
	if _, err = io.ReadFull(m.Link(), hello); err == nil {
		_, err = m.Link().Write(binary.BigEndian.AppendUint64([]byte{what}, uint64(n)))
	}
	if err != nil {
		_ = m.Kill()
		_ = m.Wait()
		return nil, fmt.Errorf("vmbench: asking the guest: %w", err)
	}
	return m, nil
}

func exchange(rw io.ReadWriter, n int64) (Rate, error) {
	var r Rate
	began := time.Now()
	buf := bytes.Repeat([]byte{0xa5}, link.MaxPayload)
	for left := n; left > 0; {
		m := min(left, int64(len(buf)))
		if _, err := rw.Write(buf[:m]); err != nil {
			return r, fmt.Errorf("vmbench: into the machine: %w", err)
		}
		left -= m
	}
	if _, err := io.ReadFull(rw, buf[:1]); err != nil {
		return r, fmt.Errorf("vmbench: into the machine: %w", err)
	}
	r.In = time.Since(began)
	began = time.Now()
	if _, err := io.CopyBuffer(onlyWriter{io.Discard}, io.LimitReader(rw, n), buf); err != nil {
		return r, fmt.Errorf("vmbench: out of the machine: %w", err)
	}
	r.Out = time.Since(began)
	return r, nil
}

type onlyWriter struct{ io.Writer }
