//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/server"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/steward/store/storetest"
	"github.com/donjon-tee/donjon/workload"
)

// A replica is one process of donjon steward serve, with a state folder of its own
// whose keys are everybody's.
type replica struct {
	state, addr string
	cmd         *exec.Cmd
	log         bytes.Buffer // read once it has ended
}

// replicas are two of them on one PostgreSQL.
type replicas struct {
	t        testing.TB
	program  string
	database string
	a, b     *replica
	keep     *replicaKeep
	token    string
	policy   string
}

const replicaSecret = "the same at every replica"

func newReplicas(t testing.TB) *replicas {
	t.Helper()
	return newStewards(t, storetest.Postgres(t).Database(t))
}

// newStewards starts two on a PostgreSQL; without one (""), one on SQLite, which is then
// both.
func newStewards(t testing.TB, database string) *replicas {
	t.Helper()
	dir := t.TempDir()
	r := &replicas{t: t, program: filepath.Join(dir, "donjon"), database: database}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", r.program, "../cmd/donjon")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	// Both begin at once, with neither keys nor tables.
	for name, p := range map[string]**replica{"A": &r.a, "B": &r.b} {
		if name == "B" && database == "" {
			continue
		}
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		*p = &replica{state: filepath.Join(dir, name), addr: "127.0.0.1:" + port}
		if err := os.Mkdir((*p).state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(keys, filepath.Join((*p).state, "keys")); err != nil {
			t.Fatal(err)
		}
		r.start(*p)
	}
	if r.b == nil {
		r.b = r.a
	}
	sil, err := silicon.Open(filepath.Join(dir, "silicon"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*replica{r.a, r.b} {
		r.wait(p)
	}
	r.keep = newReplicaKeep(t, r.a, sil)
	for _, p := range []*replica{r.a, r.b} {
		if b, err := os.ReadFile(filepath.Join(p.state, "admin.token")); err == nil {
			r.token = strings.TrimSpace(string(b))
		}
	}
	r.policy = r.policyFor(r.keep.measured)
	r.admin(r.a, "PUT", "/v1/admin/workloads/"+r.subject(), server.WorkloadPut{Name: "app", Manifest: r.keep.manifest, Policy: r.policy}, nil)
	r.admin(r.b, "PUT", "/v1/admin/secrets/"+r.subject()+"/db-password", []byte(replicaSecret), nil)
	return r
}

func newReplicaKeep(t testing.TB, p *replica, sil *silicon.Silicon) *replicaKeep {
	t.Helper()
	config := []byte("steward = \"https://steward.example\"\nsteward_ca = \"ca.pem\"\n[[secrets]]\nname = \"db-password\"\nenv = \"DB\"\n")
	module := []byte("\x00asm\x01\x00\x00\x00")
	m := workload.Manifest{Config: workload.Descriptor{MediaType: workload.MediaConfig, Digest: sha256.Sum256(config), Size: int64(len(config))},
		Layers: []workload.Descriptor{{MediaType: workload.MediaWasm, Digest: sha256.Sum256(module), Size: int64(len(module))}}}
	k := &replicaKeep{silicon: sil, roots: x509.NewCertPool(), manifest: m.Encode(), config: config, measured: [48]byte{9, 9, 9}}
	ca, err := os.ReadFile(filepath.Join(p.state, "ca.pem"))
	if err != nil || !k.roots.AppendCertsFromPEM(ca) {
		t.Fatalf("ca.pem: %v", err)
	}
	return k
}

func (r *replicas) subject() string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(r.keep.manifest))
}

func (r *replicas) policyFor(launch [48]byte) string {
	root := r.keep.silicon.RootFingerprint()
	return "version = 1\nworkloads = [\"" + strings.TrimPrefix(r.subject(), "sha256:") + "\"]\nsimulated_roots = [\"" + root +
		"\"]\nallow_simulated = true\n[snp]\nlaunch_digests = [\"" + hex.EncodeToString(launch[:]) + "\"]\n[steward]\nplatforms = [\"simulated:" + root + "\"]\n"
}

func (r *replicas) start(p *replica) {
	t := r.t
	t.Helper()
	// All that is refused at the end comes from one address.
	if err := os.WriteFile(filepath.Join(p.state, "steward.toml"), []byte("[limits]\nrate = 1e6\nburst = 1e6\nconnections = 20000\nclient_connections = 20000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(r.program, "steward", "serve", "--state", p.state, "--listen", p.addr, "--allow-simulated")
	if r.database != "" {
		p.cmd.Args = append(p.cmd.Args, "--database", r.database)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			b := p.log.Bytes()
			t.Logf("%s said at last:\n%s", p.state, b[max(0, len(b)-4096):])
		}
	})
}

// kill is SIGKILL.
func (p *replica) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func (r *replicas) wait(p *replica) {
	r.t.Helper()
	for range 600 {
		if c, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true}); err == nil { // whether it is up
			_ = c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatalf("%s does not answer", p.addr)
}

// admin asks an administrators' route of a replica, and wants it done.
func (r *replicas) admin(p *replica, method, path string, body, into any) {
	r.t.Helper()
	if code, b := r.adminAs(r.token, p, method, path, body); code >= 300 {
		r.t.Fatalf("%s %s at %s: status %d, %s", method, path, p.addr, code, b)
	} else if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *replicas) adminAs(token string, p *replica, method, path string, body any) (int, []byte) {
	r.t.Helper()
	text, kind := []byte(nil), "application/octet-stream"
	switch b := body.(type) {
	case nil:
	case []byte:
		text = b
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			r.t.Fatal(err)
		}
		kind = "application/json"
	}
	req, err := http.NewRequest(method, "https://"+p.addr+path, bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+token)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.keep.roots}, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// codeOf is the code of a refusal; "": the error is none.
func codeOf(err error) string {
	var p *protocol.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// try enrols once, challenge and request each at its replica.
func (r *replicas) try(asked, used *replica) (*enrolled, error) {
	c, err := r.keep.challenge(asked.addr)
	if err != nil {
		return nil, err
	}
	return r.keep.enrol(used.addr, c)
}

// One Steward is as good as the other at every step, and when one is killed under load
// nothing that was answered is lost and no challenge counts twice (THREATS T15).
func TestReplicas(t *testing.T) {
	r := newReplicas(t)
	r.changesCountAtOnce()
	rotated := time.Now()
	if out, err := exec.Command(r.program, "steward", "rotate", "--state", r.a.state).CombinedOutput(); err != nil {
		t.Fatalf("rotate: %v\n%s", err, out)
	}
	load := r.load()
	r.rotationArrives(rotated)
	r.noChallengeTwice(load)
	r.nothingIsLost(load)
}

// changesCountAtOnce: what is written at one replica is what the other goes by, in the
// next request.
func (r *replicas) changesCountAtOnce() {
	t := r.t
	t.Helper()
	for i := range 4 {
		here, there := r.a, r.b
		if i%2 == 1 {
			here, there = there, here
		}
		r.admin(here, "PUT", "/v1/admin/policies/"+r.subject(), server.PolicyPut{Policy: r.policyFor([48]byte{1})}, nil)
		if _, err := r.try(here, there); codeOf(err) != "refused" {
			t.Errorf("a policy that admits no longer, changed at %s: %s answers %v", here.addr, there.addr, err)
		}
		r.admin(there, "PUT", "/v1/admin/policies/"+r.subject(), server.PolicyPut{Policy: r.policy}, nil)
		if _, err := r.try(there, here); err != nil {
			t.Errorf("a policy that admits again, changed at %s: %s answers %v", there.addr, here.addr, err)
		}
		secret := fmt.Sprintf("%s, %d", replicaSecret, i)
		r.admin(here, "PUT", "/v1/admin/secrets/"+r.subject()+"/db-password", []byte(secret), nil)
		if e, err := r.try(here, there); err != nil || string(e.secrets["db-password"]) != secret {
			t.Errorf("a secret set at %s: %s releases %+v, %v", here.addr, there.addr, e, err)
		}
		var v server.TokenView
		r.admin(here, "POST", "/v1/admin/tokens", server.TokenCreate{Name: "short", Scopes: []store.Scope{store.ScopeRead}}, &v)
		if code, b := r.adminAs(v.Token, there, "GET", "/v1/admin/workloads", nil); code != http.StatusOK {
			t.Errorf("a token made at %s: %s answers %d, %s", here.addr, there.addr, code, b)
		}
		r.admin(here, "DELETE", "/v1/admin/tokens/"+v.ID, nil, nil)
		if code, _ := r.adminAs(v.Token, there, "GET", "/v1/admin/workloads", nil); code < 400 {
			t.Errorf("a token revoked at %s: %s answers %d", here.addr, there.addr, code)
		}
	}
	r.admin(r.a, "PUT", "/v1/admin/secrets/"+r.subject()+"/db-password", []byte(replicaSecret), nil)
}

// outcome is what became of the load.
type outcome struct {
	mu       sync.Mutex
	answered []*enrolled
	open     map[audit.Digest][]byte // challenges in requests that had no answer
	refused  map[string]int
	busy     int
}

func (o *outcome) add(e *enrolled, challenge []byte, err error, dead bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch code := codeOf(err); {
	case err == nil:
		o.answered = append(o.answered, e)
	case code == "busy":
		o.busy++
	case code != "":
		o.refused[code]++
	case dead && !errors.As(err, new(*wrongAnswer)):
		o.open[sha256.Sum256(challenge)] = challenge
	default:
		return err
	}
	return nil
}

// load enrols with many Keeps, each step at either replica, one challenge in four at
// both at once, and kills A in the middle.
func (r *replicas) load() *outcome {
	t := r.t
	t.Helper()
	const clients, before, after = 12, 80, 80
	o := &outcome{open: map[audit.Digest][]byte{}, refused: map[string]int{}}
	var killed atomic.Bool  // before the signal is sent
	var settled atomic.Bool // after A was seen to be dead
	var enough atomic.Bool
	var atA atomic.Int64 // enrolments under way there
	one := func() error {
		pick := func() *replica {
			if !settled.Load() && mathrand.IntN(2) == 0 {
				return r.a
			}
			return r.b
		}
		asked, used := pick(), pick()
		c, err := r.keep.challenge(asked.addr)
		if err != nil {
			if asked == r.a && killed.Load() {
				return nil // another time, elsewhere
			}
			return fmt.Errorf("a challenge of %s: %w", asked.addr, err)
		}
		where := []*replica{used}
		if mathrand.IntN(4) == 0 && !settled.Load() {
			where = []*replica{r.a, r.b}
		}
		errs := make(chan error, len(where))
		for _, p := range where {
			go func() {
				if p == r.a {
					atA.Add(1)
					defer atA.Add(-1)
				}
				e, err := r.keep.enrol(p.addr, c)
				if err := o.add(e, c, err, p == r.a && killed.Load()); err != nil {
					errs <- fmt.Errorf("enrolling at %s: %w", p.addr, err)
					return
				}
				errs <- nil
			}()
		}
		for range where {
			err = errors.Join(err, <-errs)
		}
		return err
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for !enough.Load() {
				if err := one(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reach := func(n int) int {
		for deadline := time.Now().Add(2 * time.Minute); !t.Failed() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			o.mu.Lock()
			m := len(o.answered)
			o.mu.Unlock()
			if m >= n {
				return m
			}
		}
		t.Errorf("the load does not get to %d enrolments", n)
		return n
	}
	m := reach(before)
	for !t.Failed() && atA.Load() < 3 {
		time.Sleep(100 * time.Microsecond)
	}
	killed.Store(true)
	r.a.kill()
	settled.Store(true)
	reach(m + after)
	enough.Store(true)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	by := map[string]int{}
	for _, e := range o.answered {
		by[e.at]++
		if string(e.secrets["db-password"]) != replicaSecret || len(e.secrets) != 1 {
			t.Errorf("released: found %q", e.secrets)
		}
	}
	if by[r.a.addr] == 0 || by[r.b.addr] < after || len(o.open) == 0 {
		t.Errorf("no load: A answered %d, B %d, and %d requests were under way when A was killed", by[r.a.addr], by[r.b.addr], len(o.open))
	}
	for code, n := range o.refused {
		if code != "challenge-used" {
			t.Errorf("%d refusals with the code %s", n, code)
		}
	}
	if o.refused["challenge-used"] == 0 {
		t.Error("no challenge met itself at both replicas")
	}
	t.Logf("A answered %d, B %d; %d had no answer; refused %v, busy %d", by[r.a.addr], by[r.b.addr], len(o.open), o.refused, o.busy)
	return o
}

// rotationArrives: the survivor takes up what was rotated at the one that is gone.
func (r *replicas) rotationArrives(since time.Time) {
	t := r.t
	t.Helper()
	newest, err := os.ReadFile(filepath.Join(r.a.state, "ca.pem")) // as rotate left it
	if err != nil || bytes.Count(newest, []byte("BEGIN CERTIFICATE")) != 2 {
		t.Fatalf("ca.pem after a rotation: %v\n%s", err, newest)
	}
	_, rest := pem.Decode(newest)
	last := &replicaKeep{silicon: r.keep.silicon, roots: x509.NewCertPool(), manifest: r.keep.manifest, config: r.keep.config, measured: r.keep.measured}
	if !last.roots.AppendCertsFromPEM(rest) {
		t.Fatal("no second root")
	}
	for {
		// Whoever pins the new root alone is served too, and certified under it.
		c, err := last.challenge(r.b.addr)
		if err == nil {
			_, err = last.enrol(r.b.addr, c)
		}
		if err == nil {
			break
		}
		if time.Since(since) > 30*time.Second {
			t.Fatalf("B issues under the old root %s after the rotation: %v", time.Since(since), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code, b := r.adminAs("", r.b, "GET", "/ca.pem", nil); code != http.StatusOK || !bytes.Equal(b, newest) {
		t.Errorf("/ca.pem of B: status %d\n%s", code, b)
	}
	if _, err := r.try(r.b, r.b); err != nil {
		t.Errorf("whoever pins the root before: %v", err)
	}
}

// noChallengeTwice uses every challenge of the load again, with evidence that is right
// but for that.
func (r *replicas) noChallengeTwice(o *outcome) {
	t := r.t
	t.Helper()
	for _, e := range o.answered {
		if _, err := r.keep.enrol(r.b.addr, e.challenge); codeOf(err) != "challenge-used" {
			t.Errorf("a challenge that %s accepted: found %v, wanted challenge-used", e.at, err)
		}
	}
	// Whether one without an answer was accepted only the log knows: now it is used,
	// and the next time is one too many.
	for _, c := range o.open {
		if e, err := r.keep.enrol(r.b.addr, c); err == nil {
			o.answered = append(o.answered, e)
		} else if codeOf(err) != "challenge-used" {
			t.Errorf("a challenge whose answer was lost: %v", err)
		}
		if _, err := r.keep.enrol(r.b.addr, c); codeOf(err) != "challenge-used" {
			t.Errorf("the same again: found %v, wanted challenge-used", err)
		}
	}
}

// nothingIsLost compares what was answered with the log and the database.
func (r *replicas) nothingIsLost(o *outcome) {
	t := r.t
	t.Helper()
	code, export := r.adminAs(r.token, r.b, "GET", "/v1/admin/audit/export", nil)
	if code != http.StatusOK {
		t.Fatalf("export: status %d", code)
	}
	b, err := os.ReadFile(filepath.Join(r.b.state, "audit-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	options := audit.Options{Keys: []crypto.PublicKey{key}}
	for _, e := range o.answered {
		options.Heads = append(options.Heads, e.head)
	}
	admitted := map[audit.Digest]*audit.Record{}
	options.Each = func(rec *audit.Record, _ audit.Digest) error {
		if rec.Kind != audit.Decision {
			return nil
		}
		if rec.Outcome != "admitted" {
			if len(rec.Secrets) > 0 || len(rec.Serial) > 0 {
				t.Errorf("record %d refuses (%s) and gives %v", rec.Seq, rec.Code, rec.Secrets)
			}
			return nil
		}
		if old := admitted[rec.Challenge]; old != nil {
			t.Errorf("one challenge was accepted in records %d and %d", old.Seq, rec.Seq)
		}
		admitted[rec.Challenge] = rec
		return nil
	}
	report, err := audit.Verify(bytes.NewReader(export), options)
	if err != nil {
		t.Fatalf("the log: %v", err)
	}
	if report.Given != len(o.answered) {
		t.Errorf("the log agrees with %d heads of %d", report.Given, len(o.answered))
	}
	db, err := store.OpenPostgres(context.Background(), r.database, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	first := ^uint64(0) // of the load
	for _, e := range o.answered {
		first = min(first, e.head.Seq)
		rec := admitted[sha256.Sum256(e.challenge)]
		if rec == nil || rec.Seq != e.head.Seq || !bytes.Equal(rec.Serial, e.serial) || len(rec.Secrets) != 1 {
			t.Errorf("an enrolment that %s answered, record %d: the log has %+v", e.at, e.head.Seq, rec)
			continue
		}
		if d, err := db.Decision(context.Background(), e.head.Seq); err != nil || d.Hash != e.head.Hash || len(d.Detail) == 0 {
			t.Errorf("decision %d in the database: %+v, %v", e.head.Seq, d, err)
		}
		delete(admitted, rec.Challenge)
	}
	// What else was admitted since are requests whose answer was lost, and the two
	// enrolments after the rotation.
	extra := 0
	for challenge, rec := range admitted {
		if _, lost := o.open[challenge]; rec.Seq >= first && !lost {
			extra++
		}
	}
	if extra != 2 {
		t.Errorf("%d admissions that nobody asked for", extra-2)
	}
	certified, err := db.Certificates(context.Background(), store.CertificateFilter{Workload: r.subject(), Limit: store.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range o.answered {
		if !slices.ContainsFunc(certified, func(c store.CertificateRow) bool { return bytes.Equal(c.Serial, e.serial) && c.Seq == e.head.Seq }) {
			t.Errorf("the certificate %x is not in the database", e.serial)
		}
	}
}
