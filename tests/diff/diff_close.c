/*
 * How connections end: half-closes in each direction and both at once, SHUT_RD, resets, lingering, duplicates.
 */
#include "duet.h"

#define ALL (POLLIN | POLLOUT | POLLRDHUP)

static void linger(int on, int seconds)
{
	struct linger l = {on, seconds};

	T(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
}

/* The client ends its direction; the server goes on writing for a while, then ends its own. */
SCRIPT(half_client)
{
	link_up();
	CLIENT
	{
		T(send(fd, "question", 8, 0));
		T(shutdown(fd, SHUT_WR));
		signal(SIGPIPE, SIG_IGN);
		T(send(fd, "x", 1, 0));
		T(write(fd, "x", 1));
		ready(ALL, 0);
	}
	SERVER
	{
		rest();
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, MSG_DONTWAIT));
		ready(ALL, 0);
		rest();
		T(read(fd, buf, 100));
		T(send(fd, "first", 5, 0));
	}
	CLIENT
	{
		rest();
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 100, 0));
		rest();
		ready(ALL, 0);
		let_go();
		READ(buf, recv(fd, buf, 100, 0));
	}
	SERVER
	{
		rest();
		T(send(fd, "second", 6, 0));
		T(shutdown(fd, SHUT_WR));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		nap(20);
		ready(ALL, 0);
		T(shutdown(fd, SHUT_WR));
		T(shutdown(fd, SHUT_RD));
	}
	CLIENT
	{
		nap(20);
		T(recv(fd, buf, 100, 0));
		ready(ALL, 0);
		T(shutdown(fd, SHUT_WR));
		T(shutdown(fd, SHUT_RDWR));
		T(send(fd, "x", 1, 0));
		T(recv(fd, buf, 100, 0));
		say_error();
		T(close(fd));
	}
	SERVER
	{
		nap(20);
		T(recv(fd, buf, 100, 0));
		say_error();
		T(close(fd));
	}
}

/* The server ends first. */
SCRIPT(half_server)
{
	link_up();
	SERVER
	{
		T(send(fd, "greeting", 8, 0));
		T(shutdown(fd, SHUT_WR));
		ready(ALL, 0);
	}
	CLIENT
	{
		rest();
		ready(POLLRDHUP, 0);
		READ(buf, recv(fd, buf, 100, MSG_WAITALL));
		T(recv(fd, buf, 100, MSG_PEEK));
		rest();
		T(send(fd, "answer", 6, 0));
		rest();
		T(send(fd, "more", 4, MSG_NOSIGNAL));
	}
	SERVER
	{
		rest();
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 100, 0));
		let_go();
		T(recv(fd, buf, 100, 0));
		ready(ALL, 0);
	}
	CLIENT
	{
		rest();
		T(close(fd));
	}
	SERVER
	{
		T(close(fd));
	}
}

/* Both have said that they end before either has heard it. */
SCRIPT(both_at_once)
{
	link_up();
	BOTH
	{
		T(send(fd, is_client ? "from client" : "from server", 11, 0));
		T(shutdown(fd, SHUT_WR));
		nap(100);
	}
	BOTH
	{
		rest();
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, 0));
		ready(ALL, 0);
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(shutdown(fd, SHUT_RDWR));
		say_error();
	}
	BOTH
	{
		T(close(fd));
	}
}

SCRIPT(broken_pipe)
{
	link_up();
	SERVER
	{
		T(close(fd));
	}
	CLIENT
	{
		rest();
		ready(ALL, 0);
		T(recv(fd, buf, 10, 0));
		catch_signal(SIGPIPE, SA_RESTART);
		T(send(fd, "into the void", 13, 0)); /* accepted, and answered by a reset */
		rest();
		ready(ALL, 0);
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		say("  signals %d", (int)caught);
		T(send(fd, "x", 1, 0));
		say("  signals %d", (int)caught);
		T(write(fd, "x", 1));
		say("  signals %d", (int)caught);
		T(recv(fd, buf, 10, 0));
		T(shutdown(fd, SHUT_WR));
		say_error();
		T(close(fd));
	}
}

/* Closed with bytes left unread: the peer's own bytes are lost with the reset, as TCP has it. */
SCRIPT(unread)
{
	link_up();
	CLIENT
	{
		T(send(fd, "never read", 10, 0));
	}
	SERVER
	{
		rest();
		T(close(fd));
	}
	CLIENT
	{
		rest();
		ready(ALL, 0);
		T(recv(fd, buf, 10, 0));
		T(recv(fd, buf, 10, 0));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		say_error();
	}
}

/* The same with an answer under way: it is there before the reset and natively may be read or not; it is not said. */
SCRIPT(unread_error)
{
	link_up();
	CLIENT
	{
		T(send(fd, "never read", 10, 0));
	}
	SERVER
	{
		rest();
		T(close(fd));
	}
	CLIENT
	{
		rest();
		say_error();
		T(recv(fd, buf, 10, 0));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
	}
}

SCRIPT(linger_zero)
{
	link_up();
	SERVER
	{
		T(send(fd, "abc", 3, 0));
		linger(1, 0);
		T(close(fd));
	}
	CLIENT
	{
		rest();
		ready(ALL, 0);
		T(recv(fd, buf, 10, 0));
		T(recv(fd, buf, 10, 0));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(shutdown(fd, SHUT_WR));
	}
}

SCRIPT(linger_zero_blocked)
{
	link_up();
	CLIENT
	{
		let_go();
		T(recv(fd, buf, 10, 0));
		T(recv(fd, buf, 10, 0));
	}
	SERVER
	{
		rest();
		linger(1, 0);
		T(close(fd));
	}
}

SCRIPT(linger_on)
{
	struct linger l = {0, 0};
	socklen_t len = sizeof l;

	link_up();
	CLIENT
	{
		linger(1, 5);
		T(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len));
		say("  %d %d length %u", l.l_onoff, l.l_linger, len);
		T(send(fd, "last words", 10, 0));
		TIMED(0, 300, T(close(fd)));
	}
	SERVER
	{
		drain();
	}
}

/* SHUT_RD: reads to the end, writing goes on, the peer notices nothing. */
SCRIPT(shut_read)
{
	link_up();
	SERVER
	{
		T(shutdown(fd, SHUT_RD));
		ready(ALL, 0);
		T(recv(fd, buf, 10, 0));
		T(recv(fd, buf, 10, MSG_DONTWAIT));
		T(send(fd, "still here", 10, 0));
		T(shutdown(fd, SHUT_RD));
	}
	CLIENT
	{
		rest();
		READ(buf, recv(fd, buf, 100, 0));
		ready(ALL, 0);
		T(send(fd, "unheard?", 8, 0));
	}
	SERVER
	{
		rest();
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 100, MSG_DONTWAIT));
		T(recv(fd, buf, 100, MSG_DONTWAIT));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
		T(recv(fd, buf, 10, MSG_DONTWAIT));
	}
	SERVER
	{
		T(shutdown(fd, SHUT_WR));
		nap(20);
		ready(ALL, 0);
		T(close(fd));
	}
	CLIENT
	{
		T(recv(fd, buf, 10, 0));
		T(close(fd));
	}
}

SCRIPT(shut_both)
{
	link_up();
	CLIENT
	{
		T(send(fd, "all", 3, 0));
		T(shutdown(fd, SHUT_RDWR));
		ready(ALL, 0);
		T(recv(fd, buf, 10, 0));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
	}
	SERVER
	{
		rest();
		drain();
		ready(ALL, 0);
		T(shutdown(fd, SHUT_WR));
		nap(20);
		T(shutdown(fd, SHUT_WR));
		T(close(fd));
	}
	CLIENT
	{
		nap(20);
		ready(ALL, 0);
		T(shutdown(fd, SHUT_RDWR));
		T(shutdown(fd, 77));
		T(close(fd));
		T(shutdown(fd, SHUT_WR));
	}
}

/* A duplicate keeps the connection. */
SCRIPT(duplicates)
{
	int twin = -1, third = -1;

	link_up();
	SERVER
	{
		twin = MUST(dup(fd));
		T(close(fd));
		fd = twin;
		rest();
		T(send(fd, "by the twin", 11, 0));
		third = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 50));
		say("  %d", third >= 50);
		T(dup2(third, fd) == fd);
		T(dup3(third, third, 0));
		T(send(third, ", the third", 11, 0));
		T(close(third));
		rest();
	}
	CLIENT
	{
		READ(buf, recv(fd, buf, 22, MSG_WAITALL));
		T(recv(fd, buf, 10, MSG_DONTWAIT));
		T(send(fd, "hello", 5, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
		T(close(fd));
	}
	CLIENT
	{
		T(recv(fd, buf, 10, 0));
	}
}

/* Much is under way when its sender closes: all of it arrives. */
SCRIPT(close_with_much)
{
	link_up();
	CLIENT
	{
		let_go();
		fill(buf, sizeof buf, 0);
		T(write(fd, buf, 300000));
		T(close(fd));
	}
	SERVER
	{
		rest();
		rest();
		drain();
	}
}

/* The same by exit, and by being killed between messages. */
SCRIPT(last_words)
{
	link_up();
	CLIENT
	{
		let_go();
		fill(buf, sizeof buf, 0);
		T(write(fd, buf, 100000));
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		rest();
		drain();
	}
}

/* The peer waits for the end of file in poll(2) while it still writes. */
SCRIPT(filter)
{
	enum { TOTAL = 200000 };

	link_up();
	CLIENT
	{
		let_go();
		for (size_t at = 0; at < TOTAL; at += 20000) {
			fill(buf, 20000, at);
			assert_int_equal(write(fd, buf, 20000), 20000);
		}
		T(shutdown(fd, SHUT_WR));
		rest();
		drain();
		T(close(fd));
	}
	SERVER
	{
		uint64_t d = 0;
		size_t total = 0;
		ssize_t n;

		while ((n = read(fd, buf, 7000)) > 0) {
			d = digest(d, buf, (size_t)n);
			total += (size_t)n;
		}
		say("%zu bytes, digest %016llx, then %zd", total, (unsigned long long)d, n);
		rest();
		rest();
		fill(buf, TOTAL, 5);
		T(write(fd, buf, TOTAL));
		T(close(fd));
	}
}

/* Closed while another step of the peer is still to come: a close is told by the next read, not before what was sent.
 */
SCRIPT(bytes_then_close)
{
	link_up();
	CLIENT
	{
		T(send(fd, "one", 3, 0));
		rest();
		T(send(fd, "two", 3, 0));
		T(close(fd));
	}
	SERVER
	{
		rest();
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 2, 0));
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 100, MSG_WAITALL));
		T(recv(fd, buf, 100, 0));
		ready(ALL, 0);
		T(recv(fd, buf, 100, MSG_DONTWAIT));
	}
}

DUET_MAIN(PLAY(half_client), PLAY(half_server), PLAY(both_at_once), PLAY(broken_pipe), PLAY(unread), PLAY(unread_error),
	  PLAY(linger_zero), PLAY(linger_zero_blocked), PLAY(linger_on), PLAY(shut_read), PLAY(shut_both),
	  PLAY(duplicates), PLAY(close_with_much), PLAY(last_words), PLAY(filter), PLAY(bytes_then_close))
