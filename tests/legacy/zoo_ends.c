/*
 * How streams and connections end: exit, freopen, cancellation, and calls other than close that take the number away.
 */
#include "zoo.h"

#include <gnu/libc-version.h>
#include <pthread.h>

static char large[400000];

/* Everything there is now, without waiting for an end. */
static void take(const char *name, int fd, long expected)
{
	long n = read_full(fd, large, (size_t)expected);

	show(name, large, n);
}

static void reopened(void)
{
	const char *way[] = {"/dev/null", "/nonexistent/file", NULL};
	char name[] = "/tmp/zoo.XXXXXX", line[100] = "";
	int s[2], file = MUST(mkstemp(name));

	for (int i = 0; i < 3; i++) {
		pair(s);
		FILE *f = fdopen(s[1], "w");
		T(fputs("still in the buffer", f));
		f = freopen(way[i], "w", f);
		say("reopened %d %s\n", f != NULL, f ? "" : strerrorname_np(errno));
		if (f) {
			say("same number %d\n", fileno(f) == s[1]);
			T(fputs("to nobody", f));
			T(fclose(f));
		}
		T(fcntl(s[1], F_GETFD));
		drain("peer", s[0]);
		T(close(s[0]));
	}
	pair(s);
	FILE *f = fdopen(s[1], "r+");
	T(fputs("before", f));
	f = freopen(name, "w+", f);
	T(fputs("in the file\n", f));
	T(fflush(f));
	drain("peer", s[0]);
	T(close(s[0]));
	settle();
	rewind(f);
	T(fgets(line, sizeof line, f) != NULL);
	show("file", line, (long)strlen(line));
	T(fclose(f));
	/* The other way round: a stream on a file gets a socket. */
	pair(s);
	f = fdopen(file, "w");
	T(dup2(s[1], fileno(f)) == fileno(f));
	T(close(s[1]));
	T(fputs("through what was a file", f));
	T(fclose(f));
	drain("peer", s[0]);
	T(close(s[0]));
	unlink(name);
}

static void by_exit_handler(void)
{
	printf("from the exit handler\n");
}

/* What is still in a buffer when the program ends is handed over. */
static void ends(void)
{
	struct kid kid;
	int port, l = listen_any(&port);

	for (int i = 0; i < 4; i++) {
		if (spawn_kid(&kid)) {
			close(l);
			int c = dial(port);
			if (i == 2)
				settle();
			if (i < 3) {
				FILE *f = fdopen(c, "w");
				setvbuf(f, NULL, _IOFBF, 1 << 19);
				fill(large, sizeof large, 9);
				fputs("unflushed", f);
				if (i > 0)
					fwrite(large, 1, sizeof large, f);
				exit(3);
			}
			dup2(c, 1);
			close(c);
			atexit(by_exit_handler);
			printf("on standard output\n");
			exit(4);
		}
		int fd = MUST(accept(l, NULL, NULL));
		drain("peer", fd);
		T(close(fd));
		reap("program", &kid);
	}
}

static void *reads_for_ever(void *stream)
{
	char line[100];

	while (fgets(line, sizeof line, stream))
		;
	return NULL;
}

/* exit does not wait for a thread that sleeps in a read, holding the lock of its stream; since glibc 2.40 it does. */
static void ends_beside_reader(void)
{
	struct kid kid;
	int port, l = listen_any(&port), minor = 0;

	if (sscanf(gnu_get_libc_version(), "2.%d", &minor) != 1 || minor >= 40)
		return;
	if (spawn_kid(&kid)) {
		pthread_t t;
		close(l);
		int c = dial(port);
		FILE *in = fdopen(c, "r"), *out = fdopen(MUST(dup(c)), "w");
		pthread_create(&t, NULL, reads_for_ever, in);
		fputs("unflushed", out);
		settle();
		exit(0);
	}
	int fd = MUST(accept(l, NULL, NULL));
	drain("peer", fd);
	T(close(fd));
	reap("program", &kid);
}

static void cancelled_read(void)
{
	pthread_t t;
	char line[100] = "";
	void *result;
	int s[2];

	pair(s);
	FILE *f = fdopen(s[1], "r+");
	settle();
	pthread_create(&t, NULL, reads_for_ever, f);
	nap(100);
	T(pthread_cancel(t));
	T(pthread_join(t, &result));
	say("cancelled %d\n", result == PTHREAD_CANCELED);
	T(ftrylockfile(f));
	funlockfile(f);
	T(write(s[0], "after\n", 6));
	T(fgets(line, sizeof line, f) != NULL);
	show("line", line, (long)strlen(line));
	T(fclose(f));
	drain("peer", s[0]);
	T(close(s[0]));
}

/* Gone by other calls than close: what was written before the peer has even accepted is not lost. */
static void replaced(void)
{
	int port, l = listen_any(&port), file = MUST(open("/dev/null", O_RDWR)), s[2];

	l = MUST(dup2(l, 40));
	for (int i = 0; i < 7; i++) {
		s[0] = MUST(dup2(dial(port), 60));
		if (i == 6)
			s[1] = MUST(accept(l, NULL, NULL));
		if (i > 0 && i < 4)
			settle();
		fill(large, sizeof large, 5);
		T(write(s[0], large, 50000));
		close_range(3, 39, 0);
		file = MUST(open("/dev/null", O_RDWR));
		if (i % 3 == 0)
			T(dup2(file, s[0]) == s[0]);
		else if (i % 3 == 1)
			T(close_range((unsigned)s[0], 80, 0));
		else
			closefrom(s[0]);
		if (i < 6)
			s[1] = MUST(accept(l, NULL, NULL));
		drain("peer", s[1]);
		T(close(s[1]));
		T(write(s[0], "x", 1));
		T(close(s[0]));
	}
	pair(s);
	T(dup2(99, s[0]));
	T(dup3(file, s[0], O_APPEND));
	T(write(s[0], "still here", 10));
	take("peer", s[1], 10);
	T(close(s[0]));
	drain("peer", s[1]);
	T(close(s[1]));
	T(close(l));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"reopened", reopened},
		{"ends", ends},
		{"ends_beside_reader", ends_beside_reader},
		{"cancelled_read", cancelled_read},
		{"replaced", replaced},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
