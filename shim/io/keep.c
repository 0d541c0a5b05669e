#include "io/keep.h"
#include "io/adopt.h"
#include "io/wrap.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <limits.h>
#include <sys/resource.h>

static void mark(int fd)
{
	hf_fd_entry old;

	hf_fdmap_set(fd, HF_FD_OURS, &old);
	if (HF_FD_KIND(old) == HF_FD_SLOT)
		hf_release(old, fd);
}

int hf_high_copy(int fd)
{
	enum { HIGH = 512, LOWEST = 3 };
	struct rlimit limit = {.rlim_cur = HIGH};
	int copy = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH), from;

	if (copy != -EINVAL && copy != -EMFILE)
		return copy;
	/* Not that many numbers are allowed, or those from there on are taken: as high as can be. */
	hf_sys_getrlimit(RLIMIT_NOFILE, &limit);
	from = limit.rlim_cur < HIGH ? (int)limit.rlim_cur : HIGH;
	for (from = from * 3 / 4; copy < 0 && from > 0; from /= 2)
		copy = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, from > LOWEST ? from : LOWEST);
	return copy;
}

int hf_raise(int fd)
{
	int up = hf_high_copy(fd);

	if (up < 0)
		return fd;
	hf_sys_close(fd);
	return up;
}

/*
 * A fork copies the descriptors before the memory: one that the watchdog opens or closes in between would be in the
 * child, and nothing there would tell that it is one of ours.  So it does neither while a fork is under way, and closes
 * none while the program puts something of its own in its place.
 */
static _Atomic uint32_t forks, acting;

enum { PATIENCE = 5000 }; /* the watchdog makes a few calls that do not block, but may have to wait for a processor */

static const struct timespec moment = {0, 20000};

bool hf_keep_act(void)
{
	atomic_store(&acting, 1);
	if (atomic_load(&forks) == 0)
		return true;
	atomic_store(&acting, 0);
	return false;
}

bool hf_keep_act_soon(void)
{
	bool may = hf_keep_act();

	for (int i = 0; i < PATIENCE && !may; i++) {
		hf_sys_nanosleep(&moment, NULL);
		may = hf_keep_act();
	}
	return may;
}

bool hf_keep_acting(void)
{
	return atomic_load(&acting) != 0;
}

void hf_keep_acted(void)
{
	atomic_store(&acting, 0);
}

static void wait_for_watchdog(void)
{
	for (int i = 0; i < PATIENCE && atomic_load(&acting) != 0; i++)
		hf_sys_nanosleep(&moment, NULL);
}

void hf_keep_forking(void)
{
	atomic_fetch_add(&forks, 1);
	wait_for_watchdog();
}

void hf_keep_has_forked(void)
{
	atomic_fetch_sub(&forks, 1);
}

int hf_keep(struct hf_slot *slot, int fd)
{
	int kept = hf_high_copy(fd);

	if (kept < 0)
		return -1;
	mark(kept);
	atomic_store(&hf_rare(slot)->moved, kept + 1);
	return kept;
}

void hf_keep_not(hf_fd_entry entry, int kept)
{
	struct hf_slot *slot = hf_slot_of(entry);

	if (slot != NULL) {
		atomic_store(&hf_rare(slot)->moved, 0);
		atomic_store(&slot->left, 0);
	}
	hf_sys_close(kept);
	hf_fdmap_replace(kept, HF_FD_OURS, HF_FD_UNKNOWN);
}

void hf_keep_draining(hf_fd_entry entry, int kept)
{
	struct hf_slot *slot = hf_slot_of(entry);
	bool left;

	if (slot == NULL) {
		hf_keep_not(entry, kept);
		return;
	}
	/* While a thread sleeps in a call on it the connection lives on, beats and all. */
	left = atomic_load(&slot->left) != 0;
	atomic_store(&slot->fd, kept);
	if (left)
		hf_wrap_stay(slot);
	/* From here on the watchdog may close it if it was left, and give the slot to another; else when it is told. */
	(void)hf_slot_drop(slot);
	if (!left)
		atomic_store(&slot->draining, 1);
	hf_watch_poke(slot);
}

bool hf_keep_end(struct hf_slot *slot)
{
	int fd;

	if (!hf_keep_act())
		return false;
	/* Not before: hf_keep_away() may just have moved it. */
	fd = atomic_load(&slot->fd);
	atomic_store(&hf_rare(slot)->moved, INT_MAX); /* to whoever is late: not open */
	if (hf_same_socket(fd, slot))
		hf_sys_close(fd);
	hf_fdmap_replace(fd, HF_FD_OURS, HF_FD_UNKNOWN);
	atomic_store(&slot->draining, 0);
	atomic_store(&slot->left, 0);
	hf_keep_acted();
	return true;
}

static bool kept_at(struct hf_slot *slot, int fd)
{
	return slot != NULL && (atomic_load(&slot->draining) != 0 || atomic_load(&slot->left) != 0) &&
	       atomic_load(&slot->stage) != HF_STAGE_FREE && atomic_load(&slot->fd) == fd;
}

static struct hf_slot *slot_kept_at(int fd)
{
	if (hf_fdmap_get(fd) != HF_FD_OURS)
		return NULL;
	for (uint32_t i = 0; i < hf_slot_end(); i++)
		if (kept_at(hf_slot_at(i), fd) && hf_same_socket(fd, hf_slot_at(i)))
			return hf_slot_at(i);
	/* Closed and used again behind our back. */
	hf_fdmap_replace(fd, HF_FD_OURS, HF_FD_UNKNOWN);
	return NULL;
}

bool hf_kept(int fd)
{
	return slot_kept_at(fd) != NULL;
}

int hf_kept_next(int from)
{
	for (int fd = from; fd < hf_fdmap_end(); fd++)
		if (hf_kept(fd))
			return fd;
	return INT_MAX;
}

int hf_number_again(struct hf_slot *slot, int fd)
{
	int number = hf_number_of(slot, fd), other;

	/* A child of vfork() has numbers of its own, of which the map says nothing. */
	if (number != fd || hf_slot_named_by(hf_fdmap_get(fd)) == slot || hf_proc_borrowed())
		return number;
	other = atomic_load(&slot->fd);
	return other >= 0 && hf_slot_named_by(hf_fdmap_get(other)) == slot ? other : fd;
}

void hf_keep_away(int fd)
{
	struct hf_slot *slot = slot_kept_at(fd);
	int copy;

	if (slot == NULL || (copy = hf_high_copy(fd)) < 0)
		return;
	mark(copy);
	atomic_store(&hf_rare(slot)->moved, copy + 1);
	atomic_store(&slot->fd, copy);
	hf_wrap_leave(slot, false);
	wait_for_watchdog(); /* it may be about to close FD */
	if (kept_at(slot, copy))
		return;
	hf_sys_close(copy); /* over in this very moment */
	hf_fdmap_replace(copy, HF_FD_OURS, HF_FD_UNKNOWN);
}

void hf_keep_forked(void)
{
	atomic_store(&forks, 0);
	atomic_store(&acting, 0);
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);
		int fd = slot != NULL ? atomic_load(&slot->fd) : -1;

		if (fd < 0 || !kept_at(slot, fd) || !hf_kept(fd))
			continue;
		hf_sys_close(fd);
		hf_fdmap_replace(fd, HF_FD_OURS, HF_FD_UNKNOWN);
	}
}
