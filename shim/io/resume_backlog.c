/*
 * Listeners, while a session of this process waits for its client.
 *
 * The client may come to a listener that the program does not look at just then, because it serves somebody else, or
 * to one that the program has closed.  So the watchdog looks: what it takes from the program's listener and is no
 * RESUME waits here for the program's next accept(2), before whatever the kernel still has.
 */
#include "io/adopt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/arena.h"
#include "state/fdmap.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

enum { MOST = 64 };

/* A connection that waits for accept(2). */
struct waiting {
	uint64_t listener; /* SO_COOKIE of the listener it came to */
	int fd;
};

static struct waiting queue[MOST];
static size_t queued;
_Atomic uint32_t hf_resume_waiting;
static struct hf_turn_word owner; /* turn: the queue */

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return hf_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return hf_sys_poll(&p, 1, 0) > 0 && (p.revents & POLLIN) != 0;
}

/* accept(2) that does not wait, whatever O_NONBLOCK says, which the listener shares with others: another process may
 * have been quicker since it was readable. */
static int accept_now(int listener)
{
	const struct timeval instant = {0, 1};
	struct hf_arena *head = hf_arena();
	struct timeval program = {0, 0};
	socklen_t len = sizeof(program);
	long fd;

	if (head != NULL)
		atomic_fetch_add(&head->hurried, 1);
	(void)hf_sys_getsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &program, &len);
	(void)hf_sys_setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &instant, sizeof(instant));
	fd = hf_sys4(SYS_accept4, listener, NULL, NULL, SOCK_CLOEXEC);
	(void)hf_sys_setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &program, sizeof(program));
	if (head != NULL)
		atomic_fetch_add(&head->unhurried, 1);
	return (int)fd;
}

uint64_t hf_resume_hurried(void)
{
	struct hf_arena *head = hf_arena();

	return head != NULL ? atomic_load(&head->unhurried) : 0;
}

bool hf_resume_was_hurried(int listener, uint64_t before)
{
	struct hf_arena *head = hf_arena();

	return head != NULL && atomic_load(&head->hurried) != before &&
	       (hf_sys_fcntl(listener, F_GETFL, 0) & O_NONBLOCK) == 0;
}

static void enqueue(int listener, int fd)
{
	queue[queued++] = (struct waiting){cookie_of(listener), hf_raise(fd)};
	atomic_store(&hf_resume_waiting, (uint32_t)queued);
}

static void drop(size_t i)
{
	memmove(queue + i, queue + i + 1, (queued - i - 1) * sizeof(queue[0]));
	queued--;
	atomic_store(&hf_resume_waiting, (uint32_t)queued);
}

bool hf_resume_has_waiting(int listener)
{
	uint64_t cookie = atomic_load(&hf_resume_waiting) != 0 ? cookie_of(listener) : 0;
	bool found = false;

	if (cookie == 0)
		return false;
	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	for (size_t i = 0; i < queued && !found; i++)
		found = queue[i].listener == cookie;
	hf_turn_end(&owner);
	return found;
}

int hf_resume_accept(int listener, struct sockaddr *addr, socklen_t *len, int flags)
{
	uint64_t cookie = cookie_of(listener);
	int fd = -1, low;

	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	for (size_t i = 0; i < queued && fd < 0 && cookie != 0; i++) {
		if (queue[i].listener != cookie)
			continue;
		fd = queue[i].fd;
		drop(i);
	}
	hf_turn_end(&owner);
	if (fd < 0)
		return -1;
	low = (int)hf_sys_fcntl(fd, (flags & SOCK_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (low >= 0)
		hf_sys_close(fd);
	else if ((flags & SOCK_CLOEXEC) == 0)
		(void)hf_sys_fcntl(fd, F_SETFD, 0);
	fd = low >= 0 ? low : fd;
	if ((flags & SOCK_NONBLOCK) != 0)
		(void)hf_sys_fcntl(fd, F_SETFL, O_NONBLOCK | O_RDWR);
	if (addr != NULL && !hf_wild(len))
		(void)hf_sys_getpeername(fd, addr, len);
	return fd;
}

/* The listeners that this program takes connections from, by cookie: one that only has it open must not be handed what
 * another process waits for. */
static _Atomic uint64_t accepts_from[16];

static bool accepts(uint64_t cookie)
{
	for (size_t i = 0; i < sizeof(accepts_from) / sizeof(accepts_from[0]); i++)
		if (cookie != 0 && atomic_load(&accepts_from[i]) == cookie)
			return true;
	return false;
}

void hf_resume_accepted(int listener)
{
	static _Atomic uint32_t next;
	uint64_t cookie = cookie_of(listener);

	if (cookie != 0 && !accepts(cookie))
		atomic_store(
			&accepts_from[atomic_fetch_add(&next, 1) % (sizeof(accepts_from) / sizeof(accepts_from[0]))],
			cookie);
}

bool hf_resume_screen(int listener)
{
	bool found = false;

	if (!hf_resume_serving() || (hf_sys_fcntl(listener, F_GETFL, 0) & O_NONBLOCK) != 0 ||
	    hf_resume_has_waiting(listener) || !accepts(cookie_of(listener)))
		return true;
	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	while (!found && queued < MOST && readable(listener)) {
		int fd = accept_now(listener);

		if (fd < 0)
			break;
		if (hf_resume_take(fd, HF_RESUME_MOMENT))
			continue;
		enqueue(listener, fd);
		found = true;
	}
	hf_turn_end(&owner);
	return found;
}

/* Those whose listener the program has closed: to their peers, too, it is closed. */
static void forget_closed(void)
{
	for (size_t i = 0; i < queued; i++) {
		bool open = false;

		for (int fd = 0; fd < hf_fdmap_end() && !open; fd++)
			open = hf_fdmap_get(fd) == HF_FD_LISTENER && cookie_of(fd) == queue[i].listener;
		if (open)
			continue;
		hf_sys_close(queue[i].fd);
		drop(i--);
	}
}

static in_port_t port_of(const union hf_address *address)
{
	return address->any.sa_family == AF_INET6 ? address->in6.sin6_port : address->in.sin_port;
}

static bool listens_there(int fd, in_port_t port)
{
	union hf_address local;
	socklen_t len = sizeof(local);

	memset(&local, 0, sizeof(local));
	return hf_fdmap_get(fd) == HF_FD_LISTENER && hf_sys_getsockname(fd, &local, &len) == 0 &&
	       port_of(&local) == port;
}

/* Everybody who has come to LISTENER. */
static void look_at(int listener, bool own)
{
	while (queued < MOST && readable(listener)) {
		int fd = accept_now(listener);

		if (fd < 0)
			return;
		if (hf_resume_take(fd, HF_RESUME_MOMENT))
			continue;
		if (own)
			hf_sys_close(fd);
		else
			enqueue(listener, fd);
	}
}

/* Not what the program has come to have at the number, if this is the child of a fork that we have not seen. */
static void close_copy(int fd)
{
	if (fd >= 0 && hf_fdmap_get(fd) == HF_FD_UNKNOWN && hf_is_tcp(fd) > 0)
		hf_sys_close(fd);
}

/* What is open at both ends of a fork is closed at neither alone: a listener at which nobody looks would take clients
 * that come to resume, and who was turned away would not know it. */
void hf_resume_backlog_forked(void)
{
	/* In the middle of a change, by a thread that is none of this process's: no number is certain. */
	bool whole = atomic_load(&owner.owner) == 0;

	for (size_t i = 0; whole && i < queued; i++)
		close_copy(queue[i].fd);
	queued = 0;
	atomic_store(&hf_resume_waiting, 0);
	atomic_store(&owner.owner, 0);
	/* None is counted yet of those that are this process's, too. */
	atomic_store(&hf_resume_count, 0);
	atomic_store(&hf_resume_inboxes, 0);
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot_rare *rare = hf_slot_at(i) != NULL ? hf_rare(hf_slot_at(i)) : NULL;
		int offer = rare != NULL ? atomic_load(&rare->offer) : 0;

		if (rare == NULL)
			continue;
		if (atomic_load(&rare->stirring) != 0)
			atomic_store(&rare->stirring, 0);
		if (atomic_load(&rare->has_inbox) != 0)
			atomic_store(&rare->has_inbox, 0);
		if (offer == 0 && rare->offered == 0 && rare->listener == 0)
			continue;
		close_copy(offer - 1);
		close_copy(rare->offered - 1);
		close_copy(rare->listener - 1);
		atomic_store(&rare->offer, 0);
		rare->offered = rare->listener = 0;
	}
}

/* A listener of our own, where the program has none any more. */
static int listen_at(const union hf_address *local)
{
	int fd = (int)hf_sys3(SYS_socket, local->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	socklen_t len = local->any.sa_family == AF_INET6 ? sizeof(local->in6) : sizeof(local->in);

	if (fd < 0)
		return -1;
	(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (local->any.sa_family == AF_INET6)
		(void)hf_sys_setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (hf_sys3(SYS_bind, fd, local, len) < 0 || hf_sys2(SYS_listen, fd, 16) < 0) {
		hf_sys_close(fd);
		return -1;
	}
	return hf_raise(fd);
}

void hf_resume_look_around(struct hf_slot *slot, uint64_t now)
{
	enum { PATIENCE_MS = 20, RETRY_MS = 1000 };
	struct hf_resume *resume = hf_resume_of(slot);
	in_port_t port = port_of(&resume->local);
	bool found = false;

	(void)hf_turn_take(&owner, hf_turn_watchdog(), -1);
	forget_closed();
	for (int fd = 0; fd < hf_fdmap_end(); fd++) {
		if (!listens_there(fd, port))
			continue;
		found = true;
		/* The program itself is quicker, if it looks. */
		if (!readable(fd))
			resume->readable_since = 0;
		else if (resume->readable_since == 0)
			resume->readable_since = now;
		else if (now - resume->readable_since >= PATIENCE_MS)
			look_at(fd, false);
	}
	if (found && hf_rare(slot)->listener > 0) {
		hf_sys_close(hf_rare(slot)->listener - 1);
		hf_rare(slot)->listener = 0;
	} else if (!found && hf_rare(slot)->listener == 0 && now >= resume->listen_at) {
		resume->listen_at = now + RETRY_MS;
		hf_rare(slot)->listener = listen_at(&resume->local) + 1;
	}
	if (hf_rare(slot)->listener > 0)
		look_at(hf_rare(slot)->listener - 1, true);
	hf_turn_end(&owner);
}
