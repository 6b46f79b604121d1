package verdict_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// TestPage compares docs/verdicts.md with the table of codes: it must name every
// code and no other, say what the table says, and what to do.
func TestPage(t *testing.T) {
	const page = "../../docs/verdicts.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), "<!-- codes -->\n")
	body, tail, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatalf("%s: no place for the codes", page)
	}
	do := map[verdict.Code]string{}
	for _, line := range strings.Split(body, "\n") {
		cells := strings.Split(line, " | ")
		name, isRow := strings.CutPrefix(cells[0], "| `")
		if !isRow || len(cells) != 6 {
			continue
		}
		code := verdict.Code(strings.TrimSuffix(name, "`"))
		if _, known := verdict.Lookup(code); !known {
			t.Errorf("%s names %q, which is no code", page, code)
		}
		if _, twice := do[code]; twice {
			t.Errorf("%s names %s twice", page, code)
		}
		do[code] = strings.TrimSuffix(strings.TrimSpace(cells[5]), " |")
	}
	var want strings.Builder
	want.WriteString("| code | passed means | failed | not made | may be waived | what to do |\n|---|---|---|---|---|---|\n")
	for _, i := range verdict.Codes() {
		fmt.Fprintf(&want, "| `%s` | %s | %d | %d | %s | %s |\n", i.Code, i.Means, status(i, verdict.Failed), status(i, verdict.NotMade), waivable(i), do[i.Code])
		if do[i.Code] == "" {
			t.Errorf("%s does not say what to do about %s", page, i.Code)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(head+"<!-- codes -->\n"+want.String()+"<!-- end -->"+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if body != want.String() {
		t.Errorf("%s is not what codes.go says: go test ./attest/verdict -run Page -update, then write what to do", page)
	}
}

// status is the exit status that one such check leads to.
func status(i verdict.Info, s verdict.Status) int {
	return verdict.Conclude([]verdict.Check{{Code: i.Code, Status: s}}).ExitStatus()
}

func waivable(i verdict.Info) string {
	waived := verdict.Conclude([]verdict.Check{{Code: i.Code, Status: verdict.NotMade, Waived: "because"}}) == verdict.Admitted
	if waived != i.Waivable {
		return "inconsistent"
	}
	if waived {
		return "yes"
	}
	return "no"
}
