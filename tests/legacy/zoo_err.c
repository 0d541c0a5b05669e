/*
 * Errors and ends: refused, reset, broken pipes, signals in the middle of calls, non-blocking connect, shutdown in
 * every order.
 */
#include "zoo.h"

#include <setjmp.h>
#include <sys/select.h>
#include <sys/uio.h>

static int closed_port(void)
{
	int port, l = listen_any(&port);

	close(l);
	return port;
}

static int so_error(int fd)
{
	int e = -1;
	socklen_t len = sizeof e;

	MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len));
	say("SO_ERROR %s\n", e ? strerrorname_np(e) : "0");
	return e;
}

static void refused(void)
{
	struct sockaddr_in a = loopback(closed_port());
	char buf[10];
	int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));

	T(read(fd, buf, 10));
	T(send(fd, "x", 1, MSG_NOSIGNAL));
	ready("fresh", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	T(connect(fd, SA(&a), sizeof a));
	so_error(fd);
	T(read(fd, buf, 10));
	T(send(fd, "x", 1, MSG_NOSIGNAL));
	ready("refused", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	T(connect(fd, SA(&a), sizeof a));
	settle();
	int port, l = listen_any(&port);
	a = loopback(port);
	T(connect(fd, SA(&a), sizeof a));
	T(connect(fd, SA(&a), sizeof a));
	int c = (int)T(accept(l, NULL, NULL));
	T(write(c, "third time", 10));
	T(read(fd, buf, 10));
	T(connect(-1, SA(&a), sizeof a));
	T(connect(fd, SA(&a), 3));
	T(connect(fd, NULL, sizeof a));
	T(close(fd));
}

static void nonblocking_connect(void)
{
	int port, l = listen_any(&port);
	struct sockaddr_in a = loopback(port);
	int fd = (int)T(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	char buf[10];

	T(connect(fd, SA(&a), sizeof a));
	ready("connecting", fd, POLLIN | POLLOUT | POLLRDHUP, 2000);
	so_error(fd);
	T(connect(fd, SA(&a), sizeof a));
	T(connect(fd, SA(&a), sizeof a));
	T(read(fd, buf, 10));
	int c = (int)T(accept(l, NULL, NULL));
	settle();
	T(write(fd, "hello", 5));
	T(read(c, buf, 10));
	T(close(fd));
	T(read(c, buf, 10));

	a = loopback(closed_port());
	fd = (int)T(socket(AF_INET, SOCK_STREAM, 0));
	T(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
	T(connect(fd, SA(&a), sizeof a));
	ready("refused", fd, POLLIN | POLLOUT | POLLRDHUP, 2000);
	settle();
	so_error(fd);
	so_error(fd);
	T(read(fd, buf, 10));
	int other = (int)T(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	T(connect(other, SA(&a), sizeof a));
	nap(50);
	T(read(other, buf, 10));
	T(read(other, buf, 10));
	fd_set out;
	FD_ZERO(&out);
	FD_SET(other, &out);
	T(select(other + 1, NULL, &out, NULL, NULL));
}

static void make_reset(int s[2])
{
	struct linger now = {1, 0};

	pair(s);
	settle();
	T(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof now));
	T(close(s[0]));
	nap(20);
}

static void reset(void)
{
	int s[2];
	char buf[10];
	struct iovec io = {buf, 1};

	signal(SIGPIPE, SIG_IGN);
	make_reset(s);
	ready("reset", s[1], POLLIN | POLLOUT | POLLRDHUP, 1000);
	T(read(s[1], buf, 10));
	T(read(s[1], buf, 10));
	T(write(s[1], buf, 10));
	T(close(s[1]));
	make_reset(s);
	T(write(s[1], buf, 10));
	T(write(s[1], buf, 10));
	T(read(s[1], buf, 10));
	T(close(s[1]));
	make_reset(s);
	settle();
	so_error(s[1]);
	so_error(s[1]);
	T(recv(s[1], buf, 10, 0));
	T(writev(s[1], &io, 1));
	T(close(s[1]));
	make_reset(s);
	FILE *f = fdopen(s[1], "r+");
	T(fgets(buf, sizeof buf, f) == NULL);
	T(!!ferror(f));
	T(fclose(f));
}

/* The reset comes while the reader sleeps. */
static void reset_asleep(void)
{
	int s[2];
	char buf[10];
	struct linger now = {1, 0};

	pair(s);
	setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
	pid_t pid = MUST(fork());
	if (pid == 0) {
		close(s[1]);
		nap(400);
		_exit(0);
	}
	close(s[0]);
	T(read(s[1], buf, 10));
	T(read(s[1], buf, 10));
	waitpid(pid, NULL, 0);
	/* Closed with data unread: the peer's write is answered by a reset. */
	pair(s);
	T(write(s[0], "never read", 10));
	nap(20);
	T(close(s[1]));
	nap(20);
	T(read(s[0], buf, 10));
	T(read(s[0], buf, 10));
}

static volatile int pipes;

static void on_pipe(int sig)
{
	pipes += sig == SIGPIPE;
}

static void sigpipe(void)
{
	int s[2], dead, p[2];
	struct iovec io = {"x", 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};

	signal(SIGPIPE, on_pipe);
	pair(s);
	T(shutdown(s[0], SHUT_WR));
	T(write(s[0], "x", 1));
	say("signals %d\n", pipes);
	T(send(s[0], "x", 1, MSG_NOSIGNAL));
	T(sendmsg(s[0], &m, MSG_NOSIGNAL));
	say("signals %d\n", pipes);
	T(sendmsg(s[0], &m, 0));
	T(writev(s[0], &io, 1));
	T(send(s[0], "x", 1, 0));
	say("signals %d\n", pipes);
	MUST(pipe(p));
	close(p[0]);
	T(write(p[1], "x", 1));
	say("signals %d\n", pipes);
	settle();
	signal(SIGPIPE, SIG_DFL);
	pid_t pid = MUST(fork());
	if (pid == 0) {
		write(s[0], "x", 1);
		_exit(0);
	}
	waitpid(pid, &dead, 0);
	say_status("writer", dead);
	pid = MUST(fork());
	if (pid == 0) {
		FILE *f = fdopen(s[0], "w");
		fputs("through stdio", f);
		fflush(f);
		_exit(0);
	}
	waitpid(pid, &dead, 0);
	say_status("stdio writer", dead);
}

static void on_alarm(int sig)
{
	say("signal %s\n", sigabbrev_np(sig));
}

static void alarm_in(int ms)
{
	struct timespec when = {ms / 1000, ms % 1000 * 1000000};
	struct itimerspec t = {.it_value = when};
	static timer_t timer;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};

	if (!timer)
		MUST(timer_create(CLOCK_MONOTONIC, &e, &timer));
	MUST(timer_settime(timer, 0, &t, NULL));
}

static void interrupted(void)
{
	int s[2], port, l = listen_any(&port);
	char buf[10];
	fd_set in;
	struct timeval tv = {.tv_sec = 5};
	struct timespec ts = {.tv_sec = 5};
	struct pollfd p;
	sigset_t none;
	struct sigaction act = {.sa_handler = on_alarm};

	sigemptyset(&none);
	pair(s);
	p = (struct pollfd){.fd = s[1], .events = POLLIN};
	FD_ZERO(&in);
	FD_SET(s[1], &in);
	T(sigaction(SIGUSR1, &act, NULL));
	alarm_in(300);
	T(read(s[1], buf, 10));
	alarm_in(100);
	T(recv(s[1], buf, 10, 0));
	alarm_in(100);
	T(accept(l, NULL, NULL));
	alarm_in(100);
	T(poll(&p, 1, 5000));
	alarm_in(100);
	T(select(s[1] + 1, &in, NULL, NULL, &tv));
	alarm_in(100);
	T(ppoll(&p, 1, &ts, &none));
	alarm_in(100);
	T(pselect(s[1] + 1, &in, NULL, NULL, &ts, &none));
	/* Some bytes of a record, then the signal: the count, not an error. */
	T(write(s[0], "abc", 3));
	alarm_in(100);
	T(recv(s[1], buf, 10, MSG_WAITALL));
	/* Restarted: the read goes on until the child's byte. */
	act.sa_flags = SA_RESTART;
	T(sigaction(SIGUSR1, &act, NULL));
	pid_t pid = MUST(fork());
	if (pid == 0) {
		nap(500);
		write(s[0], "late", 4);
		_exit(0);
	}
	alarm_in(200);
	T(read(s[1], buf, 10));
	alarm_in(100);
	T(poll(&p, 1, 5000));
	waitpid(pid, NULL, 0);
}

/* The mask is swapped by the kernel for as long as the call waits. */
static void masks(void)
{
	int s[2];
	sigset_t blocked, open_mask;
	struct timespec ts = {.tv_sec = 5};
	struct sigaction act = {.sa_handler = on_alarm};
	struct pollfd p;
	fd_set in;

	pair(s);
	p = (struct pollfd){.fd = s[1], .events = POLLIN};
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	T(sigprocmask(SIG_BLOCK, &blocked, &open_mask));
	sigaction(SIGUSR1, &act, NULL);
	T(raise(SIGUSR1));
	settle();
	say("still pending\n");
	T(ppoll(&p, 1, &ts, &open_mask));
	raise(SIGUSR1);
	FD_ZERO(&in);
	FD_SET(s[1], &in);
	T(pselect(s[1] + 1, &in, NULL, NULL, &ts, &open_mask));
	alarm_in(100);
	nap(200);
	int sig = 0;
	T(sigwait(&blocked, &sig));
	say("took %s\n", sigabbrev_np(sig));
}

static sigjmp_buf out;

static void jump(int sig)
{
	siglongjmp(out, sig);
}

static void jump_out(void)
{
	int s[2];
	char buf[10];
	static char big[1 << 22];

	pair(s);
	signal(SIGUSR1, jump);
	for (int i = 0; i < 3; i++) {
		if (sigsetjmp(out, 1) == 0) {
			alarm_in(150);
			read(s[1], buf, 10);
			say("not reached\n");
		} else {
			say("timed out\n");
		}
	}
	if (sigsetjmp(out, 1) == 0) {
		alarm_in(150);
		write_full(s[0], big, sizeof big);
		write_full(s[0], big, sizeof big);
		say("not reached\n");
	}
	say("writer timed out\n");
	T(shutdown(s[0], SHUT_WR));
	long n, zeros = 0;
	while ((n = read(s[1], big, sizeof big)) > 0)
		for (long i = 0; i < n; i++)
			zeros += big[i] != 0;
	say("end %ld, odd bytes %ld\n", n, zeros);
	T(write(s[1], "usable", 6));
	T(read(s[0], buf, 10));
}

static void shutdowns(void)
{
	static const int order[4][2] = {{0, 1}, {1, 0}, {0, 0}, {1, 1}};
	char buf[10];
	int s[2];

	for (int i = 0; i < 4; i++) {
		pair(s);
		T(write(s[0], "a", 1));
		T(write(s[1], "b", 1));
		nap(20);
		T(shutdown(s[order[i][0]], SHUT_WR));
		nap(20);
		ready("0", s[0], POLLIN | POLLOUT | POLLRDHUP, 0);
		ready("1", s[1], POLLIN | POLLOUT | POLLRDHUP, 0);
		T(shutdown(s[order[i][1]], SHUT_WR));
		nap(20);
		ready("0", s[0], POLLIN | POLLOUT | POLLRDHUP, 0);
		ready("1", s[1], POLLIN | POLLOUT | POLLRDHUP, 0);
		T(recv(s[0], buf, 10, MSG_DONTWAIT));
		T(recv(s[1], buf, 10, MSG_DONTWAIT));
		T(recv(s[0], buf, 10, MSG_DONTWAIT));
		T(recv(s[1], buf, 10, MSG_DONTWAIT));
		T(shutdown(s[0], SHUT_RDWR));
		T(shutdown(s[1], SHUT_RD));
		T(close(s[0]));
		T(close(s[1]));
	}
	pair(s);
	T(shutdown(s[1], SHUT_RD));
	T(read(s[1], buf, 10));
	T(write(s[0], "after", 5));
	nap(20);
	T(read(s[1], buf, 10));
	T(read(s[1], buf, 10));
	T(shutdown(s[1], 7));
	settle();
	T(shutdown(s[1], SHUT_RDWR));
	T(shutdown(-1, SHUT_WR));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"refused", refused},     {"nonblocking_connect", nonblocking_connect},
		{"reset", reset},         {"reset_asleep", reset_asleep},
		{"sigpipe", sigpipe},     {"interrupted", interrupted},
		{"masks", masks},         {"jump_out", jump_out},
		{"shutdowns", shutdowns}, {NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
