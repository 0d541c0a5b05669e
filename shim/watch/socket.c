#include "watch/socket.h"
#include "io/adopt.h"
#include "io/bound.h"
#include "io/keep.h"
#include "hand.h"
#include "runtime.h"
#include "sys.h"
#include "watch/tcpinfo.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <netinet/tcp.h>
#include <string.h>

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44 /* Linux 6.15 */
#endif

static int get(int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);
	int error = hf_sys_getsockopt(fd, level, name, &value, &len);

	return error < 0 ? error : value;
}

static int set(int fd, int level, int name, int value)
{
	return hf_sys_setsockopt(fd, level, name, &value, sizeof(value));
}

/* The first look writes the cookie down; every later one compares. */
static bool identify(struct hf_slot *slot, int fd)
{
	uint64_t cookie = 0, ours = atomic_load_explicit(&slot->cookie, memory_order_relaxed);
	socklen_t len = sizeof(cookie);

	if (hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return hf_same_socket(fd, slot);
	if (ours == 0)
		atomic_store(&slot->cookie, cookie);
	return ours == 0 || ours == cookie;
}

/* Whether an error waits to be collected; reading SO_ERROR would steal it from the program. */
static bool error_pending(int fd)
{
	struct pollfd p = {.fd = fd};

	return hf_sys_poll(&p, 1, 0) > 0 && (p.revents & POLLERR) != 0;
}

static int unread_bytes(int fd)
{
	int unread = 0;

	return hf_sys_ioctl(fd, SIOCINQ, &unread) == 0 && unread > 0 ? unread : 0;
}

/* Whether what the judge and the slot remember may be compared with: hooks (NOW is 0) must not touch it. */
static bool looked_before(const struct hf_slot *slot, uint64_t now)
{
	return now != 0 && slot->looked && slot->judge.seen;
}

/*
 * Whether INFO cannot have a reset's segment in it: none has come since the last look, or one, and that was a sign of
 * life.  So it is with every idle connection, and spares it a system call a look.
 */
static bool no_reset(const struct hf_slot *slot, uint64_t now, const struct hf_tcp_info *info)
{
	enum { JITTER_MS = 20 }; /* ages are in jiffies, NOW is that of the first of a row of looks */
	const struct hf_judge *judge = &slot->judge;
	uint32_t segments = info->segs_in - judge->segs_in;
	uint32_t age = info->last_ack_recv < info->last_data_recv ? info->last_ack_recv : info->last_data_recv;

	if (!looked_before(slot, now))
		return false;
	return segments == 0 || (segments == 1 && now > judge->last_look + age + JITTER_MS);
}

/*
 * The kernel counts a reset among the segments before it acts on it, and looks at the state before it counts
 * (tcp_get_info(), with the socket in use meanwhile): a snapshot may have the reset's segment and not its state, and
 * then nothing would tell a reset from silence.
 */
static bool info_of(const struct hf_slot *slot, int fd, uint64_t now, struct hf_tcp_info *info, socklen_t *size)
{
	for (int tries = 0; tries < 3; tries++) {
		uint8_t state = 0;
		socklen_t len = sizeof(state);

		*size = sizeof(*info);
		memset(info, 0, sizeof(*info));
		if (hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, info, size) < 0)
			return false;
		if (info->state == HF_TCP_CLOSE || no_reset(slot, now, info) ||
		    hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &state, &len) < 0 || state != HF_TCP_CLOSE)
			break;
	}
	return true;
}

/* SIOCINQ.  Nothing was unread and nothing has come: nothing is, and the system call can be spared.  Not where the
 * socket may have begun another life since the last look. */
static uint32_t unread_now(const struct hf_slot *slot, int fd, uint64_t now, const struct hf_tcp_info *info)
{
	bool same_life = looked_before(slot, now) && atomic_load(&slot->wrap_tried) == 0 &&
			 atomic_load(&slot->wrap) == NULL && atomic_load(&slot->redial) == NULL;

	if (info->state == HF_TCP_LISTEN || (same_life && slot->all_read && info->state == HF_TCP_ESTABLISHED &&
					     info->bytes_received == slot->judge.bytes_received))
		return 0;
	return (uint32_t)unread_bytes(fd);
}

/* Whether the socket can have begun no other life since the last look, and nothing was under way at that. */
static bool was_calm(const struct hf_slot *slot, uint64_t now)
{
	const struct hf_judge *judge = &slot->judge;

	return looked_before(slot, now) && atomic_load_explicit(&slot->wrap, memory_order_relaxed) == NULL &&
	       atomic_load_explicit(&slot->redial, memory_order_relaxed) == NULL &&
	       (atomic_load_explicit(&slot->wrap_tried, memory_order_relaxed) |
		atomic_load_explicit(&slot->failed, memory_order_relaxed) |
		atomic_load_explicit(&slot->error_seen, memory_order_relaxed)) == 0 &&
	       atomic_load_explicit(&slot->tuned, memory_order_relaxed) != 0 && slot->all_read && !slot->asking &&
	       !slot->resting && !slot->turned_plain && judge->state == HF_TCP_ESTABLISHED && !judge->repeats &&
	       !judge->late && !judge->dead && !judge->stalled && !judge->half_closed;
}

/*
 * Whether INFO tells of nothing but a sign of life in the last half of the timeout.  Then no verdict, event or question
 * can come of the look, and the cookie need not be asked for: a socket that has come to stand at the number behind our
 * back, and has sent and received exactly as much, is taken for ours until something happens to it, and no longer.
 */
static bool is_quiet(const struct hf_slot *slot, uint64_t now, const struct hf_tcp_info *info)
{
	const struct hf_judge *judge = &slot->judge;
	uint32_t age = info->last_ack_recv < info->last_data_recv ? info->last_ack_recv : info->last_data_recv;

	return info->state == HF_TCP_ESTABLISHED && (info->probes | info->backoff | info->retransmits) == 0 &&
	       (info->unacked | info->notsent_bytes) == 0 && info->bytes_acked == judge->bytes_acked &&
	       info->bytes_received == judge->bytes_received && info->data_segs_in == judge->data_segs_in &&
	       age < slot->timeout / 2 && hf_runtime.policy.reply_timeout == 0 && was_calm(slot, now);
}

bool hf_socket_look(struct hf_slot *slot, int fd, uint64_t now, struct hf_evidence *evidence)
{
	struct hf_tcp_info info;
	socklen_t len;
	bool quiet;

	if (!info_of(slot, fd, now, &info, &len))
		return false;
	quiet = is_quiet(slot, now, &info);
	if (!quiet && !identify(slot, fd))
		return false;
	memset(evidence, 0, sizeof(*evidence));
	evidence->quiet = quiet;
	evidence->state = info.state;
	evidence->probes = info.probes;
	evidence->backoff = info.backoff;
	evidence->retransmits = info.retransmits;
	evidence->unacked = info.unacked;
	evidence->notsent = info.notsent_bytes;
	evidence->snd_wnd = info.snd_wnd;
	evidence->has_snd_wnd = len >= sizeof(info);
	evidence->rtt_us = info.rtt;
	evidence->rto_us = info.rto;
	evidence->age_data_sent = info.last_data_sent;
	evidence->age_data_recv = info.last_data_recv;
	evidence->age_ack_recv = info.last_ack_recv;
	evidence->bytes_acked = info.bytes_acked;
	evidence->bytes_received = info.bytes_received;
	evidence->segs_in = info.segs_in;
	evidence->data_segs_in = info.data_segs_in;
	evidence->unread = unread_now(slot, fd, now, &info);
	if (now != 0)
		slot->all_read = evidence->unread == 0;
	if (info.state == HF_TCP_CLOSE)
		evidence->error_pending = error_pending(fd);
	evidence->last_call = atomic_load_explicit(&slot->last_call, memory_order_relaxed);
	evidence->error_seen = atomic_load_explicit(&slot->error_seen, memory_order_relaxed);
	return true;
}

void hf_socket_names(struct hf_slot *slot, int fd)
{
	union hf_address address;
	socklen_t len = sizeof(address);

	/* What was known stays, where the kernel can tell no more. */
	if (hf_sys_getsockname(fd, &address, &len) == 0)
		hf_ends_set(&slot->ends, false, &address);
	len = sizeof(address);
	if (hf_sys_getpeername(fd, &address, &len) == 0)
		hf_ends_set(&slot->ends, true, &address);
}

static void program_keepalive(struct hf_slot *slot, struct hf_keepalive *program)
{
	program->on = atomic_load(&slot->program_on) != 0;
	program->idle = atomic_load(&slot->program_idle);
	program->intvl = atomic_load(&slot->program_intvl);
	program->cnt = atomic_load(&slot->program_cnt);
}

/* A program whose own keepalive would end the connection earlier than the operator asks keeps its earlier end. */
static void take_timeout(struct hf_slot *slot, const struct hf_keepalive *program)
{
	uint64_t death = hf_keepalive_death(program);

	slot->timeout = hf_runtime.policy.timeout;
	if (death < slot->timeout)
		slot->timeout = death > hf_runtime.policy.interval ? (uint32_t)death : hf_runtime.policy.interval;
}

/*
 * A program's own TCP_USER_TIMEOUT makes the kernel end a connection at the first unanswered keepalive probe after so
 * much silence (tcp(7)), and the probes are ours.  While we watch, the kernel gets one that stands behind our own
 * verdict; the judge applies the program's to its data, and the program keeps seeing it.
 */
static void lend_user_timeout(struct hf_slot *slot, int fd)
{
	uint32_t backstop = hf_runtime.policy.timeout + 2 * hf_runtime.policy.interval;
	uint32_t program = atomic_load(&slot->program_user_timeout);

	if (atomic_load(&slot->bounded) != 0)
		return;
	if (atomic_load(&slot->lent) == 0)
		program = (uint32_t)get(fd, SOL_TCP, TCP_USER_TIMEOUT);
	if ((int)program <= 0 || program >= backstop) {
		atomic_store(&slot->lent, 0);
		return;
	}
	atomic_store(&slot->program_user_timeout, program);
	if (set(fd, SOL_TCP, TCP_USER_TIMEOUT, (int)backstop) == 0)
		atomic_store(&slot->lent, 1);
}

void hf_socket_retune(struct hf_slot *slot, int fd)
{
	struct hf_keepalive program, merged;

	program_keepalive(slot, &program);
	take_timeout(slot, &program);
	merged = hf_keepalive_merge(&program, &hf_runtime.policy);
	lend_user_timeout(slot, fd);
	set(fd, SOL_TCP, TCP_KEEPINTVL, (int)merged.intvl);
	set(fd, SOL_TCP, TCP_KEEPCNT, (int)merged.cnt);
	set(fd, SOL_TCP, TCP_KEEPIDLE, (int)merged.idle);
	/* Last, so that the timer it arms already counts by the new values. */
	set(fd, SOL_SOCKET, SO_KEEPALIVE, merged.on);
}

void hf_socket_restore(struct hf_slot *slot, int fd)
{
	struct hf_keepalive program;

	hf_unbound(slot, fd);
	if (atomic_load(&slot->tuned) == 0)
		return;
	if (atomic_exchange(&slot->lent, 0) != 0)
		set(fd, SOL_TCP, TCP_USER_TIMEOUT, (int)atomic_load(&slot->program_user_timeout));
	program_keepalive(slot, &program);
	set(fd, SOL_TCP, TCP_KEEPINTVL, (int)program.intvl);
	set(fd, SOL_TCP, TCP_KEEPCNT, (int)program.cnt);
	set(fd, SOL_TCP, TCP_KEEPIDLE, (int)program.idle);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, program.on);
}

/* net.ipv4.tcp_retries2: after so many retransmissions the kernel itself gives up (tcp(7)). */
static uint32_t retries2;

void hf_socket_prepare(void)
{
	enum { USUAL = 15 };
	char text[16];
	uint32_t value = 0;
	long got;
	int fd;

	if (retries2 != 0)
		return;
	fd = hf_sys_openat(AT_FDCWD, "/proc/sys/net/ipv4/tcp_retries2", O_RDONLY | O_CLOEXEC, 0);
	got = fd >= 0 ? hf_sys_read(fd, text, sizeof(text)) : 0;
	if (fd >= 0)
		hf_sys_close(fd);
	for (long i = 0; i < got && text[i] >= '0' && text[i] <= '9'; i++)
		value = value * 10 + (uint32_t)(text[i] - '0');
	retries2 = value != 0 ? value : USUAL;
}

static void bound_retransmissions(int fd)
{
	uint32_t most = hf_rto_max(&hf_runtime.policy, retries2);
	int now = get(fd, SOL_TCP, TCP_RTO_MAX_MS);

	/* An error: a kernel that does not offer it. Smaller already: somebody wants it so. */
	if (most != 0 && now > 0 && (uint32_t)now > most)
		set(fd, SOL_TCP, TCP_RTO_MAX_MS, (int)most);
}

void hf_socket_tune(struct hf_slot *slot, int fd)
{
	atomic_store(&slot->program_on, get(fd, SOL_SOCKET, SO_KEEPALIVE) > 0);
	atomic_store(&slot->program_idle, (uint16_t)get(fd, SOL_TCP, TCP_KEEPIDLE));
	atomic_store(&slot->program_intvl, (uint16_t)get(fd, SOL_TCP, TCP_KEEPINTVL));
	atomic_store(&slot->program_cnt, (uint16_t)get(fd, SOL_TCP, TCP_KEEPCNT));
	atomic_store(&slot->tuned, 1);
	hf_socket_retune(slot, fd);
	bound_retransmissions(fd);
}

void hf_socket_ask(struct hf_slot *slot, int fd)
{
	enum { MOST_PROBES = 127 }; /* MAX_TCP_KEEPCNT: the kernel must not take our questions for its own last ones */

	if (!slot->asking)
		set(fd, SOL_TCP, TCP_KEEPCNT, MOST_PROBES);
	slot->asking = true;
	/* Setting it arms the timer anew: at once if the connection has been silent longer (tcp_sock_set_keepidle). */
	set(fd, SOL_TCP, TCP_KEEPIDLE, 1);
}

static bool gripping; /* the watchdog's: hf_keep_act() */

static void done(void)
{
	if (gripping)
		hf_keep_acted();
	gripping = false;
}

int hf_socket_grip(struct hf_slot *slot, int fd)
{
	enum { HIGH = 512 }; /* out of the way of programs that expect the lowest number */
	int copy;

	if (hf_hand_own())
		return hf_same_socket(fd, slot) ? fd : -1; /* in our hand: nobody else can put another there */
	/* A child must not get it: it would have the connection open for as long as it lives. */
	gripping = hf_keep_act_soon();
	copy = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
	if (copy == -EINVAL || copy == -EMFILE)
		copy = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy == -EINVAL || copy == -EMFILE)
		copy = fd;
	if (copy >= 0 && hf_same_socket(copy, slot))
		return copy;
	if (copy >= 0 && copy != fd)
		hf_sys_close(copy);
	done();
	return copy < 0 ? copy : -1;
}

void hf_socket_let_go(int copy, int fd)
{
	if (copy != fd)
		hf_sys_close(copy);
	done();
}

/* connect(AF_UNSPEC): unprivileged, and wakes every sleeper at once.  Some kernels answer EBUSY while a thread sleeps
 * in the call; after a while shutdown must do. Returns ms until the next try, 0 when done. */
static uint32_t disconnect(struct hf_slot *slot, int fd)
{
	enum { TRIES = 20, PAUSE_MS = 5 };
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	if (hf_sys_connect(fd, &none, sizeof(none)) != -EBUSY)
		return 0;
	slot->dying = HF_DYING_BUSY;
	if (++slot->tries < TRIES)
		return PAUSE_MS;
	hf_sys_shutdown(fd, SHUT_RDWR);
	return 0;
}

/* Let the kernel itself time the connection out at its next timer: ETIMEDOUT for those who sleep in calls we do not
 * see, and what has arrived stays readable. */
static void nudge(struct hf_slot *slot, int fd)
{
	if (atomic_load(&slot->bounded) == 0 && atomic_load(&slot->lent) == 0) {
		atomic_store(&slot->program_user_timeout, (uint32_t)get(fd, SOL_TCP, TCP_USER_TIMEOUT));
		atomic_store(&slot->bounded, 1);
	}
	set(fd, SOL_TCP, TCP_USER_TIMEOUT, 1);
	set(fd, SOL_TCP, TCP_KEEPINTVL, 1);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, SOL_TCP, TCP_KEEPIDLE, 1);
}

enum { NUDGE_MS = 12, NUDGES = 3, HOLD_MS = 50 };

static uint32_t end_step(struct hf_slot *slot, int fd, uint64_t now)
{
	uint8_t state = (uint8_t)get(fd, SOL_TCP, TCP_INFO);

	if (state == HF_TCP_CLOSE)
		return 0;
	if (slot->dying == HF_DYING_NUDGED && ++slot->tries < NUDGES) {
		nudge(slot, fd);
		return NUDGE_MS;
	}
	/* Disconnecting throws away what the peer sent before it died.  The program may have it: the hooks refuse all
	 * but reads meanwhile, and the timer set above ends the connection for those who sleep. */
	if (slot->dying != HF_DYING_BUSY && unread_bytes(fd) > 0 && now - hf_rare(slot)->dying_since < slot->timeout) {
		slot->dying = HF_DYING_HELD;
		return HOLD_MS;
	}
	return disconnect(slot, fd);
}

uint32_t hf_socket_end(struct hf_slot *slot, int fd, bool path, const struct hf_evidence *evidence, uint64_t now)
{
	int copy = hf_socket_grip(slot, fd);
	uint32_t more;

	hf_rare(slot)->dying_since = now;
	slot->tries = 0;
	slot->dying = HF_DYING_HELD;
	if (copy < 0)
		return 0;
	if (path && (evidence->unread > 0 || (evidence->unacked == 0 && evidence->notsent == 0))) {
		nudge(slot, copy);
		slot->dying = HF_DYING_NUDGED;
		more = NUDGE_MS;
	} else {
		more = end_step(slot, copy, now);
	}
	hf_socket_let_go(copy, fd);
	return more;
}

uint32_t hf_socket_end_more(struct hf_slot *slot, int fd, uint64_t now)
{
	int copy = hf_socket_grip(slot, fd);
	uint32_t more;

	if (copy < 0)
		return 0;
	more = end_step(slot, copy, now);
	hf_socket_let_go(copy, fd);
	return more;
}
