/*
 * What the library is tortured with: a client and a server that open, use, half-close and close a few connections, and
 * watch each byte, each errno and each descriptor.  They know nothing of the library.
 *
 *	work server          writes its port to descriptor 3
 *	work client PORT
 *
 * Exit status: 0: all as it should be; 3: an error was told that a connection can end with; 4: an end came early;
 * 5: nobody called any more; 1: something that must not be, with a line on standard error.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TOLD = 3, EARLY = 4, ALONE = 5, MARK = 4242, SMALL = 3000, LARGE = 200000, WAIT_MS = 12000 };

static const char *who;

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "%s: ", who);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	_exit(1);
}

/* A call; what succeeds leaves errno alone. */
#define CALL(...)                                                                       \
	({                                                                              \
		long result_ = (errno = MARK, (long)(__VA_ARGS__));                     \
		if (result_ >= 0 && errno != MARK)                                      \
			wrong("%s changed errno to %s", #__VA_ARGS__, strerror(errno)); \
		result_;                                                                \
	})
/* One that cannot fail without the library. */
#define SURE(...)                                                       \
	({                                                              \
		long sure_ = CALL(__VA_ARGS__);                         \
		if (sure_ < 0)                                          \
			wrong("%s: %s", #__VA_ARGS__, strerror(errno)); \
		(int)sure_;                                             \
	})

/* A call failed: may a connection end like that? */
__attribute__((noreturn)) static void failed(const char *what, int conn)
{
	switch (errno) {
	case ECONNRESET:
	case EPIPE:
	case ETIMEDOUT:
	case EPROTO:
	case ECONNREFUSED:
	case ECONNABORTED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENOTCONN:
	case ENOMEM:
		fprintf(stderr, "%s: %d: %s: told %s\n", who, conn, what, strerror(errno));
		exit(TOLD);
	default:
		wrong("%d: %s: %s", conn, what, strerror(errno));
	}
}

static unsigned char byte_of(int conn, size_t at)
{
	return (unsigned char)(at * 31 + at / 251 + (size_t)conn * 7);
}

static void send_all(int fd, int conn, size_t from, size_t size)
{
	static unsigned char buf[LARGE];
	size_t done = 0;

	for (size_t i = 0; i < size; i++)
		buf[i] = byte_of(conn, from + i);
	while (done < size) {
		long n = CALL(send(fd, buf + done, size - done, MSG_NOSIGNAL));

		if (n < 0)
			failed("send", conn);
		done += (size_t)n;
	}
}

static size_t receive(int fd, int conn, size_t from, size_t most)
{
	static unsigned char buf[LARGE];
	long n = CALL(recv(fd, buf, most, 0));

	if (n < 0)
		failed("recv", conn);
	for (size_t i = 0; i < (size_t)n; i++)
		if (buf[i] != byte_of(conn, from + i))
			wrong("%d: byte %zu is %d, not %d", conn, from + i, buf[i], byte_of(conn, from + i));
	return (size_t)n;
}

static void receive_all(int fd, int conn, size_t from, size_t size)
{
	for (size_t done = 0; done < size;) {
		size_t n = receive(fd, conn, from + done, size - done);

		if (n == 0) {
			fprintf(stderr, "%s: %d: an end after %zu bytes of %zu\n", who, conn, done, size);
			exit(EARLY);
		}
		done += n;
	}
}

static void receive_end(int fd, int conn)
{
	if (receive(fd, conn, 0, 1) != 0)
		wrong("%d: a byte behind the last", conn);
}

static void nap(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static int last_open;
static int sockets_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int count = 0;

	if (dir == NULL)
		wrong("/proc/self/fd: %s", strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISSOCK(st.st_mode)) {
			last_open = atoi(entry->d_name);
			count++;
		}
	}
	closedir(dir);
	return count;
}

/* What was closed is let go of, some time after. */
static void nothing_left(int rest)
{
	for (int i = 0; i < 500 && sockets_open() > rest; i++)
		nap(20);
	if (sockets_open() > rest)
		wrong("%d sockets, one of them %d, are still open 10 s after they were closed", sockets_open() - rest,
		      last_open);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static int dial(int port, int conn, int flags)
{
	struct sockaddr_in to = loopback(port);
	int fd = SURE(socket(AF_INET, SOCK_STREAM | flags, 0));

	if (CALL(connect(fd, (struct sockaddr *)&to, sizeof to)) < 0 && !(flags != 0 && errno == EINPROGRESS))
		failed("connect", conn);
	return fd;
}

/* Requests and answers, with a silence in which heartbeats go; then the client ends first. */
static void talk_client(int port, int conn)
{
	int fd = dial(port, conn, 0);

	send_all(fd, conn, 0, SMALL);
	receive_all(fd, conn, 0, SMALL);
	nap(130);
	send_all(fd, conn, SMALL, 10);
	if (CALL(shutdown(fd, SHUT_WR)) < 0 && errno != ENOTCONN)
		wrong("%d: shutdown: %s", conn, strerror(errno));
	receive_all(fd, conn, SMALL, SMALL);
	receive_end(fd, conn);
	SURE(close(fd));
}

static void talk_server(int fd, int conn)
{
	receive_all(fd, conn, 0, SMALL);
	send_all(fd, conn, 0, SMALL);
	receive_all(fd, conn, SMALL, 10);
	receive_end(fd, conn);
	send_all(fd, conn, SMALL, SMALL);
	SURE(close(fd));
}

/* Non-blocking, with poll(2) and epoll(7); the server ends first. */
static void pour_client(int port, int conn)
{
	int fd = dial(port, conn, SOCK_NONBLOCK), ep = SURE(epoll_create1(0)), error = 0;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct epoll_event event = {.events = EPOLLIN};
	socklen_t len = sizeof error;
	size_t got = 0;

	if (SURE(poll(&p, 1, WAIT_MS)) != 1)
		wrong("%d: not connected after %d s", conn, WAIT_MS / 1000);
	SURE(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	if (error != 0) {
		errno = error;
		failed("connecting", conn);
	}
	SURE(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
	for (;;) {
		static unsigned char buf[LARGE];
		long n;

		if (SURE(epoll_wait(ep, &event, 1, WAIT_MS)) != 1)
			wrong("%d: nothing to read for %d s after %zu bytes", conn, WAIT_MS / 1000, got);
		n = CALL(recv(fd, buf, sizeof buf, 0));
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < 0)
			failed("recv", conn);
		if (n == 0)
			break;
		for (size_t i = 0; i < (size_t)n; i++)
			if (buf[i] != byte_of(conn, got + i))
				wrong("%d: byte %zu is wrong", conn, got + i);
		got += (size_t)n;
	}
	if (got < LARGE) {
		fprintf(stderr, "%s: %d: an end after %zu bytes\n", who, conn, got);
		exit(EARLY);
	}
	if (got > LARGE)
		wrong("%d: %zu bytes too many", conn, got - LARGE);
	SURE(close(ep));
	SURE(fcntl(fd, F_SETFL, 0));
	send_all(fd, conn, 0, 1000);
	SURE(close(fd));
}

static void pour_server(int fd, int conn)
{
	send_all(fd, conn, 0, LARGE);
	if (CALL(shutdown(fd, SHUT_WR)) < 0 && errno != ENOTCONN)
		wrong("%d: shutdown: %s", conn, strerror(errno));
	receive_all(fd, conn, 0, 1000);
	receive_end(fd, conn);
	SURE(close(fd));
}

/* A duplicate goes on where its original was closed; at the server, a child. */
static void hand_client(int port, int conn)
{
	int fd = dial(port, conn, 0), twin = SURE(dup(fd));

	SURE(close(fd));
	send_all(twin, conn, 0, SMALL);
	receive_all(twin, conn, 0, SMALL);
	SURE(close(twin));
}

static void hand_server(int fd, int conn)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		wrong("fork: %s", strerror(errno));
	if (pid == 0) {
		who = "server's child";
		receive_all(fd, conn, 0, SMALL);
		send_all(fd, conn, 0, SMALL);
		receive_end(fd, conn);
		exit(0);
	}
	SURE(close(fd));
	if (waitpid(pid, &status, 0) != pid)
		wrong("waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status))
		wrong("%d: the child died of signal %d", conn, WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		exit(WEXITSTATUS(status));
}

/* What is written just before the exit arrives. */
static void leave_client(int port, int conn)
{
	send_all(dial(port, conn, 0), conn, 0, SMALL);
	exit(0);
}

static void leave_server(int fd, int conn)
{
	receive_all(fd, conn, 0, SMALL);
	receive_end(fd, conn);
	SURE(close(fd));
}

static void refused(void)
{
	struct sockaddr_in to = loopback(1);
	int fd = SURE(socket(AF_INET, SOCK_STREAM, 0));

	if (CALL(connect(fd, (struct sockaddr *)&to, sizeof to)) == 0 || errno != ECONNREFUSED)
		wrong("a port where nobody listens: %s", strerror(errno));
	SURE(close(fd));
}

static void client(int port)
{
	talk_client(port, 0);
	pour_client(port, 1);
	hand_client(port, 2);
	refused();
	nothing_left(0);
	leave_client(port, 3);
}

static int accept_one(int listener, int conn, bool hears_first)
{
	for (bool was_reset = false;; was_reset = true) {
		struct pollfd p = {.fd = listener, .events = POLLIN};
		char byte;
		long fd;

		if (SURE(poll(&p, 1, WAIT_MS)) != 1) {
			fprintf(stderr, "%s: %d: nobody calls%s\n", who, conn, was_reset ? " again" : "");
			exit(was_reset ? TOLD : ALONE);
		}
		fd = CALL(accept(listener, NULL, NULL));
		if (fd < 0 && errno == ENOMEM)
			continue; /* natively too, and the connection has been reset */
		if (fd < 0)
			failed("accept", conn);
		/* A client that has dialled again leaves the connection before behind, reset (README). */
		if (!hears_first || recv((int)fd, &byte, 1, MSG_PEEK) >= 0 || errno != ECONNRESET)
			return (int)fd;
		close((int)fd);
	}
}

static void server(void)
{
	static void (*const serve[])(int, int) = {talk_server, pour_server, hand_server, leave_server};
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof a;
	int listener = SURE(socket(AF_INET, SOCK_STREAM, 0));

	SURE(bind(listener, (struct sockaddr *)&a, sizeof a));
	SURE(listen(listener, 10));
	SURE(getsockname(listener, (struct sockaddr *)&a, &len));
	dprintf(3, "%d\n", ntohs(a.sin_port));
	close(3);
	for (int conn = 0; conn < 4; conn++)
		serve[conn](accept_one(listener, conn, conn != 1), conn); /* at the second it speaks first */
	SURE(close(listener));
	nothing_left(0);
}

int main(int argc, char **argv)
{
	who = argc > 1 ? argv[1] : "work";
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* what hangs ends with the driver, and is ended by it */
	if (argc == 3)
		client(atoi(argv[2]));
	else
		server();
	return 0;
}
