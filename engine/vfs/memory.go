package vfs

import "time"

// Limits bound a tree in memory. Zero values are the defaults.
type Limits struct {
	Bytes  int64 // of file data and link targets; 0: 64 MiB
	Inodes int   // names, and files without one that are still open; 0: 65,536

	Now func() time.Time // nil: the system's clock
}

const (
	maxName  = 255
	maxLinks = 40
	maxParts = 256
	maxPath  = 4096
)

// tree is one file system in memory: every node belongs to one.
type tree struct {
	limits   Limits
	bytes    int64
	inodes   int
	next     uint64
	dev      uint64
	readOnly bool
	now      func() time.Time
}

// node is a file, a folder or a symbolic link.
type node struct {
	t        *tree
	ino      uint64
	kind     FileType
	data     []byte // of a file; shared with nobody unless the tree is read-only
	target   string // of a link
	children map[string]*node
	parent   *node // of a folder; nil once it is removed or for a root
	nlink    uint64
	opens    int // handles of a file
	atim     int64
	mtim     int64
	ctim     int64
}

// NewMemory makes an empty tree in memory and gives its root.
func NewMemory(l Limits) Dir { return newTree(l, 1) }

func newTree(l Limits, dev uint64) *memDir {
	if l.Bytes == 0 {
		l.Bytes = 64 << 20
	}
	if l.Inodes == 0 {
		l.Inodes = 65536
	}
	if l.Now == nil {
		l.Now = time.Now
	}
	t := &tree{limits: l, dev: dev, now: l.Now}
	root, _ := t.make(TypeDirectory)
	return &memDir{n: root}
}

func (t *tree) make(kind FileType) (*node, Errno) {
	if t.inodes >= t.limits.Inodes {
		return nil, ErrnoNospc
	}
	t.inodes++
	t.next++
	now := t.now().UnixNano()
	n := &node{t: t, ino: t.next, kind: kind, nlink: 1, atim: now, mtim: now, ctim: now}
	if kind == TypeDirectory {
		n.children = map[string]*node{}
	}
	return n, 0
}

func (n *node) touch() {
	now := n.t.now().UnixNano()
	n.mtim, n.ctim = now, now
}

// drop takes one name from a node. A file without a name costs its room for as
// long as a handle holds it: a guest that unlinks what it has open must not get
// that room twice.
func (n *node) drop() {
	n.nlink--
	n.ctim = n.t.now().UnixNano()
	if n.nlink > 0 {
		n.t.inodes--
		return
	}
	n.release()
}

// release gives a node's room back once nothing refers to it.
func (n *node) release() {
	if n.nlink > 0 || n.opens > 0 {
		return
	}
	n.t.inodes--
	n.t.bytes -= int64(len(n.data) + len(n.target))
	n.data = nil
}

func (n *node) stat() Stat {
	size := uint64(len(n.data))
	if n.kind == TypeSymlink {
		size = uint64(len(n.target))
	}
	return Stat{Dev: n.t.dev, Ino: n.ino, Type: n.kind, Nlink: n.nlink, Size: size, Atim: n.atim, Mtim: n.mtim, Ctim: n.ctim}
}

func (n *node) setTimes(t Times) Errno {
	if n.t.readOnly {
		return ErrnoRofs
	}
	if t.Atim != nil {
		n.atim = *t.Atim
	}
	if t.Mtim != nil {
		n.mtim = *t.Mtim
	}
	n.ctim = n.t.now().UnixNano()
	return 0
}
