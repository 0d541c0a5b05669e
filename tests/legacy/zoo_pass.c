/*
 * Connections that change hands by message, and processes that change what they are: identity, root, namespaces,
 * limits.
 */
#include "zoo_peer.h"

#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

static void ask(int fd)
{
	exchange("hello", fd);
	settle();
	exchange("and again", fd);
	T(shutdown(fd, SHUT_WR));
	drain("client", fd);
}

/* Accepted here, served by a worker that was there before: over a socket pair, or a named socket.  The worker rests
 * before it takes it and before it reads. */
static void pass_over(const char *name, bool named, long rest)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct kid kid, worker;
	int both[2], l = -1, fd, over;

	say("-- %s\n", name);
	snprintf(a.sun_path, sizeof a.sun_path, "/tmp/zoo_pass.%d", (int)getpid());
	if (named) {
		l = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
		MUST(bind(l, SA(&a), sizeof a));
		MUST(listen(l, 1));
	} else {
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, both));
	}
	if (spawn_kid(&worker)) {
		over = named ? MUST(accept(l, NULL, NULL)) : both[1];
		nap(rest);
		fd = receive_fd(over);
		nap(rest);
		echo(fd);
		exit(0);
	}
	over = named ? MUST(socket(AF_UNIX, SOCK_STREAM, 0)) : both[0];
	if (named)
		MUST(connect(over, SA(&a), sizeof a));
	fd = visitor(&kid, ask);
	send_fd(over, fd);
	T(close(fd));
	reap("client", &kid);
	reap("worker", &worker);
	close(over);
	if (named) {
		unlink(a.sun_path);
		close(l);
	} else {
		close(both[1]);
	}
}

static void pass_related(void)
{
	pass_over("over a pair", false, 0);
	pass_over("over a pair, to one that rests", false, 700);
}

static void pass_named(void)
{
	pass_over("over a named socket", true, 0);
	pass_over("over a named socket, to one that rests", true, 700);
}

/* To a child of the process that has it; the sender goes on, or not; and there and back. */
static void pass_child(void)
{
	struct kid kid;
	int both[2], fd;
	pid_t pid;

	fd = visitor(&kid, ask);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, both));
	pid = MUST(fork());
	if (pid == 0) {
		char buf[5];

		close(fd);
		nap(300);
		fd = receive_fd(both[1]);
		read_full(fd, buf, 5);
		write_full(fd, buf, 5);
		nap(500);
		send_fd(both[1], fd);
		_exit(0);
	}
	send_fd(both[0], fd);
	T(close(fd));
	fd = receive_fd(both[0]);
	waitpid(pid, NULL, 0);
	zoo_out = MUST(dup(zoo_out));
	echo(fd);
	reap("client", &kid);
}

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* Taken out of another process, which then ends. */
static void pidfd_taken(void)
{
	struct kid kid;
	int told[2], s[2], fd, pidfd;
	pid_t pid;
	char c;

	pair(s); /* from here on they are a family */
	MUST(pipe(told));
	pid = MUST(fork());
	if (pid == 0) {
		fd = visitor(&kid, ask);
		MUST(dup2(fd, 50));
		close(fd);
		MUST(write(told[1], "", 1));
		nap(200);
		close(50);
		reap("client", &kid);
		_exit(0);
	}
	MUST(read(told[0], &c, 1));
	pidfd = MUST(syscall(SYS_pidfd_open, pid, 0));
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, 50, 0);
	if (fd < 0) {
		say("not allowed\n");
		kill(pid, SIGKILL);
		return;
	}
	nap(300);
	echo(fd);
	waitpid(pid, NULL, 0);
}

/* What a process becomes after accept(2): it serves on all the same. */
static void serve_as(const char *name, void (*become)(void))
{
	struct kid client, server;
	int fd;

	say("-- %s\n", name);
	for (int i = 0; i < 2; i++) {
		fd = visitor(&client, ask);
		if (spawn_kid(&server)) {
			if (i == 1)
				settle();
			become();
			/* With a child that holds it too. */
			pid_t pid = MUST(fork());
			if (pid == 0) {
				nap(150);
				_exit(0);
			}
			waitpid(pid, NULL, 0);
			echo(fd);
			exit(0);
		}
		T(close(fd));
		reap("client", &client);
		reap("server", &server);
	}
}

static void nobody(void)
{
	T(setgroups(0, NULL));
	T(setresgid(65534, 65534, 65534));
	T(setresuid(65534, 65534, 65534));
}

static void jailed(void)
{
	char empty[] = "/tmp/zoo_pass.XXXXXX";

	MUST(mkdtemp(empty) ? 0 : -1);
	T(chroot(empty));
	T(chdir("/"));
	T(access("/proc/self", F_OK));
	nobody();
}

static void apart(void)
{
	T(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC));
}

static void other_pids(void)
{
	T(unshare(CLONE_NEWPID));
}

static void identities(void)
{
	if (geteuid() != 0) {
		say("not root\n");
		return;
	}
	serve_as("nobody", nobody);
	serve_as("in an empty root", jailed);
}

static void namespaces(void)
{
	if (geteuid() != 0) {
		say("not root\n");
		return;
	}
	serve_as("in namespaces", apart);
	serve_as("children in another pid namespace", other_pids);
}

static void limit(int which, rlim_t value)
{
	struct rlimit r = {value, value};

	T(setrlimit((unsigned)which, &r));
}

static void few_files(void)
{
	limit(RLIMIT_NOFILE, 12);
}

static void hundred_files(void)
{
	limit(RLIMIT_NOFILE, 100);
}

static void small_files(void)
{
	signal(SIGXFSZ, SIG_DFL);
	limit(RLIMIT_FSIZE, 4096);
}

static void little_memory(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (!f || fscanf(f, "%lu", &pages) != 1)
		give_up("statm");
	fclose(f);
	struct rlimit r = {(pages * 4096) + (1 << 20), (pages * 4096) + (1 << 20)};
	T(setrlimit(RLIMIT_AS, &r));
}

static void no_locks(void)
{
	limit(RLIMIT_MEMLOCK, 0);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_STACK, 256 << 10);
}

static void limits(void)
{
	serve_as("few descriptors", few_files);
	serve_as("small files", small_files);
	serve_as("little memory", little_memory);
	serve_as("no locked memory", no_locks);
}

/* The same limits before there is any connection. */
static void limited_from_the_start(void)
{
	static void (*const all[])(void) = {hundred_files, small_files, little_memory};
	struct kid kid, client;

	for (int i = 0; i < 3; i++) {
		if (spawn_kid(&kid)) {
			all[i]();
			int fd = visitor(&client, ask);
			pid_t pid = MUST(fork());
			if (pid == 0) {
				char buf[5];

				/* Each does half. */
				read_full(fd, buf, 5);
				write_full(fd, buf, 5);
				_exit(0);
			}
			waitpid(pid, NULL, 0);
			echo(fd);
			reap("client", &client);
			exit(0);
		}
		reap("limited", &kid);
	}
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"pass_related", pass_related},
		{"pass_named", pass_named},
		{"pass_child", pass_child},
		{"pidfd_taken", pidfd_taken},
		{"identities", identities},
		{"namespaces", namespaces},
		{"limits", limits},
		{"limited_from_the_start", limited_from_the_start},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
