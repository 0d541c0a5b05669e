/*
 * A connection that several processes have open, when it breaks: it may be resumed if all of them have the memory that
 * tells where its stream stands, which fork(2) gives them.
 *
 * One leads: its watchdog does everything, as for a connection of one process alone, until it lets go of it or dies;
 * then another takes over what there is.  The client's socket stays the same object, whoever dials.  The server's is
 * another one, and dup3(2) puts it under the numbers of the leader only: the others find that the connection has moved
 * (the arena counts it), make no call on what they have, and ask for the new one, which comes by a Unix socket.  Nobody
 * waits for them.  Should there be nobody left to ask, the path is as good as broken once more.
 */
#include "io/adopt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/family.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { STEP_MS = 4, SOON_MS = 2000 };

/* Counting */

/* MINE is one of ALL, or no more. */
static void count(_Atomic uint8_t *mine, bool on, _Atomic uint32_t *all)
{
	if (atomic_exchange(mine, on) == on)
		return;
	if (on)
		atomic_fetch_add(all, 1);
	else
		atomic_fetch_sub(all, 1);
}

void hf_resume_stir(struct hf_slot *slot, bool on)
{
	count(&hf_rare(slot)->stirring, on, &hf_resume_count);
}

void hf_resume_count_inbox(struct hf_slot *slot)
{
	count(&hf_rare(slot)->has_inbox, hf_resume_inbox(slot) != 0, &hf_resume_inboxes);
}

/* Who shares it */

static struct hf_sharer *sharer_of(struct hf_resume *resume, uint32_t handle)
{
	for (int i = 0; handle != 0 && i < HF_ARENA_HOLDERS; i++)
		if (atomic_load(&resume->sharers[i].handle) == handle)
			return &resume->sharers[i];
	return NULL;
}

static void enter(struct hf_resume *resume, uint32_t handle, uint32_t link)
{
	for (int i = 0; handle != 0 && sharer_of(resume, handle) == NULL && i < HF_ARENA_HOLDERS; i++) {
		struct hf_sharer *sharer = &resume->sharers[i];
		uint32_t old = atomic_load(&sharer->handle);

		if ((old != 0 && hf_family_lives(old)) ||
		    !atomic_compare_exchange_strong(&sharer->handle, &old, handle))
			continue;
		atomic_store(&sharer->box, 0);
		atomic_store(&sharer->link, link);
	}
}

/* What it keeps, or will when frames flow. */
static struct hf_resume *memory_of(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);

	return resume != NULL ? resume : atomic_load(&hf_rare(slot)->room);
}

void hf_resume_share(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_sharer *mine;
	uint32_t link;

	if (resume == NULL || wrap == NULL)
		return;
	enter(resume, hf_family_me(), atomic_load(&hf_rare(slot)->link));
	if (atomic_exchange(&resume->armed, 1) != 0 || resume != atomic_load(&hf_rare(slot)->room))
		return;
	/* Those who have the same memory take notice: see hf_resume_notice(). */
	link = atomic_fetch_add(&wrap->link, 1) + 1;
	atomic_store(&hf_rare(slot)->link, link);
	mine = sharer_of(resume, hf_family_me());
	if (mine != NULL)
		atomic_store(&mine->link, link);
}

bool hf_resume_notice(struct hf_slot *slot)
{
	struct hf_resume *room = atomic_load(&hf_rare(slot)->room), *none = NULL;
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_sharer *mine;

	if (hf_resume_of(slot) != NULL || wrap == NULL)
		return hf_resume_of(slot) != NULL;
	if (room == NULL || atomic_load(&room->armed) == 0 || (mine = sharer_of(room, hf_family_me())) == NULL) {
		/* Another who has it can be resumed, but not while we have it too. */
		atomic_store(&hf_rare(slot)->link, atomic_load(&wrap->link));
		return false;
	}
	(void)atomic_compare_exchange_strong(&slot->resume, &none, room);
	/* Whatever it counts, it has not moved as long as this is all. */
	if (atomic_load(&wrap->link) == 1) {
		atomic_store(&mine->link, 1);
		atomic_store(&hf_rare(slot)->link, 1);
	}
	return true;
}

void hf_resume_unshare(struct hf_slot *slot)
{
	struct hf_resume *resume = memory_of(slot);
	struct hf_sharer *mine = resume != NULL ? sharer_of(resume, hf_family_me()) : NULL;

	if (mine != NULL)
		atomic_store(&mine->handle, 0);
}

/* Memory that both will have, whichever of them brings the handshake to its end. */
static void prepare(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_resume *room, *none = NULL;

	if (hf_runtime.config.on_dead != HF_RECONNECT || wrap == NULL || memory_of(slot) != NULL ||
	    (atomic_load(&wrap->phase) != HF_PHASE_CONNECT && atomic_load(&wrap->phase) != HF_PHASE_HELLO) ||
	    atomic_load(&wrap->link) != 0 || (room = hf_resume_room_new()) == NULL)
		return;
	enter(room, hf_family_me(), 0);
	if (!atomic_compare_exchange_strong(&hf_rare(slot)->room, &none, room))
		hf_resume_room_drop(room);
}

void hf_resume_expect(struct hf_slot *slot, uint32_t handle)
{
	uint32_t me = hf_turn_me();
	struct hf_wrap *wrap;
	struct hf_resume *resume;
	uint8_t *area;
	bool turn;

	prepare(slot);
	resume = memory_of(slot);
	wrap = hf_wrap_of(slot);
	if (resume == NULL || wrap == NULL || sharer_of(resume, hf_family_me()) == NULL)
		return;
	/* The watchdog keeps still while a fork is under way; should it not, it may be taking out what has come. */
	if (hf_keep_acting())
		return;
	/* Whoever sleeps in a read has the turn for as long; a handler of a signal may fork in the middle of one of
	 * this thread's own. */
	turn = (hf_resume_broken(wrap) || atomic_load(&hf_rare(slot)->inbox) != NULL) &&
	       atomic_load(&wrap->rx_turn.owner) != me && hf_wrap_take_rx(slot, atomic_load(&slot->fd), me, 0);
	area = hf_resume_area(slot);
	if (area != NULL && turn)
		hf_resume_move_inbox(slot, resume, area);
	if (area != NULL && atomic_load(&hf_rare(slot)->inbox) == NULL)
		enter(resume, handle, atomic_load(&hf_rare(slot)->link));
	if (turn)
		hf_turn_end(&wrap->rx_turn);
}

bool hf_resume_same(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	const struct hf_resume *resume = hf_resume_of(slot);

	return atomic_load(&wrap->conn.cookie) == atomic_load(&slot->cookie) ||
	       (resume != NULL && atomic_load(&wrap->conn.cookie) != 0 &&
		memcmp(resume->name, wrap->resume_name, sizeof(resume->name)) == 0);
}

void hf_resume_forked(struct hf_slot *slot, int fd)
{
	struct hf_resume *resume = memory_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_sharer *mine;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (resume == NULL || wrap == NULL)
		return;
	mine = sharer_of(resume, hf_family_me());
	if (mine == NULL) {
		/* Forked without our knowledge, or beside what cannot be shared. */
		atomic_store(&slot->resume, NULL);
		atomic_store(&hf_rare(slot)->room, NULL);
		atomic_store(&hf_rare(slot)->link, atomic_load(&wrap->link));
		return;
	}
	/* The parent's watchdog may have put another socket there while it forked: the descriptors are copied before
	 * the memory. */
	if (hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 &&
	    cookie != atomic_load(&wrap->conn.cookie)) {
		atomic_store(&slot->cookie, cookie);
		atomic_store(&hf_rare(slot)->link, atomic_load(&wrap->link) - 1);
	}
	atomic_store(&mine->link, atomic_load(&hf_rare(slot)->link));
	hf_resume_count_inbox(slot);
}

void hf_resume_share_none(void)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++)
		if (hf_slot_at(i) != NULL)
			hf_resume_unshare(hf_slot_at(i));
}

void hf_resume_share_all(void)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++)
		if (hf_slot_at(i) != NULL)
			hf_resume_share(hf_slot_at(i));
}

bool hf_resume_shared(struct hf_slot *slot)
{
	struct hf_resume *resume = memory_of(slot);

	for (int i = 0; resume != NULL && i < HF_ARENA_HOLDERS; i++) {
		uint32_t handle = atomic_load(&resume->sharers[i].handle);

		if (handle != 0 && handle != hf_family_me())
			return true;
	}
	return false;
}

bool hf_resume_all_share(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_family_me();

	for (int i = 0; i < HF_ARENA_HOLDERS; i++) {
		uint32_t seen = atomic_load(&wrap->conn.holders[i]);

		if (seen == 0 || seen == me || (seen & HF_HOLDER_LEAVING) != 0 || sharer_of(resume, seen) != NULL)
			continue;
		if (hf_family_lives(seen))
			return false;
	}
	return sharer_of(resume, me) != NULL || !hf_hold_others(&wrap->conn, me);
}

void hf_resume_box_is(struct hf_slot *slot, uint64_t box)
{
	struct hf_sharer *mine = sharer_of(hf_resume_of(slot), hf_family_me());

	if (mine != NULL && atomic_load(&mine->box) != box)
		atomic_store(&mine->box, box);
}

bool hf_resume_takes_mail(struct hf_slot *slot, uint64_t box)
{
	struct hf_resume *resume = hf_resume_of(slot);

	for (int i = 0; box != 0 && resume != NULL && i < HF_ARENA_HOLDERS; i++)
		if (atomic_load(&resume->sharers[i].box) == box &&
		    hf_family_lives(atomic_load(&resume->sharers[i].handle)))
			return true;
	return false;
}

/* Leading */

bool hf_resume_leads(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_family_me(), leader = atomic_load(&resume->leader);

	if (leader == me)
		return true;
	if ((leader != 0 && hf_family_lives(leader)) || !atomic_compare_exchange_strong(&resume->leader, &leader, me))
		return false;
	/* Whatever the one before had begun. */
	resume->offer_fenced = resume->fenced = false;
	resume->readable_since = resume->listen_at = resume->next_at = 0;
	if (resume->step != HF_STEP_NONE)
		resume->step = atomic_load(&wrap->phase) == HF_PHASE_BROKEN ? HF_STEP_REST : HF_STEP_BREAK;
	return true;
}

/* Following */

void hf_resume_hand_round(struct hf_slot *slot, int fd)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t link, handle;
	uint64_t number;

	if (resume == NULL || wrap == NULL || wrap->client || hf_resume_stale(slot, wrap) || !hf_resume_shared(slot))
		return;
	link = atomic_load(&wrap->link);
	for (int i = 0; i < HF_ARENA_HOLDERS; i++) {
		handle = atomic_load(&resume->sharers[i].handle);
		number = atomic_load(&resume->sharers[i].box);
		if (handle != 0 && number != 0 && atomic_load(&resume->sharers[i].link) != link &&
		    hf_family_lives(handle) && hf_same_socket(fd, slot))
			hf_resume_give(number, wrap->resume_name, fd);
	}
}

void hf_resume_moved(struct hf_slot *slot, int fd)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_sharer *mine = sharer_of(resume, hf_family_me());
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	uint32_t link;

	(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	atomic_store(&slot->cookie, cookie);
	atomic_store(&wrap->conn.cookie, cookie);
	link = atomic_fetch_add(&wrap->link, 1) + 1;
	atomic_store(&hf_rare(slot)->link, link);
	if (mine != NULL)
		atomic_store(&mine->link, link);
	if (hf_resume_shared(slot))
		hf_resume_mail_soon(hf_wrap_now_ms() + SOON_MS);
	hf_resume_hand_round(slot, fd);
}

/* Another process that has what the connection has moved to is asked for it. False: there is none. */
static bool ask(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t link = atomic_load(&wrap->link);
	bool found = false;

	for (int i = 0; i < HF_ARENA_HOLDERS && !found; i++) {
		struct hf_sharer *sharer = &resume->sharers[i];
		uint32_t handle = atomic_load(&sharer->handle);
		uint64_t number = atomic_load(&sharer->box);

		if (handle == 0 || handle == hf_family_me() || atomic_load(&sharer->link) != link ||
		    !hf_family_lives(handle))
			continue;
		found = true;
		if (number != 0)
			hf_resume_ask(number, wrap->resume_name);
	}
	return found;
}

/* Nobody has what it had moved to: with that it broke.  What we have is the connection again, a dead one. */
static void orphaned(struct hf_slot *slot, int fd)
{
	if (!hf_resume_leads(slot))
		return;
	hf_resume_moved(slot, fd);
	if (!hf_resume_broken(hf_wrap_of(slot)) && !hf_resume_lost(slot, ECONNRESET)) {
		atomic_store(&hf_resume_of(slot)->leader, 0);
		hf_wrap_share_fate(slot, ECONNRESET);
	}
}

/* Whoever has it does not let us have it: the others go on without us. */
static void strand(struct hf_slot *slot)
{
	(void)atomic_compare_exchange_strong(&slot->fate, &(int){0}, ECONNRESET);
	atomic_store(&slot->guard, 0);
}

/* It goes on, and this process has its part in it again. */
static void calm_down(struct hf_slot *slot)
{
	slot->looked = false;
	atomic_store(&slot->error_seen, 0);
	atomic_store(&slot->told_reset, 0);
	hf_resume_stir(slot, false);
	hf_epoll_again(slot);
}

uint64_t hf_resume_follow(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int offer;

	hf_resume_count_inbox(slot);
	if (hf_wrap_fate(slot) != 0) {
		hf_resume_stir(slot, false);
		return 0;
	}
	if (hf_resume_stale(slot, wrap)) {
		hf_resume_stir(slot, true);
		hf_resume_mail_soon(now + SOON_MS);
		if (hf_rare(slot)->stale_since == 0)
			hf_rare(slot)->stale_since = now;
		if (!ask(slot))
			orphaned(slot, fd);
		else if (now - hf_rare(slot)->stale_since >= hf_runtime.config.reconnect_window)
			strand(slot);
		return now + STEP_MS;
	}
	hf_rare(slot)->stale_since = 0;
	if (!hf_resume_broken(wrap)) {
		if (atomic_load(&hf_rare(slot)->stirring) != 0)
			calm_down(slot);
		return 0;
	}
	if (hf_resume_leads(slot))
		return 0;
	hf_resume_stir(slot, true);
	offer = atomic_exchange(&hf_rare(slot)->offer, 0);
	if (offer > 0) {
		uint8_t in[HF_HELLO_SIZE];

		if (hf_sys_recvfrom(offer - 1, in, sizeof(in), MSG_PEEK | MSG_DONTWAIT, NULL, NULL) == (long)sizeof(in))
			(void)hf_resume_pass(offer - 1, wrap->resume_name, in);
		hf_sys_close(offer - 1);
	}
	return now + STEP_MS;
}

bool hf_resume_caught_up(const uint8_t name[HF_SESSION_SIZE], int fd)
{
	struct hf_slot *slot = hf_resume_named(name);
	struct hf_wrap *wrap = slot != NULL ? hf_wrap_of(slot) : NULL;
	struct hf_resume *resume = wrap != NULL ? hf_resume_of(slot) : NULL;
	struct hf_sharer *mine = resume != NULL ? sharer_of(resume, hf_family_me()) : NULL;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	uint32_t link;
	bool taken = false;

	if (mine == NULL)
		return false;
	/* As in hf_wrap_tend(): the program may be closing it. */
	atomic_store(&hf_rare(slot)->tended, atomic_load(hf_proc_epoch));
	link = atomic_load(&wrap->link);
	if (atomic_load(&slot->closed) == 0 && atomic_load(&hf_rare(slot)->link) != link &&
	    hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 &&
	    cookie == atomic_load(&wrap->conn.cookie)) {
		hf_resume_replace(slot, atomic_load(&slot->fd), fd);
		atomic_store(&slot->cookie, cookie);
		atomic_store(&mine->link, link);
		atomic_store(&hf_rare(slot)->link, link);
		hf_sys_close(fd);
		taken = true;
	}
	atomic_store(&hf_rare(slot)->tended, 0);
	if (taken) {
		hf_watch_poke(slot);
		hf_wake_all(&resume->word);
	}
	return taken;
}

bool hf_resume_wait_fresh(struct hf_slot *slot, int patience_ms)
{
	const struct timespec moment = {0, 1000000};
	struct hf_wrap *wrap;

	if (!hf_resume_notice(slot))
		return true;
	hf_watch_poke(slot);
	for (int i = 0; patience_ms < 0 || i <= patience_ms; i++) {
		if (i > 0)
			hf_sys_nanosleep(&moment, NULL);
		wrap = hf_wrap_of(slot);
		if (wrap == NULL || hf_wrap_fate(slot) != 0)
			return false;
		if (!hf_resume_stale(slot, wrap))
			return true;
	}
	return false;
}
