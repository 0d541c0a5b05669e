/*
 * Streams of known bytes that go on while something happens to the network: every byte is checked at both ends, and
 * nothing is ever tried twice.  Plain old C: it knows nothing of holdfast.
 *
 *   steady OVER serve ADDRESS PORT SHAPE STYLE
 *   steady OVER dial ADDRESS PORT STYLE ID PATTERN
 *
 * SHAPE   thread     one for each connection; the first waits in accept(2)
 *         fork       a process for each connection
 *         forgetful  the same, forked before a byte is read, by a parent that never closes what it has accepted
 *         loop       all connections and the listener in one loop
 *         iterative  one connection after the other
 *         one-shot   one connection, the listener closed before it is served
 * STYLE   threads    blocking calls, one thread to read and one to write (or one for both, where they take turns)
 *         processes  the same with two processes
 *         poll, select   blocking descriptors
 *         epoll-lt, epoll-et   non-blocking ones
 * PATTERN as in steady.h.  It goes on until a file OVER exists.
 *
 * Lines: "listening"; "ready ID"; "done ID PATTERN sent N got N gap MS spurious N" or "failed ID ..."
 */
#include "steady.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/wait.h>

enum { MOST = 64 };
enum style { THREADS, PROCESSES, POLL, SELECT, EPOLL_LT, EPOLL_ET, STYLES };
static const char *const style_names[] = {"threads", "processes", "poll", "select", "epoll-lt", "epoll-et"};

static enum style style;

/* Two processes may share one. */
static struct stream *new_stream(void)
{
	struct stream *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		give_up("mmap");
	return s;
}

static void free_stream(struct stream *s)
{
	munmap(s, sizeof *s);
}

/* --- one loop for several connections ------------------------------------------------------------------------------
 */

struct loop {
	struct stream *stream[MOST];
	short asked[MOST]; /* epoll: what is registered */
	int count, listener, ep;
};

static short wanted(const struct stream *s)
{
	bool in = !s->in_closed && (!s->slow || now_ms() - s->read_at >= SIP_MS);
	bool out = !s->out_closed && allowed(s) > s->sent;

	return (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));
}

static void wait_poll(struct loop *l, int ms)
{
	struct pollfd p[MOST + 1];

	for (int i = 0; i < l->count; i++)
		p[i] = (struct pollfd){l->stream[i]->fd, wanted(l->stream[i]), 0};
	p[l->count] = (struct pollfd){l->listener, POLLIN, 0};
	if (poll(p, (nfds_t)l->count + 1, ms) < 0)
		give_up("poll");
	for (int i = 0; i < l->count; i++)
		l->stream[i]->can = p[i].revents & (POLLERR | POLLHUP) ? wanted(l->stream[i]) : p[i].revents;
}

static void wait_select(struct loop *l, int ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	int most = l->listener;
	fd_set in, out;

	FD_ZERO(&in);
	FD_ZERO(&out);
	if (l->listener >= 0)
		FD_SET(l->listener, &in);
	for (int i = 0; i < l->count; i++) {
		const struct stream *s = l->stream[i];

		if (wanted(s) & POLLIN)
			FD_SET(s->fd, &in);
		if (wanted(s) & POLLOUT)
			FD_SET(s->fd, &out);
		most = s->fd > most ? s->fd : most;
	}
	if (select(most + 1, &in, &out, NULL, ms < 0 ? NULL : &tv) < 0)
		give_up("select");
	for (int i = 0; i < l->count; i++)
		l->stream[i]->can = (FD_ISSET(l->stream[i]->fd, &in) ? POLLIN : 0) |
				    (FD_ISSET(l->stream[i]->fd, &out) ? POLLOUT : 0);
}

static void wait_epoll(struct loop *l, int ms)
{
	struct epoll_event events[16];
	int n;

	for (int i = 0; style == EPOLL_LT && i < l->count; i++) {
		short now = wanted(l->stream[i]);
		struct epoll_event e = {.events = (uint32_t)now, .data.ptr = l->stream[i]};

		if (now != l->asked[i] && epoll_ctl(l->ep, EPOLL_CTL_MOD, l->stream[i]->fd, &e) < 0)
			give_up("epoll_ctl");
		l->asked[i] = now;
	}
	n = epoll_wait(l->ep, events, 16, ms);
	if (n < 0)
		give_up("epoll_wait");
	for (int i = 0; i < l->count && style == EPOLL_LT; i++)
		l->stream[i]->can = 0;
	for (int i = 0; i < n; i++) {
		struct stream *s = events[i].data.ptr;

		if (s == NULL)
			continue;
		s->can |= events[i].events & (EPOLLERR | EPOLLHUP) ? POLLIN | POLLOUT : (int)(events[i].events & 0xff);
	}
}

/* What can be done now. True: an edge has not been used up, and nothing else will tell. */
static bool step(struct stream *s, bool told)
{
	int flags = style == POLL || style == SELECT ? 0 : MSG_DONTWAIT, now;

	if ((now = s->can & wanted(s)) & POLLIN && stream_read(s, flags) == 0) {
		s->can &= ~POLLIN;
		s->spurious += told && style != EPOLL_ET;
	}
	if (!s->failed && now & POLLOUT && stream_write(s, MSG_DONTWAIT) == 0) {
		s->can &= ~POLLOUT;
		s->spurious += told && style != EPOLL_ET;
	}
	if (!s->failed && !s->out_closed && all_sent(s))
		end_out(s);
	return !is_over(s) && style == EPOLL_ET && (s->can & wanted(s)) != 0;
}

static void loop_add(struct loop *l, struct stream *s)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s};

	l->asked[l->count] = POLLIN;
	l->stream[l->count++] = s;
	if (style != EPOLL_LT && style != EPOLL_ET)
		return;
	if (style == EPOLL_LT)
		e.events = EPOLLIN;
	if (fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK) < 0 ||
	    epoll_ctl(l->ep, EPOLL_CTL_ADD, s->fd, &e) < 0)
		give_up("epoll_ctl");
}

static struct stream *take(int listener);

/* Until every connection has ended; with a listener for ever. */
static void run_loop(struct loop *l)
{
	while (l->count > 0 || l->listener >= 0) {
		bool more = false;
		int ms = -1;

		for (int i = 0; i < l->count; i++) {
			int p = patience(l->stream[i]);

			more |= step(l->stream[i], false) || is_over(l->stream[i]);
			ms = p >= 0 && (ms < 0 || p < ms) ? p : ms;
		}
		ms = more ? 0 : ms;
		if (style == POLL)
			wait_poll(l, ms);
		else if (style == SELECT)
			wait_select(l, ms);
		else
			wait_epoll(l, ms);
		for (int i = 0; i < l->count; i++) {
			struct stream *s = l->stream[i];

			step(s, true);
			if (!is_over(s))
				continue;
			stream_end(s);
			free_stream(s);
			l->stream[i] = l->stream[--l->count];
			l->asked[i--] = l->asked[l->count];
		}
		if (l->listener >= 0 && l->count < MOST && poll(&(struct pollfd){l->listener, POLLIN, 0}, 1, 0) > 0) {
			struct stream *s = take(l->listener);

			if (s != NULL)
				loop_add(l, s);
		}
		for (int i = 0; style != EPOLL_ET && i < l->count; i++)
			l->stream[i]->can = 0;
	}
}

static void loop_begin(struct loop *l, int listener)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};

	*l = (struct loop){.listener = listener, .ep = epoll_create1(EPOLL_CLOEXEC)};
	if (listener >= 0 && epoll_ctl(l->ep, EPOLL_CTL_ADD, listener, &e) < 0)
		give_up("epoll_ctl");
}

/* --- blocking calls ------------------------------------------------------------------------------------------------
 */

static void *write_all(void *arg)
{
	struct stream *s = arg;

	while (!s->failed && !all_sent(s)) {
		if (allowed(s) > s->sent)
			stream_write(s, 0);
		else
			nap_ms(5);
	}
	if (!s->failed)
		end_out(s);
	return NULL;
}

static void read_all(struct stream *s)
{
	while (!is_over(s) && !s->in_closed && stream_read(s, 0) >= 0)
		nap_ms(s->slow ? SIP_MS : 0);
}

/* A turn to write, a turn to read. */
static void take_turns(struct stream *s)
{
	while (!is_over(s)) {
		while (!s->failed && allowed(s) > s->sent)
			stream_write(s, 0);
		if (!s->failed && !s->out_closed && all_sent(s))
			end_out(s);
		if (!s->failed && !s->in_closed)
			stream_read(s, 0);
	}
}

static void run_blocking(struct stream *s)
{
	pthread_t writer;

	if (s->kind == ASK || s->kind == ANSWER) {
		take_turns(s);
		return;
	}
	if (pthread_create(&writer, NULL, write_all, s))
		give_up("pthread_create");
	read_all(s);
	pthread_join(writer, NULL);
}

/* Each process counts for both. */
static void run_processes(struct stream *s)
{
	pid_t reader = getpid(), writer = fork();

	if (writer < 0)
		give_up("fork");
	if (writer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == reader)
			write_all(s);
		exit(0);
	}
	read_all(s);
	while (waitpid(writer, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Serve one connection to its end. Returns whether all was well. */
static bool run(struct stream *s)
{
	struct loop l;
	bool well;

	if (style != THREADS && style != PROCESSES) {
		loop_begin(&l, -1);
		loop_add(&l, s); /* ends and frees it */
		run_loop(&l);
		close(l.ep);
		return true;
	}
	if (style == PROCESSES)
		run_processes(s);
	else
		run_blocking(s);
	stream_end(s);
	well = !s->failed;
	free_stream(s);
	return well;
}

/* --- both ends -----------------------------------------------------------------------------------------------------
 */

static socklen_t address(struct sockaddr_storage *out, const char *host, const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)atoi(port));
		return sizeof *in;
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
		give_up("address");
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons((uint16_t)atoi(port));
	return sizeof *in6;
}

/* The next connection, with what its client wants; NULL: it said nothing of use. */
static struct stream *begin(int fd)
{
	struct stream *s = new_stream();
	struct order order;

	if (recv(fd, &order, sizeof order, MSG_WAITALL) != sizeof order || order.pattern >= PATTERNS) {
		say("stray\n"); /* nobody but our own clients comes here */
		close(fd);
		free_stream(s);
		return NULL;
	}
	stream_begin(s, fd, true, &order);
	return s;
}

static struct stream *take(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		give_up("accept");
	return begin(fd);
}

/* A process for each connection, which the parent leaves open as well. */
static void forget(int listener)
{
	int fd = accept(listener, NULL, NULL);
	struct stream *s;

	if (fd < 0)
		give_up("accept");
	if (fork() != 0)
		return;
	prctl(PR_SET_PDEATHSIG, 0); /* the lab kills the parent */
	for (int other = listener; other < fd; other++)
		close(other);
	s = begin(fd);
	exit(s != NULL && run(s) ? 0 : 1);
}

static void *serve_one(void *arg)
{
	run(arg);
	return NULL;
}

static int serve(const char *host, const char *port, const char *shape)
{
	struct sockaddr_storage where;
	socklen_t len = address(&where, host, port);
	int listener = socket(where.ss_family, SOCK_STREAM, 0), on = 1;
	bool one_shot = !strcmp(shape, "one-shot"), by_process = !strcmp(shape, "fork");
	struct loop l;

	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(listener, (struct sockaddr *)&where, len) || listen(listener, 64))
		give_up("listen");
	say("listening\n");
	if (!strcmp(shape, "loop")) {
		loop_begin(&l, listener);
		run_loop(&l);
	}
	while (!strcmp(shape, "forgetful"))
		forget(listener);
	signal(SIGCHLD, by_process ? SIG_IGN : SIG_DFL);
	for (;;) {
		struct stream *s = take(listener);
		pthread_t thread;

		if (s == NULL)
			continue;
		if (one_shot) {
			close(listener);
			return run(s) ? 0 : 1;
		}
		if (!strcmp(shape, "iterative")) {
			run(s);
		} else if (by_process && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			signal(SIGCHLD, SIG_DFL);
			close(listener);
			exit(run(s) ? 0 : 1);
		} else if (by_process) {
			close(s->fd);
			free_stream(s);
		} else if (pthread_create(&thread, NULL, serve_one, s) || pthread_detach(thread)) {
			give_up("pthread_create");
		}
	}
}

static int dial(char **argv)
{
	struct stream *s = new_stream();
	struct order order = {.id = (uint16_t)atoi(argv[3])};
	struct sockaddr_storage where;
	socklen_t len = address(&where, argv[0], argv[1]);
	int fd = socket(where.ss_family, SOCK_STREAM, 0);

	while (order.pattern < PATTERNS && strcmp(patterns[order.pattern].name, argv[4]))
		order.pattern++;
	if (order.pattern == PATTERNS || fd < 0 || connect(fd, (struct sockaddr *)&where, len))
		give_up("connect");
	if (write(fd, &order, sizeof order) != sizeof order)
		give_up("write");
	stream_begin(s, fd, false, &order);
	say("ready %u\n", order.id);
	return run(s) ? 0 : 1;
}

int main(int argc, char **argv)
{
	bool server = argc == 7 && !strcmp(argv[2], "serve");
	const char *by = argc != 8 ? server ? argv[6] : "" : argv[5];

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	while (style < STYLES && strcmp(style_names[style], by))
		style++;
	if (style == STYLES) {
		errno = EINVAL;
		give_up("usage: steady OVER serve ADDRESS PORT SHAPE STYLE | OVER dial ADDRESS PORT STYLE ID PATTERN");
	}
	over_file = argv[1];
	return server ? serve(argv[3], argv[4], argv[5]) : dial(argv + 3);
}
