/* What the C guests share; the Go guests' package guest is its twin. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static inline uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* elapsed says on stderr how long the computing took. */
static inline void elapsed(uint64_t start) { fprintf(stderr, "elapsed_ns %" PRIu64 "\n", now() - start); }

/* splitmix64: the same numbers as in the Go guests. */
static inline uint64_t next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* scale reads the argument n: 1 to 1000, without it 1, 0 for anything else. */
static inline int scale(int argc, char **argv)
{
	int n = 0;
	if (argc < 2)
		return 1;
	for (const char *s = argv[1]; *s; s++) {
		if (*s < '0' || *s > '9' || n > 1000)
			return 0;
		n = n * 10 + *s - '0';
	}
	return n <= 1000 ? n : 0;
}
