/* Settings: names in an environment that look like ours and are none. */
#include "config_internal.h"

#include <bsd/string.h>
#include <string.h>

enum { LONGEST_NAME = 64, FAR = 4 /* letters: another word */ };

static const char prefix[] = "HOLDFAST_";

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters differ: Levenshtein's distance, for names shorter than LONGEST_NAME. */
static size_t distance(const char *a, const char *b)
{
	size_t row[LONGEST_NAME], length = strlen(b);

	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= length; j++) {
			size_t replaced = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
		}
	}
	return row[length];
}

static bool is_reserved(const char *name)
{
	return strncmp(name, "HOLDFAST_FD_", 12) == 0 || strncmp(name, "HOLDFAST_ARENA", 14) == 0 ||
	       strncmp(name, "HOLDFAST_EVENT_", 15) == 0; /* of "holdfast events --exec" */
}

/* The setting that is nearest to NAME, and by how many letters; NULL when none is near. */
static const char *nearest(const char *name, size_t *letters)
{
	const char *found = NULL, *candidate;

	*letters = FAR;
	for (size_t i = 0; (candidate = hf_config_name(i)); i++) {
		size_t d = distance(name, candidate);

		if (d < *letters) {
			*letters = d;
			found = candidate;
		}
	}
	return found;
}

bool hf_config_unknown(const char *entry, char line[HF_UNKNOWN_LINE], bool *slip)
{
	enum { SHOWN = 100 };
	size_t length = strcspn(entry, "="), letters, shown = least(length, SHOWN);
	const char *meant = NULL;
	char name[LONGEST_NAME];

	*slip = false;
	if (strncmp(entry, prefix, sizeof prefix - 1) != 0)
		return false;
	if (length < sizeof name) {
		memcpy(name, entry, length);
		name[length] = '\0';
		if (hf_config_known(name) || is_reserved(name))
			return false;
		meant = nearest(name, &letters);
		/* A letter in four: HOLDFAST_PORT, which others may have set (Docker, Kubernetes), is no REPORT. */
		*slip = meant && 4 * letters <= strlen(meant) - (sizeof prefix - 1) + 1;
	}
	for (size_t i = 0; i < shown; i++)
		line[i] = (char)(entry[i] < ' ' || entry[i] > '~' ? '?' : entry[i]);
	line[shown] = '\0';
	strlcat(line, meant ? ": unknown setting; did you mean " : ": unknown setting; see ", HF_UNKNOWN_LINE);
	strlcat(line, meant ? meant : "holdfast run --help", HF_UNKNOWN_LINE);
	return true;
}
