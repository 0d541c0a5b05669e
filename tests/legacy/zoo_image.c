/*
 * A connection that outlives its program: execution of another image, with close sweeps before it.
 */
#include "zoo_peer.h"

#include <sys/stat.h>
#include <sys/syscall.h>

extern char **environ;

/* The image after the exec, with the connection and what is to be said. */
static void heir(void)
{
	int fd;

	if (!zoo_argv[2])
		return;
	fd = atoi(zoo_argv[2]);
	for (int other = 3, n = 0; other < 400; other++)
		if (fcntl(other, F_GETFD) >= 0 && other != fd && other != 90)
			say("also open: %d of %d\n", other, ++n);
	exchange("heir", fd);
	settle();
	exchange("heir, later", fd);
	T(close(fd));
	exit(0);
}

static void sweep(int how, int fd)
{
	int top = fd + 400;

	for (int other = 3; other < top; other++) {
		if (other == fd || other == zoo_out)
			continue;
		if (how == 2)
			close(other);
		if (how == 5)
			fcntl(other, F_SETFD, FD_CLOEXEC);
	}
	if (how == 2)
		for (int other = top; other < 1200; other++)
			close(other);
	if (how == 3)
		closefrom(91);
	if (how == 4)
		close_range(91, ~0U, 0);
	if (how == 5)
		for (int other = top; other < 1200; other++)
			fcntl(other, F_SETFD, FD_CLOEXEC);
	if (how == 6)
		close_range(91, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* A server that executes itself with the connection, as sshd does. */
static void reexec_after(const char *name, int how, bool orphan)
{
	char *none[] = {NULL}, number[12];
	struct kid kid, server;
	int fd = visitor(&kid, echo);

	say("-- %s\n", name);
	exchange("before", fd);
	if (spawn_kid(&server)) {
		char *argv[] = {zoo_argv[0], (char[]){"heir"}, number, NULL};

		/* The transcript goes along. */
		if (orphan) {
			/* Nobody is left of whom the next image could ask anything. */
			if (fork() != 0)
				_exit(0);
			nap(100);
		}
		zoo_out = MUST(dup2(zoo_out, 90));
		MUST(dup2(90, 1));
		snprintf(number, sizeof number, "%d", fd);
		sweep(how, fd);
		execve("/proc/self/exe", argv, how >= 1 ? none : environ);
		_exit(127);
	}
	T(close(fd));
	reap("server", &server);
	reap("peer", &kid);
}

static void reexec(void)
{
	reexec_after("as it is", 0, false);
	reexec_after("without an environment", 1, false);
}

static void reexec_swept(void)
{
	reexec_after("after close", 2, true);
	reexec_after("after closefrom", 3, true);
	reexec_after("after close_range", 4, true);
}

static void reexec_marked(void)
{
	reexec_after("after FD_CLOEXEC on all", 5, false);
	reexec_after("after CLOSE_RANGE_CLOEXEC", 6, false);
}

/* An exec that fails changes nothing. */
static void exec_fails(void)
{
	char path[] = "/tmp/zoo_image.XXXXXX";
	struct kid kid;
	int fd = visitor(&kid, echo), file = MUST(mkstemp(path));

	T(write_full(file, "\177ELF this is no program", 24));
	T(fchmod(file, 0700));
	T(close(file));
	T(fcntl(fd, F_SETFD, FD_CLOEXEC));
	exchange("before", fd);
	T(execl("/nonexistent", "x", NULL));
	exchange("after", fd);
	T(execl(path, "x", NULL));
	settle();
	exchange("after", fd);
	T(fcntl(fd, F_SETFD, 0));
	T(execl(path, "x", NULL));
	T(fcntl(fd, F_GETFD));
	T(dup2(fd, 0));
	T(execl(path, "x", NULL));
	exchange("by 0", 0);
	settle();
	exchange("by its number", fd);
	pid_t pid = MUST(fork());
	if (pid == 0) {
		execl(path, "x", NULL);
		settle();
		exchange("child", fd);
		_exit(0);
	}
	int status;
	waitpid(pid, &status, 0);
	exchange("parent", 0);
	T(unlink(path));
	T(close(0));
	T(close(fd));
	reap("peer", &kid);
}

enum { MUCH = 3 << 20 };

static void read_slowly(int fd)
{
	static char buf[65536];
	uint64_t d = 0;
	long total = 0;
	ssize_t n;

	nap(400);
	while ((n = read(fd, buf, sizeof buf)) > 0) {
		d = digest(d, buf, (size_t)n);
		total += n;
		nap(10);
	}
	say("slowly: %ld bytes, digest %016llx, then %ld\n", total, (unsigned long long)d, (long)n);
}

/* What is on its way when the image that wrote it is replaced by one that does not get the connection. */
static void in_flight(void)
{
	static char buf[MUCH];
	struct kid kid, writer;
	int fd;

	fill(buf, sizeof buf, 3);
	for (int i = 0; i < 2; i++) {
		fd = visitor(&kid, read_slowly);
		if (spawn_kid(&writer)) {
			MUST(fcntl(fd, F_SETFD, FD_CLOEXEC));
			settle();
			T(write_full(fd, buf, sizeof buf));
			if (i == 1)
				_exit(0);
			execlp("true", "true", NULL);
			_exit(127);
		}
		T(close(fd));
		reap("writer", &writer);
		reap("peer", &kid);
	}
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"heir", heir},
		{"reexec", reexec},
		{"reexec_swept", reexec_swept},
		{"reexec_marked", reexec_marked},
		{"exec_fails", exec_fails},
		{"in_flight", in_flight},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
