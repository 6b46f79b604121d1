//go:build linux

package warden

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// sealer starts a Keep with the built-in sealer on a processor.
func sealer(t *testing.T, p *silicon.Silicon, edit func(*host)) *host {
	t.Helper()
	h := &host{config: string(workload.Sealer().ConfigBytes), derive: true, processor: p}
	if edit != nil {
		edit(h)
	}
	h.start(t)
	return h
}

// ask sends one record to the sealer.
func (h *host) ask(record []byte) (link.SealReply, error) {
	var r link.SealReply
	st, err := h.sess.Open(link.ServiceSeal, nil)
	if err != nil {
		return r, err
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	if err := link.WriteRaw(st, record); err != nil {
		return r, err
	}
	return r, link.ReadRecord(st, link.MaxSealRecord, &r)
}

func (h *host) seals(t *testing.T, op link.SealOp, data, aad []byte) link.SealReply {
	t.Helper()
	r, err := h.ask(link.Marshal(link.SealRequest{Op: op, Data: data, AAD: aad}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func chip(t *testing.T) *silicon.Silicon {
	t.Helper()
	p, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a sealer seals, the next one opens, and no other: not with other AAD, not of
// another workload, another program, another processor.
func TestSealer(t *testing.T) {
	p := chip(t)
	plain, aad := []byte("a ring key, say"), []byte("its place")
	h := sealer(t, p, nil)
	r := h.seals(t, link.OpSeal, plain, aad)
	if r.Error != "" || bytes.Contains(r.Data, plain) || len(r.Data) != sealMin+len(plain) {
		t.Fatalf("found %d bytes, %q", len(r.Data), r.Error)
	}
	if again := h.seals(t, link.OpSeal, plain, aad); bytes.Equal(again.Data[:sealHead], r.Data[:sealHead]) {
		t.Error("two sealed forms have one salt")
	}
	if st, err := h.sess.Open(link.ServiceStop, nil); err != nil || st.CloseWrite() != nil {
		t.Fatal(err)
	}
	if e := h.exit(t); e.Kind != link.ExitStopped {
		t.Errorf("asked to stop: found %+v", e)
	}
	next := sealer(t, p, nil)
	if got := next.seals(t, link.OpOpen, r.Data, aad); !bytes.Equal(got.Data, plain) {
		t.Fatalf("the next Keep: %q", got.Error)
	}
	refuses := func(what string, h *host, sealed, aad []byte) {
		t.Helper()
		if got := h.seals(t, link.OpOpen, sealed, aad); got.Error == "" || got.Data != nil {
			t.Errorf("%s: it opens", what)
		}
	}
	refuses("other AAD", next, r.Data, []byte("its places"))
	refuses("no AAD", next, r.Data, nil)
	for i := range r.Data {
		bad := bytes.Clone(r.Data)
		bad[i] ^= 1
		refuses("a changed byte", next, bad, aad)
	}
	refuses("a byte more", next, append(bytes.Clone(r.Data), 0), aad)
	refuses("a byte less", next, r.Data[:len(r.Data)-1], aad)
	refuses("another workload", sealer(t, p, func(h *host) { h.config += "# another\n" }), r.Data, aad)
	refuses("another program", sealer(t, p, func(h *host) { h.measured = 8 }), r.Data, aad)
	refuses("another processor", sealer(t, chip(t), nil), r.Data, aad)
	// A processor of the host's that gives another key, or one that is none.
	refuses("a key of the host's", sealer(t, p, func(h *host) { h.key = func([]byte) []byte { return make([]byte, 32) } }), r.Data, aad)
	refuses("a short key", sealer(t, p, func(h *host) { h.key = func(k []byte) []byte { return k[:16] } }), r.Data, aad)
}

// T7: a sealed form says under which TCB it was sealed, and another does not open it;
// one above the processor's own it does not derive.
func TestT07SealedUnderTheCommittedTCB(t *testing.T) {
	h := sealer(t, chip(t), nil)
	r := h.seals(t, link.OpSeal, []byte("x"), nil)
	head, _, err := parseSealed(r.Data)
	if err != nil {
		t.Fatal(err)
	}
	const committed = 10 | 25<<48 | 220<<56 // of the simulated processor
	if head.tcb != committed || head.svn != 0 {
		t.Fatalf("found TCB %x and SVN %d", head.tcb, head.svn)
	}
	for _, tcb := range []uint64{0, committed - 1, committed + 1, math.MaxUint64} {
		other := head
		other.tcb = tcb
		if got := h.seals(t, link.OpOpen, append(other.encode(), r.Data[sealHead:]...), nil); got.Error == "" {
			t.Errorf("TCB %x: it opens", tcb)
		}
	}
}

// A host that asks for what the sealer does not do gets an error, and the Keep lives.
func TestSealerRefuses(t *testing.T) {
	h := sealer(t, chip(t), nil)
	long := bytes.Repeat([]byte{1}, link.MaxSealed+1)
	for what, q := range map[string]link.SealRequest{
		"no operation":      {Data: []byte("x")},
		"another operation": {Op: 3, Data: []byte("x")},
		"nothing to seal":   {Op: link.OpSeal},
		"too much to seal":  {Op: link.OpSeal, Data: long[:link.MaxSealPlain+1]},
		"too much to open":  {Op: link.OpOpen, Data: long},
		"too much AAD":      {Op: link.OpSeal, Data: []byte("x"), AAD: long[:link.MaxSealAAD+1]},
		"too short to open": {Op: link.OpOpen, Data: long[:sealMin-1]},
		"another version":   {Op: link.OpOpen, Data: append([]byte{2}, long[:sealMin]...)},
	} {
		if r := h.seals(t, q.Op, q.Data, q.AAD); r.Error == "" || r.Data != nil {
			t.Errorf("%s: found no error", what)
		}
	}
	for what, record := range map[string][]byte{"no CBOR": {0xff}, "nothing": {}, "an unknown key": {0xa1, 0x18, 0x63, 0x01}, "too long": make([]byte, link.MaxSealRecord+1)} {
		var reset *link.ResetError
		if _, err := h.ask(record); !errors.As(err, &reset) || reset.Code != link.CodeFailed {
			t.Errorf("%s: found %v", what, err)
		}
	}
	if r := h.seals(t, link.OpSeal, long[:link.MaxSealPlain], long[:link.MaxSealAAD]); r.Error != "" || len(r.Data) > link.MaxSealed {
		t.Errorf("the most: found %d bytes, %q", len(r.Data), r.Error)
	}
	// It proves itself as every Keep does.
	if r, err := h.evidence(); err != nil || len(r.Evidence) == 0 {
		t.Errorf("evidence: %+v, %v", r, err)
	}
}

// A Keep that runs a module seals nothing for the host, whatever it asks.
func TestOtherKeepsSealNothing(t *testing.T) {
	h := &host{body: spins, derive: true}
	h.start(t)
	var reset *link.ResetError
	if _, err := h.ask(link.Marshal(link.SealRequest{Op: link.OpSeal, Data: []byte("x")})); !errors.As(err, &reset) || reset.Code != link.CodeUnknown {
		t.Errorf("found %v", err)
	}
}

// A sealer that is handed what it was not launched for does not seal.
func TestSealerEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		h    *host
		kind link.ExitKind
		text string
	}{
		{"T2 launched for another workload", &host{offer: func(o *link.Offer) {
			o.Manifest = bytes.Replace(o.Manifest, []byte(`"size":19`), []byte(`"size":18`), 1)
		}}, link.ExitRefused, "another workload"},
		{"another configuration", &host{manifest: func(m *workload.Manifest) { m.Config.Digest[0] ^= 1 }}, link.ExitRefused, "the configuration is not"},
		{"a module beside it", &host{manifest: func(m *workload.Manifest) {
			m.Layers = []workload.Descriptor{{MediaType: workload.MediaWasm}}
		}}, link.ExitRefused, "1 layers, wanted none"},
		{"another built-in", &host{config: "builtin = \"else\"\n"}, link.ExitRefused, "builtin"},
		{"arguments of the host", &host{offer: func(o *link.Offer) { o.Args = []string{"x"} }}, link.ExitRefused, "host_args"},
		{"another TEE", &host{config: "builtin = \"sealer\"\ntee = [\"snp\"]\n"}, link.ExitConfig, "snp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.h.config == "" {
				c.h.config = string(workload.Sealer().ConfigBytes)
			}
			c.h.derive = true
			c.h.start(t)
			st, err := c.h.sess.Open(link.ServiceSeal, nil) // before it knows what it is
			if err == nil {
				_ = link.WriteRecord(st, link.SealRequest{Op: link.OpSeal, Data: []byte("x")})
			}
			if e := c.h.exit(t); e.Kind != c.kind || !strings.Contains(e.Text, c.text) {
				t.Errorf("found %+v, wanted %d with %q", e, c.kind, c.text)
			}
			_ = c.h.sess.Close()
			var r link.SealReply
			if err == nil && link.ReadRecord(st, link.MaxSealRecord, &r) == nil {
				t.Errorf("it sealed: %+v", r)
			}
		})
	}
}

// The derivation is fixed: what a release sealed, the same release opens.
func TestSealKeyGolden(t *testing.T) {
	root, salt := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	base := sealContext{workload: [32]byte{3}}
	key, err := sealKey(root, salt, base)
	if got, want := hex.EncodeToString(key), "999b8cc34f175981ab001104ae34f1a3b6c2aa2a25fac9f586b4c465d30d321e"; err != nil || got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
	seen := map[string]bool{string(key): true}
	for _, c := range []sealContext{
		{workload: [32]byte{4}}, {workload: base.workload, owner: []byte("a")}, {workload: base.workload, policy: []byte("a")},
		{workload: base.workload, owner: []byte("ab")}, {workload: base.workload, owner: []byte("a"), policy: []byte("b")}, {workload: base.workload, minimum: 1},
	} {
		k, err := sealKey(root, salt, c)
		if err != nil || seen[string(k)] {
			t.Errorf("%+v: found a key of another context, or %v", c, err)
		}
		seen[string(k)] = true
	}
}

// goldenSealed is "plain" with the AAD "aad", under FuzzSealed's root key for TCB 5 and
// SVN 1 and the workload 01 00 …
const goldenSealed = "01000000010000000000000005fc8292c8988b35e7d4f5537d31fe08c0510add1eafd85333bc28" +
	"6ef05e0d1da2071c1131fa7d1613f290fdd63872dcd82ca685f3e3330217026bdc5aa2deff7e45"

// FuzzSealed is what the host may give the sealer to open.
func FuzzSealed(f *testing.F) {
	root := func(tcb uint64, svn uint32) ([]byte, error) {
		if tcb > 9 || svn > 9 {
			return nil, errors.New("refused")
		}
		return bytes.Repeat([]byte{byte(tcb), byte(svn)}, 16), nil
	}
	c := sealContext{workload: [32]byte{1}}
	good, err := hex.DecodeString(goldenSealed) // the same in each process that fuzzes
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte("aad"))
	f.Add(good[:sealMin-1], []byte("aad"))
	f.Add(good, []byte{})
	f.Add(append(bytes.Clone(good), 0), []byte("aad"))
	f.Fuzz(func(t *testing.T, b, aad []byte) {
		if h, body, err := parseSealed(b); err == nil && !bytes.Equal(append(h.encode(), body...), b) {
			t.Errorf("parsed, and not the same when encoded: %x", b)
		}
		plain, err := openSealed(root, c, b, aad)
		if same := bytes.Equal(b, good) && string(aad) == "aad"; same != (err == nil) || same && string(plain) != "plain" {
			t.Errorf("found %q, %v", plain, err)
		}
	})
}
