package pki

import "sync"

// Memo remembers what was made of some bytes, by their hash: a parsed certificate
// chain, a parsed document. It keeps at most two generations of Size entries and
// forgets the older one. What may change with time (validity, revocation) must not
// be part of a value; values are shared and must not be changed. The zero value and
// nil work; nil remembers nothing. A Memo is safe for use by many goroutines.
type Memo[V any] struct {
	// Size bounds a generation; 0: 256 entries.
	Size int

	mu       sync.RWMutex
	new, old map[Hash]V
}

// Get gives what was remembered for k.
func (m *Memo[V]) Get(k Hash) (V, bool) {
	var none V
	if m == nil {
		return none, false
	}
	m.mu.RLock()
	v, ok := m.new[k]
	if ok {
		m.mu.RUnlock()
		return v, true
	}
	v, ok = m.old[k]
	m.mu.RUnlock()
	if ok {
		m.Put(k, v) // used again: it moves to the younger generation
	}
	return v, ok
}

// Put remembers v for k.
func (m *Memo[V]) Put(k Hash, v V) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	size := m.Size
	if size <= 0 {
		size = 256
	}
	if _, known := m.new[k]; m.new == nil || !known && len(m.new) >= size {
		m.old, m.new = m.new, make(map[Hash]V, min(size, 16))
	}
	m.new[k] = v
}

// Len is how many entries are kept now.
func (m *Memo[V]) Len() int {
	if m == nil {
		return 0
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.new) + len(m.old)
}
