#include "state/fdmap.h"
#include "sys.h"

#include <sys/mman.h>

_Atomic hf_fd_entry hf_fdmap_near[HF_FDMAP_NEAR];
_Atomic(_Atomic hf_fd_entry *) hf_fdmap_far;

static _Atomic int end;
static _Atomic uint32_t busy_serial;

int hf_fdmap_end(void)
{
	return atomic_load_explicit(&end, memory_order_relaxed);
}

static void raise_end(int fd)
{
	int seen = atomic_load_explicit(&end, memory_order_relaxed);

	while (fd >= seen && !atomic_compare_exchange_weak(&end, &seen, fd + 1))
		;
}

/* The word for FD, mapping the far part if need be.  Only touched pages of it ever become memory. */
static _Atomic hf_fd_entry *word_to_set(int fd)
{
	size_t size = (size_t)(HF_FDMAP_MAX - HF_FDMAP_NEAR) * sizeof(hf_fd_entry);
	_Atomic hf_fd_entry *far, *expected = NULL;

	if (fd < 0 || fd >= HF_FDMAP_MAX)
		return NULL;
	raise_end(fd);
	if (fd < HF_FDMAP_NEAR || atomic_load(&hf_fdmap_far) != NULL)
		return hf_fdmap_word(fd);
	far = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (hf_sys_failed(far))
		return NULL;
	if (!atomic_compare_exchange_strong(&hf_fdmap_far, &expected, far))
		hf_sys_munmap(far, size);
	return hf_fdmap_word(fd);
}

bool hf_fdmap_set(int fd, hf_fd_entry entry, hf_fd_entry *old)
{
	_Atomic hf_fd_entry *word = entry == HF_FD_UNKNOWN ? hf_fdmap_word(fd) : word_to_set(fd);

	*old = HF_FD_UNKNOWN;
	if (word == NULL)
		return false;
	*old = atomic_exchange_explicit(word, entry, memory_order_acq_rel);
	return true;
}

bool hf_fdmap_replace(int fd, hf_fd_entry expected, hf_fd_entry next)
{
	_Atomic hf_fd_entry *word = word_to_set(fd);

	return word != NULL && atomic_compare_exchange_strong(word, &expected, next);
}

hf_fd_entry hf_fdmap_mark(void)
{
	/* The serial tells this call's mark from that of another thread which got the same number meanwhile. */
	return HF_FD_BUSY | atomic_fetch_add_explicit(&busy_serial, 1, memory_order_relaxed) << 2;
}

hf_fd_entry hf_fdmap_busy(int fd, hf_fd_entry *mark)
{
	hf_fd_entry old;

	*mark = hf_fdmap_mark();
	hf_fdmap_set(fd, *mark, &old);
	return old;
}

void hf_fdmap_unbusy(int fd, hf_fd_entry mark, hf_fd_entry next)
{
	_Atomic hf_fd_entry *word = hf_fdmap_word(fd);

	if (word != NULL)
		atomic_compare_exchange_strong(word, &mark, next);
}
