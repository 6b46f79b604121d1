//go:build linux

package warden

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/donjon-tee/donjon/attest/evidence"
)

// A gate is a provider that lets one report through at a time, when told, and
// notes whose it was: the first byte of the data.
type gate struct {
	pass chan struct{}
	mu   sync.Mutex
	seen []byte
	now  int
	most int
}

func (g *gate) report(data [64]byte) ([]byte, []byte, error) {
	g.mu.Lock()
	g.now++
	g.most = max(g.most, g.now)
	g.mu.Unlock()
	<-g.pass
	g.mu.Lock()
	g.now--
	g.seen = append(g.seen, data[0])
	g.mu.Unlock()
	return data[:], nil, nil
}

// T28: of those who ask on behalf of others a bounded number wait and the rest
// hear "busy"; the Keep's own reports are never refused and go first.
func TestT28OwnReportsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{pass: make(chan struct{})}
		q := newReportQueue(g)
		var wg sync.WaitGroup
		var mu sync.Mutex
		busy, failed := 0, 0
		ask := func(l lane, who byte) {
			wg.Go(func() {
				raw, _, err := q.report(l, [64]byte{who})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, errBusy):
					busy++
				case err != nil || raw[0] != who:
					failed++
				}
			})
		}
		for range 1000 {
			ask(laneAsked, 'o')
		}
		synctest.Wait()
		for range 3 {
			ask(laneOwn, 'K')
		}
		synctest.Wait()
		if busy != 1000-maxAsked {
			t.Errorf("%d were told busy, wanted %d", busy, 1000-maxAsked)
		}
		for range maxAsked + 3 {
			g.pass <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		if g.most != 1 || failed != 0 {
			t.Errorf("%d at the processor at once, %d failed; wanted 1 and 0", g.most, failed)
		}
		// The one being served when the Keep's own came, then those.
		if got := string(g.seen[:4]); got != "oKKK" {
			t.Errorf("found the order %q, wanted oKKK first", got)
		}
		if len(g.seen) != maxAsked+3 {
			t.Errorf("found %d reports, wanted %d", len(g.seen), maxAsked+3)
		}
		// Room again.
		go func() { g.pass <- struct{}{} }()
		if _, _, err := q.report(laneAsked, [64]byte{}); err != nil {
			t.Error(err)
		}
	})
}

func TestT28LanesOfPurposes(t *testing.T) {
	for purpose, want := range map[string]lane{
		evidence.PurposeEnrol: laneOwn, evidence.PurposeCertificate: laneOwn,
		evidence.PurposeFile: laneAsked, evidence.PurposeHTTP: laneAsked, evidence.PurposeConnect: laneAsked, "": laneAsked, "Enrol": laneAsked,
	} {
		if got := laneOf(purpose); got != want {
			t.Errorf("%q: found lane %d, wanted %d", purpose, got, want)
		}
	}
}
