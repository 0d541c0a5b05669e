#include "text.h"

#include "fmt.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { ROOM = 6 * PATH_MAX + 8 }; /* an escape takes six bytes for one */

void hf_print_plain(const char *text)
{
	char buf[ROOM];
	struct hf_fmt fmt;

	hf_fmt_init(&fmt, buf, sizeof buf, 0);
	hf_fmt_plain(&fmt, text, sizeof buf - 1);
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	fputs(buf, stdout);
}

void hf_print_json(const char *text)
{
	char buf[ROOM];
	struct hf_fmt fmt;

	if (!text) {
		fputs("null", stdout);
		return;
	}
	hf_fmt_init(&fmt, buf, sizeof buf, 0);
	hf_fmt_json(&fmt, text, sizeof buf - 1);
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	printf("\"%s\"", buf);
}

void hf_print_quoted(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_";

	if (*text && text[strspn(text, plain)] == '\0') {
		fputs(text, stdout);
		return;
	}
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*text);
	}
	putchar('\'');
}
