/* A TCP echo server on the pre-opened listener called "echo" (FD_NAMES), one
 * thread, poll(2). It ends when the listener is closed. Bytes that a client does
 * not take are kept for it, and no more are read from it until it has taken them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 512, BUFFER = 16 << 10 };

struct connection {
	size_t from, to; /* what is to be written: buffer[from:to] */
	char buffer[BUFFER];
};

static struct pollfd polls[1 + CONNECTIONS];
static struct connection *connections[1 + CONNECTIONS];
static nfds_t used = 1;

static int listener(void)
{
	const char *names = getenv("FD_NAMES");
	for (int fd = 0; names; fd++) {
		size_t n = strcspn(names, ":");
		if (n == 4 && memcmp(names, "echo", 4) == 0)
			return fd;
		names = names[n] ? names + n + 1 : NULL;
	}
	return -1;
}

static void drop(nfds_t i)
{
	close(polls[i].fd);
	free(connections[i]);
	used--;
	polls[i] = polls[used];
	connections[i] = connections[used];
}

/* Gives 0 when the listener is closed. */
static int admit(void)
{
	while (used < 1 + CONNECTIONS) {
		int fd = accept(polls[0].fd, NULL, NULL);
		if (fd < 0)
			return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
		int flags = fcntl(fd, F_GETFL);
		struct connection *c = malloc(sizeof *c);
		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || !c) {
			free(c);
			close(fd);
			continue;
		}
		c->from = c->to = 0;
		polls[used] = (struct pollfd){.fd = fd, .events = POLLIN};
		connections[used++] = c;
	}
	return 1;
}

/* Gives 0 when the connection has ended. */
static int serve(struct pollfd *p, struct connection *c)
{
	if (c->from == c->to) {
		ssize_t n = read(p->fd, c->buffer, BUFFER);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
		c->from = 0;
		c->to = (size_t)n;
	}
	ssize_t n = write(p->fd, c->buffer + c->from, c->to - c->from);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return 0;
	if (n > 0)
		c->from += (size_t)n;
	p->events = c->from == c->to ? POLLIN : POLLOUT;
	return 1;
}

int main(void)
{
	int fd = listener();
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		fprintf(stderr, "echo: no listener is called \"echo\" in FD_NAMES\n");
		return 1;
	}
	for (;;) {
		/* With every place taken the listener waits. */
		polls[0] = (struct pollfd){.fd = fd, .events = used < 1 + CONNECTIONS ? POLLIN : 0};
		if (poll(polls, used, -1) < 0) {
			if (errno == EINTR)
				continue;
			perror("echo: poll");
			return 1;
		}
		/* From the end, because drop fills the hole with the last one. */
		for (nfds_t i = used - 1; i > 0; i--)
			if (polls[i].revents && !serve(&polls[i], connections[i]))
				drop(i);
		if (polls[0].revents && !admit())
			return 0;
	}
}
