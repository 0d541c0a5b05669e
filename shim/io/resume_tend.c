/*
 * The watchdog's turn at a broken connection: out of the old one, and on with the new.
 */
#include "core/bytes.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/socket.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { STEP_MS = 4 };

/* Keys and greetings */

void hf_resume_keys(const struct hf_wrap *wrap, uint8_t key[HF_CHECK_SIZE], uint8_t name[HF_SESSION_SIZE])
{
	hf_resume_key(key, &hf_runtime.key, wrap->id);
	hf_resume_name(name, key);
}

void hf_resume_hello(struct hf_slot *slot, uint8_t out[HF_HELLO_SIZE], uint32_t flags, const uint8_t *client_nonce)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_hello mine = {
		.version = HF_WIRE_VERSION,
		.flags = flags | HF_HELLO_RESUME,
		.interval = hf_runtime.config.interval,
		.timeout = hf_runtime.config.timeout,
		.buffer = hf_runtime.config.resume_buffer,
		.pid = (uint32_t)hf_sys_getpid(),
		.offset = hf_resume_expects(&wrap->rx),
	};
	uint8_t bytes[HF_CHECK_SIZE];
	const struct hf_key key = {bytes, sizeof(bytes)};

	hf_resume_keys(wrap, bytes, mine.session);
	/* Without random numbers another one than the last will do: a proof must not fit twice. */
	if (hf_sys_getrandom(resume->nonce, sizeof(resume->nonce), 0) != (long)sizeof(resume->nonce))
		hf_put64(resume->nonce, hf_get64(resume->nonce) + 1);
	memcpy(mine.nonce, resume->nonce, sizeof(mine.nonce));
	hf_hello_make(out, &mine, &key, client_nonce);
	hf_forget(bytes, sizeof(bytes));
}

/* Out of the old connection */

/*
 * A filter that lets nothing through: segments that come are dropped before TCP sees them, and so acknowledged by
 * nobody.  What is acknowledged and not taken out would be lost: the peer keeps it no longer.
 */
void hf_resume_fence(int fd)
{
	struct sock_filter nothing = {.code = BPF_RET | BPF_K, .k = 0};
	const struct sock_fprog program = {.len = 1, .filter = &nothing};

	(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

void hf_resume_unfence(int fd)
{
	int nothing = 0;

	(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &nothing, sizeof(nothing));
}

/* Room for MORE bytes behind END. */
static bool inbox_room(struct hf_slot *slot, size_t end, size_t more)
{
	size_t size, room_size;
	uint8_t *had = hf_resume_inbox_at(slot, &size), *own = atomic_load(&hf_rare(slot)->inbox), *room;

	if (end > size)
		return false;
	if (more <= size - end)
		return true;
	/* Not where all who share it would find it. */
	if (hf_resume_shared(slot))
		return false;
	room_size = (end + more + 0xffff) & ~(size_t)0xffff;
	room = hf_sys_mmap(NULL, room_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (hf_sys_failed(room))
		return false;
	if (had != NULL)
		memcpy(room, had, end);
	hf_rare(slot)->inbox_size = room_size;
	atomic_store(&hf_rare(slot)->inbox, room);
	if (own != NULL)
		hf_sys_munmap(own, size);
	return true;
}

/* Everything the old connection has brought into the inbox. False: it makes no sense, or there is no room. */
static bool drain(struct hf_slot *slot, int fd)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);

	for (;;) {
		size_t end = atomic_load(&resume->inbox_end), size, bytes;
		struct hf_rx_news news;
		int waiting = 0;
		uint8_t *to;
		long got;

		(void)hf_sys_ioctl(fd, SIOCINQ, &waiting);
		if (!inbox_room(slot, end, (size_t)(waiting > 0 ? waiting : 0) + 4096))
			return false;
		to = hf_resume_inbox_at(slot, &size) + end;
		got = hf_sys_recvfrom(fd, to, size - end, MSG_DONTWAIT, NULL, NULL);
		if (got <= 0)
			break;
		bytes = hf_rx_squeeze(&wrap->rx, to, (size_t)got, &news);
		atomic_store(&resume->inbox_end, end + bytes);
		if (!hf_wrap_news(slot, fd, &news))
			return false;
	}
	if (hf_resume_inbox(slot) == 0)
		hf_resume_drop_inbox(slot, resume);
	hf_resume_count_inbox(slot);
	atomic_store(&wrap->inbox_left, hf_resume_inbox(slot));
	return true;
}

static void tell(struct hf_slot *slot, enum hf_event_kind kind, uint64_t down, uint64_t resent)
{
	struct hf_resume *resume = hf_resume_of(slot);

	hf_tell_resume(slot, kind, resume->error == ECONNRESET || resume->error == EPIPE ? HF_WHY_RESET : HF_WHY_PATH,
		       down, resent);
}

/* The peer has let go of it and could not know whether it was the last: so this may be how its kernel closed. */
static bool may_be_end(const struct hf_wrap *wrap, int error)
{
	return (error == 0 || error == ECONNRESET || error == EPIPE) &&
	       (wrap->session.peer_state & HF_BEAT_MAY_END) != 0;
}

/* Nobody is in a call on it, nothing more comes: what has come is taken, and frames begin afresh. */
static uint64_t settle(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (!drain(slot, fd)) {
		hf_wrap_fail(slot, EPROTO);
		hf_wake_all(&resume->word);
		return UINT64_MAX;
	}
	if (wrap->rx.bye || wrap->session.peer_done || wrap->tx.sent > resume->ring.end ||
	    hf_resume_complete(slot, wrap) || may_be_end(wrap, resume->error)) {
		/* It cannot be resumed after all: the old end is the end, in the kernel's own words. */
		hf_resume_give_up(slot, fd, now, resume->error);
		return UINT64_MAX;
	}
	hf_resume_break(&wrap->rx, &wrap->tx, &resume->ring);
	wrap->rx_raw = wrap->tx_raw = 0;
	wrap->rx_caught_at = UINT64_MAX;
	wrap->ahead = 0;
	atomic_store(&wrap->phase, HF_PHASE_BROKEN);
	if (hf_resume_inbox(slot) != 0 || wrap->rx.fin)
		hf_epoll_again(slot);
	resume->step = HF_STEP_REST;
	resume->next_at = now;
	resume->tries = 0;
	if (wrap->client)
		hf_resume_hang_up(fd);
	hf_wake_all(&resume->word);
	return now;
}

static uint64_t leave_old(struct hf_slot *slot, int fd, uint64_t now)
{
	enum { AGAIN_MS = 2 };
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();
	uint64_t next = now + AGAIN_MS;

	if (!resume->fenced) {
		resume->fenced = true;
		hf_resume_fence(fd);
		/* Whoever sleeps in the kernel's calls comes out, and waits with us. */
		hf_sys_shutdown(fd, SHUT_RDWR);
		return next; /* a segment that was past the filter already is in the queue by then */
	}
	if (!hf_wrap_take_rx(slot, fd, me, 0))
		return hf_wrap_fate(slot) != 0 ? UINT64_MAX : next;
	if (hf_wrap_take_tx(slot, fd, me, 0)) {
		next = settle(slot, fd, now);
		hf_turn_end(&wrap->tx_turn);
	}
	hf_turn_end(&wrap->rx_turn);
	/* Nobody waits for a turn while that is written. */
	if (resume->step == HF_STEP_REST)
		tell(slot, HF_EV_BROKEN, 0, 0);
	return next;
}

/* On with the new one */

static void over(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);

	hf_resume_stir(slot, false);
	resume->step = HF_STEP_NONE;
	resume->fenced = false;
	resume->readable_since = resume->listen_at = 0;
	if (hf_rare(slot)->listener > 0)
		hf_sys_close(hf_rare(slot)->listener - 1);
	hf_rare(slot)->listener = 0;
}

bool hf_resume_go_on(struct hf_slot *slot, int fd, uint64_t now, uint64_t offset)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();
	enum hf_resume_from from = hf_resume_from(&wrap->tx, &resume->ring, offset);
	uint64_t resent = resume->ring.end - wrap->tx.sent;

	if (from == HF_RESUME_NO)
		return false;
	wrap->kept_end = resume->ring.end;
	hf_wrap_session_lock(wrap, me);
	hf_resume_session(&wrap->session, &wrap->rx, &wrap->tx, now);
	hf_wrap_session_unlock(wrap);
	if (from == HF_RESUME_ALL && offset > resume->ring.end)
		atomic_store(&resume->arrived, 1);
	if (wrap->tx.fin)
		wrap->shut_after_queue = false;
	/* A BYE is said again by whoever closes (io/wrap_close.c). */
	if (from == HF_RESUME_AND_END && resume->ring.fin && !wrap->tx.fin)
		wrap->shut_after_queue = true;
	wrap->seen_at = now;
	wrap->seen_bytes = 0;
	wrap->unread_since = now;
	wrap->settled_at = 0;
	wrap->hung = false;
	atomic_store(&wrap->ended, 0);
	atomic_store(&wrap->error_taken, 0);
	atomic_store(&wrap->shut_read, 0);
	if (wrap->rx.fin && atomic_exchange(&wrap->shut_read, 1) == 0)
		hf_sys_shutdown(fd, SHUT_RD);
	atomic_store(&resume->restored, 1);
	over(slot);
	slot->looked = false;
	atomic_store(&slot->error_seen, 0);
	atomic_store(&slot->told_reset, 0);
	atomic_store(&wrap->starved, 1);
	atomic_store(&wrap->phase, HF_PHASE_ON);
	atomic_store(&wrap->broken, 0);
	atomic_store(&resume->leader, 0);
	hf_wrap_took_error(wrap, hf_wrap_flush(slot, fd));
	hf_socket_retune(slot, fd);
	hf_epoll_again(slot);
	tell(slot, HF_EV_RESUMED, now - resume->broken_at, resent);
	hf_wake_all(&resume->word);
	return true;
}

void hf_resume_give_up(struct hf_slot *slot, int fd, uint64_t now, int error)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (atomic_load(&wrap->phase) == HF_PHASE_BROKEN)
		tell(slot, HF_EV_GAVE_UP, now - resume->broken_at, 0);
	/* As the kernel had it: behind what has come a read says so, once, and a write is refused.  But the peer's last
	 * word is an end like any other, whatever became of its connection. */
	if (error != ETIMEDOUT || wrap->rx.bye || (wrap->rx.fin && wrap->tx.fin)) {
		if (error != 0 && !wrap->rx.fin && !wrap->rx.bye)
			atomic_store(&wrap->error_taken, error == EPIPE || error == ECONNABORTED ? ECONNRESET : error);
		atomic_store(&wrap->ended, 1);
		atomic_store(&wrap->real_shut_write, 1);
		atomic_store(&wrap->phase, HF_PHASE_ON);
	} else {
		hf_wrap_share_fate(slot, error);
	}
	/* A try that is under way: whoever polls would sleep with it, until the kernel tires of its SYNs.  A socket
	 * that is merely disconnected polls as POLLHUP without POLLIN, and who waits for bytes alone would not come for
	 * the end; once it is shut, too, it is readable as after a reset (tcp_poll(); that shutdown(2) says ENOTCONN).
	 */
	if (wrap->client) {
		hf_resume_hang_up(fd);
		hf_sys_shutdown(fd, SHUT_RDWR);
	} else {
		/* A deaf socket would never have its FIN acknowledged, and whoever waits for that calls the path dead.
		 */
		hf_resume_unfence(fd);
	}
	over(slot);
	atomic_store(&wrap->broken, 0);
	atomic_store(&resume->leader, 0);
	hf_epoll_again(slot);
	hf_wake_all(&resume->word);
}

/* What is opened and closed here no child must find open.  But forks that go on and on, or one that never returned
 * (siglongjmp(3)), do not keep it from going on. */
static bool may_act(uint64_t now)
{
	enum { PATIENCE_MS = 1000 };
	static uint64_t refused_since; /* the watchdog's */

	if (!hf_keep_act()) {
		if (refused_since == 0)
			refused_since = now;
		return now - refused_since >= PATIENCE_MS;
	}
	refused_since = 0;
	return true;
}

uint64_t hf_resume_tend(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t next = UINT64_MAX;

	if (resume == NULL || wrap == NULL || hf_wrap_fate(slot) != 0)
		return next;
	if (!may_act(now))
		return now + STEP_MS;
	/* Announce, then look, as in hf_wrap_tend(): the program may be closing it. */
	atomic_store(&hf_rare(slot)->tended, atomic_load(hf_proc_epoch));
	if ((atomic_load(&slot->closed) != 0 && atomic_load(&slot->draining) == 0) || atomic_load(&slot->fd) != fd) {
		atomic_store(&hf_rare(slot)->tended, 0);
		hf_keep_acted();
		return now + STEP_MS;
	}
	if (!wrap->client)
		hf_resume_suspended(now);
	if (resume->step == HF_STEP_NONE) {
		resume->step = HF_STEP_BREAK;
		hf_resume_stir(slot, true);
		resume->broken_at = now;
		resume->until = now + hf_runtime.config.reconnect_window;
		resume->fenced = false;
	}
	if (resume->step == HF_STEP_BREAK)
		next = leave_old(slot, fd, now);
	else if (now >= resume->until)
		hf_resume_give_up(slot, fd, now, ETIMEDOUT);
	else
		next = wrap->client ? hf_resume_dial(slot, fd, now) : hf_resume_serve(slot, fd, now);
	atomic_store(&hf_rare(slot)->tended, 0);
	hf_keep_acted();
	return next;
}
