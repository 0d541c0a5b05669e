/*
 * One end of a stream of known bytes: what it sends when, what it must get, and one read or write of it.
 * No lock: with two threads one has the in half, the other the out half.
 */
#ifndef HOLDFAST_TESTS_STEADY_H
#define HOLDFAST_TESTS_STEADY_H

#include "labutil.h"

#include <stdbool.h>
#include <poll.h>

/* How one side sends until it is over; then it ends its direction and reads what is left of the other. */
enum kind {
	NOTHING, /* ends its direction at once */
	QUIET,   /* 16 bytes, silence, 16 bytes */
	HUSH,    /* the same, the second 16 when the other side has ended */
	TRICKLE, /* a little every 50 ms */
	PACED,   /* pieces at a rate that the machine bears many times */
	FLOOD,   /* as fast as it goes, 256 KiB a write, to a peer that reads slowly: always inside a frame */
	CUT,     /* the same, and when it is over it leaves a write unfinished */
	ASK,     /* a request, and the next when it has been answered */
	ANSWER,  /* as much as has come */
};

static const struct pattern {
	const char *name;
	enum kind client, server;
} patterns[] = {
	{"idle", QUIET, QUIET},    {"down", HUSH, PACED},      {"up", PACED, HUSH},         {"both", PACED, PACED},
	{"ask", ASK, ANSWER},      {"half", NOTHING, TRICKLE}, {"half-up", PACED, NOTHING}, {"frame-down", HUSH, FLOOD},
	{"frame-up", FLOOD, HUSH}, {"cut", HUSH, CUT},
};
enum { PATTERNS = sizeof patterns / sizeof patterns[0] };

/* What the client says first: everything else of the connection is the streams. */
struct order {
	uint16_t id;
	uint16_t pattern;
};

enum { PIECE = 262144, SIP = 20000, SIP_MS = 10, TICK_MS = 10, TICK_BYTES = 8000, DRIP_MS = 50, DRIP_BYTES = 700 };

struct stream {
	int fd;
	bool server, slow, in_closed, out_closed, failed;
	struct order order;
	enum kind kind;
	long long began, read_at, asked_at;
	uint64_t sent, received;
	long gap;      /* ms: the longest time between two reads that brought something, or until an answer */
	long spurious; /* how often it was told ready and was not */
	int can;       /* POLLIN, POLLOUT: not known to be used up */
	struct sockaddr_storage local, peer;
};

static inline void failed(struct stream *s, const char *what)
{
	if (!s->failed)
		say("failed %u %s %s: %s (%s) sent %" PRIu64 " got %" PRIu64 "\n", s->order.id,
		    s->server ? "server" : "client", patterns[s->order.pattern].name, what, error_name(errno), s->sent,
		    s->received);
	s->failed = true;
}

static inline unsigned char steady_byte(const struct stream *s, bool to_client, uint64_t at)
{
	uint64_t x = (at + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)s->order.id << 33 ^ to_client;

	return (unsigned char)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 56);
}

static const char *over_file; /* once it exists, all is over */

static inline bool over(void)
{
	static _Atomic bool known;
	static _Atomic long long looked;
	long long now = now_ms();

	if (!known && (now - looked > 20 || now < looked)) {
		looked = now;
		known = access(over_file, F_OK) == 0;
	}
	return known;
}

/* Up to where it may send now. */
static inline uint64_t allowed(const struct stream *s)
{
	uint64_t elapsed = (uint64_t)(now_ms() - s->began);

	switch (s->kind) {
	case QUIET:
		return over() ? 32 : 16;
	case HUSH:
		return s->in_closed ? 32 : 16;
	case TRICKLE:
		return (elapsed / DRIP_MS + 1) * DRIP_BYTES;
	case PACED:
		return (elapsed / TICK_MS + 1) * TICK_BYTES;
	case FLOOD:
		return s->sent % PIECE == 0 && over() ? s->sent : (s->sent / PIECE + 1) * PIECE;
	case CUT:
		return over() ? s->sent : (s->sent / PIECE + 1) * PIECE;
	case ASK:
		return s->sent == s->received && !over() ? s->sent + 1 + s->sent * 7919 % 3000 : s->sent;
	case ANSWER:
		return s->received;
	default:
		return 0;
	}
}

static inline bool all_sent(const struct stream *s)
{
	switch (s->kind) {
	case NOTHING:
		return true;
	case QUIET:
	case HUSH:
		return s->sent == 32;
	case ANSWER:
		return s->in_closed && s->sent == s->received;
	case ASK:
		return over() && s->sent == s->received;
	case FLOOD:
		return over() && s->sent % PIECE == 0;
	default:
		return over();
	}
}

/* How long a wait that nothing ends may last, ms; -1: for ever, as most programs do. */
static inline int patience(const struct stream *s)
{
	int ms = -1;

	if (s->kind == PACED)
		ms = TICK_MS;
	else if (s->kind == TRICKLE || s->kind == QUIET)
		ms = DRIP_MS;
	if (s->out_closed)
		ms = -1;
	else if (all_sent(s))
		ms = 0; /* it was over just now */
	else if (allowed(s) > s->sent)
		ms = s->can & POLLOUT ? 0 : -1;
	if (s->slow && !s->in_closed && (ms < 0 || ms > SIP_MS))
		ms = SIP_MS;
	return ms;
}

/* One read. 1: something came, 0: not now, -1: end or failure. */
static inline int stream_read(struct stream *s, int flags)
{
	static _Thread_local unsigned char buf[65536];
	ssize_t n = recv(s->fd, buf, s->slow ? SIP : sizeof buf, flags);
	long long now = now_ms();

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return failed(s, "read"), -1;
	if (n == 0)
		return s->in_closed = true, -1;
	for (ssize_t i = 0; i < n; i++)
		if (buf[i] != steady_byte(s, !s->server, s->received + (uint64_t)i)) {
			errno = 0;
			return failed(s, "wrong byte"), -1;
		}
	s->received += (uint64_t)n;
	if (now - s->read_at > s->gap)
		s->gap = (long)(now - s->read_at);
	s->read_at = now;
	if (s->kind == ASK && s->received == s->sent)
		nap_ms(2); /* or it would have the machine to itself */
	return 1;
}

/* One write. 1: something went, 0: not now, -1: failure. */
static inline int stream_write(struct stream *s, int flags)
{
	/* So much thread-local storage that a stray errno on the library's own thread, which has next to none
	 * (watch/thread.h), ends the program. */
	static _Thread_local unsigned char buf[PIECE];
	uint64_t size = allowed(s) - s->sent;
	ssize_t n;

	if (size == 0)
		return 1; /* it was over just now */
	size = size < sizeof buf ? size : sizeof buf;
	for (uint64_t i = 0; i < size; i++)
		buf[i] = steady_byte(s, s->server, s->sent + i);
	n = send(s->fd, buf, size, flags | MSG_NOSIGNAL);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return failed(s, "write"), -1;
	if (s->kind == ASK)
		s->read_at = now_ms();
	s->sent += (uint64_t)n;
	return 1;
}

static inline void ask_addresses(struct stream *s, struct sockaddr_storage *local, struct sockaddr_storage *peer)
{
	socklen_t len = sizeof *local;

	memset(local, 0, sizeof *local);
	memset(peer, 0, sizeof *peer);
	if (getsockname(s->fd, (struct sockaddr *)local, &len) < 0)
		failed(s, "getsockname");
	len = sizeof *peer;
	if (getpeername(s->fd, (struct sockaddr *)peer, &len) < 0)
		failed(s, "getpeername");
}

/* Once both directions have ended, the kernel may know no peer any more. */
static inline void same_addresses(struct stream *s)
{
	struct sockaddr_storage local, peer;

	ask_addresses(s, &local, &peer);
	errno = 0;
	if (memcmp(&local, &s->local, sizeof local))
		failed(s, "getsockname gives another address");
	if (memcmp(&peer, &s->peer, sizeof peer))
		failed(s, "getpeername gives another address");
}

static inline void end_out(struct stream *s)
{
	same_addresses(s);
	if (!s->failed && shutdown(s->fd, SHUT_WR) < 0)
		failed(s, "shutdown");
	s->out_closed = true;
}

static inline bool is_over(const struct stream *s)
{
	return s->failed || (s->in_closed && s->out_closed);
}

static inline void stream_begin(struct stream *s, int fd, bool server, const struct order *order)
{
	const struct pattern *pattern = &patterns[order->pattern];
	enum kind other = server ? pattern->client : pattern->server;
	int small = 8192, modest = 65536;

	*s = (struct stream){.fd = fd, .server = server, .order = *order};
	s->kind = server ? pattern->server : pattern->client;
	s->slow = other == FLOOD || other == CUT;
	s->began = s->read_at = now_ms();
	if (s->slow)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	if (s->kind == FLOOD || s->kind == CUT)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &modest, sizeof modest);
	ask_addresses(s, &s->local, &s->peer);
}

static inline void stream_end(struct stream *s)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (!s->failed && (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || (errno = error) != 0))
		failed(s, "SO_ERROR");
	if (close(s->fd) < 0)
		failed(s, "close");
	if (!s->failed)
		say("done %u %s sent %" PRIu64 " got %" PRIu64 " gap %ld spurious %ld\n", s->order.id,
		    patterns[s->order.pattern].name, s->sent, s->received, s->gap, s->spurious);
}

#endif
