//go:build linux

package sandbox

import (
	"context"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/unix"
)

// growing is a module that imports env.tick, grows its memory 64 times by 16
// pages, stores to the end of each and calls tick each time:
//
//	(module (import "env" "tick" (func)) (memory 1) (func (export "_start") (local i32)
//	  loop
//	    i32.const 16  memory.grow  i32.const -1  i32.eq  if unreachable end
//	    memory.size  i32.const 16  i32.shl  i32.const 1  i32.sub  i32.const 7  i32.store8
//	    call 0
//	    local.get 0  i32.const 1  i32.add  local.tee 0  i32.const 64  i32.lt_u  br_if 0
//	  end))
var growing = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // types: () → ()
	"\x02\x0c\x01\x03env\x04tick\x00\x00" + // imports
	"\x03\x02\x01\x00" + // one function
	"\x05\x03\x01\x00\x01" + // one page, no maximum
	"\x07\x0a\x01\x06_start\x00\x01" + // exports
	"\x0a\x30\x01\x2e" + "\x01\x01\x7f" + // code: one local
	"\x03\x40" + // loop
	"\x41\x10\x40\x00\x41\x7f\x46\x04\x40\x00\x0b" + // memory.grow 16; -1 → unreachable
	"\x3f\x00\x41\x10\x74\x41\x01\x6b\x41\x07\x3a\x00\x00" + // last byte = 7
	"\x10\x00" + // tick
	"\x20\x00\x41\x01\x6a\x22\x00\x41\xc0\x00\x49\x0d\x00" + // next
	"\x0b\x0b")

// runGuest compiles under ChildCompile with a cache folder and runs under
// ChildRun, with guest memory as the engine makes it.
func runGuest() error {
	ctx := context.Background()
	if _, err := Apply(ChildCompile, Options{CacheDir: os.Getenv("CACHE")}); err != nil {
		return err
	}
	cache, err := wazero.NewCompilationCacheWithDir(os.Getenv("CACHE"))
	if err != nil {
		return err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(cache))
	compiled, err := rt.CompileModule(ctx, growing)
	if err != nil {
		return err
	}
	ticks := 0
	if _, err := rt.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() { ticks++ }).Export("tick").Instantiate(ctx); err != nil {
		return err
	}
	if _, err := Apply(ChildRun, Options{}); err != nil {
		return err
	}
	// As the engine reserves guest memory and opens it as it grows.
	m, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	if err := unix.Mprotect(m[:1<<20], unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	m[1<<20-1] = 1
	if err := unix.Munmap(m); err != nil {
		return err
	}
	mod, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithStartFunctions("_start"))
	if err != nil {
		return err
	}
	if got, want := mod.Memory().Size(), uint32((1+64*16)<<16); got != want || ticks != 64 {
		return fmt.Errorf("%d bytes of memory and %d calls, wanted %d and 64", got, ticks, want)
	}
	return mod.Close(ctx)
}
