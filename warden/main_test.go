//go:build linux

package warden

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// The test binary is also the exec child, unconfined: child.Spawn starts it anew
// with the argument "exec". Its standard input says which walls of the sandbox
// cannot be raised, and where its cache folder is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "exec" {
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			os.Exit(1)
		}
		missing, cacheDir, _ := strings.Cut(string(b), "|")
		wall := func(name string) ([]string, error) {
			if missing != name {
				return nil, nil
			}
			return []string{"the " + name + " wall"}, errors.New("no " + name + " wall")
		}
		os.Exit(child.Main(child.Hooks{
			Compiling: func(string) ([]string, error) { return wall("first") },
			Running:   func() ([]string, error) { return wall("last") },
			CacheDir:  cacheDir,
		}))
	}
	os.Exit(m.Run())
}

// spins is the body of a _start that never ends: loop, br 0.
var spins = []byte{0x03, 0x40, 0x0c, 0x00, 0x0b}

func module(body []byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00")
	b = append(b, 10, byte(4+len(body)), 1, byte(2+len(body)), 0)
	return append(append(b, body...), 0x0b)
}

// A host is the other end of a Keep that runs in this process. Its fields are
// set before the Keep starts.
type host struct {
	body   []byte   // of the guest's _start; nil ends at once
	layers [][]byte // files that the configuration names
	// steward is where the host carries the Keep's connection to its Steward.
	steward func() (net.Conn, error)
	config  string
	tee     string // "": sim
	now     func() time.Time
	offer   func(*link.Offer)
	// manifest changes what is offered; host data stays that of the truth.
	manifest func(*workload.Manifest)
	report   func([]byte) []byte
	hold     chan struct{} // reports after the first wait until it is closed
	missing  string        // the wall of the child's sandbox that cannot be raised: first, last
	store    *store        // nil: there is no cache
	derive   bool          // the processor derives keys without a store; key changes them, nil does not
	key      func([]byte) []byte
	measured byte // the first byte of the launch digest; 0: 7
	// processor makes the reports; nil is a new one.
	processor *silicon.Silicon

	sess   *link.Session
	last   chan link.Exit
	ended  chan struct{}
	silent chan struct{} // closed once all that the Keep logged is in logged
	mu     sync.Mutex
	logged []string
}

// start runs the Keep and waits for nothing.
func (h *host) start(t *testing.T) {
	t.Helper()
	if h.tee == "" {
		h.tee = "sim"
	}
	a, b := connected(t)
	proc := h.spawn(t)
	if err := proc.Confine(h.store != nil); err != nil {
		t.Fatal(err)
	}
	h.last, h.ended, h.silent = make(chan link.Exit, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(h.ended)
		Run(Options{Link: b, Child: proc, CheckSandbox: func(bool) error { return nil }, TEE: h.tee, NoCache: h.store == nil, Now: h.now})
	}()
	var err error
	if h.sess, err = link.Host(a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.sess.Close()
		select {
		case <-h.ended:
		case <-time.After(time.Minute):
			t.Error("the Keep outlives its link")
		}
		<-proc.Ended()
	})
	blobs, m := h.contents()
	if h.manifest != nil {
		h.manifest(&m)
	}
	offer := link.Offer{Manifest: m.Encode()}
	if h.processor == nil {
		if h.processor, err = silicon.Open(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	guest := h.processor.Guest(silicon.Launch{HostData: sha256.Sum256(offer.Manifest)}, func() [48]byte { return [48]byte{max(h.measured, 7)} })
	if h.store != nil {
		h.store.keep(guest)
	}
	if h.offer != nil {
		h.offer(&offer)
	}
	go func() {
		for {
			st, err := h.sess.Accept()
			if err != nil {
				return
			}
			go h.serve(st, offer, blobs, guest)
		}
	}()
}

// spawn starts the child, and tells it on its standard input what it is.
func (h *host) spawn(t *testing.T) *child.Process {
	t.Helper()
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	name := filepath.Join(dir, "stdin")
	if err := errors.Join(os.Mkdir(cache, 0o700), os.WriteFile(name, []byte(h.missing+"|"+cache), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	saved := os.Stdin
	os.Stdin = f
	defer func() { os.Stdin = saved }()
	proc, err := child.Spawn()
	if err != nil {
		t.Fatal(err)
	}
	return proc
}

func (h *host) serve(st *link.Stream, offer link.Offer, blobs [][]byte, guest *silicon.Guest) {
	switch st.Service() {
	case link.ServiceWorkload:
		_ = link.WriteRecord(st, offer)
		_, _ = st.Write(bytes.Join(blobs, nil))
		_ = st.CloseWrite()
	case link.ServiceReport:
		for n := 0; ; n++ {
			b, err := link.ReadRaw(st, 64)
			if err != nil {
				return
			}
			if n > 0 && h.hold != nil {
				<-h.hold
			}
			raw, _ := guest.Report([64]byte(b))
			if h.report != nil {
				raw = h.report(raw)
			}
			_ = link.WriteRecord(st, link.ReportReply{Report: raw, Certs: guest.Certs()})
		}
	case link.ServiceSteward:
		conn, err := h.steward()
		if err != nil {
			_ = link.WriteRecord(st, link.PortReply{Error: err.Error(), Hint: "a hint"})
			_ = st.Close()
			return
		}
		_ = link.WriteRecord(st, link.PortReply{OK: true})
		go func() { _, _ = io.Copy(conn, st); _ = conn.Close() }()
		_, _ = io.Copy(st, conn)
		_ = st.Close()
	case link.ServiceListen:
		_ = link.WriteRecord(st, link.PortReply{OK: true, Addr: "here"})
		_, _ = io.Copy(io.Discard, st)
	case link.ServiceLog:
		defer close(h.silent)
		for {
			var l link.LogLine
			if link.ReadRecord(st, link.MaxRecord, &l) != nil {
				return
			}
			h.mu.Lock()
			h.logged = append(h.logged, l.Text)
			h.mu.Unlock()
		}
	case link.ServiceExit:
		var e link.Exit
		if link.ReadRecord(st, link.MaxRecord, &e) == nil {
			h.last <- e
		}
	case link.ServiceStdin:
		_ = st.CloseWrite()
	case link.ServiceDeriveKey, link.ServiceBlobs:
		if h.store != nil {
			h.store.one(st)
		} else if h.derive && st.Service() == link.ServiceDeriveKey {
			(&store{guest: guest, key: h.key}).one(st)
		} else {
			st.Reset(link.CodeUnknown, "none here")
		}
	default:
		_, _ = io.Copy(io.Discard, st)
	}
}

// exit waits for the Keep's last word.
func (h *host) exit(t *testing.T) link.Exit {
	t.Helper()
	select {
	case e := <-h.last:
		return e
	case <-h.ended:
		t.Fatalf("the Keep ended without a word: %v", h.sess.Err())
	case <-time.After(time.Minute):
		t.Fatal("the Keep does not end")
	}
	return link.Exit{}
}

// evidence asks for evidence as the host's user does.
func (h *host) evidence() (link.EvidenceReply, error) {
	var r link.EvidenceReply
	st, err := h.sess.Open(link.ServiceEvidence, link.Marshal(link.EvidenceRequest{}))
	if err != nil {
		return r, err
	}
	defer st.Close()
	return r, link.ReadRecord(st, link.MaxReportRecord, &r)
}

// contents are the blobs that are handed over, and their manifest.
func (h *host) contents() (blobs [][]byte, m workload.Manifest) {
	describe := func(media string, b []byte) workload.Descriptor {
		return workload.Descriptor{MediaType: media, Digest: sha256.Sum256(b), Size: int64(len(b))}
	}
	blobs = [][]byte{[]byte(h.config), module(h.body)}
	m = workload.Manifest{Config: describe(workload.MediaConfig, blobs[0]), Layers: []workload.Descriptor{describe(workload.MediaWasm, blobs[1])}}
	if strings.HasPrefix(h.config, "builtin") {
		return blobs[:1], workload.Manifest{Config: m.Config}
	}
	for _, l := range h.layers {
		blobs = append(blobs, l)
		m.Layers = append(m.Layers, describe(workload.MediaFile, l))
	}
	return blobs, m
}
