/*
 * A client whose connection several processes have open, none of which uses it for long.
 *
 *   holders [-c] [-e] [-x] ADDRESS PORT PROCESSES SECONDS
 *
 *   -c         the original closes its descriptor at once, and lives on
 *   -e         the original ends at once
 *   -x         the children execute another image, which sleeps
 *
 * After SECONDS each process that has it still, one after the other, sends a line and reads it back: "answered N OK" or
 * the error.  Lines: "holders PID...", the original first; "ready PID FD".
 */
#include "labutil.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <sys/wait.h>

enum { MOST = 8, TURN_MS = 400 };

static void exchange(int fd, int index)
{
	char line[32], back[32];
	size_t got = 0, size = (size_t)snprintf(line, sizeof(line), "line of holder %d\n", index);
	ssize_t n = send(fd, line, size, MSG_NOSIGNAL);

	errno = n < 0 ? errno : 0;
	while (n > 0 && got < size && (n = recv(fd, back + got, size - got, 0)) > 0)
		got += (size_t)n;
	if (n > 0 && memcmp(line, back, size) == 0)
		say("answered %d OK\n", index);
	else
		say("answered %d %s\n", index, n == 0 ? "EOF" : n > 0 ? "DIFFERENT" : error_name(errno));
}

static void hold(int fd, int index, long seconds)
{
	nap_ms(seconds * 1000 + index * TURN_MS);
	exchange(fd, index);
}

static int dial(const char *address, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *to;
	int fd;

	if (getaddrinfo(address, port, &hints, &to) != 0)
		give_up("getaddrinfo");
	fd = socket(to->ai_family, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0)
		give_up("connect");
	freeaddrinfo(to);
	return fd;
}

int main(int argc, char **argv)
{
	int closes = 0, ends = 0, executes = 0, option, fd, all;
	pid_t pids[MOST];
	char text[200] = "holders";
	long seconds;

	if (argc == 5 && !strcmp(argv[1], "heir")) {
		hold(atoi(argv[2]), atoi(argv[3]), atol(argv[4]));
		return 0;
	}
	while ((option = getopt(argc, argv, "cex")) != -1) {
		closes |= option == 'c';
		ends |= option == 'e';
		executes |= option == 'x';
	}
	argv += optind;
	if (argc - optind != 4)
		return 2;
	fd = dial(argv[0], argv[1]);
	all = atoi(argv[2]);
	seconds = atol(argv[3]);
	pids[0] = getpid();
	say("ready %d %d\n", (int)pids[0], fd);
	exchange(fd, 99);
	for (int i = 1; i < all && i < MOST; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			give_up("fork");
		if (pids[i] != 0)
			continue;
		if (executes) {
			char number[12], index[12];

			snprintf(number, sizeof(number), "%d", fd);
			snprintf(index, sizeof(index), "%d", i);
			execl("/proc/self/exe", "holders", "heir", number, index, argv[3], NULL);
			give_up("exec");
		}
		hold(fd, i, seconds);
		exit(0);
	}
	for (int i = 0; i < all && i < MOST; i++)
		sprintf(text + strlen(text), " %d", (int)pids[i]);
	say("%s\n", text);
	if (ends)
		return 0;
	if (closes)
		close(fd);
	else
		hold(fd, 0, seconds);
	while (wait(NULL) > 0)
		;
	say("all ended\n");
	return 0;
}
