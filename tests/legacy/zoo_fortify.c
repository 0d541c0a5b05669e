/*
 * A program built with _FORTIFY_SOURCE: its calls go to __read_chk and the like, which abort on an overflow.
 */
#undef _FORTIFY_SOURCE
#ifdef __OPTIMIZE__
#define _FORTIFY_SOURCE 2
#endif
#include "zoo.h"

#include <sys/resource.h>
#include <sys/select.h>

static int s[2];
static volatile size_t much = 64; /* unknown to the compiler: checked at run time */
static volatile int far = 5000;

static void do_read(void)
{
	char small[16];
	T(read(s[1], small, much));
}

static void do_recv(void)
{
	char small[16];
	T(recv(s[1], small, much, 0));
}

static void do_recvfrom(void)
{
	char small[16];
	T(recvfrom(s[1], small, much, 0, NULL, NULL));
}

static void do_pread(void)
{
	char small[16];
	T(pread(s[1], small, much, 0));
}

static void do_poll(void)
{
	struct pollfd p[2] = {{.fd = s[1], .events = POLLIN}, {.fd = s[0], .events = POLLIN}};
	T(poll(p, much, 0));
}

static void do_ppoll(void)
{
	struct pollfd p[2] = {{.fd = s[1], .events = POLLIN}, {.fd = s[0], .events = POLLIN}};
	struct timespec t = {0};
	T(ppoll(p, much, &t, NULL));
}

static void do_fdset(void)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(far, &set);
	say("set\n");
}

static void fits(void)
{
	much = 2;
	T(write(s[0], "abcdefghijkl", 12));
	do_poll();
	do_ppoll();
	do_read();
	do_recv();
	do_recvfrom();
	do_pread();
}

static void in_child(const char *name, void (*run)(void))
{
	int status;
	pid_t pid = MUST(fork());

	if (pid == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		run();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	say_status(name, status);
}

static void fortified(void)
{
	pair(s);
	MUST((int)write(s[0], "some bytes that fit", 19));
	in_child("fits", fits);
	settle();
	in_child("read", do_read);
	in_child("recv", do_recv);
	in_child("recvfrom", do_recvfrom);
	in_child("pread", do_pread);
	in_child("poll", do_poll);
	in_child("ppoll", do_ppoll);
	in_child("FD_SET", do_fdset);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {{"fortified", fortified}, {NULL, NULL}};
	return zoo_main(argc, argv, all);
}
