package main

import (
	"errors"
	"io"
)

// maxEcho bounds what is sent back, in bytes.
const maxEcho = 1 << 20

var errTooLong = errors.New("more than a mebibyte")

// copyAtMost reads the whole body before it answers, so that a body that is too
// long gets a status that says so.
func copyAtMost(w io.Writer, r io.Reader) (int, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxEcho+1))
	if err != nil {
		return 0, err
	}
	if len(b) > maxEcho {
		return 0, errTooLong
	}
	return w.Write(b)
}
