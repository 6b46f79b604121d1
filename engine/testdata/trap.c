// A guest that ends in the way its first argument names.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int zero = 0;

__attribute__((noinline)) static int deeper(volatile int n) {
	volatile char room[256];
	room[n & 255] = (char)n;
	return deeper(n + 1) + room[0];
}

int main(int argc, char **argv) {
	const char *how = argc > 1 ? argv[1] : "";
	if (!strcmp(how, "unreachable")) __builtin_trap();
	if (!strcmp(how, "bounds")) return *(volatile int *)(uintptr_t)0xfffffff0u;
	if (!strcmp(how, "divide")) return 100000 / zero; // 1 / x would become a comparison
	if (!strcmp(how, "recursion")) return deeper(argc);
	if (!strcmp(how, "hoard")) {
		// The pages must be touched: an allocation that is never used may be
		// left out by the compiler.
		for (int i = 0; i < 4096; i++) {
			volatile char *p = malloc(1 << 20);
			if (!p) return 9;
			p[4096] = 1;
		}
		return 0;
	}
	if (!strcmp(how, "exit")) exit(42);
	printf("hello %s\n", getenv("WHO") ? getenv("WHO") : "nobody");
	return 3;
}
