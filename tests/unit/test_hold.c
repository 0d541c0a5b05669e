/* Holding a connection together: who is the last, who speaks for it, what is swept away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alone.h"
#include "state/family.h"
#include "state/hold.h"

#include <sched.h>
#include <string.h>

static struct hf_arena_conn *conn;
static uint32_t place, me;

static void begin(void)
{
	CHECK(hf_arena_make(LAYOUT, true) && hf_family_join("unit"));
	place = hf_arena_take();
	conn = hf_arena_conn(place);
	me = hf_family_me();
	atomic_store(&conn->cookie, 1);
	CHECK(hf_hold_join(conn, me));
}

/* A process of the family that is alive: our parent plays it. */
static uint32_t living(void)
{
	uint32_t handle = hf_family_expect();

	CHECK(handle != 0);
	hf_family_forked_parent(handle, getppid());
	hf_family_sorted(handle);
	return handle;
}

static void dies(uint32_t handle)
{
	hf_family_forked_parent(handle, -1);
}

static void last(void)
{
	uint32_t a, b;

	begin();
	CHECK(hf_hold_join(conn, me)); /* once more is nothing more */
	CHECK(!hf_hold_others(conn, me) && hf_hold_others(conn, 0));
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);

	CHECK(hf_hold_join(conn, me));
	a = living();
	b = living();
	CHECK(hf_hold_join(conn, a) && hf_hold_join(conn, b));
	CHECK(hf_hold_others(conn, me));
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_OTHERS);
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_OTHERS);
	CHECK(hf_hold_leave(conn, b) == HF_LEFT_OTHERS);
	CHECK(hf_hold_leave(conn, a) == HF_LEFT_LAST);

	/* Those who died hold nothing. */
	CHECK(hf_hold_join(conn, a) && hf_hold_join(conn, me));
	dies(a);
	CHECK(!hf_hold_others(conn, me) && hf_hold_leave(conn, me) == HF_LEFT_LAST);
}

/* Told it is the last, and then somebody comes who has it all the same. */
static void late_child(void)
{
	uint32_t child;

	begin();
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	child = living();
	CHECK(hf_hold_join(conn, child));
	hf_hold_retire(conn, place, me, 1);
	CHECK(atomic_load(&conn->cookie) == 1 && hf_arena_find(1) == place);
	CHECK(hf_hold_join(conn, child) && hf_hold_leave(conn, child) == HF_LEFT_LAST);
	hf_hold_retire(conn, place, child, 2);
	CHECK(atomic_load(&conn->cookie) == 0);
	/* Given back: nobody can join any more. */
	CHECK(hf_arena_find(1) == HF_CONN_NONE);
}

/* Who has let go may still be at its end of it: nobody else gives it back under its feet. */
static void last_words(void)
{
	uint32_t child;

	begin();
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	/* Forked in this very moment, and gone again. */
	child = living();
	CHECK(hf_hold_join(conn, child) && !hf_hold_others(conn, child));
	CHECK(hf_hold_leave(conn, child) == HF_LEFT_LAST);
	hf_hold_retire(conn, place, child, 1000);
	CHECK(atomic_load(&conn->cookie) == 1 && atomic_load(&conn->left_at) == 1000);
	hf_hold_retire(conn, place, me, 2000);
	CHECK(atomic_load(&conn->cookie) == 0);
}

/* Handed the same connection again while its last words are on their way: that is not over with them. */
static void again(void)
{
	begin();
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	CHECK(hf_hold_join(conn, me));
	hf_hold_retire(conn, place, me, 1000);
	CHECK(atomic_load(&conn->cookie) == 1 && atomic_load(&conn->left_at) == 0 && hf_hold_others(conn, 0));
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	hf_hold_retire(conn, place, me, 2000);
	CHECK(atomic_load(&conn->cookie) == 0);
}

/* Entered before the fork, and then it turns out that a thread had closed it. */
static void not_there(void)
{
	uint32_t child;

	begin();
	child = hf_family_expect();
	CHECK(hf_hold_join(conn, child) && hf_hold_expected(conn, me) && !hf_hold_expected(conn, child));
	hf_family_forked_parent(child, getppid());
	CHECK(hf_hold_expected(conn, me) && hf_hold_others(conn, me));
	hf_hold_undo(conn, child);
	hf_family_sorted(child);
	CHECK(!hf_hold_expected(conn, me) && !hf_hold_others(conn, me));
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	/* What it does have counts when it has said so. */
	CHECK(hf_hold_join(conn, me) && hf_hold_join(conn, child));
	CHECK(!hf_hold_expected(conn, me) && hf_hold_leave(conn, me) == HF_LEFT_OTHERS);
}

static void doubt(void)
{
	uint32_t many[HF_ARENA_HOLDERS + 1];

	begin();
	atomic_store(&conn->doubt, HF_DOUBT_SPAWNED);
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_DOUBT);
	atomic_store(&conn->doubt, HF_DOUBT_NONE);
	/* A child that is being forked at this very moment may have it or not. */
	many[0] = hf_family_expect();
	CHECK(hf_hold_join(conn, me) && hf_hold_join(conn, many[0]));
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_DOUBT);
	dies(many[0]);
	/* One who could not be entered. */
	CHECK(hf_hold_join(conn, 0) && atomic_load(&conn->doubt) == HF_DOUBT_MANY);
	CHECK(hf_hold_leave(conn, 0) == HF_LEFT_DOUBT);
	atomic_store(&conn->doubt, HF_DOUBT_NONE);
	hf_hold_done(conn, me);
	/* More than there is room for. */
	for (int i = 0; i <= HF_ARENA_HOLDERS; i++) {
		many[i] = living();
		CHECK(hf_hold_join(conn, many[i]));
		CHECK((atomic_load(&conn->doubt) != HF_DOUBT_NONE) == (i >= HF_ARENA_HOLDERS));
	}
	for (int i = 0; i < HF_ARENA_HOLDERS - 1; i++)
		CHECK(hf_hold_leave(conn, many[i]) == HF_LEFT_OTHERS);
	CHECK(hf_hold_leave(conn, many[HF_ARENA_HOLDERS]) == HF_LEFT_OTHERS);
	CHECK(hf_hold_leave(conn, many[HF_ARENA_HOLDERS - 1]) == HF_LEFT_DOUBT);
}

static void places_of_the_dead(void)
{
	uint32_t many[HF_ARENA_HOLDERS], next;

	begin();
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	hf_hold_done(conn, me);
	for (int i = 0; i < HF_ARENA_HOLDERS; i++)
		CHECK(hf_hold_join(conn, many[i] = living()));
	for (int round = 0; round < 100; round++) {
		dies(many[round % HF_ARENA_HOLDERS]);
		next = many[round % HF_ARENA_HOLDERS] = living();
		CHECK(hf_hold_join(conn, next) && atomic_load(&conn->doubt) == HF_DOUBT_NONE);
		CHECK(hf_hold_others(conn, next));
	}
}

static void barrier(_Atomic uint32_t *at, uint32_t all)
{
	uint32_t turn = atomic_fetch_add(at, 1) / all;

	for (int i = 0; atomic_load(at) / all == turn; i++)
		if (i > 200)
			sched_yield();
}

/* Processes let go at the same moment, again and again: one of them is the last, exactly one. */
static void all_at_once(uint32_t processes, int rounds)
{
	struct {
		_Atomic uint32_t start, lasts, wrong;
	} *common = shared(4096);
	uint32_t handles[HF_ARENA_HOLDERS];
	pid_t children[HF_ARENA_HOLDERS];

	begin();
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	hf_hold_done(conn, me);
	for (uint32_t p = 0; p < processes; p++) {
		handles[p] = living();
		children[p] = fork();
		if (children[p] != 0) {
			hf_family_forked_parent(handles[p], children[p]);
			continue;
		}
		hf_family_forked_child(handles[p]);
		for (int i = 0; i < rounds; i++) {
			CHECK(hf_hold_join(conn, handles[p]));
			barrier(&common->start, processes);
			/* Not always the same one first. */
			for (volatile int spin = i * (int)(p + 1) % 97; spin > 0; spin--)
				;
			if (hf_hold_leave(conn, handles[p]) == HF_LEFT_LAST)
				atomic_fetch_add(&common->lasts, 1);
			barrier(&common->start, processes);
			if (p == 0 && atomic_exchange(&common->lasts, 0) != 1)
				atomic_fetch_add(&common->wrong, 1);
			barrier(&common->start, processes);
		}
		_exit(0);
	}
	for (uint32_t p = 0; p < processes; p++)
		CHECK(status_of(children[p]) == 0);
	if (atomic_load(&common->wrong) != 0)
		fprintf(stderr, "%u processes: %u of %d rounds had not exactly one last\n", processes,
			atomic_load(&common->wrong), rounds);
	CHECK(atomic_load(&common->wrong) == 0);
}

static void two_at_once(void)
{
	all_at_once(2, 20000);
}

static void many_at_once(void)
{
	all_at_once(6, 500);
}

static void keeper(void)
{
	const uint64_t stale = 1000;
	uint32_t other, third;

	begin();
	other = living();
	third = living();
	CHECK(hf_hold_join(conn, other));
	CHECK(hf_hold_keep(conn, me, 10000, stale) && hf_hold_keep(conn, me, 10500, stale));
	CHECK(!hf_hold_keep(conn, other, 11499, stale));
	CHECK(hf_hold_keep(conn, me, 11499, stale));
	/* Silent for too long. */
	CHECK(hf_hold_keep(conn, other, 12499, stale));
	CHECK(!hf_hold_keep(conn, me, 12500, stale));
	/* Gone. */
	CHECK(hf_hold_keep(conn, other, 13000, stale));
	dies(other);
	CHECK(hf_hold_keep(conn, me, 13001, stale));
	/* Let go. */
	CHECK(!hf_hold_keep(conn, third, 13002, stale));
	CHECK(hf_hold_join(conn, third) && hf_hold_leave(conn, me) == HF_LEFT_OTHERS);
	CHECK(hf_hold_keep(conn, third, 13003, stale));
	/* Whoever lets go without having kept it leaves the keeper alone. */
	CHECK(hf_hold_join(conn, me) && hf_hold_leave(conn, me) == HF_LEFT_OTHERS);
	CHECK(atomic_load(&conn->keeper) == third);
}

static bool busy;

static bool in_use(struct hf_arena_conn *which)
{
	(void)which;
	return busy;
}

static bool given(void)
{
	return atomic_load(&conn->cookie) == 0;
}

/* Whoever lets go makes room for others, and is safe at its end of it all the same. */
static void crowded(void)
{
	uint32_t many[HF_ARENA_HOLDERS - 1], child, lost = 0;
	const uint64_t age = 60000;

	begin();
	for (int i = 0; i < HF_ARENA_HOLDERS - 1; i++) {
		many[i] = living();
		CHECK(hf_hold_join(conn, many[i]) && hf_hold_leave(conn, many[i]) == HF_LEFT_OTHERS);
	}
	child = living();
	CHECK(hf_hold_join(conn, child) && hf_hold_others(conn, me) && atomic_load(&conn->doubt) == HF_DOUBT_NONE);
	for (int i = 0; i < HF_ARENA_HOLDERS - 1; i++) {
		bool there = false;

		for (int k = 0; k < HF_ARENA_HOLDERS; k++)
			there = there || atomic_load(&conn->holders[k]) == (many[i] | HF_HOLDER_LEAVING);
		if (there)
			hf_hold_done(conn, many[i]);
		else
			lost = many[i];
	}
	CHECK(lost != 0 && hf_hold_leave(conn, child) == HF_LEFT_OTHERS);
	hf_hold_done(conn, child);
	CHECK(hf_hold_leave(conn, me) == HF_LEFT_LAST);
	hf_hold_retire(conn, place, me, 1000);
	CHECK(atomic_load(&conn->cookie) == 1 && atomic_load(&conn->left_at) == 1000);
	/* As long as it comes back to it. */
	CHECK(hf_hold_stays(conn, lost, 1, 60000));
	hf_hold_sweep(1000 + age, age, in_use);
	CHECK(atomic_load(&conn->cookie) == 1);
	hf_hold_sweep(1000 + 2 * age, age, in_use);
	CHECK(atomic_load(&conn->cookie) == 0);
	CHECK(!hf_hold_stays(conn, lost, 1, 200000));
	/* Another's by now: that is not touched. */
	atomic_store(&conn->cookie, 2);
	atomic_store(&conn->crowded_at, 0);
	CHECK(!hf_hold_stays(conn, lost, 1, 200001) && atomic_load(&conn->crowded_at) == 0);
}

static void swept(void)
{
	const uint64_t age = 1000;
	uint32_t other;

	begin();
	/* Held. */
	hf_hold_sweep(50000, age, in_use);
	CHECK(!given() && atomic_load(&conn->left_at) == 0);
	/* Its only holder dies: from the next look on it counts. */
	other = living();
	CHECK(hf_hold_join(conn, other) && hf_hold_leave(conn, me) == HF_LEFT_OTHERS);
	dies(other);
	hf_hold_sweep(55000, age, in_use);
	CHECK(!given() && atomic_load(&conn->left_at) == 0);
	hf_hold_done(conn, me);
	hf_hold_sweep(60000, age, in_use);
	CHECK(!given() && atomic_load(&conn->left_at) == 60000);
	hf_hold_sweep(60999, age, in_use);
	CHECK(!given());
	/* Somebody is still in a call. */
	busy = true;
	hf_hold_sweep(70000, age, in_use);
	CHECK(!given());
	busy = false;
	/* A late one comes forward: it lives on. */
	other = living();
	CHECK(hf_hold_join(conn, other) && atomic_load(&conn->left_at) == 0);
	hf_hold_sweep(80000, age, in_use);
	CHECK(!given());
	dies(other);
	hf_hold_sweep(90000, age, in_use);
	hf_hold_sweep(91000, age, in_use);
	CHECK(given());
	/* Too late. */
	other = living();
	CHECK(!hf_hold_join(conn, other));
	CHECK(hf_arena_take() == place);
	/* Left behind by the last, in doubt. */
	atomic_store(&conn->cookie, 2);
	atomic_store(&conn->left_at, 100000);
	hf_hold_sweep(100999, age, in_use);
	CHECK(!given());
	hf_hold_sweep(101000, age, in_use);
	CHECK(given());
}

/* Connections that no library has written. */
static void hostile(void)
{
	uint64_t seed = 0xd1b54a32d192ed03;

	begin();
	for (int round = 0; round < 3000; round++) {
		uint8_t *bytes = (uint8_t *)conn;
		uint32_t handle;

		for (size_t i = 0; i < sizeof(*conn); i++)
			bytes[i] = draw(&seed) % 3 == 0 ? 0 : (uint8_t)draw(&seed);
		if (draw(&seed) % 2 != 0)
			atomic_store(&hf_arena()->used, (uint32_t)draw(&seed) % 2000);
		handle = draw(&seed) % 2 != 0 ? me : (uint32_t)draw(&seed);
		(void)hf_hold_join(conn, handle);
		(void)hf_hold_keep(conn, handle, draw(&seed), draw(&seed));
		(void)hf_hold_others(conn, handle);
		(void)hf_hold_leave(conn, handle);
		hf_hold_sweep(draw(&seed), draw(&seed) % 5, in_use);
	}
}

#define IN_CHILD(name)                \
	static void name##_(void **s) \
	{                             \
		(void)s;              \
		alone(name);          \
	}
IN_CHILD(last)
IN_CHILD(late_child)
IN_CHILD(last_words)
IN_CHILD(not_there)
IN_CHILD(crowded)
IN_CHILD(again)
IN_CHILD(doubt)
IN_CHILD(places_of_the_dead)
IN_CHILD(two_at_once)
IN_CHILD(many_at_once)
IN_CHILD(keeper)
IN_CHILD(swept)
IN_CHILD(hostile)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_),        cmocka_unit_test(doubt_),        cmocka_unit_test(places_of_the_dead_),
		cmocka_unit_test(two_at_once_), cmocka_unit_test(many_at_once_), cmocka_unit_test(keeper_),
		cmocka_unit_test(swept_),       cmocka_unit_test(hostile_),      cmocka_unit_test(late_child_),
		cmocka_unit_test(last_words_),  cmocka_unit_test(not_there_),    cmocka_unit_test(crowded_),
		cmocka_unit_test(again_),
	};

	return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
