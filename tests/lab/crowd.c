/*
 * Thousands of connections of mixed habits, every byte checked, for tests/lab/crowd.  A plain program: it knows
 * nothing of the library.
 *   crowd serve PORT SEED
 *   crowd dial ADDRESS PORT COUNT SECONDS SEED
 *
 * A connection says its number, then requests: how many bytes go up and how many come down, and the bytes that go up.
 * Of eight, four are idle but for a few bytes now and then, two chat, one moves much (every other time read slowly),
 * and one ends after a few requests, by halves, and is made anew.  At the end all are ended by halves.
 * "serve" ends at SIGTERM.  Both print "wrong ..." for the first things that went wrong and "done" with figures; exit
 * status 0 means that nothing did.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 16384, TICK_MS = 10, SLOW_PIECE = 4096, PATIENCE_MS = 60000, BACKLOG = 8192, MOST_TOLD = 20 };

struct conn {
	uint64_t id; /* 0: free, or not known yet */
	int fd;
	unsigned dice;
	uint64_t sent, received;      /* pattern bytes so far */
	uint32_t to_send, to_receive; /* of the request under way */
	unsigned char head[8];        /* the number or a request, as far as it has come or gone */
	unsigned head_done;
	bool head_is_id, shut, ended, wants_out;
	int64_t next_at, asked_at;
	unsigned left; /* requests until it is made anew */
};

static uint64_t seed, requests, bytes, made, wrongs;
static volatile sig_atomic_t over;
static int ep;

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_term(int signo)
{
	(void)signo;
	over = 1;
}

static unsigned roll(struct conn *c, unsigned below)
{
	c->dice = c->dice * 1664525U + 1013904223U;
	return (unsigned)((uint64_t)(c->dice >> 8) * below >> 24);
}

static void wrong(const struct conn *c, const char *what, long value)
{
	if (wrongs++ < MOST_TOLD) {
		printf("wrong: connection %lu: %s (%ld) after %lu sent, %lu received\n", (unsigned long)c->id, what,
		       value, (unsigned long)c->sent, (unsigned long)c->received);
		fflush(stdout);
	}
}

static unsigned char byte_at(uint64_t id, bool down, uint64_t at)
{
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15U ^ id << 20 ^ seed << 1 ^ down;

	return (unsigned char)((x ^ x >> 29) * 0xbf58476d1ce4e5b9U >> 56);
}

static void interest(struct conn *c, bool out)
{
	struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0U), .data.ptr = c};

	if (out == c->wants_out)
		return;
	c->wants_out = out;
	if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) < 0)
		err(1, "epoll_ctl");
}

static void drop(struct conn *c)
{
	if (close(c->fd) < 0)
		wrong(c, "close", errno);
	c->fd = -1;
}

/* What is left to send of the head, then of the pattern. False: it has failed. */
static bool push(struct conn *c, bool down, const unsigned char *head, unsigned head_size)
{
	unsigned char buf[PIECE];

	while (c->head_done < head_size || c->to_send > 0) {
		bool at_head = c->head_done < head_size;
		size_t n = at_head ? head_size - c->head_done : c->to_send < PIECE ? c->to_send : PIECE;
		ssize_t put;

		for (size_t i = 0; i < n && !at_head; i++)
			buf[i] = byte_at(c->id, down, c->sent + i);
		put = send(c->fd, at_head ? head + c->head_done : buf, n, MSG_NOSIGNAL);
		if (put < 0 && errno == EAGAIN) {
			interest(c, true);
			return true;
		}
		if (put <= 0) {
			wrong(c, "send", errno);
			return false;
		}
		if (at_head) {
			c->head_done += (unsigned)put;
			continue;
		}
		c->sent += (uint64_t)put;
		c->to_send -= (uint32_t)put;
		bytes += (uint64_t)put;
	}
	interest(c, false);
	return true;
}

/* Pattern bytes, at most MOST. >0, 0: end, -1: none now, -2: failed. */
static ssize_t pull(struct conn *c, bool down, size_t most)
{
	unsigned char buf[PIECE];
	ssize_t got = recv(c->fd, buf, most < PIECE ? most : PIECE, 0);

	if (got < 0 && errno == EAGAIN)
		return -1;
	if (got < 0) {
		wrong(c, "recv", errno);
		return -2;
	}
	for (ssize_t i = 0; i < got; i++)
		if (buf[i] != byte_at(c->id, down, c->received + (uint64_t)i)) {
			wrong(c, "byte", (long)(c->received + (uint64_t)i));
			return -2;
		}
	c->received += (uint64_t)got;
	bytes += (uint64_t)got;
	return got;
}

/* --- the server --- */

static void serve_end(struct conn *c)
{
	drop(c);
	free(c);
}

/* The number, or a request. False: nothing more now, or it is over. */
static bool serve_head(struct conn *c)
{
	uint32_t words[2];
	ssize_t got = recv(c->fd, c->head + c->head_done, sizeof(c->head) - c->head_done, 0);

	if (got < 0 && errno == EAGAIN)
		return false;
	if (got == 0 && c->head_done == 0) {
		serve_end(c);
		return false;
	}
	if (got <= 0) {
		wrong(c, got < 0 ? "recv" : "an end in a request", got < 0 ? errno : 0);
		serve_end(c);
		return false;
	}
	c->head_done += (unsigned)got;
	if (c->head_done < sizeof(c->head))
		return true;
	c->head_done = 0;
	if (c->id == 0) {
		memcpy(&c->id, c->head, sizeof(c->id));
		return true;
	}
	memcpy(words, c->head, sizeof(words));
	c->to_receive = words[0];
	c->to_send = words[1];
	requests++;
	return true;
}

static void serve_ready(struct conn *c)
{
	for (;;) {
		if (c->to_receive > 0) {
			ssize_t got = pull(c, false, c->to_receive);

			if (got == -1)
				return;
			if (got <= 0) {
				if (got == 0)
					wrong(c, "an end in a request", (long)c->to_receive);
				serve_end(c);
				return;
			}
			c->to_receive -= (uint32_t)got;
			continue;
		}
		if (c->to_send > 0) {
			if (!push(c, true, NULL, 0))
				serve_end(c);
			return; /* one thing after the other: the next request waits for its answer */
		}
		if (!serve_head(c))
			return;
	}
}

static int serve(in_port_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, n;
	struct epoll_event e = {.events = EPOLLIN}, ready[256];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener < 0 || bind(listener, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(listener, BACKLOG) < 0 ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e) < 0)
		err(1, "listen");
	puts("listening");
	fflush(stdout);
	while (!over) {
		n = epoll_wait(ep, ready, 256, 1000);
		for (int i = 0; i < n; i++) {
			struct conn *c = ready[i].data.ptr;
			int fd;

			if (c != NULL) {
				serve_ready(c);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				c = calloc(1, sizeof(*c));
				c->fd = fd;
				e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
				if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
					err(1, "epoll_ctl");
				made++;
			}
		}
	}
	return 0;
}

/* --- the clients --- */

static struct sockaddr_in server;

static void dial(struct conn *c, int64_t now)
{
	static uint64_t last;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
	unsigned dice = c->dice;

	*c = (struct conn){.id = ++last, .dice = dice, .head_is_id = true};
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0) {
		wrong(c, "connect", errno);
		exit(1);
	}
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
		err(1, "epoll_ctl");
	memcpy(c->head, &c->id, sizeof(c->head));
	(void)push(c, false, c->head, sizeof(c->head));
	c->next_at = now + roll(c, 4000);
	c->left = 2 + roll(c, 6);
	made++;
}

/* What it asks for next, by its habit: four idle, two chatty, one heavy, one that comes and goes. */
static void plan(struct conn *c, unsigned habit, int64_t now, uint32_t words[2])
{
	if (habit < 4) {
		words[0] = 1 + roll(c, 64);
		words[1] = roll(c, 64);
		c->next_at = now + 10000 + roll(c, 30000);
	} else if (habit == 6) {
		bool up = roll(c, 2) != 0;
		uint32_t much = 16384 + roll(c, 114688);

		words[0] = up ? much : 10;
		words[1] = up ? 10 : much;
		c->next_at = now + 5000 + roll(c, 10000);
	} else {
		words[0] = 1 + roll(c, 2000);
		words[1] = 1 + roll(c, 2000);
		c->next_at = now + 200 + roll(c, 1800);
	}
}

static void ask(struct conn *c, unsigned habit, int64_t now)
{
	uint32_t words[2];

	plan(c, habit, now, words);
	memcpy(c->head, words, sizeof(words));
	c->head_is_id = false;
	c->head_done = 0;
	c->to_send = words[0];
	c->to_receive = words[1];
	c->asked_at = now;
	requests++;
	(void)push(c, false, c->head, sizeof(c->head));
}

static bool quiet(const struct conn *c)
{
	return c->to_send == 0 && c->to_receive == 0 && c->head_done == sizeof(c->head);
}

static void end(struct conn *c)
{
	if (shutdown(c->fd, SHUT_WR) < 0)
		wrong(c, "shutdown", errno);
	c->shut = true;
	c->asked_at = now_ms();
}

static void read_some(struct conn *c, bool slowly)
{
	for (int i = 0; i < 8; i++) {
		/* Never more than is due: what comes too much is found at the end. */
		ssize_t got = pull(c, true, slowly ? SLOW_PIECE : PIECE);

		if (got == -1)
			return;
		if (got == 0 && c->shut && quiet(c)) {
			c->ended = true;
			return;
		}
		if (got <= 0 || (uint64_t)got > c->to_receive) {
			wrong(c, got == 0 ? "end too early" : "more than was asked for", (long)got);
			c->ended = true;
			return;
		}
		c->to_receive -= (uint32_t)got;
		if (slowly)
			return;
	}
}

/* Every tick. */
static void go_on(struct conn *c, unsigned place, int64_t now, bool last)
{
	unsigned habit = place % 8;

	if (c->fd < 0)
		return;
	if (c->ended) {
		drop(c);
		if (!last)
			dial(c, now);
		return;
	}
	if (now - c->asked_at > PATIENCE_MS && c->asked_at != 0 && (!quiet(c) || c->shut)) {
		wrong(c, "no answer for a minute", (long)c->to_receive);
		c->ended = true;
		return;
	}
	if (c->shut || !quiet(c))
		return;
	if (last || (habit == 7 && c->left == 0)) {
		end(c);
	} else if (now >= c->next_at) {
		if (c->left > 0)
			c->left--;
		ask(c, habit, now);
	}
}

static bool any(const struct conn *all, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (all[i].fd >= 0)
			return true;
	return false;
}

static int dial_all(unsigned count, int64_t seconds)
{
	struct conn *all = calloc(count, sizeof(*all));
	int64_t begun, now;
	struct epoll_event ready[256];

	for (unsigned i = 0; i < count; i++) {
		all[i].dice = (unsigned)(seed + i) * 2654435761U;
		dial(&all[i], now_ms());
	}
	begun = now = now_ms();
	puts("ready");
	fflush(stdout);
	while (any(all, count)) {
		int n = epoll_wait(ep, ready, 256, TICK_MS);
		static int64_t ticked;

		now = now_ms();
		for (int i = 0; i < n; i++) {
			struct conn *c = ready[i].data.ptr;
			unsigned place = (unsigned)(c - all);

			if ((ready[i].events & EPOLLOUT) != 0)
				(void)push(c, false, c->head, sizeof(c->head));
			if ((ready[i].events & ~(uint32_t)EPOLLOUT) != 0 && !c->ended)
				read_some(c, place % 16 == 6);
		}
		if (now - ticked < TICK_MS)
			continue;
		ticked = now;
		for (unsigned i = 0; i < count; i++)
			go_on(&all[i], i, now, over || now - begun > seconds * 1000);
	}
	free(all);
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	int status;

	if (argc != 4 && argc != 7)
		errx(2, "usage: crowd serve PORT SEED | crowd dial ADDRESS PORT COUNT SECONDS SEED");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, on_term);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	ep = epoll_create1(EPOLL_CLOEXEC);
	seed = strtoull(argv[argc - 1], NULL, 10);
	if (argc == 4) {
		status = serve((in_port_t)atoi(argv[2]));
	} else {
		server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(argv[3]))};
		inet_pton(AF_INET, argv[2], &server.sin_addr);
		status = dial_all((unsigned)atoi(argv[4]), atoll(argv[5]));
	}
	printf("done: %lu connections, %lu requests, %lu bytes, %lu wrong\n", (unsigned long)made,
	       (unsigned long)requests, (unsigned long)bytes, (unsigned long)wrongs);
	return status != 0 || wrongs != 0;
}
