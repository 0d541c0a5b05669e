#include "core/judge.h"

#include <stddef.h>
#include <string.h>

/* The kernel sends no keepalive probe before an idle connection has heard nothing for a second (TCP_KEEPIDLE >= 1). */
enum { SECOND = 1000, FIRST_PROBE_MS = SECOND };

/* Questions that must have gone unanswered before silence is called death: at 10 % loss in each direction a live peer
 * loses three in a row, with all before them, less than once in a hundred thousand spells. */
enum { QUESTIONS = 3 };

/* Linux errno values of a connection the kernel gave up; core includes no system header for them. */
enum { ERR_PIPE = 32, ERR_CONNRESET = 104 };

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t ago(uint64_t now, uint64_t age)
{
	return age < now ? now - age : 0;
}

uint32_t hf_judge_tick(const struct hf_policy *policy)
{
	return (uint32_t)most(5, least(policy->interval / 16, 250));
}

void hf_judge_init(struct hf_judge *judge, uint64_t now, bool connecting)
{
	memset(judge, 0, sizeof(*judge));
	judge->since = now;
	judge->life_at = judge->progress_at = judge->moved_at = judge->last_look = now;
	judge->connecting = connecting;
}

void hf_judge_pause(struct hf_judge *judge, uint64_t now)
{
	judge->since = judge->progress_at = judge->moved_at = now;
	judge->asked_since = 0;
	if (judge->owed_since != 0)
		judge->owed_since = now;
	judge->late = false;
}

static void event(struct hf_ruling *ruling, enum hf_event_kind kind)
{
	ruling->events |= 1U << kind;
}

static void dead(struct hf_ruling *ruling, enum hf_reason reason, bool end)
{
	event(ruling, HF_EV_DEAD);
	ruling->reason = reason;
	ruling->end = end;
}

static void look_again(struct hf_ruling *ruling, uint64_t when)
{
	ruling->next = least(ruling->next, when);
}

static bool in_flight(const struct hf_evidence *evidence)
{
	return evidence->unacked > 0;
}

/* Bytes wait and the peer's window lets none of them out: the kernel asks with window probes. */
static bool window_shut(const struct hf_evidence *evidence)
{
	return evidence->unacked == 0 && evidence->notsent > 0;
}

/* Ages are in jiffies of up to 10 ms: the same moment, looked at twice, may move so far. */
enum { JITTER_MS = 20 };

/*
 * Whether all that came since the last look is data we had already and acknowledgements of nothing new: the peer
 * repeats itself because it does not hear us.  That is no answer, though the repeats move the age of the last
 * acknowledgement.  A peer that hears us answers a probe with a segment that carries no data.
 */
static bool only_repeats(const struct hf_judge *judge, const struct hf_evidence *evidence)
{
	uint32_t segments = evidence->segs_in - judge->segs_in, data = evidence->data_segs_in - judge->data_segs_in;

	return judge->seen && segments != 0 && segments == data && evidence->bytes_acked == judge->bytes_acked &&
	       evidence->bytes_received == judge->bytes_received;
}

/* Life and movement since the last look. */
static void take_evidence(struct hf_judge *judge, uint64_t now, const struct hf_evidence *evidence)
{
	bool repeats = only_repeats(judge, evidence) || (judge->repeats && evidence->segs_in == judge->segs_in);
	uint64_t heard = ago(now, least(evidence->age_data_recv, repeats ? UINT32_MAX : evidence->age_ack_recv));
	bool acked = evidence->bytes_acked != judge->bytes_acked;
	bool received = evidence->bytes_received != judge->bytes_received;

	judge->repeats = repeats;
	/* Heard between two looks: another silence, even if it has lasted half the timeout again by now. */
	if (heard > judge->life_at + JITTER_MS)
		judge->late = judge->dead = false;
	judge->life_at = most(judge->life_at, heard);
	if (acked || (evidence->unacked == 0 && evidence->notsent == 0))
		judge->progress_at = now;
	if (acked || received)
		judge->moved_at = now;
	if (acked)
		judge->unanswered = false;
}

static void remember(struct hf_judge *judge, uint64_t now, const struct hf_evidence *evidence)
{
	judge->bytes_acked = evidence->bytes_acked;
	judge->bytes_received = evidence->bytes_received;
	judge->segs_in = evidence->segs_in;
	judge->data_segs_in = evidence->data_segs_in;
	judge->seen = true;
	judge->state = (uint8_t)evidence->state;
	judge->last_look = now;
}

/*
 * When the question now open was put.  Data: its last transmission, less the time the retransmission timer has been
 * doubling (the waits so far add up to the present timer less the first).  A keepalive probe: not before the kernel
 * sends one, after the interval in whole seconds.
 */
static uint64_t question_time(const struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			      const struct hf_evidence *evidence)
{
	uint32_t backoff = evidence->backoff < 31 ? evidence->backoff : 31;
	uint64_t doubling = (evidence->rto_us - (evidence->rto_us >> backoff)) / 1000;
	uint64_t put;

	if (in_flight(evidence))
		put = ago(now, evidence->age_data_sent + doubling);
	else if (window_shut(evidence))
		put = now;
	else
		put = judge->life_at +
		      most(((uint64_t)policy->interval + SECOND - 1) / SECOND * SECOND, FIRST_PROBE_MS);
	return least(now, most(put, most(judge->life_at, judge->since)));
}

static void take_question(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			  const struct hf_evidence *evidence)
{
	if (!in_flight(evidence) && evidence->probes == 0)
		judge->asked_since = 0;
	else if (judge->asked_since == 0 || judge->asked_since < judge->life_at)
		judge->asked_since = question_time(judge, policy, now, evidence);
}

/* How long a question must have been open: a third of the timeout, or several round trips on a slow path. */
static uint64_t fair_time(const struct hf_policy *policy, const struct hf_evidence *evidence)
{
	uint64_t usual = policy->timeout - least(policy->interval, policy->timeout / 2);

	return least(usual, most(policy->timeout / 3, 4 * (uint64_t)evidence->rtt_us / 1000));
}

/* Whether enough went unanswered, however long it took. */
static bool asked_enough(const struct hf_evidence *evidence)
{
	uint32_t data = in_flight(evidence) ? 1 + evidence->retransmits : 0;

	/* Probes left unanswered still count when the program writes after them. */
	return evidence->probes + data >= QUESTIONS;
}

/* Another question, if the kernel would send one now. */
static void ask(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
		const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	uint64_t spacing = most(policy->timeout / 16, hf_judge_tick(policy));

	if (in_flight(evidence) || evidence->notsent > 0) {
		look_again(ruling, now + spacing);
		return;
	}
	if (now < judge->life_at + FIRST_PROBE_MS) {
		look_again(ruling, judge->life_at + FIRST_PROBE_MS);
		return;
	}
	ruling->ask = true;
	if (judge->asked_since == 0)
		judge->asked_since = now;
	look_again(ruling, now + spacing);
}

/* TCP_USER_TIMEOUT as the program set it, in the kernel's place: its data has gone unanswered for so long. */
static bool own_bound_passed(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			     const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	uint64_t from = most(judge->asked_since, most(judge->life_at, judge->since));

	if (policy->data_timeout == 0 || !in_flight(evidence) || judge->asked_since == 0)
		return false;
	if (now - from < policy->data_timeout || evidence->retransmits == 0) {
		look_again(ruling, most(from + policy->data_timeout, now + hf_judge_tick(policy)));
		return false;
	}
	judge->dead = true;
	dead(ruling, HF_WHY_PATH, true);
	return true;
}

/* dead/path, late, and the questions that come before them. */
static void judge_path(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
		       const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	uint64_t heard = most(judge->life_at, judge->since);
	uint64_t silent = now - heard, half = policy->timeout / 2;
	uint64_t open = judge->asked_since != 0 ? now - judge->asked_since : 0;
	uint64_t fair = fair_time(policy, evidence);

	if (own_bound_passed(judge, policy, now, evidence, ruling))
		return;
	if (silent < half) {
		judge->late = judge->dead = false;
		look_again(ruling, heard + half);
		return;
	}
	if (silent < policy->timeout)
		judge->dead = false;
	if (judge->dead) {
		look_again(ruling, now + policy->interval);
		return;
	}
	if (!judge->late && judge->asked_since != 0 && open >= policy->timeout / 8) {
		judge->late = true;
		event(ruling, HF_EV_LATE);
	}
	if (silent >= policy->timeout && judge->asked_since != 0 && open >= fair && asked_enough(evidence)) {
		judge->dead = true;
		dead(ruling, HF_WHY_PATH, policy->abort_on_dead);
		look_again(ruling, now + policy->interval);
		return;
	}
	ask(judge, policy, now, evidence, ruling);
	if (silent < policy->timeout)
		look_again(ruling, heard + policy->timeout);
	else if (judge->asked_since != 0 && open < fair)
		look_again(ruling, judge->asked_since + fair);
}

bool hf_judge_path_in_doubt(const struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			    const struct hf_evidence *evidence)
{
	return (in_flight(evidence) || evidence->probes > 0) && now - judge->life_at >= policy->timeout / 4;
}

/* Whether our last bytes left after the peer's last ones came. */
static bool sent_after_received(const struct hf_evidence *evidence)
{
	enum { TIE_MS = 10 }; /* the kernel counts in jiffies of up to 10 ms */
	uint32_t sent = evidence->age_data_sent, received = evidence->age_data_recv;
	uint32_t apart = sent < received ? received - sent : sent - received;

	if (evidence->bytes_received == 0)
		return true; /* its age is that of the handshake */
	if (apart > TIE_MS)
		return sent < received;
	return evidence->last_call == HF_LAST_WRITE && evidence->unread == 0;
}

/* dead/unanswered: the program sent, the peer's kernel has it all, and no byte came back. */
static void judge_reply(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	bool acked = evidence->bytes_acked != judge->bytes_acked;

	if (policy->reply_timeout == 0)
		return;
	/* What was acknowledged before we first looked may have been answered long ago; ages tell all the same.
	 * 1: our SYN, on kernels that count it.  After a verdict only more bytes arm it again. */
	if (evidence->bytes_acked > 1 && !judge->unanswered)
		judge->sent = true;
	look_again(ruling, now + most(policy->reply_timeout / 2, hf_judge_tick(policy)));
	if (!judge->sent || in_flight(evidence) || evidence->notsent > 0 || !sent_after_received(evidence)) {
		judge->owed_since = 0;
		return;
	}
	if (judge->owed_since == 0)
		judge->owed_since = most(judge->since, ago(now, evidence->age_data_sent));
	else if (acked)
		judge->owed_since = most(judge->owed_since, ago(now, evidence->age_ack_recv));
	if (now - judge->owed_since < policy->reply_timeout) {
		look_again(ruling, judge->owed_since + policy->reply_timeout);
		return;
	}
	ruling->silent = now - judge->owed_since;
	dead(ruling, HF_WHY_UNANSWERED, policy->abort_on_unanswered);
	judge->sent = false; /* told once; the next bytes sent arm it again */
	judge->unanswered = true;
	judge->owed_since = 0;
}

/* stalled and flowing: the peer is alive and takes nothing. */
static void judge_flow(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
		       const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	bool waiting = evidence->unacked > 0 || evidence->notsent > 0;

	if (judge->progress_at == now && judge->stalled) {
		ruling->silent = now - judge->stalled_since;
		judge->stalled = false;
		event(ruling, HF_EV_FLOWING);
	}
	if (!waiting || policy->stall_timeout == 0 || judge->stalled) {
		if (judge->stalled)
			look_again(ruling, now + policy->interval / 4);
		return;
	}
	look_again(ruling, now + most(least(policy->interval, policy->stall_timeout / 4), hf_judge_tick(policy)));
	if (now - judge->progress_at < policy->stall_timeout) {
		look_again(ruling, judge->progress_at + policy->stall_timeout);
		return;
	}
	/* Silence is the path's business; only a peer that answers is stalled. */
	if (judge->late || judge->dead)
		return;
	judge->stalled = true;
	judge->stalled_since = judge->progress_at;
	ruling->silent = now - judge->progress_at;
	event(ruling, HF_EV_STALLED);
	ruling->end = policy->abort_on_stall;
}

static void judge_half_close(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			     const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	enum { SOON_MS = 200 };

	if (evidence->state == HF_TCP_FIN_WAIT1) /* half-closed as soon as the peer's kernel has our FIN */
		look_again(ruling, now + SOON_MS);
	if (evidence->state != HF_TCP_FIN_WAIT2 && evidence->state != HF_TCP_CLOSE_WAIT) {
		judge->half_closed = judge->half_close_told = false;
		return;
	}
	if (!judge->half_closed) {
		judge->half_closed = true;
		judge->moved_at = now;
		event(ruling, HF_EV_HALF_CLOSED);
	}
	if (policy->half_close_timeout == 0)
		return;
	if (now - judge->moved_at < policy->half_close_timeout) {
		judge->half_close_told = false;
		look_again(ruling, judge->moved_at + policy->half_close_timeout);
	} else if (!judge->half_close_told) {
		judge->half_close_told = true;
		ruling->silent = now - judge->moved_at;
		event(ruling, HF_EV_HALF_CLOSE_TIMEOUT);
		ruling->end = policy->abort_on_half_close;
	}
}

/* The kernel ended the connection with an error: did the peer reset it, or did the kernel give up? */
static bool was_reset(const struct hf_judge *judge, const struct hf_policy *policy, const struct hf_evidence *evidence,
		      uint64_t silent)
{
	if (evidence->error_seen == ERR_CONNRESET || evidence->error_seen == ERR_PIPE)
		return true;
	if (evidence->error_seen != 0)
		return false;
	/* A reset is a segment that came without being life.  Counters that ran backwards were cleared by another
	 * process's disconnect, and say nothing. */
	if (evidence->segs_in > judge->segs_in && silent < policy->timeout)
		return true;
	return evidence->segs_in == judge->segs_in ? false : silent < policy->timeout / 2;
}

static void judge_closed(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			 const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	uint64_t silent = now - most(judge->life_at, judge->since);

	ruling->gone = true;
	if (judge->connecting) {
		/* Refused, unreachable: the program is told by the kernel. Only the bound we set is ours to tell. */
		if (policy->connect_timeout != 0 && now - judge->since >= policy->connect_timeout)
			dead(ruling, HF_WHY_CONNECT, true);
		return;
	}
	if (evidence->error_seen == 0 && !evidence->error_pending)
		return; /* closed in both directions, as it should be */
	if (was_reset(judge, policy, evidence, silent))
		dead(ruling, HF_WHY_RESET, false);
	else if (!judge->dead) /* told already in this silence, if only reported */
		dead(ruling, HF_WHY_PATH, policy->abort_on_dead);
}

static void judge_connecting(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			     struct hf_ruling *ruling)
{
	enum { MOST_MS = 1000 };
	uint64_t age = now - judge->since;

	look_again(ruling, now + least(policy->interval, MOST_MS));
	if (policy->connect_timeout == 0)
		return;
	if (age >= policy->connect_timeout)
		dead(ruling, HF_WHY_CONNECT, true);
	else
		look_again(ruling, judge->since + policy->connect_timeout);
}

void hf_judge_look(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
		   const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	memset(ruling, 0, sizeof(*ruling));
	/* Nothing outstanding is due later than this: half the timeout after the last sign of life. */
	ruling->next = now + most(policy->interval, policy->timeout / 2);
	if (evidence->state == HF_TCP_CLOSE) {
		ruling->silent = now - most(judge->life_at, judge->since);
		judge_closed(judge, policy, now, evidence, ruling);
	} else if (evidence->state == HF_TCP_SYN_SENT) {
		ruling->silent = now - judge->since;
		judge_connecting(judge, policy, now, ruling);
	} else {
		if (judge->connecting)
			hf_judge_init(judge, now, false);
		take_evidence(judge, now, evidence);
		take_question(judge, policy, now, evidence);
		ruling->silent = now - most(judge->life_at, judge->since);
		judge_path(judge, policy, now, evidence, ruling);
		/* One end is enough: a dead path is not stalled, half-closed or unanswered. */
		if (!ruling->end) {
			judge_flow(judge, policy, now, evidence, ruling);
			judge_half_close(judge, policy, now, evidence, ruling);
		}
		if (!ruling->end && !judge->dead)
			judge_reply(judge, policy, now, evidence, ruling);
		remember(judge, now, evidence);
	}
	ruling->next = most(ruling->next, now + hf_judge_tick(policy));
}
