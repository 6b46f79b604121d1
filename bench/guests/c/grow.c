/* Takes 600 MB in pieces of 6 MB, writes to every page of them, says so, and
 * waits for the end of its input. */
#include <stdio.h>
#include <stdlib.h>

enum { PIECES = 100, PIECE = 6000000, PAGE = 4096 };

int main(void)
{
	for (int i = 0; i < PIECES; i++) {
		volatile char *p = malloc(PIECE);
		if (!p) {
			fprintf(stderr, "grow: no memory for piece %d\n", i);
			return 1;
		}
		for (int j = 0; j < PIECE; j += PAGE)
			p[j] = (char)i;
	}
	printf("grown\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
