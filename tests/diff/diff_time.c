/*
 * Time limits, signals, long jumps, cancellation, threads: blocked calls and what ends them.
 */
#include "duet.h"

#include <pthread.h>

SCRIPT(receive_limit)
{
	struct timeval t = {0};
	socklen_t len = sizeof t;

	link_up();
	SERVER
	{
		set_time(SO_RCVTIMEO, 300);
		T(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len));
		say("  %ld.%06ld length %u", (long)t.tv_sec, (long)t.tv_usec, len);
		TIMED(290, 320, T(recv(fd, buf, 10, 0)));
		TIMED(290, 320, T(read(fd, buf, 10)));
		TIMED(290, 320, T(recv(fd, buf, 10, MSG_PEEK)));
		TIMED(0, 50, T(recv(fd, buf, 10, MSG_DONTWAIT)));
		set_time(SO_RCVTIMEO, 5000);
		let_go();
		TIMED(0, 250, READ(buf, recv(fd, buf, 10, 0)));
	}
	CLIENT
	{
		rest();
		T(send(fd, "abc", 3, 0));
		rest();
		rest();
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		TIMED(0, 50, T(read(fd, buf, 10)));
	}
}

SCRIPT(send_limit)
{
	ssize_t n;

	link_up_small();
	CLIENT
	{
		set_time(SO_SNDTIMEO, 300);
		fill_up(0);
		TIMED(290, 330, T(send(fd, buf, 1000, 0)));
		TIMED(290, 330, T(write(fd, buf, 100000)));
		TIMED(0, 50, T(send(fd, buf, 1000, MSG_DONTWAIT)));
	}
	SERVER
	{
		let_go();
		long total = 0;
		while ((n = read(fd, buf, sizeof buf)) > 0)
			total += n;
		say("%s, then %zd", total > 50000 ? "much" : "little", n);
	}
	CLIENT
	{
		rest();
		T(write(fd, buf, 200000));
		T(shutdown(fd, SHUT_WR));
	}
}

/* EINTR without SA_RESTART, going on with it; a call with a time limit is never restarted (signal(7)). */
/*
 * Bytes move before each of these, and the runner makes the interval longer than the waits: a signal that comes at the
 * very moment of a beat may be lost on a read (README, "Wrap mode so far").
 */
static void move(void)
{
	CLIENT
	{
		T(send(fd, "m", 1, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 1, 0));
	}
}

SCRIPT(interrupted)
{
	struct pollfd p = {.events = POLLIN};

	link_up();
	p.fd = fd;
	for (int i = 0; i < 4; i++) {
		move();
		SERVER
		{
			catch_signal(SIGALRM, i == 3 ? SA_RESTART : 0);
			if (i == 3)
				set_time(SO_RCVTIMEO, 3000);
			alarm_in(150);
			if (i == 0)
				TIMED(140, 160, T(poll(&p, 1, 3000)));
			else if (i == 1)
				TIMED(140, 160, T(read(fd, buf, 10)));
			else
				TIMED(140, 160, T(recv(fd, buf, 10, 0)));
			say("  signals %d", (int)caught);
		}
	}
	SERVER
	{
		set_time(SO_RCVTIMEO, 0);
		alarm_in(150);
		TIMED(140, 160, T(poll(&p, 1, 3000)));
		let_go();
		alarm_in(100);
		TIMED(100, 400, READ(buf, recv(fd, buf, 10, 0)));
		say("  signals %d", (int)caught);
	}
	CLIENT
	{
		nap(350);
		T(send(fd, "late", 4, 0));
	}
}

SCRIPT(interrupted_send)
{
	ssize_t n;

	link_up_small();
	CLIENT
	{
		fill_up(0);
		catch_signal(SIGALRM, 0);
		alarm_in(200);
		TIMED(190, 220, T(send(fd, buf, 1000, 0)));
		alarm_in(200);
		TIMED(190, 220, T(write(fd, buf, 100000)));
		say("  signals %d", (int)caught);
	}
	SERVER
	{
		let_go();
		long total = 0;
		while ((n = read(fd, buf, sizeof buf)) > 0)
			total += n;
		say("%s, then %zd", total > 50000 ? "much" : "little", n);
	}
	CLIENT
	{
		T(send(fd, "tail", 4, 0));
		T(shutdown(fd, SHUT_WR));
	}
}

static sigjmp_buf out_of_it;
static void jump(int number)
{
	(void)number;
	siglongjmp(out_of_it, 1);
}

SCRIPT(jump_out)
{
	link_up_small();
	SERVER
	{
		signal(SIGALRM, jump);
		for (volatile int i = 0; i < 3; i++) {
			if (sigsetjmp(out_of_it, 1) == 0) {
				alarm_in(150);
				i == 0   ? recv(fd, buf, 10, 0)
				: i == 1 ? recv(fd, buf, 10, MSG_WAITALL)
					 : read(fd, buf, 10);
				say("not interrupted");
			} else {
				say("jumped");
			}
		}
	}
	CLIENT
	{
		T(send(fd, "hello", 5, 0));
	}
	SERVER
	{
		rest();
		READ(buf, recv(fd, buf, 10, 0));
		T(send(fd, "answer", 6, 0));
	}
	CLIENT
	{
		READ(buf, recv(fd, buf, 10, 0));
	}
	/* Out of a send that waits for room. */
	CLIENT
	{
		fill_up(0);
		signal(SIGALRM, jump);
		if (sigsetjmp(out_of_it, 1) == 0) {
			alarm_in(200);
			while (send(fd, buf, 1000, 0) > 0)
				;
			say("not interrupted");
		} else {
			say("jumped");
		}
	}
	SERVER
	{
		long total = 0;
		ssize_t n;

		let_go();
		while ((n = read(fd, buf, sizeof buf)) > 0)
			total += n;
		say("%s, then %zd", total > 20000 ? "much" : "little", n);
	}
	CLIENT
	{
		rest();
		T(send(fd, "tail", 4, 0));
		T(shutdown(fd, SHUT_WR));
	}
}

static void *blocked_recv(void *room)
{
	recv(fd, room, 10, 0);
	return NULL;
}

static void *blocked_read(void *room)
{
	if (read(fd, room, 10) < 0)
		return room;
	return NULL;
}

static void *blocked_send(void *room)
{
	while (send(fd, room, 5000, 0) > 0)
		;
	return NULL;
}

static void cancel(void *(*routine)(void *))
{
	pthread_t thread;
	void *result;

	MUST(-pthread_create(&thread, NULL, routine, buf));
	nap(150);
	T(pthread_cancel(thread));
	MUST(-pthread_join(thread, &result));
	say("%s", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
}

SCRIPT(cancelled)
{
	link_up_small();
	SERVER
	{
		cancel(blocked_recv);
		cancel(blocked_read);
	}
	CLIENT
	{
		T(send(fd, "hello", 5, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
	}
	CLIENT
	{
		cancel(blocked_send);
	}
	SERVER
	{
		long total = 0;
		ssize_t n;

		let_go();
		while ((n = read(fd, buf, sizeof buf)) > 0)
			total += n;
		say("%s, then %zd", total > 20000 ? "much" : "little", n);
	}
	CLIENT
	{
		rest();
		T(send(fd, "tail", 4, 0));
		T(shutdown(fd, SHUT_WR));
	}
}

/* Four threads write records of one size, four read them whole: none is mixed. */
enum { RECORD = 100, EACH = 200, WRITERS = 4 };

static void *writer(void *number)
{
	char record[RECORD];

	memset(record, 'a' + (int)(intptr_t)number, RECORD);
	for (int i = 0; i < EACH; i++) {
		if (send(fd, record, RECORD, 0) != RECORD)
			return (void *)1;
		if (i % 50 == 0)
			nap(70);
	}
	return NULL;
}

static int per_writer[WRITERS], mixed;
static pthread_mutex_t tally = PTHREAD_MUTEX_INITIALIZER;

static void *reader(void *unused)
{
	char record[RECORD];

	(void)unused;
	while (recv(fd, record, RECORD, MSG_WAITALL) == RECORD) {
		int who = record[0] - 'a', bad = who < 0 || who >= WRITERS;

		for (int i = 1; i < RECORD; i++)
			bad |= record[i] != record[0];
		pthread_mutex_lock(&tally);
		mixed += bad;
		if (!bad)
			per_writer[who]++;
		pthread_mutex_unlock(&tally);
	}
	return NULL;
}

static void crowd(int count, void *(*routine)(void *))
{
	pthread_t threads[WRITERS];
	void *result;

	for (int i = 0; i < count; i++)
		MUST(-pthread_create(&threads[i], NULL, routine, (void *)(intptr_t)i));
	for (int i = 0; i < count; i++) {
		MUST(-pthread_join(threads[i], &result));
		if (result)
			say("a thread failed");
	}
}

SCRIPT(writers)
{
	link_up();
	CLIENT
	{
		let_go();
		crowd(WRITERS, writer);
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		crowd(1, reader);
		say("%d %d %d %d, mixed %d", per_writer[0], per_writer[1], per_writer[2], per_writer[3], mixed);
	}
}

/* Several readers, each woken for something; all of them by the end. */
static int woken, got_bytes;
static void *one_byte(void *unused)
{
	char byte;

	(void)unused;
	ssize_t n = recv(fd, &byte, 1, 0);
	pthread_mutex_lock(&tally);
	woken++;
	got_bytes += n == 1;
	pthread_mutex_unlock(&tally);
	return NULL;
}

SCRIPT(readers)
{
	link_up();
	SERVER
	{
		let_go();
		crowd(WRITERS, one_byte);
		say("woken %d, with bytes %d", woken, got_bytes);
	}
	CLIENT
	{
		rest();
		T(send(fd, "ab", 2, 0));
		rest();
		T(shutdown(fd, SHUT_WR));
	}
}

/* One thread sleeps in recv, another writes on the same socket. */
static void *echo_once(void *unused)
{
	char byte;

	(void)unused;
	return recv(fd, &byte, 1, 0) == 1 && byte == 'x' ? NULL : (void *)1;
}

SCRIPT(duplex)
{
	pthread_t thread;
	void *result;

	link_up();
	SERVER
	{
		MUST(-pthread_create(&thread, NULL, echo_once, NULL));
		rest();
		T(send(fd, "while it sleeps", 15, 0));
		T(fcntl(fd, F_GETFL) & O_NONBLOCK);
	}
	CLIENT
	{
		READ(buf, recv(fd, buf, 100, 0));
		rest();
		T(send(fd, "x", 1, 0));
	}
	SERVER
	{
		MUST(-pthread_join(thread, &result));
		say("%s", result ? "wrong" : "right");
	}
}

/* shutdown by another thread wakes a sleeper. */
static void *sleeper(void *unused)
{
	char byte;

	(void)unused;
	return (void *)(intptr_t)recv(fd, &byte, 1, 0);
}

SCRIPT(woken_by_shutdown)
{
	pthread_t thread;
	void *result;

	link_up();
	SERVER
	{
		MUST(-pthread_create(&thread, NULL, sleeper, NULL));
		rest();
		T(shutdown(fd, SHUT_RD));
		MUST(-pthread_join(thread, &result));
		say("recv = %ld", (long)(intptr_t)result);
	}
}

DUET_MAIN(PLAY(receive_limit), PLAY(send_limit), PLAY(interrupted), PLAY(interrupted_send), PLAY(jump_out),
	  PLAY(cancelled), PLAY(writers), PLAY(readers), PLAY(duplex), PLAY(woken_by_shutdown))
