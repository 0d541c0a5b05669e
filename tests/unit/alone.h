/*
 * A body run in a process of its own, for what a process has once: its arena, its entry in the family.  CHECK instead
 * of cmocka's assertions there: they would go on in a copy of the test runner.
 */
#ifndef TESTS_UNIT_ALONE_H
#define TESTS_UNIT_ALONE_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LAYOUT = 0x5eed };

#define CHECK(condition)                                                                        \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                               \
		}                                                                               \
	} while (0)

/* Exit status of CHILD, or 128 and its signal. */
static inline int status_of(pid_t child)
{
	int status = -1;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int run_alone(void (*body)(void))
{
	pid_t child = fork();

	if (child == 0) {
		alarm(60); /* whatever happens, it ends */
		body();
		_exit(0);
	}
	return status_of(child);
}

#define alone(body) assert_int_equal(run_alone(body), 0)

static inline void nap(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&t, &t) < 0)
		;
}

/* Zeroed memory that forked children share. */
static inline void *shared(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED);
	return at;
}

/* Numbers from SEED, the same on every machine. */
static inline uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

#endif
