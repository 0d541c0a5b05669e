/*
 * syscall(3): the back door by which libuv, nginx, perl and libpython make socket calls.
 *
 * The numbers that concern descriptors go the same way as the functions of that name; all others are passed to the
 * kernel as they are.
 */
#include "io/adopt.h"
#include "io/exec.h"
#include "io/gate.h"
#include "io/pass.h"
#include "io/process.h"
#include "io/wrap_inner.h"
#include "sys.h"
#include "watch/watch.h"

#include <linux/seccomp.h>
#include <sched.h>

static long plain(long nr, long a, long b, long c, long d, long e, long f)
{
	long result = hf_sys6(nr, a, b, c, d, e, f);

	if (hf_unlikely(result < 0 && result > -4096)) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

static long seccomp_call(long nr, long a, long b, long c, long d, long e, long f)
{
	/* Asking what is available sets nothing. */
	bool sets = a == SECCOMP_SET_MODE_STRICT || a == SECCOMP_SET_MODE_FILTER;
	bool entered = sets && hf_sandbox_enter();
	long result = plain(nr, a, b, c, d, e, f);
	int error = errno;

	if (entered && result != 0)
		hf_sandbox_failed();
	errno = error;
	return result;
}

/* Credentials changed behind libc's back: for this thread only, which the watchdog must not outlive as it was. */
static long alone(long nr, long a, long b, long c, long d, long e, long f)
{
	bool ours = hf_on() && !hf_proc_borrowed();
	long result;
	int error;

	if (ours)
		hf_watch_suspend();
	result = plain(nr, a, b, c, d, e, f);
	error = errno;
	if (ours)
		hf_watch_resume();
	errno = error;
	return result;
}

/* The bare exit of one thread.  After the last one the program knows of the process must end, so the watchdog then
 * stays away; while there are others it must not. */
static long leave(long nr, long status)
{
	enum { LINKS = 2 }; /* of any directory; /proc/self/task has one more for each thread */
	struct stat tasks;

	if (hf_on() && !hf_proc_borrowed()) {
		hf_watch_suspend();
		if (hf_sys_fstatat(AT_FDCWD, "/proc/self/task", &tasks, 0) == 0 && tasks.st_nlink > LINKS + 1)
			hf_watch_resume();
	}
	return plain(nr, status, 0, 0, 0, 0, 0);
}

long hf_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
	case SYS_read:
		return hf_read((int)a, (void *)b, (size_t)c);
	case SYS_write:
		return hf_write((int)a, (const void *)b, (size_t)c);
	case SYS_readv:
		return hf_readv((int)a, (const struct iovec *)b, (int)c);
	case SYS_writev:
		return hf_writev((int)a, (const struct iovec *)b, (int)c);
	case SYS_recvfrom:
		return hf_recvfrom((int)a, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e, (socklen_t *)f);
	case SYS_sendto:
		return hf_sendto((int)a, (const void *)b, (size_t)c, (int)d, (const struct sockaddr *)e, (socklen_t)f);
	case SYS_recvmsg:
		return hf_recvmsg((int)a, (struct msghdr *)b, (int)c);
	case SYS_sendmsg:
		return hf_sendmsg((int)a, (const struct msghdr *)b, (int)c);
	case SYS_recvmmsg:
		return hf_recvmmsg((int)a, (struct mmsghdr *)b, (unsigned)c, (int)d, (struct timespec *)e);
	case SYS_sendmmsg:
		return hf_sendmmsg((int)a, (struct mmsghdr *)b, (unsigned)c, (int)d);
	case SYS_sendfile:
		return hf_sendfile((int)a, (int)b, (off_t *)c, (size_t)d);
	case SYS_splice:
		return hf_splice((int)a, (off_t *)b, (int)c, (off_t *)d, (size_t)e, (unsigned)f);
	case SYS_socket:
		return hf_socket((int)a, (int)b, (int)c);
	case SYS_connect:
		return hf_connect((int)a, (const struct sockaddr *)b, (socklen_t)c);
	case SYS_accept:
		return hf_accept((int)a, (struct sockaddr *)b, (socklen_t *)c);
	case SYS_accept4:
		return hf_accept4((int)a, (struct sockaddr *)b, (socklen_t *)c, (int)d);
	case SYS_shutdown:
		return hf_shutdown((int)a, (int)b);
	case SYS_getpeername:
		return hf_getpeername((int)a, (struct sockaddr *)b, (socklen_t *)c);
	case SYS_getsockopt:
		return hf_getsockopt((int)a, (int)b, (int)c, (void *)d, (socklen_t *)e);
	case SYS_setsockopt:
		return hf_setsockopt((int)a, (int)b, (int)c, (const void *)d, (socklen_t)e);
	case SYS_close:
		return hf_close((int)a);
	case SYS_close_range:
		return hf_close_range((unsigned)a, (unsigned)b, (int)c);
	case SYS_dup:
		return hf_dup((int)a);
#ifdef SYS_dup2
	case SYS_dup2:
		return hf_dup2((int)a, (int)b);
#endif
	case SYS_dup3:
		return hf_dup3((int)a, (int)b, (int)c);
	case SYS_fcntl:
		return hf_fcntl((int)a, (int)b, c);
	case SYS_epoll_ctl:
		return hf_epoll_ctl((int)a, (int)b, (int)c, (struct epoll_event *)d);
#ifdef SYS_fork
	case SYS_fork:
		return hf_raw_fork(nr, a, b, c, d, e, f);
#endif
	case SYS_clone:
		if ((a & CLONE_VM) == 0)
			return hf_raw_fork(nr, a, b, c, d, e, f);
		hf_exec_spawning();
		hf_proc_lend();
		return plain(nr, a, b, c, d, e, f);
	case SYS_clone3: /* its flags come first */
		if (!hf_wild((const void *)a) && (*(const uint64_t *)a & CLONE_VM) == 0)
			return hf_raw_fork(nr, a, b, c, d, e, f);
		hf_exec_spawning();
		hf_proc_lend();
		return plain(nr, a, b, c, d, e, f);
	case SYS_pidfd_getfd:
		return hf_pass_taken((int)plain(nr, a, b, c, d, e, f));
	case SYS_execve:
		return hf_execve((const char *)a, (char *const *)b, (char *const *)c);
	case SYS_execveat:
		return hf_execveat((int)a, (const char *)b, (char *const *)c, (char *const *)d, (int)e);
	case SYS_prlimit64:
		return hf_prlimit64((pid_t)a, (int)b, (const void *)c, (void *)d);
	case SYS_setrlimit:
		return hf_setrlimit((int)a, (const void *)b);
	case SYS_unshare:
		return hf_unshare((int)a);
	case SYS_seccomp:
		return seccomp_call(nr, a, b, c, d, e, f);
	case SYS_prctl:
		return hf_prctl((int)a, (unsigned long)b, (unsigned long)c, (unsigned long)d, (unsigned long)e);
	case SYS_setuid:
	case SYS_setgid:
	case SYS_setreuid:
	case SYS_setregid:
	case SYS_setresuid:
	case SYS_setresgid:
	case SYS_setgroups:
	case SYS_capset:
	case SYS_setns:
		return alone(nr, a, b, c, d, e, f);
	case SYS_exit_group:
		hf_leaving_group();
		return plain(nr, a, b, c, d, e, f);
	case SYS_exit:
		return leave(nr, a);
	default:
		return plain(nr, a, b, c, d, e, f);
	}
}
