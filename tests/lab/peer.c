/*
 * The other end of the lab's connections: a server that never runs under holdfast.  A thread a connection, so that one
 * SIGSTOP stops all of them; it listens on IPv4 and IPv6.
 *
 *   peer [-r RCVBUF] [-g FILE] PORT BEHAVIOUR [ARG...]
 *
 *   hold               neither read nor write
 *   sink               read to end of file
 *   slow BYTES MS      read BYTES every MS, to end of file
 *   later BYTES MS     read nothing until FILE exists, then as slow
 *   half MS [N]        read to end of file, then N times (once) wait MS and send a line; the last one is the answer
 *   echo               send back what comes
 *   stream SIZE MS N   send SIZE bytes every MS, N bytes in all (0: without end), then close
 *   both SIZE MS       the same without end, and read at the same time
 *   again LOGIN ANSWER SIZE  read LOGIN bytes and answer with ANSWER bytes; of a connection that began after FILE has
 *                      come, send SIZE bytes half a second later and close; hold one that began before
 *   moody MS           send back what comes once, and MS later reset the connection
 *   inetd COMMAND...   the connection becomes descriptors 0 to 2 of COMMAND
 *
 * Readers answer end of file with "got BYTES HASH" and close.  Lines: "listening", "accepted", "sent BYTES HASH".
 */
#include "labutil.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const char *behaviour, *go;
static char **args;

static long argument(int index)
{
	for (int i = 0; i <= index; i++)
		if (!args[i])
			return 0;
	return atol(args[index]);
}

/* Read to end of file, at most STEP bytes every MS; then tell the client what came. */
static void read_all(int fd, size_t step, long ms, long wait_at_end, long lines)
{
	unsigned char *buf = malloc(step);
	struct tally in = TALLY_INIT;
	char answer[128];
	ssize_t n;

	while (buf && (n = recv(fd, buf, step, 0)) > 0) {
		tally_add(&in, buf, (size_t)n);
		nap_ms(ms);
	}
	free(buf);
	nap_ms(wait_at_end);
	while (lines-- > 1 && send(fd, "more\n", 5, MSG_NOSIGNAL) == 5)
		nap_ms(wait_at_end);
	snprintf(answer, sizeof(answer), "got %" PRIu64 " %016" PRIx64 "\n", in.bytes, in.hash);
	say("%s", answer);
	send(fd, answer, strlen(answer), MSG_NOSIGNAL);
}

static void echo(int fd)
{
	unsigned char buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0 && send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n)
		;
}

static void stream(int fd, size_t size, long ms, uint64_t total)
{
	unsigned char *buf = malloc(size);
	struct tally out = TALLY_INIT;

	while (buf && (total == 0 || out.bytes < total)) {
		size_t want = total && total - out.bytes < size ? (size_t)(total - out.bytes) : size;
		ssize_t n;

		pattern_fill(buf, want, out.bytes);
		n = send(fd, buf, want, MSG_NOSIGNAL);
		if (n < 0)
			break;
		tally_add(&out, buf, (size_t)n);
		nap_ms(ms);
	}
	free(buf);
	say("sent %" PRIu64 " %016" PRIx64 "\n", out.bytes, out.hash);
}

static void *read_thread(void *arg)
{
	char buf[4096];

	while (recv((int)(intptr_t)arg, buf, sizeof(buf), 0) > 0)
		;
	return NULL;
}

static void both(int fd)
{
	pthread_t reader;

	if (pthread_create(&reader, NULL, read_thread, (void *)(intptr_t)fd))
		give_up("pthread_create");
	stream(fd, (size_t)argument(0), argument(1), 0);
	pthread_join(reader, NULL);
}

static void send_text(int fd, long size)
{
	char *buf = malloc((size_t)size + 1);

	if (buf && size > 0)
		memset(buf, 'x', (size_t)size), buf[size - 1] = '\n';
	if (buf && size > 0 && send(fd, buf, (size_t)size, MSG_NOSIGNAL) != size)
		say("cut off\n");
	free(buf);
}

/* To a client that comes again the answer of the last time is no news. */
static void serve_again(int fd, bool late)
{
	struct tally in = TALLY_INIT;
	unsigned char byte;

	while (in.bytes < (uint64_t)argument(0) && recv(fd, &byte, 1, 0) == 1)
		tally_add(&in, &byte, 1);
	say("%s %" PRIu64 " %016" PRIx64 "\n", late ? "again" : "first", in.bytes, in.hash);
	send_text(fd, argument(1));
	if (!late)
		for (;;)
			pause();
	nap_ms(500);
	send_text(fd, argument(2));
}

/* A moment after each answer it forgets the client. */
static void echo_once(int fd)
{
	const struct linger at_once = {1, 0};
	unsigned char buf[4096];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n > 0 && send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n)
		nap_ms(argument(0));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;

	if (!strcmp(behaviour, "hold"))
		for (;;)
			pause();
	else if (!strcmp(behaviour, "slow"))
		read_all(fd, (size_t)argument(0), argument(1), 0, 1);
	else if (!strcmp(behaviour, "half"))
		read_all(fd, 65536, 0, argument(0), argument(1));
	else if (!strcmp(behaviour, "echo"))
		echo(fd);
	else if (!strcmp(behaviour, "moody"))
		echo_once(fd);
	else if (!strcmp(behaviour, "again"))
		serve_again(fd, go && access(go, F_OK) == 0);
	else if (!strcmp(behaviour, "stream"))
		stream(fd, (size_t)argument(0), argument(1), (uint64_t)argument(2));
	else if (!strcmp(behaviour, "both"))
		both(fd);
	else if (!strcmp(behaviour, "later")) {
		await_file(go);
		read_all(fd, (size_t)argument(0), argument(1), 0, 1);
	} else
		read_all(fd, 65536, 0, 0, 1);
	close(fd);
	return NULL;
}

static void exec_on(int fd, int listener)
{
	close(listener);
	for (int i = 0; i < 3; i++)
		if (dup2(fd, i) < 0)
			_exit(2);
	if (fd > 2)
		close(fd);
	execvp(args[0], args);
	_exit(127);
}

static void start(int fd, int listener)
{
	pthread_t thread;

	if (!strcmp(behaviour, "inetd")) {
		pid_t pid = fork();

		if (pid == 0)
			exec_on(fd, listener);
		close(fd);
		say("child %d\n", (int)pid);
		return;
	}
	if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
		give_up("pthread_create");
	pthread_detach(thread);
}

static int listen_on(const char *port, int rcvbuf)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
	int on = 1, off = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    (rcvbuf && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf))) ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 64))
		give_up("listen");
	return fd;
}

int main(int argc, char **argv)
{
	int c, rcvbuf = 0, listener;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	while ((c = getopt(argc, argv, "+r:g:")) != -1) {
		if (c == 'r')
			rcvbuf = atoi(optarg);
		else if (c == 'g')
			go = optarg;
		else
			return 2;
	}
	if (argc - optind < 2) {
		errno = EINVAL;
		give_up("usage: peer [options] PORT BEHAVIOUR [ARG...]");
	}
	behaviour = argv[optind + 1];
	args = argv + optind + 2;
	listener = listen_on(argv[optind], rcvbuf);
	say("listening\n");
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			give_up("accept");
		start(fd, listener);
		say("accepted\n");
	}
}
