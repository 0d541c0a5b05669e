#include "io/pass.h"
#include "fmt.h"
#include "io/adopt.h"
#include "io/gate.h"
#include "io/wrap_inner.h"
#include "report.h"
#include "sys.h"

#include <errno.h>
#include <string.h>

/* FN for every descriptor in the control messages of MSG. */
static void each_passed(const struct msghdr *msg, void (*fn)(int fd, void *arg), void *arg)
{
	struct msghdr copy = *msg;

	if (copy.msg_controllen < sizeof(struct cmsghdr))
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c != NULL; c = CMSG_NXTHDR(&copy, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			fn(fd, arg);
		}
	}
}

/* Whether the library is mapped in process PID, as /proc/PID/maps tells; true when it cannot be read (proc(5)). */
static bool has_library(int pid)
{
	static const char name[] = "libholdfast";
	char path[40], buf[4096 + sizeof(name)];
	struct hf_fmt fmt;
	size_t kept = 0;
	bool found = false;
	long got;
	int fd;

	hf_fmt_init(&fmt, path, sizeof(path), 0);
	hf_fmt_str(&fmt, "/proc/");
	hf_fmt_i64(&fmt, pid);
	hf_fmt_str(&fmt, "/maps");
	(void)hf_fmt_end(&fmt, "");
	fd = hf_sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return true;
	while (!found && (got = hf_sys_read(fd, buf + kept, 4096)) > 0) {
		size_t size = kept + (size_t)got;

		found = memmem(buf, size, name, sizeof(name) - 1) != NULL;
		kept = size < sizeof(name) - 1 ? size : sizeof(name) - 1; /* it may stand across two reads */
		memmove(buf, buf + size - kept, kept);
	}
	hf_sys_close(fd);
	return found || got < 0;
}

static bool foreign(int over)
{
	struct ucred peer = {0, 0, 0};
	socklen_t len = sizeof(peer);

	/* Of a socketpair(2) it is whoever made it: ourselves, or a parent. */
	return hf_sys_getsockopt(over, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0 &&
	       peer.pid != hf_sys_getpid() && !has_library(peer.pid);
}

static void sending(int fd, void *arg)
{
	hf_fd_entry entry = hf_fdmap_get(fd);
	struct hf_slot *slot = hf_slot_named_by(entry);
	struct hf_wrap *wrap = slot != NULL ? hf_wrap_of(slot) : NULL;
	struct hf_event event;

	if (wrap == NULL)
		return;
	if (atomic_exchange(&wrap->conn.doubt, HF_DOUBT_SPAWNED) != HF_DOUBT_NONE || !foreign(*(const int *)arg) ||
	    !hf_report_wanted(HF_EV_CONFIG))
		return;
	hf_event_init(&event, HF_EV_CONFIG);
	event.fd = fd;
	event.conn = atomic_load(&slot->cookie);
	event.detail = "a wrapped connection is passed to a process without holdfast, which cannot understand it";
	hf_report(&event);
}

void hf_pass_sending(int fd, const struct msghdr *msg)
{
	if (hf_wrap_in_use() && hf_on())
		each_passed(msg, sending, &fd);
}

static void received(int fd, void *arg)
{
	bool *wraps = arg;
	hf_fd_entry old;

	hf_fdmap_set(fd, HF_FD_UNKNOWN, &old);
	if (HF_FD_KIND(old) == HF_FD_SLOT)
		hf_release(old, fd);
	if (*wraps && hf_wrap_marked(fd))
		(void)hf_adopt_unknown(fd, HF_FD_UNKNOWN);
}

static bool wraps_at_all(void)
{
	return hf_arena() != NULL || hf_runtime.config.mode == HF_MODE_WRAP || hf_runtime.config.nrules != 0;
}

void hf_pass_received(const struct msghdr *msg)
{
	bool wraps = wraps_at_all();

	each_passed(msg, received, &wraps);
}

int hf_pass_taken(int fd)
{
	bool wraps = wraps_at_all();
	int error = errno;

	if (fd >= 0 && hf_on() && !hf_proc_borrowed())
		received(fd, &wraps);
	errno = error;
	return fd;
}

int hf_pidfd_getfd(int pidfd, int fd, unsigned flags)
{
	hf_real_ready();
	if (hf_real.pidfd_getfd == NULL) {
		errno = ENOSYS;
		return -1;
	}
	return hf_pass_taken(hf_real.pidfd_getfd(pidfd, fd, flags));
}
