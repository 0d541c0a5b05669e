/*
 * The wrapped connection's life: memory, turns, failure, what frames bring.
 */
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/tcpinfo.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { CHUNK = 16, CHUNKS = HF_SLOT_MAX / CHUNK };

/* One for each slot, by number; mapped when first needed, never given back. */
static _Atomic(struct hf_wrap *) chunks[CHUNKS];

static struct hf_wrap *room_for(uint32_t index)
{
	size_t size = CHUNK * sizeof(struct hf_wrap);
	struct hf_wrap *chunk = atomic_load(&chunks[index / CHUNK]), *expected = NULL;

	if (chunk == NULL) {
		chunk = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				    0);
		if (hf_sys_failed(chunk))
			return NULL;
		if (!atomic_compare_exchange_strong(&chunks[index / CHUNK], &expected, chunk)) {
			hf_sys_munmap(chunk, size);
			chunk = expected;
		}
	}
	return &chunk[index % CHUNK];
}

uint64_t hf_wrap_now_us(void)
{
	struct timespec ts;

	hf_sys_clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t hf_wrap_now_ms(void)
{
	return hf_wrap_now_us() / 1000;
}

/* Which inherited connection, by cookie, some child has taken over; by slot number, which parent and child share. */
static _Atomic(_Atomic uint64_t *) claims;

static void map_claims(void)
{
	size_t size = HF_SLOT_MAX * sizeof(uint64_t);
	_Atomic uint64_t *map, *expected = NULL;

	if (atomic_load(&claims) != NULL)
		return;
	map = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!hf_sys_failed(map) && !atomic_compare_exchange_strong(&claims, &expected, map))
		hf_sys_munmap(map, size);
}

static uint64_t cookie_of(struct hf_slot *slot, int fd)
{
	uint64_t cookie = atomic_load(&slot->cookie);
	socklen_t len = sizeof(cookie);

	if (cookie == 0 && hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0)
		atomic_store(&slot->cookie, cookie);
	return cookie;
}

void hf_wrap_claim(struct hf_slot *slot, int fd)
{
	_Atomic uint64_t *map = atomic_load(&claims);

	if (hf_wrap_of(slot) == NULL)
		return;
	atomic_store(&slot->inherited, 1);
	atomic_store(&slot->forks, hf_proc_forks());
	if (map != NULL)
		atomic_store(&map[slot->index], cookie_of(slot, fd));
}

bool hf_wrap_shared(struct hf_slot *slot)
{
	_Atomic uint64_t *map;

	if (atomic_load_explicit(&slot->inherited, memory_order_relaxed) != 0)
		return true;
	if (atomic_load_explicit(&slot->forks, memory_order_relaxed) == hf_proc_forks())
		return false;
	map = atomic_load(&claims);
	return map == NULL || atomic_load(&map[slot->index]) == cookie_of(slot, atomic_load(&slot->fd));
}

bool hf_wrap_begin(struct hf_slot *slot, bool client, const struct sockaddr *addr, socklen_t len)
{
	struct hf_wrap *wrap = room_for(slot->index);
	uint8_t *queue;

	if (wrap == NULL)
		return false;
	map_claims();
	queue = wrap->queue;
	memset(wrap, 0, sizeof(*wrap));
	wrap->queue = queue;
	wrap->client = client;
	if (client && len <= sizeof(wrap->dial)) {
		memcpy(&wrap->dial, addr, len);
		wrap->dial_len = len;
	}
	atomic_store(&wrap->phase, client ? HF_PHASE_CONNECT : HF_PHASE_HELLO);
	if (!client)
		atomic_store(&wrap->deadline, hf_wrap_now_ms() + hf_runtime.config.hello_wait_accept);
	atomic_store(&slot->wrap_tried, 1);
	atomic_store(&slot->wrap, wrap);
	return true;
}

bool hf_wrap_busy(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && (hf_turn_held(&wrap->rx_owner) || hf_turn_held(&wrap->tx_owner));
}

void hf_wrap_free(struct hf_slot *slot)
{
	struct hf_wrap *wrap = atomic_exchange(&slot->wrap, NULL);

	if (wrap == NULL)
		return;
	if (wrap->queue != NULL)
		hf_sys_munmap(wrap->queue, HF_QUEUE_SIZE);
	wrap->queue = NULL;
}

void hf_wrap_fail(struct hf_slot *slot, int error)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&slot->fate, &none, error))
		return;
	atomic_store(&slot->failed, error);
	atomic_store(&slot->guard, 0);
	hf_tell_failed(slot, atomic_load(&slot->fd));
	hf_watch_poke(slot);
}

void hf_wrap_leave(struct hf_slot *slot, bool last)
{
	const struct timespec moment = {0, 20000};
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap == NULL)
		return;
	if (last)
		atomic_store(&wrap->closed, 1);
	/* It only makes calls that do not block. A child of fork has the parent's word and no such thread. */
	while (atomic_load(&wrap->tended) != 0 && atomic_load(&slot->forks) == hf_proc_forks())
		hf_sys_nanosleep(&moment, NULL);
}

void hf_wrap_stay(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap != NULL)
		atomic_store(&wrap->closed, 0);
}

/* Turns */

static bool tcp_info(int fd, struct hf_tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, info, &len) == 0;
}

/* The kernel's counters and its queue, of one moment: what comes between two looks would make them differ. */
static bool ledger(int fd, unsigned long queue, struct hf_tcp_info *info, int *waiting)
{
	struct hf_tcp_info again;

	for (int tries = 0; tries < 1000; tries++) {
		if (!tcp_info(fd, info) || hf_sys_ioctl(fd, queue, waiting) < 0 || !tcp_info(fd, &again))
			return false;
		if (again.bytes_received == info->bytes_received && again.bytes_acked == info->bytes_acked &&
		    again.state == info->state)
			return true;
	}
	return false;
}

/*
 * A read that never came back to say so (siglongjmp(3), cancellation) took GOT bytes.  A beat may go that way when it
 * comes at the moment of the signal; program bytes may not.
 */
static bool recover_rx(struct hf_slot *slot, int fd, uint64_t got)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_rx rx = wrap->rx;
	struct hf_rx_news news;

	if (atomic_load(&wrap->phase) != HF_PHASE_ON || wrap->rx_scratched == 0 ||
	    got > HF_RX_OVERHEAD_MOST + HF_BEAT_SIZE ||
	    !hf_rx_recover(&rx, wrap->rx_scratch, wrap->rx_scratched, (size_t)got, &news))
		return false;
	wrap->rx = rx;
	wrap->rx_raw += got;
	return hf_wrap_news(slot, fd, &news);
}

/* bytes_received counts what came, SIOCINQ what of it waits; a FIN of the peer's counts one (measured). */
bool hf_wrap_ledger_rx(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_tcp_info info;
	int waiting = 0;
	uint64_t taken;
	bool fin;

	if (wrap == NULL || !ledger(fd, SIOCINQ, &info, &waiting))
		return false;
	taken = info.bytes_received - (uint64_t)waiting;
	fin = info.state == TCP_CLOSE_WAIT || info.state == TCP_LAST_ACK || info.state == TCP_CLOSING ||
	      info.state == TCP_CLOSE;
	if (taken == wrap->rx_raw || (fin && taken == wrap->rx_raw + 1))
		return true;
	return taken > wrap->rx_raw && recover_rx(slot, fd, taken - wrap->rx_raw - (fin ? 1 : 0));
}

/*
 * A call that gave bytes to the kernel never came back to say how many (siglongjmp(3), cancellation): the kernel's
 * ledger knows, and what it was given is noted in the plan.
 */
bool hf_wrap_ledger_tx(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_tx_plan *plan = &wrap->plan;
	struct hf_tcp_info info;
	int waiting = 0;
	uint64_t given;
	size_t took;

	/* Framing has not begun: what was queued is counted where it is sent. */
	if (atomic_load(&wrap->phase) != HF_PHASE_ON)
		return true;
	if (!ledger(fd, SIOCOUTQ, &info, &waiting))
		return false;
	given = info.bytes_acked + (uint64_t)waiting - (wrap->client ? 1 : 0) - wrap->tx_raw;
	if (given > plan->owed + plan->first + (plan->header ? HF_HEADER_SIZE : 0) + plan->second)
		return false;
	if (given == 0)
		return true;
	wrap->tx_raw += given;
	took = hf_tx_took(&wrap->tx, plan, (size_t)given);
	if (wrap->plan_of_queue)
		wrap->flushed += (uint32_t)took;
	return true;
}

/* One direction's turn, settled: AGREES tells whether the kernel's ledger matches what we have recorded of it. */
static bool take_turn(struct hf_slot *slot, int fd, _Atomic uint32_t *word, uint32_t me, int patience_ms,
		      bool (*agrees)(struct hf_slot *slot, int fd))
{
	enum hf_turn turn = hf_turn_take(word, me, patience_ms);

	if (turn != HF_TURN_BUSY && hf_wrap_of(slot) == NULL) {
		/* Whoever had it before has found the peer to be plain. */
		hf_turn_end(word);
		return false;
	}
	if ((turn == HF_TURN_LEFT || (turn == HF_TURN_OURS && hf_wrap_shared(slot))) && !agrees(slot, fd)) {
		hf_wrap_fail(slot, EPROTO);
		hf_turn_end(word);
		return false;
	}
	return turn != HF_TURN_BUSY;
}

bool hf_wrap_take_rx(struct hf_slot *slot, int fd, uint32_t me, int patience_ms)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && take_turn(slot, fd, &wrap->rx_owner, me, patience_ms, hf_wrap_ledger_rx);
}

bool hf_wrap_take_tx(struct hf_slot *slot, int fd, uint32_t me, int patience_ms)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && take_turn(slot, fd, &wrap->tx_owner, me, patience_ms, hf_wrap_ledger_tx);
}

void hf_wrap_session_lock(struct hf_wrap *wrap, uint32_t me)
{
	/* A few instructions, no system call inside; left behind only by a thread that died or jumped there. */
	(void)hf_turn_take(&wrap->session_owner, me, -1);
}

void hf_wrap_session_unlock(struct hf_wrap *wrap)
{
	hf_turn_end(&wrap->session_owner);
}

/* What frames bring */

/* The peer's program has ended its direction: let the kernel itself say so to whoever waits (shutdown(2), SHUT_RD on
 * an established socket wakes recv, poll, select and epoll and leaves the peer in peace). */
static void end_of_reading(struct hf_wrap *wrap, int fd)
{
	if (atomic_exchange(&wrap->shut_read, 1) == 0)
		hf_sys_shutdown(fd, SHUT_RD);
}

static bool proof_holds(struct hf_wrap *wrap, const struct hf_rx_news *news)
{
	uint8_t expected[HF_CHECK_SIZE];

	hf_proof_make(expected, &hf_runtime.key, wrap->peer.nonce, wrap->mine.nonce);
	return hf_check_equal(expected, news->proof_bytes);
}

bool hf_wrap_news(struct hf_slot *slot, int fd, const struct hf_rx_news *news)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = atomic_load_explicit(&wrap->rx_owner, memory_order_relaxed);

	if (news->beats == 0 && !news->fin && !news->bye && !news->corrupt && !news->proof)
		return true;
	if (news->corrupt || (news->proof && !proof_holds(wrap, news))) {
		hf_wrap_fail(slot, EPROTO);
		return false;
	}
	hf_wrap_session_lock(wrap, me);
	if (news->beats != 0)
		hf_session_beat_received(&wrap->session, &news->beat, hf_wrap_now_us());
	if (news->fin)
		hf_session_fin_received(&wrap->session, news->fin_seen);
	if (news->bye)
		hf_session_peer_done(&wrap->session);
	hf_wrap_session_unlock(wrap);
	if (news->fin || news->bye)
		end_of_reading(wrap, fd);
	return true;
}

void hf_wrap_kernel_end(struct hf_wrap *wrap)
{
	/* After SHUT_RD an empty queue reads as an end, but what comes later can still be read (shutdown(2) says
	 * otherwise, the kernel does not); the peer's FIN frame tells of itself. */
	if (atomic_load(&wrap->shut_read) == 0)
		atomic_store(&wrap->ended, 1);
}

void hf_wrap_took_error(struct hf_wrap *wrap, int result)
{
	if (result == -ECONNRESET || result == -ETIMEDOUT || result == -EHOSTUNREACH || result == -ENETUNREACH)
		atomic_store(&wrap->error_taken, -result);
}

int hf_wrap_swallow(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t *scratch = wrap->rx_scratch;
	struct hf_rx_news news;
	int waiting = 0;
	char byte;
	long got;

	for (;;) {
		if (wrap->rx.bye || wrap->rx.corrupt || atomic_load(&wrap->ended) != 0)
			return 1;
		if (hf_rx_open(&wrap->rx) > 0) {
			if (hf_sys_ioctl(fd, SIOCINQ, &waiting) == 0 && waiting > 0)
				return 1;
			got = hf_sys_recvfrom(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
			return got == -EAGAIN ? 0 : got < 0 ? (int)got : 1;
		}
		wrap->rx_scratched = (uint32_t)hf_rx_overhead(&wrap->rx);
		got = hf_sys_recvfrom(fd, scratch, wrap->rx_scratched, MSG_DONTWAIT, NULL, NULL);
		/* Behind the peer's FIN its beats go on: unread at close() they would be answered by a reset. */
		if (got <= 0 && wrap->rx.fin)
			return 1;
		if (got == -EAGAIN)
			return 0;
		if (got < 0)
			return (int)got;
		if (got == 0) {
			hf_wrap_kernel_end(wrap);
			return 1;
		}
		wrap->rx_raw += (uint64_t)got;
		(void)hf_rx_squeeze(&wrap->rx, scratch, (size_t)got, &news);
		if (!hf_wrap_news(slot, fd, &news))
			return -EPROTO;
	}
}

/* Sending what waits */

size_t hf_wrap_queue(struct hf_wrap *wrap, const struct iovec *iov, size_t count)
{
	size_t put = 0;

	if (wrap->queue == NULL) {
		wrap->queue =
			hf_sys_mmap(NULL, HF_QUEUE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (hf_sys_failed(wrap->queue)) {
			wrap->queue = NULL;
			return 0;
		}
	}
	if (wrap->flushed > 0) {
		memmove(wrap->queue, wrap->queue + wrap->flushed, wrap->queued - wrap->flushed);
		wrap->queued -= wrap->flushed;
		wrap->flushed = 0;
	}
	for (size_t i = 0; i < count && wrap->queued < HF_QUEUE_SIZE; i++) {
		size_t n = HF_QUEUE_SIZE - wrap->queued;

		if (n > iov[i].iov_len)
			n = iov[i].iov_len;
		if (!hf_copy_in(wrap->queue + wrap->queued, iov[i].iov_base, n))
			break;
		wrap->queued += (uint32_t)n;
		put += n;
	}
	return put;
}

/* One send of owed bytes and, while framed, as much of the queue as the plan takes. */
static int flush_step(struct hf_wrap *wrap, int fd, bool framed)
{
	size_t left = wrap->queued - wrap->flushed;
	struct hf_tx_plan *plan = &wrap->plan;
	struct iovec iov[4];
	struct msghdr msg = {.msg_iov = iov};
	uint8_t *from = wrap->queue + wrap->flushed;
	long sent;

	if (!framed) {
		sent = hf_sys_sendto(fd, from, left, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		if (sent > 0)
			wrap->flushed += (uint32_t)sent;
		return sent < 0 ? (int)sent : 1;
	}
	hf_tx_plan(&wrap->tx, left, plan);
	wrap->plan_of_queue = true;
	if (plan->owed > 0) {
		size_t size;

		iov[msg.msg_iovlen++] = (struct iovec){(void *)hf_tx_owed(&wrap->tx, &size), plan->owed};
	}
	if (plan->first > 0)
		iov[msg.msg_iovlen++] = (struct iovec){from, plan->first};
	if (plan->header)
		iov[msg.msg_iovlen++] = (struct iovec){plan->head, HF_HEADER_SIZE};
	if (plan->second > 0)
		iov[msg.msg_iovlen++] = (struct iovec){from + plan->first, plan->second};
	if (msg.msg_iovlen == 0)
		return 0;
	sent = hf_sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return (int)sent;
	wrap->tx_raw += (uint64_t)sent;
	wrap->flushed += (uint32_t)hf_tx_took(&wrap->tx, plan, (size_t)sent);
	return 1;
}

/* The program's FIN, behind everything it wrote. */
static void end_of_writing(struct hf_wrap *wrap, int fd, uint32_t me)
{
	bool seen;

	hf_wrap_session_lock(wrap, me);
	seen = hf_session_fin_seen(&wrap->session);
	if (wrap->session.peer_done || !hf_tx_fin(&wrap->tx, seen)) {
		/* The peer is gone and a frame would meet a reset, or a frame is open that the program never filled:
		 * the kernel's own end is the only one left. */
		hf_sys_shutdown(fd, SHUT_WR);
		atomic_store(&wrap->real_shut_write, 1);
		hf_session_shut_sent(&wrap->session);
	} else {
		hf_session_fin_sent(&wrap->session, seen);
	}
	hf_wrap_session_unlock(wrap);
}

/*
 * A program that was told EAGAIN for want of room in the queue waits for an edge (epoll(7)) that the kernel, which has
 * room, would never give.  Setting TCP_NOTSENT_LOWAT to what it is makes it tell every waiter afresh.
 */
static void give_edge(struct hf_wrap *wrap, int fd)
{
	uint32_t value;
	socklen_t len = sizeof(value);

	if (atomic_exchange(&wrap->starved, 0) != 0 &&
	    hf_sys_getsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, &len) == 0)
		(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}

int hf_wrap_flush(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool framed = atomic_load(&wrap->phase) == HF_PHASE_ON;
	uint32_t me = atomic_load_explicit(&wrap->tx_owner, memory_order_relaxed);
	size_t owed = 0;

	for (;;) {
		int step;

		if (framed)
			(void)hf_tx_owed(&wrap->tx, &owed);
		if (owed == 0 && wrap->queued == wrap->flushed) {
			give_edge(wrap, fd);
			if (!wrap->shut_after_queue || atomic_load(&wrap->real_shut_write) != 0)
				return 1;
			wrap->shut_after_queue = false;
			if (framed) {
				end_of_writing(wrap, fd, me);
				continue;
			}
			hf_sys_shutdown(fd, SHUT_WR);
			return 1;
		}
		step = flush_step(wrap, fd, framed);
		if (step == -EAGAIN)
			return 0;
		if (step < 0)
			return step;
	}
}
