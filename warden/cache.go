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
	"time"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine"
	"github.com/donjon-tee/donjon/link"
)

// The compilation cache is machine code in the host's storage: whoever could
// write it would own the Keep. So it is sealed with a key of this Keep, bound to
// the module, the engine's build and the processor's features (THREATS T16), and
// a blob that does not open is as good as none.
//
// A sealed entry is a head: salt (16) ‖ name length u16 ‖ name, and the code in
// chunks, each AES-256-GCM of 256 KiB, the last of 1 byte to 256 KiB. The key is
// HKDF(key of the cache, salt); a chunk's nonce is its number (11 bytes) and 1 for
// the last, 0 for the others; context and head are authenticated with each chunk.
// Chunks, so that code is opened as it comes, straight into the file that the
// child takes it from.
type codeCache struct {
	blob string // name in the host's storage
	aad  []byte
	key  []byte
	w    *warden
}

const (
	cacheSalt    = 16
	cacheChunk   = 256 << 10
	cacheTag     = 16
	maxCacheName = 512
)

// openCache derives the key; where that fails there is no cache.
func (w *warden) openCache(module [32]byte) (*codeCache, error) {
	root, err := w.deriveKey(0, w.identity.local.GuestSVN)
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
	// Another release of this program has another measurement and so another key:
	// it has entries of its own.
	// So has another processor.
	local := &w.identity.local
	name := sha256.Sum256(append(append(append([]byte(nil), local.Measurement[:]...), local.ChipID[:]...), aad...))
	return &codeCache{blob: "code-" + hex.EncodeToString(name[:]), aad: aad, key: key, w: w}, nil
}

// chunks seals and opens the chunks of one entry.
type chunks struct {
	aead cipher.AEAD
	aad  []byte
	n    uint64
}

func (c *codeCache) chunks(head []byte) (*chunks, error) {
	key, err := hkdf.Key(sha256.New, c.key, head[:cacheSalt], "entry", 32)
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
	return &chunks{aead: aead, aad: append(append([]byte(nil), c.aad...), head...)}, nil
}

func (c *chunks) nonce(last bool) []byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[3:], c.n)
	if last {
		b[11] = 1
	}
	c.n++
	return b[:]
}

func (c *chunks) seal(dst, plain []byte, last bool) []byte {
	return c.aead.Seal(dst, c.nonce(last), plain, c.aad)
}

// open opens a chunk where it lies.
func (c *chunks) open(sealed []byte, last bool) ([]byte, error) {
	return c.aead.Open(sealed[:0], c.nonce(last), sealed, c.aad)
}

// cacheContext is what an entry is bound to.
func cacheContext(module [32]byte) []byte {
	build := engine.Build()
	features := fmt.Sprintf("%+v%+v%+v", cpu.X86, cpu.ARM64, cpu.PPC64)
	b := append([]byte(nil), module[:]...)
	for _, s := range []string{"entry v2", build, features} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

// deriveKey asks the processor for a key of this Keep: root VCEK, VMPL 0, mixed
// with guest policy, measurement, guest SVN and TCB version (THREATS T7). The
// processor refuses an svn above the guest's, and a tcb above its committed one.
func (w *warden) deriveKey(tcb uint64, svn uint32) ([]byte, error) {
	st, err := w.sess.Open(link.ServiceDeriveKey, nil)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(handoverTime)) // a host that stalls keeps no Keep waiting
	var req [32]byte                                 // SNP ABI, MSG_KEY_REQ: root_key_select 0 = VCEK
	const withPolicy, withMeasurement, withSVN, withTCB = 1 << 0, 1 << 3, 1 << 4, 1 << 5
	binary.LittleEndian.PutUint64(req[8:], withPolicy|withMeasurement|withSVN|withTCB)
	binary.LittleEndian.PutUint32(req[20:], svn)
	binary.LittleEndian.PutUint64(req[24:], tcb)
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

// fetchCode gives the child the host's copy of the machine code, or tells it that
// there is none it could use.
func (w *warden) fetchCode() *codeCache {
	name := ""
	c, err := w.openCache(w.manifest.Layers[0].Digest)
	if err != nil {
		w.log(1, "no compilation cache: %v", err)
	} else if slot, err := w.Child.Slot(); err == nil && slot != nil {
		if name, err = c.get(slot); err != nil && !errors.Is(err, errNoBlob) {
			w.log(0, "the host's copy of the compiled module is not what was stored; compiling anew")
			w.log(1, "%v", err)
		}
		_ = slot.Close()
	}
	if name != "" {
		w.log(1, "the compiled module comes from the cache")
	}
	_ = w.Child.Code(name)
	return c
}

// get opens the entry into the slot and gives its name.
func (c *codeCache) get(slot *os.File) (string, error) {
	st, size, err := c.w.blobOpen(c.blob)
	if err != nil {
		return "", err
	}
	defer st.Close()
	head := make([]byte, cacheSalt+2, cacheSalt+2+maxCacheName)
	if _, err := io.ReadFull(st, head); err != nil {
		return "", fmt.Errorf("warden: a cached module: %w", err)
	}
	n := int(binary.BigEndian.Uint16(head[cacheSalt:]))
	if n == 0 || n > maxCacheName {
		return "", fmt.Errorf("warden: a cached module's name of %d bytes, wanted 1 to %d", n, maxCacheName)
	}
	head = head[:len(head)+n]
	if _, err := io.ReadFull(st, head[cacheSalt+2:]); err != nil {
		return "", fmt.Errorf("warden: a cached module: %w", err)
	}
	sealed := int64(size) - int64(len(head))
	whole, rest := sealed/(cacheChunk+cacheTag), sealed%(cacheChunk+cacheTag)
	code := whole * cacheChunk
	if rest > 0 {
		code += rest - cacheTag
	}
	if sealed <= 0 || rest > 0 && rest <= cacheTag || size > link.MaxBlob {
		return "", fmt.Errorf("warden: a cached module of %d bytes", size)
	}
	ch, err := c.chunks(head)
	if err != nil {
		return "", err
	}
	buf := make([]byte, min(sealed, cacheChunk+cacheTag))
	for at := int64(0); at < code; at += cacheChunk {
		part := buf[:min(code-at, cacheChunk)+cacheTag]
		if _, err := io.ReadFull(st, part); err != nil {
			return "", fmt.Errorf("warden: a cached module: %w", err)
		}
		plain, err := ch.open(part, at+cacheChunk >= code)
		if err != nil {
			return "", errors.New("warden: a cached module does not open with this Keep's key")
		}
		if _, err := slot.WriteAt(plain, at); err != nil {
			return "", fmt.Errorf("warden: room for a cached module: %w", err)
		}
	}
	return string(head[cacheSalt+2:]), nil
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
	if size <= 0 || size > link.MaxBlob-link.MaxBlob/1024 || name == "" || len(name) > maxCacheName {
		return fmt.Errorf("warden: a compiled module of %d bytes is not cached", size)
	}
	head := make([]byte, cacheSalt, cacheSalt+2+len(name))
	rand.Read(head)
	head = binary.BigEndian.AppendUint16(head, uint16(len(name)))
	head = append(head, name...)
	ch, err := c.chunks(head)
	if err != nil {
		return err
	}
	count := (size + cacheChunk - 1) / cacheChunk
	return c.w.blobPut(c.blob, uint64(len(head))+uint64(size+count*cacheTag), func(dst io.Writer) error {
		if _, err := dst.Write(head); err != nil {
			return err
		}
		plain, sealed := make([]byte, min(size, cacheChunk)), make([]byte, 0, cacheChunk+cacheTag)
		for at := int64(0); at < size; at += cacheChunk {
			part := plain[:min(size-at, cacheChunk)]
			if n, err := code.ReadAt(part, at); n < len(part) {
				return fmt.Errorf("warden: the compiled module: %w", err)
			}
			sealed = ch.seal(sealed[:0], part, at+cacheChunk >= size)
			if _, err := dst.Write(sealed); err != nil {
				return err
			}
		}
		return nil
	})
}

var errNoBlob = errors.New("warden: no such blob")

// blobOpen opens a blob of the host's storage and gives its size. It is the host's
// word: whoever uses it authenticates it.
func (w *warden) blobOpen(name string) (*link.Stream, uint64, error) {
	st, err := w.sess.Open(link.ServiceBlobs, link.Marshal(link.BlobRequest{Op: link.BlobGet, Name: name}))
	if err != nil {
		return nil, 0, err
	}
	_ = st.SetDeadline(time.Now().Add(handoverTime))
	st.Grow(bulkWindow)
	var r link.BlobReply
	if err := link.ReadRecord(st, link.MaxRecord, &r); err != nil {
		_ = st.Close()
		return nil, 0, err
	}
	if !r.OK {
		_ = st.Close()
		return nil, 0, errNoBlob
	}
	return st, r.Size, nil
}

// blobPut stores size bytes, which write gives.
func (w *warden) blobPut(name string, size uint64, write func(io.Writer) error) error {
	st, err := w.sess.Open(link.ServiceBlobs, link.Marshal(link.BlobRequest{Op: link.BlobPut, Name: name, Size: size}))
	if err != nil {
		return err
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(handoverTime))
	if err := write(st); err != nil {
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
