/*
 * Holding: which processes of the family have a connection of the arena open, and which of them speaks for it.
 *
 * A process holds a connection from its first descriptor of it to its last.  The last one to let go ends it as TCP
 * would: with a BYE.  Whether it is the last is exact between processes that forked through us.  A program started with
 * the descriptor (posix_spawn(3), vfork(2) and exec) holds it once it has shown itself; until then, and where there are
 * more holders than places, there is doubt, and in doubt nobody says BYE.
 *
 * One holder keeps it: its watchdog beats and judges.  The others take over when the keeper lets go, is gone, or has
 * not looked for a while (it may be stopped).
 *
 * Lock-free and async-signal-safe.
 */
#ifndef HOLDFAST_STATE_HOLD_H
#define HOLDFAST_STATE_HOLD_H

#include "state/arena.h"

enum hf_left {
	HF_LEFT_OTHERS,   /* other processes have it */
	HF_LEFT_DOUBT,    /* perhaps somebody has */
	HF_LEFT_LAST,     /* nobody has */
	HF_LEFT_EXPECTED, /* not let go of: hf_wrap_try_let_go() */
};

/* HANDLE (state/family.h) holds CONN; idempotent.  0: a process that could not be entered.  False: it has just been
 * swept away. */
bool hf_hold_join(struct hf_arena_conn *conn, uint32_t handle);

/* HANDLE lets go of it: it has it open no more. Its last words may still be on their way, and its place in the arena is
 * in use by it, until hf_hold_done() or hf_hold_retire(); before each use: hf_hold_stays(). */
enum hf_left hf_hold_leave(struct hf_arena_conn *conn, uint32_t handle);

/*
 * HANDLE has let go of the connection with this cookie and is about to touch it once more; NOW: ms.  Its place among
 * the holders may have gone to another: the connection stays in the arena all the same, because only the sweep gives
 * back what has been crowded, and not before nobody has been at it for long.  False: that has happened.
 */
bool hf_hold_stays(struct hf_arena_conn *conn, uint32_t handle, uint64_t cookie, uint64_t now);

/* HANDLE has let go of it and touches it no more.  If it has joined again meanwhile, through another descriptor, it
 * remains. */
void hf_hold_done(struct hf_arena_conn *conn, uint32_t handle);

/* HANDLE held it by mistake, and nothing follows from that. */
void hf_hold_undo(struct hf_arena_conn *conn, uint32_t handle);

/* Whether of the others only such as are just being forked are entered, who may turn out not to hold it. */
bool hf_hold_expected(struct hf_arena_conn *conn, uint32_t handle);

/*
 * HANDLE, which was told that it was the last, is done with connection INDEX: give it back.  Not if somebody has joined
 * since (a child that was forked between the last word and the close has the descriptor), nor while another is at its
 * end of it.
 */
void hf_hold_retire(struct hf_arena_conn *conn, uint32_t index, uint32_t handle, uint64_t now);

/* Whether a living process other than HANDLE holds it, and has not let go. */
bool hf_hold_others(struct hf_arena_conn *conn, uint32_t handle);

/* Whether HANDLE is to speak for it now; STALE_MS: how long another keeper may have been silent. */
bool hf_hold_keep(struct hf_arena_conn *conn, uint32_t handle, uint64_t now, uint64_t stale_ms);

/* Give back what nobody holds and somebody left behind, or died with, more than AGE_MS ago.  IN_USE tells of a
 * connection whether a living thread is still in a call on it. */
void hf_hold_sweep(uint64_t now, uint64_t age_ms, bool (*in_use)(struct hf_arena_conn *conn));

#endif
