/* What the tests of the judge share: one connection, its evidence, and a look at it. */
#ifndef HOLDFAST_TESTS_JUDGE_CASE_H
#define HOLDFAST_TESTS_JUDGE_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/judge.h"

enum { START = 1000000, INTERVAL = 5000, TIMEOUT = 15000 };

#define BIT(kind) (1U << HF_EV_##kind)

static struct hf_judge judge;
static struct hf_policy policy;
static struct hf_evidence ev;
static struct hf_ruling ruling;

/* A connection that opened at START and has been silent since, on a quick path. */
static int setup(void **state)
{
	(void)state;
	policy = (struct hf_policy){.interval = INTERVAL, .timeout = TIMEOUT, .abort_on_dead = true};
	ev = (struct hf_evidence){.state = HF_TCP_ESTABLISHED,
				  .snd_wnd = 65535,
				  .has_snd_wnd = true,
				  .rtt_us = 1000,
				  .rto_us = 200000,
				  .age_data_sent = UINT32_MAX};
	hf_judge_init(&judge, START, false);
	return 0;
}

/* Look AT ms after START; the peer was last heard SILENT ms before that. Returns the events. */
static uint32_t look(uint64_t at, uint32_t silent)
{
	ev.age_ack_recv = silent;
	if (ev.age_data_recv < silent)
		ev.age_data_recv = silent;
	hf_judge_look(&judge, &policy, START + at, &ev, &ruling);
	assert_true(ruling.next > START + at);
	if ((ruling.events & (BIT(DEAD) | BIT(STALLED) | BIT(HALF_CLOSE_TIMEOUT))) == 0)
		assert_false(ruling.end);
	assert_int_equal((ruling.events & BIT(DEAD)) != 0, ruling.reason != HF_WHY_NONE);
	return ruling.events;
}

static void assert_dead(enum hf_reason reason, bool end)
{
	assert_true((ruling.events & BIT(DEAD)) != 0);
	assert_int_equal(ruling.reason, reason);
	assert_int_equal(ruling.end, end);
}

#endif
