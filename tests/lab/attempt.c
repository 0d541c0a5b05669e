/*
 * A client that relies on what the kernel does with a limit: of a connect that is not answered, or its own on data.
 * Plain old C: it knows nothing of holdfast.
 *
 *   attempt collect ADDRESS PORT        connect non-blocking, poll, take the result by connect(2), try again
 *   attempt limit ADDRESS PORT MS FILE  TCP_USER_TIMEOUT MS, no keepalive; idle until FILE exists, then ask once and be
 *                                       answered
 *
 * ADDRESS is IPv4.  Lines as the waiter's: "ready PID FD", "options ...", "end STYLE RETURN ERRNO AT 0 0"; for collect
 * also "collect FIRST SECOND", the errors of the connect(2) that takes the result and of the one after it.
 */
#include "labutil.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

static void end(const char *style, long value, int error)
{
	say("end %s %ld %s %lld 0 0\n", style, value, error_name(error), now_ms());
}

static int try(int fd, const struct sockaddr_in *to)
{
	return connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? errno : 0;
}

static void collect(int fd, const struct sockaddr_in *to)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int ready, first, second;

	if (try(fd, to) != EINPROGRESS)
		give_up("connect");
	say("ready %d %d\n", (int)getpid(), fd);
	ready = poll(&p, 1, -1);
	first = try(fd, to);
	second = try(fd, to);
	say("collect %s %s\n", error_name(first), error_name(second));
	end("collect", ready, first);
}

static void limit(int fd, const struct sockaddr_in *to, unsigned ms, const char *go)
{
	char byte = 'x';
	ssize_t n;

	if (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) < 0 || try(fd, to) != 0)
		give_up("connect");
	say("ready %d %d\n", (int)getpid(), fd);
	await_file(go);
	n = send(fd, &byte, 1, MSG_NOSIGNAL);
	if (n > 0)
		n = recv(fd, &byte, 1, 0);
	end("limit", n, n < 0 ? errno : 0);
	tell_options("options", fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	int collecting = argc == 4 && !strcmp(argv[1], "collect");
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (collecting ? SOCK_NONBLOCK : 0), 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	errno = EINVAL;
	if (fd < 0 || !(collecting || (argc == 6 && !strcmp(argv[1], "limit"))) ||
	    inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		give_up("usage: attempt collect ADDRESS PORT | attempt limit ADDRESS PORT MS FILE");
	to.sin_port = htons((uint16_t)atoi(argv[3]));
	if (collecting)
		collect(fd, &to);
	else
		limit(fd, &to, (unsigned)atoi(argv[4]), argv[5]);
	return 0;
}
