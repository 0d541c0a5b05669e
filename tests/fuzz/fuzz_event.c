/*
 * Any bytes into hf_event_line_read(): no crash; what is accepted has terminated texts and a sentence without control
 * characters, and the same event formatted as JSON is read back as the same.
 */
#include "event_line.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hf_event_line line, again;
	static const struct timespec now = {1000000000, 0};
	char text[HF_LINE], json[HF_LINE], twice[HF_LINE];
	char *copy = malloc(size ? size : 1); /* exact: the sanitizer sees a byte too far */
	size_t n;
	bool read;

	if (!copy)
		abort();
	memcpy(copy, data, size);
	read = hf_event_line_read(&line, copy, size);
	free(copy);
	if (!read)
		return 0;
	for (size_t i = 0; i < line.nfields; i++) {
		if (line.fields[i].text < line.store ||
		    line.fields[i].text + strlen(line.fields[i].text) >= line.store + sizeof line.store)
			abort();
	}
	n = hf_event_line_sentence(&line, text, sizeof text);
	if (n == 0 || text[n - 1] != '\n')
		abort();
	check_printable(text, n - 1);
	/*
	 * A line that was cut to fit ends at a field, and is an event all the same.  From the second time on nothing
	 * changes: the first one replaces what is not UTF-8.
	 */
	n = hf_report_format(json, sizeof json, HF_JSON, &line.event, line.prog, line.pid, &now);
	if (!hf_event_line_read(&again, json, n - 1))
		abort();
	n = hf_report_format(json, sizeof json, HF_JSON, &again.event, again.prog, again.pid, &now);
	if (!hf_event_line_read(&again, json, n - 1))
		abort();
	hf_report_format(twice, sizeof twice, HF_JSON, &again.event, again.prog, again.pid, &now);
	if (strcmp(json, twice) != 0)
		abort();
	return 0;
}
