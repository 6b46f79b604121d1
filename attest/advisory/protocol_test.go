package advisory

import (
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Evidence that answers a nonce is not said to answer none, wherever the nonce stands.
func TestProtocolAdvisoriesSeeTheNonce(t *testing.T) {
	key := claims.Hex{1}
	for name, x := range map[string]struct {
		c    claims.Claims
		want string
	}{
		"no key":                    {claims.Claims{}, CannotTell},
		"a key alone":               {claims.Claims{Key: key}, Exposed},
		"a key and a nonce":         {claims.Claims{Key: key, Nonce: claims.Hex{2}}, CannotTell},
		"an empty nonce is none":    {claims.Claims{Key: key, Nonce: claims.Hex{}}, Exposed},
		"a Keep without a nonce":    {claims.Claims{Key: key, Keep: &claims.Keep{}}, Exposed},
		"a Keep's nonce":            {claims.Claims{Key: key, Keep: &claims.Keep{Nonce: claims.Hex{2}}}, CannotTell},
		"a Keep's connection":       {claims.Claims{Key: key, Keep: &claims.Keep{Exporter: claims.Hex{3}}}, CannotTell},
		"an empty exporter is none": {claims.Claims{Key: key, Keep: &claims.Keep{Exporter: claims.Hex{}}}, Exposed},
	} {
		if got, why := judgeProtocol(&x.c); got != x.want {
			t.Errorf("%s: found %s (%s), wanted %s", name, got, why, x.want)
		}
	}
}
