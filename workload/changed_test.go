package workload

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
)

// T16: what is handed over is the copy that was hashed, whatever becomes of the
// files in the meantime.
func TestT16BytesChangedAfterHashing(t *testing.T) {
	dir := golden(t)
	w, err := Load(dir, Flags{})
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Join(w.Blobs(), nil)
	for _, name := range []string{"main.wasm", "Donjon.toml", "b.txt", "data/a.txt"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("!"), 0); err != nil { // in place: a mapping would see it
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bytes.Join(w.Blobs(), nil), before) {
		t.Error("the bytes that are handed over changed with the files")
	}
	m, err := ParseManifest(w.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if sha256.Sum256(w.Blobs()[i]) != d.Digest {
			t.Errorf("blob %d is not what the manifest names", i)
		}
	}
	again, err := Load(dir, Flags{})
	if err == nil && again.Digest == w.Digest {
		t.Error("changed files have the old digest")
	}
}
