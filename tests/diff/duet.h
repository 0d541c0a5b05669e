/*
 * What the differential suite's programs share: two processes that play a short script in lock-step over one TCP
 * connection and write down what every call returned.
 *
 * A script is one function that both sides run.  What stands in a CLIENT or SERVER block is done by that side only,
 * and block after block: the other side waits for the end of it (over a Unix socket, never over the connection).
 * let_go() inside a block sets the other side free at once, for calls that block until the other side has moved:
 *
 *	SERVER { let_go(); READ(buf, recv(fd, buf, 5, MSG_WAITALL)); }
 *	CLIENT { rest(); T(send(fd, "hello", 5, 0)); }
 *
 * Nothing written down depends on ports, pids, times or the size of buffers, so two runs write the same, and a run with
 * the library writes the same as one without.  Each script is a cmocka test; a side that cannot go on fails it.
 *
 *	PROGRAM list                                      the scripts
 *	PROGRAM SCRIPT CLIENT SERVER FAMILY OUT           both sides, each "plain", "probe", "wrap" or "armed" (wrap,
 *would reconnect); FAMILY 4 or 6 The library is $LIB; the transcripts are OUT.client and OUT.server, what cmocka says
 *OUT.cmocka.
 */
#ifndef DUET_H
#define DUET_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DUET __attribute__((unused)) static

static bool is_client, is_v6;
static bool small; /* buffers that are soon full */
static bool sham;  /* a wrapped client calls once in vain, for we have no library */
static int out = -1, control = -1, step;
static bool released;

static int fd = -1;       /* the connection */
static int listener = -1; /* the server's */
static int port;
static char buf[1 << 20];

/* Wrong arguments that the compiler does not see through. */
__attribute__((unused)) static void *volatile nowhere, *volatile low_page = (void *)8,
								 *volatile high_page = (void *)-4096;
__attribute__((unused)) static volatile size_t huge = SIZE_MAX / 2, negative = SIZE_MAX;
__attribute__((unused)) static volatile int minus_one = -1;

__attribute__((format(printf, 1, 2))) DUET void say(const char *format, ...)
{
	char line[4096];
	va_list ap;
	int saved = errno, n = snprintf(line, sizeof line, "%03d %c ", step, is_client ? 'c' : 's');

	va_start(ap, format);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2)
		n = (int)sizeof line - 2;
	line[n++] = '\n';
	if (write(out, line, (size_t)n) != n)
		_exit(99);
	errno = saved;
}

DUET long duet_tell(const char *what, long result)
{
	const char *name = errno ? strerrorname_np(errno) : "";
	int saved = errno;

	say("%s = %ld%s%s", what, result, errno ? " " : "", name ? name : "?");
	errno = saved;
	return result;
}

/* Do it and say it; an errno that a successful call left behind is said too. */
#define T(...) duet_tell(#__VA_ARGS__, (errno = 0, (long)(__VA_ARGS__)))

/* Do it; it cannot fail, or the script is over. For the main thread. */
#define MUST(...) duet_must(#__VA_ARGS__, (long)(__VA_ARGS__))
DUET int duet_must(const char *what, long result)
{
	if (result < 0) {
		say("CANNOT GO ON: %s: %s", what, strerrorname_np(errno));
		fail_msg("%s: %s", what, strerror(errno));
	}
	return (int)result;
}

DUET void nap(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* Long enough for some beats to come and lie where the program's bytes lie. */
DUET void rest(void)
{
	nap(170);
}

DUET long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Do it, and say whether it took LOW ms at least and not far longer than HIGH: the machine may be busy. */
#define TIMED(low, high, ...)                               \
	do {                                                \
		long started_ = now_ms();                   \
		__VA_ARGS__;                                \
		duet_timed(now_ms() - started_, low, high); \
	} while (0)
DUET void duet_timed(long passed, long low, long high)
{
	int saved = errno;

	if (passed < low || passed > high + 4000)
		say("  took %ld ms, not %ld to %ld", passed, low, high);
	else
		say("  in time");
	errno = saved;
}

/* FNV-1a, continued from DIGEST (0 to begin). */
DUET uint64_t digest(uint64_t value, const void *data, size_t size)
{
	const unsigned char *p = data;

	if (!value)
		value = 0xcbf29ce484222325u;
	for (size_t i = 0; i < size; i++)
		value = (value ^ p[i]) * 0x100000001b3u;
	return value;
}

/* Bytes of a pattern that shows what is missing, doubled or moved: of position AT on. */
DUET void fill(void *to, size_t size, size_t at)
{
	unsigned char *p = to;

	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(((at + i) * 0x9e3779b97f4a7c15u) >> 56);
}

/* Say bytes: short ones as text, others as a digest. */
DUET void show(const void *data, long size)
{
	char text[4 * 80 + 1] = "";
	const unsigned char *p = data;

	if (size > 80) {
		say("  %ld bytes, digest %016llx", size, (unsigned long long)digest(0, p, (size_t)size));
		return;
	}
	for (long i = 0, n = 0; i < size; i++)
		n += p[i] >= 32 && p[i] < 127 ? sprintf(text + n, "%c", p[i]) : sprintf(text + n, "\\%03o", p[i]);
	say("  \"%s\"", text);
}

/* Do it and say it and what it put into TO; beyond what it says it must not have written. */
#define READ(to, ...) (memset(to, '~', sizeof(to) < 4096 ? sizeof(to) : 4096), duet_read(to, T(__VA_ARGS__)))
DUET long duet_read(const void *to, long result)
{
	int saved = errno;

	if (result > 0)
		show(to, result);
	errno = saved;
	return result;
}

DUET const char *events_name(unsigned e)
{
	static char text[80];

	snprintf(text, sizeof text, "%s%s%s%s%s%s%s", e & POLLIN ? "IN " : "", e & POLLPRI ? "PRI " : "",
		 e & POLLOUT ? "OUT " : "", e & POLLERR ? "ERR " : "", e & POLLHUP ? "HUP " : "",
		 e & POLLNVAL ? "NVAL " : "", e & POLLRDHUP ? "RDHUP " : "");
	return text;
}

/* Poll the connection and say what it is ready for. */
DUET int ready(short events, int timeout)
{
	struct pollfd p = {.fd = fd, .events = events};

	errno = 0;
	int n = poll(&p, 1, timeout);
	say("poll(%x, %d) = %d%s %s", (unsigned)events, timeout, n, n < 0 ? strerrorname_np(errno) : "",
	    events_name((unsigned)p.revents));
	return p.revents;
}

/* Read to the end; say how much and what, and how it ended. */
DUET void drain(void)
{
	uint64_t d = 0;
	long total = 0;
	ssize_t n;

	errno = 0;
	while ((n = read(fd, buf, 16384)) > 0) {
		d = digest(d, buf, (size_t)n);
		total += n;
	}
	say("drained %ld bytes, digest %016llx, then %ld%s%s", total, (unsigned long long)d, (long)n, n < 0 ? " " : "",
	    n < 0 ? strerrorname_np(errno) : "");
}

/* A number from one side to the other; in the order of the script. */
DUET void put_number(long number)
{
	if (write(control, &number, sizeof number) != sizeof number)
		fail_msg("the other side is gone");
}

DUET long get_number(void)
{
	long number;
	ssize_t n;

	do {
		n = recv(control, &number, sizeof number, MSG_WAITALL);
	} while (n < 0 && errno == EINTR);
	if (n != sizeof number) {
		say("CANNOT GO ON: the other side is gone");
		fail_msg("the other side is gone");
	}
	return number;
}

#define TURN (1L << 40)

DUET void let_go(void)
{
	assert_false(released);
	put_number(TURN + step);
	released = true;
}

DUET bool duet_enter(bool client)
{
	step++;
	if (client != is_client) {
		assert_true(get_number() == TURN + step);
		return false;
	}
	released = false;
	return true;
}

DUET bool duet_leave(void)
{
	nap(5); /* what was sent has arrived, on a busy machine too */
	if (!released)
		let_go();
	return false;
}

#define CLIENT for (bool go_ = duet_enter(true); go_; go_ = duet_leave())
#define SERVER for (bool go_ = duet_enter(false); go_; go_ = duet_leave())
#define BOTH   for (bool go_ = duet_both(); go_; go_ = false)

/* Both have come this far. */
DUET bool duet_both(void)
{
	step++;
	put_number(TURN + step);
	assert_true(get_number() == TURN + step);
	return true;
}

struct address {
	struct sockaddr_storage storage;
	socklen_t len;
};
#define SA(a) ((struct sockaddr *)&(a)->storage)

/* The loopback address of the run's family. */
DUET struct address loopback(int number)
{
	struct address a = {.len = is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)};

	if (is_v6) {
		struct sockaddr_in6 six = {.sin6_family = AF_INET6,
					   .sin6_port = htons((uint16_t)number),
					   .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		memcpy(&a.storage, &six, sizeof six);
	} else {
		struct sockaddr_in four = {.sin_family = AF_INET,
					   .sin_port = htons((uint16_t)number),
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		memcpy(&a.storage, &four, sizeof four);
	}
	return a;
}

DUET int tcp_socket(int flags)
{
	return MUST(socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | flags, 0));
}

/* SERVER listens, and both know the port. */
DUET void open_port(void)
{
	if (is_client) {
		port = (int)get_number();
		return;
	}
	struct address a = loopback(0);
	listener = tcp_socket(0);
	if (small) /* the accepted one has it from here */
		MUST(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &(int){8192}, sizeof(int)));
	MUST(bind(listener, SA(&a), a.len));
	MUST(listen(listener, 8));
	MUST(getsockname(listener, SA(&a), &a.len));
	port = ntohs(((struct sockaddr_in *)&a.storage)->sin_port); /* at the same place in both */
	put_number(port);
}

/*
 * A server without the library that is called by a client in wrap mode sees it try once in vain (DESIGN.md section 5):
 * it meets a HELLO, and the client calls again when it has been turned away.
 */
DUET void turn_away(void)
{
	char magic[8];

	if (!sham)
		return;
	int first = MUST(accept(listener, NULL, NULL));
	assert_int_equal(recv(first, magic, sizeof magic, MSG_WAITALL), sizeof magic);
	assert_memory_equal(magic, "\x8bHF\r\n\x1a\n\0", sizeof magic);
	MUST(close(first));
}

DUET int accept_one(void)
{
	turn_away();
	return MUST(accept(listener, NULL, NULL));
}

/*
 * Both are connected, a byte has gone each way and whatever there was to settle is settled.  Without Nagle's algorithm:
 * what is sent has arrived when it is the other side's turn, and does not wait for an acknowledgement.
 */
DUET void link_up(void)
{
	char byte = 0;
	int on = 1;

	open_port();
	if (is_client) {
		struct address a = loopback(port);
		fd = tcp_socket(0);
		if (small)
			MUST(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){8192}, sizeof(int)));
		MUST(connect(fd, SA(&a), a.len));
		assert_int_equal(write(fd, "!", 1), 1);
		assert_int_equal(read(fd, &byte, 1), 1);
	} else {
		fd = accept_one();
		assert_int_equal(read(fd, &byte, 1), 1);
		assert_int_equal(write(fd, "!", 1), 1);
	}
	assert_int_equal(byte, '!');
	MUST(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
	BOTH say("linked");
}

/* The same with buffers that do not grow, and are soon full: for fill_up(). */
DUET void link_up_small(void)
{
	small = true;
	link_up();
}

DUET void nonblocking(bool on)
{
	int flags = MUST(fcntl(fd, F_GETFL));

	MUST(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

DUET void set_int(int level, int name, int value)
{
	MUST(setsockopt(fd, level, name, &value, sizeof value));
}

DUET void set_time(int name, long ms)
{
	struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	MUST(setsockopt(fd, SOL_SOCKET, name, &t, sizeof t));
}

/* SO_ERROR, as a name; reading it takes it away. */
DUET void say_error(void)
{
	int error = -1;
	socklen_t len = sizeof error;

	T(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("  SO_ERROR %s, length %u", error ? strerrorname_np(error) : "0", len);
}

static volatile sig_atomic_t caught;
DUET void on_signal(int number)
{
	(void)number;
	caught++;
}

DUET void catch_signal(int number, int flags)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = flags};

	sigemptyset(&sa.sa_mask);
	MUST(sigaction(number, &sa, NULL));
}

/* SIGALRM to this process in MS, once. */
DUET void alarm_in(long ms)
{
	struct itimerval t = {.it_value = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}};

	MUST(setitimer(ITIMER_REAL, &t, NULL));
}

/*
 * Until the kernel takes nothing more, of whatever size: bytes of the pattern from AT on.  Returns where it stopped.
 * Both kernels' buffers are full then, and stay so until the other side reads.
 */
DUET size_t fill_up(size_t at)
{
	for (int idle = 0; idle < 5;) {
		size_t piece = idle == 0 ? 10007 : 100;
		ssize_t n;

		fill(buf, piece, at);
		n = send(fd, buf, piece, MSG_DONTWAIT);
		if (n > 0) {
			at += (size_t)n;
			idle = 0;
		} else {
			idle++;
			nap(30); /* for what is under way */
		}
	}
	return at;
}

#define SCRIPT(name) static void name(__attribute__((unused)) void **state)

int duet_main(int argc, char **argv, const struct CMUnitTest *tests, size_t count);
#define DUET_MAIN(...)                                                             \
	int main(int argc, char **argv)                                            \
	{                                                                          \
		const struct CMUnitTest tests[] = {__VA_ARGS__};                   \
		return duet_main(argc, argv, tests, sizeof tests / sizeof *tests); \
	}
#define PLAY(name) cmocka_unit_test(name)

#include "duet_main.h"
#endif
