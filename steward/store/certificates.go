package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
)

const certificateColumns = "SELECT c.serial, c.ca, c.not_before, c.not_after, c.seq, c.workload, c.instance, d.tee, d.simulated, d.tcb_status, d.platform, d.exposed FROM certificates c JOIN decisions d ON d.seq = c.seq"

func scanCertificate(scan func(...any) error) (r CertificateRow, err error) {
	var nb, na, seq, simulated int64
	var exposed string
	if err := scan(&r.Serial, &r.CA, &nb, &na, &seq, &r.Workload, &r.Instance, &r.TEE, &simulated, &r.TCBStatus, &r.Platform, &exposed); err != nil {
		return r, err
	}
	r.NotBefore, r.NotAfter, r.Seq, r.Simulated = when(nb), when(na), uint64(seq), simulated != 0
	if err := json.Unmarshal([]byte(exposed), &r.Exposed); err != nil {
		return r, fmt.Errorf("%w: decision %d: its advisories: %w", ErrTampered, seq, err)
	}
	return r, nil
}

func (d *db) Certificates(ctx context.Context, f CertificateFilter) ([]CertificateRow, error) {
	if err := first(text("a filter", f.Workload, 0), text("a filter", f.Instance, 0), size("the page", len(f.After), 0, 20)); err != nil {
		return nil, err
	}
	w := &where{}
	if f.Workload != "" {
		w.add("c.workload = ?", f.Workload)
	}
	if f.Instance != "" {
		w.add("c.instance = ?", f.Instance)
	}
	switch {
	case len(f.After) > 0:
		w.add("(c.not_after > ? OR c.not_after = ? AND c.serial > ?)", us(f.From), us(f.From), f.After)
	case !f.From.IsZero():
		w.add("c.not_after >= ?", us(f.From))
	}
	if !f.To.IsZero() {
		w.add("c.not_after < ?", us(f.To))
	}
	if f.Newest {
		w.add("NOT EXISTS (SELECT 1 FROM certificates n WHERE n.workload = c.workload AND n.instance = c.instance AND n.seq > c.seq)")
	}
	var out []CertificateRow
	err := d.each(ctx, d.reads, certificateColumns+w.String()+" ORDER BY c.not_after, c.serial LIMIT ?", append(w.args, limit(f.Limit)), func(scan func(...any) error) error {
		r, err := scanCertificate(scan)
		out = append(out, r)
		return err
	})
	return out, d.translate(err)
}

func (d *db) Certificate(ctx context.Context, serial []byte) (*CertificateRow, error) {
	if err := first(size("the serial number", len(serial), 1, 20)); err != nil {
		return nil, err
	}
	r, err := scanCertificate(d.reads.QueryRowContext(ctx, d.rewrite(certificateColumns+" WHERE c.serial = ?"), serial).Scan)
	if err != nil {
		return nil, d.translate(err)
	}
	return &r, nil
}

func (d *db) Leases(ctx context.Context, workload string, now time.Time) ([]Lease, error) {
	if err := first(text("the lease's workload", workload, 1), moment("now", now, false)); err != nil {
		return nil, err
	}
	var out []Lease
	err := d.each(ctx, d.reads, "SELECT workload, instance, until, seq FROM leases WHERE workload = ? AND until > ? ORDER BY instance LIMIT ?", []any{workload, us(now), MaxPlaces}, func(scan func(...any) error) error {
		var l Lease
		var until, seq int64
		err := scan(&l.Workload, &l.Instance, &until, &seq)
		l.Until, l.Seq = when(until), uint64(seq)
		out = append(out, l)
		return err
	})
	return out, d.translate(err)
}

func (d *db) EndLease(ctx context.Context, workload, instance string, by Actor) error {
	if err := first(text("the lease's workload", workload, 1), text("the lease's instance", instance, 1)); err != nil {
		return err
	}
	_, err := d.write(ctx, by, func(t *tx, s *state) (*audit.Record, error) {
		n, err := t.exec(ctx, "DELETE FROM leases WHERE workload = ? AND instance = ?", workload, instance)
		if err == nil && n == 0 {
			err = refuse(ErrNotFound, "the lease of %s", instance)
		}
		return &audit.Record{Kind: audit.LeaseEnd, Workload: workload, Instance: instance}, err
	})
	return err
}
