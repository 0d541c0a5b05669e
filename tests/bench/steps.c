/*
 * How many instructions a call takes in the process itself, counted one by one (ptrace(2), PTRACE_SINGLESTEP): unlike a
 * time it is the same every time.  What the kernel does counts as one.
 *   steps [NAME...]    a line for each: NAME, instructions, how many of them lock the bus, system calls
 *
 * The library comes by STEPS_PRELOAD, into the counted process only.  Names: see calls[].
 */
#include "bench.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifdef __x86_64__

enum { WARM = 12, LARGE = 16384 };

static int zero, null, us, peer, idle, epoll, busy, busy_peer, busy_epoll;
static char buf[LARGE];

static void fill(size_t size)
{
	write_all(peer, buf, size);
	usleep(4000); /* until it is there */
}

static void ready_64(void)
{
	fill(64);
}

static void ready_16k(void)
{
	fill(LARGE);
}

/* What has been written is taken at once: the other side never is behind. */
static void taken(void)
{
	while (recv(peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static void passed_read(void)
{
	(void)!read(zero, buf, 1);
}

static void passed_write(void)
{
	(void)!write(null, buf, 1);
}

static void read_64(void)
{
	if (read(us, buf, 64) != 64)
		err(1, "read");
}

static void read_16k(void)
{
	if (read(us, buf, LARGE) <= 0)
		err(1, "read");
}

static void write_64(void)
{
	if (write(us, buf, 64) != 64)
		err(1, "write");
}

static void write_16k(void)
{
	if (write(us, buf, LARGE) != LARGE)
		err(1, "write");
}

static void writev_64(void)
{
	struct iovec iov[2] = {{buf, 32}, {buf + 32, 32}};

	if (writev(us, iov, 2) != 64)
		err(1, "writev");
}

static void again(void)
{
	if (recv(idle, buf, 64, MSG_DONTWAIT) >= 0)
		errx(1, "recv: bytes from nobody");
}

static void poll_idle(void)
{
	struct pollfd p = {.fd = idle, .events = POLLIN};

	if (poll(&p, 1, 0) != 0)
		errx(1, "poll");
}

static void poll_ready(void)
{
	struct pollfd p = {.fd = us, .events = POLLIN};

	if (poll(&p, 1, -1) != 1)
		errx(1, "poll");
}

static void epoll_ready(void)
{
	struct epoll_event event;

	if (epoll_wait(epoll, &event, 1, -1) != 1)
		errx(1, "epoll_wait");
}

/* Half of what has come has been read. */
static void half_read(void)
{
	write_all(busy_peer, buf, 64);
	usleep(4000);
	if (read(busy, buf, 32) != 32)
		err(1, "read");
}

static void rest_read(void)
{
	if (read(busy, buf, 64) != 32)
		err(1, "read");
}

static void epoll_inside(void)
{
	struct epoll_event event;

	if (epoll_wait(busy_epoll, &event, 1, 0) != 1)
		errx(1, "epoll_wait");
}

static void epoll_mod(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = busy};

	if (epoll_ctl(busy_epoll, EPOLL_CTL_MOD, busy, &event) != 0)
		err(1, "epoll_ctl");
}

static const struct call {
	const char *name;
	void (*before)(void), (*counted)(void), (*after)(void);
} calls[] = {
	{"read-untracked", NULL, passed_read, NULL},
	{"write-untracked", NULL, passed_write, NULL},
	{"read-64", ready_64, read_64, NULL},
	{"read-16k", ready_16k, read_16k, NULL},
	{"read-again", NULL, again, NULL},
	{"write-64", NULL, write_64, taken},
	{"writev-64", NULL, writev_64, taken},
	{"write-16k", NULL, write_16k, taken},
	{"poll-idle", NULL, poll_idle, NULL},
	{"poll-ready", ready_64, poll_ready, read_64},
	{"epoll-ready", ready_64, epoll_ready, read_64},
	{"epoll-mod", NULL, epoll_mod, NULL},
	{"epoll-inside", half_read, epoll_inside, rest_read},
};

static const struct call *call_named(const char *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (strcmp(calls[i].name, name) == 0)
			return &calls[i];
	errx(2, "%s: no such call", name);
}

/* The counted process. */
static void run(const struct call *call)
{
	struct epoll_event event = {.events = EPOLLIN};
	in_port_t port;
	int listener = listen_somewhere(&port);

	alarm(60);
	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
	us = connect_to(port, 0);
	peer = accept_one(listener);
	idle = connect_to(port, 0);
	(void)accept_one(listener);
	busy = connect_to(port, 0);
	busy_peer = accept_one(listener);
	event.data.fd = busy;
	busy_epoll = epoll_create1(0);
	epoll_ctl(busy_epoll, EPOLL_CTL_ADD, busy, &event);
	epoll = epoll_create1(0);
	epoll_ctl(epoll, EPOLL_CTL_ADD, us, &event);
	for (int i = 0; i < WARM; i++) {
		fill(1);
		(void)!read(us, buf, 1);
		write_64();
		taken();
		half_read();
		rest_read();
	}
	usleep(150000); /* the watchdog has seen them */
	for (int i = 0; i < 3; i++) {
		if (call->before != NULL)
			call->before();
		if (i == 2)
			__asm__ volatile("int3");
		call->counted();
		if (i == 2)
			__asm__ volatile("int3");
		if (call->after != NULL)
			call->after();
	}
	_exit(0);
}

/* A memory operand and a lock prefix, or xchg with memory, which has one by itself. */
static bool locks(pid_t pid, unsigned long long at)
{
	unsigned long word = (unsigned long)ptrace(PTRACE_PEEKTEXT, pid, at, NULL);

	for (int i = 0; i < 4; i++, word >>= 8) {
		uint8_t byte = (uint8_t)word;

		if (byte == 0xf0)
			return true;
		if ((byte & 0xf0) == 0x40 || byte == 0x66 || byte == 0xf3 || byte == 0xf2)
			continue; /* other prefixes */
		return (byte == 0x86 || byte == 0x87) && (word >> 8 & 0xc0) != 0xc0;
	}
	return false;
}

static bool calls_kernel(pid_t pid, unsigned long long at)
{
	return (ptrace(PTRACE_PEEKTEXT, pid, at, NULL) & 0xffff) == 0x050f;
}

static bool at_mark(pid_t pid)
{
	siginfo_t info;

	return ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) == 0 && info.si_signo == SIGTRAP &&
	       info.si_code == SI_KERNEL;
}

/* Until the next mark, in one go. False: it has ended. */
static bool to_mark(pid_t pid)
{
	int status, signal = 0;

	for (;;) {
		if (ptrace(PTRACE_CONT, pid, NULL, signal) < 0 || waitpid(pid, &status, __WALL) != pid ||
		    !WIFSTOPPED(status))
			return false;
		if (at_mark(pid))
			return true;
		signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
	}
}

static void count(const struct call *call, char *self)
{
	const char *preload = getenv("STEPS_PRELOAD");
	unsigned long steps = 0, locked = 0, kernel = 0;
	struct user_regs_struct regs;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (preload != NULL && setenv("LD_PRELOAD", preload, 1) < 0)
			err(1, "setenv");
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execl(self, self, "--run", call->name, (char *)NULL);
		err(1, "%s", self);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		errx(1, "the counted process did not start");
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL);
	if (!to_mark(pid))
		errx(1, "%s: the counted process ended before", call->name);
	for (;;) {
		if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
			err(1, "PTRACE_GETREGS");
		locked += locks(pid, regs.rip);
		kernel += calls_kernel(pid, regs.rip);
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, __WALL) != pid ||
		    !WIFSTOPPED(status))
			errx(1, "%s: the counted process ended in it", call->name);
		if (at_mark(pid))
			break;
		steps++;
	}
	printf("%s %lu %lu %lu\n", call->name, steps, locked, kernel);
	fflush(stdout);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--run") == 0)
		run(call_named(argv[2]));
	if (argc == 1)
		for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
			count(&calls[i], argv[0]);
	for (int i = 1; i < argc; i++)
		count(call_named(argv[i]), argv[0]);
	return 0;
}

#else

int main(void)
{
	puts("# SKIP instructions are counted on x86-64 only");
	return 0;
}

#endif
