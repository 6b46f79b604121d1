package workload

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var testTime = time.Unix(1_700_000_000, 0)

func sample() Manifest {
	return Manifest{Config: describe(MediaConfig, nil), Layers: []Descriptor{
		describe(MediaWasm, wasm), describe(MediaFile, []byte("x")), describe(MediaFolder, []byte("y"))}}
}

func TestParseManifestRefuses(t *testing.T) {
	good := string(sample().Encode())
	if _, err := ParseManifest([]byte(good)); err != nil {
		t.Fatal(err)
	}
	bare := sample()
	bare.Layers = nil
	many := sample()
	for len(many.Layers) <= MaxLayers {
		many.Layers = append(many.Layers, describe(MediaFile, nil))
	}
	huge := sample()
	huge.Layers[1].Size, huge.Layers[2].Size = MaxData/2, MaxData/2+1
	module := sample()
	module.Layers[0].Size = MaxModule + 1
	config := sample()
	config.Config.Size = MaxConfig + 1
	negative := sample()
	negative.Layers[1].Size = -1
	first := sample()
	first.Layers[0], first.Layers[1] = first.Layers[1], first.Layers[0]
	two := sample()
	two.Layers[1].MediaType = MediaWasm
	edit := func(old, new string) string {
		out := strings.Replace(good, old, new, 1)
		if out == good {
			t.Fatalf("the sample has no %q", old)
		}
		return out
	}
	for name, b := range map[string]string{
		"empty": "", "no object": "[]", "null": "null",
		"trailing byte": good + "\n", "leading space": " " + good, "two values": good + good, "cut": good[:len(good)-1],
		"white space":     edit(`,"mediaType"`, `, "mediaType"`),
		"unknown key":     edit(`{"schemaVersion"`, `{"annotations":{},"schemaVersion"`),
		"duplicate key":   edit(`{"schemaVersion":2`, `{"schemaVersion":2,"schemaVersion":2`),
		"other case":      edit(`"schemaVersion"`, `"SchemaVersion"`),
		"other version":   edit(`:2`, `:1`),
		"other artifact":  edit(ArtifactType, "application/x"),
		"other config":    edit(MediaConfig, "application/x"),
		"upper-case hex":  edit("sha256:e3b0", "sha256:E3B0"),
		"other algorithm": edit("sha256:", "sha512:"),
		"short digest":    edit("sha256:e3", "sha256:"),
		"size as text":    edit(`"size":0`, `"size":"0"`),
		"size with zeros": edit(`"size":0`, `"size":0.0`),
		"layers null":     strings.Replace(string(bare.Encode()), "[]", "null", 1), "too many layers": string(many.Encode()), "too much data": string(huge.Encode()),
		"module too large": string(module.Encode()), "configuration too large": string(config.Encode()), "negative size": string(negative.Encode()),
		"module not first": string(first.Encode()), "two modules": string(two.Encode()),
		"too long": good + strings.Repeat(" ", MaxManifest), "nested": strings.Repeat("[", MaxManifest),
	} {
		if _, err := ParseManifest([]byte(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(sample().Encode())
	f.Add([]byte(`{"schemaVersion":2,"layers":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err == nil && !bytes.Equal(m.Encode(), b) {
			t.Errorf("accepted bytes that are not the canonical form: %q", b)
		}
	})
}
