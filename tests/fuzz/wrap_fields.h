/* For fuzz_wrap.c: a connection's numbers that lead somewhere, or decide.  Their order is that of make_wrap.h. */
#ifndef FUZZ_WRAP_FIELDS_H
#define FUZZ_WRAP_FIELDS_H

#include "io/wrap.h"

#define FIELD(name)                                                                    \
	{                                                                              \
		offsetof(struct hf_wrap, name), sizeof(((struct hf_wrap *)NULL)->name) \
	}

static const struct field {
	size_t at, size;
} fields[] = {
	FIELD(phase),
	FIELD(fate),
	FIELD(rx_turn.owner),
	FIELD(tx_turn.owner),
	FIELD(session_turn.owner),
	FIELD(rx.received),
	FIELD(rx.payload),
	FIELD(rx.have),
	FIELD(rx.type),
	FIELD(rx.fin),
	FIELD(rx.bye),
	FIELD(rx.ended),
	FIELD(rx_raw),
	FIELD(rx_scratched),
	FIELD(tx.sent),
	FIELD(tx.open),
	FIELD(tx.owed_have),
	FIELD(tx.owed_size),
	FIELD(tx.fin),
	FIELD(tx.bye),
	FIELD(tx.ended),
	FIELD(tx_raw),
	FIELD(plan.owed),
	FIELD(plan.first),
	FIELD(plan.second),
	FIELD(plan.header),
	FIELD(plan_of_queue),
	FIELD(queued),
	FIELD(flushed),
	FIELD(shut_after_queue),
	FIELD(settled_at),
	FIELD(rx_books_open),
	FIELD(tx_books_open),
	FIELD(session.state),
	FIELD(session.pace),
	FIELD(session.jitter),
	FIELD(session.moved_at),
	FIELD(session.heard_at),
	FIELD(session.beat_due),
	FIELD(session.peer_done),
	FIELD(session.peer_time_us),
	FIELD(peer.buffer),
	FIELD(deadline),
	FIELD(dial),
	FIELD(dial_len),
	FIELD(client),
	FIELD(receive_limit),
	FIELD(low_water),
	FIELD(low_raised),
	FIELD(starved),
	FIELD(seen_at),
	FIELD(unread_since),
	FIELD(why),
	FIELD(shut_read),
	FIELD(real_shut_write),
	FIELD(ended),
	FIELD(broken),
	FIELD(inbox_left),
	FIELD(kept_end),
	FIELD(resume_box),
	FIELD(link),
	FIELD(error_taken),
	FIELD(conn.cookie),
	FIELD(conn.next),
	FIELD(conn.holders[0]),
	FIELD(conn.holders[1]),
	FIELD(conn.keeper),
	FIELD(conn.ender),
	FIELD(conn.doubt),
	FIELD(conn.left_at),
};

#undef FIELD

#endif
