//go:build linux

package child

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
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
	f, err := Bytes("test", b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
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
		{"compiled before ready", "event 1 before it was confined", ""},
		{"failed before ready", "event 2 before it was confined", ""},
		{"done before ready", "event 3 before it was confined", ""},
		{"garbage before ready", "does not decode", ""},
		{"nothing before ready", "ended", ""},
		{"two slots", "too long", ""},
		{"ready twice", "event 4 before the module", ""},
		{"no slot", "", ""},
		{"a slot nobody wants", "", ""},
		{"garbage", "does not decode", ""},
		{"trailing", "does not decode", ""},
		{"twice", "does not decode", ""},
		{"unknown", "does not decode", ""},
		{"nested", "does not decode", ""},
		{"long", "too long", ""},
		{"empty", "ended", ""},
		{"descriptors", "too long", ""},
		{"two descriptors", "too long", ""},
		{"kind 0", "event 0", ""},
		{"kind 99", "event 99", ""},
		{"done at once", "event 3", ""},
		{"failed with code", "no", ""},
		{"nothing", "ended", ""},
		{"many events", "", "event 1"},
		{"code after the start", "", "event 1"},
		{"ready after the start", "", "event 4"},
		{"code at the end", "", ""},
		{"garbage after the start", "", "does not decode"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			before := descriptors(t)
			p := spawn(t, c.mode)
			cache := c.mode != "a slot nobody wants"
			if err := p.Confine(cache); err != nil {
				t.Fatal(err)
			}
			// A child that is gone by now shows below.
			_ = p.Compile(Job{Cache: cache}, memory(t, []byte("module")))
			if cache {
				slot, err := p.Slot()
				if slot != nil && (err != nil || c.mode == "no slot") {
					t.Errorf("found a slot, %v", err)
				}
				if slot != nil {
					_ = slot.Close()
				}
			}
			_ = p.Code("")
			_, f, _, err := p.Compiled()
			if c.compiled != "" {
				if err == nil || !strings.Contains(err.Error(), c.compiled) || f != nil {
					t.Errorf("found %v, %v; wanted %q and no descriptor", err, f, c.compiled)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Start(Spec{}, nil); err != nil && c.mode != "many events" {
					t.Fatal(err)
				}
				out, err := p.Wait()
				if c.end == "" && (err != nil || out.Status != 7) || c.end != "" && (err == nil || !strings.Contains(err.Error(), c.end)) {
					t.Errorf("found %+v, %v; wanted %q", out, err, c.end)
				}
			}
			p.Kill()
			<-p.Ended()
			if n := descriptors(t); n > before+1 { // and the control socket
				t.Errorf("%d descriptors are left open, wanted %d", n, before+1)
			}
		})
	}
}

// A child that says nothing is ended by Kill, and whoever waits for it learns.
func TestT19SilentChild(t *testing.T) {
	for mode, wait := range map[string]func(*Process) error{
		"silent before ready": func(p *Process) error { _, err := p.Slot(); return err },
		"silent":              func(p *Process) error { _, _, _, err := p.Compiled(); return err },
	} {
		p := spawn(t, mode)
		if err := errors.Join(p.Confine(true), p.Compile(Job{Cache: true}, memory(t, []byte("module")))); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(50*time.Millisecond, p.Kill)
		if err := wait(p); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("%s: found %v", mode, err)
		}
	}
}

func TestStartBounds(t *testing.T) {
	p := spawn(t, "silent")
	before := descriptors(t)
	var many []*os.File
	for range MaxDescriptors + 1 {
		many = append(many, memory(t, nil))
	}
	if err := p.Start(Spec{}, many); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("descriptors: found %v", err)
	}
	if err := p.Start(Spec{Args: []string{strings.Repeat("x", maxSpec)}}, []*os.File{memory(t, nil)}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("arguments: found %v", err)
	}
	if n := descriptors(t); n > before {
		t.Errorf("%d descriptors are left open, %d were", n, before)
	}
}

// What is handed over is as long as was said and can never change.
func TestMemory(t *testing.T) {
	before := descriptors(t)
	for name, fill := range map[string]func(io.Writer) error{
		"less":    func(w io.Writer) error { _, err := w.Write([]byte("12")); return err },
		"more":    func(w io.Writer) error { _, err := w.Write([]byte("1234")); return err },
		"nothing": func(io.Writer) error { return nil },
		"failure": func(w io.Writer) error { _, _ = w.Write([]byte("123")); return io.ErrUnexpectedEOF },
	} {
		if f, err := Memory("test", 3, fill); err == nil || f != nil {
			t.Errorf("%s: found a file, %v", name, err)
		}
	}
	for _, b := range [][]byte{nil, []byte("123")} {
		f := memory(t, b)
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 10))
		if err != nil || string(got) != string(b) {
			t.Errorf("found %q, %v", got, err)
		}
		_, werr := f.WriteAt([]byte("x"), 0)
		if !errors.Is(werr, unix.EPERM) || f.Truncate(10) == nil || len(b) > 0 && f.Truncate(0) == nil {
			t.Errorf("a memory file of %d bytes can be changed: %v", len(b), werr)
		}
		_ = f.Close()
	}
	if n := descriptors(t); n > before {
		t.Errorf("%d descriptors are left open, %d were", n, before)
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
	for _, e := range []event{{Kind: eventReady, Notes: []string{"n"}}, {Kind: eventCompiled, CacheName: "a/b", Notes: []string{"n"}}, {Kind: eventFailed, Module: true, Text: "t", Hint: "h"}, {Kind: eventDone, Status: 3, Trap: "t", MemoryRefused: true}} {
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
	for _, s := range []Spec{{}, {Args: []string{"a"}, Env: []string{"K=V"}, Files: []File{{Name: "in", Kind: 1, TTY: true}, {Name: "null"}}, Mounts: []Mount{{"/x", MountScratch, 1 << 20}, {"/y", MountArchive, 0}, {"/z", MountHost, 0}},
		MaxMemory: 1 << 20, Weak: true, NotBefore: 1}} {
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

// FuzzJob is what the child reads before: a Job, and the name of machine code.
func FuzzJob(f *testing.F) {
	for _, v := range []any{Job{}, Job{Cache: true, Weak: true}, code{}, code{"entry"}, code{"../evil"}, code{"/etc/evil"}, code{slotName}, code{".."}, code{"a\x00b"}} {
		b, err := cbor.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xa2, 1, 0xf5, 1, 0xf4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxMessage {
			return
		}
		var j Job
		if unmarshal(b, &j) == nil {
			again, err := cbor.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			var k Job
			if err := unmarshal(again, &k); err != nil || k != j {
				t.Errorf("found %+v of %+v, %v", k, j, err)
			}
		}
		var c code
		if unmarshal(b, &c) != nil || !isName(c.Name) {
			return
		}
		const dir = "/cache/code"
		p := filepath.Join(dir, c.Name)
		if filepath.Dir(p) != dir || filepath.Base(p) != c.Name || p == filepath.Join(dir, slotName) {
			t.Errorf("%q leads to %q", c.Name, p)
		}
	})
}
