package enrol

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/authority"
	"github.com/donjon-tee/donjon/steward/store"
)

// Document is a workload's policy at the Steward: what evidence must show, in the
// form of attest/policy, and at its end the table [steward] with what is granted to
// evidence that shows it.
type Document struct {
	Policy *policy.Policy
	Grant  Grant
	Text   []byte
	Digest audit.Digest // of Text
}

// Grant is the table [steward].
type Grant struct {
	// DNS are the names in the certificate. Absent: none.
	DNS []string `toml:"dns"`
	// Validity of the certificate, "1m" to "30d". Absent: "24h".
	Validity policy.Duration `toml:"validity"`
	// MaxInstances is how many Keeps may hold a certificate at once. Absent: any number.
	MaxInstances int `toml:"max_instances"`
	// Platforms are the machines that secrets are released to: "any",
	// "simulated:ROOT" (SHA-256 of a simulated root), "chip:ID" (SEV-SNP), "vlek:CSP"
	// (a cloud provider's), "sgx:ID" (a platform instance, SGX and TDX). Absent: none,
	// and no secret is released (THREATS T11).
	Platforms []string `toml:"platforms"`
	// Audience is who may accept the token. Absent: the trust domain.
	Audience string `toml:"audience"`
	// Signed makes it the policy of what a signer signs under a name. Absent: it is a
	// workload digest's.
	Signed *Signed `toml:"signed"`
}

// AnyPlatform is the platform that stands for all, and what is accepted with it.
const (
	AnyPlatform = "any"
	AnyAccepts  = `platforms = ["any"]: whoever can open one genuine machine (a memory interposer, a glitch) gets these secrets, from any place in the world`
)

// RemovedPolicy is the policy of a workload that was taken away: it admits nothing,
// and who asks is answered as if the workload had never been allowed.
const RemovedPolicy = "# The workload was removed: nothing is admitted.\nversion = 1\nworkloads = []\n[snp]\nlaunch_digests = []\n"

// table is the line that parts the policy from the grant.
var table = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\[steward\][ \t]*(#.*)?\r?$`) })

// ParseDocument reads a policy.
func ParseDocument(text []byte) (*Document, error) {
	if len(text) > policy.MaxSize {
		return nil, fmt.Errorf("policy: found %d bytes, at most %d", len(text), policy.MaxSize)
	}
	d := &Document{Text: bytes.Clone(text), Digest: sha256.Sum256(text)}
	front, lines := d.Text, 0
	if at := table().FindIndex(d.Text); at != nil {
		var grant struct {
			Steward Grant `toml:"steward"`
		}
		front, lines = d.Text[:at[0]], bytes.Count(d.Text[:at[0]], []byte("\n"))
		dec := toml.NewDecoder(bytes.NewReader(d.Text[at[0]:]))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&grant); err != nil {
			return nil, grantError(err, lines)
		}
		d.Grant = grant.Steward
	}
	var err error
	if d.Policy, err = policy.Parse(front); err != nil {
		return nil, err
	}
	if d.Grant.Signed != nil && d.Policy.Workloads != nil {
		return nil, errors.New("policy: found workloads beside [steward.signed], wanted one of them: what is signed says which workloads")
	}
	if d.Policy.Freshness == policy.FreshnessNone {
		return nil, errors.New(`policy: found freshness = "none", wanted "nonce": at enrolment evidence answers a challenge`)
	}
	return d, d.Grant.check()
}

func grantError(err error, lines int) error {
	var at *toml.DecodeError
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		at = &strict.Errors[0]
		row, col := at.Position()
		return &policy.Error{Line: row + lines, Column: col, Err: fmt.Errorf("unknown key %s", strings.Join(at.Key(), "."))}
	}
	if errors.As(err, &at) {
		row, col := at.Position()
		return &policy.Error{Line: row + lines, Column: col, Err: errors.New(strings.TrimPrefix(at.Error(), "toml: "))}
	}
	return &policy.Error{Err: err}
}

func (g *Grant) check() error {
	if len(g.DNS) > 64 {
		return fmt.Errorf("policy: [steward] dns: found %d names, at most 64", len(g.DNS))
	}
	for _, n := range g.DNS {
		if _, err := authority.DNSName(n); err != nil {
			return fmt.Errorf("policy: [steward] dns: %w", err)
		}
	}
	if v := time.Duration(g.Validity); v != 0 && (v < authority.MinValidity || v > authority.MaxValidity) {
		return fmt.Errorf("policy: [steward] validity: found %s, wanted %s to 30 days", v, authority.MinValidity)
	}
	if g.MaxInstances < 0 || g.MaxInstances > store.MaxPlaces {
		return fmt.Errorf("policy: [steward] max_instances: found %d, wanted 1 to %d, or none", g.MaxInstances, store.MaxPlaces)
	}
	if len(g.Platforms) > 4096 {
		return fmt.Errorf("policy: [steward] platforms: found %d, at most 4096", len(g.Platforms))
	}
	for i, p := range g.Platforms {
		n, err := platformName(p)
		if err != nil {
			return fmt.Errorf("policy: [steward] platforms: %w", err)
		}
		g.Platforms[i] = n
	}
	if len(g.Audience) > 256 {
		return errors.New("policy: [steward] audience: more than 256 bytes")
	}
	if g.Signed != nil {
		return g.Signed.check()
	}
	return nil
}

func platformName(p string) (string, error) {
	kind, id, _ := strings.Cut(p, ":")
	sizes := map[string][]int{"simulated": {32}, "chip": {64, 8}, "sgx": {16}}
	if p == AnyPlatform || kind == "vlek" && id != "" && len(id) <= 256 {
		return p, nil
	}
	b, err := hex.DecodeString(id)
	if want := sizes[kind]; err != nil || !slices.Contains(want, len(b)) || bytes.Count(b, []byte{0}) == len(b) {
		return "", fmt.Errorf(`found %q, wanted "any", "simulated:SHA-256", "chip:ID", "vlek:PROVIDER" or "sgx:ID"`, p)
	}
	return kind + ":" + hex.EncodeToString(b), nil
}

// platformsOf are the names under which a list may have the machine of genuine
// evidence.
func platformsOf(c *claims.Claims) []string {
	if c == nil {
		return nil
	}
	var out []string
	if c.Root.Simulated { // whatever else a simulated report says, nobody vouches for
		return []string{"simulated:" + c.Root.SHA256.String()}
	}
	if s := c.SNP; s != nil {
		if chip := []byte(s.ChipID); bytes.Count(chip, []byte{0}) < len(chip) {
			out = append(out, "chip:"+hex.EncodeToString(chip))
			if len(chip) == 64 && s.Product == "Turin" { // its hardware id has 8 bytes
				out = append(out, "chip:"+hex.EncodeToString(chip[:8]))
			}
		}
		if s.CSP != "" {
			out = append(out, "vlek:"+s.CSP)
		}
	}
	if i := c.Intel; i != nil && len(i.PlatformInstanceID) > 0 {
		out = append(out, "sgx:"+i.PlatformInstanceID.String())
	}
	return out
}

// platformCheck holds the machine against the list. A grant without a list gets a
// check that was not made and that only secrets demand.
func (g *Grant) platformCheck(c *claims.Claims, secrets bool) verdict.Check {
	const source = "policy: [steward] platforms"
	have := platformsOf(c)
	found := strings.Join(have, ", ")
	if found == "" {
		found = "a machine that hides which one it is"
	}
	if g.Platforms == nil {
		k := verdict.Skip(verdict.Platforms, "the policy names no platforms: "+found, `name them, or "any", where secrets are released: donjon steward workload allow --platforms`).From(source)
		k.Informal = !secrets
		return k
	}
	if slices.Contains(g.Platforms, AnyPlatform) {
		return verdict.Pass(verdict.Platforms, found+"; the policy admits any").From(source)
	}
	for _, h := range have {
		if slices.Contains(g.Platforms, h) {
			return verdict.Pass(verdict.Platforms, h).From(source)
		}
	}
	return verdict.Fail(verdict.Platforms, found, "one of the platforms that the policy names").From(source)
}

func (g *Grant) validity() time.Duration {
	if g.Validity == 0 {
		return authority.DefaultValidity
	}
	return time.Duration(g.Validity)
}
