/* Views: what most of them never need takes no memory, and nobody finds there what the last owner left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alone.h"
#include "state/family.h"
#include "state/view.h"

#include <string.h>
#include <sys/stat.h>

enum { MANY = 10000 };

/* Bytes of memory that the arena has become. */
static long memory(void)
{
	struct stat st;

	CHECK(fstat(hf_arena_fd(), &st) == 0);
	return (long)st.st_blocks * 512;
}

static void fill(struct hf_arena_more *more)
{
	CHECK(more != NULL);
	memset(more, 0x5a, sizeof(*more));
}

static void spared(void)
{
	static uint32_t places[MANY];
	long before, bare, full;

	CHECK(hf_arena_make(LAYOUT, true) && hf_family_join("unit"));
	before = memory();
	for (uint32_t i = 0; i < MANY; i++) {
		places[i] = hf_view_take();
		CHECK(places[i] != 0);
		hf_view_at(places[i])->received = i;
	}
	bare = memory() - before;
	CHECK(bare < (long)MANY * HF_ARENA_VIEW_SIZE + (256 << 10)); /* whole pages, of up to 64 KiB */
	for (uint32_t i = 0; i < MANY; i++)
		fill(hf_view_more(places[i]));
	full = memory() - before;
	CHECK(full >= (long)MANY * (HF_ARENA_VIEW_SIZE + HF_ARENA_MORE_SIZE));
	for (uint32_t i = 0; i < MANY; i++)
		CHECK(hf_view_at(places[i])->received == i);
}

static void cleared(void)
{
	static const struct hf_arena_more none;
	struct hf_arena_view *view;
	uint32_t place;

	CHECK(hf_arena_make(LAYOUT, true) && hf_family_join("unit"));
	CHECK(hf_view_more(0) == NULL && hf_view_at(0) == NULL);
	place = hf_view_take();
	CHECK(hf_view_at(place)->apart == 0);
	fill(hf_view_more(place));
	CHECK(hf_view_at(place)->apart != 0);
	hf_view_give(place);
	CHECK(hf_view_at(place) == NULL && hf_view_more(place) == NULL);
	CHECK(hf_view_take() == place);
	view = hf_view_at(place);
	CHECK(view->apart == 0 && view->event_count == 0 && (view->seq & 1) == 0);
	CHECK(memcmp(hf_view_more(place), &none, sizeof(none)) == 0);
}

/* The ring of round trips at PLACE, as a reader of the arena finds it. */
static void ring_at(uint32_t place, uint32_t ring[HF_VIEW_RTTS])
{
	ssize_t size = HF_VIEW_RTTS * sizeof(ring[0]);

	CHECK(pread(hf_arena_fd(), ring, (size_t)size,
		    (off_t)(HF_ARENA_RTTS_AT + (uint64_t)(place - 1) * HF_ARENA_RTTS_SIZE)) == size);
}

/* The only round trip is in the view; once there are more all are in the ring, and full rounds are left out. */
static void rings(void)
{
	uint32_t place, ring[HF_VIEW_RTTS];
	struct hf_arena_view *view;

	CHECK(hf_arena_make(LAYOUT, true) && hf_family_join("unit") && (place = hf_view_take()) != 0);
	view = hf_view_at(place);
	hf_view_add_rtt(view, place, 1);
	CHECK(view->rtt_count == 1 && view->rtt_first == 1 && view->apart == 0);
	for (uint32_t i = 2; i <= 100; i++) {
		hf_view_add_rtt(view, place, i);
		CHECK(view->apart == HF_APART_RTTS && view->rtt_count % HF_VIEW_RTTS == i % HF_VIEW_RTTS);
		CHECK(view->rtt_count == i || (i >= HF_VIEW_RTTS && view->rtt_count >= HF_VIEW_RTTS));
		ring_at(place, ring);
		for (uint32_t j = i; j > 0 && j + HF_VIEW_RTTS > i; j--)
			CHECK(ring[(j - 1) % HF_VIEW_RTTS] == j);
	}
	for (uint32_t i = 1; i <= 100; i++) {
		const struct hf_view_event event = {.at = i};

		hf_view_add_event(view, place, &event);
		CHECK(view->event_count % HF_VIEW_EVENTS == i % HF_VIEW_EVENTS);
		CHECK(view->event_count == i || (i >= HF_VIEW_EVENTS && view->event_count >= HF_VIEW_EVENTS));
		CHECK(hf_view_more(place)->events[(i - 1) % HF_VIEW_EVENTS].at == i);
	}
	CHECK(view->apart == (HF_APART_RTTS | HF_APART_MORE));
}

#define IN_CHILD(name)                \
	static void name##_(void **s) \
	{                             \
		(void)s;              \
		alone(name);          \
	}
IN_CHILD(spared)
IN_CHILD(cleared)
IN_CHILD(rings)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spared_),
		cmocka_unit_test(cleared_),
		cmocka_unit_test(rings_),
	};

	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
