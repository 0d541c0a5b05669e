/*
 * Sinks that are descriptors of the program's, standard error and fd:N: what happens to a line, and to the program,
 * when the other end is full, gone or replaced.
 */
#include "sink_child.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>

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

/* fd:N */

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

/* As a shell leaves descriptor 0 to what it starts in the background. */
TEST(given_descriptor_read_only)
{
	int p[2], fd = open("/dev/null", O_RDONLY);
	char expected[100];

	CHECK(pipe(p) == 0);
	become_stderr(p[1]);
	use(HF_SINK_FD, "", fd);
	tell(1);
	snprintf(expected, sizeof(expected), "holdfast: HOLDFAST_REPORT: fd:%d: not open for writing\n", fd);
	CHECK(strcmp(drain(p[0]), expected) == 0);
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
		cmocka_unit_test(given_descriptor),
		cmocka_unit_test(given_descriptor_refused),
		cmocka_unit_test(given_descriptor_read_only),
	};

	return cmocka_run_group_tests_name("sink_given", tests, make_dir, remove_dir);
}
