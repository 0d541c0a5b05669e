/*
 * How connections begin for the side that accepts: flags, inherited options, who speaks first, first readiness.
 */
#include "duet.h"

SCRIPT(server_first)
{
	struct address a;

	open_port();
	CLIENT
	{
		let_go();
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		READ(buf, recv(fd, buf, 8, MSG_WAITALL));
		T(send(fd, "thanks", 6, 0));
		READ(buf, recv(fd, buf, 80, 0));
	}
	SERVER
	{
		fd = accept_one();
		T(send(fd, "greeting", 8, 0));
		READ(buf, recv(fd, buf, 80, 0));
		T(close(fd));
	}
}

/* Says all at once and is gone: the other side reads it in its own time. */
SCRIPT(say_and_go)
{
	struct address a;

	open_port();
	CLIENT
	{
		let_go();
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		T(send(fd, "hello and goodbye", 17, 0));
		T(close(fd));
	}
	SERVER
	{
		fd = accept_one();
		rest();
		drain();
	}
}

/* Both directions shut before anybody has accepted: what was sent must still arrive, and nothing more be waited for. */
SCRIPT(say_and_shut)
{
	struct address a;

	open_port();
	CLIENT
	{
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		T(send(fd, "hello and no more", 17, 0));
		T(shutdown(fd, SHUT_RDWR));
		TIMED(0, 100, T(recv(fd, buf, 80, 0)));
		ready(POLLIN | POLLRDHUP, 100);
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		let_go();
	}
	SERVER
	{
		rest();
		fd = accept_one();
		drain();
		T(shutdown(fd, SHUT_WR));
	}
	CLIENT
	{
		rest();
		T(recv(fd, buf, 80, 0));
		T(close(fd));
	}
}

/* The same for reading alone: a late answer can still be read. */
SCRIPT(shut_and_listen)
{
	struct address a;

	open_port();
	CLIENT
	{
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		T(shutdown(fd, SHUT_RD));
		TIMED(0, 100, T(recv(fd, buf, 80, 0)));
		T(send(fd, "hello", 5, 0));
		let_go();
	}
	SERVER
	{
		rest();
		fd = accept_one();
		READ(buf, recv(fd, buf, 5, MSG_WAITALL));
		T(send(fd, "answer", 6, 0));
		nap(30);
	}
	CLIENT
	{
		READ(buf, recv(fd, buf, 80, 0));
		T(recv(fd, buf, 80, 0));
		T(close(fd));
	}
	SERVER
	{
		rest();
		drain();
	}
}

/* accept(2): nothing there, flags, options inherited from the listener. */
SCRIPT(accepting)
{
	struct address a = {.len = sizeof a.storage};
	struct timeval t = {0, 500000}, seen = {0};
	int value = 1, again = -1;
	socklen_t len = sizeof value;

	open_port();
	SERVER
	{
		MUST(fcntl(listener, F_SETFL, O_NONBLOCK));
		T(accept(listener, NULL, NULL));
		T(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
		T(accept4(listener, NULL, NULL, 0x40000));
		T(setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
		T(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
		T(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
		value = 77;
		T(setsockopt(listener, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
		fd = listener;
		ready(POLLIN, 0);
	}
	CLIENT
	{
		struct address to = loopback(port);

		fd = tcp_socket(0);
		T(connect(fd, SA(&to), to.len));
	}
	SERVER
	{
		let_go();
		ready(POLLIN, 1000);
		MUST(fcntl(listener, F_SETFL,
			   0)); /* the one in vain may be followed by its second only after a while */
		turn_away();
		fd = MUST(accept4(listener, SA(&a), &a.len, SOCK_NONBLOCK | SOCK_CLOEXEC));
		say("  family %d, length %u", a.storage.ss_family, a.len);
		T((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
		T(fcntl(fd, F_GETFD));
		T(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &again, &len));
		say("  SO_KEEPALIVE %d", again);
		T(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &again, &len));
		say("  TCP_NODELAY %d", again);
		T(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &again, &len));
		say("  TCP_KEEPIDLE %d", again);
		len = sizeof seen;
		T(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &seen, &len));
		say("  SO_RCVTIMEO %ld.%06ld", (long)seen.tv_sec, (long)seen.tv_usec);
		MUST(fcntl(fd, F_SETFL, 0));
		READ(buf, recv(fd, buf, 80, 0));
		TIMED(490, 510, T(recv(fd, buf, 80, 0)));
	}
	CLIENT
	{
		T(send(fd, "hello", 5, 0));
	}
	BOTH say("done");
}

/* Readiness of what was just accepted, before and after the first byte. */
SCRIPT(first_readiness)
{
	struct address a;

	open_port();
	CLIENT
	{
		let_go();
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		ready(POLLIN, 0);
		ready(POLLOUT, 1000);
		put_number(0);
		get_number();
		T(send(fd, "hello", 5, 0));
		ready(POLLIN, 4000);
		READ(buf, recv(fd, buf, 80, 0));
	}
	SERVER
	{
		get_number();
		fd = accept_one();
		ready(POLLIN, 100);
		ready(POLLOUT, 1000);
		T(recv(fd, buf, 80, MSG_DONTWAIT));
		put_number(0);
		ready(POLLIN, 4000);
		READ(buf, recv(fd, buf, 80, 0));
		T(send(fd, "welcome", 7, 0));
	}
}

DUET_MAIN(PLAY(server_first), PLAY(say_and_go), PLAY(say_and_shut), PLAY(shut_and_listen), PLAY(accepting),
	  PLAY(first_readiness))
