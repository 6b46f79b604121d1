package store

import (
	"context"
	"errors"

	"github.com/donjon-tee/donjon/steward/audit"
)

// UnprovenRow is a token or a version of a policy that has no MAC.
type UnprovenRow struct {
	Token  *Token
	Policy *Policy
	// Logged says that the audit log has a record of the row as it is. The log must have
	// been verified (audit.Verify) for that to mean something.
	Logged bool
	// Record is the last one of the log that is of it; 0: there is none. Whoever writes the
	// database can add records: only those are sure that a signed head covers, made before.
	Record uint64
}

// UnprovenRows gives the tokens and the policies, at most the newest MaxPage versions
// of each workload's, that are Unproven, and holds them against the audit log.
func UnprovenRows(ctx context.Context, s Store) ([]UnprovenRow, error) {
	end, err := s.Head(ctx)
	if err != nil {
		return nil, err
	}
	l := newSaid()
	type key struct {
		workload string
		version  uint64
	}
	logged, last := map[key]audit.Digest{}, map[key]uint64{}
	tokenLast := map[string]uint64{}
	err = eachRecord(ctx, s, end.Seq, func(r *audit.Record) error {
		switch r.Kind {
		case audit.Policy:
			k := key{r.Workload, r.Version}
			logged[k], last[k] = r.Policy, r.Seq
		case audit.TokenCreate, audit.TokenRevoke:
			l.token(r)
			tokenLast[r.Name] = r.Seq
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []UnprovenRow
	tokens, err := s.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	for i := range tokens {
		if t := &tokens[i]; t.Doubt == Unproven {
			out = append(out, UnprovenRow{Token: t, Logged: l.agrees(t), Record: tokenLast[t.ID]})
		}
	}
	for after := ""; ; {
		subjects, err := s.Subjects(ctx, after, MaxPage)
		if err != nil {
			return nil, err
		}
		if len(subjects) == 0 {
			return out, nil
		}
		for _, x := range subjects {
			after = x.Workload
			versions, err := s.Policies(ctx, x.Workload, MaxPage)
			if err != nil {
				return nil, err
			}
			for i := range versions {
				if p := &versions[i]; p.Doubt == Unproven {
					k := key{p.Workload, p.Version}
					out = append(out, UnprovenRow{Policy: p, Logged: logged[k] == p.Digest, Record: last[k]})
				}
			}
		}
	}
}

// Adopt authenticates a row that is as the audit log says; ErrTampered for another.
func Adopt(ctx context.Context, s Store, r UnprovenRow, by Actor) error {
	switch {
	case !r.Logged:
		return errors.Join(ErrTampered, errors.New("the audit log does not know the row"))
	case r.Token != nil:
		return s.AdoptToken(ctx, *r.Token, by)
	case r.Policy != nil:
		return s.AdoptPolicy(ctx, *r.Policy, by)
	}
	return ErrInvalid
}
