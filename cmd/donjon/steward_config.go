//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/steward/sealing"
	"github.com/donjon-tee/donjon/steward/server"
)

// stewardTemplate is what init writes: lines that begin with "#" alone are settings.
const stewardTemplate = `# A Steward's configuration; flags of donjon steward serve go before it.
# docs/steward.md says what each means.

# Where to answer.
#listen = "127.0.0.1:8443"

# Host names and addresses that Keeps reach this Steward by: they are in its TLS
# certificate, and no workload ever gets them.
#names = ["steward.example"]

# Trust domain of SPIFFE IDs. Default: one of this Steward's own.
#trust_domain = "example.org"

# Let policies that say so admit simulated evidence. It protects nothing.
#allow_simulated = false

# PostgreSQL, for many replicas. Default: SQLite in the state folder.
#database = "postgres://steward@db.example/steward?sslmode=verify-full"

# Vendor data beside what is stapled to evidence; read again each minute.
#collateral = ["/var/lib/donjon/collateral"]

# The log on stderr: text or json.
#log = "json"

# What one client may ask for: requests a second and at once; a refused request
# counts several times.
#[limits]
#rate = 2000.0
#burst = 4000.0
#refused_cost = 40.0
#connections = 4096
#client_connections = 512

# How long decisions are kept, in days (31d or more) or years: rows, details, and the
# clients' addresses in the log. Their hashes stay, so that the log can be verified.
# Default: for ever.
#[retention]
#decisions = "90d"

# How the keys that seal secrets are protected: file, passphrase, pkcs11 or keep. Keys
# that are there are moved by donjon steward rotate --sealing-key --sealing KIND.
#[sealing]
#kind = "pkcs11"
#token = "pkcs11:token=steward;object=donjon-sealing?module-path=/usr/lib/softhsm/libsofthsm2.so"
# A p11-kit server instead of a module.
#server = "unix:path=/run/p11-kit/steward"
# Only its owner can read it; or fd:N, and fd:0 is stdin. A PIN stands nowhere else.
#pin_file = "/etc/donjon/pin"
# Make the token's key where there is none yet, with the first sealing key.
#create = false
# Of the kind keep: the Keep that seals them, sim or vm; their processor is simulated,
# which must be allowed by name (docs/sealer.md).
#tee = "sim"
#allow_simulated = false

# Enarx's requests, under a CA of their own. They have no nonce and bind no workload.
#[enarx]
#enabled = true
#policy = "enarx-policy.toml"
#kvm = false
`

// stewardFile is steward.toml.
type stewardFile struct {
	Listen         *string  `toml:"listen"`
	Names          []string `toml:"names"`
	TrustDomain    *string  `toml:"trust_domain"`
	AllowSimulated *bool    `toml:"allow_simulated"`
	Database       *string  `toml:"database"`
	Collateral     []string `toml:"collateral"`
	Log            *string  `toml:"log"`
	Limits         struct {
		Rate              float64 `toml:"rate"`
		Burst             float64 `toml:"burst"`
		RefusedCost       float64 `toml:"refused_cost"`
		Connections       int     `toml:"connections"`
		ClientConnections int     `toml:"client_connections"`
	} `toml:"limits"`
	Retention struct {
		Decisions string `toml:"decisions"`
	} `toml:"retention"`
	Sealing stewardFileSealing `toml:"sealing"`
	Enarx   struct {
		Enabled *bool   `toml:"enabled"`
		Policy  *string `toml:"policy"`
		KVM     *bool   `toml:"kvm"`
	} `toml:"enarx"`
}

func newStewardInit(a *app) *cobra.Command {
	var state string
	c := &cobra.Command{
		Use:   "init",
		Short: "write a commented steward.toml",
		Long:  "init writes steward.toml with every key explained into the state folder. It overwrites\nnothing, and makes neither keys nor a database: serve does.",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.stewardState(state)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fail(statusFailed, err)
			}
			path := filepath.Join(dir, stewardConfig)
			file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return failHint(statusFailed, "edit it", fmt.Errorf("%s: is there already", path))
			}
			if err != nil {
				return fail(statusFailed, err)
			}
			_, err = file.WriteString(stewardTemplate)
			if cerr := file.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return fail(statusFailed, err)
			}
			fmt.Fprintln(a.stdout, printable(path))
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "", "state `FOLDER` (default: this user's)")
	return c
}

// stewardFileSealing is the table [sealing].
type stewardFileSealing struct {
	Kind    *string `toml:"kind"`
	Token   *string `toml:"token"`
	Server  *string `toml:"server"`
	PINFile *string `toml:"pin_file"`
	Create  *bool   `toml:"create"`

	TEE            *string `toml:"tee"`
	AllowSimulated *bool   `toml:"allow_simulated"`
}

// kind is what the table says or implies; "": nothing.
func (x *stewardFileSealing) kind() string {
	switch {
	case x.Kind != nil:
		return *x.Kind
	case x.Token != nil:
		return sealing.KindPKCS11
	case x.TEE != nil:
		return sealing.KindKeep
	}
	return ""
}

// merge fills from the configuration what no flag says.
func (f *serveFlags) merge(c *cobra.Command, dir string) (server.Limits, error) {
	var l server.Limits
	f.sealing.pinFlag = c.Flags().Changed("sealing-pin-file")
	path, named := f.config, f.config != ""
	if !named {
		path = filepath.Join(dir, stewardConfig)
	}
	b, err := readAtMost(path, 1<<20)
	if err != nil {
		if !named && notThere(path) {
			return l, nil
		}
		return l, err
	}
	var file stewardFile
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return l, failHint(statusUsage, "donjon steward init writes one with every key", fmt.Errorf("%s: %s", path, tomlError(err)))
	}
	set := func(flag string, into *string, v *string) {
		if v != nil && !c.Flags().Changed(flag) {
			*into = *v
		}
	}
	toggle := func(flag string, into *bool, v *bool) {
		if v != nil && !c.Flags().Changed(flag) {
			*into = *v
		}
	}
	set("listen", &f.listen, file.Listen)
	set("trust-domain", &f.trustDomain, file.TrustDomain)
	set("database", &f.database, file.Database)
	set("log", &f.logFormat, file.Log)
	set("enarx-policy", &f.enarxPolicy, file.Enarx.Policy)
	if kind := file.Sealing.kind(); kind != "" && c.Flags().Changed("sealing") && kind != f.sealing.Kind {
		file.Sealing = stewardFileSealing{} // a recovery copy is started beside it: what belongs to another kind is not this one's
	}
	set("sealing", &f.sealing.Kind, file.Sealing.Kind)
	set("sealing-token", &f.sealing.Token, file.Sealing.Token)
	set("sealing-server", &f.sealing.Server, file.Sealing.Server)
	set("sealing-pin-file", &f.sealing.PINFile, file.Sealing.PINFile)
	toggle("sealing-create", &f.sealing.create, file.Sealing.Create)
	set("sealing-tee", &f.sealing.TEE, file.Sealing.TEE)
	toggle("sealing-allow-simulated", &f.sealing.AllowSimulated, file.Sealing.AllowSimulated)
	toggle("allow-simulated", &f.allowSimulated, file.AllowSimulated)
	toggle("enarx", &f.enarx, file.Enarx.Enabled)
	toggle("enarx-kvm", &f.kvm, file.Enarx.KVM)
	if !c.Flags().Changed("name") {
		f.names = file.Names
	}
	if !c.Flags().Changed("collateral") {
		f.collateral = file.Collateral
	}
	if f.retention, err = parseDays(file.Retention.Decisions); err != nil {
		return l, fail(statusUsage, fmt.Errorf("%s: retention.decisions: %w", path, err))
	}
	x := file.Limits
	if x.Rate < 0 || x.Burst < 0 || x.RefusedCost < 0 || x.Connections < 0 || x.ClientConnections < 0 {
		return l, fail(statusUsage, fmt.Errorf("%s: limits: found a number below 0", path))
	}
	l.Rate, l.Burst, l.RefusedCost, l.Connections, l.ClientConnections = x.Rate, x.Burst, x.RefusedCost, x.Connections, x.ClientConnections
	return l, nil
}

// parseDays reads "90d" or "2y" (of 365 days); "" is 0, for ever.
func parseDays(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	unit, days := 1, strings.TrimSuffix(s, "d")
	if years, ok := strings.CutSuffix(s, "y"); ok {
		unit, days = 365, years
	}
	n, err := strconv.Atoi(days)
	if err != nil || days == s || strings.Trim(days, "0123456789") != "" || n < 1 || n > 36500/unit {
		return 0, fmt.Errorf(`found %q, wanted days or years such as "90d" or "2y", 100 years at most`, s)
	}
	d := time.Duration(n*unit) * 24 * time.Hour
	if d < server.MinRetention {
		return 0, fmt.Errorf("found %q, wanted 31d or more: certificates may be 30 days old", s)
	}
	return d, nil
}

// tomlError is one line with the place.
func tomlError(err error) string {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		row, col := strict.Errors[0].Position()
		return fmt.Sprintf("line %d, column %d: unknown key", row, col)
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, col := at.Position()
		return fmt.Sprintf("line %d, column %d: %s", row, col, at.Error())
	}
	return err.Error()
}
