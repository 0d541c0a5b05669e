/*
 * Whose table of descriptors the watchdog has.
 *
 *	own_table rest     a connection, a while later
 *	own_table limit    ... after setrlimit(2) has forbidden new descriptors
 *	own_table sly      ... from outside, and that undone before another connection is made
 *	own_table child    ... in a forked child
 *	own_table filter   ... under a seccomp filter that was there before, and kills whoever asks for pidfd_getfd(2)
 *	own_table unshare  ... when a thread has a table of its own
 *	own_table clone    ... when a child made by a bare clone(2) has limited itself as in "limit"
 *	own_table leader   the first thread ends, and another makes two more connections
 *
 * Prints "apart" if the watchdog's thread has a table of its own, with none of the program's sockets in it, "shared" if
 * it has the program's, "none" if there is no such thread.  77: this kernel offers no other than the program's.
 */
#include "zoo.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { PIDFD_THREAD_ = O_EXCL, WHILE_MS = 600 };

static bool offered(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, gettid(), PIDFD_THREAD_), got = -1;

	if (pidfd >= 0)
		got = (int)syscall(SYS_pidfd_getfd, pidfd, 1, 0);
	if (got >= 0)
		close(got);
	if (pidfd >= 0)
		close(pidfd);
	return got >= 0;
}

/* The thread "holdfast" of this process; 0: none. */
static int watchdog(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *e;
	int found = 0;

	while (tasks != NULL && (e = readdir(tasks)) != NULL) {
		char path[64], name[32] = "";
		int fd;

		snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", e->d_name);
		fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, name, sizeof name - 1) > 0 && strcmp(name, "holdfast\n") == 0)
			found = atoi(e->d_name);
		close(fd);
	}
	if (tasks != NULL)
		closedir(tasks);
	return found;
}

/* Whether it has the socket FD is, or any other. */
static const char *table(void)
{
	char path[64], link[64];
	const struct dirent *e;
	int tid = watchdog();
	ssize_t n;
	DIR *fds;

	if (tid == 0)
		return "none";
	snprintf(path, sizeof path, "/proc/self/task/%d/fd", tid);
	fds = opendir(path);
	if (fds == NULL)
		return "hidden";
	while ((e = readdir(fds)) != NULL) {
		n = readlinkat(dirfd(fds), e->d_name, link, sizeof link - 1);
		link[n > 0 ? n : 0] = '\0';
		if (strncmp(link, "socket:", 7) == 0) {
			closedir(fds);
			return "shared";
		}
	}
	closedir(fds);
	return "apart";
}

/* It may be at a look just now. */
static void tell(void)
{
	const char *seen = table();

	for (int i = 0; i < 20 && strcmp(seen, "shared") == 0; i++) {
		nap(3);
		seen = table();
	}
	say("%s\n", seen);
}

static void *second(void *arg)
{
	int fd[2];

	(void)arg;
	nap(WHILE_MS);
	pair(fd);
	nap(WHILE_MS);
	tell();
	exit(0);
}

static void filtered(char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_getfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof code[0], code};
	char rest[] = "rest-filtered", *again[] = {argv[0], rest, NULL};

	zoo_must("prctl", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	zoo_must("prctl", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	execv("/proc/self/exe", again);
	give_up("execv");
}

static void *unsharing(void *arg)
{
	(void)arg;
	zoo_must("unshare", unshare(CLONE_FILES));
	pause();
	return NULL;
}

static void limited_clone(void)
{
	struct rlimit limit = {8, 8};
	int status = 0;
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0) {
		alarm(5);
		_exit(setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : 1);
	}
	waitpid(zoo_must("clone", pid), &status, 0);
	if (status != 0)
		say("the child: %d\n", status);
}

/* As prlimit(1) would. */
static void from_outside(const struct rlimit *limit)
{
	pid_t pid = zoo_must("fork", fork());

	if (pid == 0)
		_exit(prlimit(getppid(), RLIMIT_NOFILE, limit, NULL) == 0 ? 0 : 1);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "rest";
	struct rlimit limit, none;
	pthread_t thread;
	int fd[2], more[2], status;
	pid_t pid;

	if (strcmp(how, "filter") == 0)
		filtered(argv);
	if (strcmp(how, "rest-filtered") != 0 && !offered())
		return 77;
	alarm(20);
	pair(fd);
	if (strcmp(how, "leader") == 0) {
		zoo_must("pthread_create", -pthread_create(&thread, NULL, second, NULL));
		nap(WHILE_MS / 2);
		pthread_exit(NULL);
	}
	nap(WHILE_MS);
	if (strcmp(how, "limit") == 0) {
		tell();
		getrlimit(RLIMIT_NOFILE, &limit);
		limit.rlim_cur = 8;
		zoo_must("setrlimit", setrlimit(RLIMIT_NOFILE, &limit));
		nap(WHILE_MS);
	} else if (strcmp(how, "sly") == 0) {
		getrlimit(RLIMIT_NOFILE, &limit);
		none = limit;
		none.rlim_cur = 0;
		from_outside(&none);
		nap(4 * WHILE_MS); /* until the connections have been looked at again */
		from_outside(&limit);
		pair(more);
		nap(WHILE_MS);
	} else if (strcmp(how, "clone") == 0) {
		limited_clone();
	} else if (strcmp(how, "unshare") == 0) {
		zoo_must("pthread_create", -pthread_create(&thread, NULL, unsharing, NULL));
		nap(WHILE_MS);
	} else if (strcmp(how, "child") == 0) {
		pid = zoo_must("fork", fork());
		if (pid == 0) {
			zoo_must("send", send(fd[0], "x", 1, 0));
			nap(WHILE_MS);
			tell();
			_exit(0);
		}
		waitpid(pid, &status, 0);
	}
	tell();
	return 0;
}
