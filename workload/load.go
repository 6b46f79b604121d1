package workload

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Flags are what the command line adds to a configuration before it is hashed;
// what host_args and host_env leave to the host goes beside it (Workload.Host).
type Flags struct {
	Config   string   // configuration beside a bare module
	Args     []string // replace args; nil leaves them
	Env      []string // K=V, each added or replaced
	Memory   string   // limits.memory and so on; "" leaves them
	CPUTime  string
	WallTime string
	Output   string
	HostDirs []string // guest side of --dir HOST::GUEST
}

func (f Flags) changes() bool {
	return f.Args != nil || len(f.Env) > 0 || f.Memory+f.CPUTime+f.WallTime+f.Output != "" || len(f.HostDirs) > 0
}

// Workload is a loaded workload: every byte is in memory, hashed after it was
// copied there (THREATS T16).
type Workload struct {
	Path        string
	Manifest    []byte
	Digest      Digest
	ConfigBytes []byte
	Config      *Config
	Module      []byte
	Layers      [][]byte // in the order of Config.Paths
	// Host is what the flags gave that the configuration leaves to the host: it
	// is not in the digest.
	Host HostInput
}

// Blobs are what the manifest names, in its order: configuration, module, layers.
func (w *Workload) Blobs() [][]byte {
	return append([][]byte{w.ConfigBytes, w.Module}, w.Layers...)
}

// ErrNotFound is wrapped where a workload or one of its files is not there.
var ErrNotFound = errors.New("not found")

// A UsageError says that the command line contradicts the workload.
type UsageError struct{ What string }

func (e *UsageError) Error() string { return e.What }

// Load reads the workload at path: a WebAssembly module, or a folder with
// main.wasm and Donjon.toml or Enarx.toml (or neither).
func Load(name string, f Flags) (*Workload, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("workload %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	w := &Workload{Path: name}
	modulePath, base := name, filepath.Dir(name)
	configPath, enarx := f.Config, false
	if info.IsDir() {
		if f.Config != "" {
			return nil, &UsageError{"--config goes with a bare module; a folder has its own Donjon.toml"}
		}
		modulePath, base = filepath.Join(name, "main.wasm"), name
		if configPath, enarx, err = configOf(name); err != nil {
			return nil, err
		}
	} else if f.Config != "" {
		base = filepath.Dir(f.Config)
		enarx = filepath.Base(f.Config) == "Enarx.toml"
	}
	if _, err := os.Stat(modulePath); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("workload %s: %w: it has no main.wasm", name, ErrNotFound)
	}
	if err := w.loadConfig(configPath, enarx, f); err != nil {
		return nil, err
	}
	if w.Module, err = readBounded(modulePath, MaxModule); err != nil {
		return nil, err
	}
	m := Manifest{Config: describe(MediaConfig, w.ConfigBytes), Layers: []Descriptor{describe(MediaWasm, w.Module)}}
	if paths := w.Config.Paths(); len(paths) > 0 {
		root, err := os.OpenRoot(base)
		if err != nil {
			return nil, fmt.Errorf("workload: %w", err)
		}
		defer root.Close()
		var total int
		for _, p := range paths {
			b, media, err := readLayer(root, p, MaxData-total)
			if err != nil {
				return nil, err
			}
			total += len(b)
			w.Layers = append(w.Layers, b)
			m.Layers = append(m.Layers, describe(media, b))
		}
	}
	w.Manifest = m.Encode()
	w.Digest = Digest(describe("", w.Manifest).Digest)
	return w, nil
}

func configOf(dir string) (file string, enarx bool, err error) {
	donjon, en := filepath.Join(dir, "Donjon.toml"), filepath.Join(dir, "Enarx.toml")
	// Lstat, and anything but "not there" counts as there: a configuration that
	// cannot be read must not become none.
	_, derr := os.Lstat(donjon)
	_, eerr := os.Lstat(en)
	hasDonjon, hasEnarx := !errors.Is(derr, fs.ErrNotExist), !errors.Is(eerr, fs.ErrNotExist)
	switch {
	case hasDonjon && hasEnarx:
		return "", false, &ConfigError{File: dir, What: "it has both a Donjon.toml and an Enarx.toml", Suggestion: "remove one of them"}
	case hasDonjon:
		return donjon, false, nil
	case hasEnarx:
		return en, true, nil
	}
	return "", false, nil
}

func (w *Workload) loadConfig(file string, enarx bool, f Flags) (err error) {
	if file != "" {
		if w.ConfigBytes, err = readBounded(file, MaxConfig); err != nil {
			return err
		}
	}
	if enarx {
		w.Config, err = ParseEnarx(w.ConfigBytes, file)
	} else {
		w.Config, err = parse(w.ConfigBytes, file)
	}
	if err != nil {
		return err
	}
	// Flags that are not measured here may still say what makes no sense.
	w.Host = w.Config.takeHost(&f)
	if _, _, err := w.Config.Input(w.Host); err != nil {
		return &UsageError{err.Error()}
	}
	if !enarx && !f.changes() {
		return nil // the exact bytes of the file are what is hashed
	}
	if err := w.Config.merge(f); err != nil {
		return err
	}
	if w.ConfigBytes, err = w.Config.Encode(); err != nil {
		return err
	}
	// What the warden will read is what counts: the merged form is checked again.
	if w.Config, err = parse(w.ConfigBytes, file); err != nil {
		return err
	}
	return nil
}

func (c *Config) merge(f Flags) error {
	// TOML is UTF-8: an encoder would put another character in place of such a
	// byte, and the workload would see what nobody gave it.
	for _, s := range slices.Concat(f.Args, f.Env, f.HostDirs) {
		if !utf8.ValidString(s) {
			return &UsageError{fmt.Sprintf("found %q, wanted UTF-8 text: arguments and environment are part of the configuration", s)}
		}
	}
	if f.Args != nil {
		c.Args = f.Args
	}
	for _, kv := range f.Env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return &UsageError{fmt.Sprintf("--env: found %q, wanted NAME=VALUE", kv)}
		}
		if c.Env == nil {
			c.Env = map[string]string{}
		}
		c.Env[k] = v
	}
	l := rawLimits{Memory: f.Memory, CPUTime: f.CPUTime, WallTime: f.WallTime, Output: f.Output}
	var o Config
	if err := checkLimits(&o, l); err != nil {
		return &UsageError{err.Error()}
	}
	if o.Limits.Memory > 0 {
		c.Limits.Memory = o.Limits.Memory
	}
	if o.Limits.Output > 0 {
		c.Limits.Output = o.Limits.Output
	}
	if o.Limits.CPUTime > 0 {
		c.Limits.CPUTime = o.Limits.CPUTime
	}
	if o.Limits.WallTime > 0 {
		c.Limits.WallTime = o.Limits.WallTime
	}
	for _, g := range f.HostDirs {
		c.HostDirs = append(c.HostDirs, HostDir{Guest: g})
	}
	return nil
}

func readBounded(name string, most int64) ([]byte, error) {
	// Opening a named pipe would wait for its writer, so its kind is looked at first.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("workload: %s is no regular file", name)
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	defer f.Close()
	return readAll(f, name, most)
}

func readAll(f fs.File, name string, most int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("workload: %s is no regular file", name)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("workload: %s has %d bytes, at most %d", name, info.Size(), most)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("workload: %s: %w", name, err)
	}
	return b, nil
}

func readLayer(root *os.Root, p NamedPath, room int) ([]byte, string, error) {
	if info, err := root.Stat(filepath.FromSlash(p.Path)); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, "", fmt.Errorf("workload: %s is neither a file nor a folder", p.Path)
	}
	f, err := root.Open(filepath.FromSlash(p.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%s, which the configuration names: %w", p.Path, ErrNotFound)
	}
	if err != nil {
		return nil, "", fmt.Errorf("workload: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("workload: %w", err)
	}
	if info.IsDir() {
		if !p.Data {
			return nil, "", &ConfigError{What: p.Path + " is a folder, wanted a file"}
		}
		sub, err := root.OpenRoot(filepath.FromSlash(p.Path))
		if err != nil {
			return nil, "", fmt.Errorf("workload: %w", err)
		}
		defer sub.Close()
		b, err := Archive(sub.FS(), p.Path, room)
		return b, MediaFolder, err
	}
	b, err := readAll(f, p.Path, int64(room))
	if err != nil {
		return nil, "", err
	}
	return b, MediaFile, noPrivateKey(p.Path, b)
}

const maxEntries = 100_000

// Archive packs a folder into one layer: an uncompressed tar, entries sorted by
// path, folders and regular files alone, no times, owners or modes but 0555 and
// 0444, so that the same files give the same bytes everywhere. Links and devices
// are refused, as is a private key.
func Archive(fsys fs.FS, name string, room int) ([]byte, error) {
	var paths []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == "." {
			return nil
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return fmt.Errorf("%s/%s is neither a file nor a folder; links are not followed", name, p)
		}
		if paths = append(paths, p); len(paths) > maxEntries {
			return fmt.Errorf("%s has more than %d entries", name, maxEntries)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	sort.Strings(paths)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, p := range paths {
		f, err := fsys.Open(p)
		if err != nil {
			return nil, fmt.Errorf("workload: %w", err)
		}
		err = archiveOne(tw, f, p, path.Join(name, p), room-buf.Len())
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	return buf.Bytes(), nil
}

func archiveOne(tw *tar.Writer, f fs.File, p, shown string, room int) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("workload: %w", err)
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: p, Mode: 0o444, Format: tar.FormatPAX}
	var b []byte
	if info.IsDir() {
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, p+"/", 0o555
	} else {
		if b, err = readAll(f, shown, int64(max(0, room))); err != nil {
			return err
		}
		if err := noPrivateKey(shown, b); err != nil {
			return err
		}
		h.Size = int64(len(b))
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("workload: %s: %w", shown, err)
	}
	_, err = tw.Write(b)
	return err
}
