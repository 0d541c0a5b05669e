/* A watchdog that is woken late: stopped, suspended, or kept waiting by a busy machine; and what becomes of verdicts.
 */
#include "judge_case.h"

#include "core/pause.h"

enum { DEFAULT = 5000 }; /* HOLDFAST_INTERVAL */

/* The thread under test: its clock, and what the kernel says of its waits for a processor. */
static struct hf_pause pause;
static uint64_t now, queued;

static int begin(void **state)
{
	now = START;
	queued = 0;
	hf_pause_init(&pause, now, now, now);
	return setup(state);
}

/* Asleep for MS, then woken LATE ms later, of which it waited WAIT for a processor. Whether that was a pause. */
static bool sleeps(uint64_t ms, uint64_t late, uint64_t wait, uint32_t interval)
{
	uint64_t due = now + ms;

	now = due + late;
	queued += wait;
	return hf_pause_late(&pause, due, now, interval) && hf_pause_stopped(&pause, queued);
}

static void in_time_is_no_pause(void **state)
{
	(void)state;
	assert_false(sleeps(250, 0, 0, DEFAULT));
	assert_false(sleeps(250, 500, 0, 50));
	assert_false(sleeps(250, DEFAULT, 0, DEFAULT));
	assert_false(sleeps(0, 0, 0, DEFAULT));
}

static void a_stop_is_a_pause(void **state)
{
	(void)state;
	assert_true(sleeps(250, 501, 0, 50));
	assert_true(sleeps(250, DEFAULT + 1, 0, DEFAULT));
	assert_true(sleeps(250, 60000, 100, DEFAULT));
}

static void a_busy_machine_is_none(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_false(sleeps(250, 6000, 6000, DEFAULT));
	/* Stopped on top of it. */
	assert_true(sleeps(250, 60000, 6000, DEFAULT));
	assert_false(sleeps(250, 6000, 5990, DEFAULT));
}

/* Hours of small waits do not make a stop look like a wait. */
static void small_waits_add_up_to_none(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++) {
		assert_false(sleeps(250, 3, 3, DEFAULT));
		now += 2;
		queued += 1;
		hf_pause_awake(&pause, 2);
	}
	assert_true(sleeps(250, DEFAULT + 1, 0, DEFAULT));
	assert_false(sleeps(250, DEFAULT + 1, DEFAULT, DEFAULT));
}

static void where_the_kernel_does_not_say(void **state)
{
	(void)state;
	assert_true(hf_pause_late(&pause, now, now + 6000, DEFAULT));
	assert_true(hf_pause_stopped(&pause, UINT64_MAX));
}

static void a_suspended_machine(void **state)
{
	uint64_t ahead = 12345;

	(void)state;
	hf_pause_init(&pause, now, now + ahead, now);
	assert_false(hf_pause_suspended(&pause, now, now + ahead, now));
	assert_true(hf_pause_suspended(&pause, now, now + ahead + 501, now));
	assert_false(hf_pause_suspended(&pause, now, now + ahead + 501, now));
}

/* The thread loses the processor for a second while it reads the clocks. */
static void clocks_read_with_a_gap(void **state)
{
	(void)state;
	hf_pause_init(&pause, now, now, now);
	assert_false(hf_pause_suspended(&pause, now, now + 1000, now + 1000));
	assert_false(hf_pause_suspended(&pause, now + 1000, now + 1000, now + 2000));
	assert_false(hf_pause_suspended(&pause, now + 2000, now + 2000, now + 2000));
}

/* A reply is owed from START on, and the watchdog always wakes LATE ms late: how long until the verdict. */
static uint64_t verdict_after(uint64_t late, uint64_t wait)
{
	policy.reply_timeout = 3000;
	policy.abort_on_unanswered = true;
	policy.interval = 1000;
	ev.bytes_acked = 101;
	hf_judge_init(&judge, START, false);
	while (now < START + 120000) {
		ev.age_data_sent = (uint32_t)(now - START);
		if ((look(now - START, 0) & BIT(DEAD)) != 0) {
			assert_dead(HF_WHY_UNANSWERED, true);
			return now - START;
		}
		if (sleeps(ruling.next - now, late, wait, policy.interval))
			hf_judge_pause(&judge, now);
	}
	return UINT64_MAX;
}

static void a_verdict_falls_on_a_busy_machine(void **state)
{
	(void)state;
	assert_in_range(verdict_after(1500, 1500), 3000, 3000 + 2 * 1500);
}

/* Stopped for a moment again and again, the peer gets its fresh timeout each time. */
static void none_falls_between_stops(void **state)
{
	(void)state;
	assert_true(verdict_after(1500, 1) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(in_time_is_no_pause, begin),
		cmocka_unit_test_setup(a_stop_is_a_pause, begin),
		cmocka_unit_test_setup(a_busy_machine_is_none, begin),
		cmocka_unit_test_setup(small_waits_add_up_to_none, begin),
		cmocka_unit_test_setup(where_the_kernel_does_not_say, begin),
		cmocka_unit_test_setup(a_suspended_machine, begin),
		cmocka_unit_test_setup(clocks_read_with_a_gap, begin),
		cmocka_unit_test_setup(a_verdict_falls_on_a_busy_machine, begin),
		cmocka_unit_test_setup(none_falls_between_stops, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
