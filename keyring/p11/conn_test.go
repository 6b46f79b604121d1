//go:build linux

package p11

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// soft is a token made of this package's own wire, in the form of any version: it shows
// that the codec serves both sides, and misbehaves where it is told to.
type soft struct {
	version Version
	flags   uint64                             // of the token
	pin     string                             // the good one
	logins  int                                // tried
	instead map[Call]func(id uint32) []byte    // bytes to send instead of an answer
	answer  map[Call]func(d *Decoder) *Encoder // an answer instead
	offered Version
	message []byte // to sign
}

func (s *soft) serve(c net.Conn) {
	defer c.Close()
	var v [1]byte
	if _, err := io.ReadFull(c, v[:]); err != nil {
		return
	}
	s.offered = Version(v[0])
	if _, err := c.Write([]byte{byte(s.version)}); err != nil {
		return
	}
	for {
		f, err := ReadFrame(c, MaxBody)
		if err != nil {
			return
		}
		d, err := Decode(f.Body, Request)
		if err != nil {
			return
		}
		var b []byte
		if do := s.instead[d.Call]; do != nil {
			b = do(f.ID)
		} else {
			do := s.answer[d.Call]
			if do == nil {
				do = s.call
			}
			body, err := do(d).Message()
			if err != nil {
				panic(err)
			}
			b, _ = AppendFrame(nil, Frame{ID: f.ID, Body: body})
		}
		if b == nil {
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func failed(rv RV) *Encoder { return NewEncoder(CallError, Answer).Ulong(uint64(rv)) }

func (s *soft) call(d *Decoder) *Encoder {
	e := NewEncoder(d.Call, Answer)
	switch d.Call {
	case GetSlotList:
		if d.Byte(); d.RoomUlongs() > 0 {
			e.Ulongs([]uint64{9})
		}
	case GetTokenInfo:
		d.Ulong()
		e.Padded("soft", 32).Padded("test", 32).Padded("test", 16).Padded("1", 16).Ulong(s.flags | ckfTokenInitialized)
		for range 10 {
			e.Ulong(1)
		}
		e.Version(1, 0).Version(1, 0).Padded("", 16)
	case OpenSession:
		e.Ulong(d.Ulong() + d.Ulong())
	case Login:
		d.Ulong()
		d.Ulong()
		s.logins++
		if pin, _ := d.Bytes(); string(pin) != s.pin {
			return failed(CKRPINIncorrect)
		}
	case FindObjectsInit:
		d.Ulong()
		d.Attributes()
	case FindObjects:
		d.Ulong()
		d.RoomUlongs()
		e.Ulongs([]uint64{77})
	case FindObjectsFinal:
		d.Ulong()
	case GetAttributeValue:
		d.Ulong()
		d.Ulong()
		d.RoomAttributes()
		e.Attributes([]Attribute{Bool(CKASensitive, true), Bool(CKAExtractable, false), {Type: CKAValueLen, Unavailable: true}}).Ulong(uint64(CKRAttributeTypeInvalid))
	case SignInit:
		d.Ulong()
		d.Mechanism(s.version)
		d.Ulong()
	case Sign:
		d.Ulong()
		s.message, _ = d.Bytes()
		d.RoomBytes()
		h := hmac.New(sha256.New, []byte("soft"))
		h.Write(s.message)
		e.Bytes(h.Sum(nil))
	case Initialize:
		d.Bytes()
		d.Byte()
		d.Bytes()
	case Finalize:
	default:
		return failed(CKRFunctionFailed)
	}
	if d.Done() != nil {
		return failed(CKRDeviceError)
	}
	return e
}

// use does all that the sealing keys need.
func (s *soft) use(t *testing.T, limit time.Duration) ([]byte, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	_ = os.Chmod(filepath.Dir(path), 0o700)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			s.serve(c)
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := Dial(ctx, "unix:path="+path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	tok, err := c.Token(URI{Token: "soft", Object: "key"}, false)
	if err != nil {
		return nil, err
	}
	if err := tok.Login([]byte("1234")); err != nil {
		return nil, err
	}
	k, err := tok.Key(URI{Token: "soft", Object: "key"})
	if err != nil {
		return nil, err
	}
	return k.HMAC([]byte("message"))
}

func TestVersions(t *testing.T) {
	for v := Version0; v <= Version2; v++ {
		s := &soft{version: v, pin: "1234"}
		sum, err := s.use(t, time.Minute)
		if err != nil || len(sum) != 32 || string(s.message) != "message" || s.offered != Version2 {
			t.Errorf("version %d: %x, %v, offered %d", v, sum, err, s.offered)
		}
	}
	if _, err := (&soft{version: 3}).use(t, time.Minute); !errors.Is(err, ErrMalformed) {
		t.Errorf("a version that was not offered: %v", err)
	}
}

// A PIN is tried once, and where one wrong one more would lock the token not at all.
func TestPINIsTriedOnce(t *testing.T) {
	for _, x := range []struct {
		flags  uint64
		pin    string
		want   error
		logins int
	}{
		{0, "else", ErrPIN, 1}, {ckfUserPINCountLow, "else", ErrPIN, 1}, {ckfUserPINCountLow, "1234", nil, 1},
		{ckfUserPINFinalTry, "1234", ErrPINBlocked, 0}, {ckfUserPINLocked, "1234", ErrPINBlocked, 0}, {ckfUserPINToBeChanged, "1234", ErrPINBlocked, 0},
	} {
		s := &soft{flags: x.flags, pin: x.pin}
		if _, err := s.use(t, time.Minute); !errors.Is(err, x.want) || s.logins != x.logins {
			t.Errorf("%+v: found %v and %d tries", x, err, s.logins)
		}
	}
}

func frame(id uint32, body string) []byte {
	b, _ := AppendFrame(nil, Frame{ID: id, Body: []byte(body)})
	return b
}

func TestHostileModule(t *testing.T) {
	answer := func(e *Encoder) func(*Decoder) *Encoder { return func(*Decoder) *Encoder { return e } }
	for what, x := range map[string]struct {
		at      Call
		instead func(uint32) []byte
		answer  func(*Decoder) *Encoder
		want    error
	}{
		"it ends":                 {at: Sign, instead: func(uint32) []byte { return nil }, want: ErrGone},
		"half an answer":          {at: Sign, instead: func(id uint32) []byte { return frame(id, "0123456789abcdef")[:20] }, want: ErrTimeout},
		"silence":                 {at: Login, instead: func(uint32) []byte { return []byte{} }, want: ErrTimeout},
		"garbage":                 {at: GetTokenInfo, instead: func(id uint32) []byte { return frame(id, "garbage, and more of it") }, want: ErrMalformed},
		"no answer in the frame":  {at: GetTokenInfo, instead: func(id uint32) []byte { return frame(id, "") }, want: ErrMalformed},
		"4 GiB":                   {at: Sign, instead: func(uint32) []byte { return []byte("\x00\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff") }, want: ErrTooLarge},
		"an answer to another":    {at: Sign, instead: func(id uint32) []byte { return frame(id+1, "") }, want: ErrMalformed},
		"another call's":          {at: Login, answer: answer(NewEncoder(OpenSession, Answer).Ulong(1)), want: ErrMalformed},
		"an error that is none":   {at: Login, answer: answer(failed(0)), want: ErrMalformed},
		"a short sum":             {at: Sign, answer: answer(NewEncoder(Sign, Answer).Bytes([]byte("short"))), want: ErrMalformed},
		"no sum":                  {at: Sign, answer: answer(NewEncoder(Sign, Answer).Length(32)), want: ErrMalformed},
		"thousands of slots":      {at: GetSlotList, answer: answer(NewEncoder(GetSlotList, Answer).Count(1 << 20)), want: ErrTooLarge},
		"no slot":                 {at: GetSlotList, answer: answer(NewEncoder(GetSlotList, Answer).Ulongs(nil)), want: ErrNoToken},
		"two slots, one token":    {at: GetSlotList, answer: answer(NewEncoder(GetSlotList, Answer).Ulongs([]uint64{1, 2})), want: ErrManyTokens},
		"the token is taken away": {at: GetTokenInfo, answer: answer(failed(CKRTokenNotPresent)), want: ErrNoToken},
		"the device fails":        {at: SignInit, answer: answer(failed(CKRDeviceError)), want: CKRDeviceError},
		"the PIN is locked now":   {at: Login, answer: answer(failed(CKRPINLocked)), want: ErrPIN},
		"no key":                  {at: FindObjects, answer: answer(NewEncoder(FindObjects, Answer).Ulongs([]uint64{})), want: ErrNoKey},
		"many keys":               {at: FindObjects, answer: answer(NewEncoder(FindObjects, Answer).Ulongs([]uint64{1, 2})), want: ErrManyKeys},
		"no attributes":           {at: GetAttributeValue, answer: answer(NewEncoder(GetAttributeValue, Answer).Attributes(nil).Ulong(0)), want: ErrMalformed},
		"other attributes":        {at: GetAttributeValue, answer: answer(NewEncoder(GetAttributeValue, Answer).Attributes([]Attribute{Bool(CKASign, true), Bool(CKAExtractable, false), Bool(CKASign, true)}).Ulong(0)), want: ErrMalformed},
		"extractable":             {at: GetAttributeValue, answer: answer(NewEncoder(GetAttributeValue, Answer).Attributes([]Attribute{Bool(CKASensitive, true), Bool(CKAExtractable, true), Ulong(CKAValueLen, 32)}).Ulong(0)), want: ErrWeakKey},
		"says nothing of it":      {at: GetAttributeValue, answer: answer(NewEncoder(GetAttributeValue, Answer).Attributes([]Attribute{{Type: CKASensitive, Unavailable: true}, {Type: CKAExtractable, Unavailable: true}, Ulong(CKAValueLen, 32)}).Ulong(0)), want: ErrWeakKey},
	} {
		s := &soft{pin: "1234", instead: map[Call]func(uint32) []byte{}, answer: map[Call]func(*Decoder) *Encoder{}}
		if x.instead != nil {
			s.instead[x.at] = x.instead
		} else {
			s.answer[x.at] = x.answer
		}
		limit := 30 * time.Second
		if x.want == ErrTimeout {
			limit = 300 * time.Millisecond
		}
		if _, err := s.use(t, limit); !errors.Is(err, x.want) || s.logins > 1 {
			t.Errorf("%s: found %v, wanted %v", what, err, x.want)
		}
	}
}

// Children that are no p11-kit: each is killed and waited for.
func TestHostileChild(t *testing.T) {
	module := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(module, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]error{
		"sleep 1000":                         ErrTimeout,
		"(sleep 1000 >&2 &) ; sleep 1000":    ErrTimeout, // a helper of its own
		"printf '\\002'; exec sleep 1000":    ErrTimeout,
		"exit 3":                             ErrGone,
		"kill -SEGV $$":                      ErrGone,
		"echo no such card >&2; exit 1":      ErrGone,
		"printf '\\011'; exec sleep 1000":    ErrMalformed,
		"printf '\\002'; exec cat /dev/zero": ErrMalformed,
		"printf '\\002'; exec yes":           ErrTooLarge,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "p11-kit"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":/usr/bin:/bin")
		limit := 30 * time.Second
		if want == ErrTimeout {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		begun := time.Now()
		c, err := Spawn(ctx, module, []string{"PATH=" + os.Getenv("PATH")})
		cancel()
		if c != nil || !errors.Is(err, want) || time.Since(begun) > 20*time.Second {
			t.Errorf("%s: found %v after %v, wanted %v", script, err, time.Since(begun), want)
		}
	}
}
