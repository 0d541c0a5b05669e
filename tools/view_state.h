/*
 * What a view means: one word for its state, and each of its timers: since when it runs and when it will have run out.
 * It follows core/judge.h and core/session.h, as far as a view tells what they know.  Pure; a hostile view gives
 * nonsense, never a crash.
 */
#ifndef HOLDFAST_VIEW_STATE_H
#define HOLDFAST_VIEW_STATE_H

#include <holdfast/arena.h>
#include <stdbool.h>
#include <stddef.h>

enum hf_timer_kind {
	HF_TIMER_PATH,       /* the peer's host gives no sign of life */
	HF_TIMER_HUNG,       /* the peer's holdfast gives none (wrap) */
	HF_TIMER_REPLY,      /* the peer owes a reply */
	HF_TIMER_STALL,      /* our data is not taken */
	HF_TIMER_HALF_CLOSE, /* one direction has ended, and nothing moves */
	HF_TIMER_RESUME,     /* the path is gone, and another is tried */
	HF_TIMERS
};

struct hf_timer {
	uint32_t length; /* ms; 0: switched off */
	bool runs;
	bool ends;      /* the connection, when it runs out; else that is only told */
	bool told;      /* it has run out, and that was told */
	bool exact;     /* SINCE is the library's own; else it may run out later */
	uint64_t since; /* ms, CLOCK_MONOTONIC */
	uint64_t at;    /* when it runs out, if nothing happens */
};

/* "path", "hung", "reply", "stall", "half-close", "resume". */
const char *hf_timer_name(enum hf_timer_kind kind);

void hf_view_timers(const struct hf_arena_view *view, struct hf_timer timers[HF_TIMERS]);

/* Which of TIMERS runs out next, or -1. */
int hf_next_timer(const struct hf_timer timers[HF_TIMERS]);

/* From worst to best; how top colours and sorts them. */
enum hf_health { HF_DEAD, HF_LATE, HF_STALLED, HF_HALF, HF_OPENING, HF_FINE };

/*
 * "dead", "kept" (told dead and left alone), "ended", "draining", "late", "stalled", "resuming", "handshake" (wrap: no
 * frames yet), or the TCP state, that of the channel inside if it is wrapped: "ESTABLISHED", "FIN-WAIT",
 * "CLOSE-WAIT"...
 */
const char *hf_view_state(const struct hf_arena_view *view);
enum hf_health hf_view_health(const struct hf_arena_view *view);

/* The kernel's state, and the channel's; "?" if it is none, "" for a connection without one. */
const char *hf_tcp_name(unsigned state);
const char *hf_session_name(const struct hf_arena_view *view);

const char *hf_mode_of(const struct hf_arena_view *view); /* "probe", "wrap" */
const char *hf_role_of(const struct hf_arena_view *view); /* "client", "server", "" */

/* Names of events and reasons; "?" if there is none of that number. */
const char *hf_event_of(unsigned kind);
const char *hf_reason_of(unsigned reason);

/* Why it was told dead, as of its last events; HF_WHY_NONE: no telling. */
enum hf_reason hf_view_dead_reason(const struct hf_arena_view *view);

/* The last COUNT events, oldest first; returns how many. */
size_t hf_last_events(const struct hf_arena_view *view, struct hf_view_event *events, size_t count);

/* ms since bytes last moved, or it was first seen. */
uint64_t hf_view_idle(const struct hf_arena_view *view, uint64_t now);

/* NOW - THEN; 0 if that is not past, or not set. */
uint64_t hf_since(uint64_t now, uint64_t then);

#endif
