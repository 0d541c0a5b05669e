#include "state/proc.h"
#include "sys.h"

#include <sys/mman.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

_Atomic bool hf_sys_confined;

static _Atomic uint32_t before_init;
_Atomic uint32_t *hf_proc_epoch = &before_init;

/* Copied to a forked child, unlike the page. */
static _Atomic uint32_t last_epoch;
static _Atomic int owner_pid;
static bool wiped_on_fork;

static uint32_t take_epoch(void)
{
	uint32_t epoch = atomic_fetch_add_explicit(&last_epoch, 1, memory_order_relaxed) + 1;

	/* 0 means "wiped"; wrapping needs four thousand million generations of forks. */
	return epoch != 0 ? epoch : 1;
}

bool hf_proc_init(void)
{
	_Atomic uint32_t *page = hf_sys_mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!hf_sys_failed(page)) {
		wiped_on_fork = hf_sys_madvise(page, PAGE, MADV_WIPEONFORK) == 0;
		atomic_store(page, take_epoch());
		hf_proc_epoch = page;
	} else {
		atomic_store(&before_init, take_epoch());
	}
	atomic_store(&owner_pid, hf_sys_getpid());
	return wiped_on_fork;
}

uint32_t hf_proc_enter(bool *forked)
{
	uint32_t epoch = atomic_load_explicit(hf_proc_epoch, memory_order_acquire);
	uint32_t fresh, expected = 0;

	*forked = false;
	if (epoch != 0)
		return epoch;
	fresh = take_epoch();
	if (!atomic_compare_exchange_strong(hf_proc_epoch, &expected, fresh))
		return expected;
	atomic_store(&owner_pid, hf_sys_getpid());
	*forked = true;
	return fresh;
}

_Atomic uint8_t hf_proc_lent;

void hf_proc_lend(void)
{
	atomic_store(&hf_proc_lent, 1);
}

bool hf_proc_elsewhere(void)
{
	return hf_sys_getpid() != atomic_load_explicit(&owner_pid, memory_order_relaxed) &&
	       atomic_load_explicit(hf_proc_epoch, memory_order_relaxed) != 0;
}

static _Atomic uint32_t spawns;

uint32_t hf_proc_spawns(void)
{
	return atomic_load_explicit(&spawns, memory_order_relaxed);
}

void hf_proc_count_spawn(void)
{
	atomic_fetch_add_explicit(&spawns, 1, memory_order_relaxed);
}

long hf_proc_ask_memory(int tid)
{
	char byte, mine = 0;
	struct iovec to = {&byte, 1}, from = {&mine, 1};

	return hf_sys6(SYS_process_vm_readv, tid, (long)&to, 1, (long)&from, 1, 0);
}
