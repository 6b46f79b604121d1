package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// A Bus is how QEMU's virtio devices are attached on a machine; it decides which
// kernel modules the link needs.
type Bus string

const (
	MMIO Bus = "mmio" // microvm, arm64 virt
	PCI  Bus = "pci"  // q35, pseries
)

// A Module is a kernel module, decompressed, under its name without ".ko".
type Module struct {
	Name string
	Data []byte
}

const (
	maxModule  = 16 << 20 // bytes of one module, decompressed
	maxModules = 64       // modules of one image; the longest real chain here is 7
)

func (b Bus) wanted() []string {
	if b == PCI {
		return []string{"virtio_pci", "virtio_console"}
	}
	return []string{"virtio_mmio", "virtio_console"}
}

// Modules reads from dir, a folder like /lib/modules/RELEASE, what the link needs
// on this bus, dependencies first. What the kernel has built in is left out.
// modules.dep is made when a package is installed, so dependencies are read from
// the modules themselves ("depends=" in section .modinfo). With dir "" everything
// is taken to be built in.
func Modules(dir string, bus Bus) ([]Module, error) {
	files, err := moduleFiles(dir, bus)
	if err != nil {
		return nil, err
	}
	out := make([]Module, 0, len(files))
	for _, f := range files {
		out = append(out, f.Module)
	}
	return out, nil
}

type moduleFile struct {
	Module
	path string
}

func moduleFiles(dir string, bus Bus) ([]moduleFile, error) {
	if dir == "" {
		return nil, nil
	}
	tree, err := indexModules(dir)
	if err != nil {
		return nil, err
	}
	if len(tree.files) == 0 && len(tree.builtin) == 0 {
		return nil, fmt.Errorf("image: %s: neither modules nor modules.builtin there", dir)
	}
	// A module is done once all it depends on is done: a stack instead of
	// recursion, since the names come from files.
	var out []moduleFile
	done := map[string]bool{}
	loaded := map[string]moduleFile{}
	for _, w := range bus.wanted() {
		stack := []string{w}
		for len(stack) > 0 {
			name := stack[len(stack)-1]
			if done[name] || tree.builtin[name] {
				stack = stack[:len(stack)-1]
				continue
			}
			m, seen := loaded[name]
			if !seen {
				path, ok := tree.files[name]
				if !ok {
					return nil, &Error{Err: fmt.Errorf("image: %s: module %s is neither there nor built in", dir, name),
						What: "use another kernel: --kernel FILE, or none for the default"}
				}
				data, err := readModule(path)
				if err != nil {
					return nil, err
				}
				m = moduleFile{Module{name, data}, path}
				loaded[name] = m
				if len(loaded) > maxModules {
					return nil, fmt.Errorf("image: %s: %s needs more than %d modules", dir, w, maxModules)
				}
			}
			depends, err := dependencies(m.Data)
			if err != nil {
				return nil, fmt.Errorf("image: %s: %w", m.path, err)
			}
			waiting := false
			for _, d := range depends {
				if !done[d] && !tree.builtin[d] {
					if _, again := loaded[d]; again && seen {
						return nil, fmt.Errorf("image: %s: modules %s and %s need each other", dir, name, d)
					}
					stack, waiting = append(stack, d), true
				}
			}
			if !waiting {
				done[name], out, stack = true, append(out, m), stack[:len(stack)-1]
			}
		}
	}
	return out, nil
}

type moduleTree struct {
	files   map[string]string // module name: path
	builtin map[string]bool
}

func indexModules(dir string) (moduleTree, error) {
	t := moduleTree{map[string]string{}, map[string]bool{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := moduleName(d.Name()); ok && d.Type().IsRegular() {
			t.files[name] = path
		}
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("image: reading modules: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, builtinList))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	} else if err != nil {
		return t, fmt.Errorf("image: reading modules: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for s.Scan() {
		if name, ok := moduleName(filepath.Base(s.Text())); ok {
			t.builtin[name] = true
		}
	}
	return t, s.Err()
}

const builtinList = "modules.builtin"

// moduleName gives the kernel's name of a module from its file's: the kernel
// writes "_" where file names may have "-".
func moduleName(file string) (string, bool) {
	name, rest, ok := strings.Cut(file, ".ko")
	switch rest {
	case "", ".xz", ".gz", ".zst":
		return strings.ReplaceAll(name, "-", "_"), ok && name != ""
	}
	return "", false
}

func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("image: reading a module: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(bufio.NewReader(f))
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".zst":
		// No decompressor of our own: the packages that use it come with the command.
		cmd := exec.Command("zstd", "-dc", "--memory=128MB")
		cmd.Stdin = f
		var out []byte
		if out, err = cmd.Output(); err != nil {
			err = &Error{Err: err, What: "apt-get install zstd"}
		}
		r = bytes.NewReader(out)
	}
	if err != nil {
		return nil, fmt.Errorf("image: decompressing %s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("image: decompressing %s: %w", path, err)
	}
	if len(b) > maxModule {
		return nil, fmt.Errorf("image: %s: more than %d bytes", path, maxModule)
	}
	return b, nil
}

// dependencies reads which modules must be loaded before this one.
func dependencies(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("not a kernel module: %w", err)
	}
	sec := f.Section(".modinfo")
	if sec == nil || sec.Type == elf.SHT_NOBITS || sec.Size > maxModule {
		return nil, errors.New("not a kernel module: no section .modinfo")
	}
	info, err := sec.Data()
	if err != nil {
		return nil, fmt.Errorf("reading section .modinfo: %w", err)
	}
	var out []string
	for _, field := range strings.Split(string(info), "\x00") {
		list, ok := strings.CutPrefix(field, "depends=")
		if !ok || list == "" {
			continue
		}
		for _, d := range strings.Split(list, ",") {
			name, ok := moduleName(d + ".ko")
			if !ok || len(name) > 64 || strings.ContainsAny(name, "/\n") {
				return nil, fmt.Errorf("depends=: found %q, wanted module names", list)
			}
			out = append(out, name)
		}
	}
	return out, nil
}
