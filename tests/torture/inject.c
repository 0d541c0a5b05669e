/*
 * The library's part in torture: every system call it makes is counted by the place that makes it, and fails when the
 * driver says so.  See torture.h.
 */
#include "../tests/torture/torture.h"
#include "sys.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define RAW (hf_sys6) /* in parentheses it is the function, not the macro */

extern const char hf_torture_base[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));

/* NULL until there is an environment, and in programs that are not to be tortured. */
static struct torture *plan(void)
{
	static struct torture *_Atomic map;
	struct torture *found = atomic_load(&map);
	const char *name;
	long fd, at;

	if (found != NULL || environ == NULL || (name = getenv("HF_TORTURE")) == NULL)
		return found;
	fd = RAW(SYS_openat, AT_FDCWD, (long)name, O_RDWR | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		return NULL;
	at = RAW(SYS_mmap, 0, sizeof(struct torture), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)RAW(SYS_close, fd, 0, 0, 0, 0, 0);
	if (at < 0 && at > -4096)
		return NULL;
	found = (struct torture *)at;
	atomic_store(&map, found);
	return found;
}

static struct torture_site *site_of(struct torture *torture, uint32_t place, long nr)
{
	for (uint32_t i = 0, at = place * 2654435761u % TORTURE_SITES; i < TORTURE_SITES; i++) {
		struct torture_site *site = &torture->site[(at + i) % TORTURE_SITES];
		uint32_t none = 0;

		if (atomic_load(&site->place) == place)
			return site;
		if (atomic_compare_exchange_strong(&site->place, &none, place)) {
			atomic_store(&site->nr, (uint32_t)nr);
			return site;
		}
		if (none == place)
			return site;
	}
	return &torture->site[0];
}

static long half(long size)
{
	return size > 1 ? size / 2 : size;
}

/* Half of the first piece. */
static long short_message(long nr, long fd, const struct msghdr *msg, long flags)
{
	struct msghdr less = *msg;
	struct iovec piece;

	if (msg->msg_iovlen == 0)
		return RAW(nr, fd, (long)msg, flags, 0, 0, 0);
	piece = (struct iovec){msg->msg_iov[0].iov_base, (size_t)half((long)msg->msg_iov[0].iov_len)};
	less.msg_iov = &piece;
	less.msg_iovlen = 1;
	return RAW(nr, fd, (long)&less, flags, 0, 0, 0);
}

static long fewer(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
	case SYS_read:
	case SYS_write:
	case SYS_sendto:
	case SYS_recvfrom:
	case SYS_pread64:
		return RAW(nr, a, b, half(c), d, e, f);
	case SYS_sendmsg:
	case SYS_recvmsg:
		return short_message(nr, a, (const struct msghdr *)b, c);
	case SYS_writev:
		return c > 0 ? RAW(SYS_write, a, (long)((const struct iovec *)b)->iov_base,
				   half((long)((const struct iovec *)b)->iov_len), 0, 0, 0)
			     : 0;
	default:
		return RAW(nr, a, b, c, d, e, f);
	}
}

long hf_torture_call(long nr, long a, long b, long c, long d, long e, long f)
{
	uint32_t place = (uint32_t)((const char *)__builtin_return_address(0) - hf_torture_base), hit;
	struct torture *torture = plan();

	if (torture == NULL)
		return RAW(nr, a, b, c, d, e, f);
	hit = atomic_fetch_add(&site_of(torture, place, nr)->hits, 1);
	if (place != torture->place || hit < torture->from || hit >= torture->to)
		return RAW(nr, a, b, c, d, e, f);
	atomic_fetch_add(&torture->failed, 1);
	if (torture->error == TORTURE_SHORT)
		return fewer(nr, a, b, c, d, e, f);
	/* close(2): whatever it says, the descriptor is closed. */
	if (nr == SYS_close)
		(void)RAW(nr, a, b, c, d, e, f);
	return -torture->error;
}
