package policy

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// How a Keep names another Keep, and by which clock it judges.

// Signer admits what one key has signed under one name, from a version on.
type Signer struct {
	Key        Digest `toml:"key"`  // SHA-256 of the SubjectPublicKeyInfo, 32 bytes
	Name       string `toml:"name"` // of the workload, as the signature has it
	MinVersion uint64 `toml:"min_version"`
}

// Peer is what a Keep that judges another knows beside the evidence. The caller has
// verified all of it: nothing of it is the peer's own word.
type Peer struct {
	// Own is the workload digest of the Keep that judges, 32 bytes; nil: it is no Keep.
	// Role is the role that it runs in; "": none.
	Own  Digest
	Role string
	// SPIFFE are the URIs in the certificate that the peer has proved to hold, where it
	// chains to the Steward that the judge pins.
	SPIFFE []string
	// Signed are statements about workloads whose signatures hold.
	Signed []Signed
}

// Signed is a signer's statement: this workload is version Version of Name.
type Signed struct {
	Workload Digest
	Key      Digest // SHA-256 of the signer's SubjectPublicKeyInfo
	Name     string
	Version  uint64
}

// TimeSource is where the time of judging is from, inside a Keep.
type TimeSource string

// The sources of time.
const (
	TimeOwn     TimeSource = ""        // the judge's own clock: it is no Keep
	TimeHost    TimeSource = "host"    // the clock of the Keep's host, kept from being set back too far
	TimeVouched TimeSource = "vouched" // a Steward vouched for it, to a challenge of the Keep
)

// Bounds of the lists that name peers.
const (
	maxSPIFFE  = 64
	maxSigners = 64
)

func (p *Policy) checkPeer() error {
	if p.Time != "" && p.Time != string(TimeHost) {
		return fmt.Errorf("time: found %.40q, wanted %q, or none", p.Time, TimeHost)
	}
	if p.PeerRole != "" {
		if err := evidence.CheckRole(p.PeerRole); err != nil {
			return fmt.Errorf("peer_role: %s", strings.TrimPrefix(err.Error(), "evidence: "))
		}
	}
	if len(p.SPIFFE) > maxSPIFFE || len(p.Signers) > maxSigners {
		return fmt.Errorf("spiffe, signers: found %d and %d, at most %d each", len(p.SPIFFE), len(p.Signers), maxSigners)
	}
	for _, s := range p.SPIFFE {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "spiffe" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			strings.ContainsAny(s, "?#%") || u.Port() != "" || len(u.Path) < 2 || strings.HasSuffix(u.Path, "/") || len(s) > 2048 {
			return fmt.Errorf("spiffe: found %.80q, wanted a SPIFFE ID with a path, such as spiffe://example.org/keep/name", s)
		}
	}
	for _, s := range p.Signers {
		switch {
		case len(s.Key) != 32:
			return fmt.Errorf("signers: key: found %d bytes, wanted the 32 of a key id", len(s.Key))
		case s.Name == "" || len(s.Name) > 128:
			return fmt.Errorf("signers: name: found %.40q, wanted 1 to 128 characters", s.Name)
		case s.MinVersion == 0:
			return fmt.Errorf("signers: min_version: found none, wanted the least version of %s: a signer vouches for every version he ever signed", s.Name)
		}
	}
	return nil
}

// namesWorkload says whether the policy names workloads in any form. An empty list is
// one that names none.
func (p *Policy) namesWorkload() bool {
	return p.Workloads != nil || p.SameWorkload || p.SPIFFE != nil || p.Signers != nil
}

// named is the check workload for a digest, where the policy names workloads.
func (p *Policy) named(digest claims.Hex, d Demand) verdict.Check {
	if contains(p.Workloads, digest) {
		return verdict.Pass(verdict.Workload, digest.String()).From("policy: workloads")
	}
	q := d.Peer
	if q == nil {
		q = &Peer{}
	}
	if p.SameWorkload && len(q.Own) > 0 && bytes.Equal(q.Own, digest) {
		return verdict.Pass(verdict.Workload, digest.String()+", this Keep's own workload").From("policy: same_workload")
	}
	for _, id := range p.SPIFFE {
		if slices.Contains(q.SPIFFE, id) {
			return verdict.Pass(verdict.Workload, digest.String()+", named "+id+" by this Keep's Steward").From("policy: spiffe")
		}
	}
	for _, s := range p.Signers {
		for _, has := range q.Signed {
			if bytes.Equal(has.Workload, digest) && bytes.Equal(has.Key, s.Key) && has.Name == s.Name && has.Version >= s.MinVersion {
				return verdict.Pass(verdict.Workload, fmt.Sprintf("%s, version %d of %s, signed by %s", digest, has.Version, has.Name, s.Key)).From("policy: signers")
			}
		}
	}
	if p.SameWorkload && len(q.Own) == 0 || (len(p.SPIFFE) > 0 || len(p.Signers) > 0) && d.Peer == nil {
		return verdict.Skip(verdict.Workload, digest.String()+", and nothing else that the policy names a workload by is known here",
			"same_workload and spiffe are for a Keep that judges its peer; name the digest in workloads").Want(p.workloadWanted(d)).From(p.workloadKeys())
	}
	return verdict.Fail(verdict.Workload, digest.String(), p.workloadWanted(d)).From(p.workloadKeys())
}

// workloadWanted is all that the policy names workloads by.
func (p *Policy) workloadWanted(d Demand) string {
	var any []string
	if p.Workloads != nil {
		any = append(any, oneOf(p.Workloads))
	}
	if p.SameWorkload {
		own := "this Keep's own"
		if d.Peer != nil && len(d.Peer.Own) > 0 {
			own += ", " + d.Peer.Own.String()
		}
		any = append(any, own)
	}
	if p.SPIFFE != nil {
		any = append(any, "one that the Steward named "+wantOne(p.SPIFFE))
	}
	if p.Signers != nil {
		signed := make([]string, len(p.Signers))
		for i, s := range p.Signers {
			signed[i] = fmt.Sprintf("%s of version %d or newer, signed by %s", s.Name, s.MinVersion, s.Key)
		}
		any = append(any, wantOne(signed))
	}
	return strings.Join(any, "; or ")
}

func (p *Policy) workloadKeys() string {
	var keys []string
	for _, k := range []struct {
		name string
		set  bool
	}{{"workloads", p.Workloads != nil}, {"same_workload", p.SameWorkload}, {"spiffe", p.SPIFFE != nil}, {"signers", p.Signers != nil}} {
		if k.set {
			keys = append(keys, k.name)
		}
	}
	return "policy: " + strings.Join(keys, ", ")
}

// peerRole compares the role, and refuses the judge's own: a Keep that is wired to
// another one of its part would take its own side's word for the other's.
func (p *Policy) peerRole(c *claims.Claims, d Demand) verdict.Check {
	const source = "docs/keep-to-keep.md, roles"
	role := ""
	if c.Keep != nil {
		role = c.Keep.Role
	}
	if q := d.Peer; q != nil && q.Role != "" && role == q.Role && c.Keep != nil && bytes.Equal(c.Keep.WorkloadDigest, q.Own) {
		return verdict.Fail(verdict.PeerRole, q.Role+", this Keep's own role", "another role of this workload").From(source).
			Advise("the Keep is connected to another one in its own role")
	}
	switch found := role; {
	case p.PeerRole == "":
		return verdict.Check{}
	case c.Keep != nil && role == p.PeerRole:
		return verdict.Pass(verdict.PeerRole, role).From("policy: peer_role")
	default:
		if found == "" {
			found = "no role"
		}
		return verdict.Fail(verdict.PeerRole, found, p.PeerRole).From("policy: peer_role").
			Advise("the host chooses the role that a Keep runs in: donjon run --role")
	}
}

// timeSource says by whose clock a Keep judges (THREATS T10).
func (p *Policy) timeSource(d Demand) verdict.Check {
	const source = "docs/keep-to-keep.md, time"
	switch d.TimeSource {
	case TimeOwn:
		return verdict.Check{}
	case TimeVouched:
		return verdict.Pass(verdict.TimeSource, "this Keep's Steward vouched for the time").From(source)
	}
	k := verdict.Skip(verdict.TimeSource, "the clock of this Keep's host, which may hide that something has expired",
		`a Steward vouches for the time; time = "host" does without`).Want("the time from more than the host").From(source)
	if p.Time == string(TimeHost) {
		k.Waived = `the policy says time = "host"`
	}
	return k
}

// describePeer explains the keys of this file.
func (p *Policy) describePeer() []string {
	var out []string
	add := func(f string, a ...any) { out = append(out, fmt.Sprintf(f, a...)) }
	if p.SameWorkload {
		add("workload: the one of the Keep that judges")
	}
	for _, id := range p.SPIFFE {
		add("workload: one whose certificate is of the Steward that the judging Keep pins, for %s", id)
	}
	for _, s := range p.Signers {
		add("workload: one that %s has signed as %s, version %d or newer", s.Key, s.Name, s.MinVersion)
	}
	if p.PeerRole != "" {
		add("role: the Keep runs as %s, by its own word", p.PeerRole)
	}
	if p.Time == string(TimeHost) {
		add("time: a Keep that judges may go by its host's clock alone")
	}
	return out
}
