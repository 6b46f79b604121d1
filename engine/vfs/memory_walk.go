package vfs

import (
	"slices"
	"strings"
)

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
