/*
 * Looking at a wrapped connection without reading from it: what poll(2), FIONREAD and SO_RCVLOWAT need to know.
 */
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { PATIENCE_MS = 10 }; /* the watchdog's turns are short; a reader's may last */

/* What is waiting, as far as SIZE reaches: program bytes, and whether an end is behind them. The turn is ours. */
static size_t look_ahead(struct hf_wrap *wrap, int fd, uint8_t *room, size_t size, bool *end)
{
	struct hf_rx copy = wrap->rx;
	struct hf_rx_news news;
	long got = hf_sys_recvfrom(fd, room, size, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	size_t bytes = got > 0 ? hf_rx_squeeze(&copy, room, (size_t)got, &news) : 0;

	*end = got == 0 || copy.fin || copy.bye || copy.corrupt;
	return bytes;
}

/*
 * All of it, exactly, however much it is: a program that is told less than there is takes the rest for news that an
 * edge will tell it of (nginx).  Most often the open frame covers it and nothing need be looked at.
 */
static size_t count_ahead(struct hf_wrap *wrap, int fd, bool *end)
{
	int waiting = 0;
	size_t bytes = 0, size;
	uint8_t *room;

	*end = false;
	(void)hf_sys_ioctl(fd, SIOCINQ, &waiting);
	size = waiting > 0 ? (size_t)waiting : 1;
	if (waiting > 0 && size <= hf_rx_open(&wrap->rx))
		return size;
	room = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*end = true;
	if (!hf_sys_failed(room)) {
		bytes = look_ahead(wrap, fd, room, size, end);
		hf_sys_munmap(room, size);
	}
	return bytes;
}

/*
 * SO_RCVLOWAT: whether what is there is as much as the program asked for.  If not, the kernel's own mark is put just
 * above it, so that a wait sleeps until more comes.
 */
static bool above_mark(struct hf_wrap *wrap, int fd)
{
	int low = atomic_load(&wrap->low_water), waiting = 0;
	bool end;
	size_t bytes;

	if (low <= 1 || atomic_load(&hf_sys_confined) || wrap->rx.fin || wrap->rx.bye || atomic_load(&wrap->ended) != 0)
		return true;
	(void)hf_sys_ioctl(fd, SIOCINQ, &waiting);
	bytes = count_ahead(wrap, fd, &end);
	if (end || bytes >= (size_t)low)
		return true;
	waiting += 1;
	atomic_store(&wrap->low_raised, 1);
	(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &waiting, sizeof(waiting));
	return false;
}

/* GOT bytes stand in the kernel's queue, ROOM has the first of them: whether they begin with a whole header of program
 * bytes, and some of these.  The turn is ours, and it is a header's. */
static bool note_ahead(struct hf_wrap *wrap, const uint8_t room[HF_READ_SMALL], long got)
{
	uint32_t length = got > HF_HEADER_SIZE ? hf_header_data(room) : 0;

	if (length == 0)
		return false;
	wrap->ahead = HF_HEADER_SIZE + length;
	wrap->ahead_at = wrap->rx.received;
	wrap->ahead_alone = got < HF_READ_SMALL && (uint32_t)got <= wrap->ahead;
	return true;
}

bool hf_wrap_sees_bytes(struct hf_slot *slot, struct hf_wrap *wrap, int fd)
{
	uint8_t room[HF_READ_SMALL];
	bool seen = false;
	long got;

	if (!hf_wrap_take_free(slot, wrap, &wrap->rx_turn, hf_turn_me()))
		return false;
	if (hf_likely(hf_wrap_sailing(slot, wrap) && hf_rx_between(&wrap->rx) && !wrap->rx.proof_due &&
		      !atomic_load_explicit(&hf_sys_confined, memory_order_relaxed))) {
		got = hf_sys_recvfrom(fd, room, sizeof(room), MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
		seen = got < 0 ? got != -EAGAIN : note_ahead(wrap, room, got);
		if (hf_unlikely(got < 0))
			hf_wrap_took_error(wrap, (int)got);
	}
	hf_turn_end(&wrap->rx_turn);
	return seen;
}

/*
 * Whether a program byte stands right behind the protocol that is due: what is most often so takes one call, and leaves
 * the header to the read that follows.  1: it does; 0: not known; -errno, which the kernel tells but once.
 */
static int byte_ahead(struct hf_slot *slot, struct hf_wrap *wrap, int fd)
{
	uint8_t room[HF_READ_SMALL]; /* a small message shows whole */
	size_t due = hf_rx_overhead(&wrap->rx);
	struct hf_rx copy;
	struct hf_rx_news news;
	long got;

	if (due == 0 || wrap->rx.fin || wrap->rx.bye || wrap->rx.corrupt || hf_resume_inbox(slot) != 0 ||
	    atomic_load(&hf_sys_confined))
		return 0;
	got = hf_sys_recvfrom(fd, room, sizeof(room), MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	if (got < 0 && got != -EAGAIN && !(hf_resume_fatal((int)-got) && hf_resume_lost(slot, (int)-got)))
		return (int)got;
	if (got < (long)due + 1)
		return 0;
	if (hf_rx_between(&wrap->rx) && !wrap->rx.proof_due && note_ahead(wrap, room, got))
		return 1;
	copy = wrap->rx;
	return hf_rx_squeeze(&copy, room, due + 1, &news) > 0;
}

enum hf_look hf_wrap_look(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();
	enum hf_look look = HF_LOOK_READY;
	int swallowed;

	if (wrap == NULL || atomic_load(&slot->fate) != 0)
		return HF_LOOK_READY;
	if (!hf_wrap_take_rx(slot, fd, me, PATIENCE_MS))
		return atomic_load(&slot->fate) != 0 ? HF_LOOK_READY : HF_LOOK_BUSY;
	if (hf_unlikely(hf_resume_inbox(slot) != 0) ||
	    (hf_resume_broken(wrap) && (wrap->rx.fin || atomic_load(&wrap->ended) != 0))) {
		hf_turn_end(&wrap->rx_turn);
		return HF_LOOK_READY;
	}
	if (atomic_load(&wrap->phase) != HF_PHASE_ON) {
		enum hf_shake shake = hf_wrap_shake(slot, fd, me);

		if (shake != HF_SHAKE_ON) {
			hf_turn_end(&wrap->rx_turn);
			if (shake != HF_SHAKE_BROKEN && atomic_load(&wrap->shut_read) != 0)
				return HF_LOOK_READY; /* for an end */
			return shake == HF_SHAKE_WAIT || shake == HF_SHAKE_BROKEN ? HF_LOOK_NOTHING
			       : shake == HF_SHAKE_AGAIN                          ? HF_LOOK_BUSY
										  : HF_LOOK_READY;
		}
	}
	swallowed = byte_ahead(slot, wrap, fd);
	if (swallowed == 0)
		swallowed = hf_wrap_swallow(slot, fd);
	hf_wrap_took_error(wrap, swallowed);
	if ((swallowed == 0 || !above_mark(wrap, fd)) && atomic_load(&wrap->shut_read) != HF_SHUT_ASKED)
		look = HF_LOOK_NOTHING;
	hf_turn_end(&wrap->rx_turn);
	return look;
}

/* Whether WAITING bytes are of one frame of program bytes, the open one or the one seen next: nothing is behind it. */
static bool one_frame(const struct hf_wrap *wrap, size_t waiting)
{
	return waiting <= hf_rx_open(&wrap->rx) || waiting <= hf_wrap_ahead(wrap);
}

/* Whether an end is on its way to the program behind a few bytes it has not read. */
static bool end_ahead(struct hf_slot *slot, struct hf_wrap *wrap, int fd)
{
	uint8_t room[2048];
	int waiting = 0;
	bool end = false;

	if (hf_sys_ioctl(fd, SIOCINQ, &waiting) < 0 || waiting < HF_HEADER_SIZE || waiting > (int)sizeof(room) ||
	    one_frame(wrap, (size_t)waiting) || !hf_wrap_take_rx(slot, fd, hf_turn_me(), 0))
		return false;
	(void)look_ahead(wrap, fd, room, sizeof(room), &end);
	hf_turn_end(&wrap->rx_turn);
	/* From here on the kernel says so itself, to whoever waits; what is unread can still be read. */
	if (end && atomic_exchange(&wrap->shut_read, 1) == 0)
		hf_sys_shutdown(fd, SHUT_RD);
	return end;
}

static bool written_out(const struct hf_wrap *wrap)
{
	return wrap->tx.fin || wrap->tx.bye || wrap->shut_after_queue || atomic_load(&wrap->real_shut_write) != 0;
}

/* Whether the peer has ended its direction. */
static bool peer_out(struct hf_slot *slot, struct hf_wrap *wrap, int fd, bool ahead)
{
	if (wrap->rx.fin || wrap->rx.bye || atomic_load(&wrap->ended) != 0)
		return true;
	return ahead && end_ahead(slot, wrap, fd);
}

short hf_wrap_ends(struct hf_slot *slot, int fd, bool ahead)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool in, out;

	if (wrap == NULL)
		return 0;
	/* What was taken out of a connection that broke is there, whatever the kernel says. */
	if (hf_unlikely(hf_resume_inbox(slot) != 0))
		return POLLIN | POLLRDNORM;
	/* The program has been told that it is connected, and asks by poll(2) whether that is so (Java). */
	if (atomic_load(&wrap->phase) == HF_PHASE_REDIAL)
		return (short)(wrap->queued - wrap->flushed < HF_QUEUE_SIZE ? POLLOUT | POLLWRNORM : 0);
	if ((atomic_load(&wrap->phase) != HF_PHASE_ON && atomic_load(&wrap->shut_read) == 0) || hf_resume_broken(wrap))
		return 0;
	out = written_out(wrap);
	/* To poll(2) it is the same who has ended it. */
	in = atomic_load(&wrap->shut_read) != 0 || peer_out(slot, wrap, fd, ahead || out);
	return (short)((in ? POLLIN | POLLRDNORM | POLLRDHUP : 0) | (out ? POLLOUT | POLLWRNORM : 0) |
		       (in && out ? POLLHUP : 0));
}

bool hf_wrap_parted(struct hf_slot *slot)
{
	const struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && wrap->rx.bye && written_out(wrap);
}

bool hf_wrap_over(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && atomic_load(&wrap->phase) == HF_PHASE_ON && !hf_resume_broken(wrap) &&
	       hf_resume_inbox(slot) == 0 && !wrap->shut_after_queue && written_out(wrap) &&
	       peer_out(slot, wrap, fd, true);
}

int hf_wrap_readable(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap;
	uint32_t me = hf_turn_me();
	int bytes = 0;
	bool end;

	if (hf_wrap_look(slot, fd) == HF_LOOK_BUSY)
		return 0;
	/* It may have become plain, or be below the mark. */
	if ((wrap = hf_wrap_of(slot)) == NULL)
		return -1;
	if (hf_unlikely(hf_resume_inbox(slot) != 0))
		return (int)hf_resume_inbox(slot);
	if (atomic_load(&wrap->phase) != HF_PHASE_ON || !hf_wrap_take_rx(slot, fd, me, PATIENCE_MS))
		return 0;
	bytes = (int)count_ahead(wrap, fd, &end);
	hf_turn_end(&wrap->rx_turn);
	return bytes;
}
