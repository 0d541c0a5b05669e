/*
 * Two wrapped sockets joined by a wire: the kernel's part (byte streams, FINs, resets) and the library's part (what
 * shim/io and shim/watch do with the core), with nothing decided here: how much the kernel takes, how much arrives and
 * who goes next is for the caller.
 *
 * Program byte n of end e is program_byte(e, n), so that every delivered byte can be checked by itself.
 */
#ifndef WRAP_LINK_H
#define WRAP_LINK_H

#include "core/session.h"
#include "model.h"

/* One direction.  Positions count bytes of the wire; ring holds [read, written). */
struct way {
	uint64_t written, arrived, read;
	bool fin, fin_arrived; /* the kernel's */
};

struct end {
	struct hf_tx tx;
	struct hf_rx rx;
	struct hf_session session;
	uint64_t got;             /* program bytes read and checked */
	bool eof;                 /* the program has read its end of file */
	bool ended, closed;       /* the program has shut down writing, closed */
	bool shut_rd, gone;       /* the real SHUT_RD; the real close */
	bool reset, told_corrupt; /* a reset came; the stream was called corrupt */
};

static struct world {
	struct way way[2]; /* way[e] is sent by end[e] */
	struct end end[2];
	uint64_t now; /* ms */
} world;

static uint8_t *ring[2];
static size_t ring_mask;
static bool tampered; /* bytes were changed under the library: wrong bytes may come, until the next header */

/* The kernel */

/* The kernel of E takes at most ROOM of SIZE bytes. */
static size_t kernel_send(int e, const uint8_t *bytes, size_t size, size_t room)
{
	struct way *way = &world.way[e];

	if (way->fin)
		fail("a write after the real shutdown");
	if (world.end[e].reset || way->fin)
		return 0;
	if (room > ring_mask + 1 - (way->written - way->read))
		room = (size_t)(ring_mask + 1 - (way->written - way->read));
	if (size > room)
		size = room;
	for (size_t i = 0; i < size; i++)
		ring[e][way->written++ & ring_mask] = bytes[i];
	return size;
}

static size_t kernel_recv(int e, uint8_t *bytes, size_t size)
{
	struct way *way = &world.way[!e];
	size_t n = 0;

	while (n < size && way->read < way->arrived)
		bytes[n++] = ring[!e][way->read++ & ring_mask];
	return n;
}

static uint64_t kernel_unread(int e)
{
	return world.way[!e].arrived - world.way[!e].read;
}

/* SIOCOUTQ */
static uint64_t kernel_outq(int e)
{
	return world.way[e].written - world.way[e].arrived;
}

/* SIZE bytes of what E sent arrive.  Nobody takes bytes once both directions are shut: that is a reset. */
static void kernel_arrive(int e, uint64_t size)
{
	struct way *way = &world.way[e];
	struct end *to = &world.end[!e];

	if (size > way->written - way->arrived)
		size = way->written - way->arrived;
	if (size == 0 || to->reset)
		return;
	if (to->gone || (to->shut_rd && world.way[!e].fin)) {
		/* What the receiver of the byte had not delivered is lost, and the sender's connection with it. */
		if (!to->closed)
			fail("a byte met a socket shut both ways: reset");
		if (world.way[!e].arrived < world.way[!e].written)
			fail("a reset destroyed data in flight");
		world.end[0].reset = world.end[1].reset = true;
		return;
	}
	way->arrived += size;
}

static bool kernel_fin_arrive(int e)
{
	struct way *way = &world.way[e];

	if (!way->fin || way->fin_arrived || way->arrived < way->written || world.end[!e].reset)
		return false;
	way->fin_arrived = true;
	return true;
}

/* The library */

static size_t flush(int e, size_t room)
{
	struct hf_tx *tx = &world.end[e].tx;
	size_t size, took;
	const uint8_t *owed = hf_tx_owed(tx, &size);

	took = kernel_send(e, owed, size, room);
	hf_tx_paid(tx, took);
	return took;
}

static bool owes(int e)
{
	return world.end[e].tx.owed_size > 0 && !world.end[e].reset;
}

/* write(2) of N bytes of which the kernel takes ROOM with all that belongs to them: returns the program's share. */
static size_t end_write(int e, size_t n, size_t room)
{
	static uint8_t wire[HF_DATA_MOST * 2 + 256];
	struct end *end = &world.end[e];
	struct hf_tx_plan plan;
	size_t size = 0, owed;
	uint64_t at = end->tx.sent;
	const uint8_t *bytes = hf_tx_owed(&end->tx, &owed);

	hf_tx_plan(&end->tx, n, &plan);
	if (plan.owed != owed || plan.first + plan.second > n || (n > 0 && plan.first + plan.second == 0))
		fail("a plan of the wrong size");
	memcpy(wire, bytes, plan.owed);
	size = plan.owed;
	for (size_t i = 0; i < plan.first; i++)
		wire[size++] = program_byte(e, at++);
	if (plan.header) {
		memcpy(wire + size, plan.head, HF_HEADER_SIZE);
		size += HF_HEADER_SIZE;
	}
	for (size_t i = 0; i < plan.second; i++)
		wire[size++] = program_byte(e, at++);
	n = hf_tx_took(&end->tx, &plan, kernel_send(e, wire, size, room));
	if (n > 0)
		hf_session_moved(&end->session, world.now, false);
	return n;
}

static void heed(int e, const struct hf_rx_news *news)
{
	struct end *end = &world.end[e];

	if (news->corrupt) {
		end->told_corrupt = true;
		if (!tampered)
			fail("an untouched stream was called corrupt");
		return;
	}
	for (unsigned i = 0; i < news->beats; i++)
		hf_session_beat_received(&end->session, &news->beat, world.now * 1000);
	if (news->fin) {
		hf_session_fin_received(&end->session, news->fin_seen);
		end->shut_rd |= !world.way[e].fin; /* never shut both ways while the peer may still beat */
	}
	if (news->bye)
		hf_session_peer_done(&end->session);
}

static void deliver(int e, const uint8_t *bytes, size_t size)
{
	struct end *end = &world.end[e];

	if (end->eof && size > 0)
		fail("bytes after the end of file");
	for (size_t i = 0; i < size; i++, end->got++) {
		if (bytes[i] != program_byte(!e, end->got) && !tampered)
			fail("a wrong byte was delivered");
	}
	if (end->got > world.end[!e].tx.sent && !tampered)
		fail("more was delivered than sent");
}

/* The program at E would read 0 now. */
static bool at_end(int e)
{
	struct end *end = &world.end[e];

	return end->rx.fin || end->rx.bye || (kernel_unread(e) == 0 && (world.way[!e].fin_arrived || end->reset));
}

/* read(2) with a buffer of SIZE: loops as the library does, until it is full or the kernel has no more. */
static void end_read(int e, size_t size)
{
	static uint8_t buf[1 << 16], scratch[HF_RX_OVERHEAD_MOST];
	struct end *end = &world.end[e];
	size_t have = 0;

	if (size > sizeof buf)
		size = sizeof buf;
	while (have < size && !end->rx.corrupt && kernel_unread(e) > 0) {
		size_t overhead = hf_rx_overhead(&end->rx), ahead, n;
		struct hf_rx_news news;

		if (end->rx.fin || end->rx.bye)
			break;
		ahead = kernel_recv(e, scratch, overhead);
		n = kernel_recv(e, buf + have, size - have);
		n = hf_rx_squeeze_split(&end->rx, scratch, ahead, buf + have, n, &news);
		heed(e, &news);
		have += n;
	}
	deliver(e, buf, have);
	if (have == 0 && !end->eof && at_end(e)) {
		end->eof = true;
		if (end->got != world.end[!e].tx.sent && !end->reset && !tampered)
			fail("end of file before the last byte");
	}
}

/* The watchdog takes control frames that stand at the front; program bytes stay for the program. */
static bool watch_control(int e)
{
	struct end *end = &world.end[e];
	uint8_t bytes[HF_HEADER_SIZE + HF_BEAT_SIZE];
	bool any = false;

	while (!end->rx.corrupt && kernel_unread(e) > 0 && end->rx.type != HF_FRAME_DATA) {
		struct way *way = &world.way[!e];
		struct hf_rx_news news;
		size_t want = end->rx.payload;

		if (end->rx.type == 0) {
			uint8_t first = end->rx.have ? end->rx.part[0] : ring[!e][way->read & ring_mask];

			if (first == HF_FRAME_DATA)
				break;
			want = (size_t)(HF_HEADER_SIZE - end->rx.have);
		}
		want = kernel_recv(e, bytes, want);
		if (hf_rx_squeeze(&end->rx, bytes, want, &news) > 0)
			fail("the watchdog took program bytes");
		heed(e, &news);
		any = true;
	}
	if ((world.way[!e].fin_arrived || end->reset) && !end->session.peer_done) {
		hf_session_peer_done(&end->session);
		any = true;
	}
	return any;
}

static bool end_beat(int e, size_t room)
{
	struct end *end = &world.end[e];
	struct hf_beat beat;
	uint8_t bytes[HF_BEAT_SIZE];

	if (end->reset || !hf_session_beat_owed(&end->session, world.now) || !hf_tx_between(&end->tx))
		return false;
	hf_session_beat_make(&end->session, world.now * 1000, end->rx.received, (uint32_t)kernel_unread(e), 0, &beat);
	hf_beat_make(bytes, &beat);
	if (end->tx.open > 0)
		fail("a beat inside an open frame");
	if (!hf_tx_control(&end->tx, HF_FRAME_BEAT, bytes, sizeof bytes))
		fail("a beat was refused between frames");
	flush(e, room);
	return true;
}

/* shutdown(SHUT_WR).  False: protocol bytes are owed, try again when they are out. */
static bool end_shutdown(int e, size_t room)
{
	struct end *end = &world.end[e];
	bool seen = hf_session_fin_seen(&end->session);

	if (end->ended || owes(e))
		return false;
	end->ended = true;
	if (end->tx.open > 0 || end->session.peer_done || end->reset) {
		world.way[e].fin = true; /* no FIN can be said, or none need be: the kernel's */
		hf_session_shut_sent(&end->session);
		return true;
	}
	if (!hf_tx_fin(&end->tx, seen))
		fail("a FIN was refused between frames");
	hf_session_fin_sent(&end->session, seen);
	flush(e, room);
	return true;
}

/* close(2): the program is gone; the watchdog keeps the socket until it is drained. */
static bool end_close(int e, size_t room)
{
	struct end *end = &world.end[e];

	if (end->closed || owes(e))
		return false;
	if (hf_tx_between(&end->tx) && hf_session_may_speak(&end->session)) {
		hf_tx_control(&end->tx, HF_FRAME_BYE, NULL, 0);
		flush(e, room);
	}
	hf_session_bye_sent(&end->session);
	end->ended = end->closed = true;
	return true;
}

/* The real shutdown or close, when the session says so. */
static bool end_settle(int e)
{
	struct end *end = &world.end[e];
	enum hf_session_state before = end->session.state;

	if (end->closed && !end->gone) { /* draining: swallow what comes */
		uint8_t dust[64];

		while (kernel_recv(e, dust, sizeof dust) > 0)
			continue;
	}
	if (before == HF_S_CLOSED || owes(e) || (kernel_outq(e) > 0 && !end->reset))
		return false;
	hf_session_drained(&end->session);
	if (end->session.state != HF_S_CLOSED)
		return false;
	world.way[e].fin = true;
	end->gone = end->closed;
	return true;
}

static void world_start(void)
{
	memset(&world, 0, sizeof world);
	world.now = 1000;
	broken = NULL;
	tampered = false;
}

#endif
