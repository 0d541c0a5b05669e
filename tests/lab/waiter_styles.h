/* The styles of waiter.c: ways to wait on a connection, to read and to write. */
#ifndef HOLDFAST_TESTS_WAITER_STYLES_H
#define HOLDFAST_TESTS_WAITER_STYLES_H

#include "labutil.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

static char **style_args; /* what follows STYLE, NULL-terminated */

/* What one waiting thread knows. */
struct waiter {
	int fd, epoll;
	const char *style;
	struct tally in;
};

static void end(const struct waiter *w, long value, int error)
{
	say("end %s %ld %s %lld %" PRIu64 " %016" PRIx64 "\n", w->style, value, error_name(error), now_ms(),
	    w->in.bytes, w->in.hash);
}

static long argument(int index, long otherwise)
{
	for (int i = 0; i <= index; i++)
		if (!style_args[i])
			return otherwise;
	return atol(style_args[index]);
}

/* Ways to wait: 0 when the descriptor is ready, -1 and errno on error. */

static int wait_poll(struct waiter *w)
{
	struct pollfd p = {w->fd, POLLIN, 0};

	return poll(&p, 1, -1) < 0 ? -1 : 0;
}

static int wait_ppoll(struct waiter *w)
{
	struct pollfd p = {w->fd, POLLIN, 0};

	return ppoll(&p, 1, NULL, NULL) < 0 ? -1 : 0;
}

static int wait_select(struct waiter *w)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(w->fd, &set);
	return select(w->fd + 1, &set, NULL, NULL, NULL) < 0 ? -1 : 0;
}

static int wait_pselect(struct waiter *w)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(w->fd, &set);
	return pselect(w->fd + 1, &set, NULL, NULL, NULL, NULL) < 0 ? -1 : 0;
}

static int wait_epoll(struct waiter *w, unsigned flags)
{
	struct epoll_event event = {.events = EPOLLIN | flags, .data.fd = w->fd};

	if (w->epoll < 0) {
		w->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->fd, &event) < 0)
			give_up("epoll");
	}
	return epoll_wait(w->epoll, &event, 1, -1) < 0 ? -1 : 0;
}

static int wait_epoll_lt(struct waiter *w)
{
	return wait_epoll(w, 0);
}

static int wait_epoll_et(struct waiter *w)
{
	return wait_epoll(w, (unsigned)EPOLLET);
}

static int wait_nap(struct waiter *w)
{
	(void)w;
	nap_ms(20);
	return 0;
}

/* Ways to read. */

static ssize_t read_recv(int fd, void *buf, size_t size)
{
	return recv(fd, buf, size, 0);
}

static ssize_t read_waitall(int fd, void *buf, size_t size)
{
	return recv(fd, buf, size, MSG_WAITALL);
}

static ssize_t read_recvmsg(int fd, void *buf, size_t size)
{
	struct iovec iov = {buf, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	return recvmsg(fd, &msg, 0);
}

/* Styles made of a way to wait and a way to read, until end of file or an error. */
static const struct style {
	const char *name;
	int (*wait)(struct waiter *w);
	ssize_t (*read)(int fd, void *buf, size_t size);
	bool nonblocking;
} styles[] = {
	{"recv", NULL, read_recv, false},
	{"read", NULL, read, false},
	{"recvmsg", NULL, read_recvmsg, false},
	{"waitall", NULL, read_waitall, false},
	{"poll", wait_poll, read_recv, false},
	{"ppoll", wait_ppoll, read, false},
	{"select", wait_select, read, false},
	{"pselect", wait_pselect, read_recv, false},
	{"epoll-lt", wait_epoll_lt, read_recv, false},
	{"epoll-et", wait_epoll_et, read, true},
	{"nonblock", wait_nap, read_recv, true},
};

static void set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		give_up("fcntl");
}

static bool run_reader(struct waiter *w, const struct style *style)
{
	unsigned char buf[65536];
	bool drained = true;
	ssize_t n;

	if (style->nonblocking)
		set_nonblocking(w->fd);
	for (;;) {
		/* Edge-triggered programs wait again only once the kernel has said EAGAIN. */
		if (style->wait && (drained || !style->nonblocking) && style->wait(w) < 0)
			return end(w, -1, errno), false;
		n = style->read(w->fd, buf, sizeof(buf));
		if (n == 0)
			return end(w, 0, 0), true;
		if (n > 0)
			tally_add(&w->in, buf, (size_t)n);
		else if (errno != EAGAIN || !style->nonblocking)
			return end(w, -1, errno), false;
		drained = n < 0;
	}
}

/* Write without end: blocks in send() once the buffers are full. */
static bool run_send(struct waiter *w)
{
	unsigned char buf[16384];
	uint64_t offset = 0;
	ssize_t n;

	for (;;) {
		pattern_fill(buf, sizeof(buf), offset);
		n = send(w->fd, buf, sizeof(buf), 0);
		if (n < 0)
			return end(w, -1, errno), false;
		offset += (uint64_t)n;
	}
}

/* The same with a non-blocking descriptor and poll for writing. */
static bool run_send_poll(struct waiter *w)
{
	unsigned char buf[16384] = {0};
	struct pollfd p = {w->fd, POLLOUT, 0};

	set_nonblocking(w->fd);
	for (;;) {
		if (write(w->fd, buf, sizeof(buf)) >= 0)
			continue;
		if (errno != EAGAIN || poll(&p, 1, -1) < 0)
			return end(w, -1, errno), false;
	}
}

static bool run_fgets(struct waiter *w)
{
	FILE *stream = fdopen(w->fd, "r+");
	char line[256];

	if (!stream)
		give_up("fdopen");
	errno = 0;
	while (fgets(line, (int)sizeof(line), stream))
		tally_add(&w->in, (unsigned char *)line, strlen(line));
	end(w, ferror(stream) ? -1 : 0, errno);
	return feof(stream) != 0;
}

/* Ask and be answered, ARG0 times (default 5), each ARG1 ms (default 1000): shows a connection alive. */
static bool run_echo(struct waiter *w)
{
	long count = argument(0, 5), period = argument(1, 1000);
	unsigned char out[16], in[16];

	for (long i = 0; i < count; i++) {
		nap_ms(i ? period : 0);
		pattern_fill(out, sizeof(out), w->in.bytes);
		if (send(w->fd, out, sizeof(out), 0) < 0)
			return end(w, i, errno), false;
		errno = EIO;
		if (recv(w->fd, in, sizeof(in), MSG_WAITALL) != sizeof(in) || memcmp(in, out, sizeof(in)))
			return end(w, i, errno), false;
		tally_add(&w->in, in, sizeof(in));
	}
	end(w, count, 0);
	return true;
}

static bool write_pattern(struct waiter *w, struct tally *out, size_t size)
{
	unsigned char buf[65536];

	while (size > 0) {
		size_t want = size < sizeof(buf) ? size : sizeof(buf);
		ssize_t n;

		pattern_fill(buf, want, out->bytes);
		n = write(w->fd, buf, want);
		if (n < 0)
			return end(w, -1, errno), false;
		tally_add(out, buf, (size_t)n);
		size -= (size_t)n;
	}
	return true;
}

/* Send ARG0 bytes in pieces of ARG1 every ARG2 ms, half-close, and compare the peer's account with ours. */
static bool run_upload(struct waiter *w)
{
	long total = argument(0, 65536), piece = argument(1, total), period = argument(2, 0);
	struct tally out = TALLY_INIT;
	char answer[128] = "", expected[128], *last = answer;
	ssize_t n;

	while (out.bytes < (uint64_t)total) {
		long left = total - (long)out.bytes;

		if (!write_pattern(w, &out, (size_t)(left < piece ? left : piece)))
			return false;
		nap_ms(period);
	}
	if (shutdown(w->fd, SHUT_WR) < 0)
		return end(w, -1, errno), false;
	say("uploaded %lld\n", now_ms());
	n = recv(w->fd, answer, sizeof(answer) - 1, MSG_WAITALL);
	if (n < 0)
		return end(w, -1, errno), false;
	snprintf(expected, sizeof(expected), "got %" PRIu64 " %016" PRIx64 "\n", out.bytes, out.hash);
	for (; !strncmp(last, "more\n", 5); last += 5)
		w->in.bytes += 5;
	end(w, (long)out.bytes, strcmp(last, expected) ? EIO : 0);
	return true;
}

static bool run_style(struct waiter *w);

static void *style_thread(void *arg)
{
	struct waiter *w = arg;

	run_style(w);
	return NULL;
}

/* Several ways at once on one descriptor: the styles named by the arguments, a thread each. */
static bool run_threads(struct waiter *w)
{
	struct waiter each[16];
	pthread_t threads[16];
	size_t n = 0;

	for (; n < 16 && style_args[n]; n++) {
		each[n] = (struct waiter){w->fd, -1, style_args[n], TALLY_INIT};
		if (pthread_create(&threads[n], NULL, style_thread, &each[n]))
			give_up("pthread_create");
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return false;
}

/* Returns whether the stream ended well; every style has printed its own "end" line. */
static bool run_style(struct waiter *w)
{
	static const struct {
		const char *name;
		bool (*run)(struct waiter *w);
	} others[] = {{"send", run_send}, {"send-poll", run_send_poll}, {"fgets", run_fgets},
		      {"echo", run_echo}, {"upload", run_upload},       {"threads", run_threads}};

	for (size_t i = 0; i < sizeof(styles) / sizeof(styles[0]); i++)
		if (!strcmp(styles[i].name, w->style))
			return run_reader(w, &styles[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strcmp(others[i].name, w->style))
			return others[i].run(w);
	errno = EINVAL;
	give_up(w->style);
	return false;
}

#endif
