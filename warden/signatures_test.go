//go:build linux

package warden

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/steward/protocol"
)

// What the host gives for the Steward goes there as it is, at each enrolment: the
// warden judges none of it.
func TestSignaturesGoToTheSteward(t *testing.T) {
	most := bytes.Repeat([]byte{0xff}, protocol.MaxSignature)
	for name, list := range map[string][][]byte{"none": nil, "one": {[]byte("no signature at all")}, "the most": {most, most, most, most, most, most, most, {1}}} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSteward(t)
			f.lifetime, f.renewAfter = 20*time.Second, time.Second
			var mu sync.Mutex
			var came [][][]byte
			f.answer = func(_ http.ResponseWriter, _ *protocol.EnrolResponse, q request) bool {
				mu.Lock()
				defer mu.Unlock()
				came = append(came, q.Signatures)
				return false
			}
			f.start()
			h := f.host(declares)
			h.body, h.offer = spins, func(o *link.Offer) { o.Signatures = list }
			h.start(t)
			await(t, "a renewal", func() bool { return len(f.seen()) >= 2 })
			mu.Lock()
			defer mu.Unlock()
			for i, got := range came[:2] {
				same := len(got) == len(list)
				for j := 0; same && j < len(list); j++ {
					same = bytes.Equal(got[j], list[j])
				}
				if !same {
					t.Errorf("enrolment %d: found %d signatures, not the %d given", i+1, len(got), len(list))
				}
			}
		})
	}
}
