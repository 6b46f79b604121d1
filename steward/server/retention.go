package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/steward/audit"
	"github.com/donjon-tee/donjon/steward/store"
)

// MinRetention is the shortest time that decisions may be kept: a day more than a
// certificate is good for at most, so that what is good can be looked up.
const MinRetention = 31 * 24 * time.Hour

// purging is how long decisions are forgotten for at a time, and purgeBatch how many in
// one transaction, which enrolments wait for.
const (
	purging    = 5 * time.Second
	purgeBatch = 200
)

// forgetDecisions forgets those that are older than they are kept.
func (s *Server) forgetDecisions(ctx context.Context) error {
	if s.o.Retention == 0 {
		return nil
	}
	total := 0
	for end := time.Now().Add(purging); time.Now().Before(end); {
		now := s.o.Clock()
		n, err := s.o.Store.PurgeDecisions(ctx, store.DecisionPurge{Before: now.Add(-s.o.Retention), Limit: purgeBatch,
			Why:  fmt.Sprintf("decisions older than %d days: [retention] of the configuration", s.o.Retention/(24*time.Hour)),
			Sign: func(p *audit.Purged, log audit.LogID) error { return p.Sign(s.o.Authority.AuditKey(), log) }},
			store.Actor{Who: "retention", At: now})
		if errors.Is(err, store.ErrBusy) { // the next time, then
			break
		}
		if err != nil {
			return err
		}
		total += n
		if n < purgeBatch {
			break
		}
	}
	if total > 0 {
		s.o.Log.Info("old decisions were forgotten", "decisions", total)
	}
	return nil
}
