//go:build linux

package wasi

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
)

// Places in the guest's memory of one page.
const (
	zero    = 0      // zeros: results may go here
	name    = 0x1000 // "f", a file
	other   = 0x1100 // "new"
	symlink = 0x1200 // "l", a symbolic link
	folder  = 0x1300 // "d", an empty folder
	vector  = 0x2000 // one vector: 8 bytes at 0x3000
	event   = 0x4000 // a subscription: descriptor 1 is writable
	end     = 0x10000
)

// Descriptors of the world of prepared.
const (
	root, file, conn, listener, spare = 3, 4, 5, 6, 7
)

// prepared is a world in which every call of calls succeeds.
func prepared(t *testing.T) (*System, memory) {
	t.Helper()
	s, m := world(t)
	for p, text := range map[uint32]string{name: "f", other: "new", symlink: "l", folder: "d"} {
		m.WriteString(p, text)
	}
	m.WriteUint32Le(vector, 0x3000)
	m.WriteUint32Le(vector+4, 8)
	m.WriteByte(event+8, eventFdWrite)
	m.WriteUint32Le(event+16, 1)
	open := func() {
		if e := pathOpen(s, m, []uint64{root, 0, name, 1, oflagCreate, rightsFile, 0, 0, zero}); e != 0 {
			t.Fatalf("path_open: errno %d", e)
		}
	}
	open()
	if e := pathSymlink(s, m, []uint64{name, 1, root, symlink, 1}); e != 0 {
		t.Fatalf("path_symlink: errno %d", e)
	}
	if e := pathCreateDirectory(s, m, []uint64{root, folder, 1}); e != 0 {
		t.Fatalf("path_create_directory: errno %d", e)
	}
	pair := func() (int, int) {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(p[1]) })
		return p[0], p[1]
	}
	ours, peer := pair()
	if _, err := unix.Write(peer, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	passing, giver := pair()
	given, _ := pair()
	if err := unix.Sendmsg(giver, []byte{0}, unix.UnixRights(given), nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(given)
	for _, k := range []struct {
		kind Kind
		fd   int
	}{{Conn, ours}, {Listener, passing}} {
		if err := s.AddKernel(k.kind, k.fd, Traits{Nonblock: true}); err != nil {
			t.Fatal(err)
		}
	}
	open()
	return s, m
}

// calls are one good call of each function. Of the arguments, where says which are
// pointers (p), lengths or counts (n) and other numbers (.).
var calls = map[string]struct {
	where string
	args  []uint64
}{
	"args_get":                {"pp", []uint64{zero, 64}},
	"args_sizes_get":          {"pp", []uint64{zero, 64}},
	"environ_get":             {"pp", []uint64{zero, 64}},
	"environ_sizes_get":       {"pp", []uint64{zero, 64}},
	"clock_res_get":           {".p", []uint64{clockMonotonic, zero}},
	"clock_time_get":          {"..p", []uint64{clockMonotonic, 0, zero}},
	"fd_advise":               {"....", []uint64{file, 0, 8, 0}},
	"fd_allocate":             {"...", []uint64{file, 0, 8}},
	"fd_close":                {".", []uint64{spare}},
	"fd_datasync":             {".", []uint64{file}},
	"fd_fdstat_get":           {".p", []uint64{file, zero}},
	"fd_fdstat_set_flags":     {"..", []uint64{file, 0}},
	"fd_fdstat_set_rights":    {"...", []uint64{file, 0, 0}},
	"fd_filestat_get":         {".p", []uint64{file, zero}},
	"fd_filestat_set_size":    {"..", []uint64{file, 8}},
	"fd_filestat_set_times":   {"....", []uint64{file, 0, 0, 0}},
	"fd_pread":                {".pn.p", []uint64{file, vector, 1, 0, zero}},
	"fd_prestat_get":          {".p", []uint64{root, zero}},
	"fd_prestat_dir_name":     {".p.", []uint64{root, zero, 1}}, // a larger length is a larger buffer
	"fd_pwrite":               {".pn.p", []uint64{file, vector, 1, 0, zero}},
	"fd_read":                 {".pnp", []uint64{file, vector, 1, zero}},
	"fd_readdir":              {".pn.p", []uint64{root, 64, 256, 0, zero}},
	"fd_renumber":             {"..", []uint64{file, spare}},
	"fd_seek":                 {"...p", []uint64{file, 0, 0, zero}},
	"fd_sync":                 {".", []uint64{file}},
	"fd_tell":                 {".p", []uint64{file, zero}},
	"fd_write":                {".pnp", []uint64{file, vector, 1, zero}},
	"path_create_directory":   {".pn", []uint64{root, other, 3}},
	"path_filestat_get":       {"..pnp", []uint64{root, 0, name, 1, zero}},
	"path_filestat_set_times": {"..pn...", []uint64{root, 0, name, 1, 0, 0, 0}},
	"path_link":               {"..pn.pn", []uint64{root, 0, name, 1, root, other, 3}},
	"path_open":               {"..pn....p", []uint64{root, 0, name, 1, 0, 0, 0, 0, zero}},
	"path_readlink":           {".pnpnp", []uint64{root, symlink, 1, 64, 8, zero}},
	"path_remove_directory":   {".pn", []uint64{root, folder, 1}},
	"path_rename":             {".pn.pn", []uint64{root, name, 1, root, other, 3}},
	"path_symlink":            {"pn.pn", []uint64{name, 1, root, other, 3}},
	"path_unlink_file":        {".pn", []uint64{root, name, 1}},
	"poll_oneoff":             {"ppnp", []uint64{event, 64, 1, zero}},
	"proc_raise":              {".", []uint64{1}},
	"random_get":              {"pn", []uint64{zero, 8}},
	"sched_yield":             {"", nil},
	"sock_accept":             {"..p", []uint64{listener, 0, zero}},
	"sock_recv":               {".pn.pp", []uint64{conn, vector, 1, 0, zero, 64}},
	"sock_send":               {".pn.p", []uint64{conn, vector, 1, 0, zero}},
	"sock_shutdown":           {"..", []uint64{conn, 3}},
}

// TestPointersOutside: every pointer of every call, outside the guest's memory or
// half outside, is EFAULT; every length and count that reaches outside is an error.
// Descriptors that do not exist are EBADF.
func TestPointersOutside(t *testing.T) {
	try := func(t *testing.T, f call, args []uint64, want ...vfs.Errno) {
		t.Helper()
		s, m := prepared(t)
		open := 0
		for _, d := range s.fds {
			if d != nil {
				open++
			}
		}
		e := f(s, m, append([]uint64{}, args...))
		for _, w := range want {
			if e == w {
				for _, d := range s.fds {
					if d != nil {
						open--
					}
				}
				if e != 0 && open != 0 {
					t.Errorf("%#x: a failed call changed the number of descriptors by %d", args, -open)
				}
				return
			}
		}
		t.Errorf("%#x: errno %d, wanted one of %d", args, e, want)
	}
	for _, fn := range functions {
		t.Run(fn.name, func(t *testing.T) {
			c, ok := calls[fn.name]
			if !ok || len(c.where) != len(c.args) || len(c.args) != len(fn.params) {
				t.Fatalf("no good call of it is known: %+v, parameters %q", c, fn.params)
			}
			good := vfs.Errno(0)
			if fn.name == "proc_raise" {
				good = vfs.ErrnoNosys
			}
			try(t, fn.call, c.args, good)
			for i, w := range c.where {
				with := func(v uint64) []uint64 {
					a := append([]uint64{}, c.args...)
					a[i] = v
					return a
				}
				switch w {
				case 'p':
					for _, p := range []uint64{end, end - 1, 0x7fffffff, 0xfffffffc, 0xffffffff} {
						if p == end-1 && (fn.name == "fd_prestat_dir_name" || i+1 < len(c.where) && c.where[i+1] == 'n' && c.args[i+1] == 1) {
							continue // one byte there is inside
						}
						try(t, fn.call, with(p), vfs.ErrnoFault)
					}
				case 'n':
					for _, n := range []uint64{end + 1, 1 << 20, 1 << 29, 0x7fffffff, 0x80000000, 0xffffffff} {
						try(t, fn.call, with(n), vfs.ErrnoFault, vfs.ErrnoInval, vfs.ErrnoNametoolong, vfs.ErrnoNomem)
					}
				}
			}
			if c.where != "" && c.where[0] == '.' && fn.name[:5] != "clock" && fn.name != "proc_raise" {
				for _, fd := range []uint64{8, 99, 0x7fffffff, 0xffffffff} {
					a := append([]uint64{}, c.args...)
					a[0] = fd
					try(t, fn.call, a, vfs.ErrnoBadf)
				}
			}
		})
	}
}

// TestVectorsOutside: a vector that reaches outside moves nothing, wherever it
// stands among good ones.
func TestVectorsOutside(t *testing.T) {
	for _, bad := range [][2]uint32{{end, 1}, {end - 4, 8}, {0xffffffff, 0xffffffff}, {0, 0xffffffff}, {0x3000, end}} {
		for _, fn := range []string{"fd_read", "fd_write", "fd_pread", "fd_pwrite", "sock_recv", "sock_send"} {
			t.Run(fmt.Sprintf("%s/%x+%x", fn, bad[0], bad[1]), func(t *testing.T) {
				s, m := prepared(t)
				m.WriteUint32Le(vector+8, bad[0])
				m.WriteUint32Le(vector+12, bad[1])
				before, _ := m.Read(0, end)
				before = bytes.Clone(before)
				args := append([]uint64{}, calls[fn].args...)
				args[2] = 2
				for _, f := range functions {
					if f.name != fn {
						continue
					}
					if e := f.call(s, m, args); e != vfs.ErrnoFault {
						t.Errorf("errno: found %d, wanted FAULT", e)
					}
				}
				if after, _ := m.Read(0, end); !bytes.Equal(before, after) {
					t.Error("the guest's memory has changed")
				}
			})
		}
	}
}
