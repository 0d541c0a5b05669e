/*
 * How connections end that have lived for a while, so that the library's thread has looked at them, and that nobody in
 * the program thinks of any more: it sleeps, or has handed them on.
 */
#include "zoo_peer.h"

#include <pthread.h>

static char large[3000000];

/* A process that has the other end of FD, and both have settled. */
static pid_t apart(int *fd, int *listener, void (*other)(int fd))
{
	int port, on = 1;
	pid_t pid;

	*listener = listen_any(&port);
	MUST(setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	pid = MUST(fork());
	if (pid == 0) {
		close(*listener);
		*fd = dial(port);
		settle();
		other(*fd);
		_exit(0);
	}
	*fd = MUST(accept(*listener, NULL, NULL));
	settle();
	return pid;
}

static void over(pid_t pid)
{
	int status;

	MUST(waitpid(pid, &status, 0));
	say("peer ended %d\n", status);
}

static void reads_late(int fd)
{
	nap(300);
	drain("peer", fd);
	nap(300);
	T(write(fd, "to nobody", 9) == 9);
	nap(300);
	signal(SIGPIPE, SIG_IGN);
	T(write(fd, "once more", 9));
	close(fd);
}

/* The bytes arrive, and the end behind them, while the program that has closed sleeps. */
static void tail(void)
{
	int fd, listener;
	pid_t pid = apart(&fd, &listener, reads_late);

	fill(large, sizeof large, 1);
	T(write_full(fd, large, sizeof large));
	T(close(fd));
	over(pid);
	T(close(listener));
}

static void reads_half(int fd)
{
	nap(300);
	T(read_full(fd, large, 1000));
	T(write(fd, "unread", 6));
	nap(300);
	close(fd);
}

/* The peer ends it with most of the bytes unread: a reset. */
static void refused(void)
{
	int fd, listener;
	pid_t pid = apart(&fd, &listener, reads_half);

	fill(large, sizeof large, 2);
	T(write_full(fd, large, sizeof large / 2));
	T(close(fd));
	over(pid);
	T(close(listener));
}

static int descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 2000; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void many_of_them(int fd)
{
	int port = 0, l = fd;

	for (int i = 0; i < 100 && read(l, &port, sizeof port) == (ssize_t)sizeof port; i++) {
		int s = dial(port);

		MUST(read(s, large, 1));
		MUST(read_full(s, large, 20000));
		MUST(write(fd, "x", 1));
		(void)!read(s, large, 1);
		close(s);
	}
}

/* One after the other, each with bytes in flight: nothing of them stays, and all of them arrive. */
static void many(void)
{
	int fd, listener, port, l = listen_any(&port), before, after;
	pid_t pid = apart(&fd, &listener, many_of_them);
	char byte;

	fill(large, sizeof large, 3);
	before = descriptors();
	for (int i = 0; i < 100; i++) {
		MUST(write(fd, &port, sizeof port));
		int s = MUST(accept(l, NULL, NULL));

		MUST(write(s, "1", 1));
		MUST(write_full(s, large, 20000));
		MUST(close(s));
		MUST(read(fd, &byte, 1));
	}
	settle();
	MUST(close(dup(0)));
	after = descriptors();
	say("%s\n", after <= before + 1 ? "none left" : "some left");
	T(close(fd));
	over(pid);
	T(close(l));
	T(close(listener));
}

static void *sleeper(void *arg)
{
	char buf[100];
	const int *fd = arg;

	return (void *)(long)read(*fd, buf, sizeof buf);
}

static void wakes(int fd)
{
	nap(500);
	T(write(fd, "wake up", 7) == 7);
	drain("peer", fd);
	close(fd);
}

/* Closed beside a thread that sleeps in a read of it: it ends when that does. */
static void slept_in(void)
{
	int fd, listener;
	pid_t pid = apart(&fd, &listener, wakes);
	pthread_t thread;
	void *had;

	MUST(-pthread_create(&thread, NULL, sleeper, &fd));
	nap(200);
	T(close(fd));
	MUST(-pthread_join(thread, &had));
	over(pid);
	say("the sleeper had %ld\n", (long)had);
	T(close(listener));
}

static void meets_child(int fd)
{
	nap(300);
	drain("peer", fd);
	close(fd);
}

/* A child that is forked while bytes of a closed connection are in flight has nothing to do with it. */
static void forked_then(void)
{
	int fd, listener, s[2];
	pid_t pid = apart(&fd, &listener, meets_child), child;

	fill(large, sizeof large, 4);
	T(write_full(fd, large, sizeof large));
	T(close(fd));
	child = MUST(fork());
	if (child == 0) {
		pair(s);
		T(write(s[0], "child", 5));
		T(close(s[0]));
		drain("child", s[1]);
		T(close(s[1]));
		nap(700);
		_exit(0);
	}
	over(pid);
	MUST(waitpid(child, NULL, 0));
	T(close(listener));
}

static void talks(int fd)
{
	nap(300);
	drain("peer", fd);
	close(fd);
}

/* Handed to a process that was there before, and closed here: it goes on there. */
static void handed(void)
{
	int fd, listener, both[2];
	pid_t worker, pid;

	fill(large, sizeof large, 6);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, both));
	worker = MUST(fork());
	if (worker == 0) {
		fd = receive_fd(both[0]);
		nap(500);
		T(write_full(fd, large, sizeof large));
		nap(300);
		T(write_full(fd, large, 1000));
		MUST(close(fd)); /* unsaid: the peer may say first what it has seen */
		_exit(0);
	}
	pid = apart(&fd, &listener, talks);
	T(write_full(fd, large, 100000));
	send_fd(both[1], fd);
	T(close(fd));
	nap(300);
	over(pid);
	MUST(waitpid(worker, NULL, 0));
	T(close(listener));
}

/* The same port once more, right behind the end. */
static void port_again(void)
{
	int fd, listener, port, on = 1;
	pid_t pid = apart(&fd, &listener, meets_child);
	struct sockaddr_in a;
	socklen_t len = sizeof a;

	MUST(getsockname(listener, SA(&a), &len));
	fill(large, sizeof large, 5);
	T(write_full(fd, large, sizeof large));
	T(close(fd));
	over(pid);
	T(close(listener));
	port = MUST(socket(AF_INET, SOCK_STREAM, 0));
	T(setsockopt(port, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	T(bind(port, SA(&a), sizeof a));
	T(listen(port, 1));
	T(close(port));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"tail", tail},
		{"refused", refused},
		{"many", many},
		{"slept_in", slept_in},
		{"forked_then", forked_then},
		{"handed", handed},
		{"port_again", port_again},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
