package policy

import (
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/verdict"
)

func hd(n int, b byte) Digest { return Digest(h(n, b)) }

func check(list []verdict.Check, code verdict.Code) verdict.Check {
	for _, c := range list {
		if c.Code == code {
			return c
		}
	}
	return verdict.Check{Code: code, Status: "absent"}
}

// THREATS T13: a peer is named by digest, as the judge's own workload, by the Steward's
// name or by a signer. One form that fits is enough; a fact that nobody has is not made.
func TestT13PeerNames(t *testing.T) {
	const id = "spiffe://example.org/keep/bob"
	key := Digest(h(32, 9))
	signed := func(edit func(*Signed)) *Peer {
		s := Signed{Workload: Digest(h(32, 5)), Key: key, Name: "bob", Version: 3}
		edit(&s)
		return &Peer{Signed: []Signed{s}}
	}
	same := "same_workload = true\n"
	signers := "[[signers]]\nkey = " + hexes(32, 9) + "\nname = \"bob\"\nmin_version = 3\n"
	for _, c := range []struct {
		name, toml string
		peer       *Peer
		want       verdict.Status
	}{
		{"own workload", same, &Peer{Own: hd(32, 5)}, verdict.Passed},
		{"another workload", same, &Peer{Own: hd(32, 6)}, verdict.Failed},
		{"no Keep judges", same, nil, verdict.NotMade},
		{"a judge that does not know its own", same, &Peer{}, verdict.NotMade},
		{"not the same, but listed", same + "workloads = [" + hexes(32, 5) + "]\n", &Peer{Own: hd(32, 6)}, verdict.Passed},
		{"nobody's, and an empty list", same + "workloads = []\n", &Peer{Own: hd(32, 6)}, verdict.Failed},
		{"the Steward's name", "spiffe = [\"" + id + "\"]\n", &Peer{SPIFFE: []string{"spiffe://example.org/x", id}}, verdict.Passed},
		{"another name", "spiffe = [\"" + id + "\"]\n", &Peer{SPIFFE: []string{id + "2"}}, verdict.Failed},
		{"no name", "spiffe = [\"" + id + "\"]\n", &Peer{}, verdict.Failed},
		{"no names are wanted", "spiffe = []\n", &Peer{SPIFFE: []string{id}}, verdict.Failed},
		{"nobody looked at names", "spiffe = [\"" + id + "\"]\n", nil, verdict.NotMade},
		{"signed", signers, signed(func(*Signed) {}), verdict.Passed},
		{"signed, newer", signers, signed(func(s *Signed) { s.Version = 4 }), verdict.Passed},
		{"signed, older", signers, signed(func(s *Signed) { s.Version = 2 }), verdict.Failed},
		{"signed as another", signers, signed(func(s *Signed) { s.Name = "bobby" }), verdict.Failed},
		{"signed by another", signers, signed(func(s *Signed) { s.Key = hd(32, 8) }), verdict.Failed},
		{"another workload is signed", signers, signed(func(s *Signed) { s.Workload = hd(32, 6) }), verdict.Failed},
		{"nothing is signed", signers, &Peer{}, verdict.Failed},
		{"nobody looked at signatures", signers, nil, verdict.NotMade},
		{"nothing is named", "", &Peer{Own: hd(32, 5)}, verdict.NotMade},
	} {
		p, err := Parse([]byte("version = 1\n" + strings.Replace(c.toml, "[[signers]]", "[sgx]\nenclaves = ["+hexes(32, 1)+"]\n[[signers]]", 1) +
			map[bool]string{false: "[sgx]\nenclaves = [" + hexes(32, 1) + "]\n"}[strings.Contains(c.toml, "signers")]))
		if err != nil {
			t.Fatal(c.name, err)
		}
		e := goodEnclave()
		e.HostData = append(h(32, 5), make([]byte, 32)...)
		got := check(p.Appraise(e, Demand{Peer: c.peer}), verdict.Workload)
		if got.Status != c.want {
			t.Errorf("%s: found %+v, wanted %s", c.name, got, c.want)
		}
		if got.Status == verdict.Failed && got.Wanted == "" {
			t.Errorf("%s: nothing says what was wanted", c.name)
		}
		// Host data of zeros is nobody's, however workloads are named.
		e.HostData = make([]byte, 64)
		if got := check(p.Appraise(e, Demand{Peer: c.peer}), verdict.Workload); got.Status == verdict.Passed || c.toml != "" && got.Status != verdict.Failed {
			t.Errorf("%s, host data of zeros: found %+v", c.name, got)
		}
		if c.toml != "" && len(p.Describe()) == 0 {
			t.Error("no words")
		}
	}
}

func TestT13PeerRole(t *testing.T) {
	own, other := claims.Hex(h(32, 5)), claims.Hex(h(32, 6))
	for _, c := range []struct {
		name, wanted string
		workload     claims.Hex
		role         string
		peer         *Peer
		want         verdict.Status
	}{
		{"nothing wanted", "", own, "bob", &Peer{Own: Digest(own), Role: "alice"}, "absent"},
		{"wanted", "bob", own, "bob", &Peer{Own: Digest(own), Role: "alice"}, verdict.Passed},
		{"another", "bob", own, "carol", &Peer{Own: Digest(own), Role: "alice"}, verdict.Failed},
		{"none", "bob", own, "", &Peer{Own: Digest(own), Role: "alice"}, verdict.Failed},
		{"the judge's own", "", own, "alice", &Peer{Own: Digest(own), Role: "alice"}, verdict.Failed},
		{"the judge's own, though wanted", "alice", own, "alice", &Peer{Own: Digest(own), Role: "alice"}, verdict.Failed},
		{"of that name in another workload", "alice", other, "alice", &Peer{Own: Digest(own), Role: "alice"}, verdict.Passed},
		{"no roles at all", "", own, "", &Peer{Own: Digest(own)}, "absent"},
		{"no Keep judges", "bob", own, "bob", nil, verdict.Passed},
	} {
		text := "version = 1\nworkloads = [" + hexes(32, 5) + "," + hexes(32, 6) + "]\n"
		if c.wanted != "" {
			text += "peer_role = \"" + c.wanted + "\"\n"
		}
		p, err := Parse([]byte(text + "[sgx]\n"))
		if err != nil {
			t.Fatal(err)
		}
		e := goodEnclave()
		e.HostData = append(append(claims.Hex{}, c.workload...), make([]byte, 32)...)
		e.Keep = &claims.Keep{Purpose: "file", WorkloadDigest: c.workload, Role: c.role}
		if got := check(p.Appraise(e, Demand{Peer: c.peer}), verdict.PeerRole); got.Status != c.want {
			t.Errorf("%s: found %+v, wanted %s", c.name, got, c.want)
		}
	}
	p, err := Parse([]byte("version = 1\npeer_role = \"bob\"\n[sgx]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := check(p.Appraise(goodEnclave(), Demand{}), verdict.PeerRole); got.Status != verdict.Failed {
		t.Errorf("evidence without claims: found %+v", got)
	}
}

// THREATS T10: the host's clock alone is "not made", unless the policy says that it does.
func TestT10TimeSource(t *testing.T) {
	for _, c := range []struct {
		toml   string
		from   TimeSource
		want   verdict.Status
		waived bool
	}{
		{"", TimeOwn, "absent", false},
		{"", TimeHost, verdict.NotMade, false},
		{"", TimeVouched, verdict.Passed, false},
		{"", "something new", verdict.NotMade, false},
		{"time = \"host\"\n", TimeHost, verdict.NotMade, true},
		{"time = \"host\"\n", TimeVouched, verdict.Passed, false},
		{"time = \"host\"\n", TimeOwn, "absent", false},
	} {
		p, err := Parse([]byte("version = 1\n" + c.toml + "[sgx]\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := check(p.Appraise(goodEnclave(), Demand{TimeSource: c.from}), verdict.TimeSource)
		if got.Status != c.want || (got.Waived != "") != c.waived {
			t.Errorf("%q, %q: found %+v, wanted %s, waived %v", c.toml, c.from, got, c.want, c.waived)
		}
	}
}

func TestPeerKeysRefused(t *testing.T) {
	for _, bad := range []string{
		"time = \"steward\"\n", "time = \"Host\"\n", "peer_role = \"Bob\"\n", "peer_role = \"bob the first\"\n",
		"spiffe = [\"https://example.org/x\"]\n", "spiffe = [\"spiffe://example.org\"]\n", "spiffe = [\"spiffe://example.org/\"]\n", "spiffe = [\"spiffe://example.org/a?b\"]\n",
		"spiffe = [\"spiffe://example.org/a#b\"]\n", "spiffe = [\"spiffe://u@example.org/a\"]\n", "spiffe = [\"\"]\n",
		"[[signers]]\nname = \"x\"\nmin_version = 1\n", "[[signers]]\nkey = " + hexes(31, 1) + "\nname = \"x\"\nmin_version = 1\n",
		"[[signers]]\nkey = " + hexes(32, 1) + "\nmin_version = 1\n", "[[signers]]\nkey = " + hexes(32, 1) + "\nname = \"x\"\n",
		"[[signers]]\nkey = " + hexes(32, 1) + "\nname = \"x\"\nmin_version = -1\n",
	} {
		if _, err := Parse([]byte("version = 1\n" + bad + "[sgx]\n")); err == nil {
			t.Errorf("accepted: %s", bad)
		}
	}
}
