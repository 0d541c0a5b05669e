/*
 * Processes: vfork, posix_spawn, system, popen, daemons, one socket in two processes, inheritance by exec, changes of
 * identity, limits, ends of every kind.
 */
#include "zoo.h"

#include <dirent.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>

extern char **environ;

static void talk(const char *name, int a, int b)
{
	char buf[10] = "";
	ssize_t n = write(a, "ping", 4), m = n < 0 ? -1 : read(b, buf, 10);
	say("%s: %zd %zd \"%s\"\n", name, n, m, buf);
}

/* The parent reads, the child writes; later both write in turn; the parent closes last. */
static void shared(void)
{
	struct kid kid;
	int s[2];
	char buf[100];

	pair(s);
	settle();
	if (spawn_kid(&kid)) {
		close(s[0]);
		for (int i = 0; i < 5; i++) {
			T(write(s[1], "from the child ", 15));
			nap(100);
		}
		T(close(s[1]));
		exit(0);
	}
	T(write(s[0], "for the parent", 14));
	T(read(s[1], buf, sizeof buf));
	T(read_full(s[0], buf, 75));
	show("from the child", buf, 75);
	reap("child", &kid);
	talk("still open", s[1], s[0]);
	settle();
	talk("still open", s[0], s[1]);
	T(close(s[1]));
	T(read(s[0], buf, sizeof buf));
}

/* A vfork child shares memory but not descriptors: what it closes stays open in the parent. */
static void vfork_exec(void)
{
	int s[2], status;
	volatile int closed = 0;

	pair(s);
	for (int i = 0; i < 2; i++) {
		pid_t pid = vfork();
		if (pid == 0) {
			closed = close(s[0]) == 0 && dup2(s[1], 1) == 1 && close(s[1]) == 0;
			execlp("echo", "echo", "echoed", NULL);
			_exit(127);
		}
		T(waitpid(pid, &status, 0) == pid);
		say_status("echo", status);
		say("closed in the child: %d\n", closed);
		char buf[20] = "";
		T(read(s[0], buf, 20));
		show("got", buf, 7);
		talk("parent", s[0], s[1]);
		talk("parent", s[1], s[0]);
		settle();
	}
	pid_t pid = vfork();
	if (pid == 0) {
		for (int fd = 3; fd < 100; fd++)
			close(fd);
		_exit(3);
	}
	waitpid(pid, &status, 0);
	say_status("sweeper", status);
	talk("parent", s[0], s[1]);
}

static int sweep(void *arg)
{
	(void)arg;
	for (int fd = 3; fd < 100; fd++)
		close(fd);
	return 3;
}

/* The same by clone(2): memory shared, descriptors not. */
static void clone_vm(void)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	int s[2], status;

	pair(s);
	for (int i = 0; i < 2; i++) {
		pid_t pid = clone(sweep, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);

		T(waitpid(pid, &status, 0) == pid);
		say_status("sweeper", status);
		talk("parent", s[0], s[1]);
		talk("parent", s[1], s[0]);
		settle();
	}
}

static void spawn(void)
{
	int s[2], status;
	pid_t pid;
	char buf[50] = "";
	posix_spawn_file_actions_t act;

	pair(s);
	settle();
	T(posix_spawn_file_actions_init(&act));
	T(posix_spawn_file_actions_adddup2(&act, s[1], 1));
	T(posix_spawn_file_actions_adddup2(&act, s[1], 0));
	T(posix_spawn_file_actions_addclosefrom_np(&act, 2));
	T(posix_spawnp(&pid, "head", &act, NULL, (char *[]){"head", "-c", "10", NULL}, environ));
	T(write(s[0], "0123456789abc", 10));
	T(read_full(s[0], buf, 10));
	show("head", buf, 10);
	waitpid(pid, &status, 0);
	say_status("head", status);
	talk("parent", s[0], s[1]);
	T(posix_spawn(&pid, "/nonexistent", NULL, NULL, (char *[]){"x", NULL}, environ));
	char command[100];
	sprintf(command, "echo from system >&%d; exit 5", s[1]);
	say_status("system", system(command));
	T(read(s[0], buf, 50));
	show("system", buf, 12);
	sprintf(command, "cat >&%d", s[1]);
	FILE *f = popen(command, "w");
	fputs("through popen", f);
	say_status("popen", pclose(f));
	T(read_full(s[0], buf, 13));
	show("popen", buf, 13);
	f = popen("echo answer", "r");
	T(fgets(buf, 50, f) != NULL);
	show("popen", buf, 7);
	say_status("popen", pclose(f));
	talk("parent", s[0], s[1]);
}

/* Double fork, setsid, close everything, serve. */
static void daemonise(void)
{
	int port, l = listen_any(&port), status;
	char buf[10];

	close(dial(port));
	settle();
	close(accept(l, NULL, NULL));
	pid_t pid = MUST(fork());
	if (pid == 0) {
		setsid();
		if (fork() != 0)
			_exit(0);
		MUST(chdir("/"));
		int null = open("/dev/null", O_RDWR);
		for (int i = 0; i < 3; i++)
			dup2(null, i);
		closefrom(l + 1);
		int c = accept(l, NULL, NULL);
		nap(350);
		ssize_t n = read(c, buf, 10);
		write(c, buf, n > 0 ? (size_t)n : 0);
		exit(0);
	}
	waitpid(pid, &status, 0);
	say_status("first child", status);
	T(close(l));
	int c = dial(port);
	T(write(c, "daemon", 6));
	T(read(c, buf, 10));
	T(read(c, buf, 10));
	say_status("daemon(3)", 0);
	struct kid kid;
	int s[2];
	pair(s);
	if (spawn_kid(&kid)) {
		zoo_out = open("/dev/null", O_WRONLY);
		daemon(0, 0);
		settle();
		write(s[1], "detached", 8);
		exit(0);
	}
	close(s[1]);
	reap("daemon", &kid);
	drain("daemon", s[0]);
}

/* This program once more, with the connection as descriptor 7. */
static void exec_again(void)
{
	int s[2], status;
	static char *const kinds[] = {"execv", "execlp", "execle with no environment", "fexecve"};
	char *self = realpath("/proc/self/exe", NULL);

	for (int i = 0; i < 4; i++) {
		pair(s);
		if (i % 2)
			settle();
		pid_t pid = MUST(fork());
		if (pid == 0) {
			char *argv[] = {self, "inherited", NULL}, *none[] = {NULL};
			close(s[0]);
			dup2(s[1], 7);
			close(s[1]);
			if (i == 0)
				execv(self, argv);
			else if (i == 1)
				execlp(self, self, "inherited", NULL);
			else if (i == 2)
				execle(self, self, "inherited", NULL, none);
			else
				fexecve(open(self, O_RDONLY | O_CLOEXEC), argv, environ);
			_exit(127);
		}
		close(s[1]);
		T(write(s[0], kinds[i], strlen(kinds[i])));
		T(shutdown(s[0], SHUT_WR));
		waitpid(pid, &status, 0);
		drain("heir", s[0]);
		say_status(kinds[i], status);
		close(s[0]);
	}
	free(self);
}

static void inherited(void)
{
	char buf[100] = "";

	if (fcntl(7, F_GETFD) < 0) {
		say("nothing inherited\n");
		return;
	}
	settle();
	T(read_full(7, buf, sizeof buf - 1));
	say("inherited: %s\n", buf);
	for (int fd = 3, n = 0; fd < 500; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && fd != 7)
			say("also open: %d of %d\n", fd, ++n);
	T(write(7, "heir's answer", 13));
	T(close(7));
}

/* Every thread of the process must have changed, not only the caller. */
static void other_uids(uid_t uid)
{
	DIR *d = opendir("/proc/self/task");
	char path[300], line[200];
	int other = 0;

	for (struct dirent *e; (e = readdir(d));) {
		snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
		FILE *f = fopen(path, "r");
		unsigned u = uid;
		while (f && fgets(line, sizeof line, f))
			if (sscanf(line, "Uid: %u", &u) == 1)
				break;
		if (f)
			fclose(f);
		other += u != uid;
	}
	closedir(d);
	say("threads with another uid: %d\n", other);
}

static void identity(void)
{
	int s[2];

	if (geteuid() != 0) {
		say("not root\n");
		return;
	}
	pair(s);
	settle();
	talk("root", s[0], s[1]);
	T(setgroups(0, NULL));
	T(setgid(65534));
	T(setuid(65534));
	other_uids(65534);
	settle();
	talk("nobody", s[0], s[1]);
	T(setuid(0));
	T(close(s[0]));
	drain("nobody", s[1]);
}

/* Only a single-threaded process may do this (unshare(2)). */
static void new_user(void)
{
	int s[2];

	pair(s);
	talk("before", s[0], s[1]);
	pid_t pid = MUST(fork());
	int status;
	if (pid == 0) {
		T(unshare(CLONE_NEWUSER));
		talk("inside", s[1], s[0]);
		settle();
		talk("inside", s[1], s[0]);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	say_status("early", status);
	settle();
	T(unshare(CLONE_NEWUSER));
	talk("after", s[0], s[1]);
	settle();
	talk("after", s[0], s[1]);
}

static void *nothing(void *arg)
{
	return arg;
}

/* No thread can be had. */
static void no_threads(void)
{
	struct rlimit r = {1, 1};
	int s[2];
	pthread_t t;

	if (geteuid() == 0) {
		setgid(65533);
		setuid(65533);
	}
	T(setrlimit(RLIMIT_NPROC, &r));
	T(pthread_create(&t, NULL, nothing, NULL));
	pair(s);
	settle();
	talk("alone", s[0], s[1]);
	settle();
	talk("alone", s[1], s[0]);
	T(fork());
	T(shutdown(s[0], SHUT_WR));
	drain("end", s[1]);
}

static int at_end[2];

static void on_exit_talk(void)
{
	talk("atexit", at_end[0], at_end[1]);
}

__attribute__((destructor)) static void after_main(void)
{
	if (!at_end[0])
		return;
	talk("destructor", at_end[0], at_end[1]);
	int s[2];
	pair(s);
	talk("new in destructor", s[0], s[1]);
	T(shutdown(at_end[0], SHUT_WR));
	drain("destructor", at_end[1]);
}

static void after_end(void)
{
	pair(at_end);
	settle();
	MUST(atexit(on_exit_talk));
	exit(7);
}

/* fork(2) below libc; aarch64 has only clone(2). */
static pid_t raw_fork(void)
{
#ifdef SYS_fork
	return (pid_t)syscall(SYS_fork);
#else
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

/* Forks that run no atfork handler. */
static void quiet_forks(void)
{
	int s[2], status;

	pair(s);
	settle();
	for (int i = 0; i < 3; i++) {
		pid_t pid = i == 0 ? _Fork() : i == 1 ? raw_fork() : fork();
		if (pid == 0) {
			talk("child", s[0], s[1]);
			settle();
			talk("child", s[1], s[0]);
			close(s[0]);
			_exit(i);
		}
		waitpid(pid, &status, 0);
		say_status("child", status);
		talk("parent", s[0], s[1]);
	}
	T(kill(getpid(), 0));
	/* The last tail must arrive although the writer ends at once. */
	static char tail[500000];
	fill(tail, sizeof tail, 5);
	pid_t pid = MUST(fork());
	if (pid == 0) {
		close(s[1]);
		write_full(s[0], tail, sizeof tail);
		_exit(0);
	}
	close(s[0]);
	nap(50);
	drain("tail", s[1]);
	waitpid(pid, &status, 0);
	say_status("writer", status);
}

/* Accepted and handed to a child at once, again and again: each child's watcher must find its connection. */
static void fork_at_once(void)
{
	int port, l = listen_any(&port), n = 0;
	char c;

	for (int i = 0; i < 8; i++) {
		if (fork() == 0) {
			int fd = dial(port);
			for (int k = 0; k < 7; k++) {
				n += write(fd, "x", 1) == 1 && read(fd, &c, 1) == 1;
				nap(100);
			}
			_exit(n != 7);
		}
		int fd = MUST(accept(l, NULL, NULL));
		if (fork() == 0) {
			while (read(fd, &c, 1) > 0)
				n += write(fd, &c, 1) == 1;
			_exit(n != 7);
		}
		close(fd);
	}
	for (int status; wait(&status) > 0;)
		say_status("child", status);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"shared", shared},
		{"fork_at_once", fork_at_once},
		{"vfork_exec", vfork_exec},
		{"clone_vm", clone_vm},
		{"spawn", spawn},
		{"daemonise", daemonise},
		{"exec_again", exec_again},
		{"inherited", inherited},
		{"identity", identity},
		{"new_user", new_user},
		{"no_threads", no_threads},
		{"after_end", after_end},
		{"quiet_forks", quiet_forks},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
