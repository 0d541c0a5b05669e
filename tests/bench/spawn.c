/*
 * spawn PROGRAM: start PROGRAM and wait for its end, again and again for BENCH_MS: us a time (median).
 * Runs without the library itself; what $BENCH_PRELOAD names is preloaded into PROGRAM.
 */
#include "bench.h"

#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static struct batches batches;

int main(int argc, char **argv)
{
	const char *preload = getenv("BENCH_PRELOAD");
	uint64_t end;

	if (argc < 2)
		errx(2, "usage: spawn PROGRAM");
	alarm(60);
	/* Nothing is started through a shell, and this process is linked already. */
	if (preload != NULL && *preload != '\0')
		setenv("LD_PRELOAD", preload, 1);
	end = now_ns() + duration_ns();
	do {
		uint64_t t = now_ns();
		int status;
		pid_t pid;

		if (posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ) != 0 || waitpid(pid, &status, 0) < 0 ||
		    status != 0)
			errx(1, "%s does not run", argv[1]);
		if (!batches_add(&batches, (double)(now_ns() - t) / 1e3))
			break;
	} while (now_ns() < end);
	printf("%.2f %s\n", batches_median(&batches), preload != NULL && *preload != '\0' ? "probe" : "native");
	return 0;
}
