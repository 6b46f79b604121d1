package attest

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/published"
	"github.com/donjon-tee/donjon/attest/synthetic"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// Zero options judge at no time, by no policy: nothing is admitted, and nothing is
// left without a reason.
func TestZeroOptions(t *testing.T) {
	var v Verifier
	inputs := [][]byte{nil, {}, {0}, []byte("{}"), []byte("[]"), []byte("null")}
	for _, x := range synthetics() {
		if x.Code == "" {
			inputs = append(inputs, x.Evidence)
		}
	}
	for i, b := range inputs {
		for _, platform := range []bool{false, true} {
			out := v.Verify(b, Options{PlatformOnly: platform})
			if out == nil || out.Outcome == verdict.Admitted || out.Err() == nil || len(out.Deciding()) == 0 {
				t.Errorf("input %d: %+v", i, out)
			}
		}
	}
}

// A nil policy is the defaults: the platform alone can be admitted, never a program
// that nobody named.
func TestT01NilPolicy(t *testing.T) {
	var v Verifier
	admitted := 0
	for _, x := range synthetics() {
		o := Options{At: x.At, Collateral: x.Collateral, SimulatedRoots: x.Roots}
		if got := v.Verify(x.Evidence, o); got.Outcome == verdict.Admitted {
			t.Errorf("%s: admitted, though no policy names a program", x.Name)
		}
		empty := &policy.Policy{}
		o.Policy = empty
		if got := v.Verify(x.Evidence, o); got.Outcome == verdict.Admitted {
			t.Errorf("%s: admitted by an empty policy", x.Name)
		}
		o.Policy, o.PlatformOnly = policy.Default(), true
		o.Policy.AllowSimulated = true
		if v.Verify(x.Evidence, o).Outcome == verdict.Admitted {
			admitted++
		}
	}
	if admitted < 10 {
		t.Errorf("%d platforms admitted: this test sees too little", admitted)
	}
}

// Random bytes, and random bytes behind the beginning of each form.
func TestRandomInput(t *testing.T) {
	var v Verifier
	r := rand.New(rand.NewPCG(1, 2))
	heads := [][]byte{{}, {5, 0, 0, 0}, {3, 0, 2, 0}, {4, 0, 2, 0, 0x81}, {5, 0, 2, 0, 0x81}, {0x84, 0x43}, {0xd2, 0x84}, {0x30, 0x82}, []byte("-----BEGIN CERTIFICATE-----\n"), []byte("{"), []byte(`{"tpm_quote":`), []byte("["), {0xa2, 0x68}, {0xff, 'T', 'C', 'G'}}
	for _, x := range synthetics() {
		if x.Code == "" {
			heads = append(heads, x.Evidence[:min(len(x.Evidence), 1100)])
		}
	}
	for i := range 100_000 {
		head := heads[r.IntN(len(heads))]
		b := bytes.Clone(head[:r.IntN(len(head)+1)])
		tail := make([]byte, r.IntN(64))
		for j := range tail {
			tail[j] = byte(r.Uint32())
		}
		b = append(b, tail...)
		if out := v.Verify(b, Options{PlatformOnly: true}); out.Outcome != verdict.NotGenuine {
			t.Fatalf("input %d, %x: %s", i, b, out.Text(nil))
		}
	}
}

// One Verifier, many goroutines: each gets the verdict that a Verifier of its own
// would give, whatever the others ask, and the policy and collateral that they share
// stay as they are.
func TestConcurrentVerify(t *testing.T) {
	vectors := synthetics()
	all := &collateral.Set{}
	p := policy.Default()
	p.AllowSimulated = true
	want := make([]verdict.Outcome, len(vectors))
	text := make([]string, len(vectors))
	judge := func(v *Verifier, x synthetic.Vector) *verdict.Verdict {
		return v.Verify(x.Evidence, Options{At: x.At, Policy: p, PlatformOnly: true, Collateral: collateral.Merge(x.Collateral, all), SimulatedRoots: x.Roots})
	}
	for i, x := range vectors {
		out := judge(new(Verifier), x)
		want[i], text[i] = out.Outcome, out.Text(nil)
	}
	var shared Verifier
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for _, i := range r.Perm(len(vectors)) {
				if out := judge(&shared, vectors[i]); out.Outcome != want[i] || out.Text(nil) != text[i] {
					t.Errorf("%s: found %s\n%s\nwanted %s\n%s", vectors[i].Name, out.Outcome, out.Text(nil), want[i], text[i])
					return
				}
			}
		}()
	}
	wg.Wait()
}

// Every published file cut short: never admitted, where more than padding is gone.
func TestTruncatedPublished(t *testing.T) {
	var v Verifier
	for _, row := range publishedRows() {
		b := published.Read(t, row.evidence)
		o := Options{At: day(row.at), PlatformOnly: true, Collateral: gather(t, row.collateral...)}
		for n := 0; n < len(b); n += 64 {
			if len(bytes.Trim(b[n:], "\x00\r\n")) == 0 {
				continue // padding behind a quote, or the end of a line
			}
			if out := v.Verify(b[:n], o); out.Outcome == verdict.Admitted || out.Outcome == verdict.Refused {
				t.Errorf("%s, %d of %d bytes: %s\n%s", row.name, n, len(b), out.Outcome, out.Text(nil))
				break
			}
		}
	}
}
