package workload

import "fmt"

// BuiltinSealer seals small things under a key of the processor and opens them
// again, for whoever launched it (docs/sealer.md). It is a part of the measured
// program: the configuration is all that there is of such a workload.
const BuiltinSealer = "sealer"

// sealerConfig is the configuration of the sealer that Sealer gives. A byte changed
// here is another digest and another key: nothing that was sealed opens.
const sealerConfig = "builtin = \"sealer\"\n"

// Sealer is the workload of the built-in sealer.
func Sealer() *Workload {
	w := &Workload{Path: BuiltinSealer, ConfigBytes: []byte(sealerConfig), Config: &Config{Builtin: BuiltinSealer}}
	w.describeBuiltin()
	return w
}

// describeBuiltin makes manifest and digest of a workload that is its configuration.
func (w *Workload) describeBuiltin() {
	w.Manifest = Manifest{Config: describe(MediaConfig, w.ConfigBytes)}.Encode()
	w.Digest = describe("", w.Manifest).Digest
}

// checkBuiltin refuses beside builtin what a built-in does not do: to run without it
// would be to fail open.
func checkBuiltin(c *Config) error {
	switch {
	case c.Builtin == "":
		return nil
	case c.Builtin != BuiltinSealer:
		return fmt.Errorf("builtin: found %q, wanted %q", c.Builtin, BuiltinSealer)
	case len(c.Args)+len(c.Env)+len(c.HostEnv)+len(c.Data)+len(c.Scratch)+len(c.HostDirs)+len(c.Secrets)+len(c.Roles)+len(c.Collateral) > 0,
		c.HasFiles, c.HostArgs, c.DebugLog, c.Steward != "", c.StewardCA != "", c.Limits != Limits{}:
		return fmt.Errorf("builtin = %q: only tee may stand beside it", c.Builtin)
	}
	return nil
}
