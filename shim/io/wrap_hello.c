/*
 * The handshake of a wrapped connection, and the ways out of it.
 */
#include "io/adopt.h"
#include "io/dial.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

static void copy_text(char *to, size_t room, const char *from)
{
	size_t len = strnlen(from, room - 1);

	memcpy(to, from, len);
	to[len] = '\0';
}

/* What we say of ourselves.  False: the kernel has no random numbers for us, and without them nothing can be proved. */
static bool introduce(struct hf_wrap *wrap, struct hf_hello *mine, uint32_t flags)
{
	struct utsname host;

	memset(mine, 0, sizeof(*mine));
	mine->version = HF_WIRE_VERSION;
	mine->flags = flags;
	mine->interval = hf_runtime.config.interval;
	mine->timeout = hf_runtime.config.timeout;
	mine->buffer = hf_runtime.config.on_dead == HF_RECONNECT ? hf_runtime.config.resume_buffer : 0;
	mine->pid = (uint32_t)hf_sys_getpid();
	if (hf_sys_getrandom(wrap->nonce, sizeof(wrap->nonce), 0) != (long)sizeof(wrap->nonce))
		return false;
	memcpy(mine->nonce, wrap->nonce, sizeof(mine->nonce));
	memcpy(mine->session, wrap->id, sizeof(mine->session));
	copy_text(mine->prog, sizeof(mine->prog), hf_runtime.prog);
	copy_text(mine->info, sizeof(mine->info), hf_runtime.config.info);
	if (hf_sys1(SYS_uname, &host) == 0)
		copy_text(mine->host, sizeof(mine->host), host.nodename);
	return true;
}

/* Without a key the id in it is what proves a RESUME: nothing of it stays on the stack, which a core dump has. */
static int send_hello(struct hf_wrap *wrap, int fd, const struct hf_hello *mine, const uint8_t *client_nonce)
{
	uint8_t out[HF_HELLO_SIZE];
	size_t done = 0;
	int error = 0;

	hf_hello_make(out, mine, &hf_runtime.key, client_nonce);
	/* The first bytes on a connection: the kernel takes them whole, unless it is out of memory. */
	while (done < sizeof(out)) {
		long sent = hf_sys_sendto(fd, out + done, sizeof(out) - done, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

		if (sent <= 0) {
			error = done == 0 ? (int)sent : -EPROTO;
			break;
		}
		done += (size_t)sent;
		wrap->tx_raw += (uint64_t)sent;
	}
	explicit_bzero(out, sizeof(out));
	return error;
}

int hf_wrap_say_hello(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_hello mine;
	int error;

	if (hf_sys_getrandom(wrap->id, sizeof(wrap->id), 0) != (long)sizeof(wrap->id) || !introduce(wrap, &mine, 0))
		return -EIO;
	atomic_store(&wrap->deadline, hf_wrap_now_ms() + hf_runtime.config.hello_wait);
	hf_books_open(&wrap->tx_books_open);
	error = send_hello(wrap, fd, &mine, NULL);
	explicit_bzero(&mine, sizeof(mine));
	if (error == 0)
		atomic_store(&wrap->phase, HF_PHASE_HELLO);
	hf_books_close(&wrap->tx_books_open);
	/* A part of it has gone: neither a channel nor a plain connection can come of that. */
	if (error == -EPROTO)
		hf_wrap_fail(slot, EPROTO);
	return error;
}

void hf_wrap_connected(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();

	if (wrap == NULL || atomic_load(&wrap->phase) != HF_PHASE_CONNECT || !hf_wrap_take_tx(slot, fd, me, 0))
		return;
	if (atomic_load(&wrap->phase) == HF_PHASE_CONNECT)
		(void)hf_wrap_say_hello(slot, fd);
	hf_turn_end(&wrap->tx_turn);
}

_Atomic uint32_t hf_wrap_turned;

/* From here on the connection is the program's own, but for what it has queued. */
static enum hf_shake go_plain(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (!hf_wrap_take_tx(slot, fd, me, -1))
		return HF_SHAKE_FAILED;
	/* The program has had the result of its connect(2); so has the kernel's socket to have given it. */
	if (atomic_load(&wrap->phase) == HF_PHASE_REDIAL && atomic_load(&slot->collected) != 0 &&
	    hf_tcp_state(fd) == TCP_ESTABLISHED)
		(void)hf_sys_connect(fd, &wrap->dial, wrap->dial_len);
	/* A disconnected socket has forgotten what the program shut. */
	if (wrap->client && atomic_load(&wrap->shut_read) != 0)
		hf_sys_shutdown(fd, SHUT_RD);
	atomic_store(&wrap->phase, HF_PHASE_REDIAL);
	if (hf_wrap_flush(slot, fd) != 0) {
		/* All gone, or an error that the program's own next call will meet. */
		hf_wrap_unmark(fd);
		atomic_store(&wrap->phase, HF_PHASE_NONE);
		atomic_fetch_add(&hf_wrap_turned, 1);
		atomic_store(&slot->wrap, NULL);
	}
	hf_turn_end(&wrap->tx_turn);
	return atomic_load(&wrap->phase) == HF_PHASE_NONE ? HF_SHAKE_PLAIN : HF_SHAKE_REDIAL;
}

/* The peer does not speak holdfast: the same socket object is disconnected and connected again. */
static enum hf_shake redial(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int error;

	if (hf_runtime.config.fallback == HF_FALLBACK_FAIL || wrap->dial_len == 0) {
		atomic_store(&wrap->why, HF_WRAP_WHY_PLAIN);
		hf_wrap_fail(slot, ECONNREFUSED);
		return HF_SHAKE_FAILED;
	}
	atomic_store(&wrap->phase, HF_PHASE_REDIAL);
	(void)hf_hang_up(fd);
	error = hf_dial(fd, &wrap->dial.any, wrap->dial_len);
	/* The program's own connect(2) is over: what it would say to this one is lost if we do not keep it. */
	if (error < 0 && error != -EINPROGRESS && error != -EAGAIN && error != -EINTR) {
		hf_wrap_fail(slot, -error);
		return HF_SHAKE_FAILED;
	}
	atomic_store(&wrap->renew, 1);
	return HF_SHAKE_REDIAL;
}

static enum hf_shake not_holdfast(struct hf_slot *slot, int fd, uint32_t me)
{
	return hf_wrap_of(slot)->client ? redial(slot, fd) : go_plain(slot, fd, me);
}

/* Both sides have proved that they speak: frames from here on, and what waited goes out. */
static enum hf_shake switch_on(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct timeval limit = {0, 0};
	socklen_t len = sizeof(limit);
	uint8_t proof[HF_CHECK_SIZE];
	uint32_t seed;

	memcpy(&seed, wrap->nonce, sizeof(seed));
	if (!hf_wrap_take_tx(slot, fd, me, -1))
		return HF_SHAKE_FAILED;
	wrap->unread_since = hf_wrap_now_ms();
	hf_session_init(&wrap->session, wrap->unread_since, hf_runtime.config.interval, wrap->peer.interval,
			wrap->peer.timeout, seed | 1);
	if (hf_runtime.key.size != 0 && wrap->client) {
		hf_proof_make(proof, &hf_runtime.key, wrap->nonce, wrap->peer.nonce);
		(void)hf_tx_control(&wrap->tx, HF_FRAME_PROOF, proof, sizeof(proof));
	}
	wrap->rx.proof_due = hf_runtime.key.size != 0 && !wrap->client;
	if (hf_sys_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &len) == 0)
		atomic_store(&wrap->receive_limit, (uint32_t)(limit.tv_sec * 1000 + limit.tv_usec / 1000));
	hf_resume_arm(slot, fd);
	atomic_store(&wrap->phase, HF_PHASE_ON);
	(void)hf_wrap_flush(slot, fd);
	hf_turn_end(&wrap->tx_turn);
	return HF_SHAKE_ON;
}

/* The server's answer, to a HELLO it accepts or refuses. */
static int answer(struct hf_wrap *wrap, int fd, uint32_t flags)
{
	struct hf_hello mine;
	int error;

	memcpy(wrap->id, wrap->peer.session, sizeof(wrap->id));
	if (!introduce(wrap, &mine, HF_HELLO_SERVER | flags))
		return -EIO;
	error = send_hello(wrap, fd, &mine, wrap->peer.nonce);
	explicit_bzero(&mine, sizeof(mine));
	return error;
}

/* An error that says nothing of the connection. */
static bool passing(long error)
{
	return error == -EAGAIN || error == -EINTR || error == -ENOMEM || error == -ENOBUFS;
}

/* Take the HELLO that was only peeked at out of the kernel's queue. */
static bool consume(struct hf_wrap *wrap, int fd, size_t size)
{
	enum { MOST_TRIES = 1000 };

	for (int tries = 0; size > 0 && tries < MOST_TRIES; tries++) {
		long got = hf_sys_discard(fd, size);

		if (got <= 0 && !passing(got))
			return false;
		if (got > 0) {
			wrap->rx_raw += (uint64_t)got;
			size -= (size_t)got;
		}
	}
	return size == 0;
}

static enum hf_shake valid(struct hf_slot *slot, int fd, uint32_t me, size_t used)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	enum hf_shake switched;

	hf_books_open(&wrap->rx_books_open);
	if (!consume(wrap, fd, used)) {
		hf_wrap_fail(slot, EPROTO);
		return HF_SHAKE_FAILED;
	}
	if (wrap->client && (wrap->peer.flags & HF_HELLO_REFUSED) != 0) {
		atomic_store(&wrap->why, HF_WRAP_WHY_REFUSED);
		hf_wrap_fail(slot, ECONNREFUSED);
		return HF_SHAKE_FAILED;
	}
	if (!wrap->client && answer(wrap, fd, 0) < 0) {
		hf_wrap_fail(slot, ECONNRESET);
		return HF_SHAKE_FAILED;
	}
	switched = switch_on(slot, fd, me);
	hf_books_close(&wrap->rx_books_open);
	return switched;
}

bool hf_wrap_greeted(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char in[HF_MAGIC_SIZE];

	if (atomic_load(&hf_sys_confined))
		return false;
	(void)hf_sys_poll(&p, 1, (int)hf_runtime.config.hello_wait_accept);
	return hf_sys_recvfrom(fd, in, sizeof(in), MSG_PEEK | MSG_DONTWAIT, NULL, NULL) > 0 &&
	       memcmp(in, HF_MAGIC, 1) == 0;
}

static enum hf_hello_result peek_hello(struct hf_wrap *wrap, int fd, uint8_t *in, size_t room, size_t *used, long *got)
{
	*got = hf_sys_recvfrom(fd, in, room, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	if (*got <= 0)
		return HF_HELLO_PLAIN;
	return hf_hello_read(in, (size_t)*got, &hf_runtime.key, wrap->client, wrap->client ? wrap->nonce : NULL,
			     wrap->client ? wrap->id : NULL, &wrap->peer, used);
}

/* A longer one, of a version to come.  Apart, for the room on the stack. */
static __attribute__((noinline)) enum hf_hello_result peek_long(struct hf_wrap *wrap, int fd, size_t *used, long *got)
{
	uint8_t in[HF_HELLO_MOST];
	enum hf_hello_result result = peek_hello(wrap, fd, in, sizeof(in), used, got);

	explicit_bzero(in, sizeof(in));
	return result;
}

/* Until when the peer's HELLO is waited for: what a program has to say to a plain peer must not wait for long. */
static uint64_t deadline_of(const struct hf_wrap *wrap)
{
	return !wrap->client && atomic_load(&wrap->spoken) != 0 && atomic_load(&wrap->begun) == 0
		       ? atomic_load(&wrap->soon)
		       : atomic_load(&wrap->deadline);
}

/* A part of what may be a HELLO: the rest has a time of its own, whenever the first byte came. */
static enum hf_shake begin(struct hf_wrap *wrap)
{
	if (atomic_exchange(&wrap->begun, 1) == 0)
		atomic_store(&wrap->deadline, hf_wrap_now_ms() + hf_runtime.config.hello_wait_accept);
	return HF_SHAKE_AGAIN;
}

/*
 * Whether an accepted connection, of which nothing has come yet, has been reset: it is the program's to learn of, as of
 * any plain connection, and the kernel tells it once.  Most often there is no reason to ask.
 */
static bool reset_unseen(const struct hf_wrap *wrap, int fd)
{
	int waiting = 0;

	return !wrap->client && hf_wrap_now_ms() >= atomic_load(&wrap->soon) && hf_tcp_state(fd) == TCP_CLOSE &&
	       hf_sys_ioctl(fd, SIOCINQ, &waiting) == 0 && waiting == 0;
}

static enum hf_shake read_hello(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool late = hf_wrap_now_ms() >= deadline_of(wrap);
	uint8_t in[HF_HELLO_SIZE + 1], name[HF_SESSION_SIZE];
	enum hf_hello_result result;
	size_t used = 0;
	bool resumes;
	long got;

	if (reset_unseen(wrap, fd))
		return not_holdfast(slot, fd, me);
	result = peek_hello(wrap, fd, in, sizeof(in), &used, &got);
	resumes = got > 0 && hf_resume_called(in, (size_t)got, name);
	explicit_bzero(in, sizeof(in));
	if (result == HF_HELLO_MORE && got == (long)sizeof(in))
		result = peek_long(wrap, fd, &used, &got);
	/* After the program's SHUT_RD an empty queue looks like an end of the peer's, and is none. */
	if (got == 0 && atomic_load(&wrap->shut_read) != 0 && hf_tcp_state(fd) == TCP_ESTABLISHED)
		got = -EAGAIN;
	if (got == -EAGAIN)
		return late ? not_holdfast(slot, fd, me) : HF_SHAKE_WAIT;
	if (passing(got) && hf_wrap_now_ms() < atomic_load(&wrap->deadline) + hf_runtime.config.hello_wait)
		return HF_SHAKE_WAIT;
	/* The kernel says it once, and has said it to us. */
	if (got < 0 && (!wrap->client || passing(got))) {
		hf_wrap_fail(slot, (int)-got);
		return HF_SHAKE_FAILED;
	}
	if (got <= 0)
		return not_holdfast(slot, fd, me);
	/* Who resumes has another check, so this is not the peer of any session; nor is it a client that begins one. */
	if (result == HF_HELLO_VALID && !wrap->client && (wrap->peer.flags & HF_HELLO_RESUME) != 0)
		result = HF_HELLO_BROKEN;
	switch (result) {
	case HF_HELLO_MORE:
		/* Who has said that much speaks holdfast, and what is cut off must not be read as data. */
		if (!wrap->client && got >= HF_MAGIC_SIZE) {
			if (atomic_load(&wrap->begun) == 0)
				return begin(wrap);
			if (hf_wrap_now_ms() < atomic_load(&wrap->deadline) + hf_runtime.config.hello_wait)
				return HF_SHAKE_AGAIN;
			hf_wrap_fail(slot, EPROTO);
			return HF_SHAKE_FAILED;
		}
		if (!wrap->client && atomic_load(&wrap->begun) == 0)
			return begin(wrap);
		return late ? not_holdfast(slot, fd, me) : HF_SHAKE_AGAIN;
	case HF_HELLO_VALID:
		return valid(slot, fd, me, used);
	case HF_HELLO_FOREIGN:
	case HF_HELLO_KEY:
	case HF_HELLO_BROKEN:
		/* That of a client who resumes a session, come too late to be known in accept(2), is neither: it comes
		 * again, and there is nothing to tell. */
		if (wrap->client || !resumes)
			atomic_store(&wrap->why, result == HF_HELLO_KEY       ? HF_WRAP_WHY_KEY
						 : result == HF_HELLO_FOREIGN ? HF_WRAP_WHY_VERSION
									      : HF_WRAP_WHY_BROKEN);
		if (!wrap->client)
			(void)answer(wrap, fd, HF_HELLO_REFUSED);
		hf_wrap_fail(slot, wrap->client ? ECONNREFUSED : ECONNRESET);
		return HF_SHAKE_FAILED;
	case HF_HELLO_PLAIN:
		break;
	}
	return not_holdfast(slot, fd, me);
}

/* Whether no other thread has said HELLO meanwhile; one may just have, and been reset for it. */
static bool still_connecting(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool still;

	if (!hf_wrap_take_tx(slot, fd, me, -1))
		return false;
	still = atomic_load(&wrap->phase) == HF_PHASE_CONNECT;
	hf_turn_end(&wrap->tx_turn);
	return still;
}

enum hf_shake hf_wrap_shake(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int state, error = 0;

	if (wrap == NULL)
		return HF_SHAKE_PLAIN;
	switch (atomic_load(&wrap->phase)) {
	case HF_PHASE_CONNECT:
		state = hf_tcp_state(fd);
		if (state == TCP_SYN_SENT)
			return HF_SHAKE_WAIT;
		if (state != TCP_ESTABLISHED)
			return still_connecting(slot, fd, me) ? go_plain(slot, fd, me) : HF_SHAKE_AGAIN;
		if (!hf_wrap_take_tx(slot, fd, me, -1))
			return HF_SHAKE_FAILED;
		if (atomic_load(&wrap->phase) == HF_PHASE_CONNECT)
			error = hf_wrap_say_hello(slot, fd);
		hf_turn_end(&wrap->tx_turn);
		if (error == -EPROTO)
			return HF_SHAKE_FAILED;
		/* The program shut its direction before it connected: without a HELLO there is no channel. */
		return error < 0 ? go_plain(slot, fd, me) : HF_SHAKE_WAIT;
	case HF_PHASE_HELLO:
		/* Whoever had the turn before us may have refused it. */
		return hf_wrap_fate(slot) != 0 ? HF_SHAKE_FAILED : read_hello(slot, fd, me);
	case HF_PHASE_REDIAL:
		return hf_tcp_state(fd) == TCP_SYN_SENT ? HF_SHAKE_REDIAL : go_plain(slot, fd, me);
	case HF_PHASE_ON:
		return HF_SHAKE_ON;
	case HF_PHASE_BROKEN:
		if (hf_resume_broken(wrap) || atomic_load(&wrap->phase) != HF_PHASE_BROKEN)
			return HF_SHAKE_BROKEN;
		/* Given up: then it has a fate.  Else no library has left it so, and nobody would ever go on with it.
		 */
		if (hf_wrap_fate(slot) == 0)
			hf_wrap_fail(slot, EPROTO);
		return HF_SHAKE_FAILED;
	default:
		atomic_store(&slot->wrap, NULL); /* another process has found it out */
		return HF_SHAKE_PLAIN;
	}
}
