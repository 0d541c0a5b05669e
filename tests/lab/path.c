/*
 * A bad path: two TUN interfaces in two network namespaces, and between them this program, which delays, drops,
 * doubles, reorders and damages packets and lets through no more than a rate.  netem(8) for machines whose kernel has
 * none. One thread; ends with its parent.
 *
 *   path SEED FILE NETNS NAME NETNS NAME
 *
 * FILE has a line for each direction (">" from the first interface to the second, "<" back, "=" both), with words
 *
 *   delay=MS        how long every packet takes            jitter=MS   up to so much more, each on its own: they
 * overtake order=1         with jitter: they do not               loss=PPM    lost, one in a million each burst=N so
 * many in a row are lost each time    double=PPM  come twice late=PPM        held back by 3 * delay + 10 ms damage=PPM
 * one bit of it is wrong rate=KBIT       kbit/s                                 queue=BYTES what may wait for that
 * (default 65536) cut=1           everything is lost
 *
 * and is read again at SIGHUP.  Lines: "ready", at each reading "path SEED ...", and at SIGUSR1 "packets N lost N ...".
 */
#include "labutil.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

enum { MTU = 1500, MOST = 16384, NS = 1000000 };

struct packet {
	uint64_t at;    /* ns, CLOCK_MONOTONIC: when it comes out */
	uint64_t order; /* of those that come out at once */
	unsigned size;
	unsigned char to;
	unsigned char data[MTU];
};

struct way {
	long delay, jitter, order, loss, burst, twice, late, damage, rate, queue, cut;
	uint64_t sent_until, last_at; /* ns: when the line is free again; when the last one comes out */
	long run;                     /* still to be lost in this burst */
};

static struct way ways[2]; /* from the first interface, from the second */
static int tun[2];
static struct packet *heap[MOST];
static size_t waiting;
static uint64_t seed, state, counter;
static struct {
	unsigned long packets, lost, doubled, late, damaged, full;
} count;
static volatile sig_atomic_t read_again, tell_count;

/* xorshift64*: the same faults for the same seed and the same packets. */
static uint64_t draw(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static bool happens(long ppm)
{
	return ppm > 0 && draw() % 1000000 < (uint64_t)ppm;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * NS + (uint64_t)now.tv_nsec;
}

/* --- what is on its way: a heap, the next to come out first --------------------------------------------------------
 */

static bool before(const struct packet *a, const struct packet *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
	struct packet *one = heap[a];

	heap[a] = heap[b];
	heap[b] = one;
}

static void push(struct packet *packet)
{
	size_t i = waiting++;

	packet->order = counter++;
	heap[i] = packet;
	for (; i > 0 && before(heap[i], heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static struct packet *pop(void)
{
	struct packet *first = heap[0];
	size_t i = 0, least;

	heap[0] = heap[--waiting];
	for (;; i = least) {
		least = i;
		for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < waiting && before(heap[child], heap[least]))
				least = child;
		if (least == i)
			return first;
		swap(i, least);
	}
}

/* --- what happens to a packet --------------------------------------------------------------------------------------
 */

static bool is_lost(struct way *way)
{
	if (way->cut)
		return true;
	if (way->run > 0)
		return way->run--, true;
	if (!happens(way->loss))
		return false;
	way->run = way->burst > 1 ? way->burst - 1 : 0;
	return true;
}

/* When it comes out, or 0: the line's queue is full. */
static uint64_t release(struct way *way, unsigned size, uint64_t now)
{
	uint64_t free_at = way->sent_until > now ? way->sent_until : now, at;

	if (way->rate > 0) {
		uint64_t ns_per_byte = (uint64_t)8 * NS / (uint64_t)way->rate;

		if ((free_at - now) / ns_per_byte > (uint64_t)way->queue)
			return 0;
		free_at += size * ns_per_byte;
		way->sent_until = free_at;
	}
	at = free_at + (uint64_t)way->delay * NS;
	if (way->jitter > 0)
		at += draw() % ((uint64_t)way->jitter * NS);
	if (happens(way->late)) {
		count.late++;
		at += (uint64_t)(3 * way->delay + 10) * NS;
	}
	if (way->order && at < way->last_at)
		at = way->last_at;
	way->last_at = at;
	return at;
}

static void enter(int from, const unsigned char *data, unsigned size, uint64_t now)
{
	struct way *way = &ways[from];
	int copies = happens(way->twice) ? 2 : 1;

	count.packets++;
	if (is_lost(way)) {
		count.lost++;
		return;
	}
	count.doubled += copies == 2;
	while (copies-- > 0) {
		uint64_t at = release(way, size, now);
		struct packet *packet = at != 0 && waiting < MOST ? malloc(sizeof(*packet)) : NULL;

		if (!packet) {
			count.full++;
			continue;
		}
		packet->at = at;
		packet->size = size;
		packet->to = (unsigned char)!from;
		memcpy(packet->data, data, size);
		if (happens(way->damage)) {
			count.damaged++;
			packet->data[draw() % size] ^= (unsigned char)(1u << draw() % 8);
		}
		push(packet);
	}
}

/* --- the interfaces and the settings -------------------------------------------------------------------------------
 */

static int make_tun(const char *netns, const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int ns = open(netns, O_RDONLY | O_CLOEXEC), fd;

	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
		give_up(netns);
	close(ns);
	/* An interface belongs to the namespace in which the device was opened. */
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		give_up("/dev/net/tun");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		give_up("TUNSETIFF");
	return fd;
}

static void set_word(struct way *way, const char *word, const char *all)
{
	const struct {
		const char *name;
		long *value;
	} names[] = {{"delay", &way->delay}, {"jitter", &way->jitter}, {"order", &way->order}, {"loss", &way->loss},
		     {"burst", &way->burst}, {"double", &way->twice},  {"late", &way->late},   {"damage", &way->damage},
		     {"rate", &way->rate},   {"queue", &way->queue},   {"cut", &way->cut}};
	const char *equals = strchr(word, '=');

	for (size_t i = 0; equals && i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == (size_t)(equals - word) &&
		    !strncmp(names[i].name, word, (size_t)(equals - word))) {
			*names[i].value = atol(equals + 1);
			return;
		}
	errno = EINVAL;
	give_up(all);
}

static void read_settings(const char *name)
{
	FILE *file = fopen(name, "re");
	char line[512], copy[512], *word, *rest;

	if (!file)
		give_up(name);
	for (int i = 0; i < 2; i++)
		ways[i] = (struct way){.queue = 65536, .sent_until = ways[i].sent_until, .last_at = ways[i].last_at};
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		memcpy(copy, line, sizeof(copy));
		if (!(word = strtok_r(copy, " ", &rest)))
			continue;
		bool there = *word != '<', back = *word != '>';

		while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
			if (there)
				set_word(&ways[0], word, line);
			if (back)
				set_word(&ways[1], word, line);
		}
		say("path %" PRIu64 " %s\n", seed, line);
	}
	fclose(file);
}

static void on_signal(int sig)
{
	if (sig == SIGHUP)
		read_again = 1;
	else
		tell_count = 1;
}

static void take(int from)
{
	unsigned char data[65536];
	ssize_t n;

	while ((n = read(tun[from], data, sizeof(data))) > 0)
		if (n <= MTU)
			enter(from, data, (unsigned)n, now_ns());
}

/* One that the kernel does not take is lost, as on any path. */
static void let_out(void)
{
	while (waiting > 0 && heap[0]->at <= now_ns()) {
		struct packet *packet = pop();

		if (write(tun[packet->to], packet->data, packet->size) < 0)
			count.lost++;
		free(packet);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t blocked, open;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the lab */
	if (argc != 7) {
		errno = EINVAL;
		give_up("usage: path SEED FILE NETNS NAME NETNS NAME");
	}
	seed = strtoull(argv[1], NULL, 10);
	state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, &open);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < 2; i++)
		tun[i] = make_tun(argv[3 + 2 * i], argv[4 + 2 * i]);
	read_settings(argv[2]);
	say("ready\n");
	for (;;) {
		struct pollfd p[2] = {{tun[0], POLLIN, 0}, {tun[1], POLLIN, 0}};
		uint64_t now = now_ns(), left = waiting > 0 && heap[0]->at > now ? heap[0]->at - now : 0;
		struct timespec wait = {(time_t)(left / 1000 / NS), (long)(left % ((uint64_t)1000 * NS))};

		(void)ppoll(p, 2, waiting > 0 ? &wait : NULL, &open);
		if (read_again)
			read_again = 0, read_settings(argv[2]);
		if (tell_count)
			tell_count = 0,
			say("packets %lu lost %lu doubled %lu late %lu damaged %lu full %lu\n", count.packets,
			    count.lost, count.doubled, count.late, count.damaged, count.full);
		take(0);
		take(1);
		let_out();
	}
}
