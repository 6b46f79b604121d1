package vfs

import (
	"slices"
	"strings"
)

// memDir is an open folder.
type memDir struct{ n *node }

func (d *memDir) Stat() (Stat, Errno) { return d.n.stat(), 0 }

func (d *memDir) SetTimes(t Times) Errno { return d.n.setTimes(t) }

func (d *memDir) Sync(bool) Errno { return 0 }

func (d *memDir) Close() Errno { return 0 }

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
		if p.node.kind != TypeDirectory && strings.HasSuffix(path, "/") {
			return ErrnoNotdir
		}
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
