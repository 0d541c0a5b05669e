/*
 * The watchdog's part in a wrapped connection: what no call of the program's does.
 */
#include "io/wrap_inner.h"
#include "runtime.h"
#include "sys.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

enum { SHAKE_MS = 4, SLOW_SHAKE_MS = 50 };

static int queue_of(int fd, unsigned long op)
{
	int bytes = 0;

	return hf_sys_ioctl(fd, op, &bytes) == 0 ? bytes : 0;
}

static uint64_t tend_handshake(struct hf_slot *slot, int fd, uint32_t me, uint64_t now)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	enum hf_shake shake;

	/* A reader is at it, and may sleep there for ever if the peer is silent: only the deadline is ours then. */
	if (!hf_wrap_take_rx(slot, fd, me, 0))
		return now + SHAKE_MS;
	shake = hf_wrap_shake(slot, fd, me, false);
	hf_turn_end(&wrap->rx_owner);
	if (shake == HF_SHAKE_PLAIN || shake == HF_SHAKE_FAILED)
		return UINT64_MAX;
	return now + (atomic_load(&wrap->phase) == HF_PHASE_CONNECT ? SLOW_SHAKE_MS : SHAKE_MS);
}

static void take_note(struct hf_wrap *wrap, uint32_t me, uint64_t now, const struct hf_evidence *evidence, int waiting)
{
	uint64_t sent = wrap->tx.sent, received = wrap->rx.received;

	hf_wrap_session_lock(wrap, me);
	if (evidence->bytes_received > wrap->seen_bytes)
		hf_session_grew(&wrap->session, now, evidence->bytes_received - wrap->seen_bytes);
	if (sent != wrap->seen_sent || waiting > 0)
		hf_session_moved(&wrap->session, now, false);
	if (received != wrap->seen_received)
		hf_session_moved(&wrap->session, now, true);
	hf_wrap_session_unlock(wrap);
	wrap->seen_bytes = evidence->bytes_received;
	wrap->seen_sent = sent;
	wrap->seen_received = received;
}

/* The tx turn is ours. */
static void beat(struct hf_slot *slot, int fd, uint32_t me, uint64_t now, const struct hf_evidence *evidence)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t payload[HF_BEAT_SIZE];
	struct hf_beat out;

	if (evidence->unread == 0)
		wrap->unread_since = now;
	hf_wrap_session_lock(wrap, me);
	if (hf_session_beat_owed(&wrap->session, now) && hf_session_may_speak(&wrap->session) &&
	    hf_tx_between(&wrap->tx)) {
		hf_session_beat_make(&wrap->session, hf_wrap_now_us(), wrap->rx.received, evidence->unread,
				     (uint32_t)(now - wrap->unread_since), &out);
		hf_beat_make(payload, &out);
		(void)hf_tx_control(&wrap->tx, HF_FRAME_BEAT, payload, sizeof(payload));
	}
	hf_wrap_session_unlock(wrap);
	(void)hf_wrap_flush(slot, fd);
}

/* Both directions have ended and everything has arrived: now the kernel's own close is safe. */
static void finish(struct hf_wrap *wrap, int fd, uint32_t me)
{
	bool closed;

	if (wrap->tx.owed_size != 0 || wrap->queued > wrap->flushed || queue_of(fd, SIOCOUTQ) > 0)
		return;
	hf_wrap_session_lock(wrap, me);
	hf_session_drained(&wrap->session);
	closed = wrap->session.state == HF_S_CLOSED;
	hf_wrap_session_unlock(wrap);
	if (closed && atomic_exchange(&wrap->real_shut_write, 1) == 0)
		hf_sys_shutdown(fd, SHUT_WR);
}

uint64_t hf_wrap_tend(struct hf_slot *slot, int fd, uint64_t now, const struct hf_evidence *evidence)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = (uint32_t)hf_sys_gettid();
	uint64_t next;

	if (wrap == NULL || atomic_load(&slot->fate) != 0)
		return UINT64_MAX;
	if (atomic_load(&wrap->phase) != HF_PHASE_ON) {
		next = tend_handshake(slot, fd, me, now);
		if (hf_wrap_of(slot) == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON)
			return next;
	}
	if (hf_wrap_take_rx(slot, fd, me, 0)) {
		(void)hf_wrap_swallow(slot, fd);
		hf_turn_end(&wrap->rx_owner);
	}
	take_note(wrap, me, now, evidence, queue_of(fd, SIOCOUTQ));
	if (hf_wrap_take_tx(slot, fd, me, 0)) {
		beat(slot, fd, me, now, evidence);
		finish(wrap, fd, me);
		hf_turn_end(&wrap->tx_owner);
	}
	next = wrap->session.beat_due;
	if (wrap->tx.owed_size != 0 || wrap->queued > wrap->flushed || wrap->shut_after_queue ||
	    wrap->session.state == HF_S_TIME_WAIT)
		next = now + SHAKE_MS;
	return next > now ? next : now + SHAKE_MS;
}

bool hf_wrap_hung(struct hf_slot *slot, uint64_t now, uint32_t timeout, const struct hf_evidence *evidence)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON)
		return false;
	return hf_session_hung(&wrap->session, now, timeout, !hf_rx_between(&wrap->rx), evidence->unread > 0);
}
