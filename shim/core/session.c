#include "core/session.h"

#include "core/bytes.h"

enum { BEAT_FRAME = HF_HEADER_SIZE + HF_BEAT_SIZE };

/* The time between beats of a side that wants INTERVAL, towards one that gives up after TIMEOUT: both in ms. */
static uint32_t pace(uint32_t interval, uint32_t timeout)
{
	uint32_t longest = timeout / 3;

	if (timeout > 0 && interval > longest)
		interval = longest;
	return interval > HF_BEAT_PACE_LEAST ? interval : HF_BEAT_PACE_LEAST;
}

/* The pace and 0 to 25 % more: xorshift32, Marsaglia 2003. */
static uint64_t jittered(struct hf_session *session)
{
	uint32_t x = session->jitter;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	session->jitter = x;
	return (uint64_t)session->pace + x % (session->pace / 4 + 1);
}

void hf_session_init(struct hf_session *session, uint64_t now, uint32_t interval, uint32_t peer_interval,
		     uint32_t peer_timeout, uint32_t seed)
{
	*session = (struct hf_session){
		.state = HF_S_ESTABLISHED,
		.moved_at = now,
		.heard_at = now,
		.pace = pace(interval, peer_timeout),
		.peer_interval = peer_interval,
		.jitter = seed ? seed : 1,
	};
	session->beat_due = now + jittered(session);
}

/* Ends */

void hf_session_fin_sent(struct hf_session *session, bool seen)
{
	if (session->state == HF_S_ESTABLISHED)
		session->state = HF_S_FIN_WAIT;
	else if (session->state == HF_S_CLOSE_WAIT && session->peer_done)
		session->state = HF_S_TIME_WAIT;
	else if (session->state == HF_S_CLOSE_WAIT)
		session->state = seen ? HF_S_LAST_ACK : HF_S_CLOSING;
}

void hf_session_shut_sent(struct hf_session *session)
{
	hf_session_fin_sent(session, true);
	session->mute = true;
}

void hf_session_fin_received(struct hf_session *session, bool seen)
{
	if (session->state == HF_S_ESTABLISHED)
		session->state = HF_S_CLOSE_WAIT;
	else if (session->state == HF_S_FIN_WAIT)
		session->state = seen ? HF_S_TIME_WAIT : HF_S_CLOSING;
}

void hf_session_bye_sent(struct hf_session *session)
{
	hf_session_fin_sent(session, true);
	session->we_done = true;
}

void hf_session_peer_done(struct hf_session *session)
{
	session->peer_done = true;
	if (session->state == HF_S_ESTABLISHED)
		session->state = HF_S_CLOSE_WAIT;
	else if (session->state == HF_S_FIN_WAIT || session->state == HF_S_CLOSING || session->state == HF_S_LAST_ACK)
		session->state = HF_S_TIME_WAIT;
}

void hf_session_drained(struct hf_session *session)
{
	if (session->state == HF_S_TIME_WAIT || session->we_done)
		session->state = HF_S_CLOSED;
}

bool hf_session_may_speak(const struct hf_session *session)
{
	if (session->peer_done || session->we_done || session->mute)
		return false;
	return session->state <= HF_S_CLOSE_WAIT || (session->state == HF_S_CLOSING && !session->last_beat);
}

/* Beats */

void hf_session_heard(struct hf_session *session, uint64_t now)
{
	session->heard_at = now;
}

void hf_session_moved(struct hf_session *session, uint64_t now, bool received)
{
	session->moved_at = now;
	session->beat_due = now + jittered(session);
	/* What moved before a pause of ours is noticed after it, and must not take back the fresh time that gave. */
	if (received && now > session->heard_at)
		session->heard_at = now;
}

void hf_session_outq(struct hf_session *session, uint64_t now, uint64_t outq, uint64_t tail)
{
	uint64_t undelivered = outq > tail ? outq - tail : 0;

	if (undelivered != session->undelivered)
		session->moved_at = now;
	session->undelivered = undelivered;
	session->waiting = outq > 0;
}

void hf_session_arrived(struct hf_session *session, uint64_t now, uint64_t arrived, uint64_t unread, uint64_t received)
{
	uint64_t grown = arrived - session->arrived;
	bool moved =
		session->unread == 0 ? received != session->received || unread > 0 : grown > 2 * (uint64_t)BEAT_FRAME;

	if (unread > 0 || session->unread > 0)
		session->held_at = now;
	session->arrived = arrived;
	session->unread = unread;
	session->received = received;
	if (grown == 0)
		return;
	if (moved)
		hf_session_moved(session, now, true);
	else
		hf_session_heard(session, now);
}

/* Every number comes from the network: a round trip only if it can be one. */
static void measure(struct hf_session *session, const struct hf_beat *beat, uint64_t now_us)
{
	uint64_t rtt;

	if (beat->echo_us == 0 || beat->echo_us > now_us || beat->held_us > now_us - beat->echo_us)
		return;
	rtt = now_us - beat->echo_us - beat->held_us;
	if (rtt > UINT32_MAX)
		return;
	if (session->rtt_us > 0)
		rtt = (7 * (uint64_t)session->rtt_us + rtt) / 8; /* as RFC 6298 smooths */
	session->rtt_us = rtt > 0 ? (uint32_t)rtt : 1;
}

void hf_session_beat_received(struct hf_session *session, const struct hf_beat *beat, uint64_t now_us)
{
	session->beats_received++;
	session->heard_at = now_us / 1000;
	measure(session, beat, now_us);
	session->peer_time_us = beat->time_us;
	session->peer_came_us = now_us;
	if (beat->received > session->peer_received)
		session->peer_received = beat->received;
	session->peer_unread = beat->unread;
	session->peer_unread_ms = beat->unread_ms;
	session->peer_state = beat->state;
	if (beat->state & HF_BEAT_FIN_RECEIVED && (session->state == HF_S_CLOSING || session->state == HF_S_LAST_ACK))
		session->state = HF_S_TIME_WAIT;
}

bool hf_session_beat_owed(const struct hf_session *session, uint64_t now)
{
	if (!hf_session_may_speak(session))
		return false;
	return session->state == HF_S_CLOSING || (now >= session->beat_due && !session->waiting);
}

void hf_session_beat_make(struct hf_session *session, uint64_t now_us, uint64_t received, uint32_t unread,
			  uint32_t unread_ms, struct hf_beat *beat)
{
	static const uint8_t states[] = {
		[HF_S_FIN_WAIT] = HF_BEAT_FIN_SENT,
		[HF_S_CLOSE_WAIT] = HF_BEAT_FIN_RECEIVED,
		[HF_S_CLOSING] = HF_BEAT_FIN_SENT | HF_BEAT_FIN_RECEIVED,
		[HF_S_LAST_ACK] = HF_BEAT_FIN_SENT | HF_BEAT_FIN_RECEIVED,
		[HF_S_TIME_WAIT] = HF_BEAT_FIN_SENT | HF_BEAT_FIN_RECEIVED,
		[HF_S_CLOSED] = HF_BEAT_FIN_SENT | HF_BEAT_FIN_RECEIVED,
	};
	unsigned state = hf_once(session->state); /* it may lie where others write: core/bytes.h */

	*beat = (struct hf_beat){
		.seq = ++session->beat_seq,
		.time_us = now_us,
		.echo_us = session->peer_time_us,
		.held_us = session->peer_time_us ? now_us - session->peer_came_us : 0,
		.received = received,
		.unread = unread,
		.unread_ms = unread_ms,
		.state = state <= HF_S_CLOSED ? states[state] : 0,
	};
	session->beats_sent++;
	session->last_beat = session->state == HF_S_CLOSING;
	session->beat_due = now_us / 1000 + jittered(session);
}

uint64_t hf_session_lively_until(const struct hf_session *session, uint32_t timeout)
{
	return session->moved_at + pace(session->peer_interval, timeout) / 2;
}

/* Verdicts */

void hf_session_troubled(struct hf_session *session, uint64_t now)
{
	session->troubled_at = now;
}

bool hf_session_hung(const struct hf_session *session, uint64_t now, uint32_t timeout, bool inside, bool unread)
{
	uint64_t last = session->heard_at > session->moved_at ? session->heard_at : session->moved_at;
	uint64_t longest = 2 * (uint64_t)pace(session->peer_interval, timeout);

	if (session->held_at > last)
		last = session->held_at;
	if (inside || unread || session->peer_done || session->we_done || session->mute ||
	    (session->peer_state & HF_BEAT_SILENT) != 0 || session->state > HF_S_CLOSE_WAIT)
		return false;
	if (longest < timeout)
		longest = timeout;
	return now >= last && now - last >= longest &&
	       (session->troubled_at == 0 || now - session->troubled_at >= longest || now - last >= 2 * longest);
}

bool hf_session_stalled(const struct hf_session *session, uint32_t timeout)
{
	return session->peer_unread > 0 && session->peer_unread_ms >= timeout && !session->peer_done;
}
