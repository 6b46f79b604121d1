package workload

import "path/filepath"

// ReadConfig reads and checks one configuration file without its workload. A file
// named Enarx.toml is read with Enarx's meaning; any other is a Donjon.toml.
func ReadConfig(file string) (*Config, error) {
	b, err := readBounded(file, MaxConfig)
	if err != nil {
		return nil, err
	}
	if filepath.Base(file) == "Enarx.toml" {
		return ParseEnarx(b, file)
	}
	return parse(b, file)
}
