package attest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// fitted is evidence with the options that it is judged by, and its policy.
type fitted struct {
	name     string
	evidence []byte
	o        Options
	policy   *policy.Policy // nil: none is written
}

// fit writes a policy where that can be done.
func fit(t *testing.T, v *Verifier, name string, evidence []byte, o Options) fitted {
	t.Helper()
	f := fitted{name, evidence, o, nil}
	text, err := Fit(v, evidence, o, policy.Draft{})
	var why *verdict.Error
	switch {
	case err != nil && (text != nil || !errors.As(err, &why)):
		t.Errorf("%s: %v beside %q", name, err, text)
	case err == nil:
		if f.policy, err = policy.Parse(text); err != nil {
			t.Errorf("%s: the policy does not parse: %v", name, err)
		}
	}
	return f
}

// synthetics are all vectors: made once, because that takes many keys.
var synthetics = sync.OnceValue(func() []synthetic.Vector {
	return slices.Concat(synthetic.SNPVectors(), synthetic.DCAPVectors(), synthetic.TPMVectors(), synthetic.NitroVectors())
})

// A policy written for one piece of evidence refuses every other: of the same TEE, of
// another, published and synthetic.
func TestFitAdmitsItsOwnAlone(t *testing.T) {
	var v Verifier
	var all []fitted
	for _, row := range publishedRows() {
		if row.fitting != verdict.Admitted || published.Find(t, row.evidence) == nil {
			continue
		}
		all = append(all, fit(t, &v, row.name, published.Read(t, row.evidence), Options{At: day(row.at), Collateral: gather(t, row.collateral...)}))
	}
	for _, x := range synthetics() {
		if x.Code == "" {
			all = append(all, fit(t, &v, x.Name, x.Evidence, Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots}))
		}
	}
	written, tees := 0, map[string]string{}
	for _, a := range all {
		if c := v.Verify(a.evidence, a.o).Claims; c != nil {
			tees[a.name] = c.TEE
		}
	}
	for _, a := range all {
		if a.policy == nil {
			continue
		}
		written++
		for _, b := range all {
			o := b.o
			o.Policy, o.SimulatedRoots = a.policy, nil // the policy alone names roots
			got := v.Verify(b.evidence, o)
			// Synthetic evidence under one root shows one program on one machine.
			same := bytes.Equal(a.evidence, b.evidence) || len(a.o.SimulatedRoots) > 0 && slices.Equal(a.o.SimulatedRoots, b.o.SimulatedRoots) && got.Claims != nil && got.Claims.TEE == tees[a.name]
			if admitted := got.Outcome == verdict.Admitted; admitted && !same || a.name == b.name && !admitted {
				t.Errorf("the policy of %q judges %q: %s\n%s", a.name, b.name, got.Outcome, a.policy.Raw())
			}
		}
	}
	t.Logf("%d policies, %d pieces of evidence", written, len(all))
	if written < 4 {
		t.Errorf("found %d policies, wanted one of each TEE at least", written)
	}
}

// THREATS T14: what a program may not write a policy for: debug, revoked, not
// supported, not genuine, a simulated root that nobody named.
func TestT14NoPolicyIsWritten(t *testing.T) {
	var v Verifier
	refused := map[verdict.Code]int{}
	for _, x := range synthetics() {
		o := Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots}
		if x.Code == "" {
			o.SimulatedRoots = nil
			f := fit(t, &v, x.Name, x.Evidence, o)
			// Of a TPM's quote it is the key that is then named, as its comment says.
			if f.policy != nil && (f.policy.TPM == nil || len(f.policy.TPM.AttestationKeys) != 1 || !bytes.Contains(f.policy.Raw(), []byte("# NAMED: "))) {
				t.Errorf("%s, its root not named: a policy is written\n%s", x.Name, f.policy.Raw())
			}
			continue
		}
		info, ok := verdict.Lookup(x.Code)
		if !ok || x.Status != verdict.Failed {
			continue
		}
		if info.Kind != verdict.Genuineness && x.Code != verdict.Debug && x.Code != verdict.Migration {
			continue // a policy may admit it by name
		}
		refused[x.Code]++
		f := fit(t, &v, x.Name, x.Evidence, o)
		if x.Code == verdict.Migration && f.policy != nil && f.policy.TDX != nil && len(f.policy.TDX.ServiceTDs) == 1 && bytes.Contains(f.policy.Raw(), []byte("# ACCEPTED: the service TD")) {
			continue // by the service TD that is bound, and by no other (T22)
		}
		if f.policy != nil {
			t.Errorf("%s (%s): a policy is written\n%s", x.Name, x.Code, f.policy.Raw())
		}
	}
	if refused[verdict.Debug] < 3 || refused[verdict.Migration] == 0 || refused[verdict.Signature] == 0 || refused[verdict.Chain] == 0 {
		t.Errorf("too few of a kind: %v", refused)
	}
	// Levels of Intel's that no policy may accept.
	seen := map[string]bool{}
	for _, x := range synthetics() {
		o := Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots}
		s := v.Verify(x.Evidence, o).TCBStatus
		if s != "Revoked" && s != "NotSupported" {
			continue
		}
		seen[s] = true
		if f := fit(t, &v, x.Name, x.Evidence, o); f.policy != nil {
			t.Errorf("%s, %s: a policy is written", x.Name, s)
		}
	}
	if !seen["Revoked"] || !seen["NotSupported"] {
		t.Errorf("levels seen: %v", seen)
	}
}

// The same for published evidence.
func TestT14NoPolicyForPublished(t *testing.T) {
	var v Verifier
	for _, row := range publishedRows() {
		if row.tcb != "NotSupported" && row.outcome != verdict.NotGenuine && row.name != "Nitro, debug" {
			continue
		}
		o := Options{At: day(row.at), Collateral: gather(t, row.collateral...)}
		if f := fit(t, &v, row.name, published.Read(t, row.evidence), o); f.policy != nil {
			t.Errorf("%s: a policy is written\n%s", row.name, f.policy.Raw())
		}
	}
}

// Fit ignores a policy that is given, and judges what it was told to.
func TestFitOptions(t *testing.T) {
	var v Verifier
	i := slices.IndexFunc(synthetics(), func(x synthetic.Vector) bool { return x.Code == "" })
	x := synthetics()[i]
	o := Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots, PlatformOnly: true, Policy: &policy.Policy{}}
	if f := fit(t, &v, x.Name, x.Evidence, o); f.policy == nil {
		t.Errorf("%s: no policy, though the one given is to be ignored", x.Name)
	}
	o.At = time.Time{}
	if f := fit(t, &v, x.Name, x.Evidence, o); f.policy != nil && len(f.policy.Waive) == 0 {
		t.Errorf("%s, at no time: a policy without a waiver", x.Name)
	}
	for _, b := range [][]byte{nil, {}, []byte("x")} {
		if _, err := Fit(&v, b, o, policy.Draft{}); err == nil {
			t.Errorf("%q: a policy is written", b)
		}
	}
}
