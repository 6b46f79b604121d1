package atls

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// The model of the protocol has the properties that it says, and each change to it that
// leaves something out brings the attack that it says: docs/formal.
func TestFormalModel(t *testing.T) {
	maude, err := exec.LookPath("maude")
	if err != nil {
		t.Skip("no maude here: apt-get install maude")
	}
	const model = "../../docs/formal/donjon-attest-1.maude"
	text, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(maude, "-no-banner", "-no-advise", "-no-wrap", model).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wanted := regexp.MustCompile(`(?m)^\*\*\* expect: (none|found)\nsearch \[1\] (.*?) =>`).FindAllStringSubmatch(string(text), -1)
	found := regexp.MustCompile(`(?m)^search \[1\] in DONJON-ATTEST : (.*?) =>.*\n\n(No solution\.|Solution 1 )`).FindAllStringSubmatch(string(out), -1)
	if len(wanted) < 15 || len(wanted) != len(found) {
		t.Fatalf("%d queries, %d answers\n%s", len(wanted), len(found), out)
	}
	for i, w := range wanted {
		answer := map[string]string{"No solution.": "none", "Solution 1 ": "found"}[found[i][2]]
		if answer != w[1] {
			t.Errorf("query %d, %s: found %q, wanted %q", i+1, w[2], answer, w[1])
		}
	}
}
