/*
 * Long random runs with time: wires with delay, small and large kernel buffers, programs that chat, stream, answer
 * slowly, stop reading for ten timeouts, half-close, close, or give a write up half-way; and ends that stop dead.
 */
#ifndef WRAP_RUN_H
#define WRAP_RUN_H

#include "wrap_link.h"

enum { LIVE_RUN, STOPPED_RUN, CUT_RUN, RUN_KINDS };
enum { SEGMENTS = 64, RUN_RING = 1 << 16 };

/* What is on its way: positions and when they arrive. */
struct wire {
	struct {
		uint64_t upto, due;
	} segment[SEGMENTS];
	unsigned first, count;
	uint64_t queued; /* the position up to which segments were made */
	uint32_t delay, rcvbuf;
};

struct program {
	uint64_t write_at, read_at, end_at, pending; /* pending: bytes of a write not yet taken */
	uint32_t write_every, write_most, read_every, read_most;
	bool close, abandons, blocked;
};

struct run {
	uint32_t interval[2], timeout[2];
	struct wire wire[2];
	struct program program[2];
	uint64_t tick_at[2], arrived_at[2], stop_at, hung_at;
	int stopped; /* which end, when stop_at has come */
	int kind;
	uint64_t patient_until, ends_at;
};

static struct run run;
static uint64_t run_verdicts, run_bytes, run_beats, run_ms, run_count[RUN_KINDS], run_resets;

static bool is_stopped(int e)
{
	return run.kind == STOPPED_RUN && e == run.stopped && world.now >= run.stop_at;
}

static void wire_move(int e)
{
	struct wire *wire = &run.wire[e];

	if (wire->queued < world.way[e].written && wire->count < SEGMENTS) {
		unsigned at = (wire->first + wire->count++) % SEGMENTS;
		uint64_t size = world.way[e].written - wire->queued;

		if (one_in(3))
			size = 1 + draw() % size;
		wire->queued += size;
		wire->segment[at].upto = wire->queued;
		wire->segment[at].due = world.now + wire->delay;
	}
	while (wire->count > 0 && wire->segment[wire->first].due <= world.now) {
		uint64_t room = wire->rcvbuf - kernel_unread(!e), want;

		if (kernel_unread(!e) >= wire->rcvbuf)
			break;
		want = wire->segment[wire->first].upto - world.way[e].arrived;
		kernel_arrive(e, want < room ? want : room);
		if (world.end[e].reset || world.way[e].arrived < wire->segment[wire->first].upto)
			break;
		wire->first = (wire->first + 1) % SEGMENTS;
		wire->count--;
	}
	kernel_fin_arrive(e);
}

/* How much the kernel takes now: mostly all, sometimes any part of it. */
static size_t room(void)
{
	return one_in(4) ? (size_t)(draw() % 3000) : one_in(8) ? (size_t)(draw() % 20) : SIZE_MAX;
}

static void program_writes(int e)
{
	struct program *program = &run.program[e];
	struct end *end = &world.end[e];

	if (program->pending == 0 && world.now >= program->write_at && world.now < program->end_at) {
		program->pending = between(1, program->write_most);
		program->write_at = world.now + between(program->write_every / 2, program->write_every * 2);
	}
	if (end->ended || end->reset)
		program->pending = 0;
	if (program->pending > 0)
		program->pending -= end_write(e, (size_t)program->pending, room());
	if (program->pending > 0 && program->abandons && one_in(3))
		program->pending = 0; /* the next write, if any, is another one */
}

static void program_steps(int e)
{
	struct program *program = &run.program[e];
	struct end *end = &world.end[e];

	if (end->closed)
		return;
	if (world.now >= run.patient_until) { /* slow, but not for ever: the run is to end */
		program->read_every = 0;
		program->read_most = 65536;
		program->read_at = 0;
	}
	if (!(run.kind == STOPPED_RUN && world.now >= run.stop_at))
		program_writes(e);
	if (world.now >= program->read_at && !end->eof) {
		end_read(e, between(1, program->read_most));
		program->read_at = world.now + (program->read_every ? between(1, program->read_every) : 0);
	}
	if (world.now >= program->end_at && program->pending == 0 && !(run.kind == STOPPED_RUN)) {
		/* As do_end() of wrap_explore.h: the write is finished first. */
		if (end->tx.open > 0 && end->shut_rd && !end->ended && !end->reset)
			end_write(e, end->tx.open, SIZE_MAX);
		else if (program->close)
			end_close(e, room());
		else
			end_shutdown(e, room());
	}
}

/* What shim/watch does a few times per interval. */
static void watch_tick(int e)
{
	struct end *end = &world.end[e];
	const struct way *in = &world.way[!e];

	if (world.now < run.tick_at[e])
		return;
	run.tick_at[e] = world.now + end->session.pace / 5;
	if (!end->closed)
		watch_control(e);
	if (in->arrived != end->session.arrived || end->session.unread > 0)
		run.arrived_at[e] = world.now;
	hf_session_arrived(&end->session, world.now, in->arrived, kernel_unread(e), end->rx.received);
	hf_session_outq(&end->session, world.now, kernel_outq(e), end->tx.tail);
	if (owes(e))
		flush(e, SIZE_MAX);
	else
		end_beat(e, room());
	end_settle(e);
	if (!end->closed &&
	    hf_session_hung(&end->session, world.now, run.timeout[e], !hf_rx_between(&end->rx), kernel_unread(e) > 0)) {
		run_verdicts++;
		if (!is_stopped(!e))
			fail(e ? "B calls a live peer hung" : "A calls a live peer hung");
		else if (run.hung_at == 0)
			run.hung_at = world.now;
	}
}

static void run_step(void)
{
	for (int e = 0; e < 2; e++)
		wire_move(e);
	for (int e = 0; e < 2; e++) {
		if (is_stopped(e))
			continue;
		if (owes(e) && one_in(4))
			flush(e, room());
		program_steps(e);
		watch_tick(e);
	}
}

static void run_draw(int kind)
{
	memset(&run, 0, sizeof run);
	run.kind = kind;
	run.ends_at = world.now + 4000000;
	for (int e = 0; e < 2; e++) {
		run.interval[e] = between(50, 2000);
		run.timeout[e] = run.interval[e] * between(3, 5);
	}
	for (int e = 0; e < 2; e++) {
		struct program *program = &run.program[e];
		uint32_t least = run.timeout[0] < run.timeout[1] ? run.timeout[0] : run.timeout[1];

		run.wire[e].delay = one_in(3) ? between(0, least / 8) : between(0, 3);
		run.wire[e].rcvbuf = one_in(3) ? between(40, 300) : between(1000, RUN_RING);
		program->write_every = one_in(4) ? 1 : between(1, run.interval[e] * 4);
		program->write_most = one_in(3) ? 20 : between(1, 40000);
		program->read_every = one_in(2) ? 0 : one_in(3) ? run.timeout[!e] * 10 : between(1, run.timeout[!e]);
		program->read_most = one_in(2) ? 65536 : between(1, 2000);
		program->end_at = world.now + between(0, run.interval[e] * 40);
		program->close = one_in(3);
		program->abandons = one_in(5);
		if (one_in(4))
			program->write_at = UINT64_MAX; /* says nothing */
	}
	run.patient_until = world.now + 40 * (uint64_t)(run.timeout[0] + run.timeout[1]);
	run.stopped = one_in(2);
	run.stop_at = world.now + between(0, run.interval[0] * 10);
	if (kind == STOPPED_RUN) { /* beats that wait behind unread data are heard when they are read */
		run.program[!run.stopped].read_every = 0;
		run.program[!run.stopped].read_most = 65536;
	}
}

/* A stopped peer, and nothing else to explain the silence: the other end must say so in time. */
static void check_stopped(void)
{
	int e = !run.stopped;
	const struct end *end = &world.end[e];
	uint32_t pace = run.interval[!e] < run.timeout[e] / 3 ? run.interval[!e] : run.timeout[e] / 3;
	uint64_t limit = run.timeout[e] > 2 * pace ? run.timeout[e] : 2 * pace, late;

	if (limit < 2 * HF_BEAT_PACE_LEAST)
		limit = 2 * HF_BEAT_PACE_LEAST;
	/* The last byte may be on its way, be seen at the next look, and the verdict be given at the one after. */
	late = run.stop_at > run.arrived_at[e] ? run.stop_at : run.arrived_at[e];
	late += run.wire[0].delay + run.wire[1].delay + limit + 3 * (end->session.pace / 5 + 20);
	if (!hf_rx_between(&end->rx) || end->session.state > HF_S_CLOSE_WAIT || end->session.peer_done ||
	    kernel_unread(e) > 0 || kernel_outq(e) > 0)
		return;
	run_count[STOPPED_RUN]++;
	if (run.hung_at == 0 || run.hung_at > late)
		fail("a stopped peer was not called hung in time");
}

static bool run_over(void)
{
	if (run.kind == STOPPED_RUN)
		return world.now >= run.stop_at + 8 * (uint64_t)(run.timeout[0] + run.timeout[1]);
	for (int e = 0; e < 2; e++) {
		if (world.end[e].session.state != HF_S_CLOSED || (!world.end[e].closed && !world.end[e].eof))
			return false;
	}
	return true;
}

static void check_over(void)
{
	for (int e = 0; e < 2; e++) {
		const struct end *end = &world.end[e];

		/* Closed with bytes on their way to it: those are lost, as they are without us. */
		if (!end->closed && end->got != world.end[!e].tx.sent)
			fail("bytes are missing at the end");
		run_bytes += end->got;
		run_beats += end->session.beats_received;
	}
	run_resets += world.end[0].reset;
}

static void run_tell(uint64_t seed)
{
	printf("# HF_SEED=%" PRIu64 ": %s at %" PRIu64 " ms, kind %d, stopped %d at %" PRIu64 ", hung %" PRIu64 "\n",
	       seed, broken, world.now, run.kind, run.stopped, run.stop_at, run.hung_at);
	for (int e = 0; e < 2; e++) {
		const struct end *end = &world.end[e];
		const struct hf_session *session = &end->session;

		printf("#   %c: I %u T %u pace %u delay %u rcvbuf %u state %d moved %" PRIu64 " heard %" PRIu64
		       " due %" PRIu64 " open %u owed %u/%u unread %" PRIu64 " outq %" PRIu64 " sent %" PRIu64
		       " got %" PRIu64 " beats %" PRIu64 "/%" PRIu64 "\n",
		       e ? 'B' : 'A', run.interval[e], run.timeout[e], session->pace, run.wire[e].delay,
		       run.wire[e].rcvbuf, session->state, session->moved_at, session->heard_at, session->beat_due,
		       end->tx.open, end->tx.owed_have, end->tx.owed_size, kernel_unread(e), kernel_outq(e),
		       end->tx.sent, end->got, session->beats_sent, session->beats_received);
	}
}

/* One run; returns false and says why when something broke. */
static bool run_one(int kind)
{
	uint64_t cut_at, start;

	world_start();
	start = world.now;
	run_draw(kind);
	for (int e = 0; e < 2; e++)
		hf_session_init(&world.end[e].session, world.now, run.interval[e], run.interval[!e], run.timeout[!e],
				(uint32_t)draw());
	cut_at = world.now + between(0, run.interval[0] * 30);
	while (!broken && !run_over() && world.now < run.ends_at) {
		uint32_t pause = run.program[0].write_every < 20 || run.program[1].write_every < 20 ? 4 : 16;

		run_step();
		world.now += between(1, pause);
		if (kind == CUT_RUN && world.now >= cut_at && !world.end[0].reset)
			world.end[0].reset = world.end[1].reset = true;
	}
	run_ms += world.now - start;
	if (broken)
		return false;
	if (kind == STOPPED_RUN)
		check_stopped();
	else if (!run_over())
		fail("the run does not come to its end");
	else if (kind == LIVE_RUN)
		check_over();
	if (kind != STOPPED_RUN)
		run_count[kind]++;
	return !broken;
}

#endif
