/*
 * Every interleaving of two small programs: at each step either program, either library, either watchdog or either
 * direction of the wire does its next thing, whole or a part of it.  States already seen are not gone through again.
 */
#ifndef WRAP_EXPLORE_H
#define WRAP_EXPLORE_H

#include "wrap_link.h"

enum { STREAM_MOST = 512, WRITES = 4, DEPTH_MOST = 600 };
enum how { SHUT, CLOSE, CLOSE_AT_EOF, ABANDON }; /* ABANDON: shut down with a frame left open if there is one */

struct script {
	const char *name;
	uint8_t writes[2][WRITES]; /* sizes, ended by 0 */
	enum how how[2];
	uint8_t beats[2]; /* at most so many by the clock */
	/* What this end sends may be cut after any byte by its kernel, come byte by byte, and be read so; else the
	 * kernel takes all, or stops once in a header or in a payload. */
	bool fine[2];
	bool cut_beats; /* beats too may go out in parts */
};

/* Where each program stands. */
static struct place {
	uint8_t write, done; /* which write, how much of it */
	uint8_t beats;
} place[2];

struct snapshot {
	struct world world;
	struct place place[2];
	uint8_t bytes[2][STREAM_MOST];
};

static const struct script *script;
static uint64_t states, ends, cuts, steps;
static const char *trail[DEPTH_MOST];
static unsigned depth;

static void save(struct snapshot *to)
{
	memcpy(&to->world, &world, sizeof world);
	memcpy(to->place, place, sizeof place);
	for (int e = 0; e < 2; e++)
		memcpy(to->bytes[e], ring[e], (size_t)world.way[e].written);
}

static void restore(const struct snapshot *from)
{
	memcpy(&world, &from->world, sizeof world);
	memcpy(place, from->place, sizeof place);
	for (int e = 0; e < 2; e++)
		memcpy(ring[e], from->bytes[e], (size_t)world.way[e].written);
}

/* What matters of the state: not times, nor bytes that have been read. */
static uint64_t hash_world(void)
{
	uint64_t hash = 1;

	for (int e = 0; e < 2; e++) {
		const struct end *end = &world.end[e];
		const struct way *way = &world.way[e];
		const uint64_t words[] = {
			end->tx.sent,
			(uint64_t)end->tx.open << 32 | (uint64_t)end->tx.owed_have << 8 | end->tx.owed_size,
			end->rx.received,
			(uint64_t)end->rx.payload << 32 | (uint64_t)end->rx.have << 8 | end->rx.type,
			end->got,
			(uint64_t)end->session.state << 32 | (uint64_t)end->tx.fin << 16 | (uint64_t)end->tx.bye << 15 |
				(uint64_t)end->tx.ended << 14 | (uint64_t)end->rx.fin << 13 |
				(uint64_t)end->rx.bye << 12 | (uint64_t)end->rx.ended << 11 |
				(uint64_t)end->session.peer_done << 10 | (uint64_t)end->session.we_done << 9 |
				(uint64_t)end->session.last_beat << 8 | (uint64_t)end->eof << 7 |
				(uint64_t)end->ended << 6 | (uint64_t)end->closed << 5 | (uint64_t)end->shut_rd << 4 |
				(uint64_t)end->gone << 3 | (uint64_t)end->reset << 2 |
				(uint64_t)end->session.mute << 17 | (uint64_t)way->fin << 1 | way->fin_arrived,
			way->written,
			way->arrived,
			way->read,
			(uint64_t)place[e].write << 16 | (uint64_t)place[e].done << 8 | place[e].beats,
		};

		hash = hash_bytes(hash, words, sizeof words);
		hash = hash_bytes(hash, end->tx.owed, end->tx.owed_size);
		hash = hash_bytes(hash, end->rx.part, end->rx.have);
		hash = hash_bytes(hash, ring[e] + way->read, (size_t)(way->written - way->read));
	}
	return hash ? hash : 1;
}

/* What one end may do.  PART chooses how much of it is done; false: nothing, or nothing new. */
enum deed { WRITE, FLUSH, END, READ, WATCH, BEAT, SETTLE, ARRIVE, ARRIVE_FIN, DEEDS };
static const char *const deed_names[2][DEEDS] = {
	{"A write", "A flush", "A end", "A read", "A watch", "A beat", "A settle", "A->", "A-> FIN"},
	{"B write", "B flush", "B end", "B read", "B watch", "B beat", "B settle", "B->", "B-> FIN"},
};

/* Whether single bytes of what E sends are looked at: DATA and FIN, as far as no beat stands among them. */
static bool by_byte(int e, uint64_t at)
{
	uint64_t size = HF_HEADER_SIZE;

	for (int i = 0; i < WRITES && script->writes[e][i] > 0; i++)
		size += (uint64_t)HF_HEADER_SIZE + script->writes[e][i];
	return script->fine[e] && at < size;
}

static bool do_write(int e, unsigned part)
{
	const uint8_t *writes = script->writes[e];
	struct end *end = &world.end[e];
	size_t left, most, room, n;
	uint64_t before = world.way[e].written;

	if (place[e].write >= WRITES || writes[place[e].write] == 0 || end->ended || end->reset)
		return false;
	left = (size_t)(writes[place[e].write] - place[e].done);
	most = left + HF_HEADER_SIZE + (size_t)(end->tx.owed_size - end->tx.owed_have);
	room = part == 0 ? most : part;
	if (room > most || (part > 0 && !script->fine[e] && part != 3 && part != HF_HEADER_SIZE + 1))
		return false;
	n = end_write(e, left, room);
	place[e].done = (uint8_t)(place[e].done + n);
	if (place[e].done == writes[place[e].write]) {
		place[e].done = 0;
		place[e].write++;
	}
	return world.way[e].written > before;
}

static bool do_end(int e, unsigned part)
{
	const uint8_t *writes = script->writes[e];
	struct end *end = &world.end[e];
	size_t room = part ? 3 : 8;
	bool written = place[e].write >= WRITES || writes[place[e].write] == 0 || end->reset;

	if (part > 1 || (!written && !(script->how[e] == ABANDON && end->tx.open > 0)))
		return false;
	if (script->how[e] == CLOSE)
		return end_close(e, room);
	/* SHUT_RD is done and no FIN can be said: a real SHUT_WR now could meet a beat.  Left out: the library's to
	 * avoid. */
	if (end->tx.open > 0 && end->shut_rd && !end->ended)
		return false;
	if (end_shutdown(e, room))
		return true;
	return script->how[e] == CLOSE_AT_EOF && end->eof && end_close(e, room);
}

static bool do_read(int e, unsigned part)
{
	struct end *end = &world.end[e];
	uint64_t before = end->got + world.way[!e].read;

	if (part > 1 || end->closed || end->eof || (part == 1 && !by_byte(!e, world.way[!e].read)))
		return false;
	end_read(e, part ? 1 : 64);
	return end->got + world.way[!e].read > before || end->eof;
}

static bool do_beat(int e, unsigned part)
{
	struct end *end = &world.end[e];

	if (part > (unsigned)script->cut_beats)
		return false;
	end->session.beat_due = place[e].beats < script->beats[e] ? 0 : UINT64_MAX;
	if (!end_beat(e, part ? 11 : 72))
		return false;
	place[e].beats++;
	return true;
}

static bool act(int e, enum deed deed, unsigned part)
{
	bool reset = world.end[e].reset;
	uint64_t before;

	switch (deed) {
	case WRITE:
		return do_write(e, part);
	case FLUSH:
		return part <= (unsigned)by_byte(e, world.way[e].written) && owes(e) && flush(e, part ? 1 : 72) > 0;
	case END:
		return do_end(e, part);
	case READ:
		return do_read(e, part);
	case WATCH:
		return part == 0 && !world.end[e].closed && watch_control(e);
	case BEAT:
		return do_beat(e, part);
	case SETTLE:
		before = world.way[!e].read;
		return part == 0 && (end_settle(e) || world.way[!e].read > before);
	case ARRIVE:
		before = world.way[e].arrived;
		if (part <= (unsigned)by_byte(e, world.way[e].arrived))
			kernel_arrive(e, part ? 1 : STREAM_MOST);
		return world.way[e].arrived > before || (world.end[e].reset && part == 0 && !reset);
	default:
		return part == 0 && kernel_fin_arrive(e);
	}
}

/* The wire is cut here: what has arrived can be read, then both see an end, and nothing is made up. */
static void check_cut(void)
{
	for (int e = 0; e < 2; e++)
		world.end[e].reset = true;
	for (int e = 0; e < 2; e++) {
		struct end *end = &world.end[e];

		for (int i = 0; i < 3 && !end->closed && !end->eof; i++)
			end_read(e, 64);
		if (!end->closed && !end->eof)
			fail("no end of file after the wire was cut");
		if (!end->closed && (end->rx.fin || end->rx.bye) && end->got != world.end[!e].tx.sent)
			fail("a FIN before the last byte");
	}
	cuts++;
}

static void check_last(void)
{
	for (int e = 0; e < 2; e++) {
		const struct end *end = &world.end[e];

		if (end->session.state != HF_S_CLOSED)
			fail("an end never reaches CLOSED");
		if (!end->closed && (!end->eof || end->got != world.end[!e].tx.sent))
			fail("an end never reads its end of file");
	}
	ends++;
}

static void explore(void)
{
	struct snapshot here;
	bool last = true;

	save(&here);
	for (int e = 0; e < 2; e++) {
		for (int deed = 0; deed < DEEDS; deed++) {
			unsigned parts = deed == WRITE ? 24 : 2;

			for (unsigned part = 0; part < parts && !broken; part++) {
				if (!act(e, (enum deed)deed, part)) {
					if (!broken)
						restore(&here);
					continue;
				}
				last = false;
				steps++;
				trail[depth++] = deed_names[e][deed];
				if (states > (1U << SEEN_BITS) / 4 * 3)
					fail("too many states: make the script smaller");
				if (depth == DEPTH_MOST)
					fail("too many steps");
				if (!broken && remember(hash_world())) {
					struct snapshot next;

					states++;
					save(&next);
					check_cut();
					restore(&next);
					if (!broken)
						explore();
				}
				if (broken)
					return;
				depth--;
				restore(&here);
			}
		}
	}
	if (last)
		check_last();
}

/* Returns whether all went well. */
static bool explore_script(const struct script *what)
{
	static uint8_t bytes[2][STREAM_MOST];

	script = what;
	ring[0] = bytes[0];
	ring[1] = bytes[1];
	ring_mask = STREAM_MOST - 1;
	world_start();
	memset(place, 0, sizeof place);
	memset(seen_states, 0, sizeof *seen_states << SEEN_BITS);
	for (int e = 0; e < 2; e++)
		hf_session_init(&world.end[e].session, world.now, 5000, 5000, 15000, 1);
	states = ends = cuts = steps = 0;
	depth = 0;
	explore();
	if (broken) {
		printf("# %s: %s, after", what->name, broken);
		for (unsigned i = 0; i < depth; i++)
			printf(" %s,", trail[i]);
		printf(" now %d/%d\n", world.end[0].session.state, world.end[1].session.state);
	}
	return !broken;
}

#endif
