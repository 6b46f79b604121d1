package image

import (
	"bytes"
	"fmt"
)

// File types of a cpio mode word (the S_IFMT bits of stat).
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeChar = 0o020000
)

// cpio writes the "newc" form that Linux unpacks as its first root file system
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of 110
// ASCII bytes, the name with its zero byte, the contents, each padded to four
// bytes. Times, owners and inode numbers are fixed, so the same entries give the
// same bytes.
type cpio struct {
	buf bytes.Buffer
	ino uint32
}

func (c *cpio) dir(name string)               { c.entry(name, modeDir|0o755, 2, 0, 0, nil) }
func (c *cpio) file(name string, b []byte)    { c.entry(name, modeFile|0o644, 1, 0, 0, b) }
func (c *cpio) program(name string, b []byte) { c.entry(name, modeFile|0o755, 1, 0, 0, b) }
func (c *cpio) char(name string, major, minor uint32) {
	c.entry(name, modeChar|0o600, 1, major, minor, nil)
}

func (c *cpio) entry(name string, mode, links, major, minor uint32, contents []byte) {
	if name != trailer {
		c.ino++
	}
	c.header(c.ino, mode, links, uint32(len(contents)), major, minor, uint32(len(name)+1))
	c.buf.WriteString(name)
	c.buf.WriteByte(0)
	c.pad()
	c.buf.Write(contents)
	c.pad()
}

func (c *cpio) header(ino, mode, links, size, major, minor, nameSize uint32) {
	c.buf.WriteString("070701")
	for _, v := range [...]uint32{ino, mode, 0 /* uid */, 0 /* gid */, links, 0, /* mtime */
		size, 0, 0 /* device of the file */, major, minor, nameSize, 0 /* checksum: unused in this form */} {
		fmt.Fprintf(&c.buf, "%08x", v)
	}
}

func (c *cpio) pad() {
	for c.buf.Len()%4 != 0 {
		c.buf.WriteByte(0)
	}
}

const trailer = "TRAILER!!!"

// finish ends the archive and gives its bytes.
func (c *cpio) finish() []byte {
	c.ino = 0
	c.entry(trailer, 0, 1, 0, 0, nil)
	return c.buf.Bytes()
}
