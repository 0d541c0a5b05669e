/*
 * Every interleaving of two small programs over connections that can be lost at every step: what may happen next is
 * done, each alone, whole or a part of it.  States already seen are not gone through again.
 */
#ifndef RESUME_EXPLORE_H
#define RESUME_EXPLORE_H

#include "resume_link.h"

enum { WRITES = 4, WIRE_SIZE = 1024, DEPTH_MOST = 1000 };
enum how { SHUT, CLOSE, CLOSE_AT_EOF, ABANDON }; /* ABANDON: shut down with a frame left open if there is one */

struct script {
	const char *name;
	uint8_t writes[2][WRITES]; /* sizes, ended by 0 */
	enum how how[2];
	uint8_t losses;   /* connections cut, or left by a side that only believes it lost, at most */
	bool forgets;     /* the server may be another one, once */
	bool prompt;      /* each side does at once what it owes, so that two losses can be gone through */
	bool stragglers;  /* what was on its way when its sender left may still arrive */
	bool early;       /* see breaks_early */
	uint8_t parts;    /* so often a kernel takes a part only, or a part arrives */
	bool deep;        /* only when asked for */
	uint16_t ring[2]; /* 0: room for everything */
};

/* Where each program stands. */
static struct place {
	uint8_t write, done;
} place[2];
static uint8_t losses_left, forgets_left, parts_left;

struct snapshot {
	struct world world;
	struct place place[2];
	uint8_t losses, forgets, parts;
	uint8_t bytes[4 * WIRE_SIZE];
};

static const struct script *script;
static uint64_t states, ends, steps;
static unsigned depth;

static struct step {
	uint8_t deed, e, c, part;
} trail[DEPTH_MOST];

/* What is on a wire and not read is packed one after the other. */
static void wires(uint8_t *packed, bool out)
{
	size_t at = 0;

	for (int i = 0; i < 2 * CONNS; i++) {
		const struct pipe *pipe = &world.conn[i / 2].pipe[i & 1];
		uint8_t *bytes = wire[i / 2][i & 1];

		if (!world.conn[i / 2].used)
			continue;
		for (uint32_t n = pipe->read; n < pipe->written; n++, at++) {
			if (at == 4 * WIRE_SIZE) {
				fail("too much on the wires");
				return;
			}
			if (out)
				packed[at] = bytes[n & wire_mask];
			else
				bytes[n & wire_mask] = packed[at];
		}
	}
}

static void save(struct snapshot *to)
{
	to->world = world;
	memcpy(to->place, place, sizeof place);
	to->losses = losses_left;
	to->forgets = forgets_left;
	to->parts = parts_left;
	wires(to->bytes, true);
}

static void restore(struct snapshot *from)
{
	world = from->world;
	memcpy(place, from->place, sizeof place);
	losses_left = from->losses;
	forgets_left = from->forgets;
	parts_left = from->parts;
	wires(from->bytes, false);
}

static uint64_t hash_conn(uint64_t hash, int c)
{
	const struct conn *conn = &world.conn[c];
	uint64_t word = (uint64_t)c + 1;

	if (!conn->used || (conn->off[0] && conn->off[1]))
		return hash;
	for (int e = 0; e < 2; e++)
		word = word << 4 | (uint64_t)conn->off[e] << 3 | (uint64_t)conn->reset[e] << 2 |
		       (uint64_t)conn->pipe[e].fin << 1 | conn->pipe[e].fin_arrived;
	word = word << 2 | (uint64_t)conn->cut << 1 | conn->taken;
	hash = hash_bytes(hash, &word, sizeof word);
	for (int e = 0; e < 2; e++) {
		const struct pipe *pipe = &conn->pipe[e];
		/* To one that has been left nothing comes any more. */
		uint32_t end = conn->cut || conn->off[!e] || conn->reset[!e] ? pipe->arrived : pipe->written;
		const uint32_t at[] = {end - pipe->read, pipe->arrived - pipe->read, pipe->written - pipe->acked};

		hash = hash_bytes(hash, at, sizeof at);
		if (!conn->off[!e])
			hash = hash_bytes(hash, wire[c][e] + pipe->read, end - pipe->read); /* no wrap here */
	}
	return hash;
}

/* What matters of the state: not bytes that have been read. */
static uint64_t hash_world(void)
{
	uint64_t hash = 1;

	for (int e = 0; e < 2; e++) {
		const struct side *side = &world.side[e];
		const uint64_t words[] = {
			side->tx.sent << 32 | side->ring.start,
			side->wrote << 32 | side->rx.received,
			side->pending == NONE ? 0 : side->told << 8 | (uint64_t)(side->pending + 1),
			(uint64_t)side->tx.open << 32 | (uint64_t)side->tx.owed_have << 8 | side->tx.owed_size,
			(uint64_t)side->rx.payload << 32 | (uint64_t)side->rx.have << 8 | side->rx.type,
			(uint64_t)side->session.state << 32 | (uint64_t)side->tx.fin << 31 |
				(uint64_t)side->tx.bye << 30 | (uint64_t)side->tx.ended << 29 |
				(uint64_t)side->rx.fin << 28 | (uint64_t)side->rx.bye << 27 |
				(uint64_t)side->rx.ended << 26 | (uint64_t)side->session.peer_done << 25 |
				(uint64_t)side->session.we_done << 24 | (uint64_t)side->session.last_beat << 23 |
				(uint64_t)side->session.mute << 22 | (uint64_t)side->on << 21 |
				(uint64_t)side->ended << 20 | (uint64_t)side->closed << 19 |
				(uint64_t)side->end_due << 18 | (uint64_t)side->eof << 17 |
				(uint64_t)side->known << 16 | (uint64_t)side->ring.fin << 15 |
				(uint64_t)side->ring.bye << 14 | (uint64_t)side->ring.held << 13 |
				(uint64_t)side->over << 8 | (uint64_t)(side->conn + 1),
			(uint64_t)place[e].write << 8 | place[e].done,
		};

		hash = hash_bytes(hash, words, sizeof words);
		hash = hash_bytes(hash, side->tx.owed, side->tx.owed_size);
		hash = hash_bytes(hash, side->rx.part, side->rx.have);
	}
	hash = hash_bytes(hash, (uint8_t[]){losses_left, forgets_left, parts_left}, 3);
	for (int c = 0; c < CONNS; c++)
		hash = hash_conn(hash, c);
	return hash ? hash : 1;
}

/* Of a side, of the client, of the server, of a connection. */
enum deed {
	WRITE,
	FLUSH,
	END,
	READ,
	BEAT,
	SETTLE,
	NOTICE,
	DIAL,
	ANSWER,
	PROVE,
	DROP,
	FORGET,
	CUT,
	ACCEPT,
	ARRIVE,
	ACK,
	RESET,
	FIN,
	DEEDS
};
static const char *const deed_names[] = {"writes", "flushes", "ends",        "reads",         "beats", "settles",
					 "breaks", "dials",   "is answered", "has the PROOF", "drops", "forgets",
					 "cut",    "accepts", "->",          "acked",         "reset", "FIN"};

static bool spend(uint8_t *budget)
{
	return *budget > 0 && (*budget)--;
}

static bool written(int e)
{
	return place[e].write >= WRITES || script->writes[e][place[e].write] == 0 || world.side[e].session.peer_done ||
	       world.side[e].over;
}

static bool do_write(int e, unsigned part)
{
	static const size_t rooms[] = {SIZE_MAX, 3, HF_HEADER_SIZE + 1};
	size_t n;

	if (written(e) || world.side[e].closed || !world.side[e].on || owes(&world.side[e]))
		return false;
	n = side_write(e, (size_t)(script->writes[e][place[e].write] - place[e].done), rooms[part]);
	place[e].done = (uint8_t)(place[e].done + n);
	if (place[e].done == script->writes[e][place[e].write])
		place[e] = (struct place){.write = (uint8_t)(place[e].write + 1)};
	return n > 0;
}

static bool do_end(int e)
{
	const struct side *side = &world.side[e];

	if (!written(e) && !(script->how[e] == ABANDON && side->tx.open > 0))
		return false;
	if (script->how[e] == CLOSE)
		return side_end(e, true);
	return side_end(e, script->how[e] == CLOSE_AT_EOF && side->ended && side->eof);
}

static bool do_notice(int e)
{
	struct side *side = &world.side[e];

	if (side->conn == NONE || (e == 1 && side->pending != NONE))
		return false;
	if (!is_gone(e) && (side->over || !spend(&losses_left)))
		return false;
	if (e == 0 && !side->on && client_answered())
		return true;
	side_break(e);
	return true;
}

static bool do_cut(int c)
{
	struct conn *conn = &world.conn[c];

	if (!conn->used || conn->cut || conn->off[0] || conn->off[1] || !spend(&losses_left))
		return false;
	conn->cut = true;
	return true;
}

static bool do_drop(void)
{
	int c = world.side[1].pending;
	const struct conn *conn = &world.conn[c == NONE ? 0 : c];

	if (c == NONE || (!conn->cut && !conn->off[0] && !spend(&losses_left)))
		return false;
	return server_drop();
}

static bool do_arrive(int c, int e, unsigned part)
{
	enum { SHORT = 3 };
	const struct pipe *pipe = &world.conn[c].pipe[e];
	uint32_t outstanding = pipe->written - pipe->arrived;

	return (part == 0 || outstanding > SHORT) && kernel_arrive(c, e, part ? outstanding - SHORT : outstanding);
}

/* The sender looks at once, and keeps no byte longer than it must. */
static bool do_ack(int c, int e)
{
	struct side *side = &world.side[e];

	if (!kernel_ack(c, e))
		return false;
	if (side->conn == c)
		hf_ring_release(&side->ring, hf_resume_arrived(&side->tx, &side->ring, kernel_outq(c, e)));
	return true;
}

static bool do_flush(int e, unsigned part)
{
	enum { SHORT = 11 };

	if (part > 0 && world.side[e].tx.owed_have > 0)
		return false;
	return flush(e, part ? SHORT : SIZE_MAX);
}

static bool act_conn(enum deed deed, int e, int c, unsigned part)
{
	switch (deed) {
	case CUT:
		return e == 0 && do_cut(c);
	case ACCEPT:
		return e == 1 && server_accept(c);
	case ARRIVE:
		return do_arrive(c, e, part);
	case ACK:
		return do_ack(c, e);
	case RESET:
		return !script->prompt && kernel_reset(c, e);
	default:
		return kernel_fin_arrive(c, e);
	}
}

static bool act(enum deed deed, int e, int c, unsigned part)
{
	if (part > (deed == WRITE ? 2 : deed == FLUSH || deed == ARRIVE) || (part > 0 && !spend(&parts_left)))
		return false;
	if (deed >= CUT)
		return world.conn[c].used && act_conn(deed, e, c, part);
	if (deed == WRITE)
		return do_write(e, part);
	if (deed == FLUSH)
		return do_flush(e, part);
	switch (deed) {
	case END:
		return do_end(e);
	case READ:
		return side_read(e, WIRE_SIZE);
	case BEAT:
		return side_beat(e);
	case SETTLE:
		return side_settle(e);
	case NOTICE:
		return do_notice(e);
	case DIAL:
		return e == 0 && client_dial();
	case ANSWER:
		return e == 0 && client_answered();
	case PROVE:
		return e == 1 && server_proved();
	case DROP:
		return e == 1 && do_drop();
	default:
		return e == 1 && spend(&forgets_left) && server_forget();
	}
}

static void be_prompt(void)
{
	for (int e = 0; e < 2; e++) {
		for (unsigned n = 0; n < 8 && (flush(e, SIZE_MAX) || side_beat(e)); n++)
			continue;
	}
}

static void explore(void);

/* STEP, if it can be, and everything after it. */
static bool try_step(struct snapshot *here, struct step step)
{
	if (!act((enum deed)step.deed, step.e, step.c, step.part)) {
		parts_left = here->parts;
		if (step.deed == WRITE) /* it may have asked what has arrived */
			world.side[step.e].ring = here->world.side[step.e].ring;
		return false;
	}
	if (script->prompt && !broken)
		be_prompt();
	steps++;
	trail[depth++] = step;
	if (states > (1U << SEEN_BITS) / 4 * 3)
		fail("too many states: make the script smaller");
	if (depth == DEPTH_MOST)
		fail("too many steps");
	if (!broken && remember(hash_world())) {
		states++;
		explore();
	}
	if (!broken) {
		depth--;
		restore(here);
	}
	return true;
}

static void explore(void)
{
	struct snapshot here;
	bool last = true;

	save(&here);
	for (uint8_t deed = 0; deed < DEEDS && !broken; deed++) {
		for (uint8_t i = 0; i < (deed < CUT ? 2 : 2 * CONNS) && !broken; i++) {
			for (uint8_t part = 0; part < 3 && !broken; part++)
				last &= !try_step(&here, (struct step){deed, i & 1, i / 2, part});
		}
	}
	if (last && !broken) {
		ends++;
		check_over();
	}
}

static void explore_tell(void)
{
	printf("# %s: %s, after", script->name, broken);
	for (unsigned i = 0; i < depth; i++) {
		const struct step *step = &trail[i];

		if (step->deed < CUT)
			printf(" %c %s%s,", "AB"[step->e], deed_names[step->deed], step -> part ? " a part" : "");
		else
			printf(" %d %c%s%s,", step->c, "AB"[step->e], deed_names[step->deed],
			       step -> part ? " a part" : "");
	}
	printf(" now %d/%d\n", world.side[0].session.state, world.side[1].session.state);
}

/* Returns whether all went well. */
static bool explore_script(const struct script *what)
{
	static uint8_t bytes[CONNS][2][WIRE_SIZE];
	uint32_t rings[2];

	script = what;
	for (int e = 0; e < 2; e++)
		rings[e] = what->ring[e] ? what->ring[e] : RING_MOST;
	for (int c = 0; c < CONNS; c++) {
		for (int e = 0; e < 2; e++)
			wire[c][e] = bytes[c][e];
	}
	wire_mask = WIRE_SIZE - 1;
	world_start(rings);
	memset(place, 0, sizeof place);
	memset(seen_states, 0, sizeof *seen_states << SEEN_BITS);
	stragglers = what->stragglers;
	breaks_early = what->early;
	losses_left = what->losses;
	forgets_left = what->forgets;
	parts_left = what->parts;
	states = ends = steps = 0;
	depth = 0;
	explore();
	if (broken)
		explore_tell();
	return !broken;
}

#endif
