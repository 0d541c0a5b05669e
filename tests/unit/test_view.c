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

#define IN_CHILD(name)                \
	static void name##_(void **s) \
	{                             \
		(void)s;              \
		alone(name);          \
	}
IN_CHILD(spared)
IN_CHILD(cleared)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spared_),
		cmocka_unit_test(cleared_),
	};

	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
