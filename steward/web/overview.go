package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

// maxFleet bounds the Keeps that the overview counts.
const maxFleet = 10_000

type overviewView struct {
	Span       string // days or hours
	Plots      []plot
	Suspended  bool
	Epoch      store.Epoch
	Keeps      int
	Cut        bool // there are more Keeps than were counted
	Simulated  int
	Levels     []level
	Advisories []exposure
	Expiring   []store.CertificateRow
	Collateral []collateral.Line
	NoneKept   bool   // the Steward keeps no collateral
	Trouble    string // why collateral cannot be shown
	Now        time.Time
}

// level is how many Keeps run at a TCB level.
type level struct {
	TEE, Status string
	Simulated   bool
	Keeps       int
	Latest      uint64 // a decision that shows it
}

// exposure is how many Keeps run on platforms exposed to an advisory.
type exposure struct {
	ID        string
	Keeps     int
	Simulated int
	Latest    uint64
}

// home is the overview for administrators, and the form for everybody else.
func (s *site) home(w http.ResponseWriter, r *http.Request) {
	a, err := s.administrator(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if a == nil {
		s.showForm(w, r, http.StatusOK, "")
		return
	}
	r = r.WithContext(withAdmin(r.Context(), a))
	view, err := s.overview(r.Context(), r.URL.Query().Get("span"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "overview", page{Title: "Overview", At: "overview", Body: view})
}

func (s *site) overview(ctx context.Context, span string) (*overviewView, error) {
	now := s.Now().UTC()
	v := &overviewView{Span: "days", Now: now}
	width, n := store.Day, 30
	if span == "hours" {
		v.Span, width, n = "hours", store.Hour, 48
	}
	to := now.Truncate(time.Duration(width)).Add(time.Duration(width))
	from := to.Add(-time.Duration(n) * time.Duration(width))
	counts, err := s.Store.Counts(ctx, from, to, width)
	if err != nil {
		return nil, err
	}
	v.Plots = plots(counts, from, to, width)
	if v.Epoch, err = s.Store.Epoch(ctx); err != nil {
		return nil, err
	}
	v.Suspended = !v.Epoch.Confirmed
	if err := s.fleet(ctx, v); err != nil {
		return nil, err
	}
	lines, err := s.collateralLines(ctx, now)
	switch {
	case s.Collateral == nil:
		v.NoneKept = true
	case err != nil:
		s.Log.Error("collateral", "error", err)
		v.Trouble = "It could not be read; the Steward's log says why."
	}
	v.Collateral = lines[:min(len(lines), 6)]
	return v, nil
}

// fleet counts the Keeps whose newest certificate is still good.
func (s *site) fleet(ctx context.Context, v *overviewView) error {
	levels, exposed := map[level]*level{}, map[string]*exposure{}
	f := store.CertificateFilter{From: v.Now, Newest: true, Limit: store.MaxPage}
	for {
		rows, err := s.Store.Certificates(ctx, f)
		if err != nil {
			return err
		}
		for _, c := range rows {
			v.Keeps++
			if c.Simulated {
				v.Simulated++
			}
			key := level{TEE: c.TEE, Status: c.TCBStatus, Simulated: c.Simulated}
			l := levels[key]
			if l == nil {
				l = &level{TEE: c.TEE, Status: c.TCBStatus, Simulated: c.Simulated}
				levels[key] = l
			}
			l.Keeps, l.Latest = l.Keeps+1, max(l.Latest, c.Seq)
			for _, id := range c.Exposed {
				e := exposed[id]
				if e == nil {
					e = &exposure{ID: id}
					exposed[id] = e
				}
				e.Keeps, e.Latest = e.Keeps+1, max(e.Latest, c.Seq)
				if c.Simulated {
					e.Simulated++
				}
			}
		}
		if f.After == nil {
			v.Expiring = slices.Clone(rows[:min(len(rows), 6)])
		}
		if len(rows) < f.Limit {
			break
		}
		if v.Keeps >= maxFleet {
			v.Cut = true
			break
		}
		last := rows[len(rows)-1]
		f.From, f.After = last.NotAfter, last.Serial
	}
	for _, l := range levels {
		v.Levels = append(v.Levels, *l)
	}
	slices.SortFunc(v.Levels, func(a, b level) int {
		return cmp.Or(cmp.Compare(a.TEE, b.TEE), cmp.Compare(a.Status, b.Status), cmp.Compare(b.Keeps, a.Keeps))
	})
	for _, e := range exposed {
		v.Advisories = append(v.Advisories, *e)
	}
	slices.SortFunc(v.Advisories, func(a, b exposure) int {
		return cmp.Or(cmp.Compare(b.Keeps, a.Keeps), cmp.Compare(a.ID, b.ID))
	})
	return nil
}

// collateralLines are the items that end, the next to end first. Those without an end
// (an endorsement key of old form) count as ended, as a verifier counts them.
func (s *site) collateralLines(ctx context.Context, now time.Time) ([]collateral.Line, error) {
	if s.Collateral == nil {
		return nil, nil
	}
	lines, err := s.Collateral(ctx)
	if err != nil {
		return nil, err
	}
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i].Expired, lines[i].Future = !now.Before(lines[i].Until), now.Before(lines[i].From)
	}
	slices.SortStableFunc(lines, func(a, b collateral.Line) int { return a.Until.Compare(b.Until) })
	return lines, nil
}

type collateralView struct {
	Lines    []collateral.Line
	Cut      bool
	NoneKept bool
	Now      time.Time
}

// maxLines bounds the items on a page.
const maxLines = 500

func (s *site) collateral(w http.ResponseWriter, r *http.Request) {
	now := s.Now().UTC()
	lines, err := s.collateralLines(r.Context(), now)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := collateralView{Lines: lines[:min(len(lines), maxLines)], Cut: len(lines) > maxLines, NoneKept: s.Collateral == nil, Now: now}
	s.show(w, r, http.StatusOK, "collateral", page{Title: "Collateral", At: "collateral", Body: v})
}

// outcomes and tees are what the filters offer.
func outcomes() []verdict.Outcome {
	return []verdict.Outcome{verdict.Admitted, verdict.Refused, verdict.CannotTell, verdict.NotGenuine}
}

func tees() []string { return []string{"snp", "tdx", "sgx", "tpm", "nitro"} }
