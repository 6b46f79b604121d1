package sealing

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/evidence"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/workload"
)

// A SealerKeep is a running Keep of the built-in sealer (keep.Sealer).
type SealerKeep interface {
	Evidence(nonce []byte) ([]byte, error)
	Seal(plain, aad []byte) ([]byte, error)
	Open(sealed, aad []byte) ([]byte, error)
}

// Keep says how the Keeps of KindKeep are started, and which of them are believed.
type Keep struct {
	// TEE is where new keys are sealed, and stands in their files: sim, vm. "": where
	// the keys that are there were.
	TEE string
	// AllowSimulated lets a Keep be believed whose processor is simulated.
	AllowSimulated bool
	// Use starts a Keep of the sealer, lets use ask it, and ends it. ctx has a deadline.
	Use func(ctx context.Context, tee string, use func(SealerKeep) error) error
	// Expect says what the Keep of this machine and release must show. It is asked
	// where no key was sealed before; what it says is written down, and holds from
	// then on.
	Expect func(ctx context.Context, tee string) (Expected, error)
	// Timeout bounds one use. 0: 3 minutes, in which a machine boots.
	Timeout time.Duration
	Now     func() time.Time // nil: time.Now
}

// Expected is what a Keep must show.
type Expected struct {
	LaunchDigest  [48]byte
	SimulatedRoot string // SHA-256 of the root certificate, hexadecimal; "": a vendor's
}

// The file of a key: form u8 (1), flags u8, length of the TEE's name u8, the name,
// and what the Keep made of the key (warden, sealed form). Under a passphrase the Keep
// is given what age made of the key, and never has the key itself.
const (
	keepForm       = 1
	flagPassphrase = 1 << 0
	keepLabel      = "donjon steward sealing/1 keep\x00"
	maxTEE         = 8
	// pause is how long a Keep that failed is not started again, nor a token asked.
	pause = 5 * time.Second
)

// keepProtector protects keys by a Keep that alone can open what it sealed. It runs
// while it is asked, and no longer.
type keepProtector struct {
	dir      string
	k        Keep
	inner    protector // a passphrase; nil: none
	verifier attest.Verifier
	// Of a move from Keep to Keep: what the keys before open in is judged by what was
	// written down for it, which the first new key puts aside.
	movesTo, movesFrom bool

	mu      sync.Mutex // one Keep at a time
	isFirst bool       // the next key is the first: what a Keep must show is written down
	failed  error      // the last use's, until the pause is over
	until   time.Time
}

func newKeepProtector(c Config) (protector, error) {
	if c.Keep == nil {
		return nil, fmt.Errorf("%w: keys of the kind %s where no Keep can be started", ErrNotSupported, KindKeep)
	}
	p := &keepProtector{dir: c.Dir, k: *c.Keep}
	if c.Passphrase != nil {
		var err error
		if p.inner, err = newPassphrase(c); err != nil {
			return nil, err
		}
	}
	if p.k.Timeout == 0 {
		p.k.Timeout = 3 * time.Minute
	}
	if p.k.Now == nil {
		p.k.Now = time.Now
	}
	return p, nil
}

func (*keepProtector) kind() string { return KindKeep }

func (p *keepProtector) close() {
	if p.inner != nil {
		p.inner.close()
	}
}

func (p *keepProtector) first() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isFirst = true
}

// A keepHead is what a key file begins with.
type keepHead struct {
	flags byte
	tee   string
}

func (h keepHead) encode() []byte {
	return append([]byte{keepForm, h.flags, byte(len(h.tee))}, h.tee...)
}

// aad binds what is sealed to the file's head and the key's id.
func (h keepHead) aad(id string) []byte {
	return append(append([]byte(keepLabel), h.encode()...), id...)
}

func parseKeepFile(b []byte) (h keepHead, sealed []byte, err error) {
	if len(b) < 3 || b[0] != keepForm || b[1]&^flagPassphrase != 0 || b[2] == 0 || b[2] > maxTEE || len(b) <= 3+int(b[2]) {
		return h, nil, fmt.Errorf("%w: it is not in the form of a key that a Keep sealed", ErrKeyFile)
	}
	h = keepHead{b[1], string(b[3 : 3+b[2]])}
	if strings.Trim(h.tee, "abcdefghijklmnopqrstuvwxyz") != "" { // it becomes a part of a path
		return h, nil, fmt.Errorf("%w: it names the TEE %q", ErrKeyFile, h.tee)
	}
	return h, b[3+b[2]:], nil
}

func (p *keepProtector) wrap(id string, key []byte) ([]byte, error) {
	tee, err := p.tee()
	if err != nil {
		return nil, err
	}
	h, content := keepHead{tee: tee}, bytes.Clone(key)
	defer clear(content)
	if p.inner != nil {
		if content, err = p.inner.wrap(id, key); err != nil {
			return nil, err
		}
		h.flags = flagPassphrase
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var sealed, text []byte
	err = p.use(func(ctx context.Context) (err error) {
		text, err = p.policyText(ctx, h.tee)
		return err
	}, h.tee, &text, func(s SealerKeep) error {
		var err error
		if sealed, err = s.Seal(content, h.aad(id)); err != nil {
			return fmt.Errorf("%w: sealing: %w", ErrKeep, err)
		}
		// What does not open again is not stored.
		again, err := s.Open(sealed, h.aad(id))
		if err != nil {
			return fmt.Errorf("%w: opening what it sealed: %w", ErrKeep, err)
		}
		defer clear(again)
		if subtle.ConstantTimeCompare(again, content) != 1 || bytes.Contains(sealed, content) {
			return fmt.Errorf("%w: it did not seal what it was given", ErrKeep)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Only now: a Keep has shown that it is what the policy says.
	if p.movesTo && p.isFirst {
		if err := p.putAside(h.tee); err != nil {
			return nil, err
		}
	}
	if err := placeIn(p.dir, policyFile(h.tee), text, true); err != nil {
		return nil, err
	}
	p.isFirst = false
	return append(h.encode(), sealed...), nil
}

// tee is where a new key is sealed.
func (p *keepProtector) tee() (string, error) {
	if p.k.TEE != "" {
		return p.k.TEE, nil
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "*"+extensions[KindKeep]))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("%w: it was not said in which TEE a Keep is to seal the first key", ErrKeep)
	}
	b, err := readPrivate(files[0])
	if err != nil {
		return "", err
	}
	h, _, err := parseKeepFile(b)
	return h.tee, err
}

func (p *keepProtector) unwrap(id string, file []byte) ([]byte, error) {
	h, sealed, err := parseKeepFile(file)
	if err != nil {
		return nil, err
	}
	switch under := h.flags&flagPassphrase != 0; {
	case under && p.inner == nil:
		return nil, fmt.Errorf("%w: the key has a passphrase beside its Keep, and none is given", ErrPassphrase)
	case !under && p.inner != nil:
		return nil, fmt.Errorf("%w: a passphrase is given, and the key has none beside its Keep", ErrPassphrase)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil && p.k.Now().Before(p.until) {
		return nil, p.failed
	}
	var text, key []byte
	err = p.use(func(context.Context) (err error) {
		name := policyFile(h.tee)
		if p.movesFrom {
			name = asideIfThere(p.dir, h.tee)
		}
		text, err = readPrivate(filepath.Join(p.dir, name))
		return err
	}, h.tee, &text, func(s SealerKeep) error {
		var err error
		if key, err = s.Open(sealed, h.aad(id)); err != nil {
			return fmt.Errorf("%w: opening the key: %w", ErrKeep, err)
		}
		return nil
	})
	if !p.movesFrom { // there the next key may be one that it does open
		p.failed, p.until = err, p.k.Now().Add(pause)
	}
	if err != nil || p.inner == nil {
		return key, err
	}
	return p.inner.unwrap(id, key)
}

// use starts a Keep, judges it by the policy that prepare finds, and asks it. The
// caller holds the lock.
func (p *keepProtector) use(prepare func(context.Context) error, tee string, text *[]byte, ask func(SealerKeep) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.k.Timeout)
	defer cancel()
	err := prepare(ctx)
	if err == nil {
		err = p.k.Use(ctx, tee, func(s SealerKeep) error {
			if err := p.judge(*text, s); err != nil {
				return err
			}
			return ask(s)
		})
	}
	if err != nil && !errors.Is(err, ErrKeep) && !errors.Is(err, ErrKeepRefused) && !errors.Is(err, ErrKeyFile) {
		err = fmt.Errorf("%w: %w", ErrKeep, err)
	}
	return err
}

// judge has the Keep prove itself, over a nonce of its own, before it is asked for
// anything.
func (p *keepProtector) judge(text []byte, s SealerKeep) error {
	rules, err := policy.Parse(text)
	if err != nil {
		return fmt.Errorf("%w: the Keep's policy: %w", ErrKeyFile, err)
	}
	rules.AllowSimulated = rules.AllowSimulated && p.k.AllowSimulated
	nonce := make([]byte, 32)
	rand.Read(nonce)
	ev, err := s.Evidence(nonce)
	if err != nil {
		return fmt.Errorf("%w: its evidence: %w", ErrKeep, err)
	}
	v := p.verifier.Verify(ev, attest.Options{At: p.k.Now(), Policy: rules, Nonce: nonce, Purpose: evidence.PurposeFile})
	if err := v.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrKeepRefused, err)
	}
	return nil
}

func policyFile(tee string) string { return "keep-" + tee + ".toml" }

// asideFile is the policy of the Keep before, while keys move from it to another.
func asideFile(tee string) string { return "keep-" + tee + ".before.toml" }

func asideIfThere(dir, tee string) string {
	if _, err := os.Lstat(filepath.Join(dir, asideFile(tee))); errors.Is(err, fs.ErrNotExist) {
		return policyFile(tee)
	}
	return asideFile(tee)
}

// putAside keeps what the Keep before must show. Of a move that was cut off it is there
// already, and the other file may be the new one.
func (p *keepProtector) putAside(tee string) error {
	text, err := readPrivate(filepath.Join(p.dir, policyFile(tee)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // keys of another TEE move
	}
	if err == nil {
		err = placeIn(p.dir, asideFile(tee), text, false)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// endMove is called when the last key of the Keep before is about to be removed.
func (p *keepProtector) endMove() error {
	if p.k.TEE == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(p.dir, asideFile(p.k.TEE))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}

// policyText is the policy that a Keep is judged by which is to seal a key: what was
// written down when the first one was sealed there; of the first, what is expected now.
func (p *keepProtector) policyText(ctx context.Context, tee string) ([]byte, error) {
	if !p.isFirst {
		return readPrivate(filepath.Join(p.dir, policyFile(tee)))
	}
	x, err := p.k.Expect(ctx, tee)
	if err != nil {
		return nil, err
	}
	return x.policy(tee), nil
}

// policy is the text of a policy that admits the sealer in that Keep alone.
func (x Expected) policy(tee string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written when a %s Keep sealed the first key here: what must be shown by a Keep\n# that is given one. Another donjon-keep is another Keep, and opens none of them.\n", tee)
	fmt.Fprintf(&b, "version = 1\nname = \"sealer\"\nfreshness = \"nonce\"\nworkloads = [\"%s\"]\n", hex.EncodeToString(sealerDigest()))
	if x.SimulatedRoot != "" {
		fmt.Fprintf(&b, "# SIMULATED: this processor is a program; who owns the machine has its key.\nsimulated_roots = [%q]\nallow_simulated = true\n", x.SimulatedRoot)
	}
	fmt.Fprintf(&b, "\n[snp]\nlaunch_digests = [\"%x\"]\n", x.LaunchDigest)
	return []byte(b.String())
}

func sealerDigest() []byte {
	d := workload.Sealer().Digest
	return d[:]
}
