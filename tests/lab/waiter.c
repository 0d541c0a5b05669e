/*
 * A client (or, with -l, a server) that waits on one TCP connection in the way its argument names and tells how the
 * waiting ended.  Plain old C: it knows nothing of holdfast.
 *
 *   waiter [OPTION...] HOST PORT STYLE [ARG...]
 *
 *   -l        listen on PORT and wait on the first connection accepted
 *   -f FD     wait on the inherited descriptor FD
 *   -K I,T,C  own keepalive before connect: TCP_KEEPIDLE I s, TCP_KEEPINTVL T s, TCP_KEEPCNT C;
 *   -k I,T,C  the same after connect;  -t I,T,C  the same after -g
 *   -g FILE   once connected, do nothing until FILE exists
 *   -w BYTES  write BYTES before waiting
 *   -H        shutdown(SHUT_WR) before waiting
 *   -d MS     sleep before waiting;  -x MS  sleep before exit
 *   -s BYTES  SO_SNDBUF
 *
 * Lines: "ready PID FD", then "end STYLE RETURN ERRNO AT BYTES HASH" (AT: ms since the epoch); after an error
 * "again ..." with what later calls say.  "alive ..." and "options ...": what getsockopt shows before the waiting and
 * at the end.
 */
#include "waiter_styles.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>

static struct {
	bool listen, half_close;
	int fd, sndbuf;
	const char *go, *keep_before, *keep_after, *keep_late;
	size_t write_first;
	long delay, linger;
} opt = {.fd = -1};

/* Keepalive as the program sets it; TEXT is IDLE,INTVL,CNT in seconds, seconds and probes. */
static void set_keepalive(int fd, const char *text)
{
	int on = 1, idle, intvl, cnt;

	if (!text)
		return;
	if (sscanf(text, "%d,%d,%d", &idle, &intvl, &cnt) != 3)
		give_up(text);
	if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &intvl, sizeof(intvl)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &cnt, sizeof(cnt)))
		give_up("setsockopt");
}

/* After an error: is it still there for the next caller?  A SIGPIPE here would end us without this line. */
static void tell_again(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	int read_error, write_error, ready;
	char byte = 0;
	ssize_t n;

	n = recv(fd, &byte, 1, MSG_DONTWAIT);
	read_error = n < 0 ? errno : 0;
	n = write(fd, &byte, 1);
	write_error = n < 0 ? errno : 0;
	ready = poll(&p, 1, 0);
	n = read(fd, &byte, 1);
	say("again recv=%s write=%s poll=%d read=%s\n", error_name(read_error), error_name(write_error), ready,
	    error_name(n < 0 ? errno : 0));
}

static struct addrinfo *resolve(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found;

	if (getaddrinfo(host, port, &hints, &found))
		give_up("getaddrinfo");
	return found;
}

static int accept_one(const char *host, const char *port)
{
	struct addrinfo *where = resolve(host, port);
	int on = 1, fd, listener = socket(where->ai_family, SOCK_STREAM, 0);

	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(listener, where->ai_addr, where->ai_addrlen) || listen(listener, 5))
		give_up("listen");
	freeaddrinfo(where);
	say("listening\n");
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		give_up("accept");
	close(listener);
	return fd;
}

/* connect() as one of the styles: its outcome is the result.  -1: it failed and said so. */
static int connect_one(const char *host, const char *port, const char *style)
{
	struct addrinfo *where = resolve(host, port);
	int fd = socket(where->ai_family, SOCK_STREAM, 0), error, ready = 0;
	struct waiter w = {fd, -1, style, TALLY_INIT};
	struct pollfd p = {fd, POLLOUT, 0};
	socklen_t size = sizeof(error);

	if (fd < 0)
		give_up("socket");
	if (opt.sndbuf && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &opt.sndbuf, sizeof(opt.sndbuf)))
		give_up("SO_SNDBUF");
	set_keepalive(fd, opt.keep_before);
	if (!strcmp(style, "connect-nb"))
		set_nonblocking(fd);
	say("connecting %d %d\n", (int)getpid(), fd);
	error = connect(fd, where->ai_addr, where->ai_addrlen) < 0 ? errno : 0;
	freeaddrinfo(where);
	if (error == EINPROGRESS) {
		ready = poll(&p, 1, -1);
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size))
			give_up("SO_ERROR");
	}
	if (error) {
		end(&w, ready, error);
		return -1;
	}
	return fd;
}

static void read_options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "+lf:g:K:k:t:w:Hd:x:s:")) != -1) {
		switch (c) {
		case 'l':
			opt.listen = true;
			break;
		case 'f':
			opt.fd = atoi(optarg);
			break;
		case 'g':
			opt.go = optarg;
			break;
		case 'k':
			opt.keep_after = optarg;
			break;
		case 't':
			opt.keep_late = optarg;
			break;
		case 'K':
			opt.keep_before = optarg;
			break;
		case 'w':
			opt.write_first = (size_t)atol(optarg);
			break;
		case 'H':
			opt.half_close = true;
			break;
		case 'd':
			opt.delay = atol(optarg);
			break;
		case 'x':
			opt.linger = atol(optarg);
			break;
		case 's':
			opt.sndbuf = atoi(optarg);
			break;
		default:
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct waiter w = {-1, -1, NULL, TALLY_INIT};
	struct tally out = TALLY_INIT;
	bool well;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	read_options(argc, argv);
	if (argc - optind < 3) {
		errno = EINVAL;
		give_up("usage: waiter [options] HOST PORT STYLE [ARG...]");
	}
	w.style = argv[optind + 2];
	style_args = argv + optind + 3;
	if (opt.fd >= 0)
		w.fd = opt.fd;
	else if (opt.listen)
		w.fd = accept_one(argv[optind], argv[optind + 1]);
	else
		w.fd = connect_one(argv[optind], argv[optind + 1], w.style);
	if (w.fd < 0)
		return 1;
	set_keepalive(w.fd, opt.keep_after);
	say("ready %d %d\n", (int)getpid(), w.fd);
	await_file(opt.go);
	set_keepalive(w.fd, opt.keep_late);
	if (opt.write_first && !write_pattern(&w, &out, opt.write_first))
		return 1;
	if (opt.half_close && shutdown(w.fd, SHUT_WR) < 0)
		give_up("shutdown");
	nap_ms(opt.delay);
	tell_options("alive", w.fd);
	well = !strncmp(w.style, "connect", 7) ? (end(&w, 0, 0), true) : run_style(&w);
	if (!well)
		tell_again(w.fd);
	tell_options("options", w.fd);
	nap_ms(opt.linger);
	return well ? 0 : 1;
}
