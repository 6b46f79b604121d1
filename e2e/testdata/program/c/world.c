// What a C program finds in a Keep: arguments and environment as they were given,
// and a folder, where its first argument names one, through libc.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define TRUE(e) do { if (!(e)) { printf("line %d: %s does not hold (errno %d)\n", __LINE__, #e, errno); return 1; } } while (0)

static char path[256];

static const char *in(const char *dir, const char *name) {
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static int folder(const char *dir) {
	char b[32] = {0};
	struct stat st, st2;
	FILE *f = fopen(in(dir, "digits"), "r");
	TRUE(f && fread(b, 1, 4, f) == 4);
	fflush(f); // gives back what was read ahead
	TRUE(lseek(fileno(f), 0, SEEK_CUR) == 4);
	TRUE(fread(b, 1, 1, f) == 1 && b[0] == '4' && lseek(fileno(f), 0, SEEK_END) == 8);
	TRUE(pread(fileno(f), b, 3, 5) == 3 && !memcmp(b, "567", 3));
	TRUE(!isatty(fileno(f)) && fstat(fileno(f), &st) == 0 && st.st_size == 8 && fclose(f) == 0);
	TRUE(access(in(dir, "new"), F_OK) != 0 && errno == ENOENT);
	int fd = open(in(dir, "new"), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
	TRUE(fd > 2 && write(fd, "ab", 2) == 2 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "cd", 2) == 2);
	TRUE(lseek(fd, 0, SEEK_CUR) == 4 && pwrite(fd, "xyz", 3, 0) == 3 && lseek(fd, 0, SEEK_CUR) == 4 && lseek(fd, 0, SEEK_END) == 4);
	TRUE(fstat(fd, &st2) == 0 && st2.st_dev == st.st_dev && st2.st_ino != st.st_ino && close(fd) == 0);
	fd = open(in(dir, "new"), O_RDONLY);
	TRUE(fd > 2 && read(fd, b, 32) == 4 && !memcmp(b, "xyzd", 4) && close(fd) == 0);
	DIR *d = opendir(dir);
	TRUE(d);
	int seen = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.') continue;
		TRUE(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == e->d_ino);
		seen += !strcmp(e->d_name, "digits") ? 1 : !strcmp(e->d_name, "new") ? 10 : 100;
	}
	TRUE(seen == 11 && closedir(d) == 0);
	return remove(in(dir, "new")) ? 1 : 0;
}

int main(int argc, char **argv) {
	struct timespec t;
	TRUE(clock_getres(CLOCK_MONOTONIC, &t) == 0 && clock_getres(CLOCK_REALTIME, &t) == 0);
	TRUE(clock_gettime(CLOCK_MONOTONIC, &t) == 0 && clock_gettime(CLOCK_REALTIME, &t) == 0 && t.tv_sec > 1600000000);
	TRUE(shutdown(STDOUT_FILENO, SHUT_RD) != 0 && errno == ENOTSOCK);
	if (argc > 1) return folder(argv[1]) ? 1 : 33;
	// Without folders there is nothing behind stderr, and no path leads anywhere.
	TRUE(shutdown(3, SHUT_RD) != 0 && errno == EBADF);
	TRUE(!fopen("fs.dir/digits", "r") && errno == ENOTCAPABLE);
	for (char **e = environ; *e; e++) printf("<%s>", *e);
	return 0;
}
