/*
 * Two processes, many connections, every style of input and output at random: each byte of each direction is checked
 * against what it must be.
 *   wrap_stress serve SEED COUNT        prints the port, then serves COUNT connections
 *   wrap_stress dial SEED COUNT PORT    the other side
 * Both derive from SEED how much goes each way; each chooses its own style.  Exit 0 and a line of figures, or the
 * first thing that went wrong, with seed and connection.
 */
#include "zoo.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>

enum { STUCK_MS = 8000, LANES = 12, MOST = 70000 };
enum style { THREADS, POLL, SELECT, LEVEL, EDGE, ONESHOT, POLL_BLOCKING, STYLES };
static const char *const names[] = {"threads", "poll", "select", "epoll", "edge", "oneshot", "poll-blocking"};

static unsigned seed, count;
static bool server;
static int listener, port;
static unsigned next_conn; /* under lock, with accept or connect */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long total_bytes;

struct conn {
	int fd, ep;
	unsigned id, random_in, random_out;
	enum style style;
	size_t out, in, sent, received;
	bool out_closed, in_closed, close_early, napping;
};

static unsigned roll(unsigned *state, unsigned below)
{
	*state = *state * 1664525u + 1013904223u;
	return (unsigned)(((uint64_t)(*state >> 8) * below) >> 24);
}

static void fail(const struct conn *c, const char *what, long a, long b)
{
	static atomic_flag failed = ATOMIC_FLAG_INIT;
	struct timespec now;

	/* Of one process the first: what follows, follows from its end. */
	while (atomic_flag_test_and_set(&failed))
		pause();
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("# %ld.%03ld seed %u connection %u %s %s: %s (%ld, %ld; errno %s) sent %zu/%zu received %zu/%zu\n",
	       (long)now.tv_sec, now.tv_nsec / 1000000, seed, c->id, server ? "server" : "client", names[c->style],
	       what, a, b, strerrorname_np(errno), c->sent, c->out, c->received, c->in);
	fflush(stdout);
	_exit(1);
}

/* The byte at AT of what the server (TO_CLIENT) or the client sends on connection ID. */
static unsigned char byte_at(unsigned id, bool to_client, size_t at)
{
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)id << 33 ^ (uint64_t)seed << 1 ^ to_client;

	return (unsigned char)((x ^ x >> 29) * 0xbf58476d1ce4e5b9u >> 56);
}

static void check(struct conn *c, const unsigned char *buf, size_t n, size_t from)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != byte_at(c->id, !server, from + i))
			fail(c, "wrong byte at", (long)(from + i), buf[i]);
}

static void maybe_nap(unsigned *r)
{
	if (roll(r, 60) == 0)
		nap((long)roll(r, 130));
}

static size_t size_of(unsigned *r)
{
	switch (roll(r, 4)) {
	case 0:
		return 1 + roll(r, 20);
	case 1:
		return 1 + roll(r, 1500);
	case 2:
		return 1 + roll(r, 9000);
	default:
		return 1 + roll(r, MOST);
	}
}

/* One read or peek. 1: bytes; 0: nothing now; -1: end. */
static int do_read(struct conn *c, unsigned char *buf, int flags)
{
	unsigned *r = &c->random_in;
	size_t n = size_of(r), half = n / 2;
	struct iovec io[2] = {{buf, half}, {buf + half, n - half}};
	struct msghdr m = {.msg_iov = io, .msg_iovlen = 2};
	ssize_t got;
	int pending = -1;

	if (roll(r, 8) == 0) {
		if (ioctl(c->fd, FIONREAD, &pending) < 0 || pending < 0 || (size_t)pending > c->in - c->received)
			fail(c, "FIONREAD", pending, (long)(c->in - c->received));
	}
	if (roll(r, 6) == 0) {
		got = recv(c->fd, buf, n, flags | MSG_PEEK);
		if (got > 0) {
			check(c, buf, (size_t)got, c->received);
			if (pending > 0 && (size_t)got < n && got < pending)
				fail(c, "peek shorter than FIONREAD said", got, pending);
		}
		if (got == 0 && c->received != c->in)
			fail(c, "end seen by peek too early", 0, 0);
	}
	if (!flags && roll(r, 5) == 0 && n <= c->in - c->received)
		got = recv(c->fd, buf, n, MSG_WAITALL);
	else if (roll(r, 3) == 0)
		got = recvmsg(c->fd, &m, flags);
	else if (flags || roll(r, 2) == 0)
		got = recv(c->fd, buf, n, flags);
	else
		got = roll(r, 2) ? read(c->fd, buf, n) : readv(c->fd, io, 2);
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got < 0)
		fail(c, "read", got, 0);
	if (got == 0) {
		if (c->received != c->in)
			fail(c, "end too early", 0, 0);
		c->in_closed = true;
		return -1;
	}
	check(c, buf, (size_t)got, c->received);
	c->received += (size_t)got;
	if (c->received > c->in)
		fail(c, "too many bytes", 0, 0);
	return 1;
}

/* One write, or the end. 1: went on; 0: full. */
static int do_write(struct conn *c, unsigned char *buf, int flags)
{
	unsigned *r = &c->random_out;
	size_t n = size_of(r), third;
	struct iovec io[3];
	struct msghdr m = {.msg_iov = io, .msg_iovlen = 3};
	ssize_t put;

	if (c->sent == c->out) {
		if (!c->close_early && shutdown(c->fd, SHUT_WR) < 0)
			fail(c, "shutdown", 0, 0);
		c->out_closed = true;
		return 1;
	}
	if (n > c->out - c->sent)
		n = c->out - c->sent;
	third = n / 3;
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(c->id, server, c->sent + i);
	io[0] = (struct iovec){buf, third};
	io[1] = (struct iovec){buf + third, third};
	io[2] = (struct iovec){buf + 2 * third, n - 2 * third};
	switch (roll(r, 4)) {
	case 0:
		put = sendmsg(c->fd, &m, flags | MSG_NOSIGNAL);
		break;
	case 1:
		put = flags ? send(c->fd, buf, n, flags) : writev(c->fd, io, 3);
		break;
	case 2:
		put = send(c->fd, buf, n, flags | (n < c->out - c->sent && roll(r, 2) ? MSG_MORE : 0));
		break;
	default:
		put = flags ? send(c->fd, buf, n, flags) : write(c->fd, buf, n);
	}
	if (put < 0 && errno == EAGAIN)
		return 0;
	if (put <= 0)
		fail(c, "write", put, (long)n);
	c->sent += (size_t)put;
	return 1;
}

static void *write_all(void *arg)
{
	struct conn *c = arg;
	unsigned char *buf = malloc(MOST);

	while (!c->out_closed) {
		do_write(c, buf, 0);
		maybe_nap(&c->random_out);
	}
	free(buf);
	return NULL;
}

/* Wait until something can be done. Returns POLLIN and POLLOUT. */
static int wait_for(struct conn *c, bool want_in, bool want_out)
{
	short events = (short)((want_in ? POLLIN : 0) | (want_out ? POLLOUT : 0));
	struct pollfd p = {.fd = c->fd, .events = events};
	struct epoll_event e = {.events = (uint32_t)events, .data.u64 = c->id * 7919ull << 20};
	struct timeval tv = {.tv_sec = STUCK_MS / 1000};
	fd_set in, out;
	int n;

	switch (c->style) {
	case SELECT:
		FD_ZERO(&in);
		FD_ZERO(&out);
		if (want_in)
			FD_SET(c->fd, &in);
		if (want_out)
			FD_SET(c->fd, &out);
		n = select(c->fd + 1, &in, &out, NULL, &tv);
		p.revents = (short)((FD_ISSET(c->fd, &in) ? POLLIN : 0) | (FD_ISSET(c->fd, &out) ? POLLOUT : 0));
		break;
	case LEVEL:
	case ONESHOT:
		e.events |= c->style == ONESHOT ? EPOLLONESHOT : 0;
		if (epoll_ctl(c->ep, EPOLL_CTL_MOD, c->fd, &e) < 0)
			fail(c, "epoll_ctl", 0, 0);
		n = epoll_wait(c->ep, &e, 1, STUCK_MS);
		p.revents = (short)e.events;
		break;
	case EDGE:
		n = epoll_wait(c->ep, &e, 1, STUCK_MS);
		p.revents = (short)(e.events & 0x3fff);
		break;
	default:
		n = poll(&p, 1, STUCK_MS);
	}
	if (n <= 0)
		fail(c, "stuck", n, events);
	return p.revents & (POLLHUP | POLLERR) ? POLLIN | POLLOUT : p.revents;
}

static void event_loop(struct conn *c, unsigned char *buf)
{
	int flags = MSG_DONTWAIT, can = POLLIN | POLLOUT;

	if (c->style == EDGE || c->style == LEVEL || c->style == ONESHOT) {
		struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.u64 = c->id * 7919ull << 20};

		e.events |= c->style == EDGE ? EPOLLET : 0;
		c->ep = MUST(epoll_create1(0));
		MUST(epoll_ctl(c->ep, EPOLL_CTL_ADD, c->fd, &e));
	}
	if (c->style != POLL_BLOCKING)
		MUST(fcntl(c->fd, F_SETFL, O_NONBLOCK));
	can = c->style == EDGE ? can : 0;
	while (!c->in_closed || !c->out_closed) {
		bool told = false;

		if (!(can & (c->in_closed ? 0 : POLLIN)) && !(can & (c->out_closed ? 0 : POLLOUT))) {
			can |= wait_for(c, !c->in_closed, !c->out_closed);
			told = true;
		}
		/* Readiness that turns out to be none would hang a blocking program. */
		if (!c->in_closed && can & POLLIN && do_read(c, buf, flags) == 0) {
			if (told && c->style != EDGE)
				fail(c, "told readable, is not", can, 0);
			can &= ~POLLIN;
		}
		if (!c->out_closed && can & POLLOUT && do_write(c, buf, flags) == 0)
			can &= ~POLLOUT;
		if (c->style != EDGE)
			can = 0;
		maybe_nap(&c->random_in);
	}
	if (c->ep > 0)
		close(c->ep);
}

static void one(struct conn *c)
{
	unsigned plan = seed * 2654435761u + c->id * 40503u, mine;
	size_t to_client, to_server;
	unsigned char *buf = malloc(MOST);

	for (int i = 0; i < 4; i++)
		roll(&plan, 2);
	to_client = roll(&plan, 5) ? roll(&plan, 300000) : roll(&plan, 3);
	to_server = roll(&plan, 5) ? roll(&plan, 300000) : roll(&plan, 3);
	/* Whoever has nothing to read may leave as soon as it has written: what is in flight must arrive. */
	c->close_early = server && to_server == 0;
	c->out = server ? to_client : to_server;
	c->in = server ? to_server : to_client;
	mine = plan ^ (server ? 0x5bd1e995u : 0x1b873593u);
	for (int i = 0; i < 4; i++)
		roll(&mine, 2);
	c->style = (enum style)roll(&mine, STYLES);
	c->random_in = mine ^ 77;
	c->random_out = mine ^ 991;
	if (c->close_early) {
		c->style = THREADS;
		write_all(c);
	} else if (c->style == THREADS) {
		pthread_t t;

		MUST(-pthread_create(&t, NULL, write_all, c));
		while (do_read(c, buf, 0) >= 0)
			maybe_nap(&c->random_in);
		pthread_join(t, NULL);
	} else {
		event_loop(c, buf);
	}
	if (close(c->fd) < 0)
		fail(c, "close", 0, 0);
	free(buf);
}

/* Each lane has one connection at a time; they are told apart by the first four bytes the client sends. */
static void *lane(void *arg)
{
	(void)arg;
	for (;;) {
		struct conn c = {0};
		ssize_t n;

		pthread_mutex_lock(&lock);
		c.id = next_conn++;
		pthread_mutex_unlock(&lock);
		if (c.id >= count)
			return NULL;
		if (server) {
			/* A plain server meets the HELLO of a wrapped client, who then comes again. */
			for (;;) {
				c.fd = MUST(accept(listener, NULL, NULL));
				n = recv(c.fd, &c.id, sizeof c.id, MSG_WAITALL);
				if (n == sizeof c.id && c.id < count)
					break;
				close(c.fd);
			}
		} else {
			c.fd = dial(port);
			if (write(c.fd, &c.id, sizeof c.id) != sizeof c.id)
				fail(&c, "number", 0, 0);
		}
		one(&c);
		pthread_mutex_lock(&lock);
		total_bytes += c.sent + c.received;
		pthread_mutex_unlock(&lock);
	}
}

int main(int argc, char **argv)
{
	pthread_t lanes[LANES];

	if (argc < 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	alarm(60);
	server = !strcmp(argv[1], "serve");
	seed = (unsigned)strtoul(argv[2], NULL, 10);
	count = (unsigned)strtoul(argv[3], NULL, 10);
	if (server) {
		listener = listen_any(&port);
		printf("%d\n", port);
		fflush(stdout);
	} else {
		port = atoi(argv[4]);
	}
	for (int i = 0; i < LANES; i++)
		MUST(-pthread_create(&lanes[i], NULL, lane, NULL));
	for (int i = 0; i < LANES; i++)
		pthread_join(lanes[i], NULL);
	printf("# %s: %u connections, %lu bytes\n", argv[1], count, total_bytes);
	return 0;
}
