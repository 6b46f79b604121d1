package atls

import (
	"crypto/tls"
	"os"
	"testing"

	"github.com/donjon-tee/donjon/attest/policy"
)

// SimulatedKeep is a Keep on simulated silicon for the examples: its prover, its
// certificate, and a policy that admits it.
func SimulatedKeep() (Prover, *tls.Config, *policy.Policy) {
	t := &outside{}
	s := newSilicon(t)
	k := newKeep(t, s, 1)
	c := admits(t, s, k)
	_ = os.RemoveAll(t.dir)
	return k, k.tls(), c.Options.Policy
}

// outside is testing.TB where there is no test.
type outside struct {
	testing.TB
	dir string
}

func (o *outside) Helper()                      {}
func (o *outside) Fatal(args ...any)            { panic(args) }
func (o *outside) Fatalf(f string, args ...any) { panic(args) }
func (o *outside) TempDir() (dir string) {
	o.dir = must(os.MkdirTemp("", "donjon"))
	return o.dir
}
