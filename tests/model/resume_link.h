/*
 * Two sides of a session and the connections they use one after the other: the kernel's part (byte streams and their
 * acknowledgements, losses, resets, FINs) and the library's part (what shim/io does with the core).  What happens next,
 * and how much of it, is for the caller.
 *
 * Side 0 is the client: it dials.  Side 1 is the server.  Nothing of a connection is certain: it can be cut at every
 * point, each side notices when it does or not at all, bytes can still arrive from a connection that its sender has
 * left, and what the client said on one connection can be heard after what it said on a later one.
 */
#ifndef RESUME_LINK_H
#define RESUME_LINK_H

#include "core/resume.h"
#include "model.h"

enum { CONNS = 8, RING_MOST = 512, NONE = -1 };

/* One direction of a connection. Positions count bytes of the wire. */
struct pipe {
	uint32_t written, arrived, acked, read;
	bool fin, fin_arrived; /* the kernel's */
};

struct conn {
	bool used, cut;
	bool off[2];         /* this side has left it, or the server has turned it away */
	bool reset[2];       /* this side's kernel has been told so */
	bool taken;          /* the server has read the HELLO */
	struct pipe pipe[2]; /* pipe[e] is sent by side e */
};

enum end_of_session { OPEN, OVER, REFUSED, ALONE }; /* OVER: all is said; REFUSED, ALONE: the ordinary error */

struct side {
	struct hf_tx tx;
	struct hf_rx rx;
	struct hf_session session;
	struct hf_ring ring;
	uint64_t wrote;     /* what the program has written */
	int conn, pending;  /* pending: the server's, whose PROOF is to come */
	uint64_t told;      /* the server's offset in its answer there */
	bool on;            /* frames flow */
	bool ended, closed; /* the program has shut down writing, closed */
	bool end_due;       /* that is to be said when everything before it has been sent */
	bool eof;           /* the program has read its end of file */
	bool known;         /* the server still has the session */
	enum end_of_session over;
	uint8_t memory[RING_MOST];
};

static struct world {
	struct conn conn[CONNS];
	struct side side[2];
} world;

static uint8_t *wire[CONNS][2];
static size_t wire_mask;
static bool stragglers;   /* what was on its way when its sender left may still arrive */
static bool breaks_early; /* the server leaves the connection it has when a HELLO comes, not when a PROOF does */
static uint64_t resumptions, resent, now = 1000;

static uint8_t session_id[HF_SESSION_SIZE], session_key[HF_CHECK_SIZE], session_name[HF_SESSION_SIZE];
static const struct hf_key resume_key = {session_key, HF_CHECK_SIZE};

/* The kernel */

static size_t kernel_send(int c, int e, const uint8_t *bytes, size_t size, size_t room)
{
	struct conn *conn = &world.conn[c];
	struct pipe *pipe = &conn->pipe[e];

	if (conn->off[e] || pipe->fin)
		fail("a write after the end of a connection");
	if (conn->reset[e] || pipe->fin)
		return 0;
	if (room > wire_mask + 1 - (pipe->written - pipe->read))
		room = wire_mask + 1 - (pipe->written - pipe->read);
	size = size < room ? size : room;
	for (size_t i = 0; i < size; i++)
		wire[c][e][pipe->written++ & wire_mask] = bytes[i];
	return size;
}

static uint32_t kernel_unread(int c, int e)
{
	return world.conn[c].pipe[!e].arrived - world.conn[c].pipe[!e].read;
}

static size_t kernel_recv(int c, int e, uint8_t *bytes, size_t size, bool take)
{
	struct pipe *pipe = &world.conn[c].pipe[!e];
	size_t n = 0;

	for (; n < size && n < kernel_unread(c, e); n++)
		bytes[n] = wire[c][!e][(pipe->read + n) & wire_mask];
	if (take)
		pipe->read += (uint32_t)n;
	return n;
}

/* SIOCOUTQ */
static uint32_t kernel_outq(int c, int e)
{
	return world.conn[c].pipe[e].written - world.conn[c].pipe[e].acked;
}

/* At most SIZE bytes that E sent arrive. Who has left takes none. */
static bool kernel_arrive(int c, int e, uint32_t size)
{
	struct conn *conn = &world.conn[c];
	struct pipe *pipe = &conn->pipe[e];

	if (conn->cut || conn->off[!e] || conn->reset[!e] || pipe->arrived == pipe->written)
		return false;
	if (size > pipe->written - pipe->arrived)
		size = pipe->written - pipe->arrived;
	pipe->arrived += size;
	return true;
}

static bool kernel_ack(int c, int e)
{
	struct conn *conn = &world.conn[c];
	struct pipe *pipe = &conn->pipe[e];

	if (conn->cut || conn->off[e] || conn->reset[e] || pipe->acked == pipe->arrived)
		return false;
	pipe->acked = pipe->arrived;
	return true;
}

/* E learns that the other has left. */
static bool kernel_reset(int c, int e)
{
	struct conn *conn = &world.conn[c];

	if (conn->cut || !conn->off[!e] || conn->off[e] || conn->reset[e])
		return false;
	conn->reset[e] = true;
	return true;
}

static bool kernel_fin_arrive(int c, int e)
{
	struct conn *conn = &world.conn[c];
	struct pipe *pipe = &conn->pipe[e];

	if (conn->cut || conn->off[!e] || !pipe->fin || pipe->fin_arrived || pipe->arrived < pipe->written)
		return false;
	pipe->fin_arrived = true;
	return true;
}

/* Whether the server will never have a HELLO to read. */
static bool hello_lost(int c)
{
	const struct pipe *pipe = &world.conn[c].pipe[0];

	return !world.conn[c].taken && pipe->arrived < HF_HELLO_SIZE &&
	       (world.conn[c].cut || pipe->arrived == pipe->written);
}

/* E leaves it for good. */
static void kernel_leave(int c, int e)
{
	struct conn *conn = &world.conn[c];

	conn->off[e] = true;
	/* Its kernel says so behind everything else, if all of that arrives. */
	conn->pipe[e].fin = stragglers || conn->pipe[e].arrived == conn->pipe[e].written;
	if (!stragglers)
		conn->pipe[e].written = conn->pipe[e].acked = conn->pipe[e].arrived;
}

static int kernel_dial(void)
{
	for (int c = 0; c < CONNS; c++) {
		struct conn *conn = &world.conn[c];

		/* What the client has left and the server will hear nothing more from. */
		if (conn->used && !(conn->off[0] && (conn->off[1] || hello_lost(c))))
			continue;
		*conn = (struct conn){.used = true};
		return c;
	}
	return NONE;
}

/* Receiving */

static void heed(struct side *side, const struct hf_rx_news *news)
{
	if (news->corrupt)
		fail("an untouched stream was called corrupt");
	for (unsigned i = 0; i < news->beats; i++)
		hf_session_beat_received(&side->session, &news->beat, now * 1000);
	if (news->fin)
		hf_session_fin_received(&side->session, news->fin_seen);
	if (news->bye)
		hf_session_peer_done(&side->session);
}

/* At most SIZE bytes out of connection C, to the program, its inbox, or nobody if it has closed. */
static size_t take(int e, int c, size_t size)
{
	struct side *side = &world.side[e];
	const struct side *peer = &world.side[!e];
	uint64_t at = side->rx.received;
	struct hf_rx_news news;
	uint8_t bytes[256];
	size_t got = kernel_recv(c, e, bytes, size < sizeof bytes ? size : sizeof bytes, true), n;

	if (got == 0)
		return 0;
	n = hf_rx_squeeze(&side->rx, bytes, got, &news);
	heed(side, &news);
	if (n > 0 && side->eof)
		fail("bytes after the end of file");
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] != program_byte(!e, at + i))
			fail("a wrong byte was delivered");
	}
	if (side->rx.received > peer->wrote)
		fail("more was delivered than written");
	if ((side->rx.fin || side->rx.bye) && (!peer->ended || side->rx.received != peer->wrote))
		fail("an end before the last byte");
	return got;
}

/* The program reads: what is there, then the end of file once. */
static bool side_read(int e, size_t size)
{
	struct side *side = &world.side[e];
	bool any = side->on && side->pending == NONE && take(e, side->conn, size) > 0;

	if (!any && !side->closed && !side->eof && (side->rx.fin || side->rx.bye))
		return side->eof = true;
	return any;
}

/* Sending */

static size_t send_plan(int e, size_t n, const uint8_t *from, size_t room)
{
	struct side *side = &world.side[e];
	uint8_t bytes[RING_MOST + 256];
	struct hf_tx_plan plan;
	size_t size = 0, owed;
	const uint8_t *due = hf_tx_owed(&side->tx, &owed);

	hf_tx_plan(&side->tx, n, &plan);
	memcpy(bytes, due, plan.owed);
	size = plan.owed;
	memcpy(bytes + size, from, plan.first);
	size += plan.first;
	if (plan.header) {
		memcpy(bytes + size, plan.head, HF_HEADER_SIZE);
		size += HF_HEADER_SIZE;
	}
	memcpy(bytes + size, from + plan.first, plan.second);
	size += plan.second;
	return hf_tx_took(&side->tx, &plan, kernel_send(side->conn, e, bytes, size, room));
}

static bool owes(const struct side *side)
{
	return side->tx.owed_size > 0 || side->tx.sent < side->ring.end || side->end_due;
}

static void side_break(int e);

/* The program's end, or again. */
static void say_end(int e)
{
	struct side *side = &world.side[e];
	bool seen = hf_session_fin_seen(&side->session);

	if (side->tx.open > 0) {
		side_break(e); /* a frame that nobody fills: the end is said on the next connection */
		return;
	}
	side->end_due = false;
	if (side->closed) {
		if (hf_session_may_speak(&side->session) && !hf_tx_control(&side->tx, HF_FRAME_BYE, NULL, 0))
			fail("a BYE was refused");
		hf_session_bye_sent(&side->session);
	} else if (side->session.peer_done) {
		world.conn[side->conn].pipe[e].fin = true;
		hf_session_shut_sent(&side->session);
	} else {
		if (!hf_tx_fin(&side->tx, seen))
			fail("a FIN was refused");
		hf_session_fin_sent(&side->session, seen);
	}
}

/* What is owed, then what has to be sent again, then the end: one of them, ROOM bytes at most. */
static bool flush(int e, size_t room)
{
	struct side *side = &world.side[e];
	const uint8_t *from = side->memory;
	struct conn *conn;
	uint32_t before;
	size_t n;

	if (!side->on || !owes(side))
		return false;
	conn = &world.conn[side->conn];
	before = conn->pipe[e].written;
	if (side->session.peer_done && side->tx.sent < side->ring.end) {
		side->tx.sent = side->ring.end; /* nobody is there to have it */
		return true;
	}
	if (side->tx.owed_size == 0 && side->tx.sent == side->ring.end) {
		say_end(e);
		if (side->on && side->tx.owed_size > 0)
			(void)send_plan(e, 0, from, room);
		return true;
	}
	n = hf_ring_at(&side->ring, side->memory, side->tx.sent, &from);
	resent += send_plan(e, n, from, room);
	return conn->pipe[e].written != before;
}

/* write(2) of N bytes: returns how many the program got rid of. */
static size_t side_write(int e, size_t n, size_t room)
{
	struct side *side = &world.side[e];
	uint8_t bytes[RING_MOST];

	if (!side->on || side->ended || side->session.peer_done || side->tx.sent < side->ring.end)
		return 0;
	if (hf_ring_room(&side->ring) < n)
		hf_ring_release(&side->ring, hf_resume_arrived(&side->tx, &side->ring, kernel_outq(side->conn, e)));
	if (n > hf_ring_room(&side->ring))
		n = hf_ring_room(&side->ring);
	for (size_t i = 0; i < n; i++)
		bytes[i] = program_byte(e, side->wrote + i);
	n = send_plan(e, n, bytes, room);
	hf_ring_put(&side->ring, side->memory, bytes, n);
	side->wrote += n;
	if (side->ring.end != side->wrote || side->tx.sent != side->wrote)
		fail("the ring's end is not that of what was written");
	return n;
}

static bool side_beat(int e)
{
	struct side *side = &world.side[e];
	struct hf_beat beat;
	uint8_t bytes[HF_BEAT_SIZE];

	if (!side->on || owes(side) || !hf_session_beat_owed(&side->session, now) || !hf_tx_between(&side->tx))
		return false;
	hf_session_beat_make(&side->session, now * 1000, side->rx.received, 0, 0, &beat);
	hf_beat_make(bytes, &beat);
	return hf_tx_control(&side->tx, HF_FRAME_BEAT, bytes, sizeof bytes);
}

static bool side_end(int e, bool close)
{
	struct side *side = &world.side[e];

	if (side->closed || side->over || (side->ended && !close))
		return false;
	side->ended = side->end_due = true;
	side->closed = close;
	return true;
}

/* The real shutdown, when everything is through. */
static bool side_settle(int e)
{
	struct side *side = &world.side[e];
	struct conn *conn;
	bool all;

	if (!side->on || owes(side) || side->session.state == HF_S_CLOSED)
		return false;
	conn = &world.conn[side->conn];
	all = kernel_outq(side->conn, e) == 0;
	/* The kernel's own end is one when both have ended and nothing is outstanding, else a break. */
	if (all && conn->pipe[!e].fin_arrived && side->session.state >= HF_S_CLOSING)
		hf_session_peer_done(&side->session);
	if (all)
		hf_session_drained(&side->session);
	if (side->session.state != HF_S_CLOSED)
		return false;
	conn->pipe[e].fin = true;
	side->over = OVER;
	if (side->closed) { /* the kernel's close */
		kernel_leave(side->conn, e);
		side->conn = NONE;
		side->on = false;
	}
	return true;
}

/* Leaving and going on */

/* A connection is gone for side E: first nothing more is acknowledged, then what has come is taken out. */
static void side_break(int e)
{
	struct side *side = &world.side[e];
	int c = side->conn;

	while (side->on && take(e, c, SIZE_MAX) > 0)
		continue;
	kernel_leave(c, e);
	side->conn = NONE;
	if (side->on)
		hf_resume_break(&side->rx, &side->tx, &side->ring);
	side->on = false;
	if (side->rx.bye || side->over) { /* nobody is there to go on with */
		side->session.state = HF_S_CLOSED;
		side->over = side->over ? side->over : OVER;
	}
}

/* Whether E, when it looks, finds its connection at an end. */
static bool is_gone(int e)
{
	const struct side *side = &world.side[e];
	const struct conn *conn;

	if (side->conn == NONE)
		return false;
	conn = &world.conn[side->conn];
	return conn->cut || conn->reset[e] || conn->off[!e] ||
	       (conn->pipe[!e].fin_arrived && !(side->session.state >= HF_S_CLOSING && side->on));
}

static void go_on(int e, int c, uint64_t offset)
{
	struct side *side = &world.side[e];
	enum hf_resume_from from = hf_resume_from(&side->tx, &side->ring, offset);

	if (from == HF_RESUME_NO) {
		fail("a session that could be resumed was not");
		return;
	}
	hf_resume_session(&side->session, &side->rx, &side->tx, now);
	side->session.beat_due = UINT64_MAX; /* none by the clock */
	/* What has been said and has arrived is not said again; what was never said still is. */
	side->end_due = side->ended && !side->tx.bye && (side->closed || !side->tx.fin);
	if (from == HF_RESUME_AND_END && !side->end_due)
		fail("an end to be said again that was never said");
	side->conn = c;
	side->on = true;
	side->over = OPEN;
	resumptions++;
}

#include "resume_shake.h"

/* Nothing more can happen: who ended how, and did everything come through? */
static void check_over(void)
{
	const struct side *client = &world.side[0], *server = &world.side[1];

	if (client->over == OPEN)
		fail("the client never comes to an end");
	if (client->over == REFUSED || server->over == ALONE)
		return; /* the ordinary error, and nothing wrong was delivered */
	/* The server may wait for a client that has all and will not come: its window ends, with nothing to tell. */
	if (server->over == OPEN && !(server->conn == NONE && server->ended))
		fail("the server never comes to an end");
	for (int e = 0; e < 2; e++) {
		const struct side *side = &world.side[e];

		if (!side->closed && (!side->eof || side->rx.received != world.side[!e].wrote))
			fail("a side never reads its end of file");
	}
}

static void side_start(int e, uint32_t ring)
{
	struct side *side = &world.side[e];

	side->ring.size = ring;
	side->on = side->known = true;
	side->pending = NONE;
	hf_session_init(&side->session, now, 5000, 5000, 15000, 1);
	side->session.beat_due = UINT64_MAX;
}

static void world_start(const uint32_t ring[2])
{
	memset(&world, 0, sizeof world);
	memcpy(session_id, "sixteen at random", HF_SESSION_SIZE);
	hf_resume_key(session_key, &(struct hf_key){NULL, 0}, session_id);
	hf_resume_name(session_name, session_key);
	for (int e = 0; e < 2; e++)
		side_start(e, ring[e]);
	world.conn[0] = (struct conn){.used = true, .taken = true};
	broken = NULL;
}

#endif
