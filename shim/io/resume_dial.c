/*
 * The client's side of a resumption: the same socket is connected again and says HELLO with RESUME.
 */
#include "core/bytes.h"
#include "io/adopt.h"
#include "io/dial.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "sys.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

enum { STEP_MS = 4, CALL_MS = 2000, GREET_MS = 5000 };

/* Disconnected, with nothing left of the old connection: no filter, no error to tell. */
void hf_resume_hang_up(int fd)
{
	(void)hf_hang_up(fd);
	hf_resume_unfence(fd);
	hf_dial_forget(fd);
}

/* Not this time: again after a while. */
static uint64_t later(struct hf_resume *resume, int fd, uint64_t now)
{
	hf_resume_hang_up(fd);
	resume->step = HF_STEP_REST;
	resume->next_at = now + hf_dial_rest(resume->tries++);
	return resume->next_at;
}

static uint64_t call(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int one = 1, error;

	if (now < resume->next_at)
		return resume->next_at;
	/* The last acknowledgement of the handshake goes with the HELLO (tcp(7), TCP_DEFER_ACCEPT, on the connecting
	 * side): the listener's accept(2) then finds it there. */
	(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_DEFER_ACCEPT, &one, sizeof(one));
	error = hf_dial(fd, &wrap->dial.any, wrap->dial_len);
	if (!hf_dialling(error))
		return later(resume, fd, now);
	resume->step = HF_STEP_CALL;
	resume->next_at = now + CALL_MS;
	return error == 0 ? now : now + STEP_MS;
}

static uint64_t greet(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t out[HF_HELLO_SIZE];
	int state = hf_tcp_state(fd);

	if (state == TCP_SYN_SENT && now < resume->next_at)
		return now + STEP_MS;
	if (state != TCP_ESTABLISHED)
		return later(resume, fd, now);
	hf_resume_hello(slot, out, 0, NULL);
	if (hf_sys_sendto(fd, out, sizeof(out), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) != (long)sizeof(out))
		return later(resume, fd, now);
	wrap->tx_raw = sizeof(out);
	resume->step = HF_STEP_GREET;
	resume->next_at = now + GREET_MS;
	return now + 1;
}

/* What is owed, all of it. */
static bool pay(struct hf_wrap *wrap, int fd)
{
	size_t size;
	const uint8_t *owed = hf_tx_owed(&wrap->tx, &size);

	if (hf_sys_sendto(fd, owed, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) != (long)size)
		return false;
	hf_tx_paid(&wrap->tx, size);
	wrap->tx_raw += size;
	return true;
}

/* The server has answered and both turns are ours. */
static uint64_t agree(struct hf_slot *slot, int fd, uint64_t now, const struct hf_hello *peer, const struct hf_key *key)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t proof[HF_CHECK_SIZE];

	hf_proof_make(proof, key, resume->nonce, peer->nonce);
	(void)hf_tx_control(&wrap->tx, HF_FRAME_PROOF, proof, sizeof(proof));
	if (pay(wrap, fd) && hf_resume_go_on(slot, fd, now, peer->offset))
		return UINT64_MAX;
	hf_resume_give_up(slot, fd, now, ECONNRESET);
	return UINT64_MAX;
}

static uint64_t answered(struct hf_slot *slot, int fd, uint64_t now, const struct hf_hello *peer,
			 const struct hf_key *key)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();
	uint64_t next = now + 1;

	if ((peer->flags & HF_HELLO_REFUSED) != 0 || (peer->flags & HF_HELLO_RESUME) == 0) {
		/* It has the session no longer: what the kernel said at the time is the truth. */
		hf_resume_give_up(slot, fd, now, resume->error);
		return UINT64_MAX;
	}
	if (!hf_wrap_take_rx(slot, fd, me, 0))
		return next;
	if (hf_wrap_take_tx(slot, fd, me, 0)) {
		(void)hf_sys_discard(fd, HF_HELLO_SIZE);
		wrap->rx_raw = HF_HELLO_SIZE;
		next = agree(slot, fd, now, peer, key);
		hf_turn_end(&wrap->tx_turn);
	}
	hf_turn_end(&wrap->rx_turn);
	return next;
}

/*
 * Our HELLO came behind the acknowledgement that ended the kernel's handshake, which was all there was when the
 * server's accept(2) looked: so it was taken for a new connection, and refused as that.  It says nothing of the
 * session.
 */
static bool mistaken(const struct hf_resume *resume, const uint8_t *in, size_t size)
{
	enum { MOST_TRIES = 8 }; /* of a server that knows nothing of resuming the answer is the same */
	uint32_t flags = size == HF_HELLO_SIZE ? hf_get32(in + HF_HELLO_FLAGS) : 0;

	return (flags & (HF_HELLO_REFUSED | HF_HELLO_RESUME)) == HF_HELLO_REFUSED && resume->tries < MOST_TRIES;
}

static uint64_t listen_for(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t in[HF_HELLO_SIZE], bytes[HF_CHECK_SIZE], name[HF_SESSION_SIZE];
	const struct hf_key key = {bytes, sizeof(bytes)};
	struct hf_hello peer;
	uint64_t next;
	size_t used;
	long got = hf_sys_recvfrom(fd, in, sizeof(in), MSG_PEEK | MSG_DONTWAIT, NULL, NULL);

	if (got == -EAGAIN)
		return now < resume->next_at ? now + STEP_MS : later(resume, fd, now);
	if (got <= 0)
		return later(resume, fd, now);
	if (mistaken(resume, in, (size_t)got))
		return later(resume, fd, now);
	hf_resume_keys(wrap, bytes, name);
	switch (hf_hello_read(in, (size_t)got, &key, true, resume->nonce, name, &peer, &used)) {
	case HF_HELLO_MORE:
		next = now < resume->next_at ? now + STEP_MS : later(resume, fd, now);
		break;
	case HF_HELLO_VALID:
		next = answered(slot, fd, now, &peer, &key);
		break;
	default:
		/* Another program, or a server that knows neither us nor the session. */
		hf_resume_give_up(slot, fd, now, resume->error);
		next = UINT64_MAX;
		break;
	}
	hf_forget(bytes, sizeof(bytes));
	return next;
}

uint64_t hf_resume_dial(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);

	switch (resume->step) {
	case HF_STEP_CALL:
		return greet(slot, fd, now);
	case HF_STEP_GREET:
		return listen_for(slot, fd, now);
	default:
		return call(slot, fd, now);
	}
}
