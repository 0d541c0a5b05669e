/*
 * Threads: a reader and a writer on one socket, cancellation in every call that blocks, descriptors shared and
 * closed under each other's feet, a main thread that leaves, signals meant for the program's own threads.
 */
#include "zoo.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { MEG = 1 << 20 };

struct job {
	int fd;
	long n;
	uint64_t digest;
};

static void *reader(void *arg)
{
	struct job *job = arg;
	char buf[5000];
	ssize_t n;

	while ((n = recv(job->fd, buf, sizeof buf, 0)) > 0) {
		job->digest = digest(job->digest, buf, (size_t)n);
		job->n += n;
	}
	return n == 0 ? "end" : "error";
}

static void *writer(void *arg)
{
	struct job *job = arg;
	static char data[MEG];
	long n = 0;

	fill(data, sizeof data, 21);
	for (int i = 0; i < 4; i++)
		n += write_full(job->fd, data, sizeof data);
	shutdown(job->fd, SHUT_WR);
	job->n = n;
	return "written";
}

/* Each end has a thread that reads and one that writes; then the program goes quiet and goes on. */
static void duplex(void)
{
	int s[2];
	pthread_t r[2], w[2];
	struct job in[2] = {{0}}, out[2] = {{0}};

	pair(s);
	for (int i = 0; i < 2; i++) {
		in[i].fd = out[i].fd = s[i];
		MUST(-pthread_create(&r[i], NULL, reader, &in[i]));
	}
	settle();
	/* One after the other: the writer's buffer is static. */
	for (int i = 0; i < 2; i++) {
		void *end;
		MUST(-pthread_create(&w[i], NULL, writer, &out[i]));
		pthread_join(w[i], &end);
		say("writer %d: %s %ld\n", i, (char *)end, out[i].n);
	}
	for (int i = 0; i < 2; i++) {
		void *end;
		pthread_join(r[i], &end);
		say("reader %d: %s %ld %016llx\n", i, (char *)end, in[i].n, (unsigned long long)in[i].digest);
	}
}

enum blocker { RECV, READ, READV, RECVMSG, ACCEPT, POLL, SELECT, EPOLL, SEND, CONNECT_LATER, BLOCKERS };
static const char *const blocker_name[] = {"recv", "read",   "readv", "recvmsg", "accept",
					   "poll", "select", "epoll", "send",    "connect"};

static int sock[2], listener, epfd;
static _Thread_local enum blocker current;

static void cleaned_up(void *arg)
{
	say("%s: cleanup handler ran\n", blocker_name[*(enum blocker *)arg]);
}

static void *block(void *arg)
{
	char buf[100];
	static char big[MEG];
	struct iovec io = {buf, 10};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
	struct pollfd p = {.fd = sock[1], .events = POLLIN};
	struct epoll_event e;
	fd_set in;

	current = *(enum blocker *)arg;
	pthread_cleanup_push(cleaned_up, arg);
	FD_ZERO(&in);
	FD_SET(sock[1], &in);
	switch (current) {
	case RECV:
		recv(sock[1], buf, 10, 0);
		break;
	case READ:
		read(sock[1], buf, 10);
		break;
	case READV:
		readv(sock[1], &io, 1);
		break;
	case RECVMSG:
		recvmsg(sock[1], &m, 0);
		break;
	case ACCEPT:
		accept(listener, NULL, NULL);
		break;
	case POLL:
		poll(&p, 1, -1);
		break;
	case SELECT:
		select(sock[1] + 1, &in, NULL, NULL, NULL);
		break;
	case EPOLL:
		epoll_wait(epfd, &e, 1, -1);
		break;
	case SEND:
		while (send(sock[0], big, sizeof big, 0) > 0)
			;
		break;
	default:
		pause();
	}
	say("%s: returned\n", blocker_name[current]);
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancel(void)
{
	int port;
	struct epoll_event e = {.events = EPOLLIN};

	pair(sock);
	listener = listen_any(&port);
	epfd = MUST(epoll_create1(0));
	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, sock[1], &e));
	for (int twice = 0; twice < 2; twice++) {
		for (enum blocker b = RECV; b <= (twice ? SEND : EPOLL); b++) {
			pthread_t t;
			void *result;
			MUST(-pthread_create(&t, NULL, block, &b));
			nap(30);
			MUST(-pthread_cancel(t));
			T(pthread_join(t, &result));
			say("%s: %s\n", blocker_name[b], result == PTHREAD_CANCELED ? "cancelled" : "finished");
		}
		settle();
	}
	char buf[10];
	T(shutdown(sock[1], SHUT_WR));
	T(read(sock[0], buf, 10));
}

/* A call with a cancellation pending and bytes there, and one with cancellation disabled. */
static void *pending(void *arg)
{
	int *s = arg, old;
	char buf[10];

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	nap(100);
	T(recv(s[1], buf, 4, 0));
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	recv(s[1], buf, 4, 0);
	say("not reached\n");
	return NULL;
}

static void cancel_pending(void)
{
	int s[2];
	pthread_t t;
	void *result;
	char buf[10] = "";

	pair(s);
	T(write(s[0], "keepthis", 8));
	MUST(-pthread_create(&t, NULL, pending, s));
	nap(20);
	T(pthread_cancel(t));
	T(pthread_join(t, &result));
	say("%s\n", result == PTHREAD_CANCELED ? "cancelled" : "finished");
	T(recv(s[1], buf, 10, MSG_DONTWAIT));
	show("left", buf, 4);
}

/* Shut down by another thread: the sleeper wakes. */
static void wake_by_shutdown(void)
{
	pthread_t t;
	struct job job = {0};
	void *end;
	int s[2];

	for (int i = 0; i < 2; i++) {
		pair(s);
		job.fd = s[1];
		MUST(-pthread_create(&t, NULL, reader, &job));
		settle();
		T(shutdown(s[i], i ? SHUT_RD : SHUT_RDWR));
		pthread_join(t, &end);
		say("reader: %s\n", (char *)end);
		/* Closed while nobody is in a call, by a thread that did not open it. */
		T(close(s[1]));
	}
}

static void *churner(void *arg)
{
	struct job *job = arg;
	char c[64], d[64];

	for (int i = 0; i < 150; i++) {
		int s[2];
		pair(s);
		memset(c, i & 127, sizeof c);
		if (write(s[0], c, sizeof c) != sizeof c || read_full(s[1], d, sizeof d) != sizeof d ||
		    memcmp(c, d, sizeof c) != 0)
			job->digest++;
		int e = dup(s[0]);
		close(s[0]);
		if (write(e, c, 1) != 1 || read(s[1], d, 1) != 1 || d[0] != c[0])
			job->digest++;
		close(e);
		if (read(s[1], d, 1) != 0)
			job->digest++;
		close(s[1]);
		job->n++;
	}
	return NULL;
}

/* Four threads open, use and close; numbers fly between them. A quiet connection lives beside them. */
static void churn(void)
{
	pthread_t t[4];
	struct job job[4];
	int s[2];
	char buf[10];

	memset(job, 0, sizeof job);
	pair(s);
	for (int i = 0; i < 4; i++)
		MUST(-pthread_create(&t[i], NULL, churner, &job[i]));
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		say("thread %d: %ld connections, %llu wrong\n", i, job[i].n, (unsigned long long)job[i].digest);
	}
	settle();
	T(write(s[0], "quiet", 5));
	T(read(s[1], buf, 10));
}

static int last[2];

static void *go_on(void *arg)
{
	char buf[10];

	nap(300);
	T(write(last[0], "still here", 10));
	T(read(last[1], buf, 10));
	return arg;
}

/* The main thread leaves; the process ends with its last thread, status 0. */
static void main_leaves(void)
{
	pthread_t t;

	pair(last);
	settle();
	MUST(-pthread_create(&t, NULL, go_on, NULL));
	pthread_exit(NULL);
}

/* No other thread at all: the process must end at once. */
static void only_main_leaves(void)
{
	pair(last);
	settle();
	say("leaving\n");
	pthread_exit(NULL);
}

static pthread_t main_thread;
static volatile sig_atomic_t taken, elsewhere;

static void note(int sig)
{
	(void)sig;
	taken++;
	elsewhere += !pthread_equal(pthread_self(), main_thread);
}

/* Signals to the process reach the program's own threads: blocked in all of them they stay pending. */
static void signals(void)
{
	int s[2];
	sigset_t set, pend;
	struct timespec second = {.tv_sec = 1};

	main_thread = pthread_self();
	pair(s);
	settle();
	signal(SIGUSR2, note);
	for (int i = 0; i < 50; i++)
		kill(getpid(), SIGUSR2);
	say("taken %d, elsewhere %d\n", taken, elsewhere);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	T(pthread_sigmask(SIG_BLOCK, &set, NULL));
	T(kill(getpid(), SIGUSR2));
	nap(100);
	T(sigpending(&pend));
	say("pending %d, taken %d\n", sigismember(&pend, SIGUSR2), taken);
	T(sigtimedwait(&set, NULL, &second) == SIGUSR2);
	pid_t pid = MUST(fork());
	if (pid == 0)
		_exit(0);
	T(sigtimedwait(&set, NULL, &second) == SIGCHLD);
	T(waitpid(-1, NULL, 0) == pid);
	T(waitpid(-1, NULL, WNOHANG));
}

static void *fork_there(void *arg)
{
	struct kid *kid = arg;
	char buf[10];

	if (spawn_kid(kid)) {
		T(write(last[0], "by child", 8));
		settle();
		T(read(last[1], buf, 10));
		exit(4);
	}
	return NULL;
}

/* Forks from threads while others are in and out of calls. */
static void fork_in_thread(void)
{
	pthread_t t, noise[2];
	struct job job[2];
	struct kid kid;

	memset(job, 0, sizeof job);
	pair(last);
	settle();
	for (int i = 0; i < 2; i++)
		MUST(-pthread_create(&noise[i], NULL, churner, &job[i]));
	for (int i = 0; i < 3; i++) {
		MUST(-pthread_create(&t, NULL, fork_there, &kid));
		pthread_join(t, NULL);
		reap("child", &kid);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(noise[i], NULL);
		say("%ld connections, %llu wrong\n", job[i].n, (unsigned long long)job[i].digest);
	}
}

static _Atomic int busy;

static void *hurried(void *arg)
{
	struct job *job = arg;
	char c[64], d[64];

	for (int i = 0; i < 250; i++) {
		int s[2], on = 1;
		pair(s);
		MUST(setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
		memset(c, i & 127, sizeof c);
		if (write(s[0], c, sizeof c) != sizeof c || read_full(s[1], d, sizeof d) != sizeof d ||
		    memcmp(c, d, sizeof c) != 0)
			job->digest++;
		close(s[0]);
		if (read(s[1], d, 1) != 0)
			job->digest++;
		close(s[1]);
		job->n++;
	}
	busy--;
	return NULL;
}

/* Forks as fast as it can while others open and close: whatever a child gets to see of it, they notice nothing. */
static void fork_storm(void)
{
	pthread_t t[3];
	struct job job[3];
	int status, live = 0, forks = 0, odd = 0;

	memset(job, 0, sizeof job);
	busy = 3;
	for (int i = 0; i < 3; i++)
		MUST(-pthread_create(&t[i], NULL, hurried, &job[i]));
	while (busy > 0 || live > 0) {
		if (busy > 0 && live < 6) {
			if (MUST(fork()) == 0) {
				nap(forks % 4 ? 1 : 20);
				exit(0);
			}
			forks++, live++;
			continue;
		}
		MUST(waitpid(-1, &status, 0));
		odd += status != 0;
		live--;
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], NULL);
		say("%ld connections, %llu wrong\n", job[i].n, (unsigned long long)job[i].digest);
	}
	say("%s, %d odd\n", forks > 20 ? "forked" : "hardly forked", odd);
}

/* The kernel's own call, past any library in between. */
static long bare(long number, long a, const void *b, long c, long d)
{
#if defined __x86_64__
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined __aarch64__
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = (long)b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = 0, x5 __asm__("x5") = 0;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "which registers?"
#endif
}

/* A peer that has no library. */
static void *bare_server(void *arg)
{
	char got[4];

	(void)arg;
	for (;;) {
		long fd = bare(SYS_accept4, listener, NULL, 0, 0);

		if (fd < 0)
			return NULL;
		if (bare(SYS_recvfrom, fd, got, sizeof got, MSG_WAITALL) == sizeof got &&
		    !memcmp(got, "data", sizeof got)) {
			bare(SYS_write, fd, "answer", 6, 0);
			bare(SYS_shutdown, fd, (void *)SHUT_WR, 0, 0);
			bare(SYS_read, fd, got, sizeof got, 0);
			bare(SYS_close, fd, NULL, 0, 0);
			return NULL;
		}
		nap(150); /* it does not understand a greeting, but takes its time to say so */
		bare(SYS_close, fd, NULL, 0, 0);
	}
}

static void long_handler(int sig)
{
	(void)sig;
	nap(1000);
}

static void *late(void *arg)
{
	struct job *job = arg;
	char buf[64];

	job->n = recv(job->fd, buf, sizeof buf, 0);
	if (job->n > 0)
		show("late", buf, job->n);
	job->n = recv(job->fd, buf, sizeof buf, 0);
	return NULL;
}

/* A reader that a signal handler keeps busy while its connection comes to its end and others begin. */
static void late_reader(void)
{
	struct sigaction act = {.sa_handler = long_handler, .sa_flags = SA_RESTART};
	struct job job = {0};
	pthread_t server, r;
	int silent, port, silent_port, others[8];
	char byte;

	MUST(sigaction(SIGUSR1, &act, NULL));
	listener = listen_any(&port);
	silent = listen_any(&silent_port);
	MUST(-pthread_create(&server, NULL, bare_server, NULL));
	job.fd = dial(port);
	MUST(-pthread_create(&r, NULL, late, &job));
	nap(50);
	pthread_kill(r, SIGUSR1);
	T(write(job.fd, "data", 4));
	T(shutdown(job.fd, SHUT_WR));
	pthread_join(server, NULL);
	settle(); /* the kernel is done with the connection, a watcher has seen it */
	for (int i = 0; i < 8; i++)
		others[i] = dial(silent_port);
	pthread_join(r, NULL);
	say("then %ld\n", job.n);
	for (int i = 0; i < 8; i++) {
		T(recv(others[i], &byte, 1, MSG_DONTWAIT));
		close(others[i]);
	}
	close(silent);
}

int main(int argc, char **argv)
{
	static const struct behaviour all[] = {
		{"duplex", duplex},
		{"cancel", cancel},
		{"cancel_pending", cancel_pending},
		{"wake_by_shutdown", wake_by_shutdown},
		{"churn", churn},
		{"main_leaves", main_leaves},
		{"only_main_leaves", only_main_leaves},
		{"signals", signals},
		{"fork_in_thread", fork_in_thread},
		{"fork_storm", fork_storm},
		{"late_reader", late_reader},
		{NULL, NULL},
	};
	return zoo_main(argc, argv, all);
}
