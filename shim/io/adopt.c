#include "io/adopt.h"
#include "io/gate.h"
#include "io/stdio.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

static int option(int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);
	int error = hf_sys_getsockopt(fd, SOL_SOCKET, name, &value, &len);

	return error < 0 ? error : value;
}

int hf_is_tcp(int fd)
{
	int protocol = option(fd, SO_PROTOCOL), domain;

	if (protocol != IPPROTO_TCP)
		return protocol < 0 ? protocol : 0;
	domain = option(fd, SO_DOMAIN);
	return domain == AF_INET || domain == AF_INET6;
}

int hf_tcp_state(int fd)
{
	uint8_t state = 0;
	socklen_t len = sizeof(state);
	/* The first byte of struct tcp_info is tcpi_state; a short buffer is filled as far as it goes. */
	int error = hf_sys_getsockopt(fd, SOL_TCP, TCP_INFO, &state, &len);

	return error < 0 ? error : state;
}

bool hf_same_socket(int fd, struct hf_slot *slot)
{
	uint64_t cookie = 0, ours = atomic_load_explicit(&slot->cookie, memory_order_relaxed);
	socklen_t len = sizeof(cookie);
	int error;

	if (atomic_load_explicit(&hf_sys_confined, memory_order_relaxed))
		return true; /* not to be asked; and what is wrapped must not pass */
	error = hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	if (error < 0)
		return error != -EBADF && error != -ENOTSOCK; /* anything else does not say that it is another */
	return ours == 0 || ours == cookie;
}

/* What the rules say of FD.  ADDR as in hf_adopt(). */
static enum hf_mode mode_for(int fd, const struct sockaddr *addr)
{
	union hf_address local;
	socklen_t len = sizeof(local);

	if (hf_runtime.config.nrules == 0)
		return hf_runtime.config.mode;
	if (addr == NULL) {
		memset(&local, 0, sizeof(local));
		if (hf_sys_getsockname(fd, &local, &len) < 0)
			return hf_runtime.config.mode;
		addr = &local.any;
	}
	return hf_config_mode_for(&hf_runtime.config, addr);
}

bool hf_wants_wrap(int fd, const struct sockaddr *addr)
{
	bool possible = hf_runtime.config.mode == HF_MODE_WRAP;

	for (size_t i = 0; i < hf_runtime.config.nrules; i++)
		possible = possible || hf_runtime.config.rules[i].mode == HF_MODE_WRAP;
	return possible && mode_for(fd, addr) == HF_MODE_WRAP;
}

/*
 * Without a watchdog a handshake that is not answered would never end, nor would the peer hear beats.  A client then
 * does not begin one.  One that a client has begun must go on, or what came would be read as data; it is over at once,
 * and the client is told to expect no beats.
 */
static bool can_wrap(int fd, bool client)
{
	return hf_watch_able() || (!client && hf_wrap_greeted(fd));
}

static void set_entry(int fd, hf_fd_entry entry)
{
	hf_fd_entry old;

	hf_fdmap_set(fd, entry, &old);
	if (HF_FD_KIND(old) == HF_FD_SLOT)
		hf_release(old, fd);
}

struct hf_slot *hf_adopt(int fd, bool client, bool connecting, const struct sockaddr *addr, socklen_t len)
{
	/* Whatever the rules say of others, a wrapped one cannot be left alone. */
	bool marked = len == 0 && hf_wrap_known(fd);
	enum hf_mode mode;
	union hf_address peer;
	struct hf_slot *slot;
	uint32_t epoch;
	bool forked;

	if (fd < 0 || fd >= HF_FDMAP_MAX || hf_proc_borrowed())
		return NULL;
	epoch = hf_proc_enter(&forked);
	if (forked)
		hf_watch_forked();
	mode = mode_for(fd, addr);
	if ((mode == HF_MODE_OFF && !marked) || (slot = hf_slot_new()) == NULL) {
		set_entry(fd, HF_FD_PASS);
		return NULL;
	}
	atomic_store(&slot->fd, fd);
	atomic_store(&slot->client, client);
	atomic_store(&slot->has_role, 1);
	atomic_store(&slot->connecting, connecting);
	atomic_store(&slot->collected, !connecting);
	/* Until it is connected the kernel has no peer to name. */
	if (client && addr != NULL) {
		memcpy(&peer, addr, addr->sa_family == AF_INET ? sizeof(peer.in) : sizeof(peer.in6));
		hf_ends_set(&slot->ends, true, &peer);
	}
	atomic_store(&slot->epoch, epoch);
	atomic_store(&slot->guard, epoch);
	if (hf_unlikely(marked))
		hf_wrap_adopt(slot, fd);
	else if (mode == HF_MODE_WRAP && len != 0 && can_wrap(fd, client))
		(void)hf_wrap_begin(slot, fd, client, addr, len);
	else if (mode == HF_MODE_PROBE && client && addr != NULL && len != 0)
		hf_redial_arm(slot, addr, len);
	if (hf_wrap_of(slot) != NULL || hf_redial_of(slot) != NULL)
		hf_stdio_arm();
	set_entry(fd, hf_slot_entry(slot));
	/* Of what is stranded here nothing is watched. */
	if (atomic_load(&slot->fate) == 0)
		hf_watch_give(slot);
	return slot;
}

/* Another number for a socket that is watched already: duplicated where we could not see it. */
static struct hf_slot *join(int fd, hf_fd_entry seen, uint64_t cookie)
{
	struct hf_slot *slot = hf_slot_find(cookie);

	if (slot == NULL || !hf_slot_hold(slot))
		return NULL;
	if (atomic_load(&slot->cookie) == cookie && hf_fdmap_replace(fd, seen, hf_slot_entry(slot)))
		return slot;
	if (hf_slot_drop(slot))
		hf_watch_closed(slot);
	return NULL;
}

/* Whether what a reset has left unread on FD is frames. (After a disconnect nothing is unread.) */
static bool left_frames(int fd)
{
	int unread = 0;

	return hf_sys_ioctl(fd, SIOCINQ, &unread) == 0 && unread > 0 && hf_wrap_known(fd);
}

struct hf_slot *hf_adopt_unknown(int fd, hf_fd_entry seen)
{
	socklen_t cookie_len = sizeof(uint64_t);
	uint64_t cookie = 0;
	union hf_address peer;
	socklen_t peer_len = sizeof(peer);
	struct hf_slot *slot;
	int tcp, state;

	if (HF_FD_KIND(seen) != HF_FD_UNKNOWN)
		return hf_slot_named_by(seen);
	tcp = hf_is_tcp(fd);
	if (tcp == -EBADF)
		return NULL;
	if (tcp <= 0) {
		hf_fdmap_replace(fd, seen, HF_FD_PASS);
		return NULL;
	}
	state = hf_tcp_state(fd);
	if (state < 0)
		return NULL;
	/* Not connected yet or over: nothing to watch now, look again another time. */
	if ((state == HF_TCP_CLOSE || state == HF_TCP_TIME_WAIT) && !left_frames(fd))
		return NULL;
	if (state == HF_TCP_LISTEN) {
		hf_fdmap_replace(fd, seen, HF_FD_LISTENER);
		return NULL;
	}
	if (hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &cookie_len) == 0 &&
	    (slot = join(fd, seen, cookie)) != NULL)
		return slot;
	memset(&peer, 0, sizeof(peer));
	(void)hf_sys_getpeername(fd, &peer, &peer_len);
	/* Which side opened it is not to be known; the rules are asked about the peer, then about our own end. */
	slot = hf_adopt(fd, true, state == HF_TCP_SYN_SENT, &peer.any, 0);
	if (slot != NULL && hf_wrap_of(slot) == NULL) {
		atomic_store(&slot->has_role, 0);
		atomic_store(&slot->cookie, cookie);
	}
	return slot;
}

bool hf_move_to_duplicate(struct hf_slot *slot, int fd)
{
	hf_fd_entry entry = hf_slot_entry(slot);

	if (atomic_load(&slot->fd) != fd)
		return true;
	for (int other = 0; other < hf_fdmap_end(); other++) {
		if (other != fd && hf_fdmap_get(other) == entry) {
			atomic_store(&slot->fd, other);
			return true;
		}
	}
	return false;
}

void hf_release(hf_fd_entry entry, int fd)
{
	struct hf_slot *slot = hf_slot_of(entry);

	if (slot == NULL)
		return;
	if (hf_slot_drop(slot))
		hf_watch_closed(slot);
	else
		(void)hf_move_to_duplicate(slot, fd);
}

void hf_disown(int fd, struct hf_slot *slot)
{
	hf_fd_entry entry = hf_slot_entry(slot);

	if (hf_fdmap_replace(fd, entry, HF_FD_UNKNOWN))
		hf_release(entry, fd);
}
