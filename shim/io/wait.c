/*
 * The calls that wait.  In probe mode readiness is the kernel's own; all that is done here is to make sure that the
 * connections waited for are watched, for a program may wait on a descriptor it was given before it ever reads it.
 */
#include "io/gate.h"

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

int hf_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	hf_real_ready();
	touch_fds(fds, count);
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
		touch_fds(fds, count);
	return hf_real.__poll_chk(fds, count, timeout, room);
}

int hf_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	hf_real_ready();
	touch_fds(fds, count);
	return hf_real.ppoll(fds, count, timeout, mask);
}

int hf___ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, size_t room)
{
	hf_real_ready();
	if (count <= room / sizeof(*fds))
		touch_fds(fds, count);
	return hf_real.__ppoll_chk(fds, count, timeout, mask, room);
}

int hf_select(int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
	hf_real_ready();
	touch_sets(count, in, out, err);
	return hf_real.select(count, in, out, err, timeout);
}

int hf___select(int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
	return hf_select(count, in, out, err, timeout);
}

int hf_pselect(int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout, const sigset_t *mask)
{
	hf_real_ready();
	touch_sets(count, in, out, err);
	return hf_real.pselect(count, in, out, err, timeout, mask);
}

int hf_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	hf_real_ready();
	hf_gate_touch(fd);
	return hf_real.epoll_ctl(epfd, op, fd, event);
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
