package audit

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Magic begins an export.
const Magic = "DNJAUD1\n"

// The kinds of entries in an export.
const (
	entryEnd    = 0
	entryRecord = 1
	entryHead   = 2
	entryStub   = 3
)

// ErrFormat is an export that is not in its form, or ends too early.
var ErrFormat = errors.New("audit: the export is not in its form")

// Writer writes an export. It does not verify: that is for who reads.
type Writer struct {
	w   *bufio.Writer
	n   uint64
	err error
}

// NewWriter begins the export of a log.
func NewWriter(w io.Writer, log LogID) *Writer {
	out := &Writer{w: bufio.NewWriterSize(w, 64<<10)}
	out.bytes([]byte(Magic))
	out.bytes(log[:])
	return out
}

func (w *Writer) bytes(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *Writer) entry(kind byte, b []byte) error {
	w.bytes([]byte{kind})
	w.bytes(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	w.bytes(b)
	return w.err
}

// Record adds a record's bytes, or those of the stub that is left of it: all of them,
// from number 1 on, in their order.
func (w *Writer) Record(b []byte) error {
	if len(b) > MaxRecord {
		return fmt.Errorf("%w: found a record of %d bytes, at most %d", ErrFormat, len(b), MaxRecord)
	}
	w.n++
	if IsStub(b) {
		return w.entry(entryStub, b)
	}
	return w.entry(entryRecord, b)
}

// Head adds a head, after the record it is of.
func (w *Writer) Head(h *Head) error {
	b, err := h.Encode()
	if err != nil {
		return err
	}
	return w.entry(entryHead, b)
}

// Close ends the export; without it a reader finds it cut.
func (w *Writer) Close() error {
	if err := w.entry(entryEnd, binary.BigEndian.AppendUint64(nil, w.n)); err != nil {
		return err
	}
	return w.w.Flush()
}

// reader takes an export apart, one entry in memory at a time.
type reader struct {
	r   *bufio.Reader
	log LogID
	n   uint64
	buf []byte
}

func newReader(r io.Reader) (*reader, error) {
	in := &reader{r: bufio.NewReaderSize(r, 64<<10), buf: make([]byte, 0, 4096)}
	head := make([]byte, len(Magic)+len(in.log))
	if _, err := io.ReadFull(in.r, head); err != nil {
		return nil, cut(err)
	}
	if string(head[:len(Magic)]) != Magic {
		return nil, fmt.Errorf("%w: found %q at its beginning, wanted %q", ErrFormat, head[:len(Magic)], Magic)
	}
	copy(in.log[:], head[len(Magic):])
	return in, nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrFormat)
	}
	return fmt.Errorf("audit: reading the export: %w", err)
}

// next gives an entry; its bytes are good until the next call. io.EOF: the export
// has ended as it should.
func (in *reader) next() (kind byte, b []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(in.r, head[:]); err != nil {
		return 0, nil, cut(err)
	}
	kind, size := head[0], binary.BigEndian.Uint32(head[1:])
	most := map[byte]uint32{entryEnd: 8, entryRecord: MaxRecord, entryHead: MaxHead, entryStub: MaxStub}[kind]
	if kind > entryStub || size > most {
		return 0, nil, fmt.Errorf("%w: found an entry of kind %d with %d bytes", ErrFormat, kind, size)
	}
	if cap(in.buf) < int(size) {
		in.buf = make([]byte, 0, MaxRecord)
	}
	b = in.buf[:size]
	if _, err := io.ReadFull(in.r, b); err != nil {
		return 0, nil, cut(err)
	}
	switch kind {
	case entryRecord, entryStub:
		in.n++
	case entryEnd:
		if size != 8 || binary.BigEndian.Uint64(b) != in.n {
			return 0, nil, fmt.Errorf("%w: found %d records, its end does not say so", ErrFormat, in.n)
		}
		if _, err := in.r.ReadByte(); err == nil {
			return 0, nil, fmt.Errorf("%w: found bytes after its end", ErrFormat)
		} else if !errors.Is(err, io.EOF) {
			return 0, nil, cut(err)
		}
		return kind, nil, io.EOF
	}
	return kind, b, nil
}
