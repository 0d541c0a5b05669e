#include "hand.h"

#include "state/fdlist.h"
#include "state/proc.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { ONE_THREAD = O_EXCL }; /* PIDFD_THREAD (pidfd_open(2)) */

static _Atomic bool own;
static _Atomic uintptr_t stack;
static _Atomic size_t stack_size;

/* The watchdog's, in its own table. */
static int holder;   /* a thread of the program's: by way of it we reach the program's table */
static int way = -1; /* its pidfd */

bool hf_hand_own(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return atomic_load_explicit(&own, memory_order_relaxed) &&
	       here - atomic_load_explicit(&stack, memory_order_relaxed) <
		       atomic_load_explicit(&stack_size, memory_order_relaxed);
}

void hf_hand_begin(uintptr_t from, size_t size)
{
	atomic_store(&own, false);
	atomic_store(&stack, from);
	atomic_store(&stack_size, size);
	holder = 0;
	way = -1;
}

static int open_pidfd(int tid, int flags)
{
	return (int)hf_sys2(SYS_pidfd_open, tid, flags);
}

static int get(int pidfd, int fd)
{
	return (int)hf_sys3(SYS_pidfd_getfd, pidfd, fd, 0);
}

/* A pidfd of thread TID that is the program's, still. */
static int open_thread(int tid)
{
	int pid = hf_sys_getpid(), fd = open_pidfd(tid, tid == pid ? 0 : ONE_THREAD);

	if (fd >= 0 && (hf_proc_task_gone(tid) || hf_sys_tgkill(pid, tid, 0) != 0)) {
		hf_sys_close(fd);
		fd = -ESRCH;
	}
	return fd;
}

static void try_thread(int tid, void *arg)
{
	(void)arg;
	if (way >= 0 || tid == hf_sys_gettid())
		return;
	way = open_thread(tid);
	holder = tid;
}

/* A way to the program's table: its first thread, as long as that lives. */
static bool open_way(void)
{
	holder = hf_sys_getpid();
	way = open_thread(holder);
	if (way < 0)
		(void)hf_each_number("/proc/self/task", try_thread, NULL);
	return way >= 0;
}

int hf_hand_take(int fd)
{
	enum { TRIES = 8 }; /* threads may come and go */
	int got;

	if (!hf_hand_own() || fd < 0)
		return fd;
	for (int tries = 0; tries < TRIES; tries++) {
		if (way < 0 && !open_way())
			continue;
		got = get(way, fd);
		if (got != -ESRCH && (got != -EBADF || !hf_proc_task_gone(holder)))
			return got;
		/* Of a thread that has ended: nothing is known. */
		hf_sys_close(way);
		way = -1;
	}
	return -ESRCH;
}

void hf_hand_drop(int hand)
{
	if (hand >= 0 && hf_hand_own())
		hf_sys_close(hand);
}

/* Parting */

/* "Seccomp:\t0" in /proc/thread-self/status (proc(5)): with a filter a call that nobody has foreseen may be the last
 * one. */
static bool unfiltered(void)
{
	static const char name[] = "\nSeccomp:\t0\n";
	char text[4096];
	int fd = hf_sys_openat(AT_FDCWD, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
	long got = fd >= 0 ? hf_sys_read(fd, text, sizeof(text) - 1) : 0;

	if (fd >= 0)
		hf_sys_close(fd);
	text[got > 0 ? got : 0] = '\0';
	return strstr(text, name) != NULL;
}

/*
 * On a thread of its own, whose table goes with it.  For a number that cannot be open: the kernel asks whether we may
 * before it looks whether it is (pidfd_getfd(2)), and nothing of the program's is held by anybody.
 */
static void try_it(void *arg)
{
	bool *may = arg;
	int pid = hf_sys_getpid(), pidfd;

	if (!unfiltered() || hf_proc_ask_memory(pid) != 1 || open_pidfd(hf_sys_gettid(), ONE_THREAD) < 0)
		return;
	pidfd = open_pidfd(pid, 0);
	*may = pidfd >= 0 && get(pidfd, INT_MAX) == -EBADF;
}

bool hf_hand_part(bool (*aside)(void (*fn)(void *), void *arg))
{
	bool may = false;

	if (!aside(try_it, &may) || !may)
		return false;
	/* One step: a table of our own, and nothing of the program's in it (close_range(2)). */
	if (hf_sys3(SYS_close_range, 0, UINT_MAX, CLOSE_RANGE_UNSHARE) != 0)
		return false;
	atomic_store(&own, true);
	return true;
}
