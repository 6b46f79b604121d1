package enrol

import (
	"fmt"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/steward/store"
)

// What a policy may say, the store can keep: else every enrolment would fail.
func TestMaxInstancesFitsTheStore(t *testing.T) {
	for n, ok := range map[int]bool{1: true, store.MaxPlaces: true, store.MaxPlaces + 1: false, -1: false} {
		_, err := ParseDocument([]byte(fmt.Sprintf("version = 1\nworkloads = []\n[snp]\nlaunch_digests = []\n[steward]\nmax_instances = %d\n", n)))
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "max_instances") {
			t.Errorf("%d: found %v", n, err)
		}
	}
}
