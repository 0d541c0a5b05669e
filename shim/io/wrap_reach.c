/*
 * A read that comes before frames flow, or after they have stopped: it drives the handshake, waits for its turn, or for
 * another path.
 */
#include "io/gate.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>

static bool wait_until_on(struct hf_slot *slot, int fd, uint32_t me, int flags, const struct hf_wait *wait,
			  ssize_t *result, bool *plain)
{
	const struct timespec moment = {0, 1000000};
	struct hf_wrap *wrap = hf_wrap_of(slot);
	char byte;

	for (;;) {
		enum hf_shake shake;

		if (hf_wait_in_vain(slot, wait, &fd))
			return false;
		/* A program that was told that it can read must not find the watchdog in its way. */
		if (!hf_wrap_take_rx(slot, fd, me, hf_resume_broken(wrap) ? 500 : 20)) {
			if (hf_wrap_of(slot) == NULL) {
				*plain = true;
				return false;
			}
			errno = atomic_load(&slot->fate) != 0 ? atomic_load(&slot->fate) : EAGAIN;
			if (atomic_load(&slot->fate) != 0 || hf_nonblocking(fd, flags))
				return false;
			/* Another thread is reading, perhaps for ever: wait as the kernel lets a second reader wait, so
			 * that signals, cancellation and the program's time limit work. */
			if (hf_real.recv(fd, &byte, 1, MSG_PEEK) < 0 && (errno == EINTR || errno == EAGAIN))
				return false;
			continue;
		}
		if (hf_wait_in_vain(slot, wait, &fd)) {
			hf_turn_end(&wrap->rx_turn);
			return false;
		}
		if (atomic_load(&wrap->phase) == HF_PHASE_ON)
			return true;
		if (hf_resume_inbox(slot) != 0 || hf_wrap_at_end(wrap))
			return true; /* that much can be read meanwhile */
		if (atomic_load(&wrap->phase) == HF_PHASE_BROKEN && hf_wrap_fate(slot) != 0) {
			hf_turn_end(&wrap->rx_turn);
			errno = hf_wrap_fate(slot);
			return false;
		}
		shake = hf_wrap_shake(slot, fd, me);
		if (shake == HF_SHAKE_ON)
			return true;
		hf_turn_end(&wrap->rx_turn);
		if (shake == HF_SHAKE_PLAIN) {
			*plain = true;
			return false;
		}
		if (shake == HF_SHAKE_FAILED) {
			errno = atomic_load(&slot->fate);
			return false;
		}
		/* The program wants no more, and there is nothing yet: an end (shutdown(2)). */
		if (shake != HF_SHAKE_BROKEN && atomic_load(&wrap->shut_read) != 0) {
			*result = 0;
			return false;
		}
		if (hf_nonblocking(fd, flags)) {
			errno = EAGAIN;
			return false;
		}
		if (shake == HF_SHAKE_BROKEN) {
			if (!hf_resume_wait(slot, atomic_load(&wrap->receive_limit)))
				return false;
		} else if (shake == HF_SHAKE_AGAIN) {
			hf_sys_nanosleep(&moment, NULL);
		} else if (shake == HF_SHAKE_REDIAL) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			(void)hf_real.poll(&p, 1, 100);
		} else if (hf_real.recv(fd, &byte, 1, MSG_PEEK) < 0 &&
			   (errno == EINTR || errno == EAGAIN ||
			    (!wrap->client && atomic_load(&wrap->phase) == HF_PHASE_HELLO))) {
			/* A signal, the program's own time limit; or how it ended before it began, told but once. */
			return false;
		}
	}
}

bool hf_wrap_reach_read(struct hf_slot *slot, int fd, uint32_t me, int flags, ssize_t *result, bool *plain)
{
	struct hf_wait wait;
	bool on = false;

	*result = -1;
	hf_wait_begin(slot, &wait);
	*plain = hf_wrap_of(slot) == NULL;
	if (!*plain)
		on = wait_until_on(slot, fd, me, flags, &wait, result, plain);
	hf_wait_end(slot, &wait);
	return on;
}
