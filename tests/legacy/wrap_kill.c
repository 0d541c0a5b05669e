/*
 * Kill anywhere: two processes share a connection, one writes and one reads, and at a random moment one of them is
 * killed.  The other goes on with both.  What the peer reads is then a beginning of what the killed writer wrote and
 * all that the survivor did; what the survivor reads goes on where the killed reader left off, but for the one read it
 * died in; or there is an error, at both ends.  Never another byte, never a hang.
 *
 *	wrap_kill SEED ROUNDS
 *
 * Prints how many rounds went on and how many ended in an error; exit status 1 and a line that begins with "wrong" when
 * a round is neither.
 */
#include "zoo.h"

#include <stdatomic.h>
#include <sys/mman.h>

enum { TOTAL = 1 << 20, LAST_WORDS = 200000, MOST_READ = 65536, LIMIT = 12 };

enum result { RUNNING, FINE, FAILED, WRONG };

struct report {
	_Atomic int result;
	int error;
	char text[200];
};

static struct round {
	_Atomic int pids[2]; /* of the side that shares: the original, its child */
	_Atomic int begun;
	_Atomic long taken;  /* by the reader, as far as it could say */
	_Atomic long gone;   /* the killed one is reaped */
	_Atomic long killed; /* which one it was, plus one */
	struct report survivor, peer;
	long killed_wrote;
	long taken_on, reached;
} * round_;

static uint64_t seed;
static unsigned char first[TOTAL], last[LAST_WORDS], theirs[TOTAL];

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

__attribute__((format(printf, 3, 4), noreturn)) static void end(struct report *r, enum result result,
								const char *format, ...)
{
	va_list ap;

	r->error = errno;
	va_start(ap, format);
	vsnprintf(r->text, sizeof r->text, format, ap);
	va_end(ap);
	atomic_store(&r->result, result);
	/* Not exit(3): what was mapped before is nobody's business. */
	_exit(0);
}

/* The peer: writes its own and reads whatever comes, at the same time. */
static void be_peer(int fd, size_t chunk)
{
	struct report *r = &round_->peer;
	static unsigned char buf[MOST_READ];
	size_t sent = 0;
	long k = 0, m = 0;
	bool shut = false, ended = false;

	MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
	while (!ended || !shut) {
		struct pollfd p = {.fd = fd, .events = (short)((ended ? 0 : POLLIN) | (sent < TOTAL ? POLLOUT : 0))};

		if (poll(&p, 1, -1) < 0)
			end(r, FAILED, "poll");
		if (sent < TOTAL) {
			size_t n = TOTAL - sent < chunk ? TOTAL - sent : chunk;
			ssize_t got = write(fd, theirs + sent, n);

			if (got < 0 && errno != EAGAIN)
				end(r, FAILED, "write after %zu", sent);
			sent += got > 0 ? (size_t)got : 0;
		}
		if (sent == TOTAL && !shut) {
			shut = true;
			if (shutdown(fd, SHUT_WR) < 0)
				end(r, FAILED, "shutdown");
		}
		ssize_t got = ended ? 0 : read(fd, buf, sizeof buf);
		if (got < 0 && errno == EAGAIN)
			continue;
		if (got < 0)
			end(r, FAILED, "read after %ld, %ld", k, m);
		ended = got == 0;
		for (ssize_t i = 0; i < got; i++) {
			if (buf[i] < 0x80 ? m > 0 || k >= TOTAL || buf[i] != first[k]
					  : m >= LAST_WORDS || buf[i] != last[m])
				end(r, WRONG, "byte %02x after %ld, %ld", buf[i], k, m);
			if (buf[i] < 0x80)
				k++;
			else
				m++;
		}
	}
	round_->killed_wrote = k;
	if (m != LAST_WORDS)
		end(r, WRONG, "end of file after %ld, %ld of the survivor's %d", k, m, LAST_WORDS);
	end(r, FINE, "%ld, %ld", k, m);
}

static void write_until_killed(int fd, size_t chunk)
{
	for (size_t at = 0; at < TOTAL; at += chunk)
		if (write_full(fd, first + at, TOTAL - at < chunk ? TOTAL - at : chunk) < 0)
			break;
}

/* Read to the end or until killed; returns how far. */
static long read_on(int fd, long at, size_t size, bool check)
{
	static unsigned char buf[MOST_READ];
	ssize_t n;

	while ((n = read(fd, buf, size)) > 0) {
		if (check && (at + n > TOTAL || memcmp(buf, theirs + at, (size_t)n) != 0))
			end(&round_->survivor, WRONG, "read %zd bytes at %ld that are not the peer's", n, at);
		at += n;
		if (!check)
			atomic_store(&round_->taken, at);
	}
	return n < 0 ? -1 : at;
}

/* The survivor goes on reading: where? */
static long read_behind(int fd, size_t size)
{
	enum { MARK = 64 };
	unsigned char mark[MARK];
	long taken = atomic_load(&round_->taken), n;

	errno = 0;
	n = read_full(fd, mark, MARK);
	/* An error behind a few bytes: what they are is not worth the finding out, but the peer's they must be. */
	if (n < 0 || (n > 0 && n < MARK && errno != 0))
		return n < 0 || memmem(theirs + taken, TOTAL - (size_t)taken, mark, (size_t)n) ? -1 : -2;
	round_->taken_on = taken;
	for (long at = taken; at <= taken + (long)size && at + n <= TOTAL; at++)
		if (memcmp(theirs + at, mark, (size_t)n) == 0 && (n == MARK || at + n == TOTAL))
			return n == MARK ? read_on(fd, at + n, size, true) : at + n;
	end(&round_->survivor, WRONG, "%ld bytes read after %ld are not the peer's", n, taken);
}

static void survive(int fd, bool was_writer, size_t chunk, size_t size, long known)
{
	struct report *r = &round_->survivor;
	long at;

	while (atomic_load(&round_->gone) == 0)
		nap(1);
	errno = 0;
	/* First what the other did, then one's own. */
	if (was_writer) {
		if (write_full(fd, last, LAST_WORDS) < 0)
			end(r, FAILED, "write");
		if (shutdown(fd, SHUT_WR) < 0)
			end(r, FAILED, "shutdown");
		at = read_behind(fd, size);
	} else {
		for (size_t done = 0; done < LAST_WORDS; done += chunk)
			if (write_full(fd, last + done, LAST_WORDS - done < chunk ? LAST_WORDS - done : chunk) < 0)
				end(r, FAILED, "write");
		if (shutdown(fd, SHUT_WR) < 0)
			end(r, FAILED, "shutdown");
		at = known;
	}
	if (at == -2)
		end(r, WRONG, "bytes that are not the peer's, then an error");
	if (at < 0)
		end(r, FAILED, "read");
	if (at != TOTAL)
		end(r, WRONG, "end of file at %ld of %d", at, TOTAL);
	close(fd);
	end(r, FINE, "%ld", at);
}

/* One of the two that share: the reader reads all there is even while the other writes. */
static void share(int fd, int which, bool writes, size_t chunk, size_t size)
{
	long known = 0;

	atomic_store(&round_->pids[which], (int)getpid());
	atomic_fetch_add(&round_->begun, 1);
	while (atomic_load(&round_->begun) != 2)
		nap(1);
	alarm(LIMIT);
	if (writes)
		write_until_killed(fd, chunk);
	else
		known = read_on(fd, 0, size, false);
	while (atomic_load(&round_->killed) == 0)
		nap(1);
	if (atomic_load(&round_->killed) == which + 1)
		for (;;)
			pause();
	survive(fd, writes, chunk, size, known);
}

static size_t pick(void)
{
	static const size_t sizes[] = {100, 1000, 5000, 16384, 65536};

	return sizes[draw(5)] + draw(7);
}

static bool one(int number)
{
	int port, l = listen_any(&port);
	bool dials = draw(2), child_writes = draw(2), settled = draw(4) == 0;
	int victim = (int)draw(2);
	size_t chunk = pick(), size = pick() % MOST_READ + 1, peer_chunk = pick();
	long delay = settled ? 120000 + draw(150000) : draw(20000);
	pid_t peer, original;
	int status;

	memset(round_, 0, sizeof *round_);
	peer = MUST(fork());
	if (peer == 0) {
		alarm(LIMIT);
		be_peer(dials ? MUST(accept(l, NULL, NULL)) : dial(port), peer_chunk);
	}
	original = MUST(fork());
	if (original == 0) {
		int fd = dials ? dial(port) : MUST(accept(l, NULL, NULL));

		alarm(LIMIT);
		signal(SIGPIPE, SIG_IGN);
		close(l);
		if (settled)
			nap(100);
		pid_t child = MUST(fork());
		if (child == 0)
			share(fd, 1, child_writes, chunk, size);
		/* The original reaps its child, unless it is killed itself. */
		signal(SIGCHLD, SIG_IGN);
		share(fd, 0, !child_writes, chunk, size);
	}
	close(l);
	while (atomic_load(&round_->begun) != 2)
		nap(1);
	nanosleep(&(struct timespec){0, delay * 1000}, NULL);
	kill((pid_t)atomic_load(&round_->pids[victim]), SIGKILL);
	atomic_store(&round_->killed, victim + 1);
	if (victim == 0)
		waitpid(original, &status, 0);
	else
		while (kill((pid_t)atomic_load(&round_->pids[1]), 0) == 0)
			nap(1);
	atomic_store(&round_->gone, 1);
	waitpid(peer, &status, 0);
	if (victim == 1)
		waitpid(original, &status, 0);
	else
		for (int i = 0; i < LIMIT * 100 && atomic_load(&round_->survivor.result) == RUNNING; i++)
			nap(10);
	int a = atomic_load(&round_->survivor.result), b = atomic_load(&round_->peer.result);
	/* The peer may have had all it wanted before the survivor failed. */
	bool fine = a == FINE && b == FINE, failed = a == FAILED && (b == FAILED || b == FINE);
	if (!fine && !failed)
		printf("wrong: round %d, %s, %s writes, %s killed after %ld us, sizes %zu %zu %zu: survivor %d %s "
		       "(%s), peer %d "
		       "%s (%s)\n",
		       number, dials ? "client" : "server", child_writes ? "child" : "original",
		       victim ? "child" : "original", delay, chunk, size, peer_chunk, a, round_->survivor.text,
		       strerror(round_->survivor.error), b, round_->peer.text, strerror(round_->peer.error));
	else if (failed)
		printf("# round %d: survivor %s (%s), peer %s (%s)\n", number, round_->survivor.text,
		       strerror(round_->survivor.error), round_->peer.text, strerror(round_->peer.error));
	fflush(stdout);
	return fine || failed;
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[2]) : 100, wrong = 0, errors = 0;

	seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	signal(SIGPIPE, SIG_IGN);
	round_ = mmap(NULL, sizeof *round_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill((char *)first, sizeof first, 11);
	fill((char *)last, sizeof last, 12);
	fill((char *)theirs, sizeof theirs, 13);
	for (size_t i = 0; i < sizeof first; i++)
		first[i] &= 0x7f;
	for (size_t i = 0; i < sizeof last; i++)
		last[i] |= 0x80;
	for (int i = 0; i < rounds; i++) {
		wrong += !one(i);
		errors += atomic_load(&round_->survivor.result) == FAILED;
	}
	printf("%d rounds, %d ended in an error, %d wrong\n", rounds, errors, wrong);
	return wrong != 0;
}
