package web

import (
	"sync"
	"time"
)

// maxClients bounds the clients that a limiter remembers. Where more come at once,
// those over the bound share one allowance.
const maxClients = 8192

// limiter gives each client burst tries at once and one more every interval.
type limiter struct {
	burst    int
	interval time.Duration
	now      func() time.Time

	mu      sync.Mutex
	clients map[string]allowance
}

// allowance is when a client's tries are all back; each try moves it on by interval.
type allowance struct{ full time.Time }

func newLimiter(burst int, interval time.Duration, now func() time.Time) *limiter {
	return &limiter{burst: burst, interval: interval, now: now, clients: map[string]allowance{}}
}

// take takes one of the client's tries, or says when there will be one.
func (l *limiter) take(client string) (retry time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, whole := l.now(), time.Duration(l.burst)*l.interval
	if _, known := l.clients[client]; !known && len(l.clients) >= maxClients {
		for c, a := range l.clients {
			if !a.full.After(now) {
				delete(l.clients, c)
			}
		}
		if len(l.clients) >= maxClients {
			client = "" // shared
		}
	}
	full := l.clients[client].full
	if full.Before(now) || full.Sub(now) > whole { // the second: the clock stepped back
		full = now
	}
	full = full.Add(l.interval)
	if over := full.Sub(now) - whole; over > 0 {
		return over, false
	}
	l.clients[client] = allowance{full}
	return 0, true
}
