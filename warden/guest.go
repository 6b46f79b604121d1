//go:build linux

package warden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

const (
	defaultMemory  = 4 << 30
	maxHandshakes  = 128 // at once; more wait
	argvZero       = "main.wasm"
	maxMemoryGuest = 4 << 30
	drainTime      = time.Second      // for output still on its way after a limit
	lingerTime     = 30 * time.Second // for what a guest that has ended still sends to its peers
)

// runGuest opens what the configuration declares, hands it to the child, and
// stays until the guest has ended and its output is on its way.
func (w *warden) runGuest(data []*os.File) (link.Exit, error) {
	w.ports.shake = make(chan struct{}, maxHandshakes)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	spec := child.Spec{
		Args:      append([]string{argvZero}, w.args...),
		Env:       w.env,
		MaxMemory: w.memoryLimit(),
		Weak:      w.weak(),
		NotBefore: w.floor().Unix(),
	}
	if w.enrolled != nil {
		env, err := w.secretEnv()
		if err != nil {
			return link.Exit{}, err
		}
		spec.Env = slices.Concat(w.env, env)
	}
	var outputs sync.WaitGroup
	if w.enrolled != nil {
		go w.renew(ctx)
		go w.watchCertificate(ctx)
	}
	guest, err := w.openFiles(&spec, &outputs, data)
	if err != nil {
		return link.Exit{}, err
	}
	defer func() { // the streams behind them end; where they were handed over, they are closed here already
		for _, f := range guest {
			_ = f.Close()
		}
	}()
	mounts, err := w.openMounts(&spec, data)
	if err != nil {
		return link.Exit{}, err
	}
	guest = append(guest, mounts...)
	name, made, notes, err := w.Child.Compiled()
	if err != nil {
		return link.Exit{}, err
	}
	for _, n := range notes {
		w.log(0, "sandbox: not applied: %s", n)
	}
	cache := <-w.code
	if made != nil && cache != nil && name != "" {
		// Before guest code runs: what a child says later is never stored.
		if err := cache.put(name, made); err != nil {
			w.log(1, "the compiled module is not cached: %v", err)
		}
	}
	if made != nil {
		_ = made.Close()
	}
	if w.stopped.Load() {
		return link.Exit{Kind: link.ExitStopped}, nil
	}
	if err := w.Child.Start(spec, guest); err != nil {
		return link.Exit{}, err
	}
	if w.enrolled != nil {
		w.enrolled.forget() // the guest has them
	}
	go w.watch(ctx)
	out, err := w.Child.Wait()
	cancel()
	w.Child.Kill() // its ends close with it, where the guest's end has not closed them
	w.drain(&outputs)
	if over := w.limit.Load(); over != nil {
		return *over, nil
	}
	if err != nil {
		return link.Exit{}, err
	}
	if out.MemoryRefused && (out.Trap != "" || out.Status != 0) {
		return link.Exit{Kind: link.ExitLimit, Status: out.Status,
			Text: fmt.Sprintf("the workload asked for more memory than its limit of %s and ended", megabytes(spec.MaxMemory)),
			Hint: w.memoryHint()}, nil
	}
	if out.Trap != "" {
		return link.Exit{Kind: link.ExitTrap, Text: out.Trap}, nil
	}
	return link.Exit{Kind: link.ExitStatus, Status: out.Status}, nil
}

// drain waits until what the guest wrote, to its outputs and to its connections,
// is on its way: the child's ends are closed, so there is an end. After a limit it
// does not wait for a reader that has stalled, and for a peer that takes nothing
// only so long.
func (w *warden) drain(outputs *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { outputs.Wait(); close(done) }()
	patience := lingerTime
	var late <-chan time.Time
	if w.limit.Load() != nil {
		patience = drainTime
		late = time.After(drainTime)
	}
	until := time.Now().Add(patience)
	select {
	case <-done:
	case <-late:
	case <-w.sess.Done():
	}
	for w.sess.Unsent() > 0 && time.Now().Before(until) && w.sess.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

func (w *warden) memoryHint() string {
	switch own := w.cfg.Limits.Memory; {
	case w.offer.MaxMemory > 0 && (own == 0 || w.offer.MaxMemory < own) && w.offer.MaxMemory < maxMemoryGuest:
		return "this is the host's own ceiling; raise --max-memory"
	case own == 0 || own >= maxMemoryGuest:
		return "a WebAssembly module can have no more"
	}
	return "raise limits.memory or --memory"
}

func megabytes(n uint64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

func (w *warden) memoryLimit() uint64 {
	most := uint64(defaultMemory)
	if w.cfg.Limits.Memory > 0 {
		most = min(most, w.cfg.Limits.Memory)
	}
	if w.offer.MaxMemory > 0 {
		most = min(most, w.offer.MaxMemory)
	}
	return min(most, maxMemoryGuest)
}

// openFiles makes one guest descriptor for each entry of files, in order.
func (w *warden) openFiles(spec *child.Spec, outputs *sync.WaitGroup, data []*os.File) ([]*os.File, error) {
	var budget *atomic.Int64
	if n := w.cfg.Limits.Output; n > 0 {
		w.output.Store(int64(n))
		budget = &w.output
	}
	var guest []*os.File
	for i, f := range w.cfg.Descriptors() {
		kind, fd, err := w.openFile(uint32(i), f, outputs, budget, data)
		if err != nil {
			for _, g := range guest {
				_ = g.Close()
			}
			return nil, err
		}
		spec.Files = append(spec.Files, child.File{Name: f.Name, Kind: uint8(kind), TTY: w.terminal(f.Kind)})
		if fd != nil {
			guest = append(guest, fd)
		}
	}
	return guest, nil
}

func (w *warden) openFile(index uint32, f workload.File, outputs *sync.WaitGroup, budget *atomic.Int64, data []*os.File) (engine.FileKind, *os.File, error) {
	switch f.Kind {
	case "null":
		return engine.Null, nil, nil
	case "stdin":
		st, err := w.sess.Open(link.ServiceStdin, nil)
		if err != nil {
			return 0, nil, err
		}
		ours, theirs, err := pair()
		if err != nil {
			return 0, nil, err
		}
		st.Grow(bulkWindow)
		go func() {
			_, _ = move(ours, st, nil)
			_ = ours.Close()
			_ = st.Close()
		}()
		return engine.Input, theirs, nil
	case "stdout", "stderr":
		service := link.ServiceStdout
		if f.Kind == "stderr" {
			service = link.ServiceStderr
		}
		st, err := w.sess.Open(service, nil)
		if err != nil {
			return 0, nil, err
		}
		ours, theirs, err := pair()
		if err != nil {
			return 0, nil, err
		}
		outputs.Go(func() {
			if _, err := move(st, ours, budget); errors.Is(err, errLimit) {
				w.over(fmt.Sprintf("the workload reached its limit of %d bytes of output", w.cfg.Limits.Output), "raise limits.output or --output")
			}
			_ = ours.Close()
			_ = st.CloseWrite()
		})
		return engine.Output, theirs, nil
	case "listen":
		return w.listen(index, f, data)
	case "connect":
		return w.connect(index, f, data)
	}
	return 0, nil, &configError{what: fmt.Sprintf("a file of kind %q", f.Kind)}
}

// terminal says whether a person sits behind a descriptor of this kind.
func (w *warden) terminal(kind string) bool {
	bit := map[string]uint8{"stdin": 1, "stdout": 2, "stderr": 4}[kind]
	return w.offer.Terminals&bit != 0
}

// named gives the bytes of a file of the workload that the configuration names.
func (w *warden) named(path string, data []*os.File) ([]byte, error) {
	for i, p := range w.cfg.Paths() {
		if p.Path == path {
			b := make([]byte, w.manifest.Layers[1+i].Size)
			if _, err := data[i].ReadAt(b, 0); err != nil && err != io.EOF {
				return nil, err
			}
			return b, nil
		}
	}
	return nil, fmt.Errorf("warden: %s is not among the workload's files", path)
}
