#include "arena_read.h"
#include "arena_find.h"
#include "command.h"
#include "state/clock.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	BLOCK = 256,           /* views read at a time */
	RETRIES = 16,          /* of one view */
	RETRIES_IN_ALL = 4096, /* of a snapshot: whoever writes all the time, or never again, costs no more */
	INDEX_MASK = (1 << HF_ARENA_INDEX_BITS) - 1,
	FRONT = offsetof(struct hf_arena_view, rtts),
};

struct hf_reader {
	struct hf_finder finder;
	union hf_sums departed; /* of arenas that are gone */
	struct hf_arena head;
	int pids[HF_ARENA_PROCS]; /* of the arena being read: entry to process; 0: not alive */
	unsigned tries;           /* left for this snapshot */
	struct block {
		char views[BLOCK * HF_ARENA_VIEW_SIZE], rtts[BLOCK * HF_ARENA_RTTS_SIZE],
			more[BLOCK * HF_ARENA_MORE_SIZE];
	} first, second;
};

struct hf_reader *hf_reader_open(void)
{
	struct hf_reader *reader = calloc(1, sizeof *reader);

	if (reader && !hf_finder_open(&reader->finder)) {
		free(reader);
		return NULL;
	}
	return reader;
}

void hf_reader_close(struct hf_reader *reader)
{
	hf_finder_close(&reader->finder);
	free(reader);
}

void hf_snapshot_free(struct hf_snapshot *snapshot)
{
	free(snapshot->seen);
	memset(snapshot, 0, sizeof *snapshot);
}

/* All of SIZE bytes, what lies behind the end as zeros. */
static void read_at(int fd, void *to, size_t size, uint64_t at)
{
	size_t done = 0;

	while (done < size) {
		ssize_t got = pread(fd, (char *)to + done, size - done, (off_t)(at + done));

		if (got <= 0)
			break;
		done += (size_t)got;
	}
	memset((char *)to + done, 0, size - done);
}

/* Which process is which: a number means something in one pid namespace only. */
static void find_processes(struct hf_reader *reader, const struct hf_found *arena, uint64_t own_ns)
{
	memset(reader->pids, 0, sizeof reader->pids);
	for (uint32_t i = 1; i < HF_ARENA_PROCS; i++) {
		struct hf_arena_proc *entry = &reader->head.procs[i];
		int32_t pid = atomic_load_explicit(&entry->pid, memory_order_relaxed);
		uint64_t ns = atomic_load_explicit(&entry->pid_ns, memory_order_relaxed);

		if (atomic_load_explicit(&entry->handle, memory_order_relaxed) == 0 || pid <= 0)
			continue;
		for (size_t j = 0; j < arena->nholders && reader->pids[i] == 0; j++) {
			const struct hf_holder *holder = &arena->holders[j];

			if (holder->inner == pid && (ns == 0 || holder->ns == 0 || holder->ns == ns))
				reader->pids[i] = holder->pid;
		}
		/* It shed its rights, so we may not see that it holds the arena: that it is there must do. */
		if (reader->pids[i] == 0 && ns != 0 && ns == own_ns && hf_finder_hidden(&reader->finder, pid))
			reader->pids[i] = pid;
	}
}

/* COUNT views from FROM on, with what is kept apart of them, if of any something is. */
static void read_views(int fd, struct block *block, uint32_t from, uint32_t count)
{
	unsigned apart = 0;

	read_at(fd, block->views, (size_t)count * HF_ARENA_VIEW_SIZE,
		HF_ARENA_VIEWS_AT + (uint64_t)from * HF_ARENA_VIEW_SIZE);
	for (uint32_t i = 0; i < count; i++)
		apart |= (unsigned char)
				 block->views[(size_t)i * HF_ARENA_VIEW_SIZE + offsetof(struct hf_arena_view, apart)];
	if ((apart & HF_APART_RTTS) != 0)
		read_at(fd, block->rtts, (size_t)count * HF_ARENA_RTTS_SIZE,
			HF_ARENA_RTTS_AT + (uint64_t)from * HF_ARENA_RTTS_SIZE);
	if ((apart & HF_APART_MORE) != 0)
		read_at(fd, block->more, (size_t)count * HF_ARENA_MORE_SIZE,
			HF_ARENA_MORE_AT + (uint64_t)from * HF_ARENA_MORE_SIZE);
}

/* A single round trip stands in the view itself. */
static void only_round_trip(struct hf_arena_view *view)
{
	if (view->rtt_count == 1)
		view->rtts[0] = view->rtt_first;
}

/* The view at INDEX. */
static void read_view(int fd, struct hf_arena_view *view, uint32_t index)
{
	memset(view, 0, sizeof *view);
	read_at(fd, view, FRONT, HF_ARENA_VIEWS_AT + (uint64_t)index * HF_ARENA_VIEW_SIZE);
	if ((view->apart & HF_APART_RTTS) != 0)
		read_at(fd, view->rtts, sizeof view->rtts, HF_ARENA_RTTS_AT + (uint64_t)index * HF_ARENA_RTTS_SIZE);
	if ((view->apart & HF_APART_MORE) != 0)
		read_at(fd, &view->more, sizeof view->more, HF_ARENA_MORE_AT + (uint64_t)index * HF_ARENA_MORE_SIZE);
	only_round_trip(view);
}

/* View I of BLOCK, put together. */
static void put_together(struct hf_arena_view *view, const struct block *block, uint32_t i)
{
	memset(view, 0, sizeof *view);
	memcpy(view, block->views + (size_t)i * HF_ARENA_VIEW_SIZE, FRONT);
	if ((view->apart & HF_APART_RTTS) != 0)
		memcpy(view->rtts, block->rtts + (size_t)i * HF_ARENA_RTTS_SIZE, sizeof view->rtts);
	if ((view->apart & HF_APART_MORE) != 0)
		memcpy(&view->more, block->more + (size_t)i * HF_ARENA_MORE_SIZE, sizeof view->more);
	only_round_trip(view);
}

/* Byte by byte: what lies between the fields is nobody's, and does not change. */
static bool whole(const struct hf_arena_view *view, const void *first, const void *second)
{
	return (view->seq & 1) == 0 && memcmp(first, second, sizeof *view) == 0;
}

/*
 * The view at INDEX once more, until two readings in a row are the same.  Both copies agree, so their numbers do: no
 * writing began after the first copy was begun and ended before the second was, and one that had begun earlier would
 * show as an odd number.
 */
static bool settle(struct hf_reader *reader, int fd, uint32_t index, struct hf_arena_view *view)
{
	struct hf_arena_view again;

	for (int i = 0; i < RETRIES && reader->tries > 0; i++) {
		reader->tries--;
		read_view(fd, view, index);
		read_view(fd, &again, index);
		if (whole(view, view, &again))
			return true;
		sched_yield();
	}
	return false;
}

static bool make_room(struct hf_snapshot *snapshot)
{
	size_t more = snapshot->room ? snapshot->room * 2 : 64;
	struct hf_seen *bigger;

	if (snapshot->count < snapshot->room)
		return true;
	bigger = reallocarray(snapshot->seen, more, sizeof *bigger);
	if (!bigger)
		return false;
	snapshot->seen = bigger;
	snapshot->room = more;
	return true;
}

/* VIEW, if its process is alive. */
static bool add(struct hf_reader *reader, struct hf_snapshot *snapshot, const struct hf_arena_view *view, bool torn)
{
	uint32_t handle = view->proc, index = handle & INDEX_MASK;
	struct hf_seen *seen;

	if (handle == 0 || index == 0 || reader->head.procs[index].handle != handle || reader->pids[index] == 0)
		return true;
	if (snapshot->count >= HF_SEEN_MOST) {
		snapshot->left++;
		return true;
	}
	if (!make_room(snapshot))
		return false;
	seen = &snapshot->seen[snapshot->count++];
	memcpy(&seen->view, view, sizeof *view);
	memcpy(seen->prog, reader->head.procs[index].prog, sizeof seen->prog);
	seen->prog[sizeof seen->prog - 1] = '\0';
	seen->pid = reader->pids[index];
	seen->torn = torn;
	return true;
}

static bool read_block(struct hf_reader *reader, struct hf_snapshot *snapshot, int fd, uint32_t from, uint32_t count)
{
	read_views(fd, &reader->first, from, count);
	read_views(fd, &reader->second, from, count);
	for (uint32_t i = 0; i < count; i++) {
		struct hf_arena_view view, again;
		bool good;

		put_together(&view, &reader->first, i);
		put_together(&again, &reader->second, i);
		if (view.proc == 0)
			continue;
		good = whole(&view, &view, &again) || settle(reader, fd, from + i, &view);
		if (!add(reader, snapshot, &view, !good))
			return false;
	}
	return true;
}

/* A number that was noise must not make another run backwards. */
static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void take_counts(struct hf_found *arena, const struct hf_arena *head, union hf_sums *sums)
{
	uint64_t now[HF_COUNT_WORDS];

	memcpy(now, &head->counts, sizeof now);
	for (size_t i = 0; i < HF_COUNT_WORDS; i++) {
		/* What was read in two halves must not run backwards either. */
		if (now[i] > arena->counts[i])
			arena->counts[i] = now[i];
		sums->word[i] = add_up(sums->word[i], arena->counts[i]);
	}
}

static bool read_arena(struct hf_reader *reader, struct hf_snapshot *snapshot, struct hf_found *arena, uint64_t own_ns)
{
	uint32_t used;

	read_at(arena->fd, &reader->head, sizeof reader->head, 0);
	used = atomic_load_explicit(&reader->head.views_used, memory_order_relaxed);
	if (used > HF_ARENA_VIEWS)
		used = HF_ARENA_VIEWS;
	find_processes(reader, arena, own_ns);
	take_counts(arena, &reader->head, &snapshot->sums);
	snapshot->arenas++;
	snapshot->processes += (unsigned)arena->nholders;
	for (uint32_t from = 0; from < used; from += BLOCK) {
		if (!read_block(reader, snapshot, arena->fd, from, used - from < BLOCK ? used - from : BLOCK))
			return false;
	}
	return true;
}

static void departed(const struct hf_found *arena, void *arg)
{
	union hf_sums *sums = arg;

	for (size_t i = 0; i < HF_COUNT_WORDS; i++)
		sums->word[i] = add_up(sums->word[i], arena->counts[i]);
}

static uint64_t clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool hf_reader_look(struct hf_reader *reader, struct hf_snapshot *snapshot)
{
	uint64_t own_ns = hf_finder_ns(&reader->finder);

	snapshot->count = 0;
	snapshot->processes = snapshot->arenas = snapshot->strange = snapshot->left = 0;
	if (!hf_finder_search(&reader->finder, departed, &reader->departed))
		return false;
	snapshot->hidden = reader->finder.hidden;
	snapshot->sums = reader->departed;
	hf_clock_find();
	snapshot->now = hf_clock_ms(CLOCK_MONOTONIC);
	snapshot->wall = clock_ms(CLOCK_REALTIME);
	reader->tries = RETRIES_IN_ALL;
	for (size_t i = 0; i < reader->finder.count; i++) {
		struct hf_found *arena = &reader->finder.arenas[i];

		if (!arena->usable)
			snapshot->strange++;
		else if (!read_arena(reader, snapshot, arena, own_ns))
			return false;
	}
	return true;
}

void hf_snapshot_tell_hidden(const struct hf_snapshot *snapshot)
{
	if (snapshot->hidden != 0)
		hf_tell("%u process%s of other users not shown", snapshot->hidden, snapshot->hidden == 1 ? "" : "es");
	if (snapshot->strange != 0)
		hf_tell("%u process famil%s with another version of the library not shown", snapshot->strange,
			snapshot->strange == 1 ? "y" : "ies");
	if (snapshot->left != 0)
		hf_tell("%u connections not shown: there are too many", snapshot->left);
}
