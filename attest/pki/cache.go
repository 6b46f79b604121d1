package pki

// Cache remembers which signatures hold, by hash. A signature that holds once holds
// for ever: what may expire (validity, revocation) is never in here. It keeps at
// most two generations of Size entries and forgets the older one. The zero value
// and nil work; nil remembers nothing. A Cache is safe for use by many goroutines.
type Cache struct {
	// Size bounds a generation; 0: 4,096 entries.
	Size int

	held generations[struct{}]
}

func (c *Cache) size() int {
	if c.Size <= 0 {
		return 4096
	}
	return c.Size
}

// Has says whether k was added and is still known.
func (c *Cache) Has(k Hash) bool {
	if c == nil {
		return false
	}
	_, ok := c.held.get(k, c.size())
	return ok
}

// Add remembers k.
func (c *Cache) Add(k Hash) {
	if c != nil {
		c.held.put(k, struct{}{}, c.size())
	}
}

// Drop forgets k.
func (c *Cache) Drop(k Hash) {
	if c != nil {
		c.held.drop(k)
	}
}

// Len is how many entries are kept now.
func (c *Cache) Len() int {
	if c == nil {
		return 0
	}
	return c.held.len()
}
