//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// A series is one figure a round.
type series []float64

func (s series) sorted() series {
	c := slices.Clone(s)
	slices.Sort(c)
	return c
}

func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	c := s.sorted()
	return c[min(len(c)-1, int(q*float64(len(c))))]
}

func (s series) median() float64 {
	c := s.sorted()
	if n := len(c); n == 0 {
		return 0
	} else if n%2 == 0 {
		return (c[n/2-1] + c[n/2]) / 2
	} else {
		return c[n/2]
	}
}

func (s series) mean() float64 {
	var sum float64
	for _, v := range s {
		sum += v
	}
	return sum / float64(max(1, len(s)))
}

// per divides round by round: what the machine did to one round it did to both
// sides of it.
func (s series) per(o series) series {
	r := make(series, min(len(s), len(o)))
	for i := range r {
		r[i] = s[i] / o[i]
	}
	return r
}

// spread is the median with least and greatest.
func (s series) spread(unit string) string {
	if len(s) == 0 {
		return "–"
	}
	c := s.sorted()
	return fmt.Sprintf("%s%s (%s–%s)", digits(s.median()), unit, digits(c[0]), digits(c[len(c)-1]))
}

// digits keeps three that count.
func digits(v float64) string {
	switch {
	case v != 0 && v < 0.1 && v > -0.1:
		return fmt.Sprintf("%.3f", v)
	case v < 10 && v > -10:
		return fmt.Sprintf("%.2f", v)
	case v < 100 && v > -100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// A bar is what a figure must reach. Its verdict is by the median.
type bar struct {
	what    string
	got     series
	unit    string
	limit   float64
	atLeast bool
}

func (b bar) wanted() string {
	s := "≤ "
	if b.atLeast {
		s = "≥ "
	}
	return s + strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", b.limit), "0"), ".") + b.unit
}

func (b bar) met() bool {
	if len(b.got) == 0 {
		return false
	}
	if b.atLeast {
		return b.got.median() >= b.limit
	}
	return b.got.median() <= b.limit
}

// A report is what a row found.
type report struct {
	tables []table
	bars   []bar
}

type table struct {
	caption string
	head    []string
	lines   [][]string
}

func (t *table) add(cells ...string) { t.lines = append(t.lines, cells) }

func (t table) markdown() string {
	var b strings.Builder
	if t.caption != "" {
		b.WriteString(t.caption + "\n\n")
	}
	b.WriteString("| " + strings.Join(t.head, " | ") + " |\n|" + strings.Repeat("---|", len(t.head)) + "\n")
	for _, l := range t.lines {
		b.WriteString("| " + strings.Join(l, " | ") + " |\n")
	}
	return b.String()
}

// section is a row's part of the document.
func (r report) section(m machine) string {
	parts := []string{m.line() + "\n"}
	for _, t := range r.tables {
		parts = append(parts, t.markdown())
	}
	if len(r.bars) > 0 {
		t := table{head: []string{"bar", "found", "wanted", "met"}}
		for _, b := range r.bars {
			t.add(b.cells(m.disturbed())...)
		}
		parts = append(parts, t.markdown())
	}
	return strings.Join(parts, "\n")
}

func (b bar) cells(disturbed bool) []string {
	verdict := "yes"
	if !b.met() {
		verdict = "**no**"
	} else if disturbed {
		verdict = "disturbed: not judged"
	}
	return []string{b.what, b.got.spread(b.unit), b.wanted(), verdict}
}

// summary is a row's lines of the table at the head of the document.
func (r report) summary(name string, disturbed bool) []string {
	var lines []string
	for _, b := range r.bars {
		lines = append(lines, "| "+strings.Join(append([]string{name}, b.cells(disturbed)...), " | ")+" |")
	}
	return lines
}
