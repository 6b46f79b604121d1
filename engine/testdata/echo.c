// An echo server with poll(2) over the listener at descriptor 3: it serves as
// many connections as its argument says, all at once, and ends.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
	int left = argc > 1 ? atoi(argv[1]) : 1, open = 0;
	static struct pollfd p[512];
	int n = 1;
	p[0].fd = 3;
	p[0].events = POLLIN;
	while (left > 0 || open > 0) {
		if (left == 0) p[0].fd = -1;
		int first = left == 0;
		if (poll(p + first, n - first, -1) < 0) return 10;
		for (int i = n - 1; i > 0; i--) {
			if (!p[i].revents) continue;
			char b[4096];
			ssize_t r = recv(p[i].fd, b, sizeof b, 0);
			if (r < 0) return 11;
			if (r == 0) {
				close(p[i].fd);
				p[i] = p[--n];
				open--;
				continue;
			}
			for (ssize_t w = 0; w < r;) {
				ssize_t k = send(p[i].fd, b + w, r - w, 0);
				if (k <= 0) return 12;
				w += k;
			}
		}
		if (left > 0 && p[0].revents) {
			int fd = accept(3, 0, 0);
			if (fd < 0) return 13;
			p[n].fd = fd;
			p[n].events = POLLIN;
			p[n++].revents = 0;
			left--;
			open++;
		}
	}
	return 0;
}
