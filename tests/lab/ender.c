/*
 * A client that ends its connection in the way its argument names.  Plain old C: it knows nothing of holdfast.
 *
 *   ender [OPTION...] HOST PORT HOW BYTES
 *
 *   close   write BYTES, close
 *   dup2, dup3        write BYTES, put /dev/null in its place
 *   range, closefrom  write BYTES, close it and whatever else is open from 3 on (range: it has a duplicate there)
 *   exit    write BYTES, exit with the descriptor open
 *   reset   write BYTES, SO_LINGER {1, 0}, close
 *   stray   write BYTES, then some more past every library (a bare system call); wait; write BYTES again, read
 *   theft   write BYTES, and read the answer past every library
 *   -x MS   sleep before exit (stray, theft: before the second part);  -p MS  sleep before the end
 *   -s BYTES  SO_SNDBUF, beyond net.core.wmem_max if allowed
 *
 * Lines: "ready PID FD", "sent BYTES HASH AT", with stray and theft "after write=ERRNO read=ERRNO".
 */
#include "labutil.h"

#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <signal.h>

/* Inline, for syscall(2) is a library function. */
static long bare_call(long number, long a, long b, long c)
{
	long result;

#if defined(__x86_64__)
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	result = x0;
#endif
	return result;
}

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *where;
	int fd;

	if (getaddrinfo(host, port, &hints, &where))
		give_up("getaddrinfo");
	fd = socket(where->ai_family, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, where->ai_addr, where->ai_addrlen))
		give_up("connect");
	freeaddrinfo(where);
	return fd;
}

static void send_pattern(int fd, struct tally *out, size_t size)
{
	static unsigned char buf[65536];

	while (size > 0) {
		size_t want = size < sizeof(buf) ? size : sizeof(buf);
		ssize_t n;

		pattern_fill(buf, want, out->bytes);
		n = write(fd, buf, want);
		if (n < 0)
			give_up("write");
		tally_add(out, buf, (size_t)n);
		size -= (size_t)n;
	}
}

/* What the library says once bytes have gone past it. */
static void after(int fd)
{
	int write_error, read_error = 0;
	char buf[4096];
	ssize_t n;

	n = write(fd, "again", 5);
	write_error = n < 0 ? errno : 0;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	read_error = n < 0 ? errno : 0;
	say("after write=%s read=%s\n", error_name(write_error), error_name(read_error));
}

/* The last descriptor goes without a close(2) of its own. True: that was HOW. */
static bool replaced(int fd, const char *how)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	bool ours = true;

	if (null < 0)
		give_up("/dev/null");
	if (!strcmp(how, "dup2"))
		ours = dup2(null, fd) == fd;
	else if (!strcmp(how, "dup3"))
		ours = dup3(null, fd, O_CLOEXEC) == fd;
	else if (!strcmp(how, "range"))
		ours = dup(fd) >= 0 && close_range(3, ~0U, 0) == 0;
	else if (!strcmp(how, "closefrom"))
		closefrom(3);
	else
		return false;
	if (!ours)
		give_up(how);
	return true;
}

int main(int argc, char **argv)
{
	static const char text[] = "these bytes never saw a library; they are longer than any header is";
	struct linger now = {1, 0};
	struct tally out = TALLY_INIT;
	char answer[65536];
	const char *how;
	long pause = 0, before = 0;
	int c, fd, sndbuf = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt(argc, argv, "+x:p:s:")) != -1) {
		if (c == 'x')
			pause = atol(optarg);
		else if (c == 'p')
			before = atol(optarg);
		else if (c == 's')
			sndbuf = atoi(optarg);
		else
			return 2;
	}
	if (argc - optind != 4) {
		errno = EINVAL;
		give_up("usage: ender [options] HOST PORT HOW BYTES");
	}
	how = argv[optind + 2];
	fd = dial(argv[optind], argv[optind + 1]);
	if (sndbuf && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof(sndbuf)) &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)))
		give_up("SO_SNDBUF");
	say("ready %d %d\n", (int)getpid(), fd);
	send_pattern(fd, &out, (size_t)atol(argv[optind + 3]));
	say("sent %" PRIu64 " %016" PRIx64 " %lld\n", out.bytes, out.hash, now_ms());
	nap_ms(before);
	if (!strcmp(how, "exit"))
		exit(0);
	if (!strcmp(how, "reset") && setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)))
		give_up("SO_LINGER");
	if (!strcmp(how, "stray")) {
		nap_ms(500); /* the handshake is over, and the bytes above are on their way */
		say("stray %ld\n", bare_call(SYS_write, fd, (long)text, (long)sizeof(text) - 1));
		nap_ms(pause);
		after(fd);
	} else if (!strcmp(how, "theft")) {
		nap_ms(500);
		say("theft %ld\n", bare_call(SYS_read, fd, (long)answer, (long)sizeof(answer)));
		nap_ms(pause);
		after(fd);
	}
	if (!replaced(fd, how))
		close(fd);
	say("closed %lld\n", now_ms());
	nap_ms(pause);
	return 0;
}
