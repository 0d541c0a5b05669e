#include "guard.h"
#include "sys.h"

#include <arpa/inet.h>
#include <holdfast/arena.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAW (hf_sys6) /* in parentheses it is the function, not the macro */

enum { MOST_CALLS = 200000, MOST_BUSY = 8000, MOST_REGIONS = 512, MOST_FDS = 256, MOST_IOV = 1024 };

static struct {
	bool on;
	void (*between)(void);
	unsigned calls, busy; /* in all, and since it last slept */
	unsigned sleeps;
	uint64_t slept; /* ns */
	struct region {
		const char *at;
		size_t size;
		bool mapped; /* by the library itself */
	} regions[MOST_REGIONS];
	size_t nregions;
	struct lent {
		int fd;
		bool close, opened; /* by the library itself */
	} fds[MOST_FDS];
	size_t nfds;
	const char *stack_low, *stack_high;
} guard;

static void wrong(const char *what, long a, long b)
{
	char text[160];
	int n = snprintf(text, sizeof text, "guard: %s: %#lx, %#lx\n", what, a, b);

	(void)RAW(SYS_write, 2, (long)text, n, 0, 0, 0);
	abort();
}

/* Memory */

static void add_region(const void *at, size_t size, bool mapped)
{
	if (guard.nregions == MOST_REGIONS)
		wrong("more memory than a run needs", (long)guard.nregions, 0);
	guard.regions[guard.nregions++] = (struct region){at, size, mapped};
}

void hf_guard_allow(const void *at, size_t size)
{
	add_region(at, size, false);
}

/* Of ASan's run time, if that is there: what is no variable of the stack's or the program's is poisoned. */
extern void *__asan_region_is_poisoned(void *at, size_t size) __attribute__((weak));
extern char __executable_start[], end[]; /* ld(1) */

static void check_memory(const char *what, const void *memory, size_t size)
{
	const char *at = memory;

	if (size == 0)
		return;
	for (size_t i = 0; i < guard.nregions; i++) {
		const struct region *region = &guard.regions[i];

		if (at >= region->at && size <= region->size && (size_t)(at - region->at) <= region->size - size)
			return;
	}
	if (((at >= guard.stack_low && at < guard.stack_high && size <= (size_t)(guard.stack_high - at)) ||
	     (at >= __executable_start && at < end && size <= (size_t)(end - at))) &&
	    (!__asan_region_is_poisoned || !__asan_region_is_poisoned((void *)(uintptr_t)at, size)))
		return;
	wrong(what, (long)memory, (long)size);
}

static void check_iov(const char *what, const struct iovec *iov, size_t count)
{
	if (count > MOST_IOV)
		wrong(what, (long)iov, (long)count);
	for (size_t i = 0; i < count; i++)
		check_memory(what, iov[i].iov_base, iov[i].iov_len);
}

/* Descriptors */

static struct lent *lent(int fd)
{
	for (size_t i = 0; i < guard.nfds; i++)
		if (guard.fds[i].fd == fd)
			return &guard.fds[i];
	return NULL;
}

static void lend(int fd, bool close, bool opened)
{
	struct lent *have = lent(fd);

	if (!have && guard.nfds == MOST_FDS)
		wrong("more descriptors than a run needs", fd, 0);
	if (!have)
		have = &guard.fds[guard.nfds++];
	*have = (struct lent){fd, close, opened};
}

void hf_guard_lend(int fd, bool close)
{
	lend(fd, close, false);
}

static void check_fd(const char *what, long fd, bool close)
{
	const struct lent *have = lent((int)fd);

	/* One that is not open cannot be hurt. */
	if ((!have || (close && !have->close)) && RAW(SYS_fcntl, fd, F_GETFD, 0, 0, 0, 0) >= 0)
		wrong(what, fd, 0);
}

static void closed(long fd)
{
	struct lent *have = lent((int)fd);

	if (have)
		*have = guard.fds[--guard.nfds];
}

/* Before a call */

static void check_message(const char *what, const struct msghdr *msg)
{
	check_iov(what, msg->msg_iov, msg->msg_iovlen);
	check_memory(what, msg->msg_control, msg->msg_controllen);
}

static void check(long nr, const long *arg)
{
	switch (nr) {
	case SYS_read:
	case SYS_pread64:
	case SYS_recvfrom:
		/* MSG_TRUNC: nothing is written (tcp(7)) */
		if (nr != SYS_recvfrom || (arg[3] & MSG_TRUNC) == 0)
			check_memory("receives into", (void *)arg[1], (size_t)arg[2]);
		break;
	case SYS_write:
	case SYS_sendto:
		check_memory("sends", (void *)arg[1], (size_t)arg[2]);
		break;
	case SYS_writev:
		check_iov("writes", (void *)arg[1], (size_t)arg[2]);
		break;
	case SYS_sendmsg:
		check_message("sends", (void *)arg[1]);
		break;
	case SYS_recvmsg:
		check_message("receives into", (void *)arg[1]);
		break;
	case SYS_process_vm_readv: /* the other side is memory of the program's, which may not be there */
	case SYS_process_vm_writev:
		check_iov("copies", (void *)arg[1], (size_t)arg[2]);
		break;
	case SYS_close:
		check_fd("closes", arg[0], true);
		break;
	case SYS_dup3:
		check_fd("puts something in the place of", arg[1], false);
		break;
	case SYS_shutdown:
	case SYS_connect:
	case SYS_bind:
	case SYS_listen:
	case SYS_setsockopt:
	case SYS_ftruncate:
	case SYS_fallocate:
		check_fd("acts upon", arg[0], false);
		break;
	case SYS_munmap:
	case SYS_mremap:
	case SYS_mprotect:
		for (size_t i = 0; i < guard.nregions; i++) {
			const struct region *region = &guard.regions[i];

			if (region->mapped && (char *)arg[0] >= region->at &&
			    (char *)arg[0] + arg[1] <= region->at + ((region->size + 4095) & ~(size_t)4095))
				return;
		}
		wrong("unmaps", arg[0], arg[1]);
		break;
	case SYS_kill:
		wrong("kills", arg[0], arg[1]);
		break;
	case SYS_tgkill:
		if (arg[2] != 0 && arg[2] != SIGPIPE)
			wrong("kills", arg[1], arg[2]);
		break;
	default:
		break;
	}
}

static bool stays_here(const struct sockaddr *to, size_t size)
{
	const struct sockaddr_in *in = (const void *)to;

	return to->sa_family == AF_UNSPEC ||
	       (to->sa_family == AF_INET && size >= sizeof *in && in->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
}

/* Instead of a call that sleeps, or must not be made. */
static bool sleeps(long nr, long *arg, long *result)
{
	const struct timespec *time;
	static const struct timespec none;

	switch (nr) {
	case SYS_nanosleep:
		time = (void *)arg[0];
		guard.slept += (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
		*result = 0;
		return true;
	case SYS_futex:
		if ((arg[1] & FUTEX_CMD_MASK) != FUTEX_WAIT)
			return false;
		guard.slept += 10000000;
		*result = -ETIMEDOUT;
		return true;
	case SYS_tgkill:
		*result = 0;
		return arg[2] != 0;
	case SYS_connect:
		/* Whatever address a sibling has written: nobody outside is called. */
		*result = -ECONNREFUSED;
		return !stays_here((void *)arg[1], (size_t)arg[2]);
	case SYS_ppoll:
		guard.slept += 10000000;
		arg[2] = (long)&none;
		return false;
#ifdef SYS_poll
	case SYS_poll:
		arg[2] = 0;
		return false;
#endif
	default:
		return false;
	}
}

/* Whether NR is a poll, which sleeps if it finds nothing. */
static bool waits(long nr)
{
#ifdef SYS_poll
	if (nr == SYS_poll)
		return true;
#endif
	return nr == SYS_ppoll;
}

/* After a call */

static void note(long nr, const long *arg, long result)
{
	switch (nr) {
	case SYS_socket:
	case SYS_accept4:
	case SYS_openat:
	case SYS_memfd_create:
	case SYS_pidfd_open:
	case SYS_epoll_create1:
		if (result >= 0)
			lend((int)result, true, true);
		break;
	case SYS_fcntl:
		if (result >= 0 && (arg[1] == F_DUPFD || arg[1] == F_DUPFD_CLOEXEC))
			lend((int)result, true, true);
		break;
	case SYS_close:
		closed(arg[0]);
		break;
	case SYS_mmap:
		/* Of the arena's file only queues are given to the kernel; the other parts are mapped once for all
		 * runs. */
		if (!hf_sys_failed((void *)result) &&
		    (arg[4] < 0 || (arg[1] == HF_ARENA_QUEUE_SIZE && (uint64_t)arg[5] < HF_ARENA_VIEWS_AT)))
			add_region((void *)result, (size_t)arg[1], true);
		break;
	case SYS_munmap:
		/* Whole, or from some page on. */
		for (size_t i = 0; i < guard.nregions; i++) {
			struct region *region = &guard.regions[i];

			if (!region->mapped || (char *)arg[0] < region->at ||
			    (char *)arg[0] >= region->at + region->size)
				continue;
			region->size = (size_t)((char *)arg[0] - region->at);
			if (region->size == 0)
				*region = guard.regions[--guard.nregions];
			return;
		}
		break;
	case SYS_clock_gettime:
		if (result == 0) {
			struct timespec *now = (void *)arg[1];
			uint64_t ns = (uint64_t)now->tv_nsec + guard.slept;

			now->tv_sec += (time_t)(ns / 1000000000);
			now->tv_nsec = (long)(ns % 1000000000);
		}
		break;
	default:
		break;
	}
}

long hf_fuzz_call(long nr, long a, long b, long c, long d, long e, long f)
{
	long arg[] = {a, b, c, d, e, f}, result;

	if (!guard.on)
		return RAW(nr, a, b, c, d, e, f);
	if (guard.calls++ >= MOST_CALLS)
		wrong("has no end", nr, guard.calls);
	if (guard.busy++ >= MOST_BUSY)
		wrong("spins", nr, guard.calls);
	if (guard.between)
		guard.between();
	check(nr, arg);
	if (!sleeps(nr, arg, &result))
		result = RAW(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (nr == SYS_nanosleep || (nr == SYS_futex && result == -ETIMEDOUT) || (waits(nr) && result == 0))
		hf_guard_slept();
	note(nr, arg, result);
	return result;
}

void hf_guard_slept(void)
{
	guard.busy = 0;
	guard.sleeps++;
}

unsigned hf_guard_sleeps(void)
{
	return guard.sleeps;
}

/* A run */

static void find_stack(void)
{
	pthread_attr_t attributes;
	void *at = NULL;
	size_t size = 0;

	if (guard.stack_high || pthread_getattr_np(pthread_self(), &attributes) != 0)
		return;
	(void)pthread_attr_getstack(&attributes, &at, &size);
	pthread_attr_destroy(&attributes);
	guard.stack_low = at;
	guard.stack_high = guard.stack_low + size;
}

void hf_guard_begin(void (*between)(void))
{
	find_stack();
	guard.between = between;
	guard.calls = guard.busy = guard.sleeps = 0;
	guard.slept = 0;
	guard.nfds = 0;
	guard.on = true;
}

void hf_guard_end(int kept)
{
	size_t pages = 0;

	guard.on = false;
	for (size_t i = 0; i < guard.nfds; i++)
		if (guard.fds[i].opened && guard.fds[i].fd != kept)
			wrong("leaves open", guard.fds[i].fd, 0);
	/* Single pages are kept for a while (io/resume.c). */
	for (size_t i = 0; i < guard.nregions; i++) {
		struct region *region = &guard.regions[i];

		if (region->mapped && region->size <= 4096)
			guard.regions[pages++] = *region;
		else if (region->mapped)
			(void)RAW(SYS_munmap, (long)region->at, (long)region->size, 0, 0, 0, 0);
	}
	guard.nregions = pages;
}
