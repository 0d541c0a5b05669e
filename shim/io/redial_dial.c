/*
 * The watchdog's turn at a connection that is made anew.
 */
#include "io/adopt.h"
#include "io/dial.h"
#include "io/redial.h"
#include "io/wait.h"
#include "io/wrap.h"
#include "runtime.h"
#include "sys.h"
#include "watch/socket.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

enum {
	STEP_MS = 4,
	CALL_MS = 2000, /* a connect */
	OUT_MS = 1000,  /* until whoever was in a call is out of it */
	QUIET_MS = 200,
	REPLAY_MS = 10000, /* answers to the prologue: over after this silence, too long after that */
};

static int error_of(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	return hf_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : 0;
}

static void tell(struct hf_slot *slot, enum hf_event_kind kind, uint64_t down, uint64_t resent)
{
	int error = atomic_load(&hf_redial_of(slot)->error);
	bool path = error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN ||
		    error == ENETDOWN;

	hf_tell_resume(slot, kind, path ? HF_WHY_PATH : HF_WHY_RESET, down, resent);
}

static uint64_t over(struct hf_slot *slot, struct hf_redialling *redial)
{
	redial->step = HF_REDIAL_WHOLE;
	atomic_store(&redial->broken, 0);
	hf_wake_all(&redial->word);
	hf_epoll_again(slot);
	return UINT64_MAX;
}

static uint64_t give_up(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	tell(slot, HF_EV_GAVE_UP, now - redial->broken_at, 0);
	atomic_store(&redial->barred, 1);
	hf_wrap_share_fate(slot, ETIMEDOUT);
	/* Whoever waits in a call that we do not see is to find an error, which disconnecting a call leaves. */
	if (hf_tcp_state(fd) == TCP_CLOSE)
		(void)hf_dial(fd, &redial->dial.any, redial->dial_len);
	if (hf_hang_up(fd) != 0)
		(void)hf_sys_shutdown(fd, SHUT_RDWR);
	return over(slot, redial);
}

/* Nothing known of the old connection counts. */
static uint64_t go_on(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	atomic_store(&slot->start, now);
	atomic_store(&slot->error_seen, 0);
	atomic_store(&slot->told_reset, 0);
	slot->looked = slot->asking = slot->resting = false;
	hf_socket_names(slot, fd);
	if (atomic_load(&slot->tuned) != 0)
		hf_socket_retune(slot, fd);
	atomic_store(&redial->owed, 0);
	/* Counted before it shows: what a wait has seen of the old connection is asked for again (io/wait.h). */
	atomic_fetch_add(&redial->life, 1);
	atomic_fetch_add(&hf_wrap_turned, 1);
	tell(slot, HF_EV_RESUMED, now - redial->broken_at, atomic_load(&redial->sent));
	return over(slot, redial);
}

/* Not this time: again after a while. */
static uint64_t later(struct hf_redialling *redial, int fd, uint64_t now)
{
	(void)hf_hang_up(fd);
	hf_dial_forget(fd);
	redial->step = HF_REDIAL_REST;
	redial->next_at = now + hf_dial_rest(redial->tries++);
	return redial->next_at;
}

static uint64_t leave_old(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	int error = hf_hang_up(fd);

	if (error == -EBUSY && now < redial->broken_at + OUT_MS) {
		/* Some kernels say so while a thread sleeps in a call: it is woken by this. */
		(void)hf_sys_shutdown(fd, SHUT_RDWR);
		return now + STEP_MS;
	}
	if (error != 0 || hf_tcp_state(fd) != TCP_CLOSE)
		return give_up(slot, redial, fd, now);
	(void)error_of(fd);
	/* Who reads the answers to the prologue must be us. */
	if (hf_runtime.config.redial_prologue != 0 && atomic_load(&redial->readers) != 0)
		return now < redial->broken_at + OUT_MS ? now + STEP_MS : give_up(slot, redial, fd, now);
	redial->step = HF_REDIAL_REST;
	redial->next_at = now;
	redial->tries = 0;
	return now;
}

static uint64_t call(struct hf_redialling *redial, int fd, uint64_t now)
{
	int error;

	if (now < redial->next_at)
		return redial->next_at;
	error = hf_dial(fd, &redial->dial.any, redial->dial_len);
	if (!hf_dialling(error))
		return later(redial, fd, now);
	redial->step = HF_REDIAL_CALL;
	redial->next_at = now + CALL_MS;
	return error == 0 ? now : now + STEP_MS;
}

static uint64_t connected(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	int state = hf_tcp_state(fd);

	if (state == TCP_SYN_SENT && now < redial->next_at)
		return now + STEP_MS;
	if (state != TCP_ESTABLISHED)
		return later(redial, fd, now);
	atomic_store(&redial->sent, 0);
	/* A program that has read nothing yet wants the peer's greeting. */
	if (hf_runtime.config.redial_prologue == 0 || atomic_load(&redial->heard) == 0)
		return go_on(slot, redial, fd, now);
	redial->step = HF_REDIAL_REPLAY;
	redial->next_at = now + REPLAY_MS;
	redial->moved_at = now;
	return now;
}

/* Throw away what has come. False: the peer has ended it. */
static bool discard(struct hf_redialling *redial, int fd, uint64_t now)
{
	enum { MOST = 1024 };

	for (int i = 0; i < MOST; i++) {
		long got = hf_sys_discard(fd, HF_SYS_DISCARD);

		if (got == -EAGAIN)
			return true;
		if (got <= 0)
			return false;
		redial->moved_at = now;
	}
	return true;
}

static uint64_t replay(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	uint32_t kept = atomic_load(&redial->kept), done = atomic_load(&redial->sent);
	int outq = 0;
	long sent = 0;

	if (done < kept)
		sent = hf_sys_sendto(fd, redial->memory + done, kept - done, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	if ((sent < 0 && sent != -EAGAIN) || !discard(redial, fd, now))
		return later(redial, fd, now);
	if (sent > 0)
		atomic_fetch_add(&redial->sent, (uint32_t)sent);
	/* It is the peer's turn only when it has got everything. */
	if (atomic_load(&redial->sent) < kept || hf_sys_ioctl(fd, SIOCOUTQ, &outq) < 0 || outq != 0)
		redial->moved_at = now;
	if (now >= redial->moved_at + QUIET_MS && hf_tcp_state(fd) == TCP_ESTABLISHED)
		return go_on(slot, redial, fd, now);
	/* A peer that goes on and on: nobody can tell where its answers end. */
	return now < redial->next_at ? now + STEP_MS : later(redial, fd, now);
}

static uint64_t start(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	bool ended = hf_tcp_state(fd) == TCP_CLOSE;

	if (ended && atomic_load(&redial->error) == 0)
		atomic_store(&redial->error, error_of(fd));
	redial->step = HF_REDIAL_BREAK;
	redial->broken_at = now;
	redial->until = now + hf_runtime.config.reconnect_window;
	redial->tries = 0;
	if (ended && atomic_load(&redial->error) == EPIPE) {
		/* Reset after the peer had ended its direction: that end is the program's to see. */
		hf_wrap_share_fate(slot, ECONNRESET);
		return over(slot, redial);
	}
	tell(slot, HF_EV_BROKEN, 0, 0);
	return now;
}

static uint64_t step(struct hf_slot *slot, struct hf_redialling *redial, int fd, uint64_t now)
{
	uint64_t next = now;

	/* Several at once where nothing has to be waited for. */
	for (int i = 0; i < 8 && next <= now; i++) {
		if (redial->step != HF_REDIAL_WHOLE && (now >= redial->until || atomic_load(&redial->barred) != 0))
			return give_up(slot, redial, fd, now);
		switch (redial->step) {
		case HF_REDIAL_WHOLE:
			next = start(slot, redial, fd, now);
			break;
		case HF_REDIAL_BREAK:
			next = leave_old(slot, redial, fd, now);
			break;
		case HF_REDIAL_REST:
			next = call(redial, fd, now);
			break;
		case HF_REDIAL_CALL:
			next = connected(slot, redial, fd, now);
			break;
		case HF_REDIAL_REPLAY:
			next = replay(slot, redial, fd, now);
			break;
		}
	}
	return next <= now ? now + 1 : next < redial->until || next == UINT64_MAX ? next : redial->until;
}

uint64_t hf_redial_tend(struct hf_slot *slot, int fd, uint64_t now)
{
	struct hf_redialling *redial = hf_redial_of(slot);
	uint64_t next = 0;
	int copy;

	if (redial == NULL)
		return UINT64_MAX;
	atomic_store(&redial->tended, 1);
	if (atomic_load(&redial->ended) != 0) {
		next = now + STEP_MS;
	} else if ((copy = hf_socket_grip(slot, fd)) >= 0) {
		next = step(slot, redial, copy, now);
		hf_socket_let_go(copy, fd);
	}
	atomic_store(&redial->tended, 0);
	return next;
}

uint64_t hf_redial_since(struct hf_slot *slot)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	return redial != NULL ? redial->broken_at : 0;
}

uint64_t hf_redial_until(struct hf_slot *slot)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	return redial != NULL ? redial->until : 0;
}
