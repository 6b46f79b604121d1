package collateral

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest/verdict"
)

// maxMarks bounds what a HighWater remembers: TEEs times FMSPCs plus issuers. What
// comes after is not remembered.
const maxMarks = 4096

const (
	maxMarkFile   = 2 << 20
	maxListNumber = 20 // octets of a list's number (RFC 5280, section 5.2.3)
	rollbackFrom  = "RFC 5280, section 5.2.3; Intel PCS API version 4, tcbEvaluationDataNumber"
)

// HighWater remembers the newest collateral that was seen, so that older collateral
// is told apart even while it is still valid (CollateralRollback): the highest TCB
// evaluation number of each TEE and FMSPC, the highest number and latest thisUpdate
// of each issuer's revocation list. The zero value is empty. It may be used by
// several goroutines.
//
// Intel gives every list the number 1; there the thisUpdate alone counts.
type HighWater struct {
	// Slack is how much older a list's thisUpdate may be than the latest seen; 0: not
	// at all. A lower number is never accepted.
	Slack time.Duration

	mu    sync.Mutex
	marks map[string]mark
}

// mark is what was seen of one kind of document or one issuer.
type mark struct {
	Name       string    `json:"name"` // for people
	Evaluation uint32    `json:"evaluation,omitempty"`
	Number     string    `json:"number,omitempty"` // decimal
	ThisUpdate time.Time `json:"this_update,omitzero"`
}

// observed is one piece of collateral as HighWater sees it.
type observed struct {
	key string
	mark
}

func observe(s *Set) []observed {
	var out []observed
	for _, kind := range []struct {
		name string
		docs []Document
	}{{"TCB info", s.TCBInfos}, {"QE identity", s.QEIdentities}} {
		for _, d := range kind.docs {
			h, err := d.Head()
			if err != nil {
				continue // its signature holds, so Intel wrote a form not known here; the verifier refuses it
			}
			name := kind.name + " " + h.ID
			if h.FMSPC != "" {
				name += " " + h.FMSPC
			}
			out = append(out, observed{strings.ToLower(name), mark{Name: name, Evaluation: h.Evaluation}})
		}
	}
	for _, l := range s.Lists {
		h := sha256.New()
		h.Write(l.RawIssuer)
		h.Write([]byte{0})
		h.Write(l.AuthorityKeyId)
		o := observed{"crl " + hex.EncodeToString(h.Sum(nil)), mark{Name: "revocation list of " + l.Issuer.String(), ThisUpdate: l.ThisUpdate.UTC()}}
		if l.Number != nil && l.Number.Sign() >= 0 && l.Number.BitLen() <= 8*maxListNumber {
			o.Number = l.Number.String()
		}
		out = append(out, o)
	}
	return out
}

// Raise remembers what verified holds. verified must be collateral whose signatures
// hold (Verified), from evidence that turned out genuine: what anybody can write
// would lock everybody else's out.
func (h *HighWater) Raise(verified *Set) {
	if h == nil || verified == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raise(observe(verified))
}

// Merge raises the memory to what another one remembers.
func (h *HighWater) Merge(other *HighWater) {
	if h == nil || other == nil || h == other {
		return
	}
	other.mu.Lock()
	list := make([]observed, 0, len(other.marks))
	for k, m := range other.marks {
		list = append(list, observed{k, m})
	}
	other.mu.Unlock()
	slices.SortFunc(list, func(a, b observed) int { return strings.Compare(a.key, b.key) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raise(list)
}

// raise is Raise for its caller, who holds the lock.
func (h *HighWater) raise(list []observed) {
	for _, o := range list {
		m, known := h.marks[o.key]
		switch {
		case !known && len(h.marks) >= maxMarks:
			continue
		case !known:
			m = o.mark
		}
		m.Evaluation = max(m.Evaluation, o.Evaluation)
		if compareNumbers(o.Number, m.Number) > 0 {
			m.Number = o.Number
		}
		if o.ThisUpdate.After(m.ThisUpdate) {
			m.ThisUpdate = o.ThisUpdate
		}
		if h.marks == nil {
			h.marks = map[string]mark{}
		}
		h.marks[o.key] = m
	}
}

// Len is how many kinds and issuers are remembered.
func (h *HighWater) Len() int {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.marks)
}

// Latest is the newest thisUpdate among the revocation lists that are remembered: a
// time that has come, by the word of a vendor. Zero where there is none.
func (h *HighWater) Latest() time.Time {
	var t time.Time
	if h == nil {
		return t
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.marks {
		if m.ThisUpdate.After(t) {
			t = m.ThisUpdate
		}
	}
	return t
}

// compareNumbers compares decimal numbers; "" is under all.
func compareNumbers(a, b string) int {
	number := func(s string) *big.Int {
		if n, ok := new(big.Int).SetString(s, 10); ok {
			return n
		}
		return big.NewInt(-1)
	}
	return number(a).Cmp(number(b))
}

// Rollback compares collateral with what was seen before. verified is collateral
// whose signatures hold (Verified), of which all was used or could have been: the
// newest of each kind in it counts. It is not for judging in the past (--at): there
// older collateral is right. seen may be nil: then there is no check.
func Rollback(verified *Set, seen *HighWater) []verdict.Check {
	if seen == nil {
		return nil
	}
	var have []observed
	if verified != nil {
		have = observe(verified)
	}
	if len(have) == 0 {
		c := verdict.Skip(verdict.CollateralRollback, "no collateral with a signature that holds was used", "").From(rollbackFrom)
		c.Informal = true
		return []verdict.Check{c}
	}
	newest := &HighWater{}
	newest.Raise(verified)
	keys := make([]string, 0, len(newest.marks))
	for k := range newest.marks {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	seen.mu.Lock()
	defer seen.mu.Unlock()
	var failed []verdict.Check
	for _, k := range keys {
		old, known := seen.marks[k]
		if !known {
			continue
		}
		if found, wanted := older(newest.marks[k], old, seen.Slack); found != "" {
			failed = append(failed, verdict.Fail(verdict.CollateralRollback, found, wanted).From(rollbackFrom).
				Advise("get the vendor's current collateral; newer was seen here before"))
		}
	}
	if failed != nil {
		return failed
	}
	return []verdict.Check{verdict.Pass(verdict.CollateralRollback, fmt.Sprintf("%d documents and lists, none older than seen before", len(keys))).From(rollbackFrom)}
}

func older(m, old mark, slack time.Duration) (found, wanted string) {
	switch {
	case m.Evaluation < old.Evaluation:
		return fmt.Sprintf("%s with evaluation number %d", m.Name, m.Evaluation), fmt.Sprintf("at least %d", old.Evaluation)
	case compareNumbers(m.Number, old.Number) < 0:
		return fmt.Sprintf("%s with number %q", m.Name, m.Number), "at least " + old.Number
	case m.ThisUpdate.Add(slack).Before(old.ThisUpdate):
		return fmt.Sprintf("%s from %s", m.Name, m.ThisUpdate.Format(time.RFC3339)), "from " + old.ThisUpdate.Add(-slack).Format(time.RFC3339) + " or later"
	}
	return "", ""
}

// savedMarks is the encoding of a HighWater.
type savedMarks struct {
	Version int             `json:"version"`
	Marks   map[string]mark `json:"marks"`
}

// Save gives what is remembered as JSON; the same memory gives the same bytes.
func (h *HighWater) Save() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := savedMarks{1, h.marks}
	if s.Marks == nil {
		s.Marks = map[string]mark{}
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, fmt.Errorf("collateral: saving what was seen: %w", err)
	}
	return append(b, '\n'), nil
}

// LoadHighWater reads what Save gave. The bytes come from the verifier's own disk;
// malformed they are an error and never an empty memory.
func LoadHighWater(b []byte) (*HighWater, error) {
	if len(b) > maxMarkFile {
		return nil, fmt.Errorf("collateral: what was seen: found %d bytes, wanted at most %d", len(b), maxMarkFile)
	}
	if err := checkJSON(b); err != nil {
		return nil, fmt.Errorf("collateral: what was seen: %w", err)
	}
	var s savedMarks
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("collateral: what was seen: %w", err)
	}
	if s.Version != 1 || len(s.Marks) > maxMarks {
		return nil, fmt.Errorf("collateral: what was seen: found version %d with %d marks, wanted version 1 with at most %d", s.Version, len(s.Marks), maxMarks)
	}
	for _, m := range s.Marks {
		if m.Number == "" {
			continue
		}
		n, ok := new(big.Int).SetString(m.Number, 10)
		if len(m.Number) > 60 || !ok || n.Sign() < 0 || n.String() != m.Number {
			return nil, errors.New("collateral: what was seen: a list's number is no number")
		}
	}
	return &HighWater{marks: s.Marks}, nil
}
