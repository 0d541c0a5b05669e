/*
 * Socket options: the program sees what it set, and the defaults where it set none.
 */
#include "zoo.h"

static void say_option(const char *name, int fd, int level, int option)
{
	int v = -1;
	socklen_t len = sizeof v;

	errno = 0;
	int r = getsockopt(fd, level, option, &v, &len);
	say("%s: %d %s, %d in %u bytes\n", name, r, r ? strerrorname_np(errno) : "", v, len);
}

static void say_keepalive(int fd)
{
	say_option("SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE);
	say_option("TCP_KEEPIDLE", fd, IPPROTO_TCP, TCP_KEEPIDLE);
	say_option("TCP_KEEPINTVL", fd, IPPROTO_TCP, TCP_KEEPINTVL);
	say_option("TCP_KEEPCNT", fd, IPPROTO_TCP, TCP_KEEPCNT);
	say_option("TCP_USER_TIMEOUT", fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
}

static void set(int fd, int level, int option, int value)
{
	T(setsockopt(fd, level, option, &value, sizeof value));
}

/* The program sees its own settings, and the defaults where it set none. */
static void keepalive(void)
{
	int port, s[2], l = listen_any(&port);
	struct sockaddr_in a = loopback(port);

	pair(s);
	say_keepalive(s[0]);
	settle();
	say_keepalive(s[0]);
	say_keepalive(s[1]);
	set(s[0], SOL_SOCKET, SO_KEEPALIVE, 1);
	set(s[0], IPPROTO_TCP, TCP_KEEPIDLE, 300);
	set(s[0], IPPROTO_TCP, TCP_KEEPINTVL, 60);
	settle();
	say_keepalive(s[0]);
	set(s[0], SOL_SOCKET, SO_KEEPALIVE, 0);
	set(s[0], IPPROTO_TCP, TCP_KEEPCNT, 0);
	set(s[0], IPPROTO_TCP, TCP_KEEPIDLE, 40000);
	set(s[0], IPPROTO_TCP, TCP_KEEPCNT, 5);
	set(s[0], IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
	settle();
	say_keepalive(s[0]);

	int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 123);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
	T(connect(fd, SA(&a), sizeof a));
	int d = dup(fd);
	settle();
	say_keepalive(fd);
	say_keepalive(d);
	char small = 9;
	socklen_t len = 1;
	T(getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &small, &len));
	say("short: %d in %u\n", small, len);
	T(getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, NULL, &len));
	T(setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &small, 1));
	/* A listener hands its settings to what it accepts. */
	set(l, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(l, IPPROTO_TCP, TCP_KEEPIDLE, 99);
	close(accept(l, NULL, NULL));
	fd = dial(port);
	int c = MUST(accept(l, NULL, NULL));
	settle();
	say_keepalive(c);
	say_keepalive(l);
}

/* What another process sets on a shared connection is seen here too. */
static void keepalive_shared(void)
{
	int s[2];

	pair(s);
	set(s[0], IPPROTO_TCP, TCP_KEEPIDLE, 123);
	settle();
	pid_t pid = MUST(fork());
	if (pid == 0) {
		say_keepalive(s[0]);
		set(s[0], IPPROTO_TCP, TCP_KEEPIDLE, 77);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	say_keepalive(s[0]);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"keepalive", keepalive},
		{"keepalive_shared", keepalive_shared},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
