package store

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/donjon-tee/donjon/steward/audit"
)

// codec keeps the details of decisions small: the same words stand in all of them.
type codec struct{ pool sync.Pool }

// The first byte of what is stored.
const (
	packedPlain   = 0
	packedDeflate = 1
)

func (c *codec) pack(b []byte) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	if len(b) < 128 {
		return append([]byte{packedPlain}, b...), nil
	}
	w, _ := c.pool.Get().(*flate.Writer)
	if w == nil {
		var err error
		if w, err = flate.NewWriter(io.Discard, flate.BestSpeed); err != nil {
			return nil, err
		}
	}
	defer c.pool.Put(w)
	out := bytes.NewBuffer(make([]byte, 0, len(b)/2))
	out.WriteByte(packedDeflate)
	w.Reset(out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (c *codec) unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	switch b[0] {
	case packedPlain:
		return b[1:], nil
	case packedDeflate:
		out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b[1:])), MaxDetail+1))
		if err != nil || len(out) > MaxDetail {
			return nil, fmt.Errorf("%w: a decision's detail cannot be read", ErrTampered)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: a decision's detail is of the form %d", ErrTampered, b[0])
}

// digestOf is a detail's digest; of none it is zero.
func digestOf(b []byte) audit.Digest {
	if b == nil {
		return audit.Digest{}
	}
	return sha256.Sum256(b)
}

// noRow makes an absent row no error.
func noRow(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}
