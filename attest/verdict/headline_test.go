package verdict

import (
	"strings"
	"testing"
)

// What was refused before anybody could look at its signature is not called genuine.
func TestHeadlineOfRefused(t *testing.T) {
	for _, c := range []struct {
		checks  []Check
		genuine bool
	}{
		{[]Check{Pass(Signature, ""), Fail(Debug, "", "")}, true},
		{[]Check{Pass(Signature, ""), Skip(Nonce, "", ""), Skip(RootCRL, "", ""), Fail(Debug, "", "")}, true},
		{[]Check{Skip(Signature, "", ""), Fail(Debug, "", "")}, false},
		{[]Check{Skip(EndorsementKey, "", ""), Fail(Debug, "", "")}, false},
		{[]Check{Skip(AKEndorsed, "", ""), Fail(PCRs, "", "")}, false},
	} {
		v := &Verdict{Checks: c.checks}
		v.Conclude()
		if got := strings.Contains(v.Headline(), "genuine, and REFUSED"); v.Outcome != Refused || got != c.genuine {
			t.Errorf("%v: found %s %q, wanted called genuine %v", c.checks, v.Outcome, v.Headline(), c.genuine)
		}
	}
}
