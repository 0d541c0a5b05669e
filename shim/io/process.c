/*
 * The calls that change what the process is: forks, namespaces, credentials, sandboxes.
 */
#include "io/process.h"
#include "io/confined.h"
#include "io/gate.h"
#include "io/keep.h"
#include "io/wrap_inner.h"
#include "state/family.h"
#include "sys.h"
#include "watch/watch.h"

#include <linux/prctl.h>
#include <sched.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * Whether the parent had other threads; libc's own word (glibc 2.32), which a child's copy still tells.  Looked up: a
 * reference to it would keep the library out of programs with an older glibc.
 */
static bool threaded(void)
{
	static const char *const name[] = {"__libc_single_threaded"};
	static const char unknown;
	static _Atomic(const char *) known;
	const char *single = atomic_load_explicit(&known, memory_order_relaxed);
	struct hf_symbol symbol;

	if (single == NULL) {
		single = hf_real_locate(name, &symbol, 1) != NULL ? symbol.at : &unknown;
		atomic_store_explicit(&known, single, memory_order_relaxed);
	}
	return *(const volatile char *)single == 0;
}

/* CHILD: from hf_wrap_expect_child(). */
static pid_t forked(pid_t pid, uint32_t child)
{
	int error = errno;
	bool fresh;

	if (pid == 0 && hf_on()) {
		/* The epoch page would tell at the first call; but an inherited connection must not wait for that. */
		(void)hf_proc_enter(&fresh);
		if (fresh)
			hf_watch_forked();
		hf_family_forked_child(child);
		if (hf_wrap_in_use()) {
			/* First of all: what is not held may be given to another connection at any moment. */
			hf_gate_hold_wrapped();
			if (threaded())
				hf_gate_reconcile();
			hf_gate_claim_wrapped();
		}
		hf_family_sorted(child);
	} else if (pid != 0) {
		hf_family_forked_parent(child, pid);
		if (!threaded())
			hf_family_sorted(child); /* nobody closed anything meanwhile */
		hf_keep_has_forked();
	}
	errno = error;
	return pid;
}

static uint32_t expect_child(void)
{
	hf_redial_forking();
	hf_keep_forking();
	return hf_on() && !hf_proc_borrowed() ? hf_wrap_expect_child() : 0;
}

pid_t hf_fork(void)
{
	uint32_t child;

	hf_real_ready();
	child = expect_child();
	return forked(hf_real.fork(), child);
}

pid_t hf__Fork(void)
{
	uint32_t child;

	hf_real_ready();
	if (hf_real._Fork == NULL) {
		errno = ENOSYS;
		return -1;
	}
	child = expect_child();
	return forked(hf_real._Fork(), child);
}

/* As daemon(3) does it.  Libc's own would end the parent before we could say which process the child is, and replace
 * standard input and output behind our back. */
static int null_standard(void)
{
	int null = hf_sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
	struct stat st;

	if (null < 0 || hf_sys_fstat(null, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
		if (null >= 0)
			hf_sys_close(null);
		errno = null < 0 ? -null : ENODEV;
		return -1;
	}
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		(void)hf_dup2(null, fd);
	if (null > STDERR_FILENO)
		hf_sys_close(null);
	return 0;
}

int hf_daemon(int nochdir, int noclose)
{
	pid_t pid;
	long session;

	hf_real_ready();
	if (!hf_on())
		return hf_real.daemon(nochdir, noclose);
	pid = hf_fork();
	if (pid < 0)
		return -1;
	if (pid > 0)
		hf__exit(0);
	session = hf_sys0(SYS_setsid);
	if (session < 0) {
		errno = (int)-session;
		return -1;
	}
	if (nochdir == 0)
		(void)hf_sys1(SYS_chdir, "/");
	return noclose != 0 ? 0 : null_standard();
}

pid_t hf_forkpty(int *master, char *name, const void *term, const void *size)
{
	uint32_t child;

	hf_real_ready();
	if (hf_real.forkpty == NULL) {
		errno = ENOSYS;
		return -1;
	}
	child = expect_child();
	return forked(hf_real.forkpty(master, name, term, size), child);
}

long hf_raw_fork(long nr, long a, long b, long c, long d, long e, long f)
{
	uint32_t child;
	long pid;

	hf_real_ready();
	child = expect_child();
	pid = hf_sys6(nr, a, b, c, d, e, f);
	if (pid < 0)
		errno = (int)-pid;
	return forked((pid_t)(pid < 0 ? -1 : pid), child);
}

/*
 * The ends that run no destructor.  The watchdog, which drains what was closed, ends with the process; the kernel would
 * answer a beat that is on its way with a reset, and that would destroy bytes which natively arrive.
 */
static void leaving(void)
{
	hf_real_ready();
	if (hf_on() && hf_wrap_in_use() && !hf_proc_borrowed())
		hf_wrap_exit();
}

void hf__exit(int status)
{
	leaving();
	hf_real._exit(status);
}

void hf__Exit(int status)
{
	leaving();
	hf_real._Exit(status);
}

void hf_quick_exit(int status)
{
	leaving();
	hf_real.quick_exit(status);
}

void hf_leaving_group(void)
{
	leaving();
}

/*
 * Credentials, capabilities and namespaces belong to the thread in the kernel, and some may be changed by a
 * single-threaded process only.  The watchdog is away during the change and comes back with what the program has
 * become: it never keeps a privilege the program has dropped.
 */
#define ALONE(name, args)                           \
	do {                                        \
		int result_, error_;                \
		hf_real_ready();                    \
		if (!hf_on() || hf_proc_borrowed()) \
			return hf_real.name args;   \
		hf_watch_suspend();                 \
		result_ = hf_real.name args;        \
		error_ = errno;                     \
		hf_watch_resume();                  \
		errno = error_;                     \
		return result_;                     \
	} while (0)

void hf_share_table(void)
{
	if (hf_on() && !hf_proc_borrowed())
		hf_watch_share();
}

int hf_unshare(int flags)
{
	if ((flags & CLONE_FILES) != 0)
		hf_share_table();
	ALONE(unshare, (flags));
}

int hf_setns(int fd, int type)
{
	ALONE(setns, (fd, type));
}

/* A program that may open nothing any more: nor may the watchdog in a table of its own. */
static void limiting(pid_t pid, int resource, const struct rlimit *limit)
{
	enum { FEW = 16 };

	hf_real_ready();
	if (resource == RLIMIT_NOFILE && !hf_wild(limit) && limit->rlim_cur < FEW &&
	    (pid == 0 || pid == hf_sys_getpid()))
		hf_share_table();
}

int hf_setrlimit(int resource, const void *limit)
{
	limiting(0, resource, limit);
	return hf_real.setrlimit(resource, limit);
}

int hf_setrlimit64(int resource, const void *limit)
{
	limiting(0, resource, limit);
	return hf_real.setrlimit64(resource, limit);
}

int hf_prlimit(pid_t pid, int resource, const void *limit, void *old)
{
	limiting(pid, resource, limit);
	return hf_real.prlimit(pid, resource, limit, old);
}

int hf_prlimit64(pid_t pid, int resource, const void *limit, void *old)
{
	limiting(pid, resource, limit);
	return hf_real.prlimit64(pid, resource, limit, old);
}

/* As ALONE; and what the sinks name may be out of the new identity's reach. */
#define ALONE_PINNED(name, args)                    \
	do {                                        \
		if (hf_on() && !hf_proc_borrowed()) \
			hf_report_pin();            \
		ALONE(name, args);                  \
	} while (0)

int hf_chroot(const char *path)
{
	ALONE_PINNED(chroot, (path));
}

int hf_setuid(uid_t uid)
{
	ALONE_PINNED(setuid, (uid));
}

int hf_setgid(gid_t gid)
{
	ALONE_PINNED(setgid, (gid));
}

int hf_seteuid(uid_t uid)
{
	ALONE_PINNED(seteuid, (uid));
}

int hf_setegid(gid_t gid)
{
	ALONE_PINNED(setegid, (gid));
}

int hf_setreuid(uid_t real, uid_t effective)
{
	ALONE_PINNED(setreuid, (real, effective));
}

int hf_setregid(gid_t real, gid_t effective)
{
	ALONE_PINNED(setregid, (real, effective));
}

int hf_setresuid(uid_t real, uid_t effective, uid_t saved)
{
	ALONE_PINNED(setresuid, (real, effective, saved));
}

int hf_setresgid(gid_t real, gid_t effective, gid_t saved)
{
	ALONE_PINNED(setresgid, (real, effective, saved));
}

int hf_setgroups(size_t count, const gid_t *groups)
{
	ALONE(setgroups, (count, groups));
}

int hf_initgroups(const char *user, gid_t group)
{
	ALONE(initgroups, (user, group));
}

int hf_capset(void *header, const void *data)
{
	ALONE(capset, (header, data));
}

/*
 * A seccomp filter may kill the process for any system call its author did not expect, and ours are not expected:
 * from here on the library makes none, unless a connection is wrapped.  Connections already tuned keep the kernel's
 * keepalive.
 */
static void step_aside(void)
{
	struct hf_event event;

	hf_event_init(&event, HF_EV_CONFIG);
	event.detail = "the program is entering a seccomp sandbox: this process watches its connections no longer";
	if (hf_report_wanted(HF_EV_CONFIG))
		hf_report(&event);
	hf_watch_suspend();
}

bool hf_sandbox_enter(void)
{
	if (!hf_on() || hf_proc_borrowed())
		return false;
	step_aside();
	/* Without the hooks a wrapped connection's frames would reach the program: there they stay. */
	hf_confined_enter();
	return true;
}

void hf_sandbox_failed(void)
{
	hf_confined_failed();
	hf_watch_resume();
}

int hf_prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	int result, error;
	bool entered;

	hf_real_ready();
	if (op != PR_SET_SECCOMP)
		return hf_real.prctl(op, a, b, c, d);
	entered = hf_sandbox_enter();
	result = hf_real.prctl(op, a, b, c, d);
	error = errno;
	if (entered && result != 0)
		hf_sandbox_failed();
	errno = error;
	return result;
}
