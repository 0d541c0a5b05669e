/*
 * The watchdog's part in a wrapped connection: what no call of the program's does.
 */
#include "io/adopt.h"
#include "io/dial.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/tcpinfo.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

enum { SHAKE_MS = 4, LATE_SHAKE_MS = 20, SLOW_SHAKE_MS = 50 };

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
	shake = hf_wrap_shake(slot, fd, me);
	hf_turn_end(&wrap->rx_turn);
	if (shake == HF_SHAKE_PLAIN || shake == HF_SHAKE_FAILED)
		return UINT64_MAX;
	if (atomic_load(&wrap->phase) == HF_PHASE_CONNECT)
		return now + SLOW_SHAKE_MS;
	/* Most likely a plain client that waits for its server's greeting, or for its user. */
	return now + (!wrap->client && now >= atomic_load(&wrap->soon) ? LATE_SHAKE_MS : SHAKE_MS);
}

/* When it happened, from its age: not before the last look, which did not see it. */
static uint64_t happened(const struct hf_wrap *wrap, uint64_t now, uint32_t age)
{
	return age < now - wrap->seen_at ? now - age : wrap->seen_at;
}

/*
 * What moved since the last look.  Movement is what both sides can see: bytes that arrive.  What our program takes out
 * of a queue that was full is none, for the peer learns of it late (RFC 9293, 3.8.6.2.2: no small window updates).
 */
static void take_note(struct hf_wrap *wrap, int fd, uint32_t me, uint64_t now, const struct hf_evidence *evidence)
{
	uint64_t sent = wrap->tx.sent, received = wrap->rx.received, bytes = evidence->bytes_received;

	if (wrap->seen_at == 0)
		wrap->seen_at = now;
	hf_wrap_session_lock(wrap, me);
	hf_session_outq(&wrap->session, now, (uint64_t)queue_of(fd, SIOCOUTQ), wrap->tx.tail);
	hf_session_arrived(&wrap->session,
			   bytes > wrap->seen_bytes ? happened(wrap, now, evidence->age_data_recv) : now, bytes,
			   (uint64_t)queue_of(fd, SIOCINQ), received);
	if (sent != wrap->seen_sent)
		hf_session_moved(&wrap->session, happened(wrap, now, evidence->age_data_sent), false);
	hf_wrap_session_unlock(wrap);
	if (evidence->unread == 0 || received != wrap->seen_received)
		wrap->unread_since = now;
	hf_wrap_note_reply(wrap, now, evidence);
	wrap->seen_bytes = bytes;
	wrap->seen_sent = sent;
	wrap->seen_received = received;
	wrap->seen_at = now;
}

void hf_wrap_queue_beat(struct hf_wrap *wrap, uint32_t me, uint64_t owed_at, uint32_t state, uint32_t unread,
			uint32_t unread_ms)
{
	uint8_t payload[HF_BEAT_SIZE];
	struct hf_beat out;

	hf_books_open(&wrap->tx_books_open);
	hf_wrap_session_lock(wrap, me);
	if ((owed_at == 0 || hf_session_beat_owed(&wrap->session, owed_at)) && hf_session_may_speak(&wrap->session) &&
	    hf_tx_between(&wrap->tx)) {
		hf_session_beat_make(&wrap->session, hf_wrap_now_us(), wrap->rx.received, unread, unread_ms, &out);
		out.state |= state;
		hf_beat_make(payload, &out);
		(void)hf_tx_control(&wrap->tx, HF_FRAME_BEAT, payload, sizeof(payload));
	}
	hf_wrap_session_unlock(wrap);
	hf_books_close(&wrap->tx_books_open);
}

/* The tx turn is ours. */
static void beat(struct hf_slot *slot, int fd, uint32_t me, uint64_t now)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t unread = (uint32_t)queue_of(fd, SIOCINQ); /* beats in front have been swallowed */

	hf_wrap_queue_beat(wrap, me, now, 0, unread, unread > 0 ? (uint32_t)(now - wrap->unread_since) : 0);
	hf_wrap_took_error(wrap, hf_wrap_flush(slot, fd));
}

void hf_wrap_fall_silent(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();

	if (!hf_wrap_take_tx(slot, fd, me, 20))
		return;
	hf_wrap_queue_beat(wrap, me, 0, HF_BEAT_SILENT, 0, 0);
	hf_wrap_took_error(wrap, hf_wrap_flush(slot, fd));
	hf_turn_end(&wrap->tx_turn);
}

uint64_t hf_wrap_settle_by(void)
{
	enum { SLACK_MS = 500 };
	const struct hf_config *config = &hf_runtime.config;

	return hf_wrap_now_ms() + SLACK_MS +
	       (config->hello_wait > config->hello_wait_accept ? config->hello_wait : config->hello_wait_accept);
}

void hf_wrap_settle(struct hf_slot *slot, uint64_t until)
{
	const struct timespec moment = {0, 1000000};
	uint32_t me = hf_turn_me();
	struct hf_wrap *wrap;

	while ((wrap = hf_wrap_of(slot)) != NULL &&
	       (atomic_load(&wrap->phase) != HF_PHASE_ON || hf_resume_stale(slot, wrap)) &&
	       atomic_load(&slot->fate) == 0 && hf_wrap_now_ms() < until) {
		int fd = atomic_load(&slot->fd);

		atomic_store(&wrap->spoken, 1);
		if (hf_wrap_take_rx(slot, fd, me, 20)) {
			if (atomic_load(&wrap->phase) != HF_PHASE_ON)
				(void)hf_wrap_shake(slot, fd, me);
			hf_turn_end(&wrap->rx_turn);
		}
		hf_sys_nanosleep(&moment, NULL);
	}
}

void hf_wrap_unwatched(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t phase = wrap != NULL ? atomic_load(&wrap->phase) : HF_PHASE_NONE;

	/* A handshake that nobody reads would not come to its end. */
	if (phase == HF_PHASE_HELLO || phase == HF_PHASE_REDIAL)
		hf_wrap_settle(slot, hf_wrap_settle_by());
	/* Another holder's next beat takes it back. */
	wrap = hf_wrap_of(slot);
	if (wrap != NULL && atomic_load(&wrap->phase) == HF_PHASE_ON)
		hf_wrap_fall_silent(slot, atomic_load(&slot->fd));
}

/* Both directions have ended and everything has arrived: now the kernel's own close is safe. */
static void finish(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool closed;

	if (hf_resume_broken(wrap) || hf_resume_backlog(slot, wrap) != 0 || wrap->tx.owed_size != 0 ||
	    wrap->queued > wrap->flushed || queue_of(fd, SIOCOUTQ) > 0)
		return;
	hf_wrap_session_lock(wrap, me);
	hf_session_drained(&wrap->session);
	closed = wrap->session.state == HF_S_CLOSED;
	hf_wrap_session_unlock(wrap);
	if (closed && atomic_exchange(&wrap->real_shut_write, 1) == 0)
		hf_sys_shutdown(fd, SHUT_WR);
}

/*
 * The program has shut both directions and the peer writes on: natively the first bytes are answered by a reset.  All
 * that it was to have has arrived there, and what came before the program shut reading has been read.  Both turns are
 * ours.
 */
static void refuse_more(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t shut_at = atomic_load(&wrap->shut_at);
	int error;
	socklen_t len = sizeof(error);

	if (shut_at == 0 || !wrap->tx.fin || wrap->rx.fin || wrap->rx.bye || hf_resume_of(slot) != NULL ||
	    wrap->rx_raw < shut_at - 1 || hf_rx_open(&wrap->rx) == 0 || wrap->tx.owed_size != 0 ||
	    wrap->queued > wrap->flushed || atomic_load(&wrap->ended) != 0 || atomic_load(&hf_sys_confined) ||
	    queue_of(fd, SIOCINQ) == 0 || queue_of(fd, SIOCOUTQ) != 0 || !hf_same_socket(fd, slot))
		return;
	atomic_store(&wrap->real_shut_write, 1);
	hf_wrap_session_lock(wrap, me);
	hf_session_shut_sent(&wrap->session);
	hf_session_peer_done(&wrap->session);
	hf_wrap_session_unlock(wrap);
	/* From here on the kernel does it by itself, if anything more can come. */
	hf_sys_shutdown(fd, SHUT_WR);
	if (hf_hang_up(fd) < 0)
		return; /* somebody sleeps in it (io/dial.h) */
	(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	hf_wrap_took_error(wrap, -ECONNRESET);
	atomic_store(&wrap->ended, 1);
	hf_sys_shutdown(fd, SHUT_RDWR); /* readable, as after a reset: tcp_poll() */
}

/* The kernel's own end of the peer's direction has come: no more beats to a socket that may be closed. */
static bool peer_ended(const struct hf_evidence *evidence)
{
	return hf_tcp_peer_ended((int)evidence->state) || evidence->state == HF_TCP_TIME_WAIT;
}

/* It has.  WRITING: somebody else may be. */
static void note_end(struct hf_slot *slot, int fd, uint32_t me, bool writing)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	/* An end that no frame announced is that of a path (io/resume.h).  But the peer may have our last word already,
	 * and have answered it, before who says it has written that down. */
	if (writing && hf_resume_of(slot) != NULL && (wrap->session.state >= HF_S_CLOSING || wrap->tx.bye))
		return;
	if (hf_resume_unannounced(slot, fd) && hf_resume_lost(slot, 0))
		return;
	/* What is unread may hold the frame that says so. */
	if (hf_resume_of(slot) != NULL && queue_of(fd, SIOCINQ) != 0)
		return;
	if (!wrap->session.peer_done) {
		hf_wrap_session_lock(wrap, me);
		hf_session_peer_done(&wrap->session);
		hf_wrap_session_unlock(wrap);
	}
	if (queue_of(fd, SIOCINQ) == 0)
		hf_wrap_vanished(slot, fd);
}

/*
 * Bytes that went past the library show in the kernel's ledger before the peer stumbles over them.  Both turns are
 * ours; no answer while the numbers move.
 */
static bool ledger_agrees(struct hf_wrap *wrap, int fd)
{
	struct hf_tcp_info before, after;
	socklen_t len = sizeof(before), len_after = sizeof(after);
	uint64_t in, out;

	memset(&before, 0, sizeof(before));
	memset(&after, 0, sizeof(after));
	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &before, &len) < 0)
		return true;
	in = (uint64_t)queue_of(fd, SIOCINQ);
	out = (uint64_t)queue_of(fd, SIOCOUTQ);
	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &after, &len_after) < 0 || before.state != after.state ||
	    (after.state != HF_TCP_ESTABLISHED && after.state != HF_TCP_CLOSE_WAIT) ||
	    before.bytes_received != after.bytes_received || before.bytes_acked != after.bytes_acked)
		return true;
	/* The peer's FIN counts one. */
	if (after.state == HF_TCP_CLOSE_WAIT && before.bytes_received - in == wrap->rx_raw + 1)
		in++;
	return before.bytes_received - in == wrap->rx_raw &&
	       before.bytes_acked + out - (wrap->client ? 1 : 0) == wrap->tx_raw;
}

static void check_ledger(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (now - wrap->ledger_at < wrap->session.pace)
		return;
	wrap->ledger_at = now;
	/* In a child forked beside busy threads the number may be another connection's: that says nothing of this one.
	 */
	if (!ledger_agrees(wrap, fd) && hf_same_socket(fd, slot))
		hf_wrap_fail(slot, EPROTO);
}

/* The program has ended both directions, the kernel so far only ours (io/wrap_close.c): when all has arrived, and its
 * FIN, no beat can come any more, and whoever sleeps in a read or waits is woken. */
static void end_reading(struct hf_wrap *wrap, int fd)
{
	uint8_t asked = HF_SHUT_ASKED;
	int state = hf_tcp_state(fd);

	if (state != TCP_ESTABLISHED && state != TCP_FIN_WAIT1 && state != TCP_CLOSE_WAIT &&
	    atomic_compare_exchange_strong(&wrap->shut_read, &asked, 1))
		hf_sys_shutdown(fd, SHUT_RD);
}

/* How long no beat can come, if it is not for a moment only: visits cost more than waits.  Returns when the next visit
 * is due, which has to be before that is over: NEXT, or earlier. */
static uint64_t say_lively(struct hf_wrap *wrap, uint64_t now, uint64_t next)
{
	uint64_t until = hf_session_lively_until(&wrap->session, hf_runtime.policy.timeout);
	bool lively = until > now + (until - wrap->session.moved_at) / 4 && wrap->session.state == HF_S_ESTABLISHED;

	atomic_store(&wrap->lively_until, lively ? until : 0);
	return lively && until < next ? until : next;
}

static uint64_t tend(struct hf_slot *slot, int fd, uint64_t now, const struct hf_evidence *evidence)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();
	uint64_t next;
	bool ours, writing;

	if (wrap == NULL || atomic_load(&slot->fate) != 0)
		return UINT64_MAX;
	if (atomic_load(&wrap->phase) != HF_PHASE_ON) {
		next = tend_handshake(slot, fd, me, now);
		if (hf_wrap_of(slot) == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON)
			return next;
	}
	ours = hf_wrap_take_rx(slot, fd, me, 0);
	if (ours) {
		hf_wrap_took_error(wrap, hf_wrap_swallow(slot, fd));
		/* A holder in a sandbox has met the peer's end and could not say so. */
		if ((wrap->rx.fin || wrap->rx.bye) && atomic_exchange(&wrap->shut_read, 1) == 0)
			hf_sys_shutdown(fd, SHUT_RD);
	}
	take_note(wrap, fd, me, now, evidence);
	writing = !hf_wrap_take_tx(slot, fd, me, 0);
	if (peer_ended(evidence))
		note_end(slot, fd, me, writing);
	if (!writing) {
		if (!peer_ended(evidence))
			beat(slot, fd, me, now);
		else
			hf_wrap_took_error(wrap, hf_wrap_flush(slot, fd));
		finish(slot, fd, me);
		if (ours)
			refuse_more(slot, fd, me);
		if (ours)
			check_ledger(slot, fd, now);
		hf_turn_end(&wrap->tx_turn);
	}
	if (ours)
		hf_turn_end(&wrap->rx_turn);
	if (hf_unlikely(atomic_load(&wrap->shut_read) == HF_SHUT_ASKED))
		end_reading(wrap, fd);
	next = say_lively(wrap, now, wrap->session.beat_due);
	if (hf_unlikely(atomic_load(&wrap->shut_read) == HF_SHUT_ASKED) && next > now + SLOW_SHAKE_MS)
		next = now + SLOW_SHAKE_MS;
	if (wrap->tx.owed_size != 0 || wrap->queued > wrap->flushed || wrap->shut_after_queue ||
	    hf_resume_backlog(slot, wrap) != 0 || atomic_load(&wrap->starved) != 0 ||
	    wrap->session.state == HF_S_TIME_WAIT || (writing && peer_ended(evidence)))
		next = now + SHAKE_MS;
	return next > now ? next : now + SHAKE_MS;
}

uint64_t hf_wrap_tend(struct hf_slot *slot, int fd, uint64_t now, const struct hf_evidence *evidence)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t next = UINT64_MAX;

	if (wrap == NULL)
		return next;
	/* Announce, then look; hf_wrap_leave() does it the other way round: either it waits for us or we see it. */
	atomic_store(&hf_rare(slot)->tended, atomic_load(hf_proc_epoch));
	if (atomic_load(&slot->closed) == 0 && atomic_load(&slot->fd) == fd)
		next = tend(slot, fd, now, evidence);
	atomic_store(&hf_rare(slot)->tended, 0);
	return next;
}
