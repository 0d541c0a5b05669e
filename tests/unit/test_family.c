/* The family: who is entered, who lives, whose place may be taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alone.h"
#include "state/arena.h"
#include "state/family.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { INDEX_MASK = HF_ARENA_PROCS - 1 };

static struct hf_arena_proc *entry(uint32_t handle)
{
	return &hf_arena()->procs[handle & INDEX_MASK];
}

static void join(void)
{
	CHECK(hf_arena_make(LAYOUT, true) && hf_family_join("unit"));
}

static void joined(void)
{
	uint32_t me;

	CHECK(!hf_family_join("nobody") && hf_family_me() == 0); /* no arena */
	CHECK(hf_family_expect() == 0 && !hf_family_lives(1025) && !hf_family_lives(0));
	CHECK(hf_arena_make(LAYOUT, true));
	CHECK(hf_family_expect() == 0); /* not entered itself */
	CHECK(hf_family_join("a name that is longer than the forty-seven bytes there are for it"));
	me = hf_family_me();
	CHECK((me & INDEX_MASK) != 0 && me > INDEX_MASK);
	CHECK(atomic_load(&entry(me)->pid) == getpid());
	CHECK(strcmp(entry(me)->prog, "a name that is longer than the forty-seven bytes") < 0);
	CHECK(strlen(entry(me)->prog) == sizeof(entry(me)->prog) - 1);
	CHECK(hf_family_join("again") && hf_family_me() == me);
	CHECK(hf_family_lives(me) && !hf_family_lives(me + 1) && !hf_family_lives(me + HF_ARENA_PROCS));
	CHECK(hf_family_thread_lives(me & INDEX_MASK, getpid()));
	CHECK(hf_family_thread_lives(0, getpid()));
}

/* A child that waits to be told to end. */
struct child {
	uint32_t handle;
	pid_t pid;
	int say;
};

static struct child bear(void)
{
	struct child child = {.handle = hf_family_expect()};
	int told[2], there[2];
	char c;

	CHECK(child.handle != 0 && hf_family_lives(child.handle)); /* before there is one */
	CHECK(pipe(told) == 0 && pipe(there) == 0);
	child.pid = fork();
	if (child.pid == 0) {
		close(told[1]);
		hf_family_forked_child(child.handle);
		CHECK(hf_family_me() == child.handle && atomic_load(&entry(child.handle)->pid) == getpid());
		CHECK(hf_family_lives(child.handle));
		CHECK(write(there[1], "", 1) == 1);
		_exit(read(told[0], &c, 1) == 1 ? c : 99);
	}
	close(told[0]);
	hf_family_forked_parent(child.handle, child.pid);
	CHECK(read(there[0], &c, 1) == 1);
	close(there[0]);
	close(there[1]);
	child.say = told[1];
	return child;
}

static void end(struct child *child)
{
	CHECK(write(child->say, "", 1) == 1);
	close(child->say);
}

static bool dies(uint32_t handle)
{
	for (int i = 0; i < 2000 && hf_family_lives(handle); i++)
		nap(1);
	return !hf_family_lives(handle);
}

static void forked(void)
{
	struct child child;
	uint32_t failed;

	join();
	child = bear();
	CHECK(child.handle != hf_family_me());
	CHECK(hf_family_lives(child.handle) && strcmp(entry(child.handle)->prog, "unit") == 0);
	nap(20);
	CHECK(hf_family_lives(child.handle));
	CHECK(hf_family_thread_lives(child.handle & INDEX_MASK, child.pid));
	CHECK(!hf_family_thread_lives(child.handle & INDEX_MASK, getpid())); /* none of its */
	end(&child);
	/* A zombie has no descriptors any more. */
	CHECK(dies(child.handle) && kill(child.pid, 0) == 0);
	CHECK(!hf_family_thread_lives(child.handle & INDEX_MASK, child.pid));
	CHECK(status_of(child.pid) == 0);
	CHECK(!hf_family_lives(child.handle));

	child = bear();
	CHECK(kill(child.pid, SIGSTOP) == 0);
	nap(20);
	CHECK(hf_family_lives(child.handle)); /* stopped is not gone */
	CHECK(kill(child.pid, SIGKILL) == 0 && dies(child.handle));
	CHECK(status_of(child.pid) == 128 + SIGKILL);

	failed = hf_family_expect();
	CHECK(hf_family_lives(failed));
	hf_family_forked_parent(failed, -1);
	CHECK(!hf_family_lives(failed));
}

/* A table's worth of processes that are gone makes room again and again. */
static void used_again(void)
{
	static uint32_t handles[HF_ARENA_PROCS];
	uint32_t n = 0, handle;

	join();
	for (int i = 0; i < 2 * HF_ARENA_PROCS + 100; i++) {
		pid_t child;

		handle = hf_family_expect();
		CHECK(handle != 0);
		child = fork();
		if (child == 0)
			_exit(0);
		hf_family_forked_parent(handle, child);
		CHECK(status_of(child) == 0);
		CHECK(!hf_family_lives(handle));
	}
	CHECK(hf_family_lives(hf_family_me()));
	/* As many as there is room for, then none; each another. */
	while ((handle = hf_family_expect()) != 0) {
		CHECK(n < HF_ARENA_PROCS);
		for (uint32_t i = 0; i < n; i++)
			CHECK((handles[i] & INDEX_MASK) != (handle & INDEX_MASK));
		handles[n++] = handle;
	}
	CHECK(n == HF_ARENA_PROCS - 2);
	for (uint32_t i = 0; i < n; i++)
		CHECK(hf_family_lives(handles[i]));
	hf_family_forked_parent(handles[7], -1);
	handle = hf_family_expect();
	CHECK((handle & INDEX_MASK) == (handles[7] & INDEX_MASK) && handle != handles[7]);
	CHECK(!hf_family_lives(handles[7]) && hf_family_lives(handle));
	/* The late word of a fork that is over does nothing to whoever has the entry now. */
	hf_family_forked_parent(handles[7], -1);
	CHECK(hf_family_lives(handle));
	CHECK(hf_family_join("full") && hf_family_lives(hf_family_me()));
}

/* Whoever is about to fork may die before it does. */
static void parent_died(void)
{
	uint32_t *handles = shared(4096);
	pid_t child;

	join();
	child = fork();
	if (child == 0) {
		hf_family_forked_child(0);
		CHECK(hf_family_join("forker"));
		handles[0] = hf_family_me();
		handles[1] = hf_family_expect();
		_exit(0);
	}
	CHECK(status_of(child) == 0);
	CHECK(handles[0] != 0 && handles[1] != 0);
	CHECK(!hf_family_lives(handles[0]) && !hf_family_lives(handles[1]));
}

static _Atomic int other_tid;

static void *goes_on(void *arg)
{
	const int *told = arg;
	char c;

	atomic_store(&other_tid, (int)syscall(SYS_gettid));
	_exit(read(told[0], &c, 1) == 1 ? 0 : 1);
}

/* The first thread ends, the process does not. */
static void first_thread_ended(void)
{
	uint32_t handle;
	_Atomic int *tid = shared(4096);
	int told[2];
	pid_t child;

	join();
	CHECK(pipe(told) == 0);
	handle = hf_family_expect();
	child = fork();
	if (child == 0) {
		pthread_t thread;

		hf_family_forked_child(handle);
		CHECK(pthread_create(&thread, NULL, goes_on, told) == 0);
		while (atomic_load(&other_tid) == 0)
			nap(1);
		atomic_store(tid, atomic_load(&other_tid));
		pthread_exit(NULL);
	}
	hf_family_forked_parent(handle, child);
	while (atomic_load(tid) == 0)
		nap(1);
	for (int i = 0; i < 2000 && hf_family_thread_lives(handle & INDEX_MASK, child); i++)
		nap(1);
	CHECK(!hf_family_thread_lives(handle & INDEX_MASK, child));
	CHECK(hf_family_thread_lives(handle & INDEX_MASK, atomic_load(tid)));
	CHECK(hf_family_lives(handle));
	/* Nor does it need /proc to be known. */
	if (geteuid() == 0) {
		char empty[] = "/tmp/hf-family-XXXXXX";
		pid_t jailed;

		CHECK(mkdtemp(empty) != NULL);
		jailed = fork();
		if (jailed == 0) {
			hf_family_forked_child(0);
			CHECK(chroot(empty) == 0 && hf_family_lives(handle));
			_exit(0);
		}
		CHECK(status_of(jailed) == 0);
		CHECK(rmdir(empty) == 0);
	}
	CHECK(write(told[1], "", 1) == 1);
	CHECK(dies(handle));
	CHECK(status_of(child) == 0);
	CHECK(!hf_family_thread_lives(handle & INDEX_MASK, atomic_load(tid)));
}

static void other_namespace(void)
{
	struct child child;

	join();
	child = bear();
	atomic_fetch_add(&entry(child.handle)->pid_ns, 1);
	end(&child);
	CHECK(status_of(child.pid) == 0);
	/* Its number means nothing here: no telling, so it lives. */
	CHECK(hf_family_lives(child.handle));
	CHECK(hf_family_thread_lives(child.handle & INDEX_MASK, child.pid));
	atomic_fetch_sub(&entry(child.handle)->pid_ns, 1);
	CHECK(!hf_family_lives(child.handle));
}

static void succeeded(void)
{
	struct child child;
	uint32_t old;

	join();
	old = hf_family_me();
	child = bear();
	atomic_store(&hf_family_self, 0); /* as the next image begins */
	CHECK(hf_family_join("image"));
	CHECK(hf_family_me() != old && hf_family_lives(old));
	hf_family_succeed();
	CHECK(!hf_family_lives(old) && hf_family_lives(hf_family_me()) && hf_family_lives(child.handle));
	atomic_store(&hf_family_self, 0);
	hf_family_succeed(); /* an image that has not joined */
	CHECK(hf_family_lives(child.handle) && hf_family_join("third"));
	end(&child);
	CHECK(status_of(child.pid) == 0);
}

/* Many processes join at once: each has an entry of its own. */
static void at_once(void)
{
	enum { PROCESSES = 60 };
	_Atomic uint32_t *taken = shared(sizeof(*taken) * HF_ARENA_PROCS), *go = shared(4096);
	pid_t children[PROCESSES];

	join();
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (children[i] != 0)
			continue;
		hf_family_forked_child(0);
		while (atomic_load(go) == 0)
			sched_yield();
		CHECK(hf_family_join("many") && hf_family_lives(hf_family_me()));
		CHECK(atomic_fetch_add(&taken[hf_family_me() & INDEX_MASK], 1) == 0);
		atomic_fetch_add(go, 1);
		while (atomic_load(go) != PROCESSES + 1)
			sched_yield();
		CHECK(hf_family_lives(hf_family_me()));
		_exit(0);
	}
	atomic_store(go, 1);
	for (int i = 0; i < PROCESSES; i++)
		CHECK(status_of(children[i]) == 0);
}

/* Entries that no library has written. */
static void hostile(void)
{
	static const int32_t pids[] = {INT_MIN, INT_MIN + 1, -1, 0, 1, INT_MAX};
	uint64_t seed = 0x9e3779b97f4a7c15;
	uint32_t handle;

	join();
	handle = hf_family_expect();
	for (size_t i = 0; i < sizeof(pids) / sizeof(pids[0]); i++) {
		atomic_store(&entry(handle)->pid, pids[i]);
		(void)hf_family_lives(handle);
		(void)hf_family_thread_lives(handle & INDEX_MASK, getpid());
		(void)hf_family_thread_lives(handle & INDEX_MASK, 0);
	}
	for (int round = 0; round < 20; round++) {
		uint8_t *bytes = (uint8_t *)hf_arena()->procs;

		for (size_t i = 0; i < sizeof(hf_arena()->procs); i++)
			bytes[i] = (uint8_t)draw(&seed);
		for (uint32_t i = 0; i < HF_ARENA_PROCS; i++) {
			handle = (uint32_t)draw(&seed);
			(void)hf_family_lives(handle);
			(void)hf_family_lives(atomic_load(&hf_arena()->procs[i].handle));
			(void)hf_family_thread_lives(i, (int)draw(&seed));
		}
		handle = hf_family_expect();
		hf_family_forked_parent(handle, -1);
		hf_family_forked_parent((uint32_t)draw(&seed), -1);
		hf_family_succeed();
	}
}

#define IN_CHILD(name)                \
	static void name##_(void **s) \
	{                             \
		(void)s;              \
		alone(name);          \
	}
IN_CHILD(joined)
IN_CHILD(forked)
IN_CHILD(used_again)
IN_CHILD(parent_died)
IN_CHILD(first_thread_ended)
IN_CHILD(other_namespace)
IN_CHILD(succeeded)
IN_CHILD(at_once)
IN_CHILD(hostile)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(joined_),
		cmocka_unit_test(forked_),
		cmocka_unit_test(used_again_),
		cmocka_unit_test(parent_died_),
		cmocka_unit_test(first_thread_ended_),
		cmocka_unit_test(other_namespace_),
		cmocka_unit_test(succeeded_),
		cmocka_unit_test(at_once_),
		cmocka_unit_test(hostile_),
	};

	return cmocka_run_group_tests_name("family", tests, NULL, NULL);
}
