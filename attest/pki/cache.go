package pki

import "sync"

// Cache remembers which signatures hold, by hash. A signature that holds once holds
// for ever: what may expire (validity, revocation) is never in here. It keeps at
// most two generations of Size entries and forgets the older one. The zero value
// and nil work; nil remembers nothing.
type Cache struct {
	// Size bounds a generation; 0: 4,096 entries.
	Size int

	mu       sync.RWMutex
	new, old map[Hash]struct{}
}

// Has says whether k was added and is still known.
func (c *Cache) Has(k Hash) bool {
	if c == nil {
		return false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if _, ok := c.new[k]; ok {
		return true
	}
	_, ok := c.old[k]
	return ok
}

// Add remembers k.
func (c *Cache) Add(k Hash) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	size := c.Size
	if size <= 0 {
		size = 4096
	}
	if c.new == nil || len(c.new) >= size {
		c.old, c.new = c.new, make(map[Hash]struct{}, min(size, 64))
	}
	c.new[k] = struct{}{}
}

// Drop forgets k.
func (c *Cache) Drop(k Hash) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.new, k)
	delete(c.old, k)
}

// Len is how many entries are kept now.
func (c *Cache) Len() int {
	if c == nil {
		return 0
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.new) + len(c.old)
}
