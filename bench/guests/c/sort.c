/* Sorts n million 32-bit numbers with the C library's qsort. */
#include <stdio.h>
#include <stdlib.h>
#include "rng.h"

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	uint64_t start = now();
	size_t n = (size_t)scale(argc, argv) * 1000000;
	uint32_t *v = malloc(n * sizeof *v);
	uint64_t state = 2, sum = 14695981039346656037u;
	if (!n || !v)
		return 2;
	for (size_t i = 0; i < n; i++)
		v[i] = (uint32_t)(next(&state) >> 32);
	qsort(v, n, sizeof *v, compare);
	for (size_t i = 0; i < n; i++)
		sum = (sum ^ v[i]) * 1099511628211u;
	printf("sort %016llx\n", (unsigned long long)sum);
	elapsed(start);
	return 0;
}
