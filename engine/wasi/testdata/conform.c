// Conformance of the file calls of WASI preview 1, on an empty writable directory
// that is descriptor 3. Ends with 0, or prints the line of the first expectation
// that does not hold and ends with 1.
#include "calls.h"

static i32 n, fd, fd2;
static i64 at;
static __wasi_filestat_t st, st2;
static __wasi_fdstat_t fs, fs2;

static int files(void) {
	char buf[64] = {0};
	vec v[2] = {{"hello ", 6}, {"world", 5}};
	WANT(0, popen_(3, 0, S("a"), CREAT | EXCL, ALL, 0, 0, &fd));
	TRUE(fd == 4);
	WANT(EXIST, popen_(3, 0, S("a"), CREAT | EXCL, ALL, 0, 0, &fd2));
	WANT(0, fwrite_(fd, v, 2, &n));
	TRUE(n == 11);
	WANT(0, ftell_(fd, &at));
	TRUE(at == 11);
	WANT(0, fseek_(fd, -5, 2, &at));
	TRUE(at == 6);
	WANT(INVAL, fseek_(fd, -7, 1, &at));
	WANT(INVAL, fseek_(fd, 0, 3, &at));
	vec r = {buf, 64};
	WANT(0, fread_(fd, &r, 1, &n));
	TRUE(n == 5 && !memcmp(buf, "world", 5));
	WANT(0, fread_(fd, &r, 1, &n));
	TRUE(n == 0);
	WANT(0, fpread(fd, &r, 1, 2, &n));
	TRUE(n == 9 && !memcmp(buf, "llo world", 9));
	vec w = {"XY", 2};
	WANT(0, fpwrite(fd, &w, 1, 20, &n));
	WANT(0, fstat_(fd, &st));
	TRUE(st.size == 22 && st.filetype == 4 && st.nlink == 1);
	WANT(0, fpread(fd, &r, 1, 11, &n));
	TRUE(n == 11 && !memcmp(buf, "\0\0\0\0\0\0\0\0\0XY", 11));
	WANT(0, fsize(fd, 3));
	WANT(0, fallocate_(fd, 0, 10));
	WANT(0, fstat_(fd, &st));
	TRUE(st.size == 10);
	WANT(INVAL, fallocate_(fd, 0, 0));
	WANT(0, fadvise(fd, 0, 10, 0));
	WANT(INVAL, fadvise(fd, 0, 10, 6));
	WANT(0, fsync_(fd));
	WANT(0, fdatasync_(fd));
	WANT(0, ftimes(fd, 1000, 2000, 1 | 4));
	WANT(0, fstat_(fd, &st));
	TRUE(st.atim == 1000 && st.mtim == 2000);
	WANT(INVAL, ftimes(fd, 0, 0, 1 | 2));
	WANT(INVAL, ptimes(3, 0, S("a"), 0, 0, 4 | 8));
	WANT(0, ptimes(3, 0, S("a"), 0, 5000, 4));
	WANT(0, pstat(3, 0, S("a"), &st));
	TRUE(st.atim == 1000 && st.mtim == 5000);
	WANT(0, popen_(3, 0, S("a"), 0, READ | WRITE | SEEK | TELL | FSTAT, 0, APPEND, &fd2));
	WANT(0, ffdstat(fd2, &fs));
	TRUE(fs.fs_flags == APPEND && fs.fs_filetype == 4);
	WANT(0, fwrite_(fd2, &w, 1, &n));
	WANT(0, ftell_(fd2, &at));
	TRUE(at == 12);
	WANT(0, fclose_(fd2));
	WANT(BADF, fclose_(fd2));
	WANT(0, fclose_(fd));
	WANT(0, popen_(3, 0, S("a"), TRUNC, ALL, 0, 0, &fd));
	WANT(0, fstat_(fd, &st));
	TRUE(st.size == 0);
	WANT(0, fclose_(fd));
	WANT(INVAL, popen_(3, 0, S("a"), 16, ALL, 0, 0, &fd));
	WANT(NOTDIR, popen_(3, 0, S("a"), DIRECTORY, READ, 0, 0, &fd));
	WANT(NOENT, popen_(3, 0, S("none"), 0, READ, 0, 0, &fd));
	WANT(0, punlink(3, S("a")));
	WANT(NOENT, punlink(3, S("a")));
	return 0;
}

static int rights(void) {
	char buf[4];
	vec r = {buf, 4}, w = {"x", 1};
	WANT(0, popen_(3, 0, S("r"), CREAT, READ | FSTAT, 0, 0, &fd));
	WANT(NOTCAPABLE, fwrite_(fd, &w, 1, &n));
	WANT(0, fread_(fd, &r, 1, &n));
	WANT(0, ffdstat(fd, &fs));
	TRUE(fs.fs_rights_base == (READ | FSTAT) && fs.fs_rights_inheriting == 0);
	WANT(NOTCAPABLE, fsetrights(fd, READ | WRITE | FSTAT, 0));
	WANT(0, fsetrights(fd, FSTAT, 0));
	WANT(NOTCAPABLE, fread_(fd, &r, 1, &n));
	WANT(NOTCAPABLE, fsetrights(fd, READ | FSTAT, 0));
	WANT(0, fclose_(fd));
	// A directory has no file rights, a file none of paths.
	WANT(0, ffdstat(3, &fs));
	TRUE(!(fs.fs_rights_base & (SEEK | SETSIZE)) && fs.fs_filetype == 3);
	WANT(0, popen_(3, 0, S("r"), 0, ALL, ALL, 0, &fd));
	WANT(0, ffdstat(fd, &fs));
	TRUE(!(fs.fs_rights_base & READDIR));
	WANT(0, fclose_(fd));
	// Truncating through a directory that lost the right.
	WANT(0, pmkdir(3, S("d")));
	WANT(0, popen_(3, 0, S("d"), DIRECTORY, DIRS, ALL, 0, &fd));
	WANT(0, popen_(fd, 0, S("t"), CREAT, WRITE, 0, 0, &fd2));
	WANT(0, fclose_(fd2));
	WANT(0, ffdstat(fd, &fs));
	WANT(0, fsetrights(fd, fs.fs_rights_base & ~(i64)(1 << 19), fs.fs_rights_inheriting));
	WANT(PERM, popen_(fd, 0, S("t"), TRUNC, WRITE, 0, 0, &fd2));
	WANT(0, popen_(fd, 0, S("t"), 0, WRITE, 0, 0, &fd2));
	WANT(0, fclose_(fd2));
	WANT(0, punlink(fd, S("t")));
	WANT(0, fclose_(fd));
	WANT(0, prmdir(3, S("d")));
	WANT(0, punlink(3, S("r")));
	return 0;
}

static int directories(void) {
	char buf[512];
	vec r = {buf, 4};
	WANT(0, pmkdir(3, S("d")));
	WANT(EXIST, pmkdir(3, S("d")));
	WANT(0, pmkdir(3, S("d/e/")));
	WANT(NOTEMPTY, prmdir(3, S("d")));
	WANT(0, popen_(3, 0, S("d"), DIRECTORY, DIRS, ALL, 0, &fd));
	WANT(ISDIR, popen_(3, 0, S("d"), DIRECTORY, READ | WRITE, 0, 0, &fd2));
	WANT(0, popen_(3, 0, S("d"), DIRECTORY, READ, 0, 0, &fd2));
	WANT(0, fclose_(fd2));
	i32 rd = fread_(fd, &r, 1, &n);
	TRUE(rd == ISDIR || rd == BADF || rd == NOTCAPABLE);
	WANT(BADF, fseek_(fd, 0, 1, &at));
	WANT(BADF, ftell_(fd, &at) == NOTCAPABLE ? BADF : ftell_(fd, &at));
	WANT(0, fstat_(fd, &st));
	TRUE(st.filetype == 3);
	WANT(0, popen_(fd, 0, S("f"), CREAT, WRITE, 0, 0, &fd2));
	WANT(0, fclose_(fd2));
	// All names at once, then one by one from each cookie.
	WANT(0, freaddir(fd, buf, sizeof buf, 0, &n));
	int seen = 0, used = 0;
	__wasi_dirent_t d;
	for (i32 p = 0; p + (i32)sizeof d <= n; p += sizeof d + d.d_namlen) {
		memcpy(&d, buf + p, sizeof d);
		char *name = buf + p + sizeof d;
		if (d.d_namlen == 1 && name[0] == '.' && d.d_type == 3) seen |= 1;
		if (d.d_namlen == 2 && name[0] == '.' && d.d_type == 3) seen |= 2;
		if (d.d_namlen == 1 && name[0] == 'e' && d.d_type == 3) seen |= 4;
		if (d.d_namlen == 1 && name[0] == 'f' && d.d_type == 4) seen |= 8;
		used++;
	}
	TRUE(seen == 15 && used == 4);
	i64 cookie = 0;
	for (int i = 0; i < 4; i++) {
		WANT(0, freaddir(fd, buf, sizeof d + 2, cookie, &n));
		TRUE(n == (i32)sizeof d + 2 || n == (i32)sizeof d + 1);
		memcpy(&d, buf, sizeof d);
		cookie = d.d_next;
	}
	WANT(0, freaddir(fd, buf, sizeof buf, cookie, &n));
	TRUE(n == 0);
	WANT(NOTDIR, prmdir(fd, S("f")));
	i32 e = punlink(fd, S("e"));
	TRUE(e == ISDIR || e == PERM || e == ACCES);
	WANT(0, prename(fd, S("f"), 3, S("g")));
	WANT(NOENT, pstat(fd, 0, S("f"), &st));
	WANT(0, pstat(3, 0, S("g"), &st));
	e = prename(3, S("g"), fd, S("e"));
	TRUE(e == ISDIR);
	WANT(NOTDIR, prename(fd, S("e"), 3, S("g")));
	WANT(0, prmdir(fd, S("e")));
	WANT(0, fclose_(fd));
	WANT(0, prmdir(3, S("d/")));
	WANT(0, punlink(3, S("g")));
	return 0;
}

static int paths(void) {
	char buf[16];
	WANT(0, pmkdir(3, S("d")));
	WANT(0, pmkdir(3, S("d/n")));
	WANT(0, popen_(3, 0, S("d/n/f"), CREAT, WRITE, 0, 0, &fd));
	WANT(0, fclose_(fd));
	WANT(0, popen_(3, 0, S("d/.//n/../../d/n///./f"), 0, READ, 0, 0, &fd));
	WANT(0, fclose_(fd));
	WANT(PERM, popen_(3, 0, S("/d/n/f"), 0, READ, 0, 0, &fd));
	WANT(PERM, popen_(3, 0, S("d/../../d/n/f"), 0, READ, 0, 0, &fd));
	WANT(PERM, popen_(3, 0, S(".."), 0, READ, 0, 0, &fd));
	WANT(INVAL, popen_(3, 0, "d/n/f\0", 6, 0, READ, 0, 0, &fd));
	WANT(ILSEQ, popen_(3, 0, "\xff\xfe", 2, 0, READ, 0, 0, &fd));
	WANT(NOTDIR, popen_(3, 0, S("d/n/f/"), 0, READ, 0, 0, &fd));
	WANT(NOENT, popen_(3, 0, "", 0, 0, READ, 0, 0, &fd));
	WANT(0, popen_(3, 0, S("d/n///"), 0, READ, 0, 0, &fd));
	WANT(0, fclose_(fd));
	// Symbolic links are followed inside and never out.
	WANT(0, psymlink(S("n/f"), 3, S("d/l")));
	WANT(LOOP, popen_(3, 0, S("d/l"), 0, READ, 0, 0, &fd));
	WANT(0, popen_(3, FOLLOW, S("d/l"), 0, READ, 0, 0, &fd));
	WANT(0, fclose_(fd));
	WANT(0, preadlink(3, S("d/l"), buf, 16, &n));
	TRUE(n == 3 && !memcmp(buf, "n/f", 3));
	WANT(0, preadlink(3, S("d/l"), buf, 2, &n));
	TRUE(n == 2);
	WANT(INVAL, preadlink(3, S("d/n/f"), buf, 16, &n));
	WANT(0, pstat(3, 0, S("d/l"), &st));
	TRUE(st.filetype == 7);
	WANT(0, pstat(3, FOLLOW, S("d/l"), &st));
	TRUE(st.filetype == 4);
	WANT(0, psymlink(S("../.."), 3, S("d/out")));
	WANT(PERM, popen_(3, FOLLOW, S("d/out/x"), 0, READ, 0, 0, &fd));
	WANT(0, psymlink(S("loop"), 3, S("loop")));
	WANT(LOOP, popen_(3, FOLLOW, S("loop"), 0, READ, 0, 0, &fd));
	i32 e = psymlink(S("/etc"), 3, S("abs")); // refused now or when followed
	if (e == 0) {
		WANT(PERM, popen_(3, FOLLOW, S("abs/passwd"), 0, READ, 0, 0, &fd));
		WANT(0, punlink(3, S("abs")));
	} else WANT(PERM, e);
	// Links.
	WANT(0, plink(3, 0, S("d/n/f"), 3, S("hard")));
	WANT(0, pstat(3, 0, S("hard"), &st));
	WANT(0, pstat(3, 0, S("d/n/f"), &st2));
	TRUE(st.ino == st2.ino && st.dev == st2.dev && st.nlink == 2);
	WANT(EXIST, plink(3, 0, S("d/n/f"), 3, S("hard")));
	e = plink(3, 0, S("d"), 3, S("hd"));
	TRUE(e == PERM || e == ACCES);
	WANT(NOENT, plink(3, 0, S("d/n/f"), 3, S("slash/")));
	e = plink(3, FOLLOW, S("d/l"), 3, S("followed"));
	TRUE(e == INVAL || e == NOENT);
	WANT(0, punlink(3, S("hard")));
	WANT(0, punlink(3, S("loop")));
	WANT(0, punlink(3, S("d/out")));
	WANT(0, punlink(3, S("d/l")));
	WANT(NOTDIR, punlink(3, S("d/n/f/")));
	WANT(0, punlink(3, S("d/n/f")));
	WANT(0, prmdir(3, S("d/n")));
	WANT(0, prmdir(3, S("d")));
	return 0;
}

static int descriptors(void) {
	char buf[64];
	i32 pre[2];
	vec bad = {(void *)0xfffffff0, 64};
	WANT(0, fprestat(3, pre));
	TRUE(pre[0] == 0 && pre[1] == 1);
	WANT(0, fprename(3, buf, 64));
	TRUE(buf[0] == '/');
	WANT(NAMETOOLONG, fprename(3, buf, 0));
	WANT(BADF, fprestat(4, pre));
	WANT(BADF, fstat_(-1, &st));
	WANT(BADF, fwrite_(-31337, 0, 0, &n));
	WANT(0, popen_(3, 0, S("a"), CREAT, READ | WRITE, 0, 0, &fd));
	WANT(0, popen_(3, 0, S("b"), CREAT, READ, 0, 0, &fd2));
	WANT(0, ffdstat(fd, &fs));
	WANT(0, frenumber(fd, fd2));
	WANT(BADF, fclose_(fd));
	WANT(0, ffdstat(fd2, &fs2));
	TRUE(fs.fs_rights_base == fs2.fs_rights_base);
	WANT(BADF, frenumber(fd2, 99));
	WANT(0, frenumber(fd2, fd2));
	WANT(FAULT, fread_(fd2, &bad, 1, &n));
	WANT(FAULT, fread_(fd2, (void *)0xfffffff8, 2, &n));
	i32 e = fread_(fd2, &bad, 0x7fffffff, &n);
	TRUE(e == INVAL || e == FAULT);
	WANT(NOTDIR, popen_(fd2, 0, S("x"), CREAT, READ, 0, 0, &fd));
	WANT(NOTSOCK, sshutdown(fd2, 1));
	WANT(NOTSOCK, sshutdown(1, 1));
	WANT(BADF, sshutdown(77, 1));
	WANT(NOTSOCK, srecv(fd2, &bad, 0, 0, &n, buf));
	WANT(0, fclose_(fd2));
	WANT(0, punlink(3, S("a")));
	WANT(0, punlink(3, S("b")));
	return 0;
}

static int waiting(void) {
	__wasi_subscription_t s[3];
	__wasi_event_t ev[3];
	i64 before, after;
	memset(s, 0, sizeof s);
	WANT(INVAL, poll_(s, ev, 0, &n));
	// A clock alone.
	s[0].userdata = 11;
	s[0].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
	s[0].u.u.clock.timeout = 3000000;
	WANT(0, clock_(1, 1, &before));
	WANT(0, poll_(s, ev, 1, &n));
	WANT(0, clock_(1, 1, &after));
	TRUE(n == 1 && ev[0].userdata == 11 && ev[0].error == 0 && ev[0].type == 0);
	TRUE(after - before >= 3000000);
	// An absolute time that is past.
	s[0].u.u.clock.timeout = 1;
	s[0].u.u.clock.flags = 1;
	WANT(0, poll_(s, ev, 1, &n));
	TRUE(n == 1);
	// A file is ready before a long clock; a bad descriptor is an event of its own.
	WANT(0, popen_(3, 0, S("p"), CREAT, READ | WRITE | POLL, 0, 0, &fd));
	s[0].u.u.clock.timeout = 3600000000000000ll;
	s[0].u.u.clock.flags = 0;
	s[1].userdata = 12;
	s[1].u.tag = 1;
	s[1].u.u.fd_read.file_descriptor = fd;
	s[2].userdata = 13;
	s[2].u.tag = 2;
	s[2].u.u.fd_write.file_descriptor = 55;
	WANT(0, poll_(s, ev, 3, &n));
	TRUE(n == 2 && ev[0].userdata == 12 && ev[0].error == 0 && ev[1].userdata == 13 && ev[1].error == BADF);
	i32 e = poll_((void *)0xffffff00, ev, 64, &n);
	TRUE(e == FAULT);
	WANT(0, fclose_(fd));
	WANT(0, punlink(3, S("p")));
	WANT(INVAL, clock_(9, 1, &before));
	WANT(0, clockres(0, &before));
	TRUE(before > 0);
	WANT(FAULT, random_((void *)0xfffffff0, 32));
	char a[32] = {0}, b[32] = {0};
	WANT(0, random_(a, 32));
	WANT(0, random_(b, 32));
	TRUE(memcmp(a, b, 32) != 0);
	return 0;
}

int main(void) {
	return files() || rights() || directories() || paths() || descriptors() || waiting();
}
