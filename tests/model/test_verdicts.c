/*
 * The judge against a simulated kernel, peer and path: random connections, a million connection-seconds.
 *
 * Each connection draws its policy, path, programs and fault from a seed; the judge is looked at and obeyed as
 * shim/watch does.  The oracle knows what really left and arrived.  Promises checked, with T the timeout, I the
 * interval, F (fair) the time a question must stay open: T/3 or four round trips, T - I at most:
 *
 *   live    no `dead` while the peer's kernel answers: slow reader, never reader, delay up to T/4, loss up to 10 %
 *           each way (T >= 10 s; 2 % from 6 s, none below: a kernel answers probes twice a second at most; with a zero
 *           window only for T >= 10 s and TCP_RTO_MAX_MS), short outages, see longest_outage().  Never before T of
 *           real silence with a question open for F.
 *   vanish  dead within a tick of the later of T after the last sign of life and F after the first question (and the
 *           third transmission of it); F later where F is more than T/3.  An idle connection is asked after I, rounded
 *           up to a second.  Zero window: after the third unanswered window
 *           probe, which TCP_RTO_MAX_MS brings within T for T >= 5 s.
 *   late    is told before dead, in the same silence.
 *   looks   a healthy idle connection is looked at about once per interval.
 *
 * HF_SEED=n replays a run, HF_CONN=n only its n-th connection, with a trace.
 */
#include "verdict_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WHEEL_MS = 4, CONNECTION_SECONDS = 30000000 };
enum property { LIVE, EARLY, VANISH, LATE, LOOKS, NEXT, ONCE, PAUSED, UNLUCKY, PROPERTIES };

static const char *const names[PROPERTIES] = {
	"no verdict against a live peer",
	"dead only after the timeout in silence, with a question open",
	"every vanished peer is dead in time",
	"late is told before dead",
	"looks at a healthy idle connection: about one an interval",
	"the next look lies ahead",
	"one late and one dead a silence, none after the end",
	"our own pause gives the peer a fresh timeout",
	"loss alone kills less than once in a million connection-seconds",
};

/* One running connection. */
static struct {
	struct plan plan;
	struct tcp us, peer;
	struct wire to_peer, to_us;
	struct hf_judge judge;
	struct hf_keepalive tuned;
	uint64_t look_at, write_at, talk_at, read_at, start, fresh, late_for, dead_for;
	uint32_t looks;
	bool asking, late_told, dead_told, ever_dead, over;
} sim;

static struct {
	uint64_t failures[PROPERTIES], checks[PROPERTIES];
	uint64_t ms, connections, deaths, unlucky, looks, worst_late;
	uint64_t kinds[4];
} total;

static uint64_t seed, number;
static bool trace;

static void broken(enum property property, const char *what, uint64_t is, uint64_t bound)
{
	const struct plan *plan = &sim.plan;

	if (total.failures[property]++ > 2 && !trace)
		return;
	printf("# %s: HF_SEED=%" PRIu64 " HF_CONN=%" PRIu64 " at %" PRIu64 " ms: %s: %" PRIu64 ", bound %" PRIu64 "\n",
	       names[property], seed, number, now - sim.start, what, is, bound);
	printf("#   I %u T %u delay %u loss %.3f write %u/%u talk %u/%u reader %d/%u/%u we_read %d rto_max %d "
	       "fault %d %" PRIu64 "..%" PRIu64 " pause %" PRIu64 "..%" PRIu64 "\n",
	       plan->policy.interval, plan->policy.timeout, plan->delay, plan->loss, plan->write_size,
	       plan->write_every, plan->talk_size, plan->talk_every, plan->reader, plan->read_size, plan->read_every,
	       plan->we_read, plan->has_rto_max, plan->fault, plan->fault_at - sim.start, plan->heal_at - sim.start,
	       plan->pause_at - sim.start, plan->resume_at - sim.start);
}

static void check(enum property property, bool holds, const char *what, uint64_t is, uint64_t bound)
{
	total.checks[property]++;
	if (!holds)
		broken(property, what, is, bound);
}

/* What shim/watch does */

static void keepalive_set(const struct hf_keepalive *keepalive)
{
	sim.us.keepintvl = keepalive->intvl * 1000;
	sim.us.keepcnt = keepalive->cnt;
	set_keepidle(&sim.us, keepalive->idle * 1000);
}

static void gather(struct hf_evidence *evidence)
{
	const struct tcp *us = &sim.us;

	memset(evidence, 0, sizeof(*evidence));
	evidence->state = us->closed ? HF_TCP_CLOSE : HF_TCP_ESTABLISHED;
	evidence->error_pending = us->closed;
	evidence->probes = us->probes;
	evidence->backoff = us->backoff;
	evidence->retransmits = us->retransmits;
	evidence->unacked = (uint32_t)((us->snd_nxt - us->snd_una + MSS - 1) / MSS);
	evidence->notsent = unsent(us);
	evidence->has_snd_wnd = sim.plan.has_snd_wnd;
	evidence->snd_wnd = evidence->has_snd_wnd ? us->snd_wnd : 0;
	evidence->rtt_us = us->rtt * 1000;
	evidence->rto_us = us->rto * 1000;
	evidence->age_data_sent = (uint32_t)(now - us->lsndtime);
	evidence->age_data_recv = (uint32_t)(now - us->lrcvtime);
	evidence->age_ack_recv = (uint32_t)(now - us->rcv_tstamp);
	evidence->bytes_acked = us->snd_una - 1;
	evidence->bytes_received = us->rcv_nxt - 1;
	evidence->unread = (uint32_t)(us->rcv_nxt - us->read_seq);
}

/* How long the question must have been open. */
static uint64_t fair(void)
{
	const struct hf_policy *policy = &sim.plan.policy;
	uint64_t usual = policy->timeout - min64(policy->interval, policy->timeout / 2);

	return min64(usual, max64(policy->timeout / 3, 4 * (uint64_t)sim.us.rtt));
}

/* When the verdict on a vanished peer is due at the latest; see the head of this file. */
static uint64_t due(void)
{
	uint64_t slow = 4 * (uint64_t)sim.us.rtt > sim.plan.policy.timeout / 3 ? fair() : 0;

	const struct hf_policy *policy = &sim.plan.policy;
	const struct tcp *us = &sim.us;
	uint64_t since = max64(us->life, sim.fresh), when = since + policy->timeout, asked = us->asked[0];
	uint64_t spacing = max64(policy->timeout / 16, hf_judge_tick(policy)), first_ask;

	if (!flying(us) && unsent(us) > 0) {
		/* Three window probes; the first look after the first finds it asked. */
		uint64_t third = us->asked[2] != 0 ? us->asked[2] : NEVER;

		return third == NEVER ? NEVER
				      : slow + max64(max64(when, asked + fair()),
						     third + spacing + (sim.fresh > us->life ? fair() : 0));
	}
	if (flying(us) && asked != 0 && asked < us->life)
		asked = us->lsndtime; /* asked before data came that answered nothing: count from the data now on its
					 way */
	if (flying(us))
		return slow + max64(when, max64(asked, since) + max64(fair(), 3 * (uint64_t)us->rto_base) + spacing);
	/* Idle: the kernel's probe after the interval, and the judge's own from T/2 on, a second at the earliest. */
	first_ask = max64(us->life + 1000, since + min64(policy->timeout / 2, sim.tuned.idle * UINT64_C(1000)));
	return slow + max64(when, first_ask + max64(fair(), 4 * spacing));
}

static void judged_dead(const struct hf_ruling *ruling)
{
	const struct hf_policy *policy = &sim.plan.policy;
	const struct tcp *us = &sim.us;
	uint64_t since = max64(us->life, sim.fresh), silent = now - since;
	uint64_t open = us->asked[0] != 0 ? now - max64(us->asked[0], sim.fresh) : 0, need = min64(fair(), silent);
	bool cut = now >= sim.plan.fault_at && (sim.plan.heal_at == NEVER);
	/* Window probes come a quarter of a long timeout apart: TCP_RTO_MAX_MS must leave the kernel its patience. */
	uint32_t enough = !flying(us) && unsent(us) > 0 ? 4 : 5;

	total.deaths++;
	check(ONCE, !sim.dead_told, "dead told twice", 1, 0);
	sim.dead_told = sim.ever_dead = true;
	sim.dead_for = us->life;
	if (us->closed) { /* the kernel's own decision, after all its patience */
		/* Its keepalive is the backstop when we are stopped, and asks only a few times. */
		if (!cut && sim.plan.loss > 0)
			total.unlucky++;
		else
			check(LIVE, cut, "the kernel gave up", now - us->life, 0);
		return;
	}
	check(EARLY, now - us->life >= policy->timeout, "silence", now - us->life, policy->timeout);
	if (sim.fresh > us->life && sim.fresh > sim.start)
		check(PAUSED, silent >= policy->timeout, "after the pause", silent, policy->timeout);
	check(EARLY, open + WHEEL_MS >= need, "question open", open, need);
	check(LATE, sim.late_told || (ruling->events >> HF_EV_LATE & 1) != 0 || us->closed, "late told", 0, 1);
	if (cut)
		total.kinds[flying(us) ? 1 : unsent(us) > 0 ? 2 : 0]++;
	else if (us->chances >= enough && sim.plan.loss > 0)
		total.unlucky++; /* every one of so many questions, far apart, was lost: nobody could have known */
	else
		check(LIVE, false, "chances to answer", us->chances, enough);
}

static void note(const struct hf_ruling *ruling, const struct hf_evidence *evidence)
{
	bool late = (ruling->events >> HF_EV_LATE & 1) != 0;

	if (trace)
		printf("# %8" PRIu64 " life -%" PRIu64 " unacked %u notsent %u probes %u retr %u backoff %u rto %u: "
		       "events %x%s%s next +%" PRIu64 "\n",
		       now - sim.start, now - sim.us.life, evidence->unacked, evidence->notsent, evidence->probes,
		       evidence->retransmits, evidence->backoff, evidence->rto_us / 1000, ruling->events,
		       ruling->ask ? " ask" : "", ruling->end ? " end" : "", ruling->next - now);
	if (sim.us.life > sim.late_for)
		sim.late_told = false;
	if (sim.us.life > sim.dead_for)
		sim.dead_told = false;
	if (late) {
		check(ONCE, !sim.late_told, "late told twice", 1, 0);
		sim.late_told = true;
		sim.late_for = sim.us.life;
	}
}

static void look(void)
{
	const struct hf_policy *policy = &sim.plan.policy;
	struct hf_evidence evidence;
	struct hf_ruling ruling;

	gather(&evidence);
	hf_judge_look(&sim.judge, policy, now, &evidence, &ruling);
	sim.looks++;
	total.looks++;
	note(&ruling, &evidence);
	check(NEXT, ruling.next > now, "next", ruling.next, now + 1);
	if ((ruling.events >> HF_EV_DEAD & 1) != 0) {
		judged_dead(&ruling);
		check(ONCE, ruling.end == policy->abort_on_dead || ruling.gone, "end", ruling.end,
		      policy->abort_on_dead);
	}
	if (ruling.end || ruling.gone || (sim.dead_told && sim.plan.ends == NEVER && chance(0.1)))
		sim.over = true;
	if (ruling.ask) {
		sim.asking = true;
		sim.us.keepcnt = 127;
		set_keepidle(&sim.us, 1000);
	} else if (sim.asking && evidence.probes == 0) {
		sim.asking = false;
		keepalive_set(&sim.tuned);
	}
	/* The wheel fires up to a tick late, the thread wakes a little later still. */
	sim.look_at = (ruling.next + WHEEL_MS - 1) / WHEEL_MS * WHEEL_MS + between(0, 1);
}

/* Running it */

static void open_connection(void)
{
	struct plan *plan = &sim.plan;
	uint32_t bufs = plan->reader == FAST ? 65536 : between(4 * MSS, 40000);

	sim.start = sim.fresh = now;
	sim.to_peer = (struct wire){.delay = plan->delay, .loss = plan->loss};
	sim.to_us = sim.to_peer;
	tcp_open(&sim.us, &sim.to_peer, plan->we_read ? 65536 : 8192, bufs, 2 * plan->delay);
	tcp_open(&sim.peer, &sim.to_us, bufs, plan->we_read ? 65536 : 8192, 2 * plan->delay);
	if (plan->has_rto_max)
		sim.us.rto_max = (uint32_t)min64(RTO_MAX, max64(1, hf_rto_max(&plan->policy, 15)));
	sim.tuned = hf_keepalive_merge(&(struct hf_keepalive){.on = false, .idle = 7200, .intvl = 75, .cnt = 9},
				       &plan->policy);
	sim.look_at = now + min64(250, plan->policy.interval / 2);
	sim.write_at = plan->write_every != 0 ? now + between(0, plan->write_every) : NEVER;
	sim.talk_at = plan->talk_every != 0 ? now + between(0, plan->talk_every) : NEVER;
	sim.read_at = plan->reader == SLOW ? now + between(0, plan->read_every) : NEVER;
	keepalive_set(&sim.tuned);
	hf_judge_init(&sim.judge, now, false);
}

static uint64_t arrival(const struct wire *wire)
{
	return wire->head != wire->tail ? wire->ring[wire->head % FLIGHT].at : NEVER;
}

static void arrive(struct wire *wire, struct tcp *to)
{
	while (arrival(wire) == now) {
		struct segment seg = wire->ring[wire->head++ % FLIGHT];

		take_segment(to, &seg);
		if (to == &sim.us ? sim.plan.we_read : sim.plan.reader == FAST)
			tcp_read(to, UINT64_MAX);
	}
}

static uint64_t timers(const struct tcp *tcp)
{
	return tcp->closed ? NEVER : min64(min64(tcp->rto_at, tcp->probe0_at), tcp->keep_at);
}

static void fire(struct tcp *tcp)
{
	if (tcp->closed)
		return;
	if (tcp->rto_at <= now)
		rto_fires(tcp);
	if (tcp->probe0_at <= now)
		probe0_fires(tcp);
	if (tcp->keep_at <= now)
		keepalive_fires(tcp);
}

static void faults(void)
{
	struct plan *plan = &sim.plan;

	if (now == plan->fault_at) {
		sim.to_peer.cut = true;
		sim.to_us.cut = plan->fault == CUT_BOTH;
	}
	if (now == plan->heal_at)
		sim.to_peer.cut = sim.to_us.cut = false;
	if (now == plan->pause_at)
		sim.look_at = NEVER;
	if (now == plan->resume_at) {
		hf_judge_pause(&sim.judge, now);
		sim.fresh = sim.look_at = now;
		sim.late_told = sim.dead_told = false;
	}
}

static void programs(void)
{
	const struct plan *plan = &sim.plan;

	if (now == sim.write_at) {
		tcp_write(&sim.us, plan->write_size);
		sim.write_at = now + between(plan->write_every / 2, plan->write_every * 2) + 1;
	}
	if (now == sim.talk_at) {
		tcp_write(&sim.peer, plan->talk_size);
		sim.talk_at = now + between(plan->talk_every / 2, plan->talk_every * 2) + 1;
	}
	if (now == sim.read_at) {
		tcp_read(&sim.peer, plan->read_size);
		sim.read_at = now + plan->read_every;
	}
}

static uint64_t next_event(void)
{
	const struct plan *plan = &sim.plan;
	uint64_t next = min64(timers(&sim.us), timers(&sim.peer));

	next = min64(next, min64(arrival(&sim.to_us), arrival(&sim.to_peer)));
	next = min64(next, min64(sim.write_at, min64(sim.talk_at, min64(sim.read_at, sim.look_at))));
	if (plan->fault_at > now)
		next = min64(next, plan->fault_at);
	if (plan->heal_at > now)
		next = min64(next, plan->heal_at);
	if (plan->pause_at > now)
		next = min64(next, plan->pause_at);
	if (plan->resume_at > now)
		next = min64(next, plan->resume_at);
	return max64(next, now);
}

/* A peer that is gone and not told so in time; checked as time passes, so that a judge that never speaks is caught. */
static bool overdue(void)
{
	uint64_t slack = hf_judge_tick(&sim.plan.policy) + WHEEL_MS + 2, when;

	if (sim.ever_dead) /* reported, not ended: looked at once an interval from then on */
		slack += sim.plan.policy.interval;

	if (!sim.to_peer.cut || sim.plan.heal_at != NEVER || sim.dead_told || sim.us.closed ||
	    (now >= sim.plan.pause_at && now <= sim.plan.resume_at))
		return false;
	when = due();
	if (when != NEVER && now > when + slack) {
		check(VANISH, false, "late by", now - when, slack);
		return true;
	}
	return false;
}

/* About one an interval; a timeout of two intervals or less makes the judge ask sooner, and look at the answer. */
static uint64_t looks_allowed(void)
{
	const struct hf_policy *policy = &sim.plan.policy;
	uint64_t each = policy->timeout > 2 * policy->interval ? policy->interval : policy->timeout / 4;

	return (now - sim.start) * 3 / (each * 2) + 3;
}

static void run_connection(void)
{
	struct plan *plan = &sim.plan;
	bool healthy;

	memset(&sim, 0, sizeof(sim));
	draw_plan(plan);
	open_connection();
	while (!sim.over && now < plan->ends) {
		bool was_dead = sim.dead_told;

		now = next_event();
		if (overdue())
			break;
		faults();
		programs();
		fire(&sim.us);
		fire(&sim.peer);
		arrive(&sim.to_us, &sim.us);
		arrive(&sim.to_peer, &sim.peer);
		if (now == sim.look_at)
			look();
		if (!was_dead && sim.dead_told && sim.to_peer.cut)
			total.checks[VANISH]++;
		if (now - sim.start > UINT64_C(100) * 3600 * 1000) { /* nothing ends it */
			check(VANISH, false, "never dead", now - sim.start, 0);
			break;
		}
	}
	healthy = plan->fault == NO_FAULT && plan->loss == 0 && plan->write_every == 0 && plan->talk_every == 0 &&
		  plan->pause_at == NEVER && plan->delay <= plan->policy.timeout / 64;
	if (healthy)
		check(LOOKS, sim.looks <= looks_allowed(), "looks", sim.looks, looks_allowed());
	total.ms += now - sim.start;
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static int report(void)
{
	int failed = 0;

	for (int i = 0; i < PROPERTIES; i++) {
		if (total.failures[i] != 0)
			failed = 1;
		printf("%s %s (%" PRIu64 " checks, %" PRIu64 " failed)\n", total.failures[i] != 0 ? "not ok" : "ok",
		       names[i], total.checks[i], total.failures[i]);
	}
	printf("# %" PRIu64 " connections, %" PRIu64 " s, %" PRIu64 " looks; dead: %" PRIu64 " idle, %" PRIu64
	       " with data in flight, %" PRIu64 " zero window; %" PRIu64 " lost five questions in a row\n",
	       total.connections, total.ms / 1000, total.looks, total.kinds[0], total.kinds[1], total.kinds[2],
	       total.unlucky);
	return failed;
}

int main(void)
{
	uint64_t only = setting("HF_CONN", NEVER);

	/* The same every time, so that a red run means a change; HF_SEED=0 takes the clock, for long searches. */
	seed = setting("HF_SEED", 115);
	if (seed == 0)
		seed = (uint64_t)time(NULL);
	printf("# seed: HF_SEED=%" PRIu64 "\n", seed);
	trace = only != NEVER;
	for (number = trace ? only : 0; total.ms / 1000 < CONNECTION_SECONDS; number++) {
		rng = seed * UINT64_C(1000003) + number;
		now = 1000000;
		total.connections++;
		run_connection();
		if (trace)
			break;
	}
	check(UNLUCKY, total.unlucky <= total.ms / 1000000000 + 1, "killed by loss", total.unlucky,
	      total.ms / 1000000000 + 1);
	return report();
}
