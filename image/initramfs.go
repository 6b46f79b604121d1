package image

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
)

// maxInit bounds the program packed as /init, bytes.
const maxInit = 256 << 20

// Initramfs packs program as /init, alone but for the kernel modules without which
// that kernel cannot see the link, in the order in which they must be loaded
// (/mods/order, a name a line). The bytes depend on the arguments and on nothing
// else.
func Initramfs(program []byte, modules []Module) ([]byte, error) {
	if len(program) == 0 || len(program) > maxInit {
		return nil, fmt.Errorf("image: the program for /init: found %d bytes, wanted 1 to %d", len(program), maxInit)
	}
	var c cpio
	c.buf.Grow(len(program) + 64<<10)
	for _, d := range []string{"dev", "proc", "sys", "tmp"} {
		c.dir(d)
	}
	c.char("dev/console", 5, 1)
	if len(modules) > 0 {
		c.dir("mods")
		var order strings.Builder
		for _, m := range modules {
			c.file("mods/"+m.Name+".ko", m.Data)
			order.WriteString(m.Name + ".ko\n")
		}
		c.file("mods/order", []byte(order.String()))
	}
	c.program("init", program)
	return c.finish(), nil
}

// CheckProgram says whether program can be /init on arch (a GOARCH): an ELF
// executable for that processor that needs no loader and no library, since there
// are none.
func CheckProgram(program []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("image: the program for /init is no ELF file: %w", err)
	}
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64}[arch]
	if f.Machine != want {
		return &Error{Err: fmt.Errorf("image: the program for /init: found one for %s, wanted %s (%s)", f.Machine, want, arch),
			What: "make cross builds donjon-keep for the other processors"}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return &Error{Err: fmt.Errorf("image: the program for /init is linked dynamically"), What: "build it with CGO_ENABLED=0"}
		}
	}
	return nil
}

// An Error carries what can be done about it.
type Error struct {
	Err  error
	What string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *Error) Hint() string { return e.What }
