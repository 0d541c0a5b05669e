/* Slots: handing out, stale entries, references, the free list and the mail between threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alone.h"
#include "state/slot.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>

enum { THREADS = 4 };

static _Atomic bool stop;
static _Atomic uint32_t wrong, turns;

static void run_threads(void *(*body)(void *))
{
	struct timespec a_while = {0, 700000000};
	pthread_t threads[THREADS];

	atomic_store(&stop, false);
	atomic_store(&wrong, 0);
	atomic_store(&turns, 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, body, (void *)i), 0);
	nanosleep(&a_while, NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&wrong), 0);
	assert_true(atomic_load(&turns) > 1000);
}

static void give_back(struct hf_slot *slot)
{
	assert_true(hf_slot_drop(slot));
	hf_slot_free(slot);
}

static void fresh_and_reused(void **state)
{
	struct hf_slot *slot = hf_slot_new(), *again;
	hf_fd_entry entry;

	(void)state;
	assert_non_null(slot);
	assert_int_equal(slot->refs, 1);
	assert_int_equal(slot->stage, HF_STAGE_IDLE);
	entry = hf_slot_entry(slot);
	assert_int_equal(HF_FD_KIND(entry), HF_FD_SLOT);
	assert_ptr_equal(hf_slot_of(entry), slot);
	assert_ptr_equal(hf_slot_at(slot->index), slot);
	atomic_store(&slot->fate, 110);
	atomic_store(&slot->cookie, 99);
	atomic_store(&slot->mailed, 1);
	slot->judge.dead = true;
	atomic_store(&hf_rare(slot)->conn, 7);
	hf_rare(slot)->listener = 8;
	assert_ptr_equal(hf_slot_find(99), slot);
	assert_null(hf_slot_find(0));
	give_back(slot);
	assert_int_equal(slot->stage, HF_STAGE_FREE);
	assert_null(hf_slot_find(99));
	again = hf_slot_new();
	assert_ptr_equal(again, slot);
	/* The old entry leads nowhere, and nothing of the old connection is left. */
	assert_null(hf_slot_of(entry));
	assert_int_not_equal(hf_slot_entry(again), entry);
	assert_int_equal(again->fate, 0);
	assert_int_equal(again->cookie, 0);
	assert_int_equal(again->mailed, 0);
	assert_false(again->judge.dead);
	assert_int_equal(hf_rare(again)->conn, 0);
	assert_int_equal(hf_rare(again)->listener, 0);
	give_back(again);
}

/* A generation comes back only after all the others. */
static void generations(void **state)
{
	struct hf_slot *slot = hf_slot_new();
	hf_fd_entry entry = hf_slot_entry(slot);

	(void)state;
	for (uint32_t i = 1; i < 1U << (30 - HF_SLOT_BITS); i++) {
		give_back(slot);
		assert_ptr_equal(hf_slot_new(), slot);
		assert_null(hf_slot_of(entry));
	}
	give_back(slot);
	assert_ptr_equal(hf_slot_new(), slot);
	assert_ptr_equal(hf_slot_of(entry), slot);
	give_back(slot);
}

static void references(void **state)
{
	struct hf_slot *slot = hf_slot_new();

	(void)state;
	assert_true(hf_slot_hold(slot));
	assert_false(hf_slot_drop(slot));
	assert_true(hf_slot_drop(slot));
	/* Nobody has it any more: it cannot be had again, nor dropped twice. */
	assert_false(hf_slot_hold(slot));
	assert_false(hf_slot_drop(slot));
	hf_slot_free(slot);
}

static void more_than_a_chunk(void **state)
{
	static struct hf_slot *slots[3 * HF_SLOT_CHUNK];
	size_t n = sizeof(slots) / sizeof(*slots);

	(void)state;
	assert_null(hf_slot_at(HF_SLOT_MAX - 1));
	for (size_t i = 0; i < n; i++) {
		slots[i] = hf_slot_new();
		assert_non_null(slots[i]);
		assert_ptr_equal(hf_slot_at(slots[i]->index), slots[i]);
		assert_true(slots[i]->index < hf_slot_end());
		atomic_store(&slots[i]->cookie, i + 1);
	}
	for (size_t i = 0; i < n; i++)
		assert_ptr_equal(hf_slot_find(i + 1), slots[i]);
	for (size_t i = 0; i < n; i++)
		give_back(slots[i]);
}

/* Every thread takes and gives: no slot is ever with two of them (the ABA of a free list). */
static void *taker(void *arg)
{
	int me = (int)(uintptr_t)arg + 1;
	struct hf_slot *held[4];

	while (!atomic_load(&stop)) {
		for (int i = 0; i < 4; i++) {
			held[i] = hf_slot_new();
			if (held[i] == NULL || atomic_load(&held[i]->fd) != 0) {
				atomic_fetch_add(&wrong, 1);
				return NULL;
			}
			atomic_store(&held[i]->fd, me);
		}
		for (int i = 3; i >= 0; i--) {
			if (atomic_load(&held[i]->fd) != me || !hf_slot_drop(held[i]))
				atomic_fetch_add(&wrong, 1);
			hf_slot_free(held[i]);
		}
		atomic_fetch_add(&turns, 1);
	}
	return NULL;
}

static void free_list_between_threads(void **state)
{
	uint32_t before = hf_slot_end();

	(void)state;
	run_threads(taker);
	/* Given back slots were used again, not leaked. */
	assert_true(hf_slot_end() <= before + 4 * THREADS);
}

/* One slot, held and dropped by all: exactly one drop is the last, and no hold succeeds after it. */
static struct hf_slot *_Atomic common;
static _Atomic uint32_t lives;

static void *holder(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		struct hf_slot *slot = atomic_load(&common);
		uint32_t life = atomic_load(&lives);

		if (!hf_slot_hold(slot))
			continue;
		if (atomic_load(&slot->refs) == 0)
			atomic_fetch_add(&wrong, 1);
		/* Whoever is first in a life takes the first reference away. */
		if (life % 2 == 0 && atomic_compare_exchange_strong(&lives, &life, life + 1) && hf_slot_drop(slot))
			atomic_fetch_add(&wrong, 1); /* not the last: our own is left */
		if (hf_slot_drop(slot)) {
			if (hf_slot_hold(slot))
				atomic_fetch_add(&wrong, 1);
			if (atomic_load(&lives) % 2 != 1)
				atomic_fetch_add(&wrong, 1);
			atomic_fetch_add(&turns, 1);
			hf_slot_free(slot);
			atomic_store(&common, hf_slot_new());
			atomic_fetch_add(&lives, 1);
		}
	}
	return NULL;
}

static void references_between_threads(void **state)
{
	(void)state;
	atomic_store(&common, hf_slot_new());
	run_threads(holder);
}

/* The mail: what any number of threads push, one takes, each slot once. */
static struct hf_slot_stack mail;

static void *poster(void *arg)
{
	struct hf_slot *slot = hf_slot_new();

	(void)arg;
	while (!atomic_load(&stop)) {
		if (atomic_exchange(&slot->mailed, 1) == 0) {
			atomic_fetch_add(&slot->start, 1);
			hf_slot_push(&mail, slot);
		}
		if ((uintptr_t)arg != 0)
			continue;
		for (uint32_t link = hf_slot_take_all(&mail); link != 0;) {
			struct hf_slot *letter = hf_slot_at(link - 1);

			link = atomic_load(&letter->next);
			if (atomic_fetch_sub(&letter->start, 1) != 1)
				atomic_fetch_add(&wrong, 1);
			atomic_fetch_add(&turns, 1);
			atomic_store(&letter->mailed, 0);
		}
	}
	return NULL;
}

static void mail_between_threads(void **state)
{
	(void)state;
	run_threads(poster);
}

/* A sanitizer keeps memory of its own for each byte: there sizes say nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SIZES_TELL = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SIZES_TELL = 0 };
#else
enum { SIZES_TELL = 1 };
#endif
#else
enum { SIZES_TELL = 1 };
#endif

/* Bytes of memory that are this process's; what is only read of memory never written to is not. */
static long memory(void)
{
	char text[64] = "";
	int fd = open("/proc/self/statm", O_RDONLY);
	long pages = 0;

	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	CHECK(sscanf(text, "%*d %ld", &pages) == 1);
	return pages * sysconf(_SC_PAGESIZE);
}

/* What few connections need takes no memory as long as nobody writes to it, and is nobody else's. */
static void spared(void)
{
	enum { MANY = 40 * HF_SLOT_CHUNK, SLACK = 512 << 10 };
	static struct hf_slot *slots[MANY];
	long before, bare, full;
	uint32_t sum = 0;

	for (int i = 0; i < MANY; i++)
		slots[i] = NULL; /* is memory now */
	before = memory();
	for (int i = 0; i < MANY; i++) {
		slots[i] = hf_slot_new();
		CHECK(slots[i] != NULL);
		sum += atomic_load(&hf_rare(slots[i])->conn);
	}
	bare = memory() - before;
	CHECK(sum == 0);
	CHECK(!SIZES_TELL || bare < (long)(MANY * sizeof(struct hf_slot)) + SLACK);
	for (uint32_t i = 0; i < MANY; i++)
		atomic_store(&hf_rare(slots[i])->conn, i);
	full = memory() - before;
	CHECK(!SIZES_TELL || full > (long)(MANY * (sizeof(struct hf_slot) + sizeof(struct hf_slot_rare))) - SLACK);
	for (uint32_t i = 0; i < MANY; i++)
		CHECK(atomic_load(&hf_rare(slots[i])->conn) == i && atomic_load(&slots[i]->refs) == 1);
}

static void spared_(void **state)
{
	(void)state;
	alone(spared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_and_reused),
		cmocka_unit_test(generations),
		cmocka_unit_test(references),
		cmocka_unit_test(more_than_a_chunk),
		cmocka_unit_test(free_list_between_threads),
		cmocka_unit_test(references_between_threads),
		cmocka_unit_test(mail_between_threads),
		cmocka_unit_test(spared_),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
