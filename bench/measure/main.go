//go:build linux

// Command measure makes the figures of docs/benchmarks.md: each row beside its
// peer, in rounds that take turns, on this machine. docs/benchmarks.md says how
// each row is measured and how to run one of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A row is one part of the table.
type row struct {
	name, title string
	run         func(context.Context, *env) (report, error)
}

func rows() []row {
	return []row{
		{"startup", "Start-up", startup},
		{"compute", "Compute", compute},
		{"http", "HTTP", httpRow},
		{"echo", "TCP echo", echo},
		{"responsive", "Responsiveness", responsive},
		{"memory", "Memory", memory},
		{"link", "Link", linkRow},
		{"vm", "Virtual machine", vmRow},
		{"verify", "Verification", verifyRow},
		{"steward", "Steward", stewardRow},
		{"connect", "Attested connections", connectRow},
	}
}

func rowNames() []string {
	var names []string
	for _, r := range rows() {
		names = append(names, r.name)
	}
	return names
}

// env is what every row is given.
type env struct {
	root    string        // of the repository
	out     string        // what is built and cached
	rounds  int           // that take turns
	runs    int           // whole programs, in start-up
	time    time.Duration // of one load
	bin     string        // bin/donjon
	wazero  string        // the wazero command line
	scratch string        // removed at the end
	log     io.Writer
}

func (e *env) say(format string, args ...any) { fmt.Fprintf(e.log, format+"\n", args...) }

func (e *env) guest(name string) string { return filepath.Join(e.out, name) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	names := rowNames()
	e := &env{log: os.Stderr}
	fs := flag.NewFlagSet("measure", flag.ContinueOnError)
	which := fs.String("rows", strings.Join(names, ","), "rows to measure")
	doc := fs.String("o", "", "write the figures into this `FILE` (docs/benchmarks.md), between its marks; default: stdout alone")
	fs.IntVar(&e.rounds, "rounds", 5, "rounds that take turns")
	fs.IntVar(&e.runs, "runs", 20, "runs of each program in the row startup")
	fs.DurationVar(&e.time, "time", 2*time.Second, "time of one load on a server")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || e.rounds < 1 || e.runs < 1 || e.time <= 0 {
		return fmt.Errorf("found %q, wanted flags alone, with rounds, runs and a time above 0", args)
	}
	wanted := strings.Split(*which, ",")
	for _, w := range wanted {
		if !slices.Contains(names, w) {
			return fmt.Errorf("-rows: found %q, wanted some of %s", w, strings.Join(names, ","))
		}
	}
	// The load must leave a processor to what is measured.
	runtime.GOMAXPROCS(1)
	if err := e.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.scratch)) }()
	command := "go run ./bench/measure " + strings.Join(args, " ")
	var failed []error
	for _, r := range rows() {
		if !slices.Contains(wanted, r.name) {
			continue
		}
		if err := e.measure(ctx, r, command, *doc); err != nil {
			e.say("%s: %v", r.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", r.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// measure makes one row and writes it down.
func (e *env) measure(ctx context.Context, r row, command, doc string) error {
	m := thisMachine(e, command)
	e.say("%s …", r.name)
	before, ok1 := readClock()
	rep, err := r.run(ctx, e)
	if err != nil {
		return err
	}
	after, ok2 := readClock()
	if m.others = 1; ok1 && ok2 {
		m.others = others(before, after, m.cpus)
	}
	text := rep.section(m)
	fmt.Printf("## %s\n\n%s\n", r.title, text)
	if doc == "" {
		return nil
	}
	return splice(doc, r.name, text, rep.summary(r.name, m.disturbed()))
}
