/* What is set in the kernel: keepalive merged from the program's and the operator's, and the retransmission bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/judge.h"

static struct hf_keepalive keepalive(bool on, uint32_t idle, uint32_t intvl, uint32_t cnt)
{
	return (struct hf_keepalive){.on = on, .idle = idle, .intvl = intvl, .cnt = cnt};
}

static struct hf_policy policy(uint32_t interval, uint32_t timeout, bool abort_on_dead)
{
	return (struct hf_policy){.interval = interval, .timeout = timeout, .abort_on_dead = abort_on_dead};
}

static void time_of_death(void **state)
{
	struct hf_keepalive k = keepalive(true, 7200, 75, 9);

	(void)state;
	assert_int_equal(hf_keepalive_death(&k), 7875000);
	k = keepalive(true, 32767, 32767, 127);
	assert_int_equal(hf_keepalive_death(&k), UINT64_C(32767) * 128 * 1000);
	k.on = false;
	assert_true(hf_keepalive_death(&k) == UINT64_MAX);
}

static void merged(void **state)
{
	static const struct {
		struct hf_keepalive program;
		uint32_t interval, timeout;
		bool abort_on_dead;
		uint32_t idle, intvl, cnt;
	} rows[] = {
		/* Off: the operator's; the backstop at timeout + 2 intervals. */
		{{false, 7200, 75, 9}, 5000, 15000, true, 5, 5, 4},
		{{false, 1, 1, 1}, 5000, 15000, true, 5, 5, 4},
		/* The kernel's defaults, as a bare SO_KEEPALIVE leaves them. */
		{{true, 7200, 75, 9}, 5000, 15000, true, 5, 5, 4},
		/* curl: 60, 60. */
		{{true, 60, 60, 9}, 5000, 15000, true, 5, 5, 4},
		/* Stricter than the operator in everything. */
		{{true, 1, 1, 3}, 5000, 15000, true, 1, 1, 3},
		/* None of its own, on a machine whose net.ipv4.tcp_keepalive_intvl is 0. */
		{{true, 7200, 0, 9}, 5000, 15000, true, 5, 1, 20},
		{{true, 7200, 0, 9}, 5000, 15000, false, 5, 1, 127},
		/* A sooner first probe, a later end. */
		{{true, 2, 75, 9}, 5000, 15000, true, 2, 5, 5},
		/* Less than a second is a second. */
		{{false, 7200, 75, 9}, 50, 150, true, 1, 1, 1},
		{{false, 7200, 75, 9}, 1500, 4500, true, 2, 2, 3},
		/* Report only: the program's own end or none that matters. */
		{{true, 60, 10, 6}, 5000, 15000, false, 5, 5, 23},
		{{false, 7200, 75, 9}, 5000, 15000, false, 5, 5, 127},
		{{true, 7200, 75, 9}, 5000, 15000, false, 5, 5, 127},
		/* More intervals than the kernel counts probes: farther apart rather than an end too soon. */
		{{false, 7200, 75, 9}, 1000, 600000, true, 1, 5, 121},
		/* Limits of tcp(7). */
		{{false, 7200, 75, 9}, 86400000, 259200000, true, 32767, 32767, 13},
		{{true, 32767, 32767, 127}, 86400000, 259200000, true, 32767, 32767, 13},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct hf_policy p = policy(rows[i].interval, rows[i].timeout, rows[i].abort_on_dead);
		struct hf_keepalive m = hf_keepalive_merge(&rows[i].program, &p);

		if (!m.on || m.idle != rows[i].idle || m.intvl != rows[i].intvl || m.cnt != rows[i].cnt)
			fail_msg("row %zu: on %d idle %u intvl %u cnt %u", i, m.on, m.idle, m.intvl, m.cnt);
	}
}

/* For every pair: valid for setsockopt, never slower than either, never an earlier end than the earlier of the two. */
static void merged_is_the_stricter(void **state)
{
	static const uint32_t idles[] = {1, 2, 5, 60, 7200, 32767}, intvls[] = {1, 3, 75, 32767}, cnts[] = {1, 4, 127};
	static const uint32_t intervals[] = {50, 999, 1000, 1001, 5000, 60000, 86400000}, ratios[] = {1, 3, 10};

	(void)state;
	for (size_t i = 0; i < 6 * 4 * 3 * 7 * 3 * 4; i++) {
		struct hf_keepalive p = keepalive(i & 1, idles[i / 4 % 6], intvls[i / 24 % 4], cnts[i / 96 % 3]);
		uint32_t interval = intervals[i / 288 % 7], timeout = interval * ratios[i / 2016 % 3];
		struct hf_policy policies = policy(interval, timeout, i & 2);
		struct hf_keepalive m = hf_keepalive_merge(&p, &policies);
		uint64_t death = hf_keepalive_death(&m), theirs = hf_keepalive_death(&p);
		uint64_t ours = i & 2 ? timeout + 2 * (uint64_t)interval : UINT64_MAX;
		uint64_t earliest = theirs < ours ? theirs : ours;

		assert_true(m.on);
		assert_in_range(m.idle, 1, 32767);
		assert_in_range(m.intvl, 1, 32767);
		assert_in_range(m.cnt, 1, 127);
		if (p.on)
			assert_true(m.idle <= p.idle);
		if (interval <= 32767000)
			assert_true(m.idle * UINT64_C(1000) < interval + UINT64_C(1000));
		/* As often as the stricter asks, unless 127 probes would then end it too soon. */
		if (m.cnt < 64 && p.on)
			assert_true(m.intvl <= p.intvl);
		if (m.cnt < 64 && interval <= 32767000)
			assert_true(m.intvl * UINT64_C(1000) < interval + UINT64_C(1000));
		/* Only reporting: 127 probes and no more, whatever the program's own end. */
		if (m.cnt < 127 || (policies.abort_on_dead && m.intvl < 32767))
			assert_true(death >= earliest);
		if (m.cnt > 1 && earliest != UINT64_MAX)
			assert_true(death < earliest + 1000 + m.intvl * UINT64_C(1000));
	}
}

/* How long the kernel goes on: tcp_model_timeout(), in other words. */
static uint64_t kernel_patience(uint32_t retries, uint64_t rto_max)
{
	uint32_t doublings = 0;
	uint64_t low;

	while ((UINT64_C(200) << doublings) < rto_max)
		doublings++;
	if (retries < doublings)
		return 200 * ((UINT64_C(2) << retries) - 1);
	low = 200 * ((UINT64_C(1) << doublings) - 1);
	return low + (retries - doublings + 1) * rto_max;
}

static void rto_bound(void **state)
{
	static const uint32_t timeouts[] = {50, 1000, 3000, 15000, 30000, 60000, 300000, 900000, 86400000};

	(void)state;
	for (size_t i = 0; i < sizeof(timeouts) / sizeof(*timeouts); i++)
		for (uint32_t retries2 = 0; retries2 <= 40; retries2++) {
			struct hf_policy p = policy(timeouts[i] / 3 + 1, timeouts[i], true);
			uint32_t most = hf_rto_max(&p, retries2);

			if (most == 0) {
				/* Only when no lower bound would leave the kernel patience for twice the timeout. */
				assert_true(kernel_patience(retries2, 120000 * 4 / 5) < 2 * (uint64_t)timeouts[i] ||
					    timeouts[i] / 8 >= 120000);
				continue;
			}
			assert_in_range(most, 1000, 119999);
			if (kernel_patience(retries2, most) < 2 * (uint64_t)timeouts[i])
				fail_msg("timeout %u, retries %u: %u", timeouts[i], retries2, most);
			if (retries2 == 15 && timeouts[i] >= 3000 && timeouts[i] <= 300000)
				assert_true(most <= timeouts[i] / 3);
			p.abort_on_dead = false;
			assert_int_equal(hf_rto_max(&p, retries2), 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_of_death),
		cmocka_unit_test(merged),
		cmocka_unit_test(merged_is_the_stricter),
		cmocka_unit_test(rto_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
