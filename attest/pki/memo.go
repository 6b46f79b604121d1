package pki

// Memo remembers what was made of some bytes, by their hash: a parsed certificate
// chain, a parsed document. It keeps at most two generations of Size entries and
// forgets the older one. What may change with time (validity, revocation) must not
// be part of a value; values are shared and must not be changed. The zero value and
// nil work; nil remembers nothing. A Memo is safe for use by many goroutines.
type Memo[V any] struct {
	// Size bounds a generation; 0: 256 entries.
	Size int

	held generations[V]
}

func (m *Memo[V]) size() int {
	if m.Size <= 0 {
		return 256
	}
	return m.Size
}

// Get gives what was remembered for k.
func (m *Memo[V]) Get(k Hash) (V, bool) {
	if m == nil {
		var none V
		return none, false
	}
	return m.held.get(k, m.size())
}

// Put remembers v for k.
func (m *Memo[V]) Put(k Hash, v V) {
	if m != nil {
		m.held.put(k, v, m.size())
	}
}

// Len is how many entries are kept now.
func (m *Memo[V]) Len() int {
	if m == nil {
		return 0
	}
	return m.held.len()
}
