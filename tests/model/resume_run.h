/*
 * Long random runs: streams of some thousand bytes through small rings, up to a hundred connections lost, kernels that
 * take and deliver any part, HELLOs heard late, sides that believe a live connection lost, and sometimes a server that
 * knows nothing any more.
 */
#ifndef RESUME_RUN_H
#define RESUME_RUN_H

#include "resume_link.h"

enum { RUN_WIRE = 4096, RUN_STEPS = 2000000 };

static struct run {
	uint64_t most[2]; /* what each program writes */
	bool close[2];    /* at once when all is written, else at the end of file, or never */
	bool at_eof[2];
	uint32_t losses, every; /* how many are left; about one in so many steps */
	bool forgets;
	uint64_t steps;
} run;

static uint64_t run_count, run_bytes, run_losses, run_forgotten;

static bool run_lose(void)
{
	if (run.losses == 0 || !one_in(run.every))
		return false;
	run.losses--;
	run_losses++;
	return true;
}

/* How much the kernel takes now: mostly all, sometimes any part of it. */
static size_t run_room(void)
{
	return one_in(3) ? (size_t)(draw() % 30) : SIZE_MAX;
}

static void run_look(int e)
{
	struct side *side = &world.side[e];
	bool gone = is_gone(e);

	if (e == 1 && side->pending != NONE) {
		const struct conn *conn = &world.conn[side->pending];

		if (((conn->cut || conn->off[0]) && one_in(4)) || run_lose())
			(void)server_drop();
		return;
	}
	if (side->conn == NONE || (gone ? !one_in(6) : side->over || !run_lose()))
		return;
	if (e == 1 || side->on || !client_answered())
		side_break(e);
}

static void run_side(int e)
{
	struct side *side = &world.side[e];

	switch (draw() % 8) {
	case 0:
	case 1:
		if (side->wrote < run.most[e] && !side->ended && !side->over) {
			uint64_t left = run.most[e] - side->wrote;

			(void)side_write(e, between(1, left < 300 ? (uint32_t)left : 300), run_room());
		}
		break;
	case 2:
		(void)flush(e, run_room());
		break;
	case 3:
		(void)side_read(e, one_in(2) ? SIZE_MAX : between(1, 40));
		break;
	case 4:
		run_look(e);
		break;
	case 5:
		(void)side_settle(e);
		break;
	case 6:
		side->session.beat_due = one_in(8) ? 0 : UINT64_MAX;
		(void)side_beat(e);
		break;
	default:
		if (side->wrote < run.most[e] && !side->session.peer_done && !side->over)
			break;
		if (!side->ended)
			(void)side_end(e, run.close[e]);
		else if (run.at_eof[e] && side->eof)
			(void)side_end(e, true);
		break;
	}
}

static void run_shake(void)
{
	if (one_in(2)) {
		(void)client_dial();
		(void)client_answered();
	}
	if (one_in(2))
		(void)server_proved();
	for (int c = 0; c < CONNS; c++) {
		if (world.conn[c].used && one_in(4))
			(void)server_accept(c);
	}
	if (run.forgets && one_in(5000)) {
		run.forgets = false;
		run_forgotten++;
		(void)server_forget();
	}
}

static void run_network(void)
{
	int c = (int)(draw() % CONNS), e = (int)(draw() & 1);
	struct conn *conn = &world.conn[c];
	struct side *side = &world.side[e];

	if (!conn->used)
		return;
	switch (draw() % 4) {
	case 0:
	case 1:
		(void)kernel_arrive(c, e, one_in(3) ? between(1, 30) : RUN_WIRE);
		break;
	case 2:
		if (kernel_ack(c, e) && side->conn == c && one_in(2))
			hf_ring_release(&side->ring, hf_resume_arrived(&side->tx, &side->ring, kernel_outq(c, e)));
		break;
	default:
		if (one_in(2))
			(void)kernel_reset(c, e);
		else
			(void)kernel_fin_arrive(c, e);
		break;
	}
	if (!conn->cut && !conn->off[0] && !conn->off[1] && run_lose())
		conn->cut = true;
}

static bool run_over(void)
{
	for (int e = 0; e < 2; e++) {
		const struct side *side = &world.side[e];
		bool waits = e == 1 && side->conn == NONE && side->ended && world.side[0].over;

		if ((side->over == OPEN && !waits) || (side->over <= OVER && !side->closed && !side->eof))
			return false;
	}
	return true;
}

static void run_draw(void)
{
	uint32_t rings[2];

	for (int e = 0; e < 2; e++)
		rings[e] = one_in(4) ? between(1, 20) : between(1, RING_MOST);
	world_start(rings);
	memset(&run, 0, sizeof run);
	for (int e = 0; e < 2; e++) {
		run.most[e] = one_in(4) ? between(0, 3) : between(0, 6000);
		run.close[e] = one_in(4);
		run.at_eof[e] = one_in(2);
	}
	run.losses = between(0, 100);
	run.every = one_in(2) ? 100 : between(10, 2000);
	run.forgets = one_in(8);
	stragglers = !one_in(4);
	breaks_early = one_in(2);
}

/* One run; returns false and says why when something broke. */
static bool run_one(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15 | 1;
	for (int i = 0; i < 8; i++)
		draw();
	run_draw();
	for (; !broken && !run_over() && run.steps < RUN_STEPS; run.steps++) {
		run_side((int)(draw() & 1));
		run_network();
		run_network();
		if (one_in(4))
			run_shake();
	}
	if (!broken && !run_over())
		fail("the run does not come to its end");
	if (!broken)
		check_over();
	for (int e = 0; e < 2; e++)
		run_bytes += world.side[e].rx.received;
	run_count++;
	if (!broken)
		return true;
	printf("# HF_SEED=%" PRIu64 ": %s after %" PRIu64 " steps, %u losses left\n", seed, broken, run.steps,
	       run.losses);
	for (int e = 0; e < 2; e++) {
		const struct side *side = &world.side[e];

		printf("#   %c: state %d over %d on %d conn %d pending %d wrote %" PRIu64 " of %" PRIu64
		       " sent %" PRIu64 " ring %" PRIu64 "..%" PRIu64 " of %u received %" PRIu64
		       " fin %d bye %d/%d eof %d ended %d closed %d due %d\n",
		       "AB"[e], side -> session.state, side->over, side->on, side->conn, side->pending, side->wrote,
		       run.most[e], side->tx.sent, side->ring.start, side->ring.end, side->ring.size, side->rx.received,
		       side->rx.fin, side->rx.bye, side->tx.bye, side->eof, side->ended, side->closed, side->end_due);
	}
	return false;
}

#endif
