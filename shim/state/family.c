#include "state/family.h"
#include "state/proc.h"
#include "state/arena.h"
#include "sys.h"

#include <errno.h>
#include <string.h>

enum { INDEX_MASK = (1 << HF_ARENA_INDEX_BITS) - 1, HANDLE_MASK = 0x7fffffff };
_Static_assert((HANDLE_MASK & HF_HOLDER_LEAVING) == 0, "that bit says more of a holder");

_Atomic uint32_t hf_family_self;
static _Atomic uint64_t own_ns;

static struct hf_arena_proc *entry_of(uint32_t handle)
{
	struct hf_arena *head = hf_arena();

	return head != NULL && (handle & INDEX_MASK) != 0 ? &head->procs[handle & INDEX_MASK] : NULL;
}

/* The pid namespace: numbers of one mean nothing in another (pid_namespaces(7)). 0 without /proc. */
static uint64_t pid_ns(void)
{
	struct stat st;

	return hf_sys_fstatat(AT_FDCWD, "/proc/self/ns/pid", &st, 0) == 0 ? (uint64_t)st.st_ino : 0;
}

/* In a sandbox: as far as can be told, it lives. */
static bool task_gone(int tid)
{
	return !atomic_load(&hf_sys_confined) && hf_proc_task_gone(tid);
}

/*
 * The first thread may have ended before the others, and looks like a zombie then: a pidfd becomes readable when all
 * have (pidfd_open(2)), and unlike /proc it is there in every chroot.
 */
static bool all_ended(int pid)
{
	struct pollfd look = {.events = POLLIN};
	bool ended;

	look.fd = (int)hf_sys2(SYS_pidfd_open, pid, 0);
	if (look.fd < 0)
		return look.fd == -ESRCH; /* otherwise there is no telling */
	ended = hf_sys_poll(&look, 1, 0) == 1;
	hf_sys_close(look.fd);
	return ended;
}

static bool process_gone(int pid)
{
	return task_gone(pid) && all_ended(pid);
}

static bool same_ns(const struct hf_arena_proc *entry)
{
	uint64_t ns = atomic_load(&own_ns);

	if (ns == 0)
		atomic_store(&own_ns, ns = pid_ns());
	return atomic_load(&entry->pid_ns) == ns;
}

bool hf_family_lives(uint32_t handle)
{
	struct hf_arena_proc *entry = entry_of(handle);
	int pid;

	if (entry == NULL || atomic_load(&entry->handle) != handle)
		return false;
	if (handle == hf_family_me())
		return true;
	/* About to be forked: as long as whoever is about to lives. */
	pid = atomic_load(&entry->pid);
	return pid == 0 || !same_ns(entry) || !process_gone((int)(pid < 0 ? -(unsigned)pid : (unsigned)pid));
}

bool hf_family_has(int pid)
{
	struct hf_arena *head = hf_arena();

	for (uint32_t i = 1; head != NULL && pid > 0 && i < HF_ARENA_PROCS; i++) {
		struct hf_arena_proc *entry = &head->procs[i];

		if (atomic_load(&entry->pid) == pid && (atomic_load(&entry->handle) & INDEX_MASK) == i &&
		    same_ns(entry))
			return true;
	}
	return false;
}

static _Atomic uint32_t *sorting_of(uint32_t handle, uint32_t *bit)
{
	uint32_t index = handle & INDEX_MASK;

	*bit = 1U << index % 32;
	return &hf_arena()->sorting[index / 32];
}

static void set_sorting(uint32_t handle, bool on)
{
	uint32_t bit;
	_Atomic uint32_t *word = sorting_of(handle, &bit);

	if (on)
		atomic_fetch_or(word, bit);
	else
		atomic_fetch_and(word, ~bit);
}

bool hf_family_expected(uint32_t handle)
{
	struct hf_arena_proc *entry = entry_of(handle);
	uint32_t bit;

	return entry != NULL && (atomic_load(&entry->pid) < 0 || (atomic_load(sorting_of(handle, &bit)) & bit) != 0);
}

bool hf_family_thread_lives(uint32_t index, int tid)
{
	struct hf_arena_proc *entry = entry_of(index);
	int pid;

	if (entry == NULL)
		return !task_gone(tid);
	/* The entry may be free by now or another's: then the thread is none of its process. */
	if ((atomic_load(&entry->handle) & INDEX_MASK) != index)
		return false;
	if (!same_ns(entry))
		return true;
	pid = atomic_load(&entry->pid);
	return pid > 0 && hf_sys_tgkill(pid, tid, 0) != -ESRCH && !task_gone(tid);
}

/* Entries */

/* A free entry, or one whose process is gone; its new handle, or 0. */
static uint32_t take_entry(void)
{
	struct hf_arena *head = hf_arena();

	for (uint32_t i = 0; head != NULL && i < HF_ARENA_PROCS; i++) {
		uint32_t index = atomic_fetch_add(&head->proc_hint, 1) & INDEX_MASK;
		struct hf_arena_proc *entry = &head->procs[index];
		uint32_t old = atomic_load(&entry->handle), handle;
		int pid = atomic_load(&entry->pid);

		if (index == 0 || (old != 0 && hf_family_lives(old)))
			continue;
		/* What an entry was called last stays in it when it is free: its generation goes on. */
		handle = ((old & ~(uint32_t)INDEX_MASK) + (1U << HF_ARENA_INDEX_BITS)) & HANDLE_MASK;
		if (handle == 0)
			handle = 1U << HF_ARENA_INDEX_BITS;
		handle |= index;
		/* First whose it was, then the name: with the pid of a process that is gone the new one would seem to
		 * be gone as well, and another could take the entry once more.  A free one has none. */
		if ((old & INDEX_MASK) != 0 && !atomic_compare_exchange_strong(&entry->pid, &pid, -hf_sys_getpid()))
			continue;
		if (!atomic_compare_exchange_strong(&entry->handle, &old, handle))
			continue;
		atomic_store(&entry->pid, 0);
		atomic_store(&entry->pid_ns, 0);
		set_sorting(handle, false);
		memset(entry->prog, 0, sizeof(entry->prog));
		return handle;
	}
	return 0;
}

static void fill(uint32_t handle, const char *prog)
{
	struct hf_arena_proc *entry = entry_of(handle);

	if (entry == NULL)
		return;
	atomic_store(&own_ns, pid_ns());
	atomic_store(&entry->pid_ns, atomic_load(&own_ns));
	if (prog != NULL)
		memcpy(entry->prog, prog, strnlen(prog, sizeof(entry->prog) - 1));
	atomic_store(&entry->pid, hf_sys_getpid());
}

bool hf_family_join(const char *prog)
{
	uint32_t handle, none = 0;

	if (hf_family_me() != 0)
		return true;
	handle = take_entry();
	if (handle == 0)
		return false;
	fill(handle, prog);
	if (!atomic_compare_exchange_strong(&hf_family_self, &none, handle))
		hf_family_forked_parent(handle, -1); /* another thread was first */
	return true;
}

uint32_t hf_family_expect(void)
{
	uint32_t child = hf_family_me() != 0 ? take_entry() : 0;
	struct hf_arena_proc *mine = entry_of(hf_family_me()), *entry = entry_of(child);

	if (mine == NULL || entry == NULL)
		return 0;
	memcpy(entry->prog, mine->prog, sizeof(entry->prog));
	atomic_store(&entry->pid_ns, atomic_load(&own_ns));
	set_sorting(child, true);
	atomic_store(&entry->pid, -hf_sys_getpid());
	return child;
}

void hf_family_forked_parent(uint32_t child, int pid)
{
	struct hf_arena_proc *entry = entry_of(child);
	int expecting = -hf_sys_getpid();

	if (entry == NULL || atomic_load(&entry->handle) != child)
		return;
	if (pid > 0) {
		/* Unless the child has been quicker, with the number it has in its own namespace. */
		(void)atomic_compare_exchange_strong(&entry->pid, &expecting, pid);
		return;
	}
	/* No process will ever be this: gone at once. */
	atomic_store(&entry->pid, 0);
	(void)atomic_compare_exchange_strong(&entry->handle, &child, child & ~(uint32_t)INDEX_MASK);
}

void hf_family_succeed(void)
{
	struct hf_arena *head = hf_arena();
	int pid = hf_sys_getpid();

	for (uint32_t i = 1; head != NULL && i < HF_ARENA_PROCS; i++) {
		struct hf_arena_proc *entry = &head->procs[i];
		uint32_t handle = atomic_load(&entry->handle);

		if ((handle & INDEX_MASK) == i && handle != hf_family_me() && atomic_load(&entry->pid) == pid &&
		    same_ns(entry) && atomic_compare_exchange_strong(&entry->pid, &(int){pid}, 0))
			(void)atomic_compare_exchange_strong(&entry->handle, &handle, handle & ~(uint32_t)INDEX_MASK);
	}
}

static _Atomic bool is_child;

bool hf_family_forked(void)
{
	return atomic_load(&is_child);
}

void hf_family_forked_child(uint32_t child)
{
	atomic_store(&is_child, true);
	atomic_store(&hf_family_self, child);
	if (child != 0)
		fill(child, NULL);
}

void hf_family_sorted(uint32_t child)
{
	struct hf_arena_proc *entry = entry_of(child);

	if (entry != NULL && atomic_load(&entry->handle) == child)
		set_sorting(child, false);
}
