//go:build linux

// Package engine runs one WebAssembly guest: wazero compiles and executes, the
// system interface is our own (engine/wasi), its files are engine/vfs. In a Keep
// this package lives in the exec child (engine/child) and knows nothing of links,
// keys or hosts.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/donjon-tee/donjon/engine/vfs"
	"github.com/donjon-tee/donjon/engine/wasi"
)

// FileKind is what a guest's descriptor is made of.
type FileKind = wasi.Kind

// The kinds.
const (
	Null           = wasi.Null
	Input          = wasi.Input
	Output         = wasi.Output
	Conn           = wasi.Conn
	Listener       = wasi.Listener
	SocketListener = wasi.SocketListener
)

// wazeroVersion is part of what cached code is bound to; a test compares it with
// go.mod.
const wazeroVersion = "v1.12.0"

// Build names what compiled code depends on besides module and processor.
func Build() string {
	return "wazero " + wazeroVersion + " " + runtime.GOOS + "/" + runtime.GOARCH + " " + runtime.Version() + " donjon 1"
}

// CodeDir makes the folder beneath a CacheDir in which the engine keeps the code
// that it made, one file a module, and gives its path. Its name is the engine's own
// business.
func CodeDir(cacheDir string) (string, error) {
	if _, err := wazero.NewCompilationCacheWithDir(cacheDir); err != nil {
		return "", fmt.Errorf("engine: cache: %w", err)
	}
	entries, err := os.ReadDir(cacheDir)
	if err != nil {
		return "", fmt.Errorf("engine: cache: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "wazero-") {
			return filepath.Join(cacheDir, e.Name()), nil
		}
	}
	return "", fmt.Errorf("engine: cache: the engine made no folder in %s", cacheDir)
}

// Compiles says whether this processor has a compiler; elsewhere an interpreter
// runs the guest, 50 to 400 times slower, and there is nothing to cache.
func Compiles() bool { return runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" }

// Options say how a module is compiled.
type Options struct {
	CacheDir string // folder of compiled code, trusted as it is; "" for none
	// CacheReady, where it is not nil, is closed once CacheDir holds what it will
	// hold: the module is decoded and checked in the meantime.
	CacheReady  <-chan struct{}
	Workers     int  // compiling goroutines; 0: 1
	Interpreter bool // do not compile
}

// Program is a compiled module that has not run.
type Program struct {
	rt       wazero.Runtime
	compiled wazero.CompiledModule
	system   *wasi.System
	alloc    *allocator
	isGo     bool
}

// A ModuleError says why a module cannot be run.
type ModuleError struct{ What, hint string }

func (e *ModuleError) Error() string { return e.What }

// Hint is what to do about it.
func (e *ModuleError) Hint() string { return e.hint }

// Compile checks and compiles a module. Its errors about the module are
// *ModuleError.
func Compile(ctx context.Context, module []byte, o Options) (*Program, error) {
	isGo, err := precheck(module)
	if err != nil {
		return nil, err
	}
	cfg := wazero.NewRuntimeConfig() // compiler where there is one
	if o.Interpreter {
		cfg = wazero.NewRuntimeConfigInterpreter()
	}
	cfg = cfg.WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false).WithMemoryLimitPages(65536)
	if o.CacheDir != "" && Compiles() && !o.Interpreter {
		cache, err := wazero.NewCompilationCacheWithDir(o.CacheDir)
		if err != nil {
			return nil, fmt.Errorf("engine: cache: %w", err)
		}
		cfg = cfg.WithCompilationCache(cache)
	}
	p := &Program{rt: wazero.NewRuntimeWithConfig(ctx, cfg), system: &wasi.System{}, isGo: isGo, alloc: &allocator{}}
	cctx := experimental.WithCompilationWorkers(ctx, max(1, o.Workers))
	if o.CacheReady != nil {
		cctx = gate{cctx, o.CacheReady}
	}
	if p.compiled, err = p.rt.CompileModule(cctx, module); err != nil {
		_ = p.Close()
		return nil, &ModuleError{What: "the module does not compile: " + firstLine(err), hint: "is the file cut short, or made for features beyond WebAssembly 2.0?"}
	}
	if err := p.checkShape(); err != nil {
		_ = p.Close()
		return nil, err
	}
	if err := p.system.Instantiate(ctx, p.rt); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("engine: %w", err)
	}
	return p, nil
}

// gate is a context whose values are there once it opens. The engine asks its
// context for the first time when it has decoded and checked a module, just before
// it looks into the cache (a test holds it to that).
type gate struct {
	context.Context
	open <-chan struct{}
}

func (g gate) Value(key any) any {
	<-g.open
	return g.Context.Value(key)
}

// checkShape refuses what would fail later with a worse message.
func (p *Program) checkShape() error {
	for _, f := range p.compiled.ImportedFunctions() {
		mod, name, _ := f.Import()
		if mod == wasi.ModuleName && wasi.Provides(name) {
			continue
		}
		hint := "a Keep gives a guest WASI preview 1 and nothing else"
		if mod == "wasi_unstable" {
			hint = "the module was built for a forerunner of WASI preview 1; build it anew"
		}
		return &ModuleError{What: fmt.Sprintf("the module imports %s.%s, which does not exist here", mod, name), hint: hint}
	}
	for _, m := range p.compiled.ImportedMemories() {
		mod, name, _ := m.Import()
		return &ModuleError{What: fmt.Sprintf("the module imports the memory %s.%s, which does not exist here", mod, name), hint: "a Keep gives a guest WASI preview 1 and nothing else"}
	}
	start, ok := p.compiled.ExportedFunctions()["_start"]
	if !ok || len(start.ParamTypes())+len(start.ResultTypes()) != 0 {
		return &ModuleError{What: "the module has no function _start without parameters and results", hint: "build a program (a WASI command), not a library"}
	}
	return nil
}

// Close gives up the program's memory.
func (p *Program) Close() error { return p.rt.Close(context.Background()) }

// File is a descriptor that the guest starts with; its number is its position.
type File struct {
	Name string
	Kind FileKind
	FD   int // kernel descriptor, owned by the engine from here on; not used for Null
	// Terminal: a person is at the other end, and the guest is told so.
	Terminal bool
}

// Preopen is a directory that the guest starts with, after the files.
type Preopen struct {
	Guest string
	Dir   vfs.Dir
}

// Guest is what a program runs with.
type Guest struct {
	Args, Env []string
	Files     []File
	Preopens  []Preopen
	Now       func() time.Time // nil: the system's clock
	MaxMemory uint64           // bytes of linear memory; 0: 4 GiB
}

// Outcome is how a guest ended.
type Outcome struct {
	Status        uint32
	Trap          string // why the engine stopped it; "" when it ended by itself
	MemoryRefused bool   // it asked for more memory than its limit at least once
}

// Run runs the program to its end, once.
func (p *Program) Run(ctx context.Context, g Guest) (Outcome, error) {
	if p.alloc.limit = g.MaxMemory; p.alloc.limit == 0 {
		p.alloc.limit = 4 << 30
	}
	s := p.system
	s.Args, s.Env, s.Now = g.Args, g.Env, g.Now
	defer s.Close()
	for _, f := range g.Files {
		// Go's runtime waits in poll for a listener that does not block, and
		// blocks all its goroutines on one that does; other guests expect accept
		// to wait.
		nonblock := p.isGo && (f.Kind == Listener || f.Kind == SocketListener)
		if err := s.AddKernel(f.Kind, f.FD, wasi.Traits{Nonblock: nonblock, Terminal: f.Terminal}); err != nil {
			return Outcome{}, fmt.Errorf("engine: descriptor %s: %w", f.Name, err)
		}
	}
	for _, d := range g.Preopens {
		s.AddPreopen(d.Guest, d.Dir)
	}
	ctx = experimental.WithMemoryAllocator(ctx, p.alloc)
	mod, err := p.instantiate(ctx)
	if err != nil {
		if p.alloc.refused {
			return Outcome{MemoryRefused: true, Trap: "its first memory is larger than its limit"}, nil
		}
		var exit *sys.ExitError
		if errors.As(err, &exit) {
			return Outcome{Status: exit.ExitCode()}, nil
		}
		return Outcome{Trap: trap(err)}, nil
	}
	defer mod.Close(ctx)
	s.Start()
	_, err = mod.ExportedFunction("_start").Call(ctx)
	out := Outcome{MemoryRefused: p.alloc.refused}
	var exit *sys.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		out.Status = exit.ExitCode()
	default:
		out.Trap = trap(err)
	}
	return out, nil
}

// instantiate makes the guest's memory and tables. The engine panics when an
// allocator refuses a guest's first memory: that is an error here.
func (p *Program) instantiate(ctx context.Context) (mod api.Module, err error) {
	defer func() {
		if !p.alloc.refused {
			return // another panic goes on
		}
		if r := recover(); r != nil {
			err = errors.New("its first memory was refused")
		}
	}()
	return p.rt.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
}

// trap says in one line why the engine stopped a guest; the guest's stack stays
// inside.
func trap(err error) string { return firstLine(err) }

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	s = strings.TrimPrefix(s, "wasm error: ")
	s = strings.TrimSuffix(s, " (recovered by wazero)")
	return s
}
