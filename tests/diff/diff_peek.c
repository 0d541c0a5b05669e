/*
 * Reading with conditions: peeking, truncating, waiting for all or for so much, counting what is there.
 */
#include "duet.h"

SCRIPT(peek)
{
	char a[3], b[30];
	struct iovec two[2] = {{a, 3}, {b, 30}};
	struct msghdr m = {.msg_iov = two, .msg_iovlen = 2};

	link_up();
	SERVER
	{
		T(recv(fd, buf, 5, MSG_PEEK | MSG_DONTWAIT));
		rest();
		T(recv(fd, buf, 5, MSG_PEEK | MSG_DONTWAIT));
	}
	CLIENT
	{
		T(send(fd, "first", 5, 0));
		rest();
		T(send(fd, "second", 6, 0));
		rest();
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 2, MSG_PEEK));
		READ(buf, recv(fd, buf, 2, MSG_PEEK));
		READ(buf, recv(fd, buf, 5, MSG_PEEK));
		READ(buf, recv(fd, buf, 6, MSG_PEEK));
		READ(buf, recv(fd, buf, 100, MSG_PEEK));
		READ(buf, recv(fd, buf, 11, MSG_PEEK | MSG_WAITALL));
		T(recvmsg(fd, &m, MSG_PEEK));
		show(a, 3);
		show(b, 8);
		READ(buf, recv(fd, buf, 3, 0));
		READ(buf, recv(fd, buf, 100, MSG_PEEK));
		READ(buf, recv(fd, buf, 1, MSG_PEEK | MSG_TRUNC));
		READ(buf, read(fd, buf, 100));
		T(recv(fd, buf, 100, MSG_PEEK | MSG_DONTWAIT));
		let_go();
		READ(buf, recv(fd, buf, 100, MSG_PEEK));
		READ(buf, recv(fd, buf, 100, MSG_PEEK));
	}
	CLIENT
	{
		rest();
		T(send(fd, "third", 5, 0));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		rest();
		READ(buf, recv(fd, buf, 100, MSG_PEEK));
		READ(buf, recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, MSG_PEEK));
		T(recv(fd, buf, 100, MSG_PEEK | MSG_DONTWAIT));
		T(recv(fd, buf, 100, 0));
	}
}

/* More than the library can look at in one go. */
SCRIPT(peek_much)
{
	enum { SIZE = 100000 };

	link_up();
	SERVER
	{
		set_int(SOL_SOCKET, SO_RCVBUF, 400000);
	}
	SERVER
	{
		let_go();
	}
	CLIENT
	{
		for (size_t at = 0; at < SIZE; at += 1000) {
			fill(buf, 1000, at);
			assert_int_equal(write(fd, buf, 1000), 1000);
		}
	}
	SERVER
	{
		while (MUST(ioctl(fd, FIONREAD, &port)) == 0 && port < SIZE)
			nap(2);
		rest();
		READ(buf, recv(fd, buf, 50000, MSG_PEEK));
		READ(buf, recv(fd, buf, 30, MSG_PEEK));
		READ(buf, recv(fd, buf, SIZE, MSG_PEEK | MSG_WAITALL));
		READ(buf, recv(fd, buf, SIZE + 1, MSG_PEEK));
		READ(buf, recv(fd, buf, SIZE, MSG_WAITALL));
		T(recv(fd, buf, SIZE, MSG_DONTWAIT));
	}
}

SCRIPT(truncate_bytes)
{
	link_up();
	CLIENT
	{
		T(send(fd, "thrown", 6, 0));
		rest();
		T(send(fd, "away, kept", 10, 0));
	}
	SERVER
	{
		rest();
		T(recv(fd, NULL, 4, MSG_TRUNC));
		T(recv(fd, buf, 8, MSG_TRUNC));
		READ(buf, recv(fd, buf, 100, 0));
		T(recv(fd, buf, 100, MSG_TRUNC | MSG_DONTWAIT));
	}
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		T(recv(fd, buf, 100, MSG_TRUNC));
		let_go();
		T(recv(fd, buf, 6, MSG_TRUNC | MSG_WAITALL));
	}
	CLIENT
	{
		T(send(fd, "def", 3, 0));
		rest();
		T(send(fd, "ghi", 3, 0));
	}
	SERVER
	{
		T(recv(fd, buf, 1, MSG_DONTWAIT));
	}
}

SCRIPT(wait_all)
{
	char a[5], b[20];
	struct iovec two[2] = {{a, 5}, {b, 20}};
	struct msghdr m = {.msg_iov = two, .msg_iovlen = 2};

	link_up();
	SERVER
	{
		let_go();
		READ(buf, recv(fd, buf, 9, MSG_WAITALL));
		put_number(0);
	}
	CLIENT
	{
		for (int i = 0; i < 3; i++) {
			rest();
			T(send(fd, "abc", 3, 0));
		}
		get_number();
	}
	SERVER
	{
		let_go();
		T(recvmsg(fd, &m, MSG_WAITALL));
		show(a, 5);
		show(b, 1);
	}
	CLIENT
	{
		T(send(fd, "123", 3, 0));
		rest();
		T(send(fd, "456", 3, 0));
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		T(recv(fd, buf, 9, MSG_WAITALL));
	}
}

SCRIPT(wait_all_cut)
{
	link_up();
	SERVER
	{
		let_go();
		READ(buf, recv(fd, buf, 9, MSG_WAITALL));
		T(recv(fd, buf, 9, MSG_WAITALL));
		put_number(0);
	}
	CLIENT
	{
		T(send(fd, "end", 3, 0));
		rest();
		T(shutdown(fd, SHUT_WR));
		get_number();
	}
	/* The other way: by the time limit, with and without bytes. */
	CLIENT
	{
		let_go();
		set_time(SO_RCVTIMEO, 250);
		TIMED(230, 260, READ(buf, recv(fd, buf, 9, MSG_WAITALL)));
		READ(buf, recv(fd, buf, 9, MSG_WAITALL | MSG_DONTWAIT));
		TIMED(230, 260, READ(buf, recv(fd, buf, 9, MSG_WAITALL)));
	}
	SERVER
	{
		T(send(fd, "time", 4, 0));
	}
	/* By a signal. */
	CLIENT
	{
		let_go();
		set_time(SO_RCVTIMEO, 0);
		catch_signal(SIGALRM, SA_RESTART);
		alarm_in(300);
		READ(buf, recv(fd, buf, 9, MSG_WAITALL));
		say("  signals %d", (int)caught);
		catch_signal(SIGALRM, 0);
		alarm_in(200);
		READ(buf, recv(fd, buf, 9, MSG_WAITALL));
		say("  signals %d", (int)caught);
	}
	SERVER
	{
		T(send(fd, "signal", 6, 0));
	}
}

SCRIPT(low_water)
{
	int waiting = -1;

	link_up();
	SERVER
	{
		set_int(SOL_SOCKET, SO_RCVLOWAT, 6);
		ready(POLLIN, 0);
	}
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
	}
	SERVER
	{
		ready(POLLIN, 170);
		T(ioctl(fd, FIONREAD, &waiting));
		say("  FIONREAD %d", waiting);
		READ(buf, recv(fd, buf, 2, 0));
		READ(buf, recv(fd, buf, 10, MSG_DONTWAIT));
		let_go();
		ready(POLLIN, 3000);
		READ(buf, recv(fd, buf, 10, 0));
	}
	CLIENT
	{
		rest();
		T(send(fd, "defghijk", 8, 0));
	}
	SERVER
	{
		let_go();
		READ(buf, recv(fd, buf, 10, 0));
		set_int(SOL_SOCKET, SO_RCVLOWAT, 1);
	}
	CLIENT
	{
		rest();
		T(send(fd, "lmn", 3, 0));
		rest();
		T(send(fd, "opqrs", 5, 0));
	}
	SERVER
	{
		set_int(SOL_SOCKET, SO_RCVLOWAT, 6);
	}
	CLIENT
	{
		T(send(fd, "end", 3, 0));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		ready(POLLIN, 3000);
		READ(buf, recv(fd, buf, 10, 0));
		T(recv(fd, buf, 10, 0));
	}
}

SCRIPT(count)
{
	int waiting = -1;

	link_up();
	SERVER
	{
		rest();
		T(ioctl(fd, FIONREAD, &waiting));
		say("  FIONREAD %d", waiting);
	}
	CLIENT
	{
		T(send(fd, "abc", 3, 0));
		rest();
		T(send(fd, "defg", 4, 0));
	}
	SERVER
	{
		rest();
		T(ioctl(fd, FIONREAD, &waiting));
		say("  FIONREAD %d", waiting);
		READ(buf, recv(fd, buf, 5, 0));
		T(ioctl(fd, FIONREAD, &waiting));
		say("  FIONREAD %d", waiting);
		READ(buf, recv(fd, buf, 5, 0));
		T(ioctl(fd, FIONREAD, &waiting));
		say("  FIONREAD %d", waiting);
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		T(ioctl(fd, FIONREAD, &waiting));
		say("  FIONREAD %d", waiting);
	}
	/* SIOCOUTQ: all has been acknowledged after a while. */
	SERVER
	{
		T(send(fd, "answer", 6, 0));
		rest();
		T(ioctl(fd, TIOCOUTQ, &waiting));
		say("  SIOCOUTQ %d", waiting);
	}
}

DUET_MAIN(PLAY(peek), PLAY(peek_much), PLAY(truncate_bytes), PLAY(wait_all), PLAY(wait_all_cut), PLAY(low_water),
	  PLAY(count))
