package p11

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// fields reads every field that a message's signature names, and writes them anew.
func fields(d *Decoder, k Kind, v Version) *Encoder {
	e := NewEncoder(d.Call, k)
	for d.left != "" && d.err == nil {
		switch {
		case strings.HasPrefix(d.left, "ay"):
			if b, n := d.Bytes(); b == nil && n > 0 {
				e.Length(n)
			} else {
				e.Bytes(b)
			}
		case strings.HasPrefix(d.left, "au"):
			if list, n := d.Ulongs(); list == nil {
				e.Count(n)
			} else {
				e.Ulongs(list)
			}
		case strings.HasPrefix(d.left, "aA"):
			e.Attributes(d.Attributes())
		case strings.HasPrefix(d.left, "fy"):
			e.RoomBytes(d.RoomBytes())
		case strings.HasPrefix(d.left, "fu"):
			e.RoomUlongs(d.RoomUlongs())
		case strings.HasPrefix(d.left, "fA"):
			e.RoomAttributes(d.RoomAttributes())
		case d.left[0] == 'y':
			e.Byte(d.Byte())
		case d.left[0] == 'u':
			e.Ulong(d.Ulong())
		case d.left[0] == 'v':
			e.Version(d.Version())
		case d.left[0] == 's':
			e.Padded(d.Padded(32), 32)
		case d.left[0] == 'z':
			e.Text(d.Text())
		case d.left[0] == 'M':
			if m := d.Mechanism(v); d.err == nil {
				e.Mechanism(m, v)
			}
		}
	}
	return e
}

// messages are one of each form that a field has.
func messages() [][]byte {
	var out [][]byte
	for _, e := range []*Encoder{
		NewEncoder(Initialize, Request).Bytes([]byte(Handshake)).Byte(0).Bytes([]byte{}),
		NewEncoder(Login, Request).Ulong(1).Ulong(1).Bytes([]byte("1234")),
		NewEncoder(GenerateKey, Request).Ulong(1).Mechanism(CKMGenericSecretKeyGen, Version0).Attributes([]Attribute{Ulong(CKAClass, 4), Bool(CKAToken, true), Bytes(CKALabel, []byte("x"))}),
		NewEncoder(GenerateKey, Request).Ulong(1).Mechanism(CKMGenericSecretKeyGen, Version2).Attributes(nil),
		NewEncoder(GetAttributeValue, Request).Ulong(1).Ulong(2).RoomAttributes([]Room{{CKASensitive, 1}, {CKALabel, 0}}),
		NewEncoder(InitToken, Request).Ulong(1).Bytes(nil).Text("label"),
		NewEncoder(FindObjects, Answer).Ulongs([]uint64{5, 6}),
		NewEncoder(FindObjects, Answer).Count(2),
		NewEncoder(GetAttributeValue, Answer).Attributes([]Attribute{{Type: CKAValueLen, Unavailable: true}, Bool(CKASensitive, true), {Type: CKALabel, Length: 9}, {Type: 0x40000600, Value: make([]byte, 16), Length: 16}}).Ulong(0x11),
		NewEncoder(GetSlotInfo, Answer).Padded("slot", 32).Padded("", 32).Ulong(1).Version(2, 40).Version(0, 1),
		NewEncoder(Sign, Answer).Bytes([]byte("sum")),
		NewEncoder(Sign, Answer).Length(32),
		NewEncoder(CallError, Answer).Ulong(uint64(CKRPINIncorrect)),
	} {
		b, err := e.Message()
		if err != nil {
			panic(err)
		}
		out = append(out, b)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	read := 0
	for _, b := range messages() {
		for _, k := range []Kind{Request, Answer} {
			for _, v := range []Version{Version0, Version2} {
				d, err := Decode(b, k)
				if err != nil {
					continue
				}
				e := fields(d, k, v)
				if d.Done() != nil {
					continue
				}
				read++
				if again, err := e.Message(); err != nil || !bytes.Equal(again, b) {
					t.Errorf("%s: %x became %x, %v", d.Call, b, again, err)
				}
			}
		}
	}
	if read < 2*len(messages())-2 { // the two forms of a mechanism are read once each
		t.Errorf("read %d of %d", read, len(messages()))
	}
}

// Neither form of a mechanism is taken for the other.
func TestMechanismForms(t *testing.T) {
	old, _ := NewEncoder(SignInit, Request).Ulong(1).Mechanism(CKMSHA256HMAC, Version1).Ulong(2).Message()
	now, _ := NewEncoder(SignInit, Request).Ulong(1).Mechanism(CKMSHA256HMAC, Version2).Ulong(2).Message()
	if !bytes.Contains(old, []byte("\x00\x00\x02\x51\xff\xff\xff\xff")) || len(old) != len(now)+4 {
		t.Fatalf("%x, %x", old, now)
	}
	for b, v := range map[string]Version{string(old): Version2, string(now): Version0} {
		d, err := Decode([]byte(b), Request)
		if err != nil {
			t.Fatal(err)
		}
		d.Ulong()
		d.Mechanism(v)
		d.Ulong()
		if err := d.Done(); !errors.Is(err, ErrMalformed) {
			t.Errorf("read in the other form: %v", err)
		}
	}
	if _, err := NewEncoder(SignInit, Request).Ulong(1).Mechanism(0x1041, Version0).Ulong(2).Message(); !errors.Is(err, ErrMalformed) {
		t.Errorf("an unknown mechanism: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	head := func(c Call, k Kind) []byte {
		e := NewEncoder(c, k)
		return e.b
	}
	for what, b := range map[string][]byte{
		"empty":                    nil,
		"a call that is not there": {0, 0, 1, 0, 0, 0, 0, 0},
		"no signature":             {0, 0, 0, 2},
		"a NULL signature":         {0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff},
		"another signature":        append([]byte{0, 0, 0, 26, 0, 0, 0, 1}, 'u'),
		"cut off":                  head(FindObjects, Answer),
		"trailing":                 append(append(head(FindObjects, Answer), 1, 0, 0, 0, 0), 0),
		"a flag of 2":              append(head(FindObjects, Answer), 2, 0, 0, 0, 0),
		"many numbers":             append(head(FindObjects, Answer), 1, 0xff, 0xff, 0xff, 0xff),
		"a long array":             append(head(Sign, Answer), 1, 0x7f, 0xff, 0xff, 0xff),
		"many attributes":          append(head(GetAttributeValue, Answer), 0xff, 0xff, 0xff, 0xff),
		"attributes inside":        append(head(GetAttributeValue, Answer), 0, 0, 0, 1, 0x40, 0, 2, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"two lengths":              append(head(GetAttributeValue, Answer), 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0, 2, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0),
		"a bool of 8":              append(head(GetAttributeValue, Answer), 0, 0, 0, 1, 0, 0, 1, 3, 1, 0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0),
	} {
		d, err := Decode(b, Answer)
		if err == nil {
			fields(d, Answer, Version0)
			err = d.Done()
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, e := range map[string]*Encoder{
		"out of order":      NewEncoder(Sign, Request).Bytes(nil),
		"not all":           NewEncoder(Sign, Request).Ulong(1),
		"too much":          NewEncoder(Finalize, Request).Ulong(1),
		"an error asked":    NewEncoder(CallError, Request),
		"no call":           NewEncoder(500, Request),
		"a bool of 2 bytes": NewEncoder(CreateObject, Request).Ulong(1).Attributes([]Attribute{{Type: CKASign, Value: []byte{1, 1}}}),
	} {
		if _, err := e.Message(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFrames(t *testing.T) {
	want := Frame{ID: 7, Options: []byte("module"), Body: []byte("body")}
	b, err := AppendFrame(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(append(bytes.Clone(b), b...))
	for range 2 {
		if got, err := ReadFrame(r, 4); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("found %+v, %v", got, err)
		}
	}
	if _, err := ReadFrame(r, 4); err != io.EOF {
		t.Fatal(err)
	}
	for n := 1; n < len(b); n++ {
		if _, err := ReadFrame(bytes.NewReader(b[:n]), 4); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, x := range []struct {
		head string
		want error
	}{
		{"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", ErrMalformed},
		{"\x00\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff", ErrTooLarge},
		{"\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00\x00\x01", ErrTooLarge},
		{"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05", ErrTooLarge},
	} {
		if _, err := ReadFrame(strings.NewReader(x.head), 4); !errors.Is(err, x.want) {
			t.Errorf("%x: %v", x.head, err)
		}
	}
	if _, err := AppendFrame(nil, Frame{ID: 1, Options: make([]byte, maxOptions+1)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func FuzzMessage(f *testing.F) {
	for _, b := range messages() {
		f.Add(b, true, byte(0))
		f.Add(b, false, byte(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, request bool, version byte) {
		k, v := Answer, Version(version%3)
		if request {
			k = Request
		}
		d, err := Decode(b, k)
		if err != nil {
			return
		}
		e := fields(d, k, v)
		if d.Done() != nil {
			return
		}
		// What is accepted is written again, and then the same.
		once, err := e.Message()
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if d, err = Decode(once, k); err != nil {
			t.Fatal(err)
		}
		e = fields(d, k, v)
		twice, err := e.Message()
		if err != nil || d.Done() != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x, %v, %v", once, twice, err, d.Done())
		}
	})
}

func FuzzFrame(f *testing.F) {
	b, _ := AppendFrame(nil, Frame{ID: 7, Options: []byte("module"), Body: []byte("body")})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ReadFrame(bytes.NewReader(b), 1<<10)
		if err != nil {
			return
		}
		if again, err := AppendFrame(nil, x); err != nil || !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}
