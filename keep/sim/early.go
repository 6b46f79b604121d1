//go:build linux

package sim

import (
	"context"

	"github.com/donjon-tee/donjon/keep"
)

// An Early is a Keep's process that was started before its workload is known: it
// waits for the link's first words, and its start costs no time of the one who loads
// the workload meanwhile. Either Take or Abandon ends the wait.
type Early struct {
	spec keep.Spec
	done chan struct{}
	m    keep.Machine
	err  error
}

// Begin starts it. Of the spec, host data is not looked at: it is the silicon's. silicon
// is the folder where that keeps what it knows of the program.
func Begin(spec keep.Spec, silicon string) *Early {
	e := &Early{spec: spec, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		h := StartHash(spec.KeepProgram, silicon)
		e.m, e.err = Launch(context.Background(), spec, h)
	}()
	return e
}

// Take gives the Keep where it is one of this spec, and else launches another. A nil
// Early launches. It is called once.
func (e *Early) Take(ctx context.Context, spec keep.Spec) (keep.Machine, error) {
	if e == nil {
		return Launch(ctx, spec, nil)
	}
	if e.spec.KeepProgram != spec.KeepProgram || e.spec.Arch != spec.Arch || e.spec.Weak != spec.Weak {
		e.Abandon()
		return Launch(ctx, spec, nil)
	}
	<-e.done
	m, err := e.m, e.err
	e.m = nil
	return m, err
}

// Abandon ends a Keep that nobody took.
func (e *Early) Abandon() {
	if e == nil {
		return
	}
	<-e.done
	if m := e.m; m != nil {
		e.m = nil
		_ = m.Kill()
		_ = m.Wait()
	}
}
