/*
 * System calls made directly, not through libc.
 *
 * The library must not call a name it interposes, must not become a cancellation point in somebody else's thread and
 * must leave errno alone; libc's functions fail all three.  Everything here is async-signal-safe, allocates nothing
 * and is safe before constructors, after destructors and in a vfork(2) child.
 *
 * Every function returns what the kernel returns: a value >= 0, or -errno (-1 to -4095).  errno is never touched.
 * There is no lock and no state.  Structures are the kernel's own, which on x86-64 and aarch64 are also glibc's for
 * struct stat, pollfd, timespec, msghdr, iovec, sockaddr and epoll_event.  Signal sets are the kernel's 64 bits:
 * HF_SIGBIT(SIGPIPE), not sigset_t.
 */
#ifndef HOLDFAST_SYS_H
#define HOLDFAST_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

/* Not in the headers of glibc 2.31; newer calls have the same number everywhere. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

#define HF_SIGBIT(sig) (UINT64_C(1) << ((sig)-1))

#if defined(__clang_analyzer__)

/* The static analyser sees no memory written by an asm statement; of a function it cannot look into it knows that it
 * may fill what it is given. */
long hf_sys6(long nr, long a, long b, long c, long d, long e, long f);

#elif defined(__x86_64__)

static inline long hf_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	/* syscall(2): the instruction overwrites rcx and r11. */
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}

#elif defined(__aarch64__)

static inline long hf_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
	return x0;
}

#else
#error "holdfast knows the system call convention of x86-64 and aarch64 only"
#endif

#ifdef HF_TORTURE
#include HF_TORTURE /* tests/torture: calls that fail on purpose; never defined in the library that is installed */
#endif

#define hf_sys0(nr)                hf_sys6((nr), 0, 0, 0, 0, 0, 0)
#define hf_sys1(nr, a)             hf_sys6((nr), (long)(a), 0, 0, 0, 0, 0)
#define hf_sys2(nr, a, b)          hf_sys6((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define hf_sys3(nr, a, b, c)       hf_sys6((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define hf_sys4(nr, a, b, c, d)    hf_sys6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define hf_sys5(nr, a, b, c, d, e) hf_sys6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* In a seccomp sandbox with wrapped connections (io/confined.h): calls that a filter may answer with death are not
 * made. */
extern _Atomic bool hf_sys_confined;

#define HF_SYS_UNLESS_CONFINED()                                                  \
	do {                                                                      \
		if (atomic_load_explicit(&hf_sys_confined, memory_order_relaxed)) \
			return -EPERM;                                            \
	} while (0)

/* Files and descriptors */

static inline long hf_sys_read(int fd, void *buf, size_t size)
{
	return hf_sys3(SYS_read, fd, buf, size);
}

static inline long hf_sys_write(int fd, const void *buf, size_t size)
{
	return hf_sys3(SYS_write, fd, buf, size);
}

static inline int hf_sys_close(int fd)
{
	return (int)hf_sys1(SYS_close, fd);
}

static inline int hf_sys_openat(int dir, const char *path, int flags, mode_t mode)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_openat, dir, path, flags, mode);
}

static inline int hf_sys_fstat(int fd, struct stat *st)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_fstat, fd, st);
}

/* FLAGS: AT_SYMLINK_NOFOLLOW and the like, 0 for stat(2). */
static inline int hf_sys_fstatat(int dir, const char *path, struct stat *st, int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_newfstatat, dir, path, st, flags);
}

static inline long hf_sys_readlinkat(int dir, const char *path, char *buf, size_t size)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys4(SYS_readlinkat, dir, path, buf, size);
}

/* Length with the NUL, unlike getcwd(3). */
static inline long hf_sys_getcwd(char *buf, size_t size)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys2(SYS_getcwd, buf, size);
}

static inline long hf_sys_fcntl(int fd, int op, long arg)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys3(SYS_fcntl, fd, op, arg);
}

static inline int hf_sys_ioctl(int fd, unsigned long op, void *arg)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_ioctl, fd, op, arg);
}

static inline int hf_sys_dup3(int from, int to, int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_dup3, from, to, flags);
}

static inline int hf_sys_pipe2(int fds[2], int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_pipe2, fds, flags);
}

static inline int hf_sys_eventfd(unsigned value, int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_eventfd2, value, flags);
}

static inline int hf_sys_memfd_create(const char *name, unsigned flags)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_memfd_create, name, flags);
}

static inline int hf_sys_ftruncate(int fd, off_t size)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_ftruncate, fd, size);
}

/* Waiting */

/* TIMEOUT_MS as in poll(2): -1 for ever. */
static inline int hf_sys_poll(struct pollfd *fds, size_t nfds, int timeout_ms)
{
	struct timespec ts = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};

	return (int)hf_sys5(SYS_ppoll, fds, nfds, timeout_ms < 0 ? NULL : &ts, NULL, 0);
}

/* The kernel writes the time left into TIMEOUT. */
static inline int hf_sys_ppoll(struct pollfd *fds, size_t nfds, struct timespec *timeout, const uint64_t *sigmask)
{
	return (int)hf_sys5(SYS_ppoll, fds, nfds, timeout, sigmask, sizeof(*sigmask));
}

static inline int hf_sys_epoll_create(int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys1(SYS_epoll_create1, flags);
}

static inline int hf_sys_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_epoll_ctl, epfd, op, fd, event);
}

static inline int hf_sys_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	return (int)hf_sys6(SYS_epoll_pwait, epfd, (long)events, max, timeout_ms, 0, sizeof(uint64_t));
}

static inline int hf_sys_nanosleep(const struct timespec *ts, struct timespec *left)
{
	return (int)hf_sys2(SYS_nanosleep, ts, left);
}

static inline long hf_sys_futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return hf_sys6(SYS_futex, (long)word, op, (long)value, (long)timeout, 0, 0);
}

/* Sockets */

static inline int hf_sys_socket(int family, int type, int protocol)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_socket, family, type, protocol);
}

static inline int hf_sys_socketpair(int family, int type, int protocol, int fds[2])
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_socketpair, family, type, protocol, fds);
}

static inline int hf_sys_connect(int fd, const void *addr, socklen_t len)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_connect, fd, addr, len);
}

static inline int hf_sys_shutdown(int fd, int how)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_shutdown, fd, how);
}

static inline long hf_sys_sendto(int fd, const void *buf, size_t size, int flags, const void *addr, socklen_t len)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys6(SYS_sendto, fd, (long)buf, (long)size, flags, (long)addr, (long)len);
}

static inline long hf_sys_recvfrom(int fd, void *buf, size_t size, int flags, void *addr, socklen_t *len)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys6(SYS_recvfrom, fd, (long)buf, (long)size, flags, (long)addr, (long)len);
}

/*
 * Take up to SIZE bytes, HF_SYS_DISCARD at most, out of FD's receive queue, to nowhere.  recv(2) with MSG_TRUNC and no
 * buffer would spare the copy (tcp(7)), but valgrind takes it for a mistake.
 */
enum { HF_SYS_DISCARD = 1024 };
static inline long hf_sys_discard(int fd, size_t size)
{
	char nowhere[HF_SYS_DISCARD];

	return hf_sys_recvfrom(fd, nowhere, size < sizeof(nowhere) ? size : sizeof(nowhere), MSG_DONTWAIT, NULL, NULL);
}

static inline long hf_sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys3(SYS_sendmsg, fd, msg, flags);
}

static inline long hf_sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys3(SYS_recvmsg, fd, msg, flags);
}

static inline int hf_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys5(SYS_getsockopt, fd, level, name, value, len);
}

static inline int hf_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys5(SYS_setsockopt, fd, level, name, value, len);
}

static inline int hf_sys_getsockname(int fd, void *addr, socklen_t *len)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_getsockname, fd, addr, len);
}

static inline int hf_sys_getpeername(int fd, void *addr, socklen_t *len)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_getpeername, fd, addr, len);
}

/* Process, signals, time, memory */

/* Of the calling process, uncached: right in a vfork(2) child too. */
static inline int hf_sys_getpid(void)
{
	return (int)hf_sys0(SYS_getpid);
}

static inline int hf_sys_gettid(void)
{
	return (int)hf_sys0(SYS_gettid);
}

static inline int hf_sys_tgkill(int pid, int tid, int sig)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys3(SYS_tgkill, pid, tid, sig);
}

/* HOW: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK; the calling thread's mask, as pthread_sigmask(3). */
static inline int hf_sys_sigprocmask(int how, const uint64_t *set, uint64_t *old)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_rt_sigprocmask, how, set, old, sizeof(*set));
}

static inline int hf_sys_sigpending(uint64_t *set)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys2(SYS_rt_sigpending, set, sizeof(*set));
}

/* The signal taken, or -EAGAIN when none came in TIMEOUT. */
static inline int hf_sys_sigtimedwait(const uint64_t *set, const struct timespec *timeout)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_rt_sigtimedwait, set, NULL, timeout, sizeof(*set));
}

static inline int hf_sys_clock_gettime(clockid_t clock, struct timespec *ts)
{
	return (int)hf_sys2(SYS_clock_gettime, clock, ts);
}

/* RESOURCE: RLIMIT_NOFILE and the like, of the calling process. */
static inline int hf_sys_getrlimit(int resource, struct rlimit *limit)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys4(SYS_prlimit64, 0, resource, NULL, limit);
}

static inline int hf_sys_prctl(int op, unsigned long a, unsigned long b)
{
	HF_SYS_UNLESS_CONFINED();
	return (int)hf_sys5(SYS_prctl, op, a, b, 0, 0);
}

static inline int hf_sys_sched_yield(void)
{
	return (int)hf_sys0(SYS_sched_yield);
}

static inline long hf_sys_getrandom(void *buf, size_t size, unsigned flags)
{
	HF_SYS_UNLESS_CONFINED();
	return hf_sys3(SYS_getrandom, buf, size, flags);
}

/* The address, or -errno cast to a pointer: test with hf_sys_failed(). */
static inline void *hf_sys_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	return (void *)hf_sys6(SYS_mmap, (long)addr, (long)size, prot, flags, fd, offset);
}

static inline int hf_sys_munmap(void *addr, size_t size)
{
	return (int)hf_sys2(SYS_munmap, addr, size);
}

static inline int hf_sys_mprotect(void *addr, size_t size, int prot)
{
	return (int)hf_sys3(SYS_mprotect, addr, size, prot);
}

static inline int hf_sys_madvise(void *addr, size_t size, int advice)
{
	return (int)hf_sys3(SYS_madvise, addr, size, advice);
}

/* Whether a pointer-sized result is an error: the kernel uses the last 4095 values for -errno. */
static inline int hf_sys_failed(const void *result)
{
	return (uintptr_t)result > (uintptr_t)-4096;
}

#endif
