/* A peer in a process of its own, forked before there was a connection: no relative as far as the library can know. */
#ifndef ZOO_PEER_H
#define ZOO_PEER_H

#include "zoo.h"

/* A peer that accepts one connection and does BODY to it; returns our end. */
ZOO int peer(struct kid *kid, void (*body)(int fd))
{
	int port, l = listen_any(&port), fd;

	if (spawn_kid(kid)) {
		fd = MUST(accept(l, NULL, NULL));
		MUST(close(l));
		body(fd);
		exit(0);
	}
	MUST(close(l));
	return dial(port);
}

/* A peer that connects; returns the accepted end. */
ZOO int visitor(struct kid *kid, void (*body)(int fd))
{
	int port, l = listen_any(&port), fd;

	if (spawn_kid(kid)) {
		MUST(close(l));
		body(dial(port));
		exit(0);
	}
	fd = MUST(accept(l, NULL, NULL));
	MUST(close(l));
	return fd;
}

/* Send back what comes. */
ZOO void echo(int fd)
{
	char buf[65536];
	uint64_t d = 0;
	long total = 0;
	ssize_t n;

	errno = 0;
	while ((n = read(fd, buf, sizeof buf)) > 0 && write_full(fd, buf, (size_t)n) == n) {
		d = digest(d, buf, (size_t)n);
		total += n;
	}
	say("echoed %ld bytes, digest %016llx, then %ld %s\n", total, (unsigned long long)d, (long)n,
	    n < 0 ? strerrorname_np(errno) : "");
	MUST(close(fd));
}

ZOO void exchange(const char *name, int fd)
{
	char buf[64] = "";
	size_t size = strlen(name);
	long n = write_full(fd, name, size), m = n < 0 ? -1 : read_full(fd, buf, size);

	say("%s: %ld %ld %s\n", name, n, m, strcmp(buf, name) == 0 ? "the same" : buf);
}

/* Over a Unix socket, and out of it. */
ZOO void send_fd(int over, int fd)
{
	char control[CMSG_SPACE(sizeof fd)] = "", byte = 'd';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	MUST(sendmsg(over, &msg, 0));
}

ZOO int receive_fd(int over)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	int fd = -1;

	MUST(recvmsg(over, &msg, 0));
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
	return fd;
}

#endif
