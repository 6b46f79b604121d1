//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/link"
)

// ending is what run --json says, in one line on stderr, its last: stdout is the
// workload's (docs/run.md).
type ending struct {
	TEE            string `json:"tee,omitempty"`
	Simulated      bool   `json:"simulated"`
	WorkloadDigest string `json:"workload_digest,omitempty"`
	Ended          string `json:"ended"`            // see endings; not_started: no Keep was launched
	Status         *int   `json:"status,omitempty"` // the workload's own, where it ended by itself
	ExitStatus     int    `json:"exit_status"`      // donjon's
	Signal         int    `json:"signal,omitempty"`
	Text           string `json:"text,omitempty"`
	Hint           string `json:"hint,omitempty"`
}

var endings = map[link.ExitKind]string{
	link.ExitStatus: "exited", link.ExitTrap: "trap", link.ExitLimit: "limit", link.ExitModule: "module",
	link.ExitRefused: "refused", link.ExitFailed: "failed", link.ExitStopped: "stopped", link.ExitConfig: "configuration",
}

// runReported runs the workload and, with --json, says on stderr how that ended,
// in place of the words.
func (a *app) runReported(f runFlags, name string, args []string) error {
	e := ending{Ended: "not_started"}
	err := a.runWorkload(f, name, args, &e)
	if !f.asJSON {
		return err
	}
	e.ExitStatus = statusOf(err)
	var own silent
	if err != nil && !errors.As(err, &own) {
		e.Text, e.Hint = printable(err.Error()), printable(hintOf(err))
	}
	b, merr := json.Marshal(e)
	if merr != nil {
		return merr
	}
	fmt.Fprintf(a.stderr, "%s\n", b)
	return silent(e.ExitStatus)
}

// ended turns the way a Keep ended into what is reported and the exit status.
func (e *ending) ended(out keep.Outcome, err error, signal func() syscall.Signal) error {
	var broken *keep.OutputError
	switch {
	case out.Stopped:
		e.Ended, e.Signal = "stopped", int(signal())
		return silent(128 + e.Signal)
	case errors.As(err, &broken) && errors.Is(err, syscall.EPIPE):
		// As a program ends whose reader has gone: with SIGPIPE's status, silently.
		e.Ended, e.Signal = "stopped", int(syscall.SIGPIPE)
		return silent(128 + e.Signal)
	case err != nil:
		e.Ended = "failed"
		return fail(statusKeep, err)
	}
	e.Ended = endings[out.Exit.Kind]
	if out.Exit.Kind == link.ExitStatus {
		status := int(min(out.Exit.Status, 255))
		e.Status = &status
	}
	return outcomeError(out.Exit)
}

// outcomeError is what the user is told about the way a Keep ended, by its word.
func outcomeError(e link.Exit) error {
	e.Text, e.Hint = oneLine(e.Text), oneLine(e.Hint)
	switch e.Kind {
	case link.ExitStatus:
		if e.Status == 0 {
			return nil
		}
		return silent(min(e.Status, 255))
	case link.ExitTrap:
		return failHint(statusKeep, e.Hint, fmt.Errorf("the workload was stopped by a trap: %s", e.Text))
	case link.ExitLimit:
		return failHint(statusKeep, e.Hint, errors.New(e.Text))
	case link.ExitModule, link.ExitConfig:
		return failHint(statusWorkload, e.Hint, errors.New(e.Text))
	case link.ExitRefused:
		return failHint(statusKeep, e.Hint, fmt.Errorf("the Keep refused to run the workload: %s", e.Text))
	}
	return failHint(statusKeep, e.Hint, fmt.Errorf("the Keep failed: %s", e.Text))
}
