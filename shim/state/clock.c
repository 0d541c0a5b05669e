#include "state/clock.h"
#include "sys.h"

#include <stdbool.h>
#include <string.h>

/* ns; of CLOCK_MONOTONIC and CLOCK_BOOTTIME. */
static _Atomic int64_t ahead[2];

/* The file below tells of the namespace that children will be in; of ours if it is the same (execve(2) sees to that).
 */
static bool settled(void)
{
	char own[64], next[64];
	long n = hf_sys_readlinkat(AT_FDCWD, "/proc/self/ns/time", own, sizeof(own));

	return n > 0 && n == hf_sys_readlinkat(AT_FDCWD, "/proc/self/ns/time_for_children", next, sizeof(next)) &&
	       memcmp(own, next, (size_t)n) == 0;
}

static const char *number(const char *p, int64_t *value)
{
	bool negative = false;

	for (; *p == ' '; p++)
		;
	if (*p == '-')
		negative = true, p++;
	for (*value = 0; *p >= '0' && *p <= '9'; p++)
		*value = *value * 10 + (*p - '0');
	*value = negative ? -*value : *value;
	return p;
}

/* ns that TEXT says of NAME. */
static int64_t offset(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	int64_t s = 0, ns = 0;

	if (p != NULL)
		(void)number(number(p + strlen(name), &s), &ns);
	return s * 1000000000 + ns;
}

void hf_clock_find(void)
{
	char text[256];
	int64_t monotonic, boot;
	long got = -1;
	int fd = hf_sys_openat(AT_FDCWD, "/proc/self/timens_offsets", O_RDONLY | O_CLOEXEC, 0);

	if (fd >= 0) {
		got = hf_sys_read(fd, text, sizeof(text) - 1);
		hf_sys_close(fd);
	}
	if (got <= 0)
		return;
	text[got] = '\0';
	monotonic = offset(text, "monotonic");
	boot = offset(text, "boottime");
	/* A new one begins as a copy of the one it is made in, so that none has to be asked which it is. */
	if ((monotonic != atomic_load(&ahead[0]) || boot != atomic_load(&ahead[1])) && settled()) {
		atomic_store(&ahead[0], monotonic);
		atomic_store(&ahead[1], boot);
	}
}

static uint64_t outside_ns(clockid_t clock, const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * 1000000000 + (uint64_t)ts->tv_nsec -
	       (uint64_t)atomic_load_explicit(&ahead[clock == CLOCK_BOOTTIME], memory_order_relaxed);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts = {0, 0};

	hf_sys_clock_gettime(clock, &ts);
	return outside_ns(clock, &ts);
}

static int (*quick)(clockid_t clock, struct timespec *ts);

void hf_clock_use(int (*gettime)(clockid_t clock, struct timespec *ts))
{
	quick = gettime;
}

uint64_t hf_clock_wait_us(void)
{
	struct timespec ts = {0, 0};

	if (quick == NULL || quick(CLOCK_MONOTONIC, &ts) != 0)
		hf_sys_clock_gettime(CLOCK_MONOTONIC, &ts);
	return outside_ns(CLOCK_MONOTONIC, &ts) / 1000;
}

uint64_t hf_clock_us(clockid_t clock)
{
	return now_ns(clock) / 1000;
}

uint64_t hf_clock_ms(clockid_t clock)
{
	return now_ns(clock) / 1000000;
}
