package workload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Media types of a workload's manifest.
const (
	MediaManifest = "application/vnd.oci.image.manifest.v1+json"
	ArtifactType  = "application/vnd.donjon.keep.v1"
	MediaConfig   = "application/vnd.donjon.config.v1+toml"
	MediaWasm     = "application/wasm"
	MediaFile     = "application/octet-stream"
	MediaFolder   = "application/vnd.oci.image.layer.v1.tar"
)

// Bounds of a manifest and of what it names, in bytes.
const (
	MaxManifest = 256 << 10
	MaxModule   = 256 << 20
	MaxLayers   = 1024
	MaxData     = 1 << 30 // all layers after the module together
)

// Digest is a workload digest: the SHA-256 of the manifest's bytes.
type Digest [32]byte

func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// Descriptor names a blob.
type Descriptor struct {
	MediaType string
	Digest    Digest
	Size      int64
}

// Manifest is a workload's OCI image manifest (OCI image-spec v1.1, manifest.md):
// configuration, module, then the named paths in the order of Config.Paths. That of
// a built-in has no layers.
type Manifest struct {
	Config Descriptor
	Layers []Descriptor
}

type jsonDescriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type jsonManifest struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	ArtifactType  string           `json:"artifactType"`
	Config        jsonDescriptor   `json:"config"`
	Layers        []jsonDescriptor `json:"layers"`
}

func describe(media string, b []byte) Descriptor {
	return Descriptor{MediaType: media, Digest: sha256.Sum256(b), Size: int64(len(b))}
}

func (d Descriptor) json() jsonDescriptor {
	return jsonDescriptor{d.MediaType, d.Digest.String(), d.Size}
}

// Encode gives the manifest's bytes: compact JSON, keys in the order of the
// specification, nothing optional.
func (m Manifest) Encode() []byte {
	j := jsonManifest{SchemaVersion: 2, MediaType: MediaManifest, ArtifactType: ArtifactType, Config: m.Config.json(), Layers: []jsonDescriptor{}}
	for _, l := range m.Layers {
		j.Layers = append(j.Layers, l.json())
	}
	b, err := json.Marshal(j)
	if err != nil {
		panic("workload: a manifest of strings and numbers does not encode: " + err.Error())
	}
	return b
}

// ParseManifest reads a manifest that may be hostile. Only the one form that
// Encode gives is accepted, so equal workloads have equal digests.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > MaxManifest {
		return m, fmt.Errorf("workload: a manifest of %d bytes, at most %d", len(b), MaxManifest)
	}
	var j jsonManifest
	if err := json.Unmarshal(b, &j); err != nil {
		return m, fmt.Errorf("workload: the manifest is no JSON of the wanted form: %w", err)
	}
	if len(j.Layers) > MaxLayers {
		return m, fmt.Errorf("workload: a manifest with %d layers, wanted at most %d", len(j.Layers), MaxLayers)
	}
	var err error
	if m.Config, err = j.Config.parse(MaxConfig, MediaConfig); err != nil {
		return m, err
	}
	var total int64
	for i, l := range j.Layers {
		d, err := l.parse(MaxData, MediaFile, MediaFolder)
		if i == 0 {
			d, err = l.parse(MaxModule, MediaWasm)
		}
		if err != nil {
			return m, fmt.Errorf("workload: layer %d: %w", i, err)
		}
		if i > 0 {
			if total += d.Size; total > MaxData {
				return m, fmt.Errorf("workload: data of more than %d bytes", int64(MaxData))
			}
		}
		m.Layers = append(m.Layers, d)
	}
	if !bytes.Equal(m.Encode(), b) {
		return m, errors.New("workload: the manifest is not in its canonical form")
	}
	return m, nil
}

func (j jsonDescriptor) parse(most int64, media ...string) (Descriptor, error) {
	d := Descriptor{MediaType: j.MediaType, Size: j.Size}
	ok := false
	for _, t := range media {
		ok = ok || t == j.MediaType
	}
	if !ok {
		return d, fmt.Errorf("media type: found %q, wanted one of %q", j.MediaType, media)
	}
	if j.Size < 0 || j.Size > most {
		return d, fmt.Errorf("size: found %d, wanted 0 to %d", j.Size, most)
	}
	var err error
	d.Digest, err = ParseDigest(j.Digest)
	return d, err
}

// ParseDigest reads "sha256:" and 64 lower-case hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) == 7+64 && s[:7] == "sha256:" {
		if b, err := hex.DecodeString(s[7:]); err == nil {
			copy(d[:], b)
			if d.String() == s {
				return d, nil
			}
		}
	}
	return d, fmt.Errorf("digest: found %q, wanted sha256: and 64 lower-case hexadecimal digits", s)
}
