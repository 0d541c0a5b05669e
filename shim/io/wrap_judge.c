/*
 * What the hidden channel knows of the peer that the kernel does not.  Watchdog thread only, but for
 * hf_wrap_vanished() and hf_wrap_any().
 */
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/tell.h"

struct hf_policy hf_wrap_policy(struct hf_slot *slot, const struct hf_policy *policy)
{
	struct hf_policy own = *policy;
	const struct hf_wrap *wrap = hf_wrap_of(slot);

	/* Our beat would arm it, and the peer's disarm it. */
	if (wrap != NULL && atomic_load(&wrap->phase) == HF_PHASE_ON)
		own.reply_timeout = 0;
	return own;
}

void hf_wrap_pause(struct hf_slot *slot, uint64_t now)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();

	if (wrap == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON)
		return;
	hf_wrap_session_lock(wrap, me);
	hf_session_heard(&wrap->session, now);
	hf_wrap_session_unlock(wrap);
	if (wrap->owed_since != 0)
		wrap->owed_since = now;
}

bool hf_wrap_both_ended(struct hf_slot *slot)
{
	const struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && (wrap->rx.fin || wrap->rx.bye || wrap->session.peer_done) &&
	       (wrap->tx.fin || wrap->tx.bye || atomic_load(&wrap->real_shut_write) != 0);
}

bool hf_wrap_any(void)
{
	uint32_t epoch = atomic_load(hf_proc_epoch);

	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot != NULL && atomic_load(&slot->stage) != HF_STAGE_FREE && atomic_load(&slot->epoch) == epoch &&
		    hf_wrap_of(slot) != NULL)
			return true;
	}
	return false;
}

void hf_wrap_vanished(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON || wrap->rx.fin || wrap->rx.bye)
		return;
	/* To whoever has said the last word the peer owes none (hf_session_may_speak()). */
	if ((wrap->tx.bye && hf_rx_between(&wrap->rx)) || atomic_exchange(&wrap->told_vanished, 1) != 0)
		return;
	/* Between frames it may be a program that was killed, or one that left by _exit(2): worth a line only to those
	 * who want many.  Inside one, bytes are missing. */
	if (hf_rx_between(&wrap->rx) && hf_runtime.config.level < HF_INFO)
		return;
	hf_tell_now(slot, fd, HF_EV_VANISHED,
		    hf_rx_between(&wrap->rx) ? NULL : "within a piece of data, the rest of which is lost");
}

/* dead/unanswered */

void hf_wrap_note_reply(struct hf_wrap *wrap, uint64_t now, const struct hf_evidence *evidence)
{
	bool sent = wrap->tx.sent != wrap->seen_sent;
	bool received = wrap->rx.received != wrap->seen_received ||
			(evidence->bytes_received - wrap->seen_bytes) % (HF_HEADER_SIZE + HF_BEAT_SIZE) != 0;

	if (received)
		wrap->owed_since = 0;
	if (sent && (!received || evidence->age_data_sent < evidence->age_data_recv))
		wrap->owed_since = now > evidence->age_data_sent ? now - evidence->age_data_sent : now;
}

static void earlier(struct hf_ruling *ruling, uint64_t when, uint64_t now)
{
	if (when > now && when < ruling->next)
		ruling->next = when;
}

static void end_dead(struct hf_ruling *ruling, enum hf_reason reason, uint64_t silent, bool end)
{
	ruling->events |= 1U << HF_EV_DEAD;
	ruling->reason = reason;
	ruling->silent = silent;
	ruling->end = ruling->end || end;
}

static void judge_reply(struct hf_wrap *wrap, uint64_t now, const struct hf_policy *policy,
			const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	if (policy->reply_timeout == 0)
		return;
	earlier(ruling, now + policy->reply_timeout / 2, now);
	if (wrap->owed_since == 0 || evidence->unacked > 0 || evidence->notsent > 0)
		return;
	if (now - wrap->owed_since < policy->reply_timeout) {
		earlier(ruling, wrap->owed_since + policy->reply_timeout, now);
		return;
	}
	end_dead(ruling, HF_WHY_UNANSWERED, now - wrap->owed_since, policy->abort_on_unanswered);
	wrap->owed_since = 0;
}

/* dead/hung */

static void judge_hung(struct hf_wrap *wrap, const struct hf_judge *judge, uint64_t now, const struct hf_policy *policy,
		       const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	struct hf_session *session = &wrap->session;
	uint64_t last = session->heard_at > session->moved_at ? session->heard_at : session->moved_at;

	if (evidence->backoff > 0)
		hf_session_troubled(&wrap->session, now);
	/* The peer's kernel does not answer either, or has yet to be asked: the path's business. */
	if (evidence->unacked > 0 && evidence->backoff > 1)
		return;
	if (hf_judge_path_in_doubt(judge, policy, now, evidence)) {
		earlier(ruling, now + policy->timeout / 16, now);
		return;
	}
	earlier(ruling, last + policy->timeout, now);
	if (!hf_session_hung(session, now, policy->timeout, !hf_rx_between(&wrap->rx), evidence->unread > 0)) {
		wrap->hung = false;
		return;
	}
	if (!wrap->hung)
		end_dead(ruling, HF_WHY_HUNG, now - session->heard_at, policy->abort_on_dead);
	wrap->hung = true; /* told once in a silence */
}

/*
 * stalled and flowing.  The judge sees bytes that do not reach the peer's kernel, the peer's beats tell of bytes that
 * its program does not take: one stall, told once.
 */
static void judge_flow(struct hf_wrap *wrap, struct hf_slot *slot, uint64_t now, const struct hf_policy *policy,
		       struct hf_ruling *ruling)
{
	const uint32_t both = 1U << HF_EV_STALLED | 1U << HF_EV_FLOWING;
	bool was = wrap->stalled_since != 0, is;

	/* Bytes go through a window that was shut: the peer's program reads again, whatever the last beat said. */
	if ((ruling->events & 1U << HF_EV_FLOWING) != 0)
		wrap->session.peer_unread = 0;
	is = slot->judge.stalled ||
	     (policy->stall_timeout != 0 && hf_session_stalled(&wrap->session, policy->stall_timeout));
	ruling->events &= ~both;
	if (is && !was) {
		wrap->stalled_since = now;
		ruling->events |= 1U << HF_EV_STALLED;
		if (!slot->judge.stalled)
			ruling->silent = wrap->session.peer_unread_ms;
		ruling->end = ruling->end || policy->abort_on_stall;
	} else if (was && !is) {
		ruling->silent = now - wrap->stalled_since;
		wrap->stalled_since = 0;
		ruling->events |= 1U << HF_EV_FLOWING;
	}
}

/* The states of the channel that the kernel's do not show: to it the connection is established. */
static void judge_half_close(struct hf_wrap *wrap, uint64_t now, const struct hf_policy *policy,
			     struct hf_ruling *ruling)
{
	const struct hf_session *session = &wrap->session;
	bool half = !session->peer_done && (session->state == HF_S_FIN_WAIT || session->state == HF_S_CLOSE_WAIT);
	uint64_t since;

	if (!half) {
		wrap->half_since = 0;
		return;
	}
	if (wrap->half_since == 0) {
		wrap->half_since = now;
		wrap->half_told = false;
		ruling->events |= 1U << HF_EV_HALF_CLOSED;
	}
	if (policy->half_close_timeout == 0)
		return;
	since = session->moved_at > wrap->half_since ? session->moved_at : wrap->half_since;
	/* Another thread may have moved bytes since this look began. */
	if (since >= now || now - since < policy->half_close_timeout) {
		wrap->half_told = false;
		earlier(ruling, since + policy->half_close_timeout, now);
	} else if (!wrap->half_told) {
		wrap->half_told = true;
		ruling->silent = now - since;
		ruling->events |= 1U << HF_EV_HALF_CLOSE_TIMEOUT;
		ruling->end = ruling->end || policy->abort_on_half_close;
	}
}

void hf_wrap_judge(struct hf_slot *slot, uint64_t now, const struct hf_policy *policy,
		   const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON || (ruling->end && ruling->reason != HF_WHY_NONE))
		return;
	judge_flow(wrap, slot, now, policy, ruling);
	judge_half_close(wrap, now, policy, ruling);
	if (!slot->judge.dead) {
		judge_reply(wrap, now, policy, evidence, ruling);
		judge_hung(wrap, &slot->judge, now, policy, evidence, ruling);
	}
}
