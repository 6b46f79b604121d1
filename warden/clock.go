//go:build linux

package warden

import "time"

// released is the earliest time a Keep believes in: no clock of a host was ever
// honest and behind the day this program was made (THREATS T10). It stands in the
// source, for the program is measured: one commit makes one program, on any day.
// Raised with every release, and in between: a test fails once it is too old.
var released = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// stewardTime is a time that has come, by the word of somebody else than the host, and
// when that was heard.
type stewardTime struct {
	is time.Time
	at time.Time // of this machine, with its monotonic reading
}

// now is the Keep's clock: the host's, but never behind the floor.
func (w *warden) now() time.Time {
	now := w.Options.Now
	if now == nil {
		now = time.Now
	}
	t, floor := now(), w.floor()
	if t.After(floor) {
		return t
	}
	return floor
}

// floor is the release, or the newest time that the Steward vouched for, or that a
// vendor's revocation list was made at, and what has passed since (THREATS T10).
func (w *warden) floor() time.Time {
	if s := w.steward.Load(); s != nil {
		if t := s.is.Add(time.Since(s.at)); t.After(released) {
			return t
		}
	}
	return released
}

// raise takes a time for one that has come: the beginning of a certificate's validity,
// verified by the authorities that the workload pins, or the date of a list that a
// vendor signed.
func (w *warden) raise(t time.Time) {
	for {
		old := w.steward.Load()
		if !t.After(w.floor()) || w.steward.CompareAndSwap(old, &stewardTime{is: t, at: time.Now()}) {
			return
		}
	}
}
