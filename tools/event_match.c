#include "event_match.h"

#include "command.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(HF_EV_COUNT <= 32 && HF_WHY_COUNT <= 32, "a bit for each");

static bool bits_of(const char *option, const char *list, int (*number)(const char *name), const char *expected,
		    uint32_t *bits)
{
	while (*list) {
		size_t n = strcspn(list, ",");
		char name[64];
		int found = -1;

		if (n < sizeof name) {
			memcpy(name, list, n);
			name[n] = '\0';
			found = number(name);
		}
		if (found < 0) {
			hf_tell("%s: \"%.*s\": expected %s", option, (int)(n < 64 ? n : 64), list, expected);
			return false;
		}
		*bits |= UINT32_C(1) << found;
		list += n + (list[n] == ',');
	}
	if (!*bits)
		hf_tell("%s: expected %s", option, expected);
	return *bits;
}

bool hf_event_kinds(const char *option, const char *list, uint32_t *bits)
{
	return bits_of(option, list, hf_event_kind_named, "names of events with commas, such as dead,stalled", bits);
}

bool hf_event_reasons(const char *option, const char *list, uint32_t *bits)
{
	return bits_of(option, list, hf_event_reason_named, "path, hung, unanswered, reset or connect", bits);
}

/* A rule of HOLDFAST_RULES, "probe=ADDRESS:PORT", which the library's own parser reads and matches. */
static const char *from_rule(const char *name, void *arg)
{
	if (strcmp(name, "HOLDFAST_RULES") == 0)
		return arg;
	return strcmp(name, "HOLDFAST_MODE") == 0 ? "off" : NULL;
}

static void ignore(const char *line, void *arg)
{
	(void)line;
	(void)arg;
}

bool hf_event_address(const char *option, const char *text, struct hf_config **address)
{
	const char *colon = strchr(text, ':'), *bracket = strchr(text, ']');
	char rule[256];
	int n;

	if (text[0] == '[')
		n = snprintf(rule, sizeof rule, "probe=%s%s", text, bracket && strchr(bracket, ':') ? "" : ":*");
	else if (colon && strchr(colon + 1, ':'))
		n = snprintf(rule, sizeof rule, "probe=[%s]:*", text);
	else
		n = snprintf(rule, sizeof rule, "probe=%s%s%s", colon == text ? "*" : "", text, colon ? "" : ":*");
	*address = calloc(1, sizeof **address);
	if (*address && n > 0 && (size_t)n < sizeof rule && !strchr(text, ',') &&
	    hf_config_read(*address, from_rule, ignore, rule) == 0 && (*address)->nrules == 1)
		return true;
	free(*address);
	*address = NULL;
	hf_tell("%s: \"%s\": expected an address such as 10.0.0.0/8:5432, 10.0.0.1, [::1]:80 or :80", option, text);
	return false;
}

static bool address_matches(const struct hf_config *wanted, const struct sockaddr_storage *address)
{
	const struct sockaddr *any = (const struct sockaddr *)address;

	if (!wanted)
		return true;
	return any->sa_family != AF_UNSPEC && hf_config_mode_for(wanted, any) == HF_MODE_PROBE;
}

bool hf_event_matches(const struct hf_event_match *match, const struct hf_event_line *line)
{
	const struct hf_event *event = &line->event;

	return (!match->reasons || (match->reasons & (UINT32_C(1) << event->reason))) &&
	       (match->level < 0 || (int)line->level <= match->level) &&
	       (!match->prog || fnmatch(match->prog, line->prog, 0) == 0) && (!match->pid || match->pid == line->pid) &&
	       (!match->conn || match->conn == event->conn) && address_matches(match->local, &event->local) &&
	       address_matches(match->peer, &event->peer);
}
