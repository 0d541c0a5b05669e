/*
 * The calls that close, duplicate and configure descriptors: how the map keeps up with the kernel.
 */
#include "io/descriptor.h"
#include "io/adopt.h"
#include "io/gate.h"
#include "io/keep.h"
#include "io/process.h"
#include "io/resume.h"
#include "state/arena.h"
#include "sys.h"
#include "watch/look.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2) /* Linux 5.11 */
#endif

/* The last close of a wrapped connection: a duplicate to be drained, or -1. */
static int closing_wrapped(int fd, hf_fd_entry entry)
{
	struct hf_slot *slot = hf_slot_named_by(entry);
	int kept, error = errno, refused;

	if (slot == NULL || hf_wrap_of(slot) == NULL)
		return -1;
	/* A child forked without our knowledge must not speak for its parent. */
	if (!hf_slot_calm(slot))
		(void)hf_gate_open(fd, HF_OTHER, &refused);
	if (atomic_load(&slot->refs) != 1 || !hf_slot_calm(slot))
		return -1;
	kept = hf_wrap_close(slot, fd);
	errno = error;
	return kept;
}

/* FD, of which the map says ENTRY, is about to stand for something else: its watchdog must not touch it then. */
static void leaving(int fd, hf_fd_entry entry)
{
	struct hf_slot *slot = hf_slot_named_by(entry);

	if (slot != NULL && hf_wrap_of(slot) != NULL)
		hf_wrap_leave(slot, atomic_load(&slot->refs) == 1 || !hf_move_to_duplicate(slot, fd));
	if (slot != NULL && atomic_load(&slot->refs) == 1)
		hf_look_away(slot);
}

/* What leaving() was asked for is done, or has failed. */
static void left(hf_fd_entry entry)
{
	struct hf_slot *slot = hf_slot_named_by(entry);

	if (slot != NULL)
		hf_look_again(slot);
}

void hf_part(int fd, struct hf_parting *parting)
{
	hf_fd_entry entry = hf_fdmap_get(fd);

	parting->kept = closing_wrapped(fd, entry);
	leaving(fd, entry);
	parting->entry = hf_fdmap_busy(fd, &parting->mark);
	leaving(fd, parting->entry); /* it may have come back before the map said so */
}

void hf_parted(int fd, const struct hf_parting *parting)
{
	int error = errno;

	left(parting->entry);
	hf_fdmap_unbusy(fd, parting->mark, HF_FD_UNKNOWN);
	if (parting->kept >= 0)
		hf_keep_draining(parting->entry, parting->kept);
	else if (HF_FD_KIND(parting->entry) == HF_FD_SLOT)
		hf_release(parting->entry, fd);
	errno = error;
}

/* A close that no thread may be cancelled in (pthreads(7)). */
static int raw_close(int fd)
{
	int error = hf_sys_close(fd);

	if (error < 0)
		errno = -error;
	return error < 0 ? -1 : 0;
}

/* A close, by CALL, of a descriptor that the map knows. */
static int close_known(int fd, int (*call)(int fd))
{
	struct hf_parting parting;
	int result;

	hf_part(fd, &parting);
	result = call(fd);
	/* Linux has given the number back even when close reports an error, except EBADF (close(2)). */
	hf_parted(fd, &parting);
	return result;
}

static int close_by(int fd, int (*call)(int fd))
{
	hf_fd_entry entry;

	if (!hf_on())
		return call(fd);
	/* A sweep over all numbers meets ours.  The program never opened it and must not know; success, because a
	 * loop that closes until it fails would otherwise never end. */
	entry = hf_fdmap_get(fd);
	if (hf_unlikely(hf_report_owns(fd) || hf_arena_owns(fd) || hf_resume_owns(fd) ||
			(entry == HF_FD_OURS && hf_kept(fd))))
		return 0;
	if (entry == HF_FD_UNKNOWN || (HF_FD_KIND(entry) == HF_FD_SLOT && hf_proc_borrowed()))
		return call(fd);
	return close_known(fd, call);
}

int hf_close(int fd)
{
	hf_real_ready();
	return close_by(fd, hf_real.close);
}

int hf_close_quietly(int fd)
{
	return close_by(fd, raw_close);
}

int hf___close(int fd)
{
	return hf_close(fd);
}

/* What the map says of FIRST to LAST is over in a moment.  Before the numbers are free: whoever is given one of them
 * while the range is being closed has his own entry. */
static void part_range(unsigned first, unsigned last, hf_fd_entry mark)
{
	int end = hf_fdmap_end();

	for (unsigned fd = first; fd < (unsigned)end && fd <= last; fd++) {
		hf_fd_entry old = hf_fdmap_get((int)fd);

		if (old == HF_FD_UNKNOWN || HF_FD_KIND(old) == HF_FD_BUSY || hf_kept((int)fd))
			continue;
		leaving((int)fd, old);
		if (!hf_fdmap_replace((int)fd, old, mark))
			continue;
		if (HF_FD_KIND(old) == HF_FD_SLOT)
			hf_release(old, (int)fd);
	}
}

static void parted_range(unsigned first, unsigned last, hf_fd_entry mark)
{
	int end = hf_fdmap_end();

	for (unsigned fd = first; fd < (unsigned)end && fd <= last; fd++)
		hf_fdmap_unbusy((int)fd, mark, HF_FD_UNKNOWN);
}

/* The program has closed FIRST to LAST: forget what the map knows of them. */
static void forget_range(unsigned first, unsigned last)
{
	int end = hf_fdmap_end();
	hf_fd_entry old;

	for (unsigned fd = first; fd < (unsigned)end && fd <= last; fd++) {
		if (hf_fdmap_get((int)fd) == HF_FD_UNKNOWN || hf_kept((int)fd))
			continue;
		hf_fdmap_set((int)fd, HF_FD_UNKNOWN, &old);
		if (HF_FD_KIND(old) == HF_FD_SLOT)
			hf_release(old, (int)fd);
	}
}

static int next_of_ours(int from)
{
	int next = hf_report_next_fd(from), kept = hf_kept_next(from), arena = hf_arena_fd(), box = hf_resume_box();

	if (kept < next)
		next = kept;
	if (box >= from && box < next)
		next = box;
	return arena >= from && arena < next && hf_arena_owns(arena) ? arena : next;
}

/* close_range(2) around the descriptors that are ours. 0 or -errno. */
static int close_around(unsigned first, unsigned last, int flags)
{
	while (first <= last) {
		int ours = first <= INT_MAX ? next_of_ours((int)first) : INT_MAX;
		bool around = ours != INT_MAX && (unsigned)ours <= last;
		int error;

		if (!around || (unsigned)ours != first) {
			error = (int)hf_sys3(SYS_close_range, first, around ? (unsigned)ours - 1 : last, flags);
			if (error < 0)
				return error;
			flags &= ~(int)CLOSE_RANGE_UNSHARE;
		}
		if (!around)
			return 0;
		first = (unsigned)ours + 1;
	}
	return 0;
}

static bool wrapped(int fd)
{
	hf_fd_entry entry = hf_fdmap_get(fd);
	struct hf_slot *slot = hf_slot_named_by(entry);

	return slot != NULL && hf_wrap_of(slot) != NULL;
}

/* The first from FROM on, or LAST + 1. */
static uint64_t next_wrapped(unsigned from, unsigned last)
{
	unsigned end = (unsigned)hf_fdmap_end();

	for (; from < end && from <= last; from++)
		if (wrapped((int)from))
			return from;
	return (uint64_t)last + 1;
}

/*
 * The program closes FIRST to LAST.  In the order of the numbers, as the kernel does it, and each number once: what it
 * is given to meanwhile is another thread's.  Wrapped connections go one by one, each with its last words.
 * 0 or -errno.
 */
static int close_all(unsigned first, unsigned last)
{
	hf_fd_entry mark = hf_fdmap_mark();

	for (uint64_t from = first; from <= last;) {
		uint64_t next = next_wrapped((unsigned)from, last);

		if (next != from) {
			int error;

			part_range((unsigned)from, (unsigned)(next - 1), mark);
			error = close_around((unsigned)from, (unsigned)(next - 1), 0);
			parted_range((unsigned)from, (unsigned)(next - 1), mark);
			if (error < 0)
				return error;
		}
		if (next <= last)
			(void)close_known((int)next, raw_close);
		from = next + 1;
	}
	return 0;
}

/* In a table of descriptors of its own, which the watchdog does not see, nothing can be drained: only get out of the
 * way (CLOSE_RANGE_UNSHARE). */
static void leave_range(unsigned first, unsigned last)
{
	unsigned end = (unsigned)hf_fdmap_end();

	for (unsigned fd = first; fd < end && fd <= last; fd++)
		leaving((int)fd, hf_fdmap_get((int)fd));
}

int hf_close_range(unsigned first, unsigned last, int flags)
{
	int error;

	hf_real_ready();
	if (!hf_on() || first > last) {
		if (hf_real.close_range != NULL)
			return hf_real.close_range(first, last, flags);
		error = (int)hf_sys3(SYS_close_range, first, last, flags);
	} else if (((unsigned)flags & CLOSE_RANGE_CLOEXEC) != 0 || hf_proc_borrowed()) {
		error = close_around(first, last, flags); /* of ours the next image finds one by its number */
	} else if (flags == 0) {
		error = close_all(first, last);
	} else {
		if (((unsigned)flags & CLOSE_RANGE_UNSHARE) != 0)
			hf_share_table();
		if (flags == (int)CLOSE_RANGE_UNSHARE)
			leave_range(first, last);
		error = close_around(first, last, flags);
		if (error == 0)
			forget_range(first, last);
	}
	if (error < 0) {
		errno = -error;
		return -1;
	}
	return 0;
}

void hf_closefrom(int first)
{
	unsigned from = first > 0 ? (unsigned)first : 0;

	hf_real_ready();
	if (!hf_on()) {
		if (hf_real.closefrom != NULL)
			hf_real.closefrom(first);
		else
			(void)hf_sys3(SYS_close_range, from, UINT_MAX, 0);
		return;
	}
	if (hf_proc_borrowed()) {
		(void)close_around(from, UINT_MAX, 0);
		return;
	}
	(void)close_all(from, UINT_MAX);
}

/* COPY is a duplicate of FD made just now; it replaced what the map said of that number. */
static void duplicated(int fd, int copy)
{
	hf_fd_entry entry = hf_fdmap_get(fd), old;
	struct hf_slot *slot = NULL;

	if (HF_FD_KIND(entry) == HF_FD_SLOT) {
		slot = hf_slot_of(entry);
		if (slot == NULL || !hf_slot_hold(slot))
			entry = HF_FD_UNKNOWN;
	} else if (HF_FD_KIND(entry) == HF_FD_BUSY) {
		entry = HF_FD_UNKNOWN;
	}
	hf_fdmap_set(copy, entry, &old);
	if (HF_FD_KIND(old) == HF_FD_SLOT)
		hf_release(old, copy);
}

int hf_dup(int fd)
{
	int copy;

	hf_real_ready();
	copy = hf_real.dup(fd);
	if (copy >= 0 && hf_on() && !hf_proc_borrowed())
		duplicated(fd, copy);
	return copy;
}

/* dup2 and dup3 close TO and fill it in one step; meanwhile its entry is busy. No lock: nothing to deadlock on. */
static int dup_onto(int from, int to, int flags, bool three)
{
	hf_fd_entry entry, mark;
	int result, error, kept = -1;

	hf_real_ready();
	if (hf_on() && wrapped(from) && hf_proc_borrowed())
		(void)hf_fdmap_replace(to, HF_FD_PASS, HF_FD_UNKNOWN); /* to be looked at, here and by the parent */
	if (!hf_on() || from == to || to < 0 || hf_proc_borrowed())
		return three ? hf_real.dup3(from, to, flags) : hf_real.dup2(from, to);
	entry = hf_fdmap_get(to);
	if (entry == HF_FD_OURS)
		hf_keep_away(to);
	if (hf_unlikely(hf_arena_owns(to)))
		hf_arena_move();
	/* Last words cannot be taken back: only for a call that will not fail. */
	if ((flags & ~O_CLOEXEC) == 0 && hf_sys_fcntl(from, F_GETFD, 0) >= 0)
		kept = closing_wrapped(to, entry);
	leaving(to, entry);
	entry = hf_fdmap_busy(to, &mark);
	leaving(to, entry);
	result = three ? hf_real.dup3(from, to, flags) : hf_real.dup2(from, to);
	error = errno;
	left(entry);
	hf_fdmap_unbusy(to, mark, result < 0 ? entry : HF_FD_UNKNOWN);
	if (result < 0 && HF_FD_KIND(entry) == HF_FD_SLOT && hf_slot_of(entry) != NULL)
		hf_wrap_stay(hf_slot_of(entry));
	if (result < 0 && kept >= 0)
		hf_keep_not(entry, kept);
	if (result >= 0) {
		duplicated(from, to);
		if (kept >= 0)
			hf_keep_draining(entry, kept);
		else if (HF_FD_KIND(entry) == HF_FD_SLOT)
			hf_release(entry, to);
		if (to == STDERR_FILENO)
			hf_report_stderr_replaced();
	}
	errno = error;
	return result;
}

int hf_dup2(int from, int to)
{
	return dup_onto(from, to, 0, false);
}

int hf___dup2(int from, int to)
{
	return dup_onto(from, to, 0, false);
}

int hf_dup3(int from, int to, int flags)
{
	return dup_onto(from, to, flags, true);
}

static int fcntl_result(int fd, int op, int result)
{
	if (result >= 0 && (op == F_DUPFD || op == F_DUPFD_CLOEXEC) && hf_on() && !hf_proc_borrowed())
		duplicated(fd, result);
	return result;
}

/* A sweep that marks all numbers for closing at exec: the next image finds the arena by that descriptor. */
static bool spares(int fd, int op, long arg)
{
	return op == F_SETFD && (arg & FD_CLOEXEC) != 0 && hf_on() && hf_arena_owns(fd);
}

int hf_fcntl(int fd, int op, long arg)
{
	hf_real_ready();
	if (hf_unlikely(spares(fd, op, arg)))
		return 0;
	return fcntl_result(fd, op, hf_real.fcntl(fd, op, arg));
}

int hf_fcntl64(int fd, int op, long arg)
{
	hf_real_ready();
	if (hf_unlikely(spares(fd, op, arg)))
		return 0;
	return fcntl_result(fd, op, (hf_real.fcntl64 != NULL ? hf_real.fcntl64 : hf_real.fcntl)(fd, op, arg));
}

int hf___fcntl(int fd, int op, long arg)
{
	return hf_fcntl(fd, op, arg);
}

int hf_ioctl(int fd, unsigned long op, long arg)
{
	int refused, bytes, result;
	struct hf_slot *slot;

	hf_real_ready();
	result = hf_real.ioctl(fd, op, arg);
	/* The kernel counts headers and beats, the program must not. */
	if (op == FIONREAD && result == 0 && (slot = hf_gate(fd, HF_OTHER, &refused)) != NULL &&
	    hf_wrap_of(slot) != NULL && (bytes = hf_wrap_readable(slot, fd)) >= 0)
		*(int *)arg = bytes;
	else if (op == SIOCOUTQ && result == 0 && (slot = hf_gate(fd, HF_OTHER, &refused)) != NULL)
		*(int *)arg = hf_wrap_outq(slot, *(int *)arg);
	return result;
}
