package keep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// Blobs is the storage that a host lends to Keeps: a folder of files that the
// Keeps themselves seal and authenticate. Its bound makes the oldest go first.
type Blobs struct {
	// Dir is created at the first put. "" stores nothing.
	Dir string
	// MaxBytes bounds the folder; 0 is 2 GiB.
	MaxBytes int64
}

func (b Blobs) path(name string) (string, error) {
	if !link.ValidBlobName(name) {
		return "", fmt.Errorf("a blob named %q", name)
	}
	return filepath.Join(b.Dir, name), nil
}

// serve answers one request of a Keep.
func (b Blobs) serve(st *link.Stream) {
	defer st.Close()
	var q link.BlobRequest
	if err := link.Unmarshal(st.Params(), &q); err != nil {
		st.Reset(link.CodeFailed, err.Error())
		return
	}
	path, err := b.path(q.Name)
	if err == nil && b.Dir == "" {
		err = errors.New("no storage is lent")
	}
	if err != nil {
		_ = link.WriteRecord(st, link.BlobReply{Error: err.Error()})
		return
	}
	switch q.Op {
	case link.BlobGet:
		b.get(st, path)
	case link.BlobPut:
		reply := link.BlobReply{OK: true}
		if err := b.put(st, path, q.Size); err != nil {
			reply = link.BlobReply{Error: err.Error()}
			// The rest is taken and dropped: the Keep hears the reason when it has
			// sent all.
			_, _ = io.Copy(io.Discard, io.LimitReader(st, int64(min(q.Size, link.MaxBlob))))
		}
		_ = link.WriteRecord(st, reply)
	case link.BlobDelete:
		reply := link.BlobReply{OK: true}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			reply = link.BlobReply{Error: err.Error()}
		}
		_ = link.WriteRecord(st, reply)
	default:
		_ = link.WriteRecord(st, link.BlobReply{Error: "an unknown operation"})
	}
}

func (b Blobs) get(st *link.Stream, path string) {
	f, err := os.Open(path)
	if err != nil {
		_ = link.WriteRecord(st, link.BlobReply{Error: "no such blob"})
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		_ = link.WriteRecord(st, link.BlobReply{Error: "no such blob"})
		return
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // read lately: goes last
	if link.WriteRecord(st, link.BlobReply{OK: true, Size: uint64(info.Size())}) == nil {
		if err := st.SendFile(f, info.Size()); err != nil {
			st.Reset(link.CodeFailed, "the blob cannot be read")
		}
	}
}

// onlyWriter hides every other method, so that io.Copy uses our buffer.
type onlyWriter struct{ io.Writer }

// put writes beside the target and renames, so that a cut or a full disk leaves
// the old blob or none, and no rest.
func (b Blobs) put(st *link.Stream, path string, size uint64) (err error) {
	limit := b.MaxBytes
	if limit == 0 {
		limit = 2 << 30
	}
	if size > link.MaxBlob || int64(size) > limit {
		return fmt.Errorf("a blob of %d bytes, at most %d", size, min(limit, link.MaxBlob))
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	f, err := os.CreateTemp(b.Dir, ".put-*")
	if err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	st.Grow(1 << 20)
	n, err := io.Copy(f, io.LimitReader(st, int64(size)))
	if err == nil && uint64(n) != size {
		err = fmt.Errorf("%d bytes came, %d were announced", n, size)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	b.trim(limit)
	return nil
}

// trim removes the blobs that were used longest ago until the rest fits, and
// what an interrupted put left behind.
func (b Blobs) trim(limit int64) {
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return
	}
	type blob struct {
		path string
		size int64
		used time.Time
	}
	var blobs []blob
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		path := filepath.Join(b.Dir, e.Name())
		if !link.ValidBlobName(e.Name()) {
			if time.Since(info.ModTime()) > time.Hour {
				_ = os.Remove(path)
			}
			continue
		}
		blobs = append(blobs, blob{path, info.Size(), info.ModTime()})
		total += info.Size()
	}
	sort.Slice(blobs, func(i, j int) bool { return blobs[i].used.Before(blobs[j].used) })
	for _, x := range blobs {
		if total <= limit {
			break
		}
		if os.Remove(x.path) == nil {
			total -= x.size
		}
	}
}
