/*
 * Views: what an operator may see of each watched connection (holdfast/arena.h), as places in the arena.
 *
 * A view belongs to one slot of one process and is written by its watchdog only.  Lock-free; errno untouched.
 */
#ifndef HOLDFAST_STATE_VIEW_H
#define HOLDFAST_STATE_VIEW_H

#include "state/arena.h"

/* A free view for this process, its fields zero; 0: none is to be had.  Else its index + 1. */
uint32_t hf_view_take(void);

/* View INDEX + 1, mapped if need be; NULL: none, or no longer this process's.  It ends where `rtts` begins. */
struct hf_arena_view *hf_view_at(uint32_t place);

/* It will be written to in a moment: into the processor's cache with it. */
void hf_view_fetch(uint32_t place);

/* What is kept apart of the view at PLACE, to be written to; NULL: none, or the view is not ours. */
struct hf_arena_more *hf_view_more(uint32_t place);

/* One more round trip, one more event of VIEW, which is the one at PLACE. */
void hf_view_add_rtt(struct hf_arena_view *view, uint32_t place, uint32_t us);
void hf_view_add_event(struct hf_arena_view *view, uint32_t place, const struct hf_view_event *event);

void hf_view_give(uint32_t place);

/* Around every change of its fields. */
void hf_view_begin(struct hf_arena_view *view);
void hf_view_end(struct hf_arena_view *view);

#endif
