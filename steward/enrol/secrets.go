package enrol

import (
	"context"
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/attest/verdict"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/steward/store"
	"github.com/donjon-tee/donjon/workload"
)

// secrets opens what the workload's configuration declares and nothing else. released
// is name@version, for the log, versions are the same by name. A code says that the
// request is refused.
func (s *Service) secrets(ctx context.Context, r *request) (out protocol.Secrets, released []string, versions map[string]uint64, code Code, err error) {
	c, err := workload.ParseConfig(r.Config)
	if err != nil {
		r.fail(verdict.Fail(verdict.Workload, "a configuration that does not parse: "+err.Error(), "a Donjon.toml").From(sourceEnrol))
		return nil, nil, nil, CodeRefused, nil
	}
	if len(c.Secrets) == 0 {
		return nil, nil, nil, "", nil
	}
	if len(c.Secrets) > protocol.MaxSecrets {
		r.fail(verdict.Fail(verdict.Workload, fmt.Sprintf("%d secrets", len(c.Secrets)), fmt.Sprintf("at most %d", protocol.MaxSecrets)).From(sourceEnrol))
		return nil, nil, nil, CodeRefused, nil
	}
	if k := r.doc.Grant.platformCheck(r.verdict.Claims, true); k.Status != verdict.Passed {
		r.fail(k)
		if k.Status == verdict.NotMade {
			return nil, nil, nil, CodeCannotTell, nil
		}
		return nil, nil, nil, CodeRefused, nil
	}
	list, err := s.o.Store.Secrets(ctx, r.rests())
	if err != nil {
		return nil, nil, nil, "", err
	}
	stored := map[string]store.Secret{}
	for _, x := range list {
		stored[x.Name] = x
	}
	out, versions = protocol.Secrets{}, map[string]uint64{}
	for _, want := range c.Secrets {
		x, ok := stored[want.Name]
		releasable, broken := x.ReleasableBy(r.doc.Digest, s.o.Confirmed)
		switch {
		case !ok:
			r.fail(verdict.Fail(verdict.Workload, "the secret "+want.Name+" was never set", "every secret that the configuration declares").From("the Steward's secrets").
				Advise("donjon steward secret set " + r.pointer() + " " + want.Name))
			return out, nil, nil, CodeSecretMissing, nil
		case broken != nil:
			r.fail(verdict.Fail(verdict.Workload, "the confirmation of the secret "+want.Name+" for this policy does not hold: it was changed, belongs elsewhere, or its key is gone", "one that this Steward made").
				From("the Steward's secrets").Advise("donjon steward audit verify --state FOLDER: the database may have been changed"))
			return out, nil, nil, CodeSecretUnconfirmed, nil
		case !releasable:
			r.fail(verdict.Fail(verdict.Workload, "the secret "+want.Name+" was set under another policy", "the policy it was set under, or one that was confirmed for it").
				From("the Steward's secrets").Advise("donjon steward secret confirm " + r.pointer() + " " + want.Name))
			return out, nil, nil, CodeSecretUnconfirmed, nil
		case s.o.Unseal == nil:
			return out, nil, nil, "", errors.New("this Steward has no key to open secrets with")
		}
		plain, err := s.o.Unseal(x)
		if err != nil {
			return out, nil, nil, "", fmt.Errorf("opening the secret %s@%d: %w", x.Name, x.Version, err)
		}
		if len(plain) > protocol.MaxSecret {
			return out, nil, nil, "", fmt.Errorf("the secret %s@%d has %d bytes", x.Name, x.Version, len(plain))
		}
		out[want.Name], versions[want.Name] = plain, x.Version
		released = append(released, fmt.Sprintf("%s@%d", x.Name, x.Version))
	}
	return out, released, versions, "", nil
}

// fail adds a check that decides.
func (r *request) fail(c verdict.Check) {
	r.verdict.Checks = append(r.verdict.Checks, c)
	r.conclude()
}

// wipe overwrites what was released. Copies that the runtime made are out of reach.
func wipe(s protocol.Secrets) {
	for _, v := range s {
		clear(v)
	}
}
