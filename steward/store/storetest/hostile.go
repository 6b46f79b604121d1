package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// hostile are texts that a statement put together from strings would fall for, or
// that one database keeps otherwise than the other.
var hostile = []string{
	`'; DROP TABLE audit; --`, `" OR "1"="1`, `') UNION SELECT sealed FROM secrets --`, `$1`, `?`, `?1`, `:a @b`, `%s%n`, `\'; --`, `\x27`, `{{.}}`,
	"line\nbreak\ttab\r", "\u202eright to left", "\U0001F5DD", "ﬁ Å é", "trailing ", " ", "E'\\\\'", "<script>", strings.Repeat("é", 100),
}

// testHostileText puts each through every field that takes a text, and looks that it
// comes back as it was.
func testHostileText(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	for i, h := range hostile {
		by := store.Actor{Who: h, At: T0}
		d := Admitted(i, T0)
		d.Record.Who, d.Record.Request, d.Record.Workload, d.Record.Instance, d.Record.TEE, d.Record.Code = h, h, h, h, h, h
		d.Record.Secrets, d.Record.Checks = []string{h}, []audit.Check{{Code: h, Status: verdict.Passed, Found: h, Wanted: h, Waived: h}}
		d.TCBStatus, d.Platform, d.Certificate.CA = h, h, h
		if len(h) <= 64 {
			d.Exposed = []string{h}
		}
		d.Detail = []byte(h)
		d.Record.Detail = sha256.Sum256(d.Detail)
		d.Lease = &store.LeaseRequest{Instance: h, Until: T0.Add(time.Hour), Max: 1}
		d.Signer = &store.SignerMark{Signer: h, Name: h, Version: 1}
		r, err := s.Decide(ctx, d)
		ok(t, err)
		got, err := s.Decision(ctx, r.Seq)
		ok(t, err)
		for _, v := range []string{got.Who, got.Request, got.Workload, got.Instance, got.TEE, got.Code, got.TCBStatus, got.Platform, string(got.Detail), got.Record.Checks[0].Found} {
			equal(t, "decision", v, h)
		}
		rows, err := s.Decisions(ctx, store.DecisionFilter{Workload: h, Instance: h, TEE: h})
		ok(t, err)
		equal(t, "rows", len(rows), 1)
		cs, err := s.Certificates(ctx, store.CertificateFilter{Workload: h, Instance: h})
		ok(t, err)
		equal(t, "certificates", len(cs), 1)
		equal(t, "CA", cs[0].CA, h)
		ls, err := s.Leases(ctx, h, T0)
		ok(t, err)
		equal(t, "leases", len(ls), 1)
		ok(t, s.EndLease(ctx, h, h, by))
		ok(t, s.PutWorkload(ctx, store.Workload{Digest: h, Name: h, Manifest: []byte(h)}, by))
		w, err := s.Workload(ctx, h)
		ok(t, err)
		equal(t, "workload", w.Name+string(w.Manifest), h+h)
		ok(t, s.PutPolicy(ctx, store.Policy{Workload: h, Version: 1, Text: []byte(h)}, by))
		p, err := s.Policy(ctx, h)
		ok(t, err)
		equal(t, "policy", string(p.Text)+p.By, h+h)
		k := store.SecretKey{Workload: h, Name: h}
		ok(t, s.PutSecret(ctx, store.Secret{SecretKey: k, Version: 1, Sealed: []byte(h), KeyID: h, Policy: p.Digest}, by))
		ok(t, s.ConfirmSecret(ctx, k, 1, confirmation(1, "k1"), by))
		sec, err := s.Secrets(ctx, h)
		ok(t, err)
		equal(t, "secret", sec[0].Name+sec[0].KeyID+string(sec[0].Sealed)+sec[0].By, h+h+h+h)
		_, err = s.AllSecrets(ctx, k, 1)
		ok(t, err)
		_, err = s.StaleSecrets(ctx, h, 1)
		ok(t, err)
		ok(t, s.DeleteSecret(ctx, k, by))
		if len(h) <= 128 {
			ok(t, s.PutToken(ctx, store.Token{ID: h, Name: h, Hash: Digest("token", i), Scopes: []store.Scope{store.ScopeRead}}, by))
			ok(t, s.RevokeToken(ctx, h, by))
			ok(t, s.PutValue(ctx, h, store.Value{Data: []byte(h), Version: 1}))
			v, err := s.Value(ctx, h)
			ok(t, err)
			equal(t, "value", string(v.Data), h)
		}
		_, err = s.Append(ctx, audit.Record{Kind: audit.Note, Text: h, Name: h, Workload: h}, by)
		ok(t, err)
	}
	Verify(t, s)
}

// testInvalid gives every field what it must refuse, and looks that nothing is
// written.
func testInvalid(t *testing.T, f func(store.Options) store.Store) {
	s, ctx := open(t, f), context.Background()
	head, err := s.Head(ctx)
	ok(t, err)
	long := strings.Repeat("x", store.MaxText+1)
	for name, change := range map[string]func(*store.Decision, string){
		"who": func(d *store.Decision, v string) { d.Record.Who = v }, "request": func(d *store.Decision, v string) { d.Record.Request = v },
		"workload": func(d *store.Decision, v string) { d.Record.Workload = v }, "instance": func(d *store.Decision, v string) { d.Record.Instance = v },
		"tee": func(d *store.Decision, v string) { d.Record.TEE = v }, "code": func(d *store.Decision, v string) { d.Record.Code = v },
		"outcome": func(d *store.Decision, v string) { d.Record.Outcome = verdict.Outcome(v) }, "tcb": func(d *store.Decision, v string) { d.TCBStatus = v },
		"platform": func(d *store.Decision, v string) { d.Platform = v }, "exposed": func(d *store.Decision, v string) { d.Exposed = []string{v} },
		"ca": func(d *store.Decision, v string) { d.Certificate.CA = v }, "kind": func(d *store.Decision, v string) { d.Once[0].Kind = store.OnceKind(v) },
		"lease":  func(d *store.Decision, v string) { d.Lease = &store.LeaseRequest{Instance: v, Until: T0, Max: 1} },
		"signer": func(d *store.Decision, v string) { d.Signer = &store.SignerMark{Signer: v, Name: "n"} },
		"check":  func(d *store.Decision, v string) { d.Record.Checks = []audit.Check{{Code: "c", Found: v}} },
	} {
		for _, bad := range []string{long, "nul\x00", "\xff\xfe"} {
			if name == "check" && bad == "nul\x00" {
				continue // only in CBOR, which keeps it
			}
			d := Admitted(1, T0)
			change(&d, bad)
			if _, err := s.Decide(ctx, d); err == nil {
				t.Errorf("%s = %.8q is taken", name, bad)
			} else {
				want(t, err, store.ErrInvalid)
			}
		}
	}
	for name, change := range map[string]func(*store.Decision){
		"no time":                 func(d *store.Decision) { d.At = time.Time{} },
		"a time far off":          func(d *store.Decision) { d.At = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no epoch":                func(d *store.Decision) { d.Epoch = 0 },
		"no serial":               func(d *store.Decision) { d.Certificate.Serial = nil },
		"a long serial":           func(d *store.Decision) { d.Certificate.Serial = make([]byte, 21) },
		"no places":               func(d *store.Decision) { d.Lease = &store.LeaseRequest{Instance: "i", Until: T0} },
		"another outcome":         func(d *store.Decision) { d.Record.Outcome = "fine" },
		"a refusal that grants":   func(d *store.Decision) { d.Record.Outcome = verdict.CannotTell },
		"another kind":            func(d *store.Decision) { d.Record.Kind = audit.Note },
		"a detail of another":     func(d *store.Decision) { d.Detail = []byte("{}") },
		"a detail without digest": func(d *store.Decision) { d.Record.Detail = audit.Digest{} },
		"a large detail": func(d *store.Decision) {
			d.Detail = make([]byte, store.MaxDetail+1)
			d.Record.Detail = sha256.Sum256(d.Detail)
		},
		"five things once": func(d *store.Decision) { d.Once = make([]store.Once, 5) },
		"a record too large": func(d *store.Decision) {
			d.Record.Checks = nil
			for range audit.MaxChecks {
				d.Record.Checks = append(d.Record.Checks, audit.Check{Code: "c", Found: strings.Repeat("x", audit.MaxText)})
			}
		},
	} {
		d := Admitted(1, T0)
		change(&d)
		if _, err := s.Decide(ctx, d); err == nil {
			t.Errorf("%s is taken", name)
		} else {
			want(t, err, store.ErrInvalid)
		}
	}
	for _, bad := range []string{long, "nul\x00", "\xff", ""} {
		want(t, s.PutPolicy(ctx, store.Policy{Workload: bad, Version: 1, Text: []byte("x")}, By), store.ErrInvalid)
		want(t, s.PutWorkload(ctx, store.Workload{Digest: bad}, By), store.ErrInvalid)
		want(t, s.PutWorkload(ctx, store.Workload{Digest: "d"}, store.Actor{Who: bad, At: T0}), store.ErrInvalid)
		sec := secret("a", 1, 1)
		sec.Name = bad
		want(t, s.PutSecret(ctx, sec, By), store.ErrInvalid)
		want(t, s.PutValue(ctx, bad, store.Value{Version: 1}), store.ErrInvalid)
		_, err := s.Append(ctx, audit.Record{Kind: audit.Note, Text: bad}, By)
		want(t, err, store.ErrInvalid)
	}
	want(t, s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: make([]byte, store.MaxPolicy+1)}, By), store.ErrInvalid)
	sec := secret("a", 1, 1)
	sec.Sealed = make([]byte, store.MaxSealed+1)
	want(t, s.PutSecret(ctx, sec, By), store.ErrInvalid)
	sec = secret("a", 1, 1)
	sec.Policy = audit.Digest{}
	want(t, s.PutSecret(ctx, sec, By), store.ErrInvalid)
	want(t, s.PutValue(ctx, "v", store.Value{Data: make([]byte, store.MaxValue+1), Version: 1}), store.ErrInvalid)
	now, err := s.Head(ctx)
	ok(t, err)
	equal(t, "head", now, head)
}

// fill puts something in every table.
func fill(t testing.TB, s store.Store) {
	t.Helper()
	ctx := context.Background()
	for i := range 50 {
		d := Admitted(i, T0.Add(time.Duration(i)*time.Minute))
		if i%5 == 0 {
			d.Lease = &store.LeaseRequest{Instance: d.Record.Instance, Until: T0.Add(time.Hour), Max: 100}
			d.Signer = &store.SignerMark{Signer: "k", Name: "n", Version: uint64(i)}
		}
		_, err := s.Decide(ctx, d)
		ok(t, err)
	}
	ok(t, s.PutWorkload(ctx, store.Workload{Digest: "sha256:a", Name: "a"}, By))
	ok(t, s.PutWorkload(ctx, store.Workload{Digest: "sha256:b", Name: "b", Manifest: []byte("{}")}, By))
	ok(t, s.PutPolicy(ctx, store.Policy{Workload: "w", Version: 1, Text: []byte("a")}, By))
	ok(t, s.PutSecret(ctx, secret("a", 1, 1), By))
	ok(t, s.PutSecret(ctx, secret("a", 2, 1), By))
	ok(t, s.ConfirmSecret(ctx, store.SecretKey{Workload: "w", Name: "a"}, 2, confirmation(9, "k1"), By))
	ok(t, s.PutToken(ctx, store.Token{ID: "t", Hash: Digest("token", 1), Scopes: []store.Scope{store.ScopeAdmin}}, By))
	ok(t, s.PutValue(ctx, "empty", store.Value{Version: 1}))
	ok(t, s.PutHead(ctx, 3, []byte("head")))
	_, err := s.Purge(ctx, T0.Add(5*time.Minute), 1000)
	ok(t, err)
}

// Backup restores the backup of one database in another.
func Backup(t *testing.T, fresh, other Fresh) {
	s, ctx := open(t, fresh(t)), context.Background()
	fill(t, s)
	var b bytes.Buffer
	ok(t, s.Backup(ctx, &b))
	to := open(t, other(t))
	epoch, err := to.Restore(ctx, bytes.NewReader(b.Bytes()), By)
	ok(t, err)
	equal(t, "epoch", epoch.Number, 2)
	equal(t, "confirmed", epoch.Confirmed, false)
	equal(t, "log", to.Log(), s.Log())
	rep := Verify(t, to)
	ok(t, store.Agree(ctx, to))
	head, err := s.Head(ctx)
	ok(t, err)
	equal(t, "records", rep.Records, head.Seq+1)
	// Grants are suspended; a used challenge stays used, a purged one refused.
	d := Admitted(1000, T0.Add(time.Hour))
	d.Epoch = 2
	_, err = to.Decide(ctx, d)
	want(t, err, store.ErrSuspended)
	ok(t, to.ConfirmEpoch(ctx, 2, By))
	_, err = to.Decide(ctx, d)
	ok(t, err)
	for _, n := range []int{0, 49} {
		used := Admitted(n, T0.Add(time.Duration(n)*time.Minute))
		used.Epoch, used.Certificate.Serial = 2, Serial(2000+n)
		_, err = to.Decide(ctx, used)
		want(t, err, store.ErrChallengeUsed)
	}
	old := Admitted(1001, T0.Add(time.Hour))
	_, err = to.Decide(ctx, old)
	want(t, err, store.ErrEpoch)
	low := Admitted(1002, T0.Add(time.Hour))
	low.Epoch, low.Signer = 2, &store.SignerMark{Signer: "k", Name: "n", Version: 44}
	_, err = to.Decide(ctx, low)
	want(t, err, store.ErrDowngrade)
	sec, err := to.Secrets(ctx, "w")
	ok(t, err)
	equal(t, "secret", string(sec[0].Sealed), "sealed a 2")
	equal(t, "confirmed", sec[0].Releasable(Digest("policy", 9), stands), true)
	equal(t, "confirmation", string(sec[0].Confirmed[0].MAC)+sec[0].Confirmed[0].KeyID, "mac 9 k1k1")
	w, err := to.Workload(ctx, "sha256:a")
	ok(t, err)
	equal(t, "no manifest", w.Manifest == nil, true)
	got, err := to.Decision(ctx, 2)
	ok(t, err)
	equal(t, "detail", string(got.Detail), string(Admitted(0, T0).Detail))
	counts, err := to.Counts(ctx, T0, T0.Add(time.Hour), store.Hour)
	ok(t, err)
	equal(t, "counts", counts[0].N, 50)
	// Not over something.
	_, err = to.Restore(ctx, bytes.NewReader(b.Bytes()), By)
	want(t, err, store.ErrNotEmpty)
}

// testBackupHostile gives Restore backups that were cut or changed.
func testBackupHostile(t *testing.T, f func(store.Options) store.Store, fresh Fresh) {
	s, ctx := open(t, f), context.Background()
	fill(t, s)
	var b bytes.Buffer
	ok(t, s.Backup(ctx, &b))
	good := b.Bytes()
	to := open(t, fresh(t))
	head, err := to.Head(ctx)
	ok(t, err)
	bad := map[string][]byte{
		"empty": nil, "magic": []byte("DNJBAK2\n"), "cut": good[:len(good)-1], "cut in a row": good[:len(good)/2],
		"longer": append(bytes.Clone(good), 0), "huge entry": append([]byte("DNJBAK1\n"), 0xff, 0xff, 0xff, 0xff),
	}
	for i := 9; i < len(good); i += len(good)/40 + 1 {
		c := bytes.Clone(good)
		c[i] ^= 0x20
		bad["changed at "+string(rune('0'+i%10))+strings.Repeat("'", i*40/len(good))] = c
	}
	for name, c := range bad {
		if _, err := to.Restore(ctx, bytes.NewReader(c), By); err == nil {
			t.Fatalf("%s: restored", name)
		}
	}
	now, err := to.Head(ctx)
	ok(t, err)
	equal(t, "head", now, head)
	_, err = to.Restore(ctx, bytes.NewReader(good), By)
	ok(t, err)
}
