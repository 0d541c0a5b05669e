/* The arena: making, handing out, finding again after exec, refusing what is none, contents nobody can trust. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alone.h"
#include "state/arena.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW };

static void made(void)
{
	struct hf_arena *head;
	struct stat st;
	int fd;

	CHECK(hf_arena() == NULL && hf_arena_fd() == -1 && !hf_arena_owns(-1));
	CHECK(hf_arena_take() == HF_CONN_NONE && hf_arena_find(1) == HF_CONN_NONE);
	CHECK(hf_arena_make(LAYOUT, true));
	head = hf_arena();
	CHECK(head != NULL && head->magic == HF_ARENA_MAGIC && head->version == HF_ARENA_VERSION);
	CHECK(head->layout == LAYOUT);
	fd = hf_arena_fd();
	CHECK(fd >= 128);
	/* The next image of the process must find it. */
	CHECK(fcntl(fd, F_GETFD) == 0);
	CHECK(fcntl(fd, F_GET_SEALS) == ALL_SEALS);
	CHECK(fstat(fd, &st) == 0 && (uint64_t)st.st_size == HF_ARENA_SIZE);
	/* Room for all, memory for none. */
	CHECK(st.st_blocks < 2048);
	CHECK(hf_arena_owns(fd) && !hf_arena_owns(fd + 1) && !hf_arena_owns(0));
	CHECK(hf_arena_make(LAYOUT, true) && hf_arena() == head && hf_arena_fd() == fd);
	CHECK(hf_arena_inherit(LAYOUT, false));
}

static void moved(void)
{
	uint32_t index;
	int old, null = open("/dev/null", O_RDWR);

	CHECK(hf_arena_make(LAYOUT, true));
	old = hf_arena_fd();
	hf_arena_move();
	CHECK(hf_arena_fd() != old && hf_arena_owns(hf_arena_fd()));
	CHECK(dup2(null, old) == old && !hf_arena_owns(old));
	index = hf_arena_take();
	CHECK(index == 0);
	/* Something else under its number is not taken for it. */
	CHECK(dup2(null, hf_arena_fd()) == hf_arena_fd());
	CHECK(!hf_arena_owns(hf_arena_fd()));
}

static bool all_zero(const void *at, size_t size)
{
	const char *p = at;

	return size == 0 || (*p == 0 && memcmp(p, p + 1, size - 1) == 0);
}

static void handed_out(void)
{
	enum { MANY = 1000 };
	static uint32_t gens[MANY];
	struct hf_arena_conn *conn;
	uint32_t index;

	CHECK(hf_arena_make(LAYOUT, true));
	for (uint32_t i = 0; i < MANY; i++) {
		CHECK(hf_arena_take() == i);
		conn = hf_arena_conn(i);
		CHECK(conn != NULL && atomic_load(&conn->gen) != 0);
		gens[i] = atomic_load(&conn->gen);
		atomic_store(&conn->gen, 0);
		CHECK(all_zero(conn, HF_ARENA_CONN_SIZE));
		memset(conn, 0xa5, HF_ARENA_CONN_SIZE);
		atomic_store(&conn->gen, gens[i]);
		atomic_store(&conn->cookie, 5000 + i);
	}
	for (uint32_t i = 0; i < MANY; i++)
		CHECK(hf_arena_find(5000 + i) == i);
	CHECK(hf_arena_find(0) == HF_CONN_NONE && hf_arena_find(1) == HF_CONN_NONE);
	for (uint32_t i = 0; i < MANY; i += 2)
		hf_arena_give(i);
	for (uint32_t i = 0; i < MANY; i++)
		CHECK(hf_arena_find(5000 + i) == (i % 2 ? i : HF_CONN_NONE));
	for (uint32_t i = 0; i < MANY / 2; i++) {
		index = hf_arena_take();
		CHECK(index < MANY && index % 2 == 0);
		conn = hf_arena_conn(index);
		CHECK(atomic_load(&conn->gen) == gens[index] + 1);
		atomic_store(&conn->gen, 0);
		CHECK(all_zero(conn, HF_ARENA_CONN_SIZE));
		atomic_store(&conn->gen, gens[index] + 1);
		atomic_store(&conn->cookie, 9000 + index);
	}
	CHECK(hf_arena_take() == MANY);
}

static void full(void)
{
	CHECK(hf_arena_make(LAYOUT, true));
	CHECK(hf_arena_conn(HF_ARENA_CONNS) == NULL && hf_arena_conn(HF_CONN_NONE) == NULL);
	CHECK(hf_arena_queue(HF_ARENA_CONNS) == NULL);
	atomic_store(&hf_arena()->used, HF_ARENA_CONNS - 1);
	CHECK(hf_arena_take() == HF_ARENA_CONNS - 1);
	memset(hf_arena_conn(HF_ARENA_CONNS - 1), 0, HF_ARENA_CONN_SIZE);
	CHECK(hf_arena_take() == HF_CONN_NONE);
	hf_arena_give(HF_ARENA_CONNS); /* is none */
	hf_arena_give(HF_ARENA_CONNS - 1);
	CHECK(hf_arena_take() == HF_ARENA_CONNS - 1);
}

/* Processes take and give at once: no place is ever two processes'. */
static void at_once(void)
{
	enum { PROCESSES = 4, ROUNDS = 20000, HELD = 8, PLACES = PROCESSES * HELD };
	_Atomic uint32_t *owner = shared(sizeof(*owner) * HF_ARENA_CONNS);
	pid_t children[PROCESSES];

	CHECK(hf_arena_make(LAYOUT, true));
	for (uint32_t p = 1; p <= PROCESSES; p++) {
		children[p - 1] = fork();
		if (children[p - 1] != 0)
			continue;
		uint32_t held[HELD];

		for (int i = 0; i < HELD; i++)
			held[i] = HF_CONN_NONE;
		for (int i = 0; i < ROUNDS; i++) {
			uint32_t *at = &held[i * 7 % HELD], me = p;

			if (*at != HF_CONN_NONE) {
				CHECK(atomic_load(&hf_arena_conn(*at)->cookie) == p);
				CHECK(atomic_compare_exchange_strong(&owner[*at], &me, 0));
				hf_arena_give(*at);
				*at = HF_CONN_NONE;
			} else {
				uint32_t none = 0;

				*at = hf_arena_take();
				CHECK(*at < PLACES);
				CHECK(atomic_compare_exchange_strong(&owner[*at], &none, p));
				atomic_store(&hf_arena_conn(*at)->cookie, p);
			}
		}
		_exit(0);
	}
	for (int p = 0; p < PROCESSES; p++)
		CHECK(status_of(children[p]) == 0);
}

static void across_fork(void)
{
	pid_t child;
	char *queue;

	CHECK(hf_arena_make(LAYOUT, true));
	child = fork();
	if (child == 0) {
		/* In parts of the arena that nobody had mapped before the fork. */
		uint32_t index = hf_arena_take();

		atomic_store(&hf_arena_conn(index)->cookie, 77);
		queue = hf_arena_queue(index);
		CHECK(queue != NULL && all_zero(queue, HF_ARENA_QUEUE_SIZE));
		memset(queue, 'q', HF_ARENA_QUEUE_SIZE);
		hf_arena_queue_drop(index, queue, false);
		_exit(0);
	}
	CHECK(status_of(child) == 0);
	CHECK(hf_arena_find(77) == 0);
	queue = hf_arena_queue(0);
	CHECK(queue != NULL && queue[0] == 'q' && queue[HF_ARENA_QUEUE_SIZE - 1] == 'q');
	hf_arena_queue_drop(0, queue, true);
	queue = hf_arena_queue(0);
	CHECK(queue != NULL && all_zero(queue, HF_ARENA_QUEUE_SIZE));
	queue = hf_arena_queue(HF_ARENA_CONNS - 1);
	CHECK(queue != NULL);
	memset(queue, 1, HF_ARENA_QUEUE_SIZE); /* within the file, or this would be SIGBUS */
}

/* Where no such file is allowed: memory that at least a forked child shares. */
static void without_file(void)
{
	struct rlimit limit = {1 << 20, 1 << 20};
	struct hf_arena_conn *conn;
	pid_t child;

	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	CHECK(hf_arena_make(LAYOUT, true) && hf_arena_fd() == -1);
	CHECK(hf_arena_take() == 0);
	conn = hf_arena_conn(0);
	atomic_store(&conn->cookie, 5);
	child = fork();
	if (child == 0) {
		CHECK(hf_arena_find(5) == 0);
		atomic_store(&conn->doubt, 1);
		_exit(0);
	}
	CHECK(status_of(child) == 0 && atomic_load(&conn->doubt) == 1);
}

static void few_descriptors(void)
{
	struct rlimit limit = {64, 64};

	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(hf_arena_make(LAYOUT, true) && hf_arena_fd() == -1);
	CHECK(hf_arena_take() == 0 && hf_arena_conn(0) != NULL);
}

static void low_soft_limit(void)
{
	struct rlimit limit = {32, 1024}, after;

	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(hf_arena_make(LAYOUT, true) && hf_arena_fd() > 32);
	/* The program's limit is what it was. */
	CHECK(getrlimit(RLIMIT_NOFILE, &after) == 0 && after.rlim_cur == 32 && after.rlim_max == 1024);
}

/* A file like the arena but for what a test changes in it. */
static struct imitation {
	uint64_t size, magic;
	uint32_t version, layout;
	int seals;
} genuine = {HF_ARENA_SIZE, HF_ARENA_MAGIC, HF_ARENA_VERSION, LAYOUT, ALL_SEALS};

static int imitate(const struct imitation *as)
{
	int fd = memfd_create(HF_ARENA_NAME, MFD_ALLOW_SEALING);
	struct hf_arena head = {.magic = as->magic, .version = as->version, .layout = as->layout};

	CHECK(fd >= 0 && ftruncate(fd, (off_t)as->size) == 0);
	CHECK(pwrite(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head));
	CHECK(fcntl(fd, F_ADD_SEALS, as->seals) == 0);
	return fd;
}

/* Where the library looks for it. */
static int first_place(void)
{
	struct rlimit limit;
	rlim_t top;

	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	top = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
	return (int)(top - 64);
}

static bool inherits(int fd, bool thorough)
{
	int place = first_place();

	CHECK(dup2(fd, place) == place);
	return hf_arena_inherit(LAYOUT, thorough);
}

static void refused(void)
{
	struct imitation as[] = {genuine, genuine, genuine, genuine, genuine, genuine, genuine, genuine};
	int pair[2];

	as[0].size--;
	as[1].size = sizeof(struct hf_arena);
	as[2].size++;
	as[3].magic++;
	as[4].version++;
	as[5].layout++;
	as[6].seals = F_SEAL_SHRINK | F_SEAL_GROW;
	as[7].seals = 0;
	for (size_t i = 0; i < sizeof(as) / sizeof(as[0]); i++) {
		int fd = imitate(&as[i]);

		CHECK(!inherits(fd, false) && !inherits(fd, true));
		CHECK(hf_arena() == NULL && hf_arena_fd() == -1);
		close(fd);
	}
	CHECK(!inherits(open("/dev/null", O_RDWR), true));
	CHECK(!inherits(open("/", O_RDONLY | O_DIRECTORY), true));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && !inherits(pair[0], true));
	CHECK(hf_arena() == NULL);
	CHECK(inherits(imitate(&genuine), false) && hf_arena() != NULL && hf_arena_fd() == first_place());
}

static void found_elsewhere(void)
{
	int low = imitate(&genuine);

	CHECK(low < 64);
	CHECK(!hf_arena_inherit(LAYOUT, false));
	CHECK(hf_arena_inherit(LAYOUT, true) && hf_arena_fd() == low);
}

static void borrowed(void)
{
	int told[2], heard[2];
	pid_t child;
	char c;

	CHECK(pipe(told) == 0 && pipe(heard) == 0);
	child = fork();
	if (child == 0) {
		CHECK(!hf_arena_borrow(LAYOUT)); /* there is none yet */
		CHECK(write(heard[1], "", 1) == 1 && read(told[0], &c, 1) == 1);
		CHECK(!hf_arena_borrow(LAYOUT + 1) && hf_arena() == NULL);
		CHECK(hf_arena_borrow(LAYOUT) && hf_arena_fd() >= 128);
		CHECK(hf_arena_find(42) == 0);
		atomic_store(&hf_arena_conn(0)->cookie, 43);
		_exit(0);
	}
	CHECK(read(heard[0], &c, 1) == 1);
	CHECK(hf_arena_make(LAYOUT, true) && hf_arena_take() == 0);
	atomic_store(&hf_arena_conn(0)->cookie, 42);
	CHECK(write(told[1], "", 1) == 1);
	CHECK(status_of(child) == 0);
	CHECK(atomic_load(&hf_arena_conn(0)->cookie) == 43);
}

/* This program once more: what exec leaves. */
static void executed(void)
{
	char self[] = "/proc/self/exe", how[] = "heir", *argv[] = {self, how, NULL};

	CHECK(hf_arena_make(LAYOUT, true) && hf_arena_take() == 0);
	atomic_store(&hf_arena_conn(0)->cookie, 1234);
	execv(self, argv);
	_exit(2);
}

static int heir(void)
{
	CHECK(hf_arena() == NULL);
	CHECK(!hf_arena_inherit(LAYOUT + 1, false) && hf_arena_inherit(LAYOUT, false));
	CHECK(hf_arena_find(1234) == 0);
	return 0;
}

/* Links and counts that no library has written: nothing hangs, nothing is reached beyond the arena, and what is in use
 * is never handed out. */
static void hostile_links(void)
{
	static const uint32_t links[] = {0, 1, 2, 3, HF_ARENA_CONNS, HF_ARENA_CONNS + 1, 0x7fffffff, 0xffffffff};
	enum { LINKS = sizeof(links) / sizeof(links[0]) };

	CHECK(hf_arena_make(LAYOUT, true));
	for (uint32_t i = 0; i < 3; i++) {
		CHECK(hf_arena_take() == i);
		atomic_store(&hf_arena_conn(i)->cookie, 100 + i);
	}
	for (int i = 0; i < LINKS; i++) {
		atomic_store(&hf_arena()->used, links[i]);
		CHECK(hf_arena_find(100) == (links[i] == 0 ? HF_CONN_NONE : 0));
		for (int k = 0; k < LINKS; k++) {
			uint32_t index;

			atomic_store(&hf_arena()->used, 3);
			atomic_store(&hf_arena()->free_head, links[i]);
			for (uint32_t at = 0; at < 3; at++)
				atomic_store(&hf_arena_conn(at)->next, links[k]);
			index = hf_arena_take();
			CHECK(index == 3);
			memset(hf_arena_conn(3), 0, HF_ARENA_CONN_SIZE);
		}
	}
	atomic_store(&hf_arena()->used, 0xffffffff);
	atomic_store(&hf_arena()->free_head, 0);
	CHECK(hf_arena_take() == HF_CONN_NONE);
	CHECK(hf_arena_find(4711) == HF_CONN_NONE);
}

#define IN_CHILD(name)                \
	static void name##_(void **s) \
	{                             \
		(void)s;              \
		alone(name);          \
	}
IN_CHILD(made)
IN_CHILD(moved)
IN_CHILD(handed_out)
IN_CHILD(full)
IN_CHILD(at_once)
IN_CHILD(across_fork)
IN_CHILD(without_file)
IN_CHILD(few_descriptors)
IN_CHILD(low_soft_limit)
IN_CHILD(refused)
IN_CHILD(found_elsewhere)
IN_CHILD(borrowed)
IN_CHILD(executed)
IN_CHILD(hostile_links)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_),         cmocka_unit_test(moved_),           cmocka_unit_test(handed_out_),
		cmocka_unit_test(full_),         cmocka_unit_test(at_once_),         cmocka_unit_test(across_fork_),
		cmocka_unit_test(without_file_), cmocka_unit_test(few_descriptors_), cmocka_unit_test(low_soft_limit_),
		cmocka_unit_test(refused_),      cmocka_unit_test(found_elsewhere_), cmocka_unit_test(borrowed_),
		cmocka_unit_test(executed_),     cmocka_unit_test(hostile_links_),
	};

	if (argc == 2 && strcmp(argv[1], "heir") == 0)
		return heir();
	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
