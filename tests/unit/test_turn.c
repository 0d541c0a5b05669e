/* Turns: one at a time, what the last one did is seen by the next, and one that was left behind is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/turn.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4 };

static struct hf_turn_word word;
static _Atomic bool stop;
static _Atomic uint32_t wrong;

/* Under the turn, and not atomic: ThreadSanitizer sees whether the turn orders them. */
static uint64_t inside, turns, last_owner;

static void body(uint32_t me)
{
	inside++;
	if (inside != 1)
		atomic_fetch_add(&wrong, 1);
	last_owner = me;
	turns++;
	inside--;
}

static void *taker(void *arg)
{
	uintptr_t number = (uintptr_t)arg;
	uint32_t me = hf_turn_me();

	for (uint64_t i = number; !atomic_load(&stop); i++) {
		/* Patience without end, none, and some; the watchdog's way. */
		int patience = i % 4 == 0 ? -1 : i % 4 == 1 ? 0 : 20;
		enum hf_turn turn =
			i % 4 == 3 ? hf_turn_try(&word, hf_turn_watchdog()) : hf_turn_take(&word, me, patience);

		if (turn == HF_TURN_LEFT)
			atomic_fetch_add(&wrong, 1);
		if (turn != HF_TURN_OURS)
			continue;
		body(me);
		hf_turn_end(&word);
	}
	return NULL;
}

static void one_at_a_time(void **state)
{
	struct timespec a_while = {0, 700000000};
	pthread_t threads[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, taker, (void *)i), 0);
	nanosleep(&a_while, NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&wrong), 0);
	assert_true(turns > 1000);
	assert_false(hf_turn_held(&word, false));
}

static void *leaver(void *arg)
{
	(void)arg;
	if (hf_turn_take(&word, hf_turn_me(), -1) != HF_TURN_OURS)
		atomic_fetch_add(&wrong, 1);
	turns++;
	return NULL; /* without a word */
}

static void left_behind(void **state)
{
	pthread_t thread;

	(void)state;
	for (int i = 0; i < 20; i++) {
		uint64_t before = turns;

		assert_int_equal(pthread_create(&thread, NULL, leaver, NULL), 0);
		pthread_join(thread, NULL);
		assert_int_equal(hf_turn_take(&word, hf_turn_me(), -1), HF_TURN_LEFT);
		assert_int_equal(turns, before + 1);
		hf_turn_end(&word);
	}
	assert_int_equal(atomic_load(&wrong), 0);
	/* Not so one whose owner lives. */
	assert_int_equal(hf_turn_take(&word, hf_turn_me(), -1), HF_TURN_OURS);
	assert_true(hf_turn_held(&word, true));
	assert_int_equal(hf_turn_try(&word, hf_turn_me()), HF_TURN_LEFT); /* a jump out of our own */
	hf_turn_end(&word);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_at_a_time),
		cmocka_unit_test(left_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
