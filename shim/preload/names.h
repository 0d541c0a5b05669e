/*
 * The list of interposed names.  Everything that must agree with it is made from it: the prototypes of the layer
 * below (hf_NAME), the pointers to the next definition (hf_real.NAME), their look-up, the exports, and the test that
 * compares it with `nm -D`.
 *
 * X(return type, name, (parameters), (arguments)).  fcntl, ioctl, prctl and syscall are variadic in C and are exported
 * with pointer-sized arguments, which is how the calling conventions of x86-64 and aarch64 pass theirs.  Those of
 * HF_VARIADIC take any number of arguments of any type: V(return type, name, (parameters), last parameter, name that
 * takes a va_list, (arguments)).
 */
#ifndef HOLDFAST_PRELOAD_NAMES_H
#define HOLDFAST_PRELOAD_NAMES_H

#include <poll.h>
#include <spawn.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* clang-format off */
#define HF_CALLS_SOCKET(X) \
	X(int, socket, (int domain, int type, int protocol), (domain, type, protocol)) \
	X(int, connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len)) \
	X(int, __connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len)) \
	X(int, accept, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
	X(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags), (fd, addr, len, flags)) \
	X(int, listen, (int fd, int backlog), (fd, backlog)) \
	X(int, shutdown, (int fd, int how), (fd, how)) \
	X(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
	X(int, getpeername, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
	X(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len)) \
	X(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len))

#define HF_CALLS_DESCRIPTOR(X) \
	X(int, close, (int fd), (fd)) \
	X(int, __close, (int fd), (fd)) \
	X(int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags)) \
	X(void, closefrom, (int first), (first)) \
	X(int, dup, (int fd), (fd)) \
	X(int, dup2, (int from, int to), (from, to)) \
	X(int, __dup2, (int from, int to), (from, to)) \
	X(int, dup3, (int from, int to, int flags), (from, to, flags)) \
	X(int, fcntl, (int fd, int op, long arg), (fd, op, arg)) \
	X(int, fcntl64, (int fd, int op, long arg), (fd, op, arg)) \
	X(int, __fcntl, (int fd, int op, long arg), (fd, op, arg)) \
	X(int, ioctl, (int fd, unsigned long op, long arg), (fd, op, arg))

#define HF_CALLS_READ(X) \
	X(ssize_t, read, (int fd, void *buf, size_t size), (fd, buf, size)) \
	X(ssize_t, __read, (int fd, void *buf, size_t size), (fd, buf, size)) \
	X(ssize_t, __read_chk, (int fd, void *buf, size_t size, size_t room), (fd, buf, size, room)) \
	X(ssize_t, readv, (int fd, const struct iovec *iov, int count), (fd, iov, count)) \
	X(ssize_t, preadv2, (int fd, const struct iovec *iov, int count, off_t at, int flags), (fd, iov, count, at, flags)) \
	X(ssize_t, preadv64v2, (int fd, const struct iovec *iov, int count, off_t at, int flags), (fd, iov, count, at, flags)) \
	X(ssize_t, recv, (int fd, void *buf, size_t size, int flags), (fd, buf, size, flags)) \
	X(ssize_t, __recv_chk, (int fd, void *buf, size_t size, size_t room, int flags), (fd, buf, size, room, flags)) \
	X(ssize_t, recvfrom, (int fd, void *buf, size_t size, int flags, struct sockaddr *addr, socklen_t *len), \
	  (fd, buf, size, flags, addr, len)) \
	X(ssize_t, __recvfrom_chk, (int fd, void *buf, size_t size, size_t room, int flags, struct sockaddr *addr, \
	  socklen_t *len), (fd, buf, size, room, flags, addr, len)) \
	X(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags)) \
	X(int, recvmmsg, (int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout), \
	  (fd, msgs, count, flags, timeout))

#define HF_CALLS_WRITE(X) \
	X(ssize_t, write, (int fd, const void *buf, size_t size), (fd, buf, size)) \
	X(ssize_t, __write, (int fd, const void *buf, size_t size), (fd, buf, size)) \
	X(ssize_t, writev, (int fd, const struct iovec *iov, int count), (fd, iov, count)) \
	X(ssize_t, pwritev2, (int fd, const struct iovec *iov, int count, off_t at, int flags), (fd, iov, count, at, flags)) \
	X(ssize_t, pwritev64v2, (int fd, const struct iovec *iov, int count, off_t at, int flags), (fd, iov, count, at, flags)) \
	X(ssize_t, send, (int fd, const void *buf, size_t size, int flags), (fd, buf, size, flags)) \
	X(ssize_t, __send, (int fd, const void *buf, size_t size, int flags), (fd, buf, size, flags)) \
	X(ssize_t, sendto, (int fd, const void *buf, size_t size, int flags, const struct sockaddr *addr, socklen_t len), \
	  (fd, buf, size, flags, addr, len)) \
	X(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags)) \
	X(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned count, int flags), (fd, msgs, count, flags)) \
	X(ssize_t, sendfile, (int out, int in, off_t *at, size_t size), (out, in, at, size)) \
	X(ssize_t, sendfile64, (int out, int in, off_t *at, size_t size), (out, in, at, size)) \
	X(ssize_t, splice, (int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags), \
	  (in, in_at, out, out_at, size, flags))

#define HF_CALLS_WAIT(X) \
	X(int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout)) \
	X(int, __poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout)) \
	X(int, __poll_chk, (struct pollfd *fds, nfds_t count, int timeout, size_t room), (fds, count, timeout, room)) \
	X(int, ppoll, (struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask), \
	  (fds, count, timeout, mask)) \
	X(int, __ppoll_chk, (struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, \
	  size_t room), (fds, count, timeout, mask, room)) \
	X(int, select, (int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout), \
	  (count, in, out, err, timeout)) \
	X(int, __select, (int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout), \
	  (count, in, out, err, timeout)) \
	X(int, pselect, (int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout, \
	  const sigset_t *mask), (count, in, out, err, timeout, mask)) \
	X(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event), (epfd, op, fd, event)) \
	X(int, epoll_wait, (int epfd, struct epoll_event *events, int room, int timeout), (epfd, events, room, timeout)) \
	X(int, epoll_pwait, (int epfd, struct epoll_event *events, int room, int timeout, const sigset_t *mask), \
	  (epfd, events, room, timeout, mask)) \
	X(int, epoll_pwait2, (int epfd, struct epoll_event *events, int room, const struct timespec *timeout, \
	  const sigset_t *mask), (epfd, events, room, timeout, mask))

#define HF_CALLS_PROCESS(X) \
	X(pid_t, fork, (void), ()) \
	X(pid_t, _Fork, (void), ()) \
	X(int, daemon, (int nochdir, int noclose), (nochdir, noclose)) \
	X(pid_t, forkpty, (int *master, char *name, const void *term, const void *size), (master, name, term, size)) \
	X(void, _exit, (int status), (status)) \
	X(void, _Exit, (int status), (status)) \
	X(void, quick_exit, (int status), (status)) \
	X(int, unshare, (int flags), (flags)) \
	X(int, setns, (int fd, int type), (fd, type)) \
	X(int, pidfd_getfd, (int pidfd, int fd, unsigned flags), (pidfd, fd, flags)) \
	X(int, setuid, (uid_t uid), (uid)) \
	X(int, setgid, (gid_t gid), (gid)) \
	X(int, seteuid, (uid_t uid), (uid)) \
	X(int, setegid, (gid_t gid), (gid)) \
	X(int, setreuid, (uid_t real, uid_t effective), (real, effective)) \
	X(int, setregid, (gid_t real, gid_t effective), (real, effective)) \
	X(int, setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved)) \
	X(int, setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved)) \
	X(int, setgroups, (size_t count, const gid_t *groups), (count, groups)) \
	X(int, initgroups, (const char *user, gid_t group), (user, group)) \
	X(int, chroot, (const char *path), (path)) \
	X(int, capset, (void *header, const void *data), (header, data)) \
	X(int, setrlimit, (int resource, const void *limit), (resource, limit)) \
	X(int, setrlimit64, (int resource, const void *limit), (resource, limit)) \
	X(int, prlimit, (pid_t pid, int resource, const void *limit, void *old), (pid, resource, limit, old)) \
	X(int, prlimit64, (pid_t pid, int resource, const void *limit, void *old), (pid, resource, limit, old)) \
	X(int, prctl, (int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d), (op, a, b, c, d)) \
	X(long, syscall, (long nr, long a, long b, long c, long d, long e, long f), (nr, a, b, c, d, e, f))

#define HF_CALLS_EXEC(X) \
	X(int, execve, (const char *path, char *const argv[], char *const envp[]), (path, argv, envp)) \
	X(int, execv, (const char *path, char *const argv[]), (path, argv)) \
	X(int, execvp, (const char *file, char *const argv[]), (file, argv)) \
	X(int, execvpe, (const char *file, char *const argv[], char *const envp[]), (file, argv, envp)) \
	X(int, fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp)) \
	X(int, execveat, (int dir, const char *path, char *const argv[], char *const envp[], int flags), \
	  (dir, path, argv, envp, flags)) \
	X(int, posix_spawn, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, \
	  const posix_spawnattr_t *attr, char *const argv[], char *const envp[]), (pid, path, actions, attr, argv, envp)) \
	X(int, posix_spawnp, (pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, \
	  const posix_spawnattr_t *attr, char *const argv[], char *const envp[]), (pid, file, actions, attr, argv, envp)) \
	X(int, system, (const char *command), (command)) \
	X(FILE *, popen, (const char *command, const char *mode), (command, mode))

/* Exported in a way of their own (preload/special.c): truly variadic, or returning twice. */
#define HF_CALLS_SPECIAL(X) \
	X(int, execl, (const char *path, const char *arg, ...), ) \
	X(int, execlp, (const char *file, const char *arg, ...), ) \
	X(int, execle, (const char *path, const char *arg, ...), ) \
	X(pid_t, vfork, (void), ) \
	X(int, clone, (int (*fn)(void *), void *stack, int flags, void *arg, ...), ) \
	X(int, __clone, (int (*fn)(void *), void *stack, int flags, void *arg, ...), )

#define HF_CALLS_STDIO(X) \
	X(FILE *, freopen, (const char *path, const char *mode, FILE *stream), (path, mode, stream)) \
	X(FILE *, freopen64, (const char *path, const char *mode, FILE *stream), (path, mode, stream)) \
	X(int, vdprintf, (int fd, const char *format, va_list ap), (fd, format, ap)) \
	X(int, __vdprintf_chk, (int fd, int flag, const char *format, va_list ap), (fd, flag, format, ap))

#define HF_VARIADIC(V) \
	V(int, dprintf, (int fd, const char *format, ...), format, vdprintf, (fd, format, ap)) \
	V(int, __dprintf_chk, (int fd, int flag, const char *format, ...), format, __vdprintf_chk, (fd, flag, format, ap))

#define HF_CALLS(X) \
	HF_CALLS_SOCKET(X) HF_CALLS_DESCRIPTOR(X) HF_CALLS_READ(X) HF_CALLS_WRITE(X) HF_CALLS_WAIT(X) HF_CALLS_PROCESS(X) \
	HF_CALLS_EXEC(X) HF_CALLS_STDIO(X)
/* clang-format on */

#endif
