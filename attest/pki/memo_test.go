package pki

import (
	"sync"
	"testing"
)

func TestMemoIsBounded(t *testing.T) {
	m := &Memo[int]{Size: 4}
	for i := range 1000 {
		m.Put(Hash{byte(i), byte(i >> 8)}, i)
		if n := m.Len(); n > 8 {
			t.Fatalf("found %d entries, at most 8 are wanted", n)
		}
	}
	last := Hash{byte(999 & 255), byte(999 >> 8)}
	if v, ok := m.Get(last); !ok || v != 999 {
		t.Errorf("the last entry: found %d, %v", v, ok)
	}
	if _, ok := m.Get(Hash{}); ok {
		t.Error("the first entry is still there")
	}
}

func TestMemoKeepsWhatIsUsed(t *testing.T) {
	m := &Memo[string]{Size: 2}
	hot := Hash{1}
	m.Put(hot, "hot")
	for i := range 100 {
		m.Put(Hash{2, byte(i)}, "")
		if v, ok := m.Get(hot); !ok || v != "hot" {
			t.Fatalf("after %d others the entry in use is gone", i+1)
		}
	}
}

func TestMemoZeroAndNil(t *testing.T) {
	var none *Memo[int]
	none.Put(Hash{1}, 1)
	if _, ok := none.Get(Hash{1}); ok || none.Len() != 0 {
		t.Error("nil remembers")
	}
	var m Memo[int]
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				k := Hash{byte(i), byte(i >> 8), byte(g)}
				m.Put(k, i)
				if v, ok := m.Get(k); ok && v != i {
					t.Errorf("found %d, wanted %d", v, i)
				}
			}
		})
	}
	wg.Wait()
	if m.Len() > 512 {
		t.Errorf("found %d entries, at most 512 are wanted", m.Len())
	}
}
