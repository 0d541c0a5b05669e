/*
 * How connections begin: blocking or not, refused, twice, with either side first; and what is known of them.
 */
#include "duet.h"

#include <sys/epoll.h>
#include <sys/select.h>

static void say_names(void)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;

	T(getsockname(fd, (struct sockaddr *)&name, &len));
	say("  family %d, length %u", name.ss_family, len);
	len = sizeof name;
	if (T(getpeername(fd, (struct sockaddr *)&name, &len)) == 0)
		say("  the port that was called: %s, length %u",
		    ntohs(((struct sockaddr_in *)&name)->sin_port) == port ? "yes" : "no", len);
}

static void begin_nonblocking(void)
{
	struct address a = loopback(port);

	fd = tcp_socket(SOCK_NONBLOCK | SOCK_CLOEXEC);
	T(connect(fd, SA(&a), a.len));
}

SCRIPT(blocking)
{
	struct address a;

	open_port();
	CLIENT
	{
		a = loopback(port);
		fd = tcp_socket(0);
		say_names();
		T(recv(fd, buf, 1, MSG_DONTWAIT));
		T(send(fd, buf, 1, MSG_NOSIGNAL | MSG_DONTWAIT));
		say_error();
		T(connect(fd, SA(&a), a.len));
		T(connect(fd, SA(&a), a.len));
		say_names();
		say_error();
		let_go();
		READ(buf, recv(fd, buf, 10, 0));
	}
	SERVER
	{
		fd = accept_one();
		T(fcntl(fd, F_GETFL) & O_NONBLOCK);
		T(fcntl(fd, F_GETFD));
		T(send(fd, "welcome", 7, 0));
	}
}

/* Shut for writing before it is connected: it cannot say a word then, and so no HELLO either. */
SCRIPT(shut_before)
{
	struct address a;

	open_port();
	CLIENT
	{
		a = loopback(port);
		fd = tcp_socket(0);
		T(shutdown(fd, SHUT_WR));
		T(connect(fd, SA(&a), a.len));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		let_go();
		READ(buf, recv(fd, buf, 10, 0));
	}
	SERVER
	{
		fd = MUST(accept(listener, NULL, NULL));
		T(send(fd, "welcome", 7, 0));
		rest();
		rest();
		T(recv(fd, buf, 10, MSG_DONTWAIT));
	}
}

/* The client speaks first, before and after its peer has accepted. */
SCRIPT(client_first)
{
	struct address a;

	open_port();
	CLIENT
	{
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		T(send(fd, "early", 5, 0));
		T(write(fd, ", later", 7));
	}
	SERVER
	{
		let_go();
		fd = accept_one();
		READ(buf, recv(fd, buf, 12, MSG_WAITALL));
		T(send(fd, "welcome", 7, 0));
		READ(buf, recv(fd, buf, 12, 0));
		T(recv(fd, buf, 12, 0));
	}
	CLIENT
	{
		READ(buf, recv(fd, buf, 7, MSG_WAITALL));
		T(send(fd, "thanks", 6, 0));
		T(shutdown(fd, SHUT_WR));
	}
}

SCRIPT(nobody_there)
{
	struct address a;

	open_port();
	SERVER
	{
		close(listener);
	}
	CLIENT
	{
		a = loopback(port);
		fd = tcp_socket(0);
		T(connect(fd, SA(&a), a.len));
		say_error();
		T(connect(fd, SA(&a), a.len));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(recv(fd, buf, 1, MSG_DONTWAIT));
		T(close(fd));

		fd = tcp_socket(SOCK_NONBLOCK);
		T(connect(fd, SA(&a), a.len));
		nap(20);
		ready(POLLIN | POLLOUT | POLLRDHUP, 1000);
		say_error();
		say_error();
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(recv(fd, buf, 1, 0));
		T(close(fd));

		fd = tcp_socket(SOCK_NONBLOCK);
		T(connect(fd, SA(&a), a.len));
		nap(20);
		T(connect(fd, SA(&a), a.len));
		T(connect(fd, SA(&a), a.len));
		nap(20);
		T(recv(fd, buf, 1, 0));
		T(recv(fd, buf, 1, 0));
		say_names();
		T(close(fd));
	}
}

/* poll(2), SO_ERROR, then the protocol. */
SCRIPT(by_poll)
{
	open_port();
	CLIENT
	{
		let_go();
		begin_nonblocking();
		T(fcntl(fd, F_GETFD));
		ready(POLLOUT, 3000);
		say_error();
		say_names();
		T(send(fd, "hello", 5, 0));
		ready(POLLIN, 5000);
		READ(buf, recv(fd, buf, 80, 0));
		T(recv(fd, buf, 80, 0));
		ready(POLLIN, 0);
		ready(POLLOUT, 0);
		put_number(0);
	}
	SERVER
	{
		fd = accept_one();
		READ(buf, recv(fd, buf, 80, 0));
		T(send(fd, "welcome", 7, 0));
		get_number();
	}
}

SCRIPT(by_select)
{
	fd_set in, set;
	struct timeval limit = {3, 0};

	open_port();
	CLIENT
	{
		let_go();
		begin_nonblocking();
		FD_ZERO(&set);
		FD_SET(fd, &set);
		T(select(fd + 1, NULL, &set, NULL, &limit));
		say("  %d", FD_ISSET(fd, &set));
		say_error();
		T(write(fd, "hello", 5));
		FD_ZERO(&in);
		FD_SET(fd, &in);
		limit = (struct timeval){15, 0};
		T(select(fd + 1, &in, NULL, NULL, &limit));
		say("  %d, time left %s", FD_ISSET(fd, &in), limit.tv_sec > 0 ? "yes" : "no");
		READ(buf, read(fd, buf, 80));
		put_number(0);
	}
	SERVER
	{
		fd = accept_one();
		READ(buf, recv(fd, buf, 80, 0));
		T(send(fd, "welcome", 7, 0));
		get_number();
	}
}

static void by_epoll(uint32_t flags)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | flags, .data.u64 = 4711};
	int ep = -1, n;

	open_port();
	CLIENT
	{
		let_go();
		ep = MUST(epoll_create1(0));
		begin_nonblocking();
		T(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
		e.events = 0;
		n = MUST(epoll_wait(ep, &e, 1, 3000));
		say("%d %s data %d", n, events_name(e.events), (int)e.data.u64);
		say_error();
		T(write(fd, "hello", 5));
		for (int rounds = 0; rounds < 1000; rounds++) {
			n = MUST(epoll_wait(ep, &e, 1, 3000));
			if (n == 0 || (e.events & EPOLLIN))
				break;
			nap(5);
		}
		say("%d %s", n, e.events & EPOLLIN ? "IN" : "");
		READ(buf, read(fd, buf, 80));
		put_number(0);
	}
	SERVER
	{
		fd = accept_one();
		READ(buf, recv(fd, buf, 80, 0));
		T(send(fd, "welcome", 7, 0));
		get_number();
	}
}

SCRIPT(by_epoll_level)
{
	by_epoll(0);
}

SCRIPT(by_epoll_edge)
{
	by_epoll(EPOLLET);
}

/* A second connect(2) collects the result of the first. */
SCRIPT(twice)
{
	struct address a;

	open_port();
	CLIENT
	{
		let_go();
		begin_nonblocking();
		nap(20);
		a = loopback(port);
		T(connect(fd, SA(&a), a.len));
		T(connect(fd, SA(&a), a.len));
		nonblocking(false);
		T(write(fd, "hello", 5));
		READ(buf, read(fd, buf, 80));
	}
	SERVER
	{
		fd = accept_one();
		READ(buf, recv(fd, buf, 80, 0));
		T(send(fd, "welcome", 7, 0));
	}
}

/* An attempt that goes nowhere for now: the queue of the listener is full. */
SCRIPT(under_way)
{
	struct address a;
	int filler[3];

	open_port();
	SERVER
	{
		MUST(listen(listener, 0));
	}
	CLIENT
	{
		a = loopback(port);
		/* A listener with backlog 0 takes one; the next stays in SYN-SENT. The fillers are plain Unix to us. */
		for (int i = 0; i < 3; i++) {
			filler[i] = tcp_socket(SOCK_NONBLOCK);
			connect(filler[i], SA(&a), a.len);
			nap(5);
		}
		begin_nonblocking();
		T(connect(fd, SA(&a), a.len));
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(recv(fd, buf, 1, 0));
		ready(POLLIN | POLLOUT | POLLRDHUP, 100);
		say_error();
		say_names();
		T(shutdown(fd, SHUT_WR));
		ready(POLLIN | POLLOUT | POLLRDHUP, 0);
		T(close(fd));
		for (int i = 0; i < 3; i++)
			close(filler[i]);
	}
}

/* Left and connected again. */
SCRIPT(disconnect)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct address a;

	link_up();
	CLIENT
	{
		T(send(fd, "bye", 3, 0));
		nap(20);
		T(connect(fd, &none, sizeof none));
		say_names();
		T(send(fd, "x", 1, MSG_NOSIGNAL));
		T(recv(fd, buf, 1, MSG_DONTWAIT));
		ready(POLLIN | POLLOUT | POLLRDHUP, 0);
		say_error();
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 3, MSG_DONTWAIT));
		T(recv(fd, buf, 3, 0));
		T(recv(fd, buf, 3, 0));
		close(fd);
	}
	CLIENT
	{
		let_go();
		a = loopback(port);
		T(connect(fd, SA(&a), a.len));
		T(write(fd, "again", 5));
		READ(buf, read(fd, buf, 80));
	}
	SERVER
	{
		fd = accept_one();
		READ(buf, recv(fd, buf, 80, 0));
		T(send(fd, "welcome back", 12, 0));
	}
}

DUET_MAIN(PLAY(blocking), PLAY(shut_before), PLAY(client_first), PLAY(nobody_there), PLAY(by_poll), PLAY(by_select),
	  PLAY(by_epoll_level), PLAY(by_epoll_edge), PLAY(twice), PLAY(under_way), PLAY(disconnect))
