/*
 * A wrapped connection whose place in the arena a sibling writes to, between the library's calls and before any system
 * call in one: a program's calls, the peer's frames and the watchdog's turns in any order.  No crash, no memory reached
 * that an index led to, no descriptor closed or changed that is not the connection's, an end of every call (guard.h).
 * What the connection carries then is of no concern.
 *
 * A turn that a living process holds is waited for, by design: here a sibling writes only numbers of the dead there,
 * and our own.
 */
#include "core/bytes.h"
#include "guard.h"
#include "input.h"
#include "io/adopt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "preload/real.h"
#include "report.h"
#include "state/family.h"
#include "state/proc.h"
#include "state/view.h"
#include "sys.h"
#include "watch/publish.h"
#include "watch/socket.h"
#include "watch/watch.h"
#include "wrap_fields.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_OPS = 64, BUFFER = 32768, DEAD_TID = 0x3fffff, MOST_SCRIBBLES = 16, PATIENCE = 300 };

static struct {
	int fd, peer, listener;
	struct hf_slot *slot;
	struct hf_wrap *wrap;
	uint32_t conn;
	uint64_t now;
	unsigned slept; /* hf_guard_sleeps() when the library was last called */
	/* What a sibling is about to write, and before which system call. */
	struct scribble {
		unsigned countdown;
		char *at;
		uint8_t bytes[8];
		size_t size;
	} scribbles[MOST_SCRIBBLES];
	size_t nscribbles;
} run;

static char program[BUFFER];

#define MUST(condition)                                           \
	do {                                                      \
		if (!(condition)) {                               \
			perror("fuzz_wrap: not so: " #condition); \
			abort();                                  \
		}                                                 \
	} while (0)

static unsigned word(void)
{
	unsigned high = byte();

	return high << 8 | byte();
}

/* The sibling */

static uint32_t *owner_at(const char *at)
{
	struct hf_turn_word *words[] = {&run.wrap->rx_turn, &run.wrap->tx_turn, &run.wrap->session_turn};

	for (size_t i = 0; i < 3; i++)
		if (at < (char *)words[i] + sizeof *words[i] && at + 8 > (char *)words[i])
			return (uint32_t *)&words[i]->owner;
	return NULL;
}

static void write_there(const struct scribble *scribble)
{
	uint32_t *owner = owner_at(scribble->at);
	struct hf_arena *head = hf_arena();

	memcpy(scribble->at, scribble->bytes, scribble->size);
	/* They bound scans, and a long one is only slow. */
	head->used = head->used % 1024;
	head->views_used = head->views_used % 1024;
	if (owner && *owner != 0)
		*owner = *owner & 1 ? hf_turn_me() : DEAD_TID;
}

static void between(void)
{
	/* Who waits for the peer, or for the watchdog, whose thread is not there, has waited long enough. */
	if (hf_guard_sleeps() - run.slept > PATIENCE)
		atomic_store(&run.slot->fate, EPROTO);
	for (size_t i = 0; i < run.nscribbles;) {
		if (run.scribbles[i].countdown-- > 0) {
			i++;
			continue;
		}
		write_there(&run.scribbles[i]);
		run.scribbles[i] = run.scribbles[--run.nscribbles];
	}
}

/* Into SIZE bytes at AT: now, or before one of the next system calls. */
static void put(char *at, size_t size, uint8_t when)
{
	struct scribble *new = &run.scribbles[run.nscribbles];

	if (run.nscribbles == MOST_SCRIBBLES)
		return;
	*new = (struct scribble){when / 2, at, {0}, size < 8 ? size : 8};
	hf_put64(new->bytes, value());
	if (when & 1)
		run.nscribbles++;
	else
		write_there(new);
}

static void scribble(void *base, size_t size)
{
	static const uint8_t sizes[] = {1, 2, 4, 8};
	uint8_t when = byte();
	size_t at = word() % size, width = sizes[byte() % 4];

	at -= at % width;
	if (at + width <= size)
		put((char *)base + at, width, when);
}

static void scribble_field(void)
{
	const struct field *field = &fields[byte() % (sizeof fields / sizeof fields[0])];

	put((char *)run.wrap + field->at, field->size, byte());
}

/* The peer's texts have no end. */
static void scribble_texts(void)
{
	memset(&run.wrap->peer.prog, 'x',
	       (size_t)(run.wrap->peer.info + sizeof run.wrap->peer.info - run.wrap->peer.prog));
}

/* The peer */

/* No TIME-WAIT: there would be more of them than there are ports. */
static void hang_up(int fd)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	if (fd < 0)
		return;
	(void)connect(fd, &none, sizeof none);
	close(fd);
}

static void peer_says(const void *bytes, size_t size)
{
	(void)send(run.peer, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void peer_frame(enum hf_frame_type type, size_t size)
{
	static uint8_t frame[HF_HEADER_SIZE + BUFFER];

	hf_header_make(frame, type, (uint32_t)size);
	if (type == HF_FRAME_FIN && byte() & 1) {
		frame[HF_HEADER_FLAGS] = HF_HEADER_FIN_SEEN;
		hf_put16(frame + HF_HEADER_CHECK, hf_header_check(frame));
	}
	peer_says(frame, HF_HEADER_SIZE + size);
}

static void peer_hello(void)
{
	uint8_t bytes[HF_CHECK_SIZE];
	struct hf_key key = {bytes, 0};
	struct hf_hello hello = {.version = HF_WIRE_VERSION,
				 .interval = 1000,
				 .timeout = 5000,
				 .buffer = 65536,
				 .prog = "peer",
				 .host = "host",
				 .info = "blue"};
	uint8_t out[HF_HELLO_SIZE];

	memcpy(hello.nonce, "the peer's nonce", HF_NONCE_SIZE);
	memcpy(hello.session, "session's number", HF_SESSION_SIZE);
	if (run.wrap->client) {
		hello.flags = HF_HELLO_SERVER;
		memcpy(hello.session, run.wrap->id, HF_SESSION_SIZE);
	}
	/* It answers a RESUME. */
	if (run.wrap->client && hf_resume_of(run.slot) && hf_resume_broken(run.wrap)) {
		key.size = sizeof bytes;
		hello.flags |= HF_HELLO_RESUME;
		hello.offset = run.wrap->tx.sent - byte();
		hf_resume_keys(run.wrap, bytes, hello.session);
		hf_hello_make(out, &hello, &key, hf_resume_of(run.slot)->nonce);
	} else {
		hf_hello_make(out, &hello, &key, run.wrap->client ? run.wrap->nonce : NULL);
	}
	peer_says(out, sizeof out);
}

static void peer_raw(void)
{
	size_t size = byte();

	if (size > (size_t)(input_end - input))
		size = (size_t)(input_end - input);
	peer_says(input, size);
	input += size;
}

static void peer_ends(void)
{
	struct linger reset = {1, 0};
	int new;

	switch (byte() % 4) {
	case 0:
		(void)shutdown(run.peer, SHUT_WR);
		break;
	case 1: /* called again, it answers */
		new = accept4(run.listener, NULL, NULL, SOCK_CLOEXEC);
		if (new < 0)
			break;
		hang_up(run.peer);
		run.peer = new;
		break;
	case 2:
		(void)setsockopt(run.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(run.peer);
		run.peer = -1;
		break;
	default: /* it reads all there is */
		while (recv(run.peer, program, sizeof program, MSG_DONTWAIT) > 0)
			;
	}
}

/* The program */

static void program_reads(void)
{
	static const int flags[] = {0, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_PEEK | MSG_TRUNC};
	size_t size = 1 + (size_t)word() % (BUFFER - 1);
	struct iovec iov[] = {{program, size / 2}, {program + size / 2, size - size / 2}};
	int how = flags[byte() % 5];
	bool plain;

	if (size % 2 != 0 && how == 0)
		(void)hf_wrap_recv_one(run.slot, run.fd, program, size, how, &plain);
	else
		(void)hf_wrap_recv(run.slot, run.fd, iov, 2, how, &plain);
}

static void program_writes(void)
{
	size_t size = 1 + (size_t)word() % (BUFFER - 1);
	struct iovec iov[] = {{program, size / 3}, {program + size / 3, size - size / 3}};
	bool plain;

	if (size % 2 != 0)
		(void)hf_wrap_send_one(run.slot, run.fd, program, size, MSG_NOSIGNAL, &plain);
	else
		(void)hf_wrap_send(run.slot, run.fd, iov, 2, MSG_NOSIGNAL, &plain);
}

static void program_looks(void)
{
	switch (byte() % 6) {
	case 0:
		(void)hf_wrap_look(run.slot, run.fd);
		break;
	case 1:
		(void)hf_wrap_readable(run.slot, run.fd);
		break;
	case 2:
		(void)hf_wrap_ends(run.slot, run.fd, true);
		break;
	case 3:
		(void)hf_wrap_over(run.slot, run.fd);
		break;
	case 4:
		(void)hf_wrap_outq(run.slot, 100);
		break;
	default:
		(void)hf_wrap_fate(run.slot);
	}
}

/* The watchdog */

static void watchdog_looks(void)
{
	struct hf_policy policy = hf_wrap_policy(run.slot, &hf_runtime.policy);
	struct hf_evidence evidence;
	struct hf_ruling ruling;

	run.now += (uint64_t)byte() * 64;
	if (hf_resume_of(run.slot) && hf_resume_broken(run.wrap)) {
		if (hf_resume_follow(run.slot, run.fd, run.now) == 0)
			(void)hf_resume_tend(run.slot, run.fd, run.now);
		return;
	}
	if (!hf_wrap_keep(run.slot, run.now) || !hf_socket_look(run.slot, run.fd, 0, &evidence))
		return;
	(void)hf_wrap_tend(run.slot, run.fd, run.now, &evidence);
	hf_judge_look(&run.slot->judge, &policy, run.now, &evidence, &ruling);
	hf_wrap_judge(run.slot, run.now, &policy, &evidence, &ruling);
	hf_publish(run.slot, run.fd, run.now, &policy, &evidence, &ruling);
}

static bool in_use(struct hf_arena_conn *conn)
{
	(void)conn;
	return false;
}

static void watchdog_does(void)
{
	switch (byte() % 7) {
	case 0:
		hf_hold_sweep(run.now, 1000, in_use);
		break;
	case 1:
		(void)hf_wrap_busy(run.slot);
		break;
	case 2:
		(void)hf_resume_lost(run.slot, byte() & 1 ? ECONNRESET : 0);
		break;
	case 3:
		hf_wrap_pause(run.slot, run.now);
		break;
	case 4:
		hf_wrap_vanished(run.slot, run.fd);
		break;
	case 5:
		(void)hf_wrap_drained(run.slot, run.fd);
		break;
	default:
		hf_resume_claim(run.slot);
	}
}

/* An image that finds the connection by the arena alone. */
static void other_adopts(void)
{
	struct hf_slot *other = hf_slot_new();

	MUST(other != NULL);
	atomic_store(&other->fd, run.fd);
	hf_wrap_adopt(other, run.fd);
	hf_resume_free(other);
	atomic_store(&other->wrap, NULL);
	atomic_store(&hf_rare(other)->conn, 0);
	atomic_store(&hf_rare(other)->queue, NULL);
	(void)hf_slot_drop(other);
	hf_slot_free(other);
}

static void one_op(void)
{
	bool plain;

	run.slept = hf_guard_sleeps();
	if (!hf_wrap_of(run.slot))
		return; /* plain by now, and none of the library's any more */
	switch (byte() % 24) {
	case 0:
		peer_frame(HF_FRAME_DATA, 1 + (size_t)word() % (BUFFER - 1));
		break;
	case 1:
		peer_frame(HF_FRAME_BEAT, HF_BEAT_SIZE);
		break;
	case 2:
		peer_frame(HF_FRAME_FIN, 0);
		break;
	case 3:
		peer_frame(HF_FRAME_BYE, 0);
		break;
	case 4:
		peer_frame(HF_FRAME_ACK, HF_ACK_SIZE);
		break;
	case 5:
		peer_raw();
		break;
	case 6:
		peer_hello();
		break;
	case 7:
		peer_ends();
		break;
	case 8:
	case 9:
		program_reads();
		break;
	case 10:
	case 11:
		program_writes();
		break;
	case 12:
		(void)hf_wrap_shutdown(run.slot, run.fd, byte() % 3, &plain);
		break;
	case 13:
		program_looks();
		break;
	case 14:
	case 15:
		watchdog_looks();
		break;
	case 16:
		watchdog_does();
		break;
	case 17:
		other_adopts();
		break;
	case 18:
		(void)hf_wrap_sendfile(run.slot, run.fd, run.listener, NULL, 1 + word(), &plain);
		break;
	case 19:
		/* What forked children share of a connection that can be resumed lies outside the arena. */
		if (hf_resume_of(run.slot))
			scribble(hf_resume_of(run.slot), sizeof(struct hf_resume));
		else
			scribble(hf_arena(), sizeof(struct hf_arena));
		break;
	case 20:
		scribble(run.wrap, sizeof *run.wrap);
		break;
	case 21:
		scribble_texts();
		break;
	default:
		scribble_field();
	}
}

/* A run */

static void prepare_process(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};

	hf_real_resolve();
	hf_guard_real();
	MUST(hf_proc_init());
	hf_config_defaults(&hf_runtime.config);
	hf_runtime.config.mode = HF_MODE_WRAP;
	hf_runtime.config.resume_buffer = 65536;
	hf_runtime.config.level = HF_DEBUG;
	hf_runtime.config.nsinks = 1;
	hf_runtime.config.sinks[0].kind = HF_SINK_FD;
	hf_runtime.config.sinks[0].fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	hf_runtime.policy = (struct hf_policy){
		.interval = 1000,
		.timeout = 3000,
		.reply_timeout = 1000,
		.stall_timeout = 1000,
		.half_close_timeout = 1000,
		.abort_on_dead = true,
	};
	strcpy(hf_runtime.prog, "fuzz");
	hf_report_open(&hf_runtime.config, hf_runtime.prog);
	atomic_store(&hf_runtime.on, true);
	run.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MUST(bind(run.listener, (struct sockaddr *)&here, sizeof here) == 0 && listen(run.listener, 16) == 0);
	MUST(hf_arena_make(hf_wrap_layout(), true) && hf_arena_conn(0) != NULL);
}

static void connect_both(bool client, bool waits)
{
	union hf_address to = {.in = {0}};
	socklen_t len = sizeof to.in;
	struct linger reset = {1, 0};
	int one, two;

	/* Calls of a run before, that nobody answered. */
	while ((two = accept4(run.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		hang_up(two);
	MUST(getsockname(run.listener, &to.any, &len) == 0);
	one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(one >= 0 && (connect(one, &to.any, len) == 0 || errno == EINTR));
	while ((two = accept4(run.listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
		MUST(errno == EINTR || errno == EAGAIN);
	(void)setsockopt(one, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	(void)setsockopt(two, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	run.fd = client ? one : two;
	run.peer = client ? two : one;
	MUST(fcntl(run.fd, F_SETFL, waits ? 0 : O_NONBLOCK) == 0);
	run.slot = hf_slot_new();
	MUST(run.slot != NULL);
	atomic_store(&run.slot->fd, run.fd);
	atomic_store(&run.slot->client, client);
	atomic_store(&run.slot->has_role, 1);
	atomic_store(&run.slot->epoch, atomic_load(hf_proc_epoch));
	MUST(hf_wrap_begin(run.slot, run.fd, client, &to.any, len));
	run.wrap = hf_wrap_of(run.slot);
	run.conn = atomic_load(&hf_rare(run.slot)->conn) - 1;
	run.slot->view = hf_view_take();
	hf_judge_init(&run.slot->judge, run.now, false);
}

static void clean_arena(void)
{
	struct hf_arena *head = hf_arena();
	uint32_t layout = head->layout;

	memset(head, 0, sizeof *head);
	head->magic = HF_ARENA_MAGIC;
	head->version = HF_ARENA_VERSION;
	head->layout = layout;
	memset((void *)hf_arena_conn(0), 0, HF_ARENA_CONN_SIZE);
	atomic_store(&hf_family_self, 0);
}

static void allow(void)
{
	hf_guard_allow(program, sizeof program);
	hf_guard_allow(run.wrap->rx_scratch, sizeof run.wrap->rx_scratch);
	hf_guard_allow(hf_scratch(run.slot), HF_SCRATCH_SIZE);
	hf_guard_allow(run.wrap->tx.owed, sizeof run.wrap->tx.owed);
	hf_guard_allow(run.wrap->plan.head, sizeof run.wrap->plan.head);
	hf_guard_allow(run.wrap->nonce, sizeof run.wrap->nonce);
	hf_guard_allow(run.wrap->id, sizeof run.wrap->id);
	hf_guard_lend(run.fd, false);
	hf_guard_lend(hf_arena_fd(), false);
	hf_guard_lend(hf_resume_box(), true);
}

/* The program closes it, and forgets it. */
static void finish(void)
{
	int kept;

	if (hf_wrap_of(run.slot)) {
		kept = hf_wrap_close(run.slot, run.fd);
		if (kept >= 0)
			hf_keep_not(hf_slot_entry(run.slot), kept);
	}
	hf_publish_end(run.slot);
	hf_wrap_free(run.slot);
	(void)hf_slot_drop(run.slot);
	hf_slot_free(run.slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool prepared;
	uint8_t how;

	if (!prepared)
		prepare_process();
	prepared = true;
	input = data;
	input_end = data + size;
	run.nscribbles = 0;
	run.slept = 0;
	run.now = hf_wrap_now_ms();
	how = byte();
	hf_runtime.config.on_dead = how & 2 ? HF_RECONNECT : HF_ABORT;
	clean_arena();
	connect_both(how & 1, how & 8);
	hf_guard_begin(between);
	allow();
	/* Most of what there is to reach lies behind the handshake. */
	if (how & 4) {
		if (how & 1)
			hf_wrap_connected(run.slot, run.fd);
		peer_hello();
		(void)hf_wrap_look(run.slot, run.fd);
	}
	for (int i = 0; i < MOST_OPS && input < input_end; i++)
		one_op();
	run.nscribbles = 0;
	run.slept = hf_guard_sleeps();
	finish();
	hf_guard_end(hf_resume_box());
	hang_up(run.fd);
	hang_up(run.peer);
	return 0;
}
