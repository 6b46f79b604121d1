/* Greets; with an argument it then waits for the end of its input. */
#include <stdio.h>

int main(int argc, char **argv)
{
	(void)argv;
	printf("hello, world, from C\n");
	fflush(stdout);
	while (argc > 1 && getchar() != EOF)
		;
	return 0;
}
