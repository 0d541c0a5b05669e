/*
 * A call that a signal came in the middle of, whose handler has used the connection too.
 *
 * The handler's call found its own thread's turn and took it for one that was left behind, as siglongjmp(3) leaves it
 * (take_turn() in io/wrap_turn.c): what the interrupted call had moved by then was written down from the kernel's
 * ledger, and the turn given back.  Now the interrupted call goes on.  Either what it has moved is written down
 * already, or the kernel has taken it up again only behind the handler (SA_RESTART), laid out for a place in the stream
 * where it is no more.
 */
#include "io/resume.h"
#include "io/wrap_inner.h"

#include <errno.h>
#include <string.h>

enum { PATIENCE_MS = 1000 }; /* another thread may have the turn by now */

static ssize_t lost(struct hf_slot *slot)
{
	hf_wrap_fail(slot, EPROTO);
	errno = EPROTO;
	return -1;
}

bool hf_wrap_retake_rx(struct hf_slot *slot, int fd, uint32_t me)
{
	int error = errno;
	bool taken = hf_wrap_take_rx(slot, fd, me, PATIENCE_MS);

	errno = error;
	return taken;
}

bool hf_wrap_retake_tx(struct hf_slot *slot, int fd, uint32_t me)
{
	int error = errno;
	bool taken = hf_wrap_take_tx(slot, fd, me, PATIENCE_MS);

	errno = error;
	return taken;
}

/* All of it stands in the scratch, and is written down. */
static ssize_t hand_out(struct hf_slot *slot, void *buf, size_t got)
{
	struct hf_rx between = {0}; /* as it was read */
	struct hf_rx_news news;
	size_t bytes = hf_rx_squeeze(&between, hf_scratch(slot), got, &news);

	if (bytes != hf_wrap_of(slot)->rx_caught)
		return lost(slot);
	memcpy(buf, hf_scratch(slot), bytes); /* no more than was asked for: there is a header in it */
	atomic_store(&hf_rare(slot)->scratch_at, 0);
	return (ssize_t)bytes;
}

ssize_t hf_wrap_overtaken_rx(struct hf_slot *slot, int fd, uint32_t me, struct hf_received *first, void *buf,
			     size_t size, bool *open)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	size_t got = (size_t)first->got, mine = got < first->overhead ? got : first->overhead;

	*open = false;
	/* Where headers have places of their own and the program's bytes reach them, who came between has not looked.
	 */
	if (wrap == NULL || (first->spread.count != 0 && got - mine > first->spread.lead))
		return lost(slot);
	first->spread.count = 0;
	if (wrap->rx_caught_at == first->at)
		return first->whole ? hand_out(slot, buf, got) : (ssize_t)wrap->rx_caught;
	if (!hf_wrap_retake_rx(slot, fd, me))
		return lost(slot);
	*open = true;
	if (hf_rx_overhead(&wrap->rx) == first->overhead) {
		if (first->whole) {
			memcpy(wrap->rx_scratch, hf_scratch(slot), mine);
			memcpy(buf, hf_scratch(slot) + mine, got - mine);
		}
		return 0;
	}
	/* What it took for protocol may be the program's: all in one place, to be squeezed out of that. */
	if (got <= size && first->whole) {
		memcpy(buf, hf_scratch(slot), got);
	} else if (got <= size) {
		memmove((char *)buf + mine, buf, got - mine);
		memcpy(buf, wrap->rx_scratch, mine);
	} else {
		*open = false;
		hf_turn_end(&wrap->rx_turn);
		return lost(slot);
	}
	first->overhead = 0;
	return 0;
}

/* Of SENT bytes of PLAN those that are the program's. */
static size_t program_bytes(const struct hf_tx_plan *plan, size_t sent)
{
	struct hf_tx any = {0};

	return hf_tx_took(&any, plan, sent);
}

static bool same_plan(const struct hf_tx *tx, const struct hf_tx_plan *plan)
{
	struct hf_tx_plan now;

	hf_tx_plan(tx, plan->first + plan->second, &now);
	return now.owed == plan->owed && now.first == plan->first && now.second == plan->second &&
	       now.header == plan->header;
}

bool hf_wrap_overtaken_tx(struct hf_slot *slot, int fd, uint32_t me, const struct hf_tx_plan *plan, size_t sent,
			  size_t *done)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t given;

	*done = program_bytes(plan, sent);
	if (wrap == NULL || !hf_wrap_retake_tx(slot, fd, me)) {
		(void)lost(slot);
		return false;
	}
	if (atomic_load(&wrap->phase) != HF_PHASE_ON)
		return true; /* broken meanwhile: what was not kept is not sent again, and the session refused */
	if (hf_wrap_given(slot, fd, &given) && given == 0)
		return true;
	if (given == sent && same_plan(&wrap->tx, plan)) {
		wrap->plan_of_queue = false;
		(void)hf_wrap_sent(wrap, plan, sent);
		return true;
	}
	hf_turn_end(&wrap->tx_turn);
	(void)lost(slot);
	return false;
}
