/*
 * What once went wrong, each as the program that showed it: sweeps over all descriptors, sets larger than they are,
 * credentials changed by several threads, threads and processes that leave by the bare system call, connections
 * inherited, reused under a sleeper, cancelled in close, retried, closed where there are few numbers, left by a
 * jump, used by handlers.
 */
#include "zoo.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* A system call that no library sees. */
static long bare(long nr, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	long result = nr;

	__asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = e;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
#else
#error "this architecture's system call instruction is missing"
#endif
}

static int threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int count = 0;

	if (!dir)
		give_up("/proc/self/task");
	for (struct dirent *d; (d = readdir(dir));)
		count += d->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* Until this process has one thread, at most so long: a plain program does not wait at all. */
static bool alone_within(long ms)
{
	long end = now_ms() + ms;

	while (threads() > 1 && now_ms() < end)
		nap(50);
	return threads() == 1;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	MUST(getsockopt(fd, level, name, &value, &len));
	return value;
}

/* The same as the kernel has it. */
static int bare_option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	bare(SYS_getsockopt, fd, level, name, (long)&value, (long)&len);
	return value;
}

/* How many of the first numbers are open. */
static int open_numbers(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Everything from 0 up goes. */
static void sweep(const char *name, void (*all)(void))
{
	int status;
	pid_t pid = MUST(fork());

	if (pid == 0) {
		MUST(dup2(1, 100));
		all();
		_exit(open_numbers());
	}
	MUST(waitpid(pid, &status, 0));
	say_status(name, status);
}

/* The same with a connection among them, which the peer sees closed. */
static void sweep_connection(const char *name, void (*all)(void))
{
	int s[2], status;
	char buf[8];

	pair(s);
	settle();
	pid_t pid = MUST(fork());
	if (pid == 0) {
		MUST(close(s[1]));
		MUST(write(s[0], "bye", 3));
		MUST(dup2(s[0], 100));
		all();
		/* By the sweep it is closed, not by the exit. */
		nap(1000);
		_exit(open_numbers());
	}
	MUST(close(s[0]));
	long began = now_ms();
	T(read(s[1], buf, sizeof buf));
	T(read(s[1], buf, sizeof buf));
	say("%s closed it at once: %d\n", name, now_ms() - began < 800);
	MUST(waitpid(pid, &status, 0));
	say_status(name, status);
}

static void sweep_range(void)
{
	close_range(0, ~0U, 0);
}

static void sweep_from(void)
{
	closefrom(0);
}

static void sweeps(void)
{
	sweep("close_range", sweep_range);
	sweep("closefrom", sweep_from);
	sweep_connection("close_range", sweep_range);
	sweep_connection("closefrom", sweep_from);
}

/* select(getdtablesize(), ...) with sets of the usual size: nothing behind them may be looked at. */
static void select_many(void)
{
	long page = sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timeval zero = {0};
	int s[2];

	if (map == MAP_FAILED || mprotect(map + page, (size_t)page, PROT_NONE) < 0)
		give_up("mmap");
	fd_set *in = (fd_set *)(void *)(map + page - sizeof *in);
	pair(s);
	settle();
	FD_SET(s[1], in);
	T(select(200000, in, NULL, NULL, &zero));
	T(write(s[0], "x", 1));
	FD_SET(s[1], in);
	T(select(200000, in, NULL, NULL, NULL));
	say("readable %d\n", FD_ISSET(s[1], in));
}

static void *change_credentials(void *arg)
{
	for (int i = 0; i < 200; i++)
		syscall(SYS_setresuid, -1, -1, -1);
	return arg;
}

/* Several threads change (to what they are) at the same time: each wants the watchdog out of the way. */
static void credentials(void)
{
	pthread_t t[4];
	int s[2];
	char b;

	pair(s);
	settle();
	int before = threads();
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, change_credentials, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	say("changed\n");
	T(write(s[0], "x", 1));
	T(read(s[1], &b, 1));
	settle();
	say("no thread fewer: %d\n", threads() >= before);
}

static void *leave_barely(void *arg)
{
	syscall(SYS_exit, 0);
	return arg;
}

/* One thread leaves by the bare call: whatever else runs in the process goes on. */
static void exit_of_one(void)
{
	int s[2], later[2];
	pthread_t t;

	pair(s);
	settle();
	int before = threads();
	pthread_create(&t, NULL, leave_barely, NULL);
	pthread_join(t, NULL);
	nap(100);
	pair(later);
	settle();
	say("no thread fewer: %d\n", threads() >= before);
}

/* The only thread leaves by the bare call: so does the process, with that status. */
static void exit_of_all(void)
{
	long began = now_ms();
	struct kid kid;
	int s[2];

	if (spawn_kid(&kid)) {
		pair(s);
		T(write(s[0], "x", 1));
		settle();
		say("leaving\n");
		bare(SYS_exit, 3, 0, 0, 0, 0);
	}
	reap("leaver", &kid);
	say("in time: %d\n", now_ms() - began < 10000);
}

/* A child uses inherited connections and closes them at once: the last one closed, nothing is left running for them. */
static void claimed(void)
{
	enum { MANY = 20 };
	int s[MANY][2];
	struct kid kid;
	char b;

	for (int i = 0; i < MANY; i++)
		pair(s[i]);
	settle();
	if (spawn_kid(&kid)) {
		for (int i = 0; i < MANY; i++) {
			for (int side = 0; side < 2; side++) {
				recv(s[i][side], &b, 1, MSG_DONTWAIT);
				close(s[i][side]);
			}
		}
		nap(100);
		say("alone again: %d\n", alone_within(14000));
		_exit(0);
	}
	reap("child", &kid);
	T(write(s[MANY - 1][0], "x", 1));
	T(read(s[MANY - 1][1], &b, 1));
}

static void *sleep_in_recv(void *fd)
{
	char b;
	long n = recv(*(int *)fd, &b, 1, 0);

	return (void *)(n < 0 ? -(long)errno : n);
}

/* A thread sleeps in recv, the number is closed and another connection gets it; the reset of the first is none of the
 * second's business.  zoo.test: and is not reported as its end. */
static void stale_sleeper(void)
{
	struct linger now = {1, 0};
	int s[2], later[2], fd;
	void *result;
	pthread_t t;
	char b;

	pair(s);
	settle();
	fd = s[0];
	pthread_create(&t, NULL, sleep_in_recv, &fd);
	nap(200);
	T(close(s[0]));
	nap(1500);
	pair(later);
	say("the same number: %d\n", later[0] == fd);
	settle();
	settle();
	MUST(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &now, sizeof now));
	T(close(s[1]));
	pthread_join(t, &result);
	say("the sleeper was told of the reset: %d\n", result == (void *)-(long)ECONNRESET);
	settle();
	T(write(later[0], "y", 1));
	T(read(later[1], &b, 1));
}

static void *sleep_for_bytes(void *fd)
{
	char buf[16];
	ssize_t n = recv(*(int *)fd, buf, sizeof(buf), 0);

	return (void *)(n < 0 ? -(long)errno : n);
}

/* The same, and the peer writes after all: to the kernel the socket is open for as long as the thread sleeps in it. */
static void late_reply(void)
{
	struct pollfd p = {.events = POLLIN};
	int s[2], other;
	void *result;
	pthread_t t;
	char b[16];

	pair(s);
	settle();
	pthread_create(&t, NULL, sleep_for_bytes, &s[0]);
	nap(200);
	T(dup2(other = open("/dev/zero", O_RDONLY), s[0]));
	nap(700);
	p.fd = s[1];
	T(poll(&p, 1, 0)); /* no end yet */
	T(write(s[1], "late", 4));
	pthread_join(t, &result);
	say("the sleeper got %ld\n", (long)result);
	T(read(s[1], b, sizeof b)); /* now it is */
	T(read(s[0], b, 1));
	T(close(s[0]));
	T(close(other));
	T(close(s[1]));
}

static void close_again(void *fd)
{
	close(*(int *)fd);
}

static void *cancelled_in_close(void *fd)
{
	pthread_cleanup_push(close_again, fd);
	pthread_cancel(pthread_self());
	close(*(int *)fd);
	say("not reached\n");
	pthread_cleanup_pop(0);
	return NULL;
}

/* Threads cancelled in close(2).  zoo.test: each connection is reported closed all the same, after a while. */
static void cancelled_close(void)
{
	enum { SOME = 5 };
	int s[SOME][2];
	void *result;
	pthread_t t;
	char b;

	for (int i = 0; i < SOME; i++)
		pair(s[i]);
	settle();
	for (int i = 0; i < SOME; i++) {
		pthread_create(&t, NULL, cancelled_in_close, &s[i][0]);
		pthread_join(t, &result);
		say("cancelled: %d\n", result == PTHREAD_CANCELED);
		T(read(s[i][1], &b, 1));
		T(close(s[i][1]));
	}
	alone_within(13500);
}

/* A non-blocking connect, awaited: what it came to. */
static void dial_on(int fd, const struct sockaddr_in *a)
{
	T(connect(fd, (const struct sockaddr *)a, sizeof *a));
	ready("connecting", fd, POLLOUT, 2000);
	T(option(fd, SOL_SOCKET, SO_ERROR));
}

/* A non-blocking connect that fails and is tried again on the same descriptor, which then is used for another
 * connection: what bounded the first attempt does not stay, and the program sees its own settings. */
static void redial(void)
{
	struct sockaddr_in a = loopback(0);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	socklen_t len = sizeof a;
	int l = MUST(socket(AF_INET, SOCK_STREAM, 0)), fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	MUST(bind(l, SA(&a), sizeof a));
	MUST(getsockname(l, SA(&a), &len));
	dial_on(fd, &a);
	MUST(listen(l, 9));
	nap(1500);
	T(connect(fd, SA(&a), sizeof a)); /* the end of the first attempt */
	dial_on(fd, &a);
	MUST(accept(l, NULL, NULL));
	settle();
	settle();
	T(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
	T(bare_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
	T(option(fd, SOL_SOCKET, SO_KEEPALIVE));
	T(connect(fd, &none, sizeof none));
	T(bare_option(fd, SOL_SOCKET, SO_KEEPALIVE));
	dial_on(fd, &a);
	settle();
	settle();
	T(option(fd, SOL_SOCKET, SO_KEEPALIVE));
	T(option(fd, IPPROTO_TCP, TCP_KEEPIDLE) == option(l, IPPROTO_TCP, TCP_KEEPIDLE));
}

/* What is written arrives, though the connection is closed at once and there are few numbers, or none to spare. */
static void say_and_close(unsigned limit, bool none_to_spare)
{
	struct rlimit r = {limit, limit};
	char buf[4096];
	int l, fd, port, status;
	pid_t pid;

	l = listen_any(&port);
	pid = MUST(fork());
	if (pid == 0) {
		struct sockaddr_in a = loopback(port);

		alarm(10);
		MUST(setrlimit(RLIMIT_NOFILE, &r));
		for (int i = 0; i < 4; i++) {
			fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
			while (none_to_spare && open("/dev/null", O_RDONLY) >= 0)
				;
			MUST(connect(fd, SA(&a), sizeof a));
			fill(buf, 3000, (unsigned)i);
			MUST(write(fd, buf, 3000));
			MUST(close(fd));
		}
		_exit(0);
	}
	for (int i = 0; i < 4; i++) {
		fd = MUST(accept(l, NULL, NULL));
		drain("said before the close", fd);
		MUST(close(fd));
	}
	MUST(waitpid(pid, &status, 0));
	say_status("the client", status);
	MUST(close(l));
}

static void few_numbers(void)
{
	say_and_close(400, false);
	say_and_close(100, false);
	say_and_close(60, true);
}

static sigjmp_buf out_of_call;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out_of_call, 1);
}

static void *read_hello(void *arg)
{
	char buf[8];
	long got = read(*(int *)arg, buf, sizeof buf);

	show("read by another", buf, got);
	return NULL;
}

static void give_up_read(int fd)
{
	struct itimerval soon = {{0, 0}, {0, 200000}};
	char byte;

	signal(SIGALRM, jump);
	if (sigsetjmp(out_of_call, 1) == 0) {
		MUST(setitimer(ITIMER_REAL, &soon, NULL));
		MUST(read(fd, &byte, 1));
	}
	signal(SIGALRM, SIG_DFL);
}

/* A read is given up by siglongjmp, and whoever gave it up never reads again: others do. */
static void given_up(void)
{
	struct kid kid;
	pthread_t thread;
	char byte;
	int s[2];

	for (int round = 0; round < 3; round++) {
		pair(s);
		MUST(write(s[0], "a", 1));
		MUST(read(s[1], &byte, 1));
		give_up_read(s[1]);
		MUST(write(s[0], "hello", 5));
		if (round == 0) {
			MUST(pthread_create(&thread, NULL, read_hello, &s[1]));
			MUST(pthread_join(thread, NULL));
		} else {
			if (spawn_kid(&kid)) {
				alarm(20);
				if (round == 2)
					ready("seen by another", s[1], POLLIN, 10000);
				read_hello(&s[1]);
				_exit(0);
			}
			reap("who reads", &kid);
		}
		MUST(close(s[0]));
		MUST(close(s[1]));
	}
}

/* The same of a write, which a child goes on from. */
static void given_up_write(void)
{
	enum { SIZE = 6 << 20 };
	struct itimerval soon = {{0, 0}, {0, 300000}};
	struct kid reader, writer;
	char *buf = calloc(1, SIZE);
	long odd = 0, n;
	int s[2];

	pair(s);
	MUST(write(s[0], "a", 1));
	MUST(read(s[1], buf, 1));
	buf[0] = 0;
	if (spawn_kid(&reader)) {
		MUST(close(s[0]));
		nap(600);
		while ((n = read(s[1], buf, 65536)) > 0)
			for (long i = 0; i < n; i++)
				odd += buf[i] != 0;
		say("of the writer's %ld, then %ld\n", odd, n);
		_exit(0);
	}
	MUST(close(s[1]));
	signal(SIGALRM, jump);
	if (sigsetjmp(out_of_call, 1) == 0) {
		MUST(setitimer(ITIMER_REAL, &soon, NULL));
		MUST(write(s[0], buf, SIZE));
	}
	signal(SIGALRM, SIG_DFL);
	if (spawn_kid(&writer)) {
		alarm(20);
		T(write(s[0], "word", 4));
		_exit(0);
	}
	reap("writer", &writer);
	MUST(close(s[0]));
	reap("reader", &reader);
	free(buf);
}

static int in_hand;
static volatile sig_atomic_t handled;

static void write_too(int sig)
{
	int error = errno;

	(void)sig;
	handled = (int)write(in_hand, "handler", 7);
	errno = error;
}

static void read_too(int sig)
{
	int error = errno;
	char buf[4];

	(void)sig;
	handled = (int)recv(in_hand, buf, sizeof buf, MSG_DONTWAIT);
	errno = error;
}

static void kill_after(struct kid *kid, long ms)
{
	pid_t parent = getpid();

	if (spawn_kid(kid)) {
		nap(ms);
		kill(parent, SIGUSR1);
		_exit(0);
	}
}

/* A signal comes while a write waits for room, and its handler writes to the same connection. */
static void handler_writes(void)
{
	enum { SIZE = 6 << 20 };
	struct sigaction sa = {.sa_handler = write_too, .sa_flags = SA_RESTART};
	struct kid reader, killer;
	char *buf = calloc(1, SIZE);
	long done = 0, n, count = 0, odd = 0;
	int s[2];

	pair(s);
	MUST(write(s[0], "a", 1));
	MUST(read(s[1], buf, 1));
	settle();
	MUST(sigaction(SIGUSR1, &sa, NULL));
	in_hand = s[0];
	buf[0] = 0;
	if (spawn_kid(&reader)) {
		MUST(close(s[0]));
		nap(900);
		while ((n = read(s[1], buf, 65536)) > 0) {
			count += n;
			for (long i = 0; i < n; i++)
				odd += buf[i] != 0;
		}
		say("read %ld, of the handler's %ld, then %ld\n", count, odd, n);
		_exit(0);
	}
	MUST(close(s[1]));
	kill_after(&killer, 400);
	while (done < SIZE && (n = write(s[0], buf + done, (size_t)(SIZE - done))) > 0)
		done += n;
	say("written %ld, by the handler %d\n", done, (int)handled);
	MUST(close(s[0]));
	reap("killer", &killer);
	reap("reader", &reader);
	signal(SIGUSR1, SIG_DFL);
	free(buf);
}

/* And while a read waits: the handler finds nothing, the read goes on; or finds some of what has come meanwhile. */
static void handler_reads(void)
{
	struct sigaction sa = {.sa_handler = read_too, .sa_flags = SA_RESTART};
	struct kid writer;
	pid_t parent = getpid();
	char buf[16];
	int s[2];

	pair(s);
	in_hand = s[1];
	MUST(write(s[0], "a", 1));
	MUST(read(s[1], buf, 1));
	MUST(sigaction(SIGUSR1, &sa, NULL));
	if (spawn_kid(&writer)) {
		nap(200);
		kill(parent, SIGUSR1);
		nap(200);
		MUST(write(s[0], "hello, world", 12));
		nap(200);
		MUST(write(s[0], "again", 5));
		_exit(0);
	}
	show("read", buf, read(s[1], buf, 12));
	say("by the handler %d\n", (int)handled);
	show("read", buf, read(s[1], buf, sizeof buf));
	reap("writer", &writer);
	signal(SIGUSR1, SIG_DFL);
}

/* A child that shares the memory puts the connection at its standard error, cannot execute, and says so there. */
static void vfork_says(void)
{
	static const char word[] = "not found ";
	volatile int errors = MUST(dup(STDERR_FILENO));
	struct kid kid;
	int s[2], status;
	pid_t pid;

	pair(s);
	MUST(write(s[0], "before ", 7));
	pid = vfork();
	if (pid == 0) {
		dup2(s[0], errors);
		execl("/nonexistent/program", "program", (char *)NULL);
		_exit(write(errors, word, sizeof word - 1) == (ssize_t)sizeof word - 1 ? 0 : 1);
	}
	MUST(waitpid(pid, &status, 0));
	say_status("vfork", status);
	MUST(write(s[0], "after", 5));
	if (spawn_kid(&kid)) {
		MUST(close(s[0]));
		drain("said", s[1]);
		_exit(0);
	}
	MUST(close(s[0]));
	reap("reader", &kid);
	MUST(close(s[1]));
	MUST(write(errors, "", 0));
	MUST(close(errors));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"vfork_says", vfork_says},
		{"given_up", given_up},
		{"given_up_write", given_up_write},
		{"handler_writes", handler_writes},
		{"handler_reads", handler_reads},
		{"few_numbers", few_numbers},
		{"sweeps", sweeps},
		{"select_many", select_many},
		{"credentials", credentials},
		{"exit_of_one", exit_of_one},
		{"exit_of_all", exit_of_all},
		{"claimed", claimed},
		{"stale_sleeper", stale_sleeper},
		{"late_reply", late_reply},
		{"cancelled_close", cancelled_close},
		{"redial", redial},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
