package storetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Cluster is a PostgreSQL server of this test alone: a folder and a socket in it, no
// TCP.
type Cluster struct {
	dir  string
	bin  string
	cred *syscall.Credential
	cmd  *exec.Cmd
	log  bytes.Buffer
	n    int
}

// Postgres starts a cluster with the machine's own PostgreSQL, as the user postgres
// where this is root. It skips, and says so, where there is none.
func Postgres(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		p, err := exec.LookPath("initdb")
		if err != nil {
			t.Skip("PostgreSQL is not installed (initdb): apt-get install postgresql")
		}
		found = append(found, p)
	}
	c.bin = filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c.dir = dir
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("PostgreSQL does not run as root, and there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := c.command("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	c.Start(t)
	t.Cleanup(func() { c.Kill() })
	return c
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd
}

// Start starts the server, with settings like -c fsync=off, and waits until it
// answers.
func (c *Cluster) Start(t testing.TB, settings ...string) {
	t.Helper()
	c.log.Reset()
	args := []string{"-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=50"}
	c.cmd = c.command("postgres", append(args, settings...)...)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if c.command("pg_isready", "-q", "-h", c.dir, "-U", "postgres").Run() == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.Kill()
	t.Fatalf("PostgreSQL did not start:\n%s", c.log.String())
}

// Kill ends the server as a crash would: nothing is written any more.
func (c *Cluster) Kill() {
	if c.cmd == nil {
		return
	}
	// Of the server, SIGQUIT is an immediate shutdown: its processes end at once and
	// the next start recovers from its log.
	_ = c.cmd.Process.Signal(syscall.SIGQUIT)
	_ = c.cmd.Wait()
	c.cmd = nil
}

// Database makes a database and gives its connection string.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	c.n++
	name := fmt.Sprintf("t%d", c.n)
	if out, err := c.command("createdb", "-h", c.dir, "-U", "postgres", name).CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return fmt.Sprintf("host=%s user=postgres dbname=%s", c.dir, name)
}
