//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// T6: a hostile host adds what the configuration does not leave to it; what it
// does leave arrives.
func TestT06HostAddsInput(t *testing.T) {
	l := newLab(t, "hello")
	const toml = "args = [\"fixed\"]\nhost_args = true\nhost_env = [\"MODE\"]\n"
	w := l.workload(t, "hello", map[string]string{"Donjon.toml": toml})
	for name, c := range map[string]struct {
		in   workload.HostInput
		kind link.ExitKind
		text string // of the exit, or of stdout
	}{
		"declared":          {workload.HostInput{Args: []string{"more"}, Env: []string{"MODE=fast"}}, link.ExitStatus, "hello [main.wasm fixed more] [MODE=fast]\n"},
		"nothing":           {workload.HostInput{}, link.ExitStatus, "hello [main.wasm fixed] []\n"},
		"another variable":  {workload.HostInput{Env: []string{"PATH=/"}}, link.ExitRefused, `"PATH"`},
		"a variable twice":  {workload.HostInput{Env: []string{"MODE=1", "MODE=2"}}, link.ExitRefused, "at most"},
		"no variable":       {workload.HostInput{Env: []string{"MODE"}}, link.ExitRefused, `"MODE"`},
		"a zero byte":       {workload.HostInput{Args: []string{"a\x00b"}}, link.ExitRefused, "zero byte"},
		"too many to a cut": {workload.HostInput{Args: slices.Repeat([]string{"x"}, 1025)}, link.ExitFailed, "offer"},
	} {
		t.Run(name, func(t *testing.T) {
			lying := *w
			lying.Host = c.in // past the host's own check
			r := l.run(t, &lying, nil)
			r.wait(t)
			if got := r.out.Exit.Text + r.stdout.String(); r.err != nil || r.out.Exit.Kind != c.kind || !strings.Contains(got, c.text) {
				t.Errorf("found %+v, %v, %q, wanted %d with %q", r.out.Exit, r.err, r.stdout.String(), c.kind, c.text)
			}
		})
	}
}

// module is a WebAssembly module that ends at once, after n instructions.
func module(n int) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x04\x01\x60\x00\x00" + // a type: no parameters, no results
		"\x03\x02\x01\x00" + // one function of it
		"\x07\x0a\x01\x06_start\x00\x00") // exported
	b = append(b, 10, byte(4+n), 1, byte(2+n), 0)
	b = append(b, bytes.Repeat([]byte{1}, n)...) // nop
	return append(b, 0x0b)
}

// T16: the host's copy of compiled code is used only where it is this very entry;
// one that was swapped, damaged or cut runs nothing and is made anew.
func TestT16CacheEntries(t *testing.T) {
	l := newLab(t)
	blobs := filepath.Join(t.TempDir(), "blobs")
	for i, name := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(l.dir, name+".wasm"), module(i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := l.workload(t, "one", nil), l.workload(t, "two", nil)
	const fromCache, notGenuine = "comes from the cache", "is not what was stored"
	ran := func(w *workload.Workload) string {
		t.Helper()
		r := l.run(t, w, func(o *keep.Options) { o.NoCache = false; o.Blobs = keep.Blobs{Dir: blobs}; o.Stderr = io.Discard })
		r.wait(t)
		if r.err != nil || r.out.Exit.Kind != link.ExitStatus || r.out.Exit.Status != 0 {
			t.Fatalf("found %+v, %v", r.out.Exit, r.err)
		}
		return strings.Join(r.logged, "\n")
	}
	entries := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(blobs, "code-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	said := ran(one)
	if len(entries()) == 0 {
		t.Skipf("no cache in a sim Keep of this host: %s", said)
	}
	if said := ran(one); !strings.Contains(said, fromCache) {
		t.Fatalf("the second run compiled anew: %s", said)
	}
	mine := entries()[0]
	_ = ran(two)
	var others string
	for _, e := range entries() {
		if e != mine {
			others = e
		}
	}
	if others == "" {
		t.Fatal("two modules have one entry")
	}
	good, err := os.ReadFile(mine)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(others)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 1; return b }
	for name, bad := range map[string][]byte{
		"of another module":        other,
		"a bit in the nonce":       flipped(0),
		"a bit in the code":        flipped(len(good) / 2),
		"a bit at the end":         flipped(len(good) - 1),
		"cut":                      good[:len(good)-1],
		"longer":                   append(bytes.Clone(good), 0),
		"machine code, not sealed": bytes.Repeat([]byte{0xcc}, 4096),
	} {
		if err := os.WriteFile(mine, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if said := ran(one); strings.Contains(said, fromCache) || !strings.Contains(said, notGenuine) {
			t.Errorf("%s: found %s", name, said)
		}
		if said := ran(one); !strings.Contains(said, fromCache) {
			t.Errorf("%s: the entry was not made anew: %s", name, said)
		}
	}
	if err := os.WriteFile(mine, good[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	if said := ran(one); strings.Contains(said, fromCache) {
		t.Errorf("ten bytes are an entry: %s", said)
	}
}

// T2: a session that was recorded is played to a fresh Keep, byte for byte and at
// the same pace: its report is not over the fresh Keep's bytes.
func TestT02RecordedSessionReplayed(t *testing.T) {
	l := newLab(t, "hello")
	w := l.workload(t, "hello", map[string]string{"Donjon.toml": "args = [\"MARKER\"]\n"})
	rec := &recorder{}
	r := l.run(t, w, func(o *keep.Options) { rec.Machine = o.Machine; o.Machine = rec })
	r.wait(t)
	if r.out.Exit.Kind != link.ExitStatus || !strings.Contains(r.stdout.String(), "MARKER") {
		t.Fatalf("the session to be recorded: %+v, %v", r.out.Exit, r.err)
	}
	conn, _ := start(t, filepath.Join(l.dir, "donjon-keep"))
	var said bytes.Buffer
	for _, s := range rec.steps {
		if s.toKeep {
			if _, err := conn.Write(s.data); err != nil {
				break
			}
			continue
		}
		// The Keep says as much as it did then, or something else and less.
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		n, err := io.CopyN(&said, conn, int64(len(s.data)))
		if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.Copy(&said, conn)
	if bytes.Contains(said.Bytes(), []byte("hello [main.wasm")) {
		t.Error("the workload ran in the fresh Keep")
	}
	if !bytes.Contains(said.Bytes(), []byte("replayed or made up")) {
		t.Errorf("the Keep does not say why it refuses: %.2000q", said.String())
	}
}

type step struct {
	toKeep bool
	data   []byte
}

// A recorder keeps the order in which bytes crossed the link.
type recorder struct {
	keep.Machine
	steps []step
	turn  chan struct{}
	wrap  *recorded
}

func (r *recorder) Link() io.ReadWriteCloser {
	if r.wrap == nil {
		r.turn = make(chan struct{}, 1)
		r.wrap = &recorded{r.Machine.Link(), r}
	}
	return r.wrap
}

func (r *recorder) add(toKeep bool, b []byte) {
	r.turn <- struct{}{}
	r.steps = append(r.steps, step{toKeep, bytes.Clone(b)})
	<-r.turn
}

type recorded struct {
	io.ReadWriteCloser
	r *recorder
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(b)
	if n > 0 {
		c.r.add(false, b[:n])
	}
	return n, err
}

func (c *recorded) Write(b []byte) (int, error) {
	c.r.add(true, b)
	return c.ReadWriteCloser.Write(b)
}

// T32: the processes of a Keep leave no core, trace nothing, and were given
// nothing of the environment that donjon runs in.
func TestT32ProcessesOfAKeep(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may look into the processes of a Keep")
	}
	const marker = "SECRET-IN-THE-ENVIRONMENT"
	t.Setenv("DONJON_TEST_SECRET", marker)
	t.Setenv("GOTRACEBACK", "all")
	l := newLab(t, "relay")
	r := l.run(t, l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls")}), nil)
	conn, err := tls.Dial("tcp", r.address(t), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ask(conn, "are you there"); err != nil { // the guest runs: everything is applied
		t.Fatal(err)
	}
	pids := processesOf(t, filepath.Join(l.dir, "donjon-keep"))
	if len(pids) != 2 {
		t.Fatalf("found %d processes, wanted warden and child", len(pids))
	}
	for _, pid := range pids {
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join("/proc", pid, name))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if env := read("environ"); env != "GOTRACEBACK=none\x00" {
			t.Errorf("environment: found %q", env)
		}
		if args := read("cmdline"); args != "donjon-keep\x00exec\x00" && args != filepath.Join(l.dir, "donjon-keep")+"\x00sim\x00" && !strings.HasSuffix(args, "shared-mounts\x00") {
			t.Errorf("arguments: found %q", args)
		}
		fields := func(file, name string) []string {
			for line := range strings.Lines(read(file)) {
				if rest, ok := strings.CutPrefix(line, name); ok {
					return strings.Fields(rest)
				}
			}
			return nil
		}
		for _, want := range [][2]string{{"NoNewPrivs:", "1"}, {"Seccomp:", "2"}, {"CoreDumping:", "0"}, {"TracerPid:", "0"}} {
			if got := fields("status", want[0]); len(got) != 1 || got[0] != want[1] {
				t.Errorf("%s found %q, wanted %s", want[0], got, want[1])
			}
		}
		if got := fields("limits", "Max core file size"); len(got) < 2 || got[0] != "0" || got[1] != "0" {
			t.Errorf("core file size: found %q, wanted 0", got)
		}
	}
}

// processesOf gives the processes that run program.
func processesOf(t *testing.T, program string) []string {
	t.Helper()
	want, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if got, err := os.Stat(filepath.Join("/proc", e.Name(), "exe")); err == nil && os.SameFile(got, want) {
			out = append(out, e.Name())
		}
	}
	return out
}

// noSeccomp, in the environment, makes the test binary forbid itself the seccomp
// system call and become the program that follows.
const noSeccomp = "DONJON_TEST_NO_SECCOMP"

func TestBecomeWithoutSeccomp(t *testing.T) {
	list := os.Getenv(noSeccomp)
	if list == "" {
		return // it is a helper of the test below
	}
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SECCOMP, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		t.Fatal(errno)
	}
	args := strings.Split(list, "\n")
	t.Fatal(syscall.Exec(args[0], args, slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, noSeccomp+"=") })))
}

// T32: where the system call filter cannot be applied nothing runs, unless the
// user says so by name; then the lack is printed.
func TestT32NoSeccomp(t *testing.T) {
	l := newLab(t, "hello")
	for _, c := range []struct {
		flags  []string
		status int
		stdout string
		stderr string
	}{
		{nil, 125, "", "system call filter"},
		{[]string{"--weak-sandbox"}, 0, "hello", "system call filter"},
	} {
		args := append([]string{filepath.Join(l.dir, "donjon"), "run", "--tee", "sim"}, c.flags...)
		args = append(args, filepath.Join(l.dir, "hello.wasm"))
		cmd := exec.Command(os.Args[0], "-test.run=^TestBecomeWithoutSeccomp$")
		cmd.Env = append(os.Environ(), noSeccomp+"="+strings.Join(args, "\n"), "HOME="+l.dir, "XDG_CACHE_HOME=", "XDG_STATE_HOME=")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.status || !strings.HasPrefix(out.String(), c.stdout) || c.stdout == "" && out.Len() > 0 || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: found %d, %q, %q; wanted %d, %q, %q", c.flags, got, out.String(), errs.String(), c.status, c.stdout, c.stderr)
		}
	}
}

// T28: a host that opens 100,000 connections to a Keep and resets them fills no
// memory of it, and evidence is still given.
func TestT28HostileHostOpensStreams(t *testing.T) {
	l := newLab(t, "relay")
	w := l.workload(t, "relay", map[string]string{"Donjon.toml": streams + webEntry("tls")})
	conn, cmd := start(t, filepath.Join(l.dir, "donjon-keep"))
	sess, err := link.Host(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	last := make(chan link.Exit, 1)
	guest := l.sil.Guest(silicon.Launch{HostData: w.Digest}, func() [48]byte { return [48]byte{1} })
	go func() {
		for {
			st, err := sess.Accept()
			if err != nil {
				return
			}
			go serve(st, guest, w, lie{}, last)
		}
	}()
	evidence := func() error {
		for {
			st, err := sess.Open(link.ServiceEvidence, link.Marshal(link.EvidenceRequest{}))
			if err != nil {
				return err
			}
			var r link.EvidenceReply
			var busy *link.ResetError
			err = link.ReadRecord(st, link.MaxReportRecord, &r)
			_ = st.Close()
			if !errors.As(err, &busy) || busy.Code != link.CodeBusy {
				return err
			}
		}
	}
	if err := evidence(); err != nil {
		t.Fatal(err)
	}
	for i := range 100_000 {
		st, err := sess.Open(link.ServiceConn, link.Marshal(link.Conn{Index: 3, Peer: "1.2.3.4:5"}))
		if err != nil {
			t.Fatalf("after %d streams: %v", i, err)
		}
		st.Reset(link.CodeCancelled, "")
	}
	if err := evidence(); err != nil {
		t.Errorf("the Keep gives no evidence any more: %v", err)
	}
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil || kib > 256<<10 {
				t.Errorf("the warden used %s of memory, wanted at most 256 MiB", strings.TrimSpace(rest))
			}
		}
	}
}
