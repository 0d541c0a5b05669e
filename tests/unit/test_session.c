/* Session states and liveness, step by step; the model runs two of them against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/session.h"

#include <stdlib.h>
#include <string.h>

static struct hf_session fresh(void)
{
	struct hf_session session;

	hf_session_init(&session, 1000, 5000, 5000, 15000, 7);
	return session;
}

/* S: our FIN, unseen; s: our FIN, seen; R: theirs, unseen; r: theirs, seen; D: peer done; B: we close; b: last beat
 * comes; 0: drained. */
static enum hf_session_state run(const char *steps)
{
	struct hf_session session = fresh();

	for (; *steps; steps++) {
		switch (*steps) {
		case 'S':
		case 's':
			hf_session_fin_sent(&session, *steps == 's');
			break;
		case 'R':
		case 'r':
			hf_session_fin_received(&session, *steps == 'r');
			break;
		case 'D':
			hf_session_peer_done(&session);
			break;
		case 'B':
			hf_session_bye_sent(&session);
			break;
		case 'b':
			hf_session_beat_received(&session, &(struct hf_beat){.state = HF_BEAT_FIN_RECEIVED}, 2000000);
			break;
		case '0':
			hf_session_drained(&session);
			break;
		}
	}
	return session.state;
}

static void transitions(void **state)
{
	static const struct {
		const char *steps;
		enum hf_session_state end;
	} cases[] = {
		{"", HF_S_ESTABLISHED},    {"S", HF_S_FIN_WAIT},    {"R", HF_S_CLOSE_WAIT},  {"Rs", HF_S_LAST_ACK},
		{"Sr", HF_S_TIME_WAIT},    {"SR", HF_S_CLOSING},    {"SRb", HF_S_TIME_WAIT}, {"RS", HF_S_CLOSING},
		{"SRD", HF_S_TIME_WAIT},   {"RsD", HF_S_TIME_WAIT}, {"D", HF_S_CLOSE_WAIT},  {"Ds", HF_S_TIME_WAIT},
		{"RDs", HF_S_TIME_WAIT},   {"SD", HF_S_TIME_WAIT},  {"Sr0", HF_S_CLOSED},    {"S0", HF_S_FIN_WAIT},
		{"SR0", HF_S_CLOSING},     {"Rs0", HF_S_LAST_ACK},  {"Rs0D0", HF_S_CLOSED},  {"B", HF_S_FIN_WAIT},
		{"B0", HF_S_CLOSED},       {"RB0", HF_S_CLOSED},    {"SB0", HF_S_CLOSED},    {"SRB0", HF_S_CLOSED},
		{"SS", HF_S_FIN_WAIT},     {"RR", HF_S_CLOSE_WAIT}, {"Sb", HF_S_FIN_WAIT},   {"RrS", HF_S_CLOSING},
		{"Sr0SRDb0", HF_S_CLOSED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (run(cases[i].steps) != cases[i].end)
			fail_msg("%s ends in %d, not %d", cases[i].steps, run(cases[i].steps), cases[i].end);
	}
}

static void beat_when_idle(void **state)
{
	uint64_t least = UINT64_MAX, most = 0;

	(void)state;
	for (uint32_t seed = 0; seed < 5000; seed++) {
		struct hf_session session;
		struct hf_beat beat;

		hf_session_init(&session, 1000, 400, 400, 9000, seed);
		assert_false(hf_session_beat_owed(&session, 1399));
		assert_true(hf_session_beat_owed(&session, 1500));
		least = session.beat_due < least ? session.beat_due : least;
		most = session.beat_due > most ? session.beat_due : most;
		hf_session_moved(&session, 1450, seed % 2);
		assert_false(hf_session_beat_owed(&session, 1849));
		assert_true(hf_session_beat_owed(&session, 1950));
		/* Theirs do not silence ours. */
		hf_session_beat_received(&session, &(struct hf_beat){.seq = 1}, 1940000);
		hf_session_heard(&session, 1940);
		hf_session_arrived(&session, 1940, 144, 0, 0);
		assert_true(hf_session_beat_owed(&session, 1950));
		hf_session_beat_make(&session, 1950000, 1, 2, 3, &beat);
		assert_false(hf_session_beat_owed(&session, 2349));
		assert_true(hf_session_beat_owed(&session, 2450));
		hf_session_arrived(&session, 2440, 153, 9, 0); /* no beat: data */
		assert_false(hf_session_beat_owed(&session, 2839));
	}
	assert_int_equal(least, 1400);
	assert_int_equal(most, 1500);
}

/* The pace keeps the peer's promise too, but the peer cannot make us flood it. */
static void pace(void **state)
{
	struct hf_session session;

	(void)state;
	hf_session_init(&session, 0, 5000, 5000, 3000, 1);
	assert_int_equal(session.pace, 1000);
	hf_session_init(&session, 0, 5000, 0, 1, 1);
	assert_int_equal(session.pace, HF_BEAT_PACE_LEAST);
	hf_session_init(&session, 0, 5000, 0, 0, 1);
	assert_int_equal(session.pace, 5000);
	hf_session_init(&session, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0);
	assert_true(session.beat_due >= UINT32_MAX / 3 && session.beat_due <= UINT32_MAX / 3 + UINT32_MAX / 12 + 1);
}

/* While it lasts no beat is due: the peer may owe one after its own interval or a third of our timeout, whichever is
 * less. */
static void lively(void **state)
{
	struct hf_session session;

	(void)state;
	hf_session_init(&session, 1000, 9000, 4000, 30000, 1);
	assert_int_equal(hf_session_lively_until(&session, 30000), 1000 + 4000 / 2);
	assert_int_equal(hf_session_lively_until(&session, 3000), 1000 + 1000 / 2);
	assert_int_equal(hf_session_lively_until(&session, 0), 1000 + 4000 / 2);
	hf_session_moved(&session, 5000, false);
	assert_int_equal(hf_session_lively_until(&session, 30000), 5000 + 4000 / 2);
	hf_session_heard(&session, 8000); /* theirs do not make it lively */
	assert_int_equal(hf_session_lively_until(&session, 30000), 5000 + 4000 / 2);
	hf_session_init(&session, 1000, 9000, 1, 30000, 1);
	assert_int_equal(hf_session_lively_until(&session, 30000), 1000 + HF_BEAT_PACE_LEAST / 2);
}

static void who_beats(void **state)
{
	struct hf_session session = fresh();
	struct hf_beat beat;

	(void)state;
	hf_session_fin_sent(&session, false);
	assert_true(hf_session_beat_owed(&session, 100000)); /* half-closed: still watched */
	hf_session_fin_received(&session, false);
	assert_true(hf_session_beat_owed(&session, 1000)); /* CLOSING: one, at once */
	hf_session_beat_make(&session, 1000000, 0, 0, 0, &beat);
	assert_int_equal(beat.state, HF_BEAT_FIN_SENT | HF_BEAT_FIN_RECEIVED);
	assert_false(hf_session_beat_owed(&session, 100000));
	assert_false(hf_session_may_speak(&session));

	session = fresh();
	hf_session_fin_received(&session, false);
	assert_true(hf_session_fin_seen(&session) && hf_session_beat_owed(&session, 100000));
	hf_session_beat_make(&session, 1000000, 0, 0, 0, &beat);
	assert_int_equal(beat.state, HF_BEAT_FIN_RECEIVED);
	assert_true(hf_session_may_speak(&session));
	hf_session_fin_sent(&session, true);
	assert_false(hf_session_beat_owed(&session, 100000) || hf_session_may_speak(&session));

	session = fresh();
	hf_session_peer_done(&session);
	assert_false(hf_session_beat_owed(&session, 100000));
	session = fresh();
	hf_session_outq(&session, 1000, 72, 72); /* one is still on its way */
	assert_false(hf_session_beat_owed(&session, 100000));
	hf_session_outq(&session, 1000, 0, 72);
	assert_true(hf_session_beat_owed(&session, 100000));
	session = fresh();
	hf_session_shut_sent(&session);
	assert_int_equal(session.state, HF_S_FIN_WAIT);
	assert_false(hf_session_beat_owed(&session, 100000) || hf_session_hung(&session, 100000, 15000, false, false));
	session = fresh();
	hf_session_bye_sent(&session);
	assert_false(hf_session_beat_owed(&session, 100000));
}

static void round_trip(void **state)
{
	struct hf_session session = fresh();
	struct hf_beat beat;

	(void)state;
	hf_session_beat_received(
		&session, &(struct hf_beat){.time_us = 77, .received = 10, .unread = 4, .unread_ms = 9}, 5000000);
	assert_int_equal(session.rtt_us, 0);
	assert_int_equal(session.peer_received, 10);
	hf_session_beat_make(&session, 5000400, 1, 2, 3, &beat);
	assert_true(beat.seq == 1 && beat.echo_us == 77 && beat.held_us == 400 && beat.received == 1 &&
		    beat.unread == 2 && beat.unread_ms == 3 && beat.state == 0);
	hf_session_beat_received(&session, &(struct hf_beat){.echo_us = 5000400, .held_us = 1000}, 5002200);
	assert_int_equal(session.rtt_us, 800);
	hf_session_beat_received(&session, &(struct hf_beat){.echo_us = 5000400, .held_us = 1000}, 5003000);
	assert_int_equal(session.rtt_us, 900);
	/* Nonsense from the network changes nothing. */
	hf_session_beat_received(&session, &(struct hf_beat){.echo_us = 6000000}, 5003000);
	hf_session_beat_received(&session, &(struct hf_beat){.echo_us = 5000400, .held_us = UINT64_MAX}, 5003000);
	hf_session_beat_received(&session, &(struct hf_beat){.echo_us = 1}, 5000000000000);
	assert_int_equal(session.rtt_us, 900);
	assert_int_equal(session.peer_received, 10);
}

static void hung_on_a_path_that_loses(void **state)
{
	struct hf_session session = fresh(); /* heard at 1000 */

	(void)state;
	hf_session_troubled(&session, 9000);
	assert_false(hf_session_hung(&session, 23999, 15000, false, false));
	assert_true(hf_session_hung(&session, 24000, 15000, false, false));
	hf_session_troubled(&session, 24000); /* again and again: not for ever */
	assert_false(hf_session_hung(&session, 30999, 15000, false, false));
	assert_true(hf_session_hung(&session, 31000, 15000, false, false));
	hf_session_beat_received(&session, &(struct hf_beat){.seq = 1}, 32000000);
	assert_false(hf_session_hung(&session, 46999, 15000, false, false));
	assert_true(hf_session_hung(&session, 47000, 15000, false, false));
}

static void hung(void **state)
{
	struct hf_session session = fresh();

	(void)state;
	assert_false(hf_session_hung(&session, 15999, 15000, false, false));
	assert_true(hf_session_hung(&session, 16000, 15000, false, false));
	assert_false(hf_session_hung(&session, 16000, 15000, true, false));
	assert_false(hf_session_hung(&session, 16000, 15000, false, true));
	assert_false(hf_session_hung(&session, 0, 15000, false, false)); /* a clock behind ours */
	hf_session_moved(&session, 5000, false);                         /* while we send, the peer owes nothing */
	assert_false(hf_session_hung(&session, 19999, 15000, false, false));
	assert_true(hf_session_hung(&session, 20000, 15000, false, false));
	hf_session_outq(&session, 6000, 72, 72); /* beats only */
	assert_true(hf_session_hung(&session, 20000, 15000, false, false));
	hf_session_outq(&session, 6000, 100, 72);
	hf_session_outq(&session, 7000, 30, 10); /* part of it was delivered */
	hf_session_outq(&session, 9000, 20, 0);
	assert_false(hf_session_hung(&session, 21999, 15000, false, false));
	assert_true(hf_session_hung(&session, 22000, 15000, false, false));
	hf_session_outq(&session, 10000, 72, 72); /* now all of it */
	assert_false(hf_session_hung(&session, 24999, 15000, false, false));
	assert_true(hf_session_hung(&session, 25000, 15000, false, false));
	hf_session_heard(&session, 26000);      /* we were stopped */
	hf_session_moved(&session, 4000, true); /* what came before that is noticed only now */
	assert_false(hf_session_hung(&session, 40999, 15000, false, false));
	assert_true(hf_session_hung(&session, 41000, 15000, false, false));
	session.heard_at = 1000;
	hf_session_beat_received(&session, &(struct hf_beat){.seq = 1}, 19000000);
	assert_false(hf_session_hung(&session, 20000, 15000, false, false));
	hf_session_fin_sent(&session, false);
	assert_true(hf_session_hung(&session, 34000, 15000, false, false));
	hf_session_fin_received(&session, true);
	assert_false(hf_session_hung(&session, 34000, 15000, false, false));
	/* Bytes wait unread, the window shut: once they are read the peer can speak, and has a timeout for it. */
	session = fresh();
	hf_session_arrived(&session, 2000, 100, 100, 0);
	hf_session_arrived(&session, 30000, 100, 100, 0);
	hf_session_arrived(&session, 40000, 100, 0, 92);
	assert_false(hf_session_hung(&session, 54999, 15000, false, false));
	assert_true(hf_session_hung(&session, 55000, 15000, false, false));
	/* The peer's floor is above our third: no verdict before it can have beaten. */
	hf_session_init(&session, 0, 50, 50, 50, 1);
	assert_false(hf_session_hung(&session, 99, 60, false, false));
	assert_true(hf_session_hung(&session, 100, 60, false, false));
	session = fresh();
	hf_session_peer_done(&session);
	assert_false(hf_session_hung(&session, 90000, 15000, false, false));
	/* It said that it would be silent, until it beats again. */
	session = fresh();
	hf_session_beat_received(&session, &(struct hf_beat){.seq = 1, .state = HF_BEAT_SILENT}, 1000000);
	assert_false(hf_session_hung(&session, 90000, 15000, false, false));
	hf_session_beat_received(&session, &(struct hf_beat){.seq = 2}, 90000000);
	assert_true(hf_session_hung(&session, 105000, 15000, false, false));
}

/* What counts as movement among what arrives. */
static void arrivals(void **state)
{
	static const struct {
		uint64_t arrived, unread, received;
		bool moved, heard;
	} looks[] = {
		{0, 0, 0, false, false},      {72, 0, 0, false, true},     {102, 0, 0, false, true},
		{144, 0, 0, false, true},     {164, 0, 12, true, true},    {164, 0, 12, false, false},
		{300, 136, 12, true, true},   {372, 208, 12, false, true}, {372, 50, 90, false, false},
		{516, 100, 100, false, true}, {661, 100, 150, true, true},
	};
	struct hf_session session = fresh();

	(void)state;
	for (uint64_t i = 0; i < sizeof looks / sizeof *looks; i++) {
		uint64_t now = 2000 + i * 1000;

		hf_session_arrived(&session, now, looks[i].arrived, looks[i].unread, looks[i].received);
		assert_int_equal(session.moved_at == now, looks[i].moved);
		assert_int_equal(session.heard_at == now, looks[i].heard);
	}
}

static void stalled(void **state)
{
	struct hf_session session = fresh();

	(void)state;
	assert_false(hf_session_stalled(&session, 0));
	hf_session_beat_received(&session, &(struct hf_beat){.unread = 1, .unread_ms = 60000}, 1);
	assert_true(hf_session_stalled(&session, 60000));
	assert_false(hf_session_stalled(&session, 60001));
	hf_session_beat_received(&session, &(struct hf_beat){.unread = 0, .unread_ms = 60000}, 1);
	assert_false(hf_session_stalled(&session, 60000));
}

/* A number that no library has written. */
static void hostile_state(void **state)
{
	struct hf_session session;
	struct hf_beat beat;

	(void)state;
	hf_session_init(&session, 1000, 5000, 5000, 15000, 1);
	session.state = (enum hf_session_state)0x7fffffff;
	hf_session_beat_make(&session, 2000000, 0, 0, 0, &beat);
	assert_int_equal(beat.state, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transitions),   cmocka_unit_test(beat_when_idle),
		cmocka_unit_test(pace),          cmocka_unit_test(lively),
		cmocka_unit_test(who_beats),     cmocka_unit_test(round_trip),
		cmocka_unit_test(hung),          cmocka_unit_test(hung_on_a_path_that_loses),
		cmocka_unit_test(arrivals),      cmocka_unit_test(stalled),
		cmocka_unit_test(hostile_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
