/*
 * The exchange of stdio's calls: on memory made to look like libc's, and on what it must not touch.
 */
#include "io/stdio_table.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { PAGES = 3, FIRST_AT = 40, SECOND_AT = 1000 };

static const uintptr_t libc[HF_JUMPS] = {900001, 900002, 900003, 900004, 900005};
static const uintptr_t ours[HF_JUMPS] = {[HF_JUMP_READ] = 800001, [HF_JUMP_WRITE] = 800002, [HF_JUMP_CLOSE] = 800004};

struct memory {
	struct hf_jump_region region;
	uintptr_t *words;
	size_t size;
};

/* Two tables with other words around them, in read-only pages. */
static int make(void **state)
{
	static struct memory memory;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	memory.size = PAGES * page;
	memory.words = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory.words == MAP_FAILED)
		return -1;
	for (size_t i = 0; i < memory.size / sizeof(uintptr_t); i++)
		memory.words[i] = i;
	memcpy(memory.words + FIRST_AT, libc, sizeof(libc));
	memcpy(memory.words + SECOND_AT, libc, sizeof(libc));
	memory.region.from = (uintptr_t)memory.words;
	memory.region.to = memory.region.from + memory.size;
	memory.region.sealed = memory.region.to;
	memory.region.page = page;
	*state = &memory;
	return mprotect(memory.words, memory.size, PROT_READ);
}

static int unmake(void **state)
{
	struct memory *memory = *state;

	return munmap(memory->words, memory->size);
}

static void edit(struct memory *memory, size_t at, uintptr_t value)
{
	assert_int_equal(mprotect(memory->words, memory->size, PROT_READ | PROT_WRITE), 0);
	memory->words[at] = value;
	assert_int_equal(mprotect(memory->words, memory->size, PROT_READ), 0);
}

/* Whether any page of the memory can be written to, as the kernel says. */
static bool writable(const struct memory *memory)
{
	char line[400], rights[5];
	unsigned long from, to;
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) == 3 && from < memory->region.to &&
		    to > memory->region.from && rights[1] == 'w')
			found = true;
	fclose(maps);
	return found;
}

static void exchanged(void **state)
{
	struct memory *memory = *state;
	uintptr_t *found[HF_JUMP_TABLES_MOST];
	const uintptr_t expected[HF_JUMPS] = {800001, 800002, 900003, 800004, 900005};

	assert_int_equal(hf_jump_find(&memory->region, libc, ours, found), 2);
	assert_ptr_equal(found[0], memory->words + FIRST_AT);
	assert_ptr_equal(found[1], memory->words + SECOND_AT);
	assert_true(hf_jump_swap(&memory->region, found, 2, libc, ours));
	for (size_t i = 0; i < memory->size / sizeof(uintptr_t); i++) {
		size_t table = i >= SECOND_AT ? SECOND_AT : FIRST_AT;

		if (i >= table && i < table + HF_JUMPS)
			assert_int_equal(memory->words[i], expected[i - table]);
		else
			assert_int_equal(memory->words[i], i);
	}
	assert_false(writable(memory));
}

/* A fork in the middle of it leaves some slots exchanged: the child does the rest. */
static void again(void **state)
{
	struct memory *memory = *state;
	uintptr_t *found[HF_JUMP_TABLES_MOST];

	edit(memory, FIRST_AT, ours[0]);
	edit(memory, SECOND_AT + 3, ours[3]);
	assert_int_equal(hf_jump_find(&memory->region, libc, ours, found), 2);
	assert_true(hf_jump_swap(&memory->region, found, 2, libc, ours));
	assert_true(hf_jump_swap(&memory->region, found, 2, libc, ours));
	assert_int_equal(memory->words[FIRST_AT + 1], 800002);
	assert_int_equal(memory->words[SECOND_AT], 800001);
}

/* Whatever slot holds something else, also one that would be left alone: that table is none. */
static void unknown_content(void **state)
{
	struct memory *memory = *state;
	uintptr_t *found[HF_JUMP_TABLES_MOST];

	for (size_t i = 0; i < HF_JUMPS; i++) {
		uintptr_t *both[] = {memory->words + FIRST_AT, memory->words + SECOND_AT};

		edit(memory, FIRST_AT + i, 7);
		assert_int_equal(hf_jump_find(&memory->region, libc, ours, found), 1);
		assert_ptr_equal(found[0], memory->words + SECOND_AT);
		assert_false(hf_jump_swap(&memory->region, both, 2, libc, ours));
		assert_int_equal(memory->words[FIRST_AT + i], 7);
		assert_int_equal(memory->words[SECOND_AT], libc[0]);
		assert_false(writable(memory));
		edit(memory, FIRST_AT + i, libc[i]);
	}
	/* What is never exchanged may not be ours either. */
	edit(memory, FIRST_AT + HF_JUMP_SEEK, 0);
	assert_int_equal(hf_jump_find(&memory->region, libc, ours, found), 1);
}

/* The last page of it is writable already, and stays so; what is before it does not become writable. */
static void partly_sealed(void **state)
{
	struct memory *memory = *state;
	size_t last = 2 * memory->region.page / sizeof(uintptr_t) + 10;
	uintptr_t *tables[] = {memory->words + FIRST_AT, memory->words + last};
	void *end = (char *)memory->words + 2 * memory->region.page;

	for (size_t i = 0; i < HF_JUMPS; i++)
		edit(memory, last + i, libc[i]);
	memory->region.sealed = (uintptr_t)end;
	assert_int_equal(mprotect(end, memory->region.page, PROT_READ | PROT_WRITE), 0);
	assert_true(hf_jump_swap(&memory->region, tables + 1, 1, libc, ours));
	assert_int_equal(memory->words[last], 800001);
	memory->words[last + 1] = libc[1];
	assert_true(hf_jump_swap(&memory->region, tables, 2, libc, ours));
	assert_int_equal(memory->words[FIRST_AT], 800001);
	assert_int_equal(memory->words[last + 1], 800002);
	memory->words[last + 1] = libc[1];
	memory->region.to = (uintptr_t)end;
	assert_false(writable(memory));
}

static void out_of_bounds(void **state)
{
	struct memory *memory = *state;
	struct hf_jump_region part = memory->region;
	uintptr_t *found[HF_JUMP_TABLES_MOST], *table[] = {memory->words + SECOND_AT};

	part.to = part.sealed = part.from + part.page;
	assert_int_equal(hf_jump_find(&part, libc, ours, found), part.page > SECOND_AT * sizeof(uintptr_t) ? 2 : 1);
	part.to = part.from + SECOND_AT * sizeof(uintptr_t);
	assert_false(hf_jump_swap(&part, table, 1, libc, ours));
	assert_false(hf_jump_swap(&memory->region, table, 0, libc, ours));
	assert_int_equal(memory->words[SECOND_AT], libc[0]);
}

/* Where the kernel refuses, nothing changes: here a page between the two tables is missing (mprotect(2), ENOMEM). */
static void refused(void **state)
{
	struct memory *memory = *state;
	size_t last = 2 * memory->region.page / sizeof(uintptr_t) + 10;
	uintptr_t *tables[] = {memory->words + FIRST_AT, memory->words + last};

	for (size_t i = 0; i < HF_JUMPS; i++)
		edit(memory, last + i, libc[i]);
	assert_int_equal(munmap((char *)memory->words + memory->region.page, memory->region.page), 0);
	assert_false(hf_jump_swap(&memory->region, tables, 2, libc, ours));
	assert_int_equal(memory->words[FIRST_AT], libc[0]);
	assert_int_equal(memory->words[last], libc[0]);
	assert_false(writable(memory));
}

static void too_many(void **state)
{
	struct memory *memory = *state;
	uintptr_t *found[HF_JUMP_TABLES_MOST];

	for (size_t table = 0; table < HF_JUMP_TABLES_MOST - 1; table++)
		for (size_t i = 0; i < HF_JUMPS; i++)
			edit(memory, 200 + 20 * table + i, libc[i]);
	assert_int_equal(hf_jump_find(&memory->region, libc, ours, found), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(exchanged, make, unmake),
		cmocka_unit_test_setup_teardown(again, make, unmake),
		cmocka_unit_test_setup_teardown(unknown_content, make, unmake),
		cmocka_unit_test_setup_teardown(partly_sealed, make, unmake),
		cmocka_unit_test_setup_teardown(out_of_bounds, make, unmake),
		cmocka_unit_test_setup_teardown(refused, make, unmake),
		cmocka_unit_test_setup_teardown(too_many, make, unmake),
	};

	return cmocka_run_group_tests_name("stdio_table", tests, NULL, NULL);
}
