/*
 * The server's side of a resumption: the client's new connection is proved, and put under the program's descriptor.
 */
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

enum { STEP_MS = 4, IDLE_MS = 20, PROVE_MS = 5000, PROOF_FRAME = HF_HEADER_SIZE + HF_CHECK_SIZE };

/* The new connection is not the one. */
static uint64_t decline(struct hf_slot *slot, uint64_t now)
{
	if (hf_rare(slot)->offered > 0)
		hf_sys_close(hf_rare(slot)->offered - 1);
	hf_rare(slot)->offered = 0;
	hf_resume_of(slot)->step = HF_STEP_REST;
	return now + STEP_MS;
}

/* Its HELLO, which has been checked by whoever took it from the listener, and ours. */
static uint64_t greet(struct hf_slot *slot, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int new = hf_rare(slot)->offered - 1;
	uint8_t in[HF_HELLO_SIZE], out[HF_HELLO_SIZE];
	struct hf_hello peer;

	if (hf_sys_recvfrom(new, in, sizeof(in), MSG_DONTWAIT, NULL, NULL) != (long)sizeof(in) ||
	    !hf_resume_genuine(wrap, in, &peer))
		return decline(slot, now);
	/* Whether what it expects is still kept matters only when it has proved to be no replay. */
	hf_resume_hello(slot, out, HF_HELLO_SERVER, peer.nonce);
	if (hf_sys_sendto(new, out, sizeof(out), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) != (long)sizeof(out))
		return decline(slot, now);
	memcpy(resume->peer_nonce, peer.nonce, sizeof(peer.nonce));
	resume->peer_expects = peer.offset;
	resume->step = HF_STEP_PROVE;
	resume->offer_fenced = false;
	resume->next_at = now + PROVE_MS;
	return now + 1;
}

static void copy_option(int from, int to, int level, int name, size_t size)
{
	uint8_t value[32];
	socklen_t len = (socklen_t)size;

	if (hf_sys_getsockopt(from, level, name, value, &len) == 0)
		(void)hf_sys_setsockopt(to, level, name, value, len);
}

/* What the program has set on its socket, or might have; the sizes of buffers are the kernel's doubles of it. */
static void copy_options(int from, int to)
{
	static const struct {
		int level, name;
		size_t size;
	} options[] = {
		{SOL_SOCKET, SO_LINGER, sizeof(struct linger)},
		{SOL_SOCKET, SO_RCVTIMEO, sizeof(struct timeval)},
		{SOL_SOCKET, SO_SNDTIMEO, sizeof(struct timeval)},
		{SOL_SOCKET, SO_OOBINLINE, sizeof(int)},
		{SOL_SOCKET, SO_PRIORITY, sizeof(int)},
		{SOL_SOCKET, SO_MARK, sizeof(int)},
		{SOL_SOCKET, SO_RCVLOWAT, sizeof(int)},
		{SOL_SOCKET, SO_KEEPALIVE, sizeof(int)},
		{SOL_TCP, TCP_NODELAY, sizeof(int)},
		{SOL_TCP, TCP_CORK, sizeof(int)},
		{SOL_TCP, TCP_KEEPIDLE, sizeof(int)},
		{SOL_TCP, TCP_KEEPINTVL, sizeof(int)},
		{SOL_TCP, TCP_KEEPCNT, sizeof(int)},
		{SOL_TCP, TCP_USER_TIMEOUT, sizeof(int)},
		{SOL_TCP, TCP_NOTSENT_LOWAT, sizeof(int)}, /* our mark among them */
		{SOL_IP, IP_TOS, sizeof(int)},
		{SOL_IP, IP_TTL, sizeof(int)},
		{SOL_IPV6, IPV6_TCLASS, sizeof(int)},
	};
	long owner = hf_sys_fcntl(from, F_GETOWN, 0), sig = hf_sys_fcntl(from, F_GETSIG, 0);

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		copy_option(from, to, options[i].level, options[i].name, options[i].size);
	if (owner != 0 && owner > -4096)
		(void)hf_sys_fcntl(to, F_SETOWN, owner);
	if (sig > 0)
		(void)hf_sys_fcntl(to, F_SETSIG, sig);
	(void)hf_sys_fcntl(to, F_SETFL, hf_sys_fcntl(from, F_GETFL, 0));
}

struct swap {
	int from, to;
};

static void put_under(void *arg)
{
	const struct swap *swap = arg;
	long flags = hf_sys_fcntl(swap->to, F_GETFD, 0);

	(void)hf_sys3(SYS_dup3, swap->from, swap->to, flags >= 0 && (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
}

void hf_resume_replace(struct hf_slot *slot, int fd, int new)
{
	hf_fd_entry entry = hf_slot_entry(slot);
	struct swap swap = {new, fd};

	hf_epoll_around(fd, put_under, &swap);
	for (int other = 0; other < hf_fdmap_end(); other++) {
		if (other == fd || hf_fdmap_get(other) != entry)
			continue;
		swap.to = other;
		hf_epoll_around(other, put_under, &swap);
	}
}

/* Both turns are ours. */
static uint64_t take_over(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int new = hf_rare(slot)->offered - 1;

	(void)hf_sys_discard(new, PROOF_FRAME);
	if (resume->offer_fenced)
		hf_resume_unfence(new);
	copy_options(fd, new);
	hf_resume_replace(slot, fd, new);
	hf_resume_moved(slot, new);
	hf_sys_close(new);
	hf_rare(slot)->offered = 0;
	wrap->rx_raw = HF_HELLO_SIZE + PROOF_FRAME;
	wrap->tx_raw = HF_HELLO_SIZE;
	if (!hf_resume_go_on(slot, fd, now, resume->peer_expects))
		hf_resume_give_up(slot, fd, now, ECONNRESET);
	return UINT64_MAX;
}

static bool proved(const struct hf_resume *resume, const struct hf_wrap *wrap, const uint8_t in[PROOF_FRAME])
{
	uint8_t bytes[HF_CHECK_SIZE], name[HF_SESSION_SIZE], expected[HF_CHECK_SIZE];
	const struct hf_key key = {bytes, sizeof(bytes)};
	enum hf_frame_type type;
	uint32_t length;

	if (!hf_header_read(in, &type, &length) || type != HF_FRAME_PROOF)
		return false;
	hf_resume_keys(wrap, bytes, name);
	hf_proof_make(expected, &key, resume->peer_nonce, resume->nonce);
	hf_forget(bytes, sizeof(bytes));
	return hf_check_equal(expected, in + HF_HEADER_SIZE);
}

static uint64_t prove(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_watchdog();
	uint8_t in[PROOF_FRAME];
	uint64_t next = now + 1;
	long got = hf_sys_recvfrom(hf_rare(slot)->offered - 1, in, sizeof(in), MSG_PEEK | MSG_DONTWAIT, NULL, NULL);

	if (got == -EAGAIN || (got > 0 && got < (long)sizeof(in))) {
		if (now < resume->next_at && atomic_load(&hf_rare(slot)->offer) == 0)
			return now + STEP_MS;
		if (resume->offer_fenced)
			return decline(slot, now);
		/* Nothing more is acknowledged there; then one last look. */
		resume->offer_fenced = true;
		hf_resume_fence(hf_rare(slot)->offered - 1);
		return now + 2;
	}
	if (got <= 0 || !proved(resume, wrap, in))
		return decline(slot, now);
	if (!hf_wrap_take_rx(slot, fd, me, 0))
		return next;
	if (hf_wrap_take_tx(slot, fd, me, 0)) {
		next = take_over(slot, fd, now);
		hf_turn_end(&wrap->tx_turn);
	}
	hf_turn_end(&wrap->rx_turn);
	return next;
}

uint64_t hf_resume_serve(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_resume *resume = hf_resume_of(slot);
	uint64_t next;
	int offer;

	/* Once proved, the client may have been told that bytes have arrived there: not to be left for another, however
	 * new, before they are taken. */
	if (resume->step == HF_STEP_PROVE) {
		next = prove(slot, fd, now);
		if (resume->step != HF_STEP_REST)
			return next;
	}
	offer = atomic_exchange(&hf_rare(slot)->offer, 0);
	if (offer > 0) {
		/* The client has given up an earlier one. */
		if (hf_rare(slot)->offered > 0)
			(void)decline(slot, now);
		hf_rare(slot)->offered = offer;
		return greet(slot, now);
	}
	hf_resume_look_around(slot, now);
	return atomic_load(&hf_rare(slot)->offer) > 0 ? now : now + IDLE_MS;
}
