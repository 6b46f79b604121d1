package signature

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Beside is where a workload's signatures stand: Donjon.sig in a folder, x.wasm.sig
// beside x.wasm. No workload digest covers that file: the signatures are over it.
func Beside(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, "Donjon.sig")
	}
	return path + ".sig"
}

// ParseFile reads a file of signatures: at most MaxCount envelopes, a line each. It
// verifies none.
func ParseFile(b []byte) ([]*Envelope, error) {
	var out []*Envelope
	for n := 1; len(b) > 0; n++ {
		if n > MaxCount {
			return nil, fmt.Errorf("signature: found more than %d signatures", MaxCount)
		}
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		e, err := Parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out, b = append(out, e), rest
	}
	return out, nil
}

// EncodeFile is the file of some signatures.
func EncodeFile(list []*Envelope) ([]byte, error) {
	if len(list) > MaxCount {
		return nil, fmt.Errorf("signature: found %d signatures, at most %d beside a workload", len(list), MaxCount)
	}
	var out []byte
	for _, e := range list {
		b, err := e.Encode()
		if err != nil {
			return nil, err
		}
		out = append(append(out, b...), '\n')
	}
	return out, nil
}

// ReadFile reads and parses the file; none and no error where it is not there.
func ReadFile(name string) ([]*Envelope, error) {
	// Opening a named pipe would wait for its writer, so its kind is looked at first.
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("signature: %s is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	defer f.Close()
	const most = MaxCount * (MaxSize + 1)
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if len(b) > most {
		return nil, fmt.Errorf("signature: %s has more than %d bytes", name, most)
	}
	list, err := ParseFile(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}
