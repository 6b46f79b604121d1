//go:build linux

package sandbox

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What happens to a crime: it is done, refused as its deed says (lives), or ends
// the process.
const (
	lives = true
	dies  = false
)

func TestCrimes(t *testing.T) {
	_, noLandlock := landlockABI()
	users(t, func(t *testing.T, uid int) {
		for deed, want := range map[string][3]bool{ // Warden, ChildCompile, ChildRun
			"open a file of the host":        {lives, lives, lives},
			"open a file in the cache":       {lives, dies, lives},
			"write a file outside the cache": {lives, lives, lives},
			"use the cache":                  {dies, lives, dies},
			"socket":                         {dies, dies, dies},
			"unix socket":                    {dies, dies, dies},
			"connect":                        {dies, dies, dies},
			"execve":                         {dies, dies, dies},
			"fork":                           {dies, dies, dies},
			"clone3":                         {lives, lives, lives},
			"ptrace":                         {dies, dies, dies},
			"kill its parent":                {dies, dies, dies},
			"kill everyone":                  {dies, dies, dies},
			"mount":                          {dies, dies, dies},
			"unshare":                        {dies, dies, dies},
			"bpf":                            {dies, dies, dies},
			"io_uring":                       {dies, dies, dies},
			"userfaultfd":                    {dies, dies, dies},
			"keyctl":                         {dies, dies, dies},
			"process_vm_readv":               {dies, dies, dies},
			"become root":                    {dies, dies, dies},
			"executable memory":              {dies, lives, dies},
			"memory file":                    {lives, dies, dies},
		} {
			cache := cacheFor(t, uid)
			for i, profile := range []string{"warden", "compile", "run"} {
				s := start{deed: profile + ": " + deed, uid: uid, cache: cache}
				t.Run(strings.ReplaceAll(s.deed, ": ", "/"), func(t *testing.T) {
					switch {
					case deed == "open a file in the cache" && profile == "compile":
						t.Skip("it is allowed there: see use the cache")
					case deed == "use the cache" && profile != "compile":
						t.Skip("it is refused there: see open a file in the cache")
					case noLandlock != nil && profile == "compile" && strings.HasSuffix(deed, "the host"),
						noLandlock != nil && profile == "compile" && strings.HasSuffix(deed, "outside the cache"):
						t.Skipf("only Landlock refuses this: %v", noLandlock)
					}
					if want[i] {
						s.lives(t)
					} else {
						s.dies(t)
					}
				})
			}
		}
	})
}

func TestBusy(t *testing.T) {
	users(t, func(t *testing.T, uid int) {
		for _, procs := range []int{1, 4} {
			for _, deed := range []string{"warden: be busy", "child: be busy", "child: run guest"} {
				start{deed: deed, uid: uid, procs: procs, cache: cacheFor(t, uid)}.lives(t)
			}
		}
	})
}

// TestAnotherUID: a warden that has left root's id can still end its child, and
// nothing else of root is left.
func TestAnotherUID(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can take another uid")
	}
	start{deed: "warden: other uid"}.lives(t)
}

func TestOrder(t *testing.T) {
	start{deed: "child: run first"}.lives(t)
	start{deed: "any: no such profile"}.lives(t)
}

// TestReport holds the report against what the kernel says of the process.
func TestReport(t *testing.T) {
	_, noLandlock := landlockABI()
	users(t, func(t *testing.T, uid int) {
		for _, deed := range []string{"warden: report", "compile: report"} {
			out := start{deed: deed, uid: uid, cache: cacheFor(t, uid)}.lives(t)
			for _, want := range []string{
				`(?m)^applied: no_new_privs, no core dumps, `, `no capabilities`, `not dumpable`, `system call filter`,
				`(?m)^NoNewPrivs:\s+1$`, `(?m)^Seccomp:\s+2$`,
				`(?m)^CapPrm:\s+0+$`, `(?m)^CapEff:\s+0+$`, `(?m)^CapInh:\s+0+$`, `(?m)^CapAmb:\s+0+$`,
			} {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("%s: found no %s in\n%s", deed, want, out)
				}
			}
			if has := strings.Contains(out, "missing: landlock"); has != (noLandlock != nil) {
				t.Errorf("%s: landlock missing %t, wanted %t\n%s", deed, has, noLandlock != nil, out)
			}
		}
	})
}
