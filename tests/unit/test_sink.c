/*
 * Sinks: what happens to a line, and to the program, when the other end is full, gone, replaced or not there.
 *
 * Each test runs in a child of its own, with its own descriptors, sinks and default signals; one that blocks is
 * killed.
 */
#include "report.h"
#include "sink.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <fcntl.h>
#include <poll.h>
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

static int tcp_pair(int *other)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(l, (struct sockaddr *)&in, len) == 0 && listen(l, 1) == 0);
	CHECK(getsockname(l, (struct sockaddr *)&in, &len) == 0);
	CHECK(connect(c, (struct sockaddr *)&in, len) == 0);
	*other = accept(l, NULL, NULL);
	close(l);
	return c;
}

static int bind_unix(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(un.sun_path, path);
	CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0);
	return fd;
}

/* Standard error */

static void full_pipe(void)
{
	int p[2], before;

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	before = open_fds();
	use(HF_SINK_STDERR, "", -1);
	tell(1);
	CHECK(strcmp(drain(p[0]), line(1, 0)) == 0);
	fill(2);
	tell(2);
	tell(3);
	drain(p[0]);
	tell(4);
	CHECK(strcmp(drain(p[0]), line(4, 2)) == 0);
	tell(5);
	CHECK(strcmp(drain(p[0]), line(5, 0)) == 0);
	CHECK(open_fds() == before);                  /* no write end of ours */
	CHECK((fcntl(2, F_GETFL) & O_NONBLOCK) == 0); /* nor a flag on the program's */
}

TEST(stderr_full_pipe)
{
	full_pipe();
}

/* Linux before 6.4 has no RWF_NOWAIT for pipes: what the kernel said then, by seccomp(2). */
TEST(stderr_full_pipe_old_kernel)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = 4, .filter = code};

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		_exit(SKIPPED);
	full_pipe();
}

static bool pending(int sig)
{
	sigset_t set;

	sigpending(&set);
	return sigismember(&set, sig);
}

TEST(stderr_closed_reader)
{
	int p[2];
	sigset_t set, now;

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	close(p[0]);
	use(HF_SINK_STDERR, "", -1);
	tell(1); /* SIGPIPE, at its default, would kill */
	CHECK(!pending(SIGPIPE));
	sigprocmask(SIG_BLOCK, NULL, &now);
	CHECK(!sigismember(&now, SIGPIPE) && !sigismember(&now, SIGTERM));

	/* The program's own pending SIGPIPE stays its own. */
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	tell(1);
	CHECK(!pending(SIGPIPE));
	raise(SIGPIPE);
	tell(1);
	CHECK(pending(SIGPIPE));
}

TEST(stderr_replaced)
{
	int p[2], other, sock = tcp_pair(&other);
	int file = open(in_dir("replaced"), O_CREAT | O_RDWR, 0600);

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	use(HF_SINK_STDERR, "", -1);
	CHECK(dup2(file, 2) == 2);
	tell(1);
	CHECK(contents(in_dir("replaced"))[0] == '\0'); /* perhaps the program's data */
	hf_report_stderr_replaced();
	tell(2);
	CHECK(strcmp(contents(in_dir("replaced")), line(2, 1)) == 0);
	CHECK(dup2(sock, 2) == 2);
	tell(3);
	hf_report_stderr_replaced(); /* even on purpose: never into a conversation */
	tell(4);
	hf_report_stderr("raw");
	CHECK(drain(other)[0] == '\0');
	close(2);
	tell(5);
	hf_report_stderr_replaced();
	tell(6);
	CHECK(open(in_dir("reused"), O_CREAT | O_RDWR, 0600) == 2);
	tell(7);
	CHECK(contents(in_dir("reused"))[0] == '\0');
}

TEST(stderr_sockets)
{
	int other, sock = tcp_pair(&other), pair[2], chat[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, chat) == 0);
	become_stderr(sock);
	use(HF_SINK_STDERR, "", -1);
	tell(1);
	CHECK(drain(other)[0] == '\0');
	become_stderr(pair[0]); /* journald */
	hf_report_stderr_replaced();
	tell(2);
	CHECK(strcmp(drain(pair[1]), line(2, 1)) == 0);
	fill(2);
	tell(3);
	close(pair[1]);
	tell(4); /* no SIGPIPE */
	CHECK(dup2(chat[0], 0) == 0);
	become_stderr(chat[0]); /* standard input too: a conversation */
	hf_report_stderr_replaced();
	tell(5);
	CHECK(drain(chat[1])[0] == '\0');
}

TEST(stderr_file_shares_the_offset)
{
	int file = open(in_dir("offset"), O_CREAT | O_RDWR, 0600);
	char expected[400];

	become_stderr(file);
	use(HF_SINK_STDERR, "", -1);
	CHECK(write(2, "before\n", 7) == 7);
	tell(1);
	CHECK(write(2, "after\n", 6) == 6);
	hf_report_stderr("raw");
	snprintf(expected, sizeof(expected), "before\n%safter\nraw\n", line(1, 0));
	CHECK(strcmp(contents(in_dir("offset")), expected) == 0);
}

TEST(stderr_file_size_limit)
{
	const struct rlimit limit = {5, 5};

	become_stderr(open(in_dir("limit"), O_CREAT | O_RDWR, 0600));
	use(HF_SINK_STDERR, "", -1);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	tell(1); /* a part */
	tell(1); /* SIGXFSZ, at its default, would kill */
	CHECK(!pending(SIGXFSZ));
	CHECK(strcmp(contents(in_dir("limit")), "holdf") == 0);
}

/* A stopped terminal (Ctrl-S), and one that stops background writers. */
TEST(stderr_terminal)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	struct termios tio;

	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
		_exit(SKIPPED);
	CHECK(setsid() > 0);
	slave = open(ptsname(master), O_RDWR); /* and now our controlling terminal */
	CHECK(slave >= 0 && tcgetattr(slave, &tio) == 0);
	tio.c_oflag &= (tcflag_t)~OPOST;
	tio.c_lflag |= TOSTOP;
	CHECK(tcsetattr(slave, TCSANOW, &tio) == 0);
	become_stderr(slave);
	use(HF_SINK_STDERR, "", -1);
	tell(1);
	CHECK(strcmp(drain(master), line(1, 0)) == 0);
	CHECK(tcflow(2, TCOOFF) == 0);
	tell(2);
	CHECK(tcflow(2, TCOON) == 0);
	tell(3);
	CHECK(strcmp(drain(master), line(3, 1)) == 0);

	pid_t pid = fork();
	int status;

	if (pid == 0) { /* in the background */
		setpgid(0, 0);
		tell(4);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	if (WIFSTOPPED(status))
		kill(pid, SIGKILL);
	CHECK(status == 0);
}

/* file: */

TEST(file_basics)
{
	struct stat st;
	int before, fd;

	CHECK(chdir(dir) == 0);
	before = open_fds();
	use(HF_SINK_FILE, "basics", -1);
	CHECK(open_fds() == before && access("basics", F_OK) != 0); /* nothing before it is needed */
	CHECK(hf_report_next_fd(0) == INT_MAX);
	CHECK(chdir("/") == 0);
	tell(1);
	CHECK(strcmp(contents(in_dir("basics")), line(1, 0)) == 0);
	CHECK(stat(in_dir("basics"), &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK(open_fds() == before && hf_report_next_fd(0) == INT_MAX); /* a descriptor lives for one line */
	hf_report_pin();
	CHECK(open_fds() == before + 1);
	fd = hf_report_next_fd(0);
	CHECK(fd > 100 && fd < 1024 && hf_report_owns(fd) && !hf_report_owns(fd + 1) && !hf_report_owns(2));
	CHECK(hf_report_next_fd(fd) == fd && hf_report_next_fd(fd + 1) == INT_MAX);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);

	/* Another process's lines in the same file are kept. */
	int another = open(in_dir("basics"), O_WRONLY | O_APPEND);

	CHECK(write(another, "another\n", 8) == 8);
	tell(2);
	CHECK(strstr(contents(in_dir("basics")), "another\nholdfast[") != NULL);
}

TEST(file_number_taken_over)
{
	int fd, mine = open(in_dir("strangers"), O_CREAT | O_RDWR, 0600);

	use(HF_SINK_FILE, in_dir("taken"), -1);
	hf_report_pin();
	tell(1);
	fd = hf_report_next_fd(0);
	CHECK(dup2(mine, fd) == fd);
	CHECK(!hf_report_owns(fd) && hf_report_next_fd(0) == INT_MAX);
	tell(2);
	CHECK(contents(in_dir("strangers"))[0] == '\0');
	CHECK(fcntl(fd, F_GETFD) >= 0); /* the stranger's descriptor was not closed either */
	CHECK(strstr(contents(in_dir("taken")), line(2, 0)) != NULL);
	close(hf_report_next_fd(0));
	tell(3);
	CHECK(strstr(contents(in_dir("taken")), line(3, 0)) != NULL);
}

TEST(file_rotated)
{
	int before;

	use(HF_SINK_FILE, in_dir("log"), -1);
	hf_report_pin();
	tell(1);
	before = open_fds();
	CHECK(rename(in_dir("log"), in_dir("log.1")) == 0);
	for (int i = 0; i < 100 && access(in_dir("log"), F_OK) != 0; i++) {
		usleep(50000);
		tell(2);
	}
	CHECK(strcmp(contents(in_dir("log")), line(2, 0)) == 0); /* reopened before, not after, the write */
	CHECK(unlink(in_dir("log")) == 0);
	for (int i = 0; i < 100 && access(in_dir("log"), F_OK) != 0; i++) {
		usleep(50000);
		tell(3);
	}
	CHECK(strcmp(contents(in_dir("log")), line(3, 0)) == 0);
	/* logrotate's "create": there is a file at once, but another. */
	CHECK(rename(in_dir("log"), in_dir("log.2")) == 0);
	close(open(in_dir("log"), O_CREAT | O_WRONLY, 0600));
	for (int i = 0; i < 100 && contents(in_dir("log"))[0] == '\0'; i++) {
		usleep(50000);
		tell(4);
	}
	CHECK(strcmp(contents(in_dir("log")), line(4, 0)) == 0);
	CHECK(open_fds() == before);
}

TEST(file_missing_directory)
{
	int p[2];
	char expected[300];

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	use(HF_SINK_FILE, in_dir("no/such/log"), -1);
	snprintf(expected, sizeof(expected), "holdfast: HOLDFAST_REPORT: file:%s: no such directory\n",
		 in_dir("no/such/log"));
	CHECK(strcmp(drain(p[0]), expected) == 0);
	tell(1);
	tell(2);
	CHECK(drain(p[0])[0] == '\0'); /* told once */
	CHECK(mkdir(in_dir("no"), 0700) == 0 && mkdir(in_dir("no/such"), 0700) == 0);
	for (int i = 0; i < 100 && access(in_dir("no/such/log"), F_OK) != 0; i++) {
		usleep(50000);
		tell(3);
	}
	CHECK(strstr(contents(in_dir("no/such/log")), "lines left out before this one") != NULL);
}

TEST(file_is_a_fifo)
{
	int p[2], reader;

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	CHECK(mkfifo(in_dir("fifo"), 0600) == 0);
	use(HF_SINK_FILE, in_dir("fifo"), -1);
	tell(1);
	CHECK(drain(p[0])[0] == '\0');
	reader = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
	for (int i = 0; i < 100 && hf_report_next_fd(0) == INT_MAX; i++) {
		usleep(50000);
		tell(2);
	}
	CHECK(strstr(drain(reader), "lines left out") != NULL);
	fill(hf_report_next_fd(0));
	tell(3);
	close(reader);
	tell(4); /* no SIGPIPE */
}

static void *many_lines(void *arg)
{
	for (int i = 0; i < 500; i++)
		tell((int)(intptr_t)arg);
	return NULL;
}

TEST(file_threads)
{
	pthread_t threads[6];
	int before;
	char *text, expected[300];

	use(HF_SINK_FILE, in_dir("threads"), -1);
	before = open_fds();
	hf_report_pin();
	for (int i = 0; i < 6; i++)
		CHECK(pthread_create(&threads[i], NULL, many_lines, (void *)(intptr_t)7) == 0);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	CHECK(open_fds() == before + 1);
	snprintf(expected, sizeof(expected), "%s", line(7, 0));
	CHECK(truncate(in_dir("threads"), 100000 / (off_t)strlen(expected) * (off_t)strlen(expected)) == 0);
	text = (char *)contents(in_dir("threads"));
	for (; *text; text += strlen(expected))
		CHECK(strncmp(text, expected, strlen(expected)) == 0);
}

TEST(file_after_fork)
{
	char expected[700];
	int status;
	pid_t pid;

	use(HF_SINK_FILE, in_dir("forked"), -1);
	tell(1);
	pid = fork();
	if (pid == 0) {
		tell(2);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	tell(3);
	snprintf(expected, sizeof(expected), "%s", line(1, 0));
	CHECK(strncmp(contents(in_dir("forked")), expected, strlen(expected)) == 0);
	snprintf(expected, sizeof(expected), "\nholdfast[%d] prog: stalled: connection (fd 2)", pid);
	CHECK(strstr(contents(in_dir("forked")), expected) != NULL);
	CHECK(strstr(contents(in_dir("forked")), line(3, 0)) != NULL);
}

TEST(no_descriptors_left)
{
	const struct rlimit limit = {3, 3};
	int p[2];

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	use(HF_SINK_FILE, in_dir("none-left"), -1);
	use(HF_SINK_UNIX, in_dir("none-left-unix"), -1);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	tell(1);
	CHECK(strstr(drain(p[0]), "none-left: too many open files\n") != NULL);
}

/* unix:, syslog, fd:N */

TEST(unix_listener)
{
	static const char zeros[1000];
	char text[1024];
	int fd, before = open_fds();
	ssize_t n;

	CHECK(chdir(dir) == 0);
	use(HF_SINK_UNIX, "listener", -1);
	CHECK(open_fds() == before);
	CHECK(chdir("/") == 0);
	tell(1);
	fd = bind_unix(in_dir("listener"));
	tell(2);
	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	CHECK(n > 0);
	text[n] = '\0';
	CHECK(strcmp(text, line(2, 1)) == 0);
	CHECK(open_fds() == before + 1 && hf_report_next_fd(0) == INT_MAX); /* the listener's, none of ours */

	int filler = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	strcpy(un.sun_path, in_dir("listener"));
	while (sendto(filler, zeros, sizeof(zeros), 0, (struct sockaddr *)&un, sizeof(un)) > 0)
		;
	tell(3); /* the queue is full: must not wait */
	while (recv(fd, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
	close(fd);
	tell(4);
	unlink(in_dir("listener"));
	fd = bind_unix(in_dir("listener"));
	tell(5);
	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	CHECK(n > 0);
	text[n] = '\0';
	CHECK(strcmp(text, line(5, 2)) == 0);
}

TEST(syslog_form)
{
	char text[1024], expected[400];
	struct hf_event event;
	ssize_t n;
	int fd;

	if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
		_exit(SKIPPED);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("none", "/dev", "tmpfs", 0, NULL) != 0)
		_exit(SKIPPED);
	use(HF_SINK_SYSLOG, "", -1);
	tell(1);
	fd = bind_unix("/dev/log");
	hf_event_init(&event, HF_EV_DEAD);
	hf_report(&event);
	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	CHECK(n > 0);
	text[n] = '\0';
	snprintf(expected, sizeof(expected),
		 "<27>holdfast[%d]: prog: dead: the peer is gone [lines left out before this one: 1]", getpid());
	CHECK(strcmp(text, expected) == 0);
	tell(1);
	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	CHECK(n > 0 && strncmp(text, "<28>holdfast[", 13) == 0);
	config.format = HF_JSON;
	tell(1);
	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	CHECK(n > 0 && text[n - 1] == '}' && memmem(text, (size_t)n, "]: {\"ts\":", 9) != NULL);
}

TEST(given_descriptor)
{
	int p[2], q[2], before;
	int mine = open(in_dir("given"), O_CREAT | O_RDWR, 0600);

	CHECK(pipe(p) == 0 && pipe(q) == 0);
	CHECK(dup2(p[1], 50) == 50);
	close(p[1]);
	before = open_fds();
	use(HF_SINK_FD, "", 50);
	tell(1);
	CHECK(strcmp(drain(p[0]), line(1, 0)) == 0);
	CHECK(open_fds() == before && hf_report_owns(50) && hf_report_next_fd(3) == 50);
	fill(50);
	tell(2);
	drain(p[0]);
	tell(3);
	CHECK(strcmp(drain(p[0]), line(3, 1)) == 0);
	close(p[0]);
	tell(4); /* no SIGPIPE */
	CHECK(dup2(mine, 50) == 50);
	tell(5);
	CHECK(contents(in_dir("given"))[0] == '\0' && !hf_report_owns(50));
}

TEST(given_descriptor_refused)
{
	int p[2], other, sock = tcp_pair(&other);
	char expected[300];

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	use(HF_SINK_FD, "", sock);
	snprintf(expected, sizeof(expected),
		 "holdfast: HOLDFAST_REPORT: fd:%d: a network socket, or standard input too: lines would corrupt its "
		 "stream\n",
		 sock);
	CHECK(strcmp(drain(p[0]), expected) == 0);
	tell(1);
	CHECK(drain(other)[0] == '\0' && !hf_report_owns(sock));
	config.nsinks = 0;
	use(HF_SINK_FD, "", 999);
	tell(1);
}

TEST(several_sinks_and_level)
{
	int p[2];
	struct hf_event event;

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	hf_event_init(&event, HF_EV_LATE);
	CHECK(!hf_report_wanted(HF_EV_DEAD));
	hf_report(&event); /* before the constructor: nothing */
	use(HF_SINK_STDERR, "", -1);
	use(HF_SINK_FILE, in_dir("several"), -1);
	config.level = HF_WARN;
	CHECK(hf_report_wanted(HF_EV_DEAD) && !hf_report_wanted(HF_EV_LATE));
	hf_report(&event);
	CHECK(drain(p[0])[0] == '\0');
	fill(2);
	tell(1);
	drain(p[0]);
	tell(2); /* one sink has lost a line, the other has not */
	CHECK(strcmp(drain(p[0]), line(2, 1)) == 0);
	CHECK(strstr(contents(in_dir("several")), line(2, 0)) != NULL);
}

TEST(low_descriptor_limit)
{
	const struct rlimit low = {40, 40}, high = {1 << 19, 1 << 19};
	int fd;

	close(told);
	told = 2;
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	fd = hf_fd_raise(open("/dev/null", O_RDONLY));
	CHECK(fd >= 5 && fd < 40 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	close(fd);
	if (setrlimit(RLIMIT_NOFILE, &high) == 0)
		CHECK(hf_fd_raise(open("/dev/null", O_RDONLY)) == 960);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stderr_full_pipe),
		cmocka_unit_test(stderr_full_pipe_old_kernel),
		cmocka_unit_test(stderr_closed_reader),
		cmocka_unit_test(stderr_replaced),
		cmocka_unit_test(stderr_sockets),
		cmocka_unit_test(stderr_file_shares_the_offset),
		cmocka_unit_test(stderr_file_size_limit),
		cmocka_unit_test(stderr_terminal),
		cmocka_unit_test(file_basics),
		cmocka_unit_test(file_number_taken_over),
		cmocka_unit_test(file_rotated),
		cmocka_unit_test(file_missing_directory),
		cmocka_unit_test(file_is_a_fifo),
		cmocka_unit_test(file_threads),
		cmocka_unit_test(file_after_fork),
		cmocka_unit_test(no_descriptors_left),
		cmocka_unit_test(unix_listener),
		cmocka_unit_test(syslog_form),
		cmocka_unit_test(given_descriptor),
		cmocka_unit_test(given_descriptor_refused),
		cmocka_unit_test(several_sinks_and_level),
		cmocka_unit_test(low_descriptor_limit),
	};

	return cmocka_run_group_tests_name("sink", tests, make_dir, remove_dir);
}
