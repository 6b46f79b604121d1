//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
