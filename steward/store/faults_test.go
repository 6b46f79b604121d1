package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

const childEnv = "DONJON_STORE_CHILD"

// TestMain is also the child that writes until it is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
		return
	}
	os.Exit(m.Run())
}

// child decides from 16 goroutines and prints the number of each decision that was
// answered.
func child(path string) {
	s, err := store.OpenSQLite(context.Background(), path, store.Options{Guard: storetest.Guard{}})
	if err != nil {
		fmt.Println("open", err)
		return
	}
	from, _ := strconv.Atoi(os.Getenv(childEnv + "_FROM"))
	var next atomic.Int64
	next.Store(int64(from))
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				n := int(next.Add(1))
				if _, err := s.Decide(context.Background(), storetest.Admitted(n, storetest.T0)); err != nil {
					fmt.Println("decide", err)
					return
				}
				_, _ = os.Stdout.WriteString(strconv.Itoa(n) + "\n")
			}
		}()
	}
	wg.Wait()
}

// TestKilledProcess kills a process that writes, five times over one database: what
// it had answered is there, and the log holds.
func TestKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "steward.db")
	var answered []int
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+path, fmt.Sprintf("%s_FROM=%d", childEnv, (round+1)*1000000))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			v, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			answered = append(answered, v)
			if n == 200+37*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
	}
	if len(answered) < 1000 {
		t.Fatalf("found %d answers", len(answered))
	}
	s, err := store.OpenSQLite(context.Background(), path, store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	recorded(t, s, answered)
}

// recorded looks that decisions are there and that their challenges are used.
func recorded(t *testing.T, s store.Store, answered []int) {
	t.Helper()
	ctx := context.Background()
	for _, n := range answered {
		if _, err := s.Certificate(ctx, storetest.Serial(n)); err != nil {
			t.Fatalf("decision %d was answered: %v", n, err)
		}
		d := storetest.Admitted(n, storetest.T0)
		d.Certificate.Serial = storetest.Serial(-n)
		if n%50 == 0 {
			if _, err := s.Decide(ctx, d); !errors.Is(err, store.ErrChallengeUsed) {
				t.Fatalf("the challenge of %d again: %v", n, err)
			}
		}
	}
	storetest.Verify(t, s)
	t.Logf("%d answered decisions are there", len(answered))
}

// TestKilledServer ends PostgreSQL under two Stewards that write, and starts it again:
// what was answered is there, no challenge was used twice, and they go on.
func TestKilledServer(t *testing.T) {
	c := storetest.Postgres(t)
	dsn := c.Database(t)
	ctx := context.Background()
	var stores [2]store.Store
	for i := range stores {
		s, err := store.OpenPostgres(ctx, dsn, store.Options{Guard: storetest.Guard{}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores[i] = s
	}
	var mu sync.Mutex
	won := map[int]int{}
	var failed atomic.Int32
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := i / 2; ; n += 8 { // each challenge goes to both
				select {
				case <-stop:
					return
				default:
				}
				d := storetest.Admitted(n, storetest.T0)
				d.Certificate.Serial = storetest.Serial(2*n + i%2)
				_, err := stores[i%2].Decide(ctx, d)
				switch {
				case err == nil:
					mu.Lock()
					won[n]++
					if won[n] > 1 {
						t.Errorf("challenge %d was accepted twice", n)
					}
					mu.Unlock()
				case errors.Is(err, store.ErrChallengeUsed):
				case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrBusy):
					failed.Add(1)
					time.Sleep(10 * time.Millisecond)
				default:
					t.Errorf("%d: %v", n, err)
					return
				}
			}
		}()
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(won)
	}
	wait := func(n int) {
		for deadline := time.Now().Add(time.Minute); count() < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("found %d decisions, wanted %d", count(), n)
				return
			}
		}
	}
	for range 3 {
		wait(count() + 200)
		c.Kill()
		time.Sleep(300 * time.Millisecond)
		c.Start(t)
	}
	wait(count() + 200)
	close(stop)
	wg.Wait()
	if failed.Load() == 0 {
		t.Error("nothing failed while the server was gone")
	}
	var answered []int
	for n := range won {
		answered = append(answered, n)
	}
	for _, n := range answered {
		_, a := stores[0].Certificate(ctx, storetest.Serial(2*n))
		_, b := stores[0].Certificate(ctx, storetest.Serial(2*n+1))
		if (a == nil) == (b == nil) {
			t.Fatalf("decision %d: %v, %v", n, a, b)
		}
	}
	storetest.Verify(t, stores[1])
	t.Logf("%d answered, %d failed over three crashes", len(answered), failed.Load())
}

func TestDurability(t *testing.T) {
	c := storetest.Postgres(t)
	dsn := c.Database(t)
	for _, setting := range []string{"fsync=off", "full_page_writes=off"} {
		c.Kill()
		c.Start(t, "-c", setting)
		if _, err := store.OpenPostgres(context.Background(), dsn, store.Options{Guard: storetest.Guard{}}); !errors.Is(err, store.ErrDurability) {
			t.Fatalf("%s: %v", setting, err)
		}
	}
	c.Kill()
	if _, err := store.OpenPostgres(context.Background(), dsn, store.Options{Guard: storetest.Guard{}}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("without a server: %v", err)
	}
	if _, err := store.OpenPostgres(context.Background(), "postgres://u:hunter2@h/\x00", store.Options{Guard: storetest.Guard{}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("found %v", err)
	}
	// A server that is set not to wait is overruled where a session can.
	c.Start(t, "-c", "synchronous_commit=off", "-c", "default_transaction_isolation=serializable")
	s, err := store.OpenPostgres(context.Background(), c.Database(t), store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Decide(context.Background(), storetest.Admitted(1, storetest.T0)); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull writes to a small disk until it is full: errors, nothing half, and it
// goes on when there is room.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s, err := store.OpenSQLite(ctx, filepath.Join(dir, "steward.db"), store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var answered []int
	n := 0
	for full := 0; full < 20; n++ {
		_, err := s.Decide(ctx, storetest.Admitted(n, storetest.T0))
		switch {
		case err == nil:
			answered = append(answered, n)
		case errors.Is(err, store.ErrUnavailable):
			full++
		default:
			t.Fatal(err)
		}
		if n > 100000 {
			t.Fatal("the disk does not get full")
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for ; ; n++ {
		if _, err := s.Decide(ctx, storetest.Admitted(n, storetest.T0)); err != nil {
			t.Fatalf("with room again: %v", err)
		}
		if answered = append(answered, n); n%10 == 0 {
			break
		}
	}
	for _, n := range answered {
		if _, err := s.Certificate(ctx, storetest.Serial(n)); err != nil {
			t.Fatalf("decision %d was answered: %v", n, err)
		}
	}
	storetest.Verify(t, s)
	t.Logf("%d answered before the disk was full", len(answered))
}

// TestFiles looks at names and modes.
func TestFiles(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for _, name := range []string{"steward.db", "a?mode=memory&x=y.db", "b#c%20d.db", "é ü.db", ":memory:", "file:x"} {
		path := filepath.Join(dir, name)
		s, err := store.OpenSQLite(ctx, path, store.Options{Guard: storetest.Guard{}})
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := s.Decide(ctx, storetest.Admitted(1, storetest.T0)); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			st, err := os.Stat(path + suffix)
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Fatal(name, suffix, st, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	bad := filepath.Join(dir, "bad.db")
	if err := os.WriteFile(bad, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenSQLite(ctx, bad, store.Options{Guard: storetest.Guard{}}); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, store.ErrDamaged) {
		t.Fatal(err)
	}
	if _, err := store.OpenSQLite(ctx, filepath.Join(dir, "none", "x.db"), store.Options{Guard: storetest.Guard{}}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
}
