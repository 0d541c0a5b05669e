/*
 * A client that asks again and again, waits for the answers in every way it knows, and counts; it knows nothing of
 * holdfast.
 *
 *   often HOST PORT COUNT MS    a question when the server has forgotten the last one; MS of silence before
 *
 * Lines: "ready PID FD", "end often RETURN ERRNO AT BYTES HASH": the first thing that was not as it should be, or all
 * the answers.
 */
#include "labutil.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>

static struct sockaddr_in server = {.sin_family = AF_INET};
static long count, period;
static _Atomic uint64_t read_by_thread;

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)))
		give_up("connect");
	return fd;
}

static int watch(int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		give_up("epoll");
	return epoll;
}

enum { RECV, POLL, SELECT, EPOLL_LT, EPOLL_ET, EPOLL_ONE, WAYS };

static int epolls[WAYS];

/* Until something is there to read, or MS have passed: 1, 0; -1: an error. */
static int await_input(int way, int fd, int ms)
{
	struct pollfd p = {fd, POLLIN, 0};
	struct timeval limit = {0, ms * 1000};
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
	fd_set set;

	switch (way) {
	case POLL:
		return poll(&p, 1, ms);
	case SELECT:
		FD_ZERO(&set);
		FD_SET(fd, &set);
		return select(fd + 1, &set, NULL, NULL, &limit);
	case EPOLL_ONE:
		epoll_ctl(epolls[way], EPOLL_CTL_MOD, fd, &event);
		return epoll_wait(epolls[way], &event, 1, ms);
	case EPOLL_LT:
	case EPOLL_ET:
		return epoll_wait(epolls[way], &event, 1, ms);
	default:
		return 1;
	}
}

/* Whether the socket is connected and nothing has come yet: the connection of the last answer is over. */
static bool anew(int fd)
{
	enum { RECEIVED = 128 }; /* tcpi_bytes_received, which this C library's header may not know (linux/tcp.h) */
	unsigned char info[RECEIVED + 8] = {0};
	socklen_t size = sizeof(info);
	uint64_t received;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) < 0 || size < sizeof(info))
		return false;
	memcpy(&received, info + RECEIVED, sizeof(received));
	return info[0] == TCP_ESTABLISHED && received == 0;
}

/* However long that takes here. */
static bool await_anew(int fd)
{
	for (int i = 0; i < 2000 && !anew(fd); i++)
		nap_ms(10);
	return anew(fd);
}

/* One question, one answer, then silence. NULL: all as it should be. */
static const char *ask(int way, int fd, struct tally *in)
{
	unsigned char out[32], back[32];
	size_t got = 0;
	ssize_t n;

	errno = 0;
	pattern_fill(out, sizeof(out), in->bytes);
	if (send(fd, out, sizeof(out), 0) != sizeof(out))
		return "send";
	while (got < sizeof(back)) {
		if (way != EPOLL_ET && await_input(way, fd, 5000) != 1)
			return "wait";
		n = recv(fd, back + got, sizeof(back) - got, way == EPOLL_ET ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN && way == EPOLL_ET) {
			if (await_input(way, fd, 5000) != 1)
				return "wait for an edge";
			continue;
		}
		if (n <= 0)
			return n < 0 ? "recv" : "end of file";
		got += (size_t)n;
	}
	if (memcmp(out, back, sizeof(out)) != 0)
		return "answer";
	tally_add(in, back, sizeof(back));
	if (way == RECV || way == EPOLL_ET)
		return await_anew(fd) ? NULL : "made anew";
	/* The server forgets us meanwhile, of which nothing is to be seen. */
	n = await_input(way, fd, (int)period);
	return n != 0 ? "silence" : await_anew(fd) ? NULL : "made anew";
}

static void *reader(void *arg)
{
	unsigned char byte;

	while (recv(*(int *)arg, &byte, 1, 0) == 1)
		atomic_fetch_add(&read_by_thread, 1);
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"recv", "poll", "select", "epoll", "epoll edge", "epoll once"};
	struct tally in = TALLY_INIT;
	const char *wrong = NULL;
	pthread_t thread;
	int fds[WAYS], other, way = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	if (argc < 5 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
		return 2;
	server.sin_port = htons((uint16_t)atoi(argv[2]));
	count = atol(argv[3]);
	period = atol(argv[4]);
	for (int i = 0; i < WAYS; i++) {
		static const uint32_t events[WAYS] = {0, 0, 0, EPOLLIN, EPOLLIN | (uint32_t)EPOLLET, EPOLLONESHOT};

		fds[i] = dial();
		epolls[i] = events[i] != 0 ? watch(fds[i], events[i]) : -1;
	}
	other = dial();
	if (pthread_create(&thread, NULL, reader, &other))
		give_up("pthread_create");
	say("ready %d %d\n", (int)getpid(), fds[0]);
	for (long i = 0; i < count && wrong == NULL; i++) {
		way = (int)(i % WAYS);
		if (send(other, "x", 1, 0) != 1)
			wrong = "send beside a reader";
		else
			wrong = ask(way, fds[way], &in);
		for (int k = 0; k < 500 && wrong == NULL && atomic_load(&read_by_thread) <= (uint64_t)i; k++)
			nap_ms(10);
		if (wrong == NULL && !await_anew(other))
			wrong = "made anew beside a reader";
		if (wrong == NULL && atomic_load(&read_by_thread) != (uint64_t)i + 1)
			wrong = "a thread that sleeps in recv";
	}
	if (wrong != NULL)
		say("wrong %s: %s\n", names[way], wrong);
	say("end often 0 %s %lld %" PRIu64 " %016" PRIx64 "\n",
	    wrong != NULL ? error_name(errno != 0 ? errno : EIO) : "OK", now_ms(), in.bytes, in.hash);
	return wrong != NULL;
}
