/*
 * What to set in the kernel: keepalive (tcp(7)) and the bound of the retransmission timer.
 */
#include "core/judge.h"

enum { SECOND = 1000, MOST_PROBES = 127, MOST_SECONDS = 32767 };

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t whole_seconds(uint32_t ms)
{
	uint32_t s = ms / SECOND + (ms % SECOND != 0);

	return s == 0 ? 1 : smaller(s, MOST_SECONDS);
}

uint64_t hf_keepalive_death(const struct hf_keepalive *keepalive)
{
	if (!keepalive->on)
		return UINT64_MAX;
	return ((uint64_t)keepalive->idle + (uint64_t)keepalive->intvl * keepalive->cnt) * SECOND;
}

struct hf_keepalive hf_keepalive_merge(const struct hf_keepalive *program, const struct hf_policy *policy)
{
	uint32_t probe = whole_seconds(policy->interval);
	struct hf_keepalive merged = {.on = true, .idle = probe, .intvl = probe};
	uint64_t death = hf_keepalive_death(program), backstop, left;

	if (program->on) {
		merged.idle = smaller(program->idle, probe);
		/* Zero where the program set none and net.ipv4.tcp_keepalive_intvl is 0. */
		merged.intvl = program->intvl == 0 ? 1 : smaller(program->intvl, probe);
	}
	backstop = policy->abort_on_dead ? (uint64_t)policy->timeout + 2 * (uint64_t)policy->interval : UINT64_MAX;
	if (backstop < death)
		death = backstop;
	left = death / SECOND + (death % SECOND != 0);
	left = left > merged.idle ? left - merged.idle : 0;
	/* Wider apart where the most probes the kernel counts would end it before the timeout.  Not when only
	 * reporting: there is no end to reach, and the path must be kept warm. */
	if (policy->abort_on_dead && left / MOST_PROBES >= merged.intvl)
		merged.intvl = left / MOST_PROBES < MOST_SECONDS ? (uint32_t)(left / MOST_PROBES + 1) : MOST_SECONDS;
	/* Rounded up: never an earlier death than the stricter of the two asks for. */
	left = (left + merged.intvl - 1) / merged.intvl;
	merged.cnt = left < 1 ? 1 : left > MOST_PROBES ? MOST_PROBES : (uint32_t)left;
	return merged;
}

/* tcp_model_timeout() of net/ipv4/tcp_timer.c: RETRIES retransmissions from 200 ms, doubling up to MOST, then even. */
static uint64_t model_timeout(uint32_t retries, uint32_t most)
{
	enum { RTO_MIN = 200 };
	uint64_t total = 0, rto = RTO_MIN;

	for (uint32_t i = 0; i <= retries; i++) {
		total += rto < most ? rto : most;
		if (rto < most)
			rto *= 2;
	}
	return total;
}

uint32_t hf_rto_max(const struct hf_policy *policy, uint32_t retries2)
{
	enum { LEAST = 1000, MOST = 120000 }; /* TCP_RTO_MAX_MS, tcp(7) */
	/* At 10 % loss each way a live peer's answer to one in five is lost: six chances within the timeout. */
	uint64_t most = policy->timeout / 8 > LEAST ? policy->timeout / 8 : LEAST;

	if (!policy->abort_on_dead)
		return 0;
	while (most < MOST && model_timeout(retries2, (uint32_t)most) < 2 * (uint64_t)policy->timeout)
		most += most / 4;
	return most < MOST ? (uint32_t)most : 0;
}
