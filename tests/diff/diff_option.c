/*
 * Socket options, ioctl and fcntl; urgent data and the error queue.
 */
#include "duet.h"

static void get_int(int level, int name, const char *text)
{
	int value = -77;
	socklen_t len = sizeof value;

	errno = 0;
	int result = getsockopt(fd, level, name, &value, &len);
	say("%s: %d%s, value %d, length %u", text, result, result < 0 ? strerrorname_np(errno) : "", value, len);
}
#define GET(level, name)        get_int(level, name, #name)
#define SET(level, name, value) T(setsockopt(fd, level, name, &(int){value}, sizeof(int)))

SCRIPT(values)
{
	struct timeval t = {0};
	socklen_t len = sizeof t;
	char part[2] = "~~";

	link_up();
	CLIENT
	{
		rest();
		GET(SOL_SOCKET, SO_TYPE);
		GET(SOL_SOCKET, SO_PROTOCOL);
		GET(SOL_SOCKET, SO_ACCEPTCONN);
		GET(SOL_SOCKET, SO_ERROR);
		GET(SOL_SOCKET, SO_KEEPALIVE);
		GET(IPPROTO_TCP, TCP_KEEPIDLE);
		GET(IPPROTO_TCP, TCP_KEEPINTVL);
		GET(IPPROTO_TCP, TCP_KEEPCNT);
		GET(IPPROTO_TCP, TCP_USER_TIMEOUT);
		GET(IPPROTO_TCP, TCP_NODELAY);
		GET(IPPROTO_TCP, TCP_CORK);
		GET(SOL_SOCKET, SO_RCVLOWAT);
		GET(SOL_SOCKET, SO_SNDLOWAT);
		GET(SOL_SOCKET, SO_OOBINLINE);
		GET(SOL_SOCKET, SO_REUSEADDR);
		SET(SOL_SOCKET, SO_KEEPALIVE, 1);
		SET(IPPROTO_TCP, TCP_KEEPIDLE, 30);
		SET(IPPROTO_TCP, TCP_KEEPINTVL, 7);
		SET(IPPROTO_TCP, TCP_KEEPCNT, 4);
		SET(IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
		SET(IPPROTO_TCP, TCP_NODELAY, 1);
		SET(SOL_SOCKET, SO_RCVLOWAT, 100);
		SET(SOL_SOCKET, SO_RCVLOWAT, 0);
		GET(SOL_SOCKET, SO_RCVLOWAT);
		SET(SOL_SOCKET, SO_RCVLOWAT, 20);
		rest();
		GET(SOL_SOCKET, SO_KEEPALIVE);
		GET(IPPROTO_TCP, TCP_KEEPIDLE);
		GET(IPPROTO_TCP, TCP_KEEPINTVL);
		GET(IPPROTO_TCP, TCP_KEEPCNT);
		GET(IPPROTO_TCP, TCP_USER_TIMEOUT);
		GET(IPPROTO_TCP, TCP_NODELAY);
		GET(SOL_SOCKET, SO_RCVLOWAT);
		SET(SOL_SOCKET, SO_RCVLOWAT, 1);
		SET(SOL_SOCKET, SO_KEEPALIVE, 0);
		rest();
		GET(SOL_SOCKET, SO_KEEPALIVE);
		/* Short room gets what fits. */
		len = 2;
		SET(IPPROTO_TCP, TCP_KEEPIDLE, 0x102);
		T(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, part, &len));
		say("  %d %d length %u", part[0], part[1], len);
		len = 1;
		T(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, part, &len));
		say("  %d length %u", part[0], len);
		T(send(fd, "x", 1, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
	}
}

SCRIPT(errors)
{
	int value = 1;
	socklen_t len = sizeof value;
	struct timeval t = {0, 5000000};

	link_up();
	SERVER
	{
		rest();
		T(getsockopt(fd, SOL_SOCKET, 9999, &value, &len));
		T(getsockopt(fd, 9999, 1, &value, &len));
		T(getsockopt(fd, SOL_SOCKET, SO_ERROR, nowhere, &len));
		T(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, nowhere));
		T(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, nowhere));
		T(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, nowhere, &len));
		len = (socklen_t)minus_one;
		T(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &len));
		T(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &len));
		len = 0;
		T(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &len));
		T(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
		T(setsockopt(fd, SOL_SOCKET, 9999, &value, 4));
		T(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 2));
		T(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, nowhere, 4));
		T(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, nowhere, 4));
		T(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, 3));
		T(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
		T(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, 4));
		T(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, nowhere, sizeof t));
		t = (struct timeval){-1, 0};
		T(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
		SET(IPPROTO_TCP, TCP_KEEPIDLE, 0);
		SET(IPPROTO_TCP, TCP_KEEPIDLE, 40000);
		SET(IPPROTO_TCP, TCP_KEEPINTVL, -1);
		SET(IPPROTO_TCP, TCP_KEEPCNT, 128);
		SET(IPPROTO_TCP, TCP_USER_TIMEOUT, -1);
		SET(IPPROTO_TCP, TCP_CORK, 1);
		SET(IPPROTO_TCP, TCP_CORK, 0);
		SET(SOL_SOCKET, SO_TYPE, 1);
		value = 0;
		T(ioctl(fd, FIONREAD, nowhere));
		T(ioctl(fd, TIOCOUTQ, nowhere));
		T(ioctl(fd, 0xdeadbeef, &value));
		T(fcntl(fd, 9999, 0));
		T(fcntl(fd, F_GETFD));
		T(ioctl(-1, FIONREAD, &value));
		T(getsockopt(-1, SOL_SOCKET, SO_ERROR, &value, &len));
		T(lseek(fd, 0, SEEK_SET));
		T(isatty(fd));
		T(listen(fd, 1));
		T(accept(fd, NULL, NULL));
		struct address a = loopback(port);
		T(bind(fd, SA(&a), a.len));
		T(connect(fd, SA(&a), a.len));
		T(connect(fd, SA(&a), 3));
		T(connect(fd, nowhere, a.len));
		T(send(fd, "unharmed", 8, 0));
	}
	CLIENT
	{
		READ(buf, recv(fd, buf, 10, 0));
	}
}

SCRIPT(info)
{
	struct tcp_info i = {0};
	socklen_t len = sizeof i;
	uint64_t cookie = 0, again = 0;

	link_up();
	SERVER
	{
		T(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
		say("  state %u, length %s", i.tcpi_state, len >= 104 ? "right" : "short");
		len = 1;
		T(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
		say("  length %u", len);
		len = sizeof cookie;
		T(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len));
		T(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &again, &len));
		say("  same cookie %d", cookie == again && cookie != 0);
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
		nap(20);
	}
	SERVER
	{
		T(recv(fd, buf, 1, 0));
		len = sizeof i;
		T(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	}
}

/* Non-blocking by ioctl, by fcntl, by neither. */
SCRIPT(nonblocking_ways)
{
	int on = 1, off = 0;

	link_up();
	SERVER
	{
		T(ioctl(fd, FIONBIO, &on));
		T((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
		T(recv(fd, buf, 1, 0));
		rest();
		T(recv(fd, buf, 1, MSG_WAITALL));
		T(recv(fd, buf, 1, MSG_PEEK));
		T(ioctl(fd, FIONBIO, &off));
		T(fcntl(fd, F_SETFL, O_NONBLOCK));
		T(read(fd, buf, 1));
		T(fcntl(fd, F_SETFL, 0));
		let_go();
		READ(buf, read(fd, buf, 10));
	}
	CLIENT
	{
		rest();
		T(send(fd, "abc", 3, 0));
	}
}

/* There is no room for an urgent byte in frames. */
SCRIPT(urgent)
{
	int mark = -1;

	link_up();
	CLIENT
	{
		T(send(fd, "u", 1, MSG_OOB));
	}
	SERVER
	{
		rest();
		ready(POLLPRI, 0);
		T(ioctl(fd, SIOCATMARK, &mark));
		READ(buf, recv(fd, buf, 1, MSG_OOB));
	}
}

/* With none sent, and as the other side has it that asks for none. */
SCRIPT(no_urgent)
{
	int mark = -1;

	link_up();
	SERVER
	{
		rest();
		ready(POLLPRI, 100);
		T(recv(fd, buf, 1, MSG_OOB));
		T(ioctl(fd, SIOCATMARK, &mark));
		say("  mark %d", mark);
		SET(SOL_SOCKET, SO_OOBINLINE, 1);
		T(recv(fd, buf, 1, MSG_OOB));
		T(recv(fd, buf, 1, MSG_DONTWAIT));
	}
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
	}
}

SCRIPT(error_queue)
{
	char control_data[256];
	struct iovec one = {buf, 100};
	struct msghdr m = {
		.msg_iov = &one, .msg_iovlen = 1, .msg_control = control_data, .msg_controllen = sizeof control_data};

	link_up();
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		rest();
		T(recvmsg(fd, &m, MSG_ERRQUEUE));
		T(recv(fd, buf, 10, MSG_ERRQUEUE | MSG_DONTWAIT));
		READ(buf, recv(fd, buf, 10, 0));
	}
}

/* Zero copy: a program that asks for it goes on without when it is refused. */
SCRIPT(zero_copy)
{
	link_up();
	CLIENT
	{
		int on = 1;

		if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on) < 0)
			say("refused");
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 10, 0));
	}
}

DUET_MAIN(PLAY(values), PLAY(errors), PLAY(info), PLAY(nonblocking_ways), PLAY(urgent), PLAY(no_urgent),
	  PLAY(error_queue), PLAY(zero_copy))
