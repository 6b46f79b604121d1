package pki

import "sync"

// generations are two maps of at most size entries each: what is not used again while
// the younger fills up goes with the older. The zero value is ready, and many
// goroutines may use it at once.
type generations[V any] struct {
	mu       sync.RWMutex
	new, old map[Hash]V
}

func (g *generations[V]) get(k Hash, size int) (V, bool) {
	g.mu.RLock()
	v, ok := g.new[k]
	if ok {
		g.mu.RUnlock()
		return v, true
	}
	v, ok = g.old[k]
	g.mu.RUnlock()
	if ok {
		g.put(k, v, size) // used again: it moves to the younger generation
	}
	return v, ok
}

func (g *generations[V]) put(k Hash, v V, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.new[k]; g.new == nil || !known && len(g.new) >= size {
		g.old, g.new = g.new, make(map[Hash]V, min(size, 16))
	}
	g.new[k] = v
}

func (g *generations[V]) drop(k Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.new, k)
	delete(g.old, k)
}

func (g *generations[V]) len() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.new) + len(g.old)
}
