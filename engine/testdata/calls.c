// A guest that makes one host call as often as its argument says and nothing else.
#include <stdint.h>
#include <stdlib.h>
#include <wasi/api.h>

int main(int argc, char **argv) {
	long n = argc > 1 ? atol(argv[1]) : 1;
	__wasi_timestamp_t t;
	for (long i = 0; i < n; i++)
		if (__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &t) != 0) return 1;
	return 0;
}
