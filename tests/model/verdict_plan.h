/* What one simulated connection is made of, drawn at random: policy, programs, path and fault. */
#ifndef HOLDFAST_TESTS_VERDICT_PLAN_H
#define HOLDFAST_TESTS_VERDICT_PLAN_H

#include "kernel.h"

#include "core/judge.h"

#include <string.h>

enum fault { NO_FAULT, CUT_BOTH, CUT_OUT, FAULTS };
enum reader { FAST, SLOW, NEVER_READS };

struct plan {
	struct hf_policy policy;
	uint32_t delay, write_every, write_size, talk_every, talk_size, read_every, read_size;
	double loss;
	enum reader reader;
	bool we_read, has_rto_max, has_snd_wnd;
	enum fault fault;
	uint64_t fault_at, heal_at, pause_at, resume_at, ends;
};

static void plan_programs(struct plan *plan)
{
	uint32_t unit = plan->policy.interval;

	if (chance(0.5)) {
		plan->write_every = between(unit / 4 + 1, 6 * unit);
		plan->write_size = between(1, 9000);
	}
	if (chance(0.3)) {
		plan->talk_every = between(unit / 4 + 1, 6 * unit);
		plan->talk_size = between(1, 3000);
	}
	plan->we_read = chance(0.9);
	plan->reader = chance(0.6) ? FAST : chance(0.5) ? SLOW : NEVER_READS;
	plan->read_every = between(unit / 2 + 1, 3 * plan->policy.timeout);
	plan->read_size = between(1, 30000);
}

static void plan_path(struct plan *plan)
{
	const struct hf_policy *policy = &plan->policy;

	if (chance(0.3)) { /* delay, up to T/4 there and back */
		plan->delay = between(0, policy->timeout / 8);
		return;
	}
	plan->delay = policy->timeout / 200 < 20 ? between(0, policy->timeout / 200) : between(0, 20);
	/* Where window probes come two minutes, or a second of three, apart, three lost ones are all there is. */
	if (plan->reader != FAST && (!plan->has_rto_max || policy->timeout < 10000))
		return;
	if (policy->timeout >= 10000 && chance(0.7))
		plan->loss = between(0, 100) / 1000.0;
	else if (policy->timeout >= 6000 && chance(0.7))
		plan->loss = between(0, 20) / 1000.0;
}

/*
 * An outage a connection must survive: the silence before the first question of it, the outage, and the wait for the
 * next question after it must fit into the timeout.  Without TCP_RTO_MAX_MS that wait is as long as the outage.
 */
static uint32_t longest_outage(const struct plan *plan)
{
	const struct hf_policy *policy = &plan->policy;
	uint32_t before = policy->interval + 6 * plan->delay, left;

	if (policy->timeout < 5000 || plan->loss > 0 || before + policy->timeout / 5 >= policy->timeout)
		return 0;
	left = policy->timeout - before;
	return plan->has_rto_max ? left - policy->timeout / 5 : left / 2 - left / 10;
}

static void plan_fault(struct plan *plan)
{
	uint32_t timeout = plan->policy.timeout, longest;
	uint64_t length = 40 * (uint64_t)timeout > 60000 ? 40 * (uint64_t)timeout : 60000;

	plan->ends = now + length;
	plan->fault_at = plan->heal_at = plan->pause_at = plan->resume_at = NEVER;
	if (chance(0.4)) {
		plan->fault = chance(0.7) ? CUT_BOTH : CUT_OUT;
		plan->fault_at = now + between(1, (uint32_t)length);
		plan->ends = NEVER;
		longest = longest_outage(plan);
		if (longest > 0 && chance(0.3)) {
			plan->heal_at = plan->fault_at + between(1, longest);
			plan->ends = plan->heal_at + length / 4;
		}
	}
	if (chance(0.2)) {
		plan->pause_at = now + between(1, (uint32_t)length);
		plan->resume_at = plan->pause_at + between(1, 4 * timeout);
	}
}

static void draw_plan(struct plan *plan)
{
	static const uint32_t intervals[] = {50, 100, 300, 1000, 1500, 2000, 5000, 5000, 5000, 10000, 30000};
	static const uint32_t ratios[] = {10, 15, 20, 30, 30, 30, 50};
	struct hf_policy *policy = &plan->policy;

	memset(plan, 0, sizeof(*plan));
	policy->interval = intervals[rnd() % (sizeof(intervals) / sizeof(*intervals))];
	policy->timeout = policy->interval * ratios[rnd() % (sizeof(ratios) / sizeof(*ratios))] / 10;
	policy->abort_on_dead = chance(0.9);
	policy->stall_timeout = 60000;
	policy->half_close_timeout = 60000;
	plan->has_rto_max = chance(0.7) && policy->abort_on_dead;
	plan->has_snd_wnd = chance(0.8);
	plan_programs(plan);
	plan_path(plan);
	plan_fault(plan);
}

#endif
