/*
 * Threads that open, close, duplicate, pass and inherit descriptors as fast as they can, while the library beats, gives
 * verdicts and drains.  descriptors SEED SECONDS [alone]; alone: no child is forked.
 *
 * Every thread knows each of its descriptors by what fstat(2) says of it, and looks after every step whether all are
 * still there and still what they were; connections carry numbered bytes.  At the end there are as many descriptors as
 * at the beginning.  Exit status 0: all of it held.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6, MOST = 20, PATIENCE_MS = 20000, REGION = 30, REGIONS_AT = 320 };

/* One open file: a descriptor, or both ends of something bytes go through. */
struct item {
	enum { NONE, FILE_, PIPE, TCP, PAIR } kind;
	int fd[2];
	ino_t ino[2];
	uint8_t next[2]; /* the next byte that fd[i] sends */
};

struct worker {
	int index, listener, epoll;
	struct sockaddr_in address;
	uint64_t random;
	struct item items[MOST];
	unsigned long steps, connections, forks;
};

static _Atomic bool over;
static bool alone;
static _Atomic int bad;
static time_t ends;
static char scratch[] = "/tmp/descriptors.XXXXXX";

static uint32_t roll(struct worker *w, uint32_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random >> 33) % below;
}

static void wrong(const struct worker *w, const char *what, int fd)
{
	int error = errno;

	if (atomic_fetch_add(&bad, 1) < 10) {
		printf("# thread %d, step %lu: %s, descriptor %d: %s\n", w->index, w->steps, what, fd, strerror(error));
		fflush(stdout);
	}
	atomic_store(&over, true);
}

static ino_t ino_of(const struct worker *w, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0)
		return st.st_ino;
	wrong(w, "fstat", fd);
	return 0;
}

static void check(const struct worker *w, const struct item *item)
{
	struct stat st;

	for (int i = 0; item->kind != NONE && i < 2; i++) {
		if (item->fd[i] < 0)
			continue;
		if (fstat(item->fd[i], &st) < 0)
			wrong(w, "closed by somebody else", item->fd[i]);
		else if (st.st_ino != item->ino[i] && (errno = 0, true))
			wrong(w, "another file than was opened", item->fd[i]);
	}
}

static bool wait_for(const struct worker *w, int fd, const char *missing)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	errno = 0;
	if (poll(&p, 1, PATIENCE_MS) == 1 && (p.revents & POLLNVAL) == 0)
		return true;
	wrong(w, missing, fd);
	return false;
}

/* So many numbered bytes from one end to the other. */
static void say(struct worker *w, struct item *item, int from, size_t size)
{
	uint8_t out[512] = {0}, in[512];
	size_t got = 0;
	int a = item->fd[from], b = item->fd[1 - from];

	for (size_t i = 0; i < size; i++)
		out[i] = item->next[from]++;
	if (write(a, out, size) != (ssize_t)size) {
		wrong(w, "write", a);
		return;
	}
	while (got < size) {
		ssize_t n = wait_for(w, b, "the bytes do not come") ? read(b, in + got, size - got) : -1;

		if (n <= 0) {
			wrong(w, n == 0 ? "an end that nobody made" : "read", b);
			return;
		}
		got += (size_t)n;
	}
	if (memcmp(in, out, size) != 0) {
		errno = 0;
		wrong(w, "other bytes than were sent", b);
	}
}

static void drop(struct worker *w, struct item *item)
{
	int first = (int)roll(w, 2);
	bool half = item->kind == TCP && roll(w, 4) == 0;
	char byte;

	check(w, item);
	if (half && shutdown(item->fd[first], SHUT_WR) < 0)
		wrong(w, "shutdown", item->fd[first]);
	if (item->fd[first] >= 0 && !half && close(item->fd[first]) < 0)
		wrong(w, "close", item->fd[first]);
	if (item->kind == TCP) {
		ssize_t n = wait_for(w, item->fd[1 - first],
				     half ? "the end of a shutdown does not come" : "the end of a close does not come")
				    ? read(item->fd[1 - first], &byte, 1)
				    : 0;

		if (n != 0)
			wrong(w, "no end", item->fd[1 - first]);
	}
	if (half && close(item->fd[first]) < 0)
		wrong(w, "close", item->fd[first]);
	if (item->fd[1 - first] >= 0 && close(item->fd[1 - first]) < 0)
		wrong(w, "close", item->fd[1 - first]);
	item->kind = NONE;
}

static void known(struct worker *w, struct item *item)
{
	for (int i = 0; i < 2; i++)
		item->ino[i] = item->fd[i] >= 0 ? ino_of(w, item->fd[i]) : 0;
	item->next[0] = (uint8_t)roll(w, 256);
	item->next[1] = (uint8_t)roll(w, 256);
}

static void open_tcp(struct worker *w, struct item *item)
{
	int cloexec = roll(w, 2) ? SOCK_CLOEXEC : 0;

	item->fd[0] = socket(AF_INET, SOCK_STREAM | cloexec, 0);
	if (item->fd[0] < 0 || connect(item->fd[0], (struct sockaddr *)&w->address, sizeof(w->address)) < 0) {
		wrong(w, "connect", item->fd[0]);
		return;
	}
	item->fd[1] = roll(w, 2) ? accept4(w->listener, NULL, NULL, cloexec) : accept(w->listener, NULL, NULL);
	if (item->fd[1] < 0) {
		wrong(w, "accept", w->listener);
		return;
	}
	item->kind = TCP;
	w->connections++;
	known(w, item);
	say(w, item, 0, 1 + roll(w, 100));
	say(w, item, 1, 1 + roll(w, 100));
}

static void open_something(struct worker *w, struct item *item)
{
	switch (roll(w, 6)) {
	case 0:
		item->fd[0] = open(scratch, O_RDONLY | O_CLOEXEC);
		item->fd[1] = -1;
		item->kind = FILE_;
		break;
	case 1:
		if (pipe(item->fd) < 0)
			wrong(w, "pipe", -1);
		item->kind = PIPE;
		break;
	case 2:
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, item->fd) < 0)
			wrong(w, "socketpair", -1);
		item->kind = PAIR;
		break;
	default:
		open_tcp(w, item);
		return;
	}
	known(w, item);
}

/* The same file under another number; the old one is closed. */
static void renumber(struct worker *w, struct item *item)
{
	int end = item->fd[1] >= 0 ? (int)roll(w, 2) : 0, old = item->fd[end], fd;

	switch (roll(w, 3)) {
	case 0:
		fd = dup(old);
		break;
	case 1:
		fd = fcntl(old, F_DUPFD_CLOEXEC, 3 + (int)roll(w, 40));
		break;
	default:
		fd = fcntl(old, F_DUPFD, 0);
		break;
	}
	if (fd < 0) {
		wrong(w, "dup", old);
		return;
	}
	item->fd[end] = fd;
	if (close(old) < 0)
		wrong(w, "close", old);
	check(w, item);
}

/* One item's first descriptor takes the number of another's, which is closed by that. */
static void cover(struct worker *w, struct item *from, struct item *to)
{
	int end = (int)roll(w, 2), number = to->fd[end] >= 0 ? to->fd[end] : to->fd[0], old = from->fd[0];

	end = number == to->fd[1] ? 1 : 0;
	if ((roll(w, 2) ? dup2(old, number) : dup3(old, number, O_CLOEXEC)) != number) {
		wrong(w, "dup2", number);
		return;
	}
	from->fd[0] = number;
	if (close(old) < 0)
		wrong(w, "close", old);
	check(w, from);
	if (to->fd[1 - end] >= 0 && close(to->fd[1 - end]) < 0)
		wrong(w, "close", to->fd[1 - end]);
	to->kind = NONE;
}

/* Over a socket pair, and back under a new number. */
static void pass(struct worker *w, struct item *item)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	char byte = 'p';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int channel[2], old = item->fd[0];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel) < 0) {
		wrong(w, "socketpair", -1);
		return;
	}
	memcpy(CMSG_DATA(&control.header), &old, sizeof(old));
	if (sendmsg(channel[0], &msg, 0) != 1)
		wrong(w, "sendmsg", old);
	msg.msg_controllen = sizeof(control);
	if (recvmsg(channel[1], &msg, 0) != 1 || msg.msg_controllen < CMSG_LEN(sizeof(int)))
		wrong(w, "recvmsg", channel[1]);
	else
		memcpy(&item->fd[0], CMSG_DATA(&control.header), sizeof(int));
	if (close(old) < 0 || close(channel[0]) < 0 || close(channel[1]) < 0)
		wrong(w, "close", old);
	check(w, item);
}

/*
 * A range of numbers that is this thread's alone, filled and closed at a stroke.  The descriptors that other threads
 * open meanwhile have the lowest numbers.
 */
static void region(struct worker *w, struct item *items)
{
	int at = REGIONS_AT + w->index * REGION, count = 0;

	for (int i = 0; i < MOST && count < REGION - 2; i++) {
		struct item *item = &items[i];

		if (item->kind == NONE || roll(w, 3) != 0)
			continue;
		for (int end = 0; end < 2; end++)
			if (item->fd[end] >= 0 && dup2(item->fd[end], at + count++) < 0)
				wrong(w, "dup2", item->fd[end]);
		/* Some live there alone. */
		if (roll(w, 2) == 0) {
			for (int end = 0; end < 2; end++)
				if (item->fd[end] >= 0 && close(item->fd[end]) < 0)
					wrong(w, "close", item->fd[end]);
			item->kind = NONE;
		}
	}
	if (close_range((unsigned)at, (unsigned)at + REGION - 1, 0) < 0)
		wrong(w, "close_range", at);
	for (int fd = at; fd < at + REGION; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			wrong(w, "still open after close_range", fd);
}

static void child(struct worker *w, struct item *items, uint32_t way)
{
	int status = 0;

	alarm(30);
	for (int i = 0; i < MOST; i++)
		check(w, &items[i]);
	/* A connection changes hands: the child says something for the parent. */
	for (int i = 0; way == 1 && i < MOST; i++)
		if (items[i].kind == TCP) {
			say(w, &items[i], 0, 40);
			break;
		}
	for (int i = 0; way == 2 && i < MOST; i++)
		if (items[i].kind == TCP)
			(void)close(items[i].fd[roll(w, 2)]);
	if (way == 3)
		(void)close_range(3, ~0U, 0);
	if (atomic_load(&bad) != 0)
		status = 1;
	if (way == 4) {
		execl("/bin/true", "true", (char *)NULL);
		status = 1;
	}
	_exit(status);
}

static void spawn(struct worker *w)
{
	uint32_t way = roll(w, 5);
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		child(w, w->items, way);
	w->forks++;
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		wrong(w, "fork", -1);
	errno = 0;
	if (status != 0)
		wrong(w, WIFSIGNALED(status) ? "a child was killed" : "a child saw something wrong", (int)way);
	for (int i = 0; way == 1 && i < MOST; i++)
		if (w->items[i].kind == TCP) {
			w->items[i].next[0] = (uint8_t)(w->items[i].next[0] + 40);
			break;
		}
}

static void watch(struct worker *w, struct item *item)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};

	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, item->fd[0], &event) < 0 && errno != EEXIST) {
		wrong(w, "epoll_ctl", item->fd[0]);
		return;
	}
	(void)epoll_wait(w->epoll, &event, 1, 0);
	if (roll(w, 2) == 0 || item->kind == FILE_)
		(void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, item->fd[0], &event);
}

static void step(struct worker *w)
{
	struct item *item = &w->items[roll(w, MOST)], *other = &w->items[roll(w, MOST)];

	w->steps++;
	if (item->kind == NONE) {
		open_something(w, item);
		return;
	}
	switch (roll(w, 24)) {
	case 0:
	case 1:
	case 2:
		drop(w, item);
		break;
	case 3:
	case 4:
	case 5:
		renumber(w, item);
		break;
	case 6:
	case 7:
		if (other != item && other->kind != NONE)
			cover(w, item, other);
		break;
	case 8:
		pass(w, item);
		break;
	case 9:
		region(w, w->items);
		break;
	case 10:
		if (!alone && roll(w, 4) == 0)
			spawn(w);
		break;
	case 11:
		if (item->kind == TCP)
			watch(w, item);
		break;
	case 12: {
		const struct timespec pause = {0, (long)roll(w, 30) * 1000000};

		nanosleep(&pause, NULL); /* beats, and verdicts */
		break;
	}
	default:
		if (item->kind == TCP || item->kind == PAIR)
			say(w, item, (int)roll(w, 2), 1 + roll(w, 400));
		else if (item->kind == PIPE)
			say(w, item, 1, 1 + roll(w, 400));
		break;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	socklen_t len = sizeof(w->address);

	w->address.sin_family = AF_INET;
	w->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (bind(w->listener, (struct sockaddr *)&w->address, len) < 0 || listen(w->listener, 8) < 0 ||
	    getsockname(w->listener, (struct sockaddr *)&w->address, &len) < 0)
		wrong(w, "listen", w->listener);
	while (!atomic_load(&over) && time(NULL) < ends) {
		step(w);
		for (int i = 0; i < MOST; i++)
			check(w, &w->items[i]);
	}
	for (int i = 0; i < MOST && !atomic_load(&over); i++)
		if (w->items[i].kind != NONE)
			drop(w, &w->items[i]);
	close(w->epoll);
	close(w->listener);
	return NULL;
}

static int count_open(bool show)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int count = -1; /* the directory itself */

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		char path[300], target[100] = "";

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		if (readlink(path, target, sizeof(target) - 1) < 0)
			continue;
		/* The library's own for good: what it shares, and where it reports to. */
		if (strstr(target, "holdfast") != NULL || strstr(target, "report") != NULL)
			continue;
		count++;
		if (show)
			printf("# left open: %s %s\n", entry->d_name, target);
	}
	if (dir != NULL)
		closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS];
	pthread_t threads[THREADS];
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	int seconds = argc > 2 ? atoi(argv[2]) : 3, before, after = 0, file = mkstemp(scratch);
	unsigned long steps = 0, connections = 0, forks = 0;

	if (file < 0)
		return 2;
	close(file);
	alarm((unsigned)seconds + 60);
	alone = argc > 3;
	before = count_open(false);
	ends = time(NULL) + seconds;
	for (int i = 0; i < THREADS; i++) {
		workers[i].index = i;
		workers[i].random =
			(seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)i * UINT64_C(0xbf58476d1ce4e5b9) + 1;
		pthread_create(&threads[i], NULL, work, &workers[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		steps += workers[i].steps;
		connections += workers[i].connections;
		forks += workers[i].forks;
	}
	/* What was on its way is delivered behind the program's back. */
	for (int i = 0; i < 300 && atomic_load(&bad) == 0 && (after = count_open(false)) != before; i++) {
		const struct timespec moment = {0, 10000000};

		nanosleep(&moment, NULL);
	}
	if (atomic_load(&bad) == 0 && after != before) {
		printf("# %d descriptors at first, %d in the end\n", before, after);
		(void)count_open(true);
		atomic_fetch_add(&bad, 1);
	}
	printf("# %lu steps, %lu connections, %lu forks\n", steps, connections, forks);
	unlink(scratch);
	return atomic_load(&bad) != 0;
}
