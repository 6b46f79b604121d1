// The raw calls of WASI preview 1, and what a program that checks them needs. libc
// would hide the errors.
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

#define IMPORT(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
typedef int i32;
typedef long long i64;
IMPORT("path_open") i32 popen_(i32, i32, const char *, i32, i32, i64, i64, i32, i32 *);
IMPORT("path_create_directory") i32 pmkdir(i32, const char *, i32);
IMPORT("path_remove_directory") i32 prmdir(i32, const char *, i32);
IMPORT("path_unlink_file") i32 punlink(i32, const char *, i32);
IMPORT("path_symlink") i32 psymlink(const char *, i32, i32, const char *, i32);
IMPORT("path_readlink") i32 preadlink(i32, const char *, i32, char *, i32, i32 *);
IMPORT("path_link") i32 plink(i32, i32, const char *, i32, i32, const char *, i32);
IMPORT("path_rename") i32 prename(i32, const char *, i32, i32, const char *, i32);
IMPORT("path_filestat_get") i32 pstat(i32, i32, const char *, i32, __wasi_filestat_t *);
IMPORT("path_filestat_set_times") i32 ptimes(i32, i32, const char *, i32, i64, i64, i32);
IMPORT("fd_close") i32 fclose_(i32);
IMPORT("fd_read") i32 fread_(i32, const void *, i32, i32 *);
IMPORT("fd_write") i32 fwrite_(i32, const void *, i32, i32 *);
IMPORT("fd_pread") i32 fpread(i32, const void *, i32, i64, i32 *);
IMPORT("fd_pwrite") i32 fpwrite(i32, const void *, i32, i64, i32 *);
IMPORT("fd_seek") i32 fseek_(i32, i64, i32, i64 *);
IMPORT("fd_tell") i32 ftell_(i32, i64 *);
IMPORT("fd_renumber") i32 frenumber(i32, i32);
IMPORT("fd_readdir") i32 freaddir(i32, char *, i32, i64, i32 *);
IMPORT("fd_fdstat_get") i32 ffdstat(i32, __wasi_fdstat_t *);
IMPORT("fd_fdstat_set_rights") i32 fsetrights(i32, i64, i64);
IMPORT("fd_fdstat_set_flags") i32 fsetflags(i32, i32);
IMPORT("fd_filestat_get") i32 fstat_(i32, __wasi_filestat_t *);
IMPORT("fd_filestat_set_size") i32 fsize(i32, i64);
IMPORT("fd_filestat_set_times") i32 ftimes(i32, i64, i64, i32);
IMPORT("fd_allocate") i32 fallocate_(i32, i64, i64);
IMPORT("fd_advise") i32 fadvise(i32, i64, i64, i32);
IMPORT("fd_sync") i32 fsync_(i32);
IMPORT("fd_datasync") i32 fdatasync_(i32);
IMPORT("fd_prestat_get") i32 fprestat(i32, i32 *);
IMPORT("fd_prestat_dir_name") i32 fprename(i32, char *, i32);
IMPORT("poll_oneoff") i32 poll_(const void *, void *, i32, i32 *);
IMPORT("random_get") i32 random_(void *, i32);
IMPORT("sock_shutdown") i32 sshutdown(i32, i32);
IMPORT("sock_recv") i32 srecv(i32, const void *, i32, i32, i32 *, void *);
IMPORT("sched_yield") i32 yield_(void);
IMPORT("clock_time_get") i32 clock_(i32, i64, i64 *);
IMPORT("clock_res_get") i32 clockres(i32, i64 *);

enum { ACCES = 2, BADF = 8, EXIST = 20, FAULT = 21, ILSEQ = 25, INVAL = 28, ISDIR = 31, LOOP = 32, NAMETOOLONG = 37, NOENT = 44, NOTDIR = 54, NOTEMPTY = 55, NOTSOCK = 57, NOTSUP = 58, PERM = 63, NOTCAPABLE = 76 };
enum { READ = 1 << 1, SEEK = 1 << 2, TELL = 1 << 5, WRITE = 1 << 6, READDIR = 1 << 14, FSTAT = 1 << 21, SETSIZE = 1 << 22, SETFLAGS = 1 << 3, POLL = 1 << 27 };
// What every directory has, and every file that is opened through it.
enum { DIRBASE = 0x07bffe00, FILEBASE = 0x08e001ff };
enum { CREAT = 1, DIRECTORY = 2, EXCL = 4, TRUNC = 8, FOLLOW = 1, APPEND = 1, DSYNC = 2, NONBLOCK = 4, SYNC = 16 };
#define ALL ((i64)0x3fffffff)
#define DIRS (ALL & ~(i64)(1 | WRITE | SETSIZE | 1 << 8)) // without the rights that mean writing
#define S(x) x, (i32)strlen(x)
#define WANT(want, expr) do { i32 got_ = (expr); if (got_ != (want)) { printf("line %d: %s: found errno %d, wanted %d\n", __LINE__, #expr, got_, (int)(want)); return 1; } } while (0)
#define TRUE(expr) do { if (!(expr)) { printf("line %d: %s does not hold\n", __LINE__, #expr); return 1; } } while (0)
typedef struct { void *p; i32 n; } vec;
