/*
 * Scripts that a random search has found (and then cut short): calls that are rarely made together.
 */
#include "duet.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

/* Messages of nothing before, between and behind others: each is a call of its own, and the others are framed. */
SCRIPT(empty_messages)
{
	static char text[] = "onetwothree";
	struct iovec one = {text, 3}, two = {text + 3, 3}, none = {text, 0};
	struct mmsghdr msgs[] = {{.msg_hdr = {.msg_iov = &none, .msg_iovlen = 1}},
				 {.msg_hdr = {.msg_iov = &one, .msg_iovlen = 1}},
				 {.msg_hdr = {.msg_iov = NULL, .msg_iovlen = 0}},
				 {.msg_hdr = {.msg_iov = &two, .msg_iovlen = 1}},
				 {.msg_hdr = {.msg_iov = &none, .msg_iovlen = 1}}};

	link_up();
	CLIENT
	{
		T(sendmmsg(fd, msgs, 5, 0));
		for (int i = 0; i < 5; i++)
			say("  %u", msgs[i].msg_len);
		T(sendmmsg(fd, msgs, 1, 0));
	}
	SERVER READ(buf, recv(fd, buf, 100, 0));
	BOTH rest();
	CLIENT T(write(fd, "still", 5));
	SERVER READ(buf, recv(fd, buf, 100, 0));
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
		T(sendmmsg(fd, msgs, 5, MSG_NOSIGNAL));
	}
}

/* A look that waits for all of it, across frames, beats, a signal, a time limit and the end. */
SCRIPT(peek_all)
{
	link_up();
	CLIENT T(write(fd, "abc", 3));
	SERVER
	{
		let_go();
		READ(buf, recv(fd, buf, 7, MSG_PEEK | MSG_WAITALL));
		READ(buf, recv(fd, buf, 7, MSG_WAITALL));
	}
	CLIENT
	{
		rest();
		T(write(fd, "de", 2));
		rest();
		T(write(fd, "fghij", 5));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 7, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT));
		catch_signal(SIGALRM, SA_RESTART);
		alarm_in(300);
		TIMED(250, 2000, READ(buf, recv(fd, buf, 7, MSG_PEEK | MSG_WAITALL)));
		set_time(SO_RCVTIMEO, 300);
		TIMED(250, 2000, READ(buf, recv(fd, buf, 7, MSG_PEEK | MSG_WAITALL)));
		set_time(SO_RCVTIMEO, 0);
		set_int(SOL_SOCKET, SO_RCVLOWAT, 5);
		let_go();
		READ(buf, recv(fd, buf, 100, MSG_PEEK));
		READ(buf, recv(fd, buf, 100, MSG_PEEK | MSG_WAITALL));
		READ(buf, recv(fd, buf, 100, 0));
	}
	CLIENT
	{
		rest();
		T(write(fd, "kl", 2));
		rest();
		T(shutdown(fd, SHUT_WR));
	}
	SERVER READ(buf, recv(fd, buf, 7, MSG_PEEK | MSG_WAITALL));
}

/* As much is thrown away as was asked for, if it has to be waited for. */
SCRIPT(discard_all)
{
	link_up();
	CLIENT
	{
		fill(buf, 6000, 0);
		T(write(fd, buf, 6000));
	}
	SERVER
	{
		let_go();
		T(recv(fd, NULL, 10000, MSG_TRUNC | MSG_WAITALL));
		READ(buf, recv(fd, buf, 100, MSG_DONTWAIT));
	}
	CLIENT
	{
		rest();
		fill(buf, 4005, 6000);
		T(write(fd, buf, 4005));
	}
}

static void *writer(void *unused)
{
	static char much[1 << 22];
	ssize_t n = send(fd, much, sizeof much, MSG_NOSIGNAL);

	(void)unused;
	return n > 0 && n < (ssize_t)sizeof much ? "some" : n < 0 ? "none" : "all";
}

/* How much is not the same each time. */
static void read_all(void)
{
	long total = 0;
	ssize_t n;

	while ((n = read(fd, buf, 4096)) > 0)
		total += n;
	say("read %s, then %ld", total > 4096 ? "much" : "little", (long)n);
}

/* shutdown(2) wakes who sleeps in a write, and what the kernel has taken arrives, then the end. */
static void write_cut_short(int how)
{
	pthread_t thread;
	void *result;

	link_up_small();
	CLIENT
	{
		MUST(-pthread_create(&thread, NULL, writer, NULL));
		rest();
		TIMED(0, 100, T(shutdown(fd, how)));
		MUST(-pthread_join(thread, &result));
		say("send: %s", (char *)result);
		T(send(fd, "more", 4, MSG_NOSIGNAL));
		if (how == SHUT_RDWR)
			READ(buf, recv(fd, buf, 10, 0));
		rest();
	}
	SERVER read_all();
}

SCRIPT(write_ended)
{
	write_cut_short(SHUT_WR);
}

SCRIPT(write_and_read_ended)
{
	write_cut_short(SHUT_RDWR);
}

/* Each direction by a call of its own, or both twice: a read says the end, and what the kernel has taken arrives. */
static void write_cut_short_and(int how, int then)
{
	pthread_t thread;
	void *result;

	link_up_small();
	CLIENT
	{
		MUST(-pthread_create(&thread, NULL, writer, NULL));
		rest();
		TIMED(0, 100, T(shutdown(fd, how)));
		MUST(-pthread_join(thread, &result));
		say("send: %s", (char *)result);
		TIMED(0, 100, T(shutdown(fd, then)));
		ready(POLLIN, 0);
		catch_signal(SIGALRM, 0);
		alarm_in(5000);
		READ(buf, recv(fd, buf, 10, 0));
		alarm_in(0);
		rest();
	}
	SERVER read_all();
}

SCRIPT(write_ended_then_read)
{
	write_cut_short_and(SHUT_WR, SHUT_RD);
}

SCRIPT(both_ended_then_read)
{
	write_cut_short_and(SHUT_RDWR, SHUT_RD);
}

static void *in_read(void *unused)
{
	char byte;

	(void)unused;
	return recv(fd, &byte, 1, 0) == 0 ? "the end" : "no end";
}

static void *in_select(void *unused)
{
	struct timeval limit = {5, 0};
	fd_set in;

	(void)unused;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	return select(fd + 1, &in, NULL, NULL, &limit) == 1 ? "woken" : "not woken";
}

static void *in_epoll(void *unused)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int ep = epoll_create1(0);

	(void)unused;
	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
	return epoll_wait(ep, &event, 1, 5000) == 1 ? "woken" : "not woken";
}

/* One thread sleeps in a write, another in a read or a wait: both come back, and nothing is lost on the way. */
static void both_sleep(void *(*other)(void *))
{
	pthread_t threads[2];
	void *result;

	link_up_small();
	CLIENT
	{
		MUST(-pthread_create(&threads[0], NULL, writer, NULL));
		MUST(-pthread_create(&threads[1], NULL, other, NULL));
		rest();
		TIMED(0, 100, T(shutdown(fd, SHUT_RDWR)));
		MUST(-pthread_join(threads[0], &result));
		say("send: %s", (char *)result);
		MUST(-pthread_join(threads[1], &result));
		say("%s", (char *)result);
		rest();
	}
	SERVER read_all();
}

SCRIPT(write_and_read_sleep)
{
	both_sleep(in_read);
}

SCRIPT(write_and_select_sleep)
{
	both_sleep(in_select);
}

SCRIPT(write_and_epoll_sleep)
{
	both_sleep(in_epoll);
}

/* What is unread behind a reset goes to a process that meets the connection only then. */
SCRIPT(reset_and_passed)
{
	struct linger reset = {1, 0};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control_room;
	struct iovec one = {buf, 1};
	struct msghdr msg = {
		.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control_room, .msg_controllen = sizeof control_room};
	int over[2];
	pid_t pid = 0;

	if (!is_client) {
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
		pid = MUST(fork());
		if (pid == 0) {
			MUST(recvmsg(over[1], &msg, 0));
			memcpy(&fd, CMSG_DATA(&control_room.header), sizeof fd);
			READ(buf, recv(fd, buf, 100, MSG_WAITALL));
			READ(buf, recv(fd, buf, 100, 0));
			_exit(0);
		}
	}
	link_up();
	CLIENT
	{
		T(write(fd, "first frame", 11));
		T(write(fd, "second frame", 12));
		T(write(fd, "third", 5));
		T(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
		T(close(fd));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 3, 0));
		control_room.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control_room.header), &fd, sizeof fd);
		MUST(sendmsg(over[0], &msg, 0));
		MUST(waitpid(pid, NULL, 0));
	}
}

/* An error that one of several messages meets is told by the next call. */
SCRIPT(reset_behind_messages)
{
	struct linger reset = {1, 0};
	struct iovec one = {buf, 5}, two = {buf + 5, 100}, three = {buf + 105, 100};
	struct mmsghdr msgs[] = {{.msg_hdr = {.msg_iov = &one, .msg_iovlen = 1}},
				 {.msg_hdr = {.msg_iov = &two, .msg_iovlen = 1}},
				 {.msg_hdr = {.msg_iov = &three, .msg_iovlen = 1}}};

	link_up();
	SERVER
	{
		let_go();
		T(recvmmsg(fd, msgs, 3, 0, NULL));
		say("  %u %u", msgs[0].msg_len, msgs[1].msg_len);
		READ(buf, recv(fd, buf, 100, 0));
		READ(buf, recv(fd, buf, 100, 0));
	}
	CLIENT
	{
		rest();
		T(write(fd, "hello world", 11));
		rest();
		T(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
		T(close(fd));
	}
}

/* Nor is one lost that a splice meets behind bytes. */
SCRIPT(reset_behind_splice)
{
	struct linger reset = {1, 0};
	int pipes[2];

	link_up();
	CLIENT
	{
		T(write(fd, "hello", 5));
		T(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
		T(close(fd));
	}
	SERVER
	{
		MUST(pipe(pipes));
		T(splice(fd, NULL, pipes[1], NULL, 100, 0));
		READ(buf, read(pipes[0], buf, 100));
		READ(buf, recv(fd, buf, 100, 0));
		READ(buf, recv(fd, buf, 100, 0));
	}
}

/* A program that ends without having closed: its peer learns of it as natively, at once. */
SCRIPT(left_unread)
{
	link_up();
	CLIENT T(write(fd, "hello", 5));
	SERVER
	{
		READ(buf, recv(fd, buf, 1, 0));
		let_go();
		exit(0);
	}
	rest();
	TIMED(0, 100, READ(buf, recv(fd, buf, 10, 0)));
	T(send(fd, "x", 1, MSG_NOSIGNAL));
}

/* Who waits for bytes alone comes for the end, too. */
SCRIPT(left_reset)
{
	struct linger reset = {1, 0};

	link_up();
	SERVER
	{
		T(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
		T(close(fd));
	}
	CLIENT
	{
		struct pollfd p = {.fd = fd, .events = POLLIN};

		T(poll(&p, 1, 5000));
		say("%s to be read", p.revents & POLLIN ? "something" : "nothing");
		READ(buf, recv(fd, buf, 10, 0));
		READ(buf, recv(fd, buf, 10, 0));
	}
}

SCRIPT(left_shut)
{
	link_up();
	SERVER
	{
		T(shutdown(fd, SHUT_RDWR));
		let_go();
		exit(0);
	}
	rest();
	READ(buf, recv(fd, buf, 10, 0));
	T(send(fd, "x", 1, MSG_NOSIGNAL));
	rest();
	TIMED(0, 100, T(send(fd, "x", 1, MSG_NOSIGNAL)));
}

/* Who has shut both directions is not to be written to. */
SCRIPT(written_when_shut)
{
	link_up();
	SERVER
	{
		T(send(fd, "hello", 5, 0));
		T(shutdown(fd, SHUT_RDWR));
	}
	rest();
	CLIENT T(send(fd, "x", 1, MSG_NOSIGNAL));
	rest();
	rest();
	CLIENT
	{
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		READ(buf, recv(fd, buf, 10, 0));
		READ(buf, recv(fd, buf, 10, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
		READ(buf, recv(fd, buf, 10, 0));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(close(fd));
	}
}

/* But what had come before can be read, and is no reason for a reset. */
SCRIPT(unread_when_shut)
{
	link_up();
	CLIENT T(send(fd, "hello", 5, 0));
	SERVER
	{
		READ(buf, recv(fd, buf, 1, 0));
		T(shutdown(fd, SHUT_RDWR));
	}
	rest();
	rest();
	CLIENT READ(buf, recv(fd, buf, 10, 0));
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
		READ(buf, recv(fd, buf, 10, 0));
	}
	rest();
	CLIENT T(shutdown(fd, SHUT_WR));
	rest();
	SERVER T(close(fd));
}

/* The end comes with another program, that was never to have the connection. */
static void leave_by_exec(void)
{
	link_up();
	CLIENT T(write(fd, "hello", 5));
	SERVER
	{
		READ(buf, recv(fd, buf, 1, 0));
		T(fcntl(fd, F_SETFD, FD_CLOEXEC));
	}
}

SCRIPT(left_by_exec)
{
	leave_by_exec();
	SERVER
	{
		READ(buf, recv(fd, buf, 4, 0));
		let_go();
		execl("/bin/true", "true", (char *)NULL);
	}
	rest();
	TIMED(0, 100, READ(buf, recv(fd, buf, 10, 0)));
	T(send(fd, "x", 1, MSG_NOSIGNAL));
}

SCRIPT(left_unread_by_exec)
{
	leave_by_exec();
	SERVER
	{
		let_go();
		execl("/bin/true", "true", (char *)NULL);
	}
	rest();
	TIMED(0, 100, READ(buf, recv(fd, buf, 10, 0)));
	T(send(fd, "x", 1, MSG_NOSIGNAL));
}

/* One that comes to nothing ends nothing. */
SCRIPT(left_by_no_exec)
{
	leave_by_exec();
	SERVER
	{
		execl("/nowhere", "nowhere", (char *)NULL);
		say("%s", strerrorname_np(errno));
		READ(buf, recv(fd, buf, 4, 0));
		T(send(fd, "world", 5, 0));
	}
	CLIENT READ(buf, recv(fd, buf, 10, 0));
	rest();
	CLIENT T(send(fd, "again", 5, 0));
	SERVER READ(buf, recv(fd, buf, 10, 0));
}

DUET_MAIN(PLAY(reset_behind_messages), PLAY(reset_behind_splice), PLAY(empty_messages), PLAY(peek_all),
	  PLAY(discard_all), PLAY(write_ended), PLAY(write_and_read_ended), PLAY(write_ended_then_read),
	  PLAY(both_ended_then_read), PLAY(write_and_read_sleep), PLAY(write_and_select_sleep),
	  PLAY(write_and_epoll_sleep), PLAY(reset_and_passed), PLAY(left_unread), PLAY(left_reset), PLAY(left_shut),
	  PLAY(left_by_exec), PLAY(left_unread_by_exec), PLAY(left_by_no_exec), PLAY(written_when_shut),
	  PLAY(unread_when_shut))
