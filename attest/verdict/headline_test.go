package verdict

import (
	"strings"
	"testing"
)

// Where nobody asked which program runs, the headline does not say that it is admitted.
func TestHeadlineOfPlatformOnly(t *testing.T) {
	pinned := Skip(RuntimePinned, "", "")
	pinned.Informal = true
	for _, c := range []struct {
		check Check
		want  string
	}{{Pass(RuntimePinned, ""), "genuine, and admitted"}, {pinned, "genuine, and the platform is admitted; what runs on it was not judged"}} {
		v := &Verdict{Checks: []Check{Pass(Signature, ""), c.check}}
		if v.Conclude(); v.Headline() != c.want {
			t.Errorf("found %q, wanted %q", v.Headline(), c.want)
		}
	}
}

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
