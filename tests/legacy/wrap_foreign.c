/*
 * Connections that come to programs the library cannot be in.
 *
 *   wrap_foreign peer PORT-FILE          listens, accepts one, echoes, says how it ended
 *   wrap_foreign exec N NUMBER PROGRAM   connects, forks; the child executes PROGRAM with the connection as NUMBER;
 * N=1: the parent goes on, N=0: it has closed it before wrap_foreign spawn PROGRAM           as descriptors 0 and 1, by
 * posix_spawn wrap_foreign pass PATH               connects, sends the connection to whoever listens at PATH
 *   wrap_foreign lend PATH               the same, and goes on with it when the other has ended
 *   wrap_foreign take PATH               listens there, receives, reads what comes
 * All but peer read the port from the environment.
 */
#include "zoo_peer.h"

#include <spawn.h>
#include <sys/un.h>

extern char **environ;

static int port(void)
{
	const char *text = getenv("FOREIGN_PORT");

	return text ? atoi(text) : 0;
}

static void serve(const char *path)
{
	int number, l = listen_any(&number), file = MUST(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
	char text[16];

	MUST(write(file, text, (size_t)sprintf(text, "%d\n", number)));
	MUST(close(file));
	echo(MUST(accept(l, NULL, NULL)));
}

static void run_static(bool goes_on, int number, char *program)
{
	int fd = dial(port()), status;
	pid_t pid;

	exchange("before", fd);
	pid = MUST(fork());
	if (pid == 0) {
		if (number != fd)
			MUST(dup2(fd, number));
		close(fd != number ? fd : -1);
		execl(program, program, NULL);
		_exit(127);
	}
	if (!goes_on)
		close(fd);
	MUST(waitpid(pid, &status, 0));
	say_status("program", status);
	if (!goes_on)
		return;
	exchange("after", fd);
	settle();
	exchange("later", fd);
	close(fd);
}

static void spawn_static(char *program)
{
	posix_spawn_file_actions_t act;
	int fd = dial(port()), status;
	pid_t pid;

	exchange("before", fd);
	MUST(fcntl(fd, F_SETFD, FD_CLOEXEC));
	posix_spawn_file_actions_init(&act);
	MUST(-posix_spawn(&pid, program, NULL, NULL, (char *[]){program, NULL}, environ));
	MUST(waitpid(pid, &status, 0));
	say_status("program", status);
	exchange("after", fd);
	close(fd);
}

static struct sockaddr_un at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	return a;
}

static void pass(const char *path, bool goes_on)
{
	struct sockaddr_un a = at(path);
	int fd = dial(port()), over = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	char control[CMSG_SPACE(sizeof fd)] = "", byte = 'd';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	exchange("before", fd);
	MUST(connect(over, SA(&a), sizeof a));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	MUST(sendmsg(over, &msg, 0));
	say("passed\n");
	MUST(read(over, &byte, 1));
	if (goes_on) {
		say("then %zd\n", read(over, &byte, 1));
		exchange("after", fd);
		settle();
		exchange("later", fd);
	}
	close(fd);
}

static void take(const char *path)
{
	struct sockaddr_un a = at(path);
	int l = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), over, fd = -1;
	char control[CMSG_SPACE(sizeof fd)], byte, buf[100];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

	MUST(bind(l, SA(&a), sizeof a));
	MUST(listen(l, 1));
	over = MUST(accept(l, NULL, NULL));
	MUST(recvmsg(over, &msg, 0));
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
	errno = 0;
	ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT); /* O_NONBLOCK would be the lender's too */
	say("taken: read %s\n", n >= 0 ? "bytes" : strerrorname_np(errno));
	settle();
	MUST(write(over, "", 1));
}

int main(int argc, char **argv)
{
	alarm(30);
	zoo_argv = argv;
	if (argc == 3 && !strcmp(argv[1], "peer"))
		serve(argv[2]);
	else if (argc == 5 && !strcmp(argv[1], "exec"))
		run_static(*argv[2] == '1', atoi(argv[3]), argv[4]);
	else if (argc == 3 && !strcmp(argv[1], "spawn"))
		spawn_static(argv[2]);
	else if (argc == 3 && !strcmp(argv[1], "pass"))
		pass(argv[2], false);
	else if (argc == 3 && !strcmp(argv[1], "lend"))
		pass(argv[2], true);
	else if (argc == 3 && (!strcmp(argv[1], "take")))
		take(argv[2]);
	else
		return 2;
	return 0;
}
