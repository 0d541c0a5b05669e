/*
 * The look-up of the next definitions, against dlsym(RTLD_NEXT): both search what comes after this program.
 * The look-up is compiled in here, for it finds itself by the dynamic section it is linked with.
 */
#include "preload/real.c"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

static void *found(const struct hf_real *real, const struct name *name)
{
	void *pointer;

	memcpy(&pointer, (const char *)real + name->offset, sizeof(pointer));
	return pointer;
}

static void same_as_dlsym(void **state)
{
	size_t present = 0, wrong = 0;

	(void)state;
	memset(&hf_real, 0, sizeof(hf_real));
	hf_real_resolve();
	for (size_t i = 0; i < COUNT; i++) {
		void *ours = found(&hf_real, &names[i]), *theirs = dlsym(RTLD_NEXT, names[i].name);

		present += theirs != NULL;
		if (ours == theirs)
			continue;
		wrong++;
		print_message("# %s: %p, dlsym says %p\n", names[i].name, ours, theirs);
	}
	assert_int_equal(wrong, 0);
	/* What every C library since 2.31 lacks is not more than the newest few (_Fork, closefrom, epoll_pwait2). */
	assert_true(present + 10 > COUNT);
}

/* Without the names every program stands on, no hook can do anything: they are there whatever the C library. */
static void essential(void **state)
{
	(void)state;
	hf_real_resolve();
	assert_non_null((void *)hf_real.read);
	assert_non_null((void *)hf_real.write);
	assert_non_null((void *)hf_real.close);
	assert_non_null((void *)hf_real.connect);
	assert_non_null((void *)hf_real.accept);
	assert_non_null((void *)hf_real.poll);
	assert_non_null((void *)hf_real.fork);
	assert_non_null((void *)hf_real.syscall);
}

/* What was found can be called: it is the function, not its resolver or a neighbour. */
static void callable(void **state)
{
	int ends[2];
	char byte = 0;

	(void)state;
	hf_real_resolve();
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(hf_real.write(ends[1], "z", 1), 1);
	assert_int_equal(hf_real.read(ends[0], &byte, 1), 1);
	assert_int_equal(byte, 'z');
	assert_int_equal(hf_real.close(ends[0]), 0);
	assert_int_equal(hf_real.close(ends[1]), 0);
}

static void *resolve_often(void *arg)
{
	for (int i = 0; i < 200; i++)
		hf_real_resolve();
	return arg;
}

/* Whoever looks while others resolve sees a function or, the first time, nothing; never anything else. */
static void from_several_threads(void **state)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	struct hf_real before;

	(void)state;
	hf_real_resolve();
	before = hf_real;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, resolve_often, NULL), 0);
	for (int i = 0; i < 20000; i++)
		assert_ptr_equal(__atomic_load_n((void **)(void *)&hf_real.read, __ATOMIC_RELAXED),
				 (void *)before.read);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_memory_equal(&before, &hf_real, sizeof(before));
}

static struct object libc_object(void)
{
	struct object object;

	for (const struct link_map *map = _r_debug.r_map; map != NULL; map = map->l_next)
		if (strstr(map->l_name, "libc.so") != NULL && object_read(map, &object))
			return object;
	fail_msg("no libc.so among the loaded objects");
	memset(&object, 0, sizeof(object));
	return object;
}

/* Objects linked with --hash-style=sysv have no other table.  The walk is the same; only the way in differs. */
static void without_gnu_hash(void **state)
{
	struct object object = libc_object();
	uint32_t count = 0;
	const elf_symbol *slow = NULL;

	(void)state;
	if (object.gnu_hash == NULL)
		skip();
	/* libc.so has symbols enough to show it: search them as the other branch does, by number. */
	for (count = 0; count < 100000 && slow == NULL; count++)
		slow = symbol_match(&object, count, "epoll_wait", WANT_FUNCTION);
	assert_ptr_equal(slow, gnu_lookup(&object, "epoll_wait", gnu_hash_of("epoll_wait"), WANT_FUNCTION));
}

static void what_is_not_there(void **state)
{
	struct object object = libc_object();

	(void)state;
	assert_null(object_lookup(&object, "holdfast_no_such", gnu_hash_of("holdfast_no_such"), WANT_FUNCTION));
	assert_null(object_lookup(&object, "", gnu_hash_of(""), WANT_FUNCTION));
	/* A variable is no function. */
	assert_non_null(dlsym(RTLD_NEXT, "environ"));
	assert_null(object_lookup(&object, "environ", gnu_hash_of("environ"), WANT_FUNCTION));
}

/* What is used without being interposed, data too, all from one object. */
static void located(void **state)
{
	static const char *const wanted[] = {"_IO_file_jumps", "_IO_file_read", "environ", "holdfast_no_such"};
	static const char *const absent[] = {"holdfast_no_such", "read"};
	struct hf_symbol found[4];
	const struct link_map *map = hf_real_locate(wanted, found, 4);

	(void)state;
	assert_non_null(map);
	assert_non_null(strstr(map->l_name, "libc.so"));
	for (size_t i = 0; i < 3; i++)
		assert_ptr_equal(found[i].at, dlsym(RTLD_NEXT, wanted[i]));
	assert_int_equal(found[0].size, 21 * sizeof(void *));
	assert_null(found[3].at);
	assert_null(hf_real_locate(absent, found, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_as_dlsym),    cmocka_unit_test(essential),
		cmocka_unit_test(callable),         cmocka_unit_test(from_several_threads),
		cmocka_unit_test(without_gnu_hash), cmocka_unit_test(what_is_not_there),
		cmocka_unit_test(located),
	};

	return cmocka_run_group_tests_name("real", tests, NULL, NULL);
}
