#include "io/gate.h"
#include "io/adopt.h"
#include "io/resume.h"
#include "state/fdlist.h"
#include "io/keep.h"
#include "sys.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

/* Errors by which the kernel itself says that the path is dead; it says so once, we say so until close. */
static bool kernel_says_dead(int error)
{
	return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN;
}

/* What the peer sent before it died may still be read: the error comes after the last byte, as in the kernel. */
static bool tail_unread(int fd)
{
	int unread = 0;

	return hf_sys_ioctl(fd, SIOCINQ, &unread) == 0 && unread > 0;
}

/* Inherited by fork: this process's watchdog takes the connection over on its first use here. */
static void claim(struct hf_slot *slot, uint32_t epoch)
{
	uint32_t seen = atomic_load(&slot->epoch);

	if (seen == epoch || !atomic_compare_exchange_strong(&slot->epoch, &seen, epoch))
		return;
	slot->view = 0;                 /* that is the parent's */
	slot->counted = false;          /* nor is it in this process's wheel */
	atomic_store(&slot->mailed, 0); /* that was the parent's mail */
	if (atomic_load(&hf_rare(slot)->waiting) != 0)
		atomic_store(&hf_rare(slot)->waiting, 0);
	hf_redial_forked(slot);
	atomic_store(&slot->stage, HF_STAGE_IDLE);
	if (atomic_load(&slot->fate) == 0)
		hf_wrap_claim(slot);
	if (atomic_load(&slot->fate) == 0) {
		atomic_store(&slot->guard, epoch);
		hf_watch_give(slot);
	}
}

/* The map, and the slots it leads to, as the child's descriptors are. */
static void recount(void)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot != NULL && hf_wrap_of(slot) != NULL)
			atomic_store(&slot->refs, 0);
	}
	for (int fd = 0; fd < hf_fdmap_end(); fd++) {
		hf_fd_entry entry = hf_fdmap_get(fd);
		struct hf_slot *slot = hf_slot_named_by(entry);
		bool wrapped = slot != NULL && hf_wrap_of(slot) != NULL;

		if (HF_FD_KIND(entry) == HF_FD_BUSY || (wrapped && !hf_same_socket(fd, slot))) {
			hf_fdmap_replace(fd, entry, HF_FD_UNKNOWN); /* by a thread that did not come along */
		} else if (wrapped && atomic_fetch_add(&slot->refs, 1) == 0 &&
			   !hf_same_socket(atomic_load(&slot->fd), slot)) {
			atomic_store(&slot->fd, fd);
		}
	}
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot != NULL && hf_wrap_of(slot) != NULL && atomic_load(&slot->refs) == 0)
			hf_watch_closed(slot);
	}
}

/* A wrapped connection that the map does not lead to: accepted, connected or closed by a thread of the parent at the
 * moment of the fork.  One whose place in the arena is gone has been ended there. */
static void reconcile(int fd, void *arg)
{
	hf_fd_entry entry = hf_fdmap_get(fd), old;

	(void)arg;
	if (!hf_wrap_marked(fd))
		return;
	if (HF_FD_KIND(entry) == HF_FD_SLOT && hf_slot_of(entry) != NULL && hf_same_socket(fd, hf_slot_of(entry)))
		return;
	hf_fdmap_set(fd, HF_FD_UNKNOWN, &old);
	if (HF_FD_KIND(old) == HF_FD_SLOT)
		hf_release(old, fd);
	if (old == HF_FD_OURS)
		hf_sys_close(fd); /* the parent was about to drain it */
	else if (hf_wrap_hold(fd))
		(void)hf_adopt_unknown(fd, HF_FD_UNKNOWN);
}

void hf_gate_reconcile(void)
{
	recount();
	(void)hf_each_fd(reconcile, NULL);
	hf_wrap_forget_unheld();
}

void hf_gate_hold_wrapped(void)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot == NULL || hf_wrap_of(slot) == NULL)
			continue;
		if (atomic_load(&slot->refs) != 0)
			hf_wrap_claim(slot);
		else
			hf_wrap_leave_to_parent(slot);
	}
}

void hf_gate_claim_wrapped(void)
{
	uint32_t epoch = atomic_load(hf_proc_epoch);

	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot != NULL && atomic_load(&slot->refs) != 0 && hf_wrap_of(slot) != NULL)
			claim(slot, epoch);
	}
}

/* A wrapped connection of which nothing is known here is refused from the first call on. */
static struct hf_slot *adopted(struct hf_slot *slot, int *refused)
{
	*refused = slot != NULL ? atomic_load(&slot->fate) : 0;
	return slot;
}

/* A wrapped connection at a number where that child has put it; where it had it from, the map tells. */
static struct hf_slot *lent(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	struct hf_slot *slot;

	if (!hf_wrap_in_use() || !hf_wrap_marked(fd) || hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return NULL;
	slot = hf_slot_find(cookie);
	return slot != NULL && hf_slot_calm(slot) ? slot : NULL;
}

struct hf_slot *hf_gate_open(int fd, enum hf_way way, int *refused)
{
	hf_fd_entry entry;
	struct hf_slot *slot = NULL;
	uint32_t epoch;
	bool forked;
	int fate;

	*refused = 0;
	if (fd < 0 || fd >= HF_FDMAP_MAX)
		return NULL;
	/* A child that shares our memory has its own descriptors: what it does must not change our view. */
	if (hf_proc_borrowed())
		return lent(fd);
	epoch = hf_proc_enter(&forked);
	if (forked)
		hf_watch_forked();
	entry = hf_fdmap_get(fd);
	if (HF_FD_KIND(entry) == HF_FD_SLOT) {
		slot = hf_slot_of(entry);
		if (slot == NULL)
			hf_fdmap_replace(fd, entry, HF_FD_UNKNOWN);
	}
	if (slot == NULL)
		return adopted(hf_adopt_unknown(fd, hf_fdmap_get(fd)), refused);
	claim(slot, epoch);
	fate = atomic_load(&slot->fate);
	if (fate == 0)
		return slot;
	/* The number may have been closed behind our back and stand for something healthy now. */
	if (!hf_same_socket(fd, slot)) {
		hf_disown(fd, slot);
		return adopted(hf_adopt_unknown(fd, hf_fdmap_get(fd)), refused);
	}
	/* Where the stream of frames stands nobody knows any more: what comes is no data. */
	if (way == HF_READS && fate != EPROTO && (hf_resume_inbox(slot) != 0 || tail_unread(fd)))
		return slot;
	*refused = fate;
	return slot;
}

long hf_gate_after(struct hf_slot *slot, int fd, enum hf_way way, long result)
{
	int error = result < 0 ? errno : 0;
	int fate = hf_wrap_fate(slot);

	if (result < 0 && (error == EAGAIN || error == EINTR || error == EINPROGRESS || error == EFAULT))
		return result;
	fd = hf_number_of(slot, fd);
	if (result < 0 && (error == ENOTSOCK || error == EBADF)) {
		hf_disown(fd, slot);
		errno = error;
		return result;
	}
	/* A call that slept while its connection came to an end may find the slot another's. */
	if (fate == 0 && result < 0 && kernel_says_dead(error) && atomic_load(&slot->connecting) == 0 &&
	    hf_tcp_state(fd) == HF_TCP_CLOSE && hf_same_socket(fd, slot)) {
		/* The kernel gave up first (its own limits, or the program's stricter ones). */
		atomic_store(&slot->error_seen, (uint8_t)error);
		atomic_store(&slot->fate, ETIMEDOUT);
		atomic_store(&slot->guard, 0);
		hf_watch_poke(slot);
		/* This once the program gets the kernel's own word, EHOSTUNREACH for example. */
		errno = error;
		return result;
	}
	if (fate == 0 && result == 0 && way == HF_READS && atomic_load(&slot->end_seen) == 0 &&
	    hf_same_socket(fd, slot) && atomic_exchange(&slot->end_seen, 1) == 0)
		hf_watch_poke(slot); /* the peer has closed its half: to be seen now, not at the next look */
	/* EPIPE may be the program's own shutdown(2); with the connection gone it is the reset's second word.  And a
	 * call that slept while FD was closed and came to stand for another connection says nothing of that one. */
	if (fate == 0 && result < 0 && (error == ECONNRESET || error == EPIPE) && hf_tcp_state(fd) == HF_TCP_CLOSE &&
	    hf_same_socket(fd, slot)) {
		atomic_store(&slot->error_seen, (uint8_t)error);
		hf_tell_reset(slot, fd);
		hf_watch_poke(slot);
	}
	/* Woken by the watchdog's ending of the connection: whatever the kernel calls it, it was a timeout.  A zero is
	 * left alone for a zero-length request, which no caller can tell from success. */
	if (fate != 0 && way != HF_OTHER && hf_same_socket(fd, slot)) {
		errno = fate;
		return -1;
	}
	errno = error != 0 ? error : errno;
	return result;
}
