/*
 * epoll(7): level, edge, one-shot, exclusive; readiness at every step, with beats in the queue.
 */
#include "duet.h"

#include <sys/epoll.h>

static int ep = -1;

/* What epoll_wait says within TIMEOUT ms. */
static void events(int timeout)
{
	struct epoll_event e[4];

	errno = 0;
	int n = epoll_wait(ep, e, 4, timeout);
	say("epoll_wait(%d) = %d%s", timeout, n, n < 0 ? strerrorname_np(errno) : "");
	for (int i = 0; i < n; i++)
		say("  %s data %llx", events_name(e[i].events), (unsigned long long)e[i].data.u64);
}

static void watch(int op, uint32_t flags)
{
	struct epoll_event e = {.events = flags, .data.u64 = 0x123456789abcdef0};

	if (ep < 0)
		ep = MUST(epoll_create1(EPOLL_CLOEXEC));
	T(epoll_ctl(ep, op, fd, &e));
}

SCRIPT(level)
{
	link_up();
	SERVER
	{
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
		events(0);
		TIMED(190, 210, events(200));
		let_go();
		events(5000);
		events(0);
	}
	CLIENT
	{
		rest();
		T(send(fd, "abcdef", 6, 0));
	}
	SERVER
	{
		rest();
		events(100);
		READ(buf, recv(fd, buf, 3, 0));
		events(100);
		READ(buf, recv(fd, buf, 3, 0));
		events(100);
		watch(EPOLL_CTL_MOD, EPOLLOUT);
		events(0);
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
		rest();
		events(0);
		watch(EPOLL_CTL_MOD, 0);
		events(150);
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		events(1000);
		T(recv(fd, buf, 3, 0));
		events(0);
		rest();
		events(0);
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
		events(0);
		T(shutdown(fd, SHUT_WR));
		nap(20);
		events(0);
		watch(EPOLL_CTL_MOD, 0);
		events(1000);
		watch(EPOLL_CTL_DEL, 0);
		events(0);
	}
}

/* A non-blocking edge-triggered reader that reads until EAGAIN; each batch of bytes gives it one edge at least. */
SCRIPT(edge)
{
	ssize_t n;
	long total = 0;

	link_up();
	SERVER
	{
		nonblocking(true);
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP | EPOLLET);
		events(0);
		let_go();
	}
	CLIENT
	{
		T(send(fd, "abcdef", 6, 0));
	}
	SERVER
	{
		events(1000);
		events(0);
		READ(buf, recv(fd, buf, 3, 0));
		events(0);
		READ(buf, recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, 0));
		let_go();
		events(5000);
		while ((n = recv(fd, buf, 100, 0)) > 0)
			total += n;
		say("%ld bytes, then %zd %s", total, n, strerrorname_np(errno));
	}
	CLIENT
	{
		rest();
		T(send(fd, "ghi", 3, 0));
		rest();
	}
	BOTH say("drained");
	/* What was left unread is told again when more comes. */
	CLIENT
	{
		T(send(fd, "jkl", 3, 0));
	}
	SERVER
	{
		events(1000);
		READ(buf, recv(fd, buf, 1, 0));
	}
	CLIENT
	{
		T(send(fd, "mno", 3, 0));
	}
	SERVER
	{
		events(1000);
		READ(buf, recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, 0));
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
		events(1000);
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		events(1000);
		T(recv(fd, buf, 100, 0));
	}
}

/* Nothing but beats: an edge-triggered wait for input alone must run out. */
SCRIPT(edge_idle)
{
	link_up();
	SERVER
	{
		nonblocking(true);
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLET);
		TIMED(290, 310, events(300));
		T(recv(fd, buf, 100, 0));
		TIMED(190, 210, events(200));
	}
}

SCRIPT(one_shot)
{
	link_up();
	SERVER
	{
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLONESHOT);
		events(200);
	}
	CLIENT
	{
		T(send(fd, "abcdef", 6, 0));
	}
	SERVER
	{
		events(1000);
		events(100);
		READ(buf, recv(fd, buf, 3, 0));
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
		events(100);
		events(50);
		READ(buf, recv(fd, buf, 3, 0));
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
		events(200);
	}
	CLIENT
	{
		T(send(fd, "ghi", 3, 0));
	}
	SERVER
	{
		rest();
		events(1000);
		READ(buf, recv(fd, buf, 100, 0));
		rest();
		events(0);
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLONESHOT | EPOLLET);
		events(100);
		events(100);
	}
}

SCRIPT(exclusive)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 7};

	link_up();
	SERVER
	{
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLEXCLUSIVE);
		TIMED(190, 210, events(200));
		watch(EPOLL_CTL_MOD, EPOLLIN | EPOLLEXCLUSIVE);
		watch(EPOLL_CTL_MOD, EPOLLIN);
		watch(EPOLL_CTL_ADD, EPOLLIN);
		let_go();
		events(5000);
		READ(buf, recv(fd, buf, 100, 0));
		events(150);
		T(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e));
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP | EPOLLEXCLUSIVE);
	}
	CLIENT
	{
		rest();
		T(send(fd, "abc", 3, 0));
	}
}

/* Other ways to wait, more than one registration, wrong arguments. */
SCRIPT(others)
{
	struct epoll_event e[3], one = {.events = EPOLLIN, .data.fd = 1};
	struct timespec t = {0, 150000000};
	sigset_t mask;
	int twin = -1, pipes[2];

	sigemptyset(&mask);
	link_up();
	SERVER
	{
		watch(EPOLL_CTL_ADD, EPOLLIN);
		TIMED(140, 160, T(epoll_pwait(ep, e, 3, 150, &mask)));
		TIMED(140, 160, T(epoll_pwait2(ep, e, 3, &t, &mask)));
		twin = MUST(dup(fd));
		one.data.fd = 2;
		T(epoll_ctl(ep, EPOLL_CTL_ADD, twin, &one));
		TIMED(140, 160, T(epoll_wait(ep, e, 3, 150)));
		MUST(pipe(pipes));
		one.data.fd = 3;
		T(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &one));
		T(write(pipes[1], "x", 1));
		T(epoll_wait(ep, e, 3, 1000));
		say("  %d", e[0].data.fd);
		T(epoll_wait(ep, e, 0, 0));
		T(epoll_wait(ep, e, minus_one, 0));
		T(epoll_wait(ep, low_page, 1, 0));
		T(epoll_wait(fd, e, 1, 0));
		T(epoll_ctl(ep, EPOLL_CTL_ADD, fd, nowhere));
		T(epoll_ctl(ep, 17, fd, &one));
		T(epoll_ctl(ep, EPOLL_CTL_DEL, 9999, &one));
		catch_signal(SIGALRM, SA_RESTART);
		T(epoll_ctl(ep, EPOLL_CTL_DEL, pipes[0], NULL));
		alarm_in(150);
		TIMED(140, 160, T(epoll_wait(ep, e, 3, 3000)));
	}
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		T(epoll_wait(ep, e, 3, 1000));
		T(close(fd));
		T(epoll_wait(ep, e, 3, 0));
		fd = twin;
		READ(buf, recv(fd, buf, 100, 0));
		T(epoll_wait(ep, e, 3, 150));
		T(close(fd));
		T(epoll_wait(ep, e, 3, 0));
	}
}

/* An epoll descriptor in poll(2). */
SCRIPT(nested)
{
	struct pollfd p;

	link_up();
	SERVER
	{
		watch(EPOLL_CTL_ADD, EPOLLIN);
		p = (struct pollfd){.fd = ep, .events = POLLIN};
		T(poll(&p, 1, 0));
	}
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		T(poll(&p, 1, 1000));
		events(0);
		READ(buf, recv(fd, buf, 100, 0));
	}
}

/* The peer's reset. */
SCRIPT(reset)
{
	struct linger now = {1, 0};

	link_up();
	SERVER
	{
		watch(EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
		let_go();
		rest();
		rest();
		events(1000);
		say_error();
		events(0);
		T(recv(fd, buf, 1, 0));
	}
	CLIENT
	{
		rest();
		T(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
		T(close(fd));
	}
}

DUET_MAIN(PLAY(level), PLAY(edge), PLAY(edge_idle), PLAY(one_shot), PLAY(exclusive), PLAY(others), PLAY(nested),
	  PLAY(reset))
