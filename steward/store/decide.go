package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
)

// MaxPlaces bounds LeaseRequest.Max: a workload's leases are looked through at each
// decision.
const MaxPlaces = 10000

// job is a Decide call that waits for its transaction.
type job struct {
	d       Decision
	detail  []byte // as stored
	exposed string
	state   chan struct{} // one token: whoever takes it owns the job
	answer  chan answer
}

type answer struct {
	r   Receipt
	err error
}

func (d *db) Decide(ctx context.Context, dec Decision) (Receipt, error) {
	j, err := d.newJob(dec)
	if err != nil {
		return Receipt{}, err
	}
	select {
	case <-d.closed:
		return Receipt{}, fmt.Errorf("%w: closed", ErrUnavailable)
	default:
	}
	select {
	case d.queue <- j:
	default:
		return Receipt{}, fmt.Errorf("%w: %d decisions wait", ErrBusy, cap(d.queue))
	}
	select {
	case a := <-j.answer:
		return a.r, a.err
	case <-ctx.Done():
	case <-d.closed:
	}
	select {
	case <-j.state:
		// Nobody has begun it, and now nobody will.
		if ctx.Err() == nil {
			return Receipt{}, fmt.Errorf("%w: closed", ErrUnavailable)
		}
		return Receipt{}, fmt.Errorf("%w: given up while waiting: %w", ErrBusy, context.Cause(ctx))
	default:
	}
	// It is being written. The transaction is bounded in time, so this is too.
	a := <-j.answer
	return a.r, a.err
}

// newJob checks a decision and does what needs no database, on the caller's
// goroutine.
func (d *db) newJob(dec Decision) (*job, error) {
	if err := dec.valid(); err != nil {
		return nil, err
	}
	r := &dec.Record
	if r.Kind != audit.Decision {
		return nil, fmt.Errorf("%w: the record is of the kind %q", ErrInvalid, r.Kind)
	}
	if want := digestOf(dec.Detail); r.Detail != want {
		return nil, fmt.Errorf("%w: the record's detail digest is %s, the detail's is %s", ErrInvalid, r.Detail, want)
	}
	if c := dec.Certificate; c != nil {
		r.Serial = c.Serial
	}
	if m := dec.Signer; m != nil {
		r.Signer, r.SignedName, r.SignedVersion = m.Signer, m.Name, m.Version
	}
	// Encoded once before, so that what does not fit a record is refused here and
	// not in a transaction that others share.
	probe := *r
	probe.Seq, probe.Time, probe.Epoch = 1<<62, us(dec.At), dec.Epoch
	if _, err := probe.Encode(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	exposed, err := json.Marshal(dec.Exposed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	detail, err := d.codec.pack(dec.Detail)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	j := &job{d: dec, detail: detail, exposed: string(exposed), state: make(chan struct{}, 1), answer: make(chan answer, 1)}
	j.state <- struct{}{}
	return j, nil
}

func (dec *Decision) valid() error {
	r := &dec.Record
	errs := []error{
		moment("the decision", dec.At, false),
		text("the request's id", r.Request, 0), text("who asked", r.Who, 0), text("the workload", r.Workload, 0),
		text("the instance", r.Instance, 0), text("the TEE", r.TEE, 0), text("the code", r.Code, 0),
		text("the outcome", string(r.Outcome), 1),
		text("the TCB status", dec.TCBStatus, 0), text("the platform", dec.Platform, 0),
		size("the detail", len(dec.Detail), 0, MaxDetail), version("the epoch", dec.Epoch),
	}
	switch r.Outcome {
	case verdict.Admitted, verdict.NotGenuine, verdict.Refused, verdict.CannotTell:
	default:
		errs = append(errs, refuse(ErrInvalid, "the outcome is %q", r.Outcome))
	}
	if r.PolicyVersion > 1<<62 || len(dec.Once) > 4 || len(dec.Exposed) > 64 {
		errs = append(errs, refuse(ErrInvalid, "found policy version %d, %d things accepted once, %d advisories", r.PolicyVersion, len(dec.Once), len(dec.Exposed)))
	}
	for _, e := range dec.Exposed {
		errs = append(errs, textTo("an advisory", e, 1, 64))
	}
	for _, o := range dec.Once {
		errs = append(errs, textTo("the kind of what is accepted once", string(o.Kind), 1, 32), moment("its expiry", o.Expires, true))
	}
	if l := dec.Lease; l != nil {
		errs = append(errs, text("the lease's instance", l.Instance, 1), text("the lease's workload", dec.leaseOf(), 1), moment("the lease's end", l.Until, false))
		if l.Max < 1 || l.Max > MaxPlaces {
			errs = append(errs, refuse(ErrInvalid, "the lease is one of %d, wanted 1 to %d", l.Max, MaxPlaces))
		}
	}
	if st := dec.Standing; st != nil {
		errs = append(errs, version("the policy", st.Policy), text("the policy's subject", dec.standingOf(), 1))
		if len(st.Secrets) > 64 {
			errs = append(errs, refuse(ErrInvalid, "%d secrets", len(st.Secrets)))
		}
	}
	if m := dec.Signer; m != nil {
		errs = append(errs, text("the signer", m.Signer, 1), text("the signed name", m.Name, 1))
		if m.Version > 1<<62 {
			errs = append(errs, refuse(ErrInvalid, "the signed version is %d", m.Version))
		}
	}
	if c := dec.Certificate; c != nil {
		errs = append(errs, size("the serial number", len(c.Serial), 1, 20), text("the CA", c.CA, 1),
			moment("notBefore", c.NotBefore, false), moment("notAfter", c.NotAfter, false))
	}
	if r.Outcome != verdict.Admitted && (dec.Certificate != nil || dec.Lease != nil || dec.Signer != nil) {
		errs = append(errs, refuse(ErrInvalid, "the outcome is %s, and it grants something", r.Outcome))
	}
	return first(errs...)
}

// leaseOf is whose place the decision takes, standingOf whose policy it rests on.
func (dec *Decision) leaseOf() string {
	if dec.Lease != nil && dec.Lease.Subject != "" {
		return dec.Lease.Subject
	}
	return dec.Record.Workload
}

func (dec *Decision) standingOf() string {
	if dec.Standing != nil && dec.Standing.Subject != "" {
		return dec.Standing.Subject
	}
	return dec.Record.Workload
}

// decider answers all Decide calls, as many in one transaction as wait: the disk is
// waited for once for all of them.
func (d *db) decider() {
	defer d.done.Done()
	for {
		var batch []*job
		select {
		case j := <-d.queue:
			batch = append(batch, j)
		case <-d.closed:
			return
		}
	more:
		for len(batch) < d.o.Batch {
			select {
			case j := <-d.queue:
				batch = append(batch, j)
			default:
				break more
			}
		}
		owned := batch[:0]
		for _, j := range batch {
			select {
			case <-j.state:
				owned = append(owned, j)
			default: // its caller has gone
			}
		}
		d.decideAll(owned)
	}
}

// decideAll answers a batch. Where it fails as a whole before anything was committed
// and the database is there, each is tried alone: one that cannot be written must
// not take others with it.
func (d *db) decideAll(jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	answers, sure, err := d.decideBatch(jobs)
	if err != nil && sure && len(jobs) > 1 && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrBusy) {
		for _, j := range jobs {
			d.decideAll([]*job{j})
		}
		return
	}
	for i, j := range jobs {
		if err != nil {
			j.answer <- answer{err: err}
		} else {
			j.answer <- answers[i]
		}
	}
}

// decideBatch writes a batch in one transaction. sure says, with an error, that
// nothing of it is there.
func (d *db) decideBatch(jobs []*job) (answers []answer, sure bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), txTime)
	defer cancel()
	t, err := d.beginTx(ctx, d.writes, d.begin())
	if err != nil {
		return nil, true, d.translate(err)
	}
	answers, err = d.decideIn(ctx, t, jobs)
	if err != nil {
		t.rollback()
		return nil, true, d.translate(err)
	}
	if err := t.commit(ctx); err != nil {
		return nil, false, fmt.Errorf("%w: whether it was written is not known: %w", ErrUnavailable, err)
	}
	return answers, true, nil
}

func (d *db) decideIn(ctx context.Context, t *tx, jobs []*job) ([]answer, error) {
	s, err := t.state(ctx)
	if err != nil {
		return nil, err
	}
	k, err := d.known(ctx, t, jobs)
	if err != nil {
		return nil, err
	}
	answers := make([]answer, len(jobs))
	var out []statement
	counts := map[countKey]int64{}
	for i, j := range jobs {
		if err := k.judge(s, &j.d); err != nil {
			answers[i].err = plain(err)
			continue
		}
		rec := j.d.Record
		rec.Epoch = s.epoch.Number
		b, err := s.chain.Next(&rec, j.d.At)
		if err != nil {
			return nil, err // newJob has encoded it before
		}
		out = append(out, rows(j, rec.Seq, b)...)
		counts[countKey{j.d.At.Truncate(time.Hour).Unix(), rec.TEE, string(rec.Outcome)}]++
		answers[i].r = Receipt{Seq: rec.Seq, Hash: s.chain.Hash, Epoch: rec.Epoch}
	}
	if len(out) == 0 {
		return answers, nil
	}
	out = append(out, k.rows()...)
	out = append(out, countRows(counts)...)
	out = append(out, stmt("UPDATE state SET seq = ?, hash = ? WHERE id = 1", int64(s.chain.Seq), s.chain.Hash[:]))
	return answers, d.bulk(ctx, t, out)
}

type onceKey struct {
	digest [32]byte
	kind   OnceKind
}

type signerKey struct{ signer, name string }

type place struct {
	until int64
	seq   uint64
	fresh bool // to be written
}

// known is what the database says about a batch's challenges, leases and signers,
// changed as its decisions are judged one after another.
type known struct {
	used    map[onceKey]bool
	places  map[string]map[string]*place // of a workload or signer, by instance
	signers map[signerKey]*SignerMark
	raised  map[signerKey]bool
	stands  map[string]Standing // of a workload or signer
}

func (d *db) known(ctx context.Context, t *tx, jobs []*job) (*known, error) {
	k := &known{used: map[onceKey]bool{}, places: map[string]map[string]*place{}, signers: map[signerKey]*SignerMark{}, raised: map[signerKey]bool{}, stands: map[string]Standing{}}
	var once []any
	from := map[string]int64{} // by workload: leases that end before it are over
	for _, j := range jobs {
		for _, o := range j.d.Once {
			once = append(once, o.Digest[:])
		}
		if j.d.Lease != nil {
			w, at := j.d.leaseOf(), us(j.d.At)
			if f, ok := from[w]; !ok || at < f {
				from[w] = at
			}
		}
		if st := j.d.Standing; st != nil {
			k.stands[j.d.standingOf()] = Standing{}
			if st.Alone {
				k.stands[j.d.Record.Workload] = Standing{}
			}
		}
		if m := j.d.Signer; m != nil {
			k.signers[signerKey{m.Signer, m.Name}] = nil
		}
	}
	if len(once) > 0 {
		places, args := in(once)
		err := t.each(ctx, "SELECT kind, digest FROM used WHERE digest IN "+places, args, func(scan func(...any) error) error {
			var kind string
			var digest []byte
			if err := scan(&kind, &digest); err != nil {
				return err
			}
			if len(digest) == 32 {
				k.used[onceKey{[32]byte(digest), OnceKind(kind)}] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for w, at := range from {
		k.places[w] = map[string]*place{}
		err := t.each(ctx, "SELECT instance, until, seq FROM leases WHERE workload = ? AND until > ?", []any{w, at}, func(scan func(...any) error) error {
			var instance string
			var until, seq int64
			if err := scan(&instance, &until, &seq); err != nil {
				return err
			}
			k.places[w][instance] = &place{until: until, seq: uint64(seq)}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for w := range k.stands {
		var err error
		if k.stands[w], err = t.standing(ctx, w); err != nil {
			return nil, err
		}
	}
	for key := range k.signers {
		var v int64
		err := t.row(ctx, "SELECT version FROM signers WHERE signer = ? AND name = ?", []any{key.signer, key.name}, &v)
		if err := noRow(err); err != nil {
			return nil, err
		}
		if err == nil {
			k.signers[key] = &SignerMark{Signer: key.signer, Name: key.name, Version: uint64(v)}
		}
	}
	return k, nil
}

// standing is what stands for a workload at this moment.
func (t *tx) standing(ctx context.Context, workload string) (Standing, error) {
	var policy int64
	if err := t.row(ctx, "SELECT COALESCE(MAX(version), 0) FROM policies WHERE workload = ?", []any{workload}, &policy); err != nil {
		return Standing{}, err
	}
	out := Standing{Policy: uint64(policy), Secrets: map[string]uint64{}}
	err := t.each(ctx, "SELECT name, version FROM secrets s WHERE workload = ? AND deleted = 0 AND version = (SELECT MAX(version) FROM secrets q WHERE q.workload = s.workload AND q.name = s.name)",
		[]any{workload}, func(scan func(...any) error) error {
			var name string
			var v int64
			err := scan(&name, &v)
			out.Secrets[name] = uint64(v)
			return err
		})
	return out, err
}

// judge says whether a decision may be recorded, and if so takes what it takes.
func (k *known) judge(s *state, dec *Decision) error {
	admitted := dec.Record.Outcome == verdict.Admitted
	if dec.Epoch != s.epoch.Number {
		if admitted || len(dec.Once) > 0 {
			return refuse(ErrEpoch, "found epoch %d, wanted %d", dec.Epoch, s.epoch.Number)
		}
		// A refusal is recorded in any case, in the epoch that there is.
	}
	if admitted && !s.epoch.Confirmed {
		return refuse(ErrSuspended, "epoch %d", s.epoch.Number)
	}
	seen := map[onceKey]bool{}
	for _, o := range dec.Once {
		key := onceKey{o.Digest, o.Kind}
		if k.used[key] || seen[key] {
			return refuse(ErrChallengeUsed, "the %s %x", o.Kind, o.Digest[:8])
		}
		seen[key] = true
		if !o.Expires.IsZero() && us(o.Expires) < s.purged {
			return refuse(ErrChallengeUsed, "it expired %s, and what expired before %s is forgotten", o.Expires.UTC().Format(time.RFC3339), when(s.purged).Format(time.RFC3339))
		}
	}
	if st := dec.Standing; st != nil {
		now := k.stands[dec.standingOf()]
		if st.Policy != now.Policy {
			return refuse(ErrConflict, "the policy of %s: found version %d, judged by %d", dec.standingOf(), now.Policy, st.Policy)
		}
		if own := k.stands[dec.Record.Workload].Policy; st.Alone && own != 0 {
			return refuse(ErrConflict, "the policy of %s: found version %d, judged where there was none", dec.Record.Workload, own)
		}
		for name, v := range st.Secrets {
			if now.Secrets[name] != v {
				return refuse(ErrConflict, "the secret %s: version %d was read, and it is not the newest", name, v)
			}
		}
	}
	if m := dec.Signer; m != nil {
		if have := k.signers[signerKey{m.Signer, m.Name}]; have != nil && m.Version < have.Version {
			return refuse(ErrDowngrade, "%s of %s: found version %d, wanted at least %d", m.Name, m.Signer, m.Version, have.Version)
		}
	}
	if l := dec.Lease; l != nil {
		at := us(dec.At)
		if at < s.purged {
			return refuse(ErrInstances, "leases that ended before %s are forgotten, and the clock says %s", when(s.purged).Format(time.RFC3339), dec.At.UTC().Format(time.RFC3339))
		}
		others := 0
		for instance, p := range k.places[dec.leaseOf()] {
			if instance != l.Instance && p.until > at {
				others++
			}
		}
		if others >= l.Max {
			return refuse(ErrInstances, "found %d others, at most %d in all", others, l.Max)
		}
	}
	k.take(s.chain.Seq+1, dec)
	return nil
}

func (k *known) take(seq uint64, dec *Decision) {
	for _, o := range dec.Once {
		k.used[onceKey{o.Digest, o.Kind}] = true
	}
	if m := dec.Signer; m != nil {
		key := signerKey{m.Signer, m.Name}
		if have := k.signers[key]; have == nil || have.Version < m.Version {
			mark := *m
			k.signers[key], k.raised[key] = &mark, true
		}
	}
	if l := dec.Lease; l != nil {
		p := k.places[dec.leaseOf()][l.Instance]
		if p == nil {
			p = &place{}
			k.places[dec.leaseOf()][l.Instance] = p
		}
		// A lease never gets shorter: an older certificate may run still.
		p.until, p.seq, p.fresh = max(p.until, us(l.Until)), seq, true
	}
}

// rows are the rows of one decision.
func rows(j *job, seq uint64, record []byte) []statement {
	dec, r := &j.d, &j.d.Record
	out := []statement{
		stmt("INSERT INTO audit (seq, record) VALUES (?, ?)", int64(seq), record),
		stmt("INSERT INTO decisions (seq, at, workload, instance, tee, simulated, outcome, code, tcb_status, platform, exposed, policy, request, who, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			int64(seq), us(dec.At), r.Workload, r.Instance, r.TEE, flag(r.Simulated), string(r.Outcome), r.Code,
			dec.TCBStatus, dec.Platform, j.exposed, int64(r.PolicyVersion), r.Request, r.Who, j.detail),
	}
	for _, o := range dec.Once {
		out = append(out, stmt("INSERT INTO used (kind, digest, expires) VALUES (?, ?, ?)", string(o.Kind), o.Digest[:], us(o.Expires)))
	}
	if c := dec.Certificate; c != nil {
		out = append(out, stmt("INSERT INTO certificates (serial, ca, workload, instance, not_before, not_after, seq) VALUES (?, ?, ?, ?, ?, ?, ?)",
			c.Serial, c.CA, r.Workload, r.Instance, us(c.NotBefore), us(c.NotAfter), int64(seq)))
	}
	return out
}

// rows are the leases and marks that the batch changed.
func (k *known) rows() []statement {
	var out []statement
	for w, places := range k.places {
		for instance, p := range places {
			if p.fresh {
				out = append(out, stmt("INSERT INTO leases (workload, instance, until, seq) VALUES (?, ?, ?, ?) ON CONFLICT (workload, instance) DO UPDATE SET until = excluded.until, seq = excluded.seq",
					w, instance, p.until, int64(p.seq)))
			}
		}
	}
	for key := range k.raised {
		out = append(out, stmt("INSERT INTO signers (signer, name, version) VALUES (?, ?, ?) ON CONFLICT (signer, name) DO UPDATE SET version = excluded.version",
			key.signer, key.name, int64(k.signers[key].Version)))
	}
	return out
}

type countKey struct {
	hour         int64
	tee, outcome string
}

func countRows(counts map[countKey]int64) []statement {
	keys := make([]countKey, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return fmt.Sprint(keys[i]) < fmt.Sprint(keys[j]) })
	var out []statement
	for _, k := range keys {
		out = append(out, stmt("INSERT INTO counts (hour, tee, outcome, n) VALUES (?, ?, ?, ?) ON CONFLICT (hour, tee, outcome) DO UPDATE SET n = counts.n + excluded.n",
			k.hour, k.tee, k.outcome, counts[k]))
	}
	return out
}
