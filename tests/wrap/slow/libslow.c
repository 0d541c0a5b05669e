/*
 * A close(2) that takes its time, on the descriptor that slow_close names: what the library does beside a close that is
 * under way is seen then.  Preloaded behind it.
 */
#include <dlfcn.h>
#include <time.h>

int slow_close = -1;

int close(int fd)
{
	const struct timespec pause = {0, 700000000};
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");

	if (fd >= 0 && fd == slow_close)
		nanosleep(&pause, 0);
	return next(fd);
}
