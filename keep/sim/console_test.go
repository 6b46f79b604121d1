//go:build linux

package sim

import (
	"fmt"
	"strings"
	"testing"
)

// T28: however much a Keep prints outside the link, the last lines are kept.
func TestT28ConsoleIsBounded(t *testing.T) {
	c := newConsole()
	for i := range 100_000 {
		if _, err := fmt.Fprintf(c, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if l := c.lines(); len(l) != 12 || l[11] != "line 99999" {
		t.Errorf("found %q", l)
	}
	if _, err := c.Write([]byte(strings.Repeat("x", 10<<20))); err != nil {
		t.Fatal(err)
	}
	if l := c.lines(); len(l) != 1 || len(l[0]) != consoleBytes {
		t.Errorf("found %d lines", len(l))
	}
	if cap(c.tail) > 64<<10 {
		t.Errorf("%d bytes are held", cap(c.tail))
	}
}

func TestConsoleIsEmpty(t *testing.T) {
	c := newConsole()
	_, _ = c.Write([]byte("\n\n"))
	if l := c.lines(); l != nil {
		t.Errorf("found %q", l)
	}
}
