/*
 * What real programs do that no older behaviour here showed: servers that count on FIONREAD to tell when an
 * edge-triggered descriptor is drained (nginx).
 */
#include "zoo.h"

#include <sys/ioctl.h>

/* What FIONREAD says once it has stopped growing. */
static int waiting(int fd)
{
	int last = -1, now = 0;

	for (int i = 0; i < 40 && now != last; i++) {
		last = now;
		nap(100);
		MUST(ioctl(fd, FIONREAD, &now));
	}
	return now;
}

/* More than a little waits, in several writes: the count is exact, before and after part of it is read. */
static void count_waiting(void)
{
	enum { PIECE = 30000, PIECES = 6 };
	static char buf[PIECE * PIECES];
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof a;
	int l = MUST(socket(AF_INET, SOCK_STREAM, 0)), size = 4 * PIECE * PIECES, s[2];

	MUST(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
	MUST(bind(l, SA(&a), sizeof a));
	MUST(listen(l, 1));
	MUST(getsockname(l, SA(&a), &len));
	s[0] = dial(ntohs(a.sin_port));
	s[1] = MUST(accept(l, NULL, NULL));
	fill(buf, sizeof buf, 7);
	T(write_full(s[0], buf, 10));
	T(read_full(s[1], buf, 10));
	for (int i = 0; i < PIECES; i++)
		T(write_full(s[0], buf + i * PIECE, PIECE));
	T(waiting(s[1]));
	T(read_full(s[1], buf, 1000));
	T(waiting(s[1]));
	T(read_full(s[1], buf, 100000));
	T(waiting(s[1]));
	T(read_full(s[1], buf, sizeof buf - 101000));
	T(waiting(s[1]));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"count_waiting", count_waiting},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
