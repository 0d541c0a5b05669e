/*
 * A program that has run out of something, and what its calls then say: a transcript without times and numbers of
 * processes, to be the same byte for byte with a library underneath or without.  Plain old C: it knows nothing of
 * holdfast.
 *
 *   scarce [OPTION...] HOST PORT
 *
 *   -d       every descriptor is in use, but for those that the steps need; standard error tells how many it took
 *   -m KIB   RLIMIT_AS leaves it KIB more memory than it has
 *   -l       only once the connection is open and a second old; else before there is any
 *   -i MS    how long the connection is idle in the middle (default 1000)
 *   -f FILE  is idle until FILE exists instead
 *
 * PORT is that of an echo server.  Its own listener is on a free port of the loopback.
 */
#include "labutil.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

static struct {
	bool descriptors, late;
	long memory, idle;
	const char *go;
} opt = {.memory = -1, .idle = 1000};

static int filler[4096], fillers;

static void step(const char *what, long result)
{
	int error = errno;

	if (result < 0)
		say("%s: -1 %s (%d)\n", what, error_name(error), error);
	else
		say("%s: %ld\n", what, result);
}

/* In use from now on: every descriptor there is. */
static void use_descriptors(void)
{
	int fd = -1;

	while (fillers < (int)(sizeof(filler) / sizeof(filler[0])) && (fd = open("/dev/null", O_RDONLY)) >= 0)
		filler[fillers++] = fd;
	step("open", fd);
	fprintf(stderr, "%d\n", fillers);
}

static void free_descriptor(void)
{
	if (opt.descriptors)
		close(filler[--fillers]);
}

static void use_memory(void)
{
	struct rlimit limit;
	char line[256] = "";
	unsigned long pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY);

	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0 || sscanf(line, "%lu", &pages) != 1)
		give_up("statm");
	close(fd);
	limit.rlim_cur = limit.rlim_max = pages * (unsigned long)getpagesize() + (unsigned long)opt.memory * 1024;
	if (setrlimit(RLIMIT_AS, &limit) < 0)
		give_up("RLIMIT_AS");
	if (opt.memory < 256)
		step("a megabyte more",
		     mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
}

static void run_out(void)
{
	if (opt.descriptors)
		use_descriptors();
	if (opt.memory >= 0)
		use_memory();
}

static void ask(int fd, const char *what)
{
	unsigned char out[16], in[16] = {0};
	struct iovec iov[2] = {{out, 7}, {out + 7, 9}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;

	pattern_fill(out, sizeof(out), 77);
	say("%s\n", what);
	step(" send", sendmsg(fd, &msg, MSG_NOSIGNAL));
	n = recv(fd, in, sizeof(in), MSG_WAITALL);
	step(" recv", n);
	step(" as sent", memcmp(in, out, sizeof(in)) == 0);
}

static void wait_and_peek(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	char byte;

	step("poll", poll(&p, 1, 100));
	step("writable only", p.revents == POLLOUT);
	step("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	step("peek", recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK));
}

/* A child that uses the connection, and the parent after it. */
static void share(int fd)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		ask(fd, "child");
		_exit(7);
	}
	if (pid < 0)
		step("fork", -1);
	else if (waitpid(pid, &status, 0) == pid)
		step("child's status", WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
	ask(fd, "parent");
}

/* A connection to ourselves: of accept(2) with and without a descriptor to spare. */
static void accept_one(int listener)
{
	struct sockaddr_in self;
	socklen_t len = sizeof(self);
	int fd = -1, got;
	char byte = 0;

	if (getsockname(listener, (struct sockaddr *)&self, &len) < 0)
		give_up("getsockname");
	free_descriptor();
	step("socket", fd = socket(AF_INET, SOCK_STREAM, 0));
	step("connect", connect(fd, (struct sockaddr *)&self, len));
	got = accept(listener, NULL, NULL);
	if (opt.descriptors) {
		step("accept", got);
		free_descriptor();
		got = accept(listener, NULL, NULL);
	}
	step("accept", got);
	step("write", write(fd, "x", 1));
	step("read", read(got, &byte, 1));
	step("write", write(got, "yz", 2));
	step("close", close(got));
	step("read", read(fd, &byte, 1));
	step("read", read(fd, &byte, 1));
	step("read", read(fd, &byte, 1));
	step("close", close(fd));
}

static int listen_here(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, 5) < 0)
		give_up("listen");
	return fd;
}

static void read_options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "+dm:li:f:")) != -1) {
		if (c == 'd')
			opt.descriptors = true;
		else if (c == 'm')
			opt.memory = atol(optarg);
		else if (c == 'l')
			opt.late = true;
		else if (c == 'i')
			opt.idle = atol(optarg);
		else if (c == 'f')
			opt.go = optarg;
		else
			exit(2);
	}
	if (argc - optind < 2) {
		errno = EINVAL;
		give_up("usage: scarce [options] HOST PORT");
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in server = {.sin_family = AF_INET};
	int listener, fd, other;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	read_options(argc, argv);
	server.sin_port = htons((uint16_t)atoi(argv[optind + 1]));
	if (inet_pton(AF_INET, argv[optind], &server.sin_addr) != 1)
		give_up("address");
	listener = listen_here();
	step("socket", fd = socket(AF_INET, SOCK_STREAM, 0));
	step("socket", other = socket(AF_INET, SOCK_STREAM, 0));
	if (!opt.late)
		run_out();
	step("connect", connect(fd, (struct sockaddr *)&server, sizeof(server)));
	step("connect", connect(other, (struct sockaddr *)&server, sizeof(server)));
	say("ready %d %d\n", 0, fd);
	ask(fd, "first");
	if (opt.late) {
		nap_ms(1000);
		run_out();
	}
	wait_and_peek(fd);
	step("dup", dup(fd) < 0 ? -1 : 0);
	share(fd);
	accept_one(listener);
	if (opt.go)
		await_file(opt.go);
	else
		nap_ms(opt.idle);
	ask(fd, "after a while");
	ask(other, "the other");
	step("shutdown", shutdown(fd, SHUT_WR));
	step("read", recv(fd, &byte, 1, 0));
	step("close", close(fd));
	/* The other is left to exit. */
	return 0;
}
