/* The descriptor map, alone and between threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "state/fdmap.h"

#include <limits.h>
#include <pthread.h>
#include <time.h>

static void entries(void **state)
{
	hf_fd_entry entry = hf_fd_entry_slot((1U << HF_SLOT_BITS) - 1, 1);

	(void)state;
	assert_int_equal(HF_FD_KIND(entry), HF_FD_SLOT);
	assert_int_equal(HF_FD_INDEX(entry), (1U << HF_SLOT_BITS) - 1);
	assert_int_equal(HF_FD_GEN(entry), 1);
	entry = hf_fd_entry_slot(5, (1U << (30 - HF_SLOT_BITS)) - 1);
	assert_int_equal(HF_FD_KIND(entry), HF_FD_SLOT);
	assert_int_equal(HF_FD_INDEX(entry), 5);
	assert_int_equal(HF_FD_GEN(entry), (1U << (30 - HF_SLOT_BITS)) - 1);
	assert_int_equal(HF_FD_KIND(HF_FD_TCP_HINT | HF_FD_UNKNOWN), HF_FD_UNKNOWN);
}

static void numbers(void **state)
{
	static const int outside[] = {-1, INT_MIN, HF_FDMAP_MAX, INT_MAX};
	static const int inside[] = {0, 1, HF_FDMAP_NEAR - 1, HF_FDMAP_NEAR, HF_FDMAP_MAX - 1};
	hf_fd_entry old;

	(void)state;
	assert_int_equal(hf_fdmap_end(), 0);
	/* Clearing a far number maps nothing. */
	assert_false(hf_fdmap_set(HF_FDMAP_NEAR, HF_FD_UNKNOWN, &old));
	assert_null(hf_fdmap_word(HF_FDMAP_NEAR));
	for (size_t i = 0; i < sizeof(outside) / sizeof(*outside); i++) {
		hf_fd_entry mark;

		assert_false(hf_fdmap_set(outside[i], HF_FD_PASS, &old));
		assert_int_equal(old, HF_FD_UNKNOWN);
		assert_int_equal(hf_fdmap_get(outside[i]), HF_FD_UNKNOWN);
		assert_false(hf_fdmap_replace(outside[i], HF_FD_UNKNOWN, HF_FD_PASS));
		assert_int_equal(hf_fdmap_busy(outside[i], &mark), HF_FD_UNKNOWN);
		hf_fdmap_unbusy(outside[i], mark, HF_FD_PASS);
	}
	assert_int_equal(hf_fdmap_end(), 0);
	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++) {
		int fd = inside[i];

		assert_int_equal(hf_fdmap_get(fd), HF_FD_UNKNOWN);
		assert_true(hf_fdmap_set(fd, HF_FD_PASS, &old));
		assert_int_equal(old, HF_FD_UNKNOWN);
		assert_int_equal(hf_fdmap_end(), fd + 1);
		assert_false(hf_fdmap_replace(fd, HF_FD_UNKNOWN, HF_FD_BUSY));
		assert_true(hf_fdmap_replace(fd, HF_FD_PASS, hf_fd_entry_slot(7, 3)));
		assert_true(hf_fdmap_set(fd, HF_FD_UNKNOWN, &old));
		assert_int_equal(old, hf_fd_entry_slot(7, 3));
		assert_int_equal(hf_fdmap_get(fd), HF_FD_UNKNOWN);
	}
	assert_int_equal(hf_fdmap_end(), HF_FDMAP_MAX);
}

/* close(2) of a number while another thread is given it, in each order (TRAPS 7). */
static void busy_and_unbusy(void **state)
{
	enum { FD = 9 };
	hf_fd_entry first, second, old;

	(void)state;
	hf_fdmap_set(FD, HF_FD_PASS, &old);
	assert_int_equal(hf_fdmap_busy(FD, &first), HF_FD_PASS);
	assert_int_equal(HF_FD_KIND(hf_fdmap_get(FD)), HF_FD_BUSY);
	hf_fdmap_unbusy(FD, first, HF_FD_UNKNOWN);
	assert_int_equal(hf_fdmap_get(FD), HF_FD_UNKNOWN);
	/* The number is handed out again before the close has returned: the new entry stays. */
	hf_fdmap_busy(FD, &first);
	hf_fdmap_set(FD, hf_fd_entry_slot(1, 1), &old);
	hf_fdmap_unbusy(FD, first, HF_FD_UNKNOWN);
	assert_int_equal(hf_fdmap_get(FD), hf_fd_entry_slot(1, 1));
	/* And closed again meanwhile: the first call's end must not end the second's mark. */
	hf_fdmap_busy(FD, &first);
	assert_int_equal(HF_FD_KIND(hf_fdmap_busy(FD, &second)), HF_FD_BUSY);
	hf_fdmap_unbusy(FD, first, HF_FD_PASS);
	assert_int_equal(hf_fdmap_get(FD), second);
	hf_fdmap_unbusy(FD, second, HF_FD_UNKNOWN);
	assert_int_equal(hf_fdmap_get(FD), HF_FD_UNKNOWN);
}

/*
 * Threads open and close a few numbers as a kernel hands them out: a number is free only after the close of it, and
 * may be given to another thread before the closer's hook has finished.  An owner must always find its own entry.
 */
enum { NUMBERS = 4, BASE = 100, THREADS = 4 };

static _Atomic int owned[NUMBERS];
static _Atomic uint32_t wrong, opened;
static _Atomic bool stop;

static void *opener(void *arg)
{
	uint32_t id = (uint32_t)(uintptr_t)arg, serial = 0;

	while (!atomic_load(&stop)) {
		int n = (int)(serial++ % NUMBERS), fd = BASE + n, nobody = 0;
		hf_fd_entry mine = hf_fd_entry_slot(id * 1000 + serial % 1000, serial % 4096), old, mark;

		if (!atomic_compare_exchange_strong(&owned[n], &nobody, 1))
			continue;
		hf_fdmap_set(fd, mine, &old); /* what the hook of a call that returns a descriptor does */
		atomic_fetch_add(&opened, 1);
		if (HF_FD_KIND(old) == HF_FD_SLOT)
			atomic_fetch_add(&wrong, 1); /* the one before us was not marked */
		for (int i = 0; i < 20; i++)
			if (hf_fdmap_get(fd) != mine)
				atomic_fetch_add(&wrong, 1);
		if (hf_fdmap_busy(fd, &mark) != mine)
			atomic_fetch_add(&wrong, 1);
		atomic_store(&owned[n], 0); /* close(2) itself */
		hf_fdmap_unbusy(fd, mark, HF_FD_UNKNOWN);
	}
	return NULL;
}

static void between_threads(void **state)
{
	struct timespec second = {1, 0};
	pthread_t threads[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, opener, (void *)(i + 1)), 0);
	nanosleep(&second, NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&opened) > 1000);
	assert_int_equal(atomic_load(&wrong), 0);
	for (int i = 0; i < NUMBERS; i++)
		assert_int_equal(hf_fdmap_get(BASE + i), HF_FD_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries),
		cmocka_unit_test(numbers),
		cmocka_unit_test(busy_and_unbusy),
		cmocka_unit_test(between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
