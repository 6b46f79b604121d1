//go:build linux

package warden

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// maxBehind is how far the day of release may be behind the tree that it stands in.
const maxBehind = 30 * 24 * time.Hour

// THREATS T10: the day that a Keep believes in at least stands in the source, so that one
// commit always makes the same donjon-keep, and the same measurement. It must not be
// forgotten there: it is compared with the commit, and with what is compiled in.
func TestT10ReleasedIsRaised(t *testing.T) {
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(top, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	// A pseudo-version has the time of its commit (https://go.dev/ref/mod#pseudo-versions).
	newest := time.Time{}
	for _, m := range regexp.MustCompile(`v[0-9.]+-(?:[0-9a-z.]*\.)?([0-9]{14})-[0-9a-f]{12}\b`).FindAllSubmatch(mod, -1) {
		at, err := time.Parse("20060102150405", string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		if at.After(newest) {
			newest = at
		}
	}
	if newest.IsZero() {
		t.Error("go.mod has no module with a time: this test looks at nothing there")
	}
	if err := dated(released, newest.Truncate(24*time.Hour), newest.Add(100*365*24*time.Hour)); err != "" {
		t.Errorf("beside the modules of go.mod: %s", err)
	}

	git := func(args ...string) string {
		b, err := exec.Command("git", append([]string{"-C", top}, args...)...).Output()
		if err != nil {
			t.Skipf("git does not know this tree, and its commit's day with it: %v", err)
		}
		return strings.TrimSpace(string(b))
	}
	if root, err := filepath.EvalSymlinks(git("rev-parse", "--show-toplevel")); err != nil || root != top {
		t.Skipf("this tree is no repository of its own, but a part of %s", root)
	}
	at, err := time.Parse(time.RFC3339, git("log", "-1", "--format=%cI"))
	if err != nil {
		t.Fatal(err)
	}
	if err := dated(released, at.Add(-maxBehind), at); err != "" {
		t.Errorf("beside the last commit, of %s: %s", at.UTC().Format(time.DateOnly), err)
	}
}

// dated says what is wrong with a day of release; "": nothing.
func dated(day, earliest, latest time.Time) string {
	const fix = "; in warden/clock.go: the day of the last commit, in UTC, is right"
	switch {
	case day.Before(earliest):
		return "released is " + day.Format(time.DateOnly) + ", wanted " + earliest.Format(time.DateOnly) + " or later" + fix
	case day.After(latest): // honest hosts' clocks would be called wrong
		return "released is " + day.Format(time.DateOnly) + ", wanted " + latest.Format(time.DateOnly) + " or earlier" + fix
	}
	return ""
}
