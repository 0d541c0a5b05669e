/*
 * The core of wrap mode against itself: two ends (sender, receiver, session) joined by simulated wires.
 *
 *   explored  every interleaving of small programs, with the wire cut in every state
 *   tampered  every bit flipped; foreign bytes put in, bytes taken out, at every position
 *   random    long runs with time: live peers are never called hung, stopped ones are in time, both ends reach CLOSED
 *
 * Throughout: no program byte lost, repeated or reordered; end of file exactly after the last; no beat inside a frame;
 * no byte meets a socket that is shut both ways.  HF_SEED=n replays the random runs from seed n, HF_SECONDS bounds
 * them.
 */
#include "wrap_explore.h"
#include "wrap_run.h"
#include "wrap_tamper.h"

#include <time.h>

static const struct script scripts[] = {
	{.name = "one way, cut after every byte", .writes = {{2, 1}, {0}}, .fine = {true, false}},
	{.name = "one way, a beat each", .writes = {{1}, {0}}, .beats = {1, 1}},
	{.name = "both ways", .writes = {{2}, {2}}},
	{.name = "both ways, a beat", .writes = {{1}, {2}}, .beats = {0, 1}},
	{.name = "both ways, other beat", .writes = {{2}, {1}}, .beats = {1, 0}},
	{.name = "nothing said, beats", .writes = {{0}, {0}}, .beats = {1, 1}, .cut_beats = true},
	{.name = "shut down, then close at end of file", .writes = {{2}, {1}}, .how = {CLOSE_AT_EOF, CLOSE_AT_EOF}},
	{.name = "one closes with data in flight", .writes = {{3, 1}, {1}}, .how = {CLOSE, SHUT}, .beats = {0, 1}},
	{.name = "both close at once", .writes = {{2}, {2}}, .how = {CLOSE, CLOSE}, .beats = {1, 0}},
	{.name = "a filter: send all, half-close, read the answer",
	 .writes = {{3}, {2}},
	 .how = {SHUT, CLOSE},
	 .beats = {1, 0}},
	{.name = "a write given up", .writes = {{4}, {1}}, .how = {ABANDON, SHUT}, .beats = {0, 1}},
};

static void explore_all(void)
{
	uint64_t all_states = 0, all_steps = 0, all_ends = 0;

	seen_states = calloc((size_t)1 << SEEN_BITS, sizeof *seen_states);
	if (!seen_states) {
		result(false, "memory for the states");
		return;
	}
	for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
		clock_t start = clock();
		char what[160];
		bool good = explore_script(&scripts[i]);

		printf("# %s: %" PRIu64 " states, %" PRIu64 " steps, wire cut %" PRIu64 " times, %" PRIu64
		       " ends, %.1f s\n",
		       scripts[i].name, states, steps, cuts, ends, (double)(clock() - start) / CLOCKS_PER_SEC);
		snprintf(what, sizeof what, "explored: %s", scripts[i].name);
		result(good && ends > 0, what);
		all_states += states;
		all_steps += steps;
		all_ends += ends;
	}
	printf("# all scripts: %" PRIu64 " states, %" PRIu64 " interleaved steps, %" PRIu64 " ends\n", all_states,
	       all_steps, all_ends);
	free(seen_states);
}

static void tamper_all(void)
{
	sample_make();
	result(tamper_flip(), "tampered: every bit flipped");
	result(tamper_insert(), "tampered: foreign bytes put in at every position");
	result(tamper_steal(), "tampered: bytes taken out at every position");
	printf("# %" PRIu64 " tampered streams\n", tampered_streams);
}

static double seconds_from(const char *name, double otherwise)
{
	const char *text = getenv(name);

	return text ? atof(text) : otherwise;
}

static void random_all(void)
{
	static uint8_t bytes[2][RUN_RING * 2];
	const char *given = getenv("HF_SEED");
	/* The same every time, so that a red run means a change; HF_SEED=0 takes the clock, for long searches. */
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1, first = seed != 0 ? seed : (uint64_t)time(NULL);
	double limit = seconds_from("HF_SECONDS", 8);
	clock_t start = clock();
	bool good = true;

	ring[0] = bytes[0];
	ring[1] = bytes[1];
	ring_mask = sizeof bytes[0] - 1;
	seed = first;
	do {
		int kind = (int)(seed % RUN_KINDS);

		random_state = seed * 0x9e3779b97f4a7c15 | 1;
		for (int i = 0; i < 8; i++)
			draw();
		good = run_one(kind);
		if (!good)
			run_tell(seed);
		seed++;
	} while (good && (double)(clock() - start) / CLOCKS_PER_SEC < limit);
	printf("# seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " live, %" PRIu64 " cut, %" PRIu64 " stopped ends; %" PRIu64
	       " s of theirs, %" PRIu64 " bytes, %" PRIu64 " beats, %" PRIu64 " resets\n",
	       first, seed - 1, run_count[LIVE_RUN], run_count[CUT_RUN], run_count[STOPPED_RUN], run_ms / 1000,
	       run_bytes, run_beats, run_resets);
	result(good, "random: live, cut and stopped ends");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	tamper_all();
	if (!getenv("HF_SEED"))
		explore_all();
	random_all();
	return failures > 0;
}
