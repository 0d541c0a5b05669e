/*
 * The calls that wait.  In probe mode readiness is the kernel's own; all that is done here is to make sure that the
 * connections waited for are watched, for a program may wait on a descriptor it was given before it ever reads it.
 */
#include "io/gate.h"
#include "io/wrap_inner.h"

#include <string.h>

/* Waits on more descriptors than this are those of a program that has used them one by one before. */
enum { MOST_TOUCHED = 1024 };

static void touch_fds(const struct pollfd *fds, nfds_t count)
{
	if (!hf_on() || fds == NULL)
		return;
	for (nfds_t i = 0; i < count && i < MOST_TOUCHED; i++)
		if (fds[i].fd >= 0)
			hf_gate_touch(fds[i].fd);
}

static void touch_set(int count, const fd_set *set)
{
	const unsigned bits = sizeof(fd_mask) * 8;

	/* select(getdtablesize(), ...): the kernel itself reads no further than the process's table of descriptors
	 * reaches, and the program's sets seldom are larger than fd_set. */
	if (count > FD_SETSIZE)
		count = FD_SETSIZE;
	for (unsigned base = 0; set != NULL && (int)base < count; base += bits) {
		/* The program's set may be larger than fd_set (select(2), BUGS). */
		unsigned long word = (unsigned long)((const fd_mask *)set)[base / bits];

		for (; word != 0; word &= word - 1) {
			int fd = (int)base + __builtin_ctzl(word);

			if (fd < count)
				hf_gate_touch(fd);
		}
	}
}

static void touch_sets(int count, const fd_set *in, const fd_set *out, const fd_set *err)
{
	if (!hf_on())
		return;
	touch_set(count, in);
	touch_set(count, out);
	touch_set(count, err);
}

/* Whether FD is a wrapped connection on which a read would find nothing but protocol. */
static bool only_protocol(int fd)
{
	int refused;
	struct hf_slot *slot = fd >= 0 ? hf_gate(fd, HF_OTHER, &refused) : NULL;

	return slot != NULL && refused == 0 && hf_wrap_of(slot) != NULL && !hf_wrap_ready(slot, fd);
}

static bool any_wrapped(const struct pollfd *fds, nfds_t count)
{
	for (nfds_t i = 0; hf_on() && i < count && i < MOST_TOUCHED; i++) {
		hf_fd_entry entry = fds[i].fd >= 0 ? hf_fdmap_get(fds[i].fd) : HF_FD_PASS;
		struct hf_slot *slot = HF_FD_KIND(entry) == HF_FD_SLOT ? hf_slot_of(entry) : NULL;

		if (slot != NULL && hf_wrap_of(slot) != NULL)
			return true;
	}
	return false;
}

/* Take back readiness that a read would not find: a blocking program would hang in that read. */
static int sift_fds(struct pollfd *fds, nfds_t count)
{
	const short readable = POLLIN | POLLRDNORM;
	int left = 0;

	for (nfds_t i = 0; i < count; i++) {
		if ((fds[i].revents & readable) != 0 && (fds[i].revents & (POLLERR | POLLHUP)) == 0 &&
		    only_protocol(fds[i].fd))
			fds[i].revents &= (short)~readable;
		left += fds[i].revents != 0;
	}
	return left;
}

/* One deadline for the whole wait, however many beats come meanwhile. */
static int poll_wrapped(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t until = 0, now = hf_wrap_now_us();
	struct timespec left;

	if (timeout != NULL)
		until = now + (uint64_t)timeout->tv_sec * 1000000 + ((uint64_t)timeout->tv_nsec + 999) / 1000;
	for (;;) {
		int error = errno, ready;

		if (timeout != NULL) {
			uint64_t us = until > now ? until - now : 0;

			left = (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
		}
		ready = hf_real.ppoll(fds, count, timeout != NULL ? &left : NULL, mask);
		if (ready <= 0)
			return ready;
		ready = sift_fds(fds, count);
		now = hf_wrap_now_us();
		errno = error;
		if (ready > 0 || (timeout != NULL && now >= until))
			return ready;
	}
}

int hf_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct timespec limit = {timeout / 1000, (long)(timeout % 1000) * 1000000};

	hf_real_ready();
	touch_fds(fds, count);
	if (hf_unlikely(fds != NULL && any_wrapped(fds, count)))
		return poll_wrapped(fds, count, timeout < 0 ? NULL : &limit, NULL);
	return hf_real.poll(fds, count, timeout);
}

int hf___poll(struct pollfd *fds, nfds_t count, int timeout)
{
	return hf_poll(fds, count, timeout);
}

int hf___poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
	hf_real_ready();
	if (count <= room / sizeof(*fds))
		return hf_poll(fds, count, timeout);
	return hf_real.__poll_chk(fds, count, timeout, room);
}

int hf_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	hf_real_ready();
	touch_fds(fds, count);
	if (hf_unlikely(fds != NULL && any_wrapped(fds, count)))
		return poll_wrapped(fds, count, timeout, mask);
	return hf_real.ppoll(fds, count, timeout, mask);
}

int hf___ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, size_t room)
{
	hf_real_ready();
	if (count <= room / sizeof(*fds))
		return hf_ppoll(fds, count, timeout, mask);
	return hf_real.__ppoll_chk(fds, count, timeout, mask, room);
}

static bool wrapped_in_set(int count, const fd_set *set)
{
	for (int fd = 0; set != NULL && fd < count && fd < FD_SETSIZE && hf_on(); fd++) {
		hf_fd_entry entry = FD_ISSET(fd, set) ? hf_fdmap_get(fd) : HF_FD_PASS;
		struct hf_slot *slot = HF_FD_KIND(entry) == HF_FD_SLOT ? hf_slot_of(entry) : NULL;

		if (slot != NULL && hf_wrap_of(slot) != NULL)
			return true;
	}
	return false;
}

/* How many bits select(2) would report after what only protocol made readable is taken back. */
static int sift_sets(int count, int ready, fd_set *in)
{
	for (int fd = 0; in != NULL && fd < count && fd < FD_SETSIZE; fd++) {
		if (FD_ISSET(fd, in) && only_protocol(fd)) {
			FD_CLR(fd, in);
			ready--;
		}
	}
	return ready;
}

struct sets {
	fd_set in, out, err;
};

static void copy_set(fd_set *to, const fd_set *from, int count)
{
	/* The program's set has room for COUNT bits, not necessarily for FD_SETSIZE. */
	size_t bytes = ((size_t)(count < FD_SETSIZE ? count : FD_SETSIZE) + 63) / 64 * 8;

	if (from != NULL && to != NULL)
		memcpy(to, from, bytes);
}

/* pselect(2) with one deadline; *LEFT: what select(2) writes back. */
static int select_wrapped(int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout,
			  const sigset_t *mask, uint64_t *left_us)
{
	uint64_t until = 0, now = hf_wrap_now_us();
	struct sets asked;

	copy_set(&asked.in, in, count);
	copy_set(&asked.out, out, count);
	copy_set(&asked.err, err, count);
	if (timeout != NULL)
		until = now + (uint64_t)timeout->tv_sec * 1000000 + ((uint64_t)timeout->tv_nsec + 999) / 1000;
	for (;;) {
		struct timespec left = {0, 0};
		int error = errno, ready;

		*left_us = until > now ? until - now : 0;
		left.tv_sec = (time_t)(*left_us / 1000000);
		left.tv_nsec = (long)(*left_us % 1000000) * 1000;
		ready = hf_real.pselect(count, in, out, err, timeout != NULL ? &left : NULL, mask);
		now = hf_wrap_now_us();
		*left_us = until > now ? until - now : 0;
		if (ready <= 0)
			return ready;
		ready = sift_sets(count, ready, in);
		errno = error;
		if (ready > 0 || (timeout != NULL && now >= until))
			return ready;
		copy_set(in, &asked.in, count);
		copy_set(out, &asked.out, count);
		copy_set(err, &asked.err, count);
	}
}

int hf_select(int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
	struct timespec limit = {0, 0};
	uint64_t left;
	int ready;

	hf_real_ready();
	touch_sets(count, in, out, err);
	if (hf_likely(!wrapped_in_set(count, in)) || (timeout != NULL && timeout->tv_usec >= 1000000))
		return hf_real.select(count, in, out, err, timeout);
	if (timeout != NULL)
		limit = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
	ready = select_wrapped(count, in, out, err, timeout != NULL ? &limit : NULL, NULL, &left);
	if (timeout != NULL)
		*timeout = (struct timeval){(time_t)(left / 1000000), (suseconds_t)(left % 1000000)};
	return ready;
}

int hf___select(int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
	return hf_select(count, in, out, err, timeout);
}

int hf_pselect(int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout, const sigset_t *mask)
{
	hf_real_ready();
	touch_sets(count, in, out, err);
	if (hf_unlikely(wrapped_in_set(count, in))) {
		uint64_t left;

		return select_wrapped(count, in, out, err, timeout, mask, &left);
	}
	return hf_real.pselect(count, in, out, err, timeout, mask);
}

/* Where a wrapped connection is registered: a drained one must leave there first (io/wrap_close.c). */
static void note_epoll(struct hf_slot *slot, int epfd)
{
	enum { ROOM = sizeof(slot->epolls) / sizeof(slot->epolls[0]) };

	for (size_t i = 0; i < ROOM; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&slot->epolls[i], &none, epfd + 1) || none == epfd + 1)
			return;
	}
	atomic_store(&slot->epolls[ROOM - 1], -1); /* too many */
}

int hf_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct hf_slot *slot;
	int refused, result;

	hf_real_ready();
	slot = hf_gate(fd, HF_OTHER, &refused);
	result = hf_real.epoll_ctl(epfd, op, fd, event);
	if (result == 0 && op == EPOLL_CTL_ADD && slot != NULL && hf_wrap_of(slot) != NULL)
		note_epoll(slot, epfd);
	return result;
}

int hf_epoll_wait(int epfd, struct epoll_event *events, int room, int timeout)
{
	hf_real_ready();
	return hf_real.epoll_wait(epfd, events, room, timeout);
}

int hf_epoll_pwait(int epfd, struct epoll_event *events, int room, int timeout, const sigset_t *mask)
{
	hf_real_ready();
	return hf_real.epoll_pwait(epfd, events, room, timeout, mask);
}

int hf_epoll_pwait2(int epfd, struct epoll_event *events, int room, const struct timespec *timeout,
		    const sigset_t *mask)
{
	hf_real_ready();
	if (hf_real.epoll_pwait2 == NULL) {
		errno = ENOSYS;
		return -1;
	}
	return hf_real.epoll_pwait2(epfd, events, room, timeout, mask);
}
