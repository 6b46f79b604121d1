package nitro

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/attest/layout"
)

// Layout gives the fields of a document that Parse reads, with their offsets. Nested
// items (the payload's) are named by their key.
func Layout(doc []byte) ([]layout.Field, error) {
	d, err := Parse(doc)
	if err != nil {
		return nil, err
	}
	var out []layout.Field
	at := 0
	if doc[0] == tagSign1 {
		out = append(out, layout.Field{Size: 1, Name: "tag", Value: "18", Note: "COSE_Sign1"})
		at = 1
	}
	_, n := head(doc[at:])
	at += n
	items := make([]layout.Field, 4)
	for i, name := range []string{"protected", "unprotected", "payload", "signature"} {
		if items[i], err = item(doc, at, name); err != nil {
			return nil, err
		}
		at += items[i].Size
	}
	items[0].Note = "the algorithm, -35: ES384"
	items[3].Note = "r and s"
	out = append(out, items[0], items[1])
	_, n = head(doc[items[2].Offset:])
	inner, err := d.payloadFields(doc, items[2].Offset+n)
	if err != nil {
		return nil, err
	}
	out = append(out, inner...)
	return append(out, items[3]), nil
}

// payloadFields walks the payload's map, which begins at offset at of doc.
func (d *Document) payloadFields(doc []byte, at int) ([]layout.Field, error) {
	count, n := head(doc[at:])
	at += n
	var out []layout.Field
	for range count {
		key, err := item(doc, at, "")
		if err != nil {
			return nil, err
		}
		at += key.Size
		name := key.Value
		switch name {
		case "pcrs", "cabundle":
			fields, next, err := children(doc, at, name)
			if err != nil {
				return nil, err
			}
			out, at = append(out, fields...), next
			continue
		}
		f, err := item(doc, at, name)
		if err != nil {
			return nil, err
		}
		if name == "timestamp" {
			f.Note = d.Timestamp.Format("2006-01-02T15:04:05.000Z")
		}
		out = append(out, f)
		at += f.Size
	}
	return out, nil
}

// children are the elements of an array, or the values of a map with numbers for keys.
func children(doc []byte, at int, name string) ([]layout.Field, int, error) {
	isMap := doc[at]>>5 == 5
	count, n := head(doc[at:])
	at += n
	var out []layout.Field
	for i := range count {
		label := strconv.Itoa(i)
		if isMap {
			key, err := item(doc, at, "")
			if err != nil {
				return nil, 0, err
			}
			label, at = key.Value, at+key.Size
		}
		f, err := item(doc, at, name+"."+label)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, f)
		at += f.Size
	}
	return out, at, nil
}

// item is the well-formed item at offset at: strings by what they hold, all else as
// encoded.
func item(doc []byte, at int, name string) (layout.Field, error) {
	rest, err := cbor.UnmarshalFirst(doc[at:], new(cbor.RawMessage))
	if err != nil {
		return layout.Field{}, fmt.Errorf("nitro: at offset %d: %w", at, err)
	}
	f := layout.Field{Offset: at, Size: len(doc) - at - len(rest), Name: name}
	raw := doc[at : at+f.Size]
	v, n := head(raw)
	switch raw[0] >> 5 {
	case 0:
		f.Value = strconv.Itoa(v)
	case 2:
		f.Value = hex.EncodeToString(raw[n:])
	case 3:
		f.Value = string(raw[n:])
	default:
		f.Value = hex.EncodeToString(raw)
	}
	return f, nil
}

// head reads the argument of a well-formed item's head and the head's size.
func head(b []byte) (value, size int) {
	ai := b[0] & 31
	if ai < 24 {
		return int(ai), 1
	}
	size = 1 + 1<<(ai-24)
	for _, x := range b[1:size] {
		value = value<<8 | int(x)
	}
	return value, size
}
