/*
 * Threads beside each other: one sleeps in a call on a connection, another closes its number or gives it to another.
 */
#include "duet.h"
#include <pthread.h>

/*
 * A thread sleeps in a call on a number that another closes: it sleeps in the connection, whatever comes to stand there
 * (close(2)), also when a heartbeat has woken it.
 */
static int pipes[2];

static ssize_t by_read(void)
{
	return read(fd, buf, 100);
}

static ssize_t by_splice(void)
{
	return splice(fd, NULL, pipes[1], NULL, 100, 0);
}

static ssize_t by_peek(void)
{
	return recv(fd, buf, 100, MSG_PEEK);
}

static ssize_t by_messages(void)
{
	struct iovec one = {buf, 5}, two = {buf + 5, 100};
	struct mmsghdr msgs[] = {{.msg_hdr = {.msg_iov = &one, .msg_iovlen = 1}},
				 {.msg_hdr = {.msg_iov = &two, .msg_iovlen = 1}}};

	return recvmmsg(fd, msgs, 2, 0, NULL);
}

static ssize_t (*sleeps)(void);

static void *sleeper(void *unused)
{
	(void)unused;
	T(sleeps());
	return NULL;
}

/* DUPLICATE: there is one; OTHER: and the number becomes another connection's. */
static void closed_beside(ssize_t (*call)(void), bool duplicate, bool other)
{
	pthread_t thread = 0;
	int copy = -1, second = -1;
	struct address a;

	link_up();
	CLIENT
	{
		let_go();
		if (other) {
			a = loopback(port);
			second = tcp_socket(0);
			MUST(connect(second, SA(&a), a.len));
			MUST(send(second, "?", 1, 0));
		}
	}
	SERVER
	{
		sleeps = call;
		MUST(pipe(pipes));
		if (other) {
			second = accept_one();
			READ(buf, recv(second, buf, 1, 0));
		}
		if (duplicate)
			copy = MUST(dup(fd));
		MUST(-pthread_create(&thread, NULL, sleeper, NULL));
		rest();
		if (other)
			T(dup2(second, fd) == fd);
		else
			T(close(fd));
		rest();
	}
	CLIENT
	{
		if (other)
			T(send(second, "another's", 9, 0));
		rest();
		T(send(fd, "hello", 5, 0));
		rest();
		T(send(fd, "world", 5, 0));
	}
	SERVER
	{
		void *result;

		MUST(-pthread_join(thread, &result));
		rest();
		if (duplicate)
			READ(buf, recv(copy, buf, 100, MSG_DONTWAIT));
		if (other)
			READ(buf, recv(second, buf, 100, MSG_DONTWAIT));
		if (call == by_splice)
			READ(buf, read(pipes[0], buf, 100));
	}
}

SCRIPT(closed_beside_splice)
{
	closed_beside(by_splice, false, false);
}

SCRIPT(closed_beside_peek)
{
	closed_beside(by_peek, false, false);
}

SCRIPT(closed_beside_read)
{
	closed_beside(by_read, true, false);
}

SCRIPT(given_beside_read)
{
	closed_beside(by_read, true, true);
}

SCRIPT(given_beside_splice)
{
	closed_beside(by_splice, true, true);
}

SCRIPT(given_beside_peek)
{
	closed_beside(by_peek, true, true);
}

SCRIPT(given_beside_messages)
{
	closed_beside(by_messages, true, true);
}

DUET_MAIN(PLAY(closed_beside_splice), PLAY(closed_beside_read), PLAY(closed_beside_peek), PLAY(given_beside_read),
	  PLAY(given_beside_splice), PLAY(given_beside_peek), PLAY(given_beside_messages))
