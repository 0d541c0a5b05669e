/*
 * Descriptor games: duplicates, sweeps, numbers used again behind everybody's back, sockets as 0 to 2, sockets used
 * again after a disconnect, accept flags, tight limits.
 */
#include "zoo.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/epoll.h>

/* Talk over the pair: a byte each way. */
static void talk(const char *name, int a, int b)
{
	char buf[10] = "";
	ssize_t n = write(a, "ping", 4);
	ssize_t m = n < 0 ? -1 : read(b, buf, 10);
	say("%s: %zd %zd \"%s\"", name, n, m, buf);
	memset(buf, 0, sizeof buf);
	n = write(b, "pong", 4);
	m = n < 0 ? -1 : read(a, buf, 10);
	say(" %zd %zd \"%s\"\n", n, m, buf);
}

static void duplicates(void)
{
	int s[2];
	char buf[10];

	pair(s);
	say("numbers %d %d\n", s[0], s[1]);
	int d = (int)T(dup(s[1]));
	talk("dup", s[0], d);
	T(close(s[1]));
	talk("original closed", s[0], d);
	settle();
	T(dup2(d, s[1]));
	T(dup2(d, d));
	T(dup2(d, 700));
	T(dup2(d, -1));
	T(dup2(699, d));
	T(dup3(d, d, 0));
	T(dup3(d, 701, O_CLOEXEC));
	T(fcntl(701, F_GETFD));
	T(fcntl(d, F_DUPFD, 50));
	T(fcntl(d, F_DUPFD_CLOEXEC, 50));
	T(fcntl(d, F_DUPFD, 1 << 30));
	T(fcntl(51, F_GETFD));
	talk("700", s[0], 700);
	talk("51", s[0], 51);
	T(fcntl(d, F_SETFL, O_NONBLOCK));
	T(fcntl(50, F_GETFL) & O_NONBLOCK);
	T(read(701, buf, 10));
	T(fcntl(50, F_SETFL, 0));
	/* A number that was one connection becomes the other end, then a file. */
	T(dup2(s[0], d));
	talk("turned round", 50, d);
	T(dup2(open("/dev/null", O_RDWR), d));
	T(write(d, "into nothing", 12));
	T(read(d, buf, 10));
	for (int fd = s[1]; fd < 800; fd++)
		if (fd != d && close(fd) == 0)
			say("closed %d\n", fd);
	T(read(s[0], buf, 10));
	T(close(s[0]));
	T(close(s[0]));
	T(write(s[0], "x", 1));
}

/* Sweeps as daemons do them; sockets that were there are gone, later ones work. */
static void sweep(int how)
{
	int s[2];
	char buf[10];

	pair(s);
	settle();
	T(write(s[0], "left over", 9));
	if (how == 0) {
		struct rlimit r;
		getrlimit(RLIMIT_NOFILE, &r);
		int closed = 0, odd = 0;
		for (int fd = 3; fd < (int)(r.rlim_cur > 70000 ? 70000 : r.rlim_cur); fd++) {
			int c = close(fd);
			closed += c == 0 && fd < 512;
			odd += c != 0 && errno != EBADF;
		}
		say("closed %d below 512, odd errors %d\n", closed, odd);
	} else if (how == 1) {
		closefrom(3);
	} else if (how == 2) {
		T(close_range(3, ~0u, 0));
		T(close_range(10, 5, 0));
		T(close_range(3, ~0u, 0x1000));
	} else {
		T(syscall(SYS_close_range, 3, ~0u, 0));
	}
	T(read(s[1], buf, 10));
	T(read(s[0], buf, 10));
	pair(s);
	say("numbers %d %d\n", s[0], s[1]);
	talk("after", s[0], s[1]);
	settle();
	if (how == 2) {
		T(close_range(3, ~0u, CLOSE_RANGE_CLOEXEC));
		talk("close-on-exec", s[0], s[1]);
		T(fcntl(s[0], F_GETFD));
	}
	talk("and on", s[0], s[1]);
}

static void sweep_loop(void)
{
	sweep(0);
}

static void sweep_closefrom(void)
{
	sweep(1);
}

static void sweep_close_range(void)
{
	sweep(2);
}

static void sweep_raw(void)
{
	sweep(3);
}

/* fclose closes inside libc, unseen; the number then names other things. */
static void reuse(void)
{
	int s[2], t[2];
	char buf[20] = "";
	struct linger now = {1, 0};

	for (int i = 0; i < 3; i++) {
		pair(s);
		settle();
		FILE *f = fdopen(s[1], "r+");
		fprintf(f, "by stdio %d\n", i);
		T(fclose(f));
		drain("peer", s[0]);
		setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
		if (i == 0) {
			int file;
			while ((file = MUST(open("/dev/zero", O_RDWR))) != s[1])
				;
			T(close(s[0]));
			settle();
			T(read(file, buf, 10));
			T(write(file, buf, 10));
			T(recv(file, buf, 10, 0));
			T(close(file));
		} else if (i == 1) {
			pair(t);
			say("reused %d %d\n", t[0] == s[1], t[1] == s[1]);
			T(close(s[0]));
			settle();
			talk("another socket", t[0], t[1]);
			settle();
			talk("another socket", t[0], t[1]);
			close(t[0]);
			close(t[1]);
		} else {
			int u;
			while ((u = MUST(socket(AF_INET, SOCK_DGRAM, 0))) != s[1])
				;
			T(send(u, "x", 1, 0));
			T(read(u, buf, 0));
			T(close(u));
			T(read(s[1], buf, 1));
		}
	}
}

/* One socket, many connections. */
static void disconnect(void)
{
	int port, l = listen_any(&port), fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in a = loopback(port);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	char buf[10];

	for (int i = 0; i < 3; i++) {
		T(connect(fd, SA(&a), sizeof a));
		int c = (int)T(accept(l, NULL, NULL));
		if (i != 1)
			settle();
		talk("connected", fd, c);
		T(connect(fd, &none, sizeof none));
		T(read(fd, buf, 10));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		ready("disconnected", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
		settle();
		T(read(c, buf, 10));
		T(close(c));
	}
	/* The same socket ends as a listener. */
	T(connect(fd, SA(&a), sizeof a));
	T(connect(fd, &none, sizeof none));
	T(listen(fd, 5));
	ready("listening", fd, POLLIN | POLLOUT, 0);
	T(accept4(fd, NULL, NULL, SOCK_NONBLOCK | 0x40));
}

static void accept_flags(void)
{
	int port, l = listen_any(&port), c[4];
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	char buf[10];

	for (int i = 0; i < 4; i++)
		c[i] = dial(port);
	ready("listener", l, POLLIN | POLLOUT, 100);
	int x = (int)T(accept4(l, SA(&a), &len, SOCK_NONBLOCK | SOCK_CLOEXEC));
	say("family %d length %u\n", a.sin_family, len);
	T(fcntl(x, F_GETFL) == (O_RDWR | O_NONBLOCK));
	T(fcntl(x, F_GETFD));
	T(read(x, buf, 10));
	T(fcntl(l, F_SETFL, O_NONBLOCK));
	len = 4;
	int y = (int)T(accept(l, SA(&a), &len));
	say("length %u\n", len);
	T(fcntl(y, F_GETFL) == O_RDWR);
	T(fcntl(y, F_GETFD));
	len = sizeof a;
	T(accept(l, NULL, &len));
	T(accept(l, SA(8), NULL));
	T(accept(l, NULL, NULL));
	T(accept(y, NULL, NULL));
	T(listen(l, 0));
	T(close(c[0]));
	T(read(x, buf, 10));
	talk("second", c[1], y);
	T(shutdown(l, SHUT_RD));
	ready("listener", l, POLLIN | POLLOUT, 100);
	T(accept(l, NULL, NULL));
}

/* The program closes 0 to 2 first: its connection and its listener become them. */
static void low_numbers(void)
{
	const char *path = getenv("ZOO_OUT");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : dup(1);
	char buf[100];

	zoo_out = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 90));
	if (fd > 2)
		close(fd);
	close(0);
	close(1);
	close(2);
	int port, l = listen_any(&port);
	int a = dial(port), b = (int)T(accept(l, NULL, NULL));
	say("numbers %d %d %d\n", l, a, b);
	talk("low", a, b);
	settle();
	settle();
	T(write(b, "only this", 9));
	T(read_full(a, buf, 9));
	show("got", buf, 9);
	T(write(a, "and only that", 13));
	T(read_full(b, buf, 13));
	show("got", buf, 13);
	T(shutdown(a, SHUT_WR));
	nap(300);
	drain("b", b);
	T(shutdown(b, SHUT_WR));
	drain("a", a);
	T(close(b));
	T(close(a));
	/* A reset one, as 1 and 2. */
	a = dial(port);
	b = accept(l, NULL, NULL);
	struct linger now = {1, 0};
	setsockopt(b, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	settle();
	T(close(b));
	T(read(a, buf, 10));
	settle();
	T(read(a, buf, 10));
}

/* printf and getchar on a socket that is 0 and 1. */
static void stdio_low(void)
{
	struct kid kid;
	int s[2];

	pair(s);
	if (spawn_kid(&kid)) {
		char line[100];
		close(s[0]);
		T(dup2(s[1], 0));
		T(dup2(s[1], 1));
		close(s[1]);
		settle();
		while (fgets(line, sizeof line, stdin)) {
			printf("you said %s", line);
			fflush(stdout);
		}
		puts("puts");
		dprintf(1, "dprintf %d\n", 1);
		fflush(stdout);
		say("feof %d, fileno %d %d\n", !!feof(stdin), fileno(stdin), fileno(stdout));
		exit(0);
	}
	close(s[1]);
	FILE *f = fdopen(s[0], "r+");
	char line[100];
	for (int i = 0; i < 3; i++) {
		fprintf(f, "line %d\n", i);
		T(fflush(f));
		fseek(f, 0, SEEK_CUR);
		T(fgets(line, sizeof line, f) != NULL);
		show("line", line, (long)strlen(line));
	}
	settle();
	T(shutdown(fileno(f), SHUT_WR));
	drain("rest", fileno(f));
	T(fclose(f));
	reap("stdio", &kid);
}

/* Sixteen descriptors are all there are; the program may use every one of them. */
static void few_descriptors(void)
{
	struct rlimit r = {16, 16};
	int s[2], n = 0, fd;

	T(setrlimit(RLIMIT_NOFILE, &r));
	pair(s);
	settle();
	talk("within", s[0], s[1]);
	while ((fd = open("/dev/null", O_RDONLY)) >= 0)
		n++;
	say("%d more, then %s\n", n, strerrorname_np(errno));
	settle();
	talk("full", s[0], s[1]);
	T(dup(s[0]));
	T(socket(AF_INET, SOCK_STREAM, 0));
	T(close(15));
	T(dup(s[0]));
	talk("dup", 15, s[1]);
	T(close(15));
	T(accept(s[0], NULL, NULL));
	settle();
	talk("end", s[0], s[1]);
}

/* Hardly any address space left. */
static void little_memory(void)
{
	int s[2];
	struct rlimit r = {1, 1};

	r.rlim_cur = r.rlim_max = 1 << 20;
	T(setrlimit(RLIMIT_AS, &r));
	pair(s);
	talk("at once", s[0], s[1]);
	settle();
	talk("later", s[0], s[1]);
	T(shutdown(s[0], SHUT_WR));
	drain("end", s[1]);
}

/* epoll registrations of numbers that are closed, duplicated and used again. */
static void epoll_numbers(void)
{
	int s[2], t[2], ep = (int)T(epoll_create1(0));
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 1};

	pair(s);
	T(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &e));
	T(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &e));
	T(write(s[0], "x", 1));
	T(epoll_wait(ep, &e, 1, 1000));
	int d = dup(s[1]);
	T(close(s[1]));
	T(epoll_wait(ep, &e, 1, 0));
	T(close(d));
	T(epoll_wait(ep, &e, 1, 0));
	pair(t);
	e.events = EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE;
	T(epoll_ctl(ep, EPOLL_CTL_ADD, t[1], &e));
	T(epoll_ctl(ep, EPOLL_CTL_MOD, t[1], &e));
	settle();
	T(epoll_wait(ep, &e, 1, 0));
	say("events %x\n", e.events);
	T(epoll_ctl(ep, EPOLL_CTL_DEL, t[1], NULL));
	T(epoll_ctl(ep, EPOLL_CTL_DEL, t[1], NULL));
	T(epoll_pwait(ep, &e, 1, 50, NULL));
	T(epoll_wait(ep, &e, 0, 0));
	T(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
	T(epoll_ctl(t[1], EPOLL_CTL_ADD, ep, &e));
}

enum { CROWD = 40 };

/* Who of the crowd has told of something, until WANTED have or nothing more comes: each is read from. */
static void tell_crowd(int ep, int (*s)[2], int wanted)
{
	char told[CROWD + 1];
	int count = 0, n;

	memset(told, '.', CROWD);
	told[CROWD] = 0;
	do {
		struct epoll_event e[CROWD];

		n = epoll_wait(ep, e, CROWD, count < wanted ? 2000 : 300);
		for (int i = 0; i < n; i++) {
			unsigned who = (unsigned)(e[i].data.u64 >> 20);

			if (who >= CROWD || told[who] != '.' || e[i].events != EPOLLIN ||
			    read(s[who][1], &told[who], 1) != 1)
				say("GIVE UP who %u events %x\n", who, e[i].events);
			count++;
		}
	} while (n > 0);
	say("%s\n", told);
}

/* Many connections in one wait, level- and edge-triggered and one-shot, after a pause in which only some had news. */
static void epoll_crowd(void)
{
	static const uint32_t kinds[] = {0, EPOLLET, EPOLLONESHOT, EPOLLONESHOT | EPOLLET};
	int s[CROWD][2], ep = (int)T(epoll_create1(0));

	for (int i = 0; i < CROWD; i++) {
		struct epoll_event e = {.events = EPOLLIN | kinds[i % 4], .data.u64 = (uint64_t)i << 20};

		pair(s[i]);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, s[i][1], &e) < 0)
			say("GIVE UP epoll_ctl\n");
	}
	for (int round = 0; round < 3; round++) {
		int wanted = 0;

		settle();
		for (int i = 0; i < CROWD; i++) {
			struct epoll_event e = {.events = EPOLLIN | kinds[i % 4], .data.u64 = (uint64_t)i << 20};

			if (i % (round + 2) == 0 && ++wanted > 0 && write(s[i][0], "abc" + round, 1) != 1)
				say("GIVE UP write\n");
			if ((kinds[i % 4] & EPOLLONESHOT) != 0)
				epoll_ctl(ep, EPOLL_CTL_MOD, s[i][1], &e);
		}
		tell_crowd(ep, s, wanted);
	}
}

/* A duplicate of a closed number keeps it registered, also when the number is registered anew as something else. */
static void epoll_closed_number(void)
{
	int s[2], ep = (int)T(epoll_create1(0)), count = 0;
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 7};

	pair(s);
	T(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &e));
	int kept = dup(s[1]), pipes[2];
	T(close(s[1]));
	T(pipe(pipes));
	e.data.u64 = 8;
	T(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &e));
	say("%s\n", pipes[0] == s[1] ? "the same number" : "another number");
	for (int i = 0; i < 5; i++)
		count += epoll_wait(ep, &e, 1, 100);
	say("%d for nothing\n", count);
	T(write(s[0], "x", 1));
	T(epoll_wait(ep, &e, 1, 2000));
	say("%d\n", (int)e.data.u64);
	close(kept);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"duplicates", duplicates},
		{"sweep_loop", sweep_loop},
		{"sweep_closefrom", sweep_closefrom},
		{"sweep_close_range", sweep_close_range},
		{"sweep_raw", sweep_raw},
		{"reuse", reuse},
		{"disconnect", disconnect},
		{"accept_flags", accept_flags},
		{"low_numbers", low_numbers},
		{"stdio_low", stdio_low},
		{"few_descriptors", few_descriptors},
		{"little_memory", little_memory},
		{"epoll_numbers", epoll_numbers},
		{"epoll_crowd", epoll_crowd},
		{"epoll_closed_number", epoll_closed_number},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
