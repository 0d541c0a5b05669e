/*
 * What was found, with small programs on glibc 2.36 and in the sources of 2.31 to 2.42 (run on 2.31, 2.36, 2.41, 2.43):
 *
 * - Cookie streams (fopencookie(3)) in place of stdin, stdout and what fdopen(3) returns would need a fileno, an
 *   freopen and an fdopen of ours and miss whoever holds the old pointers; glibc's freopen crashes on them.  Patched
 *   tables meet every stream there is and will be, the wide ones too, and leave the streams themselves alone.
 * - The check of tables in glibc (_IO_vtable_check) looks at where a table lies, not at what is in it.  Slots are plain
 *   pointers, not mangled ones.  _IO_file_jumps, _IO_wfile_jumps and the functions in the slots are exported since 2.2;
 *   the tables of streams opened with "m" are not, and are found by their contents.
 * - dprintf(3) goes through a table up to 2.36 and calls write directly since 2.37: it has a hook by name, as freopen
 *   has, which replaces the descriptor by a dup3 of its own.
 * - write counts in the stream what it wrote: _offset, and since 2.42 _total_written.  Which words it counts in is
 *   learnt by letting it write to a descriptor of ours through a stream that is no stream.
 * - exit(3) flushes streams after every exit handler and destructor, see hf_stdio_exit().
 *
 * One thing differs: a stream opened with "c" (no cancellation point) that comes to stand on a connection, by dup2, is
 * one there.
 *
 * Nothing is taken for granted: a table is changed only if it holds the five expected functions, if the exported tables
 * are among those found, if at least one of stdin, stdout and stderr stands on one of them, and if libc's own read and
 * write do what they should when called.  Else everything is left as it was and told.
 */
#include "io/stdio.h"
#include "io/descriptor.h"
#include "io/gate.h"
#include "io/stdio_inner.h"
#include "io/stdio_table.h"
#include "io/wrap_inner.h"
#include "report.h"
#include "sys.h"

#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>

/* Of libio/libio.h, which is not installed. */
enum {
	IO_ERR_SEEN = 0x20,
	IO_CURRENTLY_PUTTING = 0x800,
	IO_FLAGS2_NOTCANCEL = 2,
};

/* The C library's own. The order is that of NAMES. */
enum symbol {
	FILE_JUMPS,
	WFILE_JUMPS,
	FILE_READ,
	FILE_WRITE,
	FILE_SEEK,
	FILE_CLOSE,
	FILE_STAT,
	STDIN,
	STDOUT,
	STDERR,
	LIST_ALL,
	FFLUSH,
	FFLUSH_UNLOCKED,
	FPURGE,
	TRYLOCK,
	UNLOCK,
	VSNPRINTF,
	VSNPRINTF_CHK,
	VERSION,
	SYMBOLS
};

static const char *const names[SYMBOLS] = {
	[FILE_JUMPS] = "_IO_file_jumps",
	[WFILE_JUMPS] = "_IO_wfile_jumps",
	[FILE_READ] = "_IO_file_read",
	[FILE_WRITE] = "_IO_file_write",
	[FILE_SEEK] = "_IO_file_seek",
	[FILE_CLOSE] = "_IO_file_close",
	[FILE_STAT] = "_IO_file_stat",
	[STDIN] = "_IO_2_1_stdin_",
	[STDOUT] = "_IO_2_1_stdout_",
	[STDERR] = "_IO_2_1_stderr_",
	[LIST_ALL] = "_IO_list_all",
	[FFLUSH] = "fflush",
	[FFLUSH_UNLOCKED] = "fflush_unlocked",
	[FPURGE] = "__fpurge",
	[TRYLOCK] = "ftrylockfile",
	[UNLOCK] = "funlockfile",
	[VSNPRINTF] = "vsnprintf",
	[VSNPRINTF_CHK] = "__vsnprintf_chk",
	[VERSION] = "gnu_get_libc_version",
};

struct hf_libc hf_libc;

static size_t counter; /* where in a stream libc's write counts its bytes besides _offset; 0: nowhere */

/* The process that is at it, or what came of it. */
enum { NOT_YET = 0, ARMED = -1, REFUSED = -2 };
static _Atomic int state;

static _Atomic bool exiting;

/* The calls that stand in the tables */

static ssize_t stream_read(FILE *stream, void *buf, ssize_t size)
{
	int refused;

	if (hf_gate(stream->_fileno, HF_READS, &refused) == NULL)
		return hf_libc.read(stream, buf, size);
	return hf_read(stream->_fileno, buf, (size_t)size);
}

/* As libc's: until all is written, an error sets the mark. */
static ssize_t stream_write(FILE *stream, const void *data, ssize_t size)
{
	ssize_t done = 0;
	int refused;

	if (hf_gate(stream->_fileno, HF_WRITES, &refused) == NULL)
		return hf_libc.write(stream, data, size);
	while (done < size) {
		const char *from = (const char *)data + done;
		size_t left = (size_t)(size - done);
		/* At the very end it may have been closed for writing already: no reason to die by a signal now. */
		ssize_t took = atomic_load_explicit(&exiting, memory_order_relaxed)
				       ? hf_send(stream->_fileno, from, left, MSG_NOSIGNAL)
				       : hf_write(stream->_fileno, from, left);

		if (took <= 0) {
			stream->_flags |= IO_ERR_SEEN;
			break;
		}
		done += took;
		if (counter != 0)
			*(uint64_t *)(void *)((char *)stream + counter) += (uint64_t)took;
	}
	if (stream->_offset >= 0)
		stream->_offset += done;
	return done;
}

static int stream_close(FILE *stream)
{
	return hf_close_quietly(stream->_fileno);
}

/* Putting them there */

static void take_symbols(const struct hf_symbol *found)
{
	hf_libc.read = (ssize_t(*)(FILE *, void *, ssize_t))found[FILE_READ].at;
	hf_libc.write = (ssize_t(*)(FILE *, const void *, ssize_t))found[FILE_WRITE].at;
	hf_libc.streams = found[LIST_ALL].at;
	hf_libc.fflush = (int (*)(FILE *))found[FFLUSH].at;
	hf_libc.fflush_unlocked = (int (*)(FILE *))found[FFLUSH_UNLOCKED].at;
	hf_libc.purge = (void (*)(FILE *))found[FPURGE].at;
	hf_libc.trylock = (int (*)(FILE *))found[TRYLOCK].at;
	hf_libc.unlock = (void (*)(FILE *))found[UNLOCK].at;
	hf_libc.format = (int (*)(char *, size_t, const char *, va_list))found[VSNPRINTF].at;
	hf_libc.format_chk = (int (*)(char *, size_t, int, size_t, const char *, va_list))found[VSNPRINTF_CHK].at;
	hf_libc.version = (const char *(*)(void))found[VERSION].at;
}

/* The part of the C library that the dynamic linker makes read-only (_dl_protect_relro: whole pages only). */
static bool read_only_part(const struct link_map *map, struct hf_jump_region *region)
{
	ElfW(Ehdr) head;
	ElfW(Phdr) part;
	uintptr_t mask;

	region->page = getauxval(AT_PAGESZ);
	if (region->page == 0 || map->l_addr == 0 ||
	    !hf_copy_in(&head, (void *)map->l_addr, sizeof(head)) || /* NOLINT(performance-no-int-to-ptr) */
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_phentsize != sizeof(part))
		return false;
	mask = ~(uintptr_t)(region->page - 1);
	for (uintptr_t i = 0; i < head.e_phnum; i++) {
		uintptr_t at = map->l_addr + head.e_phoff + i * sizeof(part);

		if (!hf_copy_in(&part, (void *)at, sizeof(part))) /* NOLINT(performance-no-int-to-ptr) */
			return false;
		if (part.p_type != PT_GNU_RELRO)
			continue;
		region->from = (map->l_addr + part.p_vaddr) & mask;
		region->to = map->l_addr + part.p_vaddr + part.p_memsz;
		region->sealed = region->to & mask;
		return region->from < region->to;
	}
	return false;
}

static bool among(const void *table, uintptr_t *const *found, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (found[i] == (const uintptr_t *)table + HF_JUMP_FIRST)
			return true;
	return false;
}

/* A standard stream's last word is its table (struct _IO_FILE_plus). */
static bool stands_on(const struct hf_symbol *stream, uintptr_t *const *found, size_t count)
{
	const void *table;

	if (stream->at == NULL || stream->size != sizeof(FILE) + sizeof(table))
		return false;
	memcpy(&table, (const char *)stream->at + sizeof(FILE), sizeof(table));
	return among(table, found, count);
}

static size_t find_tables(const struct hf_symbol *symbols, const struct hf_jump_region *region,
			  const uintptr_t functions[HF_JUMPS], const uintptr_t ours[HF_JUMPS], uintptr_t **found)
{
	size_t count = hf_jump_find(region, functions, ours, found), size = HF_JUMP_TABLE * sizeof(uintptr_t);

	if (symbols[FILE_JUMPS].size != size || symbols[WFILE_JUMPS].size != size ||
	    !among(symbols[FILE_JUMPS].at, found, count) || !among(symbols[WFILE_JUMPS].at, found, count))
		return 0;
	for (enum symbol i = STDIN; i <= STDERR; i++)
		if (stands_on(&symbols[i], found, count))
			return count;
	return 0;
}

/*
 * What libc's own calls do to a stream, seen on a piece of memory that is dressed up as one: they look at nothing but
 * the descriptor and the flag that says not to be cancelled.  DESCRIPTOR is an eventfd, which takes 8 bytes and gives
 * them back.
 */
static bool try_calls(int descriptor)
{
	enum { WORDS = 64, OFFSET = offsetof(FILE, _offset) / sizeof(uint64_t) };
	uint64_t before[WORDS] = {0}, after[WORDS], value = 7, back = 0;
	int flags = IO_FLAGS2_NOTCANCEL;
	FILE *stream = (FILE *)(void *)after;

	memcpy((char *)before + offsetof(FILE, _fileno), &descriptor, sizeof(descriptor));
	/* _flags2: an int, and from glibc 2.41 on 24 bits of one, which have no offset that C would tell. */
	memcpy((char *)before + offsetof(FILE, _fileno) + sizeof(int), &flags, sizeof(flags));
	memcpy(after, before, sizeof(after));
	if (hf_libc.write(stream, &value, sizeof(value)) != sizeof(value) || after[OFFSET] != sizeof(value))
		return false;
	counter = 0;
	for (size_t i = 0; i < WORDS; i++) {
		if (i == OFFSET || after[i] == before[i])
			continue;
		if (counter != 0 || after[i] != sizeof(value))
			return false;
		counter = i * sizeof(uint64_t);
	}
	if (counter >= sizeof(FILE))
		return false;
	memcpy(before, after, sizeof(before));
	return hf_libc.read(stream, &back, sizeof(back)) == sizeof(back) && back == value &&
	       memcmp(before, after, sizeof(before)) == 0;
}

static const char refusal[] = "this C library's stdio is not one the library knows: it cannot be used on wrapped "
			      "connections, which are ended if it is";

static int refuse(void)
{
	struct hf_event event;

	if (hf_report_wanted(HF_EV_CONFIG)) {
		hf_event_init(&event, HF_EV_CONFIG);
		event.detail = refusal;
		hf_report(&event);
	}
	return REFUSED;
}

static int arm(void)
{
	const uintptr_t ours[HF_JUMPS] = {[HF_JUMP_READ] = (uintptr_t)stream_read,
					  [HF_JUMP_WRITE] = (uintptr_t)stream_write,
					  [HF_JUMP_CLOSE] = (uintptr_t)stream_close};
	struct hf_symbol symbols[SYMBOLS];
	struct hf_jump_region region;
	const struct link_map *map = hf_real_locate(names, symbols, SYMBOLS);
	uintptr_t functions[HF_JUMPS], *found[HF_JUMP_TABLES_MOST];
	size_t count;
	int descriptor;
	bool works;

	if (map == NULL)
		return refuse();
	take_symbols(symbols);
	for (size_t i = 0; i < SYMBOLS; i++)
		if (symbols[i].at == NULL)
			return refuse();
	for (size_t i = 0; i < HF_JUMPS; i++)
		functions[i] = (uintptr_t)symbols[FILE_READ + i].at;
	if (!read_only_part(map, &region) || (count = find_tables(symbols, &region, functions, ours, found)) == 0)
		return refuse();
	descriptor = hf_sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (descriptor < 0)
		return NOT_YET; /* no descriptor left: the next connection tries again */
	works = try_calls(descriptor);
	hf_sys_close(descriptor);
	if (!works || !hf_jump_swap(&region, found, count, functions, ours))
		return refuse();
	return ARMED;
}

static void arm_alone(void)
{
	int me = hf_sys_getpid(), seen = atomic_load(&state);

	/* After a fork in the middle of it the child finds its parent's number, and begins again. */
	while (seen != ARMED && seen != REFUSED) {
		if (seen != me && atomic_compare_exchange_strong(&state, &seen, me)) {
			atomic_store(&state, arm());
			return;
		}
		if (seen == me)
			hf_sys_sched_yield();
		seen = atomic_load(&state);
	}
}

void hf_stdio_arm(void)
{
	const uint64_t all = UINT64_MAX;
	uint64_t mask;
	int error = errno;

	if (hf_likely(atomic_load_explicit(&state, memory_order_acquire) < 0) || !hf_on() || hf_proc_borrowed())
		return;
	/* A handler that comes here would wait for the thread it interrupted. */
	hf_sys_sigprocmask(SIG_BLOCK, &all, &mask);
	arm_alone();
	hf_sys_sigprocmask(SIG_SETMASK, &mask, NULL);
	errno = error;
}

bool hf_stdio_armed(void)
{
	return atomic_load_explicit(&state, memory_order_acquire) == ARMED;
}

bool hf_stdio_wrapped(int fd)
{
	int refused;
	struct hf_slot *slot = hf_gate(fd, HF_WRITES, &refused);

	return slot != NULL && hf_wrap_of(slot) != NULL;
}

/* Whether there may be something in it to be written; of a wide stream the header does not tell more. */
static bool holds_output(const FILE *stream)
{
	return stream->_fileno >= 0 && (stream->_flags & IO_CURRENTLY_PUTTING) != 0 &&
	       (stream->_mode > 0 || stream->_IO_write_ptr > stream->_IO_write_base);
}

void hf_stdio_exit(void)
{
	if (!hf_stdio_armed())
		return;
	for (FILE *stream = *hf_libc.streams; stream != NULL; stream = stream->_chain) {
		/* One that another thread is using is its business: libc 2.42 would wait for that thread, for ever if
		 * need be, earlier ones write the bytes whatever it is doing. */
		if (!holds_output(stream) || !hf_stdio_wrapped(stream->_fileno) || hf_libc.trylock(stream) != 0)
			continue;
		(void)hf_libc.fflush_unlocked(stream);
		hf_libc.unlock(stream);
	}
	atomic_store(&exiting, true);
}
