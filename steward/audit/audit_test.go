package audit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/donjon-tee/donjon/attest/verdict"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func full() Record {
	return Record{
		Kind: Decision, Epoch: 1, Who: "192.0.2.1", Text: "text", Workload: "sha256:00", Name: "n", Version: 3, Request: "r1", Instance: "ab", TEE: "snp",
		Simulated: true, Challenge: Digest{1}, Evidence: Digest{2}, Claims: Digest{3}, PolicyVersion: 4, Policy: Digest{5}, Outcome: verdict.Refused,
		Code: "refused", Detail: Digest{6}, Serial: []byte{7}, Secrets: []string{"a@1"},
		Checks: []Check{{Code: "snp-signature", Status: verdict.Passed, Found: "f", Wanted: "w", Waived: "v", Informal: true}},
	}
}

// log is a log of n records, its last epoch the second.
func log(t testing.TB, id LogID, n int) [][]byte {
	t.Helper()
	chain := NewChain(id)
	var out [][]byte
	for i := range n {
		r := full()
		r.Request = strings.Repeat("r", i)
		if i == 0 {
			r = Record{Kind: Genesis, Epoch: 1}
		}
		if i > n/2 {
			r.Epoch = 2
		}
		b, err := chain.Next(&r, t0.Add(time.Duration(i)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func head(t testing.TB, key crypto.Signer, id LogID, recs [][]byte, seq int) *Head {
	t.Helper()
	r, err := Parse(recs[seq-1])
	if err != nil {
		t.Fatal(err)
	}
	h, err := Sign(key, id, r.Epoch, r.Seq, Hash(recs[seq-1]), t0)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func export(t testing.TB, id LogID, recs [][]byte, heads ...*Head) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, id)
	for i, r := range recs {
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
		for _, h := range heads {
			if h.Seq == uint64(i+1) {
				if err := w.Head(h); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, h := range heads {
		if h.Seq > uint64(len(recs)) {
			if err := w.Head(h); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func keys(t testing.TB) map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ed25519": ed, "ecdsa": ec}
}

func TestRecord(t *testing.T) {
	r := full()
	r.Seq, r.Time = 9, t0.UnixMicro()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := got.Encode()
	if !bytes.Equal(b, again) || got.Checks[0] != r.Checks[0] || !got.At().Equal(t0) {
		t.Fatalf("found %+v", got)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "longer": append(bytes.Clone(b), 0), "cut": b[:len(b)-1], "indefinite": append([]byte{0xbf}, append(bytes.Clone(b[2:]), 0xff)...),
		"no map": {0x80}, "unknown key": {0xa1, 0x18, 0x63, 0}, "deep": bytes.Repeat([]byte{0x81}, 1000), "huge": {0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if _, err := Parse(bad); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An empty text that is encoded all the same is another form of one record.
	short, _ := (&Record{Seq: 1, Kind: Note}).Encode()
	longer := append([]byte{short[0] + 1}, append(bytes.Clone(short[1:]), 6, 0x60)...)
	if _, err := Parse(longer); err == nil {
		t.Error("a record in two forms is read")
	}
	for name, change := range map[string]func(*Record){
		"no number": func(r *Record) { r.Seq = 0 }, "no kind": func(r *Record) { r.Kind = "" },
		"long": func(r *Record) { r.Text = strings.Repeat("x", MaxText+1) }, "not UTF-8": func(r *Record) { r.Checks[0].Found = "\xff" },
		"serial": func(r *Record) { r.Serial = make([]byte, 65) }, "checks": func(r *Record) { r.Checks = make([]Check, MaxChecks+1) },
	} {
		r := full()
		r.Seq = 1
		change(&r)
		if _, err := r.Encode(); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "": "", "a\x00b": "a?b", "\xffa": "?a", strings.Repeat("x", 2000): strings.Repeat("x", MaxText),
		strings.Repeat("é", 600): strings.Repeat("é", 512), "x" + strings.Repeat("é", 600): "x" + strings.Repeat("é", 511),
		strings.Repeat("\xff", 2000): "",
	} {
		got := Clip(in)
		if want == "" && in != "" {
			if len(got) > MaxText || !utf8.ValidString(got) {
				t.Errorf("found %d bytes", len(got))
			}
		} else if got != want {
			t.Errorf("of %.20q: found %.20q", in, got)
		}
	}
}

func TestVerify(t *testing.T) {
	for name, key := range keys(t) {
		t.Run(name, func(t *testing.T) {
			id := LogID{1, 2, 3}
			recs := log(t, id, 12)
			n := 0
			o := Options{Keys: []crypto.PublicKey{key.Public()}, Heads: []*Head{head(t, key, id, recs, 5)}, Each: func(*Record, Digest) error { n++; return nil }}
			rep, err := Verify(bytes.NewReader(export(t, id, recs, head(t, key, id, recs, 3), head(t, key, id, recs, 12))), o)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Records != 12 || rep.Signed != 12 || rep.Heads != 2 || rep.Given != 1 || rep.Epochs != 2 || n != 12 || rep.End != Hash(recs[11]) {
				t.Fatalf("found %+v", rep)
			}
		})
	}
}

// TestTampering does to a log what someone who writes the database can.
func TestTampering(t *testing.T) {
	key, thief := keys(t)["ed25519"], keys(t)["ed25519"]
	id := LogID{1}
	recs := log(t, id, 10)
	end := head(t, key, id, recs, 10)
	// rechain computes a log anew with one record changed, as the thief would.
	rechain := func(change func(i int, r *Record)) [][]byte {
		chain := NewChain(id)
		var out [][]byte
		for i, b := range recs {
			r, _ := Parse(b)
			change(i, r)
			at := r.At()
			b, err := chain.Next(r, at)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b)
		}
		return out
	}
	admitted := func(i int, r *Record) {
		if i == 4 {
			r.Outcome = verdict.Admitted
		}
	}
	changed := slices.Clone(recs)
	one, _ := Parse(recs[4])
	one.Outcome = verdict.Admitted
	changed[4], _ = one.Encode()
	last := slices.Clone(recs)
	one, _ = Parse(recs[9])
	one.Outcome = verdict.Admitted
	last[9], _ = one.Encode()
	swapped := slices.Clone(recs)
	swapped[4], swapped[5] = swapped[5], swapped[4]
	anew := rechain(admitted)
	forgedHead := head(t, thief, id, anew, 10)
	otherLog := log(t, LogID{9}, 10)

	for name, c := range map[string]struct {
		export []byte
		heads  []*Head
		want   error
	}{
		"changed":                        {export(t, id, changed, end), nil, ErrChain},
		"last changed":                   {export(t, id, last, end), nil, ErrRewritten},
		"removed":                        {export(t, id, slices.Delete(slices.Clone(recs), 4, 5), end), nil, ErrSequence},
		"first removed":                  {export(t, id, recs[1:], end), nil, ErrSequence},
		"inserted":                       {export(t, id, slices.Insert(slices.Clone(recs), 4, recs[4]), end), nil, ErrSequence},
		"moved":                          {export(t, id, swapped, end), nil, ErrSequence},
		"cut, the head stays":            {export(t, id, recs[:7], end), nil, ErrTruncated},
		"cut, no head":                   {export(t, id, recs[:7]), nil, ErrUnsigned},
		"cut to an old head":             {export(t, id, recs[:7], head(t, key, id, recs, 7)), []*Head{end}, ErrTruncated},
		"computed anew":                  {export(t, id, anew, end), nil, ErrRewritten},
		"computed anew, signed":          {export(t, id, anew, forgedHead), nil, ErrSignature},
		"computed anew, no head":         {export(t, id, anew), nil, ErrUnsigned},
		"computed anew, a head got":      {export(t, id, anew), []*Head{end}, ErrRewritten},
		"computed anew after a head":     {export(t, id, anew, head(t, key, id, recs, 3)), []*Head{head(t, key, id, recs, 7)}, ErrRewritten},
		"another log":                    {export(t, LogID{9}, otherLog, head(t, key, LogID{9}, otherLog, 10)), []*Head{end}, ErrLog},
		"another log's records":          {export(t, id, otherLog, end), nil, ErrChain},
		"a head got that a thief signed": {export(t, id, recs, end), []*Head{forgedHead}, ErrSignature},
		"nothing":                        {export(t, id, nil), nil, ErrUnsigned},
		"records after the head":         {export(t, id, recs, head(t, key, id, recs, 8)), nil, ErrUnsigned},
		"garbage":                        {[]byte("garbage garbage garbage garbage"), nil, ErrFormat},
		"empty":                          {nil, nil, ErrFormat},
		"no end":                         {export(t, id, recs, end)[:200], nil, ErrFormat},
		"bytes after the end":            {append(export(t, id, recs, end), 0), nil, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(bytes.NewReader(c.export), Options{Keys: []crypto.PublicKey{key.Public()}, Heads: c.heads})
			if !errors.Is(err, c.want) {
				t.Fatalf("found %v, wanted %v", err, c.want)
			}
			// Nor does it hold when an unsigned end is allowed, if there was a head.
			if c.want != nil && (len(c.heads) > 0 || !errors.Is(c.want, ErrUnsigned)) {
				if _, err := Verify(bytes.NewReader(c.export), Options{Keys: []crypto.PublicKey{key.Public()}, Heads: c.heads, Unsigned: true}); err == nil {
					t.Fatal("it holds with Unsigned")
				}
			}
		})
	}
	rep, err := Verify(bytes.NewReader(export(t, id, recs, head(t, key, id, recs, 8))), Options{Keys: []crypto.PublicKey{key.Public()}, Unsigned: true})
	if err != nil || rep.Unsigned != 2 || rep.Signed != 8 {
		t.Fatal(rep, err)
	}
	if _, err := Verify(bytes.NewReader(nil), Options{}); !errors.Is(err, ErrKey) {
		t.Fatal(err)
	}
}

// TestEveryByte changes each byte of an export: none may pass.
func TestEveryByte(t *testing.T) {
	key := keys(t)["ecdsa"]
	id := LogID{1}
	recs := log(t, id, 3)
	good := export(t, id, recs, head(t, key, id, recs, 3))
	o := Options{Keys: []crypto.PublicKey{key.Public()}}
	if _, err := Verify(bytes.NewReader(good), o); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, x := range []byte{1, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= x
			if _, err := Verify(bytes.NewReader(bad), o); err == nil {
				t.Fatalf("byte %d of %d", i, len(good))
			}
		}
		if _, err := Verify(bytes.NewReader(good[:i]), o); err == nil {
			t.Fatalf("cut at %d", i)
		}
	}
}

func TestHead(t *testing.T) {
	for name, key := range keys(t) {
		h, err := Sign(key, LogID{1}, 2, 3, Digest{4}, t0)
		if err != nil {
			t.Fatal(err)
		}
		text, err := h.Text()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseHeadText(text)
		if err != nil || got.Verify(key.Public()) != nil || !got.At().Equal(t0) {
			t.Fatal(name, err)
		}
		for what, change := range map[string]func(*Head){
			"log": func(h *Head) { h.Log[0]++ }, "epoch": func(h *Head) { h.Epoch++ }, "seq": func(h *Head) { h.Seq++ },
			"hash": func(h *Head) { h.Hash[31]++ }, "time": func(h *Head) { h.Time++ }, "signature": func(h *Head) { h.Signature[9] ^= 1 },
		} {
			bad := *got
			bad.Signature = bytes.Clone(got.Signature)
			change(&bad)
			if err := bad.Verify(key.Public()); !errors.Is(err, ErrSignature) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		for _, bad := range []string{"", "AA", text + "A", text[:len(text)-2], text + "=", strings.Repeat("A", 5000)} {
			if _, err := ParseHeadText(bad); !errors.Is(err, ErrHead) {
				t.Errorf("%.20q: %v", bad, err)
			}
		}
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if _, err := Sign(p384, LogID{}, 1, 1, Digest{}, t0); !errors.Is(err, ErrKey) {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range log(f, LogID{1}, 3) {
		f.Add(b)
	}
	f.Add([]byte{0xa1, 0x01, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("found %x after %x, %v", again, b, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	id := LogID{1}
	recs := log(f, id, 3)
	good := export(f, id, recs, head(f, key, id, recs, 3))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		rep, err := Verify(bytes.NewReader(b), Options{Keys: []crypto.PublicKey{key.Public()}})
		if err == nil && (rep.Signed != rep.Records || !bytes.Equal(b, good)) {
			t.Fatalf("an export that nobody signed holds: %+v", rep)
		}
		if h, err := ParseHead(b); err == nil {
			if again, err := h.Encode(); err != nil || !bytes.Equal(b, again) {
				t.Fatalf("found %x after %x, %v", again, b, err)
			}
		}
	})
}

// A token's record of an earlier release is read as it was written: it does not say when
// the token ends. One of now does, also that it never does.
func TestTokenEnd(t *testing.T) {
	old, err := hex.DecodeString("a90102021b00066104732790000301046c746f6b656e2d63726561746505582000000000000000000000000000000000000000000000000000000000000000000663636c690764726561640961741758200600000000000000000000000000000000000000000000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(old)
	if err != nil || r.Kind != TokenCreate || r.Expires != nil {
		t.Fatalf("an earlier record: found %+v, %v", r, err)
	}
	for _, end := range []int64{0, t0.UnixMicro()} {
		r.Expires = &end
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(b); err != nil || got.Expires == nil || *got.Expires != end {
			t.Errorf("found %+v, %v, wanted the end %d", got, err, end)
		}
	}
	r.Kind = TokenRevoke
	if _, err := r.Encode(); !errors.Is(err, ErrRecord) {
		t.Errorf("an end of what was not made: found %v", err)
	}
}
