// What programs and test suites rely on beyond single calls: how descriptors,
// links, times and flags act together. Descriptor 3 is an empty writable directory.
// Ends with 0, or prints the first expectation that does not hold and ends with 1.
#include "calls.h"

static i32 n, fd, fd2, dir;
static i64 at;
static __wasi_filestat_t st, st2;
static __wasi_fdstat_t fs;
static char big[4096];

static int touch(i32 d, const char *name) {
	i32 f, e = popen_(d, 0, S(name), CREAT, 0, 0, 0, &f);
	return e ? e : fclose_(f);
}

// A name is free again as soon as it is unlinked, and rights of 0 are enough to hold a file.
static int names(void) {
	for (int i = 0; i < 2; i++) {
		WANT(0, popen_(3, 0, S("f"), CREAT, 0, 0, 0, &fd));
		WANT(0, fclose_(fd));
		WANT(0, popen_(3, 0, S("f"), 0, 0, 0, 0, &fd));
		WANT(0, punlink(3, S("f")));
		WANT(0, touch(3, "f"));
		WANT(0, fclose_(fd));
		WANT(0, punlink(3, S("f")));
		WANT(0, pmkdir(3, S("d")));
		WANT(0, popen_(3, 0, S("d"), DIRECTORY, 0, 0, 0, &fd));
		WANT(0, prmdir(3, S("d")));
		WANT(0, pmkdir(3, S("d")));
		WANT(0, fclose_(fd));
		WANT(0, prmdir(3, S("d")));
	}
	// Nothing can be made in a directory that is gone.
	WANT(0, pmkdir(3, S("d")));
	WANT(0, popen_(3, 0, S("d"), DIRECTORY, DIRS, ALL, 0, &fd));
	WANT(0, prmdir(3, S("d")));
	WANT(NOENT, touch(fd, "f"));
	WANT(0, fclose_(fd));
	WANT(0, touch(3, "f"));
	WANT(EXIST, popen_(3, 0, S("f"), CREAT | EXCL, 0, 0, 0, &fd));
	WANT(0, punlink(3, S("f")));
	return 0;
}

// No call that is meant for files does anything to a directory.
static int directory(void) {
	vec v = {big, 128};
	i64 all[2] = {0, DIRS};
	for (int i = 0; i < 2; i++) {
		WANT(0, popen_(3, 0, S("."), DIRECTORY, all[i] | READ | SEEK, ALL, 0, &dir));
		WANT(0, ffdstat(dir, &fs));
		TRUE(fs.fs_filetype == 3 && !(fs.fs_rights_base & (SEEK | READ | SETSIZE)));
		i32 e[] = {fread_(dir, &v, 1, &n), fpread(dir, &v, 1, 0, &n), fwrite_(dir, &v, 1, &n), fpwrite(dir, &v, 1, 0, &n),
			fseek_(dir, 0, 0, &at), fseek_(dir, 0, 1, &at), fseek_(dir, 0, 2, &at), ftell_(dir, &at), fallocate_(dir, 0, 1), fsize(dir, 0)};
		for (unsigned j = 0; j < sizeof e / sizeof *e; j++) TRUE(e[j] == ISDIR || e[j] == BADF || e[j] == NOTCAPABLE);
		WANT(0, fclose_(dir));
	}
	WANT(0, popen_(3, 0, S("."), 0, 0, 0, NONBLOCK, &dir));
	WANT(0, ffdstat(dir, &fs));
	TRUE(fs.fs_rights_base == 0 && fs.fs_flags == NONBLOCK);
	WANT(0, fclose_(dir));
	WANT(ISDIR, popen_(3, 0, S("."), DIRECTORY, READ | WRITE, 0, 0, &dir));
	WANT(0, ffdstat(3, &fs));
	TRUE((fs.fs_rights_base & DIRBASE) == DIRBASE && (fs.fs_rights_inheriting & (DIRBASE | FILEBASE)) == (DIRBASE | FILEBASE) && fs.fs_flags == 0);
	WANT(0, popen_(3, 0, S("."), 0, fs.fs_rights_base, fs.fs_rights_inheriting, 0, &dir));
	WANT(0, fstat_(dir, &st));
	WANT(0, fstat_(3, &st2));
	TRUE(st.ino == st2.ino && st.dev == st2.dev);
	WANT(0, fclose_(dir));
	WANT(0, fprename(3, big, 64)); // more room than the name needs
	return 0;
}

// A thousand names, read in small parts; every one is seen once.
static int listing(void) {
	static char seen[1000];
	char name[16];
	__wasi_dirent_t d;
	WANT(0, pmkdir(3, S("many")));
	WANT(0, popen_(3, 0, S("many"), DIRECTORY, DIRS, ALL, 0, &dir));
	WANT(0, fstat_(dir, &st));
	WANT(0, freaddir(dir, big, 256, 0, &n));
	memcpy(&d, big, sizeof d);
	TRUE(n == 2 * (i32)sizeof d + 3 && big[sizeof d] == '.' && d.d_ino == st.ino && d.d_type == 3);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "file.%d", i);
		WANT(0, touch(dir, name));
	}
	i64 cookie = 0;
	int total = 0;
	do {
		WANT(0, freaddir(dir, big, 256, cookie, &n));
		TRUE(n <= 256);
		for (i32 p = 0; p + (i32)sizeof d <= n; p += sizeof d + d.d_namlen) {
			memcpy(&d, big + p, sizeof d);
			if (p + (i32)sizeof d + (i32)d.d_namlen > n) break;
			cookie = d.d_next;
			total++;
			int i;
			snprintf(name, sizeof name, "%.*s", (int)d.d_namlen, big + p + sizeof d);
			if (sscanf(name, "file.%d", &i) != 1) continue;
			TRUE(i >= 0 && i < 1000 && !seen[i]);
			seen[i] = 1;
			if (i % 100) continue;
			WANT(0, pstat(dir, 0, S(name), &st));
			TRUE(st.ino == d.d_ino && st.filetype == d.d_type);
		}
	} while (n == 256);
	TRUE(total == 1002);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "file.%d", i);
		WANT(0, punlink(dir, S(name)));
	}
	WANT(0, fclose_(dir));
	WANT(0, prmdir(3, S("many")));
	return 0;
}

// Positions, appending, sizes and times of files.
static int contents(void) {
	char b[8] = {0};
	vec two = {"ab", 2}, three = {"xyz", 3}, r = {b, 8}, parts[2] = {{b, 1}, {b + 1, 1}};
	WANT(0, popen_(3, 0, S("f"), CREAT, READ | WRITE | SEEK | TELL | FSTAT | SETFLAGS, 0, APPEND, &fd));
	WANT(0, fwrite_(fd, &two, 1, &n));
	WANT(0, fseek_(fd, 0, 0, &at));
	WANT(0, fwrite_(fd, &two, 1, &n));
	WANT(0, ftell_(fd, &at));
	TRUE(at == 4);
	// An offset of its own: neither the end nor the position counts.
	WANT(0, fpwrite(fd, &three, 1, 0, &n));
	WANT(0, ftell_(fd, &at));
	TRUE(n == 3 && at == 4);
	WANT(0, fpread(fd, &r, 1, 0, &n));
	TRUE(n == 4 && !memcmp(b, "xyzb", 4));
	WANT(0, fsetflags(fd, 0));
	WANT(0, fseek_(fd, 1, 0, &at));
	WANT(0, fwrite_(fd, &two, 1, &n));
	WANT(0, fpread(fd, parts, 2, 1, &n));
	TRUE(n == 2 && !memcmp(b, "ab", 2));
	WANT(0, fseek_(fd, 1000, 1, &at));
	TRUE(at == 1003);
	WANT(INVAL, fseek_(fd, -2000, 1, &at));
	WANT(0, ftell_(fd, &at));
	TRUE(at == 1003);
	WANT(0, fread_(fd, &r, 1, &n));
	TRUE(n == 0);
	WANT(0, fstat_(fd, &st));
	TRUE(st.size == 4);
	WANT(0, fclose_(fd));
	// What one descriptor writes, another reads at once.
	WANT(0, popen_(3, 0, S("f"), TRUNC, WRITE, 0, SYNC | APPEND, &fd));
	WANT(0, popen_(3, 0, S("f"), 0, READ, 0, 0, &fd2));
	WANT(NOTCAPABLE, fread_(fd, &r, 1, &n));
	WANT(NOTCAPABLE, fwrite_(fd2, &two, 1, &n));
	WANT(0, fread_(fd2, &r, 1, &n));
	TRUE(n == 0);
	WANT(0, fwrite_(fd, &two, 1, &n));
	WANT(0, fread_(fd2, &r, 1, &n));
	TRUE(n == 2 && !memcmp(b, "ab", 2));
	WANT(0, ffdstat(fd, &fs));
	TRUE(fs.fs_flags == (SYNC | APPEND));
	WANT(0, fclose_(fd));
	WANT(0, fclose_(fd2));
	WANT(0, popen_(3, 0, S("f"), TRUNC, ALL, 0, DSYNC, &fd));
	WANT(0, fwrite_(fd, &two, 1, &n));
	WANT(0, fpwrite(fd, &two, 1, 2, &n));
	WANT(0, fsize(fd, 100));
	WANT(0, fadvise(fd, 10, 50, 0));
	WANT(0, fallocate_(fd, 10, 10));
	WANT(0, fstat_(fd, &st));
	TRUE(st.size == 100);
	WANT(0, fallocate_(fd, 90, 20));
	// One time is set, the other stays; a refused call changes neither.
	WANT(0, fstat_(fd, &st));
	TRUE(st.size == 110);
	WANT(0, ftimes(fd, st.mtim - 100, st.mtim - 100, 4));
	WANT(INVAL, ptimes(3, 0, S("f"), 0, 7, 4 | 8));
	WANT(INVAL, ptimes(3, 0, S("f"), 7, 0, 1 | 2));
	WANT(INVAL, ftimes(fd, 7, 7, 4 | 8));
	WANT(0, fstat_(fd, &st2));
	TRUE(st2.mtim == st.mtim - 100 && st2.atim == st.atim && st2.size == 110);
	WANT(0, ftimes(fd, 0, 0, 2 | 8));
	WANT(0, fstat_(fd, &st2));
	TRUE(st2.mtim > st.mtim - 100);
	// Two files of one directory have one device and two numbers.
	WANT(0, touch(3, "g"));
	WANT(0, pstat(3, 0, S("g"), &st));
	TRUE(st.dev == st2.dev && st.ino != st2.ino);
	WANT(0, punlink(3, S("g")));
	WANT(0, fclose_(fd));
	WANT(0, punlink(3, S("f")));
	return 0;
}

static int links(void) {
	char b[8] = {0};
	WANT(0, pmkdir(3, S("d")));
	WANT(0, touch(3, "d/f"));
	WANT(0, psymlink(S("d"), 3, S("ld")));
	WANT(0, psymlink(S("d/f"), 3, S("lf")));
	WANT(0, psymlink(S("nothing"), 3, S("dangling")));
	WANT(0, psymlink(S("loop"), 3, S("loop")));
	const struct { const char *p; int is, leads; } t[] = {{"d", 3, 3}, {"d/f", 4, 4}, {"ld", 7, 3}, {"lf", 7, 4}, {"dangling", 7, -NOENT}, {"loop", 7, -LOOP}};
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		WANT(0, pstat(3, 0, S(t[i].p), &st));
		TRUE(st.filetype == t[i].is);
		i32 e = pstat(3, FOLLOW, S(t[i].p), &st);
		if (t[i].leads < 0) WANT(-t[i].leads, e);
		else TRUE(e == 0 && st.filetype == t[i].leads);
		if (t[i].is != 7) continue;
		WANT(LOOP, popen_(3, 0, S(t[i].p), 0, 0, 0, 0, &fd));
		e = popen_(3, 0, S(t[i].p), DIRECTORY, 0, 0, 0, &fd);
		TRUE(e == LOOP || e == NOTDIR);
	}
	WANT(0, popen_(3, FOLLOW, S("ld"), DIRECTORY, 0, 0, 0, &fd));
	WANT(0, fclose_(fd));
	WANT(NOTDIR, popen_(3, FOLLOW, S("lf"), DIRECTORY, 0, 0, 0, &fd));
	WANT(0, popen_(3, FOLLOW, S("lf"), 0, 0, 0, 0, &fd));
	WANT(0, fclose_(fd));
	// A link's times are its own.
	WANT(0, pstat(3, 0, S("lf"), &st));
	WANT(0, pstat(3, 0, S("d/f"), &st2));
	WANT(0, ptimes(3, 0, S("lf"), 0, 1000, 4));
	WANT(0, pstat(3, 0, S("lf"), &st));
	TRUE(st.mtim == 1000);
	WANT(0, pstat(3, FOLLOW, S("lf"), &st));
	TRUE(st.mtim == st2.mtim);
	WANT(0, ptimes(3, FOLLOW, S("lf"), 0, 2000, 4));
	WANT(0, pstat(3, 0, S("d/f"), &st));
	TRUE(st.mtim == 2000);
	// Reading a link leaves the rest of the room alone.
	memset(b, '#', sizeof b);
	WANT(0, preadlink(3, S("lf"), b, 5, &n));
	TRUE(n == 3 && !memcmp(b, "d/f#####", 8));
	WANT(0, preadlink(3, S("lf"), b, 2, &n));
	TRUE(n == 2);
	// A second name is the same file; links are linked, not what they lead to.
	WANT(0, popen_(3, 0, S("d/f"), 0, READ | FSTAT, READ | FSTAT, 0, &fd));
	WANT(0, plink(3, 0, S("d/f"), 3, S("hard")));
	WANT(0, popen_(3, 0, S("hard"), 0, READ | FSTAT, READ | FSTAT, 0, &fd2));
	WANT(0, fstat_(fd, &st));
	WANT(0, fstat_(fd2, &st2));
	TRUE(!memcmp(&st, &st2, sizeof st) && st.nlink == 2);
	WANT(0, fclose_(fd));
	WANT(0, fclose_(fd2));
	WANT(0, plink(3, 0, S("dangling"), 3, S("l1")));
	WANT(0, plink(3, 0, S("loop"), 3, S("l2")));
	WANT(0, pstat(3, 0, S("l1"), &st));
	TRUE(st.filetype == 7);
	WANT(EXIST, plink(3, 0, S("hard"), 3, S("hard")));
	WANT(EXIST, plink(3, 0, S("hard"), 3, S("d")));
	WANT(EXIST, plink(3, 0, S("hard"), 3, S("dangling")));
	// A slash at the end means a directory.
	WANT(NOENT, psymlink(S("x"), 3, S("new/")));
	WANT(EXIST, psymlink(S("x"), 3, S("d/")));
	WANT(EXIST, psymlink(S("x"), 3, S("d")));
	WANT(NOTDIR, psymlink(S("x"), 3, S("hard/")));
	WANT(EXIST, psymlink(S("x"), 3, S("hard")));
	WANT(PERM, psymlink(S("/"), 3, S("root")));
	WANT(ISDIR, punlink(3, S("d")));
	WANT(ISDIR, punlink(3, S("d/")));
	WANT(NOTDIR, prmdir(3, S("hard")));
	WANT(NOTDIR, prmdir(3, S("hard/")));
	const char *gone[] = {"l1", "l2", "hard", "loop", "dangling", "lf", "ld", "d/f"};
	for (unsigned i = 0; i < sizeof gone / sizeof *gone; i++) WANT(0, punlink(3, S(gone[i])));
	WANT(0, prmdir(3, S("d")));
	return 0;
}

static int renames(void) {
	WANT(0, pmkdir(3, S("a")));
	WANT(0, prename(3, S("a/"), 3, S("b")));
	WANT(0, prename(3, S("b"), 3, S("a/")));
	WANT(0, prename(3, S("a/"), 3, S("b/")));
	WANT(NOENT, popen_(3, 0, S("a"), DIRECTORY, 0, 0, 0, &fd));
	WANT(0, pmkdir(3, S("a")));
	WANT(0, prename(3, S("a"), 3, S("b"))); // over an empty one
	WANT(0, pmkdir(3, S("a")));
	WANT(0, touch(3, "b/f"));
	WANT(NOTEMPTY, prename(3, S("a"), 3, S("b")));
	WANT(NOTDIR, prename(3, S("a"), 3, S("b/f")));
	WANT(ISDIR, prename(3, S("b/f"), 3, S("a")));
	WANT(INVAL, prename(3, S("b"), 3, S("b/c")));
	WANT(0, touch(3, "g"));
	WANT(0, prename(3, S("b/f"), 3, S("g"))); // over a file
	WANT(NOENT, pstat(3, 0, S("b/f"), &st));
	WANT(0, prename(3, S("g"), 3, S("g")));
	WANT(0, punlink(3, S("g")));
	WANT(0, prmdir(3, S("a")));
	WANT(0, prmdir(3, S("b")));
	return 0;
}

// Truncating needs a right of the directory, and none of what it hands on.
static int truncating(void) {
	i64 sz = SETSIZE, psz = 1 << 19;
	WANT(0, pmkdir(3, S("d")));
	WANT(0, popen_(3, 0, S("d"), DIRECTORY, DIRS, ALL, 0, &dir));
	WANT(0, touch(dir, "f"));
	WANT(0, popen_(dir, 0, S("f"), TRUNC, 0, 0, 0, &fd));
	WANT(0, fclose_(fd));
	WANT(0, ffdstat(dir, &fs));
	WANT(0, fsetrights(dir, fs.fs_rights_base, fs.fs_rights_inheriting & ~sz));
	WANT(0, popen_(dir, 0, S("f"), TRUNC, ALL, 0, 0, &fd));
	WANT(NOTCAPABLE, fsize(fd, 0));
	WANT(0, fclose_(fd));
	WANT(0, fsetrights(dir, fs.fs_rights_base & ~psz, fs.fs_rights_inheriting & ~sz));
	WANT(PERM, popen_(dir, 0, S("f"), TRUNC, 0, 0, 0, &fd));
	WANT(0, ffdstat(dir, &fs));
	TRUE(!(fs.fs_rights_base & psz));
	WANT(0, punlink(dir, S("f")));
	WANT(0, fclose_(dir));
	WANT(0, prmdir(3, S("d")));
	return 0;
}

static int clocks(void) {
	i64 a, b;
	static char r[1024];
	WANT(0, clock_(1, 1, &a));
	WANT(0, clock_(1, 0, &b));
	TRUE(a <= b);
	WANT(0, clock_(0, 0, &a));
	WANT(0, clockres(1, &a));
	WANT(0, random_(r, 0));
	WANT(0, random_(r, sizeof r));
	int set = 0;
	for (unsigned i = 0; i < sizeof r; i++) set += r[i] != 0;
	TRUE(set > 512);
	WANT(0, yield_());
	// Streams are ready, or the clock ends the wait.
	__wasi_subscription_t s[3];
	__wasi_event_t ev[3];
	memset(s, 0, sizeof s);
	for (int i = 0; i < 2; i++) {
		s[i].userdata = i + 1;
		s[i].u.tag = 2;
		s[i].u.u.fd_write.file_descriptor = i + 1;
	}
	s[2].userdata = 3;
	s[2].u.u.clock.id = 1;
	s[2].u.u.clock.timeout = 60000000000ll;
	WANT(0, poll_(s, ev, 3, &n));
	TRUE(n >= 1 && ev[0].userdata < 3 && ev[0].type == 2 && ev[0].error == 0);
	return 0;
}

// Descriptors that the program started with are its own: it may close them and put
// others in their place.
static int ends(void) {
	WANT(0, popen_(3, 0, S("."), DIRECTORY, DIRS, ALL, 0, &dir));
	WANT(0, pmkdir(dir, S("d")));
	WANT(0, popen_(dir, 0, S("d"), DIRECTORY, DIRS, ALL, 0, &fd));
	WANT(0, fstat_(fd, &st));
	WANT(0, frenumber(fd, 3));
	WANT(0, fstat_(3, &st2));
	TRUE(st.ino == st2.ino && st.dev == st2.dev);
	WANT(BADF, ffdstat(fd, &fs));
	WANT(0, fclose_(3));
	WANT(BADF, ffdstat(3, &fs));
	WANT(0, ffdstat(dir, &fs));
	WANT(0, prmdir(dir, S("d")));
	for (i32 std = 0; std < 3; std += 2) { // not 1: it tells what failed
		WANT(0, popen_(dir, 0, S("f"), CREAT, 0, 0, 0, &fd));
		WANT(0, frenumber(std, fd));
		WANT(0, ffdstat(fd, &fs));
		WANT(BADF, ffdstat(std, &fs));
		WANT(0, punlink(dir, S("f")));
	}
	WANT(0, fclose_(dir));
	return 0;
}

int main(void) {
	return names() || directory() || listing() || contents() || links() || renames() || truncating() || clocks() || ends();
}
