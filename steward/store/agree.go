package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/audit"
)

// Agree holds every decision, policy, secret, confirmation, token and highest version of
// a signed workload of a store against its audit log: whoever writes the database can
// leave the log alone and change what is read beside it. A highest version that only
// purged decisions made is not compared. ErrTampered names the first row that differs; *NotMade
// says that all do agree, and that MACs could not be checked. That the log itself
// stands is audit.Verify's to say.
func Agree(ctx context.Context, s Store) error {
	for try := 1; ; try++ {
		before, err := s.Head(ctx)
		if err != nil {
			return err
		}
		err = agree(ctx, s, before.Seq)
		if err == nil || !errors.Is(err, ErrTampered) || try == 5 {
			return err
		}
		after, herr := s.Head(ctx)
		if herr != nil {
			return herr
		}
		if after.Seq == before.Seq {
			return err // nobody wrote meanwhile
		}
	}
}

// said is what the log says of what can change.
type said struct {
	decisions int
	policies  map[string]uint64 // newest version
	secrets   map[SecretKey]*saidSecret
	tokens    map[string]*saidToken
	signed    map[signerKey]uint64 // the highest version admitted
	notMade   NotMade
}

type saidSecret struct {
	version   uint64
	policy    audit.Digest
	confirmed map[audit.Digest]bool
	deleted   bool
}

type saidToken struct {
	hash    audit.Digest
	scopes  string
	ends    *int64 // nil: the log does not say
	who     string
	made    int64
	revoked int64 // 0: it was not
}

func newSaid() *said {
	return &said{policies: map[string]uint64{}, secrets: map[SecretKey]*saidSecret{}, tokens: map[string]*saidToken{}, signed: map[signerKey]uint64{}}
}

func agree(ctx context.Context, s Store, end uint64) error {
	l := newSaid()
	if err := eachRecord(ctx, s, end, func(r *audit.Record) error { return l.take(ctx, s, r) }); err != nil {
		return err
	}
	if err := l.compare(ctx, s); err != nil {
		return err
	}
	return l.notMade.asError()
}

// eachRecord calls f for each record of the log, up to that of number end.
func eachRecord(ctx context.Context, s Store, end uint64, f func(*audit.Record) error) error {
	for next := uint64(1); next <= end; {
		list, err := s.AuditRecords(ctx, next, MaxPage)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("%w: record %d is not there", ErrTampered, next)
		}
		for _, b := range list {
			if audit.IsStub(b) { // a decision that was purged
				next++
				continue
			}
			r, err := audit.Parse(b)
			if err != nil {
				return fmt.Errorf("%w: record %d: %w", ErrTampered, next, err)
			}
			if err := f(r); err != nil {
				return err
			}
			next++
		}
	}
	return nil
}

// take looks up what a record made and nothing changes, and remembers the rest.
func (l *said) take(ctx context.Context, s Store, r *audit.Record) error {
	k := SecretKey{r.Workload, r.Name}
	gone := func(what string, err error) error {
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %s of record %d is gone", ErrTampered, what, r.Seq)
		}
		return err
	}
	switch r.Kind {
	case audit.Decision:
		l.decisions++
		if r.Signer != "" && r.Outcome == verdict.Admitted {
			k := signerKey{r.Signer, r.SignedName}
			l.signed[k] = max(l.signed[k], r.SignedVersion)
		}
		_, err := s.Decision(ctx, r.Seq)
		return gone("the decision", err)
	case audit.Policy:
		l.policies[r.Workload] = r.Version
		p, err := l.unchecked(s.PolicyVersion(ctx, r.Workload, r.Version))
		if err == nil && (p.Digest != r.Policy || p.By != r.Who || us(p.At) != r.Time) {
			err = fmt.Errorf("%w: policy %d of %s", ErrTampered, r.Version, r.Workload)
		}
		return gone("the policy", err)
	case audit.SecretSet:
		l.secrets[k] = &saidSecret{version: r.Version, policy: r.Policy, confirmed: map[audit.Digest]bool{}}
	case audit.SecretConfirm:
		if x := l.secrets[k]; x != nil && x.version == r.Version {
			x.confirmed[r.Policy] = true
		}
	case audit.SecretDelete:
		if x := l.secrets[k]; x != nil {
			x.deleted = true
		}
	case audit.TokenCreate, audit.TokenRevoke:
		l.token(r)
	}
	return nil
}

// token remembers what a record says of a token.
func (l *said) token(r *audit.Record) {
	if r.Kind == audit.TokenCreate {
		l.tokens[r.Name] = &saidToken{hash: r.Detail, scopes: r.Text, ends: r.Expires, who: r.Who, made: r.Time}
	} else if x := l.tokens[r.Name]; x != nil {
		x.revoked = r.Time
	}
}

// agrees says whether a token is as the log says.
func (l *said) agrees(t *Token) bool {
	x := l.tokens[t.ID]
	return x != nil && x.scopes == t.scopes() && (x.ends == nil || *x.ends == us(t.Expires)) && x.hash == tokenDigest(t.Hash) &&
		x.who == t.By && x.made == us(t.Created) && x.revoked == us(t.Revoked)
}

func (l *said) compare(ctx context.Context, s Store) error {
	for w, v := range l.policies {
		p, err := unchecked(s.Policy(ctx, w))
		if err != nil {
			return err
		}
		if p.Version != v {
			return fmt.Errorf("%w: the policy of %s: found version %d, the log says %d", ErrTampered, w, p.Version, v)
		}
	}
	if err := l.compareSubjects(ctx, s); err != nil {
		return err
	}
	for k, v := range l.signed {
		have, err := s.SignedVersion(ctx, k.signer, k.name)
		if err != nil {
			return err
		}
		if have != v {
			return fmt.Errorf("%w: the highest version of %s by %s: found %d, the log says %d", ErrTampered, k.name, k.signer, have, v)
		}
	}
	if err := l.compareSecrets(ctx, s); err != nil {
		return err
	}
	if err := l.compareDecisions(ctx, s); err != nil {
		return err
	}
	list, err := s.Tokens(ctx)
	if err != nil {
		return err
	}
	if len(list) < len(l.tokens) {
		if len(list) < MaxPage {
			return fmt.Errorf("%w: found %d tokens, the log says %d", ErrTampered, len(list), len(l.tokens))
		}
		l.notMade.Tokens += len(l.tokens) - len(list) // no list has them
	}
	for _, t := range list {
		if !l.agrees(&t) {
			return fmt.Errorf("%w: the token %s", ErrTampered, t.ID)
		}
		if t.Doubt == Unchecked {
			l.notMade.Tokens++
			continue
		}
		if t.Doubt == Unproven {
			return fmt.Errorf("%w: the token %s: %w", ErrTampered, t.ID, ErrUnproven)
		}
		if t.Doubt != "" {
			return fmt.Errorf("%w: the token %s is %s", ErrTampered, t.ID, t.Doubt)
		}
	}
	return nil
}

// compareDecisions finds decisions that no record made: all of those recorded are there.
func (l *said) compareDecisions(ctx context.Context, s Store) error {
	n := 0
	for before := uint64(0); ; {
		list, err := s.Decisions(ctx, DecisionFilter{Before: before, Limit: MaxPage})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		n += len(list)
		before = list[len(list)-1].Seq
		if before == 0 {
			break
		}
	}
	if n != l.decisions {
		return fmt.Errorf("%w: found %d decisions, the log says %d", ErrTampered, n, l.decisions)
	}
	return nil
}

// compareSubjects finds policies that no record made.
func (l *said) compareSubjects(ctx context.Context, s Store) error {
	for after := ""; ; {
		list, err := s.Subjects(ctx, after, MaxPage)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, p := range list {
			if l.policies[p.Workload] != p.Version {
				return fmt.Errorf("%w: the policy of %s: found version %d, the log says %d", ErrTampered, p.Workload, p.Version, l.policies[p.Workload])
			}
			after = p.Workload
		}
	}
}

func (l *said) compareSecrets(ctx context.Context, s Store) error {
	found := map[SecretKey]bool{}
	for after := (SecretKey{}); ; {
		list, err := s.AllSecrets(ctx, after, MaxPage)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, x := range list {
			after = x.SecretKey
			found[after] = true
			have := l.secrets[after]
			ok := have != nil && !have.deleted && have.version == x.Version && have.policy == x.Policy
			for _, c := range x.Confirmed {
				ok = ok && have.confirmed[c.Policy]
			}
			if !ok {
				return fmt.Errorf("%w: the secret %s of %s, or what it may be released under", ErrTampered, x.Name, x.Workload)
			}
		}
	}
	for k, x := range l.secrets {
		if !x.deleted && !found[k] {
			return fmt.Errorf("%w: the secret %s of %s is gone", ErrTampered, k.Name, k.Workload)
		}
	}
	return nil
}

// tokenDigest is what the log says of a token's hash: that of a random text, from which
// nothing can be had.
func tokenDigest(hash [32]byte) audit.Digest { return sha256.Sum256(hash[:]) }
