package server

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds how many clients are remembered; who is forgotten begins anew.
const maxBuckets = 1 << 16

// buckets are token buckets, one a client.
type buckets struct {
	rate, burst float64
	clock       func() time.Time

	mu   sync.Mutex
	list map[netip.Prefix]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func newBuckets(rate, burst float64, clock func() time.Time) *buckets {
	return &buckets{rate: rate, burst: burst, clock: clock, list: map[netip.Prefix]*bucket{}}
}

// take takes one, and says how long to wait where there is none left.
func (b *buckets) take(client netip.Prefix) (wait time.Duration, ok bool) {
	return b.charge(client, 1, false)
}

// punish takes more, also below nothing: as far below as the burst is above.
func (b *buckets) punish(client netip.Prefix, cost float64) { b.charge(client, cost, true) }

func (b *buckets) charge(client netip.Prefix, cost float64, force bool) (time.Duration, bool) {
	now := b.clock()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.list[client]
	if e == nil {
		if len(b.list) >= maxBuckets {
			b.drop(now)
		}
		e = &bucket{left: b.burst, at: now}
		b.list[client] = e
	}
	// A clock that was set back gives nothing, one that leaps gives a burst.
	if d := now.Sub(e.at); d > 0 {
		e.left = min(b.burst, e.left+d.Seconds()*b.rate)
	}
	e.at = now
	if e.left < cost && !force {
		return time.Duration(math.Ceil((cost-e.left)/b.rate)) * time.Second, false
	}
	e.left = max(e.left-cost, -b.burst)
	return 0, true
}

// drop forgets those who are full again, and half of the others where that does not
// help; the caller holds the lock.
func (b *buckets) drop(now time.Time) {
	for k, e := range b.list {
		if e.left+now.Sub(e.at).Seconds()*b.rate >= b.burst {
			delete(b.list, k)
		}
	}
	for k := range b.list {
		if len(b.list) <= maxBuckets/2 {
			return
		}
		delete(b.list, k)
	}
}

// clientOf is who asks: an IPv4 address or an IPv6 /64, from an address with a port.
func clientOf(addr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// gate lets a number in at once and a number wait.
type gate struct {
	slots chan struct{}
	queue chan struct{}
}

var errBusy = errors.New("too many requests at once")

func newGate(running, waiting int) *gate {
	return &gate{slots: make(chan struct{}, running), queue: make(chan struct{}, running+waiting)}
}

// enter waits for a slot, 5 seconds at most. What it gives must be called.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.queue <- struct{}{}:
	default:
		return nil, errBusy
	}
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots; <-g.queue }, nil
	case <-t.C:
		err = errBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	<-g.queue
	return nil, err
}

// listener bounds connections, of all and of each client.
type listener struct {
	net.Listener
	all, each int
	mu        sync.Mutex
	open      int
	clients   map[netip.Prefix]int
}

func newListener(l net.Listener, all, each int) *listener {
	return &listener{Listener: l, all: all, each: each, clients: map[netip.Prefix]int{}}
}

// Accept gives the next connection that is within the bounds; others are closed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := clientOf(c.RemoteAddr().String())
		l.mu.Lock()
		ok := l.open < l.all && l.clients[client] < l.each
		if ok {
			l.open++
			l.clients[client]++
		}
		l.mu.Unlock()
		if ok {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.leave(client) })}, nil
		}
		_ = c.Close()
	}
}

func (l *listener) leave(client netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.clients[client]--; l.clients[client] <= 0 {
		delete(l.clients, client)
	}
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// lately keeps what a question to the store was answered with for a second: anyone may
// ask for readiness and metrics, and must not keep the store busy with it.
type lately[T any] struct {
	mu    sync.Mutex
	at    time.Time
	value T
	err   error
}

const latelyLife = time.Second

// ask gives the answer of the last second, or asks f, with 5 seconds to answer.
func (l *lately[T]) ask(f func(context.Context) (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || time.Since(l.at) >= latelyLife {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		l.value, l.err = f(ctx)
		l.at = time.Now()
	}
	return l.value, l.err
}
