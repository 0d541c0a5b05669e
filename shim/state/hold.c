#include "state/hold.h"
#include "state/family.h"

/* left_at of what is being swept away. */
#define SWEPT UINT64_MAX

static uint32_t holder(struct hf_arena_conn *conn, int i, bool *leaving)
{
	uint32_t seen = atomic_load(&conn->holders[i]);

	*leaving = (seen & HF_HOLDER_LEAVING) != 0;
	return seen & ~HF_HOLDER_LEAVING;
}

/* HANDLE's entry: from one word to another. */
static bool change(struct hf_arena_conn *conn, uint32_t from, uint32_t to)
{
	bool found = false;

	for (int i = 0; i < HF_ARENA_HOLDERS; i++) {
		uint32_t seen = from;

		found = atomic_compare_exchange_strong(&conn->holders[i], &seen, to) || found;
	}
	return found;
}

static bool joined(struct hf_arena_conn *conn)
{
	atomic_store(&conn->ender, 0);
	return atomic_exchange(&conn->left_at, 0) != SWEPT;
}

bool hf_hold_join(struct hf_arena_conn *conn, uint32_t handle)
{
	for (int i = 0; i < HF_ARENA_HOLDERS && handle != 0; i++)
		if (atomic_load(&conn->holders[i]) == handle)
			return true;
	if (handle != 0 && change(conn, handle | HF_HOLDER_LEAVING, handle))
		return joined(conn);
	for (int i = 0; i < HF_ARENA_HOLDERS && handle != 0; i++) {
		uint32_t seen = atomic_load(&conn->holders[i]);

		if ((seen == 0 || !hf_family_lives(seen & ~HF_HOLDER_LEAVING)) &&
		    atomic_compare_exchange_strong(&conn->holders[i], &seen, handle))
			return joined(conn);
	}
	/* Rather the place of one that has let go than doubt for ever.  First the note, for who looks for others and
	 * finds the place empty again. */
	for (int i = 0; i < HF_ARENA_HOLDERS && handle != 0; i++) {
		uint32_t seen = atomic_load(&conn->holders[i]);

		if ((seen & HF_HOLDER_LEAVING) == 0)
			continue;
		(void)atomic_compare_exchange_strong(&conn->crowded_at, &(uint64_t){0}, 1);
		if (atomic_compare_exchange_strong(&conn->holders[i], &seen, handle))
			return joined(conn);
	}
	atomic_store(&conn->doubt, HF_DOUBT_MANY);
	return joined(conn);
}

bool hf_hold_stays(struct hf_arena_conn *conn, uint32_t handle, uint64_t cookie, uint64_t now)
{
	for (int i = 0; i < HF_ARENA_HOLDERS && handle != 0; i++)
		if ((atomic_load(&conn->holders[i]) & ~HF_HOLDER_LEAVING) == handle)
			return atomic_load(&conn->cookie) == cookie;
	if (atomic_load(&conn->cookie) != cookie)
		return false;
	/* Noted, then asked: the sweep marks it, then looks at the note. */
	atomic_store(&conn->crowded_at, now);
	return atomic_load(&conn->left_at) != SWEPT && atomic_load(&conn->cookie) == cookie;
}

/* Whether a living process other than HANDLE is entered. LEAVING: one that has let go counts too. */
static bool entered(struct hf_arena_conn *conn, uint32_t handle, bool leaving)
{
	for (int i = 0; i < HF_ARENA_HOLDERS; i++) {
		bool left;
		uint32_t seen = holder(conn, i, &left);

		if (seen != 0 && seen != handle && (leaving || !left) && hf_family_lives(seen))
			return true;
	}
	return false;
}

bool hf_hold_others(struct hf_arena_conn *conn, uint32_t handle)
{
	return entered(conn, handle, false);
}

enum others { NOBODY, EXPECTED, CERTAIN };

/* What living processes besides HANDLE have it: one for certain, or only some that are about to be forked, whose
 * descriptors may have been copied before or after ours was closed. */
static enum others others(struct hf_arena_conn *conn, uint32_t handle)
{
	enum others found = NOBODY;

	for (int i = 0; i < HF_ARENA_HOLDERS; i++) {
		bool left;
		uint32_t seen = holder(conn, i, &left);

		if (seen == 0 || seen == handle || left || !hf_family_lives(seen))
			continue;
		if (!hf_family_expected(seen))
			return CERTAIN;
		found = EXPECTED;
	}
	return found;
}

bool hf_hold_expected(struct hf_arena_conn *conn, uint32_t handle)
{
	bool expected = false;

	/* Without a system call, as nearly always. */
	for (int i = 0; i < HF_ARENA_HOLDERS && !expected; i++) {
		bool left;
		uint32_t seen = holder(conn, i, &left);

		expected = seen != 0 && seen != handle && !left && hf_family_expected(seen);
	}
	if (!expected)
		return false;
	return others(conn, handle) == EXPECTED;
}

enum hf_left hf_hold_leave(struct hf_arena_conn *conn, uint32_t handle)
{
	enum others found;
	uint32_t ender = 0;

	if (handle != 0)
		(void)change(conn, handle, handle | HF_HOLDER_LEAVING);
	if (handle != 0)
		(void)atomic_compare_exchange_strong(&conn->keeper, &(uint32_t){handle}, 0);
	/* First gone, then asked: of two that leave at once the second finds nobody, and perhaps both do. */
	found = others(conn, handle);
	if (found == CERTAIN)
		return HF_LEFT_OTHERS;
	if (found == EXPECTED || atomic_load(&conn->doubt) != HF_DOUBT_NONE)
		return HF_LEFT_DOUBT;
	return atomic_compare_exchange_strong(&conn->ender, &ender, handle) || ender == handle ? HF_LEFT_LAST
											       : HF_LEFT_OTHERS;
}

void hf_hold_done(struct hf_arena_conn *conn, uint32_t handle)
{
	if (handle != 0)
		(void)change(conn, handle | HF_HOLDER_LEAVING, 0);
}

void hf_hold_undo(struct hf_arena_conn *conn, uint32_t handle)
{
	if (handle != 0)
		(void)change(conn, handle, 0);
}

bool hf_hold_keep(struct hf_arena_conn *conn, uint32_t handle, uint64_t now, uint64_t stale_ms)
{
	uint32_t keeper = atomic_load(&conn->keeper);
	uint64_t kept_at = atomic_load(&conn->kept_at);

	if (keeper != handle && keeper != 0 && now < kept_at + stale_ms && hf_family_lives(keeper))
		return false;
	if (keeper != handle && !atomic_compare_exchange_strong(&conn->keeper, &keeper, handle))
		return false;
	atomic_store(&conn->kept_at, now);
	return true;
}

void hf_hold_retire(struct hf_arena_conn *conn, uint32_t index, uint32_t handle, uint64_t now)
{
	/* Marked, then asked once more; who joins is entered first, then looks at the mark. */
	bool swept = atomic_exchange(&conn->left_at, SWEPT) == SWEPT;

	hf_hold_done(conn, handle);
	if (swept)
		return; /* the sweep has it, or another who leaves */
	/* Itself too: it may have been handed another descriptor of it meanwhile. */
	if (entered(conn, 0, true))
		atomic_store(&conn->left_at, entered(conn, 0, false) ? 0 : now);
	else if (atomic_load(&conn->crowded_at) != 0)
		atomic_store(&conn->left_at, now); /* perhaps one without a place is at its end */
	else
		hf_arena_give(index);
}

void hf_hold_sweep(uint64_t now, uint64_t age_ms, bool (*in_use)(struct hf_arena_conn *conn))
{
	struct hf_arena *head = hf_arena();
	uint32_t used = head != NULL ? atomic_load(&head->used) : 0;

	for (uint32_t i = 0; i < used && i < HF_ARENA_CONNS; i++) {
		struct hf_arena_conn *conn = hf_arena_conn(i);
		uint64_t left_at, none = 0;

		if (conn == NULL || atomic_load(&conn->cookie) == 0 || entered(conn, 0, true) || in_use(conn))
			continue;
		left_at = atomic_load(&conn->left_at);
		if (left_at == 0) {
			/* Its holders died: from now on it counts. */
			(void)atomic_compare_exchange_strong(&conn->left_at, &none, now);
			continue;
		}
		/* Marked, then asked once more; who joins is entered first, then looks at the mark. */
		if (left_at == SWEPT || now < left_at + age_ms ||
		    !atomic_compare_exchange_strong(&conn->left_at, &left_at, SWEPT))
			continue;
		if (entered(conn, 0, true))
			atomic_store(&conn->left_at, 0);
		else if (now < atomic_load(&conn->crowded_at) + age_ms)
			atomic_store(&conn->left_at, now);
		else
			hf_arena_give(i);
	}
}
