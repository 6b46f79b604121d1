package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The bytes of an initramfs are part of a launch digest: they may change only on
// purpose.
func TestInitramfsGolden(t *testing.T) {
	got, err := Initramfs([]byte("program"), []Module{{"virtio_mmio", []byte("module")}})
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Initramfs([]byte("program"), []Module{{"virtio_mmio", []byte("module")}})
	if !bytes.Equal(got, again) {
		t.Error("two runs differ")
	}
	const want = "8be02daeb5b8b98285437e5d9b3722f9abaac01a2d84b5d4f44b5d0f8b1ca05d"
	if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) != want {
		t.Errorf("digest: found %x, wanted %s", sum, want)
	}
}

// What is packed is what an independent unpacker finds.
func TestInitramfsUnpacks(t *testing.T) {
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio command")
	}
	b, err := Initramfs([]byte("program"), []Module{{"b", []byte("1")}, {"a", []byte("22")}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "-itv", "--quiet")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"dev/console", "mods/b.ko", "mods/a.ko", "mods/order", "init", "proc", "sys", "tmp"} {
		if !strings.Contains(string(out), " "+want+"\n") {
			t.Errorf("%s is not in the archive:\n%s", want, out)
		}
	}
	if !strings.Contains(string(out), "-rwxr-xr-x") {
		t.Errorf("init cannot be run:\n%s", out)
	}
}

func TestCheckProgram(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	f, err := elf.NewFile(bytes.NewReader(exe))
	if err != nil {
		t.Fatal(err)
	}
	other := "ppc64le"
	if f.Machine == elf.EM_PPC64 {
		other = "amd64"
	}
	if err := CheckProgram(exe, other); err == nil || !strings.Contains(err.Error(), "wanted") {
		t.Errorf("another processor's program: found %v", err)
	}
	if err := CheckProgram([]byte("#!/bin/sh"), other); err == nil {
		t.Error("a script was taken for a program")
	}
}

// module makes an object file with one .modinfo section, as far as the reader
// looks.
func module(info string) []byte {
	const header = 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	le([]uint16{1, uint16(elf.EM_X86_64)})
	le(uint32(1))
	le([]uint64{0, 0, uint64(header + len(info) + len(names))})
	le(uint32(0))
	le([]uint16{header, 0, 0, 64, 3, 2})
	b.WriteString(info)
	b.WriteString(names)
	section := func(name, kind uint32, off, size int) {
		le([]uint32{name, kind})
		le([]uint64{0, 0, uint64(off), uint64(size)})
		le([]uint32{0, 0})
		le([]uint64{1, 0})
	}
	section(0, 0, 0, 0)
	section(1, uint32(elf.SHT_PROGBITS), header, len(info))
	section(10, uint32(elf.SHT_STRTAB), header+len(info), len(names))
	return b.Bytes()
}

func tree(t *testing.T, builtin string, modules map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, builtinList), []byte(builtin), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, depends := range modules {
		if err := os.WriteFile(filepath.Join(dir, name+".ko"), module("license=GPL\x00depends="+depends+"\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestModules(t *testing.T) {
	old := map[string]string{"virtio_ring": "", "virtio": "virtio_ring", "virtio_mmio": "virtio,virtio_ring", "virtio_console": "virtio,virtio_ring",
		"virtio_pci": "virtio_pci_modern_dev,virtio,virtio_ring", "virtio-pci-modern-dev": ""}
	tests := []struct {
		name, builtin string
		modules       map[string]string
		bus           Bus
		want, err     string
	}{
		{"6.12, mmio", "kernel/drivers/char/virtio_console.ko\n", map[string]string{"virtio_mmio": ""}, MMIO, "virtio_mmio", ""},
		{"6.12, pci", "kernel/drivers/char/virtio_console.ko\nkernel/drivers/virtio/virtio_pci.ko\n", nil, PCI, "", ""},
		{"6.1, mmio", "", old, MMIO, "virtio_ring virtio virtio_mmio virtio_console", ""},
		{"6.1, pci", "", old, PCI, "virtio_ring virtio virtio_pci_modern_dev virtio_pci virtio_console", ""},
		{"missing", "kernel/x.ko\n", map[string]string{"virtio_mmio": "virtio"}, MMIO, "", "module virtio is neither there nor built in"},
		{"a ring", "", map[string]string{"virtio_mmio": "a", "a": "b", "b": "a", "virtio_console": ""}, MMIO, "", "need each other"},
		{"itself", "", map[string]string{"virtio_mmio": "virtio_mmio", "virtio_console": ""}, MMIO, "", "need each other"},
		{"a path", "", map[string]string{"virtio_mmio": "../../etc/shadow"}, MMIO, "", "wanted module names"},
		{"nothing", "", nil, MMIO, "", "neither modules nor modules.builtin"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			got, err := Modules(tree(t, c.builtin, c.modules), c.bus)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("found %v, wanted %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// Any order is right in which each comes after what it needs.
			var names []string
			seen := map[string]bool{}
			for _, m := range got {
				names = append(names, m.Name)
				depends, _ := dependencies(m.Data)
				for _, d := range depends {
					if !seen[d] {
						t.Errorf("%s comes before %s", m.Name, d)
					}
				}
				seen[m.Name] = true
			}
			for _, w := range strings.Fields(c.want) {
				if !seen[w] {
					t.Errorf("%s is missing", w)
				}
			}
			if len(names) != len(strings.Fields(c.want)) {
				t.Errorf("found %v, wanted %s", names, c.want)
			}
		})
	}
}

func FuzzDependencies(f *testing.F) {
	f.Add(module("depends=a,b\x00"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := dependencies(b)
		if err != nil {
			return
		}
		for _, n := range names {
			if n == "" || len(n) > 64 || strings.ContainsAny(n, "/\n") {
				t.Errorf("%q is no module's name", n)
			}
		}
	})
}

func bzImage(release string) []byte {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], release+" (builder@host) #1 SMP\x00")
	return b
}

func FuzzRelease(f *testing.F) {
	f.Add(bzImage("6.12.1-cloud"))
	f.Add([]byte("\x7fELF\x02\x01Linux version 6.1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := release(b); strings.ContainsAny(s, "/ \n\x00") || len(s) >= maxRelease {
			t.Errorf("%q is no release", s)
		}
	})
}

func TestKernelFile(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	for path, b := range map[string][]byte{good: bzImage("6.12.1-cloud"), bad: []byte("not a kernel")} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lib := t.TempDir()
	if err := os.Mkdir(filepath.Join(lib, "6.12.1-cloud"), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := Finder{Lib: lib}.Kernel(context.Background(), "amd64", good)
	if err != nil || k.Release != "6.12.1-cloud" || k.Modules != filepath.Join(lib, "6.12.1-cloud") {
		t.Errorf("found %+v, %v", k, err)
	}
	if _, err := (Finder{}).Kernel(context.Background(), "arm64", good); err == nil || !strings.Contains(err.Error(), "found a kernel for amd64, wanted arm64") {
		t.Errorf("another processor's kernel: found %v", err)
	}
	var hint *Error
	if _, err := (Finder{}).Kernel(context.Background(), "amd64", bad); !errors.As(err, &hint) || hint.Hint() == "" {
		t.Errorf("no kernel at all: found %v, wanted an error with a hint", err)
	}
	if _, err := (Finder{Offline: true, Boot: t.TempDir()}).Kernel(context.Background(), "amd64", ""); !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--kernel") {
		t.Errorf("nothing anywhere: found %v, wanted an error with a hint", err)
	}
}

func TestCacheListCleanNewest(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"6.9.0-1", "6.12.0-1"} {
		e := filepath.Join(dir, imagesDir, "amd64", "linux-image-"+v)
		if err := os.MkdirAll(e, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{kernelFile: bzImage(v), releaseTxt: []byte(v + "\n")} {
			if err := os.WriteFile(filepath.Join(e, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, imagesDir, "amd64", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := Finder{CacheDir: dir, Boot: t.TempDir()}.Kernel(context.Background(), "amd64", "")
	if err != nil || k.Release != "6.12.0-1" || k.Source != "cache" {
		t.Errorf("found %+v, %v, wanted the newest", k, err)
	}
	if l, err := List(dir); err != nil || len(l) != 2 {
		t.Errorf("list: found %v, %v, wanted two", l, err)
	}
	if n, err := Clean(dir); err != nil || n == 0 {
		t.Errorf("clean: found %d bytes, %v", n, err)
	}
	if l, err := List(dir); err != nil || len(l) != 0 {
		t.Errorf("after clean: found %v, %v", l, err)
	}
}

func TestParseControl(t *testing.T) {
	fields := parseControl([]byte("Package: linux-image-virtual\nVersion: 6.8.0-60.63\nDepends: linux-image-generic (= 6.8), x\nDescription: a\n Depends: evil\n\nPackage: second\n"))
	if fields["Package"] != "linux-image-virtual" || fields["Version"] != "6.8.0-60.63" {
		t.Errorf("found %v", fields)
	}
	if d := dependency(fields["Depends"], "linux-image-"); d != "linux-image-generic" {
		t.Errorf("found %q", d)
	}
	if d := dependency("linux-image-../../x", "linux-image-"); d != "" {
		t.Errorf("a path was taken for a package: %q", d)
	}
}
