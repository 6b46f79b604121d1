package dcap

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/donjon-tee/donjon/attest/strict"
)

// Bounds on a signed document.
const (
	maxDocument = 256 << 10 // the longest seen is 7 KiB
	maxDepth    = 12
	maxKeys     = 32     // of one object
	maxValues   = 20_000 // of the whole document
	maxLevels   = 512
	maxAdvisory = 256 // of one level
)

// decode decodes a document into v after it has looked for what encoding/json lets
// pass. Keys outside ASCII or with escapes are refused: Intel uses none.
func decode(body []byte, v any) error {
	if len(body) > maxDocument {
		return fmt.Errorf("found %d bytes, at most %d are taken", len(body), maxDocument)
	}
	if err := strict.JSON(body, strict.Limits{Depth: maxDepth, Values: maxValues, Keys: maxKeys, Plain: true}); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// hexN is bytes in hexadecimal, in either case.
type hexN []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexN) UnmarshalText(b []byte) error {
	if len(b) > 256 {
		return fmt.Errorf("found %d hexadecimal digits, at most 256 are taken", len(b))
	}
	v, err := hex.DecodeString(string(b))
	*h = v
	return err
}

func (h hexN) want(n int, name string) error {
	if len(h) != n {
		return fmt.Errorf("%s: found %d bytes, wanted %d", name, len(h), n)
	}
	return nil
}

// window is when a document is current.
type window struct {
	IssueDate  time.Time `json:"issueDate"`
	NextUpdate time.Time `json:"nextUpdate"`
}

func (w window) check() error {
	if w.IssueDate.IsZero() || w.NextUpdate.IsZero() || w.NextUpdate.Before(w.IssueDate) {
		return errors.New("issueDate or nextUpdate is missing, or they are the wrong way round")
	}
	return nil
}

// stale says why the document is not current at the time; "" where it is. bound,
// if above 0, shortens nextUpdate.
func (w window) stale(at time.Time, bound time.Duration) string {
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case at.Before(w.IssueDate):
		return "it begins on " + day(w.IssueDate) + " only"
	case at.After(w.NextUpdate):
		return "it ended on " + day(w.NextUpdate)
	case bound > 0 && at.After(w.IssueDate.Add(bound)):
		return "it is from " + day(w.IssueDate) + ", older than the policy allows (" + bound.String() + ")"
	}
	return ""
}
