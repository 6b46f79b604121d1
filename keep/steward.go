package keep

import (
	"sync"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// serveSteward connects the Keep with the Steward of its configuration, and with
// nobody else: the Keep does not say where it is. A Keep renews its certificate over
// its whole life, so what is bounded is the pace.
func (s *supervisor) serveSteward(st *link.Stream) {
	host, port := s.Workload.Config.StewardAddr()
	if host == "" {
		const text = "the configuration names no Steward"
		s.steward.once.Do(func() { s.Log(0, "refused to the Keep: "+text) }) // a Keep may ask without end
		st.Reset(link.CodeRefused, text)
		return
	}
	if !s.steward.take(time.Now()) {
		st.Reset(link.CodeBusy, "too many connections to the Steward in a short time")
		return
	}
	s.dial(st, host, port)
}

// A pace allows paceBurst at once and one more each paceEvery.
type pace struct {
	once sync.Once // for what is said once
	mu   sync.Mutex
	used int
	last time.Time // when used was last lowered
}

const (
	paceBurst = 32
	paceEvery = time.Second
)

func (p *pace) take(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if back := int(min(now.Sub(p.last)/paceEvery, paceBurst)); back > 0 {
		p.used = max(0, p.used-back)
		p.last = now
	}
	if p.used >= paceBurst {
		return false
	}
	p.used++
	return true
}
