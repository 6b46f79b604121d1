//go:build linux

package wasi

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/donjon-tee/donjon/engine/vfs"
)

type call func(s *System, m memory, a []uint64) vfs.Errno

// Functions are the names that a guest may import, with their parameters: i is a
// 32-bit, I a 64-bit integer.
var functions = []struct {
	name, params string
	call         call
}{
	{"args_get", "ii", argsGet}, {"args_sizes_get", "ii", argsSizesGet},
	{"environ_get", "ii", environGet}, {"environ_sizes_get", "ii", environSizesGet},
	{"clock_res_get", "ii", clockResGet}, {"clock_time_get", "iIi", clockTimeGet},
	{"fd_advise", "iIIi", fdAdvise}, {"fd_allocate", "iII", fdAllocate},
	{"fd_close", "i", fdClose}, {"fd_datasync", "i", fdDatasync},
	{"fd_fdstat_get", "ii", fdFdstatGet}, {"fd_fdstat_set_flags", "ii", fdFdstatSetFlags},
	{"fd_fdstat_set_rights", "iII", fdFdstatSetRights}, {"fd_filestat_get", "ii", fdFilestatGet},
	{"fd_filestat_set_size", "iI", fdFilestatSetSize}, {"fd_filestat_set_times", "iIIi", fdFilestatSetTimes},
	{"fd_pread", "iiiIi", fdPread}, {"fd_prestat_get", "ii", fdPrestatGet},
	{"fd_prestat_dir_name", "iii", fdPrestatDirName}, {"fd_pwrite", "iiiIi", fdPwrite},
	{"fd_read", "iiii", fdRead}, {"fd_readdir", "iiiIi", fdReaddir},
	{"fd_renumber", "ii", fdRenumber}, {"fd_seek", "iIii", fdSeek},
	{"fd_sync", "i", fdSync}, {"fd_tell", "ii", fdTell}, {"fd_write", "iiii", fdWrite},
	{"path_create_directory", "iii", pathCreateDirectory}, {"path_filestat_get", "iiiii", pathFilestatGet},
	{"path_filestat_set_times", "iiiiIIi", pathFilestatSetTimes}, {"path_link", "iiiiiii", pathLink},
	{"path_open", "iiiiiIIii", pathOpen}, {"path_readlink", "iiiiii", pathReadlink},
	{"path_remove_directory", "iii", pathRemoveDirectory}, {"path_rename", "iiiiii", pathRename},
	{"path_symlink", "iiiii", pathSymlink}, {"path_unlink_file", "iii", pathUnlinkFile},
	{"poll_oneoff", "iiii", pollOneoff}, {"proc_raise", "i", procRaise},
	{"random_get", "ii", randomGet}, {"sched_yield", "", schedYield},
	{"sock_accept", "iii", sockAccept}, {"sock_recv", "iiiiii", sockRecv},
	{"sock_send", "iiiii", sockSend}, {"sock_shutdown", "ii", sockShutdown},
}

// Provides says whether a function of this name is there to be imported.
func Provides(name string) bool {
	for _, f := range functions {
		if f.name == name {
			return true
		}
	}
	return name == "proc_exit"
}

// Instantiate makes the host module whose functions work on s.
func (s *System) Instantiate(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(ModuleName)
	types := map[byte]api.ValueType{'i': api.ValueTypeI32, 'I': api.ValueTypeI64}
	for _, f := range functions {
		var params []api.ValueType
		for i := range len(f.params) {
			params = append(params, types[f.params[i]])
		}
		do := f.call
		fn := api.GoModuleFunc(func(_ context.Context, mod api.Module, stack []uint64) {
			mem := mod.Memory()
			if mem == nil {
				stack[0] = uint64(vfs.ErrnoFault)
				return
			}
			stack[0] = uint64(do(s, memory{mem}, stack))
		})
		b.NewFunctionBuilder().WithGoModuleFunction(fn, params, []api.ValueType{api.ValueTypeI32}).Export(f.name)
	}
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(procExit), []api.ValueType{api.ValueTypeI32}, nil).Export("proc_exit")
	_, err := b.Instantiate(ctx)
	return err
}
