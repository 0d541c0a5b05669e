#include "unit_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *hf_unit_load(const char *path)
{
	enum { MOST = 1 << 20 };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *text;
	ssize_t n;

	if (fd < 0)
		return NULL;
	text = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? malloc(MOST + 1) : NULL;
	n = text ? read(fd, text, MOST) : 0;
	close(fd);
	if (text)
		text[n > 0 ? n : 0] = '\0';
	return text;
}

/* Cut blanks off both ends of TEXT. */
static char *trim(char *text)
{
	size_t n;

	text += strspn(text, " \t\r");
	n = strlen(text);
	while (n > 0 && strchr(" \t\r", text[n - 1]))
		text[--n] = '\0';
	return text;
}

/* The next logical line of *REST: a backslash at the end joins the next one, between which comments are dropped. */
static char *next_line(char **rest)
{
	char *line = *rest, *end = line;
	bool comment;

	if (!line)
		return NULL;
	for (;;) {
		char *stop = strchr(end, '\n');
		char *last = stop ? stop : end + strlen(end);

		if (last == end || last[-1] != '\\' || !stop) {
			*last = '\0';
			*rest = stop ? stop + 1 : NULL;
			return line;
		}
		last[-1] = ' ';
		*stop = ' ';
		end = stop + 1;
		do {
			const char *start = end + strspn(end, " \t");
			char *eol = strchrnul(end, '\n');

			comment = *start == '#' || *start == ';';
			if (comment) {
				memset(end, ' ', (size_t)(eol - end));
				end = *eol ? eol + 1 : eol;
				if (*eol)
					*eol = ' ';
			}
		} while (comment);
	}
}

bool hf_unit_parse(const char *path, hf_unit_take *take, void *arg)
{
	char *text = hf_unit_load(path), *rest = text, *line;
	char *section = NULL;

	while ((line = next_line(&rest))) {
		char *equals;

		line = trim(line);
		if (*line == '\0' || *line == '#' || *line == ';')
			continue;
		if (*line == '[') {
			line[strcspn(line, "]")] = '\0';
			section = line + 1;
			continue;
		}
		equals = strchr(line, '=');
		if (!equals || !section)
			continue;
		*equals = '\0';
		take(section, trim(line), trim(equals + 1), arg);
	}
	free(text);
	return text != NULL;
}

static char unescape(char c)
{
	static const char from[] = "abfnrtvs", to[] = "\a\b\f\n\r\t\v ";
	const char *found = c ? strchr(from, c) : NULL;

	if (found)
		c = to[found - from];
	return c;
}

bool hf_unit_word(const char **at, char *word, size_t size)
{
	const char *p = *at + strspn(*at, " \t");
	char quote = '\0';
	size_t n = 0;

	if (!*p)
		return false;
	for (; *p && (quote || !strchr(" \t", *p)); p++) {
		char c = *p;

		if (quote ? c == quote : c == '"' || c == '\'') {
			if (quote)
				quote = '\0';
			else
				quote = c;
			continue;
		}
		if (c == '\\' && p[1])
			c = unescape(*++p);
		else if (c == '%' && p[1] == '%')
			p++;
		if (n + 1 < size)
			word[n++] = c;
	}
	word[n] = '\0';
	*at = p;
	return true;
}

void hf_unit_print_environment(FILE *out, const char *name, const char *value)
{
	fprintf(out, "Environment=\"%s=", name);
	for (; *value; value++) {
		if (strchr("\\\"", *value))
			fputc('\\', out);
		if (*value == '%')
			fputc('%', out); /* no specifier */
		fputc(*value, out);
	}
	fputs("\"\n", out);
}
