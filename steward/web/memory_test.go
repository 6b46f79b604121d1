package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// memory is a Store in memory, for the tests. It counts what is read beside tokens
// and sessions, and fails where err is set.
type memory struct {
	mu        sync.Mutex
	details   []store.DecisionDetail // by Seq, ascending
	work      []store.Workload
	policies  []store.Policy
	secrets   []store.Secret
	certs     []store.CertificateRow // by NotAfter
	leases    []store.Lease
	tokens    []store.Token
	values    map[string]store.Value
	suspended bool
	err       error
	reads     int
	conflicts int // PutValue calls to refuse
	appended  []audit.Record
	appendErr error
}

func (m *memory) read() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	return m.err
}

func (m *memory) Decisions(_ context.Context, f store.DecisionFilter) ([]store.DecisionRow, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	var out []store.DecisionRow
	for i := len(m.details) - 1; i >= 0 && len(out) < f.Limit; i-- {
		d := m.details[i].DecisionRow
		if f.Before != 0 && d.Seq >= f.Before || f.Workload != "" && d.Workload != f.Workload || f.Instance != "" && d.Instance != f.Instance ||
			f.TEE != "" && d.TEE != f.TEE || f.Outcome != "" && d.Outcome != f.Outcome || f.Simulated != nil && d.Simulated != *f.Simulated ||
			!f.From.IsZero() && d.At.Before(f.From) || !f.To.IsZero() && !d.At.Before(f.To) {
			continue
		}
		out = append(out, d)
	}
	return out, nil
}

func (m *memory) Append(_ context.Context, r audit.Record, by store.Actor) (store.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Who = by.Who
	m.appended = append(m.appended, r)
	return store.Receipt{}, m.appendErr
}

func (m *memory) Decision(_ context.Context, seq uint64) (*store.DecisionDetail, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	for _, d := range m.details {
		if d.Seq == seq {
			return &d, nil
		}
	}
	return nil, fmt.Errorf("%w: decision %d", store.ErrNotFound, seq)
}

func (m *memory) Counts(_ context.Context, from, to time.Time, span store.Span) ([]store.Count, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	by := map[store.Count]uint64{}
	for _, d := range m.details {
		if d.At.Before(from) || !d.At.Before(to) {
			continue
		}
		by[store.Count{Start: d.At.Truncate(time.Duration(span)), TEE: d.TEE, Outcome: d.Outcome}]++
	}
	var out []store.Count
	for k, n := range by {
		k.N = n
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b store.Count) int { return a.Start.Compare(b.Start) })
	return out, nil
}

func (m *memory) Workload(_ context.Context, digest string) (*store.Workload, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	for _, w := range m.work {
		if w.Digest == digest {
			return &w, nil
		}
	}
	return nil, store.ErrNotFound
}

func (m *memory) Workloads(_ context.Context, after string, limit int) ([]store.Workload, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	var out []store.Workload
	for _, w := range m.work {
		if w.Digest > after && len(out) < limit {
			out = append(out, w)
		}
	}
	return out, nil
}

func (m *memory) Policy(ctx context.Context, workload string) (*store.Policy, error) {
	list, err := m.Policies(ctx, workload, 1)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, store.ErrNotFound
	}
	return &list[0], nil
}

func (m *memory) PolicyVersion(_ context.Context, workload string, version uint64) (*store.Policy, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	for _, p := range m.policies {
		if p.Workload == workload && p.Version == version {
			return &p, nil
		}
	}
	return nil, store.ErrNotFound
}

func (m *memory) Policies(_ context.Context, workload string, limit int) ([]store.Policy, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	var out []store.Policy
	for i := len(m.policies) - 1; i >= 0 && len(out) < limit; i-- {
		if m.policies[i].Workload == workload {
			out = append(out, m.policies[i])
		}
	}
	return out, nil
}

func (m *memory) Subjects(_ context.Context, after string, limit int) ([]store.Policy, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	newest := map[string]store.Policy{}
	for _, p := range m.policies {
		newest[p.Workload] = p
	}
	var out []store.Policy
	for _, p := range newest {
		if p.Workload > after && len(out) < limit {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b store.Policy) int { return strings.Compare(a.Workload, b.Workload) })
	return out, nil
}

func (m *memory) SignedVersion(_ context.Context, signer, name string) (uint64, error) {
	if signer != acme || name != "billing" {
		return 0, m.read()
	}
	return 9, m.read()
}

func (m *memory) AllSecrets(_ context.Context, after store.SecretKey, limit int) ([]store.Secret, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	var out []store.Secret
	for _, s := range m.secrets {
		if (s.Workload > after.Workload || s.Workload == after.Workload && s.Name > after.Name) && len(out) < limit {
			out = append(out, s)
		}
	}
	return out, nil
}

func (m *memory) Certificates(_ context.Context, f store.CertificateFilter) ([]store.CertificateRow, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	var out []store.CertificateRow
	for _, c := range m.certs {
		if f.Workload != "" && c.Workload != f.Workload || !f.From.IsZero() && c.NotAfter.Before(f.From) || !f.To.IsZero() && !c.NotAfter.Before(f.To) ||
			f.After != nil && c.NotAfter.Equal(f.From) && bytes.Compare(c.Serial, f.After) <= 0 || len(out) >= f.Limit {
			continue
		}
		out = append(out, c)
	}
	return out, nil
}

func (m *memory) Certificate(_ context.Context, serial []byte) (*store.CertificateRow, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	for _, c := range m.certs {
		if bytes.Equal(c.Serial, serial) {
			return &c, nil
		}
	}
	return nil, store.ErrNotFound
}

func (m *memory) Leases(_ context.Context, workload string, now time.Time) ([]store.Lease, error) {
	if err := m.read(); err != nil {
		return nil, err
	}
	var out []store.Lease
	for _, l := range m.leases {
		if l.Workload == workload && now.Before(l.Until) {
			out = append(out, l)
		}
	}
	return out, nil
}

func (m *memory) Epoch(context.Context) (store.Epoch, error) {
	if err := m.read(); err != nil {
		return store.Epoch{}, err
	}
	return store.Epoch{Number: 1, Opened: testNow, Reason: "restored " + hostileIf(m.suspended), Confirmed: !m.suspended}, nil
}

func (m *memory) TokenByHash(_ context.Context, hash [32]byte) (*store.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	for _, t := range m.tokens {
		if t.Hash == hash {
			return &t, nil
		}
	}
	return nil, store.ErrNotFound
}

func (m *memory) Value(_ context.Context, key string) (*store.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	v, ok := m.values[key]
	if !ok {
		return nil, store.ErrNotFound
	}
	return &v, nil
}

func (m *memory) PutValue(_ context.Context, key string, v store.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conflicts > 0 {
		m.conflicts--
		return store.ErrConflict
	}
	if m.err != nil || v.Version != m.values[key].Version+1 {
		return cmpErr(m.err, store.ErrConflict)
	}
	m.values[key] = v
	return nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// testNow is when the tests' Steward lives.
var testNow = time.Date(2026, 11, 20, 15, 4, 5, 0, time.UTC)

// testHash is how this store knows tokens: not by their bare hash.
func testHash(token string) [32]byte { return sha256.Sum256([]byte("test\x00" + token)) }

const testToken = "donjon-test-token-0123456789"

// hostile is text that must never reach a page as it is.
const hostile = "\u202eevil\x1b[31m\x00\u2028\x07<script>alert(1)</script>\"><b data-evil>'&{{.}}\" onmouseover=\"x"

func hostileIf(yes bool) string {
	if yes {
		return hostile
	}
	return "text"
}

func digestOf(i int) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte{byte(i)})) }

// newMemory has a fleet's month: decisions of three TEEs, synthetic verdicts, all of
// it invented. With bad, every text is hostile.
func newMemory(t testing.TB, bad bool) *memory {
	t.Helper()
	m := &memory{values: map[string]store.Value{}, suspended: bad}
	text := func(good string) string {
		if bad {
			return hostile
		}
		return good
	}
	m.tokens = []store.Token{{ID: "t1", Name: text("operator"), Hash: testHash(testToken), Scopes: []store.Scope{store.ScopeRead}, Created: testNow}}
	verdicts := syntheticVerdicts(t, bad)
	statuses := map[string][]string{"snp": {""}, "tdx": {"UpToDate", "OutOfDate"}, "sgx": {"SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"}}
	for seq := uint64(1); seq <= 137; seq++ {
		n := int(seq)
		tee := []string{"snp", "snp", "tdx", "sgx"}[n%4]
		v := verdicts[n%len(verdicts)]
		status := statuses[tee][n/4%len(statuses[tee])]
		outcome, code := verdict.Admitted, ""
		switch {
		case n%9 == 0:
			outcome, code = verdict.Refused, "refused"
		case n%23 == 0:
			outcome, code = verdict.NotGenuine, "not-genuine"
		case n%31 == 0:
			outcome, code = verdict.CannotTell, "cannot-tell"
		}
		at := testNow.Add(-time.Duration(137-n) * 5 * time.Hour).Add(-time.Minute)
		d := store.DecisionDetail{DecisionRow: store.DecisionRow{Seq: seq, At: at, Workload: digestOf(n % 3), Instance: fmt.Sprintf("%032x", n), TEE: tee,
			Simulated: tee == "snp" && n%2 == 0, Outcome: outcome, Code: text(code), TCBStatus: text(status), Platform: text(fmt.Sprintf("chip-%d", n%5)),
			Policy: 1, Request: text(fmt.Sprintf("req-%d", n)), Who: text("192.0.2.7")}}
		if tee == "sgx" {
			d.Exposed = []string{text("INTEL-SA-00615")}
		}
		if bad {
			d.Workload, d.Instance, d.TEE = hostile, hostile, hostile
		}
		d.Record = audit.Record{Seq: seq, Time: at.UnixMicro(), Epoch: 1, Kind: audit.Decision, Text: text(""), Workload: d.Workload, Outcome: outcome,
			Checks: audit.Checks(v.Checks), Evidence: audit.Digest{1}, PolicyVersion: 1}
		if d.Simulated || bad { // what is kept was made by the tests
			d.Detail, _ = json.Marshal(v)
		}
		if outcome == verdict.Admitted {
			d.Record.Serial, d.Record.Secrets = []byte{1, byte(n)}, []string{text("db-password@1")}
			if n > 60 {
				m.certs = append(m.certs, store.CertificateRow{Serial: []byte{1, byte(n)}, CA: text("workloads"), NotBefore: at, NotAfter: testNow.Add(time.Duration(n-60) * 17 * time.Minute), Seq: seq,
					Workload: d.Workload, Instance: d.Instance, TEE: d.TEE, Simulated: d.Simulated, TCBStatus: d.TCBStatus, Exposed: d.Exposed})
			}
		}
		m.details = append(m.details, d)
	}
	for i := range 3 {
		m.work = append(m.work, store.Workload{Digest: digestOf(i), Name: text([]string{"billing", "keyring", "reports"}[i]), FirstSeen: testNow.Add(-40 * 24 * time.Hour)})
	}
	slices.SortFunc(m.work, func(a, b store.Workload) int { return strings.Compare(a.Digest, b.Digest) })
	for i := range 2 {
		body := fmt.Sprintf("version = 1\nname = \"billing\"\nallow_simulated = %v\n# %s\n", i == 1, text("a comment"))
		m.policies = append(m.policies, store.Policy{Workload: digestOf(0), Version: uint64(i + 1), Text: []byte(body), Digest: sha256.Sum256([]byte(body)), At: testNow, By: text("cli")})
	}
	signed := fmt.Sprintf("version = 1\n[snp]\nlaunch_digests = []\n[steward]\n[steward.signed]\nsigner = %q\nname = \"billing\"\nmin_version = 4\n", acme)
	m.policies = append(m.policies, store.Policy{Workload: "signer:" + text(acme+"/billing"), Version: 1, Text: []byte(signed), At: testNow, By: text("cli")})
	m.secrets = []store.Secret{
		{SecretKey: store.SecretKey{Workload: digestOf(0), Name: text("api-key")}, Version: 3, Sealed: []byte("sealed-bytes-of-a-secret"), KeyID: "key-id-of-sealing", Policy: m.policies[0].Digest, At: testNow, By: text("cli")},
		{SecretKey: store.SecretKey{Workload: digestOf(0), Name: text("db-password")}, Version: 1, Sealed: []byte("sealed-bytes-of-a-secret"), Policy: m.policies[1].Digest, At: testNow, By: text("cli")},
	}
	m.leases = []store.Lease{{Workload: digestOf(0), Instance: text("00ff"), Until: testNow.Add(time.Hour), Seq: 130}, {Workload: "signer:" + acme + "/billing", Instance: "00aa", Until: testNow.Add(time.Hour), Seq: 131}}
	return m
}

// acme is a signer's key id.
var acme = strings.Repeat("ac", 32)

// syntheticVerdicts are verdicts of the library on evidence that the tests made.
func syntheticVerdicts(t testing.TB, bad bool) []*verdict.Verdict {
	t.Helper()
	var out []*verdict.Verdict
	var verifier attest.Verifier
	for i, v := range vectors() {
		if i%9 != 0 {
			continue
		}
		j := verifier.Verify(v.Evidence, attest.Options{At: v.At, Collateral: v.Collateral, SimulatedRoots: v.Roots, PlatformOnly: i%2 == 0})
		if bad {
			j.Form, j.TCBStatus = hostile, hostile
			j.Outcome = hostile
			for k := range j.Checks {
				c := &j.Checks[k]
				c.Found, c.Wanted, c.Source, c.Hint = hostile, hostile, hostile, hostile
				if k%3 == 0 {
					c.Code, c.Waived = hostile, hostile
				}
				if k == 4 {
					c.Status = hostile
				}
			}
			j.Advisories = append(j.Advisories, verdict.Advisory{ID: hostile, Names: []string{hostile}, CVEs: []string{hostile}, State: "exposed", Why: hostile, Source: hostile},
				verdict.Advisory{ID: hostile, Names: []string{hostile}, State: "fixed", Why: hostile}, verdict.Advisory{ID: hostile, Names: []string{hostile}, State: "cannot_tell", Why: hostile})
			if j.Claims != nil {
				j.Claims.Root.Name, j.Claims.TEE = hostile, hostile
				if j.Claims.SNP != nil {
					j.Claims.SNP.Product, j.Claims.SNP.CSP, j.Claims.SNP.SigningKey = hostile, hostile, hostile
				}
			}
		}
		out = append(out, j)
	}
	if len(out) < 3 {
		t.Fatalf("found %d synthetic verdicts, wanted some", len(out))
	}
	return out
}

var vectors = sync.OnceValue(synthetic.SNPVectors)

// good is a vector that every check of the platform passes, under a simulated root.
func good(t testing.TB) synthetic.Vector {
	t.Helper()
	for _, v := range vectors() {
		if v.Code == "" && v.Status == verdict.Passed {
			return v
		}
	}
	t.Fatal("no synthetic evidence is good")
	panic("unreachable")
}

func testCollateral(bad bool) []collateral.Line {
	text := func(s string) string {
		if bad {
			return hostile
		}
		return s
	}
	return []collateral.Line{
		{Kind: collateral.Kind(text(string(collateral.TCBInfo))), TEE: text("TDX"), FMSPC: text("00806f050000"), Eval: 17, From: testNow.Add(-20 * 24 * time.Hour), Until: testNow.Add(10 * 24 * time.Hour)},
		{Kind: collateral.List, Issuer: text("CN=SEV-Genoa"), Number: text("3"), From: testNow.Add(-time.Hour), Until: testNow.Add(90 * 24 * time.Hour)},
		{Kind: collateral.List, Issuer: text("CN=Intel SGX Root CA"), From: testNow.Add(-400 * 24 * time.Hour), Until: testNow.Add(-24 * time.Hour)},
		{Kind: collateral.Certificate, Subject: text("CN=SEV-VCEK"), Chip: text("aabbccddeeff00112233"), From: testNow.Add(time.Hour), Until: testNow.Add(900 * 24 * time.Hour)},
	}
}
