package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The cache keeps a folder a kernel: CACHE/images/ARCH/PACKAGE_VERSION with the
// files vmlinuz and release and, in modules/, only the modules that the link needs. An entry
// appears whole, by a rename, or not at all; a lock lets one run at a time make
// one, and whatever an interrupted run left is swept by the next that holds it.

const (
	imagesDir  = "images"
	lockFile   = ".lock"
	tempPrefix = ".making-"
	kernelFile = "vmlinuz"
	moduleDir  = "modules"
	releaseTxt = "release"
)

// An Entry is a cached kernel.
type Entry struct {
	Arch    string    `json:"arch"`
	Name    string    `json:"name"` // PACKAGE_VERSION
	Release string    `json:"release"`
	Path    string    `json:"path"`
	Bytes   int64     `json:"bytes"`
	Made    time.Time `json:"made"`
}

// List gives the kernels in the cache, newest version first within a processor.
func List(cacheDir string) ([]Entry, error) {
	var out []Entry
	for arch := range packages {
		dir := filepath.Join(cacheDir, imagesDir, arch)
		names, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("image: reading the cache: %w", err)
		}
		for _, n := range names {
			path := filepath.Join(dir, n.Name())
			st, err := os.Stat(filepath.Join(path, kernelFile))
			if err != nil || strings.HasPrefix(n.Name(), ".") {
				continue
			}
			rel, err := os.ReadFile(filepath.Join(path, releaseTxt))
			if err != nil || len(rel) > maxRelease {
				continue
			}
			out = append(out, Entry{arch, n.Name(), strings.TrimSpace(string(rel)), path, treeSize(path), st.ModTime()})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Arch != out[j].Arch {
			return out[i].Arch < out[j].Arch
		}
		if out[i].Release != out[j].Release {
			return newer(out[i].Release, out[j].Release)
		}
		return out[i].Name < out[j].Name
	})
	return out, nil
}

// Clean removes all kernels from the cache, and what interrupted runs left, and
// gives the number of bytes freed.
func Clean(cacheDir string) (int64, error) {
	dir := filepath.Join(cacheDir, imagesDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("image: reading the cache: %w", err)
	}
	var freed int64
	for _, n := range names {
		if n.Name() == lockFile {
			continue
		}
		path := filepath.Join(dir, n.Name())
		size := treeSize(path)
		if err := os.RemoveAll(path); err != nil {
			return freed, fmt.Errorf("image: cleaning the cache: %w", err)
		}
		freed += size
	}
	return freed, nil
}

func treeSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

func (f Finder) cached(arch string) (Kernel, bool) {
	if f.CacheDir == "" {
		return Kernel{}, false
	}
	all, err := List(f.CacheDir)
	if err != nil {
		return Kernel{}, false
	}
	for _, e := range all {
		if e.Arch == arch {
			return Kernel{Path: filepath.Join(e.Path, kernelFile), Modules: modulesOf(e.Path), Arch: arch, Release: e.Release, Source: "cache"}, true
		}
	}
	return Kernel{}, false
}

func modulesOf(entry string) string {
	if dir := filepath.Join(entry, moduleDir); isDir(dir) {
		return dir
	}
	return ""
}

// lock waits for the cache's lock; the function it gives releases it.
func lock(dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("making the cache", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, diskError("locking the cache", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("image: locking the cache: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// sweep removes what interrupted runs left; the lock is held.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	for _, l := range left {
		_ = os.RemoveAll(l)
	}
}

// diskError tells a full disk from the rest.
func diskError(doing string, err error) error {
	err = fmt.Errorf("image: %s: %w", doing, err)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &Error{Err: err, What: "free some space, or put the cache elsewhere with XDG_CACHE_HOME; a kernel takes 250 MB while it is unpacked and 15 to 50 MB after"}
	}
	return err
}

// install makes the cache entry name from the unpacked package below root.
func (f Finder) install(arch, name, root, temp string) (Kernel, error) {
	kernels, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinu[xz]-*"))
	if len(kernels) != 1 {
		return Kernel{}, fmt.Errorf("image: the package %s: found %d kernels in /boot, wanted one", name, len(kernels))
	}
	_, rel, _ := strings.Cut(filepath.Base(kernels[0]), "-")
	b, err := ReadKernel(kernels[0])
	if err != nil {
		return Kernel{}, err
	}
	if found := kernelArch(b); found != arch {
		return Kernel{}, fmt.Errorf("image: the package %s: found a kernel for %s, wanted %s", name, found, arch)
	}
	entry := filepath.Join(temp, "entry")
	if err := os.MkdirAll(entry, 0o700); err != nil {
		return Kernel{}, diskError("filling the cache", err)
	}
	lib := filepath.Join(root, "lib", "modules", rel)
	if !isDir(lib) {
		lib = filepath.Join(root, "usr", "lib", "modules", rel)
	}
	if isDir(lib) {
		if err := copyModules(lib, filepath.Join(entry, moduleDir)); err != nil {
			return Kernel{}, err
		}
	}
	for file, data := range map[string][]byte{kernelFile: b, releaseTxt: []byte(rel + "\n")} {
		if err := os.WriteFile(filepath.Join(entry, file), data, 0o600); err != nil {
			return Kernel{}, diskError("filling the cache", err)
		}
	}
	final := filepath.Join(f.CacheDir, imagesDir, arch, name)
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return Kernel{}, diskError("filling the cache", err)
	}
	_ = os.RemoveAll(final) // broken, or it would have been found
	if err := os.Rename(entry, final); err != nil {
		return Kernel{}, diskError("filling the cache", err)
	}
	return Kernel{Path: filepath.Join(final, kernelFile), Modules: modulesOf(final), Arch: arch, Release: rel, Source: "downloaded"}, nil
}

// copyModules keeps, decompressed, what either bus needs, and the list of what is
// built in.
func copyModules(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return diskError("filling the cache", err)
	}
	b, err := os.ReadFile(filepath.Join(from, builtinList))
	if err != nil {
		return fmt.Errorf("image: the kernel package: %w", err)
	}
	if err := os.WriteFile(filepath.Join(to, builtinList), b, 0o600); err != nil {
		return diskError("filling the cache", err)
	}
	for _, bus := range []Bus{MMIO, PCI} {
		files, err := moduleFiles(from, bus)
		if err != nil {
			return err
		}
		for _, m := range files {
			if err := os.WriteFile(filepath.Join(to, m.Name+".ko"), m.Data, 0o600); err != nil {
				return diskError("filling the cache", err)
			}
		}
	}
	return nil
}
