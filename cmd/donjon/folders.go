//go:build linux

package main

import (
	"os/user"
	"path/filepath"
)

// stateDir is where what must last is kept: the simulated root. It is never a
// place that other users of this machine can write to, such as /tmp: who plants a
// simulated processor there knows the key that seals the cached code.
func (a *app) stateDir() (string, error) {
	if d := a.folder("XDG_STATE_HOME", filepath.Join(".local", "state")); d != "" {
		return d, nil
	}
	return "", &homelessError{"XDG_STATE_HOME"}
}

// cacheDir is where what can be made anew is kept; "" where there is no place.
func (a *app) cacheDir() string { return a.folder("XDG_CACHE_HOME", ".cache") }

func (a *app) folder(variable, fallback string) string {
	if d := a.getenv(variable); filepath.IsAbs(d) {
		return filepath.Join(d, "donjon")
	}
	home := a.getenv("HOME")
	if !filepath.IsAbs(home) {
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, fallback, "donjon")
}

type homelessError struct{ variable string }

func (e *homelessError) Error() string {
	return "this user has no home folder to keep the simulated root in"
}
func (e *homelessError) Hint() string {
	return "set " + e.variable + " to a folder that only this user can write to"
}
