/* Copies its input to its output. */
#include <unistd.h>

int main(void)
{
	static char buffer[64 << 10];
	for (;;) {
		ssize_t n = read(0, buffer, sizeof buffer);
		if (n <= 0)
			return n < 0;
		for (ssize_t i = 0; i < n;) {
			ssize_t m = write(1, buffer + i, (size_t)(n - i));
			if (m <= 0)
				return 1;
			i += m;
		}
	}
}
