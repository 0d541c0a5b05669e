/*
 * What the measuring programs share: clock, medians, loopback connections, and the one line each of them prints:
 *   VALUE native|probe        VALUE in the unit its usage names; whether the library is really in the process
 * Plain programs: they know nothing of the library but to look whether it is mapped.
 */
#ifndef HOLDFAST_BENCH_H
#define HOLDFAST_BENCH_H

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* How long a program measures. */
static inline uint64_t duration_ns(void)
{
	const char *ms = getenv("BENCH_MS");

	return strtoull(ms != NULL ? ms : "300", NULL, 10) * 1000000;
}

/* Times of batches; the median shrugs off the batches in which somebody else had the processor. */
struct batches {
	size_t count;
	double value[65536];
};

static inline bool batches_add(struct batches *b, double value)
{
	if (b->count < sizeof(b->value) / sizeof(b->value[0]))
		b->value[b->count++] = value;
	return b->count < sizeof(b->value) / sizeof(b->value[0]);
}

static inline int batches_order(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static inline double batches_median(struct batches *b)
{
	if (b->count == 0)
		errx(1, "nothing was measured");
	qsort(b->value, b->count, sizeof(b->value[0]), batches_order);
	return b->value[b->count / 2];
}

static inline const char *variant(void)
{
	char line[4096];
	bool mapped = false;
	FILE *maps = fopen("/proc/self/maps", "r");

	if (maps == NULL)
		err(1, "/proc/self/maps");
	while (fgets(line, sizeof(line), maps) != NULL)
		mapped = mapped || strstr(line, "libholdfast") != NULL;
	fclose(maps);
	return mapped ? "probe" : "native";
}

static inline void print_value(double value)
{
	printf("%.2f %s\n", value, variant());
}

/* A listening socket on all of 127/8; *PORT in network order. */
static inline int listen_somewhere(in_port_t *port)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof(in);
	const char *wanted = getenv("BENCH_PORT");
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	if (wanted != NULL)
		in.sin_port = htons((uint16_t)atoi(wanted));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		err(1, "listen");
	*port = in.sin_port;
	return fd;
}

/* HOST: the low bits of an address in 127/8; different ones keep TIME-WAIT from eating the port numbers. */
static inline int connect_to(in_port_t port, uint32_t host)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = port};
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (host & 0xffff));
	if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
		err(1, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static inline int accept_one(int listener)
{
	int fd = accept(listener, NULL, NULL), yes = 1;

	if (fd < 0)
		err(1, "accept");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static inline void write_all(int fd, const char *buf, size_t size)
{
	for (size_t put = 0; put < size;) {
		ssize_t n = write(fd, buf + put, size - put);

		if (n < 0)
			err(1, "write");
		put += (size_t)n;
	}
}

#endif
