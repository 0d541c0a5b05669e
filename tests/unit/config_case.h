/* What the tests of the settings share: an environment, the reader, what it read and the lines it complained with. */
#ifndef HOLDFAST_TESTS_CONFIG_CASE_H
#define HOLDFAST_TESTS_CONFIG_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config_internal.h"

#include <string.h>

enum { MAX_LINES = 8 };

static const char *names[8], *values[8]; /* the environment of one test */
static size_t nvariables;
static char lines[MAX_LINES][512];
static size_t nlines;
static struct hf_config config;

static const char *lookup(const char *name, void *arg)
{
	assert_ptr_equal(arg, lines);
	for (size_t i = 0; i < nvariables; i++) {
		if (strcmp(names[i], name) == 0)
			return values[i];
	}
	return NULL;
}

static void complain(const char *line, void *arg)
{
	assert_ptr_equal(arg, lines);
	assert_true(nlines < MAX_LINES);
	assert_null(strchr(line, '\n'));
	assert_true(strlen(line) < sizeof lines[0]);
	strcpy(lines[nlines++], line);
}

static void put(const char *name, const char *value)
{
	names[nvariables] = name;
	values[nvariables++] = value;
}

/* Read what was put, on top of rubbish: the reader must set every field it answers for. */
static int read_all(void)
{
	int complaints;

	memset(&config, 0xa5, sizeof config);
	nlines = 0;
	complaints = hf_config_read(&config, lookup, complain, lines);
	assert_int_equal(complaints, nlines);
	nvariables = 0;
	return complaints;
}

static int read_one(const char *name, const char *value)
{
	put(name, value);
	return read_all();
}

static void assert_line(const char *expected)
{
	assert_int_equal(nlines, 1);
	assert_string_equal(lines[0], expected);
}

static void assert_defaults(void)
{
	assert_int_equal(config.mode, HF_MODE_PROBE);
	assert_int_equal(config.nrules, 0);
	assert_int_equal(config.nprograms, 0);
	assert_int_equal(config.interval, 5000);
	assert_int_equal(config.timeout, 15000);
	assert_int_equal(config.on_dead, HF_ABORT);
	assert_int_equal(config.reply_timeout, 0);
	assert_int_equal(config.on_unanswered, HF_ABORT);
	assert_int_equal(config.connect_timeout, 0);
	assert_int_equal(config.stall_timeout, 60000);
	assert_int_equal(config.on_stall, HF_REPORT);
	assert_int_equal(config.half_close_timeout, 60000);
	assert_int_equal(config.on_half_close, HF_REPORT);
	assert_int_equal(config.hello_wait, 1000);
	assert_int_equal(config.hello_wait_accept, 250);
	assert_int_equal(config.fallback, HF_FALLBACK_PLAIN);
	assert_int_equal(config.reconnect_window, 60000);
	assert_int_equal(config.resume_buffer, 1 << 20);
	assert_int_equal(config.linger, 2000);
	assert_int_equal(config.nsinks, 1);
	assert_int_equal(config.sinks[0].kind, HF_SINK_STDERR);
	assert_int_equal(config.format, HF_TEXT);
	assert_int_equal(config.level, HF_WARN);
	assert_string_equal(config.key_file, "");
	assert_string_equal(config.info, "");
	assert_int_equal(config.redial, HF_REDIAL_OFF);
	assert_int_equal(config.redial_prologue, 0);
}

#endif
