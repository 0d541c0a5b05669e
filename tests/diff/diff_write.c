/*
 * Writing: every call, flags, files and pipes, full buffers, wrong arguments.
 */
#include "duet.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

SCRIPT(calls)
{
	struct iovec three[3] = {{"wri", 3}, {NULL, 0}, {"tev ", 4}};
	struct msghdr m = {.msg_iov = three, .msg_iovlen = 3};
	struct mmsghdr mm[2] = {{.msg_hdr = m}, {.msg_hdr = m}};

	link_up();
	CLIENT
	{
		rest();
		T(write(fd, "write ", 6));
		T(writev(fd, three, 3));
		T(send(fd, "send ", 5, 0));
		rest();
		T(sendto(fd, "sendto ", 7, 0, NULL, 0));
		T(sendmsg(fd, &m, 0));
		T(sendmmsg(fd, mm, 2, 0));
		say("  lengths %u %u", mm[0].msg_len, mm[1].msg_len);
		T(sendmmsg(fd, mm, 0, 0));
		T(syscall(SYS_write, fd, "raw ", 4));
		T(syscall(SYS_sendto, fd, "rawto ", 6, MSG_NOSIGNAL, NULL, 0));
		T(send(fd, "dontwait ", 9, MSG_DONTWAIT));
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		rest();
		READ(buf, recv(fd, buf, 200, 0));
		T(recv(fd, buf, 200, 0));
	}
}

/* An address in a connected stream's sendto is not looked at, a wrong message control is. */
SCRIPT(address)
{
	struct address a;
	struct iovec one = {"abc", 3};
	char odd[24] = {0};
	struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1};

	link_up();
	CLIENT
	{
		a = loopback(port);
		T(sendto(fd, "x", 1, 0, SA(&a), a.len));
		m.msg_name = &a.storage;
		m.msg_namelen = a.len;
		T(sendmsg(fd, &m, 0));
		m.msg_namelen = 4096;
		T(sendmsg(fd, &m, MSG_DONTWAIT));
		m.msg_name = NULL;
		m.msg_namelen = 0;
		m.msg_control = odd;
		m.msg_controllen = sizeof odd;
		T(sendmsg(fd, &m, 0));
		T(sendto(fd, "x", 1, 0, SA(&a), (socklen_t)minus_one));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 200, MSG_WAITALL));
	}
}

/* Held back by MSG_MORE and TCP_CORK until there is no reason to any more. */
SCRIPT(more)
{
	link_up();
	CLIENT
	{
		T(send(fd, "half", 4, MSG_MORE));
		rest();
		T(send(fd, "whole", 5, 0));
	}
	SERVER
	{
		let_go();
		READ(buf, recv(fd, buf, 9, MSG_WAITALL));
		READ(buf, recv(fd, buf, 9, MSG_WAITALL));
		READ(buf, recv(fd, buf, 5, MSG_WAITALL));
		drain();
	}
	CLIENT
	{
		set_int(IPPROTO_TCP, TCP_CORK, 1);
		T(write(fd, "abc", 3));
		rest();
		T(write(fd, "defghi", 6));
		set_int(IPPROTO_TCP, TCP_CORK, 0);
		set_int(IPPROTO_TCP, TCP_NODELAY, 1);
		T(write(fd, "no", 2));
		T(write(fd, "del", 3));
		set_int(IPPROTO_TCP, TCP_CORK, 1);
		T(write(fd, "last", 4));
		T(shutdown(fd, SHUT_WR));
	}
}

/* A corked half message is not seen by the peer while the cork is in. */
SCRIPT(corked)
{
	link_up();
	CLIENT
	{
		set_int(IPPROTO_TCP, TCP_CORK, 1);
		T(write(fd, "abc", 3));
	}
	SERVER
	{
		nap(60);
		T(recv(fd, buf, 9, MSG_DONTWAIT));
	}
	CLIENT
	{
		set_int(IPPROTO_TCP, TCP_CORK, 0);
		nap(20);
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 9, MSG_DONTWAIT));
	}
}

SCRIPT(nothing)
{
	struct iovec none[2] = {{buf, 0}, {NULL, 0}};
	struct msghdr m = {.msg_iov = none, .msg_iovlen = 2};

	link_up();
	CLIENT
	{
		T(write(fd, buf, 0));
		T(write(fd, NULL, 0));
		T(send(fd, buf, 0, 0));
		T(send(fd, NULL, 0, MSG_DONTWAIT));
		T(writev(fd, none, 2));
		T(writev(fd, none, 0));
		T(writev(fd, NULL, 0));
		T(sendmsg(fd, &m, 0));
		m.msg_iovlen = 0;
		T(sendmsg(fd, &m, 0));
		T(write(fd, "x", 1));
		T(shutdown(fd, SHUT_WR));
		signal(SIGPIPE, SIG_IGN);
		T(write(fd, buf, 0));
		T(send(fd, buf, 0, 0));
		T(writev(fd, none, 2));
	}
	SERVER
	{
		drain();
	}
}

SCRIPT(wrong)
{
	static struct iovec many[IOV_MAX + 1], below[2] = {{buf, 1}, {buf, SIZE_MAX / 2 + 5}};
	struct msghdr m = {.msg_iov = many, .msg_iovlen = IOV_MAX + 1};
	struct mmsghdr mm = {.msg_hdr = m};
	struct iovec bad[2] = {{nowhere, 4}, {buf, 2}};

	for (size_t i = 0; i <= IOV_MAX; i++)
		many[i] = (struct iovec){buf + i, 1};
	link_up();
	CLIENT
	{
		memcpy(buf, "good", 4);
		T(write(fd, nowhere, 5));
		T(write(fd, low_page, 5));
		T(send(fd, high_page, 5, 0));
		T(send(fd, nowhere, 5000, 0));
		T(writev(fd, nowhere, 2));
		T(writev(fd, many, IOV_MAX + 1));
		T(writev(fd, many, minus_one));
		T(writev(fd, below, 2));
		T(writev(fd, bad, 2));
		T(writev(fd, bad, 1));
		T(sendmsg(fd, nowhere, 0));
		T(sendmsg(fd, &m, 0));
		T(sendmmsg(fd, &mm, 1, 0));
		T(sendmmsg(fd, nowhere, 1, 0));
		T(pwrite(fd, buf, 4, 0));
		T(pwritev2(fd, many, 1, 7, 0));
		T(write(fd, buf, huge));
		T(write(fd, buf, negative));
		T(send(-1, buf, 1, 0));
		T(write(9999, buf, 1));
		T(write(fd, buf, 4));
		rest();
		T(writev(fd, many, IOV_MAX));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		drain();
	}
}

/* A page that is there but may not be read. */
SCRIPT(wrong_page)
{
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(hole, MAP_FAILED);
	MUST(mprotect(hole + 4096, 4096, PROT_NONE));
	link_up();
	CLIENT
	{
		T(write(fd, hole + 4096, 5));
		T(send(fd, hole + 4096, 4000, MSG_DONTWAIT));
		T(write(fd, "fine", 4));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		drain();
	}
}

SCRIPT(from_file)
{
	char name[] = "/tmp/duet.XXXXXX";
	int file;
	off_t at = 10;

	link_up();
	CLIENT
	{
		file = MUST(mkstemp(name));
		unlink(name);
		fill(buf, 200000, 0);
		assert_int_equal(write(file, buf, 200000), 200000);
		lseek(file, 5, SEEK_SET);
		let_go();
		rest();
		T(sendfile(fd, file, &at, 100));
		say("  offset %ld", (long)at);
		T(sendfile(fd, file, NULL, 50));
		say("  position %ld", (long)lseek(file, 0, SEEK_CUR));
		rest();
		T(sendfile(fd, file, NULL, 0));
		T(sendfile(fd, file, &at, 300000));
		say("  offset %ld", (long)at);
		T(sendfile(fd, file, &at, 300000));
		at = 199990;
		T(write(fd, "between", 7));
		T(sendfile(fd, file, &at, 100));
		at = -5;
		T(sendfile(fd, file, &at, 100));
		T(sendfile(fd, -1, NULL, 100));
		T(sendfile(fd, fd, NULL, 100));
		T(sendfile(fd, file, nowhere, 0));
		T(shutdown(fd, SHUT_WR));
		signal(SIGPIPE, SIG_IGN);
		at = 0;
		T(sendfile(fd, file, &at, 100));
		say("  offset %ld", (long)at);
		T(close(file));
	}
	SERVER
	{
		drain();
	}
}

SCRIPT(pipes)
{
	int p[2], q[2];
	loff_t at = 0;

	link_up();
	CLIENT
	{
		MUST(pipe(p));
		T(splice(p[0], NULL, fd, NULL, 100, SPLICE_F_NONBLOCK));
		T(write(p[1], "through a pipe", 14));
		T(splice(p[0], NULL, fd, NULL, 7, 0));
		rest();
		T(splice(p[0], NULL, fd, NULL, 100, SPLICE_F_MORE));
		T(splice(p[0], &at, fd, NULL, 100, 0));
		T(splice(p[0], NULL, fd, &at, 100, 0));
		T(splice(fd, NULL, fd, NULL, 100, 0));
		T(splice(p[0], NULL, fd, NULL, 0, 0));
		close(p[1]);
		T(splice(p[0], NULL, fd, NULL, 100, 0));
		T(write(fd, ", and not", 9));
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		MUST(pipe(q));
		rest();
		READ(buf, read(fd, buf, 3));
		T(splice(fd, NULL, q[1], NULL, 8, 0));
		READ(buf, read(q[0], buf, 100));
		T(splice(fd, NULL, q[1], NULL, 0, 0));
		T(splice(fd, &at, q[1], NULL, 5, 0));
		for (long total = 0, n; total < 12; total += n)
			if ((n = splice(fd, NULL, q[1], NULL, (size_t)(12 - total), 0)) <= 0)
				break;
		READ(buf, read(q[0], buf, 100));
		T(splice(fd, NULL, q[1], NULL, 100, 0));
		T(splice(fd, NULL, q[1], NULL, 100, SPLICE_F_NONBLOCK));
	}
	/* The other way, with nothing there. */
	CLIENT
	{
		MUST(pipe(q));
		set_time(SO_RCVTIMEO, 200); /* SPLICE_F_NONBLOCK is about the pipe */
		TIMED(190, 210, T(splice(fd, NULL, q[1], NULL, 100, SPLICE_F_NONBLOCK)));
		set_time(SO_RCVTIMEO, 0);
		nonblocking(true);
		T(splice(fd, NULL, q[1], NULL, 100, 0));
		nonblocking(false);
		let_go();
		T(splice(fd, NULL, q[1], NULL, 100, 0));
		READ(buf, read(q[0], buf, 100));
	}
	SERVER
	{
		rest();
		T(write(fd, "answer", 6));
	}
}

/* Read SIZE bytes of the pattern, from AT on. */
static void take(size_t at, size_t size)
{
	static char want[65536];
	size_t end = at + size;

	while (at < end) {
		size_t n = sizeof want < end - at ? sizeof want : end - at;
		ssize_t got = recv(fd, buf, n, 0);

		if (got <= 0) {
			say("%zd %s with %s left", got, strerrorname_np(errno), "bytes");
			return;
		}
		fill(want, (size_t)got, at);
		if (memcmp(want, buf, (size_t)got) != 0) {
			say("wrong bytes");
			return;
		}
		at += (size_t)got;
	}
	say("all bytes right");
}

/* The buffers are full; what the program writes next is not what it wrote in vain. */
SCRIPT(full)
{
	struct pollfd p;
	size_t sent;

	link_up_small();
	CLIENT
	{
		sent = fill_up(0);
		p = (struct pollfd){.fd = fd, .events = POLLOUT | POLLIN};
		T(poll(&p, 1, 0));
		rest();
		T(poll(&p, 1, 0));
		T(send(fd, "other", 5, MSG_DONTWAIT));
		T(send(fd, "different", 9, MSG_DONTWAIT));
		let_go();
		put_number((long)sent);
	}
	SERVER
	{
		take(0, (size_t)get_number());
		rest();
		T(recv(fd, buf, 100, MSG_DONTWAIT));
	}
	CLIENT
	{
		T(poll(&p, 1, 2000));
		say("  %s", events_name((unsigned)p.revents));
		T(send(fd, "quite other", 11, MSG_DONTWAIT));
		T(write(fd, ".", 1));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 12, MSG_WAITALL));
	}
}

/* A non-blocking program that sends much, with pieces of every size, while the other side reads now and then. */
SCRIPT(much)
{
	enum { TOTAL = 3000000 };
	static const size_t pieces[] = {100000, 1, 5000, 300000, 77, 65536};

	link_up();
	SERVER
	{
		let_go();
	}
	CLIENT
	{
		size_t at = 0;

		let_go();
		nonblocking(true);
		for (size_t i = 0; at < TOTAL; i++) {
			size_t n = pieces[i % 6] < TOTAL - at ? pieces[i % 6] : TOTAL - at;
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			ssize_t sent;

			fill(buf, n, at);
			sent = write(fd, buf, n);
			if (sent > 0)
				at += (size_t)sent;
			else if (sent < 0 && errno == EAGAIN)
				assert_int_equal(poll(&p, 1, 5000), 1);
			else
				fail_msg("write %zd", sent);
		}
		nonblocking(false);
		say("sent %zu", at);
	}
	SERVER
	{
		rest();
		take(0, 100000);
		rest();
		take(100000, 1000000);
		rest();
		take(1100000, 1900000);
		T(recv(fd, buf, 1, MSG_DONTWAIT));
	}
}

/* One blocking write of more than fits, read with pauses. */
SCRIPT(one_write)
{
	link_up();
	SERVER
	{
		let_go();
	}
	CLIENT
	{
		let_go();
		fill(buf, sizeof buf, 0);
		T(write(fd, buf, sizeof buf));
		T(send(fd, "end", 3, MSG_NOSIGNAL));
	}
	SERVER
	{
		for (size_t at = 0; at < sizeof buf; at += sizeof buf / 4) {
			rest();
			take(at, sizeof buf / 4);
		}
		READ(buf, recv(fd, buf, 5, 0));
	}
}

DUET_MAIN(PLAY(calls), PLAY(address), PLAY(more), PLAY(corked), PLAY(nothing), PLAY(wrong), PLAY(wrong_page),
	  PLAY(from_file), PLAY(pipes), PLAY(full), PLAY(much), PLAY(one_write))
