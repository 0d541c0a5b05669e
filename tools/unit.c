#include "unit.h"

#include "unit_file.h"

#include <bsd/string.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where units are looked for, the first one wins (systemd.unit(5), "UNIT FILE LOAD PATH"). */
static const char *const system_places[] = {
	"/etc/systemd/system.control",  "/run/systemd/system.control",   "/run/systemd/transient",
	"/run/systemd/generator.early", "/etc/systemd/system",           "/run/systemd/system",
	"/run/systemd/generator",       "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
	"/lib/systemd/system",          "/run/systemd/generator.late",   NULL};
static const char *const user_places[] = {
	"~/.config/systemd/user",      "/etc/systemd/user",     "~/.local/share/systemd/user", "/run/systemd/user",
	"/usr/local/lib/systemd/user", "/usr/lib/systemd/user", "/lib/systemd/user",           NULL};

enum { DROP_INS = 256 };

struct drop_ins {
	char *path[DROP_INS];
	size_t n;
};

bool hf_unit_name(const char *name, char *full, size_t size)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.-@\\";
	size_t n = strlen(name);

	if (n == 0 || name[0] == '.' || name[0] == '-' || name[strspn(name, allowed)] != '\0')
		return false;
	if (strlcpy(full, name, size) >= size)
		return false;
	if (n > 8 && strcmp(name + n - 8, ".service") == 0)
		return true;
	/* "foo.bar" is a name as good as any, but "foo.socket" is another kind of unit. */
	for (size_t i = 0; i < 2; i++) {
		const char *kind = (const char *const[]){".socket", ".timer"}[i];

		if (n > strlen(kind) && strcmp(name + n - strlen(kind), kind) == 0)
			return false;
	}
	return strlcat(full, ".service", size) < size && strlen(full) <= NAME_MAX - 2;
}

/* The directory PLACE below root; "~" is the home, which lies below no root.  false: it does not exist here. */
static bool expand(const struct hf_unit_place *place, const char *directory, char *path, size_t size)
{
	const char *home = getenv("HOME");
	int n;

	if (directory[0] != '~')
		n = snprintf(path, size, "%s%s", place->root, directory);
	else if (place->root[0] || !home || home[0] != '/')
		return false;
	else
		n = snprintf(path, size, "%s%s", home, directory + 1);
	return n > 0 && (size_t)n < size;
}

bool hf_unit_drop_in_directory(const struct hf_unit_place *place, const char *name, char *path, size_t size)
{
	const char *base = !place->user     ? "/etc/systemd/system"
			   : place->root[0] ? "/etc/systemd/user"
					    : "~/.config/systemd/user";

	return expand(place, base, path, size) && strlcat(path, "/", size) < size && strlcat(path, name, size) < size &&
	       strlcat(path, ".d", size) < size;
}

/* "foo@.service" for "foo@bar.service", "" for others. */
static void template_of(const char *name, char *template, size_t size)
{
	const char *at = strchr(name, '@'), *dot = strrchr(name, '.');

	template[0] = '\0';
	if (at && dot && dot > at + 1)
		snprintf(template, size, "%.*s%s", (int)(at - name) + 1, name, dot);
}

/* A link may lead out of root: what it names is below it as well. */
static bool follow(const struct hf_unit_place *place, char *path, size_t size, bool *masked)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);

	*masked = false;
	if (n <= 0)
		return access(path, R_OK) == 0;
	target[n] = '\0';
	*masked = strcmp(target, "/dev/null") == 0;
	if (*masked || target[0] != '/')
		return *masked || access(path, R_OK) == 0;
	return snprintf(path, size, "%s%s", place->root, target) < (int)size && access(path, R_OK) == 0;
}

static bool find_fragment(const struct hf_unit_place *place, const char *name, struct hf_unit *unit)
{
	const char *const *places = place->user ? user_places : system_places;

	for (size_t i = 0; places[i]; i++) {
		if (!expand(place, places[i], unit->fragment, sizeof unit->fragment) ||
		    strlcat(unit->fragment, "/", sizeof unit->fragment) >= sizeof unit->fragment ||
		    strlcat(unit->fragment, name, sizeof unit->fragment) >= sizeof unit->fragment)
			continue;
		if (follow(place, unit->fragment, sizeof unit->fragment, &unit->masked))
			return true;
	}
	unit->fragment[0] = '\0';
	return false;
}

static const char *base_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

static void add_drop_in(struct drop_ins *drop_ins, const char *directory, const char *name)
{
	size_t n = strlen(name);
	char *path;

	if (n < 6 || strcmp(name + n - 5, ".conf") != 0 || drop_ins->n == DROP_INS)
		return;
	for (size_t i = 0; i < drop_ins->n; i++) {
		if (strcmp(base_of(drop_ins->path[i]), name) == 0)
			return; /* an earlier directory goes before */
	}
	if (asprintf(&path, "%s/%s", directory, name) > 0)
		drop_ins->path[drop_ins->n++] = path;
}

static void find_drop_ins(const struct hf_unit_place *place, const char *name, struct drop_ins *drop_ins)
{
	const char *const *places = place->user ? user_places : system_places;

	for (size_t i = 0; places[i]; i++) {
		char directory[PATH_MAX];
		struct dirent *entry;
		DIR *dir;

		if (!expand(place, places[i], directory, sizeof directory) ||
		    strlcat(directory, "/", sizeof directory) >= sizeof directory ||
		    strlcat(directory, name, sizeof directory) >= sizeof directory ||
		    strlcat(directory, ".d", sizeof directory) >= sizeof directory)
			continue;
		dir = opendir(directory);
		while (dir && (entry = readdir(dir)))
			add_drop_in(drop_ins, directory, entry->d_name);
		if (dir)
			closedir(dir);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(base_of(*(char *const *)a), base_of(*(char *const *)b));
}

/* --- what the files say --- */

struct reading {
	const struct hf_unit_place *place;
	struct hf_unit *unit;
	const char *path;
	bool later; /* this file counts after our drop-in */
};

static void set_preload(struct reading *reading, const char *value, const char *path)
{
	if (reading->later || path != reading->path)
		strlcpy(reading->unit->later, path, sizeof reading->unit->later);
	else
		strlcpy(reading->unit->preload, value, sizeof reading->unit->preload);
}

static void take_environment(struct reading *reading, const char *value)
{
	char word[HF_UNIT_VALUE];

	if (!*value) { /* an empty assignment forgets all before it */
		if (!reading->later)
			reading->unit->preload[0] = '\0';
		else
			strlcpy(reading->unit->later, reading->path, sizeof reading->unit->later);
	}
	while (hf_unit_word(&value, word, sizeof word)) {
		if (strncmp(word, "LD_PRELOAD=", 11) == 0)
			set_preload(reading, word + 11, reading->path);
	}
}

/* What an environment file sets goes before all of Environment=, wherever it stands. */
static void take_environment_file(struct reading *reading, const char *value)
{
	char path[PATH_MAX], *text;

	if (*value == '-')
		value++;
	if (*value != '/' || snprintf(path, sizeof path, "%s%s", reading->place->root, value) >= (int)sizeof path)
		return;
	text = hf_unit_load(path);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += strspn(line, " \t\n");
		if (strncmp(line, "LD_PRELOAD=", 11) == 0)
			set_preload(reading, line + 11, path);
		if (!*line)
			break;
	}
	free(text);
}

static void take_exec_start(struct reading *reading, const char *value)
{
	char word[PATH_MAX];

	value += strspn(value, "@-:+!|");
	if (!hf_unit_word(&value, word, sizeof word) || strchr(word, '%') || strchr(word, '$'))
		return;
	if (word[0] == '/')
		snprintf(reading->unit->program, sizeof reading->unit->program, "%.1024s%.2048s", reading->place->root,
			 word);
	else if (!reading->place->root[0])
		strlcpy(reading->unit->program, word, sizeof reading->unit->program);
}

static void take(const char *section, const char *key, const char *value, void *arg)
{
	struct reading *reading = arg;

	if (strcmp(section, "Service") != 0)
		return;
	if (strcmp(key, "Environment") == 0)
		take_environment(reading, value);
	else if (strcmp(key, "EnvironmentFile") == 0)
		take_environment_file(reading, value);
	else if (strcmp(key, "ExecStart") == 0)
		take_exec_start(reading, value);
	else if (strcmp(key, "RootDirectory") == 0 || strcmp(key, "RootImage") == 0)
		strlcpy(reading->unit->root, strcmp(value, "/") == 0 ? "" : value, sizeof reading->unit->root);
}

static void read_file(const struct hf_unit_place *place, struct hf_unit *unit, const char *path)
{
	const char *name = base_of(path);
	struct reading reading = {place, unit, path, false};

	if (strcmp(name, HF_DROP_IN) == 0)
		return; /* ours: to be written anew */
	reading.later = path != unit->fragment && strcmp(name, HF_DROP_IN) > 0;
	hf_unit_parse(path, take, &reading);
}

void hf_unit_read(const struct hf_unit_place *place, const char *name, struct hf_unit *unit)
{
	char template[NAME_MAX + 1];
	struct drop_ins drop_ins = {0};

	memset(unit, 0, sizeof *unit);
	strlcpy(unit->name, name, sizeof unit->name);
	template_of(name, template, sizeof template);
	if (!find_fragment(place, name, unit) && template[0])
		find_fragment(place, template, unit);
	if (!unit->fragment[0] || unit->masked)
		return;
	read_file(place, unit, unit->fragment);
	find_drop_ins(place, name, &drop_ins);
	if (template[0])
		find_drop_ins(place, template, &drop_ins);
	find_drop_ins(place, "service", &drop_ins);
	qsort(drop_ins.path, drop_ins.n, sizeof drop_ins.path[0], by_name);
	for (size_t i = 0; i < drop_ins.n; i++) {
		read_file(place, unit, drop_ins.path[i]);
		free(drop_ins.path[i]);
	}
}
