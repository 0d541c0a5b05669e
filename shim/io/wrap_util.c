/*
 * Small things a wrapped connection needs: vectors, copies from memory that may not be there, what SIOCOUTQ should say.
 */
#include "io/confined.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/*
 * The kernel copies from this process to itself and reports what is not there.  Where it will not (a sandbox, another
 * kernel), an ordinary copy is what is left.
 */
static bool copy(long call, const void *ours, const void *theirs, size_t size)
{
	struct iovec local = {(void *)(uintptr_t)ours, size}, remote = {(void *)(uintptr_t)theirs, size};
	long done = -EPERM;

	if (!atomic_load(&hf_sys_confined))
		done = hf_sys6(call, hf_sys_getpid(), (long)&local, 1, (long)&remote, 1, 0);

	if (done == (long)size)
		return true;
	if (done == -EFAULT || done >= 0)
		return false;
	if (call == SYS_process_vm_readv)
		memcpy((void *)(uintptr_t)ours, theirs, size);
	else
		memcpy((void *)(uintptr_t)theirs, ours, size);
	return true;
}

bool hf_copy_in(void *to, const void *program, size_t size)
{
	return size == 0 || copy(SYS_process_vm_readv, to, program, size);
}

bool hf_copy_out(void *program, const void *from, size_t size)
{
	return size == 0 || copy(SYS_process_vm_writev, from, program, size);
}

int hf_wrap_outq(struct hf_slot *slot, int outq)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint64_t tail, more;

	if (wrap == NULL)
		return outq;
	tail = wrap->tx.tail;
	more = wrap->queued - wrap->flushed;
	/* During the handshake the HELLO is all there is. */
	if (atomic_load(&wrap->phase) != HF_PHASE_ON)
		return (int)more;
	return (int)((uint64_t)outq > tail ? (uint64_t)outq - tail + more : more);
}

size_t hf_iov_total(const struct iovec *iov, size_t count)
{
	const size_t most = 0x7ffff000; /* MAX_RW_COUNT: the kernel moves no more in one call (read(2)) */
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total = iov[i].iov_len > most - total ? most : total + iov[i].iov_len;
	return total;
}

size_t hf_iov_slice(const struct iovec *iov, size_t count, size_t skip, size_t most, struct iovec *out, size_t room,
		    size_t *bytes)
{
	size_t n = 0;

	*bytes = 0;
	for (size_t i = 0; i < count && n < room && *bytes < most; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len -= skip;
		if (len > most - *bytes)
			len = most - *bytes;
		out[n++] = (struct iovec){(char *)iov[i].iov_base + skip, len};
		*bytes += len;
		skip = 0;
	}
	return n;
}

bool hf_nonblocking(int fd, int flags)
{
	long got;

	if (atomic_load_explicit(&hf_sys_confined, memory_order_relaxed))
		return (flags & MSG_DONTWAIT) != 0 || hf_confined_nonblocking(fd);
	if ((flags & MSG_DONTWAIT) != 0)
		return true;
	/* O_NONBLOCK belongs to the open file, which others may share: never remembered (fcntl(2)). */
	got = hf_sys_fcntl(fd, F_GETFL, 0);
	return got >= 0 && (got & O_NONBLOCK) != 0;
}
