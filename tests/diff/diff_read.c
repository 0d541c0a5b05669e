/*
 * Reading: every call, no room, wrong arguments, many pieces.
 */
#include "duet.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* One message, each half by another call; beats before, between and after. */
SCRIPT(calls)
{
	char a[8], b[8];
	struct iovec two[2] = {{a, 3}, {b, 8}};
	struct sockaddr_storage from;
	socklen_t len = sizeof from;

	link_up();
	SERVER
	{
		rest();
	}
	CLIENT
	{
		T(write(fd, "onetwothreefourfive", 19));
	}
	SERVER
	{
		rest();
		READ(buf, read(fd, buf, 3));
		READ(buf, recv(fd, buf, 3, 0));
		T(readv(fd, two, 2));
		show(a, 3);
		show(b, 8);
	}
	CLIENT
	{
		T(write(fd, "sixseven", 8));
	}
	SERVER
	{
		READ(buf, recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &len));
		say("  address length %u", len);
	}
	CLIENT
	{
		T(write(fd, "eightnine", 9));
	}
	SERVER
	{
		rest();
		READ(buf, recvfrom(fd, buf, 5, 0, NULL, NULL));
		READ(buf, syscall(SYS_read, fd, buf, 2));
		READ(buf, syscall(SYS_recvfrom, fd, buf, 20, 0, NULL, NULL));
		READ(buf, recv(fd, buf, 5, MSG_DONTWAIT));
		rest();
		READ(buf, recv(fd, buf, 5, MSG_DONTWAIT));
	}
}

SCRIPT(message)
{
	char a[4], b[16], control_data[64];
	struct iovec two[2] = {{a, 4}, {b, 16}};
	struct sockaddr_storage from;
	struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = two, .msg_iovlen = 2};

	link_up();
	CLIENT
	{
		T(write(fd, "scattered message", 17));
	}
	SERVER
	{
		rest();
		m.msg_control = control_data;
		m.msg_controllen = sizeof control_data;
		m.msg_flags = 0x4711;
		T(recvmsg(fd, &m, 0));
		say("  namelen %u controllen %zu flags %x", m.msg_namelen, m.msg_controllen, (unsigned)m.msg_flags);
		show(a, 4);
		show(b, 13);
		m.msg_namelen = sizeof from;
		m.msg_flags = 0x4711;
		T(recvmsg(fd, &m, MSG_DONTWAIT));
		say("  namelen %u controllen %zu flags %x", m.msg_namelen, m.msg_controllen, (unsigned)m.msg_flags);
	}
	CLIENT
	{
		T(write(fd, "again", 5));
	}
	SERVER
	{
		m.msg_name = NULL;
		m.msg_namelen = 77;
		T(recvmsg(fd, &m, MSG_CMSG_CLOEXEC));
		say("  namelen %u controllen %zu flags %x", m.msg_namelen, m.msg_controllen, (unsigned)m.msg_flags);
		show(a, 4);
		show(b, 1);
	}
	CLIENT
	{
		T(close(fd));
	}
	SERVER
	{
		rest();
		m.msg_flags = 0x4711;
		T(recvmsg(fd, &m, 0));
		say("  namelen %u flags %x", m.msg_namelen, (unsigned)m.msg_flags);
	}
}

SCRIPT(messages)
{
	char data[3][8];
	struct iovec iov[3] = {{data[0], 4}, {data[1], 4}, {data[2], 4}};
	struct mmsghdr m[3];
	struct timespec limit = {0, 150000000};

	link_up();
	memset(m, 0, sizeof m);
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	CLIENT
	{
		T(write(fd, "aaaabbbbccccdd", 14));
	}
	SERVER
	{
		rest();
		T(recvmmsg(fd, m, 3, 0, NULL));
		for (int i = 0; i < 3; i++)
			show(data[i], (long)m[i].msg_len);
		T(recvmmsg(fd, m, 3, MSG_WAITFORONE, NULL));
		show(data[0], (long)m[0].msg_len);
		T(recvmmsg(fd, m, 3, MSG_DONTWAIT, NULL));
		T(recvmmsg(fd, m, 0, 0, NULL));
	}
	CLIENT
	{
		T(write(fd, "eeee", 4));
	}
	SERVER
	{
		T(recvmmsg(fd, m, 3, MSG_DONTWAIT, &limit));
		show(data[0], (long)m[0].msg_len);
		say("  time left %s", limit.tv_nsec > 0 ? "some" : "none");
		limit.tv_nsec = 2000000000;
		T(recvmmsg(fd, m, 3, MSG_DONTWAIT, &limit));
	}
}

SCRIPT(nothing)
{
	struct iovec none[2] = {{buf, 0}, {NULL, 0}}, late[3] = {{NULL, 0}, {buf, 2}, {NULL, 0}};
	struct msghdr m = {0};

	link_up();
	SERVER
	{
		rest();
		T(read(fd, buf, 0));
		T(read(fd, NULL, 0));
		T(recv(fd, buf, 0, MSG_DONTWAIT));
		T(recv(fd, buf, 0, MSG_PEEK | MSG_DONTWAIT));
		T(readv(fd, none, 2));
		T(readv(fd, none, 0));
		T(readv(fd, NULL, 0));
		T(recvmsg(fd, &m, MSG_DONTWAIT));
		set_time(SO_RCVTIMEO, 200); /* unlike read, recv waits */
		TIMED(190, 210, T(recv(fd, buf, 0, 0)));
		set_time(SO_RCVTIMEO, 0);
	}
	CLIENT
	{
		T(send(fd, "ab", 2, 0));
	}
	SERVER
	{
		rest();
		T(read(fd, buf, 0));
		T(recv(fd, buf, 0, 0));
		T(recv(fd, buf, 0, MSG_PEEK));
		T(readv(fd, none, 2));
		READ(buf, readv(fd, late, 3));
	}
	CLIENT
	{
		T(shutdown(fd, SHUT_WR));
	}
	SERVER
	{
		T(recv(fd, buf, 0, 0));
		T(read(fd, buf, 1));
	}
}

SCRIPT(wrong)
{
	static struct iovec many[IOV_MAX + 1], below[2] = {{buf, 1}, {buf, SIZE_MAX / 2 + 5}};
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec bad[2] = {{buf, 2}, {nowhere, 4}};
	struct msghdr m = {.msg_iov = many, .msg_iovlen = IOV_MAX + 1};
	struct mmsghdr mm = {.msg_hdr = m};

	assert_ptr_not_equal(hole, MAP_FAILED);
	MUST(mprotect(hole + 4096, 4096, PROT_NONE));
	for (size_t i = 0; i <= IOV_MAX; i++)
		many[i] = (struct iovec){buf + i, 1};
	link_up();
	CLIENT
	{
		T(send(fd, "abcdefghij", 10, 0));
	}
	SERVER
	{
		rest();
		T(read(fd, nowhere, 5));
		T(read(fd, low_page, 5));
		T(read(fd, hole + 4096, 5));
		T(recv(fd, high_page, 5, 0));
		T(recv(fd, hole + 4096, 5, MSG_PEEK));
		T(readv(fd, nowhere, 2));
		T(readv(fd, many, IOV_MAX + 1));
		T(readv(fd, many, minus_one));
		T(readv(fd, below, 2));
		T(recvmsg(fd, nowhere, 0));
		T(recvmsg(fd, &m, 0));
		T(recvmmsg(fd, &mm, 1, 0, NULL));
		T(recvmmsg(fd, nowhere, 1, 0, NULL));
		T(recvfrom(fd, hole + 4096, 5, 0, NULL, NULL));
		T(recv(fd, buf, 5, 0x40000000 | MSG_DONTWAIT));
		show(buf, 5);
		T(pread(fd, buf, 5, 0));
		T(preadv(fd, bad, 1, 0));
		T(preadv2(fd, bad, 1, 5, 0));
		T(preadv2(fd, bad, 1, -1, 0x4000));
		READ(buf, read(fd, buf, huge));
		T(recv(fd, buf, 1, MSG_DONTWAIT));
	}
	SERVER
	{
		fd = MUST(dup(fd));
		T(recv(-1, buf, 1, 0));
		T(recv(9999, buf, 1, 0));
		T(recv(control, buf, 1, MSG_DONTWAIT));
		T(close(fd));
		T(recv(fd, buf, 1, 0));
		T(read(fd, buf, 1));
		T(close(fd));
	}
}

/* The first piece is good and the second is not. */
SCRIPT(wrong_second)
{
	struct iovec bad[2] = {{buf, 2}, {nowhere, 4}};

	link_up();
	CLIENT
	{
		T(send(fd, "klmno", 5, 0));
	}
	SERVER
	{
		T(readv(fd, bad, 2));
		show(buf, 2);
		READ(buf, recv(fd, buf, 10, MSG_DONTWAIT));
	}
}

SCRIPT(nowait)
{
	char a[4], b[4];
	struct iovec two[2] = {{a, 4}, {b, 4}};

	link_up();
	SERVER
	{
		rest();
		T(preadv2(fd, two, 2, -1, RWF_NOWAIT));
	}
	CLIENT
	{
		T(write(fd, "abcdef", 6));
	}
	SERVER
	{
		rest();
		T(preadv2(fd, two, 2, -1, RWF_NOWAIT));
		show(a, 4);
		show(b, 2);
		T(preadv2(fd, two, 2, -1, RWF_NOWAIT));
		let_go();
		T(preadv2(fd, two, 2, -1, 0));
		show(a, 1);
	}
	CLIENT
	{
		rest();
		two[0] = (struct iovec){"xyz", 3};
		T(pwritev2(fd, two, 1, -1, RWF_NOWAIT));
		T(pwritev2(fd, two, 1, 3, 0));
		T(pwritev2(fd, two, 1, -1, 0x4000));
	}
	SERVER
	{
		READ(buf, recv(fd, buf, 3, MSG_DONTWAIT));
	}
}

/* A stream of many writes and pauses, read in uneven pieces: nothing is lost, doubled or moved. */
SCRIPT(pieces)
{
	enum { TOTAL = 60000 };
	static const unsigned in[] = {1, 7, 100, 1500, 3, 9000, 64, 2}, from[] = {3, 1, 900, 20, 4096, 17};

	link_up();
	SERVER
	{
		let_go();
	}
	CLIENT
	{
		let_go();
		for (size_t at = 0, i = 0; at < TOTAL; i++) {
			size_t n = in[i % 8] < TOTAL - at ? in[i % 8] : TOTAL - at;

			fill(buf, n, at);
			assert_int_equal(write(fd, buf, n), n);
			at += n;
			if (i % 16 == 7)
				nap(70);
		}
		shutdown(fd, SHUT_WR);
	}
	SERVER
	{
		uint64_t d = 0;
		long total = 0;
		ssize_t n;

		for (size_t i = 0; (n = recv(fd, buf, from[i % 6], i % 4 == 3 ? MSG_WAITALL : 0)) > 0; i++) {
			d = digest(d, buf, (size_t)n);
			total += n;
		}
		say("%ld bytes, digest %016llx, then %zd", total, (unsigned long long)d, n);
	}
}

DUET_MAIN(PLAY(calls), PLAY(message), PLAY(messages), PLAY(nothing), PLAY(wrong), PLAY(wrong_second), PLAY(nowait),
	  PLAY(pieces))
