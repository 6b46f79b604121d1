package vfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// The protocol of a host folder: one request, one answer, each a record of its
// length (u32, big endian) and a CBOR map. Handles are the server's numbers; 0 is
// the folder itself.
const (
	maxRecord  = 160 << 10
	maxChunk   = 64 << 10
	maxHandles = 1024
	maxRemote  = 4096 // entries of a directory in one answer
)

type op uint8

const (
	opOpen op = iota + 1
	opClose
	opStat
	opStatAt
	opSetTimes
	opSetTimesAt
	opRead
	opWrite
	opAppend
	opTruncate
	opAllocate
	opSync
	opMkdir
	opRmdir
	opUnlink
	opSymlink
	opReadlink
	opLink
	opRename
	opReadDir
)

type request struct {
	Op     op          `cbor:"1,keyasint"`
	Handle uint32      `cbor:"2,keyasint,omitempty"`
	Path   string      `cbor:"3,keyasint,omitempty"`
	Other  uint32      `cbor:"4,keyasint,omitempty"` // the second directory of link and rename
	To     string      `cbor:"5,keyasint,omitempty"` // its path; or a symbolic link's target
	Off    int64       `cbor:"6,keyasint,omitempty"`
	N      int64       `cbor:"7,keyasint,omitempty"`
	Data   []byte      `cbor:"8,keyasint,omitempty"`
	Follow bool        `cbor:"9,keyasint,omitempty"`
	Open   OpenOptions `cbor:"10,keyasint"`
	Atim   *int64      `cbor:"11,keyasint,omitempty"`
	Mtim   *int64      `cbor:"12,keyasint,omitempty"`
}

type answer struct {
	Errno   Errno   `cbor:"1,keyasint,omitempty"`
	Handle  uint32  `cbor:"2,keyasint,omitempty"`
	IsDir   bool    `cbor:"3,keyasint,omitempty"`
	Stat    Stat    `cbor:"4,keyasint"`
	N       int64   `cbor:"5,keyasint,omitempty"`
	Data    []byte  `cbor:"6,keyasint,omitempty"`
	Entries []Entry `cbor:"7,keyasint,omitempty"`
	More    bool    `cbor:"8,keyasint,omitempty"`
}

func readRecord(r io.Reader, v any) error {
	var lb [4]byte
	if _, err := io.ReadFull(r, lb[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(lb[:])
	if n > maxRecord {
		return fmt.Errorf("vfs: a record of %d bytes, at most %d", n, maxRecord)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 5,
		MaxArrayElements: maxRemote + 1, MaxMapPairs: 32,
	}.DecMode()
	if err != nil {
		return err
	}
	return mode.Unmarshal(b, v)
}

func writeRecord(w io.Writer, v any) error {
	b, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return errors.New("vfs: a record that is too long")
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}
