package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

// configReport is a configuration in JSON: the effective one, defaults filled in.
// Sizes are bytes, times are nanoseconds, 0 is no limit.
type configReport struct {
	Builtin   string         `json:"builtin,omitempty"` // what runs in place of a module
	Args      []string       `json:"args"`
	Env       []string       `json:"env"` // NAME=VALUE, as the workload sees it
	Files     []fileReport   `json:"files"`
	Limits    limitsReport   `json:"limits"`
	Data      []mountReport  `json:"data"`
	Scratch   []mountReport  `json:"scratch"`
	HostDirs  []mountReport  `json:"host_dirs"`
	Steward   string         `json:"steward,omitempty"`
	StewardCA string         `json:"steward_ca,omitempty"`
	Secrets   []secretReport `json:"secrets"`
	HostArgs  bool           `json:"host_args"` // the host adds arguments, not measured
	HostEnv   []string       `json:"host_env"`  // the host sets these, not measured
	TEE       []string       `json:"tee"`       // empty: any
	DebugLog  bool           `json:"debug_log"`
	// Roles are those of which the host chooses one, not measured; where there are any,
	// files has the entries of all of them.
	Roles      []string `json:"roles,omitempty"`
	Collateral []string `json:"collateral,omitempty"`
}

type fileReport struct {
	FD         int    `json:"fd"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Prot       string `json:"prot,omitempty"`
	Addr       string `json:"addr,omitempty"`
	Host       string `json:"host,omitempty"`
	Port       uint16 `json:"port,omitempty"`
	ClientCA   string `json:"client_ca,omitempty"`
	ClientAuth string `json:"client_auth,omitempty"`
	CA         string `json:"ca,omitempty"`
	Evidence   bool   `json:"evidence,omitempty"`
	Attest     string `json:"attest,omitempty"`
	MaxAge     int64  `json:"max_age,omitempty"`
	PeerHeader string `json:"peer_header,omitempty"`
	Role       string `json:"role,omitempty"`
}

type limitsReport struct {
	Memory   uint64 `json:"memory"`
	CPUTime  int64  `json:"cpu_time"`
	WallTime int64  `json:"wall_time"`
	Output   uint64 `json:"output"`
}

type mountReport struct {
	Path  string `json:"path,omitempty"`
	Guest string `json:"guest"`
	Size  uint64 `json:"size,omitempty"`
}

type secretReport struct {
	Name string `json:"name"`
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"`
}

func reportConfig(c *workload.Config) *configReport {
	r := &configReport{Builtin: c.Builtin, Args: append([]string{}, c.Args...), Env: c.Environ(), Files: []fileReport{}, Data: []mountReport{},
		Scratch: []mountReport{}, HostDirs: []mountReport{}, Secrets: []secretReport{}, TEE: append([]string{}, c.TEE...),
		Steward: c.Steward, StewardCA: c.StewardCA, DebugLog: c.DebugLog, Roles: c.Roles, Collateral: c.Collateral,
		HostArgs: c.HostArgs, HostEnv: append([]string{}, c.HostEnv...),
		Limits: limitsReport{c.Limits.Memory, int64(c.Limits.CPUTime), int64(c.Limits.WallTime), c.Limits.Output}}
	for i, f := range guestFiles(c) {
		r.Files = append(r.Files, fileReport{i, f.Kind, f.Name, f.Prot, f.Addr, f.Host, f.Port, f.ClientCA, f.ClientAuth, f.CA, f.Evidence, f.Attest, int64(f.MaxAge), f.PeerHeader, f.Role})
	}
	for _, d := range c.Data {
		r.Data = append(r.Data, mountReport{Path: d.Path, Guest: d.Guest})
	}
	for _, s := range c.Scratch {
		r.Scratch = append(r.Scratch, mountReport{Guest: s.Guest, Size: s.Size})
	}
	for _, h := range c.HostDirs {
		r.HostDirs = append(r.HostDirs, mountReport{Guest: h.Guest})
	}
	for _, s := range c.Secrets {
		r.Secrets = append(r.Secrets, secretReport(s))
	}
	return r
}

// guestFiles are the descriptors of the guest; a built-in has no guest.
func guestFiles(c *workload.Config) []workload.File {
	if c.Builtin != "" {
		return nil
	}
	return c.Descriptors()
}

// printConfig says in words what a configuration asks for: one fact a line, its
// kind in the first column.
func printConfig(w io.Writer, c *workload.Config) {
	line := func(kind, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", kind, oneLine(fmt.Sprintf(format, args...)))
	}
	if c.Builtin != "" {
		line("built-in", "%s, a part of donjon-keep; no module runs", c.Builtin)
	}
	if len(c.Args) > 0 {
		line("args", "%q", c.Args)
	}
	for _, kv := range c.Environ() {
		line("env", "%q", kv)
	}
	if c.HostArgs {
		line("host args", "the host adds arguments of its choice, which the digest does not cover")
	}
	if len(c.HostEnv) > 0 {
		line("host env", "%q are set by the host to what it likes, which the digest does not cover", c.HostEnv)
	}
	if len(c.Roles) > 0 {
		line("roles", "%s: the host chooses one for each Keep, which the evidence shows", strings.Join(c.Roles, ", "))
	}
	for i, f := range guestFiles(c) {
		n := strconv.Itoa(i)
		if c.Role() == "" && len(c.Roles) > 0 {
			n = "?" // counted in each role on its own
		}
		line("fd "+n, "%s", describeFile(f))
	}
	for _, p := range c.Collateral {
		line("collateral", "%s, vendor data for judging other Keeps", p)
	}
	for _, d := range c.Data {
		line("data", "%s, read-only, measured, from %s", d.Guest, d.Path)
	}
	for _, s := range c.Scratch {
		line("scratch", "%s, %d bytes at most, in the Keep's memory", s.Guest, s.Size)
	}
	for _, h := range c.HostDirs {
		line("host folder", "%s, which the host reads and writes: for development alone", h.Guest)
	}
	for _, l := range describeLimits(c.Limits) {
		line("limit", "%s", l)
	}
	if c.Steward != "" {
		roots := "nobody: it needs steward_ca"
		if c.StewardCA != "" {
			roots = c.StewardCA
		}
		line("steward", "%s, known by %s", c.Steward, roots)
	}
	for _, s := range c.Secrets {
		place := "variable " + s.Env
		if s.File != "" {
			place = "file " + s.File
		}
		line("secret", "%s into %s", s.Name, place)
	}
	if len(c.TEE) > 0 {
		line("runs in", "%s, and nowhere else", strings.Join(c.TEE, ", "))
	}
	if c.DebugLog {
		line("debug log", "the warden's log is in words, which the host reads")
	}
}

func describeFile(f workload.File) string {
	s := describeEntry(f)
	if f.Role != "" {
		s += ", in the role " + f.Role + " alone"
	}
	return s
}

func describeEntry(f workload.File) string {
	switch f.Kind {
	case "listen":
		s := fmt.Sprintf("listener %q on %s, %s", f.Name, net.JoinHostPort(f.Addr, strconv.Itoa(int(f.Port))), describeProt(f.Prot))
		switch f.ClientAuth {
		case "request":
			s += ", asks clients for a certificate of " + f.ClientCA
		case "require":
			s += ", demands of clients a certificate of " + f.ClientCA
		case "any":
			s += ", demands of clients a certificate, of whomever"
		}
		if f.Attest != "" {
			s += fmt.Sprintf(", serves Keeps alone that %s admits, each connection for %s at most", f.Attest, f.MaxAge)
		}
		if f.PeerHeader != "" {
			s += ", tells the workload who each client is (" + f.PeerHeader + ")"
		}
		if f.Evidence {
			s += ", the Keep itself answers for /.well-known/donjon/evidence"
		}
		return s
	case "connect":
		s := fmt.Sprintf("connection %q to %s, %s", f.Name, net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))), describeProt(f.Prot))
		if f.Attest != "" {
			s += fmt.Sprintf(", the peer a Keep that %s admits, for %s at most", f.Attest, f.MaxAge)
		} else if f.CA != "" {
			s += ", the peer known by " + f.CA
		} else if f.Prot == "tls" {
			s += ", the peer known by Mozilla's roots"
		}
		return s
	case "null":
		return fmt.Sprintf("nothing, named %q", f.Name)
	}
	return fmt.Sprintf("%s, named %q", f.Kind, f.Name)
}

func describeProt(prot string) string {
	if prot == "tls" {
		return "TLS 1.3 that ends in the Keep"
	}
	return "plain TCP that the host reads"
}

func describeLimits(l workload.Limits) []string {
	var out []string
	if l.Memory > 0 {
		out = append(out, fmt.Sprintf("%d bytes of memory", l.Memory))
	}
	if l.CPUTime > 0 {
		out = append(out, fmt.Sprintf("%s of processor time", l.CPUTime))
	}
	if l.WallTime > 0 {
		out = append(out, fmt.Sprintf("%s of time", l.WallTime))
	}
	if l.Output > 0 {
		out = append(out, fmt.Sprintf("%d bytes of output", l.Output))
	}
	return out
}

// workloadReport is a workload in JSON.
type workloadReport struct {
	Kind       string          `json:"kind"` // workload
	Path       string          `json:"path"`
	Digest     string          `json:"digest"`
	Manifest   json.RawMessage `json:"manifest"`      // re-indented: hash manifest_text, not this
	Text       string          `json:"manifest_text"` // the exact bytes that the digest is of
	ConfigTOML string          `json:"config_toml"`   // the exact bytes of the effective configuration
	Config     *configReport   `json:"config"`
	Layers     []layerReport   `json:"layers"`
	// What the flags gave and the digest does not cover (host_args, host_env).
	UnmeasuredArgs []string `json:"unmeasured_args,omitempty"`
	UnmeasuredEnv  []string `json:"unmeasured_env,omitempty"`
	// What stands beside the workload, which the digest does not cover.
	Signatures     []signatureReport `json:"signatures"`
	SignatureError string            `json:"signature_error,omitempty"` // the file is not in its form
}

type layerReport struct {
	What   string `json:"what"` // "module", or the path that the configuration names
	Type   string `json:"media_type"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// reportWorkload prints a loaded workload: its digest, what the digest covers,
// and the effective configuration. It is the workload half of inspect.
func (a *app) reportWorkload(w *workload.Workload, asJSON bool) error {
	m, err := workload.ParseManifest(w.Manifest)
	if err != nil {
		return err
	}
	r := workloadReport{Kind: "workload", Path: w.Path, Digest: w.Digest.String(), Manifest: w.Manifest,
		Text: string(w.Manifest), ConfigTOML: string(w.ConfigBytes), Config: reportConfig(w.Config),
		UnmeasuredArgs: w.Host.Args, UnmeasuredEnv: w.Host.Env, Signatures: []signatureReport{}}
	paths := w.Config.Paths()
	for i, l := range m.Layers {
		what := "module"
		if i > 0 {
			what = paths[i-1].Path
		}
		r.Layers = append(r.Layers, layerReport{what, l.MediaType, l.Digest.String(), l.Size})
	}
	list, err := signature.ReadFile(signature.Beside(w.Path))
	if err != nil {
		r.SignatureError = err.Error()
	}
	for _, e := range list {
		r.Signatures = append(r.Signatures, reportSignature(e, w.Digest))
	}
	if asJSON {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.stdout, "workload     %s\ndigest       %s\nmanifest     %s\n", oneLine(w.Path), r.Digest, w.Manifest)
	fmt.Fprintf(a.stdout, "config       %s, %d bytes\n", m.Config.Digest, m.Config.Size)
	for _, l := range r.Layers {
		fmt.Fprintf(a.stdout, "layer        %s, %d bytes, %s\n", l.Digest, l.Size, oneLine(l.What))
	}
	for _, s := range r.Signatures {
		fmt.Fprintf(a.stdout, "signature    %s\n", s)
	}
	if r.SignatureError != "" {
		fmt.Fprintf(a.stdout, "signature    not one: %s\n", oneLine(r.SignatureError))
	}
	printConfig(a.stdout, w.Config)
	for _, x := range w.Host.Args {
		fmt.Fprintf(a.stdout, "not measured argument %q, given here\n", x)
	}
	for _, x := range w.Host.Env {
		fmt.Fprintf(a.stdout, "not measured variable %q, given here\n", x)
	}
	return nil
}

// inspectWorkload loads the workload as run does, with the flags that are
// measured, and prints it.
func (a *app) inspectWorkload(name string, f workload.Flags, asJSON bool) error {
	w, err := workload.Load(name, f)
	var usage *workload.UsageError
	if errors.As(err, &usage) {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	return a.reportWorkload(w, asJSON)
}
