/* The judge on a peer that is silent or owes a reply: tables of evidence for each rule, with its boundaries. */
#include "judge_case.h"

#include <string.h>

/* dead/path */

static void silence_alone_is_no_death(void **state)
{
	(void)state;
	for (uint32_t silent = 1000; silent < 10 * TIMEOUT; silent += 1000) {
		assert_false(look(silent, silent) & BIT(DEAD));
		assert_int_equal(ruling.ask, silent >= TIMEOUT / 2);
	}
}

static void path_idle(void **state)
{
	static const struct {
		uint32_t silent, probes;
		bool dead;
	} rows[] = {
		{TIMEOUT - 1, 9, false}, {TIMEOUT, 3, true},     {TIMEOUT, 2, false},
		{4 * TIMEOUT, 2, false}, {4 * TIMEOUT, 3, true}, {TIMEOUT, 0, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		setup(state);
		ev.probes = 1;
		look(TIMEOUT / 2, TIMEOUT / 2);
		assert_true(ruling.ask);
		ev.probes = rows[i].probes;
		look(rows[i].silent, rows[i].silent);
		if (!!(ruling.events & BIT(DEAD)) != rows[i].dead)
			fail_msg("row %zu: dead should be %d", i, rows[i].dead);
		if (rows[i].dead)
			assert_dead(HF_WHY_PATH, true);
		assert_int_equal(ruling.silent, rows[i].silent);
	}
}

static void path_in_flight(void **state)
{
	static const struct {
		uint32_t retransmits, probes;
		bool dead;
	} rows[] = {{2, 0, true}, {1, 0, false}, {0, 2, true}, {1, 1, true}, {0, 1, false}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		setup(state);
		ev.unacked = 1;
		ev.age_data_sent = 100;
		look(TIMEOUT / 2, TIMEOUT / 2);
		assert_false(ruling.ask); /* the kernel repeats the data: no probe would be sent */
		ev.retransmits = ev.backoff = rows[i].retransmits;
		ev.probes = rows[i].probes;
		look(TIMEOUT, TIMEOUT);
		if (!!(ruling.events & BIT(DEAD)) != rows[i].dead)
			fail_msg("row %zu: dead should be %d", i, rows[i].dead);
	}
}

/* Asked late, the peer has a third of the timeout to answer; on a slow path four round trips; at most T - I. */
static void path_question_stays_open(void **state)
{
	static const struct {
		uint32_t rtt_ms, open;
	} rows[] = {{1, 5000}, {1250, 5000}, {2000, 8000}, {2500, 10000}, {60000, 10000}};
	enum { ASKED = 14000 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		setup(state);
		ev.rtt_us = rows[i].rtt_ms * 1000;
		look(TIMEOUT / 2, TIMEOUT / 2);
		ev.unacked = 1;
		ev.age_data_sent = 500;
		judge.asked_since = 0; /* nothing came of the probe asked for */
		look(ASKED + 500, ASKED + 500);
		ev.retransmits = ev.backoff = 5;
		assert_false(look(ASKED + rows[i].open - 1, ASKED + rows[i].open - 1) & BIT(DEAD));
		assert_true(ruling.next >= START + ASKED + rows[i].open);
		assert_true(ruling.next <= START + ASKED + rows[i].open + hf_judge_tick(&policy));
		assert_true(look(ASKED + rows[i].open, ASKED + rows[i].open) & BIT(DEAD));
	}
}

static void what_is_life(void **state)
{
	for (int which = 0; which < 3; which++) {
		setup(state);
		ev.probes = 5;
		ev.age_data_recv = UINT32_MAX;
		look(TIMEOUT / 2, TIMEOUT / 2);
		ev.segs_in = 100; /* never life: the repeated segments of a peer that cannot hear us */
		if (which == 1)
			ev.age_data_recv = TIMEOUT - 5000;
		ev.age_ack_recv = which == 2 ? TIMEOUT - 5000 : TIMEOUT;
		hf_judge_look(&judge, &policy, START + TIMEOUT, &ev, &ruling);
		assert_int_equal((ruling.events & BIT(DEAD)) != 0, which == 0);
		assert_int_equal(ruling.silent, which == 0 ? TIMEOUT : TIMEOUT - 5000);
	}
}

static void window_shut(void **state)
{
	(void)state;
	ev.snd_wnd = 0;
	ev.notsent = 5000;
	/* Each probe is answered: silent as long as the kernel's backoff, nothing unanswered. */
	for (uint32_t at = 1; at < 40; at++)
		assert_false(look(at * 120000, 119000) & BIT(DEAD));
	/* Two lost. */
	ev.probes = 2;
	assert_false(look(5000000, 240000) & BIT(DEAD));
	assert_false(look(5100000, 340000) & BIT(DEAD));
	assert_false(ruling.ask); /* a keepalive probe is not sent while data waits */
	ev.probes = 3;
	look(5200000, 440000);
	assert_dead(HF_WHY_PATH, true);
}

static void late_comes_once_a_silence(void **state)
{
	uint64_t at = 0;

	(void)state;
	for (int round = 0; round < 3; round++, at += TIMEOUT) {
		uint32_t told = 0;

		for (uint32_t silent = 100; silent < TIMEOUT; silent += 100) {
			ev.age_data_recv = silent;
			ev.probes = silent > INTERVAL;
			told += (look(at + silent, silent) & BIT(LATE)) != 0;
			if (silent < TIMEOUT / 2)
				assert_int_equal(told, 0);
		}
		assert_int_equal(told, 1);
	}
	/* Life between two looks ends a silence, though the next one is half over when we look. */
	ev.age_data_recv = 9000;
	ev.probes = 1;
	look(at + 9000, 9000);
	look(at + 9500, 9500);
	ev.age_data_recv = 8000;
	look(at + 30000, 8000);
	ev.age_data_recv = 12000;
	assert_true(look(at + 34000, 12000) & BIT(LATE) || (ruling.events & BIT(DEAD)) == 0);
}

static void report_mode_tells_once(void **state)
{
	uint32_t told = 0;

	(void)state;
	policy.abort_on_dead = false;
	ev.probes = 5;
	for (uint32_t silent = 500; silent < 10 * TIMEOUT; silent += 500) {
		told += (look(silent, silent) & BIT(DEAD)) != 0;
		assert_false(ruling.end);
		if (told != 0 && silent > TIMEOUT)
			assert_true(ruling.next >= START + silent + INTERVAL);
	}
	assert_int_equal(told, 1);
	ev.probes = 0;
	ev.age_data_recv = 0;
	look(11 * TIMEOUT, 0);
	ev.probes = 5;
	for (uint32_t silent = 500; silent < 3 * TIMEOUT; silent += 500)
		told += (look(11 * TIMEOUT + silent, silent) & BIT(DEAD)) != 0;
	assert_int_equal(told, 2);
}

/* In wrap mode silence of the peer's program is told from silence of its host by this. */
static void the_path_in_doubt(void **state)
{
	(void)state;
	look(TIMEOUT / 4 - 1, TIMEOUT / 4 - 1);
	ev.unacked = 1;
	assert_false(hf_judge_path_in_doubt(&judge, &policy, START + TIMEOUT / 4 - 1, &ev));
	look(TIMEOUT / 4, TIMEOUT / 4);
	assert_true(hf_judge_path_in_doubt(&judge, &policy, START + TIMEOUT / 4, &ev));
	ev.unacked = 0;
	assert_false(hf_judge_path_in_doubt(&judge, &policy, START + TIMEOUT / 4, &ev));
	ev.probes = 1;
	assert_true(hf_judge_path_in_doubt(&judge, &policy, START + TIMEOUT / 4, &ev));
	look(TIMEOUT / 4 + 1, 1); /* the probe is answered */
	assert_false(hf_judge_path_in_doubt(&judge, &policy, START + TIMEOUT / 4 + 1, &ev));
}

static void a_pause_starts_afresh(void **state)
{
	(void)state;
	policy.reply_timeout = 4000;
	ev.bytes_acked = 100;
	ev.age_data_sent = 2000;
	ev.age_data_recv = 3000;
	look(2000, 2000);
	hf_judge_pause(&judge, START + 60000);
	ev.probes = 5;
	ev.age_data_sent = 60000;
	ev.age_data_recv = 80000;
	assert_false(look(60000, 60000) & BIT(DEAD));
	assert_int_equal(ruling.silent, 0);
	ev.age_data_sent = 63999;
	assert_false(look(63999, 63999) & BIT(DEAD));
	look(64000, 64000);
	assert_dead(HF_WHY_UNANSWERED, false);
	policy.reply_timeout = 0;
	look(68000, 68000);
	assert_false(look(74999, 74999) & BIT(DEAD));
	look(75000, 75000);
	assert_dead(HF_WHY_PATH, true);
}

/* dead/unanswered */

static void reply_owed(void **state)
{
	enum { REPLY = 3000 };
	static const struct {
		uint32_t sent, received; /* ages */
		enum hf_last_call last;
		uint32_t unread, unacked, notsent;
		uint64_t acked;
		bool owed;
	} rows[] = {
		{4000, 5000, HF_LAST_UNKNOWN, 0, 0, 0, 500, true},
		{2999, 5000, HF_LAST_WRITE, 0, 0, 0, 500, false}, /* not yet */
		{3000, 5000, HF_LAST_WRITE, 0, 0, 0, 500, true},
		{5000, 4000, HF_LAST_WRITE, 0, 0, 0, 500, false}, /* answered */
		{4000, 4011, HF_LAST_READ, 0, 0, 0, 500, true},   /* beyond the tie */
		{4011, 4000, HF_LAST_WRITE, 0, 0, 0, 500, false},
		{4000, 4010, HF_LAST_READ, 0, 0, 0, 500, false},
		{4010, 4000, HF_LAST_WRITE, 0, 0, 0, 500, true},
		{4000, 4000, HF_LAST_WRITE, 7, 0, 0, 500, false}, /* the answer lies there unread */
		{4000, 4000, HF_LAST_UNKNOWN, 0, 0, 0, 500, false},
		{4000, 5000, HF_LAST_WRITE, 0, 1, 0, 500, false}, /* not delivered: the path's business */
		{4000, 5000, HF_LAST_WRITE, 0, 0, 9, 500, false},
		{4000, 5000, HF_LAST_WRITE, 0, 0, 0, 0, false}, /* sent nothing: owed nothing */
		{4000, 5000, HF_LAST_WRITE, 0, 0, 0, 1, false}, /* only the SYN */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		setup(state);
		policy.timeout = 600000;
		policy.reply_timeout = REPLY;
		policy.abort_on_unanswered = i % 2 == 0;
		ev.bytes_acked = judge.bytes_acked = rows[i].acked;
		ev.bytes_received = judge.bytes_received = 1;
		ev.age_data_sent = rows[i].sent;
		ev.age_data_recv = rows[i].received;
		ev.last_call = rows[i].last;
		ev.unread = rows[i].unread;
		ev.unacked = rows[i].unacked;
		ev.notsent = rows[i].notsent;
		ev.age_ack_recv = 1;
		hf_judge_look(&judge, &policy, START + 100000, &ev, &ruling);
		if (!!(ruling.events & BIT(DEAD)) != rows[i].owed)
			fail_msg("row %zu: unanswered should be %d", i, rows[i].owed);
		if (rows[i].owed)
			assert_dead(HF_WHY_UNANSWERED, policy.abort_on_unanswered);
	}
}

/* Nothing ever came: the age of the last data is that of the handshake, and ties with the first request. */
static void a_first_request_is_owed_a_reply(void **state)
{
	setup(state);
	policy.timeout = 600000;
	policy.reply_timeout = 2000;
	policy.abort_on_unanswered = true;
	ev.bytes_acked = judge.bytes_acked = 500;
	ev.age_data_sent = ev.age_data_recv = 4000;
	ev.age_ack_recv = 1;
	hf_judge_look(&judge, &policy, START + 100000, &ev, &ruling);
	assert_dead(HF_WHY_UNANSWERED, true);
}

static void reply_clock_restarts_and_tells_once(void **state)
{
	(void)state;
	policy.timeout = 600000;
	policy.reply_timeout = 3000;
	ev.bytes_acked = 100;
	ev.age_data_recv = 10000;
	ev.age_data_sent = 2000;
	assert_false(look(10000, 2000));
	/* More of the request is taken at 12500: the reply is due 3 s after that. */
	ev.bytes_acked = 200;
	ev.age_data_sent = 500;
	ev.age_data_recv = 13000;
	assert_false(look(13000, 500));
	ev.age_data_sent = 2999;
	assert_false(look(15499, 2999));
	ev.age_data_sent = 3000;
	look(15500, 3000);
	assert_dead(HF_WHY_UNANSWERED, false);
	for (uint32_t at = 16000; at < 30000; at += 500) {
		ev.age_data_sent = at - 12500;
		assert_false(look(at, at - 12500) & BIT(DEAD));
	}
}

/* Looks */

static void tick_is_bounded(void **state)
{
	static const uint32_t rows[][2] = {{50, 5}, {100, 6}, {1000, 62}, {4000, 250}, {5000, 250}, {86400000, 250}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		policy.interval = rows[i][0];
		assert_int_equal(hf_judge_tick(&policy), rows[i][1]);
	}
}

/* Whatever the evidence: the next look lies ahead, and not beyond the policy's reach. */
static void any_evidence(void **state)
{
	uint64_t rng = 1, at = 0;

	setup(state);
	for (int i = 0; i < 500000; i++) {
		uint8_t raw[sizeof(ev)] = {0};

		for (size_t j = 0; j < sizeof(raw); j++) {
			rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407;
			raw[j] = rng >> 62 ? (uint8_t)(rng >> 33) : 0;
		}
		memcpy(&ev, raw, sizeof(ev));
		ev.state = (enum hf_tcp_state)(1 + (rng >> 40) % 11);
		ev.last_call = (enum hf_last_call)(rng >> 50) % 3;
		ev.has_snd_wnd = rng >> 63;
		ev.error_pending = rng >> 62 & 1;
		policy.reply_timeout = rng >> 61 & 1 ? 3000 : 0;
		policy.stall_timeout = policy.half_close_timeout = rng >> 60 & 1 ? 9000 : 0;
		at += (rng >> 35) % 3000;
		hf_judge_look(&judge, &policy, START + at, &ev, &ruling);
		assert_true(ruling.next > START + at);
		assert_true(ruling.next <= START + at + TIMEOUT);
		assert_int_equal(ruling.events >> HF_EV_COUNT, 0);
		assert_true(ruling.silent <= at);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(silence_alone_is_no_death, setup),
		cmocka_unit_test_setup(path_idle, setup),
		cmocka_unit_test_setup(path_in_flight, setup),
		cmocka_unit_test_setup(path_question_stays_open, setup),
		cmocka_unit_test_setup(what_is_life, setup),
		cmocka_unit_test_setup(window_shut, setup),
		cmocka_unit_test_setup(late_comes_once_a_silence, setup),
		cmocka_unit_test_setup(report_mode_tells_once, setup),
		cmocka_unit_test_setup(the_path_in_doubt, setup),
		cmocka_unit_test_setup(a_pause_starts_afresh, setup),
		cmocka_unit_test_setup(reply_owed, setup),
		cmocka_unit_test_setup(a_first_request_is_owed_a_reply, setup),
		cmocka_unit_test_setup(reply_clock_restarts_and_tells_once, setup),
		cmocka_unit_test_setup(tick_is_bounded, setup),
		cmocka_unit_test_setup(any_evidence, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
