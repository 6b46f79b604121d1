package vfs

import (
	"slices"
	"strings"
	"time"
)

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

// place is where a path leads: a name in a folder, and what is there.
type place struct {
	dir   *node
	name  string // "" when the path is the starting folder itself
	node  *node  // nil: nothing there
	slash bool   // the path ended in a slash: a folder is meant
}

// walk resolves a path from a root that it never leaves. Links on the way are
// followed, the last one where follow says so. There is no recursion: a link's
// target is put in front of what is left.
func (d *memDir) walk(path string, follow bool) (place, Errno) {
	switch {
	case path == "":
		return place{}, ErrnoNoent
	case len(path) > maxPath:
		return place{}, ErrnoNametoolong
	case strings.HasPrefix(path, "/"):
		return place{}, ErrnoPerm
	case strings.IndexByte(path, 0) >= 0:
		return place{}, ErrnoInval
	}
	slash := strings.HasSuffix(path, "/")
	parts := split(path)
	cur, depth, links := d.n, 0, 0
	p := place{dir: cur, node: cur, slash: slash}
	for len(parts) > 0 {
		if len(parts) > maxParts {
			return place{}, ErrnoNametoolong
		}
		name := parts[0]
		parts = parts[1:]
		if p.node == nil || p.node.kind != TypeDirectory {
			if p.node == nil {
				return place{}, ErrnoNoent
			}
			return place{}, ErrnoNotdir
		}
		cur = p.node
		switch {
		case name == ".":
			p = place{dir: p.dir, name: p.name, node: cur, slash: slash}
			continue
		case name == "..":
			if depth == 0 {
				return place{}, ErrnoPerm
			}
			depth--
			up := cur.parent
			if up == nil {
				return place{}, ErrnoNoent
			}
			p = place{dir: up, node: up, slash: slash}
			continue
		case len(name) > maxName:
			return place{}, ErrnoNametoolong
		}
		child := cur.children[name]
		if child != nil && child.kind == TypeSymlink && (len(parts) > 0 || follow || slash) {
			if links++; links > maxLinks {
				return place{}, ErrnoLoop
			}
			if strings.HasPrefix(child.target, "/") {
				return place{}, ErrnoPerm
			}
			if len(parts) == 0 && strings.HasSuffix(child.target, "/") {
				slash = true
			}
			parts = append(split(child.target), parts...)
			p = place{dir: p.dir, node: cur, slash: slash}
			continue
		}
		if child != nil && child.kind == TypeDirectory {
			depth++
		}
		p = place{dir: cur, name: name, node: child, slash: slash}
	}
	if p.slash && p.node != nil && p.node.kind != TypeDirectory {
		return p, ErrnoNotdir
	}
	return p, 0
}

// bare takes the slashes from a path's end, for the calls that act on a name and
// never on what a link of that name leads to; one of slashes alone stays as it is.
func bare(path string) string {
	if b := strings.TrimRight(path, "/"); b != "" {
		return b
	}
	return path
}

// dotted says that a path's last component is no name.
func dotted(path string) bool {
	path = bare(path)
	last := path[strings.LastIndexByte(path, '/')+1:]
	return last == "." || last == ".."
}

func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" })
}

// memDir is an open folder.
type memDir struct{ n *node }

func (d *memDir) Stat() (Stat, Errno)    { return d.n.stat(), 0 }
func (d *memDir) SetTimes(t Times) Errno { return d.n.setTimes(t) }
func (d *memDir) Sync(bool) Errno        { return 0 }
func (d *memDir) Close() Errno           { return 0 }

func (d *memDir) Open(path string, o OpenOptions) (Handle, Errno) {
	// As in open(2): an exclusive creation does not follow a link at its end.
	p, e := d.walk(path, o.Follow && !(o.Create && o.Excl))
	if e != 0 {
		return nil, e
	}
	n := p.node
	if n == nil {
		if !o.Create {
			return nil, ErrnoNoent
		}
		if p.slash {
			return nil, ErrnoIsdir
		}
		if n, e = p.add(TypeRegular); e != 0 {
			return nil, e
		}
		return n.open(), 0
	}
	if o.Create && o.Excl {
		return nil, ErrnoExist
	}
	switch n.kind {
	case TypeSymlink:
		return nil, ErrnoLoop
	case TypeDirectory:
		if o.Write || o.Create || o.Trunc {
			return nil, ErrnoIsdir
		}
		return &memDir{n}, 0
	}
	if o.Directory {
		return nil, ErrnoNotdir
	}
	if n.t.readOnly && (o.Trunc || o.Write && !o.Read) {
		return nil, ErrnoRofs
	}
	f := n.open()
	if o.Trunc {
		if e := f.Truncate(0); e != 0 {
			f.Close()
			return nil, e
		}
	}
	return f, 0
}

// add makes a new node at a place where nothing is.
func (p place) add(kind FileType) (*node, Errno) {
	if p.dir.t.readOnly {
		return nil, ErrnoRofs
	}
	if p.name == "" || p.dir.nlink == 0 {
		return nil, ErrnoNoent
	}
	n, e := p.dir.t.make(kind)
	if e != 0 {
		return nil, e
	}
	p.put(n)
	return n, 0
}

func (p place) put(n *node) {
	p.dir.children[p.name] = n
	if n.kind == TypeDirectory {
		n.parent = p.dir
	}
	p.dir.touch()
}

func (p place) remove() {
	delete(p.dir.children, p.name)
	p.dir.touch()
}

func (d *memDir) Mkdir(path string) Errno {
	p, e := d.walk(bare(path), false)
	if e != 0 {
		return e
	}
	if p.node != nil {
		return ErrnoExist
	}
	_, e = p.add(TypeDirectory)
	return e
}

func (d *memDir) Rmdir(path string) Errno {
	p, e := d.walk(bare(path), false)
	switch {
	case e != 0:
		return e
	case d.n.t.readOnly:
		return ErrnoRofs
	case p.node == nil:
		return ErrnoNoent
	case p.node.kind != TypeDirectory:
		return ErrnoNotdir
	case p.name == "" || dotted(path):
		return ErrnoInval
	case len(p.node.children) > 0:
		return ErrnoNotempty
	}
	p.remove()
	p.node.parent = nil
	p.node.drop()
	return 0
}

func (d *memDir) Unlink(path string) Errno {
	p, e := d.walk(bare(path), false)
	switch {
	case e != 0:
		return e
	case d.n.t.readOnly:
		return ErrnoRofs
	case p.node == nil:
		return ErrnoNoent
	case p.node.kind == TypeDirectory:
		return ErrnoIsdir
	case strings.HasSuffix(path, "/"):
		return ErrnoNotdir
	}
	p.remove()
	p.node.drop()
	return 0
}

func (d *memDir) Symlink(target, path string) Errno {
	if target == "" {
		return ErrnoNoent
	}
	if strings.HasPrefix(target, "/") {
		return ErrnoPerm
	}
	if len(target) >= maxPath {
		return ErrnoNametoolong
	}
	if strings.IndexByte(target, 0) >= 0 {
		return ErrnoInval
	}
	p, e := d.walk(bare(path), false)
	if e != 0 {
		return e
	}
	if p.node != nil {
		return ErrnoExist
	}
	if t := d.n.t; t.bytes+int64(len(target)) > t.limits.Bytes && !t.readOnly {
		return ErrnoNospc
	}
	if strings.HasSuffix(path, "/") {
		return ErrnoNoent
	}
	n, e := p.add(TypeSymlink)
	if e == 0 {
		n.target = target
		n.t.bytes += int64(len(target))
	}
	return e
}

func (d *memDir) Readlink(path string) (string, Errno) {
	p, e := d.walk(path, false)
	if e != 0 {
		return "", e
	}
	if p.node == nil {
		return "", ErrnoNoent
	}
	if p.node.kind != TypeSymlink {
		return "", ErrnoInval
	}
	return p.node.target, 0
}

func (d *memDir) Link(old string, follow bool, dst Dir, path string) Errno {
	to, ok := dst.(*memDir)
	if !ok || to.n.t != d.n.t {
		return ErrnoXdev
	}
	from, e := d.walk(old, follow)
	if e != 0 {
		return e
	}
	if from.node == nil {
		return ErrnoNoent
	}
	if from.node.kind == TypeDirectory {
		return ErrnoPerm
	}
	p, e := to.walk(path, false)
	switch {
	case e != 0:
		return e
	case d.n.t.readOnly:
		return ErrnoRofs
	case p.node != nil:
		return ErrnoExist
	case p.slash || p.name == "" || p.dir.nlink == 0:
		return ErrnoNoent
	case d.n.t.inodes >= d.n.t.limits.Inodes:
		return ErrnoNospc // a name costs room too
	}
	d.n.t.inodes++
	from.node.nlink++
	from.node.ctim = d.n.t.now().UnixNano()
	p.put(from.node)
	return 0
}

func (d *memDir) Rename(old string, dst Dir, path string) Errno {
	to, ok := dst.(*memDir)
	if !ok || to.n.t != d.n.t {
		return ErrnoXdev
	}
	from, e := d.walk(bare(old), false)
	if e != 0 {
		return e
	}
	if from.node == nil {
		return ErrnoNoent
	}
	p, e := to.walk(bare(path), false)
	isDir := from.node.kind == TypeDirectory
	switch {
	case e != 0:
		return e
	case d.n.t.readOnly:
		return ErrnoRofs
	case from.name == "" || p.name == "" || dotted(old) || dotted(path):
		return ErrnoInval
	case !isDir && (strings.HasSuffix(old, "/") || strings.HasSuffix(path, "/")):
		return ErrnoNotdir
	case p.node == from.node:
		return 0
	case p.dir.nlink == 0:
		return ErrnoNoent
	}
	for n := p.dir; isDir && n != nil; n = n.parent {
		if n == from.node {
			return ErrnoInval
		}
	}
	if p.node != nil {
		switch {
		case isDir && p.node.kind != TypeDirectory:
			return ErrnoNotdir
		case !isDir && p.node.kind == TypeDirectory:
			return ErrnoIsdir
		case isDir && len(p.node.children) > 0:
			return ErrnoNotempty
		}
		p.node.parent = nil // its open handles lead nowhere
		p.node.drop()
	}
	from.remove()
	p.put(from.node)
	from.node.ctim = d.n.t.now().UnixNano()
	return 0
}

func (d *memDir) StatAt(path string, follow bool) (Stat, Errno) {
	p, e := d.walk(path, follow)
	if e != 0 {
		return Stat{}, e
	}
	if p.node == nil {
		return Stat{}, ErrnoNoent
	}
	return p.node.stat(), 0
}

func (d *memDir) SetTimesAt(path string, follow bool, t Times) Errno {
	p, e := d.walk(path, follow)
	if e != 0 {
		return e
	}
	if p.node == nil {
		return ErrnoNoent
	}
	return p.node.setTimes(t)
}

func (d *memDir) ReadDir() ([]Entry, Errno) {
	out := make([]Entry, 0, len(d.n.children))
	for name, n := range d.n.children {
		out = append(out, Entry{name, n.ino, n.kind})
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, 0
}

// memFile is an open file.
type memFile struct {
	n      *node
	closed bool
}

func (n *node) open() *memFile {
	n.opens++
	return &memFile{n: n}
}

func (f *memFile) Stat() (Stat, Errno)    { return f.n.stat(), 0 }
func (f *memFile) SetTimes(t Times) Errno { return f.n.setTimes(t) }
func (f *memFile) Sync(bool) Errno        { return 0 }

func (f *memFile) Close() Errno {
	if f.closed {
		return ErrnoBadf
	}
	f.closed = true
	f.n.opens--
	f.n.release()
	return 0
}

func (f *memFile) ReadAt(p []byte, off int64) (int, Errno) {
	if off < 0 {
		return 0, ErrnoInval
	}
	if off >= int64(len(f.n.data)) {
		return 0, 0
	}
	return copy(p, f.n.data[off:]), 0
}

func (f *memFile) WriteAt(p []byte, off int64) (int, Errno) {
	if off < 0 {
		return 0, ErrnoInval
	}
	if len(p) == 0 {
		return 0, 0
	}
	t := f.n.t
	switch {
	case t.readOnly:
		return 0, ErrnoRofs
	case off > t.limits.Bytes:
		return 0, ErrnoFbig
	case int64(len(p)) > t.limits.Bytes-off:
		return 0, ErrnoNospc
	}
	if end := off + int64(len(p)); end > int64(len(f.n.data)) {
		if e := f.Truncate(end); e != 0 {
			return 0, e
		}
	}
	f.n.touch()
	return copy(f.n.data[off:], p), 0
}

func (f *memFile) Append(p []byte) (int, Errno) { return f.WriteAt(p, int64(len(f.n.data))) }

func (f *memFile) Truncate(size int64) Errno {
	t := f.n.t
	if t.readOnly {
		return ErrnoRofs
	}
	if size < 0 {
		return ErrnoInval
	}
	have := int64(len(f.n.data))
	if size > have && size-have > t.limits.Bytes-t.bytes {
		return ErrnoNospc
	}
	t.bytes += size - have
	switch room := int64(cap(f.n.data)); {
	case size < have && room > 2*size+4096:
		// Kept room is not counted: a file cut short must not hold on to it.
		f.n.data = append(make([]byte, 0, size), f.n.data[:size]...)
	case size <= have:
		clear(f.n.data[size:])
		f.n.data = f.n.data[:size]
	case size <= room:
		f.n.data = f.n.data[:size] // what lies behind a file's end is zero
	default:
		grown := make([]byte, size, max(size, min(2*room, size+(8<<20))))
		copy(grown, f.n.data)
		f.n.data = grown
	}
	f.n.touch()
	return 0
}

func (f *memFile) Allocate(off, n int64) Errno {
	switch limit := f.n.t.limits.Bytes; {
	case f.n.t.readOnly:
		return ErrnoRofs
	case off < 0 || n < 0:
		return ErrnoInval
	case off > limit || n > limit-off:
		return ErrnoFbig
	}
	if off+n > int64(len(f.n.data)) {
		return f.Truncate(off + n)
	}
	return 0
}
