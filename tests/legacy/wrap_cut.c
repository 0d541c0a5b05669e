/*
 * Killed right behind the kernel's call: two processes share a connection; one of them dies when a call of the kernel's
 * has moved bytes and nothing in the process has run since (ptrace(2)).  The other goes on where the call left off.
 *
 *	wrap_cut HOW
 *
 *	read     a message of its own is read, in a read(2) that waits
 *	bit      half of it
 *	run      one, by a read(2) for more, after many small ones
 *	poll     ... after poll(2) has said that it is there
 *	part     ... half of it, after poll(2)
 *	epoll    ... after epoll_wait(2) has
 *	write    a message is written
 *	writes   64 KiB are
 *
 * Or it has a signal there, whose handler jumps out of the call (siglongjmp(3)), and goes on itself; nobody else has
 * the connection:
 *
 *	jump     as "read"
 *	jump-bit, jump-run
 *
 * Exit status 1 and a line that begins with "wrong" if the other process, or the peer, reads another byte than it would
 * natively; 77 where a process may not be traced.
 */
#include "zoo.h"

#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>

enum { LIMIT = 20, LARGE = 65536, HALF = 6, MANY = 40 };

static const char *how;
static char large[LARGE], got[2 * LARGE];

static bool is(const char *what)
{
	return strcmp(how, what) == 0;
}

static bool writes(void)
{
	return is("write") || is("writes");
}

static bool jumps(void)
{
	return strncmp(how, "jump", 4) == 0;
}

static bool in_part(void)
{
	return is("part") || is("bit") || is("jump-bit");
}

static bool after_many(void)
{
	return is("run") || is("jump-run");
}

/* What the one that dies moves, and what the other does after it. */
static const char *moved(size_t *size)
{
	*size = is("writes") ? LARGE : 14;
	return is("writes") ? large : "first message\n";
}

static const char after[] = "second message\n";

__attribute__((noreturn)) static void wrong(const char *what, long n)
{
	say("wrong: %s: %ld bytes (%s)\n", what, n, strerror(errno));
	_exit(1);
}

/* SIZE bytes have to come, which are these. */
static void expect(const char *what, int fd, const char *bytes, size_t size)
{
	long n = read_full(fd, got, size);

	if (n != (long)size || memcmp(got, bytes, size) != 0)
		wrong(what, n);
}

static void put(const char *what, int fd, const char *bytes, size_t size)
{
	long n = write_full(fd, bytes, size);

	if (n != (long)size)
		wrong(what, n);
}

/* Both ends have heard of each other: whatever comes before the program's bytes is over. */
static void greet(int fd, bool first)
{
	if (first)
		put("a greeting", fd, "hello", 5);
	expect("a greeting", fd, first ? "hallo" : "hello", 5);
	if (!first)
		put("an answer", fd, "hallo", 5);
}

static void be_peer(int port, int go)
{
	size_t size;
	const char *bytes = moved(&size);
	int fd = dial(port);
	char byte;

	greet(fd, true);
	for (int i = 0; i < MANY && after_many(); i++) {
		put("a small one", fd, "x", 1);
		expect("an answer to it", fd, "y", 1);
	}
	if (!writes())
		put("the first", fd, bytes, size);
	if (read(go, &byte, 1) != 1)
		wrong("no word to go on", 0);
	if (writes())
		expect("the peer, of the one that died", fd, bytes, size);
	put("the second", fd, after, sizeof after - 1);
	expect("the peer, of the other", fd, "and on", 6);
	if (read(fd, got, 1) != 0)
		wrong("the peer, at the end", 1);
	_exit(0);
}

static void take_many(int fd)
{
	for (int i = 0; i < MANY && after_many(); i++) {
		if (read(fd, got, sizeof got) != 1)
			wrong("a small one", 0);
		put("an answer to it", fd, "y", 1);
	}
}

/* The one that dies, in its only call. */
static void be_victim(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct epoll_event event = {.events = EPOLLIN};
	int epfd = epoll_create1(0);
	size_t size;
	const char *bytes = moved(&size);

	take_many(fd);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(77);
	raise(SIGSTOP);
	if ((is("poll") || is("part")) && poll(&p, 1, -1) != 1)
		wrong("poll", 0);
	if (is("epoll") && (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0 || epoll_wait(epfd, &event, 1, -1) != 1))
		wrong("epoll", 0);
	if (writes())
		put("the one that dies", fd, bytes, size);
	else if (in_part())
		(void)!read(fd, got, HALF);
	else if (after_many())
		(void)!read(fd, got, sizeof got);
	else
		(void)!read_full(fd, got, size);
	wrong("nobody has killed it", 0);
}

static sigjmp_buf out;

static void jump(int number)
{
	(void)number;
	siglongjmp(out, 1);
}

static void go_on(int fd)
{
	size_t size;
	const char *bytes = moved(&size);

	if (in_part())
		expect("the rest of the first", fd, bytes + HALF, size - HALF);
	expect("the second", fd, after, sizeof after - 1);
	put("the other", fd, "and on", 6);
	shutdown(fd, SHUT_WR);
}

/* The one that jumps: it has accepted the connection itself. */
static void be_jumper(int listener)
{
	struct sigaction act = {.sa_handler = jump};
	int fd = zoo_must("accept", accept(listener, NULL, NULL));
	size_t size;

	(void)moved(&size);
	greet(fd, false);
	take_many(fd);
	sigaction(SIGUSR1, &act, NULL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(77);
	raise(SIGSTOP);
	if (sigsetjmp(out, 1) == 0) {
		(void)!read(fd, got, after_many() ? sizeof got : in_part() ? HALF : size);
		wrong("nobody has sent a signal", 0);
	}
	go_on(fd);
	_exit(0);
}

/* Whether the call entered with NR and ARGS moves bytes of FD; -1: of any. */
static bool moves(const struct __ptrace_syscall_info *call, int fd)
{
	bool reads = call->entry.nr == SYS_read || call->entry.nr == SYS_recvfrom || call->entry.nr == SYS_recvmsg ||
		     call->entry.nr == SYS_readv;
	bool puts = call->entry.nr == SYS_write || call->entry.nr == SYS_sendto || call->entry.nr == SYS_sendmsg ||
		    call->entry.nr == SYS_writev;
	uint64_t flags = call->entry.nr == SYS_recvfrom  ? call->entry.args[3]
			 : call->entry.nr == SYS_recvmsg ? call->entry.args[2]
							 : 0;

	return (fd < 0 || (int)call->entry.args[0] == fd) && (writes() ? puts : reads && (flags & MSG_PEEK) == 0);
}

/* Lets PID run until it has moved a byte of FD, and there SENT comes.  How many it moved. */
static long cut(pid_t pid, int fd, int sent)
{
	struct __ptrace_syscall_info call;
	bool ours = false;
	int status;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid)
			wrong("PTRACE_SYSCALL", 0);
		if (!WIFSTOPPED(status))
			wrong("ended by itself", status);
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof call, &call) <= 0)
			wrong("PTRACE_GET_SYSCALL_INFO", 0);
		if (call.op == PTRACE_SYSCALL_INFO_ENTRY)
			ours = moves(&call, fd);
		else if (call.op == PTRACE_SYSCALL_INFO_EXIT && ours && call.exit.rval > 0)
			break;
	}
	kill(pid, sent);
	(void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return call.exit.rval;
}

/* PID has stopped itself, to be traced. */
static void trace(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) &&
	    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0)
		return;
	say("may not trace\n");
	_exit(77);
}

static void be_survivor(int fd, int go)
{
	size_t size, n = 0;
	pid_t pid = zoo_must("fork", fork());

	(void)moved(&size);
	if (pid == 0)
		be_victim(fd);
	trace(pid);
	n = (size_t)cut(pid, fd, SIGKILL);
	waitpid(pid, NULL, 0);
	put("a word to go on", go, "", 1);
	if (writes() && n < size)
		wrong("less than all was written", (long)n);
	go_on(fd);
}

static void be_witness(int listener, int go)
{
	pid_t pid = zoo_must("fork", fork());
	int status;

	if (pid == 0)
		be_jumper(listener);
	trace(pid);
	(void)cut(pid, -1, SIGUSR1);
	put("a word to go on", go, "", 1);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		wrong("the one that jumps", status);
}

int main(int argc, char **argv)
{
	int port, listener, fd, go[2];
	pid_t peer;

	how = argc > 1 ? argv[1] : "";
	fill(large, sizeof large, 1);
	alarm(LIMIT);
	listener = listen_any(&port);
	zoo_must("pipe", pipe(go));
	peer = zoo_must("fork", fork());
	if (peer == 0) {
		alarm(LIMIT);
		be_peer(port, go[0]);
	}
	if (jumps()) {
		be_witness(listener, go[1]);
	} else {
		fd = zoo_must("accept", accept(listener, NULL, NULL));
		greet(fd, false);
		be_survivor(fd, go[1]);
	}
	if (waitpid(peer, &port, 0) != peer || port != 0)
		wrong("the peer", port);
	say("right\n");
	return 0;
}
