#include "state/view.h"
#include "state/family.h"
#include "sys.h"

#include <string.h>
#include <sys/mman.h>

enum {
	CHUNK = 1024, /* views mapped at a time: in every row a multiple of every page size */
	CHUNKS = HF_ARENA_VIEWS / CHUNK,
};

/* The views, and what is kept apart of them. */
static struct row {
	uint64_t at;
	size_t size;
	_Atomic(char *) chunks[CHUNKS];
} views = {.at = HF_ARENA_VIEWS_AT, .size = HF_ARENA_VIEW_SIZE},
  rtts = {.at = HF_ARENA_RTTS_AT, .size = HF_ARENA_RTTS_SIZE},
  mores = {.at = HF_ARENA_MORE_AT, .size = HF_ARENA_MORE_SIZE};

static void *map_in(struct row *row, uint32_t index)
{
	size_t bytes = CHUNK * row->size;
	_Atomic(char *) *place;
	char *chunk, *expected = NULL;

	if (index >= HF_ARENA_VIEWS)
		return NULL;
	place = &row->chunks[index / CHUNK];
	chunk = atomic_load_explicit(place, memory_order_acquire);
	if (chunk == NULL) {
		chunk = hf_arena_map(row->at + (uint64_t)(index / CHUNK) * bytes, bytes);
		if (chunk == NULL)
			return NULL;
		if (!atomic_compare_exchange_strong(place, &expected, chunk)) {
			hf_sys_munmap(chunk, bytes);
			chunk = expected;
		}
	}
	return chunk + index % CHUNK * row->size;
}

static struct hf_arena_view *map(uint32_t index)
{
	return map_in(&views, index);
}

/* What a process that is gone has left, if there is any.  A scan: only when every place has been used. */
static uint32_t take_over(struct hf_arena *head)
{
	for (uint32_t i = 0; i < atomic_load(&head->views_used) && i < HF_ARENA_VIEWS; i++) {
		struct hf_arena_view *view = map(i);
		uint32_t proc = view != NULL ? atomic_load(&view->proc) : 0;

		if (proc != 0 && !hf_family_lives(proc) &&
		    atomic_compare_exchange_strong(&view->proc, &proc, hf_family_me()))
			return i;
	}
	return HF_CONN_NONE;
}

static uint32_t pop_free(struct hf_arena *head)
{
	uint64_t seen = atomic_load(&head->view_free_head);

	while ((uint32_t)seen != 0) {
		uint32_t index = (uint32_t)seen - 1;
		struct hf_arena_view *view = map(index);
		uint64_t next = view != NULL ? atomic_load_explicit(&view->next, memory_order_relaxed) : 0;

		if (view == NULL)
			return HF_CONN_NONE;
		if (atomic_compare_exchange_weak(&head->view_free_head, &seen, ((seen >> 32) + 1) << 32 | next))
			return index;
	}
	return HF_CONN_NONE;
}

/* What the last owner of the view left apart.  A place that nobody wrote to stays untouched: it is not memory. */
static void clear_more(const struct hf_arena_view *view, uint32_t index)
{
	void *more = (view->apart & HF_APART_MORE) != 0 ? map_in(&mores, index) : NULL;

	/* Round trips are overwritten before they are counted. */
	if (more != NULL)
		memset(more, 0, sizeof(struct hf_arena_more));
}

/* All but seq and proc. */
static void clear(struct hf_arena_view *view)
{
	size_t from = offsetof(struct hf_arena_view, looked_at), end = offsetof(struct hf_arena_view, rtts);

	memset((char *)view + from, 0, end - from);
}

uint32_t hf_view_take(void)
{
	struct hf_arena *head = hf_arena();
	struct hf_arena_view *view;
	uint32_t index;

	if (head == NULL || hf_family_me() == 0)
		return 0;
	index = pop_free(head);
	if (index == HF_CONN_NONE) {
		index = atomic_load(&head->views_used);
		while (index < HF_ARENA_VIEWS && !atomic_compare_exchange_weak(&head->views_used, &index, index + 1))
			;
		if (index >= HF_ARENA_VIEWS)
			index = take_over(head);
	}
	view = map(index);
	if (view == NULL)
		return 0;
	hf_view_begin(view);
	clear_more(view, index);
	clear(view);
	atomic_store(&view->proc, hf_family_me());
	hf_view_end(view);
	return index + 1;
}

struct hf_arena_view *hf_view_at(uint32_t place)
{
	struct hf_arena_view *view = place != 0 ? map(place - 1) : NULL;

	return view != NULL && atomic_load(&view->proc) == hf_family_me() ? view : NULL;
}

void hf_view_fetch(uint32_t place)
{
	enum { LINE = 64 };
	uint32_t index = place - 1;
	const char *chunk;

	if (place == 0 || index >= HF_ARENA_VIEWS)
		return;
	chunk = atomic_load_explicit(&views.chunks[index / CHUNK], memory_order_acquire);
	for (size_t at = 0; chunk != NULL && at < HF_ARENA_VIEW_SIZE; at += LINE)
		__builtin_prefetch(chunk + (size_t)(index % CHUNK) * HF_ARENA_VIEW_SIZE + at, 1);
}

struct hf_arena_more *hf_view_more(uint32_t place)
{
	struct hf_arena_view *view = hf_view_at(place);
	struct hf_arena_more *more = view != NULL ? map_in(&mores, place - 1) : NULL;

	if (more != NULL)
		view->apart |= HF_APART_MORE;
	return more;
}

static uint32_t *ring_of(struct hf_arena_view *view, uint32_t place)
{
	uint32_t *ring = map_in(&rtts, place - 1);

	if (ring != NULL)
		view->apart |= HF_APART_RTTS;
	return ring;
}

/* The count of what was ever put into a ring of SIZE: so many and where the next goes are all that is asked of it. */
static uint8_t one_more(uint8_t count, unsigned size)
{
	return (uint8_t)(count + 1U < 2 * size ? count + 1U : size);
}

void hf_view_add_rtt(struct hf_arena_view *view, uint32_t place, uint32_t us)
{
	uint32_t *ring;

	if (view->rtt_count == 0) {
		view->rtt_first = us;
	} else {
		ring = ring_of(view, place);
		if (ring == NULL)
			return;
		if (view->rtt_count == 1)
			ring[0] = view->rtt_first;
		ring[view->rtt_count % HF_VIEW_RTTS] = us;
	}
	view->rtt_count = one_more(view->rtt_count, HF_VIEW_RTTS);
}

void hf_view_add_event(struct hf_arena_view *view, uint32_t place, const struct hf_view_event *event)
{
	struct hf_arena_more *more = hf_view_more(place);

	if (more == NULL)
		return;
	more->events[view->event_count % HF_VIEW_EVENTS] = *event;
	view->event_count = one_more(view->event_count, HF_VIEW_EVENTS);
}

void hf_view_give(uint32_t place)
{
	struct hf_arena *head = hf_arena();
	struct hf_arena_view *view = hf_view_at(place);
	uint64_t seen;

	if (head == NULL || view == NULL)
		return;
	atomic_store(&view->proc, 0);
	seen = atomic_load(&head->view_free_head);
	do
		atomic_store_explicit(&view->next, (uint32_t)seen, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&head->view_free_head, &seen, ((seen >> 32) + 1) << 32 | place));
}

void hf_view_begin(struct hf_arena_view *view)
{
	/* Odd, whatever a writer that died in the middle has left. */
	atomic_store_explicit(&view->seq, atomic_load_explicit(&view->seq, memory_order_relaxed) | 1,
			      memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void hf_view_end(struct hf_arena_view *view)
{
	atomic_store_explicit(&view->seq, atomic_load_explicit(&view->seq, memory_order_relaxed) + 1,
			      memory_order_release);
}
