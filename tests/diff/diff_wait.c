/*
 * poll, ppoll, select, pselect: readiness at every step, with beats in the queue; waits that must run out.
 */
#include "duet.h"

#include <sys/select.h>

#define ALL (POLLIN | POLLOUT | POLLPRI | POLLRDHUP)

/* The connection in select(2), with TIMEOUT ms. */
static void chosen(bool in, bool to_write, long timeout)
{
	fd_set r, w, e;
	struct timeval t = {timeout / 1000, timeout % 1000 * 1000};
	int n;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&e);
	if (in)
		FD_SET(fd, &r);
	if (to_write)
		FD_SET(fd, &w);
	FD_SET(fd, &e);
	errno = 0;
	n = select(fd + 1, &r, &w, &e, &t);
	say("select = %d %s%s%s%s, %s", n, n < 0 ? strerrorname_np(errno) : "", FD_ISSET(fd, &r) ? "r" : "",
	    FD_ISSET(fd, &w) ? "w" : "", FD_ISSET(fd, &e) ? "e" : "",
	    timeout == 0            ? "at once"
	    : t.tv_sec || t.tv_usec ? "in time"
				    : "time out");
}

static void chosen_p(bool in, long timeout, int unmasked)
{
	fd_set r;
	struct timespec t = {timeout / 1000, timeout % 1000 * 1000000};
	sigset_t mask;
	int n;

	sigemptyset(&mask);
	if (!unmasked)
		sigaddset(&mask, SIGALRM);
	FD_ZERO(&r);
	if (in)
		FD_SET(fd, &r);
	errno = 0;
	n = pselect(fd + 1, &r, NULL, NULL, &t, &mask);
	say("pselect = %d %s%s", n, n < 0 ? strerrorname_np(errno) : "", n > 0 && FD_ISSET(fd, &r) ? "r" : "");
}

static int polled_p(short events, long timeout, bool unmasked)
{
	struct pollfd p = {.fd = fd, .events = events};
	struct timespec t = {timeout / 1000, timeout % 1000 * 1000000};
	sigset_t mask;

	sigemptyset(&mask);
	if (!unmasked)
		sigaddset(&mask, SIGALRM);
	errno = 0;
	int n = ppoll(&p, 1, &t, &mask);
	say("ppoll = %d %s %s", n, n < 0 ? strerrorname_np(errno) : "", events_name((unsigned)p.revents));
	return n;
}

static void steps(void)
{
	SERVER
	{
		ready(ALL, 0);
		ready(POLLIN, 0);
		rest();
		ready(ALL, 0);
		ready(POLLIN, 0);
		TIMED(240, 260, ready(POLLIN, 250));
		chosen(true, false, 0);
		chosen(true, true, 1000);
		TIMED(240, 260, chosen(true, false, 250));
		chosen_p(true, 150, 0);
		TIMED(140, 160, polled_p(POLLIN | POLLRDHUP, 150, false));
		ready(0, 100);
		let_go();
		TIMED(100, 250, ready(POLLIN, 5000));
		nap(10);
		ready(ALL, 0);
	}
	CLIENT
	{
		rest();
		T(send(fd, "abcdef", 6, 0));
		rest();
	}
	SERVER
	{
		ready(ALL, 0);
		chosen(true, true, 100);
		chosen(true, false, 100);
		chosen_p(true, 100, 0);
		polled_p(ALL, 100, false);
		READ(buf, recv(fd, buf, 3, 0));
		ready(ALL, 0);
		READ(buf, recv(fd, buf, 3, 0));
		ready(ALL, 0);
		chosen(true, true, 0);
		rest();
		ready(ALL, 0);
		let_go();
		chosen(true, false, 5000);
		READ(buf, recv(fd, buf, 30, 0));
	}
	CLIENT
	{
		rest();
		T(send(fd, "ghi", 3, 0));
	}
	/* The end. */
	SERVER
	{
		let_go();
		ready(POLLRDHUP, 5000);
		ready(ALL, 0);
		ready(POLLIN, 0);
		ready(0, 0);
		chosen(true, true, 100);
		chosen(true, false, 100);
		T(recv(fd, buf, 1, MSG_DONTWAIT));
		ready(ALL, 0);
		rest();
		ready(ALL, 0);
	}
	CLIENT
	{
		rest();
		T(shutdown(fd, SHUT_WR));
		nap(10);
		ready(ALL, 0);
		ready(POLLIN, 200);
		chosen(true, true, 0);
	}
	SERVER
	{
		T(shutdown(fd, SHUT_WR));
		nap(20);
		ready(ALL, 0);
		ready(0, 0);
		chosen(true, true, 0);
	}
	CLIENT
	{
		nap(20);
		ready(ALL, 0);
		ready(0, 0);
		chosen(true, true, 0);
		T(recv(fd, buf, 1, 0));
	}
}

SCRIPT(blocking)
{
	link_up();
	steps();
}

SCRIPT(nonblocking_too)
{
	link_up();
	nonblocking(true);
	steps();
}

/* A signal ends a wait, SA_RESTART or not; a mask keeps it out. */
SCRIPT(signals)
{
	sigset_t alarms;

	link_up();
	SERVER
	{
		sigemptyset(&alarms);
		sigaddset(&alarms, SIGALRM);
		catch_signal(SIGALRM, SA_RESTART);
		alarm_in(200);
		TIMED(190, 210, ready(POLLIN, 3000));
		alarm_in(200);
		TIMED(190, 210, chosen(true, false, 3000));
		MUST(sigprocmask(SIG_BLOCK, &alarms, NULL));
		alarm_in(100);
		TIMED(240, 260, polled_p(POLLIN, 250, false));
		say("  signals %d", (int)caught);
		TIMED(0, 20, polled_p(POLLIN, 3000, true));
		say("  signals %d", (int)caught);
		alarm_in(150);
		TIMED(140, 160, chosen_p(true, 3000, 1));
		say("  signals %d", (int)caught);
		alarm_in(150);
		TIMED(240, 260, chosen_p(true, 250, 0));
		say("  signals %d", (int)caught);
	}
}

/* Wrong arguments, and descriptors of other kinds beside the connection. */
SCRIPT(others)
{
	struct pollfd p[4];
	int pipes[2];
	struct timespec odd = {0, 2000000000};
	struct timeval below = {-1, 0};
	fd_set r;

	link_up();
	SERVER
	{
		MUST(pipe(pipes));
		rest();
		p[0] = (struct pollfd){.fd = pipes[0], .events = POLLIN};
		p[1] = (struct pollfd){.fd = fd, .events = POLLIN};
		p[2] = (struct pollfd){.fd = -1, .events = POLLIN, .revents = 77};
		p[3] = (struct pollfd){.fd = 9999, .events = POLLIN};
		T(poll(p, 3, 100));
		T(poll(p, 4, 1000));
		say("  %x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[3].revents);
		T(write(pipes[1], "x", 1));
		T(poll(p, 3, 1000));
		say("  %x %x %x", p[0].revents, p[1].revents, p[2].revents);
		p[0].fd = ~p[0].fd;
		T(poll(p, 2, 120));
		T(poll(p, 0, 10));
		T(poll(nowhere, 1, 0));
		T(poll(low_page, 2, 0));
		T(ppoll(p, 2, &odd, NULL));
		T(poll(p, (nfds_t)negative, 0));
		FD_ZERO(&r);
		FD_SET(fd, &r);
		T(select(fd + 1, &r, NULL, NULL, &below));
		T(select(minus_one, &r, NULL, NULL, NULL));
		T(select(fd, &r, NULL, NULL, &(struct timeval){0, 1000}));
		T(pselect(fd + 1, &r, NULL, NULL, &odd, NULL));
		FD_ZERO(&r);
		FD_SET(pipes[0], &r);
		FD_SET(fd, &r);
		T(select(fd + pipes[0] + 1, &r, NULL, NULL, NULL));
		say("  %d %d", FD_ISSET(pipes[0], &r), FD_ISSET(fd, &r));
		p[1] = (struct pollfd){.fd = fd, .events = POLLIN | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND};
		T(poll(p, 2, 0));
		say("  %x", p[1].revents);
	}
	CLIENT
	{
		T(send(fd, "a", 1, 0));
	}
	SERVER
	{
		T(poll(p, 2, 1000));
		say("  %x", p[1].revents);
	}
}

/* A full socket is not writable, and is again when the peer has read. */
SCRIPT(room)
{
	struct pollfd p;

	link_up_small();
	CLIENT
	{
		fill_up(0);
		ready(POLLOUT, 150);
		ready(ALL, 0);
		chosen(true, true, 100);
		let_go();
		p = (struct pollfd){.fd = fd, .events = POLLOUT};
		TIMED(150, 1000, T(poll(&p, 1, 5000)));
		say("  %s", events_name((unsigned)p.revents));
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		ssize_t n;

		rest();
		while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
			;
		say("then %zd", n);
	}
}

DUET_MAIN(PLAY(blocking), PLAY(nonblocking_too), PLAY(signals), PLAY(others), PLAY(room))
