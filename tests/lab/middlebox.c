/*
 * A box that ends TCP: it takes every connection in the server's place, opens one of its own to the server, and carries
 * the bytes across, cut and joined as its argument says.  A thread a direction; ends with its parent.
 *
 *   middlebox SEED PORT HOST PORT HOW [FILE]
 *
 *   one     each byte in a segment of its own
 *   odd     pieces of 1 to 13 bytes
 *   head    around the headers of frames: pieces of 7, 1, 9, 3 bytes and some large ones
 *   merge   nothing goes on before nothing has come for 50 ms; then all at once
 *   mixed   now this, now that
 *   whole   as it comes
 *   late    as it comes, but for the first, which wait 600 ms
 *   hoard   it takes all there is, and passes on 80 kB/s
 *
 * But for a hoard it has little room, so that it holds no more than is soon gone.  An end of one direction is passed
 * on, a reset too.  While FILE exists it takes what comes from either side and passes nothing on: its own host answers
 * for one that is gone.
 *
 * Lines: "listening", "joined N", "carried N there BYTES PIECES", "... back ...".
 */
#include "labutil.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>

enum { ROOM = 1 << 20, LITTLE = 8192, QUIET_MS = 50, STYLES = 4, SLICE = 4000, SLICE_MS = 50, LATE_MS = 600 };

static const char *how, *swallow;
static uint64_t seed;

struct flow {
	int from, to;
	unsigned number;
	bool back;
	uint64_t random, bytes, pieces;
};

static uint64_t draw(struct flow *flow)
{
	flow->random ^= flow->random >> 12;
	flow->random ^= flow->random << 25;
	flow->random ^= flow->random >> 27;
	return flow->random * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static size_t piece_of(struct flow *flow, const char *style, size_t left)
{
	static const size_t around[] = {7, 1, 9, 3, 8, 65, 6, 1399, 2, 20000};
	size_t size = left;

	if (!strcmp(style, "one"))
		size = 1;
	else if (!strcmp(style, "odd"))
		size = 1 + draw(flow) % 13;
	else if (!strcmp(style, "head"))
		size = around[flow->pieces % (sizeof(around) / sizeof(around[0]))];
	else if (!strcmp(style, "hoard"))
		size = SLICE;
	return size < left ? size : left;
}

static const char *style_now(struct flow *flow)
{
	static const char *const styles[STYLES] = {"one", "odd", "head", "merge"};

	return strcmp(how, "mixed") ? how : styles[draw(flow) % STYLES];
}

/* What has come, more of it where it is to be joined. 0: the end, -1: a failure. */
static ssize_t gather(const struct flow *flow, unsigned char *buf, bool merge)
{
	struct pollfd p = {flow->from, POLLIN, 0};
	ssize_t got = recv(flow->from, buf, merge ? ROOM : 8192, 0), n;

	while (merge && got > 0 && got < ROOM && poll(&p, 1, QUIET_MS) > 0) {
		n = recv(flow->from, buf + got, (size_t)(ROOM - got), MSG_DONTWAIT);
		if (n <= 0)
			break; /* the next call tells again */
		got += n;
	}
	return got;
}

static bool pass_on(struct flow *flow, const unsigned char *data, size_t size, const char *style)
{
	for (size_t at = 0; at < size;) {
		size_t want = piece_of(flow, style, size - at);
		ssize_t n = send(flow->to, data + at, want, MSG_NOSIGNAL);

		if (n < 0)
			return false;
		at += (size_t)n;
		flow->bytes += (uint64_t)n;
		flow->pieces++;
		if (!strcmp(style, "hoard"))
			nap_ms(SLICE_MS);
	}
	return true;
}

static void reset(int fd)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	(void)connect(fd, &nobody, sizeof(nobody)); /* at once, and the other direction's thread wakes up */
}

static void *carry(void *arg)
{
	struct flow *flow = arg;
	unsigned char *buf = malloc(ROOM);
	bool well = buf != NULL;

	while (well) {
		const char *style = style_now(flow);
		ssize_t got = gather(flow, buf, !strcmp(style, "merge") || !strcmp(style, "hoard"));

		if (swallow && access(swallow, F_OK) == 0)
			for (;;) /* whoever asks is told by our kernel that all is well */
				if (recv(flow->from, buf, ROOM, 0) <= 0)
					pause();
		if (got == 0) {
			shutdown(flow->to, SHUT_WR);
			break;
		}
		if (!strcmp(style, "late") && flow->bytes == 0)
			nap_ms(LATE_MS);
		well = got > 0 && pass_on(flow, buf, (size_t)got, style);
	}
	if (!well) {
		reset(flow->from);
		reset(flow->to);
	}
	say("carried %u %s %" PRIu64 " %" PRIu64 "\n", flow->number, flow->back ? "back" : "there", flow->bytes,
	    flow->pieces);
	free(buf);
	return NULL;
}

struct pair {
	struct flow there, back;
};

static void *join(void *arg)
{
	struct pair *pair = arg;
	pthread_t thread;

	if (pthread_create(&thread, NULL, carry, &pair->back))
		give_up("pthread_create");
	carry(&pair->there);
	pthread_join(thread, NULL);
	close(pair->there.from);
	close(pair->there.to);
	free(pair);
	return NULL;
}

static int new_socket(void)
{
	int little = LITTLE, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || !strcmp(how, "hoard"))
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof(little));
	return fd;
}

static int dial(const struct sockaddr_in *server)
{
	int fd = new_socket();

	if (fd >= 0 && connect(fd, (const struct sockaddr *)server, sizeof(*server)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void start(unsigned number, int client, const struct sockaddr_in *server)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	int on = 1, fd = dial(server);
	pthread_t thread;

	if (!pair || fd < 0) {
		free(pair);
		reset(client);
		close(client);
		return;
	}
	/* Each piece in a segment of its own, if the peer's window lets it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	pair->there = (struct flow){.from = client, .to = fd, .number = number, .random = seed + 2 * number + 1};
	pair->back = (struct flow){.from = fd, .to = client, .number = number, .random = seed + 2 * number + 2};
	pair->back.back = true;
	if (pthread_create(&thread, NULL, join, pair))
		give_up("pthread_create");
	pthread_detach(thread);
	say("joined %u\n", number);
}

int main(int argc, char **argv)
{
	struct sockaddr_in here = {.sin_family = AF_INET}, server = {.sin_family = AF_INET};
	int on = 1, listener;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 6 || inet_pton(AF_INET, argv[3], &server.sin_addr) != 1) {
		errno = EINVAL;
		give_up("usage: middlebox SEED PORT HOST PORT HOW [FILE]");
	}
	seed = strtoull(argv[1], NULL, 10) * UINT64_C(0x9E3779B97F4A7C15);
	here.sin_port = htons((uint16_t)atoi(argv[2]));
	server.sin_port = htons((uint16_t)atoi(argv[4]));
	how = argv[5];
	swallow = argv[6];
	listener = new_socket(); /* what it accepts has its room */
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 64))
		give_up("listen");
	say("listening\n");
	for (unsigned number = 0;; number++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			give_up("accept");
		start(number, fd, &server);
	}
}
