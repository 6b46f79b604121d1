//go:build linux

package engine

import (
	"bytes"
	"fmt"
)

// precheck looks at the frame of a module before the engine does, for clearer
// words: is it WebAssembly at all, a component, cut short. It also says whether
// the Go toolchain made it.
func precheck(b []byte) (isGo bool, err error) {
	const hint = "wanted a WebAssembly module (WASI preview 1), as made by GOOS=wasip1, clang --target=wasm32-wasi or rustc --target wasm32-wasi"
	switch {
	case len(b) == 0:
		return false, &ModuleError{What: "the module is empty", hint: hint}
	case len(b) < 8 && bytes.HasPrefix([]byte("\x00asm\x01\x00\x00\x00"), b):
		return false, &ModuleError{What: fmt.Sprintf("the module is cut short: found %d bytes of its first 8", len(b)), hint: "fetch or build it anew"}
	}
	if len(b) < 8 || !bytes.Equal(b[:4], []byte("\x00asm")) {
		return false, &ModuleError{What: fmt.Sprintf("this is no WebAssembly module: it begins with %q", b[:min(8, len(b))]), hint: hint}
	}
	switch v := b[4:8]; {
	case bytes.Equal(v, []byte{1, 0, 0, 0}):
	case v[2] == 1 && v[3] == 0:
		return false, &ModuleError{What: "this is a WebAssembly component, and only core modules run", hint: "build for WASI preview 1 (wasm32-wasip1), not preview 2"}
	default:
		return false, &ModuleError{What: fmt.Sprintf("WebAssembly version: found % x, wanted 01 00 00 00", v), hint: hint}
	}
	rest := b[8:]
	for len(rest) > 0 {
		id := rest[0]
		n, used, ok := uleb32(rest[1:])
		if !ok || uint64(len(rest)) < 1+uint64(used)+uint64(n) {
			return false, &ModuleError{What: fmt.Sprintf("the module is cut short: section %d at byte %d reaches beyond the file's end", id, len(b)-len(rest)), hint: "fetch or build it anew"}
		}
		body := rest[1+used : 1+used+int(n)]
		if id == 0 && (bytes.HasPrefix(body, []byte("\x0ago:buildid")) || bytes.HasPrefix(body, []byte("\x09producers")) && bytes.Contains(body, []byte("\x02Go"))) {
			isGo = true
		}
		rest = rest[1+used+int(n):]
	}
	return isGo, nil
}

// uleb32 reads an unsigned LEB128 number of at most 32 bits.
func uleb32(b []byte) (v uint32, used int, ok bool) {
	for i := 0; i < 5 && i < len(b); i++ {
		if i == 4 && b[i] > 0x0f {
			return 0, 0, false
		}
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1, true
		}
	}
	return 0, 0, false
}
