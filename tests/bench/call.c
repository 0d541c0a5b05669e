/*
 * What one call costs, in ns (median over batches of BATCH calls).  BENCH_MS says for how long.
 * usage: call NAME [PROCESS], PROCESS being
 *   bare      no connection, and so no watchdog yet (the default; not for calls on a connection)
 *   watched   with a connection, and so with the watchdog: a second thread, with a table of descriptors of its own
 *   threaded  the same with an idle thread of its own besides: what remains is the hooks' part of the cost, for with
 *             two threads the kernel counts references to the file in each call, whoever the second one is
 *
 *   call getppid    not interposed: must not differ
 *   call zero       read(2) of 1 byte of /dev/zero: an untracked descriptor
 *   call null       write(2) of 1 byte to /dev/null
 *   call syscall    syscall(SYS_getppid), interposed for the sake of programs that reach sockets through it
 *   call dup        dup(2) and close(2) of /dev/null
 *   call peek       recv(2) of 1 byte with MSG_PEEK on a watched connection that has it
 *   call again      recv(2) on an empty watched connection: EAGAIN
 *   call poll       poll(2) of a watched connection, no waiting
 *   call epoll      epoll_wait(2), no waiting
 *   call listening  poll(2) of a listening socket, no waiting
 *   call noaccept   accept(2) on a listening socket with nobody there: EAGAIN
 */
#include "bench.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

enum {
	BATCH = 500,
	SETTLED_US = 50000, /* by then the watchdog has its own table of descriptors, if it is to have one */
};

static struct batches batches;
static int zero, null, listener, watched, epoll;
static char byte;

static void call_getppid(void)
{
	getppid();
}

static void call_zero(void)
{
	if (read(zero, &byte, 1) != 1)
		err(1, "read");
}

static void call_null(void)
{
	if (write(null, &byte, 1) != 1)
		err(1, "write");
}

static void call_syscall(void)
{
	syscall(SYS_getppid);
}

static void call_dup(void)
{
	int fd = dup(null);

	if (fd < 0 || close(fd) < 0)
		err(1, "dup");
}

static void call_peek(void)
{
	if (recv(watched, &byte, 1, MSG_PEEK) != 1)
		err(1, "recv");
}

static void call_again(void)
{
	if (recv(watched, &byte, 1, MSG_DONTWAIT) >= 0)
		errx(1, "recv: expected EAGAIN");
}

static void poll_one(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, 0) != 0)
		err(1, "poll");
}

static void call_poll(void)
{
	poll_one(watched);
}

static void call_epoll(void)
{
	struct epoll_event event;

	if (epoll_wait(epoll, &event, 1, 0) != 0)
		err(1, "epoll_wait");
}

static void call_listening(void)
{
	poll_one(listener);
}

static void call_noaccept(void)
{
	if (accept(listener, NULL, NULL) >= 0)
		errx(1, "accept: expected EAGAIN");
}

static const struct {
	const char *name;
	void (*call)(void);
} calls[] = {
	{"getppid", call_getppid},     {"zero", call_zero},         {"null", call_null},
	{"syscall", call_syscall},     {"dup", call_dup},           {"peek", call_peek},
	{"again", call_again},         {"poll", call_poll},         {"epoll", call_epoll},
	{"listening", call_listening}, {"noaccept", call_noaccept},
};

static void *idle(void *arg)
{
	pause();
	return arg;
}

static void open_connection(bool filled)
{
	struct epoll_event event = {.events = EPOLLIN};
	in_port_t port;
	int other;

	listener = listen_somewhere(&port);
	other = connect_to(port, 0);
	watched = accept_one(listener);
	epoll = epoll_create1(0);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, watched, &event) < 0 ||
	    fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
		err(1, "setting up");
	if (filled) {
		write_all(other, "x", 1);
		if (recv(watched, &byte, 1, MSG_PEEK) != 1) /* waits for it */
			err(1, "recv");
	}
}

static void open_all(const char *in, bool filled)
{
	pthread_t thread;

	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
	if (zero < 0 || null < 0)
		err(1, "setting up");
	if (strcmp(in, "bare") == 0)
		return;
	open_connection(filled);
	if (strcmp(in, "threaded") == 0 && pthread_create(&thread, NULL, idle, NULL) != 0)
		errx(1, "pthread_create");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	void (*call)(void) = NULL;
	uint64_t end, t;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (strcmp(calls[i].name, name) == 0)
			call = calls[i].call;
	if (call == NULL)
		errx(2, "\"%s\": no such call", name);
	alarm(60);
	open_all(argc > 2 ? argv[2] : "bare", strcmp(name, "peek") == 0);
	if (argc > 2)
		usleep(SETTLED_US);
	end = now_ns() + duration_ns();
	do {
		t = now_ns();
		for (int i = 0; i < BATCH; i++)
			call();
		t = now_ns() - t;
	} while (batches_add(&batches, (double)t / BATCH) && now_ns() < end);
	print_value(batches_median(&batches));
	return 0;
}
