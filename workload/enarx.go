package workload

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// enarxConfig is all that an Enarx.toml of Enarx 0.7 can say.
type enarxConfig struct {
	Steward string            `toml:"steward"`
	Args    []string          `toml:"args"`
	Env     map[string]string `toml:"env"`
	Files   []struct {
		Kind string `toml:"kind"`
		Name string `toml:"name"`
		Prot string `toml:"prot"`
		Addr string `toml:"addr"`
		Host string `toml:"host"`
		Port *int64 `toml:"port"`
	} `toml:"files"`
}

// ParseEnarx reads an Enarx.toml with Enarx's meaning: without files there are no
// descriptors at all. Unlike Enarx it refuses unknown keys at the top as well.
func ParseEnarx(b []byte, file string) (*Config, error) {
	if len(b) > MaxConfig {
		return nil, &ConfigError{File: file, What: fmt.Sprintf("found %d bytes, at most %d", len(b), MaxConfig)}
	}
	if err := bounded(b); err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	var e enarxConfig
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&e)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		line, col := strict.Errors[0].Position()
		return nil, &ConfigError{File: file, Line: line, Column: col,
			What:       fmt.Sprintf("unknown key %q", strings.Join(strict.Errors[0].Key(), ".")),
			Suggestion: "an Enarx.toml has steward, args, env and files; what Donjon adds belongs in a Donjon.toml"}
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, col := de.Position()
		return nil, &ConfigError{File: file, Line: line, Column: col, What: strings.TrimPrefix(de.Error(), "toml: ")}
	}
	if err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	files := []rawFile{}
	for _, f := range e.Files {
		files = append(files, rawFile{Kind: f.Kind, Name: f.Name, Prot: f.Prot, Addr: f.Addr, Host: f.Host, Port: f.Port})
	}
	c, err := check(&rawConfig{Steward: e.Steward, Args: e.Args, Env: e.Env, Files: &files})
	if err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	return c, nil
}
