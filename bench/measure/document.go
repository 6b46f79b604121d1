//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is where and how a row was measured.
type machine struct {
	model, kernel, goVersion, load, command string
	cpus, rounds                            int
	when                                    time.Time
	others                                  float64 // share of the machine that other programs used
}

func thisMachine(e *env, command string) machine {
	m := machine{cpus: runtime.NumCPU(), goVersion: runtime.Version(), command: command, rounds: e.rounds, when: time.Now(), model: "unknown processor"}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.model = strings.TrimSpace(v)
				break
			}
		}
	}
	if out, err := exec.Command("uname", "-srm").Output(); err == nil {
		m.kernel = strings.TrimSpace(string(out))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return m
}

func (m machine) line() string {
	s := fmt.Sprintf("%s, %d processors, %s, %s; %s; load average at the start %s, other programs meanwhile %s %% of the processors; %d rounds.",
		m.model, m.cpus, m.kernel, m.goVersion, m.when.UTC().Format("2006-01-02 15:04 MST"), m.load, digits(100*m.others), m.rounds)
	if m.disturbed() {
		s += fmt.Sprintf(" **Disturbed**: above %.0f %% no bar is said to be met.", 100*mostOthers)
	}
	return s + "\n\n    " + m.command
}

func (m machine) disturbed() bool { return m.others > mostOthers }

const summaryMark = "summary"

func marks(name string) (from, to string) {
	return "<!-- begin " + name + " -->\n", "<!-- end " + name + " -->\n"
}

// splice replaces what stands between a row's marks in the document, and the
// row's lines in its summary. The words around them are written by hand.
func splice(file, name, text string, summary []string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, _, err := replace(string(b), name, func(string) string { return "\n" + text + "\n" })
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	doc, _, err = replace(doc, summaryMark, func(old string) string { return mergeSummary(old, name, summary) })
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(doc), 0o644)
}

func replace(doc, name string, with func(old string) string) (string, string, error) {
	from, to := marks(name)
	head, rest, ok1 := strings.Cut(doc, from)
	old, tail, ok2 := strings.Cut(rest, to)
	if !ok1 || !ok2 {
		return "", "", fmt.Errorf("found no lines %q and %q", strings.TrimSpace(from), strings.TrimSpace(to))
	}
	return head + from + with(old) + to + tail, old, nil
}

// mergeSummary keeps the other rows' lines, in the order of rows.
func mergeSummary(old, name string, lines []string) string {
	byRow := map[string][]string{}
	for l := range strings.Lines(old) {
		l = strings.TrimRight(l, "\n")
		if f := strings.Split(l, " | "); len(f) == 5 && strings.HasPrefix(l, "| ") {
			n := strings.TrimPrefix(f[0], "| ")
			byRow[n] = append(byRow[n], l)
		}
	}
	byRow[name] = lines
	out := []string{"", "| row | what | found | wanted | met |", "|---|---|---|---|---|"}
	for _, r := range rows() {
		out = append(out, byRow[r.name]...)
	}
	return strings.Join(out, "\n") + "\n\n"
}
