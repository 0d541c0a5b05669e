/*
 * What becomes of wrapped connections when the process ends, or executes another program.
 */
#include "io/adopt.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/family.h"
#include "state/fdlist.h"
#include "state/fdmap.h"
#include "state/proc.h"
#include "sys.h"

static bool closes_on_exec(int fd)
{
	return (hf_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC) != 0;
}

/* Whether one of SLOT's descriptors goes along when the process executes another program. */
static bool survives_exec(struct hf_slot *slot, int fd)
{
	hf_fd_entry entry = hf_slot_entry(slot);

	if (atomic_load(&slot->draining) != 0)
		return false;
	if (atomic_load(&slot->refs) <= 1)
		return !closes_on_exec(fd);
	for (int other = 0; other < hf_fdmap_end(); other++)
		if (hf_fdmap_get(other) == entry && !closes_on_exec(other))
			return true;
	return false;
}

/* One step towards the end of SLOT at the end of this image. False: not there yet. */
static bool end_step(struct hf_slot *slot, int fd, uint32_t me, bool last)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int settled;

	if (!hf_wrap_take_rx(slot, fd, me, 0)) {
		/* Another thread sleeps in a read, and swallows the beats; before frames flow nobody sleeps with the
		 * turn in hand: the watchdog is taking the handshake further, or has just found the peer to be plain.
		 */
		return wrap == NULL ||
		       (atomic_load(&wrap->phase) == HF_PHASE_ON && hf_wrap_settled_tx(slot, fd, me, last));
	}
	settled = hf_wrap_buried(slot) ? 1 : hf_wrap_settled(slot, fd, me, last);
	if (settled < 0 && last) /* bytes are unread: as in hf_wrap_close() */
		hf_wrap_abort(slot, fd);
	hf_turn_end(&wrap->rx_turn);
	return settled != 0;
}

/*
 * A thread of the parent may have been between the kernel's accept(2) or connect(2) and our own book-keeping when it
 * forked: the child then has a connection it knows nothing of.  Closed unseen, with beats unread, it would be reset.
 */
static void meet_unknown(int fd, void *arg)
{
	(void)arg;
	/* One whose state is gone has been ended by the parent. */
	if (HF_FD_KIND(hf_fdmap_get(fd)) == HF_FD_UNKNOWN && hf_wrap_marked(fd) && hf_wrap_hold(fd))
		(void)hf_adopt_unknown(fd, hf_fdmap_get(fd));
}

/* What SLOT's process has to do yet at its end, or at that of its image. False: nothing, it need not be waited for. */
static bool end_one(struct hf_slot *slot, bool exec, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int fd = atomic_load(&slot->fd), seconds;
	enum hf_left left = HF_LEFT_DOUBT;

	if (wrap == NULL || hf_wrap_buried(slot) || atomic_load(&slot->epoch) != atomic_load(hf_proc_epoch) ||
	    hf_wrap_fate(slot) != 0)
		return false;
	if (exec && survives_exec(slot, fd))
		return false; /* it lives on */
	if (hf_wrap_lingers(fd, &seconds) && seconds == 0) {
		/* The program wants a reset. */
		if (!hf_hold_others(&wrap->conn, hf_family_me()))
			hf_wrap_abort(slot, fd);
		return false;
	}
	if (atomic_load(&hf_sys_confined)) {
		(void)hf_wrap_part_confined(slot, fd, me);
		return false;
	}
	/* Never act on what the number has come to stand for. */
	if (!hf_same_socket(fd, slot))
		return false;
	/* An exec may fail, and the connection live on: then nothing final has been said. */
	if (!exec)
		left = hf_wrap_try_let_go(slot);
	if (left == HF_LEFT_EXPECTED)
		return true;
	return !hf_hold_others(&wrap->conn, hf_family_me()) && !end_step(slot, fd, me, left == HF_LEFT_LAST);
}

/*
 * The connections of this process, until all that ends with it has been handed over or HOLDFAST_LINGER has passed. What
 * others have is not its business unless they die: of many that wait here each may have many of these, and to ask each
 * time who lives would keep the machine busy, and whoever lives from forking.  False: HOLDFAST_LINGER was too short.
 */
static bool end_all(bool exec)
{
	enum { ROUNDS = 16 };
	const struct timespec moment = {0, 1000000};
	uint64_t deadline = hf_wrap_now_ms() + hf_runtime.config.linger;
	uint32_t me = hf_turn_me();
	bool waiting, over, all = true;
	int round = 0;

	if (hf_family_forked())
		(void)hf_each_fd(meet_unknown, NULL);
	do {
		waiting = false;
		for (uint32_t i = 0; i < hf_slot_end(); i++) {
			struct hf_slot *slot = hf_slot_at(i);

			if (slot != NULL && (all || atomic_load(&hf_rare(slot)->let_go) != HF_LEFT_OTHERS + 1))
				waiting = end_one(slot, exec, me) || waiting;
		}
		if (waiting)
			hf_sys_nanosleep(&moment, NULL);
		over = !waiting && all;
		all = !waiting || ++round % ROUNDS == 0; /* and once more before we go */
	} while (!over && hf_wrap_now_ms() < deadline);
	return over;
}

/* What the program has written and nobody will send any more is lost: to the peer that must not look like an end. */
static void cut_short(struct hf_slot *slot)
{
	const struct linger reset = {1, 0};
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int fd = atomic_load(&slot->fd);

	if (wrap != NULL && (wrap->queued > wrap->flushed || wrap->tx.owed_size != 0 || !hf_tx_between(&wrap->tx)) &&
	    !hf_hold_others(&wrap->conn, hf_family_me()) && hf_same_socket(fd, slot))
		(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

void hf_wrap_exit(void)
{
	bool over = end_all(false);

	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot == NULL || atomic_load(&hf_rare(slot)->let_go) != HF_LEFT_LAST + 1)
			continue;
		if (!over)
			cut_short(slot);
		/* Peers that have missed the last acknowledgement may ask others of the family. */
		hf_resume_bury(slot);
	}
}

void hf_wrap_before_exec(void)
{
	(void)end_all(true);
}

/* Whether this image has SLOT's connection open in the program's own name. */
static struct hf_wrap *open_here(struct hf_slot *slot)
{
	struct hf_wrap *wrap = slot != NULL && atomic_load(&slot->refs) != 0 ? hf_wrap_of(slot) : NULL;

	return wrap != NULL && atomic_load(&hf_rare(slot)->let_go) == 0 &&
			       atomic_load(&slot->epoch) == atomic_load(hf_proc_epoch)
		       ? wrap
		       : NULL;
}

void hf_wrap_leave_to_others(void)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);
		struct hf_wrap *wrap = open_here(slot);

		if (wrap != NULL && !survives_exec(slot, atomic_load(&slot->fd))) {
			int fd = atomic_load(&slot->fd);

			hf_resume_hand_round(slot, fd);
			/* The last word is not to be said before the exec has succeeded, and then nobody can. */
			if (!hf_hold_others(&wrap->conn, hf_family_me()) && hf_same_socket(fd, slot))
				hf_wrap_may_end(slot, fd, hf_turn_me(), true);
			(void)hf_hold_leave(&wrap->conn, hf_family_me());
		}
	}
}

void hf_wrap_come_back(void)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);
		struct hf_wrap *wrap = open_here(slot);
		int fd = wrap != NULL ? atomic_load(&slot->fd) : -1;

		if (wrap == NULL)
			continue;
		(void)hf_hold_join(&wrap->conn, hf_family_me());
		if (!survives_exec(slot, fd) && hf_same_socket(fd, slot))
			hf_wrap_may_end(slot, fd, hf_turn_me(), false);
	}
}
