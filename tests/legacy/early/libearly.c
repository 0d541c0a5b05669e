/* A library whose constructor and destructor use sockets, as resolvers and licence managers do. */
#include "../zoo.h"

static int s[2];

static void talk(const char *name)
{
	char buf[10] = "";
	struct pollfd p = {.fd = s[1], .events = POLLIN};

	errno = 0;
	ssize_t n = write(s[0], "ping", 4);
	int ready_now = poll(&p, 1, 1000);
	ssize_t m = recv(s[1], buf, 10, 0);
	say("%s: %zd %d %zd \"%s\" %d\n", name, n, ready_now, m, buf, errno);
}

__attribute__((constructor)) static void early(void)
{
	pair(s);
	say("numbers %d %d\n", s[0], s[1]);
	talk("constructor");
	int d = dup(s[1]);
	T(close(s[1]));
	s[1] = d;
	talk("constructor, dup");
	pid_t pid = fork();
	if (pid == 0) {
		talk("constructor, child");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

__attribute__((destructor)) static void late(void)
{
	talk("destructor");
	T(shutdown(s[0], SHUT_WR));
	drain("destructor", s[1]);
	T(close(s[1]));
	T(read(s[1], NULL, 0));
}

int early_talk(void);
int early_talk(void)
{
	talk("called by main");
	return 0;
}
