/* cfile counts the words in every file of a folder: /data, or the one given as
 * its argument. In a Keep the folder is measured: what is counted is what the
 * workload digest says. Plain C with wasi-libc; see README.md.
 *
 * A word is a run of ASCII letters, in small letters, of at most MAX_WORD bytes;
 * what is longer is cut there.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORD = 63, BUCKETS = 1 << 14, TOP = 5, MAX_FILES = 256, MAX_PATH = 512 };

struct word {
	struct word *next;
	unsigned long count;
	char text[MAX_WORD + 1];
};

static struct word *buckets[BUCKETS];
static unsigned long words, distinct;

/* FNV-1a, 32 bits. */
static unsigned hash(const char *s)
{
	unsigned h = 2166136261u;
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

static int count(const char *text)
{
	struct word **slot = &buckets[hash(text) % BUCKETS];
	words++;
	for (struct word *w = *slot; w; w = w->next)
		if (strcmp(w->text, text) == 0) {
			w->count++;
			return 0;
		}
	struct word *w = calloc(1, sizeof *w);
	if (!w)
		return -1;
	strcpy(w->text, text);
	w->count = 1;
	w->next = *slot;
	*slot = w;
	distinct++;
	return 0;
}

static int count_file(const char *path)
{
	FILE *f = fopen(path, "r");
	if (!f)
		return -1;
	char text[MAX_WORD + 1];
	size_t n = 0;
	int c, failed = 0;
	while (!failed && (c = getc(f)) != EOF) {
		if (c < 128 && isalpha(c)) {
			if (n < MAX_WORD)
				text[n++] = (char)tolower(c);
		} else if (n) {
			text[n] = 0;
			n = 0;
			failed = count(text);
		}
	}
	if (!failed && n) {
		text[n] = 0;
		failed = count(text);
	}
	if (ferror(f))
		failed = -1;
	fclose(f);
	return failed;
}

/* Most frequent first; equally frequent ones in the order of the alphabet. */
static int by_count(const void *a, const void *b)
{
	const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;
	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return strcmp(x->text, y->text);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int fail(const char *what)
{
	fprintf(stderr, "cfile: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : "/data";
	DIR *dir = opendir(folder);
	if (!dir)
		return fail(folder);
	char *names[MAX_FILES];
	size_t files = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		if (files == MAX_FILES) {
			fprintf(stderr, "cfile: more than %d files in %s\n", MAX_FILES, folder);
			return 1;
		}
		if (!(names[files++] = strdup(e->d_name)))
			return fail(e->d_name);
	}
	closedir(dir);
	/* The order of a directory means nothing. */
	qsort(names, files, sizeof *names, by_name);

	for (size_t i = 0; i < files; i++) {
		char path[MAX_PATH];
		int n = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		unsigned long before = words;
		if (n < 0 || (size_t)n >= sizeof path) {
			errno = ENAMETOOLONG;
			return fail(names[i]);
		}
		if (count_file(path))
			return fail(path);
		printf("%s: %lu words\n", names[i], words - before);
	}
	printf("total: %lu words, %lu distinct\n", words, distinct);

	struct word **all = malloc((distinct + 1) * sizeof *all);
	if (!all)
		return fail("sorting");
	size_t n = 0;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct word *w = buckets[i]; w; w = w->next)
			all[n++] = w;
	qsort(all, n, sizeof *all, by_count);
	for (size_t i = 0; i < n && i < TOP; i++)
		printf("%6lu %s\n", all[i]->count, all[i]->text);
	return fflush(stdout) ? fail("stdout") : 0;
}
