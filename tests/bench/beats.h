/*
 * What a program without the library does that watches its connections itself: messages with a header of type and
 * length, a beat when it has sent nothing for an interval, and the peer given up when nothing came for a timeout of
 * three intervals.
 *
 * As a careful program does it: header and payload leave in one call and are read in one, into a buffer from which the
 * payload is used where it lies; poll(2) with a time limit comes before each read(2), but not while the buffer has
 * something; a write that takes longer than the timeout ends; who only writes looks for beats now and then.
 *
 * A struct beats belongs to one thread.  Called by net.c (BENCH_BEATS) and beats.c.
 */
#ifndef HOLDFAST_BENCH_BEATS_H
#define HOLDFAST_BENCH_BEATS_H

#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <sys/time.h>
#include <sys/uio.h>

enum beats_type { BEATS_DATA = 1, BEATS_BEAT };

struct beats_header {
	uint32_t type, length; /* of the payload; both in network order */
};

struct beats {
	int fd;
	uint64_t interval, timeout;   /* ns */
	uint64_t sent, heard, looked; /* when last; CLOCK_MONOTONIC, ns */
	uint32_t left;                /* of the payload that has begun */
	size_t at, end;               /* what has come and was not taken yet: in[at] up to in[end] */
	char in[65536];
};

static inline void beats_begin(struct beats *b, int fd, uint64_t interval_ms)
{
	struct timeval longest = {.tv_sec = (time_t)(3 * interval_ms / 1000),
				  .tv_usec = (suseconds_t)(3 * interval_ms % 1000 * 1000)};

	b->fd = fd;
	b->interval = interval_ms * 1000000;
	b->timeout = 3 * b->interval;
	b->sent = b->heard = b->looked = now_ns();
	b->left = 0;
	b->at = b->end = 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof(longest));
}

/* One message.  False and errno: the connection is over. */
static inline bool beats_post(struct beats *b, enum beats_type type, char *data, size_t size)
{
	struct beats_header header = {htonl(type), htonl((uint32_t)size)};
	struct iovec iov[2] = {{&header, sizeof(header)}, {data, size}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = size > 0 ? 2 : 1};

	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(b->fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			errno = errno == EAGAIN ? ETIMEDOUT : errno; /* SO_SNDTIMEO */
			return false;
		}
		for (; msg.msg_iovlen > 0 && (size_t)n >= msg.msg_iov->iov_len; msg.msg_iov++, msg.msg_iovlen--)
			n -= (ssize_t)msg.msg_iov->iov_len;
		if (msg.msg_iovlen > 0) {
			msg.msg_iov->iov_base = (char *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
	b->sent = now_ns();
	return true;
}

/* Read what is there.  As recv(2). */
static inline ssize_t beats_read(struct beats *b, int flags)
{
	ssize_t n;

	memmove(b->in, b->in + b->at, b->end - b->at); /* a header's beginning at most, but in beats_send() */
	b->end -= b->at;
	b->at = 0;
	n = recv(b->fd, b->in + b->end, sizeof(b->in) - b->end, flags);
	if (n > 0) {
		b->end += (size_t)n;
		b->heard = now_ns();
	}
	return n;
}

/* A message of SIZE bytes.  Who only writes must hear all the same: what is there already is read, to be taken later.
 */
static inline bool beats_send(struct beats *b, char *data, size_t size)
{
	if (!beats_post(b, BEATS_DATA, data, size))
		return false;
	if (b->sent - b->heard < b->interval || b->sent - b->looked < b->interval / 4)
		return true;
	b->looked = b->sent;
	if (b->end - b->at == sizeof(b->in) || beats_read(b, MSG_DONTWAIT) >= 0)
		return true;
	if (errno == EAGAIN && b->sent - b->heard >= b->timeout)
		errno = ETIMEDOUT;
	return errno == EAGAIN;
}

/* Wait until there is something to read, beating meanwhile. */
static inline bool beats_wait(struct beats *b, uint64_t until)
{
	struct pollfd p = {.fd = b->fd, .events = POLLIN};

	for (;;) {
		uint64_t now = now_ns(), next;
		int ready;

		if (now - b->sent >= b->interval && !beats_post(b, BEATS_BEAT, NULL, 0))
			return false;
		next = b->sent + b->interval;
		next = b->heard + b->timeout < next ? b->heard + b->timeout : next;
		next = until != 0 && until < next ? until : next;
		ready = poll(&p, 1, next > now ? (int)((next - now) / 1000000) + 1 : 0);
		if (ready > 0)
			return true;
		if (ready < 0 && errno != EINTR)
			return false;
		now = now_ns();
		if (now - b->heard >= b->timeout)
			errno = ETIMEDOUT;
		else if (until != 0 && now >= until)
			errno = EAGAIN;
		else
			continue;
		return false;
	}
}

/*
 * The next piece of a message's payload, *DATA until the next call: its size, or 0 at end of file, or -1 and errno:
 * ETIMEDOUT for a peer given up, EAGAIN at the time UNTIL (0: none).
 */
static inline ssize_t beats_take(struct beats *b, char **data, uint64_t until)
{
	for (;;) {
		size_t have = b->end - b->at;

		if (b->left > 0 && have > 0) {
			size_t size = have < b->left ? have : b->left;

			*data = b->in + b->at;
			b->at += size;
			b->left -= (uint32_t)size;
			return (ssize_t)size;
		}
		if (b->left == 0 && have >= sizeof(struct beats_header)) {
			struct beats_header header;

			memcpy(&header, b->in + b->at, sizeof(header));
			b->at += sizeof(header);
			b->left = ntohl(header.length);
			if (ntohl(header.type) != (b->left > 0 ? BEATS_DATA : BEATS_BEAT)) {
				errno = EPROTO;
				return -1;
			}
			continue;
		}
		if (!beats_wait(b, until))
			return -1;
		ssize_t n = beats_read(b, 0);

		if (n <= 0)
			return n;
	}
}

#endif
