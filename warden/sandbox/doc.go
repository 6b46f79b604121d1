//go:build linux

// Package sandbox is what donjon-keep does to itself, so that a guest which has
// escaped from the engine finds nothing around it, and a warden that was taken
// over can reach nothing of the host. It is the outer wall in a sim Keep, where
// the operating system around the Keep is somebody's workstation, and the wall
// between warden and exec child in every Keep (THREATS T19).
//
// Four steps, in this order: the host starts the program with what [Namespaces]
// gives; the warden spawns the exec child and calls [EnterRoot]; the warden calls
// [Apply] with [Warden]; the child calls [Apply] with [ChildCompile] before it
// reads the module and with [ChildRun] before guest code runs.
//
// Next door: keep/sim (starts the process), warden (is confined), engine/child
// (is confined further). The lists of system calls and why each is there are in
// docs/sandbox.md; why it is built like this is in docs/decisions/0006-sandbox.md.
package sandbox

import (
	"fmt"
	"strings"
)

// Ids that warden and exec child take where they may take any: apart from each
// other and from every account of the host. They lie above the ranges that
// distributions and container managers hand out, and below 2^31.
const (
	WardenID = 0x70000001
	ChildID  = 0x70000002
)

// CacheDir is the folder that [EnterRoot] makes for compiled code. It lies in the
// Keep's own memory and any uid of the Keep may write to it.
const CacheDir = "/cache"

// A Profile says what a process may still do.
type Profile int

// The profiles. ChildRun is laid over ChildCompile, never used alone.
const (
	// Warden: its descriptors, new memory, socket pairs and memory files, and its
	// child. No files, no network, no new programs.
	Warden Profile = iota
	// ChildCompile: files beneath one folder, and executable memory.
	ChildCompile
	// ChildRun: its descriptors and plain memory.
	ChildRun
)

func (p Profile) String() string {
	switch p {
	case Warden:
		return "warden"
	case ChildCompile:
		return "child-compile"
	case ChildRun:
		return "child-run"
	}
	return fmt.Sprintf("profile %d", int(p))
}

// Options of [Apply]. The zero value keeps the uid and opens no folder.
type Options struct {
	// CacheDir is the one folder that ChildCompile may use; "": none.
	CacheDir string
	// Child is the process id of the exec child: the one process beside itself
	// that the warden may signal by number. 0: none (a pidfd serves all the same).
	Child int
	// UID and GID are the ids to take; 0: stay what it is. Where they cannot be
	// taken the report says so, but for one case: a user namespace that has no
	// such ids, as every ordinary user's has. There is nothing to be done about
	// that one, and a warning at each start would wear out the others; that the
	// report's Applied does not list "another uid" tells.
	UID, GID int
}

// Missing is a part that could not be applied, with the reason.
type Missing struct{ What, Why string }

func (m Missing) String() string { return m.What + ": " + m.Why }

// A Report says what was applied and what of the optional parts was not.
type Report struct {
	Applied []string
	Missing []Missing
}

func (r *Report) note(what string, err error) {
	if err == nil {
		r.Applied = append(r.Applied, what)
		return
	}
	r.Missing = append(r.Missing, Missing{What: what, Why: err.Error()})
}

// A NotAppliedError says that a part without which nothing may run could not be
// applied: no_new_privs or the system call filter (THREATS T32).
type NotAppliedError struct {
	Profile Profile
	Part    string
	Err     error
}

func (e *NotAppliedError) Error() string {
	return fmt.Sprintf("sandbox: %s for the %s: %v", e.Part, strings.ReplaceAll(e.Profile.String(), "-", " "), e.Err)
}

func (e *NotAppliedError) Unwrap() error { return e.Err }

// Hint is what to do about it.
func (e *NotAppliedError) Hint() string {
	return "use a kernel with seccomp filters (CONFIG_SECCOMP_FILTER), and if this is a container let it install them; --weak-sandbox runs without, for trials alone"
}
