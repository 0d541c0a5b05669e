/*
 * What the tests of sinks share: each runs in a child of its own, with its own descriptors, sinks and default
 * signals; one that blocks is killed.
 */
#ifndef HOLDFAST_TESTS_SINK_CHILD_H
#define HOLDFAST_TESTS_SINK_CHILD_H

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { SKIPPED = 77, TOLD_FD = 700, LIMIT_S = 15 };

static struct hf_config config;
static char dir[] = "/tmp/holdfast-sink-XXXXXX";
static int told = 2; /* where failures are told, whatever becomes of descriptor 2 */

#define CHECK(x)                                                        \
	do {                                                            \
		if (!(x)) {                                             \
			dprintf(told, "# line %d: %s\n", __LINE__, #x); \
			_exit(1);                                       \
		}                                                       \
	} while (0)

static int in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		told = fcntl(2, F_DUPFD_CLOEXEC, TOLD_FD);
		signal(SIGPIPE, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		_exit(0);
	}
	/* Not alarm(2): all signals are held back around a write. */
	for (int i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
		if (i == LIMIT_S * 1000)
			kill(pid, SIGKILL);
		usleep(1000);
	}
	if (WIFSIGNALED(status))
		print_message("# killed by signal %d\n", WTERMSIG(status));
	return status;
}

/* A test called NAME whose body runs in a child. */
#define TEST(name)                                                               \
	static void name##_body(void);                                           \
	static void name(void **state)                                           \
	{                                                                        \
		int status = in_child(name##_body);                              \
		(void)state;                                                     \
		if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)         \
			print_message("ok " #name " # SKIP not allowed here\n"); \
		else                                                             \
			assert_int_equal(status, 0);                             \
	}                                                                        \
	static void name##_body(void)

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s", dir, name);
	return path[next];
}

static void use(enum hf_sink_kind kind, const char *path, int fd)
{
	struct hf_sink_setting *sink = &config.sinks[config.nsinks++];

	sink->kind = kind;
	sink->fd = fd;
	snprintf(sink->path, sizeof(sink->path), "%s", path);
	config.level = HF_INFO;
	hf_report_open(&config, "prog");
}

/* One line about descriptor FD; the event's sentence is of no interest here. */
static void tell(int fd)
{
	struct hf_event event;

	hf_event_init(&event, HF_EV_STALLED);
	event.fd = fd;
	errno = 4711;
	hf_report(&event);
	CHECK(errno == 4711);
}

static const char *line(int fd, unsigned lost)
{
	static char text[300];
	char more[80] = "";

	if (lost > 0)
		snprintf(more, sizeof(more), " [lines left out before this one: %u]", lost);
	snprintf(text, sizeof(text),
		 "holdfast[%d] prog: stalled: connection (fd %d): the peer's host is alive but the peer has not taken "
		 "what was sent%s\n",
		 getpid(), fd, more);
	return text;
}

/* What can be read from FD now, as a string. */
static const char *drain(int fd)
{
	static char text[1 << 17];
	size_t len = 0;
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	while (poll(&ready, 1, 0) > 0) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	return text;
}

static const char *contents(const char *path)
{
	static char text[1 << 17];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1100; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Put fd FROM in place of standard error, or leave it closed. */
static void become_stderr(int from)
{
	CHECK(dup2(from, 2) == 2);
	close(from);
}

static void fill(int fd)
{
	static const char zeros[4096];
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	while (write(fd, zeros, 1) > 0)
		;
	fcntl(fd, F_SETFL, flags);
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

#endif
