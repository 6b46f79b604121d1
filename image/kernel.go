package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A Kernel is one that QEMU can boot, with the folder of its modules.
type Kernel struct {
	Path    string // the bootable file
	Modules string // folder like /lib/modules/RELEASE; "" when all is built in
	Arch    string // GOARCH
	Release string // as uname -r says it; "" when unknown
	Source  string // where it came from, for people: "--kernel", "cache", "installed", "downloaded"
}

// Finder looks for kernels. The zero value finds none but the installed one.
type Finder struct {
	CacheDir string       // donjon's cache; "" caches nothing and downloads nothing
	Boot     string       // folder of installed kernels; "" is /boot
	Lib      string       // folder of installed modules; "" is /lib/modules
	Progress func(string) // told of long work, a line each; may be nil
	Offline  bool         // never download
}

const (
	maxKernel  = 512 << 20
	maxRelease = 128
)

// Kernel gives a kernel for arch (a GOARCH): the file named, else the newest in
// the cache, else an installed one, else the distribution's, downloaded.
func (f Finder) Kernel(ctx context.Context, arch, named string) (Kernel, error) {
	if _, ok := packages[arch]; !ok {
		return Kernel{}, fmt.Errorf("image: processor: found %q, wanted amd64, arm64 or ppc64le", arch)
	}
	if named != "" {
		return f.file(arch, named)
	}
	if k, ok := f.cached(arch); ok {
		return k, nil
	}
	if k, ok := f.installed(arch); ok {
		return k, nil
	}
	if f.Offline || f.CacheDir == "" {
		return Kernel{}, errNoKernel(arch, errors.New("none in the cache and none installed"))
	}
	k, err := f.download(ctx, arch)
	if err != nil {
		return Kernel{}, errNoKernel(arch, err)
	}
	return k, nil
}

func errNoKernel(arch string, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return fmt.Errorf("image: no kernel for %s: %w", arch, err)
	}
	return &Error{Err: fmt.Errorf("image: no kernel for %s: %w", arch, err),
		What: "give one with --kernel FILE, or install one: apt-get install " + packages[arch][0]}
}

// file is a kernel that the user named. Its modules are looked for beside it (the
// form the cache has) and where a package of its release would put them.
func (f Finder) file(arch, path string) (Kernel, error) {
	b, err := ReadKernel(path)
	if err != nil {
		return Kernel{}, &Error{Err: err, What: "--kernel wants a bootable Linux kernel such as /boot/vmlinuz-…"}
	}
	if found := kernelArch(b); found != "" && found != arch {
		return Kernel{}, fmt.Errorf("image: %s: found a kernel for %s, wanted %s", path, found, arch)
	}
	k := Kernel{Path: path, Arch: arch, Release: release(b), Source: "--kernel"}
	for _, dir := range []string{filepath.Join(filepath.Dir(path), "modules"), filepath.Join(f.lib(), k.Release)} {
		if k.Release != "" && isDir(dir) {
			k.Modules = dir
			break
		}
	}
	return k, nil
}

func (f Finder) lib() string {
	if f.Lib != "" {
		return f.Lib
	}
	return "/lib/modules"
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// installed is the newest kernel of this machine that this user may read and that
// has, built in or as modules, what the link needs.
func (f Finder) installed(arch string) (Kernel, bool) {
	if arch != runtime.GOARCH {
		return Kernel{}, false
	}
	boot := f.Boot
	if boot == "" {
		boot = "/boot"
	}
	var best Kernel
	for _, pattern := range []string{"vmlinuz-*", "vmlinux-*"} {
		names, _ := filepath.Glob(filepath.Join(boot, pattern))
		for _, n := range names {
			_, rel, _ := strings.Cut(filepath.Base(n), "-")
			k := Kernel{Path: n, Modules: filepath.Join(f.lib(), rel), Arch: arch, Release: rel, Source: "installed"}
			b, err := ReadKernel(n)
			if err != nil || kernelArch(b) != arch || best.Path != "" && !newer(rel, best.Release) {
				continue
			}
			if _, err := Modules(k.Modules, MMIO); err != nil {
				continue
			}
			if _, err := Modules(k.Modules, PCI); err != nil {
				continue
			}
			best = k
		}
	}
	return best, best.Path != ""
}

// newer compares two versions: runs of digits as numbers, the rest as text.
func newer(a, b string) bool {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) > len(y)
			}
			if x != y {
				return x > y
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return a[0] > b[0]
		}
		a, b = a[1:], b[1:]
	}
	return len(a) > len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// ReadKernel reads a kernel file, bounded.
func ReadKernel(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("image: reading a kernel: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKernel+1))
	if err != nil {
		return nil, fmt.Errorf("image: reading a kernel: %w", err)
	}
	if len(b) > maxKernel {
		return nil, fmt.Errorf("image: %s: more than %d bytes", path, maxKernel)
	}
	if kernelArch(b) == "" {
		return nil, fmt.Errorf("image: %s: not a Linux kernel for amd64, arm64 or ppc64le", path)
	}
	return b, nil
}

// kernelArch recognises a kernel by its header: the x86 boot protocol's "HdrS" at
// 0x202 (Documentation/arch/x86/boot.rst), arm64's "ARM\x64" at 0x38
// (Documentation/arch/arm64/booting.rst), an ELF file for POWER or, with a PVH
// note, for x86-64.
func kernelArch(b []byte) string {
	switch {
	case len(b) > 0x250 && string(b[0x202:0x206]) == "HdrS":
		return "amd64"
	case len(b) > 64 && string(b[0x38:0x3c]) == "ARM\x64":
		return "arm64"
	case len(b) > 64 && string(b[:6]) == "\x7fELF\x02\x01":
		switch binary.LittleEndian.Uint16(b[18:]) {
		case 21:
			return "ppc64le"
		case 62:
			return "amd64"
		}
	}
	return ""
}

// release reads what uname -r will say: from where the x86 boot protocol keeps
// it, else from the banner in an uncompressed kernel. "" when there is none.
func release(b []byte) string {
	var s []byte
	if kernelArch(b) == "amd64" && len(b) > 0x250 && string(b[0x202:0x206]) == "HdrS" {
		at := int(binary.LittleEndian.Uint16(b[0x20e:])) + 0x200
		if at < len(b) {
			s = b[at:]
		}
	} else {
		s = banner(b)
	}
	n := 0
	for n < len(s) && n < maxRelease && s[n] > ' ' && s[n] < 0x7f && s[n] != '/' {
		n++
	}
	if n == 0 || n == maxRelease || s[0] < '0' || s[0] > '9' {
		return ""
	}
	return string(s[:n])
}

// banner finds what follows "Linux version " where a number follows.
func banner(b []byte) []byte {
	mark := []byte("Linux version ")
	for {
		at := bytes.Index(b, mark)
		if at < 0 {
			return nil
		}
		b = b[at+len(mark):]
		if len(b) > 0 && b[0] >= '1' && b[0] <= '9' {
			return b
		}
	}
}
