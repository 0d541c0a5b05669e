/*
 * What real programs do that no older behaviour here showed: servers that count on FIONREAD to tell when an
 * edge-triggered descriptor is drained (nginx); programs that end as soon as they have closed, over and over; a last
 * word to a peer that has ended its half (netcat).
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

/* Connections closed with bytes on their way, and the program ends: nothing is lost, nothing falls over. */
static void close_and_leave(void)
{
	enum { MANY = 60, SIZE = 300000 };
	static char buf[SIZE];
	int port, l = listen_any(&port), status, fine = 0, conn[MANY];
	long total = 0, n;

	for (int i = 0; i < MANY; i++) {
		if (MUST(fork()) == 0) {
			int fd = dial(port);

			write_full(fd, buf, sizeof buf);
			close(fd);
			exit(0);
		}
		conn[i] = MUST(accept(l, NULL, NULL));
	}
	nap(100);
	for (int i = 0; i < MANY; i++) {
		while ((n = read(conn[i], buf, sizeof buf)) > 0)
			total += n;
		nap(i % 9);
	}
	while (wait(&status) > 0)
		fine += status == 0;
	say("%ld bytes from %d that ended well\n", total, fine);
}

/*
 * The server has ended its half and waits; the client reads the end, stays a while, says a last word and is gone at
 * once.  The word and the end of file arrive, the server sees no error.
 */
static void last_word(void)
{
	enum { TIMES = 20 };
	int s[TIMES][2];
	char buf[64];

	for (int i = 0; i < TIMES; i++) {
		pair(s[i]);
		MUST(write(s[i][0], "hello", 5));
		MUST(read_full(s[i][1], buf, 5));
		MUST(shutdown(s[i][1], SHUT_WR));
		T(read(s[i][0], buf, sizeof buf));
	}
	nap(700);
	for (int i = 0; i < TIMES; i++) {
		MUST(write(s[i][0], "a last word", 11));
		MUST(shutdown(s[i][0], SHUT_WR));
		MUST(close(s[i][0]));
		ready("server", s[i][1], POLLIN, 2000);
		T(read(s[i][1], buf, sizeof buf));
		T(read(s[i][1], buf, sizeof buf));
		MUST(close(s[i][1]));
	}
}

/* The first bytes lie unread for a while: nobody is called stalled for that (zoo.test). */
static void first_unread(void)
{
	char buf[16];
	int s[2];

	pair(s);
	T(write(s[1], "welcome", 7));
	T(write(s[0], "question", 8));
	nap(800);
	T(read(s[1], buf, sizeof buf));
	T(read(s[0], buf, sizeof buf));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"count_waiting", count_waiting},
		{"close_and_leave", close_and_leave},
		{"last_word", last_word},
		{"first_unread", first_unread},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
