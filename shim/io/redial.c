/*
 * Which connections are made anew, and how their calls wait for it.
 */
#include "io/redial.h"
#include "io/adopt.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/tcpinfo.h"
#include "watch/watch.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#ifndef TCP_ULP
#define TCP_ULP 31 /* Linux 4.13 */
#endif

static _Atomic(struct hf_redialling *) chunks[HF_SLOT_MAX / HF_SLOT_CHUNK];
static _Atomic uint32_t forks;

static void *map(size_t size)
{
	void *room =
		hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return hf_sys_failed(room) ? NULL : room;
}

/* The record of a slot's number. */
static struct hf_redialling *record(uint32_t index)
{
	const size_t size = HF_SLOT_CHUNK * sizeof(struct hf_redialling);
	_Atomic(struct hf_redialling *) *place = &chunks[index / HF_SLOT_CHUNK];
	struct hf_redialling *chunk = atomic_load(place), *none = NULL;

	if (chunk == NULL) {
		chunk = map(size);
		if (chunk == NULL)
			return NULL;
		if (!atomic_compare_exchange_strong(place, &none, chunk)) {
			hf_sys_munmap(chunk, size);
			chunk = none;
		}
	}
	return &chunk[index % HF_SLOT_CHUNK];
}

void hf_redial_arm(struct hf_slot *slot, const struct sockaddr *addr, socklen_t len)
{
	const struct hf_config *config = &hf_runtime.config;
	struct hf_redialling *redial;

	if (config->redial != HF_REDIAL_IDLE || config->on_dead != HF_RECONNECT || len > sizeof(redial->dial) ||
	    (redial = record(slot->index)) == NULL)
		return;
	if (config->redial_prologue != 0 && redial->memory == NULL &&
	    (redial->memory = map(config->redial_prologue)) == NULL)
		return;
	/* Calls that slept through the end of the slot's last connection count themselves out of that. */
	atomic_fetch_add(&redial->arms, 1);
	atomic_store(&redial->readers, 0);
	atomic_store(&redial->writers, 0);
	atomic_store(&redial->kept, 0);
	atomic_store(&redial->sent, 0);
	atomic_store(&redial->broken, 0);
	atomic_store(&redial->owed, 0);
	atomic_store(&redial->heard, 0);
	atomic_store(&redial->barred, 0);
	atomic_store(&redial->ended, 0);
	memcpy(&redial->dial, addr, len);
	redial->dial_len = len;
	redial->forks = atomic_load(&forks);
	redial->spawns = hf_proc_spawns();
	redial->step = HF_REDIAL_WHOLE;
	atomic_store(&slot->redial, redial);
}

void hf_redial_free(struct hf_slot *slot)
{
	struct hf_redialling *redial = atomic_exchange(&slot->redial, NULL);

	if (redial == NULL)
		return;
	atomic_fetch_add(&redial->arms, 1);
	atomic_store(&redial->broken, 0);
	hf_wake_all(&redial->word);
}

void hf_redial_forking(void)
{
	atomic_fetch_add(&forks, 1);
}

void hf_redial_forked(struct hf_slot *slot)
{
	struct hf_redialling *redial = atomic_exchange(&slot->redial, NULL);

	/* The parent makes it anew, for itself. */
	if (redial != NULL && atomic_load(&redial->broken) != 0)
		(void)atomic_compare_exchange_strong(&slot->fate, &(int){0}, ETIMEDOUT);
}

/* Whether it may be made anew at all. */

/* Other processes may have the socket, nobody would do the work, or it has never been connected. */
static bool possible(struct hf_slot *slot, struct hf_redialling *redial)
{
	uint8_t stage = atomic_load(&slot->stage);

	return atomic_load(&slot->fate) == 0 && atomic_load(&slot->connecting) == 0 &&
	       atomic_load(&redial->barred) == 0 && redial->forks == atomic_load(&forks) &&
	       redial->spawns == hf_proc_spawns() && (stage == HF_STAGE_NEW || stage == HF_STAGE_WATCHED) &&
	       !atomic_load(&hf_sys_confined);
}

/* Whether the prologue is what was sent: bytes that went another way than through our calls are missing in it. */
static bool prologue_known(struct hf_redialling *redial, uint64_t sent)
{
	uint64_t most = hf_runtime.config.redial_prologue;

	return atomic_load(&redial->kept) == (sent < most ? sent : most);
}

/* Whether nothing is under way, as far as can be told from here. */
static bool idle(struct hf_slot *slot, struct hf_redialling *redial, int fd, bool ended)
{
	int unread = 0, unsent = 0;
	struct hf_tcp_info info;
	socklen_t len = sizeof(info), ulp_len;
	char ulp[16] = "";

	memset(&info, 0, sizeof(info));
	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.state != (ended ? TCP_CLOSE : TCP_ESTABLISHED) || !hf_same_socket(fd, slot))
		return false;
	/* They stand in a socket that has ended as well; bytes_acked counts our SYN. */
	if (hf_sys_ioctl(fd, SIOCOUTQ, &unsent) < 0 || unsent != 0 || hf_sys_ioctl(fd, SIOCINQ, &unread) < 0 ||
	    unread != 0 || info.unacked != 0 || info.notsent_bytes != 0 || info.bytes_acked == 0)
		return false;
	ulp_len = sizeof(ulp) - 1;
	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_ULP, ulp, &ulp_len) == 0 && ulp_len > 0 && ulp[0] != '\0')
		return false; /* the kernel's TLS */
	/* Two threads, one that asks and one that reads: the kernel knows better which came last, to a jiffy. */
	if (info.bytes_acked - 1 > atomic_load(&redial->sent) && info.last_data_sent < info.last_data_recv)
		return false;
	return atomic_load(&redial->owed) == 0 && atomic_load(&slot->end_seen) == 0 &&
	       prologue_known(redial, info.bytes_acked - 1);
}

static uint32_t limit_of(int fd, int name)
{
	struct timeval limit = {0, 0};
	socklen_t len = sizeof(limit);

	if (hf_sys_getsockopt(fd, SOL_SOCKET, name, &limit, &len) < 0 || limit.tv_sec > INT_MAX / 1000 - 1)
		return 0;
	return (uint32_t)limit.tv_sec * 1000 + (uint32_t)(limit.tv_usec + 999) / 1000;
}

/* It is what NEXT says, if it was still to be decided. */
static bool undecided(struct hf_redialling *redial, uint8_t next)
{
	return atomic_compare_exchange_strong(&redial->broken, &(uint8_t){HF_REDIAL_DECIDING}, next);
}

/* Break it, unless something is under way: a write that began before we said so counts. */
static bool begin(struct hf_slot *slot, struct hf_redialling *redial, int fd, int error, bool ended)
{
	if (atomic_load(&redial->broken) != 0)
		return true;
	if (!possible(slot, redial) || !idle(slot, redial, fd, ended))
		return false;
	atomic_store(&redial->send_limit, limit_of(fd, SO_SNDTIMEO));
	if (!atomic_compare_exchange_strong(&redial->broken, &(uint8_t){HF_REDIAL_NOT_BROKEN}, HF_REDIAL_DECIDING))
		return true;
	atomic_store(&redial->deciding_at, 0);
	atomic_store(&redial->error, error);
	if (atomic_load(&redial->writers) != 0 || !idle(slot, redial, fd, ended)) {
		(void)undecided(redial, HF_REDIAL_NOT_BROKEN);
		hf_wake_all(&redial->word);
		return false;
	}
	if (!undecided(redial, HF_REDIAL_DECIDED))
		return atomic_load(&redial->broken) != 0;
	hf_watch_poke(slot);
	return true;
}

bool hf_redial_undecided(struct hf_slot *slot, uint64_t now)
{
	enum { PATIENCE_MS = 1000 };
	struct hf_redialling *redial = hf_redial_of(slot);
	uint64_t since;

	if (redial == NULL || atomic_load(&redial->broken) != HF_REDIAL_DECIDING)
		return false;
	since = atomic_load(&redial->deciding_at);
	if (since == 0)
		atomic_store(&redial->deciding_at, now);
	else if (now - since >= PATIENCE_MS && undecided(redial, HF_REDIAL_NOT_BROKEN))
		hf_wake_all(&redial->word);
	return true;
}

bool hf_redial_met(struct hf_slot *slot, int fd, int error)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	if (redial == NULL || atomic_load(&slot->fate) != 0)
		return false;
	return atomic_load(&redial->broken) != 0 ||
	       (hf_tcp_state(fd) == TCP_CLOSE && begin(slot, redial, fd, error, true));
}

bool hf_redial_lost(struct hf_slot *slot, int fd, bool ended)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	return redial != NULL && atomic_load(&slot->fate) == 0 &&
	       begin(slot, redial, fd, ended ? atomic_load(&slot->error_seen) : ETIMEDOUT, ended);
}

bool hf_redial_shut(struct hf_slot *slot)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	if (redial == NULL)
		return false;
	atomic_store(&redial->barred, 1);
	if (atomic_load(&redial->broken) == 0)
		return false;
	hf_watch_poke(slot); /* there is nothing left to hope for */
	return true;
}

void hf_redial_leave(struct hf_slot *slot)
{
	const struct timespec moment = {0, 20000};
	struct hf_redialling *redial = hf_redial_of(slot);

	if (redial == NULL)
		return;
	atomic_store(&redial->ended, 1);
	/* It only makes calls that do not block. */
	while (atomic_load(&redial->tended) != 0)
		hf_sys_nanosleep(&moment, NULL);
}

/* The program's calls */

struct hf_redial_call hf_redial_call(struct hf_slot *slot, int fd, bool writes, const struct iovec *iov, size_t count,
				     int flags)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	return (struct hf_redial_call){
		.slot = slot,
		.redial = redial,
		.iov = hf_wild(iov) || count > IOV_MAX ? NULL : iov,
		.count = count,
		.since = hf_wrap_now_us(),
		.entry = hf_fdmap_get(fd),
		.arms = redial != NULL ? atomic_load(&redial->arms) : 0,
		.fd = fd,
		.flags = flags,
		.before = errno,
		.writes = writes,
	};
}

static _Atomic uint32_t *counter(const struct hf_redial_call *call)
{
	return call->writes ? &call->redial->writers : &call->redial->readers;
}

static void count_out(const struct hf_redial_call *call)
{
	if (atomic_load(&call->redial->arms) == call->arms)
		atomic_fetch_sub(counter(call), 1);
}

/* SO_RCVTIMEO or SO_SNDTIMEO in ms, 0: none; the watchdog has another purpose for the second. */
static uint32_t limit_for(const struct hf_redial_call *call)
{
	return call->writes ? atomic_load(&call->redial->send_limit) : limit_of(call->fd, SO_RCVTIMEO);
}

/* What is left of LIMIT, ms. */
static uint32_t left_of(const struct hf_redial_call *call, uint32_t limit)
{
	uint64_t gone = (hf_wrap_now_us() - call->since) / 1000;

	return gone < limit ? limit - (uint32_t)gone : 0;
}

static bool refuse(int error)
{
	errno = error;
	return false;
}

/* It is broken, or was a moment ago. True: look again. */
static bool wait_out(const struct hf_redial_call *call)
{
	struct hf_redialling *redial = call->redial;
	uint32_t seen = atomic_load(&redial->word), limit, left;
	struct timespec end;
	long woken;

	/* Closed meanwhile, by another thread: the number may be another connection's. */
	if (atomic_load(&redial->arms) != call->arms || hf_fdmap_get(call->fd) != call->entry)
		return refuse(EBADF);
	if (atomic_load(&call->slot->fate) != 0)
		return refuse(atomic_load(&call->slot->fate));
	if (hf_nonblocking(call->fd, call->flags))
		return refuse(EAGAIN);
	limit = limit_for(call);
	left = left_of(call, limit);
	if (limit != 0 && left == 0)
		return refuse(EAGAIN);
	if (atomic_load(&redial->broken) == 0)
		return true;
	end = (struct timespec){(time_t)(left / 1000), (long)(left % 1000) * 1000000};
	/* Without a limit the kernel takes the wait up again after a handler with SA_RESTART, as it would a read. */
	woken = hf_sys4(SYS_futex, &redial->word, FUTEX_WAIT, seen, limit != 0 ? &end : NULL);
	if (woken == -EINTR)
		return refuse(EINTR);
	return woken == -ETIMEDOUT ? refuse(EAGAIN) : true;
}

/* The pause was part of the program's time limit: the kernel's own begins anew with the call. */
static bool rest_of_limit(const struct hf_redial_call *call)
{
	struct pollfd ready = {.fd = call->fd, .events = call->writes ? POLLOUT : POLLIN};
	uint32_t limit = limit_for(call);
	long polled;

	if (limit == 0 || hf_nonblocking(call->fd, call->flags))
		return true;
	polled = hf_sys_poll(&ready, 1, (int)left_of(call, limit));
	return polled == 0 ? refuse(EAGAIN) : polled == -EINTR ? refuse(EINTR) : true;
}

bool hf_redial_enter(struct hf_redial_call *call)
{
	struct hf_redialling *redial = call->redial;
	bool waited = false;

	if (redial == NULL)
		return true;
	for (;;) {
		uint32_t before = atomic_fetch_add(counter(call), 1);

		if (hf_likely(atomic_load(&redial->broken) == 0)) {
			/* Two at once: nobody can tell which of them was first. */
			if (call->writes)
				call->owed = atomic_exchange(&redial->owed, 1) != 0 || before != 0;
			if (call->writes && before != 0 &&
			    atomic_load(&redial->kept) < hf_runtime.config.redial_prologue)
				atomic_store(&redial->barred, 1);
			call->life = atomic_load(&redial->life);
			if (hf_likely(!waited))
				return true;
			if (atomic_load(&call->slot->fate) == 0 && rest_of_limit(call))
				return true;
			count_out(call);
			return atomic_load(&call->slot->fate) != 0 ? refuse(atomic_load(&call->slot->fate)) : false;
		}
		count_out(call);
		if (!wait_out(call))
			return false;
		waited = true;
	}
}

/* The first bytes sent, from the program's own memory: the kernel has just read them there. */
static void remember(const struct hf_redial_call *call, size_t size)
{
	struct hf_redialling *redial = call->redial;
	uint32_t kept = atomic_load(&redial->kept), most = hf_runtime.config.redial_prologue;

	for (size_t i = 0; call->iov != NULL && i < call->count && size > 0 && kept < most; i++) {
		size_t part = call->iov[i].iov_len < size ? call->iov[i].iov_len : size;

		part = part < most - kept ? part : most - kept;
		if (!hf_copy_in(redial->memory + kept, call->iov[i].iov_base, part))
			break;
		kept += (uint32_t)part;
		size -= part;
	}
	atomic_store(&redial->kept, kept);
}

static void note_moved(const struct hf_redial_call *call, size_t size)
{
	struct hf_redialling *redial = call->redial;

	if (call->writes && atomic_load(&redial->kept) < hf_runtime.config.redial_prologue)
		remember(call, size);
	if (!call->writes) {
		atomic_store(&redial->owed, 0);
		atomic_store(&redial->heard, 1);
	}
}

/* An answer may come, and be read, before the call that asked is seen to return: so it counted from its beginning. */
static void nothing_sent(const struct hf_redial_call *call)
{
	if (call->writes && !call->owed && atomic_load(&call->redial->writers) == 1)
		atomic_store(&call->redial->owed, 0);
}

/* A record of which the first half came over the old connection: what follows is none of it. */
static void torn(struct hf_slot *slot)
{
	atomic_store(&slot->failed, ETIMEDOUT);
	hf_wrap_share_fate(slot, ETIMEDOUT);
	hf_watch_poke(slot);
}

static bool is_end(const struct hf_redial_call *call, ssize_t result)
{
	if (result == 0)
		return !call->writes && (call->iov == NULL || hf_iov_total(call->iov, call->count) != 0);
	return errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN || errno == ETIMEDOUT ||
	       errno == EHOSTUNREACH || errno == ENETUNREACH || errno == EHOSTDOWN || errno == ENETDOWN;
}

bool hf_redial_again(struct hf_redial_call *call, ssize_t result)
{
	struct hf_redialling *redial = call->redial;
	int error = result < 0 ? errno : call->before;
	bool moved;

	if (redial == NULL)
		return false;
	errno = error;
	if (result > 0)
		note_moved(call, (size_t)result);
	else
		nothing_sent(call);
	count_out(call);
	moved = atomic_load(&redial->arms) == call->arms &&
		(atomic_load(&redial->broken) != 0 || atomic_load(&redial->life) != call->life);
	if (result > 0) {
		if (moved && !call->writes && (call->flags & MSG_WAITALL) != 0 && call->iov != NULL &&
		    (size_t)result < hf_iov_total(call->iov, call->count))
			torn(call->slot);
		return false;
	}
	if (!is_end(call, result))
		return false;
	if (moved)
		return true;
	/* EPIPE: the peer had ended its direction before it reset the connection (tcp_reset()). */
	if (result == 0 || error == EPIPE || !hf_redial_met(call->slot, call->fd, error)) {
		/* Told: what another thread does is not to go to another connection after that. */
		if (result < 0 && atomic_load(&redial->arms) == call->arms)
			atomic_store(&redial->barred, 1);
		errno = error;
		return false;
	}
	errno = error;
	return true;
}
