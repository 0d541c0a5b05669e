/*
 * sendfile(2) and splice(2) on a wrapped connection: a header that promises no more than is there, then the kernel's
 * own call.  Should less come after all, the frame stays open and whatever the program sends next fills it.
 */
#include "io/gate.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <sys/mman.h>
#include <poll.h>
#include <sys/ioctl.h>

enum { NONBLOCK = 2U }; /* SPLICE_F_NONBLOCK of fcntl.h, which has types of its own for off_t */

/*
 * Open a frame for up to SIZE program bytes, unless one is open. How many may follow; 0 or -errno: none now.  PLAN is
 * what they are given the kernel by: passed().
 */
static long open_frame(struct hf_wrap *wrap, int fd, size_t size, struct hf_tx_plan *plan)
{
	struct iovec iov[2];
	struct msghdr msg = {.msg_iov = iov};
	const uint8_t *owed;
	uint32_t open;
	ssize_t sent;

	while ((open = hf_once(wrap->tx.open)) == 0 || wrap->tx.owed_size != 0) {
		owed = hf_wrap_plan(wrap, size, false, plan);
		msg.msg_iovlen = 0;
		if (plan->owed > 0)
			iov[msg.msg_iovlen++] = (struct iovec){(void *)(uintptr_t)owed, plan->owed};
		if (plan->header && plan->first == 0)
			iov[msg.msg_iovlen++] = (struct iovec){plan->head, HF_HEADER_SIZE};
		if (msg.msg_iovlen == 0)
			return -EPROTO; /* no library has left it so */
		sent = hf_real.sendmsg(fd, &msg, MSG_MORE);
		if (sent < 0)
			return -errno;
		(void)hf_wrap_sent(wrap, plan, (size_t)sent);
		if (wrap->tx.owed_size != 0 && hf_nonblocking(fd, 0))
			return -EAGAIN;
	}
	if (open < size)
		size = open;
	/* Should the call that follows never return, this is what it was given. */
	(void)hf_wrap_plan(wrap, size, false, plan);
	return (long)size;
}

/* N program bytes, of those open_frame() promised, went into the open frame by another way than ours. */
static void passed(struct hf_wrap *wrap, const struct hf_tx_plan *plan, ssize_t n)
{
	if (n > 0)
		(void)hf_wrap_sent(wrap, plan, (size_t)n);
}

static bool wait_to_send(struct hf_slot *slot, int fd, const struct hf_wait *wait, ssize_t *result, bool *plain)
{
	const struct timespec moment = {0, 1000000};
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();

	for (;;) {
		struct pollfd p = {.events = POLLIN};
		enum hf_shake shake = HF_SHAKE_AGAIN; /* another has the turn */
		int flushed;

		if (hf_wait_in_vain(slot, wait, &fd))
			return false;
		if (hf_wrap_of(slot) == NULL) {
			*plain = true;
			return false;
		}
		if (atomic_load(&wrap->phase) != HF_PHASE_ON && hf_wrap_take_rx(slot, fd, me, 0)) {
			if (!hf_wait_in_vain(slot, wait, &fd))
				shake = hf_wrap_shake(slot, fd, me);
			hf_turn_end(&wrap->rx_turn);
		}
		if (shake == HF_SHAKE_PLAIN)
			continue;
		if (hf_resume_broken(wrap) && hf_wrap_fate(slot) == 0) {
			if (hf_nonblocking(fd, 0)) {
				errno = EAGAIN;
				return false;
			}
			if (!hf_resume_wait(slot, hf_resume_send_limit(slot)))
				return false;
			continue;
		}
		if (atomic_load(&slot->fate) != 0) {
			errno = atomic_load(&slot->fate);
			return false;
		}
		if (atomic_load(&wrap->phase) == HF_PHASE_ON) {
			if (!hf_wrap_take_tx(slot, fd, me, -1))
				continue;
			if (hf_wait_in_vain(slot, wait, &fd)) {
				hf_turn_end(&wrap->tx_turn);
				return false;
			}
			if (!hf_may_write(wrap)) {
				hf_turn_end(&wrap->tx_turn);
				*result = hf_write_ended(slot, fd, 0);
				return false;
			}
			flushed = wrap->queued > wrap->flushed ? hf_wrap_flush(slot, fd) : 1;
			if (flushed > 0)
				return true;
			hf_turn_end(&wrap->tx_turn);
			if (flushed < 0) {
				errno = -flushed;
				return false;
			}
			p.events = POLLOUT;
		}
		if (hf_nonblocking(fd, 0)) {
			errno = EAGAIN;
			return false;
		}
		p.fd = fd;
		if (hf_shake_unsleeping(wrap, shake))
			hf_sys_nanosleep(&moment, NULL);
		else if (hf_real.poll(&p, 1, 50) < 0)
			return false;
	}
}

/* Until program bytes may be sent: the handshake is waited for, what was queued has gone. False: *RESULT or *PLAIN. */
static bool begin(struct hf_slot *slot, int fd, ssize_t *result, bool *plain)
{
	struct hf_wait wait;
	bool begun;

	*plain = false;
	*result = -1;
	if (hf_wrap_of(slot) != NULL)
		atomic_store(&hf_wrap_of(slot)->spoken, 1);
	hf_wait_begin(slot, &wait);
	begun = wait_to_send(slot, fd, &wait, result, plain);
	hf_wait_end(slot, &wait);
	return begun;
}

/*
 * What may have to be sent again must pass through our hands: read, and written like other bytes.  The file's position
 * and the caller's are moved by what was sent only.
 */
static ssize_t send_copied(struct hf_slot *slot, int out, int in, off_t *at, size_t size, bool *plain)
{
	enum { PIECE = 256 * 1024 };
	off_t from = at != NULL ? *at : (off_t)hf_sys3(SYS_lseek, in, 0, SEEK_CUR);
	uint8_t *room = hf_sys_mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t result = -1, done = 0;

	if (hf_sys_failed(room)) {
		errno = ENOMEM;
		return -1;
	}
	while ((size_t)done < size) {
		size_t most = size - (size_t)done < PIECE ? size - (size_t)done : PIECE;
		long got = hf_sys4(SYS_pread64, in, room, most, from + done);
		struct iovec iov = {room, (size_t)(got > 0 ? got : 0)};

		if (got <= 0) {
			errno = got < 0 ? (int)-got : errno;
			result = got < 0 ? -1 : 0;
			break;
		}
		result = hf_wrap_send(slot, out, &iov, 1, 0, plain);
		if (*plain || result <= 0)
			break;
		done += result;
		if (result < got)
			break;
		out = hf_number_again(slot, out);
	}
	hf_sys_munmap(room, PIECE);
	if (done == 0)
		return result;
	*plain = false;
	if (at != NULL)
		*at += done;
	else
		(void)hf_sys3(SYS_lseek, in, from + done, SEEK_SET);
	return done;
}

ssize_t hf_wrap_sendfile(struct hf_slot *slot, int out, int in, off_t *at, size_t size, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_tx_plan plan;
	struct stat st;
	off_t from = at != NULL ? *at : (off_t)hf_sys3(SYS_lseek, in, 0, SEEK_CUR);
	ssize_t result = -1, done = 0;

	if (hf_sys_fstat(in, &st) == 0 && S_ISREG(st.st_mode))
		size = from < st.st_size ? (size_t)(st.st_size - from) < size ? (size_t)(st.st_size - from) : size : 0;
	if (size == 0)
		return *plain = false, 0;
	if (hf_resume_of(slot) != NULL && from >= 0)
		return send_copied(slot, out, in, at, size, plain);
	if (!begin(slot, out, &result, plain))
		return result;
	while ((size_t)done < size) {
		long room = open_frame(wrap, out, size - (size_t)done, &plan);

		if (room <= 0) {
			if (done == 0)
				errno = (int)-room;
			break;
		}
		atomic_store(&wrap->tx_file, 1);
		result = hf_real.sendfile(out, in, at, (size_t)room);
		atomic_store(&wrap->tx_file, 0);
		if (result <= 0)
			break;
		passed(wrap, &plan, result);
		done += result;
		if (result < room)
			break;
		out = hf_number_again(slot, out);
	}
	hf_resume_skip(slot);
	hf_turn_end(&wrap->tx_turn);
	return done > 0 ? done : result;
}

ssize_t hf_wrap_splice_out(struct hf_slot *slot, int in, off_t *in_at, int out, size_t size, unsigned flags,
			   bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct pollfd p = {.fd = in, .events = POLLIN};
	struct hf_tx_plan plan;
	struct stat st;
	int there = 0;
	ssize_t result;
	long room;

	/* One end must be a pipe, and a pipe has no place to begin at: the kernel says so. */
	*plain = hf_sys_fstat(in, &st) != 0 || !S_ISFIFO(st.st_mode) || in_at != NULL || size == 0;
	if (*plain)
		return 0;
	while (hf_sys_ioctl(in, FIONREAD, &there) == 0 && there == 0) {
		if (hf_sys_poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLIN)) == POLLHUP)
			return 0; /* no writer left: the end */
		if ((flags & NONBLOCK) != 0 || hf_nonblocking(in, 0)) {
			errno = EAGAIN;
			return -1;
		}
		if (hf_real.poll(&p, 1, -1) < 0)
			return -1;
	}
	if ((size_t)there < size)
		size = (size_t)there;
	if (!begin(slot, out, &result, plain))
		return result;
	room = open_frame(wrap, out, size, &plan);
	if (room > 0) {
		atomic_store(&wrap->tx_file, 1);
		result = hf_real.splice(in, in_at, out, NULL, (size_t)room, flags);
		atomic_store(&wrap->tx_file, 0);
		passed(wrap, &plan, result);
	} else {
		errno = (int)-room;
		result = -1;
	}
	hf_resume_skip(slot);
	hf_turn_end(&wrap->tx_turn);
	return result;
}

/* What was taken out of a connection that broke, into the pipe. The rx turn is ours. */
static ssize_t pipe_inbox(struct hf_slot *slot, int out, size_t size)
{
	uint8_t bytes[4096];
	struct iovec iov = {bytes, size < sizeof(bytes) ? size : sizeof(bytes)};
	size_t have = hf_resume_from_inbox(slot, &iov, 1, 0, iov.iov_len, false);
	ssize_t put = hf_real.write(out, bytes, have);

	if (put > 0)
		(void)hf_resume_from_inbox(slot, &iov, 1, 0, (size_t)put, true);
	return put;
}

/* Out of the open frame, and on through those that have come.  The rx turn is ours. */
static ssize_t splice_frames(struct hf_slot *slot, int in, int out, off_t *out_at, size_t size, unsigned flags)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int error = errno, waiting = 0, ready = 0;
	size_t done = 0;
	ssize_t got;

	do {
		size_t open = hf_rx_open(&wrap->rx), most = open < size - done ? open : size - done;

		wrap->rx_scratched = HF_RX_HELD;
		got = hf_real.splice(in, NULL, out, out_at, most, done > 0 ? flags | NONBLOCK : flags);
		if (got <= 0)
			break;
		hf_books_open(&wrap->rx_books_open);
		hf_rx_passed(&wrap->rx, (size_t)got);
		wrap->rx_raw += (uint64_t)got;
		hf_books_close(&wrap->rx_books_open);
		done += (size_t)got;
	} while (done < size && (ready = hf_wrap_swallow(slot, in)) == 1 && hf_rx_open(&wrap->rx) > 0 &&
		 hf_sys_ioctl(in, FIONREAD, &waiting) == 0 && waiting > 0);
	if (done == 0)
		return got;
	hf_wrap_took_error(wrap, ready); /* told by the next call */
	errno = error;
	return (ssize_t)done;
}

/* Until the first byte of what a frame carries is there, as a read would wait: SPLICE_F_NONBLOCK is about the pipe
 * (splice(2)).  True: it is, and the rx turn is ours.  *IN may have been closed meanwhile, and be another number. */
static bool reach_bytes(struct hf_slot *slot, int *in, uint32_t me, const struct hf_wait *wait, ssize_t *result,
			bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	char byte;
	struct iovec one = {&byte, 1};

	for (;;) {
		*result = hf_wrap_recv(slot, *in, &one, 1, MSG_PEEK, plain);
		if (*plain || *result <= 0)
			return false;
		*result = -1;
		if (hf_wait_in_vain(slot, wait, in))
			return false;
		if (!hf_wrap_take_rx(slot, *in, me, -1)) {
			errno = EPROTO;
			return false;
		}
		if (hf_resume_inbox(slot) != 0 || hf_rx_open(&wrap->rx) > 0)
			return true;
		hf_turn_end(&wrap->rx_turn);
	}
}

ssize_t hf_wrap_splice_in(struct hf_slot *slot, int in, int out, off_t *out_at, size_t size, unsigned flags,
			  bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();
	struct hf_wait wait;
	struct stat st;
	ssize_t result;

	*plain = hf_sys_fstat(out, &st) != 0 || !S_ISFIFO(st.st_mode) || size == 0;
	if (*plain)
		return 0;
	hf_wait_begin(slot, &wait);
	if (reach_bytes(slot, &in, me, &wait, &result, plain)) {
		result = hf_resume_inbox(slot) != 0 ? pipe_inbox(slot, out, size)
						    : splice_frames(slot, in, out, out_at, size, flags);
		hf_turn_end(&wrap->rx_turn);
	}
	hf_wait_end(slot, &wait);
	if (hf_unlikely(atomic_load_explicit(&slot->left, memory_order_relaxed) != 0))
		hf_watch_poke(slot); /* closed meanwhile, and now nobody is in it */
	return result;
}
