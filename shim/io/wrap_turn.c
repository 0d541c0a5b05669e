/*
 * Turns of a wrapped connection, settled: whoever takes one that was left behind finds out from the kernel what had
 * been moved (the kernel is the ledger).
 */
#include "fmt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "sys.h"
#include "watch/tcpinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

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

/* What a read took that put all of it into this process's memory: if it was one of ours, and not of a parent's. */
static bool passed_whole(struct hf_slot *slot, struct hf_rx *rx, size_t taken, struct hf_rx_news *news, size_t *bytes)
{
	uint8_t copy[HF_SCRATCH_SIZE];

	if (taken > sizeof(copy) || atomic_load(&hf_rare(slot)->scratch_at) != hf_wrap_of(slot)->rx_raw + 1 ||
	    atomic_load(&hf_rare(slot)->scratch_epoch) != atomic_load(hf_proc_epoch))
		return false;
	memcpy(copy, hf_scratch(slot), sizeof(copy));
	*bytes = hf_rx_squeeze(rx, copy, taken, news);
	/* Whoever it is may yet come back for it (io/wrap_overtaken.c): until then it is not used again. */
	atomic_store(&hf_rare(slot)->scratch_at, HF_SCRATCH_LENT);
	explicit_bzero(copy, sizeof(copy));
	return !news->corrupt;
}

/* What a read took of which the first KNOWN bytes, protocol all of them, went to SCRATCH. */
static bool passed_in_two(struct hf_rx *rx, const uint8_t *scratch, size_t known, size_t taken, struct hf_rx_news *news,
			  size_t *bytes)
{
	const struct hf_rx before = *rx;
	uint8_t copy[HF_RX_OVERHEAD_MOST];

	*bytes = 0;
	if (known > sizeof(copy))
		known = sizeof(copy);
	memcpy(copy, scratch, sizeof(copy));
	if (hf_rx_recover(rx, copy, known, taken, news))
		return true;
	*rx = before;
	memcpy(copy, scratch, sizeof(copy));
	if (known > taken)
		known = taken;
	if (hf_rx_squeeze(rx, copy, known, news) != 0 || news->corrupt || taken - known > hf_rx_open(rx))
		return false;
	*bytes = taken - known;
	hf_rx_passed(rx, taken - known);
	return true;
}

/*
 * A read that never came back to say so (siglongjmp(3), cancellation, SIGKILL) took TAKEN bytes.  Its protocol bytes
 * stand in the scratch; the program's are where they went, or lost with the program that read them, as natively.  A
 * beat that was cut off may be passed over.
 */
static bool catch_up_rx(struct hf_slot *slot, int fd, size_t taken)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	size_t known = hf_once(wrap->rx_scratched);
	uint32_t scratched = (uint32_t)known;
	struct hf_rx rx = wrap->rx;
	struct hf_rx_news news;
	size_t bytes;

	if (scratched == HF_RX_HELD)
		known = 0;
	if (scratched == HF_RX_WHOLE ? !passed_whole(slot, &rx, taken, &news, &bytes)
				     : !passed_in_two(&rx, wrap->rx_scratch, known, taken, &news, &bytes))
		return false;
	hf_books_open(&wrap->rx_books_open);
	wrap->rx = rx;
	wrap->rx_caught_at = wrap->rx_raw;
	wrap->rx_caught = bytes;
	wrap->rx_raw += taken;
	if (!hf_wrap_news(slot, fd, &news))
		return false;
	hf_books_close(&wrap->rx_books_open);
	return true;
}

/* bytes_received counts what came, SIOCINQ what of it waits; a FIN of the peer's counts one (measured). */
bool hf_wrap_ledger_rx(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_tcp_info info;
	int waiting = 0;
	uint64_t taken;
	bool fin;

	if (wrap == NULL || atomic_load(&wrap->rx_books_open) != 0 || !ledger(fd, SIOCINQ, &info, &waiting))
		return false;
	/* A disconnected socket counts from zero again. */
	taken = info.bytes_received - (uint64_t)waiting;
	fin = hf_tcp_peer_ended(info.state) || info.state == TCP_CLOSE;
	if (taken == wrap->rx_raw || (fin && taken == wrap->rx_raw + 1))
		return true;
	return taken > wrap->rx_raw && atomic_load(&wrap->phase) == HF_PHASE_ON &&
	       catch_up_rx(slot, fd, (size_t)(taken - wrap->rx_raw - (fin ? 1 : 0)));
}

bool hf_wrap_given(struct hf_slot *slot, int fd, uint64_t *given)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_tcp_info info;
	int waiting = 0;

	*given = 0;
	if (!ledger(fd, SIOCOUTQ, &info, &waiting))
		return false;
	*given = info.bytes_acked + (uint64_t)waiting - (wrap->client ? 1 : 0) - wrap->tx_raw;
	return true;
}

/*
 * A call that gave bytes to the kernel never came back to say how many (siglongjmp(3), cancellation): the kernel's
 * ledger knows, and what it was given is noted in the plan.
 */
bool hf_wrap_ledger_tx(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	const struct hf_tx_plan plan = wrap->plan;
	uint64_t given;
	size_t took;

	if (atomic_load(&wrap->tx_books_open) != 0)
		return false;
	/* Framing has not begun: what was queued is counted where it is sent. */
	if (atomic_load(&wrap->phase) != HF_PHASE_ON)
		return true;
	if (!hf_wrap_given(slot, fd, &given))
		return false;
	if (given > plan.owed + plan.first + (plan.header ? HF_HEADER_SIZE : 0) + plan.second)
		return false;
	if (given == 0)
		return true;
	hf_books_open(&wrap->tx_books_open);
	wrap->tx_raw += given;
	took = hf_tx_took(&wrap->tx, &plan, (size_t)given);
	if (wrap->plan_of_queue)
		wrap->flushed += (uint32_t)took;
	hf_books_close(&wrap->tx_books_open);
	return true;
}

void hf_wait_begin(struct hf_slot *slot, struct hf_wait *wait)
{
	wait->gen = atomic_load(&slot->gen);
	atomic_store(&hf_rare(slot)->waited_at, hf_wrap_now_ms());
	atomic_fetch_add(&hf_rare(slot)->waiting, 1);
	if (atomic_load(&slot->gen) == wait->gen)
		return;
	/* Another's since a moment ago. */
	atomic_fetch_sub(&hf_rare(slot)->waiting, 1);
	wait->gen = UINT32_MAX;
}

void hf_wait_end(struct hf_slot *slot, const struct hf_wait *wait)
{
	/* Waited for too long: it has been given up. */
	if (atomic_load(&slot->gen) == wait->gen)
		atomic_fetch_sub(&hf_rare(slot)->waiting, 1);
}

bool hf_wait_in_vain(struct hf_slot *slot, const struct hf_wait *wait, int *fd)
{
	uint8_t stage = atomic_load(&slot->stage);

	if (atomic_load(&slot->gen) != wait->gen || stage == HF_STAGE_CLOSED || stage == HF_STAGE_FREE) {
		errno = EBADF;
		return true;
	}
	*fd = hf_number_again(slot, *fd);
	return false;
}

/* One direction's turn, settled: AGREES tells whether the kernel's ledger matches what we have recorded of it. */
static bool take_turn(struct hf_slot *slot, int fd, struct hf_turn_word *word, uint32_t me, int patience_ms,
		      bool (*agrees)(struct hf_slot *slot, int fd))
{
	enum hf_turn turn = hf_turn_try(word, me);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_wait wait;

	if (turn == HF_TURN_BUSY) {
		hf_wait_begin(slot, &wait);
		turn = hf_turn_take(word, me, patience_ms);
		hf_wait_end(slot, &wait);
	}
	if (turn != HF_TURN_BUSY && hf_wrap_of(slot) == NULL) {
		/* Whoever had it before has found the peer to be plain. */
		hf_turn_end(word);
		return false;
	}
	/* Whoever had it before has found the stream to be broken, and what it left is not to be built upon. */
	if (turn != HF_TURN_BUSY && hf_wrap_fate(slot) == EPROTO) {
		hf_turn_end(word);
		return false;
	}
	/* What we have is not what the connection is any more: first that must be had. */
	while (turn == HF_TURN_OURS && hf_resume_stale(slot, wrap)) {
		hf_turn_end(word);
		hf_wait_begin(slot, &wait);
		turn = hf_resume_wait_fresh(slot, patience_ms) ? hf_turn_take(word, me, patience_ms) : HF_TURN_BUSY;
		hf_wait_end(slot, &wait);
	}
	if (turn == HF_TURN_LEFT && (hf_resume_stale(slot, wrap) || !agrees(slot, fd))) {
		hf_wrap_fail(slot, EPROTO);
		hf_turn_end(word);
		return false;
	}
	return turn != HF_TURN_BUSY;
}

/* Whether the thread can go on at all: one that is stopped, or traced, does not read what is there either (proc(5)). */
static bool runs(uint32_t owner)
{
	char path[32], text[128];
	struct hf_fmt fmt;
	const char *state;
	long got;
	int fd;

	hf_fmt_init(&fmt, path, sizeof(path), 0);
	hf_fmt_str(&fmt, "/proc/");
	hf_fmt_i64(&fmt, owner & ((1U << HF_TURN_TID_BITS) - 1));
	hf_fmt_str(&fmt, "/stat");
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	fd = hf_sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	got = fd >= 0 ? hf_sys_read(fd, text, sizeof(text) - 1) : 0;
	if (fd >= 0)
		hf_sys_close(fd);
	text[got > 0 ? got : 0] = '\0';
	state = strrchr(text, ')');
	return state != NULL && state[1] == ' ' && strchr("RS", state[2]) != NULL;
}

static bool could(int fd, short what)
{
	struct pollfd p = {.fd = fd, .events = what};

	return hf_sys_poll(&p, 1, 0) > 0;
}

/*
 * Somebody has the turn, and COULD go on.  A read wakes up for what has come, a write for room: whoever has the turn
 * and does nothing with it for a second is in no such call any more, but was taken out of it by siglongjmp(3), and may
 * never come again.  True: the turn is ours, as one that was left behind.  Should the owner be in a call all the same,
 * above which a handler of a signal takes its time, see io/wrap_overtaken.c.
 */
static bool abandoned(struct hf_turn_word *word, struct hf_idle *idle, bool could_go_on, uint64_t at, uint32_t me)
{
	enum { LONG_MS = 1000, TIMES = 8 }; /* not because we were stopped ourselves */
	uint32_t owner = atomic_load(&word->owner);
	uint64_t now = hf_wrap_now_ms();

	if (owner == 0 || owner == me || !could_go_on) {
		atomic_store(&idle->owner, 0);
		return false;
	}
	if (atomic_load(&idle->owner) != owner || atomic_load(&idle->at) != at) {
		atomic_store(&idle->since, now);
		atomic_store(&idle->at, at);
		atomic_store(&idle->times, 0);
		atomic_store(&idle->owner, owner);
		return false;
	}
	if (atomic_fetch_add(&idle->times, 1) < TIMES || now - atomic_load(&idle->since) < LONG_MS)
		return false;
	atomic_store(&idle->owner, 0);
	return runs(owner) && atomic_compare_exchange_strong(&word->owner, &owner, me);
}

static bool abandoned_rx(struct hf_slot *slot, struct hf_wrap *wrap, int fd, uint32_t me)
{
	bool reads = atomic_load(&wrap->low_water) <= 1 && hf_once(wrap->rx_scratched) != HF_RX_HELD;

	return abandoned(&wrap->rx_turn, &hf_rare(slot)->idle_rx, reads && could(fd, POLLIN), wrap->rx_raw, me);
}

/* Who keeps what he writes may wait for room of his own, and sendfile(2) for a file. */
static bool abandoned_tx(struct hf_slot *slot, struct hf_wrap *wrap, int fd, uint32_t me)
{
	bool writes = hf_resume_of(slot) == NULL && atomic_load(&wrap->tx_file) == 0;

	return abandoned(&wrap->tx_turn, &hf_rare(slot)->idle_tx, writes && could(fd, POLLOUT), wrap->tx_raw, me);
}

/* Take WORD, or find out that it was abandoned. */
static bool take(struct hf_slot *slot, int fd, bool rx, uint32_t me, int patience_ms)
{
	enum { SLICE_MS = 100 };
	struct hf_wrap *wrap;

	while ((wrap = hf_wrap_of(slot)) != NULL) {
		if (take_turn(slot, fd, rx ? &wrap->rx_turn : &wrap->tx_turn, me,
			      patience_ms < 0 ? SLICE_MS : patience_ms, rx ? hf_wrap_ledger_rx : hf_wrap_ledger_tx))
			return true;
		/* Not the watchdog, nor who does not wait. */
		if (patience_ms == 0 || hf_wrap_fate(slot) != 0 || hf_wrap_of(slot) == NULL)
			return false;
		if (!atomic_load(&hf_sys_confined) && atomic_load(&wrap->phase) == HF_PHASE_ON) {
			int now = hf_number_of(slot, fd);

			if (rx ? abandoned_rx(slot, wrap, now, me) : abandoned_tx(slot, wrap, now, me))
				continue;
		}
		if (patience_ms > 0)
			return false;
	}
	return false;
}

bool hf_wrap_take_rx(struct hf_slot *slot, int fd, uint32_t me, int patience_ms)
{
	return take(slot, fd, true, me, patience_ms);
}

bool hf_wrap_take_tx(struct hf_slot *slot, int fd, uint32_t me, int patience_ms)
{
	return take(slot, fd, false, me, patience_ms);
}

void hf_wrap_session_lock(struct hf_wrap *wrap, uint32_t me)
{
	/* A few instructions, no system call inside; left behind only by a thread that died or jumped there. */
	(void)hf_turn_take(&wrap->session_turn, me, -1);
}

void hf_wrap_session_unlock(struct hf_wrap *wrap)
{
	hf_turn_end(&wrap->session_turn);
}
