//go:build linux

package warden

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/link"
)

const (
	soonest     = time.Second     // between two enrolments
	longestWait = 5 * time.Minute // between two tries
	clockLook   = 5 * time.Second // how often the clock is looked at: a host may step it, a machine may sleep
)

// renewal is when to enrol again: when the Steward says, where that is between now
// and the end; else after two thirds.
func renewal(now, asked, end time.Time) time.Time {
	left := end.Sub(now)
	if asked.IsZero() || !asked.Before(end) {
		asked = now.Add(left / 3 * 2)
	}
	if first := now.Add(min(soonest, left/2)); asked.Before(first) {
		return first
	}
	return asked
}

// backOff is how long to wait after so many tries that failed, with so much time left:
// there are always some more tries before the end.
func backOff(failed int, left time.Duration) time.Duration {
	d := min(time.Second<<min(failed-1, 10), longestWait)
	return jitter(min(d, max(left/4, 200*time.Millisecond)))
}

// jitter spreads what a fleet would do at once: three quarters of d to all of it.
func jitter(d time.Duration) time.Duration {
	var b [1]byte
	rand.Read(b[:])
	return d - d/4*time.Duration(b[0])/256
}

// renew enrols again, wholly and with a new key (THREATS T9), as long as the guest
// runs. Connections that are open stay, the guest's secrets are what they were.
func (w *warden) renew(ctx context.Context) {
	e := w.enrolled
	next, failed := e.renewAfter, 0
	for {
		now := w.now()
		if wait := next.Sub(now); wait > 0 {
			if !sleep(ctx, min(wait, clockLook)) {
				return
			}
			continue
		}
		left := e.notAfter.Sub(now)
		if left <= 0 {
			return // watchCertificate ends the guest
		}
		fresh, err := w.enrolAgain(min(enrolTime, left))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed++
			why := err.Error()
			w.notRenewed.Store(&why)
			w.log(0, "the certificate, which ends at %s, is not renewed: %s", e.notAfter.UTC().Format(time.RFC3339), why)
			next = w.now().Add(backOff(failed, e.notAfter.Sub(w.now())))
			continue
		}
		e, next, failed = fresh, fresh.renewAfter, 0
		w.identity.take(e.key, e.cert)
		w.certEnd.Store(&e.notAfter)
		w.notRenewed.Store(nil)
		w.log(1, "enrolled again: the certificate ends at %s", e.notAfter.UTC().Format(time.RFC3339))
	}
}

func (w *warden) enrolAgain(within time.Duration) (*enrolment, error) {
	key, err := newTLSKey()
	if err != nil {
		return nil, err
	}
	return w.enrol(key, within, false)
}

// watchCertificate ends the guest when the certificate has ended, whatever an
// enrolment that is under way waits for.
func (w *warden) watchCertificate(ctx context.Context) {
	w.certEnd.CompareAndSwap(nil, &w.enrolled.notAfter)
	for {
		end := *w.certEnd.Load()
		left := end.Sub(w.now())
		if left > 0 {
			if !sleep(ctx, min(left, clockLook)) {
				return
			}
			continue
		}
		why := "it was not renewed in time"
		if p := w.notRenewed.Load(); p != nil {
			why = *p
		}
		w.ports.closeAll()
		if w.limit.CompareAndSwap(nil, &link.Exit{Kind: link.ExitFailed,
			Text: fmt.Sprintf("the Keep's certificate ended at %s, and the workload with it: %s", end.UTC().Format(time.RFC3339), why),
			Hint: "the Steward must be reached, and admit the workload, before the certificate ends"}) {
			w.Child.Kill()
		}
		return
	}
}

// sleep waits; false: ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
