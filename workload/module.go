package workload

import (
	"bytes"
	"fmt"
)

// A ModuleError says that a file is no WebAssembly module.
type ModuleError struct{ What, hint string }

func (e *ModuleError) Error() string { return e.What }

// Hint is what to do about it.
func (e *ModuleError) Hint() string { return e.hint }

// CheckModule looks at the module's first 8 bytes (WebAssembly core, 5.5.16): is it a
// core module at all. Whether it can run is what its Keep finds. A built-in has none.
// Errors: *ModuleError. Load does not ask: a run says first what else stands in its way.
func (w *Workload) CheckModule() error {
	const hint = "wanted a WebAssembly module (WASI preview 1), as made by GOOS=wasip1, clang --target=wasm32-wasi or rustc --target wasm32-wasi"
	b := w.Module
	switch {
	case w.Config.Builtin != "":
		return nil
	case len(b) == 0:
		return &ModuleError{"the module is empty", hint}
	case len(b) < 4 || string(b[:4]) != "\x00asm":
		return &ModuleError{fmt.Sprintf("this is no WebAssembly module: it begins with %q", b[:min(8, len(b))]), hint}
	case len(b) < 8:
		return &ModuleError{fmt.Sprintf("the module is cut short: found %d bytes of its first 8", len(b)), "fetch or build it anew"}
	case b[6] == 1 && b[7] == 0:
		return &ModuleError{"this is a WebAssembly component, and only core modules run", "build for WASI preview 1 (wasm32-wasip1), not preview 2"}
	case !bytes.Equal(b[4:8], []byte{1, 0, 0, 0}):
		return &ModuleError{fmt.Sprintf("WebAssembly version: found % x, wanted 01 00 00 00", b[4:8]), hint}
	}
	return nil
}
