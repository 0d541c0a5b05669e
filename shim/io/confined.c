#include "io/confined.h"
#include "io/gate.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/family.h"

#include <fcntl.h>
#include <string.h>

void hf_confined_enter(void)
{
	uint64_t until = hf_wrap_settle_by();

	hf_resume_share_none();
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);
		int fd = slot != NULL ? atomic_load(&slot->fd) : -1;
		struct hf_wrap *wrap;

		if (slot == NULL || atomic_load(&slot->refs) == 0 || hf_wrap_of(slot) == NULL)
			continue;
		hf_wrap_settle(slot, until);
		wrap = hf_wrap_of(slot);
		if (wrap != NULL && atomic_load(&wrap->phase) == HF_PHASE_ON &&
		    !hf_hold_others(&wrap->conn, hf_family_me()))
			hf_wrap_fall_silent(slot, fd);
		atomic_store(&slot->nonblocking, (hf_sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK) != 0);
	}
	if (hf_wrap_any())
		atomic_store(&hf_sys_confined, true);
	else
		atomic_store(&hf_runtime.on, false);
}

void hf_confined_failed(void)
{
	atomic_store(&hf_sys_confined, false);
	hf_resume_share_all();
	atomic_store(&hf_runtime.on, true);
}

bool hf_confined_nonblocking(int fd)
{
	hf_fd_entry entry = hf_fdmap_get(fd);
	struct hf_slot *slot = hf_slot_named_by(entry);

	return slot != NULL && atomic_load(&slot->nonblocking) != 0;
}

/* A program that says MSG_NOSIGNAL and the like makes such calls itself. */
static bool flagged(int fd, int flags)
{
	return (flags & ~MSG_DONTWAIT) != 0 || ((flags & MSG_DONTWAIT) != 0 && !hf_confined_nonblocking(fd));
}

ssize_t hf_confined_send(int fd, const struct iovec *iov, size_t count, int flags, size_t *asked)
{
	uint8_t buf[8192];
	size_t at = 0;

	for (size_t i = 0; i < count && at < sizeof(buf); i++) {
		size_t n = iov[i].iov_len < sizeof(buf) - at ? iov[i].iov_len : sizeof(buf) - at;

		if (n != 0)
			memcpy(buf + at, iov[i].iov_base, n);
		at += n;
	}
	*asked = at;
	return flagged(fd, flags) ? hf_real.send(fd, buf, at, flags) : hf_real.write(fd, buf, at);
}

ssize_t hf_confined_receive(int fd, const struct iovec *iov, int flags, size_t *asked)
{
	*asked = iov->iov_len;
	return flagged(fd, flags) ? hf_real.recv(fd, iov->iov_base, iov->iov_len, flags)
				  : hf_real.read(fd, iov->iov_base, iov->iov_len);
}
