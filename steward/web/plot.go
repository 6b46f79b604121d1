package web

import (
	"fmt"
	"sort"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/store"
)

// A plot shows the decisions of one TEE over time: admitted upwards from the base
// line, all others downwards, so that the place says it and not the colour alone.
type plot struct {
	N        int // tells apart the plots of a page
	TEE      string
	Bars     []bar
	Admitted uint64
	Refused  uint64
	Base     float64 // y of the base line
	Top, Low uint64  // what the greatest bars stand for
	Start    time.Time
	End      time.Time
	Span     string // day or hour
}

type bar struct {
	Start             time.Time
	Admitted, Refused uint64
	X, Width          float64
	Up, Down          float64 // heights
}

// The drawing, in its own units. It is about as wide as a phone, so that its text is
// not scaled down there.
const (
	plotWidth  = 360.0
	plotLeft   = 34.0
	plotTop    = 10.0
	plotBottom = 126.0
)

// Label is the drawing in words.
func (p plot) Label() string {
	return fmt.Sprintf("%s, by the %s: %d admitted, %d not admitted", teeName(p.TEE), p.Span, p.Admitted, p.Refused)
}

// Y gives a y for the top bar's end and the low bar's end, for the axis.
func (p plot) TopY() float64 { return plotTop }

// LowY is where the greatest bar downwards ends.
func (p plot) LowY() float64 { return plotBottom }

// plots draws counts of [from, to) in spans, one plot a TEE, in the order of names.
func plots(counts []store.Count, from, to time.Time, span store.Span) []plot {
	width := time.Duration(span)
	n := int(to.Sub(from) / width)
	if n < 1 || n > 400 {
		return nil
	}
	word := map[store.Span]string{store.Day: "day", store.Hour: "hour"}[span]
	byTEE := map[string]*plot{}
	var names []string
	for _, c := range counts {
		i := int(c.Start.Sub(from) / width)
		if c.Start.Before(from) || i >= n {
			continue
		}
		p := byTEE[c.TEE]
		if p == nil {
			p = &plot{TEE: c.TEE, Bars: make([]bar, n), Start: from, End: to.Add(-width), Span: word}
			byTEE[c.TEE], names = p, append(names, c.TEE)
		}
		if c.Outcome == verdict.Admitted {
			p.Bars[i].Admitted += c.N
			p.Admitted += c.N
		} else {
			p.Bars[i].Refused += c.N
			p.Refused += c.N
		}
	}
	sort.Strings(names)
	var out []plot
	for k, name := range names {
		p := byTEE[name]
		p.N = k
		p.layout(from, width)
		out = append(out, *p)
	}
	return out
}

// layout gives the bars places. Both directions have one scale.
func (p *plot) layout(from time.Time, width time.Duration) {
	for _, b := range p.Bars {
		p.Top, p.Low = max(p.Top, b.Admitted), max(p.Low, b.Refused)
	}
	scale := (plotBottom - plotTop) / float64(max(p.Top+p.Low, 1))
	p.Base = plotTop + float64(p.Top)*scale
	step := (plotWidth - plotLeft) / float64(len(p.Bars))
	for i := range p.Bars {
		b := &p.Bars[i]
		b.Start = from.Add(time.Duration(i) * width)
		b.X, b.Width = round(plotLeft+float64(i)*step+step*0.12), round(step*0.76)
		b.Up, b.Down = height(b.Admitted, scale), height(b.Refused, scale)
	}
	p.Base = round(p.Base)
}

// height keeps a bar of one visible beside bars of thousands.
func height(n uint64, scale float64) float64 {
	if n == 0 {
		return 0
	}
	return round(max(float64(n)*scale, 1.5))
}

func round(f float64) float64 { return float64(int(f*10+0.5)) / 10 }

// Y is where the bar upwards begins.
func (b bar) Y(base float64) float64 { return round(base - b.Up) }
