package workload

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Bounds of a configuration.
const (
	MaxConfig  = 1 << 20 // bytes
	maxFiles   = 128
	maxArgs    = 4096
	maxEnv     = 4096
	maxText    = 64 << 10 // bytes of one argument, value or path
	maxNamed   = 64       // data folders and files
	maxMembers = 64       // of every other list
	maxSize    = 1 << 44  // bytes of any limit: products of a number and its unit stay far from overflow
)

// Config is a parsed, checked configuration. The zero value is the configuration
// of a bare module.
type Config struct {
	Args      []string
	Env       map[string]string
	Files     []File
	HasFiles  bool // files was declared, be it empty
	Limits    Limits
	Data      []Data
	Scratch   []Scratch
	HostDirs  []HostDir
	Steward   string
	StewardCA string
	Secrets   []Secret
	HostArgs  bool     // the host may add arguments, unmeasured
	HostEnv   []string // variables that the host may set, unmeasured
	TEE       []string
	DebugLog  bool
}

// File is one descriptor of the guest; its number is its position.
type File struct {
	Kind       string // null, stdin, stdout, stderr, listen, connect
	Name       string
	Prot       string // listen, connect: tls or tcp
	Addr       string // listen; default "::"
	Host       string // connect
	Port       uint16 // default 443 for tls, 80 for tcp
	ClientCA   string // listen, tls: authorities of client certificates, a PEM file
	ClientAuth string // listen, tls: none, request, require
	CA         string // connect, tls: the peer's authorities instead of Mozilla's
}

// Limits bound a workload; 0 is no limit of the configuration's own.
type Limits struct {
	Memory   uint64        // bytes
	CPUTime  time.Duration // processor time
	WallTime time.Duration
	Output   uint64 // bytes on stdout and stderr together
}

// Data is a measured, read-only file or folder.
type Data struct {
	Path  string // relative to the workload's folder
	Guest string // absolute, in the guest
}

// Scratch is a folder in the Keep's memory.
type Scratch struct {
	Guest string
	Size  uint64 // bytes
}

// HostDir is a folder of the host, for development in sim alone. Which folder is
// said on the command line and not measured; that there is one is measured.
type HostDir struct{ Guest string }

// Secret is a secret a Steward releases.
type Secret struct{ Name, Env, File string }

// The raw forms are what TOML is decoded into.
type rawConfig struct {
	Steward   string            `toml:"steward,omitempty"`
	StewardCA string            `toml:"steward_ca,omitempty"`
	Args      []string          `toml:"args,omitempty"`
	Env       map[string]string `toml:"env,omitempty"`
	HostArgs  bool              `toml:"host_args,omitempty"`
	HostEnv   []string          `toml:"host_env,omitempty"`
	TEE       []string          `toml:"tee,omitempty"`
	DebugLog  bool              `toml:"debug_log,omitempty"`
	Limits    rawLimits         `toml:"limits,omitempty"`
	Files     *[]rawFile        `toml:"files,omitempty"`
	Data      []rawMount        `toml:"data,omitempty"`
	Scratch   []rawMount        `toml:"scratch,omitempty"`
	HostDirs  []rawMount        `toml:"host_dirs,omitempty"`
	Secrets   []rawSecret       `toml:"secrets,omitempty"`
}

type rawLimits struct {
	Memory   string `toml:"memory,omitempty"`
	CPUTime  string `toml:"cpu_time,omitempty"`
	WallTime string `toml:"wall_time,omitempty"`
	Output   string `toml:"output,omitempty"`
}

type rawFile struct {
	Kind       string `toml:"kind"`
	Name       string `toml:"name,omitempty"`
	Prot       string `toml:"prot,omitempty"`
	Addr       string `toml:"addr,omitempty"`
	Host       string `toml:"host,omitempty"`
	Port       *int64 `toml:"port,omitempty"`
	ClientCA   string `toml:"client_ca,omitempty"`
	ClientAuth string `toml:"client_auth,omitempty"`
	CA         string `toml:"ca,omitempty"`
}

type rawMount struct {
	Path  string `toml:"path,omitempty"`
	Guest string `toml:"guest,omitempty"`
	Size  string `toml:"size,omitempty"`
}

type rawSecret struct {
	Name string `toml:"name"`
	Env  string `toml:"env,omitempty"`
	File string `toml:"file,omitempty"`
}

// A ConfigError says what is wrong with a configuration and where. Line and
// Column count from 1; 0 is unknown.
type ConfigError struct {
	File         string
	Line, Column int
	What         string
	Suggestion   string
}

func (e *ConfigError) Error() string {
	where := e.File
	if where == "" {
		where = "the configuration"
	}
	if e.Line > 0 {
		where += ":" + strconv.Itoa(e.Line)
	}
	return where + ": " + e.What
}

// Hint is what to do about it.
func (e *ConfigError) Hint() string { return e.Suggestion }

// ParseConfig parses and checks a Donjon.toml. Unknown keys are errors.
func ParseConfig(b []byte) (*Config, error) { return parse(b, "") }

func parse(b []byte, file string) (*Config, error) {
	raw, err := decode(b, file)
	if err != nil {
		return nil, err
	}
	c, err := check(raw)
	if err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	return c, nil
}

func decode(b []byte, file string) (*rawConfig, error) {
	if len(b) > MaxConfig {
		return nil, &ConfigError{File: file, What: fmt.Sprintf("found %d bytes, at most %d", len(b), MaxConfig)}
	}
	if err := bounded(b); err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	var raw rawConfig
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&raw)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		first := strict.Errors[0]
		line, col := first.Position()
		key := first.Key()
		return nil, &ConfigError{File: file, Line: line, Column: col,
			What: fmt.Sprintf("unknown key %q", strings.Join(key, ".")), Suggestion: neighbour(key)}
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, col := de.Position()
		return nil, &ConfigError{File: file, Line: line, Column: col, What: strings.TrimPrefix(de.Error(), "toml: ")}
	}
	if err != nil {
		return nil, &ConfigError{File: file, What: err.Error()}
	}
	return &raw, nil
}

// keys are the valid keys of each table, for suggestions.
var keys = map[string][]string{
	"":          {"steward", "steward_ca", "args", "env", "host_args", "host_env", "tee", "debug_log", "limits", "files", "data", "scratch", "host_dirs", "secrets"},
	"limits":    {"memory", "cpu_time", "wall_time", "output"},
	"files":     {"kind", "name", "prot", "addr", "host", "port", "client_ca", "client_auth", "ca"},
	"data":      {"path", "guest"},
	"scratch":   {"guest", "size"},
	"host_dirs": {"guest"},
	"secrets":   {"name", "env", "file"},
}

func neighbour(key []string) string {
	if len(key) == 0 {
		return ""
	}
	table, last := "", key[len(key)-1]
	if len(key) > 1 {
		table = key[0]
	}
	best, dist := "", 1<<30
	for _, k := range keys[table] {
		if d := distance(last, k); d < dist {
			best, dist = k, d
		}
	}
	if best == "" {
		return ""
	}
	if dist <= 1+len(best)/3 {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "valid keys here: " + strings.Join(keys[table], ", ")
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	if len(a) > 64 {
		return 1 << 20
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			prev, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, prev+cost)
		}
	}
	return row[len(b)]
}

func check(raw *rawConfig) (*Config, error) {
	c := &Config{Args: raw.Args, Env: raw.Env, Steward: raw.Steward, StewardCA: raw.StewardCA,
		HostArgs: raw.HostArgs, HostEnv: raw.HostEnv, TEE: raw.TEE, DebugLog: raw.DebugLog}
	if len(c.Args) > maxArgs || len(c.Env) > maxEnv || len(c.HostEnv) > maxMembers || len(c.TEE) > maxMembers {
		return nil, fmt.Errorf("too many arguments or variables: at most %d and %d", maxArgs, maxEnv)
	}
	for _, a := range c.Args {
		if err := text("an argument", a); err != nil {
			return nil, err
		}
	}
	for k, v := range c.Env {
		if k == "" || strings.ContainsAny(k, "=") {
			return nil, fmt.Errorf("env: found the name %q, wanted one that is not empty and has no '='", k)
		}
		if err := errors.Join(text("env", k), text("env."+k, v)); err != nil {
			return nil, err
		}
	}
	for _, t := range c.TEE {
		switch t {
		case "snp", "tdx", "sgx", "pef", "vm", "sim":
		default:
			return nil, fmt.Errorf("tee: found %q, wanted snp, tdx, sgx, pef, vm or sim", t)
		}
	}
	if err := checkLimits(c, raw.Limits); err != nil {
		return nil, err
	}
	if raw.Files != nil {
		c.HasFiles = true
		if len(*raw.Files) > maxFiles {
			return nil, fmt.Errorf("files: found %d, at most %d", len(*raw.Files), maxFiles)
		}
		names := map[string]bool{}
		for i, f := range *raw.Files {
			file, err := checkFile(f)
			if err == nil && file.Kind == "listen" && names[file.Name] {
				err = fmt.Errorf("the name %q is used twice", file.Name)
			}
			if err != nil {
				return nil, fmt.Errorf("files[%d]: %w", i, err)
			}
			names[file.Name] = true
			c.Files = append(c.Files, file)
		}
	}
	if err := checkMounts(c, raw); err != nil {
		return nil, err
	}
	return c, checkSteward(c, raw)
}

func text(what, s string) error {
	if len(s) > maxText || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s: found %d bytes or a zero byte, at most %d and none", what, len(s), maxText)
	}
	return nil
}

func checkLimits(c *Config, l rawLimits) (err error) {
	if c.Limits.Memory, err = ParseSize(l.Memory); err != nil {
		return fmt.Errorf("limits.memory: %w", err)
	}
	if c.Limits.Output, err = ParseSize(l.Output); err != nil {
		return fmt.Errorf("limits.output: %w", err)
	}
	if c.Limits.CPUTime, err = parseDuration(l.CPUTime); err != nil {
		return fmt.Errorf("limits.cpu_time: %w", err)
	}
	if c.Limits.WallTime, err = parseDuration(l.WallTime); err != nil {
		return fmt.Errorf("limits.wall_time: %w", err)
	}
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf(`found %q, wanted a time above 0 such as "10s" or "1m30s"`, s)
	}
	return d, nil
}

// ParseSize reads a number of bytes such as "64MiB", "1GiB", "500kB" or "4096".
// "" is 0.
func ParseSize(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	units := []struct {
		name string
		n    uint64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 44)
		if err != nil || n == 0 || n > maxSize/u.n {
			break
		}
		return n * u.n, nil
	}
	return 0, fmt.Errorf(`found %q, wanted a size above 0 and at most 16384GiB, such as "64MiB" or "1GiB"`, s)
}

func checkFile(f rawFile) (File, error) {
	out := File{Kind: f.Kind, Name: f.Name, Prot: f.Prot, Addr: f.Addr, Host: f.Host, ClientCA: f.ClientCA, ClientAuth: f.ClientAuth, CA: f.CA}
	allowed := map[string]bool{"name": true}
	switch f.Kind {
	case "null", "stdin", "stdout", "stderr":
		if out.Name == "" {
			out.Name = f.Kind
		}
	case "listen":
		for _, k := range []string{"prot", "addr", "port", "client_ca", "client_auth"} {
			allowed[k] = true
		}
		if out.Name == "" {
			return out, errors.New("a listen entry needs a name")
		}
		if out.Addr == "" {
			out.Addr = "::"
		}
	case "connect":
		for _, k := range []string{"prot", "host", "port", "ca"} {
			allowed[k] = true
		}
		if out.Host == "" {
			return out, errors.New("a connect entry needs a host")
		}
		if out.Name == "" {
			out.Name = out.Host
		}
	default:
		return out, fmt.Errorf("kind: found %q, wanted null, stdin, stdout, stderr, listen or connect", f.Kind)
	}
	for _, k := range []struct {
		name string
		set  bool
	}{{"prot", f.Prot != ""}, {"addr", f.Addr != ""}, {"host", f.Host != ""}, {"port", f.Port != nil},
		{"client_ca", f.ClientCA != ""}, {"client_auth", f.ClientAuth != ""}, {"ca", f.CA != ""}} {
		if k.set && !allowed[k.name] {
			return out, fmt.Errorf("a %s entry has no %s", f.Kind, k.name)
		}
	}
	if strings.Contains(out.Name, ":") && f.Name != "" {
		return out, fmt.Errorf("name: found %q, wanted one without ':'", out.Name)
	}
	if err := errors.Join(text("name", out.Name), text("host", out.Host), text("addr", out.Addr)); err != nil {
		return out, err
	}
	if f.Kind == "listen" || f.Kind == "connect" {
		switch f.Prot {
		case "tls":
			out.Port = 443
		case "tcp":
			out.Port = 80
		default:
			return out, fmt.Errorf("prot: found %q, wanted tls or tcp", f.Prot)
		}
		if f.Prot != "tls" && (f.ClientCA != "" || f.ClientAuth != "" || f.CA != "") {
			return out, errors.New(`certificates belong to prot = "tls"`)
		}
	}
	if f.Port != nil {
		if *f.Port < 1 || *f.Port > 65535 {
			return out, fmt.Errorf("port: found %d, wanted 1 to 65535", *f.Port)
		}
		out.Port = uint16(*f.Port)
	}
	switch f.ClientAuth {
	case "", "none":
		if f.ClientAuth == "" && f.ClientCA != "" {
			out.ClientAuth = "request"
		}
	case "request", "require":
		if f.ClientCA == "" {
			return out, errors.New("client_auth needs client_ca")
		}
	default:
		return out, fmt.Errorf("client_auth: found %q, wanted none, request or require", f.ClientAuth)
	}
	return out, nil
}

func checkMounts(c *Config, raw *rawConfig) error {
	if len(raw.Data) > maxNamed || len(raw.Scratch) > maxMembers || len(raw.HostDirs) > maxMembers {
		return errors.New("too many data, scratch or host_dirs entries")
	}
	for _, m := range raw.Data {
		if !local(m.Path) {
			return fmt.Errorf("data: path: found %q, wanted a clean relative path inside the workload's folder", m.Path)
		}
		if m.Size != "" {
			return errors.New("data: a measured folder has no size")
		}
		c.Data = append(c.Data, Data{Path: m.Path, Guest: m.Guest})
	}
	for _, m := range raw.Scratch {
		size, err := ParseSize(m.Size)
		if err != nil || m.Path != "" {
			return errors.Join(errors.New("scratch: guest and size alone"), err)
		}
		if size == 0 {
			size = 64 << 20
		}
		c.Scratch = append(c.Scratch, Scratch{Guest: m.Guest, Size: size})
	}
	for _, m := range raw.HostDirs {
		if m.Path != "" || m.Size != "" {
			return errors.New("host_dirs: guest alone; which folder it is belongs on the command line (--dir HOST::GUEST)")
		}
		c.HostDirs = append(c.HostDirs, HostDir{Guest: m.Guest})
	}
	var guests []string
	for _, d := range c.Data {
		guests = append(guests, d.Guest)
	}
	for _, s := range c.Scratch {
		guests = append(guests, s.Guest)
	}
	for _, g := range guests {
		if !path.IsAbs(g) || path.Clean(g) != g || g == "/" {
			return fmt.Errorf("guest: found %q, wanted a clean absolute path below /", g)
		}
	}
	for _, h := range c.HostDirs {
		if h.Guest == "" {
			return errors.New("host_dirs: guest is empty")
		}
		guests = append(guests, h.Guest)
	}
	sort.Strings(guests)
	for i := 1; i < len(guests); i++ {
		if guests[i] == guests[i-1] {
			return fmt.Errorf("guest: %q is mounted twice", guests[i])
		}
	}
	for _, p := range c.Paths() {
		if !local(p.Path) {
			return fmt.Errorf("found the path %q, wanted a clean relative path inside the workload's folder", p.Path)
		}
	}
	return nil
}

// local says whether a path is clean, relative and stays inside its folder.
func local(p string) bool {
	return p != "" && len(p) <= 4096 && path.Clean(p) == p && !path.IsAbs(p) && p != "." && p != ".." &&
		!strings.HasPrefix(p, "../") && !strings.ContainsAny(p, "\\\x00")
}

func checkSteward(c *Config, raw *rawConfig) error {
	if c.Steward != "" {
		u, err := url.Parse(c.Steward)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("steward: found %q, wanted an https URL", c.Steward)
		}
	}
	if len(raw.Secrets) > maxMembers {
		return fmt.Errorf("secrets: at most %d", maxMembers)
	}
	for _, s := range raw.Secrets {
		if s.Name == "" || (s.Env == "") == (s.File == "") {
			return errors.New("secrets: each has a name and either env or file")
		}
		if err := errors.Join(text("secrets: name", s.Name), text("secrets: env", s.Env), text("secrets: file", s.File)); err != nil {
			return err
		}
		if strings.Contains(s.Env, "=") {
			return fmt.Errorf("secrets: env: found %q, wanted a name without '='", s.Env)
		}
		if s.File != "" && (!path.IsAbs(s.File) || path.Clean(s.File) != s.File || s.File == "/") {
			return fmt.Errorf("secrets: file: found %q, wanted a clean absolute path below /", s.File)
		}
		c.Secrets = append(c.Secrets, Secret(s))
	}
	if len(c.Secrets) > 0 && (c.Steward == "" || c.StewardCA == "") {
		return errors.New("secrets need steward and steward_ca")
	}
	if err := checkHostKeys(c); err != nil {
		return err
	}
	if (c.Steward != "" || len(c.Secrets) > 0) && len(c.HostDirs) > 0 {
		return errors.New("host_dirs show the host what the workload writes; they are not allowed beside a Steward")
	}
	return nil
}
