/*
 * The ends of a wrapped connection: shutdown and close.
 */
#include "io/adopt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/family.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/tcpinfo.h"
#include "watch/watch.h"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

/*
 * A small last frame would wait for the acknowledgement of the bytes before it (Nagle), up to 200 ms; the kernel's own
 * FIN does not.  Setting TCP_NODELAY pushes what is queued (tcp(7)).
 */
static void push(int fd)
{
	int on = 1, program = 0;
	socklen_t len = sizeof(program);

	(void)hf_sys_getsockopt(fd, SOL_TCP, TCP_NODELAY, &program, &len);
	if (hf_sys_setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 && program == 0)
		(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_NODELAY, &program, sizeof(program));
}

/*
 * Before it is connected and after a reset there is nothing to say in frames: the kernel's own answer is the one.  But
 * what the kernel says while a plain peer is being called again is of no connection the program knows.
 */
static bool has_peer(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t phase = atomic_load(&wrap->phase);
	int state;

	if (wrap->client && (phase == HF_PHASE_HELLO || phase == HF_PHASE_REDIAL))
		return true;
	state = hf_tcp_state(fd);
	if (state != TCP_SYN_SENT && state != TCP_CLOSE)
		return true;
	/* It may just have been lost, or be on its way to go on; or have gone on since we looked. */
	return hf_resume_of(slot) != NULL &&
	       (hf_resume_met(slot, fd) || (hf_tcp_state(fd) != TCP_CLOSE && hf_tcp_state(fd) != TCP_SYN_SENT));
}

/*
 * With both directions shut the peer's next beat would be answered by a reset, which destroys what is on its way: where
 * the kernel has ended our direction already, it learns of this end when all has arrived (io/wrap_tend.c).
 */
static void shut_reading(struct hf_wrap *wrap, int fd)
{
	bool ask = atomic_load(&wrap->real_shut_write) != 0;
	uint8_t none = 0;

	if (atomic_compare_exchange_strong(&wrap->shut_read, &none, ask ? HF_SHUT_ASKED : 1) && !ask &&
	    !hf_resume_broken(wrap))
		hf_sys_shutdown(fd, SHUT_RD);
}

/* Whether the turn for writing can be taken from who has it, and the connection lives. */
static bool may_cut(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && hf_resume_of(slot) == NULL && hf_wrap_fate(slot) == 0 &&
	       atomic_load(&wrap->phase) == HF_PHASE_ON && wrap->queued == wrap->flushed;
}

/* Who has the turn waits for room, and not for a processor. */
static bool is_full(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return hf_sys_poll(&p, 1, 0) == 0;
}

/*
 * Somebody sleeps in a write, whose frame is open.  The kernel's own end wakes him, as it would natively; behind bytes
 * of an open frame no other can be said, and it tells the peer as much: all that the kernel has taken, then the end.
 * Not where another connection could take the rest.  BOTH: reading ends, too.
 */
static void cut_off(struct hf_slot *slot, int fd, uint32_t me, bool both)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (atomic_exchange(&wrap->real_shut_write, 1) == 0) {
		hf_sys_shutdown(fd, SHUT_WR);
		hf_wrap_session_lock(wrap, me);
		hf_session_shut_sent(&wrap->session);
		hf_wrap_session_unlock(wrap);
	}
	if (both)
		shut_reading(wrap, fd);
	hf_watch_poke(slot);
}

/* The program has shut reading, or writing. */
static void note_shut(struct hf_wrap *wrap, int fd, int how)
{
	struct hf_tcp_info info = {0};
	socklen_t len = sizeof(info);
	uint64_t none = 0;

	if (how != SHUT_WR)
		atomic_store(&wrap->reads_no_more, 1);
	if (how != SHUT_RD ? atomic_load(&wrap->reads_no_more) == 0 : !wrap->tx.fin && !wrap->shut_after_queue)
		return;
	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) == 0)
		atomic_compare_exchange_strong(&wrap->shut_at, &none, info.bytes_received + 1);
}

int hf_wrap_shutdown(struct hf_slot *slot, int fd, int how, bool *plain)
{
	enum { PATIENCE_MS = 20 };
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();
	bool ours = false;

	*plain = wrap == NULL || how < SHUT_RD || how > SHUT_RDWR || !has_peer(slot, fd);
	if (*plain)
		return 0;
	if (how != SHUT_RD)
		atomic_store(&wrap->spoken, 1);
	if (atomic_load(&wrap->phase) == HF_PHASE_CONNECT || atomic_load(&wrap->phase) == HF_PHASE_HELLO) {
		/* What comes first may show that the connection is plain. */
		if (hf_wrap_take_rx(slot, fd, me, 20)) {
			enum hf_shake shake = hf_wrap_shake(slot, fd, me);

			hf_turn_end(&wrap->rx_turn);
			*plain = shake == HF_SHAKE_PLAIN;
			if (*plain)
				return 0;
		}
	}
	while (how != SHUT_RD && !(ours = hf_wrap_take_tx(slot, fd, me, PATIENCE_MS)) && may_cut(slot)) {
		if (is_full(fd)) {
			cut_off(slot, fd, me, how == SHUT_RDWR);
			return 0;
		}
	}
	if (how != SHUT_WR)
		shut_reading(wrap, fd);
	if (how == SHUT_RD) {
		note_shut(wrap, fd, how);
		hf_watch_poke(slot);
		return 0;
	}
	if (!ours && !hf_wrap_take_tx(slot, fd, me, -1)) {
		*plain = hf_wrap_of(slot) == NULL;
		return 0;
	}
	if (!wrap->tx.fin && !wrap->tx.bye && atomic_load(&wrap->real_shut_write) == 0)
		wrap->shut_after_queue = true;
	if (atomic_load(&wrap->phase) == HF_PHASE_ON)
		hf_wrap_took_error(wrap, hf_wrap_flush(slot, fd));
	hf_turn_end(&wrap->tx_turn);
	push(fd);
	note_shut(wrap, fd, how);
	hf_watch_poke(slot);
	return 0;
}

static int outstanding(int fd)
{
	int bytes = 0;

	return hf_sys_ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/* The last word, if it may still be said and is known to be the last. The tx turn is ours. */
static void say_bye(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap->tx.bye || wrap->queued > wrap->flushed || !hf_tx_between(&wrap->tx))
		return;
	hf_books_open(&wrap->tx_books_open);
	hf_wrap_session_lock(wrap, me);
	if (hf_session_may_speak(&wrap->session))
		(void)hf_tx_control(&wrap->tx, HF_FRAME_BYE, NULL, 0);
	hf_session_bye_sent(&wrap->session);
	hf_wrap_session_unlock(wrap);
	hf_books_close(&wrap->tx_books_open);
	(void)hf_wrap_flush(slot, fd);
	push(fd);
}

/*
 * Everything has arrived.  A beat that the peer sent before it knew may still be on its way, and a closed socket would
 * answer it with a reset: the peer's program would be told of an error where natively there is none.  So, unless
 * something moved so lately that no beat can be: the kernel's FIN first, which ends the peer's beats, and the close
 * when the peer has ended too or what was on its way must have come.  (After SHUT_RD no SHUT_WR: that too would reset.)
 */
static bool quiet(struct hf_slot *slot, int fd)
{
	enum { GRACE_MS = 25 };
	struct hf_wrap *wrap = hf_wrap_of(slot);
	const struct hf_session *session = &wrap->session;
	uint64_t now = hf_wrap_now_ms();
	struct hf_tcp_info info;
	socklen_t len = sizeof(info);

	if (session->peer_done || session->state >= HF_S_TIME_WAIT)
		return true;
	if (wrap->settled_at == 0) {
		if (now - session->moved_at < session->pace / 2 && session->state != HF_S_CLOSING)
			return true;
		wrap->settled_at = now;
		if (atomic_load(&wrap->shut_read) == 0 && atomic_exchange(&wrap->real_shut_write, 1) == 0)
			hf_sys_shutdown(fd, SHUT_WR);
	}
	memset(&info, 0, sizeof(info));
	(void)hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len);
	return now - wrap->settled_at >= GRACE_MS + 2 * (uint64_t)info.rtt / 1000;
}

bool hf_wrap_buried(struct hf_slot *slot)
{
	uint8_t stage = atomic_load(&slot->stage);

	return stage == HF_STAGE_CLOSED || stage == HF_STAGE_FREE || hf_wrap_of(slot) == NULL || !hf_wrap_stays(slot);
}

/* Our last words, as far as the kernel takes them; true when it has them all and they have arrived. */
bool hf_wrap_settled_tx(struct hf_slot *slot, int fd, uint32_t me, bool last)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (!hf_wrap_take_tx(slot, fd, me, 0))
		return hf_wrap_buried(slot);
	if (hf_wrap_buried(slot)) {
		hf_turn_end(&wrap->tx_turn);
		return true;
	}
	(void)hf_wrap_flush(slot, fd);
	if (last)
		say_bye(slot, fd, me);
	hf_turn_end(&wrap->tx_turn);
	/* Broken just now: a frame was open that the program never filled, and the end goes over another connection. */
	if (wrap->queued != wrap->flushed || wrap->tx.owed_size != 0 || outstanding(fd) != 0 ||
	    hf_resume_backlog(slot, wrap) != 0 || hf_resume_broken(wrap))
		return false;
	return !last || quiet(slot, fd);
}

/* Whether the kernel's own FIN has come: then nothing more does, and a frame of ours would meet a reset. */
static bool peer_ended(int fd)
{
	return hf_tcp_peer_ended(hf_tcp_state(fd));
}

/*
 * Not before everything has arrived: a beat of the peer's that met a closed socket would be answered by a reset, and
 * the reset would destroy what is still on its way (measured: 3 MiB sent, 110 KiB arrived).
 */
int hf_wrap_settled(struct hf_slot *slot, int fd, uint32_t me, bool last)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int ready;

	if (atomic_load(&wrap->phase) != HF_PHASE_ON || hf_resume_broken(wrap)) {
		enum hf_shake shake;

		atomic_store(&wrap->spoken, 1);
		shake = hf_wrap_shake(slot, fd, me);
		if (shake == HF_SHAKE_PLAIN || shake == HF_SHAKE_FAILED)
			return -1;
		if (shake != HF_SHAKE_ON)
			return 0;
	}
	ready = hf_wrap_swallow(slot, fd);
	if (ready == 1 && !wrap->rx.fin && !wrap->rx.bye && atomic_load(&wrap->ended) == 0)
		return -1;
	if (ready < 0)
		return -1;
	/* Reset, and the program has collected the error: what we still have to say nobody will take. */
	if (hf_tcp_state(fd) == TCP_CLOSE)
		return hf_resume_lost(slot, ECONNRESET) ? 0 : -1;
	if (peer_ended(fd)) {
		if (hf_resume_of(slot) != NULL) {
			bool lost;

			if (!hf_wrap_take_tx(slot, fd, me, 0))
				return hf_wrap_buried(slot);
			lost = !hf_wrap_buried(slot) && hf_resume_unannounced(slot, fd) && hf_resume_lost(slot, 0);
			hf_turn_end(&wrap->tx_turn);
			if (lost)
				return 0;
		}
		hf_wrap_session_lock(wrap, me);
		hf_session_peer_done(&wrap->session);
		hf_wrap_session_unlock(wrap);
		hf_wrap_vanished(slot, fd);
	}
	return hf_wrap_settled_tx(slot, fd, me, last);
}

/* The registrations would outlive the number while the watchdog's duplicate keeps the socket (epoll(7)). */
static bool leave_epolls(struct hf_slot *slot, int fd)
{
	struct epoll_event none = {0};

	for (size_t i = 0; i < sizeof(hf_rare(slot)->epolls) / sizeof(hf_rare(slot)->epolls[0]); i++) {
		int ep = atomic_load(&hf_rare(slot)->epolls[i]);

		if (ep < 0)
			return false; /* more than we could note */
		if (ep > 0)
			(void)hf_sys_epoll_ctl(ep - 1, EPOLL_CTL_DEL, fd, &none);
	}
	return true;
}

bool hf_wrap_lingers(int fd, int *seconds)
{
	struct linger linger = {0, 0};
	socklen_t len = sizeof(linger);

	(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len);
	*seconds = linger.l_linger;
	return linger.l_onoff != 0;
}

/*
 * A thread is in a read of FD, and may sleep there for ever: to the kernel the socket stays open for as long, and the
 * peer learns of no end.  So it does in the channel.
 */
static int left_to_sleeper(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int kept;

	if (wrap == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON || atomic_load(&slot->fate) != 0)
		return -1;
	hf_wrap_leave(slot, true);
	if (!leave_epolls(slot, fd) || (kept = hf_keep(slot, fd)) < 0)
		return -1;
	atomic_store(&slot->left, 1);
	return kept;
}

int hf_wrap_part_confined(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (hf_wrap_let_go(slot) == HF_LEFT_LAST && hf_wrap_take_tx(slot, fd, me, 0)) {
		(void)hf_wrap_flush(slot, fd);
		say_bye(slot, fd, me);
		hf_turn_end(&wrap->tx_turn);
	}
	return -1;
}

/*
 * The kernel is about to reset the connection, because the program wants it or because bytes are unread.  To a peer
 * that might resume it would look like a path that broke.
 */
static void say_abort(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap == NULL || hf_resume_of(slot) == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON ||
	    hf_resume_broken(wrap) || hf_tcp_state(fd) == TCP_CLOSE || !hf_wrap_take_tx(slot, fd, me, 0))
		return;
	atomic_store(&hf_resume_of(slot)->aborted, 1);
	hf_books_open(&wrap->tx_books_open);
	(void)hf_tx_abort(&wrap->tx);
	hf_books_close(&wrap->tx_books_open);
	(void)hf_wrap_flush(slot, fd);
	push(fd);
	hf_turn_end(&wrap->tx_turn);
}

void hf_wrap_abort(struct hf_slot *slot, int fd)
{
	/* Said or not: the end that the kernel will show is no path's. */
	if (hf_resume_of(slot) != NULL)
		atomic_store(&hf_resume_of(slot)->aborted, 1);
	say_abort(slot, fd, hf_turn_me());
}

/* We let go of it and cannot tell whether anybody else has it; or we have it still, after all. */
void hf_wrap_may_end(struct hf_slot *slot, int fd, uint32_t me, bool may)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (hf_resume_of(slot) == NULL || atomic_load(&wrap->phase) != HF_PHASE_ON || hf_resume_broken(wrap) ||
	    !hf_wrap_take_tx(slot, fd, me, 0))
		return;
	hf_wrap_queue_beat(wrap, me, 0, may ? HF_BEAT_MAY_END : 0, 0, 0);
	(void)hf_wrap_flush(slot, fd);
	hf_turn_end(&wrap->tx_turn);
}

/*
 * There is no descriptor to be had to keep it by (or it is registered in more epolls than we know of): what the
 * program has written must go out before the close.  As at exit: no longer than HOLDFAST_LINGER, and what then is
 * still here is not to look like an end.  The rx turn is ours.
 */
static void settle_here(struct hf_slot *slot, int fd, uint32_t me)
{
	const struct timespec moment = {0, 1000000};
	const struct linger reset = {1, 0};
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t deadline = hf_wrap_now_ms() + hf_runtime.config.linger;
	int settled = 0;

	while (settled == 0 && hf_wrap_of(slot) != NULL && hf_wrap_fate(slot) == 0) {
		enum hf_left left = hf_wrap_try_let_go(slot);

		if (left != HF_LEFT_EXPECTED && hf_hold_others(&wrap->conn, hf_family_me()))
			return; /* nothing ends */
		settled = hf_wrap_settled(slot, fd, me, left == HF_LEFT_LAST);
		if (settled == 0 && hf_wrap_now_ms() >= deadline)
			break;
		if (settled == 0)
			hf_sys_nanosleep(&moment, NULL);
	}
	if (settled == 0 && hf_wrap_of(slot) != NULL && wrap->queued > wrap->flushed)
		(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

int hf_wrap_close(struct hf_slot *slot, int fd)
{
	/* A reader may sleep for ever; while no frames flow it is the watchdog, if it gets a processor. */
	enum { PATIENCE_MS = 20, WATCHDOG_MS = 2000 };
	struct hf_wrap *wrap = hf_wrap_of(slot);
	const struct linger reset = {1, 0};
	uint32_t me = hf_turn_me();
	enum hf_left left;
	bool lingers;
	int settled, seconds, kept = -1;

	/* What was broken off must not look like an end to the peer. */
	if (wrap != NULL && atomic_load(&slot->fate) == EPROTO)
		(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (wrap == NULL || atomic_load(&slot->fate) != 0)
		return -1;
	if (atomic_load(&hf_sys_confined))
		return hf_wrap_part_confined(slot, fd, me);
	if (hf_hold_others(&wrap->conn, hf_family_me()) && hf_wrap_try_let_go(slot) == HF_LEFT_OTHERS)
		return -1; /* nothing ends */
	lingers = hf_wrap_lingers(fd, &seconds);
	if (lingers && seconds == 0) {
		say_abort(slot, fd, me); /* the program wants a reset */
		return -1;
	}
	if (!hf_wrap_take_rx(slot, fd, me, atomic_load(&wrap->phase) == HF_PHASE_ON ? PATIENCE_MS : WATCHDOG_MS))
		return left_to_sleeper(slot, fd);
	left = hf_wrap_try_let_go(slot);
	settled = hf_wrap_settled(slot, fd, me, left == HF_LEFT_LAST);
	if (settled < 0 && left != HF_LEFT_EXPECTED)
		say_abort(slot, fd, me);
	else if (settled >= 0 && (left == HF_LEFT_DOUBT || left == HF_LEFT_EXPECTED))
		hf_wrap_may_end(slot, fd, me, true);
	/* Whether this is the end will soon be known, and the last word be said then. */
	if (left == HF_LEFT_EXPECTED && settled > 0)
		settled = 0;
	/* The kernel would wait for what it has, but not for what waits here for the handshake. */
	if (settled == 0 && lingers && atomic_load(&wrap->phase) == HF_PHASE_ON && wrap->queued == wrap->flushed)
		settled = 1;
	if (settled == 0) {
		/* The watchdog could put another connection under the number meanwhile, registrations and all. */
		hf_wrap_leave(slot, true);
		kept = leave_epolls(slot, fd) ? hf_keep(slot, fd) : -1;
		if (kept < 0)
			settle_here(slot, fd, me);
	}
	hf_turn_end(&wrap->rx_turn);
	return kept;
}

bool hf_wrap_drained(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();
	enum hf_left left;
	int settled = 0;

	if (wrap == NULL || !hf_wrap_stays(slot) || hf_wrap_fate(slot) != 0)
		return true;
	left = hf_wrap_try_let_go(slot);
	/* Somebody it was handed to has come forward: it is theirs. */
	if (left != HF_LEFT_EXPECTED && hf_hold_others(&wrap->conn, hf_family_me()))
		return true;
	/* As in hf_wrap_tend(). */
	atomic_store(&hf_rare(slot)->tended, atomic_load(hf_proc_epoch));
	if (atomic_load(&slot->fd) == fd && hf_wrap_take_rx(slot, fd, me, 0)) {
		settled = hf_wrap_stays(slot) ? hf_wrap_settled(slot, fd, me, left == HF_LEFT_LAST) : 1;
		/* More has come, that nobody will read: as in hf_wrap_close(). */
		if (settled < 0 && left != HF_LEFT_EXPECTED && !wrap->tx.bye)
			say_abort(slot, fd, me);
		hf_turn_end(&wrap->rx_turn);
	}
	atomic_store(&hf_rare(slot)->tended, 0);
	return settled != 0 && left != HF_LEFT_EXPECTED;
}
