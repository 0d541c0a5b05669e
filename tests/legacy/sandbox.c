/*
 * A server that gives each connection to a child in a strict seccomp sandbox: whatever is not in its list kills it.
 *
 * usage: sandbox PORT kept|sole blocking|polling
 *
 * kept: the parent keeps the connection open as well (as sshd's monitor); sole: it closes it.  polling: non-blocking,
 * and poll(2) before each read.  The child answers each line; after "quit", or the end, it says so and ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void enter(void)
{
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_close),
		ALLOW(SYS_exit_group),
		ALLOW(SYS_futex),
		ALLOW(SYS_getpid),
		ALLOW(SYS_clock_gettime),
		ALLOW(SYS_nanosleep),
#ifdef SYS_poll
		ALLOW(SYS_poll),
#endif
		ALLOW(SYS_ppoll),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
		_exit(77);
}

static void put(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t sent = write(fd, text, size);

		if (sent < 0 && errno != EAGAIN)
			_exit(3);
		if (sent > 0) {
			text += sent;
			size -= (size_t)sent;
		}
	}
}

static ssize_t get(int fd, char *buf, size_t size, int polling)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (polling && poll(&p, 1, 20000) <= 0)
			_exit(4);
		got = read(fd, buf, size);
		if (got >= 0)
			return got;
		/* As OpenSSH has it: who was told that there is something may count on it. */
		_exit(polling && errno == EAGAIN ? 5 : 6);
	}
}

static void serve(int fd, int polling)
{
	char line[256];
	size_t at = 0;
	char c;

	put(fd, "welcome\n", 8);
	while (get(fd, &c, 1, polling) > 0) {
		line[at++] = c;
		if (c != '\n' && at < sizeof(line))
			continue;
		put(fd, "heard ", 6);
		put(fd, line, at);
		if (at == 5 && memcmp(line, "quit\n", 5) == 0)
			break;
		at = 0;
	}
	put(fd, "bye\n", 4);
	close(fd);
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, polling, kept;

	if (argc != 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	kept = strcmp(argv[2], "kept") == 0;
	polling = strcmp(argv[3], "polling") == 0;
	addr.sin_port = htons((unsigned short)atoi(argv[1]));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listener, 5) < 0)
		return 1;
	for (;;) {
		int fd = accept(listener, NULL, NULL), status = 0;
		pid_t pid;

		if (fd < 0)
			continue;
		if (polling)
			fcntl(fd, F_SETFL, O_NONBLOCK);
		pid = fork();
		if (pid == 0) {
			close(listener);
			enter();
			serve(fd, polling);
		}
		if (!kept)
			close(fd);
		waitpid(pid, &status, 0);
		if (kept)
			close(fd);
		printf("child %s %d\n", WIFSIGNALED(status) ? "killed by" : "exit",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		fflush(stdout);
	}
}
