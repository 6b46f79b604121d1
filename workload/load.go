package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	if w.Config.Builtin != "" {
		return [][]byte{w.ConfigBytes}
	}
	return append([][]byte{w.ConfigBytes, w.Module}, w.Layers...)
}

// ErrNotFound is wrapped where a workload or one of its files is not there.
var ErrNotFound = errors.New("not found")

// A UsageError says that the command line contradicts the workload.
type UsageError struct{ What string }

func (e *UsageError) Error() string { return e.What }

// Load reads the workload at path: a WebAssembly module, or a folder with
// main.wasm and Donjon.toml or Enarx.toml (or neither), or with a Donjon.toml that
// names a built-in alone.
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
	_, missing := os.Stat(modulePath)
	if errors.Is(missing, fs.ErrNotExist) && configPath == "" {
		return nil, fmt.Errorf("workload %s: %w: it has no main.wasm", name, ErrNotFound)
	}
	if err := w.loadConfig(configPath, enarx, f); err != nil {
		return nil, err
	}
	if w.Config.Builtin != "" {
		if !errors.Is(missing, fs.ErrNotExist) {
			return nil, &ConfigError{File: configPath, What: fmt.Sprintf("builtin = %q runs no module, and there is %s", w.Config.Builtin, modulePath), Suggestion: "remove one of them"}
		}
		w.describeBuiltin()
		return w, nil
	}
	if errors.Is(missing, fs.ErrNotExist) {
		return nil, fmt.Errorf("workload %s: %w: it has no main.wasm", name, ErrNotFound)
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
			var missing *ConfigError
			if errors.As(err, &missing) && p.Path == w.Config.StewardCA && missing.Suggestion == "" {
				missing.Suggestion = "steward_ca is the Steward's ca.pem: copy it from its state folder to beside the configuration"
			}
			if err != nil {
				return nil, err
			}
			total += len(b)
			w.Layers = append(w.Layers, b)
			m.Layers = append(m.Layers, describe(media, b))
		}
		if _, err := w.Config.Policies(w.file); err != nil {
			return nil, err
		}
		if _, err := w.Config.VendorData(w.file); err != nil {
			return nil, err
		}
	}
	w.Manifest = m.Encode()
	w.Digest = Digest(describe("", w.Manifest).Digest)
	return w, nil
}

// file gives the bytes of a path that the configuration names.
func (w *Workload) file(name string) ([]byte, error) {
	for i, p := range w.Config.Paths() {
		if p.Path == name && i < len(w.Layers) {
			return w.Layers[i], nil
		}
	}
	return nil, fmt.Errorf("workload: %s is not among the files that the configuration names", name)
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
