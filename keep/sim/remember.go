//go:build linux

package sim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// rememberedFile is where the simulated silicon keeps the hash of the program that it
// launched last, beside its keys. Who can write it decides what that program is taken for:
// it is believed where that is this user alone, who has the keys too and can sign any
// launch digest.
const rememberedFile = "program.json"

// settled is how long a file must not have been changed for its times to tell it from a
// later one: times are as fine as the kernel's tick, or a file system's second or two.
const settled = 3 * time.Second

// remembered is a file's identity and its SHA-256.
type remembered struct {
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // nanoseconds since 1970
	Ctime int64  `json:"ctime"`
	Sum   string `json:"sha256"`
}

func identity(st unix.Stat_t) remembered {
	return remembered{Dev: uint64(st.Dev), Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}
}

// recall gives the hash of the file of that identity where it is kept in dir.
func recall(dir string, st unix.Stat_t) (sum [32]byte, ok bool) {
	f, err := os.OpenFile(filepath.Join(dir, rememberedFile), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return sum, false
	}
	defer f.Close()
	var its unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &its); err != nil || its.Mode&unix.S_IFMT != unix.S_IFREG || its.Mode&0o022 != 0 || int(its.Uid) != os.Geteuid() {
		return sum, false
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return sum, false
	}
	var r remembered
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(&r) != nil {
		return sum, false
	}
	if _, err := d.Token(); err != io.EOF {
		return sum, false
	}
	kept, err := hex.DecodeString(r.Sum)
	r.Sum = ""
	if err != nil || len(kept) != len(sum) || r != identity(st) {
		return sum, false
	}
	return [32]byte(kept), true
}

// remember keeps the hash of a file in dir, if that is there. began is when hashing did: a
// change while it was under way must show too. Without it the next start takes as long as
// this one.
func remember(dir string, st unix.Stat_t, sum [32]byte, began time.Time) {
	if began.Sub(time.Unix(0, st.Ctim.Nano())) < settled {
		return
	}
	r := identity(st)
	r.Sum = hex.EncodeToString(sum[:])
	b, err := json.Marshal(r)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(dir, rememberedFile+".*")
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, rememberedFile))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}
