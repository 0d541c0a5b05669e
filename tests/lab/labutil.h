/*
 * What the lab's client and server share: a byte pattern both can make and check, and one-line reports.
 * No lock: a struct tally belongs to one thread.
 */
#ifndef HOLDFAST_LABUTIL_H
#define HOLDFAST_LABUTIL_H

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Bytes seen so far and their FNV-1a hash. */
struct tally {
	uint64_t bytes, hash;
};

#define TALLY_INIT                                \
	{                                         \
		0, UINT64_C(14695981039346656037) \
	}

static inline void tally_add(struct tally *tally, const unsigned char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		tally->hash = (tally->hash ^ data[i]) * UINT64_C(1099511628211);
	tally->bytes += size;
}

/* The bytes of every stream in the lab, from OFFSET on: no short period, so a lost or repeated piece shows. */
static inline void pattern_fill(unsigned char *data, size_t size, uint64_t offset)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)(((offset + i) * UINT64_C(0x9E3779B97F4A7C15)) >> 41);
}

/* Milliseconds of the clock that bash's EPOCHREALTIME shows. */
static inline long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void nap_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* One line on standard output in one write, so that lines of several threads do not mix. */
__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
	char line[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (length > 0 && write(STDOUT_FILENO, line, (size_t)length) < 0)
		_exit(3);
}

static inline const char *error_name(int error)
{
	static const struct {
		int error;
		const char *name;
	} names[] = {{0, "OK"},
		     {EAGAIN, "EAGAIN"},
		     {EBADF, "EBADF"},
		     {ECONNABORTED, "ECONNABORTED"},
		     {ECONNREFUSED, "ECONNREFUSED"},
		     {ECONNRESET, "ECONNRESET"},
		     {EHOSTUNREACH, "EHOSTUNREACH"},
		     {EINPROGRESS, "EINPROGRESS"},
		     {EINTR, "EINTR"},
		     {EINVAL, "EINVAL"},
		     {EISCONN, "EISCONN"},
		     {EIO, "EIO"},
		     {ENETDOWN, "ENETDOWN"},
		     {ENETUNREACH, "ENETUNREACH"},
		     {ENOTCONN, "ENOTCONN"},
		     {EPIPE, "EPIPE"},
		     {EPROTO, "EPROTO"},
		     {ETIMEDOUT, "ETIMEDOUT"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].error == error)
			return names[i].name;
	return "E?";
}

/* Wait until FILE exists: how the test says "now". Nothing to wait for when FILE is NULL. */
static inline void await_file(const char *file)
{
	while (file && access(file, F_OK) < 0)
		nap_ms(5);
}

/* The keepalive settings and TCP_USER_TIMEOUT (ms) that getsockopt shows here. */
static inline void tell_options(const char *who, int fd)
{
	static const int names[][2] = {{SOL_SOCKET, SO_KEEPALIVE},
				       {IPPROTO_TCP, TCP_KEEPIDLE},
				       {IPPROTO_TCP, TCP_KEEPINTVL},
				       {IPPROTO_TCP, TCP_KEEPCNT},
				       {IPPROTO_TCP, TCP_USER_TIMEOUT}};
	int v[5] = {-1, -1, -1, -1, -1};

	for (int i = 0; i < 5; i++) {
		socklen_t size = sizeof(v[i]);

		(void)getsockopt(fd, names[i][0], names[i][1], &v[i], &size);
	}
	say("%s keepalive=%d,%d,%d,%d user_timeout=%d\n", who, v[0], v[1], v[2], v[3], v[4]);
}

/* A program that cannot do its part says why and ends with status 2. */
static inline void give_up(const char *what)
{
	say("failed %s %s\n", what, error_name(errno));
	exit(2);
}

#endif
