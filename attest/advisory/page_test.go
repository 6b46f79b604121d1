package advisory

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/advisories.md")

func TestPage(t *testing.T) {
	const page = "../../docs/advisories.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), "<!-- table -->\n")
	_, tail, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatalf("%s: no place for the table", page)
	}
	want := head + "<!-- table -->\n" + pageTable() + "<!-- end -->" + tail
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(b) != want {
		t.Errorf("%s is not what the table says: go test ./attest/advisory -run Page -update", page)
	}
}

func pageTable() string {
	var b strings.Builder
	b.WriteString("| id | names | CVEs | published | TEE | class | what | fixed, as evidence shows | confidence |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range All() {
		fixed := r.NoFix + r.Unseen
		switch {
		case r.NoFix != "":
			fixed = "never: " + fixed
		case r.Unseen != "":
			fixed = "not visible: " + fixed
		}
		var fixes []string
		for _, f := range r.Fix {
			var all []string
			for _, c := range f.All {
				all = append(all, c.String())
			}
			on := strings.TrimSpace(f.Product + f.FMSPC + " " + f.CPU)
			if len(all) == 0 {
				all = []string{"no level known"}
			}
			fixes = append(fixes, strings.TrimPrefix(on+": "+strings.Join(all, " and "), ": "))
		}
		tee := strings.Join(r.TEE, ", ")
		if len(r.Product) > 0 {
			tee += " (" + strings.Join(r.Product, ", ") + ")"
		}
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.ID, r.Source, strings.Join(r.Names, ", "), strings.Join(r.CVEs, ", "), r.Published,
			tee, r.Class, r.What, fixed+strings.Join(fixes, "; "), r.Confidence)
	}
	return b.String()
}
