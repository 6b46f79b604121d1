package keep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// A guest is a Keep in this process: the machine that is supervised is one end of
// a connection, the test has the other.
type guest struct {
	conn net.Conn
	sess *link.Session

	mu     sync.Mutex
	logged []string
	stdout bytes.Buffer
	done   chan struct{}
	out    Outcome
	err    error
}

func (g *guest) Link() io.ReadWriteCloser { return g.conn }
func (g *guest) Measurement() [48]byte    { return [48]byte{} }
func (g *guest) Console() []string        { return []string{"last line"} }
func (g *guest) Notes() []string          { return nil }
func (g *guest) Wait() error              { return nil }
func (g *guest) Kill() error              { return g.conn.Close() }

// A slow processor answers when told.
type slow struct{ pass chan struct{} }

func (s slow) Report([64]byte) ([]byte, error)  { <-s.pass; return make([]byte, 1184), nil }
func (s slow) DeriveKey([]byte) ([]byte, error) { <-s.pass; return make([]byte, 32), nil }
func (s slow) Certs() []byte                    { return nil }

// supervised gives a Keep whose workload has this configuration.
func supervised(t *testing.T, config string, edit func(*Options)) *guest {
	t.Helper()
	c, err := workload.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{conn: a, done: make(chan struct{})}
	pass := make(chan struct{})
	o := Options{Workload: &workload.Workload{Config: c}, Machine: g, Silicon: slow{pass}, Stdout: &g.stdout, Patience: time.Minute,
		Log: func(_ int, s string) { g.mu.Lock(); g.logged = append(g.logged, s); g.mu.Unlock() }}
	if edit != nil {
		edit(&o)
	}
	go func() {
		defer close(g.done)
		g.out, g.err = Supervise(context.Background(), o)
	}()
	if g.sess, err = link.Guest(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(pass)
		_ = g.sess.Close()
		g.wait(t)
	})
	return g
}

func (g *guest) wait(t *testing.T) {
	t.Helper()
	select {
	case <-g.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the supervisor does not end")
	}
}

// open opens a stream and reads one record; the reset code is 0 where none came.
func (g *guest) open(t *testing.T, v link.Service, params, say []byte) (*link.Stream, link.Code) {
	t.Helper()
	st, err := g.sess.Open(v, params)
	if err != nil {
		t.Fatal(err)
	}
	if say != nil {
		_, _ = st.Write(say)
	}
	_ = st.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	var reset *link.ResetError
	if _, err := st.Read(make([]byte, 1)); errors.As(err, &reset) {
		return st, reset.Code
	}
	return st, 0
}

func port(i uint32) []byte { return link.Marshal(link.PortRequest{Index: i}) }

// T28: services that cost the host something are used a few at a time.
func TestT28CostlyServices(t *testing.T) {
	for _, c := range []struct {
		service link.Service
		params  []byte
		say     []byte
	}{
		{link.ServiceReport, nil, append([]byte{0, 0, 0, 64}, make([]byte, 64)...)},
		{link.ServiceDeriveKey, nil, append([]byte{0, 0, 0, 32}, make([]byte, 32)...)},
		{link.ServiceBlobs, link.Marshal(link.BlobRequest{Op: link.BlobPut, Name: "x", Size: 1 << 20}), []byte("part of it")},
	} {
		t.Run(fmt.Sprint(c.service), func(t *testing.T) {
			dir := t.TempDir()
			g := supervised(t, "", func(o *Options) { o.Blobs = Blobs{Dir: dir} })
			var kept []*link.Stream
			for i := range 3 * maxCostly {
				st, code := g.open(t, c.service, c.params, c.say)
				if want := i >= maxCostly; want != (code == link.CodeBusy) {
					t.Errorf("stream %d: found code %d", i, code)
				}
				kept = append(kept, st)
			}
			if c.service != link.ServiceBlobs {
				return
			}
			for _, st := range kept {
				st.Reset(link.CodeCancelled, "")
			}
			// The places come free, and nothing stays on disk.
			var left []os.DirEntry
			free := false
			for range 100 {
				_, code := g.open(t, c.service, link.Marshal(link.BlobRequest{Op: link.BlobGet, Name: "x"}), nil)
				free = free || code == 0
				if left, _ = os.ReadDir(dir); free && len(left) == 0 {
					break
				}
			}
			if !free || len(left) > 0 {
				t.Errorf("free: %v, left in the storage: %v", free, left)
			}
		})
	}
}

// T28: connections to peers are counted over the Keep's life.
func TestT28Dials(t *testing.T) {
	p := listening(t)
	g := supervised(t, fmt.Sprintf("[[files]]\nkind = \"connect\"\nprot = \"tcp\"\nhost = \"127.0.0.1\"\nport = %d\n", p), func(o *Options) { o.Ceilings.Dials = 5 })
	for i := range 10 {
		st, code := g.open(t, link.ServiceDial, port(0), nil)
		if want := i >= 5; want != (code == link.CodeBusy) {
			t.Errorf("dial %d: found code %d", i, code)
		}
		st.Reset(link.CodeCancelled, "") // giving them back does not help
	}
}

// T27, T28: the host opens what the configuration declares, as what it declares,
// and once.
func TestHostOpensOnlyWhatIsDeclared(t *testing.T) {
	g := supervised(t, "[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"tcp\"\n", func(o *Options) {
		o.Bind = map[string]string{"web": "127.0.0.1:0"}
	})
	for _, c := range []struct {
		name    string
		service link.Service
		params  []byte
		code    link.Code
	}{
		{"a dial to a listener", link.ServiceDial, port(1), link.CodeRefused},
		{"a listener that is stdout", link.ServiceListen, port(0), link.CodeRefused},
		{"an index beyond", link.ServiceListen, port(2), link.CodeRefused},
		{"a huge index", link.ServiceDial, port(1 << 31), link.CodeRefused},
		{"garbage", link.ServiceDial, []byte{0xff}, link.CodeFailed},
		{"an address in place of an index", link.ServiceDial, []byte("169.254.169.254:80"), link.CodeFailed},
		{"a host folder", link.ServiceDir, port(0), link.CodeRefused},
		{"a host's service", link.ServiceConn, nil, link.CodeUnknown},
		{"no service", 200, nil, link.CodeUnknown},
		{"the listener", link.ServiceListen, port(1), 0},
		{"the listener again", link.ServiceListen, port(1), link.CodeRefused},
		{"stdout", link.ServiceStdout, nil, 0},
		{"stdout again", link.ServiceStdout, nil, link.CodeRefused},
	} {
		if _, code := g.open(t, c.service, c.params, nil); code != c.code {
			t.Errorf("%s: found code %d, wanted %d", c.name, code, c.code)
		}
	}
}

// T28: the log has a bound, which lines without text reach too.
func TestT28Log(t *testing.T) {
	for _, text := range []string{"", strings.Repeat("x", 1000)} {
		g := supervised(t, "", func(o *Options) { o.Ceilings.Log = 10_000 })
		st, err := g.sess.Open(link.ServiceLog, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if link.WriteRecord(st, link.LogLine{Text: text}) != nil {
				break
			}
		}
		var reset *link.ResetError
		if _, err := st.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != link.CodeBusy {
			t.Errorf("found %v, wanted the code busy", err)
		}
		g.mu.Lock()
		if n := len(g.logged); n > 10_000/(len(text)+logLine)+1 || !strings.Contains(g.logged[n-1], "over its bound") {
			t.Errorf("%d lines of %d bytes were let through", n, len(text))
		}
		g.mu.Unlock()
	}
}

// A last word that cannot be read is an end all the same.
func TestLastWords(t *testing.T) {
	for name, c := range map[string]struct {
		word []byte
		kind link.ExitKind
		text string
	}{
		"well":         {link.Marshal(link.Exit{Kind: link.ExitStatus, Status: 3}), link.ExitStatus, ""},
		"unknown kind": {link.Marshal(link.Exit{Kind: 99}), link.ExitFailed, "unknown way to end 99"},
		"garbage":      {[]byte("garbage"), link.ExitFailed, "cannot be read"},
		"empty":        {nil, link.ExitFailed, "cannot be read"},
	} {
		g := supervised(t, "", nil)
		st, err := g.sess.Open(link.ServiceExit, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := link.WriteRaw(st, c.word); err != nil {
			t.Fatal(err)
		}
		g.wait(t)
		if g.err != nil || g.out.Exit.Kind != c.kind || !strings.Contains(g.out.Exit.Text, c.text) {
			t.Errorf("%s: found %+v, %v", name, g.out, g.err)
		}
	}
}

// A Keep that is lost is said to be lost at a stage, with its console.
func TestLostKeep(t *testing.T) {
	g := supervised(t, "", nil)
	_ = g.sess.Close()
	g.wait(t)
	var se *StageError
	if !errors.As(g.err, &se) || se.Stage != "workload" || !strings.Contains(se.Error(), "\n  | last line") {
		t.Errorf("found %v", g.err)
	}
	quiet := supervised(t, "", func(o *Options) { o.Patience = 50 * time.Millisecond })
	quiet.wait(t)
	if !errors.As(quiet.err, &se) || !strings.Contains(se.Error(), "did not ask for its workload") {
		t.Errorf("found %v", quiet.err)
	}
}

// A stop that the Keep does not heed ends it when the grace is over.
func TestStopIsNotHeeded(t *testing.T) {
	stop := make(chan struct{})
	g := supervised(t, "[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"tcp\"\n", func(o *Options) {
		o.Stop, o.Grace, o.Bind = stop, 50*time.Millisecond, map[string]string{"web": "127.0.0.1:0"}
	})
	st, err := g.sess.Open(link.ServiceListen, port(0))
	if err != nil {
		t.Fatal(err)
	}
	var r link.PortReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil || !r.OK {
		t.Fatalf("found %+v, %v", r, err)
	}
	close(stop)
	g.wait(t)
	if !g.out.Stopped || g.err != nil || g.out.Exit.Kind != link.ExitStopped {
		t.Errorf("found %+v, %v", g.out, g.err)
	}
	if c, err := net.Dial("tcp", r.Addr); err == nil {
		_ = c.Close()
		t.Error("the listener is still open")
	}
}
