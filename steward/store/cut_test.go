package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
)

// A line is between a Steward and PostgreSQL, and goes dead at a message of its own choice.
type line struct {
	net.Listener
	to string // the server's socket

	mu    sync.Mutex
	after int    // messages in the direction that is counted; negative: none is
	back  bool   // it is the server's
	last  []byte // what the Steward gets in the place of that message
	lies  bool   // a COMMIT is told as rolled back
}

// fails says at which message from now on the line goes dead.
func (l *line) fails(after int, back bool, last []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.after, l.back, l.last = after, back, last
}

// whole says whether it has not.
func (l *line) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.after >= 0
}

// dead says whether the line goes dead at this message.
func (l *line) dead(back bool) (last []byte, dead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.after < 0 || l.back != back {
		return nil, false
	}
	l.after--
	return l.last, l.after < 0
}

// told is what the Steward is told.
func (l *line) told(m []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lies && string(m[5:]) == "COMMIT\x00" {
		return append(binary.BigEndian.AppendUint32([]byte{'C'}, 4+9), "ROLLBACK\x00"...)
	}
	return m
}

func (l *line) serve() {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", l.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		go l.carry(far, near, false)
		go l.carry(near, far, true)
	}
}

// carry moves messages: a type, a length of four bytes that counts itself, a body. The
// first of a client has no type.
func (l *line) carry(to, from net.Conn, back bool) {
	defer to.Close()
	defer from.Close()
	for n := 0; ; n++ {
		head := make([]byte, 5)
		if n == 0 && !back {
			head = head[:4]
		}
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		m := append(head, make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)...)
		if _, err := io.ReadFull(from, m[len(head):]); err != nil {
			return
		}
		if last, dead := l.dead(back); dead {
			if back {
				_, _ = to.Write(last)
			}
			return
		}
		if back {
			m = l.told(m)
		}
		if _, err := to.Write(m); err != nil {
			return
		}
	}
}

// TestLineGoesDead cuts a Steward from PostgreSQL at every message of a decision, in both
// directions, also by a pooler that says so: what was answered is there, what is said not
// to be there is not, and no decision is made twice.
func TestLineGoesDead(t *testing.T) {
	ctx := context.Background()
	dsn := storetest.Postgres(t).Database(t)
	server := strings.TrimPrefix(strings.Fields(dsn)[0], "host=")
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: listener, to: filepath.Join(server, ".s.PGSQL.5432"), after: -1}
	defer l.Close()
	go l.serve()
	s, err := store.OpenPostgres(ctx, strings.Replace(dsn, server, dir, 1), store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	direct, err := store.OpenPostgres(ctx, dsn, store.Options{Guard: storetest.Guard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()

	const at = 4 // once
	n := 0
	var made, unknown, not int
	together := func(name string) {
		var errs [at]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Add(1)
			go func() {
				defer wg.Done()
				_, errs[i] = s.Decide(ctx, storetest.Admitted(n+i, storetest.T0))
			}()
		}
		wg.Wait()
		for i, err := range errs {
			_, there := direct.Certificate(ctx, storetest.Serial(n+i))
			switch {
			case there != nil && !errors.Is(there, store.ErrNotFound):
				t.Fatal(there)
			case err == nil && there != nil:
				t.Errorf("%s: a decision was answered and is not there", name)
			case err == nil:
				made++
			case !errors.Is(err, store.ErrUnavailable):
				t.Errorf("%s: %v", name, err)
			case strings.Contains(err.Error(), "is not known"):
				unknown++
			case there == nil:
				t.Errorf("%s: a decision is there, and the answer was: %v", name, err)
			default:
				not++
			}
		}
		n += at
	}
	fields := "SFATAL\x00VFATAL\x00C08P01\x00Mserver conn crashed?\x00\x00"
	fatal := append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(fields)+4)), fields...)
	for _, way := range []struct {
		name string
		back bool
		last []byte
	}{{"to the server", false, nil}, {"from the server", true, nil}, {"from the server, by a pooler", true, fatal}} {
		for after := 0; ; after++ {
			together("before") // a connection that is there
			l.fails(after, way.back, way.last)
			together(fmt.Sprintf("%s, message %d", way.name, after+1))
			if l.whole() { // it took no more
				l.fails(-1, false, nil)
				break
			}
		}
	}
	// A server that answers COMMIT with ROLLBACK has committed nothing that is answered.
	lies := func(yes bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lies = yes
	}
	lies(true)
	answered, open := made, unknown
	together("a commit that was none")
	if made != answered || unknown != open+at {
		t.Errorf("a commit that was none: %d are answered, %d not known", made-answered, unknown-open)
	}
	lies(false)
	together("a commit")
	storetest.Verify(t, direct)
	t.Logf("%d made, %d not, of %d not known", made, not, unknown)
	if made == 0 || not == 0 || unknown == 0 {
		t.Error("each was to be seen")
	}
}
