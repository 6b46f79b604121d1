package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
)

// slowly finishes nothing before it is told how.
type slowly struct {
	sqliteDialect
	begun chan int // how many statements
	how   chan error
}

func (d slowly) finish(ctx context.Context, t *tx, ss []statement) (bool, error) {
	d.begun <- len(ss)
	if err := <-d.how; err != nil {
		return true, err
	}
	return d.sqliteDialect.finish(ctx, t, ss)
}

// Where the decisions of a batch are tried one by one, a caller need not wait for those
// before its own: it goes, and its decision is not made.
func TestLeavesBeforeItsTurn(t *testing.T) {
	s, err := OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "steward.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := s.(*db)
	slow := slowly{begun: make(chan int, 8), how: make(chan error)}
	d.dialect = slow
	decide := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.Decide(ctx, Decision{Record: audit.Record{Kind: audit.Decision, Outcome: verdict.Refused, Detail: digestOf(nil)}, At: time.Unix(1e9, 0), Epoch: 1})
			done <- err
		}()
		return done
	}
	first := decide(context.Background())
	<-slow.begun
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stays := decide(context.Background())
	for len(d.queue) < 1 {
		time.Sleep(time.Millisecond)
	}
	goes := decide(ctx)
	for len(d.queue) < 2 {
		time.Sleep(time.Millisecond)
	}
	slow.how <- nil
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	<-slow.begun // both together
	slow.how <- refuse(ErrConflict, "one of them")
	<-slow.begun // the first of them alone
	cancel()
	select {
	case err := <-goes:
		if !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
			t.Errorf("found %v", err)
		}
	case <-time.After(10 * time.Second):
		close(slow.how)
		t.Fatal("it waits for the turn of another")
	}
	slow.how <- nil
	if err := <-stays; err != nil {
		t.Error(err)
	}
	last := decide(context.Background())
	<-slow.begun
	slow.how <- nil
	if err := <-last; err != nil {
		t.Error(err)
	}
	if end, err := s.Head(context.Background()); err != nil || end.Seq != 4 {
		t.Errorf("found %d records, %v, wanted the first start and three decisions", end.Seq, err)
	}
}
