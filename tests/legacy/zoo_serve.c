/*
 * Servers the way they were written: iterative, forking, inetd, select, poll and epoll loops, threads, stdio.
 * One scripted client talks lines with each; every server answers a line with the line in upper case.
 */
#include "zoo.h"

#include <ctype.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>

static void upper(char *s, long n)
{
	for (long i = 0; i < n; i++)
		s[i] = (char)toupper((unsigned char)s[i]);
}

/* How many connections to PORT wait to be accepted: what /proc/net/tcp calls rx_queue of a listening socket; 0 if
 * it cannot tell. */
static unsigned waiting(int port)
{
	char line[256];
	unsigned at, state, queued, found = 0;
	FILE *f = fopen("/proc/net/tcp", "re");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, " %*d: %*x:%x %*x:%*x %x %*x:%x", &at, &state, &queued) == 3 && at == (unsigned)port &&
		    state == TCP_LISTEN)
			found += queued;
	if (f)
		fclose(f);
	return found;
}

/* Nothing else happens before the server has accepted and gone back to wait, however busy the machine. */
static void let_accept(int port)
{
	for (int quiet = 0, tries = 0; quiet < 3 && tries < 500; tries++) {
		nap(20);
		quiet = waiting(port) ? 0 : quiet + 1;
	}
}

/* Two clients at once, lines in turn; the last thing is a half-close and reading to the end. */
static void two_clients(int port)
{
	char buf[100];
	int c[2];

	for (int i = 0; i < 2; i++) {
		c[i] = dial(port);
		let_accept(port);
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 2; i++) {
			long len = sprintf(buf, "client %d round %d\n", i, round);
			T(write(c[i], buf, (size_t)len));
			memset(buf, 0, sizeof buf);
			T(read_full(c[i], buf, (size_t)len));
			show("answer", buf, len);
		}
		settle();
	}
	for (int i = 0; i < 2; i++) {
		T(shutdown(c[i], SHUT_WR));
		drain("client", c[i]);
		T(close(c[i]));
	}
}

static void one_client(int port)
{
	char buf[100];
	int c = dial(port);

	for (int round = 0; round < 3; round++) {
		long len = sprintf(buf, "only client round %d\n", round);
		T(write(c, buf, (size_t)len));
		T(read_full(c, buf, (size_t)len));
		show("answer", buf, len);
	}
	settle();
	T(shutdown(c, SHUT_WR));
	drain("client", c);
	T(close(c));
}

static void serve_blocking(int fd)
{
	char buf[100];
	ssize_t n;

	while ((n = T(read(fd, buf, sizeof buf))) > 0) {
		upper(buf, n);
		T(write(fd, buf, (size_t)n));
	}
	T(close(fd));
}

static void iterative(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		for (int i = 0; i < 2; i++)
			serve_blocking((int)T(accept(l, NULL, NULL)));
		_exit(0);
	}
	close(l);
	one_client(port);
	one_client(port);
	reap("server", &kid);
}

static void forking(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		for (int i = 0; i < 2; i++) {
			int status, fd = (int)T(accept(l, NULL, NULL));
			pid_t pid = fork();
			if (pid == 0) {
				close(l);
				zoo_out = open("/dev/null", O_WRONLY);
				serve_blocking(fd);
				exit(i);
			}
			close(fd);
			if (i == 1)
				while (wait(&status) > 0)
					;
		}
		_exit(0);
	}
	close(l);
	two_clients(port);
	reap("server", &kid);
}

/* Several processes asleep in accept on one listening socket. */
static void prefork(void)
{
	struct kid kid;
	int port, stop[2], l = listen_any(&port);

	MUST(pipe(stop));
	if (spawn_kid(&kid)) {
		pid_t pid[3];
		for (int i = 0; i < 3; i++) {
			pid[i] = fork();
			if (pid[i] == 0) {
				zoo_out = open("/dev/null", O_WRONLY);
				for (;;)
					serve_blocking(accept(l, NULL, NULL));
			}
		}
		char c;
		T(read(stop[0], &c, 1));
		for (int i = 0; i < 3; i++) {
			T(kill(pid[i], SIGKILL));
			T(waitpid(pid[i], NULL, 0) == pid[i]);
		}
		_exit(0);
	}
	close(l);
	two_clients(port);
	one_client(port);
	T(write(stop[1], "", 1));
	reap("server", &kid);
}

static void select_loop(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (!spawn_kid(&kid)) {
		close(l);
		two_clients(port);
		reap("server", &kid);
		return;
	}
	fd_set all;
	int left = 2, top = l;
	FD_ZERO(&all);
	FD_SET(l, &all);
	while (left > 0) {
		struct timeval tv = {.tv_sec = 5};
		fd_set in = all;
		long before = now_ms(), n = select(top + 1, &in, NULL, NULL, &tv);
		long left_us = tv.tv_sec * 1000000 + tv.tv_usec, least = 5000 - (now_ms() - before) - 20;
		/* Less than before by the time slept, which is no more than what has passed. */
		say("select = %ld, time left %s\n", n,
		    left_us < 5000000 && left_us / 1000 >= least ? "changed" : "odd");
		for (int fd = 0; fd <= top; fd++) {
			char buf[100];
			if (!FD_ISSET(fd, &in))
				continue;
			if (fd == l) {
				int c = (int)T(accept(l, NULL, NULL));
				FD_SET(c, &all);
				top = c > top ? c : top;
				continue;
			}
			ssize_t got = T(read(fd, buf, sizeof buf));
			if (got <= 0) {
				FD_CLR(fd, &all);
				T(close(fd));
				left--;
				continue;
			}
			upper(buf, got);
			T(write(fd, buf, (size_t)got));
		}
	}
	_exit(0);
}

static void poll_loop(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (!spawn_kid(&kid)) {
		close(l);
		two_clients(port);
		reap("server", &kid);
		return;
	}
	struct pollfd p[3] = {{.fd = l, .events = POLLIN}, {.fd = -1}, {.fd = -1}};
	for (int left = 2, used = 1; left > 0;) {
		T(poll(p, 3, 5000));
		for (int i = used - 1; i > 0; i--) {
			char buf[100];
			if (!p[i].revents)
				continue;
			say("client %d: %s\n", i, events_name(p[i].revents));
			ssize_t got = T(read(p[i].fd, buf, sizeof buf));
			if (got > 0) {
				upper(buf, got);
				T(write(p[i].fd, buf, (size_t)got));
			} else {
				T(close(p[i].fd));
				p[i].fd = -1;
				left--;
			}
		}
		if (p[0].revents) {
			p[used].events = POLLIN | POLLRDHUP;
			p[used++].fd = (int)T(accept4(l, NULL, NULL, SOCK_CLOEXEC));
		}
	}
	_exit(0);
}

/* FLAGS: EPOLLET: non-blocking, read until EAGAIN; EPOLLONESHOT: armed again after each event; 0: one read. */
static void epoll_server(uint32_t flags)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (!spawn_kid(&kid)) {
		close(l);
		two_clients(port);
		reap("server", &kid);
		return;
	}
	int ep = (int)T(epoll_create1(EPOLL_CLOEXEC)), left = 2;
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0xfeedfacecafe0000u + (unsigned)l};
	T(epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
	while (left > 0) {
		int n = (int)T(epoll_wait(ep, &e, 1, 5000));
		if (n <= 0)
			break;
		int fd = (int)(e.data.u64 & 0xffff);
		say("event %s data %llx\n", events_name((short)e.events), (unsigned long long)e.data.u64 >> 16);
		if (fd == l) {
			int c = (int)T(accept4(l, NULL, NULL, flags & EPOLLET ? SOCK_NONBLOCK : 0));
			e.events = EPOLLIN | EPOLLRDHUP | flags;
			e.data.u64 = 0xfeedfacecafe0000u + (unsigned)c;
			T(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
			continue;
		}
		char buf[100];
		ssize_t got;
		while ((got = T(read(fd, buf, 7))) > 0) {
			upper(buf, got);
			T(write(fd, buf, (size_t)got));
			if (!(flags & EPOLLET))
				break;
		}
		if (got == 0) {
			T(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
			T(close(fd));
			left--;
		} else if (flags & EPOLLONESHOT) {
			e.events = EPOLLIN | EPOLLRDHUP | flags;
			e.data.u64 = 0xfeedfacecafe0000u + (unsigned)fd;
			T(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
		}
	}
	_exit(0);
}

static void epoll_level(void)
{
	epoll_server(0);
}

static void epoll_edge(void)
{
	epoll_server(EPOLLET);
}

static void epoll_oneshot(void)
{
	epoll_server(EPOLLONESHOT);
}

static void epoll_edge_oneshot(void)
{
	epoll_server(EPOLLONESHOT | EPOLLET);
}

/* inetd: the connection becomes 0, 1 and 2 of a program that knows nothing of sockets. */
static void inetd(char *const command[])
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		int status, fd = (int)T(accept(l, NULL, NULL));
		pid_t pid = fork();
		if (pid == 0) {
			close(l);
			dup2(fd, 0);
			dup2(fd, 1);
			dup2(fd, 2);
			close(fd);
			execvp(command[0], command);
			_exit(127);
		}
		close(fd);
		T(waitpid(pid, &status, 0) == pid);
		say_status(command[0], status);
		_exit(0);
	}
	close(l);
	int c = dial(port);
	char big[200000];
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = i % 64 == 63 ? '\n' : (char)('a' + (i * 7 + i / 64) % 26);
	T(write(c, "first line\n", 11));
	settle();
	pid_t writer = fork();
	if (writer == 0) {
		write_full(c, big, sizeof big);
		shutdown(c, SHUT_WR);
		_exit(0);
	}
	drain("client", c);
	waitpid(writer, NULL, 0);
	T(close(c));
	reap("inetd", &kid);
}

static void inetd_cat(void)
{
	inetd((char *[]){"cat", NULL});
}

static void inetd_sed(void)
{
	inetd((char *[]){"sed", "-u", "s/l/LL/", NULL});
}

static void inetd_sh(void)
{
	inetd((char *[]){"sh", "-c", "read a; echo got $a; echo to stderr >&2; exec tr a-z A-Z", NULL});
}

static void *thread_serve(void *arg)
{
	int fd = *(int *)arg;
	char buf[100];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof buf, 0)) > 0) {
		upper(buf, n);
		send(fd, buf, (size_t)n, 0);
	}
	close(fd);
	return NULL;
}

static void threaded(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		pthread_t t[2];
		int fd[2];
		for (int i = 0; i < 2; i++) {
			fd[i] = (int)T(accept(l, NULL, NULL));
			T(pthread_create(&t[i], NULL, thread_serve, &fd[i]));
		}
		for (int i = 0; i < 2; i++)
			T(pthread_join(t[i], NULL));
		exit(0);
	}
	close(l);
	two_clients(port);
	reap("server", &kid);
}

/* fgets and fprintf on one stream each way, as SMTP and FTP servers did. */
static void stdio_server(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		char line[100];
		int fd = (int)T(accept(l, NULL, NULL));
		FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
		setlinebuf(out);
		while (fgets(line, sizeof line, in)) {
			show("line", line, (long)strlen(line));
			upper(line, (long)strlen(line));
			fprintf(out, "%s", line);
		}
		say("feof %d ferror %d\n", !!feof(in), !!ferror(in));
		T(fclose(out));
		T(fclose(in));
		exit(0);
	}
	close(l);
	one_client(port);
	reap("server", &kid);
}

/* Answers only when it has seen the end of the question: sort, wc, a compiler. */
static void half_close_filter(void)
{
	static char question[300000], answer[300000];
	struct kid kid;
	int port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		int fd = (int)T(accept(l, NULL, NULL));
		long n = T(read_full(fd, answer, sizeof answer));
		ready("server", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
		settle();
		T(read(fd, answer, 1));
		T(write_full(fd, answer, (size_t)n));
		T(close(fd));
		_exit(0);
	}
	close(l);
	int c = dial(port);
	fill(question, sizeof question - 5, 7);
	T(write_full(c, question, sizeof question - 5));
	show("question", question, sizeof question - 5);
	T(shutdown(c, SHUT_WR));
	T(read(c, answer, 0));
	drain("client", c);
	ready("client", c, POLLIN | POLLOUT | POLLRDHUP, 0);
	T(send(c, "x", 1, MSG_NOSIGNAL));
	T(close(c));
	reap("filter", &kid);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"iterative", iterative},
		{"forking", forking},
		{"prefork", prefork},
		{"select_loop", select_loop},
		{"poll_loop", poll_loop},
		{"epoll_level", epoll_level},
		{"epoll_edge", epoll_edge},
		{"epoll_oneshot", epoll_oneshot},
		{"epoll_edge_oneshot", epoll_edge_oneshot},
		{"inetd_cat", inetd_cat},
		{"inetd_sed", inetd_sed},
		{"inetd_sh", inetd_sh},
		{"threaded", threaded},
		{"stdio_server", stdio_server},
		{"half_close_filter", half_close_filter},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
