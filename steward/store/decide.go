package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		select {
		case j := <-d.queue:
			d.decideAll([]*job{j}, d.waiting)
		case <-d.closed:
			return
		}
	}
}

// waiting is what else waits, up to n.
func (d *db) waiting(n int) []*job {
	var more []*job
	for len(more) < n {
		select {
		case j := <-d.queue:
			more = append(more, j)
		default:
			return more
		}
	}
	return more
}

func nobody(int) []*job { return nil }

// decideAll answers a batch, and what more gives for it. Where it fails as a whole before
// anything was committed and the database is there, each is tried alone: one that cannot
// be written must not take others with it.
func (d *db) decideAll(jobs []*job, more func(int) []*job) {
	jobs, answers, sure, err := d.decideBatch(jobs, more)
	if err != nil && sure && len(jobs) > 1 && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrBusy) {
		for _, j := range jobs {
			j.state <- struct{}{} // again nobody has begun it
		}
		for _, j := range jobs {
			if len(j.state) > 0 { // else its caller has gone
				d.decideAll([]*job{j}, nobody)
			}
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

// decideBatch writes a batch in one transaction, and gives those of it whose callers had
// not gone. sure says, with an error, that nothing of it is there.
//
// Only once it holds the state does it look who else waits: while it waited for the disk
// or another replica, they came.
func (d *db) decideBatch(jobs []*job, more func(int) []*job) (owned []*job, answers []answer, sure bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), txTime)
	defer cancel()
	t, s, err := d.beginState(ctx)
	for _, j := range append(jobs, more(d.o.Batch-len(jobs))...) {
		select {
		case <-j.state:
			owned = append(owned, j)
		default: // its caller has gone
		}
	}
	if err != nil {
		return owned, nil, true, d.translate(err)
	}
	if len(owned) == 0 {
		t.rollback()
		return nil, nil, true, nil
	}
	answers, out, err := d.decideIn(ctx, t, s, owned)
	if err != nil {
		t.rollback()
		return owned, nil, true, d.translate(err)
	}
	if sure, err = t.finish(ctx, out); err != nil && sure {
		return owned, nil, true, d.translate(err)
	}
	if err != nil {
		return owned, nil, false, fmt.Errorf("%w: whether it was written is not known: %w", ErrUnavailable, err)
	}
	return owned, answers, true, nil
}

// decideIn gives the answers, and what is to be written for them.
func (d *db) decideIn(ctx context.Context, t *tx, s *state, jobs []*job) (answers []answer, out []statement, err error) {
	k, err := d.known(ctx, t, jobs)
	if err != nil {
		return nil, nil, err
	}
	answers = make([]answer, len(jobs))
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
			return nil, nil, err // newJob has encoded it before
		}
		out = append(out, rows(j, rec.Seq, b)...)
		counts[countKey{j.d.At.Truncate(time.Hour).Unix(), rec.TEE, string(rec.Outcome)}]++
		answers[i].r = Receipt{Seq: rec.Seq, Hash: s.chain.Hash, Epoch: rec.Epoch}
	}
	if len(out) == 0 {
		return answers, nil, nil
	}
	out = append(out, k.rows()...)
	out = append(out, countRows(counts)...)
	return answers, append(out, stmt("UPDATE state SET seq = ?, hash = ? WHERE id = 1", int64(s.chain.Seq), s.chain.Hash[:])), nil
}
