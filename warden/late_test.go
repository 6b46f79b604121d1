//go:build linux

package warden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/donjon-tee/donjon/workload"
)

// A Steward that does not answer in time is told from one that breaks off, in the
// handshake and after it.
func TestLateStewardHint(t *testing.T) {
	w := &warden{cfg: &workload.Config{Steward: "https://steward.example"}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("reading: %w", context.DeadlineExceeded), lateHint},
		{fmt.Errorf("reading: %w", os.ErrDeadlineExceeded), lateHint},
		{io.ErrUnexpectedEOF, ""},
	} {
		for _, err := range []error{w.about(handshakeError(c.err)), w.about(c.err)} {
			var e *enrolError
			if !errors.As(err, &e) || e.Hint() != c.want || e.refused {
				t.Errorf("%v: found the hint %q, refused %v, wanted %q and no refusal", err, e.Hint(), e.refused, c.want)
			}
		}
	}
}
