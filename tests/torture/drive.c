/*
 * The torture: tests/torture/work is run with the library at both ends, once to learn which places of the library make
 * which system calls, then once for each place, error and choice of hits, and the outcome is judged.
 *
 *	drive LIB WORK [-n RUNS] [-j JOBS] [-s SEED]            RUNS 0: all of them; otherwise a sample
 *	drive LIB WORK MODE ROLE PLACE ERROR FROM TO            one of them again
 *
 * TAP on standard output.  A failure names its run as the second form takes it.
 */
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 40000, JOBS_MOST = 16 };

static const char *library, *work;

struct test {
	const char *mode, *role; /* whose calls fail */
	uint32_t place, nr;
	int error;
	uint32_t from, to;
};

/* What the man pages list; what says that the caller has given a wrong descriptor or address is left out.  0 ends. */
static const struct kind {
	long nr;
	const char *name;
	bool shorter; /* it moves bytes */
	int errors[14];
} kinds[] = {
	{SYS_read, "read", true, {EAGAIN, EINTR, EINVAL, EIO, ECONNRESET}},
	{SYS_pread64, "pread", true, {EAGAIN, EINTR, EINVAL, EIO}},
	{SYS_write, "write", true, {EAGAIN, EFBIG, EINTR, EINVAL, EIO, ENOSPC, EPERM, EPIPE}},
	{SYS_writev, "writev", true, {EAGAIN, EFBIG, EINTR, EINVAL, EIO, ENOSPC, EPERM, EPIPE}},
	{SYS_close, "close", false, {EINTR, EIO, ENOSPC}},
	{SYS_close_range, "close_range", false, {ENOMEM, EMFILE, EINVAL}},
	{SYS_openat, "openat", false, {EACCES, EINTR, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS}},
	{SYS_fstat, "fstat", false, {ENOMEM, EOVERFLOW}},
	{SYS_newfstatat, "fstatat", false, {EACCES, ENOENT, ENOMEM, EOVERFLOW}},
	{SYS_readlinkat, "readlinkat", false, {EACCES, EINVAL, EIO, ENOENT, ENOMEM}},
	{SYS_fcntl, "fcntl", false, {EACCES, EAGAIN, EINVAL, EMFILE, EPERM}},
	{SYS_ioctl, "ioctl", false, {EINVAL, ENOTTY}},
	{SYS_dup3, "dup3", false, {EBUSY, EINTR, EINVAL, EMFILE}},
	{SYS_pipe2, "pipe2", false, {EMFILE, ENFILE}},
	{SYS_eventfd2, "eventfd", false, {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM}},
	{SYS_memfd_create, "memfd_create", false, {EINVAL, EMFILE, ENFILE, ENOMEM}},
	{SYS_ftruncate, "ftruncate", false, {EINTR, EINVAL, EFBIG, EIO, EPERM}},
	{SYS_fallocate, "fallocate", false, {EINTR, EIO, ENOSPC, EOPNOTSUPP, ENOSYS}},
	{SYS_ppoll, "ppoll", false, {EINTR, EINVAL, ENOMEM}},
	{SYS_epoll_create1, "epoll_create1", false, {EMFILE, ENFILE, ENOMEM}},
	{SYS_epoll_ctl, "epoll_ctl", false, {EEXIST, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM}},
	{SYS_epoll_pwait, "epoll_pwait", false, {EINTR, EINVAL}},
	{SYS_nanosleep, "nanosleep", false, {EINTR}},
	{SYS_futex, "futex", false, {EAGAIN, EINTR, EINVAL, ENOSYS, ETIMEDOUT}},
	{SYS_socket, "socket", false, {EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM}},
	{SYS_socketpair, "socketpair", false, {EAFNOSUPPORT, EMFILE, ENFILE, EOPNOTSUPP}},
	{SYS_connect, "connect", false, {EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT}},
	{SYS_shutdown, "shutdown", false, {EINVAL, ENOTCONN}},
	{SYS_sendto, "sendto", true, {EAGAIN, ECONNRESET, EINTR, ENOBUFS, ENOMEM, ENOTCONN, EPIPE, EHOSTUNREACH}},
	{SYS_sendmsg, "sendmsg", true, {EAGAIN, ECONNRESET, EINTR, ENOBUFS, ENOMEM, ENOTCONN, EPIPE, EHOSTUNREACH}},
	{SYS_recvfrom, "recvfrom", true, {EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, ENOMEM, ENOTCONN, ETIMEDOUT}},
	{SYS_recvmsg, "recvmsg", true, {EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, ENOMEM, ENOTCONN, ETIMEDOUT}},
	{SYS_getsockopt, "getsockopt", false, {EINVAL, ENOPROTOOPT}},
	{SYS_setsockopt, "setsockopt", false, {EINVAL, ENOPROTOOPT, ENOMEM}},
	{SYS_getsockname, "getsockname", false, {EINVAL, ENOBUFS}},
	{SYS_getpeername, "getpeername", false, {EINVAL, ENOBUFS, ENOTCONN}},
	{SYS_tgkill, "tgkill", false, {EAGAIN, EINVAL, EPERM, ESRCH}},
	{SYS_rt_sigtimedwait, "sigtimedwait", false, {EAGAIN, EINTR, EINVAL}},
	{SYS_prlimit64, "prlimit", false, {EINVAL, EPERM, ESRCH}},
	{SYS_prctl, "prctl", false, {EACCES, EINVAL, EPERM}},
	{SYS_getrandom, "getrandom", false, {EAGAIN, EINTR, EINVAL, ENOSYS}},
	{SYS_mmap, "mmap", false, {EACCES, EAGAIN, EINVAL, ENFILE, ENODEV, ENOMEM, EPERM}},
	{SYS_munmap, "munmap", false, {EINVAL}},
	{SYS_mprotect, "mprotect", false, {EACCES, EINVAL, ENOMEM}},
	{SYS_madvise, "madvise", false, {EACCES, EAGAIN, EINVAL, ENOMEM, EPERM}},
	{SYS_getdents64, "getdents", false, {EINVAL, ENOENT}},
	{SYS_process_vm_readv, "process_vm_readv", false, {EINVAL, ENOMEM, EPERM, ESRCH}},
	{SYS_pwritev2, "pwritev2", false, {EAGAIN, EINVAL, EOPNOTSUPP}},
};

static const struct kind *kind_of(long nr)
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].nr == nr)
			return &kinds[i];
	return NULL;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t state;
static uint32_t chance(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33) % below;
}

/* A file that both map; its name is good for this process and its children. */
static struct torture *make_plan(const struct test *test, char *name, size_t size)
{
	int fd = memfd_create("torture", 0);
	struct torture *plan;

	if (fd < 0 || ftruncate(fd, sizeof *plan) < 0)
		return NULL;
	plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (plan == MAP_FAILED)
		return NULL;
	snprintf(name, size, "/proc/%d/fd/%d", getpid(), fd);
	plan->place = test->place;
	plan->error = test->error;
	plan->from = test->from;
	plan->to = test->to;
	return plan;
}

static pid_t start(const struct test *test, const char *role, const char *argument, const char *plan, int port,
		   int said)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	setenv("LD_PRELOAD", library, 1);
	setenv("HOLDFAST_MODE", test->mode, 1);
	setenv("HOLDFAST_INTERVAL", "50ms", 1);
	setenv("HOLDFAST_TIMEOUT", "8s", 1);
	setenv("HOLDFAST_HELLO_WAIT", "300ms", 1);
	setenv("HOLDFAST_LEVEL", "debug", 1);
	setenv("HOLDFAST_REPORT", "fd:4", 1);
	if (strcmp(role, test->role) == 0)
		setenv("HF_TORTURE", plan, 1);
	dup2(said, 2);
	dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 4);
	if (port >= 0 && port != 3) {
		dup2(port, 3);
		close(port);
	}
	closefrom(5);
	execl(work, work, role, argument, (char *)NULL);
	_exit(127);
}

/* Wait status of both, or false when the time is over. */
static bool both_end(const pid_t pid[2], int status[2])
{
	uint64_t deadline = now_ms() + LIMIT_MS, before = now_ms();
	bool over[2] = {false, false};

	while (!over[0] || !over[1]) {
		/* What a busy machine takes from us it takes from them. */
		deadline += now_ms() - before > 100 ? now_ms() - before : 0;
		before = now_ms();
		for (int i = 0; i < 2; i++)
			over[i] = over[i] || waitpid(pid[i], &status[i], WNOHANG) == pid[i];
		if (now_ms() > deadline) {
			for (int i = 0; i < 2; i++)
				if (!over[i]) {
					kill(pid[i], SIGKILL);
					waitpid(pid[i], &status[i], 0);
				}
			return false;
		}
		usleep(2000);
	}
	return true;
}

/* NULL: well. */
static const char *judge(const struct test *test, const int status[2])
{
	static char why[80];
	int code[2];

	for (int i = 0; i < 2; i++) {
		const char *role = i == 0 ? "server" : "client";

		if (WIFSIGNALED(status[i])) {
			snprintf(why, sizeof why, "the %s died of signal %d", role, WTERMSIG(status[i]));
			return why;
		}
		code[i] = WEXITSTATUS(status[i]);
		if (code[i] != 0 && (code[i] < 3 || code[i] > 5)) {
			snprintf(why, sizeof why, "the %s ended with status %d", role, code[i]);
			return why;
		}
	}
	if (code[0] == 0 && code[1] == 0)
		return NULL;
	/* In probe mode the connection is not ours to break. */
	if (strcmp(test->mode, "probe") == 0)
		return "a connection in probe mode ended with an error";
	/* One has been told; the other then meets an end or an error, or waits for it in vain. */
	if (code[0] == 3 || code[1] == 3)
		return NULL;
	return "bytes were lost and nobody was told";
}

/* One run; false: WHY says why not. *PLAN: what the library noted. */
static bool run(const struct test *test, char *why, size_t size, struct torture **noted)
{
	char name[64], port[16] = "", said[2048] = "";
	struct torture *plan = make_plan(test, name, sizeof name);
	int pipes[2], status[2] = {0, 0}, words;
	FILE *errors = tmpfile();
	const char *verdict;
	pid_t pid[2];
	bool ended;

	*noted = plan;
	if (plan == NULL || errors == NULL || pipe(pipes) < 0) {
		snprintf(why, size, "cannot begin: %s", strerror(errno));
		return false;
	}
	words = fileno(errors);
	pid[0] = start(test, "server", NULL, name, pipes[1], words);
	close(pipes[1]);
	struct pollfd p = {.fd = pipes[0], .events = POLLIN};
	ssize_t n = poll(&p, 1, LIMIT_MS) == 1 ? read(pipes[0], port, sizeof port - 1) : -1;
	close(pipes[0]);
	if (n > 0) {
		port[strcspn(port, "\n")] = '\0';
		pid[1] = start(test, "client", port, name, -1, words);
	} else {
		pid[1] = fork();
		if (pid[1] == 0)
			_exit(0);
	}
	ended = both_end(pid, status);
	verdict = n > 0 ? NULL : "no server in time";
	if (verdict == NULL)
		verdict = ended ? judge(test, status) : "it hangs";
	if (verdict != NULL) {
		rewind(errors);
		said[fread(said, 1, sizeof said - 1, errors)] = '\0';
		for (char *c = said; *c != '\0'; c++)
			if (*c == '\n')
				*c = ';';
		snprintf(why, size, "%s: %s", verdict, said);
	}
	fclose(errors);
	close(atoi(strrchr(name, '/') + 1));
	return verdict == NULL;
}

static void tell(const char *how, const struct test *test, const char *tag, const char *why)
{
	const struct kind *kind = kind_of(test->nr);

	printf("%s torture %s %s %#" PRIx32 " %d %u %u %s(%s: %s): %s\n", how, test->mode, test->role, test->place,
	       test->error, test->from, test->to, tag, kind != NULL ? kind->name : "?",
	       test->error == TORTURE_SHORT ? "short" : strerrorname_np(test->error), why);
	fflush(stdout);
}

static struct test *tests;
static size_t count, room;

static void add(const struct test *test, int error, uint32_t from, uint32_t to)
{
	if (count == room) {
		room = room * 2 + 1024;
		tests = realloc(tests, room * sizeof *tests);
		if (tests == NULL)
			exit(2);
	}
	tests[count] = *test;
	tests[count].error = error;
	tests[count].from = from;
	tests[count++].to = to;
}

/* The first hit, one in the middle, and all of them but where the kernel would not go on for ever. */
static void add_site(const struct test *base, uint32_t hits, int error)
{
	add(base, error, 0, 1);
	if (hits > 1) {
		uint32_t hit = 1 + chance(hits - 1);

		add(base, error, hit, hit + 1);
		if (error != EINTR && error != EAGAIN)
			add(base, error, 0, UINT32_MAX);
	}
}

static bool learn(const char *mode, const char *role)
{
	struct test test = {.mode = mode, .role = role};
	struct torture *plan;
	char why[4096];
	size_t sites = 0, before = count;

	if (!run(&test, why, sizeof why, &plan)) {
		printf("not ok torture %s %s: without a failure: %s\n", mode, role, why);
		return false;
	}
	for (size_t i = 0; i < TORTURE_SITES; i++) {
		const struct kind *kind = kind_of(atomic_load(&plan->site[i].nr));

		if (atomic_load(&plan->site[i].place) == 0 || kind == NULL)
			continue;
		sites++;
		test.place = atomic_load(&plan->site[i].place);
		test.nr = atomic_load(&plan->site[i].nr);
		if (kind->shorter)
			add_site(&test, atomic_load(&plan->site[i].hits), TORTURE_SHORT);
		for (size_t e = 0; kind->errors[e] != 0; e++)
			add_site(&test, atomic_load(&plan->site[i].hits), kind->errors[e]);
	}
	munmap(plan, sizeof *plan);
	printf("# %s, %s: %zu places that make system calls, %zu runs\n", mode, role, sites, count - before);
	fflush(stdout);
	return true;
}

/* Where calls depend on the time, a run may not come by the place; how many, in memory that all jobs share. */
static _Atomic uint32_t *misses;
static void missed(void)
{
	atomic_fetch_add(misses, 1);
}

/* One of the tests, in a process of its own: 0: well. */
static int job(const struct test *test)
{
	struct torture *plan;
	char why[4096], again[4096];

	if (run(test, why, sizeof why, &plan)) {
		if (atomic_load(&plan->failed) == 0)
			missed();
		return 0;
	}
	/* Once more: the machine may have been too busy for the times that work waits. */
	if (run(test, again, sizeof again, &plan)) {
		tell("ok", test, "# SKIP differed once, not when run again ", why);
		return 0;
	}
	tell("not ok", test, "", why);
	return 1;
}

static size_t all(size_t runs, int jobs)
{
	size_t bad = 0, done = 0;
	int active = 0, status;

	for (size_t i = count; i > 1; i--) { /* in an order that the seed makes */
		size_t other = chance((uint32_t)i);
		struct test test = tests[i - 1];

		tests[i - 1] = tests[other];
		tests[other] = test;
	}
	if (runs == 0 || runs > count)
		runs = count;
	while (done < runs || active > 0) {
		if (done < runs && active < jobs) {
			pid_t pid = fork();

			if (pid == 0)
				_exit(job(&tests[done]));
			done++;
			active++;
			continue;
		}
		if (wait(&status) > 0) {
			active--;
			bad += status != 0;
		}
	}
	printf("# %zu runs of %zu; %u of them did not come by the place\n", runs, count, atomic_load(misses));
	if (bad == 0)
		printf("ok torture: %zu runs, in each a system call of the library failed\n", runs);
	return bad;
}

int main(int argc, char **argv)
{
	size_t runs = 0;
	int jobs = 4, option;

	if (argc < 3)
		return 2;
	library = argv[1];
	work = argv[2];
	misses = mmap(NULL, sizeof *misses, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (misses == MAP_FAILED)
		return 2;
	if (argc == 9 && argv[3][0] != '-') {
		struct test test = {argv[3],
				    argv[4],
				    (uint32_t)strtoul(argv[5], NULL, 0),
				    0,
				    atoi(argv[6]),
				    (uint32_t)strtoul(argv[7], NULL, 0),
				    (uint32_t)strtoul(argv[8], NULL, 0)};

		int bad = job(&test);

		printf("# %s\n", atomic_load(misses) != 0 ? "it did not come by the place" : "done");
		return bad;
	}
	state = (uint64_t)time(NULL);
	optind = 3;
	while ((option = getopt(argc, argv, "n:j:s:")) > 0) {
		if (option == 'n')
			runs = strtoul(optarg, NULL, 10);
		else if (option == 'j')
			jobs = atoi(optarg) < JOBS_MOST ? atoi(optarg) : JOBS_MOST;
		else
			state = strtoull(optarg, NULL, 10);
	}
	printf("# seed %" PRIu64 "\n", state);
	if (!learn("probe", "server") || !learn("probe", "client") || !learn("wrap", "server") ||
	    !learn("wrap", "client"))
		return 1;
	return all(runs, jobs) != 0;
}
