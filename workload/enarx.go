package workload

import (
	"errors"
	"fmt"
	"strings"
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
	if err := decodeStrictly(b, file, &e, enarxKeys); err != nil {
		var c *ConfigError
		if errors.As(err, &c) && strings.HasPrefix(c.What, "unknown key") && !strings.HasPrefix(c.Suggestion, "did you mean") {
			c.Suggestion += "; what Donjon adds belongs in a Donjon.toml"
		}
		return nil, err
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
