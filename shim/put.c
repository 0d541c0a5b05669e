/* Writing a line without harm: see put.h. */
#include "put.h"

#include "sys.h"

#include <errno.h>
#include <signal.h>
#include <sys/uio.h>

uint64_t hf_put_identity(int fd, const struct stat *st)
{
	uint64_t h = ((uint64_t)st->st_dev * 31 + (st->st_mode & S_IFMT)) * UINT64_C(0x9e3779b97f4a7c15);

	h = (h ^ (h >> 29) ^ (uint64_t)st->st_ino) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ (h >> 32)) & ((UINT64_C(1) << HF_PUT_ID_BITS) - 1);
	return (uint64_t)fd << HF_PUT_ID_BITS | (h != 0 ? h : 1);
}

int hf_put_choose(int fd, uint64_t *own)
{
	struct stat st, in;
	int domain = 0, ret;
	socklen_t len = sizeof(domain);

	*own = 0;
	if (fd < 0 || fd > HF_PUT_MAX_FD)
		return -EBADF;
	ret = hf_sys_fstat(fd, &st);
	if (ret < 0)
		return ret;
	if (S_ISSOCK(st.st_mode)) {
		ret = hf_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
		if (ret < 0 || domain != AF_UNIX)
			return -EAFNOSUPPORT;
		if (hf_sys_fstat(0, &in) == 0 && in.st_dev == st.st_dev && in.st_ino == st.st_ino)
			return -EAFNOSUPPORT;
	} else if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)) {
		return -EINVAL;
	}
	*own = hf_put_identity(fd, &st);
	return 0;
}

bool hf_put_still_at(uint64_t own, int hand, struct stat *st)
{
	return own != 0 && hand >= 0 && hf_sys_fstat(hand, st) == 0 && hf_put_identity(hf_put_fd(own), st) == own;
}

bool hf_put_still(uint64_t own, struct stat *st)
{
	return hf_put_still_at(own, hf_put_fd(own), st);
}

/*
 * Signals that a write raises in the writing thread.  SIGPIPE: no reader.  SIGXFSZ: RLIMIT_FSIZE.  SIGTTOU: a
 * background process on a terminal with TOSTOP would be stopped, unless the signal is blocked (termios(3)).
 * All signals are held back meanwhile: a handler that leaves by siglongjmp(3) would leave the mask changed.
 */
struct guard {
	uint64_t mask, pending;
};

static bool guard_enter(struct guard *guard)
{
	const uint64_t all = UINT64_MAX;

	guard->pending = 0;
	if (hf_sys_sigprocmask(SIG_BLOCK, &all, &guard->mask) < 0)
		return false;
	hf_sys_sigpending(&guard->pending);
	return true;
}

/* Take back the signal that the write with result RET left pending, unless one was pending before. */
static void guard_leave(const struct guard *guard, long ret)
{
	const struct timespec at_once = {0, 0};
	uint64_t raised = ret == -EPIPE ? HF_SIGBIT(SIGPIPE) : ret == -EFBIG ? HF_SIGBIT(SIGXFSZ) : 0;

	raised &= ~guard->pending;
	while (raised != 0 && hf_sys_sigtimedwait(&raised, &at_once) == -EINTR)
		;
	hf_sys_sigprocmask(SIG_SETMASK, &guard->mask, NULL);
}

/*
 * writev(2) on a descriptor whose O_NONBLOCK is the program's business: never set, never relied upon.
 * Pipes take RWF_NOWAIT since Linux 6.4.  Before, and on terminals, writable by poll(2) is as much as one can know:
 * a pipe then has a free page, a terminal more than a line of room, and only another writer in between could make us
 * wait for the reader.
 */
static long write_foreign(int fd, const struct stat *st, const struct iovec *iov, int n)
{
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	long ret = -EOPNOTSUPP;

	if (S_ISREG(st->st_mode)) /* through this very descriptor: its offset is shared with the program */
		return hf_sys3(SYS_writev, fd, iov, n);
	if (S_ISFIFO(st->st_mode))
		ret = hf_sys6(SYS_pwritev2, fd, (long)iov, n, -1, -1, RWF_NOWAIT);
	if (ret != -EOPNOTSUPP && ret != -ENOSYS && ret != -EINVAL)
		return ret;
	if (hf_sys_poll(&ready, 1, 0) <= 0)
		return -EAGAIN;
	return hf_sys3(SYS_writev, fd, iov, n);
}

/* One write of all of IOV: 0, or -errno; -EIO after a part. MINE: opened by us, with O_NONBLOCK. */
static int put(int fd, const struct stat *st, struct iovec *iov, int n, bool mine)
{
	const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
	struct guard guard;
	size_t total = 0;
	long ret;

	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (S_ISSOCK(st->st_mode)) {
		ret = hf_sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (!guard_enter(&guard)) {
		ret = -EPERM; /* a sandbox: then better no line than a SIGPIPE */
	} else {
		ret = mine ? hf_sys3(SYS_writev, fd, iov, n) : write_foreign(fd, st, iov, n);
		guard_leave(&guard, ret);
	}
	return ret < 0 ? (int)ret : (size_t)ret < total ? -EIO : 0;
}

int hf_put_line(int fd, const struct stat *st, _Atomic bool *torn, const char *text, size_t len, bool mine)
{
	struct iovec iov[3] = {{.iov_base = (void *)"\n", .iov_len = 1},
			       {.iov_base = (void *)text, .iov_len = len},
			       {.iov_base = (void *)"\n", .iov_len = 1}};
	int first = atomic_load(torn) ? 0 : 1;
	int last = len == 0 || text[len - 1] != '\n' ? 2 : 1;
	int ret = put(fd, st, iov + first, last - first + 1, mine);

	if (ret == 0 || ret == -EIO)
		atomic_store(torn, ret != 0);
	return ret;
}
