/* holdfast check: what holdfast can do for a program, told before it is run. */
#include "check_gather.h"
#include "command.h"
#include "options.h"
#include "text.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { JSON = 1, QUIET, PROBE, WRAP, HELP };

static const struct hf_option lines[] = {
	{0, NULL, NULL, NULL, NULL, "Options", 0},
	{'p', "probe", NULL, NULL, NULL, "judge for probe mode only", PROBE},
	{'w', "wrap", NULL, NULL, NULL, "judge for wrap mode only", WRAP},
	{'q', "quiet", NULL, NULL, NULL, "say nothing, only exit", QUIET},
	{0, "json", NULL, NULL, NULL, "one JSON object for each program", JSON},
	{'h', "help", NULL, NULL, NULL, "show this text", HELP},
};

static const struct hf_options table = {lines, NULL, sizeof lines / sizeof lines[0], 0, false};

/* Exit statuses; the worst of all programs counts, and 2, "cannot be judged", counts as the worst. */
enum { STATUS_FINE = 0, STATUS_LIMITS = 1, STATUS_USELESS = 3 };

struct wanted {
	bool json, quiet, probe, wrap;
};

static void usage(void)
{
	puts("Usage: holdfast check [OPTION...] PROGRAM...\n\n"
	     "Says what holdfast can do for PROGRAM, a name in PATH or a file, without running it: what keeps the\n"
	     "library out, and what limits it in probe mode and in wrap mode.  Scripts are followed to their\n"
	     "interpreter.  Libraries that PROGRAM needs directly are looked at too.");
	hf_options_help(&table);
	puts("\nExit status: 0 works, 1 works with limits, 3 is not loaded or has no effect, 2 wrong usage or no such\n"
	     "program.\n\n"
	     "Examples:\n"
	     "  holdfast check ssh                      all there is to say\n"
	     "  holdfast check --quiet --probe psql     for scripts");
}

static const struct hf_meaning *meaning(int finding, bool wrap)
{
	return wrap ? &hf_means[finding].wrap : &hf_means[finding].probe;
}

/* "works, but BRIEF; BRIEF": the reasons of the worst weight, from the first word on. */
static void verdict(const struct hf_gathered *gathered, bool wrap, char *text, size_t size)
{
	static const char *const words[] = {[HF_FINE] = "works",
					    [HF_LIMITS] = "works, but ",
					    [HF_UNSAFE] = "do not use: ",
					    [HF_USELESS] = "is not loaded: "};
	enum hf_weight worst = wrap ? gathered->wrap : gathered->probe;
	bool more = false;
	FILE *out = fmemopen(text, size, "w");

	text[0] = '\0';
	if (!out)
		return;
	fputs(worst == HF_USELESS && gathered->found[HF_FOUND_GO] && gathered->program.elf.has_interp
		      ? "has no effect: "
		      : words[worst],
	      out);
	for (int f = 0; f < HF_FOUND_COUNT && worst != HF_FINE; f++) {
		const struct hf_meaning *means = meaning(f, wrap);

		if (!gathered->found[f] || means->weight != worst)
			continue;
		fprintf(out, "%s%s", more ? "; " : "", means->brief);
		more = true;
	}
	fclose(out);
}

/* --- for people --- */

static void print_file(const struct hf_program *program)
{
	const struct hf_elf *elf = &program->elf;
	const char *machine = hf_elf_machine(elf->machine);

	if (program->script[0]) {
		hf_print_plain(program->script);
		fputs(": a script, run by ", stdout);
	}
	hf_print_plain(program->path);
	if (elf->bits)
		printf(": %u-bit ", elf->bits);
	else
		printf(": ");
	if (machine)
		printf("%s", machine);
	else
		printf("machine %u", elf->machine);
	if (elf->native)
		fputs(elf->has_interp ? ", dynamically linked" : ", statically linked", stdout);
	putchar('\n');
}

/* " [OBJECT: NAME NAME; OBJECT: NAME]" */
static void print_because(const struct hf_gathered *gathered, enum hf_finding finding)
{
	bool more = false;

	for (size_t i = 0; i < gathered->nobjects; i++) {
		const struct hf_object *object = &gathered->objects[i];
		const char *name;

		if (finding == HF_FOUND_MISSING ? object->found
						: !hf_imports_show(&object->imports, finding, object->is_library))
			continue;
		fputs(more ? "; " : " [", stdout);
		hf_print_plain(object->name);
		for (size_t n = 0; (name = hf_imports_because(&object->imports, finding, n)); n++)
			printf("%s %s", n ? "" : ":", name);
		more = true;
	}
	fputs(more ? "]\n" : "\n", stdout);
}

static void print_findings(const struct hf_gathered *gathered, const struct wanted *wanted)
{
	for (int f = 0; f < HF_FOUND_COUNT; f++) {
		const struct hf_means *means = &hf_means[f];

		if (!gathered->found[f])
			continue;
		printf("  %s: %s", means->name, means->is);
		print_because(gathered, (enum hf_finding)f);
		if (strcmp(means->probe.means, means->wrap.means) == 0) {
			printf("      %s\n", means->probe.means);
			continue;
		}
		if (wanted->probe)
			printf("      probe: %s\n", means->probe.means);
		if (wanted->wrap)
			printf("      wrap: %s\n", means->wrap.means);
	}
}

static void print_text(const struct hf_gathered *gathered, const struct wanted *wanted)
{
	char text[1024];

	print_file(&gathered->program);
	print_findings(gathered, wanted);
	if (wanted->probe) {
		verdict(gathered, false, text, sizeof text);
		printf("probe: %s\n", text);
	}
	if (wanted->wrap) {
		verdict(gathered, true, text, sizeof text);
		printf("wrap: %s\n", text);
	}
}

/* --- for programs --- */

static const char *const weights[] = {
	[HF_FINE] = "fine", [HF_LIMITS] = "limits", [HF_UNSAFE] = "unsafe", [HF_USELESS] = "useless"};

static void json_because(const struct hf_gathered *gathered, enum hf_finding finding)
{
	bool more = false;

	fputs("\"because\":[", stdout);
	for (size_t i = 0; i < gathered->nobjects; i++) {
		const struct hf_object *object = &gathered->objects[i];
		const char *name;

		if (finding == HF_FOUND_MISSING ? object->found
						: !hf_imports_show(&object->imports, finding, object->is_library))
			continue;
		fputs(more ? ",{\"object\":" : "{\"object\":", stdout);
		hf_print_json(object->name);
		fputs(",\"names\":[", stdout);
		for (size_t n = 0; (name = hf_imports_because(&object->imports, finding, n)); n++)
			printf("%s\"%s\"", n ? "," : "", name);
		fputs("]}", stdout);
		more = true;
	}
	putchar(']');
}

static void json_mode(const struct hf_gathered *gathered, bool wrap)
{
	char text[1024];

	verdict(gathered, wrap, text, sizeof text);
	printf(",\"%s\":{\"verdict\":\"%s\",\"text\":\"%s\"}", wrap ? "wrap" : "probe",
	       weights[wrap ? gathered->wrap : gathered->probe], text);
}

static void print_json(const struct hf_gathered *gathered, const struct wanted *wanted, int status)
{
	const struct hf_program *program = &gathered->program;
	bool more = false;

	fputs("{\"file\":", stdout);
	hf_print_json(program->path);
	fputs(",\"script\":", stdout);
	hf_print_json(program->script[0] ? program->script : NULL);
	printf(",\"bits\":%u,\"machine\":%u,\"machine_name\":", program->elf.bits, program->elf.machine);
	hf_print_json(hf_elf_machine(program->elf.machine));
	printf(",\"dynamic\":%s,\"interpreter\":", program->elf.has_interp ? "true" : "false");
	hf_print_json(program->elf.has_interp ? program->elf.interp : NULL);
	fputs(",\"findings\":[", stdout);
	for (int f = 0; f < HF_FOUND_COUNT; f++) {
		const struct hf_means *means = &hf_means[f];

		if (!gathered->found[f])
			continue;
		printf("%s{\"finding\":\"%s\",\"is\":\"%s\",", more ? "," : "", means->name, means->is);
		json_because(gathered, (enum hf_finding)f);
		printf(",\"probe\":{\"weight\":\"%s\",\"means\":\"%s\"},\"wrap\":{\"weight\":\"%s\",\"means\":\"%s\"}}",
		       weights[means->probe.weight], means->probe.means, weights[means->wrap.weight],
		       means->wrap.means);
		more = true;
	}
	putchar(']');
	if (wanted->probe)
		json_mode(gathered, false);
	if (wanted->wrap)
		json_mode(gathered, true);
	printf(",\"status\":%d}\n", status);
}

static int status_of(const struct hf_gathered *gathered, const struct wanted *wanted)
{
	enum hf_weight worst = wanted->probe ? gathered->probe : HF_FINE;

	if (wanted->wrap && gathered->wrap > worst)
		worst = gathered->wrap;
	return worst == HF_FINE ? STATUS_FINE : worst == HF_USELESS ? STATUS_USELESS : STATUS_LIMITS;
}

static int check(const char *command, const struct wanted *wanted)
{
	static struct hf_gathered gathered; /* large */
	const char *problem = hf_gather(&gathered, command);
	int status = HF_EXIT_USAGE;

	if (problem) {
		hf_tell("%s%s%s: %s", command, strcmp(command, gathered.program.path) ? ": " : "",
			strcmp(command, gathered.program.path) ? gathered.program.path : "", problem);
	} else {
		status = status_of(&gathered, wanted);
		if (wanted->json && !wanted->quiet)
			print_json(&gathered, wanted, status);
		else if (!wanted->quiet)
			print_text(&gathered, wanted);
	}
	hf_gathered_free(&gathered);
	return status;
}

static int worse(int a, int b)
{
	if (a == HF_EXIT_USAGE || b == HF_EXIT_USAGE)
		return HF_EXIT_USAGE;
	return a > b ? a : b;
}

int hf_check(int argc, char **argv)
{
	struct wanted wanted = {0};
	const struct hf_option *option;
	int status = STATUS_FINE;
	bool wrong;

	while ((option = hf_options_next(&table, argc, argv, &wrong))) {
		switch (option->id) {
		case JSON:
			wanted.json = true;
			break;
		case QUIET:
			wanted.quiet = true;
			break;
		case PROBE:
			wanted.probe = true;
			break;
		case WRAP:
			wanted.wrap = true;
			break;
		default:
			usage();
			return 0;
		}
	}
	if (wrong)
		return HF_EXIT_USAGE;
	if (optind == argc) {
		hf_tell("a program to look at is missing; try: holdfast check ssh, or holdfast check --help");
		return HF_EXIT_USAGE;
	}
	if (!wanted.probe && !wanted.wrap)
		wanted.probe = wanted.wrap = true;
	for (int i = optind; i < argc; i++)
		status = worse(status, check(argv[i], &wanted));
	return hf_flushed() ? status : HF_EXIT_USAGE;
}
