/*
 * Two processes and a loopback connection.  BENCH_MS says for how long.
 *   net rtt SIZE       a message of SIZE bytes there and back: ns a round trip
 *   net poll SIZE      the same, each side in poll(2) before each read(2), listening socket in the set: ns
 *   net stream SIZE    write(2)s of SIZE bytes one way, to the last byte's arrival: MB/s
 *   net spent SIZE     the same: ns of processor time of both, for a KiB
 *   net churn          connect, one byte there and back, close: ns a connection
 * BENCH_FRAMED=1: streams have 8 bytes more in front of each write, sent with it in one call and read apart from it:
 * what such a header costs at the least, in a program of its own.  They do not count.  BENCH_BEATS=MS: both ends talk
 * in messages and watch each other by beats every MS (beats.h), in everything but "poll".  BENCH_PORT is where the one
 * listens, BENCH_VIA where the other connects to: there is something in between.  BENCH_ONE_CPU: both on one processor,
 * so that what both ends cost shows whole, and not where the scheduler puts them and how long the other sleeps.
 */
#include "beats.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { LARGEST = 1 << 20 };

static char buf[LARGEST];
static struct batches batches;
static struct beats beats; /* of the one connection that a process has at a time */
static uint64_t beating;   /* ms; 0: no */

static int listener = -1; /* stays open in both processes: programs have one in their poll sets */

static void wait_readable(int fd)
{
	struct pollfd p[2] = {{.fd = listener, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	while ((p[1].revents & (POLLIN | POLLHUP)) == 0)
		if (poll(p, 2, -1) < 0)
			err(1, "poll");
}

static int begun(int fd)
{
	if (beating > 0)
		beats_begin(&beats, fd, beating);
	return fd;
}

/* SIZE bytes of buf. */
static void put(int fd, size_t size)
{
	if (beating == 0)
		write_all(fd, buf, size);
	else if (!beats_send(&beats, buf, size))
		err(1, "beats_send");
}

/* At most SIZE bytes to TO: what read(2) says. */
static ssize_t take_some(int fd, char *to, size_t size)
{
	char *data;
	ssize_t n;

	if (beating == 0)
		return read(fd, to, size);
	n = beats_take(&beats, &data, 0);
	if (n > (ssize_t)size)
		errx(1, "a message of another size");
	if (n > 0)
		memcpy(to, data, (size_t)n);
	return n;
}

/* SIZE bytes into buf, POLLING before each read or not.  False at end of file. */
static bool take(int fd, size_t size, bool polling)
{
	for (size_t got = 0; got < size;) {
		ssize_t n;

		if (polling)
			wait_readable(fd);
		n = take_some(fd, buf + got, size - got);
		if (n < 0)
			err(1, "read");
		if (n == 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

static double round_trips(int fd, size_t size, bool polling)
{
	uint64_t start = now_ns(), end = start + duration_ns(), t;
	const unsigned batch = size > 65536 ? 2 : 20;

	do {
		t = now_ns();
		for (unsigned i = 0; i < batch; i++) {
			put(fd, size);
			if (!take(fd, size, polling))
				errx(1, "the other end closed");
		}
	} while (batches_add(&batches, (double)(now_ns() - t) / batch) && now_ns() < end);
	return batches_median(&batches);
}

static void echo(int fd, size_t size, bool polling)
{
	while (take(fd, size, polling))
		put(fd, size);
}

static uint64_t streamed; /* bytes */
static bool framed;
static char header[8];

static void send_all(int fd, size_t size)
{
	struct iovec iov[2] = {{header, sizeof(header)}, {buf, size}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t sent;

	if (!framed) {
		put(fd, size);
		return;
	}
	sent = sendmsg(fd, &msg, 0);
	if (sent < 0)
		err(1, "sendmsg");
	if ((size_t)sent < size)
		write_all(fd, buf, size - (size_t)sent);
}

static double stream(int fd, size_t size)
{
	uint64_t start = now_ns(), end = start + duration_ns(), bytes = 0;
	const size_t batch = size < 16384 ? 16384 / size : 1;

	while (now_ns() < end) {
		for (size_t i = 0; i < batch; i++)
			send_all(fd, size);
		bytes += size * batch;
	}
	streamed = bytes;
	/* The last byte has arrived when the reader, having seen the end, closes. */
	shutdown(fd, SHUT_WR);
	while (read(fd, buf, 1) > 0)
		;
	return (double)bytes * 1e3 / (double)(now_ns() - start);
}

static void drain(int fd)
{
	struct iovec iov[2] = {{header, sizeof(header)}, {buf, 65536}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	char *data;
	ssize_t n;

	do
		n = beating > 0 ? beats_take(&beats, &data, 0) : framed ? recvmsg(fd, &msg, 0) : read(fd, buf, 65536);
	while (n > 0);
	if (n < 0)
		err(1, "read");
}

static double churn(in_port_t port)
{
	enum { BATCH = 10, MOST = 20000 };
	uint64_t start = now_ns(), end = start + duration_ns(), t;
	uint32_t host = (uint32_t)getpid() * 977;
	unsigned count = 0;

	do {
		t = now_ns();
		for (unsigned i = 0; i < BATCH; i++, count++) {
			int fd = begun(connect_to(port, host + count));

			put(fd, 1);
			if (!take(fd, 1, false))
				errx(1, "the other end closed");
			close(fd);
		}
	} while (batches_add(&batches, (double)(now_ns() - t) / BATCH) && now_ns() < end && count < MOST);
	return batches_median(&batches);
}

static void serve_churn(void)
{
	for (;;) {
		int fd = begun(accept_one(listener));

		if (take(fd, 1, false))
			put(fd, 1);
		close(fd);
	}
}

static void serve(const char *what, size_t size)
{
	int fd;

	if (strcmp(what, "churn") == 0)
		serve_churn();
	fd = begun(accept_one(listener));
	if (strcmp(what, "stream") == 0 || strcmp(what, "spent") == 0)
		drain(fd);
	else
		echo(fd, size, strcmp(what, "poll") == 0);
	close(fd);
}

static in_port_t in_between(in_port_t port)
{
	const char *via = getenv("BENCH_VIA");

	return via != NULL ? htons((uint16_t)atoi(via)) : port;
}

static double measure(const char *what, size_t size, in_port_t port)
{
	double value;
	int fd;

	if (strcmp(what, "churn") == 0)
		return churn(in_between(port));
	fd = begun(connect_to(in_between(port), 0));
	if (strcmp(what, "stream") == 0 || strcmp(what, "spent") == 0)
		value = stream(fd, size);
	else
		value = round_trips(fd, size, strcmp(what, "poll") == 0);
	close(fd); /* an end that the other side understands: it ends too */
	return value;
}

/* Processor time so far, ns: WHO as in getrusage(2). */
static double used(int who)
{
	struct rusage usage;

	if (getrusage(who, &usage) < 0)
		err(1, "getrusage");
	return 1e9 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e3 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* The last we may have: the first has the interrupts. */
static void stay_on_one(void)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		err(1, "sched_getaffinity");
	for (size_t cpu = CPU_SETSIZE; cpu-- > 0 && CPU_COUNT(&one) == 0;)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		err(1, "sched_setaffinity");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *beats_ms = getenv("BENCH_BEATS");
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	in_port_t port;
	double value;
	pid_t pid;

	if (size == 0 || size > LARGEST)
		errx(2, "SIZE: expected 1 to %d", LARGEST);
	framed = getenv("BENCH_FRAMED") != NULL;
	if (getenv("BENCH_ONE_CPU") != NULL)
		stay_on_one();
	if (beats_ms != NULL && strcmp(what, "poll") != 0)
		beating = strtoull(beats_ms, NULL, 10);
	alarm(60);
	listener = listen_somewhere(&port);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		alarm(60); /* not inherited, fork(2) */
		serve(what, size);
		_exit(0);
	}
	value = measure(what, size, port);
	if (strcmp(what, "spent") != 0)
		print_value(value);
	if (strcmp(what, "churn") == 0)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (strcmp(what, "spent") == 0)
		print_value((used(RUSAGE_SELF) + used(RUSAGE_CHILDREN)) * 1024 / (double)streamed);
	return 0;
}
