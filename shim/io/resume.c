/*
 * What a connection that can be resumed keeps, and how its calls wait.
 */
#include "io/adopt.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/family.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

_Static_assert(sizeof(struct hf_resume) < 4096, "what waits look at lies in one page");

_Atomic uint32_t hf_resume_inboxes, hf_resume_count;

enum { MOST_BROKEN = 4096 }; /* at a time: each keeps its ring and what it has drained */

static void *map(size_t size)
{
	void *room = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return hf_sys_failed(room) ? NULL : room;
}

static size_t room_size(void)
{
	return sizeof(struct hf_resume) + hf_runtime.config.resume_buffer;
}

struct hf_resume *hf_resume_room_new(void)
{
	return map(room_size());
}

void hf_resume_room_drop(struct hf_resume *room)
{
	hf_sys_munmap(room, room_size());
}

void hf_resume_arm(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t ring = hf_runtime.config.resume_buffer;
	struct hf_resume *resume = atomic_load(&hf_rare(slot)->room), *none = NULL;
	uint8_t key[HF_CHECK_SIZE];
	socklen_t len;

	if (hf_runtime.config.on_dead != HF_RECONNECT || wrap->peer.buffer == 0 || hf_resume_of(slot) != NULL ||
	    (resume == NULL && (resume = hf_resume_room_new()) == NULL))
		return;
	resume->ring = (struct hf_ring){.start = wrap->tx.sent, .end = wrap->tx.sent, .size = ring};
	len = sizeof(resume->local);
	(void)hf_sys_getsockname(fd, &resume->local, &len);
	len = sizeof(resume->peer);
	(void)hf_sys_getpeername(fd, &resume->peer, &len);
	hf_resume_keys(wrap, key, wrap->resume_name);
	hf_forget(key, sizeof(key));
	hf_wrap_mark_kept(fd, ring);
	memcpy(resume->name, wrap->resume_name, sizeof(resume->name));
	if (!atomic_compare_exchange_strong(&slot->resume, &none, resume))
		hf_resume_room_drop(resume);
	hf_resume_share(slot);
}

uint8_t *hf_resume_inbox_at(struct hf_slot *slot, size_t *size)
{
	uint8_t *own = atomic_load(&hf_rare(slot)->inbox), *area = atomic_load(&hf_rare(slot)->area);

	*size = own != NULL ? hf_rare(slot)->inbox_size : area != NULL ? HF_AREA_SIZE : 0;
	return own != NULL ? own : area;
}

void hf_resume_drop_inbox(struct hf_slot *slot, struct hf_resume *resume)
{
	uint8_t *own = atomic_exchange(&hf_rare(slot)->inbox, NULL), *area = atomic_load(&hf_rare(slot)->area);

	if (own != NULL)
		hf_sys_munmap(own, hf_rare(slot)->inbox_size);
	else if (area != NULL && atomic_load(&resume->inbox_end) != 0)
		(void)hf_sys_madvise(area, HF_AREA_SIZE, MADV_REMOVE);
	atomic_store(&resume->inbox_at, 0);
	atomic_store(&resume->inbox_end, 0);
}

uint8_t *hf_resume_area(struct hf_slot *slot)
{
	uint8_t *area, *none = NULL;

	if (atomic_load(&hf_rare(slot)->area) != NULL)
		return atomic_load(&hf_rare(slot)->area);
	area = hf_sys_mmap(NULL, HF_AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			   0);
	if (hf_sys_failed(area))
		return NULL;
	if (!atomic_compare_exchange_strong(&hf_rare(slot)->area, &none, area)) {
		hf_sys_munmap(area, HF_AREA_SIZE);
		area = none;
	}
	return area;
}

void hf_resume_move_inbox(struct hf_slot *slot, const struct hf_resume *resume, uint8_t *area)
{
	uint8_t *own = atomic_load(&hf_rare(slot)->inbox);
	size_t end = atomic_load(&resume->inbox_end);

	if (own == NULL || end > HF_AREA_SIZE / 2)
		return;
	memcpy(area, own, end);
	atomic_store(&hf_rare(slot)->inbox, NULL);
	hf_sys_munmap(own, hf_rare(slot)->inbox_size);
}

/*
 * Waits look at a connection's inbox with no turn in hand, and may be late: the page where it is counted stays for as
 * long as so many others take to go.  The ring is looked at in a turn only.
 */
static void retire(struct hf_resume *resume)
{
	enum { LATE = 256, PAGE = 4096 };
	static _Atomic(struct hf_resume *) late[LATE];
	static _Atomic uint32_t next;
	struct hf_resume *oldest;

	if (room_size() > PAGE)
		hf_sys_munmap((char *)resume + PAGE, room_size() - PAGE);
	oldest = atomic_exchange(&late[atomic_fetch_add(&next, 1) % LATE], resume);
	if (oldest != NULL)
		hf_sys_munmap(oldest, PAGE);
}

void hf_resume_free(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	bool shared;
	uint8_t *area;
	int offer;

	if (resume == NULL && (resume = atomic_load(&hf_rare(slot)->room)) == NULL)
		return;
	hf_resume_unshare(slot);
	shared = hf_resume_shared(slot);
	atomic_store(&slot->resume, NULL);
	atomic_store(&hf_rare(slot)->room, NULL);
	hf_resume_stir(slot, false);
	hf_resume_count_inbox(slot);
	if ((offer = atomic_exchange(&hf_rare(slot)->offer, 0)) > 0)
		hf_sys_close(offer - 1);
	if (hf_rare(slot)->offered > 0)
		hf_sys_close(hf_rare(slot)->offered - 1);
	if (hf_rare(slot)->listener > 0)
		hf_sys_close(hf_rare(slot)->listener - 1);
	hf_rare(slot)->offered = hf_rare(slot)->listener = 0;
	if (atomic_load(&resume->leader) == hf_family_me() && hf_family_me() != 0)
		atomic_store(&resume->leader, 0);
	if (!shared)
		hf_resume_drop_inbox(slot, resume);
	area = atomic_exchange(&hf_rare(slot)->area, NULL);
	if (area != NULL)
		hf_sys_munmap(area, HF_AREA_SIZE);
	retire(resume);
}

bool hf_resume_fatal(int error)
{
	return error == ECONNRESET || error == ECONNABORTED || error == EPIPE || error == ETIMEDOUT ||
	       error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN || error == ENETDOWN ||
	       error == ENOTCONN;
}

/* How many bytes the peer's kernel does not have yet; the kernel's own FIN, said to leave a connection, is none. */
static int unacknowledged(int fd)
{
	int outq = 0, state = hf_tcp_state(fd);

	if (hf_sys_ioctl(fd, SIOCOUTQ, &outq) < 0)
		return INT_MAX;
	return outq - (state == TCP_FIN_WAIT1 || state == TCP_CLOSING || state == TCP_LAST_ACK);
}

bool hf_resume_complete(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	/* A process that exits says its last word without a close. */
	bool closed = atomic_load(&slot->draining) != 0 || wrap->tx.bye;

	/* Its program has gone too, or will take no more. */
	if (atomic_load(&hf_resume_of(slot)->arrived) != 0 && (wrap->rx.fin || closed))
		return true;
	/* Both have ended; or closed, and whatever may still come is for nobody: if our last word has arrived. */
	if (!(wrap->rx.fin && wrap->tx.fin) && !(wrap->tx.bye && hf_resume_backlog(slot, wrap) == 0))
		return false;
	return wrap->tx.owed_size == 0 && unacknowledged(atomic_load(&slot->fd)) == 0;
}

/* Whether there is only us, or all the others can go on with it as well. */
static bool all_can(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	const struct hf_resume *resume = hf_resume_of(slot);
	int waiting = 0;

	if (!hf_hold_others((struct hf_arena_conn *)(uintptr_t)&wrap->conn, hf_family_me()))
		return true;
	(void)hf_sys_ioctl(atomic_load(&slot->fd), SIOCINQ, &waiting);
	return hf_resume_all_share(slot) && atomic_load(&hf_rare(slot)->area) != NULL &&
	       (wrap->client || hf_resume_can_mail()) &&
	       atomic_load(&resume->inbox_end) + (size_t)(waiting > 0 ? waiting : 0) < HF_AREA_SIZE / 2;
}

/* Whether the session may go on over another connection: nobody has ended it, and everybody who has it can follow. */
static bool possible(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	uint8_t stage = atomic_load(&slot->stage);

	/* One that the watchdog has done with nobody would see to. */
	return (stage == HF_STAGE_NEW || stage == HF_STAGE_WATCHED) && !atomic_load(&hf_sys_confined) &&
	       atomic_load(&wrap->phase) == HF_PHASE_ON && atomic_load(&slot->fate) == 0 &&
	       atomic_load(&wrap->fate) == 0 && !wrap->rx.corrupt && !wrap->rx.bye && !wrap->session.peer_done &&
	       atomic_load(&wrap->real_shut_write) == 0 && !wrap->session.mute &&
	       wrap->session.state < HF_S_TIME_WAIT && !hf_resume_complete(slot, wrap) &&
	       atomic_load(&wrap->conn.doubt) == HF_DOUBT_NONE && atomic_load(&hf_resume_of(slot)->aborted) == 0 &&
	       all_can(slot, wrap);
}

bool hf_resume_lost(struct hf_slot *slot, int error)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct timeval limit = {0, 0};
	socklen_t len = sizeof(limit);

	if (resume == NULL || wrap == NULL)
		return false;
	if (hf_resume_broken(wrap) || hf_resume_stale(slot, wrap)) {
		hf_resume_stir(slot, true);
		hf_watch_poke(slot);
		return true;
	}
	if (atomic_load(&hf_resume_count) >= MOST_BROKEN || !possible(slot, wrap) ||
	    (error == 0 && (wrap->session.peer_state & HF_BEAT_MAY_END) != 0))
		return false;
	if (atomic_load(&wrap->broken) == 0) {
		(void)hf_sys_getsockopt(atomic_load(&slot->fd), SOL_SOCKET, SO_SNDTIMEO, &limit, &len);
		atomic_store(&resume->send_limit, (uint32_t)(limit.tv_sec * 1000 + limit.tv_usec / 1000));
	}
	if (atomic_exchange(&wrap->broken, 1) == 0)
		resume->error = error;
	hf_watch_poke(slot);
	return true;
}

bool hf_resume_unannounced(struct hf_slot *slot, int fd)
{
	const struct hf_wrap *wrap = hf_wrap_of(slot);
	int inq = 0;

	if (wrap == NULL || hf_resume_of(slot) == NULL || wrap->rx.bye || hf_sys_ioctl(fd, SIOCINQ, &inq) < 0 ||
	    inq != 0)
		return false;
	/* Behind both FINs, or our last word, the kernel's own end is the last acknowledgement. */
	return (wrap->session.state < HF_S_CLOSING && !wrap->tx.bye) || wrap->tx.owed_size != 0 ||
	       unacknowledged(fd) != 0;
}

bool hf_resume_met(struct hf_slot *slot, int fd)
{
	const struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t seen;

	if (wrap == NULL)
		return false;
	do {
		seen = resume != NULL ? atomic_load(&resume->word) : 0;
		if (hf_resume_broken(wrap))
			return true;
		if (hf_tcp_state(fd) != TCP_CLOSE)
			return false;
		/* What has gone on in between was seen in the middle of that. */
	} while (resume != NULL && atomic_load(&resume->word) != seen);
	return hf_resume_lost(slot, ECONNRESET);
}

bool hf_resume_full(struct hf_slot *slot, int fd)
{
	const struct hf_ring ring = hf_resume_ring(hf_resume_of(slot));
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool full;

	if (wrap == NULL || hf_ring_room(&ring) != 0 || !hf_wrap_take_tx(slot, fd, hf_turn_me(), 0))
		return false;
	full = hf_resume_room(slot, fd) == 0;
	hf_turn_end(&wrap->tx_turn);
	return full;
}

bool hf_resume_wait(struct hf_slot *slot, uint32_t limit)
{
	const struct timespec end = {(time_t)(limit / 1000), (long)(limit % 1000) * 1000000};
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t seen;
	long woken;

	if (resume == NULL && wrap != NULL && hf_resume_broken(wrap)) {
		/* This process has not got what it would go on with: never to be waited for. */
		(void)atomic_compare_exchange_strong(&slot->fate, &(int){0}, ECONNRESET);
		atomic_store(&slot->guard, 0);
	}
	if (resume == NULL || wrap == NULL)
		return true;
	seen = atomic_load(&resume->word);
	if (!hf_resume_broken(wrap) || atomic_load(&slot->fate) != 0)
		return true;
	/* Without a limit the kernel takes the wait up again after a handler with SA_RESTART, as it would a read. */
	woken = hf_sys4(SYS_futex, &resume->word, FUTEX_WAIT, seen, limit != 0 ? &end : NULL);
	if (woken != -EINTR && woken != -ETIMEDOUT)
		return true;
	errno = woken == -EINTR ? EINTR : EAGAIN;
	return false;
}

/* The ring */

size_t hf_resume_room(struct hf_slot *slot, int fd)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_ring ring = hf_resume_ring(resume);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int outq = 0;

	/* There is no such call in a sandbox. */
	if (hf_resume_ample(resume, 0) || atomic_load(&hf_sys_confined) != 0)
		return hf_ring_room(&ring);
	resume->asked = ring.end;
	if (!hf_resume_broken(wrap) && ring.end >= wrap->tx.sent && hf_sys_ioctl(fd, SIOCOUTQ, &outq) == 0 &&
	    outq >= 0) {
		hf_ring_release(&ring, hf_resume_arrived(&wrap->tx, &ring, (uint64_t)outq));
		resume->ring.start = ring.start;
	}
	return hf_ring_room(&ring);
}

void hf_resume_stretch(struct hf_resume *resume, struct hf_ring *ring, size_t n)
{
	hf_ring_stretch(ring, resume->memory, n);
	/* Before another byte is put where with the old span one stood. */
	resume->ring.span = ring->span;
	atomic_signal_fence(memory_order_seq_cst);
}

void hf_resume_keep(struct hf_slot *slot, const struct iovec *iov, size_t count, size_t skip, size_t n)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_ring ring = hf_resume_ring(resume);

	for (size_t i = 0; i < count && n > 0; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = len - skip < n ? len - skip : n;
		if (!hf_ring_fits(&ring, len))
			hf_resume_stretch(resume, &ring, len);
		hf_ring_put(&ring, resume->memory, (const uint8_t *)iov[i].iov_base + skip, len);
		n -= len;
		skip = 0;
	}
	resume->ring.base = ring.base;
	resume->ring.end = ring.end;
}

void hf_resume_skip(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (resume != NULL && wrap != NULL && resume->ring.end < wrap->tx.sent)
		resume->ring.start = resume->ring.end = wrap->tx.sent;
}

void hf_resume_keep_if(struct hf_slot *slot, const struct iovec *iov, size_t count, size_t skip, size_t n)
{
	if (hf_resume_of(slot)->ring.end + n == hf_wrap_of(slot)->tx.sent)
		hf_resume_keep(slot, iov, count, skip, n);
	else
		hf_resume_skip(slot);
}

/* The inbox */

size_t hf_resume_from_inbox(struct hf_slot *slot, const struct iovec *iov, size_t count, size_t skip, size_t n,
			    bool take)
{
	struct hf_resume *resume = hf_resume_of(slot);
	size_t at = atomic_load(&resume->inbox_at), end = atomic_load(&resume->inbox_end), have, done = 0, size;
	const uint8_t *from = hf_resume_inbox_at(slot, &size);

	if (at > end || end > size) {
		hf_wrap_fail(slot, EPROTO); /* no library has written that */
		return 0;
	}
	have = end - at;
	n = n < have ? n : have;
	for (size_t i = 0; i < count && done < n; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = len - skip < n - done ? len - skip : n - done;
		if (!hf_copy_out((uint8_t *)iov[i].iov_base + skip, from + at + done, len))
			break;
		done += len;
		skip = 0;
	}
	if (!take || done == 0)
		return done;
	atomic_store(&resume->inbox_at, at + done);
	atomic_store(&hf_wrap_of(slot)->inbox_left, have - done);
	if (done == have) {
		hf_resume_drop_inbox(slot, resume);
		hf_resume_count_inbox(slot);
	}
	return done;
}
