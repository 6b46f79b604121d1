package store

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

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
			k.stands[j.d.standingOf()] = Standing{Secrets: map[string]uint64{}}
			if st.Alone {
				k.stands[j.d.Record.Workload] = Standing{Secrets: map[string]uint64{}}
			}
		}
		if m := j.d.Signer; m != nil {
			k.signers[signerKey{m.Signer, m.Name}] = nil
		}
	}
	var ask []question
	if len(once) > 0 {
		places, args := in(once)
		ask = append(ask, question{stmt("SELECT kind, digest FROM used WHERE digest IN "+places, args...), func(scan func(...any) error) error {
			var kind string
			var digest []byte
			err := scan(&kind, &digest)
			if len(digest) == 32 {
				k.used[onceKey{[32]byte(digest), OnceKind(kind)}] = true
			}
			return err
		}})
	}
	for w, at := range from {
		k.places[w] = map[string]*place{}
		ask = append(ask, question{stmt("SELECT instance, until, seq FROM leases WHERE workload = ? AND until > ?", w, at), func(scan func(...any) error) error {
			var instance string
			var until, seq int64
			err := scan(&instance, &until, &seq)
			k.places[w][instance] = &place{until: until, seq: uint64(seq)}
			return err
		}})
	}
	for w := range k.stands {
		ask = append(ask, k.standing(w)...)
	}
	for key := range k.signers {
		ask = append(ask, question{stmt("SELECT version FROM signers WHERE signer = ? AND name = ?", key.signer, key.name), func(scan func(...any) error) error {
			var v int64
			err := scan(&v)
			k.signers[key] = &SignerMark{Signer: key.signer, Name: key.name, Version: uint64(v)}
			return err
		}})
	}
	return k, d.ask(ctx, t, ask)
}

// standing asks what stands for a workload at this moment.
func (k *known) standing(workload string) []question {
	return []question{
		{stmt("SELECT COALESCE(MAX(version), 0) FROM policies WHERE workload = ?", workload), func(scan func(...any) error) error {
			var policy int64
			err := scan(&policy)
			st := k.stands[workload]
			st.Policy = uint64(policy)
			k.stands[workload] = st
			return err
		}},
		{stmt("SELECT name, version FROM secrets s WHERE workload = ? AND deleted = 0 AND version = (SELECT MAX(version) FROM secrets q WHERE q.workload = s.workload AND q.name = s.name)",
			workload), func(scan func(...any) error) error {
			var name string
			var v int64
			err := scan(&name, &v)
			k.stands[workload].Secrets[name] = uint64(v)
			return err
		}},
	}
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
