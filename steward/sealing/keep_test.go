package sealing

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/verdict"
	silicon "github.com/donjon-tee/donjon/silicon/snp"
	"github.com/donjon-tee/donjon/workload"
)

// A bench is a machine on which sealer Keeps are started: a simulated processor and a
// program. The Keep is played by this test, with reports of that processor and a key
// that it derives; the real one is warden's.
type bench struct {
	chip    *silicon.Silicon
	program [48]byte
	started int
	tees    []string
	// lie changes what the Keep does; nil is an honest one.
	lie *liar
}

type liar struct {
	workload [32]byte // another; zero: the sealer's
	nonce    []byte
	purpose  string
	evidence func([]byte) []byte
	seal     func(plain, sealed []byte) []byte
	open     func([]byte) []byte
	launch   error
}

func newBench(t *testing.T) *bench {
	t.Helper()
	chip, err := silicon.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &bench{chip: chip, program: [48]byte{1}}
}

func (b *bench) config(dir string) Config {
	return Config{Kind: KindKeep, Dir: dir, WorkFactor: 10, Keep: &Keep{
		TEE: "sim", AllowSimulated: true,
		Use: func(_ context.Context, tee string, use func(SealerKeep) error) error {
			b.started++
			b.tees = append(b.tees, tee)
			k := &played{b: b, l: liar{workload: workload.Sealer().Digest, purpose: evidence.PurposeFile}}
			if l := b.lie; l != nil {
				if l.launch != nil {
					return l.launch
				}
				w, p := k.l.workload, k.l.purpose
				k.l = *l
				if k.l.workload == [32]byte{} {
					k.l.workload = w
				}
				if k.l.purpose == "" {
					k.l.purpose = p
				}
			}
			k.guest = b.chip.Guest(silicon.Launch{HostData: k.l.workload}, func() [48]byte { return b.program })
			return use(k)
		},
		Expect: func(context.Context, string) (Expected, error) {
			return Expected{LaunchDigest: b.program, SimulatedRoot: b.chip.RootFingerprint()}, nil
		},
	}}
}

type played struct {
	b     *bench
	l     liar
	guest *silicon.Guest
}

func (k *played) Evidence(nonce []byte) ([]byte, error) {
	if k.l.nonce != nil {
		nonce = k.l.nonce
	}
	claims, err := evidence.Claims{Nonce: nonce, Purpose: k.l.purpose, WorkloadDigest: k.l.workload}.Encode()
	if err != nil {
		return nil, err
	}
	raw, err := k.guest.Report(evidence.ReportData(claims))
	if err != nil {
		return nil, err
	}
	b, err := evidence.Evidence{Report: raw, Certs: k.guest.Certs(), Claims: claims}.Encode()
	if k.l.evidence != nil {
		b = k.l.evidence(b)
	}
	return b, err
}

func (k *played) aead() (cipher.AEAD, error) {
	req := make([]byte, 32)
	req[8] = 1<<0 | 1<<3
	key, err := k.guest.DeriveKey(req)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (k *played) Seal(plain, aad []byte) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 12)
	rand.Read(nonce)
	out := aead.Seal(nonce, nonce, plain, aad)
	if k.l.seal != nil {
		out = k.l.seal(plain, out)
	}
	return out, nil
}

func (k *played) Open(sealed, aad []byte) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	if len(sealed) < 12 {
		return nil, errors.New("too short")
	}
	out, err := aead.Open(nil, sealed[:12], sealed[12:], aad)
	if k.l.open != nil {
		return k.l.open(out), nil
	}
	return out, err
}

func folder(t *testing.T) string { return filepath.Join(t.TempDir(), "keys") }

// sealedKey is the file of a ring's only key.
func sealedKey(t *testing.T, dir string) string {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*.keep"))
	if len(names) != 1 {
		t.Fatalf("found %q", names)
	}
	return names[0]
}

func TestKeep(t *testing.T) {
	b, dir := newBench(t), folder(t)
	r := must(t, b.config(dir))
	sealed, id, err := r.Seal([]byte("secret"), []byte("aad"))
	if err != nil || b.started != 1 {
		t.Fatalf("found %v after %d Keeps", err, b.started)
	}
	key, _ := r.key(id)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		content, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if info, ierr := n.Info(); err != nil || ierr != nil || info.Mode().Perm() != 0o600 || bytes.Contains(content, key) {
			t.Errorf("%s: %v, %v, or the key is in it", n.Name(), err, info.Mode())
		}
	}
	// The next start asks a Keep once, and opens.
	next := must(t, b.config(dir))
	for range 3 {
		if got, err := next.Open(sealed, []byte("aad")); err != nil || string(got) != "secret" {
			t.Fatalf("found %q, %v", got, err)
		}
	}
	if b.started != 2 {
		t.Errorf("found %d Keeps, wanted 2: keys are kept in memory", b.started)
	}
	// A verb that needs no key asks none.
	lazy := b.config(dir)
	lazy.Lazy = true
	l := must(t, lazy)
	if got, err := l.KeyID(); got != id || err != nil || b.started != 2 {
		t.Errorf("lazy: found %s, %v after %d Keeps", got, err, b.started)
	}
	if _, err := l.Open(sealed, []byte("aad")); err != nil || b.started != 3 {
		t.Errorf("lazy: found %v after %d Keeps", err, b.started)
	}
	// Another key of the ring.
	second, err := next.Rotate()
	if err != nil || second == id {
		t.Fatal(second, err)
	}
	if _, got, err := r.Seal([]byte("x"), nil); err != nil || got != second {
		t.Errorf("found %s, %v", got, err)
	}
}

// What a stolen folder is worth: nothing on another machine, in another program, or to
// a Keep of another workload; and nothing that was moved or changed opens.
func TestKeepElsewhere(t *testing.T) {
	b, dir := newBench(t), folder(t)
	r := must(t, b.config(dir))
	id, _ := r.KeyID()
	good, err := os.ReadFile(sealedKey(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "keep-sim.toml"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, c Config, want error, code verdict.Code) {
		t.Helper()
		_, err := Open(c)
		var v *verdict.Error
		if !errors.Is(err, want) {
			t.Errorf("%s: found %v, wanted %v", what, err, want)
		} else if code != "" && (!errors.As(err, &v) || !decided(v.Verdict, code)) {
			t.Errorf("%s: found %v, wanted the check %s", what, err, code)
		}
	}
	other := newBench(t)
	refused("another machine", other.config(dir), ErrKeepRefused, verdict.TrustedRoot)
	changed := *b
	changed.program[0] = 2
	refused("another program", changed.config(dir), ErrKeepRefused, verdict.RuntimePinned)
	strict := b.config(dir)
	strict.Keep.AllowSimulated = false
	refused("simulated, and not allowed", strict, ErrKeepRefused, verdict.SimulatedRoot)
	// Whoever can write there makes the policy fit. The processor's key does not.
	for what, x := range map[string]*bench{"another machine": other, "another program": &changed} {
		fits, _ := x.config(dir).Keep.Expect(context.Background(), "sim")
		put(t, filepath.Join(dir, "keep-sim.toml"), fits.policy("sim"))
		refused(what+", with its policy", x.config(dir), ErrKeep, "")
	}
	put(t, filepath.Join(dir, "keep-sim.toml"), text)
	must(t, b.config(dir))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		put(t, filepath.Join(dir, id+".keep"), bad)
		if _, err := Open(b.config(dir)); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrKeep) && !errors.Is(err, ErrPassphrase) {
			t.Errorf("byte %d changed: found %v", i, err)
		}
	}
	for what, bad := range map[string][]byte{
		"nothing": nil, "the head": good[:6], "no TEE": {1, 0, 0, 9}, "a path": append([]byte{1, 0, 3, '.', '.', '/'}, good[6:]...), "flags": append([]byte{1, 2}, good[2:]...),
	} {
		put(t, filepath.Join(dir, id+".keep"), bad)
		refused(what, b.config(dir), ErrKeyFile, "")
	}
	// A key under another's name.
	put(t, filepath.Join(dir, strings.Repeat("0", 16)+".keep"), good)
	put(t, filepath.Join(dir, Current), []byte(strings.Repeat("0", 16)+"\n"))
	refused("another id", b.config(dir), ErrKeep, "")
}

func decided(v *verdict.Verdict, code verdict.Code) bool {
	for _, c := range v.Deciding() {
		if c.Code == code {
			return true
		}
	}
	return false
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A Keep that is not what it should be is given no key, and one that lies loses none.
func TestKeepThatLies(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		lie  liar
		want error
		code verdict.Code
	}{
		"another workload":     {liar{workload: [32]byte{9}}, ErrKeepRefused, verdict.Workload},
		"evidence from before": {liar{nonce: []byte("an older nonce")}, ErrKeepRefused, verdict.Nonce},
		"another purpose":      {liar{purpose: evidence.PurposeHTTP}, ErrKeepRefused, verdict.Purpose},
		"changed evidence":     {liar{evidence: func(b []byte) []byte { b[len(b)/3] ^= 1; return b }}, ErrKeepRefused, ""},
		"no evidence":          {liar{evidence: func([]byte) []byte { return nil }}, ErrKeepRefused, ""},
		"it seals another key": {liar{seal: func(_, s []byte) []byte { s[20] ^= 1; return s }}, ErrKeep, ""},
		"it gives back the key as it is": {liar{seal: func(p, s []byte) []byte { return append(s, p...) },
			open: func([]byte) []byte { return nil }}, ErrKeep, ""},
		"it opens to another key": {liar{open: func([]byte) []byte { return make([]byte, 32) }}, ErrKeep, ""},
		"it does not start":       {liar{launch: errors.New("no such program")}, ErrKeep, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			b.lie = &c.lie
			_, err := Open(b.config(dir))
			var v *verdict.Error
			if !errors.Is(err, c.want) || c.code != "" && (!errors.As(err, &v) || !decided(v.Verdict, c.code)) {
				t.Fatalf("found %v, wanted %v and the check %q", err, c.want, c.code)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("found %v", left)
			}
			// The next one is honest, and the first key is made.
			b.lie = nil
			must(t, b.config(dir))
			// It lies again: what was sealed before is safe.
			b.lie = &c.lie
			if _, err := Open(b.config(dir)); err == nil && c.lie.seal == nil {
				t.Error("it opens")
			}
			b.lie = nil
			must(t, b.config(dir))
		})
	}
}

// A Keep that fails is not started for every request.
func TestKeepThatFailsIsLeftAlone(t *testing.T) {
	b, dir := newBench(t), folder(t)
	sealed, _, err := must(t, b.config(dir)).Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := b.config(dir)
	c.Lazy = true
	now := time.Now()
	c.Keep.Now = func() time.Time { return now }
	r := must(t, c)
	b.lie, b.started = &liar{launch: errors.New("no room")}, 0
	for range 10 {
		if _, err := r.Open(sealed, nil); !errors.Is(err, ErrKeep) {
			t.Fatal(err)
		}
	}
	if b.started != 1 {
		t.Errorf("started %d times", b.started)
	}
	b.lie = nil
	now = now.Add(pause)
	if _, err := r.Open(sealed, nil); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// The deadline is on the Keep: Use is given it.
func TestKeepDeadline(t *testing.T) {
	b := newBench(t)
	c := b.config(folder(t))
	c.Keep.Timeout = 50 * time.Millisecond
	c.Keep.Use = func(ctx context.Context, _ string, _ func(SealerKeep) error) error {
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := Open(c); !errors.Is(err, ErrKeep) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("found %v", err)
	}
}

func TestKeepWithPassphrase(t *testing.T) {
	b, dir := newBench(t), folder(t)
	c := b.config(dir)
	c.Passphrase = []byte("correct horse battery")
	var given []byte
	b.lie = &liar{seal: func(p, s []byte) []byte { given = bytes.Clone(p); return s }}
	r := must(t, c)
	b.lie = nil
	id, _ := r.KeyID()
	key, _ := r.key(id)
	if !bytes.HasPrefix(given, []byte("age-encryption.org/v1\n")) || bytes.Contains(given, key) {
		t.Errorf("the Keep was given %q", given)
	}
	must(t, c)
	for what, words := range map[string]string{"none": "", "another": "wrong horse battery"} {
		w := c
		if w.Passphrase = []byte(words); words == "" {
			w.Passphrase = nil
		}
		if _, err := Open(w); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: found %v", what, err)
		}
	}
	// The head says that there is a passphrase; it is sealed with the rest.
	file := sealedKey(t, dir)
	content, _ := os.ReadFile(file)
	content[1] = 0
	put(t, file, content)
	if _, err := Open(b.config(dir)); !errors.Is(err, ErrKeep) {
		t.Errorf("said to be without: found %v", err)
	}
	plain := folder(t)
	must(t, b.config(plain))
	c.Dir = plain
	if _, err := Open(c); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a passphrase for a key without: found %v", err)
	}
}

func FuzzKeepFile(f *testing.F) {
	f.Add(append(keepHead{0, "sim"}.encode(), 1, 2, 3))
	f.Add(append(keepHead{flagPassphrase, "vm"}.encode(), 1))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, sealed, err := parseKeepFile(b)
		if err == nil && (!bytes.Equal(append(h.encode(), sealed...), b) || strings.ContainsAny(h.tee, "./\x00") || h.tee == "") {
			t.Errorf("accepted %x", b)
		}
		if err != nil && !errors.Is(err, ErrKeyFile) {
			t.Errorf("found %v", err)
		}
	})
}
