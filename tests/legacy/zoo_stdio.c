/*
 * Streams on sockets: libc's stdio in all the ways programs use it on a connection, within one process.
 */
#include "zoo.h"

#include <pthread.h>
#include <wchar.h>

static char large[400000];

/* Say what the stream thinks of itself. */
static void state(const char *name, FILE *f)
{
	say("%s: eof %d error %d fileno %s\n", name, !!feof(f), !!ferror(f), fileno(f) >= 0 ? "valid" : "none");
}

/* Everything there is now, without waiting for an end. */
static void take(const char *name, int fd, long expected)
{
	long n = read_full(fd, large, (size_t)expected);

	show(name, large, n);
}

static void both_ways(void)
{
	char line[200] = "", word[20] = "", *more = NULL;
	size_t size = 0;
	int s[2], number = 0;

	pair(s);
	FILE *f = fdopen(s[1], "r+");
	T(fprintf(f, "%s %d\n", "hello", 1));
	T(fflush(f));
	take("peer", s[0], 8);
	T(write(s[0], "one\ntwo 2\nthree\nfour", 20));
	T(fseek(f, 0, SEEK_CUR));
	T(fgets(line, sizeof line, f) != NULL);
	show("line", line, (long)strlen(line));
	T(fscanf(f, "%19s %d\n", word, &number));
	say("scanned %s %d\n", word, number);
	T(getline(&more, &size, f));
	show("getline", more, (long)strlen(more));
	T(getc(f));
	T(ungetc('F', f));
	T(fread(line, 1, 4, f));
	show("fread", line, 4);
	settle();
	T(fseek(f, 0, SEEK_SET));
	T(ftell(f));
	state("stream", f);
	T(fputs("unflushed", f));
	T(putc('!', f));
	T(fwrite("1234567890", 5, 2, f));
	T(fclose(f));
	drain("peer", s[0]);
	T(close(s[0]));
	free(more);
}

/* Each buffering, and a write much larger than any buffer. */
static void buffering(void)
{
	int s[2];

	for (int mode = 0; mode < 3; mode++) {
		pair(s);
		FILE *f = fdopen(s[1], "w");
		T(setvbuf(f, NULL, mode == 0 ? _IONBF : mode == 1 ? _IOLBF : _IOFBF, mode == 2 ? 64 : 0));
		T(fputs("begins", f));
		if (mode == 0)
			take("unbuffered", s[0], 6);
		T(fputs(" and ends\nthen", f));
		if (mode == 1)
			take("line", s[0], 16);
		fill(large, sizeof large, 3);
		T(fwrite(large, 1, 200000, f));
		state("stream", f);
		T(fclose(f));
		drain("rest", s[0]);
		T(close(s[0]));
	}
}

static void two_streams(void)
{
	char line[100] = "";
	int s[2];

	pair(s);
	FILE *in = fdopen(s[1], "r"), *out = fdopen(MUST(dup(s[1])), "w");
	FILE *peer = fdopen(s[0], "r+");
	for (int i = 0; i < 3; i++) {
		T(fprintf(peer, "request %d\n", i));
		T(fflush(peer));
		T(fgets(line, sizeof line, in) != NULL);
		T(fprintf(out, "answer to %s", line));
		T(fflush(out));
		T(fseek(peer, 0, SEEK_CUR));
		T(fgets(line, sizeof line, peer) != NULL);
		show("answer", line, (long)strlen(line));
		T(fseek(peer, 0, SEEK_CUR));
		nap(150);
	}
	T(fputs("the last words", out));
	T(fclose(out));
	T(fclose(in));
	T(fgets(line, sizeof line, peer) != NULL);
	show("last", line, (long)strlen(line));
	T(fgets(line, sizeof line, peer) != NULL);
	state("peer", peer);
	T(fclose(peer));
}

static void wide(void)
{
	wchar_t line[100] = L"";
	int s[2];

	pair(s);
	FILE *f = fdopen(s[1], "r+");
	T(fwide(f, 1) > 0);
	T(fwprintf(f, L"wide %d\n", 7));
	T(fflush(f));
	take("peer", s[0], 7);
	T(write(s[0], "back again\n", 11));
	T(fseek(f, 0, SEEK_CUR));
	T(fgetws(line, 100, f) != NULL);
	say("line %ls", line);
	T(fputws(L"the end", f));
	T(fclose(f));
	drain("peer", s[0]);
	T(close(s[0]));
}

/* The fortified name is called as the compiler would. */
extern int __dprintf_chk(int fd, int flag, const char *format, ...);

__attribute__((format(printf, 2, 3))) static int by_list(int fd, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int n = vdprintf(fd, format, ap);
	va_end(ap);
	return n;
}

static void print_to_descriptor(void)
{
	struct linger now = {1, 0};
	int s[2];

	pair(s);
	T(dprintf(s[1], "number %d, text %s, float %.3f, long %ld\n", 5, "five", 5.5, 5L));
	T(by_list(s[1], "%*d|%-5s|%c\n", 6, 42, "ab", 'x'));
	T(__dprintf_chk(s[1], 1, "%s %d\n", "checked", 3));
	T(dprintf(s[1], "%s", ""));
	errno = ENOENT;
	int n = dprintf(s[1], "%m %2000s|\n", "padded");
	say("padded %d\n", n);
	memset(large, 'y', 150000);
	large[150000] = 0;
	T(dprintf(s[1], "%s\n", large));
	settle();
	T(shutdown(s[1], SHUT_WR));
	drain("peer", s[0]);
	signal(SIGPIPE, SIG_IGN);
	T(dprintf(s[1], "too late\n"));
	T(close(s[0]));
	T(close(s[1]));
	pair(s);
	T(dprintf(s[1], "in time\n"));
	take("peer", s[0], 8);
	setsockopt(s[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
	T(close(s[0]));
	nap(50);
	T(dprintf(s[1], "much too late\n"));
	T(dprintf(-1, "nowhere\n"));
	T(close(s[1]));
}

/* The socket as 0, 1 and 2 of an ordinary program. */
static void standard(void)
{
	char line[100] = "";
	int s[2], number = 0;

	zoo_out = MUST(fcntl(1, F_DUPFD_CLOEXEC, 90));
	pair(s);
	int keep = MUST(fcntl(s[0], F_DUPFD, 80));
	close(s[0]);
	for (int fd = 0; fd < 3; fd++)
		T(dup2(s[1], fd));
	if (s[1] > 2)
		T(close(s[1]));
	T(write(keep, "first\n17 word\nz", 15));
	T(printf("printf %d\n", 1));
	T(puts("puts"));
	T(putchar('c'));
	T(fflush(stdout));
	T(fgets(line, sizeof line, stdin) != NULL);
	show("fgets", line, (long)strlen(line));
	T(scanf("%d %99s\n", &number, line));
	say("scanf %d %s\n", number, line);
	T(getchar());
	errno = EAGAIN;
	perror("perror");
	fprintf(stderr, "to stderr\n");
	errno = EPERM;
	perror(NULL);
	psignal(SIGTERM, "psignal");
	settle();
	T(fclose(stdin));
	T(fcloseall());
	T(close(2));
	T(close(1));
	drain("peer", keep);
	T(close(keep));
}

/* Streams that would like to map their file. */
static void mapped(void)
{
	char line[100] = "";
	int s[2];

	for (int i = 0; i < 2; i++) {
		pair(s);
		FILE *f = fdopen(s[1], "rm");
		T(write(s[0], "line\n", 5));
		if (i == 0) {
			T(fgets(line, sizeof line, f) != NULL);
			show("line", line, (long)strlen(line));
		} else {
			T(recv(s[1], line, 5, 0));
		}
		T(fclose(f));
		drain("peer", s[0]);
		T(close(s[0]));
	}
}

static void *writes_lines(void *stream)
{
	for (int i = 0; i < 500; i++)
		fprintf(stream, "%d line of some length %d\n", fileno(stream), i);
	return NULL;
}

static void threads(void)
{
	pthread_t t[3];
	char line[100];
	int s[2], lines = 0, whole = 0;

	pair(s);
	FILE *f = fdopen(s[1], "w"), *peer = fdopen(s[0], "r");
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, writes_lines, f);
	while (lines < 1500 - 200 && fgets(line, sizeof line, peer)) {
		int who, number;
		lines++;
		whole += sscanf(line, "%d line of some length %d\n", &who, &number) == 2 && who == s[1];
	}
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	T(fclose(f));
	while (fgets(line, sizeof line, peer))
		lines++;
	say("lines %d, whole %d\n", lines, whole);
	state("peer", peer);
	T(fclose(peer));
}

static void on_alarm(int sig)
{
	say("signal %s\n", sigabbrev_np(sig));
}

static void interrupted(void)
{
	struct sigaction act = {.sa_handler = on_alarm};
	struct timeval limit = {.tv_usec = 200000};
	char line[100] = "";
	int s[2];

	sigaction(SIGALRM, &act, NULL);
	pair(s);
	FILE *f = fdopen(s[1], "r");
	settle();
	ualarm(200000, 0);
	T(fgets(line, sizeof line, f) != NULL);
	state("stream", f);
	clearerr(f);
	T(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	T(fgets(line, sizeof line, f) != NULL);
	state("stream", f);
	clearerr(f);
	T(fcntl(s[1], F_SETFL, O_NONBLOCK));
	T(fgets(line, sizeof line, f) != NULL);
	state("stream", f);
	clearerr(f);
	T(write(s[0], "a line\n", 7));
	nap(50);
	T(fgets(line, sizeof line, f) != NULL);
	show("line", line, (long)strlen(line));
	T(shutdown(s[0], SHUT_WR));
	nap(50);
	T(fgets(line, sizeof line, f) != NULL);
	state("stream", f);
	T(fclose(f));
	T(close(s[0]));
}

static pthread_barrier_t together;

static void *first_connection(void *right)
{
	struct linger now = {1, 0};
	char line[50] = "";
	int port, l = listen_any(&port);

	pthread_barrier_wait(&together);
	FILE *f = fdopen(dial(port), "w");
	fprintf(f, "hello %d\n", 1);
	fflush(f);
	FILE *g = fdopen(MUST(accept(l, NULL, NULL)), "r+");
	*(int *)right += fgets(line, sizeof line, g) && !strcmp(line, "hello 1\n");
	fseek(g, 0, SEEK_CUR);
	fputs("back\n", g);
	setsockopt(fileno(f), SOL_SOCKET, SO_LINGER, &now, sizeof now);
	fclose(g);
	fclose(f);
	close(l);
	return NULL;
}

/* The first connections of a program, all in one moment. */
static void first_together(void)
{
	pthread_t t[8];
	int right[8] = {0}, sum = 0;

	pthread_barrier_init(&together, NULL, 8);
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, first_connection, &right[i]);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		sum += right[i];
	}
	say("right %d\n", sum);
}

/* Pipes beside a connection are as they always were. */
static void filters(void)
{
	char line[100] = "";
	int s[2];

	pair(s);
	FILE *f = fdopen(s[1], "w"), *p = popen("echo through a pipe | tr a-z A-Z", "r");
	T(fgets(line, sizeof line, p) != NULL);
	T(fputs(line, f));
	T(pclose(p));
	p = popen("cat >/dev/null", "w");
	T(fputs(line, p));
	T(pclose(p));
	FILE *t = tmpfile();
	T(fputs("in a file", t));
	rewind(t);
	T(fgets(line, sizeof line, t) != NULL);
	T(fputs(line, f));
	T(fclose(t));
	T(fclose(f));
	drain("peer", s[0]);
	T(close(s[0]));
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"both_ways", both_ways},
		{"buffering", buffering},
		{"two_streams", two_streams},
		{"wide", wide},
		{"print_to_descriptor", print_to_descriptor},
		{"low_numbers_standard", standard},
		{"mapped", mapped},
		{"threads", threads},
		{"interrupted", interrupted},
		{"first_together", first_together},
		{"filters", filters},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
