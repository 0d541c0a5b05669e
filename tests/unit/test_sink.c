/*
 * Sinks the library opens itself, file:, unix: and syslog: what happens to a line, and to the program, when the other
 * end is full, gone, replaced or not there.
 */
#include "sink_child.h"

#include "sink.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

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

/* unix:, syslog */

static int bind_unix(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(un.sun_path, path);
	CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0);
	return fd;
}

/* The datagram that waits at FD, as a string; empty when there is none. */
static const char *datagram(int fd)
{
	static char text[1024];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

TEST(unix_listener)
{
	static const char zeros[1000];
	int fd, before = open_fds();

	CHECK(chdir(dir) == 0);
	use(HF_SINK_UNIX, "listener", -1);
	CHECK(open_fds() == before);
	CHECK(chdir("/") == 0);
	tell(1);
	fd = bind_unix(in_dir("listener"));
	tell(2);
	CHECK(strcmp(datagram(fd), line(2, 1)) == 0);
	CHECK(open_fds() == before + 1 && hf_report_next_fd(0) == INT_MAX); /* the listener's, none of ours */

	int filler = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	strcpy(un.sun_path, in_dir("listener"));
	while (sendto(filler, zeros, sizeof(zeros), 0, (struct sockaddr *)&un, sizeof(un)) > 0)
		;
	tell(3); /* the queue is full: must not wait */
	while (datagram(fd)[0] != '\0')
		;
	close(fd);
	tell(4);
	unlink(in_dir("listener"));
	fd = bind_unix(in_dir("listener"));
	tell(5);
	CHECK(strcmp(datagram(fd), line(5, 2)) == 0);
}

TEST(syslog_form)
{
	char expected[400];
	const char *text;
	struct hf_event event;
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
	snprintf(expected, sizeof(expected),
		 "<27>holdfast[%d]: prog: dead: the peer is gone [lines left out before this one: 1]", getpid());
	CHECK(strcmp(datagram(fd), expected) == 0);
	tell(1);
	CHECK(strncmp(datagram(fd), "<28>holdfast[", 13) == 0);
	config.format = HF_JSON;
	tell(1);
	text = datagram(fd);
	CHECK(strstr(text, "]: {\"ts\":") != NULL && text[strlen(text) - 1] == '}');
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test(several_sinks_and_level),
		cmocka_unit_test(low_descriptor_limit),
	};

	return cmocka_run_group_tests_name("sink", tests, make_dir, remove_dir);
}
