/*
 * Every way to move bytes: the read, write, send and recv families, records, peeks, files to sockets, descriptors
 * through sockets, raw system calls, and bulk both ways.
 */
#include "zoo.h"

#include <linux/sockios.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

/* Wrong on purpose; volatile so that the compiler does not see it. */
static volatile int minus_one = -1, two_thousand = 2000;
static char *volatile wild = (char *)8;

static void waitall(void)
{
	int s[2];
	char buf[100];

	pair(s);
	pid_t pid = MUST(fork());
	if (pid == 0) {
		for (int i = 0; i < 12; i++) {
			nap(60);
			write(s[0], "record--", 8);
		}
		write(s[0], "tail", 4);
		_exit(0);
	}
	MUST(close(s[0]));
	for (int i = 0; i < 4; i++) {
		T(recv(s[1], buf, 24, MSG_WAITALL));
		show("record", buf, 24);
	}
	T(recv(s[1], buf, 24, MSG_WAITALL));
	show("tail", buf, 4);
	T(recv(s[1], buf, 24, MSG_WAITALL));
	waitpid(pid, NULL, 0);
}

static void peek(void)
{
	int s[2];
	char buf[100] = "";

	pair(s);
	T(recv(s[1], buf, 10, MSG_PEEK | MSG_DONTWAIT));
	T(write(s[0], "peek at this", 12));
	settle();
	T(recv(s[1], buf, 4, MSG_PEEK));
	T(recv(s[1], buf, sizeof buf, MSG_PEEK));
	show("peeked", buf, 12);
	T(recv(s[1], NULL, 5, MSG_TRUNC));
	T(recv(s[1], buf, 0, 0));
	T(recv(s[1], buf, 3, 0));
	show("read", buf, 3);
	T(recvfrom(s[1], buf, sizeof buf, MSG_PEEK, NULL, NULL));
	T(recvfrom(s[1], buf, sizeof buf, 0, NULL, NULL));
	show("read", buf, 4);
	T(shutdown(s[0], SHUT_WR));
	T(recv(s[1], buf, 1, MSG_PEEK));
	T(recv(s[1], buf, 1, 0));
}

static void vectors(void)
{
	int s[2];
	char a[5] = "", b[6] = "", c[40] = "";
	struct iovec out[4] = {{"hello", 5}, {NULL, 0}, {" vector", 7}, {" world", 6}};
	struct iovec in[3] = {{a, sizeof a}, {b, sizeof b}, {c, sizeof c}};

	pair(s);
	T(writev(s[0], out, 4));
	T(readv(s[1], in, 3));
	show("a", a, 5);
	show("b", b, 6);
	show("c", c, 7);
	T(writev(s[0], out, 0));
	T(writev(s[0], out, minus_one));
	T(readv(s[1], in, two_thousand));
	settle();
	T(preadv(s[1], in, 3, 0));
	T(pwritev(s[0], out, 4, 0));
	T(pread(s[1], a, 5, 0));
	T(pwrite(s[0], a, 5, 0));
	T(preadv2(s[1], in, 3, -1, RWF_NOWAIT));
	T(pwritev2(s[0], out, 4, -1, 0));
	T(preadv2(s[1], in, 3, -1, 0));
	show("c", c, 7);
	T(write(s[0], wild, 4));
	T(write(s[0], NULL, 0));
	T(write(s[0], "x", 1));
	T(read(s[1], wild, 1));
	T(read(s[1], a, 1));
}

static void messages(void)
{
	int s[2];
	char a[8] = "", name[64];
	struct iovec out = {"sendmsg!", 8}, in = {a, 8};
	struct msghdr m = {.msg_iov = &out, .msg_iovlen = 1};
	struct msghdr r = {.msg_iov = &in, .msg_iovlen = 1, .msg_name = name, .msg_namelen = sizeof name};

	pair(s);
	T(sendmsg(s[0], &m, 0));
	settle();
	T(recvmsg(s[1], &r, MSG_PEEK));
	r.msg_flags = 0;
	T(recvmsg(s[1], &r, 0));
	say("namelen %u flags %x\n", r.msg_namelen, (unsigned)r.msg_flags);
	show("got", a, 8);
	T(recvmsg(s[1], &r, MSG_DONTWAIT));
	T(sendmsg(s[0], NULL, 0));
	struct sockaddr_in to = loopback(9);
	T(sendto(s[0], "to", 2, 0, SA(&to), sizeof to));
	socklen_t len = sizeof name;
	T(recvfrom(s[1], a, 8, 0, (struct sockaddr *)name, &len));
	say("address length %u\n", len);
	show("got", a, 2);

	struct iovec ov[3] = {{"one", 3}, {"two", 3}, {"three", 5}}, iv[3] = {{a, 3}, {a + 3, 3}, {a + 6, 2}};
	struct mmsghdr mo[3], mi[3];
	memset(mo, 0, sizeof mo);
	memset(mi, 0, sizeof mi);
	for (int i = 0; i < 3; i++) {
		mo[i].msg_hdr = (struct msghdr){.msg_iov = &ov[i], .msg_iovlen = 1};
		mi[i].msg_hdr = (struct msghdr){.msg_iov = &iv[i], .msg_iovlen = 1};
	}
	T(sendmmsg(s[0], mo, 3, 0));
	settle();
	T(recvmmsg(s[1], mi, 3, 0, NULL));
	for (int i = 0; i < 3; i++)
		say("message %d: sent %u received %u\n", i, mo[i].msg_len, mi[i].msg_len);
	show("got", a, 8);
	T(recvmmsg(s[1], mi, 3, MSG_DONTWAIT, NULL));
	struct timespec soon = {.tv_nsec = 50000000};
	T(recvmmsg(s[1], mi, 3, MSG_WAITFORONE | MSG_DONTWAIT, &soon));
}

static void queues(void)
{
	int s[2], n = -1;
	char buf[100];

	pair(s);
	T(ioctl(s[1], FIONREAD, &n));
	say("FIONREAD %d\n", n);
	T(write(s[0], "twelve bytes", 12));
	settle();
	T(ioctl(s[1], FIONREAD, &n));
	say("FIONREAD %d\n", n);
	T(ioctl(s[0], SIOCOUTQ, &n));
	say("SIOCOUTQ %d\n", n);
	T(ioctl(s[0], SIOCOUTQNSD, &n));
	say("SIOCOUTQNSD %d\n", n);
	T(ioctl(s[1], SIOCATMARK, &n));
	T(read(s[1], buf, 5));
	T(ioctl(s[1], FIONREAD, &n));
	say("FIONREAD %d\n", n);
	int on = 1;
	T(ioctl(s[1], FIONBIO, &on));
	T(read(s[1], buf, 100));
	T(read(s[1], buf, 100));
	T(fcntl(s[1], F_GETFL) == (O_RDWR | O_NONBLOCK));
	T(ioctl(s[1], FIOCLEX));
	T(fcntl(s[1], F_GETFD));
	T(ioctl(s[1], 0x12345678, 0));
	T(ioctl(-1, FIONREAD, &n));
	n = 9;
	T(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &n, sizeof n));
	T(write(s[0], "lowat", 5));
	ready("below the low-water mark", s[1], POLLIN, 100);
	T(write(s[0], "lowat", 5));
	ready("above", s[1], POLLIN, 1000);
	T(read(s[1], buf, 100));
}

static void sendfile_splice(void)
{
	int s[2], p[2];
	static char data[300000], got[300000];
	off_t at = 1000;
	loff_t lat = 5;

	pair(s);
	fill(data, sizeof data, 3);
	FILE *f = tmpfile();
	int file = fileno(f);
	T(write_full(file, data, sizeof data));
	pid_t pid = MUST(fork());
	if (pid == 0) {
		while (at < 200000 && sendfile(s[0], file, &at, (size_t)(200000 - at)) > 0)
			;
		lseek(file, 200000, SEEK_SET);
		while (sendfile(s[0], file, NULL, 100000) > 0)
			;
		_exit(0);
	}
	T(read_full(s[1], got, sizeof data - 1000));
	T(memcmp(got, data + 1000, sizeof data - 1000));
	waitpid(pid, NULL, 0);
	settle();
	MUST(pipe(p));
	T(splice(file, &lat, p[1], NULL, 4000, 0));
	T(splice(p[0], NULL, s[0], NULL, 4000, SPLICE_F_MORE));
	T(splice(p[0], NULL, s[0], NULL, 4000, SPLICE_F_NONBLOCK));
	T(write(s[0], "!", 1));
	T(read_full(s[1], got, 4001));
	show("spliced", got, 4001);
	T(write(s[0], "from socket to pipe", 19));
	settle();
	T(splice(s[1], NULL, p[1], NULL, 4000, 0));
	T(tee(p[0], s[0], 10, 0));
	T(read(p[0], got, 100));
	show("piped", got, 19);
	T(shutdown(s[0], SHUT_WR));
	T(splice(s[1], NULL, p[1], NULL, 4000, 0));
	fclose(f);
}

/* A connection handed to another process; the sender forgets it. */
static void scm_rights(void)
{
	int s[2], u[2];
	char buf[100], control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec io = {buf, 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct kid kid;

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
	if (spawn_kid(&kid)) {
		close(u[1]);
		T(recvmsg(u[0], &m, 0));
		int fd;
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
		ready("received", fd, POLLIN, 3000);
		T(read(fd, buf, sizeof buf));
		show("question", buf, 8);
		settle();
		T(write(fd, "answer", 6));
		T(close(fd));
		_exit(0);
	}
	close(u[0]);
	pair(s);
	settle();
	buf[0] = 'x';
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &s[1], sizeof(int));
	T(sendmsg(u[1], &m, 0));
	T(close(s[1]));
	T(write(s[0], "question", 8));
	T(read(s[0], buf, 6));
	show("answer", buf, 6);
	T(read(s[0], buf, 6));
	reap("receiver", &kid);
}

static void raw_syscalls(void)
{
	int s[2];
	char buf[50];
	struct pollfd p;

	pair(s);
	T(syscall(SYS_write, s[0], "raw", 3));
	T(syscall(SYS_read, s[1], buf, 50));
	show("raw", buf, 3);
	T(syscall(SYS_sendto, s[0], "sent", 4, 0, NULL, 0));
	settle();
	p = (struct pollfd){.fd = s[1], .events = POLLIN};
	T(syscall(SYS_ppoll, &p, 1, NULL, NULL, 8));
	T(syscall(SYS_recvfrom, s[1], buf, 50, 0, NULL, NULL));
	T(syscall(SYS_fcntl, s[1], F_SETFL, O_NONBLOCK));
	T(syscall(SYS_read, s[1], buf, 50));
	T(syscall(SYS_dup3, s[1], 40, 0));
	T(write(s[0], "x", 1));
	ready("dup", 40, POLLIN, 1000);
	T(read(40, buf, 50));
	T(syscall(SYS_close, s[1]));
	T(read(s[1], buf, 50));
	T(fcntl(open("/dev/null", O_RDWR), F_DUPFD, s[1]) == s[1]);
	T(read(s[1], buf, 50));
	T(syscall(SYS_shutdown, 40, SHUT_WR));
	T(read(s[0], buf, 50));
	T(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	T(syscall(SYS_getppid) == getppid());
	T(syscall(100000));
}

static void files(void)
{
	char buf[20] = "";
	struct iovec io = {buf, 5};
	FILE *f = tmpfile();
	int fd = fileno(f), p[2];

	T(write(fd, "0123456789", 10));
	T(pread(fd, buf, 5, 3));
	show("pread", buf, 5);
	T(pwrite(fd, "abc", 3, 2));
	T(lseek(fd, 1, SEEK_SET));
	T(preadv2(fd, &io, 1, -1, 0));
	show("preadv2", buf, 5);
	T(preadv2(fd, &io, 1, 0, RWF_HIPRI));
	T(preadv2(fd, &io, 1, 0, 0x40000000));
	T(pwritev2(fd, &io, 1, -1, RWF_APPEND));
	T(pwritev2(fd, &io, 1, 0, RWF_DSYNC));
	T(lseek(fd, 0, SEEK_CUR));
	T(recv(fd, buf, 5, 0));
	T(send(fd, buf, 5, 0));
	T(shutdown(fd, SHUT_WR));
	T(connect(fd, NULL, 0));
	T(listen(fd, 1));
	T(accept(fd, NULL, NULL));
	MUST(pipe(p));
	T(write(p[1], "pipe", 4));
	T(read(p[0], buf, 20));
	T(recv(p[0], buf, 20, 0));
	T(close(p[1]));
	ready("pipe", p[0], POLLIN, 0);
	int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof a;
	T(bind(udp, SA(&a), sizeof a));
	getsockname(udp, SA(&a), &len);
	T(sendto(udp, "datagram", 8, 0, SA(&a), len));
	T(recv(udp, buf, 3, MSG_TRUNC));
	T(connect(udp, SA(&a), len));
	T(write(udp, "", 0));
	T(read(udp, buf, 5));
	int u[2];
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, u));
	T(write(u[0], "packet", 6));
	T(recv(u[1], buf, 3, 0));
	T(close(u[0]));
	T(read(u[1], buf, 3));
	fclose(f);
}

static void timeouts(void)
{
	int s[2], n;
	char buf[10];
	static char big[1 << 20];
	struct timeval tv = {.tv_usec = 300000};

	pair(s);
	T(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	long t = now_ms();
	T(recv(s[1], buf, 10, 0));
	t = now_ms() - t;
	say("in time: %s\n", t >= 290 && t < 1300 ? "yes" : "no");
	T(write(s[0], "abc", 3));
	T(recv(s[1], buf, 10, MSG_WAITALL));
	T(read(s[1], buf, 10));
	/* A full pipe: what fits is not said, it depends on the kernel's buffers. */
	T(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
	while ((n = (int)write(s[0], big, sizeof big)) > 0)
		;
	say("write: %d %s\n", n, strerrorname_np(errno));
	t = now_ms();
	T(send(s[0], big, 10, 0));
	t = now_ms() - t;
	say("in time: %s\n", t >= 290 && t < 1300 ? "yes" : "no");
	settle();
	T(shutdown(s[0], SHUT_WR));
	tv.tv_sec = 5;
	T(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	while ((n = (int)read(s[1], big, sizeof big)) > 0)
		;
	say("read: %d\n", n);
	socklen_t len = sizeof tv;
	T(getsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	say("SO_RCVTIMEO %ld s %ld us\n", (long)tv.tv_sec, (long)tv.tv_usec);
}

static void *pump(void *arg)
{
	static char data[3 << 20];
	int fd = *(int *)arg;

	fill(data, sizeof data, 11);
	long n = write_full(fd, data, sizeof data);
	shutdown(fd, SHUT_WR);
	return n == (long)sizeof data ? "pumped" : "failed";
}

/* 3 MiB each way at once, a small buffer at one end, one side slow to begin. */
static void bulk(void)
{
	int s[2], small = 200000;
	struct kid kid;
	pthread_t t;
	void *result;

	pair(s);
	T(setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
	int mine = spawn_kid(&kid);
	close(s[!mine]);
	MUST(-pthread_create(&t, NULL, pump, &s[mine]));
	if (mine)
		settle();
	drain("bulk", s[mine]);
	pthread_join(t, &result);
	say("%s\n", (char *)result);
	ready("bulk", s[mine], POLLIN | POLLOUT | POLLRDHUP, 5000);
	T(close(s[mine]));
	if (mine)
		exit(0);
	reap("other", &kid);
}

static void urgent(void)
{
	int s[2], n, on = 1;
	char buf[20];

	pair(s);
	T(write(s[0], "abc", 3));
	T(send(s[0], "!", 1, MSG_OOB));
	settle();
	ready("urgent", s[1], POLLIN | POLLPRI, 1000);
	T(recv(s[1], buf, 20, 0));
	T(ioctl(s[1], SIOCATMARK, &n));
	say("at mark %d\n", n);
	T(recv(s[1], buf, 20, MSG_OOB));
	T(recv(s[1], buf, 20, MSG_OOB));
	T(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
	T(setsockopt(s[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on));
	T(write(s[0], "corked ", 7));
	T(send(s[0], "more ", 5, MSG_MORE));
	on = 0;
	T(setsockopt(s[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on));
	T(write(s[0], "end", 3));
	T(read_full(s[1], buf, 15));
	show("got", buf, 15);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"waitall", waitall},
		{"peek", peek},
		{"vectors", vectors},
		{"messages", messages},
		{"queues", queues},
		{"sendfile_splice", sendfile_splice},
		{"scm_rights", scm_rights},
		{"raw_syscalls", raw_syscalls},
		{"files", files},
		{"timeouts", timeouts},
		{"bulk", bulk},
		{"urgent", urgent},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
