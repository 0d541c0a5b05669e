/*
 * Many idle connections, for tests/bench/scale.  A plain program: it knows nothing of the library.
 *   hold serve PORT                  listen on every address and accept nothing: the kernel completes the handshakes
 *                                    and answers probes, and a connection costs this side no descriptor
 *   hold open COUNT MS FIRST ADDRESS PORT
 *                                    COUNT connections, evenly over MS ms (0: at once), to ADDRESS + 0, 1, 2, ...: one
 *                                    address has too few port numbers; FIRST connections were opened by others before
 * Both say "ready" and end with the process that started them.  "open" waits in epoll_wait(2), edge-triggered,
 * as an idle server does; when all have ended, or at SIGTERM, it tells for each that ended
 *   NS ERRNO                         CLOCK_MONOTONIC, and what read(2) gave: an error's number, 0 for end of file
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { BACKLOG = 1 << 20, PER_ADDRESS = 20000 };

static volatile sig_atomic_t over;

static void on_term(int signo)
{
	(void)signo;
	over = 1;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

static int serve(in_port_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, BACKLOG) < 0)
		err(1, "listen");
	say_ready();
	pause();
	return 0;
}

static int dial(const struct sockaddr_in *to, unsigned long place)
{
	struct sockaddr_in in = *to;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	in.sin_addr.s_addr = htonl(ntohl(to->sin_addr.s_addr) + (uint32_t)(place / PER_ADDRESS));
	if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
		err(1, "connection %lu", place);
	return fd;
}

static void open_all(unsigned long count, uint64_t spread_ns, unsigned long first, const struct sockaddr_in *to,
		     int poll)
{
	uint64_t start = now_ns();

	for (unsigned long i = 0; i < count; i++) {
		uint64_t due = start + (uint64_t)((double)spread_ns * (double)i / (double)count), now = now_ns();
		struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};

		if (due > now)
			usleep((useconds_t)((due - now) / 1000));
		event.data.fd = dial(to, first + i);
		if (epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event) < 0)
			err(1, "epoll_ctl");
	}
}

struct end {
	uint64_t at;
	int error;
};

/* Until COUNT have ended or SIGTERM comes; how many have. */
static unsigned long wait_for_ends(int poll, unsigned long count, struct end *ends)
{
	unsigned long ended = 0;

	while (!over && ended < count) {
		struct epoll_event events[512];
		int n = epoll_wait(poll, events, 512, 200);

		for (int i = 0; i < n; i++) {
			char byte;
			ssize_t got = read(events[i].data.fd, &byte, 1);

			if (got < 0 && errno == EAGAIN)
				continue;
			if (ended < count)
				ends[ended++] = (struct end){now_ns(), got < 0 ? errno : 0};
			close(events[i].data.fd);
		}
	}
	return ended;
}

static int hold(unsigned long count, uint64_t spread_ns, unsigned long first, const struct sockaddr_in *to)
{
	struct rlimit limit;
	struct end *ends = malloc((count + 1) * sizeof(*ends));
	int poll = epoll_create1(EPOLL_CLOEXEC);
	unsigned long ended;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (ends == NULL || poll < 0)
		err(1, "epoll_create1");
	/* It must not cut short what is told at the end; epoll_wait(2) is never restarted. */
	sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term, .sa_flags = SA_RESTART}, NULL);
	open_all(count, spread_ns, first, to, poll);
	say_ready();
	ended = wait_for_ends(poll, count, ends);
	for (unsigned long i = 0; i < ended; i++)
		printf("%llu %d\n", (unsigned long long)ends[i].at, ends[i].error);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};

	alarm(400);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve((in_port_t)atoi(argv[2]));
	if (argc != 7 || strcmp(argv[1], "open") != 0 || inet_pton(AF_INET, argv[5], &to.sin_addr) != 1)
		errx(2, "usage: hold serve PORT | hold open COUNT MS FIRST ADDRESS PORT");
	to.sin_port = htons((in_port_t)atoi(argv[6]));
	return hold(strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10) * 1000000, strtoul(argv[4], NULL, 10), &to);
}
