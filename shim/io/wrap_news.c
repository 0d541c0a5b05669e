/*
 * What frames bring to a wrapped connection, and swallowing those that are only protocol.
 */
#include "io/confined.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "sys.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* The peer's program has ended its direction: let the kernel itself say so to whoever waits (shutdown(2), SHUT_RD on
 * an established socket wakes recv, poll, select and epoll and leaves the peer in peace). */
static void end_of_reading(struct hf_wrap *wrap, int fd)
{
	/* From a sandbox it is left to another holder's watchdog (hf_wrap_swallow()). */
	if (!atomic_load(&hf_sys_confined) && atomic_exchange(&wrap->shut_read, 1) == 0)
		hf_sys_shutdown(fd, SHUT_RD);
}

static bool proof_holds(struct hf_wrap *wrap, const struct hf_rx_news *news)
{
	uint8_t expected[HF_CHECK_SIZE];

	if (hf_runtime.key.size == 0)
		return false; /* none was due */
	hf_proof_make(expected, &hf_runtime.key, wrap->peer.nonce, wrap->nonce);
	return hf_check_equal(expected, news->proof_bytes);
}

bool hf_wrap_news(struct hf_slot *slot, int fd, const struct hf_rx_news *news)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = atomic_load_explicit(&wrap->rx_turn.owner, memory_order_relaxed);

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
	/* No end: the kernel's reset is on its way, and says all there is to say. */
	if (news->aborted) {
		wrap->rx.bye = false;
		return true;
	}
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
	if (result == -ECONNRESET || result == -ECONNABORTED || result == -ETIMEDOUT || result == -EHOSTUNREACH ||
	    result == -ENETUNREACH)
		atomic_store(&wrap->error_taken, -result);
}

/* In a sandbox it waits as the program's own call would: there only its peeks come here. */
static long receive_control(int fd, uint8_t *scratch, uint32_t size)
{
	struct iovec iov = {scratch, size};
	size_t asked;
	long got;
	int error;

	if (hf_likely(!atomic_load(&hf_sys_confined)))
		return hf_sys_recvfrom(fd, scratch, size, MSG_DONTWAIT, NULL, NULL);
	error = errno; /* not before: the watchdog, which comes here too, has none (watch/thread.h) */
	got = hf_confined_receive(fd, &iov, 0, &asked);
	got = got < 0 ? -errno : got;
	errno = error;
	return got;
}

int hf_wrap_swallow(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t *scratch = wrap->rx_scratch;
	struct hf_rx_news news;
	int waiting = 0;
	uint32_t due;
	char byte;
	long got;

	for (;;) {
		if (hf_unlikely(hf_resume_inbox(slot) != 0))
			return 1;
		if (wrap->rx.bye || wrap->rx.corrupt || atomic_load(&wrap->ended) != 0)
			return 1;
		if (atomic_load_explicit(&wrap->phase, memory_order_relaxed) == HF_PHASE_BROKEN)
			return 0;
		if (hf_rx_open(&wrap->rx) > 0) {
			if (atomic_load(&hf_sys_confined))
				return 1; /* the program's own call will find out */
			if (hf_sys_ioctl(fd, SIOCINQ, &waiting) == 0 && waiting > 0)
				return 1;
			got = hf_sys_recvfrom(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
			if (got <= 0 && got != -EAGAIN && (got == 0 || hf_resume_fatal((int)-got)) &&
			    hf_resume_lost(slot, (int)-got))
				return 0;
			return got == -EAGAIN ? 0 : got < 0 ? (int)got : 1;
		}
		due = (uint32_t)hf_rx_overhead(&wrap->rx);
		wrap->rx_scratched = due;
		got = receive_control(fd, scratch, due);
		/* Behind the peer's FIN its beats go on: unread at close() they would be answered by a reset. */
		if (got <= 0 && wrap->rx.fin)
			return 1;
		if (got == -EAGAIN)
			return 0;
		if ((got == 0 ? atomic_load(&wrap->shut_read) == 0 : got < 0 && hf_resume_fatal((int)-got)) &&
		    hf_resume_lost(slot, (int)-got))
			return 0;
		if (got < 0)
			return (int)got;
		if (got == 0) {
			hf_wrap_kernel_end(wrap);
			return 1;
		}
		hf_books_open(&wrap->rx_books_open);
		wrap->rx_raw += (uint64_t)got;
		(void)hf_rx_squeeze(&wrap->rx, scratch, (size_t)got, &news);
		if (!hf_wrap_news(slot, fd, &news))
			return -EPROTO;
		hf_books_close(&wrap->rx_books_open);
		/* A second read might wait; if more is there the program's own wait will say so. */
		if (hf_unlikely(atomic_load(&hf_sys_confined)) && !hf_confined_nonblocking(fd) &&
		    hf_rx_open(&wrap->rx) == 0 && !wrap->rx.fin && !wrap->rx.bye)
			return 0;
	}
}
