#include "io/turn.h"
#include "sys.h"

#include <errno.h>
#include <linux/futex.h>

enum { TID_BITS = HF_TURN_TID_BITS, TID_MASK = (1 << TID_BITS) - 1 };

__thread struct hf_turn_self hf_turn_self;

static uint32_t mark(uint32_t number)
{
	return number | hf_family_me() << TID_BITS;
}

uint32_t hf_turn_ask(void)
{
	hf_turn_self.number = (uint32_t)hf_sys_gettid();
	hf_turn_self.epoch = atomic_load_explicit(hf_proc_epoch, memory_order_relaxed);
	return hf_turn_self.number;
}

uint32_t hf_turn_watchdog(void)
{
	return mark((uint32_t)hf_sys_gettid());
}

static bool ours(uint32_t owner)
{
	uint32_t index = owner >> TID_BITS;

	return index == 0 || index == mark(0) >> TID_BITS;
}

static bool gone(uint32_t owner)
{
	int tid = (int)(owner & TID_MASK);

	/* Of our own process we also know that a number used again is not the thread that was. */
	if (ours(owner) && hf_sys_tgkill(hf_sys_getpid(), tid, 0) == -ESRCH)
		return true;
	return !hf_family_thread_lives(owner >> TID_BITS, tid);
}

enum hf_turn hf_turn_take(struct hf_turn_word *word, uint32_t me, int patience_ms)
{
	/* A look at the owner now and then, in case it has ended without a word. */
	const struct timespec moment = {0, 10000000L};
	enum hf_turn turn = hf_turn_try(word, me);

	while (turn == HF_TURN_BUSY) {
		uint32_t owner = atomic_load(&word->owner);

		if (owner == 0) {
			turn = hf_turn_try(word, me);
			continue;
		}
		if (patience_ms == 0)
			return gone(owner) && atomic_compare_exchange_strong(&word->owner, &owner, me) ? HF_TURN_LEFT
												       : HF_TURN_BUSY;
		atomic_fetch_add(&word->sleepers, 1);
		hf_sys_futex((uint32_t *)&word->owner, FUTEX_WAIT, owner, &moment);
		atomic_fetch_sub(&word->sleepers, 1);
		if (patience_ms > 0)
			patience_ms = patience_ms > 10 ? patience_ms - 10 : 0;
		if (atomic_load(&word->owner) == owner && gone(owner) &&
		    atomic_compare_exchange_strong(&word->owner, &owner, me))
			return HF_TURN_LEFT;
		turn = hf_turn_try(word, me);
	}
	return turn;
}

void hf_turn_wake(struct hf_turn_word *word)
{
	hf_sys_futex((uint32_t *)&word->owner, FUTEX_WAKE, 1, NULL);
}

bool hf_turn_held(struct hf_turn_word *word, bool here)
{
	uint32_t owner = atomic_load(&word->owner);

	return owner != 0 && (!here || ours(owner)) && !gone(owner);
}

void hf_wake_all(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	hf_sys_futex((uint32_t *)word, FUTEX_WAKE, INT32_MAX, NULL);
}
