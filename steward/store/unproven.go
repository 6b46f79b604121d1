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
	logged := map[key]audit.Digest{}
	err = eachRecord(ctx, s, end.Seq, func(r *audit.Record) error {
		switch r.Kind {
		case audit.Policy:
			logged[key{r.Workload, r.Version}] = r.Policy
		case audit.TokenCreate, audit.TokenRevoke:
			l.token(r)
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
			out = append(out, UnprovenRow{Token: t, Logged: l.agrees(t)})
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
					out = append(out, UnprovenRow{Policy: p, Logged: logged[key{p.Workload, p.Version}] == p.Digest})
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
