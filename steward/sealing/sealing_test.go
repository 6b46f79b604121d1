package sealing

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func rings(t *testing.T) map[string]Config {
	all := map[string]Config{
		KindFile:       {Dir: filepath.Join(t.TempDir(), "keys")},
		KindPassphrase: {Kind: KindPassphrase, Dir: filepath.Join(t.TempDir(), "keys"), Passphrase: []byte("correct horse battery"), WorkFactor: 10},
	}
	if why := noHSM(); why != "" {
		t.Logf("not with a token: %s", why)
	} else {
		all[KindPKCS11] = hsm(t)
	}
	return all
}

func must(t *testing.T, c Config) *Ring {
	t.Helper()
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestSealAndOpen(t *testing.T) {
	for kind, c := range rings(t) {
		t.Run(kind, func(t *testing.T) {
			r := must(t, c)
			for _, n := range []int{0, 1, 1000, MaxPlaintext} {
				plain, aad := bytes.Repeat([]byte{7}, n), AAD("w", "n", 1, [32]byte{1})
				sealed, id, err := r.Seal(plain, aad)
				if err != nil {
					t.Fatal(err)
				}
				if have, _ := r.KeyID(); id != have || len(sealed) != n+Overhead {
					t.Fatalf("found the key %s and %d bytes", id, len(sealed))
				}
				// By another process, too.
				got, err := must(t, c).Open(sealed, aad)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("found %d bytes and %v, wanted %d", len(got), err, n)
				}
				for _, other := range [][]byte{nil, AAD("w", "n", 1, [32]byte{2}), Confirmation("w", "n", 1, [32]byte{1}), AAD("w", "n", 2, [32]byte{1}), AAD("w", "m", 1, [32]byte{1}), AAD("wn", "", 1, [32]byte{1}), AAD("", "wn", 1, [32]byte{1})} {
					if _, err := r.Open(sealed, other); !errors.Is(err, ErrOpen) {
						t.Fatalf("with other AAD: %v", err)
					}
				}
				again, _, _ := r.Seal(plain, aad)
				if bytes.Equal(again[1+idSize:headerSize], sealed[1+idSize:headerSize]) {
					t.Fatal("two records have one salt")
				}
			}
			if _, _, err := r.Seal(make([]byte, MaxPlaintext+1), nil); !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
		})
	}
}

func TestEveryBitCounts(t *testing.T) {
	r := must(t, rings(t)[KindFile])
	aad := AAD("w", "n", 1, [32]byte{1})
	sealed, _, err := r.Seal([]byte("secret"), aad)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if _, err := r.Open(bad, aad); !errors.Is(err, ErrOpen) && !errors.Is(err, ErrKeyUnknown) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	for n := range sealed {
		if _, err := r.Open(sealed[:n], aad); !errors.Is(err, ErrOpen) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := r.Open(append(sealed, 0), aad); !errors.Is(err, ErrOpen) {
		t.Fatal(err)
	}
}

func TestRotation(t *testing.T) {
	for kind, c := range rings(t) {
		t.Run(kind, func(t *testing.T) {
			server, cli := must(t, c), must(t, c)
			old, first, err := server.Seal([]byte("x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			second, err := cli.Rotate()
			if err != nil || second == first {
				t.Fatal(second, err)
			}
			// The server finds the new key without a restart.
			sealed, id, err := server.Seal([]byte("y"), nil)
			if err != nil || id != second {
				t.Fatal(id, err)
			}
			for _, s := range [][]byte{old, sealed} {
				if _, err := cli.Open(s, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := cli.Retire(second); !errors.Is(err, ErrKeyFile) {
				t.Fatalf("the current key retired: %v", err)
			}
			if err := cli.Retire("../../etc/passwd"); !errors.Is(err, ErrKeyFile) {
				t.Fatal(err)
			}
			if err := cli.Retire(first); err != nil {
				t.Fatal(err)
			}
			if _, err := cli.Open(old, nil); !errors.Is(err, ErrKeyUnknown) {
				t.Fatalf("under a retired key: %v", err)
			}
			if ids, _ := cli.KeyIDs(); len(ids) != 1 || ids[0] != second {
				t.Fatal(ids)
			}
		})
	}
}

func TestFirstKeyRace(t *testing.T) {
	for kind, c := range rings(t) {
		t.Run(kind, func(t *testing.T) { firstKeyRace(t, c) })
	}
}

func firstKeyRace(t *testing.T, c Config) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, err := Open(c)
			if err != nil {
				t.Error(err)
				return
			}
			id, err := r.KeyID()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			ids[id]++
			mu.Unlock()
		}()
	}
	wg.Wait()
	if len(ids) != 1 {
		t.Fatalf("found %d current keys", len(ids))
	}
}

func TestFiles(t *testing.T) {
	c := rings(t)[KindFile]
	r := must(t, c)
	id, _ := r.KeyID()
	path := filepath.Join(c.Dir, id+".key")
	for _, p := range []string{path, filepath.Join(c.Dir, Current)} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 {
			t.Fatal(p, st.Mode(), err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || len(b) != keySize {
		t.Fatal(len(b), err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Dir, ".new-*")); len(left) > 0 {
		t.Fatal(left)
	}
	refused := func(what string) {
		t.Helper()
		if _, err := Open(c); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrKeyUnknown) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	refused("readable by a group")
	_ = os.Chmod(path, 0o600)
	_ = os.Chmod(c.Dir, 0o755)
	refused("a folder open to others")
	_ = os.Chmod(c.Dir, 0o700)
	good, _ := os.ReadFile(path)
	for what, b := range map[string][]byte{"short": good[:31], "long": append(bytes.Clone(good), 0), "another": make([]byte, 32), "empty": nil, "huge": make([]byte, 1<<20)} {
		_ = os.WriteFile(path, b, 0o600)
		refused(what)
	}
	_ = os.Remove(path)
	_ = os.Symlink("/dev/zero", path)
	refused("a link")
	_ = os.Remove(path)
	refused("gone")
	_ = os.WriteFile(path, good, 0o600)
	must(t, c)
	// The first start ended before it said which key is current.
	_ = os.Remove(filepath.Join(c.Dir, Current))
	if again, err := must(t, c).KeyID(); again != id {
		t.Fatal(again, err)
	}
	if _, err := r.Rotate(); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(c.Dir, Current))
	refused("two keys and no current one")
	_ = os.WriteFile(filepath.Join(c.Dir, Current), []byte("../x"), 0o600)
	refused("a current key of a hostile name")
}

func TestPassphrase(t *testing.T) {
	c := rings(t)[KindPassphrase]
	r := must(t, c)
	id, _ := r.KeyID()
	b, err := os.ReadFile(filepath.Join(c.Dir, id+".age"))
	if err != nil || !bytes.HasPrefix(b, []byte("age-encryption.org/v1\n")) {
		t.Fatalf("%q %v", b, err)
	}
	key, _ := r.key(id)
	if bytes.Contains(b, key) {
		t.Fatal("the key is in the file as it is")
	}
	wrong := c
	wrong.Passphrase = []byte("wrong horse battery")
	if _, err := Open(wrong); !errors.Is(err, ErrPassphrase) {
		t.Fatal(err)
	}
	wrong.Passphrase = []byte("short")
	if _, err := Open(wrong); !errors.Is(err, ErrWeak) {
		t.Fatal(err)
	}
	wrong.Passphrase, wrong.Kind = nil, KindFile
	if _, err := Open(wrong); !errors.Is(err, ErrKeyUnknown) || !errors.Is(err, ErrKind) {
		t.Fatalf("without the passphrase: %v", err)
	}
	_ = os.WriteFile(filepath.Join(c.Dir, id+".age"), b[:len(b)-1], 0o600)
	if _, err := Open(c); !errors.Is(err, ErrKeyFile) {
		t.Fatal(err)
	}
	r.Close()
	if !bytes.Equal(key, make([]byte, keySize)) || !bytes.Equal(r.by.(*passphrase).text, make([]byte, len(c.Passphrase))) {
		t.Fatal("closed, and not zeroed")
	}
	if string(c.Passphrase) != "correct horse battery" {
		t.Fatal("the caller's passphrase was changed")
	}
}

func TestNotSupported(t *testing.T) {
	for _, kind := range []string{KindKeep, "else"} {
		if _, err := Open(Config{Kind: kind, Dir: t.TempDir()}); !errors.Is(err, ErrNotSupported) {
			t.Fatal(kind, err)
		}
	}
	if _, err := Open(Config{Dir: "/proc/none/keys"}); !errors.Is(err, ErrKeyFile) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestMAC(t *testing.T) {
	for kind, c := range rings(t) {
		t.Run(kind, func(t *testing.T) {
			r := must(t, c)
			message := Confirmation("w", "n", 1, [32]byte{1})
			sum, id, err := r.MAC(message)
			if err != nil || len(sum) != 32 {
				t.Fatalf("found %d bytes, %v", len(sum), err)
			}
			if err := must(t, c).VerifyMAC(message, id, sum); err != nil {
				t.Fatalf("by another process: %v", err)
			}
			for _, other := range [][]byte{nil, Confirmation("w", "n", 1, [32]byte{2}), Confirmation("w", "n", 2, [32]byte{1}), Confirmation("w", "m", 1, [32]byte{1}),
				Confirmation("wn", "", 1, [32]byte{1}), AAD("w", "n", 1, [32]byte{1})} {
				if err := r.VerifyMAC(other, id, sum); !errors.Is(err, ErrMAC) {
					t.Errorf("of %q: %v", other, err)
				}
			}
			for i := range sum {
				for bit := range 8 {
					bad := bytes.Clone(sum)
					bad[i] ^= 1 << bit
					if err := r.VerifyMAC(message, id, bad); !errors.Is(err, ErrMAC) {
						t.Fatalf("byte %d, bit %d: %v", i, bit, err)
					}
				}
			}
			for _, bad := range [][]byte{nil, sum[:31], append(bytes.Clone(sum), 0)} {
				if err := r.VerifyMAC(message, id, bad); !errors.Is(err, ErrMAC) {
					t.Errorf("of %d bytes: %v", len(bad), err)
				}
			}
			for _, bad := range []string{"", "../current", "current", strings.Repeat("A", 2*idSize)} {
				if err := r.VerifyMAC(message, bad, sum); !errors.Is(err, ErrMAC) {
					t.Errorf("under the key %q: %v", bad, err)
				}
			}
			if err := r.VerifyMAC(message, strings.Repeat("0", 2*idSize), sum); !errors.Is(err, ErrKeyUnknown) {
				t.Errorf("under no key: %v", err)
			}
			// Rotated, the old key's holds until it is retired, and under no other id.
			if _, err := r.Rotate(); err != nil {
				t.Fatal(err)
			}
			again, next, err := r.MAC(message)
			if err != nil || next == id || bytes.Equal(again, sum) {
				t.Fatalf("rotated: %s, %v", next, err)
			}
			if err := r.VerifyMAC(message, id, sum); err != nil {
				t.Errorf("rotated: %v", err)
			}
			if err := r.VerifyMAC(message, next, sum); !errors.Is(err, ErrMAC) {
				t.Errorf("under the new key: %v", err)
			}
			if err := r.Retire(id); err != nil {
				t.Fatal(err)
			}
			if err := r.VerifyMAC(message, id, sum); !errors.Is(err, ErrKeyUnknown) {
				t.Errorf("retired: %v", err)
			}
		})
	}
}
