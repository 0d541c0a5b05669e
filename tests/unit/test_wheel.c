/* The timer wheel against a naive list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/wheel.h"

#include <stdlib.h>
#include <string.h>

enum { TICK = 4 };

static uint64_t rng = 42;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* Mostly near, sometimes far, now and then beyond the wheel (4 ms x 64^4 = 18 h) or past. */
static uint64_t some_time(uint64_t now)
{
	switch (rnd() % 8) {
	case 0:
		return now - rnd() % 1000;
	case 1:
		return now + rnd() % (UINT64_C(200) * 3600 * 1000);
	case 2:
	case 3:
		return now + rnd() % 1000000;
	default:
		return now + rnd() % 20000;
	}
}

/* A node fires within a tick of its time once the wheel's clock has got there, and never early. */
static void run(size_t nodes, size_t rounds, uint64_t jump)
{
	struct hf_wheel_node *node = calloc(nodes, sizeof(*node));
	uint64_t *due = calloc(nodes, sizeof(*due)), now = 12345678;
	struct hf_wheel wheel;
	size_t queued = 0;

	assert_non_null(node);
	assert_non_null(due);
	hf_wheel_init(&wheel, now, TICK);
	assert_true(hf_wheel_next(&wheel) == UINT64_MAX);
	for (size_t round = 0; round < rounds; round++) {
		uint64_t earliest = UINT64_MAX;
		struct hf_wheel_node *fired;

		for (size_t n = 0; n < 30; n++) {
			size_t i = rnd() % nodes;

			assert_int_equal(hf_wheel_queued(&node[i]), due[i] != 0);
			if (due[i] != 0) {
				hf_wheel_remove(&wheel, &node[i]);
				due[i] = 0;
				queued--;
			} else {
				due[i] = some_time(now);
				hf_wheel_insert(&wheel, &node[i], due[i]);
				queued++;
			}
		}
		for (size_t i = 0; i < nodes; i++)
			if (due[i] != 0 && due[i] < earliest)
				earliest = due[i];
		if (earliest != UINT64_MAX)
			assert_true(hf_wheel_next(&wheel) < (earliest > now ? earliest : now) + TICK);
		/* Usually where the wheel says, else anywhere, now and then far ahead. */
		if (rnd() % 4 != 0 && queued != 0 && hf_wheel_next(&wheel) > now)
			now = hf_wheel_next(&wheel);
		else
			now += rnd() % (rnd() % 16 == 0 ? jump : 300);
		while ((fired = hf_wheel_pop(&wheel, now)) != NULL) {
			size_t i = (size_t)(fired - node);

			assert_true(due[i] != 0 && due[i] <= now);
			assert_false(hf_wheel_queued(fired));
			due[i] = 0;
			queued--;
		}
		for (size_t i = 0; i < nodes; i++)
			if (due[i] != 0)
				assert_true(due[i] + TICK > now);
	}
	free(node);
	free(due);
}

static void random_operations(void **state)
{
	(void)state;
	run(50, 20000, 5000000);
	run(1000, 2000, UINT64_C(100) * 3600 * 1000);
	run(3, 50000, UINT64_C(1000) * 3600 * 1000);
}

static void many_nodes(void **state)
{
	enum { MANY = 100000 };
	struct hf_wheel_node *node = calloc(MANY, sizeof(*node)), *fired;
	uint64_t now = 1000, last = 0;
	size_t left = MANY;
	struct hf_wheel wheel;

	(void)state;
	assert_non_null(node);
	hf_wheel_init(&wheel, now, TICK);
	for (size_t i = 0; i < MANY; i++)
		hf_wheel_insert(&wheel, &node[i], now + rnd() % 600000);
	for (size_t i = 0; i < MANY; i += 2) { /* moved, as life does all the time */
		hf_wheel_remove(&wheel, &node[i]);
		hf_wheel_insert(&wheel, &node[i], now + rnd() % (UINT64_C(30) * 3600 * 1000));
	}
	while (left != 0) {
		uint64_t next = hf_wheel_next(&wheel);

		assert_true(next != UINT64_MAX && next >= last);
		last = next;
		now = next > now ? next : now;
		while ((fired = hf_wheel_pop(&wheel, now)) != NULL) {
			assert_true(fired->due <= now && now < fired->due + TICK);
			left--;
		}
	}
	assert_true(hf_wheel_next(&wheel) == UINT64_MAX);
	free(node);
}

static void edges(void **state)
{
	struct hf_wheel_node node[3] = {0};
	struct hf_wheel wheel;

	(void)state;
	hf_wheel_init(&wheel, 1000, TICK);
	/* The past fires at once, the present too, the next millisecond a tick later. */
	hf_wheel_insert(&wheel, &node[0], 0);
	assert_ptr_equal(hf_wheel_pop(&wheel, 1000), &node[0]);
	hf_wheel_insert(&wheel, &node[0], 1000);
	assert_ptr_equal(hf_wheel_pop(&wheel, 1000), &node[0]);
	hf_wheel_insert(&wheel, &node[0], 1001);
	assert_null(hf_wheel_pop(&wheel, 1003));
	assert_ptr_equal(hf_wheel_pop(&wheel, 1004), &node[0]);
	/* Ready ones can be taken out, and put in again, from a look at another. */
	for (int i = 0; i < 3; i++)
		hf_wheel_insert(&wheel, &node[i], 2000);
	assert_non_null(hf_wheel_pop(&wheel, 2000));
	for (int i = 0; i < 3; i++)
		if (hf_wheel_queued(&node[i]))
			hf_wheel_remove(&wheel, &node[i]);
	assert_null(hf_wheel_pop(&wheel, 3000));
	assert_true(hf_wheel_next(&wheel) == UINT64_MAX);
	/* A week away: beyond the wheel's turn. */
	hf_wheel_insert(&wheel, &node[0], 3000 + UINT64_C(7) * 24 * 3600 * 1000);
	for (uint64_t next; (next = hf_wheel_next(&wheel)) < node[0].due;)
		assert_null(hf_wheel_pop(&wheel, next));
	assert_null(hf_wheel_pop(&wheel, node[0].due - 1));
	assert_ptr_equal(hf_wheel_pop(&wheel, node[0].due + 3), &node[0]);
	/* The clock stands still, or is asked twice. */
	hf_wheel_insert(&wheel, &node[0], node[0].due + 10);
	assert_null(hf_wheel_pop(&wheel, 5000));
	assert_null(hf_wheel_pop(&wheel, 5000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edges),
		cmocka_unit_test(random_operations),
		cmocka_unit_test(many_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
