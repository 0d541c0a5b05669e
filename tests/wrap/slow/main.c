/*
 * A connection, wrapped at both ends, is closed by one thread while another sleeps in a read of it, who leaves (EINTR)
 * when the close is half done.  The close must find it open; and nothing else is closed in its place.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

extern int slow_close;
static int near, far;

static void nap(long ms)
{
	const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&pause, NULL);
}

static void handler(int sig)
{
	(void)sig;
}

static void *reader(void *arg)
{
	char byte;

	(void)arg;
	if (read(near, &byte, 1) >= 0 || errno != EINTR)
		printf("not ok slow-close: the reader is not interrupted (%s)\n", strerror(errno));
	return NULL;
}

static void *closer(void *arg)
{
	int *result = arg;

	*result = close(near) == 0 ? 0 : errno;
	return NULL;
}

int main(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sigaction act = {.sa_handler = handler};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), result = -1;
	pthread_t reads, closes;
	char word[4];
	ssize_t end;

	alarm(30);
	sigaction(SIGUSR1, &act, NULL);
	bind(listener, (struct sockaddr *)&addr, len);
	listen(listener, 1);
	getsockname(listener, (struct sockaddr *)&addr, &len);
	near = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(near, (struct sockaddr *)&addr, len) < 0 || (far = accept(listener, NULL, NULL)) < 0 ||
	    write(near, "ping", 4) != 4 || recv(far, word, 4, MSG_WAITALL) != 4 || write(far, "pong", 4) != 4 ||
	    recv(near, word, 4, MSG_WAITALL) != 4) {
		printf("not ok slow-close: no connection (%s)\n", strerror(errno));
		return 1;
	}
	pthread_create(&reads, NULL, reader, NULL);
	nap(300);
	slow_close = near;
	pthread_create(&closes, NULL, closer, &result);
	nap(200);
	pthread_kill(reads, SIGUSR1);
	pthread_join(reads, NULL);
	pthread_join(closes, NULL);
	printf("%s slow-close: the close finds it open%s%s\n", result == 0 ? "ok" : "not ok", result == 0 ? "" : ": ",
	       result == 0 ? "" : strerror(result));
	end = recv(far, word, 4, 0);
	printf("%s slow-close: and the peer its end\n", end == 0 ? "ok" : "not ok");
	return 0;
}
