/* The library's calls of the C library, by way of guard.c. */
#include "guard.h"
#include "preload/real.h"
#include "sys.h"

#include <poll.h>

#define RAW (hf_sys6) /* in parentheses it is the function, not the macro */

static long c_call(long nr, long a, long b, long c, long d, long e, long f)
{
	long result = hf_fuzz_call(nr, a, b, c, d, e, f);

	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

/* A call that would sleep is woken by a signal. */
static long waiting_call(long nr, long a, long b, long c, long flags, long e, long f)
{
	int at = nr == SYS_recvfrom || nr == SYS_sendto;
	long result =
		at ? c_call(nr, a, b, c, flags | MSG_DONTWAIT, e, f) : c_call(nr, a, b, flags | MSG_DONTWAIT, 0, 0, 0);

	if (result < 0 && errno == EAGAIN && (flags & MSG_DONTWAIT) == 0 &&
	    (RAW(SYS_fcntl, a, F_GETFL, 0, 0, 0, 0) & O_NONBLOCK) == 0) {
		hf_guard_slept();
		errno = EINTR;
	}
	return result;
}

static ssize_t guarded_recv(int fd, void *buf, size_t size, int flags)
{
	return waiting_call(SYS_recvfrom, fd, (long)buf, (long)size, flags, 0, 0);
}

static ssize_t guarded_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return waiting_call(SYS_recvmsg, fd, (long)msg, 0, flags, 0, 0);
}

static ssize_t guarded_send(int fd, const void *buf, size_t size, int flags)
{
	return waiting_call(SYS_sendto, fd, (long)buf, (long)size, flags | MSG_NOSIGNAL, 0, 0);
}

static ssize_t guarded_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return waiting_call(SYS_sendmsg, fd, (long)msg, 0, flags | MSG_NOSIGNAL, 0, 0);
}

static int guarded_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	static const struct timespec none;

	(void)timeout;
	return (int)c_call(SYS_ppoll, (long)fds, (long)count, (long)&none, 0, 8, 0);
}

static int guarded_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	(void)timeout;
	(void)mask;
	return guarded_poll(fds, count, 0);
}

void hf_guard_real(void)
{
	hf_real.recv = guarded_recv;
	hf_real.recvmsg = guarded_recvmsg;
	hf_real.send = guarded_send;
	hf_real.sendmsg = guarded_sendmsg;
	hf_real.poll = guarded_poll;
	hf_real.ppoll = guarded_ppoll;
}
