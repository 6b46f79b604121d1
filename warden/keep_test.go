//go:build linux

package warden

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/steward/protocol"
	"github.com/donjon-tee/donjon/workload"
)

const listens = "[[files]]\nkind = \"listen\"\nname = \"web\"\nprot = \"tls\"\n"

func weak(o *link.Offer) { o.Weak = true }

// What a Keep says at its end to hosts of many kinds.
func TestKeepEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		h    *host
		kind link.ExitKind
		text string
	}{
		{"well", &host{}, link.ExitStatus, ""},
		{"a trap", &host{body: []byte{0}}, link.ExitTrap, "unreachable"},
		{"wall time", &host{body: spins, config: "[limits]\nwall_time = \"200ms\"\n"}, link.ExitLimit, "wall time"},
		{"processor time", &host{body: spins, config: "[limits]\ncpu_time = \"100ms\"\n"}, link.ExitLimit, "processor time"},
		{"the host's processor time", &host{body: spins, offer: func(o *link.Offer) { o.MaxCPU = 100 }}, link.ExitLimit, "processor time"},
		{"no module", &host{body: []byte{0xff}}, link.ExitModule, ""},
		{"no configuration", &host{config: "x = 1"}, link.ExitRefused, "the configuration"},
		{"a Steward", &host{config: "steward = \"https://s\""}, link.ExitConfig, "Steward"},
		{"another TEE", &host{config: "tee = [\"snp\"]"}, link.ExitConfig, "snp"},
		{"this TEE", &host{config: "tee = [\"sim\"]"}, link.ExitStatus, ""},
		{"a layer too many", &host{manifest: func(m *workload.Manifest) {
			m.Layers = append(m.Layers, m.Layers[0])
			m.Layers[1].MediaType = workload.MediaFile
		}}, link.ExitRefused, "2 layers"},
		{"a layer too few", &host{config: "[[data]]\npath = \"x\"\nguest = \"/x\""}, link.ExitRefused, "1 layers"},
		{"another configuration", &host{manifest: func(m *workload.Manifest) { m.Config.Digest[0] ^= 1 }}, link.ExitRefused, "the configuration is not"},
		{"another module", &host{manifest: func(m *workload.Manifest) { m.Layers[0].Digest[31] ^= 1 }}, link.ExitRefused, "the module is not"},
		{"T2 another manifest than launched for", &host{offer: func(o *link.Offer) {
			m, _ := workload.ParseManifest(o.Manifest)
			m.Layers[0].Size--
			o.Manifest = m.Encode()
		}}, link.ExitRefused, "another workload"},
		{"T6 an argument", &host{offer: func(o *link.Offer) { o.Args = []string{"x"} }}, link.ExitRefused, "host_args"},
		{"T6 a declared argument", &host{config: "host_args = true", offer: func(o *link.Offer) { o.Args = []string{"x"} }}, link.ExitStatus, ""},
		{"T6 an argument beside secrets", &host{config: "host_args = true\nsteward = \"https://s\""}, link.ExitRefused, "not allowed"},
		{"nine signatures", &host{offer: func(o *link.Offer) { o.Signatures = slices.Repeat([][]byte{{1}}, protocol.MaxSignatures+1) }}, link.ExitRefused, "9 signatures"},
		{"a large signature", &host{offer: func(o *link.Offer) { o.Signatures = [][]byte{make([]byte, protocol.MaxSignature+1)} }}, link.ExitRefused, "4097 bytes"},
		{"an empty signature", &host{offer: func(o *link.Offer) { o.Signatures = [][]byte{{1}, {}} }}, link.ExitRefused, "0 bytes"},
		{"signatures and no Steward", &host{offer: func(o *link.Offer) { o.Signatures = [][]byte{{1}} }}, link.ExitStatus, ""},
		{"T10 the clock ten years back", &host{now: func() time.Time { return released.AddDate(-10, 0, 0) }, config: listens}, link.ExitStatus, ""},
		{"T32 no first wall", &host{missing: "first"}, link.ExitFailed, "no first wall"},
		{"T32 no last wall", &host{missing: "last"}, link.ExitFailed, "no last wall"},
		{"T32 no first wall, weak in sim", &host{missing: "first", offer: weak}, link.ExitStatus, ""},
		{"T32 no last wall, weak in sim", &host{missing: "last", offer: weak}, link.ExitStatus, ""},
		{"T32 no first wall, weak elsewhere", &host{tee: "vm", missing: "first", offer: weak}, link.ExitFailed, "no first wall"},
		{"T32 no last wall, weak elsewhere", &host{tee: "vm", missing: "last", offer: weak}, link.ExitFailed, "no last wall"},
		{"T32 all walls, weak elsewhere", &host{tee: "vm", offer: weak}, link.ExitStatus, ""},
		{"a host folder in a vm", &host{tee: "vm", config: "[[host_dirs]]\nguest = \"/w\""}, link.ExitConfig, "sim Keeps alone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.h.start(t)
			if e := c.h.exit(t); e.Kind != c.kind || !strings.Contains(e.Text, c.text) {
				t.Errorf("found %+v, wanted %d with %q", e, c.kind, c.text)
			}
		})
	}
}

// settled waits until no more than most goroutines are left.
func settled(t *testing.T, most int) {
	t.Helper()
	for range 500 {
		if runtime.NumGoroutine() <= most {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b := make([]byte, 1<<16)
	t.Errorf("%d goroutines are left, wanted at most %d:\n%s", runtime.NumGoroutine(), most, b[:runtime.Stack(b, true)])
}

// T28: a host that opens 100,000 connections and resets them costs the Keep
// nothing that lasts, and hears its evidence afterwards.
func TestT28HostOpensHundredThousandStreams(t *testing.T) {
	h := &host{body: spins, config: listens}
	h.start(t)
	if _, err := h.evidence(); err != nil { // it is up
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	services := []link.Service{link.ServiceConn, link.ServiceConn, link.ServiceEvidence, link.ServiceStop - 1, 99}
	peak := 0
	for i := range 100_000 {
		st, err := h.sess.Open(services[i%len(services)], link.Marshal(link.Conn{Index: 0, Peer: "1.2.3.4:5"}))
		if err != nil {
			t.Fatalf("after %d streams: %v", i, err)
		}
		st.Reset(link.CodeCancelled, "")
		if i%512 == 0 {
			peak = max(peak, runtime.NumGoroutine())
		}
	}
	if peak > before+2*link.MaxStreams {
		t.Errorf("%d goroutines at once, %d before", peak, before)
	}
	settled(t, before+8)
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	if mem.HeapAlloc > 128<<20 {
		t.Errorf("%d MiB of heap are left", mem.HeapAlloc>>20)
	}
	var err error
	for range 100 { // what is still being refused may come first
		var busy *link.ResetError
		if _, err = h.evidence(); !errors.As(err, &busy) || busy.Code != link.CodeBusy {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("the session does not serve any more: %v", err)
	}
}

// T28: while the processor is slow, a bounded number of requests waits and the
// others get the code busy at once.
func TestT28EvidenceFlood(t *testing.T) {
	h := &host{body: spins, hold: make(chan struct{})}
	h.start(t)
	const asked = 200
	busy, answered := make(chan struct{}, asked), make(chan error, asked)
	for range asked {
		go func() {
			r, err := h.evidence()
			var reset *link.ResetError
			switch {
			case errors.As(err, &reset) && reset.Code == link.CodeBusy:
				busy <- struct{}{}
			case err == nil && r.Error != "":
				answered <- errors.New(r.Error)
			default:
				answered <- err
			}
		}()
	}
	for range asked - maxAsked {
		select {
		case <-busy:
		case err := <-answered:
			t.Fatalf("answered while the processor stood still: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("too few are told busy")
		}
	}
	close(h.hold)
	for range maxAsked {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

// Connections to descriptors that are no listeners, and requests that do not
// decode, are refused with their code.
func TestHostAsksForWhatIsNot(t *testing.T) {
	h := &host{body: spins, config: listens}
	h.start(t)
	if _, err := h.evidence(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		service link.Service
		params  []byte
		code    link.Code
	}{
		"no listener":      {link.ServiceConn, link.Marshal(link.Conn{Index: 7}), link.CodeRefused},
		"garbage":          {link.ServiceConn, []byte{0xff}, link.CodeFailed},
		"no parameters":    {link.ServiceEvidence, nil, link.CodeFailed},
		"a guest's":        {link.ServiceStdout, nil, link.CodeUnknown},
		"no service":       {200, nil, link.CodeUnknown},
		"evidence garbage": {link.ServiceEvidence, []byte{0xa1, 1, 0x41}, link.CodeFailed},
	} {
		st, err := h.sess.Open(c.service, c.params)
		if err != nil {
			t.Fatal(err)
		}
		_ = st.SetReadDeadline(time.Now().Add(30 * time.Second))
		var reset *link.ResetError
		if _, err := st.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != c.code {
			t.Errorf("%s: found %v, wanted code %d", name, err, c.code)
		}
	}
	st, err := h.sess.Open(link.ServiceEvidence, link.Marshal(link.EvidenceRequest{Nonce: []byte("short")}))
	if err != nil {
		t.Fatal(err)
	}
	var r link.EvidenceReply
	if err := link.ReadRecord(st, link.MaxReportRecord, &r); err != nil || r.Error == "" || len(r.Evidence) > 0 {
		t.Errorf("a short nonce: found %+v, %v", r, err)
	}
}

// T16: a Keep stores what it compiled and the next one like it takes that; what
// the host has changed meanwhile is compiled anew, and so is what it announces
// wrongly or has a key for that is none.
func TestT16KeepsAndTheirCache(t *testing.T) {
	if !engine.Compiles() {
		t.Skip("the engine of this processor compiles nothing")
	}
	processor, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	const taken, refused = "comes from the cache", "is not what was stored"
	run := func(what, says string) {
		t.Helper()
		h := &host{processor: processor, store: s}
		h.start(t)
		if e := h.exit(t); e.Kind != link.ExitStatus || e.Status != 0 {
			t.Errorf("%s: found %+v", what, e)
		}
		_ = h.sess.Close()
		<-h.ended
		<-h.silent
		h.mu.Lock()
		defer h.mu.Unlock()
		logged := strings.Join(h.logged, "\n")
		for _, line := range []string{taken, refused} {
			if strings.Contains(logged, line) != (says == line) {
				t.Errorf("%s: found the log %q, wanted %q", what, logged, says)
			}
		}
	}
	run("the first", "")
	names := s.names()
	if len(names) != 1 {
		t.Fatalf("found the entries %q, wanted one", names)
	}
	name := names[0]
	first := s.stored(name)
	run("the second", taken)
	if !bytes.Equal(s.stored(name), first) {
		t.Error("an entry that was taken is stored anew")
	}
	for what, change := range map[string]func([]byte) []byte{
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"nothing": func([]byte) []byte { return nil },
	} {
		bad := change(bytes.Clone(first))
		s.change(name, bad)
		run(what, refused)
		if bytes.Equal(s.stored(name), bad) {
			t.Errorf("%s: what was compiled anew is not stored", what)
		}
		run(what+", then", taken)
	}
	s.announce(func(uint64) uint64 { return 1 << 62 })
	run("a huge size", refused)
	s.announce(nil)
	s.mu.Lock()
	s.key = func([]byte) []byte { return make([]byte, 32) }
	s.mu.Unlock()
	run("a key of the host's", refused)
	s.mu.Lock()
	s.key = func([]byte) []byte { return nil }
	s.mu.Unlock()
	run("no key", "")
}
