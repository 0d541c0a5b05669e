/*
 * The arena's own book-keeping (shim/state) while a sibling writes to it, between calls and before any system call in
 * one: places taken, given back, found, held, swept; the family's entries; views; queues.  No crash, no place beyond
 * the arena, nothing closed or unmapped that is not the library's, an end of every call (guard.h).
 */
#include "guard.h"
#include "input.h"
#include "state/arena.h"
#include "state/family.h"
#include "state/hold.h"
#include "state/view.h"
#include "sys.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LAYOUT = 0x5eed, MOST_OPS = 64, FEW = 32, MOST_LATER = 8, SENTINEL = 300 };

static char *views;
static struct later {
	unsigned calls; /* until it is written */
	char *at;
	uint8_t bytes[8];
	size_t size;
} later[MOST_LATER];
static size_t nlater;

static void check(bool good)
{
	if (!good)
		abort();
}

/* The sibling */

static void write_there(const struct later *now)
{
	struct hf_arena *head = hf_arena();

	memcpy(now->at, now->bytes, now->size);
	/* Scans go so far: every place would be memory then, and a look at it a second. */
	if (atomic_load(&head->used) > FEW)
		atomic_store(&head->used, atomic_load(&head->used) % FEW);
}

static void between(void)
{
	for (size_t i = 0; i < nlater;) {
		if (later[i].calls-- > 0) {
			i++;
			continue;
		}
		write_there(&later[i]);
		later[i] = later[--nlater];
	}
}

/* A number of the head's, a process's, a connection's or a view's. */
static void scribble(void)
{
	static const size_t heads[] = {offsetof(struct hf_arena, free_head),  offsetof(struct hf_arena, used),
				       offsetof(struct hf_arena, proc_hint),  offsetof(struct hf_arena, view_free_head),
				       offsetof(struct hf_arena, views_used), offsetof(struct hf_arena, sorting)};
	struct hf_arena *head = hf_arena();
	uint8_t where = byte(), which = byte(), when = byte();
	struct later *entry = &later[nlater];
	uint64_t n;

	if (nlater == MOST_LATER)
		return;
	*entry = (struct later){.calls = when / 2, .size = (size_t)1 << where / 4 % 4};
	if (where % 4 == 0)
		entry->at = (char *)head + heads[which % 6];
	else if (where % 4 == 1)
		entry->at = (char *)&head->procs[which % 8] + byte() % 16;
	else if (where % 4 == 2)
		entry->at = (char *)hf_arena_conn(which % FEW) + byte() % sizeof(struct hf_arena_conn);
	else
		entry->at = views + (size_t)(which % FEW) * HF_ARENA_VIEW_SIZE + byte() % 64;
	entry->at -= (uintptr_t)entry->at % entry->size;
	n = value();
	memcpy(entry->bytes, &n, sizeof entry->bytes);
	if (when & 1)
		nlater++;
	else
		write_there(entry);
}

/* The library's calls */

static void take(void)
{
	uint32_t index = hf_arena_take();
	struct hf_arena_conn *conn = index != HF_CONN_NONE ? hf_arena_conn(index) : NULL;

	check(index == HF_CONN_NONE || (index < HF_ARENA_CONNS && conn != NULL));
	if (conn)
		atomic_store(&conn->cookie, 1 + byte() % 16);
}

static bool in_use(struct hf_arena_conn *conn)
{
	(void)conn;
	return byte() & 1;
}

static void hold(struct hf_arena_conn *conn, uint32_t index, uint32_t handle)
{
	switch (byte() % 10) {
	case 0:
		(void)hf_hold_join(conn, handle);
		break;
	case 1:
		(void)hf_hold_leave(conn, handle);
		break;
	case 2:
		(void)hf_hold_stays(conn, handle, 1 + byte() % 16, value());
		break;
	case 3:
		hf_hold_done(conn, handle);
		break;
	case 4:
		hf_hold_undo(conn, handle);
		break;
	case 5:
		(void)hf_hold_expected(conn, handle);
		break;
	case 6:
		hf_hold_retire(conn, index, handle, value());
		break;
	case 7:
		(void)hf_hold_others(conn, handle);
		break;
	case 8:
		(void)hf_hold_keep(conn, handle, value(), 1000);
		break;
	default:
		hf_hold_sweep(value(), 1000, in_use);
	}
}

static void family(uint32_t handle)
{
	uint32_t child;

	switch (byte() % 7) {
	case 0:
		(void)hf_family_lives(handle);
		break;
	case 1:
		(void)hf_family_has((int)value());
		break;
	case 2:
		(void)hf_family_expected(handle);
		break;
	case 3:
		(void)hf_family_thread_lives(byte(), (int)(value() & 0x3fffff));
		break;
	case 4:
		child = hf_family_expect();
		check((child & (HF_ARENA_PROCS - 1)) != 0 || child == 0);
		hf_family_forked_parent(child, byte() & 1 ? -1 : (int)getpid());
		break;
	case 5:
		hf_family_sorted(handle);
		break;
	default:
		hf_family_succeed();
	}
}

static void view(void)
{
	uint32_t place = hf_view_take();
	struct hf_arena_view *view = hf_view_at(place);

	check(place <= HF_ARENA_VIEWS);
	if (view) {
		hf_view_begin(view);
		view->fd = 5;
		hf_view_end(view);
	}
	if (view && byte() & 1 && hf_view_more(place))
		hf_view_more(place)->peer_pid = 7;
	if (byte() & 1)
		hf_view_give(byte() & 1 ? place : byte());
}

static void queue(uint32_t index)
{
	char *at = hf_arena_queue(index);

	if (!at)
		return;
	at[0] = at[HF_ARENA_QUEUE_SIZE - 1] = 1;
	hf_arena_queue_drop(index, at, byte() & 1);
}

static void one_op(void)
{
	uint32_t index = byte() % FEW, handle = byte() % 8;

	/* One of the family, a stranger's, none. */
	handle = handle < 6    ? atomic_load(&hf_arena()->procs[handle].handle)
		 : handle == 6 ? hf_family_me()
			       : (uint32_t)value();
	switch (byte() % 12) {
	case 0:
	case 1:
		take();
		break;
	case 2:
		hf_arena_give(index);
		break;
	case 3:
		index = hf_arena_find(1 + byte() % 16);
		check(index == HF_CONN_NONE || index < HF_ARENA_CONNS);
		break;
	case 4:
	case 5:
		hold(hf_arena_conn(index), index, handle & ~HF_HOLDER_LEAVING);
		break;
	case 6:
		family(handle);
		break;
	case 7:
		view();
		break;
	case 8:
		queue(byte() & 1 ? index : (uint32_t)value());
		break;
	default:
		scribble();
	}
}

static void prepare(void)
{
	uint32_t place;

	check(hf_arena_make(LAYOUT, true) && hf_arena_fd() >= 0 && hf_arena_conn(0));
	views = hf_arena_map(HF_ARENA_VIEWS_AT, FEW * HF_ARENA_VIEW_SIZE);
	check(views != NULL && hf_family_join("fuzz"));
	place = hf_view_take();
	check(place != 0 && hf_view_more(place) != NULL);
	check(dup2(hf_arena_fd(), SENTINEL) == SENTINEL); /* the program's: nobody has any business with it */
}

static void begin(void)
{
	struct hf_arena *head = hf_arena();

	check(fallocate(hf_arena_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)HF_ARENA_SIZE) == 0);
	head->magic = HF_ARENA_MAGIC;
	head->version = HF_ARENA_VERSION;
	head->layout = LAYOUT;
	atomic_store(&hf_family_self, 0);
	nlater = 0;
	hf_guard_begin(between);
	hf_guard_lend(hf_arena_fd(), false);
	check(hf_family_join("fuzz"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool prepared;

	if (!prepared)
		prepare();
	prepared = true;
	input = data;
	input_end = data + size;
	begin();
	for (int i = 0; i < MOST_OPS && input < input_end; i++)
		one_op();
	hf_guard_end(-1);
	check(fcntl(SENTINEL, F_GETFD) >= 0);
	return 0;
}
