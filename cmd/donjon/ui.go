package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Exit statuses (docs/exit-status.md).
const (
	statusDone       = 0
	statusFailed     = 1
	statusUsage      = 2
	statusNotGenuine = 10
	statusCannotTell = 12
	statusKeep       = 125 // the Keep could not be started or ended abnormally
	statusWorkload   = 126 // the workload cannot be run
	statusNotFound   = 127
)

// A failure ends a verb: it carries the exit status and, where a person can do
// something about it, a hint that is printed on a line of its own.
type failure struct {
	status int
	err    error
	hint   string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }
func (f *failure) Hint() string  { return f.hint }

// fail gives err an exit status; the hint is the one err itself carries, if any.
func fail(status int, err error) error { return &failure{status: status, err: err} }

// failHint gives err an exit status and a hint.
func failHint(status int, hint string, err error) error {
	return &failure{status: status, err: err, hint: hint}
}

func usageError(err error) error {
	return failHint(statusUsage, "donjon help shows how a command is used", err)
}

// flagError says of a flag's value what was wanted, where the library says how it failed.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	wanted := ""
	switch bad.GetFlag().Value.Type() {
	case "duration":
		wanted = "a time like 90s, 15m or 24h"
	case "int", "int64", "uint16", "uint32", "uint64":
		wanted = "a whole number"
	default:
		return err
	}
	return fmt.Errorf("--%s: found %q, wanted %s", bad.GetFlag().Name, bad.GetValue(), wanted)
}

// usageArgs makes a cobra argument check report wrong usage (2).
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return failHint(statusUsage, "usage: "+c.UseLine(), err)
		}
		return nil
	}
}

// silent is returned by a verb that has already said all there is to say and
// wants only its status passed on.
type silent int

func (s silent) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// report prints err in the house form and gives the exit status for it.
func (a *app) report(err error) int {
	var quiet silent
	if err != nil && !errors.As(err, &quiet) {
		fmt.Fprintf(a.stderr, "donjon: %s\n", message(err.Error()))
		if h := hintOf(err); h != "" {
			fmt.Fprintf(a.stderr, "hint: %s\n", message(h))
		}
	}
	return statusOf(err)
}

func statusOf(err error) int {
	var quiet silent
	var f *failure
	switch {
	case err == nil:
		return statusDone
	case errors.As(err, &quiet):
		return int(quiet)
	case errors.As(err, &f):
		return f.status
	case isUnknownCommand(err):
		return statusUsage
	}
	return statusFailed
}

// hintOf is the first hint of err's chain.
func hintOf(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if h, ok := e.(interface{ Hint() string }); ok && h.Hint() != "" {
			return h.Hint()
		}
	}
	if isUnknownCommand(err) {
		return "donjon help lists the commands"
	}
	return ""
}

// isUnknownCommand knows cobra's own error, which has no type.
func isUnknownCommand(err error) bool { return strings.HasPrefix(err.Error(), "unknown command") }

// message is s on one line: file names and texts from evidence stand in it, and a line
// of their own could say anything (THREATS T30). What is indented with a bar is quoted,
// as a Keep's console is, and keeps its lines: they cannot pass for a message.
func message(s string) string {
	var b strings.Builder
	for i, line := range strings.Split(s, "\n") {
		switch {
		case i > 0 && strings.HasPrefix(line, "  | "):
			b.WriteByte('\n')
		case i > 0:
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return printable(b.String())
}

// note prints one line about what goes on, unless --quiet.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "donjon: %s\n", message(fmt.Sprintf(format, args...)))
	}
}

// detail prints one line with --verbose.
func (a *app) detail(format string, args ...any) {
	if a.verbose && !a.quiet {
		fmt.Fprintf(a.stderr, "donjon: %s\n", message(fmt.Sprintf(format, args...)))
	}
}

// printJSON writes v to stdout, indented, with a final newline.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	// What the encoder leaves and a terminal obeys stands inside strings, where
	// the escape means the same.
	_, err := io.WriteString(a.stdout, printable(b.String()))
	return err
}

// isTerminal says whether w is a terminal: only there are colour and progress
// shown.
func isTerminal(w any) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminals says which of stdin, stdout and stderr (bits 0 to 2) are one.
func (a *app) terminals() uint8 {
	var bits uint8
	for i, f := range []any{a.stdin, a.stdout, a.stderr} {
		if isTerminal(f) {
			bits |= 1 << i
		}
	}
	return bits
}

// mark is the sign for a met or missed requirement; colour never stands alone.
func (a *app) mark(ok bool) string {
	sign, colour := "✗", "31"
	if ok {
		sign, colour = "✔", "32"
	}
	if isTerminal(a.stdout) && a.getenv("NO_COLOR") == "" {
		return "\x1b[" + colour + "m" + sign + "\x1b[0m"
	}
	return sign
}

// printable escapes what could steer a terminal or turn text around: control
// characters (newline and tab apart), bidirectional overrides and bytes that are
// not UTF-8 (THREATS T30). Text that comes from a Keep, from evidence or from a
// network passes through here before it is printed.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}
