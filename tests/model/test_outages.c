/*
 * The core of a resumed session against itself: two sides and the connections they use one after the other.
 *
 *   explored  every interleaving of small programs, with one or two connections lost at every step (HF_DEEP: more)
 *   random    long streams over up to a hundred lost connections each
 *
 * Throughout: no program byte lost, repeated or reordered; end of file exactly after the last and once; both sides come
 * to their end; a session that can be resumed is.  An error only if the server knows the session no more.  HF_SEED=n
 * replays the random runs from seed n, HF_SECONDS bounds them.
 */
#include "resume_explore.h"
#include "resume_run.h"

#include <time.h>

static const struct script scripts[] = {
	{"one way", {{1}, {0}}, .losses = 1, .parts = 1, .prompt = true},
	{"both ways", {{2}, {1}}, .losses = 1, .prompt = true},
	{"nothing said, two losses", .losses = 2, .prompt = true},
	{"closed at the end of file", .how = {CLOSE_AT_EOF, CLOSE_AT_EOF}, .losses = 1, .prompt = true},
	{"closed at once", {{1}, {1}}, .how = {CLOSE, SHUT}, .losses = 1, .prompt = true},
	{"closed by the server", {{0}, {1}}, .how = {SHUT, CLOSE}, .losses = 1, .prompt = true},
	{"both close, two losses", {{1}, {0}}, .how = {CLOSE, CLOSE}, .losses = 2, .prompt = true},
	{"stragglers", {{1}, {1}}, .losses = 1, .prompt = true, .stragglers = true},
	{"broken by a HELLO", {{1}, {1}}, .losses = 1, .prompt = true, .stragglers = true, .early = true},
	{"a ring of one byte", {{3}, {0}}, .losses = 1, .prompt = true, .ring = {1, 1}},
	{"another server", {{1}, {1}}, .losses = 1, .forgets = true, .prompt = true},
	{"a write given up", {{0}, {2}}, .how = {SHUT, ABANDON}, .losses = 1, .parts = 1, .prompt = true},
	/* HF_DEEP: minutes. */
	{"one way, any order", .writes = {{1}, {0}}, .losses = 1, .parts = 1, .deep = true},
	{"both ways, any order", .writes = {{2}, {1}}, .losses = 1, .deep = true},
	{"one way, two losses", .writes = {{1}, {0}}, .losses = 2, .prompt = true, .deep = true},
	{"the other way, two losses", .writes = {{0}, {1}}, .losses = 2, .prompt = true, .deep = true},
	{"the client gives a write up", .writes = {{2}, {0}}, .how = {ABANDON, SHUT}, .losses = 1, .parts = 1,
	 .deep = true},
	{"nothing said, three losses", .losses = 3, .prompt = true, .deep = true},
	{"stragglers, two losses", .losses = 2, .prompt = true, .stragglers = true, .deep = true},
	{"stragglers, broken by a HELLO, two losses", .losses = 2, .prompt = true, .stragglers = true, .early = true,
	 .deep = true},
	{"closed by the server, two losses",
	 {{0}, {1}},
	 .how = {SHUT, CLOSE},
	 .losses = 2,
	 .prompt = true,
	 .deep = true},
	{"closed at the end of file, two losses", .how = {CLOSE_AT_EOF, CLOSE_AT_EOF}, .losses = 2, .prompt = true,
	 .deep = true},
	{"closed at once, two losses", .writes = {{1}, {1}}, .how = {CLOSE, SHUT}, .losses = 2, .prompt = true,
	 .deep = true},
	{"another server, two losses", .losses = 2, .forgets = true, .prompt = true, .deep = true},
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
		bool good;

		if (scripts[i].deep && !getenv("HF_DEEP"))
			continue;
		resumptions = 0;
		good = explore_script(&scripts[i]);
		printf("# %s: %" PRIu64 " states, %" PRIu64 " steps, %" PRIu64 " resumptions, %" PRIu64
		       " ends, %.1f s\n",
		       scripts[i].name, states, steps, resumptions, ends, (double)(clock() - start) / CLOCKS_PER_SEC);
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

static void random_all(void)
{
	static uint8_t bytes[CONNS][2][RUN_WIRE];
	const char *given = getenv("HF_SEED"), *seconds = getenv("HF_SECONDS");
	/* The same every time, so that a red run means a change; HF_SEED=0 takes the clock, for long searches. */
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1, first = seed != 0 ? seed : (uint64_t)time(NULL);
	double limit = seconds ? atof(seconds) : 2;
	clock_t start = clock();
	bool good = true;

	for (int c = 0; c < CONNS; c++) {
		for (int e = 0; e < 2; e++)
			wire[c][e] = bytes[c][e];
	}
	wire_mask = RUN_WIRE - 1;
	resumptions = 0;
	for (seed = first; good && (double)(clock() - start) / CLOCKS_PER_SEC < limit; seed++)
		good = run_one(seed);
	printf("# seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " runs, %" PRIu64 " losses, %" PRIu64
	       " resumptions, %" PRIu64 " bytes delivered, %" PRIu64 " servers that forgot\n",
	       first, seed - 1, run_count, run_losses, resumptions, run_bytes, run_forgotten);
	result(good, "random: streams over connections lost again and again");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!getenv("HF_SEED"))
		explore_all();
	random_all();
	return failures > 0;
}
