#include "io/turn.h"
#include "state/proc.h"
#include "sys.h"

#include <linux/futex.h>

/* Threads asleep for any turn: whoever ends one knows whether to wake. */
static _Atomic uint32_t sleepers;

static __thread struct {
	uint32_t epoch, number;
} self;

uint32_t hf_turn_me(void)
{
	uint32_t epoch = atomic_load_explicit(hf_proc_epoch, memory_order_relaxed);

	/* After a fork the copy of the parent's number would be wrong. */
	if (self.number == 0 || self.epoch != epoch || epoch == 0) {
		self.number = (uint32_t)hf_sys_gettid();
		self.epoch = epoch;
	}
	return self.number;
}

static bool gone(uint32_t thread)
{
	return hf_sys_tgkill(hf_sys_getpid(), (int)thread, 0) < 0;
}

enum hf_turn hf_turn_try(_Atomic uint32_t *word, uint32_t me)
{
	uint32_t owner = 0;

	if (atomic_compare_exchange_strong_explicit(word, &owner, me, memory_order_acquire, memory_order_relaxed))
		return HF_TURN_OURS;
	if (owner == me)
		return HF_TURN_LEFT;
	return HF_TURN_BUSY;
}

enum hf_turn hf_turn_take(_Atomic uint32_t *word, uint32_t me, int patience_ms)
{
	/* A look at the owner now and then, in case it has ended without a word. */
	const struct timespec moment = {0, 10000000L};
	enum hf_turn turn = hf_turn_try(word, me);

	while (turn == HF_TURN_BUSY) {
		uint32_t owner = atomic_load(word);

		if (owner == 0) {
			turn = hf_turn_try(word, me);
			continue;
		}
		if (patience_ms == 0)
			return HF_TURN_BUSY;
		atomic_fetch_add(&sleepers, 1);
		hf_sys_futex((uint32_t *)word, FUTEX_WAIT_PRIVATE, owner, &moment);
		atomic_fetch_sub(&sleepers, 1);
		if (patience_ms > 0)
			patience_ms = patience_ms > 10 ? patience_ms - 10 : 0;
		if (atomic_load(word) == owner && gone(owner) && atomic_compare_exchange_strong(word, &owner, me))
			return HF_TURN_LEFT;
		turn = hf_turn_try(word, me);
	}
	return turn;
}

void hf_turn_end(_Atomic uint32_t *word)
{
	atomic_store_explicit(word, 0, memory_order_seq_cst);
	if (atomic_load(&sleepers) != 0)
		hf_sys_futex((uint32_t *)word, FUTEX_WAKE_PRIVATE, 1, NULL);
}

bool hf_turn_held(_Atomic uint32_t *word)
{
	uint32_t owner = atomic_load(word);

	return owner != 0 && !gone(owner);
}
