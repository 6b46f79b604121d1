//go:build linux

package warden

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/engine/child"
	"github.com/donjon-tee/donjon/link"
)

// The compilation cache is machine code in the host's storage: whoever could
// write it would own the Keep. So it is sealed with a key of this Keep, bound to
// the module, the engine's build and the processor's features (THREATS T16), and
// a blob that does not open is as good as none.
//
// A sealed entry is: nonce (12) ‖ AES-256-GCM(name length u16 ‖ name ‖ code).
type codeCache struct {
	blob string // name in the host's storage
	aad  []byte
	aead cipher.AEAD
	w    *warden
}

const (
	cacheNonce   = 12
	maxCacheName = 512
)

// openCache derives the key; where that fails there is no cache.
func (w *warden) openCache(module [32]byte) (*codeCache, error) {
	root, err := w.deriveKey()
	if err != nil {
		return nil, err
	}
	aad := cacheContext(module)
	// Inputs are of fixed length or length-prefixed (THREATS T7). The module's
	// digest is in: a workload can read no other workload's entry.
	key, err := hkdf.Key(sha256.New, root, nil, "donjon code cache v1"+string(aad), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256(aad)
	return &codeCache{blob: "code-" + hex.EncodeToString(name[:]), aad: aad, aead: aead, w: w}, nil
}

// cacheContext is what an entry is bound to.
func cacheContext(module [32]byte) []byte {
	build := engine.Build()
	features := fmt.Sprintf("%+v%+v%+v", cpu.X86, cpu.ARM64, cpu.PPC64)
	b := append([]byte(nil), module[:]...)
	for _, s := range []string{build, features} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

// deriveKey asks the processor for a key of this Keep: root VCEK, VMPL 0, mixed
// with guest policy, measurement, guest SVN and TCB version (THREATS T7).
func (w *warden) deriveKey() ([]byte, error) {
	st, err := w.sess.Open(link.ServiceDeriveKey, nil)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	var req [32]byte // SNP ABI, MSG_KEY_REQ: root_key_select 0 = VCEK
	const policy, measurement, svn, tcb = 1 << 0, 1 << 3, 1 << 4, 1 << 5
	binary.LittleEndian.PutUint64(req[8:], policy|measurement|svn|tcb)
	binary.LittleEndian.PutUint32(req[20:], w.identity.local.GuestSVN)
	if err := link.WriteRaw(st, req[:]); err != nil {
		return nil, err
	}
	var r link.KeyReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, fmt.Errorf("warden: deriving a key: the host says %q", r.Error)
	}
	if len(r.Key) != 32 {
		return nil, fmt.Errorf("warden: deriving a key: found %d bytes, wanted 32", len(r.Key))
	}
	return r.Key, nil
}

// get fetches and opens the entry: its name and its code in a memory file, or
// nil where there is none or it is not genuine.
func (c *codeCache) get() (string, *os.File) {
	sealed, err := c.w.blobGet(c.blob, 1<<30)
	if err != nil || len(sealed) < cacheNonce+c.aead.Overhead()+2 {
		return "", nil
	}
	plain, err := c.aead.Open(sealed[cacheNonce:cacheNonce], sealed[:cacheNonce], sealed[cacheNonce:], c.aad)
	if err != nil {
		c.w.log(0, "the host's copy of the compiled module is not what was stored; compiling anew")
		return "", nil
	}
	n := int(binary.BigEndian.Uint16(plain))
	if n > maxCacheName || len(plain) < 2+n {
		return "", nil
	}
	name, code := string(plain[2:2+n]), plain[2+n:]
	f, err := child.Memory("code", len(code), func(m []byte) error { copy(m, code); return nil })
	if err != nil {
		return "", nil
	}
	return name, f
}

// put seals what a child that has run no guest code has compiled, and stores it.
func (c *codeCache) put(name string, code *os.File) error {
	var size int64
	control(code, func(fd int) {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			size = st.Size
		}
	})
	if size <= 0 || size > link.MaxBlob-4096 || len(name) > maxCacheName {
		return fmt.Errorf("warden: a compiled module of %d bytes is not cached", size)
	}
	buf := make([]byte, cacheNonce, cacheNonce+2+len(name)+int(size)+c.aead.Overhead())
	rand.Read(buf)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(name)))
	buf = append(buf, name...)
	at := len(buf)
	buf = buf[:at+int(size)]
	if n, err := code.ReadAt(buf[at:], 0); n < int(size) {
		return fmt.Errorf("warden: the compiled module: found %d bytes of %d: %w", n, size, err)
	}
	sealed := c.aead.Seal(buf[:cacheNonce], buf[:cacheNonce], buf[cacheNonce:], c.aad)
	return c.w.blobPut(c.blob, sealed)
}

var errNoBlob = errors.New("warden: no such blob")

// blobGet reads a blob of at most most bytes from the host's storage. It is the
// host's word: whoever uses it authenticates it.
func (w *warden) blobGet(name string, most uint64) ([]byte, error) {
	st, err := w.sess.Open(link.ServiceBlobs, link.Marshal(link.BlobRequest{Op: link.BlobGet, Name: name}))
	if err != nil {
		return nil, err
	}
	defer st.Close()
	st.Grow(bulkWindow)
	var r link.BlobReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		return nil, err
	}
	if !r.OK {
		return nil, errNoBlob
	}
	if r.Size > most {
		return nil, fmt.Errorf("warden: blob of %d bytes, at most %d", r.Size, most)
	}
	b := make([]byte, r.Size)
	_, err = io.ReadFull(st, b)
	return b, err
}

func (w *warden) blobPut(name string, data []byte) error {
	st, err := w.sess.Open(link.ServiceBlobs, link.Marshal(link.BlobRequest{Op: link.BlobPut, Name: name, Size: uint64(len(data))}))
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := st.Write(data); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	var r link.BlobReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("warden: storing a blob: the host says %q", r.Error)
	}
	return nil
}
