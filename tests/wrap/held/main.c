/*
 * What a call of the program's meets beside a call of the library's that is under way, or the other way round: each
 * case names the call that is held (hold.h).
 */
#include "hold.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int listener;
static struct sockaddr_in address = {.sin_family = AF_INET};

static void nap(long ms)
{
	const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&pause, NULL);
}

static int say(bool good, const char *what)
{
	int error = errno;

	printf("%s held: %s%s%s\n", good ? "ok" : "not ok", what, good ? "" : ": ", good ? "" : strerror(error));
	fflush(stdout);
	return good ? 0 : 1;
}

/* A call is held: the first argument of it; -1: none is, for five seconds. */
static int wait_held(void)
{
	int which = -1;

	for (int i = 0; i < 1000 && (which = close(HOLD_WHICH)) < 0; i++)
		nap(5);
	return which;
}

static void *later(void *ms)
{
	nap((long)(intptr_t)ms);
	close(HOLD_GO);
	return NULL;
}

/* It goes on in so many milliseconds. */
static pthread_t go_on_in(long ms)
{
	pthread_t thread;

	pthread_create(&thread, NULL, later, (void *)(intptr_t)ms);
	return thread;
}

/* Both ends of a connection over which a word has gone each way. */
static void connection(int *near, int *far)
{
	char word[4];

	*near = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*near, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    (*far = accept(listener, NULL, NULL)) < 0 || write(*near, "ping", 4) != 4 ||
	    recv(*far, word, 4, MSG_WAITALL) != 4 || write(*far, "pong", 4) != 4 ||
	    recv(*near, word, 4, MSG_WAITALL) != 4) {
		printf("not ok held: no connection (%s)\n", strerror(errno));
		exit(1);
	}
}

static bool speaks(int from, int to)
{
	char word[4] = "";
	struct pollfd p = {.fd = to, .events = POLLIN};

	errno = 0;
	return write(from, "word", 4) == 4 && poll(&p, 1, 3000) == 1 && recv(to, word, 4, MSG_WAITALL) == 4 &&
	       memcmp(word, "word", 4) == 0;
}

static bool is_null(int fd)
{
	struct stat here, there;

	return fstat(fd, &here) == 0 && stat("/dev/null", &there) == 0 && here.st_rdev == there.st_rdev &&
	       here.st_ino == there.st_ino;
}

/* The watchdog closes the duplicate it kept of a connection; the program puts something of its own there. */
static int kept(void)
{
	int near, far, null = open("/dev/null", O_RDWR), which, bad;
	pthread_t thread;

	connection(&near, &far);
	close(HOLD_HIGH_CLOSE);
	/* Too little room for it to arrive at once: what is on its way is drained behind the program's back. */
	for (int i = 0; i < 20; i++)
		(void)send(near, "something that takes its time", 29, MSG_DONTWAIT);
	close(near);
	which = wait_held();
	if (which < 0)
		return say(false, "the duplicate that was kept is closed");
	thread = go_on_in(100);
	errno = 0;
	bad = say(dup2(null, which) == which, "the program puts a file where the library's duplicate is being closed");
	pthread_join(thread, NULL);
	nap(100);
	bad += say(is_null(which), "and finds it there");
	close(far);
	return bad;
}

/* A fork, while the watchdog has a duplicate for a moment: the child must not have it. */
static int grip(void)
{
	int near, far, which, status = 0;
	pthread_t thread;
	pid_t pid;

	connection(&near, &far);
	close(HOLD_HIGH_CLOSE);
	/* Nobody answers: HOLDFAST_REPLY_TIMEOUT. */
	(void)write(near, "anybody?", 8);
	which = wait_held();
	if (which < 0)
		return say(false, "the watchdog ends the connection");
	thread = go_on_in(60);
	pid = fork();
	if (pid == 0)
		_exit(fcntl(which, F_GETFD) < 0 && errno == EBADF ? 0 : 1);
	pthread_join(thread, NULL);
	(void)waitpid(pid, &status, 0);
	errno = 0;
	return say(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child has nothing of what the watchdog holds");
}

static void *sweep(void *arg)
{
	const int *range = arg;

	if (close_range((unsigned)range[0], (unsigned)range[1], 0) < 0)
		perror("# close_range");
	return NULL;
}

enum { HIGH = 100 };

/* Numbers that close_range(2) has closed already are opened again while it goes on. */
static int range_again(void)
{
	int near, far, other, null = open("/dev/null", O_RDWR), range[2] = {HIGH, HIGH + 4}, bad;
	pthread_t thread;

	connection(&near, &far);
	/* A wrapped connection, then a file. */
	if (dup2(near, HIGH) != HIGH || dup2(null, HIGH + 3) != HIGH + 3)
		return say(false, "numbers of its own");
	close(near);
	close(HOLD_CLOSE_RANGE);
	pthread_create(&thread, NULL, sweep, range);
	if (wait_held() < 0) {
		pthread_join(thread, NULL);
		return say(false, "close_range is held");
	}
	other = fcntl(null, F_DUPFD, HIGH);
	close(HOLD_GO);
	pthread_join(thread, NULL);
	errno = 0;
	bad = other == HIGH ? say(is_null(other), "close_range closes no number twice")
			    : say(false, "the connection goes first");
	close(far);
	return bad;
}

/* The same of a connection: what is opened behind close_range(2) is not forgotten when it ends. */
static int range_forgets(void)
{
	int near, far, other, null = open("/dev/null", O_RDWR), range[2] = {HIGH, 0x7fffffff}, bad;
	pthread_t thread;

	connection(&near, &far);
	if (dup2(null, HIGH) != HIGH)
		return say(false, "numbers of its own");
	/* The first takes what is below the library's own, the second what is above. */
	close(HOLD_PASS);
	close(HOLD_CLOSE_RANGE);
	pthread_create(&thread, NULL, sweep, range);
	if (wait_held() < 0) {
		pthread_join(thread, NULL);
		return say(false, "the second close_range is held");
	}
	other = fcntl(near, F_DUPFD, HIGH);
	close(near);
	close(HOLD_GO);
	pthread_join(thread, NULL);
	nap(300);
	if (other != HIGH)
		return say(false, "the number is free");
	bad = say(speaks(other, far) && speaks(far, other), "close_range does not forget what was opened behind it");
	close(other);
	bad += say(recv(far, range, 1, 0) == 0, "and it ends as ever");
	return bad;
}

static volatile int closed;

static void *close_it(void *fd)
{
	closed = close((int)(intptr_t)fd) == 0 ? 1 : -1;
	return NULL;
}

/*
 * A close, while the watchdog looks at the connection: its system call has the socket open, and with it whatever it is
 * registered for, until it returns (epoll(7) would tell of a connection that the program has closed and forgotten).
 */
static int look(void)
{
	int near, far, which, bad;
	pthread_t thread;

	connection(&near, &far);
	close(HOLD_LOOK);
	which = wait_held();
	if (which < 0)
		return say(false, "the watchdog looks");
	pthread_create(&thread, NULL, close_it, (void *)(intptr_t)which);
	nap(200);
	errno = 0;
	bad = say(closed == 0, "a close waits for a look that is under way");
	close(HOLD_GO);
	pthread_join(thread, NULL);
	return bad + say(closed == 1, "and then closes");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {{"kept", kept},
		     {"grip", grip},
		     {"range-again", range_again},
		     {"range-forgets", range_forgets},
		     {"look", look}};
	socklen_t len = sizeof(address);

	alarm(30);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 4) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0)
		return say(false, "a listener");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (argc == 2 && strcmp(argv[1], cases[i].name) == 0)
			return cases[i].run() != 0;
	return 2;
}
