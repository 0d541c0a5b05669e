/*
 * One connection, many processes: servers that fork, clients of two processes, children that only inherit, forks of
 * every kind.  The peer is a process of its own that was forked before there was a connection.
 */
#include "zoo_peer.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

extern char **environ;

/* The end must not come while anybody still has the connection: those who call it have it for longer than this. */
static void await_end(int fd)
{
	char buf[6] = "";

	T(read_full(fd, buf, 5));
	show("got", buf, 5);
	ready("the end, too early", fd, POLLIN, 300);
	drain("the end", fd);
	MUST(close(fd));
}

/* The same of one that is killed: a beat that it left unread makes its kernel say reset instead of the end. */
static void await_any_end(int fd)
{
	char buf[6] = "";

	T(read_full(fd, buf, 5));
	show("got", buf, 5);
	ready("the end, too early", fd, POLLIN, 300);
	say("more: %d\n", read(fd, buf, 1) > 0);
	MUST(close(fd));
}

static void wait_for(const char *name, pid_t pid)
{
	int status;

	MUST(waitpid(pid, &status, 0));
	say_status(name, status);
}

/* Workers on one listener; each serves many, one after the other. */
static void prefork(void)
{
	enum { WORKERS = 4, CLIENTS = 24 };
	int port, l = listen_any(&port), fd;
	pid_t workers[WORKERS];
	static char out[50000], in[50000];

	for (int i = 0; i < WORKERS; i++) {
		workers[i] = MUST(fork());
		if (workers[i] != 0)
			continue;
		for (;;) {
			ssize_t n;

			fd = MUST(accept(l, NULL, NULL));
			while ((n = read(fd, in, sizeof in)) > 0)
				write_full(fd, in, (size_t)n);
			close(fd);
		}
	}
	for (int i = 0; i < CLIENTS; i++) {
		size_t size = i % 3 == 0 ? sizeof out : 100;

		fd = dial(port);
		fill(out, size, (unsigned)i);
		if (i % 8 == 7)
			settle();
		errno = 0;
		long n = write_full(fd, out, size), m = read_full(fd, in, size);
		say("client %d: %ld %ld %d", i, n, m, memcmp(in, out, size));
		shutdown(fd, SHUT_WR);
		say(" then %zd\n", read(fd, in, 1));
		close(fd);
	}
	for (int i = 0; i < WORKERS; i++) {
		kill(workers[i], SIGTERM);
		wait_for("worker", workers[i]);
	}
}

static void ask_late(int fd)
{
	exchange("a request", fd);
	settle();
	exchange("another", fd);
	T(shutdown(fd, SHUT_WR));
	drain("client", fd);
}

/* The server's parent closes at once, its child sleeps long before it looks. */
static void late_child(void)
{
	struct kid kid;
	int fd = visitor(&kid, ask_late);
	pid_t pid = MUST(fork());

	if (pid == 0) {
		nap(1500);
		zoo_out = MUST(open("/dev/null", O_WRONLY));
		echo(fd);
		_exit(0);
	}
	T(close(fd));
	reap("client", &kid);
	wait_for("server's child", pid);
}

enum { STREAM = 2000000 };

static void write_stream(int fd)
{
	static char buf[STREAM];

	fill(buf, sizeof buf, 42);
	T(write_full(fd, buf, sizeof buf));
}

static void read_stream(int fd)
{
	static char buf[STREAM];

	T(read_full(fd, buf, sizeof buf));
	show("stream", buf, sizeof buf);
}

/* One process writes while the other reads; then one of them ends and the other does both. */
static void reader_ends(void)
{
	struct kid kid, reader;
	int fd = peer(&kid, echo);

	exchange("both", fd);
	if (spawn_kid(&reader)) {
		read_stream(fd);
		_exit(0);
	}
	write_stream(fd);
	reap("reader", &reader);
	settle();
	exchange("alone", fd);
	settle();
	exchange("still alone", fd);
	T(close(fd));
	reap("peer", &kid);
}

static void writer_ends(void)
{
	struct kid kid, first;
	int fd, status;

	if (spawn_kid(&first)) {
		fd = peer(&kid, echo);
		exchange("both", fd);
		pid_t pid = MUST(fork());
		if (pid != 0) {
			static char buf[STREAM];

			fill(buf, sizeof buf, 42);
			exit(write_full(fd, buf, sizeof buf) != STREAM);
		}
		read_stream(fd);
		settle();
		exchange("alone", fd);
		settle();
		exchange("still alone", fd);
		T(close(fd));
		_exit(0);
	}
	/* The peer is a child of the process that has ended: ours now. */
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	reap("first", &first);
	while (waitpid(-1, &status, 0) > 0)
		;
}

static void leave_killed(long ms)
{
	nap(ms);
	raise(SIGKILL);
}

/* A child that inherits the connection and never uses it. */
static void onlooker_of(const char *name, void (*leave)(long ms))
{
	struct kid kid;
	int fd = peer(&kid, echo);
	pid_t pid;

	say("-- %s\n", name);
	exchange("before", fd);
	pid = MUST(fork());
	if (pid == 0)
		leave(250);
	exchange("meanwhile", fd);
	wait_for(name, pid);
	exchange("after", fd);
	settle();
	exchange("much later", fd);
	T(close(fd));
	reap("peer", &kid);

	fd = peer(&kid, leave == leave_killed ? await_any_end : await_end);
	pid = MUST(fork());
	if (pid == 0)
		leave(900);
	T(write(fd, "first", 5));
	T(close(fd));
	reap("peer", &kid);
	wait_for(name, pid);
}

static void leave_bare(long ms)
{
	nap(ms);
	_exit(3);
}

static void leave_well(long ms)
{
	nap(ms);
	exit(4);
}

static void leave_as_sleep(long ms)
{
	execlp("sleep", "sleep", ms < 500 ? "0.25" : "0.9", NULL);
	_exit(127);
}

static void leave_as_shell(long ms)
{
	execl("/bin/sh", "sh", "-c", ms < 500 ? "sleep 0.25; exit 6" : "sleep 0.9; exit 6", NULL);
	_exit(127);
}

static void onlooker(void)
{
	onlooker_of("_exit", leave_bare);
	onlooker_of("exit", leave_well);
}

static void onlooker_killed(void)
{
	onlooker_of("killed", leave_killed);
}

static void onlooker_exec(void)
{
	onlooker_of("sleep", leave_as_sleep);
	onlooker_of("sh", leave_as_shell);
}

static int common;

static void *receive(void *arg)
{
	char *buf = arg;
	long n = 0;

	while (n < 5) {
		ssize_t got = recv(common, buf + n, (size_t)(5 - n), 0);
		if (got <= 0)
			break;
		n += got;
	}
	return (void *)n;
}

/* A process forks while another of its threads sleeps in recv. */
static void threaded(void)
{
	char got[3][6] = {""};
	struct kid kid;
	pthread_t thread;
	void *n;
	pid_t pid;

	common = peer(&kid, echo);
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, receive, got[i]);
		nap(100);
		pid = MUST(fork());
		if (pid == 0) {
			nap(250);
			if (i == 0)
				_exit(write(common, "child", 5) != 5);
			if (i == 1)
				_exit(close(common));
			execlp("true", "true", NULL);
		}
		if (i > 0)
			T(write(common, "paren", 5));
		wait_for("child", pid);
		pthread_join(thread, &n);
		say("thread got %ld %s\n", (long)n, got[i]);
	}
	exchange("afterwards", common);
	T(close(common));
	reap("peer", &kid);
}

/* ssh -f: connected, then twice forked; the original ends. */
static void background(void)
{
	struct kid kid, original;
	int fd = -1, port, l = listen_any(&port);

	if (spawn_kid(&kid)) {
		fd = MUST(accept(l, NULL, NULL));
		close(l);
		echo(fd);
		exit(0);
	}
	if (spawn_kid(&original)) {
		close(l);
		fd = dial(port);
		exchange("authenticated", fd);
		if (fork() != 0)
			exit(0);
		setsid();
		if (fork() != 0)
			_exit(0);
		nap(700);
		exchange("in the background", fd);
		settle();
		exchange("much later", fd);
		close(fd);
		exit(0);
	}
	close(l);
	reap("original", &original);
	reap("peer", &kid);
	if (spawn_kid(&original)) {
		fd = peer(&kid, echo);
		exchange("connected", fd);
		MUST(daemon(1, 1));
		exchange("detached", fd);
		settle();
		exchange("much later", fd);
		close(fd);
		reap("peer", &kid);
		exit(0);
	}
	reap("daemon", &original);
}

static void raw_forks(void)
{
	static const char *const names[] = {"_Fork", "SYS_fork", "SYS_clone", "fork"};
	struct kid kid;
	int fd = peer(&kid, echo);
	pid_t pid;

	for (int i = 0; i < 4; i++) {
		say("-- %s\n", names[i]);
#ifdef SYS_fork
		pid = i == 0 ? _Fork() : i == 1 ? (pid_t)syscall(SYS_fork) : 0;
#else
		pid = i == 0 ? _Fork() : i == 1 ? fork() : 0;
#endif
		if (i == 2)
			pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (i == 3)
			pid = fork();
		if (pid == 0) {
			settle();
			exchange("child", fd);
			close(fd);
			nap(250);
			_exit(i);
		}
		wait_for("child", pid);
		exchange("parent", fd);
	}
	/* The parent lets go first, each time. */
	T(close(fd));
	reap("peer", &kid);
	fd = peer(&kid, echo);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		settle();
		exchange("heir", fd);
		_exit(0);
	}
	T(close(fd));
	wait_for("heir", pid);
	reap("peer", &kid);
}

/* Send some, end, and expect it back. */
static void send_some(int fd)
{
	static char buf[300000], in[300000];

	fill(buf, sizeof buf, 9);
	T(write_full(fd, buf, sizeof buf));
	T(shutdown(fd, SHUT_WR));
	say("back: %ld %d\n", read_full(fd, in, sizeof in), memcmp(buf, in, sizeof in));
	drain("end", fd);
}

/* cat(1) with the connection as standard input and output, started in every way. */
static void filters(void)
{
	static const char *const names[] = {"vfork", "posix_spawn", "posix_spawn, all else closed", "system", "popen"};
	char command[64];
	struct kid kid;

	for (int i = 0; i < 5; i++) {
		int fd = visitor(&kid, send_some);
		posix_spawn_file_actions_t act;
		pid_t pid;

		say("-- %s\n", names[i]);
		posix_spawn_file_actions_init(&act);
		posix_spawn_file_actions_adddup2(&act, fd, 0);
		posix_spawn_file_actions_adddup2(&act, fd, 1);
		if (i == 2)
			posix_spawn_file_actions_addclosefrom_np(&act, 3);
		snprintf(command, sizeof command, "cat <&%d >&%d", fd, fd);
		if (i == 0 && (pid = vfork()) == 0) {
			dup2(fd, 0);
			dup2(fd, 1);
			close(fd);
			execlp("cat", "cat", NULL);
			_exit(127);
		}
		if (i == 1 || i == 2)
			MUST(-posix_spawnp(&pid, "cat", &act, NULL, (char *[]){"cat", NULL}, environ));
		if (i < 3) {
			T(close(fd));
			wait_for("cat", pid);
		} else if (i == 3) {
			say_status("system", system(command));
			T(close(fd));
		} else {
			FILE *f = popen(command, "r");
			say_status("popen", pclose(f));
			T(close(fd));
		}
		reap("peer", &kid);
		posix_spawn_file_actions_destroy(&act);
	}
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"prefork", prefork},
		{"late_child", late_child},
		{"reader_ends", reader_ends},
		{"writer_ends", writer_ends},
		{"onlooker", onlooker},
		{"onlooker_killed", onlooker_killed},
		{"onlooker_exec", onlooker_exec},
		{"threaded", threaded},
		{"background", background},
		{"raw_forks", raw_forks},
		{"filters", filters},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
