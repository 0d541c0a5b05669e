/* The judge on the states of TCP: connecting, stalled, half-closed, closed. */
#include "judge_case.h"

#include <errno.h>

static void closed(void **state)
{
	static const struct {
		int error;
		bool pending, segment;
		uint32_t at;
		uint32_t events;
		enum hf_reason reason;
		bool end;
	} rows[] = {
		{0, false, true, 3000, 0, HF_WHY_NONE, false},
		{ECONNRESET, false, true, 3000, BIT(DEAD), HF_WHY_RESET, false},
		{EPIPE, false, false, 30000, BIT(DEAD), HF_WHY_RESET, false},
		{ETIMEDOUT, false, false, 3000, BIT(DEAD), HF_WHY_PATH, true},
		{EHOSTUNREACH, false, true, 3000, BIT(DEAD), HF_WHY_PATH, true},
		{0, true, true, 3000, BIT(DEAD), HF_WHY_RESET, false}, /* a segment came and was not life */
		{0, true, false, 30000, BIT(DEAD), HF_WHY_PATH, true}, /* nothing came: the kernel gave up */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		setup(state);
		ev.segs_in = 10;
		look(1000, 500);
		ev.state = HF_TCP_CLOSE;
		ev.error_seen = rows[i].error;
		ev.error_pending = rows[i].pending;
		ev.segs_in += rows[i].segment;
		if (look(rows[i].at, rows[i].at) != rows[i].events || ruling.reason != rows[i].reason ||
		    ruling.end != rows[i].end)
			fail_msg("row %zu: events %x reason %d end %d", i, ruling.events, ruling.reason, ruling.end);
		assert_true(ruling.gone);
	}
	/* Only reported before: the kernel's own end is not told a second time, nor made ours. */
	setup(state);
	policy.abort_on_dead = false;
	ev.probes = 5;
	look(7500, 7500);
	assert_true(look(TIMEOUT, TIMEOUT) & BIT(DEAD));
	ev.state = HF_TCP_CLOSE;
	ev.error_seen = ETIMEDOUT;
	assert_false(look(20000, 20000) & BIT(DEAD));
	assert_true(ruling.gone && !ruling.end);
}

/* Whether the peer had ended its direction before: what a read finds then is that end. */
static void closed_behind_its_end(void **state)
{
	static const enum hf_tcp_state states[] = {HF_TCP_CLOSE_WAIT, HF_TCP_LAST_ACK, HF_TCP_CLOSING,
						   HF_TCP_FIN_WAIT2};

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		setup(state);
		ev.state = states[i];
		look(1000, 500);
		ev.state = HF_TCP_CLOSE;
		ev.error_pending = true;
		look(30000, 30000);
		assert_dead(HF_WHY_PATH, true);
		assert_int_equal(hf_tcp_peer_ended(judge.state), states[i] != HF_TCP_FIN_WAIT2);
		assert_true(ruling.gone);
	}
}

static void connecting(void **state)
{
	(void)state;
	hf_judge_init(&judge, START, true);
	ev.state = HF_TCP_SYN_SENT;
	assert_false(look(1000000, 1000000)); /* the kernel's own bound */
	hf_judge_init(&judge, START, true);
	policy.connect_timeout = 3000;
	assert_false(look(2999, 2999));
	assert_true(ruling.next <= START + 3000 + hf_judge_tick(&policy));
	look(3000, 3000);
	assert_dead(HF_WHY_CONNECT, true);
	/* Refused before that: no event. Timed out by the bound put into the kernel: ours. */
	ev.state = HF_TCP_CLOSE;
	ev.error_seen = ECONNREFUSED;
	for (uint32_t at = 2999; at <= 3000; at++) {
		hf_judge_init(&judge, START, true);
		assert_int_equal((look(at, at) & BIT(DEAD)) != 0, at == 3000);
		assert_true(ruling.gone);
	}
	/* Established: silence counts from now, not from the SYN. */
	hf_judge_init(&judge, START, true);
	ev = (struct hf_evidence){.state = HF_TCP_ESTABLISHED, .probes = 5, .age_data_recv = 60000};
	assert_false(look(60000, 60000) & BIT(DEAD));
	assert_int_equal(ruling.silent, 0);
}

static void stalled_and_flowing(void **state)
{
	for (int end = 0; end < 2; end++) {
		uint32_t stalled = 0, at;

		setup(state);
		policy.stall_timeout = 20000;
		policy.abort_on_stall = end;
		look(1000, 10);
		ev.notsent = 1000;
		ev.snd_wnd = 0;
		for (at = 1000; at < 60000; at += 500) {
			uint32_t events = look(at, 100);

			assert_false(events & (BIT(DEAD) | BIT(FLOWING)));
			if (events & BIT(STALLED)) {
				stalled++;
				assert_in_range(at, 20000, 21000);
				assert_int_equal(ruling.end, end);
			}
		}
		assert_int_equal(stalled, 1);
		ev.bytes_acked += 10;
		assert_true(look(at, 100) & BIT(FLOWING));
		assert_false(look(at + 500, 100) & BIT(FLOWING));
	}
	/* A silent peer is late, not stalled. */
	setup(state);
	policy.stall_timeout = 8000;
	ev.unacked = 1;
	ev.age_data_sent = 100;
	for (uint32_t at = 0; at < TIMEOUT; at += 250)
		assert_false(look(at, at) & BIT(STALLED));
}

static void half_closed(void **state)
{
	static const enum hf_tcp_state states[] = {HF_TCP_FIN_WAIT2, HF_TCP_CLOSE_WAIT};

	for (size_t i = 0; i < 2; i++) {
		uint32_t begun = 0, timeouts = 0;

		setup(state);
		policy.half_close_timeout = 20000;
		policy.abort_on_half_close = i == 1;
		look(5000, 100);
		ev.state = states[i];
		for (uint32_t at = 10000; at < 90000; at += 500) {
			uint32_t events;

			if (at == 15000) /* moving: the clock starts again */
				ev.bytes_received += 10;
			events = look(at, 100);
			begun += (events & BIT(HALF_CLOSED)) != 0;
			if (events & BIT(HALF_CLOSE_TIMEOUT)) {
				timeouts++;
				assert_int_equal(at, 35000);
				assert_int_equal(ruling.end, i == 1);
			}
		}
		assert_int_equal(begun, 1);
		assert_int_equal(timeouts, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(closed, setup),      cmocka_unit_test_setup(closed_behind_its_end, setup),
		cmocka_unit_test_setup(connecting, setup),  cmocka_unit_test_setup(stalled_and_flowing, setup),
		cmocka_unit_test_setup(half_closed, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
