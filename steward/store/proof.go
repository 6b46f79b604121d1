package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Guard authenticates rows that grant something, under a key that the database does
// not hold: whoever can write the database cannot make such a row. steward/sealing's
// keys are one.
type Guard interface {
	// MAC authenticates message under the current key and says which one that was.
	MAC(message []byte) (sum []byte, keyID string, err error)
	// Verify says whether sum is MAC of message under the key of that id. ErrTampered:
	// it is not, or, with ErrKeyGone, there is no such key; another error: it cannot be
	// told.
	Verify(message []byte, keyID string, sum []byte) error
}

// The labels of what is authenticated: no message of one kind is one of another.
const (
	tokenLabel  = "donjon steward row token/1"
	policyLabel = "donjon steward row policy/1"
	valueLabel  = "donjon steward row value/1"
)

// proof is a row's MAC with the id of its key. Both empty: the row is from before rows
// were authenticated. An empty MAC with a key id: it did not hold when the keys were
// rotated, and never will. lostMAC: the key was not there then.
type proof struct {
	mac   []byte
	keyID string
}

var lostMAC = []byte{0}

// message is the label, a zero byte, and each field with its length before it (64
// bits, big endian); numbers are 64 bits. The number of fields is fixed by the label.
func message(label string, fields ...any) []byte {
	out := append([]byte(label), 0)
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			out = append(binary.BigEndian.AppendUint64(out, uint64(len(f))), f...)
		case []byte:
			out = append(binary.BigEndian.AppendUint64(out, uint64(len(f))), f...)
		case int64:
			out = binary.BigEndian.AppendUint64(out, uint64(f))
		default:
			panic(fmt.Sprintf("store: a field of the type %T", f))
		}
	}
	return out
}

func (t *Token) message() []byte {
	return message(tokenLabel, t.ID, t.Name, t.Hash[:], t.scopes(), us(t.Created), t.By, us(t.Expires), us(t.Revoked))
}

func (t *Token) scopes() string {
	out := make([]string, 0, len(t.Scopes))
	for _, s := range t.Scopes {
		out = append(out, string(s))
	}
	return strings.Join(out, " ")
}

func (p *Policy) message() []byte {
	return message(policyLabel, p.Workload, int64(p.Version), p.Digest[:], us(p.At), p.By)
}

func (v *Value) message(key string) []byte {
	return message(valueLabel, key, int64(v.Version), v.Data)
}

// prove authenticates a row under the current key.
func (d *db) prove(msg []byte) (p proof, err error) {
	if d.o.Guard == nil {
		return p, ErrKey
	}
	if p.mac, p.keyID, err = d.o.Guard.MAC(msg); err != nil {
		return p, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return p, nil
}

// proven says whether a row is one that a Steward with our keys wrote. Errors:
// ErrTampered, with ErrUnproven where the row is from before rows were authenticated, or
// ErrKeyGone; ErrKey: it cannot be told.
func (d *db) proven(what string, msg []byte, p proof) error {
	switch {
	case len(p.mac) == 0 && p.keyID == "":
		return fmt.Errorf("%w: %s: %w", ErrTampered, what, ErrUnproven)
	case len(p.mac) == 0:
		return fmt.Errorf("%w: %s was changed, or written by something else than a Steward with these keys", ErrTampered, what)
	case d.o.Guard == nil:
		return ErrKey
	}
	err := ErrKeyGone
	if len(p.mac) > len(lostMAC) {
		err = d.o.Guard.Verify(msg, p.keyID, p.mac)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrKeyGone):
		return fmt.Errorf("%w: %s: %w", ErrTampered, what, ErrKeyGone)
	case errors.Is(err, ErrTampered):
		return fmt.Errorf("%w: %s was changed, or written by something else than a Steward with these keys", ErrTampered, what)
	}
	return fmt.Errorf("%w: %w", ErrKey, err)
}

// doubt is proven for lists: neither one bad row nor a key that cannot be had hides
// the others.
func (d *db) doubt(what string, msg []byte, p proof) string {
	err := d.proven(what, msg, p)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrUnproven):
		return Unproven
	case errors.Is(err, ErrKeyGone):
		return Unchecked
	case errors.Is(err, ErrTampered):
		return Forged
	}
	return Unchecked
}
