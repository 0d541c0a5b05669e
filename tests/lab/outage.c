/*
 * A client that knows nothing of holdfast and tries, during an outage, every way in which a call could notice it.
 *
 *   outage HOST PORT FILE [shutdown|close|limit|record]
 *
 * Lines: "ready PID FD"; once FILE exists "during WHAT RESULT" for each way, then "during over 0"; then it sends a
 * question, blocking, and "end echo RETURN ERRNO AT BYTES HASH" tells of the answer.  With a fourth argument it ends
 * its direction or closes once FILE exists, and tells what follows; or it does not wait for FILE, but reads at once:
 * with a limit of 5 s, or a record of 20 bytes.
 */
#include "labutil.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/time.h>

static int fd;
static long long began;

static void tell(const char *what, long result)
{
	say("during %s %s\n", what, result < 0 ? error_name(errno) : result == 0 ? "0" : "READY");
}

/* The same, and whether it took about MS. */
static void tell_after(const char *what, long result, long long ms)
{
	long long took = now_ms() - began;
	int error = errno;

	say("during %s %s%s\n", what,
	    result < 0    ? error_name(error)
	    : result == 0 ? "0"
			  : "READY",
	    took < ms - 20     ? " early"
	    : took > ms + 1000 ? " late"
			       : "");
}

static void ignore(int signal)
{
	(void)signal;
}

static void try_moving(void)
{
	struct timeval limit = {0, 300000}, none = {0, 0};
	struct sigaction act = {.sa_handler = ignore};
	struct itimerval soon = {{0, 0}, {0, 200000}};
	char byte = 0;

	tell("recv-dontwait", recv(fd, &byte, 1, MSG_DONTWAIT));
	tell("send-dontwait", send(fd, &byte, 1, MSG_DONTWAIT));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	tell("read-nonblock", read(fd, &byte, 1));
	tell("write-nonblock", write(fd, &byte, 1));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	began = now_ms();
	tell_after("recv-limit", recv(fd, &byte, 1, 0), 300);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	began = now_ms();
	tell_after("recv-signal", recv(fd, &byte, 1, 0), 200);
	setitimer(ITIMER_REAL, &soon, NULL);
	began = now_ms();
	tell_after("send-signal", send(fd, &byte, 1, 0), 200);
}

static void try_waiting(void)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	struct timeval limit = {0, 200000};
	struct epoll_event level = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP}, edge = {.events = EPOLLIN | EPOLLET},
			   got;
	int epoll = epoll_create1(0), epoll_et = epoll_create1(0);
	fd_set in, out;

	began = now_ms();
	tell_after("poll", poll(&p, 1, 200), 200);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	began = now_ms();
	tell_after("select", select(fd + 1, &in, &out, NULL, &limit), 200);
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &level);
	epoll_ctl(epoll_et, EPOLL_CTL_ADD, fd, &edge);
	began = now_ms();
	tell_after("epoll", epoll_wait(epoll, &got, 1, 200), 200);
	began = now_ms();
	tell_after("epoll-edge", epoll_wait(epoll_et, &got, 1, 200), 200);
	close(epoll);
	close(epoll_et);
}

static void try_asking(const struct sockaddr_in *peer)
{
	struct sockaddr_in name = {0};
	socklen_t size = sizeof(name);
	int error = -1;

	tell("getpeername", getpeername(fd, (struct sockaddr *)&name, &size));
	say("during peer %s\n",
	    memcmp(&name.sin_addr, &peer->sin_addr, 4) == 0 && name.sin_port == peer->sin_port ? "same" : "other");
	size = sizeof(name);
	tell("getsockname", getsockname(fd, (struct sockaddr *)&name, &size));
	say("during local %s\n", name.sin_port != 0 ? "some" : "none");
	tell("connect", connect(fd, (const struct sockaddr *)peer, sizeof(*peer)));
	size = sizeof(error);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	say("during SO_ERROR %s\n", error_name(error));
}

/* In the middle of a call when the outage begins. */
static int be_caught(const char *how)
{
	const struct timeval limit = {5, 0};
	char record[20];

	if (strcmp(how, "limit") == 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		began = now_ms();
		tell_after("recv-limit", recv(fd, record, sizeof(record), 0), 5000);
		return 0;
	}
	say("during part %d\n", (int)recv(fd, record, sizeof(record), MSG_WAITALL));
	tell("rest", recv(fd, record, sizeof(record), 0));
	return 0;
}

/* The program has had enough. */
static int stop(const char *how)
{
	unsigned char state = 0;
	socklen_t size = sizeof(state);
	struct linger abort = {1, 0};
	char byte;
	int again;

	if (strcmp(how, "shutdown") == 0) {
		tell("shutdown", shutdown(fd, SHUT_WR));
		tell("recv", recv(fd, &byte, 1, 0));
		return 0;
	}
	tell("close", close(fd));
	again = socket(AF_INET, SOCK_STREAM, 0);
	say("during number %s\n", again == fd ? "same" : "other");
	setsockopt(again, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	nap_ms(3000);
	getsockopt(again, IPPROTO_TCP, TCP_INFO, &state, &size);
	say("during state %s\n", state == TCP_CLOSE ? "untouched" : "changed");
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in peer = {.sin_family = AF_INET};
	unsigned char out[16], in[16];
	struct tally tally = TALLY_INIT;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	if (argc < 4 || inet_pton(AF_INET, argv[1], &peer.sin_addr) != 1)
		return 2;
	peer.sin_port = htons((uint16_t)atoi(argv[2]));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof(peer)))
		give_up("connect");
	say("ready %d %d\n", (int)getpid(), fd);
	if (argc > 4 && (strcmp(argv[4], "limit") == 0 || strcmp(argv[4], "record") == 0))
		return be_caught(argv[4]);
	await_file(argv[3]);
	if (argc > 4)
		return stop(argv[4]);
	try_moving();
	try_waiting();
	try_asking(&peer);
	say("during over 0\n");
	pattern_fill(out, sizeof(out), 0);
	errno = 0;
	if (send(fd, out, sizeof(out), 0) == sizeof(out) && recv(fd, in, sizeof(in), MSG_WAITALL) == sizeof(in) &&
	    memcmp(in, out, sizeof(in)) == 0)
		tally_add(&tally, in, sizeof(in));
	else
		errno = errno != 0 ? errno : EIO;
	say("end echo 0 %s %lld %" PRIu64 " %016" PRIx64 "\n", error_name(errno), now_ms(), tally.bytes, tally.hash);
	return errno != 0;
}
