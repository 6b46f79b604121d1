//go:build linux

package child

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
)

// spawn starts the child that mode names (main_test.go).
func spawn(t *testing.T, mode string) *Process {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mode")
	if err := os.WriteFile(name, []byte(mode), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	saved := os.Stdin
	os.Stdin = f
	p, err := Spawn()
	os.Stdin = saved
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		select {
		case <-p.Ended():
		case <-time.After(30 * time.Second):
			t.Error("the child outlives Kill")
		}
		_ = p.ctl.Close()
	})
	return p
}

func memory(t *testing.T, b []byte) *os.File {
	t.Helper()
	f, err := Memory("test", len(b), func(m []byte) error { copy(m, b); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// open counts this process's descriptors.
func open(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// T19: whatever a child says, the warden gets an error or the guest's end, no
// descriptor that it did not ask for, and no hang.
func TestT19HostileChild(t *testing.T) {
	for _, c := range []struct {
		mode     string
		compiled string // the error of Compiled; "" is none
		end      string // then the error of Wait; "" is none
	}{
		{"garbage", "does not decode", ""},
		{"trailing", "does not decode", ""},
		{"twice", "does not decode", ""},
		{"unknown", "does not decode", ""},
		{"nested", "does not decode", ""},
		{"long", "too long", ""},
		{"empty", "ended", ""},
		{"descriptors", "too long", ""},
		{"kind 0", "event 0", ""},
		{"kind 99", "event 99", ""},
		{"done at once", "event 3", ""},
		{"failed with code", "no", ""},
		{"nothing", "ended", ""},
		{"many events", "", "event 1"},
		{"code after the start", "", "event 1"},
		{"code at the end", "", ""},
		{"garbage after the start", "", "does not decode"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			p := spawn(t, c.mode)
			before := open(t)
			if err := p.Load(Spec{}, memory(t, []byte("module")), nil, nil); err != nil {
				t.Fatal(err)
			}
			_, f, _, err := p.Compiled()
			if c.compiled != "" {
				if err == nil || !strings.Contains(err.Error(), c.compiled) || f != nil {
					t.Errorf("found %v, %v; wanted %q and no descriptor", err, f, c.compiled)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Start(); err != nil && c.mode != "many events" {
					t.Fatal(err)
				}
				out, err := p.Wait()
				if c.end == "" && (err != nil || out.Status != 7) || c.end != "" && (err == nil || !strings.Contains(err.Error(), c.end)) {
					t.Errorf("found %+v, %v; wanted %q", out, err, c.end)
				}
			}
			p.Kill()
			<-p.Ended()
			if n := open(t); n > before {
				t.Errorf("%d descriptors are left open, %d were", n, before)
			}
		})
	}
}

// A child that says nothing is ended by Kill, and whoever waits for it learns.
func TestT19SilentChild(t *testing.T) {
	p := spawn(t, "silent")
	if err := p.Load(Spec{}, memory(t, []byte("module")), nil, nil); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, p.Kill)
	if _, _, _, err := p.Compiled(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("found %v", err)
	}
}

func TestLoadBounds(t *testing.T) {
	p := spawn(t, "silent")
	before := open(t)
	var many []*os.File
	for range MaxDescriptors {
		many = append(many, memory(t, nil))
	}
	if err := p.Load(Spec{}, memory(t, nil), nil, many); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("descriptors: found %v", err)
	}
	if err := p.Load(Spec{Args: []string{strings.Repeat("x", maxSpec)}}, memory(t, nil), nil, nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("arguments: found %v", err)
	}
	if n := open(t); n != before {
		t.Errorf("%d descriptors are left open, %d were", n, before)
	}
}

// module is a WebAssembly module whose _start has this body.
func module(body ...byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00")
	b = append(b, 10, byte(4+len(body)), 1, byte(2+len(body)), 0)
	return append(append(b, body...), 0x0b)
}

// The real child, up to its end, and what it refuses of a warden's own mistakes.
func TestChild(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     string
		spec     Spec
		module   []byte
		guest    int // descriptors that come along
		cache    []byte
		compiled string
		end      string
		trap     string
	}{
		{name: "ends", module: module()},
		{name: "traps", module: module(0), trap: "unreachable"},
		{name: "no module", module: []byte("text"), compiled: "no WebAssembly"},
		{name: "fewer descriptors", module: module(), spec: Spec{Files: []File{{"in", uint8(engine.Input)}}}, compiled: "fewer"},
		{name: "more descriptors", module: module(), guest: 2, compiled: "2 descriptors more"},
		{name: "odd mount", module: module(), spec: Spec{Mounts: []Mount{{"/x", 9, 0}}}, compiled: "kind 9"},
		{name: "an archive that is none", module: module(), guest: 1, spec: Spec{Mounts: []Mount{{"/x", MountArchive, 0}}}, compiled: "data for /x"},
		{name: "a cache entry above its folder", module: module(), spec: Spec{Cache: true, CacheName: "../evil"}, cache: []byte("code"), compiled: "../evil"},
		{name: "an absolute cache entry", module: module(), spec: Spec{Cache: true, CacheName: "/etc/evil"}, cache: []byte("code"), compiled: "/etc/evil"},
		{name: "the last wall is missing", mode: "unconfined", module: module(), end: "not implemented"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mode == "" {
				c.mode = "child"
			}
			p := spawn(t, c.mode+"|"+t.TempDir())
			var guest []*os.File
			for range c.guest {
				guest = append(guest, memory(t, []byte("x")))
			}
			var cache *os.File
			if c.cache != nil {
				cache = memory(t, c.cache)
			}
			if c.spec.MaxMemory == 0 {
				c.spec.MaxMemory = 1 << 20
			}
			if err := p.Load(c.spec, memory(t, c.module), cache, guest); err != nil {
				t.Fatal(err)
			}
			_, _, _, err := p.Compiled()
			if c.compiled != "" {
				var ge *GuestError
				if !errors.As(err, &ge) || !strings.Contains(ge.Text, c.compiled) {
					t.Errorf("found %v, wanted %q", err, c.compiled)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			out, err := p.Wait()
			if c.end == "" && (err != nil || !strings.Contains(out.Trap, c.trap) || c.trap == "" && out.Trap != "") || c.end != "" && (err == nil || !strings.Contains(err.Error(), c.end)) {
				t.Errorf("found %+v, %v", out, err)
			}
		})
	}
}

// T10: what the guest sees of the clock.
func TestT10GuestClockFloor(t *testing.T) {
	floor := time.Unix(1_800_000_000, 0)
	host := floor
	now := notBefore(func() time.Time { return host }, floor)
	for _, c := range []struct{ host, want time.Time }{
		{floor.AddDate(-10, 0, 0), floor}, {floor.AddDate(10, 0, 0), floor.AddDate(10, 0, 0)}, {floor.Add(time.Second), floor.Add(time.Second)},
		{floor, floor}, {time.Time{}, floor}, {time.Unix(-1, 0), floor},
	} {
		if host = c.host; !now().Equal(c.want) {
			t.Errorf("the host says %s: found %s, wanted %s", c.host, now(), c.want)
		}
	}
	g, err := assemble(Spec{NotBefore: time.Now().Add(time.Hour).Unix()}, nil)
	if err != nil || g.Now().Before(time.Now().Add(59*time.Minute)) {
		t.Errorf("a guest's clock is behind its floor (%v)", err)
	}
}

// FuzzEvent is what an escaped guest may send the warden (T19).
func FuzzEvent(f *testing.F) {
	for _, e := range []event{{Kind: eventCompiled, CacheName: "a/b", Notes: []string{"n"}}, {Kind: eventFailed, Module: true, Text: "t", Hint: "h"}, {Kind: eventDone, Status: 3, Trap: "t", MemoryRefused: true}} {
		b, err := cbor.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xa2, 1, 1, 1, 2})
	f.Add([]byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0xa1, 0x09, 0x9a, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > maxMessage+1 {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := &Process{ctl: os.NewFile(uintptr(pair[0]), "control")}
		defer p.ctl.Close()
		defer unix.Close(pair[1])
		if err := send(pair[1], b, []int{pair[1]}); err != nil {
			t.Fatal(err)
		}
		e, fd, err := p.next()
		if fd != nil {
			_ = fd.Close()
		}
		if err == nil && len(e.Text)+len(e.Hint)+len(e.Trap)+len(e.CacheName) > maxMessage {
			t.Error("an event holds more than its message")
		}
	})
}

// FuzzSpec is what the child reads.
func FuzzSpec(f *testing.F) {
	for _, s := range []Spec{{}, {Args: []string{"a"}, Env: []string{"K=V"}, Files: []File{{"in", 1}, {"null", 0}}, Mounts: []Mount{{"/x", MountScratch, 1 << 20}, {"/y", MountArchive, 0}, {"/z", MountHost, 0}},
		MaxMemory: 1 << 20, CacheName: "n", Cache: true, NotBefore: 1}} {
		b, err := cbor.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		if len(b) > maxSpec {
			return
		}
		var s Spec
		if unmarshal(b, &s) != nil {
			return
		}
		fds := make([]int, n)
		for i := range fds {
			fds[i] = -1
		}
		g, err := assemble(s, fds)
		if err == nil && (len(g.Files) != len(s.Files) || len(g.Preopens) != len(s.Mounts)) {
			t.Error("a guest has other descriptors than were announced")
		}
	})
}
