package enrol

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/authority"
)

func TestChallenge(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := authority.ChallengeKey{ID: [3]byte{1, 2, 3}, Key: [32]byte{4}}
	other := authority.ChallengeKey{ID: [3]byte{1, 2, 3}, Key: [32]byte{5}} // the same id, by chance
	good := makeChallenge(k, 7, now.Add(ChallengeLife))
	if len(good) != 60 {
		t.Fatalf("%d bytes", len(good))
	}
	check := func(keys []authority.ChallengeKey, epoch uint64, b []byte, at time.Time) error {
		_, err := checkChallenge(keys, epoch, b, at, ChallengeLife)
		return err
	}
	keys := []authority.ChallengeKey{other, k}
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"good":                    {check(keys, 7, good, now), nil},
		"at its last second":      {check(keys, 7, good, now.Add(ChallengeLife-time.Second)), nil},
		"at its end":              {check(keys, 7, good, now.Add(ChallengeLife)), errChallengeExpired},
		"long after":              {check(keys, 7, good, now.AddDate(10, 0, 0)), errChallengeExpired},
		"before it was made":      {check(keys, 7, good, now.Add(-time.Hour)), errChallengeUnknown},
		"of another epoch":        {check(keys, 8, good, now), errChallengeUnknown},
		"of a key that is gone":   {check([]authority.ChallengeKey{other}, 7, good, now), errChallengeUnknown},
		"without keys":            {check(nil, 7, good, now), errChallengeUnknown},
		"short":                   {check(keys, 7, good[:59], now), errChallengeUnknown},
		"long":                    {check(keys, 7, append(good[:60:60], 0), now), errChallengeUnknown},
		"nothing":                 {check(keys, 7, nil, now), errChallengeUnknown},
		"an end before all time":  {check(keys, 7, makeChallenge(k, 7, time.Unix(-1, 0)), now), errChallengeUnknown},
		"an end beyond all years": {check(keys, 7, makeChallenge(k, 7, time.Unix(1<<60, 0)), now), errChallengeUnknown},
	} {
		if !errors.Is(c.err, c.want) || c.want == nil && c.err != nil {
			t.Errorf("%s: found %v, wanted %v", name, c.err, c.want)
		}
	}
	for i := range good {
		bad := append([]byte{}, good...)
		bad[i] ^= 1
		if check(keys, 7, bad, now) == nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
	}
	if string(good) == string(makeChallenge(k, 7, now.Add(ChallengeLife))) {
		t.Error("two challenges are the same")
	}
}

func FuzzChallenge(f *testing.F) {
	k := authority.ChallengeKey{Key: [32]byte{4}}
	now := time.Unix(1_800_000_000, 0)
	good := makeChallenge(k, 1, now.Add(time.Minute))
	f.Add(good[:10])
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := checkChallenge([]authority.ChallengeKey{k}, 1, b, now, ChallengeLife); err == nil {
			t.Errorf("%x: accepted", b)
		}
	})
}

const front = "version = 1\n[snp]\nlaunch_digests = []\n"

func TestDocument(t *testing.T) {
	root := strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		text string
		want string // in the error; "": good
	}{
		"no grant":            {front, ""},
		"a grant":             {front + "[steward]\ndns = [\"a.example\"]\nvalidity = \"1h\"\nmax_instances = 2\nplatforms = [\"simulated:" + root + "\", \"vlek:x\", \"any\"]\naudience = \"b\"\n", ""},
		"a comment behind":    {front + "[steward] # granted\nvalidity = \"7d\"\n", ""},
		"CRLF":                {strings.ReplaceAll(front+"[steward]\nvalidity = \"7d\"\n", "\n", "\r\n"), ""},
		"an unknown key":      {front + "[steward]\ncolour = 1\n", "line 5"},
		"a table after it":    {front + "[steward]\n[sgx]\nenclaves = []\n", "sgx"},
		"twice":               {front + "[steward]\n[steward]\n", "steward"},
		"in brackets, spaced": {front + "[ steward ]\n", "unknown key"},
		"a table of it":       {front + "[steward.more]\n", "unknown key"},
		"in a string":         {"version = 1\nname = \"\"\"\n[steward]\n\"\"\"\n[snp]\n", ""},
		"no policy":           {"[steward]\n", "version"},
		"too short a time":    {front + "[steward]\nvalidity = \"1s\"\n", "validity"},
		"too long a time":     {front + "[steward]\nvalidity = \"31d\"\n", "validity"},
		"a negative number":   {front + "[steward]\nmax_instances = -1\n", "max_instances"},
		"an address":          {front + "[steward]\ndns = [\"10.0.0.1\"]\n", "address"},
		"no platform":         {front + "[steward]\nplatforms = [\"everywhere\"]\n", "everywhere"},
		"a zero chip":         {front + "[steward]\nplatforms = [\"chip:" + strings.Repeat("00", 64) + "\"]\n", "chip"},
		"a short chip":        {front + "[steward]\nplatforms = [\"chip:ab\"]\n", "chip"},
		"no nonce":            {"freshness = \"none\"\n" + front, "freshness"},
	} {
		_, err := ParseDocument([]byte(c.text))
		if name == "in a string" {
			// The line ends the policy wherever it stands: inside a text both halves are
			// no TOML.
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, wanted %q", name, err, c.want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(front))
	f.Add([]byte(front + "[steward]\nplatforms = [\"any\"]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDocument(b)
		if err == nil && (d.Policy == nil || string(d.Text) != string(b) || d.Policy.Freshness == policy.FreshnessNone) {
			t.Errorf("%q: %+v", b, d)
		}
	})
}

// What a simulated report says of its chip or provider is nobody's word.
func TestSimulatedIsNoHardware(t *testing.T) {
	chip := make(claims.Hex, 64)
	chip[0] = 1
	c := &claims.Claims{TEE: claims.SNP, Root: claims.Root{SHA256: make(claims.Hex, 32), Simulated: true}, SNP: &claims.SNPClaims{ChipID: chip, CSP: "provider"}}
	for _, p := range []string{"chip:" + chip.String(), "vlek:provider"} {
		g := Grant{Platforms: []string{p}}
		if k := g.platformCheck(c, true); k.Status != verdict.Failed {
			t.Errorf("%s: %s", p, k.Status)
		}
		c.Root.Simulated = false
		if k := g.platformCheck(c, true); k.Status != verdict.Passed {
			t.Errorf("%s on hardware: %s", p, k.Status)
		}
		c.Root.Simulated = true
	}
}

// Whatever a request is, reading it ends without a panic, and what is accepted has a
// key that may be certified.
func FuzzRequest(f *testing.F) {
	f.Add([]byte{0x30, 0})
	for _, name := range []string{"milan.csr.der", "icelake-xeon.csr.der"} {
		if b, err := os.ReadFile(filepath.Join("../../../shared/evidence/steward", name)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil && (authority.CheckKey(r.key) != nil || r.cmw == nil) {
			t.Errorf("%x: accepted", b)
		}
		if r, err := parseEnarx(b); err == nil && authority.CheckKey(r.key) != nil {
			t.Errorf("%x: accepted", b)
		}
	})
}
