/*
 * A program whose system calls are counted by strace.test.  One thread, one connection to itself, N operations of
 * each kind; before each kind a line "phase NAME" on standard output, which is what separates them in the trace.
 *   strace_ops N             all phases
 *   strace_ops timeouts FD   what TCP_USER_TIMEOUT FD has: run without the library on a connection inherited from it
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int listener, one, two, epoll, count;
static struct sockaddr_in address = {.sin_family = AF_INET};
static char buf[64];
static const char *self;

static void phase(const char *name)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "phase %s\n", name);

	if (write(STDOUT_FILENO, line, (size_t)len) != len)
		err(1, "phase");
}

static void expect(ssize_t got, ssize_t wanted, const char *what)
{
	if (got != wanted)
		err(1, "%s: %zd, expected %zd", what, got, wanted);
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "connect");
	return fd;
}

/* 8 bytes from one end to the other, by each pair of calls. */
static void transfers(void)
{
	struct iovec iov = {buf, 8};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	phase("read-write");
	for (int i = 0; i < count; i++) {
		expect(write(one, "8 bytes.", 8), 8, "write");
		expect(read(two, buf, 8), 8, "read");
	}
	phase("send-recv");
	for (int i = 0; i < count; i++) {
		expect(send(one, "8 bytes.", 8, MSG_NOSIGNAL), 8, "send");
		expect(recv(two, buf, 8, 0), 8, "recv");
	}
	phase("readv-writev");
	for (int i = 0; i < count; i++) {
		expect(writev(one, &iov, 1), 8, "writev");
		expect(readv(two, &iov, 1), 8, "readv");
	}
	phase("sendmsg-recvmsg");
	for (int i = 0; i < count; i++) {
		expect(sendmsg(one, &msg, 0), 8, "sendmsg");
		expect(recvmsg(two, &msg, 0), 8, "recvmsg");
	}
}

static void select_read(void)
{
	fd_set in;

	FD_ZERO(&in);
	FD_SET(two, &in);
	expect(select(two + 1, &in, NULL, NULL, NULL), 1, "select");
	expect(read(two, buf, 8), 8, "read");
}

static void waits(void)
{
	struct pollfd p = {.fd = two, .events = POLLIN};
	struct epoll_event event = {.events = EPOLLIN};

	phase("poll-read");
	for (int i = 0; i < count; i++) {
		expect(write(one, "8 bytes.", 8), 8, "write");
		expect(poll(&p, 1, -1), 1, "poll");
		expect(read(two, buf, 8), 8, "read");
	}
	phase("select-read");
	for (int i = 0; i < count; i++) {
		expect(write(one, "8 bytes.", 8), 8, "write");
		select_read();
	}
	phase("epoll-ctl");
	expect(epoll_ctl(epoll, EPOLL_CTL_ADD, two, &event), 0, "epoll_ctl");
	phase("epoll-read");
	for (int i = 0; i < count; i++) {
		expect(write(one, "8 bytes.", 8), 8, "write");
		expect(epoll_wait(epoll, &event, 1, -1), 1, "epoll_wait");
		expect(read(two, buf, 8), 8, "read");
	}
}

/* The usual loop of a server: the listening socket is in every set and seldom ready. */
static void listening(void)
{
	struct pollfd p[2] = {{.fd = listener, .events = POLLIN}, {.fd = two, .events = POLLIN}};

	phase("first-poll"); /* the first use of a descriptor may look what it is */
	expect(poll(p, 2, 0), 0, "poll");
	phase("poll-listener-read");
	for (int i = 0; i < count; i++) {
		expect(write(one, "8 bytes.", 8), 8, "write");
		expect(poll(p, 2, -1), 1, "poll");
		expect(read(two, buf, 8), 8, "read");
	}
	phase("accept-nobody");
	for (int i = 0; i < count; i++)
		expect(accept(listener, NULL, NULL), -1, "accept");
}

static void refusals(void)
{
	phase("recv-again");
	for (int i = 0; i < count; i++)
		expect(recv(two, buf, 8, MSG_DONTWAIT), -1, "recv");
	phase("first-end");
	expect(read(two, buf, 0), 0, "read"); /* the first that looks like an end of file wakes the watchdog, once */
	phase("read-nothing");
	for (int i = 0; i < count; i++)
		expect(read(two, buf, 0), 0, "read");
}

/* Descriptors that are nothing to the library. */
static void others(void)
{
	int null = open("/dev/null", O_RDWR), pipes[2], udp = socket(AF_INET, SOCK_DGRAM, 0);

	if (null < 0 || udp < 0 || pipe(pipes) < 0)
		err(1, "pipe");
	/* The first use of a descriptor may look what it is. */
	expect(write(null, "x", 1) + write(pipes[1], "x", 1) + read(pipes[0], buf, 1), 3, "first use");
	phase("file");
	for (int i = 0; i < count; i++) {
		expect(write(null, "x", 1), 1, "write");
		expect(read(null, buf, 1), 0, "read");
	}
	phase("pipe");
	for (int i = 0; i < count; i++) {
		expect(write(pipes[1], "x", 1), 1, "write");
		expect(read(pipes[0], buf, 1), 1, "read");
	}
	phase("udp");
	for (int i = 0; i < count; i++)
		expect(recv(udp, buf, 1, MSG_DONTWAIT), -1, "recv");
	phase("closing");
	close(null);
	close(udp);
	close(pipes[0]);
	close(pipes[1]);
}

/* Connections that come and go: a byte each way. */
static void short_lived(void)
{
	phase("short-lived");
	for (int i = 0; i < count; i++) {
		int client = dial(), server = accept(listener, NULL, NULL);

		if (server < 0)
			err(1, "accept");
		expect(write(client, "q", 1), 1, "write");
		expect(read(server, buf, 1), 1, "read");
		expect(write(server, "a", 1), 1, "write");
		expect(read(client, buf, 1), 1, "read");
		close(client);
		expect(read(server, buf, 1), 0, "read");
		close(server);
	}
}

static void run_timeouts(int fd)
{
	char number[16];
	pid_t pid;

	snprintf(number, sizeof(number), "%d", fd);
	pid = fork();
	if (pid == 0) {
		unsetenv("LD_PRELOAD");
		execl(self, self, "timeouts", number, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void true_timeouts(void)
{
	fflush(stdout);
	phase("child");
	run_timeouts(two);
	run_timeouts(one);
}

static int print_timeouts(int fd)
{
	unsigned value = ~0U;
	int keepalive = -1;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len) < 0)
		err(1, "TCP_USER_TIMEOUT");
	len = sizeof(keepalive);
	if (getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &len) < 0)
		err(1, "SO_KEEPALIVE");
	printf("user-timeout %u keepalive %d\n", value, keepalive);
	return 0;
}

int main(int argc, char **argv)
{
	socklen_t len = sizeof(address);

	self = argv[0];
	if (argc == 3 && strcmp(argv[1], "timeouts") == 0)
		return print_timeouts(atoi(argv[2]));
	count = argc > 1 ? atoi(argv[1]) : 10;
	alarm(60);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	phase("setup");
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 64) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0)
		err(1, "listen");
	one = dial();
	two = accept(listener, NULL, NULL);
	epoll = epoll_create1(0);
	if (two < 0 || epoll < 0)
		err(1, "accept");
	short_lived();
	if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
		err(1, "fcntl");
	/* Past the grace period: from here on the connection is watched and tuned. */
	phase("pause");
	usleep(600000);
	transfers();
	waits();
	listening();
	refusals();
	phase("first-use");
	others();
	true_timeouts();
	phase("end");
	return 0;
}
