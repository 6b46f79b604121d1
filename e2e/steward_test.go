//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/keep"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// A steward is the real one, as a process with its state.
type steward struct {
	l     *lab
	state string
	addr  string
	cmd   *exec.Cmd
	mu    sync.Mutex
	log   bytes.Buffer
}

func (s *steward) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *steward) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// newSteward starts a Steward that knows the lab's silicon as this machine's.
func newSteward(t *testing.T, l *lab) *steward {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(l.dir, "home", "donjon")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if l.sil, err = silicon.Open(filepath.Join(home, "silicon")); err != nil {
		t.Fatal(err)
	}
	s := &steward{l: l, state: filepath.Join(t.TempDir(), "S"), addr: "127.0.0.1:" + port}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *steward) environ() []string {
	return append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(s.l.dir, "home"), "XDG_CACHE_HOME="+filepath.Join(s.l.dir, "cache"))
}

func (s *steward) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(filepath.Join(s.l.dir, "donjon"), "steward", "serve", "--state", s.state, "--listen", s.addr, "--allow-simulated")
	s.cmd.Env, s.cmd.Stderr, s.cmd.Stdout = s.environ(), s, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if c, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true}); err == nil { // whether it is up
			_ = c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the Steward does not answer:\n%s", s.logged())
}

// stop kills it, as a machine does that fails.
func (s *steward) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// admin runs a verb on the Steward's state.
func (s *steward) admin(t *testing.T, stdin string, verb ...string) {
	t.Helper()
	c := exec.Command(filepath.Join(s.l.dir, "donjon"), append(append([]string{"steward"}, verb[:2]...), append([]string{"--state", s.state}, verb[2:]...)...)...)
	c.Env, c.Stdin = s.environ(), strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("donjon steward %s: %v\n%s", strings.Join(verb, " "), err, out)
	}
}

// workload makes one of a guest, with this Steward in its configuration.
func (s *steward) workload(t *testing.T, guest, toml string) *workload.Workload {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(s.state, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return s.l.workload(t, guest, map[string]string{"ca.pem": string(ca),
		"Donjon.toml": fmt.Sprintf("steward = \"https://%s\"\nsteward_ca = \"ca.pem\"\n%s", s.addr, toml)})
}

// A secret reaches the workload, in a variable and a file, and nothing else: no log, no
// list of processes, no file, and nothing on the link can be read.
func TestSecretIsNowhereElse(t *testing.T) {
	l := newLab(t, "act")
	s := newSteward(t, l)
	secret := "SECRET-" + strings.Repeat("z9", 20)
	sum := sha256.Sum256([]byte(secret))
	w := s.workload(t, "act", fmt.Sprintf("args = [\"holds\", \"DB_PASSWORD\", \"/secrets/db\", \"%x\"]\n", sum)+
		"[[secrets]]\nname = \"db-password\"\nenv = \"DB_PASSWORD\"\n[[secrets]]\nname = \"db-password\"\nfile = \"/secrets/db\"\n")
	s.admin(t, "", "workload", "allow", w.Path)
	s.admin(t, secret, "secret", "set", "--workload", w.Path, "db-password")
	cache := filepath.Join(l.dir, "keepcache")
	said, stdout := io.Pipe()
	r := l.run(t, w, func(o *keep.Options) {
		o.NoCache, o.Blobs, o.Verbose, o.Stdout = false, keep.Blobs{Dir: cache}, true, stdout
	})
	go func() { <-r.done; _ = stdout.Close() }()
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "holds it\n" {
		r.wait(t)
		t.Fatalf("found %q, %v, %+v, %v", line, err, r.out, r.err)
	}
	holds := func(b []byte) bool {
		return bytes.Contains(b, []byte(secret)) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(secret))))
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, p := range processes {
		for _, name := range []string{"environ", "cmdline", "comm"} {
			b, err := os.ReadFile(filepath.Join(p, name))
			if err == nil {
				read++
			}
			if holds(b) {
				t.Errorf("the secret stands in %s/%s", p, name)
			}
		}
	}
	if read < 6 {
		t.Errorf("read %d files of /proc", read)
	}
	r.end(t)
	from, to := r.link.captured()
	if len(from) == 0 || len(to) < len(w.Module) || holds(from) || holds(to) {
		t.Errorf("captured %d and %d bytes; the secret is in them: %v, %v", len(from), len(to), holds(from), holds(to))
	}
	r.mu.Lock()
	logged := strings.Join(r.logged, "\n")
	r.mu.Unlock()
	if !strings.Contains(logged, "enrolled with") || holds([]byte(logged)) {
		t.Errorf("the Keep's log: %q", logged)
	}
	if holds([]byte(s.logged())) {
		t.Error("the secret stands in the Steward's log")
	}
	files := 0
	for _, dir := range []string{cache, s.state, filepath.Join(l.dir, "home"), filepath.Join(l.dir, "cache")} {
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			b, err := os.ReadFile(p)
			if err != nil {
				t.Error(err)
			}
			files++
			if holds(b) {
				t.Errorf("the secret stands in %s", p)
			}
			return nil
		})
	}
	if files < 4 {
		t.Errorf("looked into %d files", files)
	}
}

// A Keep renews its certificate over a time in which its Steward is away, and ends
// when it stays away. Certificates of a minute are the shortest there are.
func TestRenewalAndTheEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	l := newLab(t, "relay")
	s := newSteward(t, l)
	w := s.workload(t, "relay", streams+webEntry("tls"))
	s.admin(t, "", "workload", "allow", w.Path, "--validity", "1m", "--dns", "keep.example")
	r := l.run(t, w, func(o *keep.Options) { o.Verbose = true })
	addr := r.address(t)
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(s.state, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	dial := func() (*tls.Conn, error) {
		return tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "keep.example"})
	}
	old, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	first := old.ConnectionState().PeerCertificates[0]
	ev, err := evidence.FromCertificate(first)
	if err != nil {
		t.Fatal(err)
	}
	if claims, err := evidence.ParseClaims(ev.Claims); err != nil || claims.PubkeyHash != sha256.Sum256(first.RawSubjectPublicKeyInfo) || claims.WorkloadDigest != w.Digest {
		t.Errorf("the evidence in the certificate: found %+v, %v", claims, err)
	}
	s.stop()
	r.logs(t, "is not renewed", 90*time.Second)
	s.start(t)
	r.logs(t, "enrolled again", 60*time.Second)
	fresh, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	second := fresh.ConnectionState().PeerCertificates[0]
	if second.Equal(first) || bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("a new connection has the old certificate or its key")
	}
	_ = fresh.Close()
	if got, err := ask(old, "still there"); err != nil || got != "answer still there" {
		t.Errorf("the old connection: found %q, %v", got, err)
	}
	s.stop()
	select {
	case <-r.done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the Keep outlives its certificate")
	}
	if now := time.Now(); r.out.Exit.Kind != link.ExitFailed || !strings.Contains(r.out.Exit.Text, "certificate ended") || now.Before(second.NotAfter.Add(-time.Second)) {
		t.Errorf("found %+v at %s, the certificate ended at %s", r.out.Exit, now, second.NotAfter)
	}
	if _, err := dial(); err == nil {
		t.Error("the listener is open still")
	}
}

// logs waits until the Keep has said so.
func (r *running) logs(t *testing.T, text string, patience time.Duration) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r.mu.Lock()
		found := strings.Contains(strings.Join(r.logged, "\n"), text)
		r.mu.Unlock()
		if found {
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Fatalf("the Keep does not say %q, but %q", text, r.logged)
}
