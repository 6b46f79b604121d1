//go:build linux

package e2e

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/keep/sim"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// A lab has the built programs and a simulated processor. It runs Keeps in this
// process, so that a test stands where a hostile host stands.
type lab struct {
	dir string
	sil *silicon.Silicon
}

func newLab(t *testing.T, guests ...string) *lab {
	t.Helper()
	dir := t.TempDir()
	for _, b := range [][]string{{"donjon", "../cmd/donjon"}, {"donjon-keep", "../cmd/donjon-keep"}} {
		goBuild(t, []string{"CGO_ENABLED=0"}, filepath.Join(dir, b[0]), b[1])
	}
	for _, g := range guests {
		goBuild(t, []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}, filepath.Join(dir, g+".wasm"), "./testdata/guest/"+g)
	}
	sil, err := silicon.Open(filepath.Join(dir, "silicon"))
	if err != nil {
		t.Fatal(err)
	}
	return &lab{dir, sil}
}

func goBuild(t *testing.T, env []string, out, pkg string) {
	t.Helper()
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, pkg)
	c.Env = append(os.Environ(), env...)
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, b)
	}
}

// workload makes a folder of a built guest and files, and loads it.
func (l *lab) workload(t *testing.T, guest string, files map[string]string) *workload.Workload {
	t.Helper()
	dir := t.TempDir()
	if err := os.Link(filepath.Join(l.dir, guest+".wasm"), filepath.Join(dir, "main.wasm")); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w, err := workload.Load(dir, workload.Flags{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A running Keep, its link tapped.
type running struct {
	keep.Machine
	link   *tap
	stop   chan struct{}
	done   chan struct{}
	out    keep.Outcome
	err    error
	stdout bytes.Buffer
	mu     sync.Mutex
	logged []string
	where  chan string // addresses of listeners, in order
}

// run starts a Keep for w; edit may change how it is supervised. It is stopped
// when the test ends.
func (l *lab) run(t *testing.T, w *workload.Workload, edit func(*keep.Options)) *running {
	t.Helper()
	m, err := sim.Launch(context.Background(), keep.Spec{HostData: w.Digest, KeepProgram: filepath.Join(l.dir, "donjon-keep")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Machine: m, link: &tap{ReadWriteCloser: m.Link()}, stop: make(chan struct{}), done: make(chan struct{}), where: make(chan string, 4)}
	o := keep.Options{
		Workload: w, Machine: r, TEE: "sim", Stop: r.stop, NoCache: true,
		Silicon: l.sil.Guest(silicon.Launch{HostData: w.Digest}, m.Measurement),
		Stdout:  &r.stdout, Bind: map[string]string{"web": "127.0.0.1:0"},
		Log: func(_ int, text string) {
			r.mu.Lock()
			r.logged = append(r.logged, text)
			r.mu.Unlock()
			if rest, ok := strings.CutPrefix(text, "web listens on "); ok {
				addr, _, _ := strings.Cut(rest, " ")
				r.where <- addr
			}
		},
	}
	if edit != nil {
		edit(&o)
	}
	go func() {
		defer close(r.done)
		r.out, r.err = keep.Supervise(context.Background(), o)
	}()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end stops the Keep where it still runs.
func (r *running) end(t *testing.T) {
	t.Helper()
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.wait(t)
}

func (r *running) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		_ = r.Kill()
		t.Fatal("the Keep does not end")
	}
}

// address is where the listener "web" is.
func (r *running) address(t *testing.T) string {
	t.Helper()
	select {
	case a := <-r.where:
		return a
	case <-r.done:
		t.Fatalf("the Keep ended before it listened: %+v, %v", r.out, r.err)
	case <-time.After(time.Minute):
		t.Fatal("the Keep does not listen")
	}
	return ""
}

func (r *running) Link() io.ReadWriteCloser { return r.link }

// A tap keeps all bytes that cross the link.
type tap struct {
	io.ReadWriteCloser
	mu       sync.Mutex
	in, outb bytes.Buffer // from the Keep, to the Keep
}

func (p *tap) Read(b []byte) (int, error) {
	n, err := p.ReadWriteCloser.Read(b)
	p.mu.Lock()
	p.in.Write(b[:n])
	p.mu.Unlock()
	return n, err
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.outb.Write(b)
	p.mu.Unlock()
	return p.ReadWriteCloser.Write(b)
}

// captured gives copies of what came from the Keep and went to it.
func (p *tap) captured() (from, to []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.in.Bytes()), bytes.Clone(p.outb.Bytes())
}
