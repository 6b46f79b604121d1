//go:build linux

package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// A lie is what a hostile host does to a Keep.
type lie struct {
	hostData func([32]byte) [32]byte      // what the Keep was launched for
	blob     func(i int, b []byte) []byte // bytes handed over
	report   func([]byte) []byte          // answers of the processor
	offer    func(*link.Offer)            // what is said beside the manifest
	kind     link.ExitKind
	text     string
}

// The Keep refuses, with the reason, whatever a host changes between launch and
// hand-over (T2, T16, T19): nothing of the guest runs.
func TestHostileHost(t *testing.T) {
	dir := t.TempDir()
	if err := build(dir); err != nil {
		t.Fatal(err)
	}
	sil, err := silicon.Open(filepath.Join(dir, "silicon"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := workload.Load(filepath.Join(dir, "hello.wasm"), workload.Flags{Args: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b = append([]byte{}, b...)
			b[at] ^= 1
			return b
		}
	}
	for name, l := range map[string]lie{
		"another workload at launch": {hostData: func(d [32]byte) [32]byte { d[0] ^= 1; return d }, kind: link.ExitRefused, text: "launched for another workload"},
		"a changed module":           {blob: func(i int, b []byte) []byte { return only(i == 1, b, flip(len(b)/2)) }, kind: link.ExitRefused, text: "the module is not what the manifest names"},
		"a changed configuration":    {blob: func(i int, b []byte) []byte { return only(i == 0, b, flip(8)) }, kind: link.ExitRefused, text: "the configuration is not what the manifest names"},
		"a report over other bytes":  {report: flip(0x50), kind: link.ExitFailed, text: "not over the bytes asked for"},
		"a report of VMPL 1":         {report: flip(0x30), kind: link.ExitRefused, text: "VMPL 1"},
		"debugging allowed":          {report: flip(0x0a), kind: link.ExitFailed, text: ""},
		"a short report":             {report: func(b []byte) []byte { return b[:100] }, kind: link.ExitFailed, text: "found 100 bytes"},
		"T06 an argument":            {offer: func(o *link.Offer) { o.Args = []string{"-c"} }, kind: link.ExitRefused, text: "no host_args"},
		"T06 a variable":             {offer: func(o *link.Offer) { o.Env = []string{"LD_PRELOAD=x"} }, kind: link.ExitRefused, text: "the host adds 0 arguments and 1 variables"},
		"no manifest":                {offer: func(o *link.Offer) { o.Manifest = nil }, kind: link.ExitRefused, text: "the manifest"},
		"a manifest with a space":    {offer: func(o *link.Offer) { o.Manifest = append([]byte(" "), o.Manifest...) }, kind: link.ExitRefused, text: "the manifest"},
		"the truth":                  {kind: link.ExitStatus},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "debugging allowed" { // bit 19 of the policy
				l.report = func(b []byte) []byte { b = append([]byte{}, b...); b[0x0a] |= 1 << 3; return b }
				l.kind, l.text = link.ExitRefused, "debugging"
			}
			e, err := host(t, filepath.Join(dir, "donjon-keep"), sil, w, l)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind != l.kind || !strings.Contains(e.Text, l.text) {
				t.Errorf("found %d %q, wanted %d with %q", e.Kind, e.Text, l.kind, l.text)
			}
		})
	}
}

func only(yes bool, b []byte, f func([]byte) []byte) []byte {
	if yes {
		return f(b)
	}
	return b
}

// host plays the host for one Keep and gives the Keep's last word.
func host(t *testing.T, program string, sil *silicon.Silicon, w *workload.Workload, l lie) (link.Exit, error) {
	conn, cmd := start(t, program)
	sess, err := link.Host(conn)
	if err != nil {
		return link.Exit{}, err
	}
	defer sess.Close()
	data := [32]byte(w.Digest)
	if l.hostData != nil {
		data = l.hostData(data)
	}
	guest := sil.Guest(silicon.Launch{HostData: data}, func() [48]byte { return [48]byte{1} })
	last := make(chan link.Exit, 1)
	go func() {
		for {
			st, err := sess.Accept()
			if err != nil {
				return
			}
			go serve(st, guest, w, l, last)
		}
	}()
	select {
	case e := <-last:
		return e, nil
	case <-sess.Done():
		return link.Exit{}, errors.Join(errors.New("the Keep ended without a word"), sess.Err())
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		return link.Exit{}, errors.New("the Keep does not end")
	}
}

func serve(st *link.Stream, guest *silicon.Guest, w *workload.Workload, l lie, last chan<- link.Exit) {
	switch st.Service() {
	case link.ServiceWorkload:
		offer := link.Offer{Manifest: w.Manifest, NoCache: true}
		if l.offer != nil {
			l.offer(&offer)
		}
		_ = link.WriteRecord(st, offer)
		for i, b := range w.Blobs() {
			if l.blob != nil {
				b = l.blob(i, b)
			}
			_, _ = st.Write(b)
		}
		_ = st.CloseWrite()
	case link.ServiceReport:
		for {
			b, err := link.ReadRaw(st, 64)
			if err != nil {
				return
			}
			r, _ := guest.Report([64]byte(b))
			if l.report != nil {
				r = l.report(r)
			}
			_ = link.WriteRecord(st, link.ReportReply{Report: r, Certs: guest.Certs()})
		}
	case link.ServiceExit:
		var e link.Exit
		if link.ReadRecord(st, link.MaxRecord, &e) == nil {
			last <- e
		}
	case link.ServiceStdin:
		_ = st.CloseWrite()
	case link.ServiceListen:
		_ = link.WriteRecord(st, link.PortReply{OK: true, Addr: "here"})
		_, _ = io.Copy(io.Discard, st)
	default:
		_, _ = io.Copy(io.Discard, st)
	}
}

// start runs the Keep's program outside namespaces, the link on descriptor 3.
func start(t *testing.T, program string) (net.Conn, *exec.Cmd) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "sim", "shared-mounts")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			t.Error("the Keep lives on after its link was cut")
		}
	})
	return conn, cmd
}

// A host that says garbage, stalls or cuts the link at any point ends the Keep;
// none outlives its link.
func TestLinkCut(t *testing.T) {
	dir := t.TempDir()
	if err := build(dir); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "donjon-keep")
	for name, act := range map[string]func(net.Conn){
		"cut at once":         func(c net.Conn) { _ = c.Close() },
		"cut after its hello": func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 16)); _ = c.Close() },
		"garbage for a hello": func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("garbage!", 64))) },
		"garbage frames": func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 16))
			_, _ = c.Write(append([]byte("DONJON-H\x00\x01\x00\x00\x00\x00\x00\x00"), strings.Repeat("\xff", 4096)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := start(t, program)
			act(conn)
		})
	}
	sil, err := silicon.Open(filepath.Join(dir, "silicon"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := workload.Load(filepath.Join(dir, "act.wasm"), workload.Flags{Args: []string{"spin"}})
	if err != nil {
		t.Fatal(err)
	}
	guest := sil.Guest(silicon.Launch{HostData: w.Digest}, func() [48]byte { return [48]byte{1} })
	// Each stage is reached when its stream does what it says; the host stalls
	// there, having said nothing more, and is then gone or mad.
	for _, stage := range []string{"its log", "the offer", "half the module", "the report", "a report's half", "stdout", "the guest's first line"} {
		for _, end := range []string{"cut", "garbage"} {
			t.Run(end+" at "+stage, func(t *testing.T) {
				conn, _ := start(t, program)
				// Hidden, so that the session works on a copy and the test still holds
				// the link itself.
				sess, err := link.Host(struct{ io.ReadWriteCloser }{conn})
				if err != nil {
					t.Fatal(err)
				}
				defer sess.Close()
				reached := make(chan struct{}, 8)
				go func() {
					for {
						st, err := sess.Accept()
						if err != nil {
							return
						}
						go stallAt(stage, st, guest, w, reached)
					}
				}()
				select {
				case <-reached:
				case <-sess.Done():
					t.Fatalf("the Keep ended before: %v", sess.Err())
				case <-time.After(time.Minute):
					t.Fatal("the stage was not reached")
				}
				if end == "garbage" {
					_, _ = conn.Write([]byte(strings.Repeat("\xff", 4096)))
					select {
					case <-sess.Done(): // the Keep has cut the link
					case <-time.After(time.Minute):
						t.Error("the Keep goes on after garbage")
					}
				}
				_ = conn.Close()
			})
		}
	}
}

// stallAt serves one stream as far as the stage and says that it is reached.
func stallAt(stage string, st *link.Stream, guest *silicon.Guest, w *workload.Workload, reached chan<- struct{}) {
	at := func(s string) bool {
		if stage == s {
			reached <- struct{}{}
		}
		return stage == s
	}
	switch st.Service() {
	case link.ServiceLog:
		at("its log")
	case link.ServiceWorkload:
		if at("the offer") {
			return
		}
		_ = link.WriteRecord(st, link.Offer{Manifest: w.Manifest, NoCache: true})
		blobs := w.Blobs()
		_, _ = st.Write(blobs[0])
		half := len(blobs[1]) / 2
		_, _ = st.Write(blobs[1][:half])
		if at("half the module") {
			return
		}
		_, _ = st.Write(blobs[1][half:])
		_ = st.CloseWrite()
	case link.ServiceReport:
		if at("the report") {
			return
		}
		for {
			b, err := link.ReadRaw(st, 64)
			if err != nil {
				return
			}
			if stage == "a report's half" {
				_, _ = st.Write([]byte{0, 0, 4}) // of a record's length
				at(stage)
				return
			}
			r, _ := guest.Report([64]byte(b))
			_ = link.WriteRecord(st, link.ReportReply{Report: r, Certs: guest.Certs()})
		}
	case link.ServiceStdout:
		if at("stdout") {
			return
		}
		if _, err := io.ReadFull(st, make([]byte, 6)); err == nil {
			at("the guest's first line")
		}
	default:
		_, _ = io.Copy(io.Discard, st)
	}
}
