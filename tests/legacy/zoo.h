/*
 * What the zoo's programs share: a transcript, loopback connections, children.
 *
 * Each zoo_*.c is one plain program with a subcommand for each behaviour, written the way old programs are: no
 * library but libc, blocking calls, helpers that give up with a message.  A behaviour says every return value, errno
 * and byte it sees; nothing said depends on pids, ports, addresses, times or segment boundaries, so that two runs
 * say the same, with or without a preloaded library.  `zoo_x list` lists the behaviours.
 *
 * The transcript goes to zoo_out with single write(2) calls: no stdio buffer to be doubled by fork.
 */
#ifndef ZOO_H
#define ZOO_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ZOO __attribute__((unused)) static

/* Since glibc 2.32. */
#if !__GLIBC_PREREQ(2, 32)
#define strerrorname_np strerror
#define sigabbrev_np    strsignal
#endif

/* Since glibc 2.34, and headers of Linux 5.11. */
#if !__GLIBC_PREREQ(2, 34)
#define SYS_close_range 436
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
ZOO int close_range(unsigned first, unsigned last, int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

ZOO void closefrom(int first)
{
	close_range((unsigned)first, ~0U, 0);
}
#endif

static int zoo_out = 1;

__attribute__((format(printf, 1, 2))) ZOO void say(const char *format, ...)
{
	char line[4096];
	va_list ap;
	int saved = errno;

	va_start(ap, format);
	int n = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	if (n > 0 && write(zoo_out, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1) < 0)
		_exit(99);
	errno = saved;
}

ZOO long zoo_tell(const char *what, long result)
{
	const char *name = errno ? strerrorname_np(errno) : "";
	int saved = errno;

	say("%s = %ld%s%s\n", what, result, errno ? " " : "", name ? name : "?");
	errno = saved;
	return result;
}

/* Do it and say it; an errno that a successful call left behind is said too. */
#define T(call) zoo_tell(#call, (errno = 0, (long)(call)))

ZOO void give_up(const char *what)
{
	say("GIVE UP: %s: %s\n", what, strerror(errno));
	_exit(98);
}

/* Do it; it cannot fail, or the behaviour is over. */
#define MUST(call) zoo_must(#call, (long)(call))
ZOO int zoo_must(const char *what, long result)
{
	if (result < 0)
		give_up(what);
	return (int)result;
}

ZOO void nap(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* Long enough for a watcher with an interval of 100 ms to have looked at every connection there is. */
ZOO void settle(void)
{
	nap(350);
}

ZOO long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* FNV-1a, continued from DIGEST (0 to begin). */
ZOO uint64_t digest(uint64_t value, const void *data, size_t size)
{
	const unsigned char *p = data;

	if (!value)
		value = 0xcbf29ce484222325u;
	for (size_t i = 0; i < size; i++)
		value = (value ^ p[i]) * 0x100000001b3u;
	return value;
}

ZOO void fill(char *buf, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1103515245u + 12345u;
		buf[i] = (char)(seed >> 16);
	}
}

/* Say bytes: short ones as text, others as a digest. */
ZOO void show(const char *name, const void *data, long size)
{
	char text[4 * 80 + 1] = "";
	const unsigned char *p = data;

	if (size > 80) {
		say("%s: %ld bytes, digest %016llx\n", name, size, (unsigned long long)digest(0, p, (size_t)size));
		return;
	}
	for (long i = 0, n = 0; i < size; i++)
		n += p[i] >= 32 && p[i] < 127 ? sprintf(text + n, "%c", p[i]) : sprintf(text + n, "\\%03o", p[i]);
	say("%s: \"%s\"\n", name, text);
}

ZOO const char *events_name(short e)
{
	static _Thread_local char text[80];

	snprintf(text, sizeof text, "%s%s%s%s%s%s%s", e & POLLIN ? "IN " : "", e & POLLPRI ? "PRI " : "",
		 e & POLLOUT ? "OUT " : "", e & POLLERR ? "ERR " : "", e & POLLHUP ? "HUP " : "",
		 e & POLLNVAL ? "NVAL " : "", e & POLLRDHUP ? "RDHUP " : "");
	return text;
}

/* Poll one descriptor for everything there is to see and say it. */
ZOO int ready(const char *name, int fd, short events, int timeout)
{
	struct pollfd p = {.fd = fd, .events = events};

	errno = 0;
	int n = poll(&p, 1, timeout);
	say("poll %s = %d%s %s\n", name, n, n < 0 ? strerrorname_np(errno) : "", events_name(p.revents));
	return p.revents;
}

ZOO struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

#define SA(p) ((struct sockaddr *)(p))

/* A listening socket on a free port of 127.0.0.1. */
ZOO int listen_any(int *port)
{
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof a;
	int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));

	MUST(bind(fd, SA(&a), sizeof a));
	MUST(listen(fd, 16));
	MUST(getsockname(fd, SA(&a), &len));
	*port = ntohs(a.sin_port);
	return fd;
}

ZOO int dial(int port)
{
	struct sockaddr_in a = loopback(port);
	int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));

	MUST(connect(fd, SA(&a), sizeof a));
	return fd;
}

/* Two connected TCP sockets: [0] connected, [1] was accepted. */
ZOO void pair(int fd[2])
{
	int port, l = listen_any(&port);

	fd[0] = dial(port);
	fd[1] = MUST(accept(l, NULL, NULL));
	MUST(close(l));
}

ZOO long read_full(int fd, void *buf, size_t size)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = read(fd, (char *)buf + got, size - got);
		if (n <= 0)
			return got ? (long)got : (long)n;
		got += (size_t)n;
	}
	return (long)got;
}

ZOO long write_full(int fd, const void *buf, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = write(fd, (const char *)buf + done, size - done);
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return (long)done;
}

/* Read to the end; say how much and what. */
ZOO void drain(const char *name, int fd)
{
	char buf[16384];
	uint64_t d = 0;
	long total = 0;
	ssize_t n;

	errno = 0;
	while ((n = read(fd, buf, sizeof buf)) > 0) {
		d = digest(d, buf, (size_t)n);
		total += n;
	}
	say("%s: drained %ld bytes, digest %016llx, then %ld%s%s\n", name, total, (unsigned long long)d, (long)n,
	    n < 0 ? " " : "", n < 0 ? strerrorname_np(errno) : "");
}

/* A child whose transcript is kept in a pipe until reap(): the parent's order of saying things holds. */
struct kid {
	pid_t pid;
	int pipe;
};

/* Returns true in the child, which ends with _exit or exit. */
ZOO bool spawn_kid(struct kid *kid)
{
	int p[2];

	MUST(pipe(p));
	kid->pid = (pid_t)MUST(fork());
	if (kid->pid == 0) {
		close(p[0]);
		/* High and out of the way of the numbers that behaviours talk about. */
		zoo_out = MUST(fcntl(p[1], F_DUPFD_CLOEXEC, 90));
		close(p[1]);
		return true;
	}
	close(p[1]);
	kid->pipe = p[0];
	return false;
}

ZOO void say_status(const char *name, int status)
{
	if (WIFSIGNALED(status))
		say("%s: killed by SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));
	else
		say("%s: exit %d\n", name, WEXITSTATUS(status));
}

ZOO void reap(const char *name, struct kid *kid)
{
	char buf[65536];
	long n = read_full(kid->pipe, buf, sizeof buf - 1);
	int status;

	close(kid->pipe);
	buf[n > 0 ? n : 0] = 0;
	for (char *save, *line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		say("  %s| %s\n", name, line);
	MUST(waitpid(kid->pid, &status, 0));
	say_status(name, status);
}

struct behaviour {
	const char *name;
	void (*run)(void);
};

static char **zoo_argv;

ZOO int zoo_main(int argc, char **argv, const struct behaviour *all)
{
	zoo_argv = argv;
	alarm(40); /* whatever happens, it ends */
	for (; all->name; all++) {
		if (argc == 2 && !strcmp(argv[1], "list")) {
			puts(all->name);
		} else if (argc >= 2 && !strcmp(argv[1], all->name)) {
			all->run();
			say("end of %s\n", all->name);
			return 0;
		}
	}
	return argc == 2 && !strcmp(argv[1], "list") ? 0 : 2;
}

#endif
