/*
 * Where connections begin: socket, connect, accept, listen; and shutdown.
 */
#include "io/adopt.h"
#include "io/bound.h"
#include "io/dial.h"
#include "io/gate.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "state/arena.h"
#include "sys.h"
#include "watch/socket.h"
#include "watch/tcpinfo.h"
#include "watch/watch.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

static void note(int fd, hf_fd_entry entry)
{
	hf_fd_entry old;

	hf_fdmap_set(fd, entry, &old);
	if (HF_FD_KIND(old) == HF_FD_SLOT)
		hf_release(old, fd);
}

int hf_socket(int domain, int type, int protocol)
{
	enum { TYPE_MASK = 0xf }; /* the rest is SOCK_NONBLOCK and SOCK_CLOEXEC, socket(2) */
	int fd;
	bool tcp;

	hf_real_ready();
	fd = hf_real.socket(domain, type, protocol);
	if (fd < 0 || !hf_on() || hf_proc_borrowed())
		return fd;
	tcp = (domain == AF_INET || domain == AF_INET6) && (type & TYPE_MASK) == SOCK_STREAM &&
	      (protocol == 0 || protocol == IPPROTO_TCP);
	note(fd, tcp ? HF_FD_UNKNOWN | HF_FD_TCP_HINT : HF_FD_PASS);
	return fd;
}

/* Whether FD, of which the map says ENTRY, is a TCP socket; remembers the answer. */
static bool tcp_socket(int fd, hf_fd_entry entry)
{
	int tcp;

	if (HF_FD_KIND(entry) != HF_FD_UNKNOWN)
		return HF_FD_KIND(entry) == HF_FD_SLOT;
	if (entry == (HF_FD_UNKNOWN | HF_FD_TCP_HINT) || entry == HF_FD_LISTENER)
		return true;
	tcp = hf_is_tcp(fd);
	if (tcp >= 0)
		hf_fdmap_replace(fd, entry, tcp > 0 ? HF_FD_UNKNOWN | HF_FD_TCP_HINT : HF_FD_PASS);
	return tcp > 0;
}

/* SLOT's connection or attempt is over, its socket is not: what we set on it must not pass for the program's own in
 * its next life. */
static void leave(struct hf_slot *slot, int fd)
{
	hf_redial_leave(slot);
	if (hf_same_socket(fd, slot))
		hf_socket_restore(slot, fd);
	hf_disown(fd, slot);
}

/* Whether SLOT is an attempt that has failed, so that another may begin: its state is CLOSE again. */
static bool attempt_over(struct hf_slot *slot, int fd)
{
	return atomic_load(&slot->connecting) != 0 && hf_tcp_state(fd) == HF_TCP_CLOSE;
}

/* connect(2) on a connection we know: the second call that collects the result of a non-blocking one, a mistake
 * (EISCONN), a disconnect (AF_UNSPEC), or a new life after the first one ended. */
static int connect_again(struct hf_slot *slot, int fd, const struct sockaddr *addr, socklen_t len)
{
	int result, error;

	if (addr->sa_family == AF_UNSPEC)
		hf_wrap_abort(slot, fd);
	result = hf_real.connect(fd, addr, len);
	error = errno;
	/* The second connection, after a plain peer turned the first away, was ours to make: the program's has
	 * succeeded. */
	if (result < 0 && error == EISCONN && atomic_load(&slot->collected) == 0)
		result = 0;
	if (result == 0 && addr->sa_family == AF_UNSPEC)
		leave(slot, fd);
	else if (result == 0) {
		atomic_store(&slot->collected, 1);
		hf_unbound(slot, fd);
		hf_wrap_connected(slot, fd);
	} else if (atomic_load(&slot->fate) != 0 && hf_same_socket(fd, slot))
		error = atomic_load(&slot->fate);
	errno = error;
	return result;
}

/*
 * Whether bytes have been sent on FD, just connected: then a library behind us has gone to a proxy and spoken with it
 * (torsocks, proxychains).  The address is not the one to dial again, and where the stream stands is not ours to know.
 */
static bool proxied(int fd)
{
	struct hf_tcp_info info = {.bytes_sent = 0};
	socklen_t size = sizeof(info);

	return hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &info, &size) == 0 && info.bytes_sent != 0;
}

/* SLOT, if any, is known since before connect(2), so that it has a bound: now it is known to be ours to wrap or to dial
 * again. */
static struct hf_slot *adopt_anew(struct hf_slot *slot, int fd, bool connecting, const struct sockaddr *addr,
				  socklen_t len)
{
	bool bound = slot != NULL && connecting;

	if (slot != NULL) {
		hf_unbound(slot, fd);
		hf_disown(fd, slot);
	}
	slot = hf_adopt(fd, true, connecting, addr, len);
	if (slot != NULL && bound)
		hf_bound(slot, fd);
	return slot;
}

static int connect_new(int fd, const struct sockaddr *addr, socklen_t len)
{
	bool wrap = hf_wants_wrap(fd, addr), more = wrap || hf_runtime.config.redial != HF_REDIAL_OFF, through;
	struct hf_slot *slot = NULL;
	int result, error;

	/* With a bound on the attempt the watchdog must know of it before it starts, for it may block. */
	if (hf_runtime.policy.connect_timeout != 0 && (slot = hf_adopt(fd, true, true, addr, 0)) != NULL)
		hf_bound(slot, fd);
	result = hf_real.connect(fd, addr, len);
	error = errno;
	if (slot != NULL && atomic_load(&slot->fate) != 0 && result < 0)
		error = atomic_load(&slot->fate);
	through = result == 0 && more && proxied(fd);
	if (through && wrap && hf_runtime.config.fallback == HF_FALLBACK_FAIL) {
		(void)hf_hang_up(fd);
		result = -1;
		error = ECONNREFUSED;
	}
	if (result == 0 || error == EINPROGRESS || error == EINTR) {
		if (slot == NULL ? hf_runtime.policy.connect_timeout == 0 : more && !through)
			slot = adopt_anew(slot, fd, result < 0, addr, through ? 0 : len);
		if (slot != NULL && result == 0) {
			hf_unbound(slot, fd);
			if (through && wrap)
				atomic_store(&slot->wrap_tried, 1); /* so that it is told */
			atomic_store(&slot->collected, 1);
			hf_wrap_connected(slot, fd);
		}
	} else if (slot != NULL) {
		hf_unbound(slot, fd);
		hf_disown(fd, slot);
	}
	errno = error;
	return result;
}

/* The program is connected, though the kernel's socket may not be: a plain peer has turned us away, and we call again.
 */
static bool between_calls(const struct hf_wrap *wrap)
{
	uint32_t phase = wrap != NULL ? atomic_load(&wrap->phase) : HF_PHASE_NONE;

	return phase == HF_PHASE_HELLO || phase == HF_PHASE_REDIAL;
}

/* As native, the first call that asks for the result of an attempt gets it and every other EISCONN (connect(2)). */
static bool shaking(struct hf_slot *slot, int fd, const struct sockaddr *addr, int *result)
{
	if (!between_calls(hf_wrap_of(slot)) || addr->sa_family == AF_UNSPEC)
		return false;
	*result = atomic_exchange(&slot->collected, 1) == 0 ? 0 : -1;
	if (*result == 0)
		hf_unbound(slot, fd);
	else
		errno = EISCONN;
	return true;
}

int hf_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	hf_fd_entry entry;
	struct hf_slot *slot;
	int refused, result;

	hf_real_ready();
	entry = hf_fdmap_get(fd);
	if (!hf_on() || hf_wild(addr) || len < sizeof(addr->sa_family) || HF_FD_KIND(entry) == HF_FD_PASS ||
	    hf_proc_borrowed() || !tcp_socket(fd, entry))
		return hf_real.connect(fd, addr, len);
	/* Fresh from socket(2): nothing to look at. */
	refused = 0;
	slot = entry == (HF_FD_UNKNOWN | HF_FD_TCP_HINT) ? NULL : hf_gate(fd, HF_OTHER, &refused);
	if (slot != NULL && refused == 0 && shaking(slot, fd, addr, &result))
		return result;
	if (slot != NULL && refused == 0 && hf_redial_broken(slot) && addr->sa_family != AF_UNSPEC) {
		errno = EISCONN; /* as far as the program can know */
		return -1;
	}
	if (slot != NULL && refused == 0 && !attempt_over(slot, fd))
		return connect_again(slot, fd, addr, len);
	/* A non-blocking attempt that we ended: collected by this call, unless SO_ERROR has told. */
	if (slot != NULL && refused != 0 && addr->sa_family != AF_UNSPEC &&
	    atomic_exchange(&slot->connecting, 0) != 0) {
		errno = refused;
		return -1;
	}
	if (slot != NULL)
		leave(slot, fd); /* ended: this is a new attempt on the same socket */
	if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6)
		return hf_real.connect(fd, addr, len);
	return connect_new(fd, addr, len);
}

int hf___connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return hf_connect(fd, addr, len);
}

/* FD came out of an accept on LISTENER. */
static int accepted(int listener, int fd)
{
	int error = errno;

	if (fd < 0 || !hf_on() || hf_proc_borrowed())
		return fd;
	if (tcp_socket(listener, hf_fdmap_get(listener))) {
		struct hf_slot *slot = hf_adopt(fd, false, false, NULL, 1);

		/* The client's HELLO may be there already: the program then never sees readiness for it. */
		if (slot != NULL && hf_wrap_of(slot) != NULL) {
			(void)hf_wrap_look(slot, fd);
		} else if (hf_wants_wrap(fd, NULL) && hf_wrap_greeted(fd)) {
			/* No memory for the channel: what comes must not be read as data (accept(2) lists ENOMEM). */
			hf_close(fd);
			errno = ENOMEM;
			return -1;
		}
	} else
		note(fd, HF_FD_UNKNOWN);
	errno = error;
	return fd;
}

/* Whether what came is a client that resumes a session: not for the program. */
static bool resumes(int listener, int fd, uint64_t hurried)
{
	int error = errno;
	bool again = hf_on() && hf_resume_serving() && !hf_proc_borrowed();

	/* The first of all, too: the next to come may be the same client, to resume. */
	if (fd >= 0 && hf_on() && hf_runtime.config.on_dead == HF_RECONNECT)
		hf_resume_accepted(listener);
	if (again && fd >= 0)
		/* A program that may not wait for a connection must not wait long for what it says either. */
		again = hf_resume_take(fd, (hf_sys_fcntl(listener, F_GETFL, 0) & O_NONBLOCK) != 0 ? HF_RESUME_MOMENT
												  : HF_RESUME_PATIENCE);
	else if (again)
		again = error == EAGAIN && hf_resume_was_hurried(listener, hurried);
	errno = error;
	return again;
}

/* What stands in LEN before the call. 0: nobody will ask, or it is not there. */
static socklen_t room_of(const socklen_t *len)
{
	socklen_t room = 0;

	if (hf_unlikely(hf_resume_serving() || hf_runtime.config.redial != HF_REDIAL_OFF) && !hf_wild(len) &&
	    !hf_copy_in(&room, len, sizeof(room)))
		room = 0;
	return room;
}

/* Another time, with the room for the address that the program gave. */
#define HF_ACCEPT(listener, addr, len, flags, call)                                     \
	do {                                                                            \
		socklen_t room_ = room_of(len);                                         \
		uint64_t hurried_;                                                      \
		int new_;                                                               \
		hf_real_ready();                                                        \
		do {                                                                    \
			if (hf_unlikely(atomic_load(&hf_resume_waiting) != 0) &&        \
			    (new_ = hf_resume_accept(listener, addr, len, flags)) >= 0) \
				return accepted(listener, new_);                        \
			if (room_ != 0)                                                 \
				*(len) = room_;                                         \
			hurried_ = hf_resume_hurried();                                 \
		} while (resumes(listener, new_ = (call), hurried_));                   \
		return accepted(listener, new_);                                        \
	} while (0)

int hf_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	HF_ACCEPT(fd, addr, len, 0, hf_real.accept(fd, addr, len));
}

int hf_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	HF_ACCEPT(fd, addr, len, flags, hf_real.accept4(fd, addr, len, flags));
}

int hf_listen(int fd, int backlog)
{
	hf_fd_entry entry;
	int result, error;

	hf_real_ready();
	result = hf_real.listen(fd, backlog);
	if (result != 0 || !hf_on() || hf_proc_borrowed())
		return result;
	error = errno;
	entry = hf_fdmap_get(fd);
	if (HF_FD_KIND(entry) == HF_FD_UNKNOWN && tcp_socket(fd, entry))
		note(fd, HF_FD_LISTENER);
	/* Before the workers are forked, that all of them share one. */
	if (hf_runtime.config.mode == HF_MODE_WRAP && hf_fdmap_get(fd) == HF_FD_LISTENER)
		(void)hf_arena_make(hf_wrap_layout(), true);
	errno = error;
	return result;
}

/* The addresses as the program first saw them, of a connection that goes on over another. */
static bool first_name(int fd, bool peer, struct sockaddr *addr, socklen_t *len, int result)
{
	hf_fd_entry entry = hf_fdmap_get(fd);
	struct hf_slot *slot = hf_on() ? hf_slot_named_by(entry) : NULL;
	struct hf_resume *resume = slot != NULL ? hf_resume_of(slot) : NULL;
	struct hf_wrap *wrap = slot != NULL ? hf_wrap_of(slot) : NULL;
	const union hf_address *name;
	union hf_address own;
	socklen_t size;

	if (slot != NULL && resume == NULL && hf_redial_broken(slot) && !hf_wild(addr) && !hf_wild(len)) {
		size = hf_ends_get(&slot->ends, peer, &own);
		memcpy(addr, &own, *len < size ? *len : size);
		*len = size;
		return true;
	}
	if (resume == NULL || wrap == NULL || hf_wild(addr) || hf_wild(len) || (result < 0 && errno != ENOTCONN) ||
	    (atomic_load(&resume->restored) == 0 && !hf_resume_broken(wrap)))
		return false;
	name = peer ? &resume->peer : &resume->local;
	size = name->any.sa_family == AF_INET ? sizeof(name->in) : sizeof(name->in6);
	memcpy(addr, name, *len < size ? *len : size);
	*len = size;
	return true;
}

int hf_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	socklen_t room = room_of(len);
	int result, error = errno;

	hf_real_ready();
	result = hf_real.getsockname(fd, addr, len);
	if (result == 0 && room != 0) {
		socklen_t kernel = *len;

		*len = room;
		if (!first_name(fd, false, addr, len, result))
			*len = kernel;
		errno = error;
	}
	return result;
}

int hf_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	int refused, result, before, error;
	struct hf_slot *slot;
	struct hf_wrap *wrap;

	hf_real_ready();
	before = errno;
	if (room_of(len) != 0 && !hf_wild(addr) && first_name(fd, true, addr, len, 0))
		return 0;
	result = hf_real.getpeername(fd, addr, len);
	if (hf_likely(result == 0 || errno != ENOTCONN))
		return result;
	error = errno;
	slot = hf_gate(fd, HF_OTHER, &refused);
	wrap = slot != NULL ? hf_wrap_of(slot) : NULL;
	errno = before;
	if (slot != NULL && wrap == NULL && refused == 0)
		return hf_real.getpeername(fd, addr, len); /* it may have been connected meanwhile */
	if (wrap == NULL || !wrap->client || refused != 0 || !between_calls(wrap)) {
		errno = error;
		return -1;
	}
	memcpy(addr, &wrap->dial, *len < wrap->dial_len ? *len : wrap->dial_len);
	*len = wrap->dial_len;
	return 0;
}

int hf_shutdown(int fd, int how)
{
	int refused, result;
	struct hf_slot *slot;
	bool plain = true;

	hf_real_ready();
	slot = hf_gate(fd, HF_OTHER, &refused);
	if (slot != NULL && refused != 0) {
		errno = refused;
		return -1;
	}
	if (slot != NULL && hf_wrap_of(slot) != NULL) {
		if (how >= SHUT_RD && how <= SHUT_RDWR && hf_wrap_over(slot, fd)) {
			errno = ENOTCONN;
			return -1;
		}
		result = hf_wrap_shutdown(slot, fd, how, &plain);
		if (!plain)
			return result;
	}
	if (slot != NULL && how >= SHUT_RD && how <= SHUT_RDWR && hf_redial_shut(slot))
		return 0;
	result = hf_real.shutdown(fd, how);
	if (slot != NULL && result == 0)
		hf_watch_poke(slot); /* half-closed from now on, not from the next look */
	return result;
}
