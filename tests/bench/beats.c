/*
 * A server and a client that watch their connection by beats of their own (beats.h), for tests/bench/instead-faults.
 *   beats MS serve PORT              send back what comes, a thread a connection
 *   beats MS read HOST PORT FILE     when FILE is there ask once, then wait for what else comes
 *   beats MS echo HOST PORT FILE IDLE
 *                                    ask, ask again after IDLE ms of silence, and end
 * A client's lines are those of tests/lab/waiter: "ready PID FD", and "end STYLE RETURN ERRNO AT BYTES HASH".
 */
#include "beats.h"

#include "../lab/labutil.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

static uint64_t interval; /* ms */

static void *serve_one(void *arg)
{
	static _Thread_local struct beats b;
	char *data;
	ssize_t n;

	beats_begin(&b, (int)(intptr_t)arg, interval);
	while ((n = beats_take(&b, &data, 0)) > 0 && beats_send(&b, data, (size_t)n))
		;
	close(b.fd);
	return NULL;
}

static void serve(in_port_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(listener, 64) < 0)
		give_up("listen");
	say("listening\n");
	for (;;) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)accept_one(listener)) != 0)
			give_up("pthread_create");
		pthread_detach(thread);
	}
}

/* 16 bytes there, and what comes until UNTIL (ns, 0: no end) into *IN: as beats_take(). */
static ssize_t ask(struct beats *b, uint64_t until, struct tally *in)
{
	char question[16] = "is all well?", *data;
	ssize_t n = -1;

	if (!beats_send(b, question, sizeof(question)))
		return n;
	while ((n = beats_take(b, &data, until)) > 0)
		tally_add(in, (unsigned char *)data, (size_t)n);
	return n;
}

static int client(const char *style, char **args)
{
	static struct beats b;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(args[1]))};
	struct tally came = TALLY_INIT;
	uint64_t idle = args[3] != NULL ? strtoull(args[3], NULL, 10) * 1000000 : 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t n;

	if (fd < 0 || inet_pton(AF_INET, args[0], &in.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
		give_up("connect");
	beats_begin(&b, fd, interval);
	say("ready %d %d\n", (int)getpid(), fd);
	while (access(args[2], F_OK) < 0) {
		char *data;

		if (beats_take(&b, &data, now_ns() + 5000000) >= 0 || errno != EAGAIN)
			give_up("waiting");
	}
	n = ask(&b, idle > 0 ? now_ns() + idle : 0, &came);
	if (n < 0 && errno == EAGAIN)
		n = ask(&b, now_ns() + 1000000000, &came);
	if (n < 0 && errno == EAGAIN && came.bytes == 32)
		errno = 0;
	say("end %s %zd %s %lld %" PRIu64 " %016" PRIx64 "\n", style, n, error_name(n < 0 ? errno : 0), now_ms(),
	    came.bytes, came.hash);
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	alarm(120);
	interval = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	if (interval > 0 && argc == 4 && strcmp(argv[2], "serve") == 0)
		serve((in_port_t)atoi(argv[3]));
	if (interval > 0 && argc >= 6 && argc == 6 + (strcmp(argv[2], "echo") == 0))
		return client(argv[2], argv + 3);
	errx(2, "usage: beats MS serve PORT | beats MS read HOST PORT FILE | beats MS echo HOST PORT FILE IDLE");
}
