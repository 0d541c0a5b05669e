/*
 * The wrapped connection's life: its mark, its place in the arena, failure.
 */
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/arena.h"
#include "state/clock.h"
#include "state/family.h"
#include "state/hold.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

/* Another build of the library has another. */
enum { LAYOUT = sizeof(struct hf_wrap) << 16 | HF_WIRE_VERSION << 8 | 6 };

/* A limit on unsent bytes far above any buffer: no limit, and not what a program would set; or one of ours that
 * matters, with the same lowest bits. */
enum { MARK = 0x7f4846f1, MARK_BITS = 0xfff };

_Atomic bool hf_wrap_used;

uint32_t hf_wrap_layout(void)
{
	return LAYOUT;
}

uint64_t hf_wrap_now_us(void)
{
	return hf_clock_us(CLOCK_MONOTONIC);
}

uint64_t hf_wrap_now_ms(void)
{
	return hf_wrap_now_us() / 1000;
}

/* The mark */

bool hf_wrap_marked(int fd)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return hf_sys_getsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, &len) == 0 && hf_wrap_is_mark(value);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* The place of the socket with this cookie in the arena, if it has one. */
static struct hf_wrap *lookup(uint64_t cookie, uint32_t *index)
{
	*index = hf_arena_find(cookie);
	return *index != HF_CONN_NONE ? (struct hf_wrap *)(void *)hf_arena_conn(*index) : NULL;
}

bool hf_wrap_known(int fd)
{
	struct hf_wrap *wrap;
	uint32_t index;

	if (hf_wrap_marked(fd))
		return true;
	/* A program that set a limit of its own has taken the mark away. */
	wrap = hf_arena() != NULL ? lookup(cookie_of(fd), &index) : NULL;
	return wrap != NULL && atomic_load(&wrap->phase) != HF_PHASE_NONE;
}

bool hf_wrap_is_mark(int value)
{
	return value > MARK_BITS && (value & MARK_BITS) == (MARK & MARK_BITS);
}

static void mark(int fd)
{
	int value = 0, own = MARK;
	socklen_t len = sizeof(value);

	/* A program that has set a limit keeps it, and goes without. */
	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, &len) == 0 && value == 0)
		(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &own, sizeof(own));
}

void hf_wrap_mark_kept(int fd, uint32_t size)
{
	enum { UNSENT_MOST = 256 * 1024 };
	uint32_t unsent = size / 2 < UNSENT_MOST ? size / 2 : UNSENT_MOST;
	int value = (int)(unsent & ~(uint32_t)MARK_BITS) | (MARK & MARK_BITS);

	if (value > MARK_BITS && hf_wrap_marked(fd))
		(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}

void hf_wrap_unmark(int fd)
{
	int none = 0;

	if (hf_wrap_marked(fd))
		(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &none, sizeof(none));
}

/* Its place */

static struct hf_wrap *record_of(struct hf_slot *slot)
{
	uint32_t conn = atomic_load(&hf_rare(slot)->conn);

	return conn != 0 ? (struct hf_wrap *)(void *)hf_arena_conn(conn - 1) : NULL;
}

static void attach(struct hf_slot *slot, uint32_t index, uint64_t cookie)
{
	atomic_store(&hf_rare(slot)->conn, index + 1);
	atomic_store(&hf_rare(slot)->let_go, 0);
	atomic_store(&slot->closed, 0);
	atomic_store(&hf_rare(slot)->tended, 0);
	atomic_store(&slot->cookie, cookie);
	atomic_store(&hf_rare(slot)->link, atomic_load(&((struct hf_wrap *)(void *)hf_arena_conn(index))->link));
	atomic_store(&hf_rare(slot)->spawns, hf_proc_spawns());
	atomic_store(&slot->wrap_tried, 1);
}

bool hf_wrap_begin(struct hf_slot *slot, int fd, bool client, const struct sockaddr *addr, socklen_t len)
{
	uint64_t cookie = cookie_of(fd);
	struct hf_wrap *wrap;
	uint32_t index;

	if (!hf_arena_make(LAYOUT, true) || cookie == 0 || (index = hf_arena_take()) == HF_CONN_NONE)
		return false;
	(void)hf_family_join(hf_runtime.prog);
	atomic_store_explicit(&hf_wrap_used, true, memory_order_relaxed);
	wrap = (struct hf_wrap *)(void *)hf_arena_conn(index);
	wrap->client = client;
	if (client && len <= sizeof(wrap->dial)) {
		memcpy(&wrap->dial, addr, len);
		wrap->dial_len = len;
	}
	atomic_store(&wrap->phase, client ? HF_PHASE_CONNECT : HF_PHASE_HELLO);
	if (!client) {
		uint64_t now = hf_wrap_now_ms();

		atomic_store(&wrap->soon, now + hf_runtime.config.hello_wait_accept);
		atomic_store(&wrap->deadline, now + hf_runtime.config.hello_wait);
	}
	(void)hf_hold_join(&wrap->conn, hf_family_me());
	atomic_store(&wrap->conn.keeper, hf_family_me());
	atomic_store(&wrap->conn.cookie, cookie);
	mark(fd);
	attach(slot, index, cookie);
	/* Memory that has no file is shared with those who are forked after it has been mapped. */
	if (hf_arena_fd() < 0)
		atomic_store(&hf_rare(slot)->queue, hf_arena_queue(index));
	atomic_store(&slot->wrap, wrap);
	return true;
}

/* Hold the connection with this cookie, if its place is still its own. */
static bool hold(struct hf_wrap *wrap, uint64_t cookie)
{
	uint32_t me = hf_family_me();

	if (atomic_load(&wrap->conn.cookie) != cookie)
		return false;
	if (hf_hold_join(&wrap->conn, me) && atomic_load(&wrap->conn.cookie) == cookie)
		return true;
	hf_hold_undo(&wrap->conn, me);
	return false;
}

/* And one that SLOT was forked with: it may have moved to another socket since. */
static bool hold_forked(struct hf_wrap *wrap, struct hf_slot *slot)
{
	uint32_t me = hf_family_me();

	if (!hf_resume_same(slot, wrap))
		return false;
	if (hf_hold_join(&wrap->conn, me) && hf_resume_same(slot, wrap))
		return true;
	hf_hold_undo(&wrap->conn, me);
	return false;
}

bool hf_wrap_hold(int fd)
{
	uint64_t cookie = cookie_of(fd);
	uint32_t index;
	struct hf_wrap *wrap = hf_arena() != NULL ? lookup(cookie, &index) : NULL;

	return wrap != NULL && hf_family_join(hf_runtime.prog) && hold(wrap, cookie);
}

void hf_wrap_adopt(struct hf_slot *slot, int fd)
{
	uint64_t cookie = cookie_of(fd);
	struct hf_wrap *wrap;
	uint32_t index;

	(void)hf_arena_borrow(LAYOUT);
	atomic_store(&hf_wrap_used, true);
	atomic_store(&hf_resume_inherited, true);
	wrap = lookup(cookie, &index);
	if (wrap != NULL && hf_family_join(hf_runtime.prog) && hold(wrap, cookie)) {
		attach(slot, index, cookie);
		atomic_store(&slot->client, wrap->client);
		atomic_store(&slot->has_role, 1);
		/* Broken, or with bytes that only who had it before has got: not to be gone on with. */
		if (atomic_load(&wrap->broken) != 0 || atomic_load(&wrap->inbox_left) != 0 ||
		    wrap->tx.sent < wrap->kept_end) {
			hf_wrap_stranded(slot, fd);
			return;
		}
		/* It may have become plain a moment ago: then the mark is gone too, and the next call finds out. */
		atomic_store(&slot->wrap, wrap);
		if (atomic_load(&wrap->phase) == HF_PHASE_ON)
			hf_resume_arm(slot, fd);
		return;
	}
	atomic_store(&slot->cookie, cookie);
	/* Found plain meanwhile by who had it: the mark goes before the place does (go_plain()). */
	if (!hf_wrap_marked(fd))
		return;
	/* Where its stream stands nobody can tell us. */
	hf_wrap_stranded(slot, fd);
}

/* The parent's slot, copied by fork: the same connection still? */
void hf_wrap_claim(struct hf_slot *slot)
{
	struct hf_wrap *wrap = record_of(slot);

	/* What a thread of the parent was at. */
	atomic_store(&slot->closed, 0);
	if (atomic_load(&hf_rare(slot)->waiting) != 0)
		atomic_store(&hf_rare(slot)->waiting, 0);
	if (atomic_load(&hf_rare(slot)->moved) != 0)
		atomic_store(&hf_rare(slot)->moved, 0);
	if (wrap == NULL || hf_wrap_of(slot) == NULL)
		return;
	(void)hf_family_join(hf_runtime.prog);
	if (!hold_forked(wrap, slot)) {
		/* Closed by a thread of the parent while another forked; or forked without our knowledge and left
		 * alone for so long that the place went to another. */
		atomic_store(&hf_rare(slot)->conn, 0);
		atomic_store(&slot->wrap, NULL);
		atomic_store(&slot->fate, EPROTO);
		atomic_store(&slot->guard, 0);
		return;
	}
	hf_resume_forked(slot, atomic_load(&slot->fd));
	/* Forked while it was broken, without what is kept for it. */
	if (hf_resume_of(slot) == NULL &&
	    (hf_resume_broken(wrap) || atomic_load(&wrap->conn.cookie) != atomic_load(&slot->cookie))) {
		(void)hf_hold_leave(&wrap->conn, hf_family_me());
		hf_hold_done(&wrap->conn, hf_family_me());
		atomic_store(&hf_rare(slot)->conn, 0);
		atomic_store(&slot->wrap, NULL);
		atomic_store(&slot->resume, NULL);
		atomic_store(&slot->fate, ECONNRESET);
		atomic_store(&slot->guard, 0);
		return;
	}
	atomic_store(&hf_rare(slot)->let_go, 0);
}

void hf_wrap_leave_to_parent(struct hf_slot *slot)
{
	atomic_store(&hf_rare(slot)->conn, 0);
	atomic_store(&slot->wrap, NULL);
}

uint32_t hf_wrap_expect_child(void)
{
	uint32_t child = 0;

	if (!hf_wrap_in_use())
		return 0;
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);
		struct hf_wrap *wrap = slot != NULL && atomic_load(&slot->refs) != 0 ? hf_wrap_of(slot) : NULL;

		if (wrap == NULL || atomic_load(&hf_rare(slot)->let_go) != 0)
			continue;
		if (child == 0 && (child = hf_family_expect()) == 0) {
			atomic_store(&wrap->conn.doubt, HF_DOUBT_MANY);
			continue;
		}
		hf_resume_expect(slot, child);
		(void)hf_hold_join(&wrap->conn, child);
	}
	return child;
}

static bool has_slot(uint32_t index)
{
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot != NULL && atomic_load(&slot->refs) != 0 && atomic_load(&hf_rare(slot)->conn) == index + 1)
			return true;
	}
	return false;
}

void hf_wrap_forget_unheld(void)
{
	struct hf_arena *head = hf_arena();
	uint32_t used = head != NULL ? atomic_load(&head->used) : 0, me = hf_family_me();

	for (uint32_t i = 0; me != 0 && i < used && i < HF_ARENA_CONNS; i++) {
		struct hf_arena_conn *conn = hf_arena_conn(i);

		for (int k = 0; conn != NULL && k < HF_ARENA_HOLDERS; k++)
			if (atomic_load(&conn->holders[k]) == me && !has_slot(i)) {
				if (hf_hold_leave(conn, me) == HF_LEFT_LAST)
					atomic_store(&conn->left_at, hf_wrap_now_ms());
				hf_hold_done(conn, me);
			}
	}
}

bool hf_wrap_keep(struct hf_slot *slot, uint64_t now)
{
	enum { SLACK_MS = 30 };
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t pace;

	if (wrap == NULL)
		return true;
	if (!hf_wrap_stays(slot))
		return false;
	/* A keeper looks at least once a beat's time, jitter included. */
	pace = atomic_load(&wrap->phase) == HF_PHASE_ON ? wrap->session.pace : hf_runtime.config.interval;
	return hf_hold_keep(&wrap->conn, hf_family_me(), now, pace + pace / 2 + SLACK_MS);
}

enum hf_left hf_wrap_try_let_go(struct hf_slot *slot)
{
	struct hf_wrap *wrap = record_of(slot);
	enum hf_left left;

	if (wrap == NULL || atomic_load(&hf_rare(slot)->let_go) != 0)
		return hf_wrap_let_go(slot);
	if (hf_hold_expected(&wrap->conn, hf_family_me()))
		return HF_LEFT_EXPECTED;
	left = hf_wrap_let_go(slot);
	if (left != HF_LEFT_DOUBT || atomic_load(&wrap->conn.doubt) != HF_DOUBT_NONE)
		return left;
	/* In doubt of a child that was entered at this very moment. */
	(void)hf_hold_join(&wrap->conn, hf_family_me());
	atomic_store(&hf_rare(slot)->let_go, 0);
	return HF_LEFT_EXPECTED;
}

/* How SLOT's process lets go of the connection, once. */
enum hf_left hf_wrap_let_go(struct hf_slot *slot)
{
	struct hf_wrap *wrap = record_of(slot);
	uint8_t left = atomic_load(&hf_rare(slot)->let_go);

	if (left != 0)
		return (enum hf_left)(left - 1);
	if (wrap == NULL)
		return HF_LEFT_LAST;
	if (atomic_load(&hf_rare(slot)->spawns) != hf_proc_spawns())
		(void)atomic_compare_exchange_strong(&wrap->conn.doubt, &(uint32_t){HF_DOUBT_NONE}, HF_DOUBT_SPAWNED);
	hf_resume_hand_round(slot, atomic_load(&slot->fd));
	left = (uint8_t)(hf_hold_leave(&wrap->conn, hf_family_me()) + 1);
	atomic_store(&hf_rare(slot)->let_go, left);
	return (enum hf_left)(left - 1);
}

bool hf_wrap_stays(struct hf_slot *slot)
{
	struct hf_wrap *wrap = record_of(slot);

	return wrap != NULL &&
	       (atomic_load(&hf_rare(slot)->let_go) == 0 ||
		hf_hold_stays(&wrap->conn, hf_family_me(), atomic_load(&slot->cookie), hf_wrap_now_ms()));
}

static bool in_use(struct hf_wrap *wrap)
{
	return hf_turn_held(&wrap->rx_turn, false) || hf_turn_held(&wrap->tx_turn, false);
}

static bool conn_in_use(struct hf_arena_conn *conn)
{
	return in_use((struct hf_wrap *)(void *)conn);
}

void hf_wrap_sweep(uint64_t now)
{
	enum { EVERY_MS = 60000, AGE_MS = 60000 };
	struct hf_arena *head = hf_arena();
	uint64_t swept = head != NULL ? atomic_load(&head->swept_at) : now;

	if (now >= swept + EVERY_MS && atomic_compare_exchange_strong(&head->swept_at, &swept, now))
		hf_hold_sweep(now, AGE_MS, conn_in_use);
}

bool hf_wrap_busy(struct hf_slot *slot)
{
	enum { MOST_MS = 60000 };               /* siglongjmp(3) may have taken it out of the call */
	struct hf_wrap *wrap = record_of(slot); /* it may have turned plain meanwhile */

	if (wrap == NULL)
		return false;
	if (atomic_load(&hf_rare(slot)->waiting) != 0 &&
	    hf_wrap_now_ms() < atomic_load(&hf_rare(slot)->waited_at) + MOST_MS)
		return true;
	return hf_turn_held(&wrap->rx_turn, true) || hf_turn_held(&wrap->tx_turn, true);
}

void hf_wrap_free(struct hf_slot *slot)
{
	struct hf_wrap *wrap = record_of(slot);
	uint32_t index = atomic_load(&hf_rare(slot)->conn) - 1;
	uint8_t *queue;
	enum hf_left left;

	if (wrap == NULL)
		return;
	queue = atomic_exchange(&hf_rare(slot)->queue, NULL);
	left = hf_wrap_let_go(slot);
	if (!hf_wrap_stays(slot))
		left = HF_LEFT_OTHERS;
	if (left == HF_LEFT_LAST)
		hf_resume_bury(slot);
	hf_resume_free(slot);
	atomic_store(&slot->wrap, NULL);
	atomic_store(&hf_rare(slot)->conn, 0);
	if (queue != NULL)
		hf_arena_queue_drop(index, queue, left == HF_LEFT_LAST && !hf_hold_others(&wrap->conn, hf_family_me()));
	if (left == HF_LEFT_LAST && !in_use(wrap)) {
		hf_hold_retire(&wrap->conn, index, hf_family_me(), hf_wrap_now_ms());
		return;
	}
	if (left != HF_LEFT_OTHERS)
		atomic_store(&wrap->conn.left_at, hf_wrap_now_ms());
	hf_hold_done(&wrap->conn, hf_family_me());
}

int hf_wrap_fate(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int fate = atomic_load(&slot->fate), none = 0;

	if (fate != 0 || wrap == NULL || (fate = atomic_load(&wrap->fate)) == 0)
		return fate;
	/* Another process has ended it. */
	if (!atomic_compare_exchange_strong(&slot->fate, &none, fate))
		return none;
	atomic_store(&slot->guard, 0);
	return fate;
}

void hf_wrap_share_fate(struct hf_slot *slot, int error)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	(void)atomic_compare_exchange_strong(&slot->fate, &(int){0}, error);
	if (wrap != NULL)
		(void)atomic_compare_exchange_strong(&wrap->fate, &(int){0}, error);
	atomic_store(&slot->guard, 0);
}

void hf_wrap_fail(struct hf_slot *slot, int error)
{
	if (atomic_load(&slot->fate) != 0)
		return;
	/* Told first: a program that meets the error may end at once. */
	if (atomic_exchange(&slot->told_failed, 1) == 0)
		hf_tell_failed(slot, atomic_load(&slot->fd), error);
	hf_wrap_share_fate(slot, error);
	atomic_store(&slot->failed, (uint8_t)error);
	hf_watch_poke(slot);
}

void hf_wrap_leave(struct hf_slot *slot, bool last)
{
	const struct timespec moment = {0, 20000};

	if (hf_wrap_of(slot) == NULL)
		return;
	if (last)
		atomic_store(&slot->closed, 1);
	/* It only makes calls that do not block. A child of fork has the parent's word and no such thread. */
	while (atomic_load(&hf_rare(slot)->tended) != 0 &&
	       atomic_load(&hf_rare(slot)->tended) == atomic_load(hf_proc_epoch))
		hf_sys_nanosleep(&moment, NULL);
}

void hf_wrap_stay(struct hf_slot *slot)
{
	atomic_store(&slot->closed, 0);
}

void hf_wrap_stranded(struct hf_slot *slot, int fd)
{
	atomic_store(&slot->fd, fd);
	if (!atomic_compare_exchange_strong(&slot->fate, &(int){0}, EPROTO))
		return;
	/* Others may have it and know: it is not ended, nobody here watches it, only this process's own calls fail. */
	atomic_store(&slot->guard, 0);
	hf_tell_failed(slot, fd, EPROTO);
}
