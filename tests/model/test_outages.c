/*
 * The core of a resumed session against itself: two sides and the connections they use one after the other.
 */
#include "resume_explore.h"

#include <time.h>

static const struct script scripts[] = {
	{.name = "one way, one loss", .writes = {{1}, {0}}, .losses = 1, .parts = 2},
	{.name = "both ways, one loss", .writes = {{2}, {1}}, .losses = 1},
	{.name = "nothing said, two losses", .losses = 2, .prompt = true},
	{.name = "one way, two losses", .writes = {{2}, {0}}, .losses = 2, .prompt = true},
	{.name = "the other way, two losses", .writes = {{0}, {2}}, .losses = 2, .prompt = true},
	{.name = "closed at the end of file, two losses", .how = {CLOSE_AT_EOF, CLOSE_AT_EOF}, .losses = 2, .prompt = true},
	{.name = "closed at once, two losses", .writes = {{1}, {0}}, .how = {CLOSE, SHUT}, .losses = 2, .prompt = true},
	{.name = "closed by the server, two losses", .writes = {{0}, {1}}, .how = {SHUT, CLOSE}, .losses = 2, .prompt = true},
	{.name = "both close, two losses", .writes = {{1}, {0}}, .how = {CLOSE, CLOSE}, .losses = 2, .prompt = true},
	{.name = "a ring of one byte", .writes = {{3}, {0}}, .losses = 1, .ring = {1, 1}},
	{.name = "another server", .writes = {{1}, {1}}, .losses = 1, .forgets = true},
	{.name = "a write given up", .writes = {{3}, {0}}, .how = {ABANDON, SHUT}, .losses = 1, .parts = 2},
	{.name = "the server gives a write up", .writes = {{0}, {3}}, .how = {SHUT, ABANDON}, .losses = 1, .parts = 2},
};

static int failures;

static void result(bool good, const char *what)
{
	printf("%sok %s\n", good ? "" : "not ", what);
	failures += !good;
}

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
		bool good;

		if (getenv("HF_ONE") && atoi(getenv("HF_ONE")) != (int)i)
			continue;
		resumptions = 0;
		good = explore_script(&scripts[i]);
		printf("# %s: %" PRIu64 " states, %" PRIu64 " steps, %" PRIu64 " resumptions, %" PRIu64
		       " ends, %.1f s\n",
		       scripts[i].name, states, steps, resumptions, ends,
		       (double)(clock() - start) / CLOCKS_PER_SEC);
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

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	explore_all();
	return failures > 0;
}
