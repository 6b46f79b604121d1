package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
)

// where gathers conditions. Only constant texts go into the statement; values are
// arguments.
type where struct {
	conds []string
	args  []any
}

func (w *where) add(cond string, args ...any) {
	w.conds = append(w.conds, cond)
	w.args = append(w.args, args...)
}

func (w *where) String() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

const decisionColumns = "seq, at, workload, instance, tee, simulated, outcome, code, tcb_status, platform, exposed, policy, request, who"

func scanDecision(scan func(...any) error, more ...any) (DecisionRow, error) {
	var r DecisionRow
	var seq, at, simulated, policy int64
	var outcome, exposed string
	err := scan(append([]any{&seq, &at, &r.Workload, &r.Instance, &r.TEE, &simulated, &outcome, &r.Code, &r.TCBStatus, &r.Platform, &exposed, &policy, &r.Request, &r.Who}, more...)...)
	if err != nil {
		return r, err
	}
	r.Seq, r.At, r.Simulated, r.Outcome, r.Policy = uint64(seq), when(at), simulated != 0, verdict.Outcome(outcome), uint64(policy)
	if err := json.Unmarshal([]byte(exposed), &r.Exposed); err != nil {
		return r, fmt.Errorf("%w: decision %d: its advisories: %w", ErrTampered, seq, err)
	}
	return r, nil
}

func (d *db) Decisions(ctx context.Context, f DecisionFilter) ([]DecisionRow, error) {
	w := &where{}
	if f.Before != 0 {
		w.add("seq < ?", int64(min(f.Before, 1<<62)))
	}
	for _, c := range []struct{ cond, v string }{
		{"workload = ?", f.Workload}, {"instance = ?", f.Instance}, {"tee = ?", f.TEE}, {"outcome = ?", string(f.Outcome)},
	} {
		if c.v != "" {
			if err := text("a filter", c.v, 0); err != nil {
				return nil, plain(err)
			}
			w.add(c.cond, c.v)
		}
	}
	if !f.From.IsZero() {
		w.add("at >= ?", us(f.From))
	}
	if !f.To.IsZero() {
		w.add("at < ?", us(f.To))
	}
	if f.Simulated != nil {
		w.add("simulated = ?", flag(*f.Simulated))
	}
	var out []DecisionRow
	err := d.each(ctx, d.reads, "SELECT "+decisionColumns+" FROM decisions"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, limit(f.Limit)), func(scan func(...any) error) error {
		r, err := scanDecision(scan)
		out = append(out, r)
		return err
	})
	return out, d.translate(err)
}

func (d *db) Decision(ctx context.Context, seq uint64) (*DecisionDetail, error) {
	if seq > 1<<62 {
		return nil, ErrNotFound
	}
	t, err := d.beginTx(ctx, d.reads, d.beginRead())
	if err != nil {
		return nil, d.translate(err)
	}
	defer t.rollback()
	out := &DecisionDetail{}
	var detail []byte
	row := t.conn.QueryRowContext(ctx, d.rewrite("SELECT "+decisionColumns+", detail FROM decisions WHERE seq = ?"), int64(seq))
	if out.DecisionRow, err = scanDecision(row.Scan, &detail); err != nil {
		return nil, d.translate(err)
	}
	if err := t.row(ctx, "SELECT record FROM audit WHERE seq = ?", []any{int64(seq)}, &out.Raw); err != nil {
		if noRow(err) == nil {
			return nil, fmt.Errorf("%w: decision %d has no record", ErrTampered, seq)
		}
		return nil, d.translate(err)
	}
	if out.Detail, err = d.codec.unpack(detail); err != nil {
		return nil, err
	}
	if err := out.agree(); err != nil {
		return nil, err
	}
	return out, d.linked(ctx, t, seq, out.Hash)
}

// agree looks whether the columns and the detail are what the record says.
func (o *DecisionDetail) agree() error {
	rec, err := audit.Parse(o.Raw)
	if err != nil {
		return fmt.Errorf("%w: decision %d: %w", ErrTampered, o.Seq, err)
	}
	o.Record, o.Hash = *rec, audit.Hash(o.Raw)
	r := o.DecisionRow
	for _, c := range []struct {
		what string
		same bool
	}{
		{"the number", rec.Seq == r.Seq}, {"the kind", rec.Kind == audit.Decision}, {"the time", rec.At().Equal(r.At)},
		{"the workload", rec.Workload == r.Workload}, {"the instance", rec.Instance == r.Instance}, {"the TEE", rec.TEE == r.TEE},
		{"simulated", rec.Simulated == r.Simulated}, {"the outcome", rec.Outcome == r.Outcome}, {"the code", rec.Code == r.Code},
		{"the policy", rec.PolicyVersion == r.Policy}, {"the request", rec.Request == r.Request}, {"who asked", rec.Who == r.Who},
		{"the detail", rec.Detail == digestOf(o.Detail)},
	} {
		if !c.same {
			return fmt.Errorf("%w: decision %d: %s", ErrTampered, o.Seq, c.what)
		}
	}
	return nil
}

// linked looks whether the log goes on from a record's hash.
func (d *db) linked(ctx context.Context, t *tx, seq uint64, hash audit.Digest) error {
	var raw []byte
	err := t.row(ctx, "SELECT record FROM audit WHERE seq = ?", []any{int64(seq + 1)}, &raw)
	if noRow(err) != nil {
		return d.translate(err)
	}
	if err == nil {
		next, err := audit.Parse(raw)
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrTampered, seq+1, err)
		}
		if next.Prev == hash {
			return nil
		}
	} else {
		var end []byte
		if err := t.row(ctx, "SELECT hash FROM state WHERE id = 1 AND seq = ?", []any{int64(seq)}, &end); noRow(err) != nil {
			return d.translate(err)
		}
		if string(end) == string(hash[:]) {
			return nil
		}
	}
	return fmt.Errorf("%w: the log does not go on from record %d", ErrTampered, seq)
}

func (d *db) Counts(ctx context.Context, from, to time.Time, span Span) ([]Count, error) {
	if span != Hour && span != Day {
		return nil, fmt.Errorf("%w: a span of %s, wanted an hour or a day", ErrInvalid, time.Duration(span))
	}
	if err := first(moment("the beginning", from, false), moment("the end", to, false)); err != nil {
		return nil, err
	}
	if to.Sub(from)/time.Duration(span) > 10000 {
		return nil, fmt.Errorf("%w: more than 10000 spans", ErrInvalid)
	}
	var out []Count
	at := map[Count]int{}
	err := d.each(ctx, d.reads, "SELECT hour, tee, outcome, n FROM counts WHERE hour >= ? AND hour < ? ORDER BY hour, tee, outcome", []any{from.Unix(), to.Unix()}, func(scan func(...any) error) error {
		var hour, n int64
		var tee, outcome string
		if err := scan(&hour, &tee, &outcome, &n); err != nil {
			return err
		}
		c := Count{Start: time.Unix(hour, 0).UTC().Truncate(time.Duration(span)), TEE: tee, Outcome: verdict.Outcome(outcome)}
		i, ok := at[c]
		if !ok {
			i = len(out)
			at[c] = i
			out = append(out, c)
		}
		out[i].N += uint64(n)
		return nil
	})
	return out, d.translate(err)
}
