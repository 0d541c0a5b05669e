#include "event_exec.h"

#include "command.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char prefix[] = "HOLDFAST_EVENT_";

/* Variables of an event that we were run for ourselves must not look like fields of this one. */
static void forget_old(void)
{
	for (char **entry = environ; *entry;) {
		size_t n = strcspn(*entry, "=");
		char name[64];

		if (strncmp(*entry, prefix, sizeof prefix - 1) != 0 || n >= sizeof name) {
			entry++;
			continue;
		}
		memcpy(name, *entry, n);
		name[n] = '\0';
		unsetenv(name);
		entry = environ; /* it has moved */
	}
}

static void export(const char *name, const char *value)
{
	char variable[sizeof prefix + HF_EVENT_NAME];
	size_t n = sizeof prefix - 1;

	memcpy(variable, prefix, n);
	for (; *name; name++)
		variable[n++] = (char)toupper((unsigned char)*name);
	variable[n] = '\0';
	setenv(variable, value, 1);
}

/* In the child. */
static void execute(const struct hf_exec *exec, const char *text)
{
	static struct hf_event_line line;
	char sentence[HF_LINE];
	int null = open("/dev/null", O_RDONLY);

	forget_old();
	if (hf_event_line_read(&line, text, strlen(text))) {
		size_t n = hf_event_line_sentence(&line, sentence, sizeof sentence);

		for (size_t i = 0; i < line.nfields; i++)
			export(line.fields[i].name, line.fields[i].text);
		if (n > 0)
			sentence[n - 1] = '\0';
		export("text", sentence);
		export("json", text);
	}
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &exec->signals, NULL);
	execl(_PATH_BSHELL, "sh", "-c", exec->command, (char *)NULL);
	hf_tell("%s: %s", _PATH_BSHELL, strerror(errno));
	_exit(HF_EXIT_NOT_FOUND);
}

static void start(struct hf_exec *exec, const char *text)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0)
		execute(exec, text);
	if (child < 0) {
		hf_tell("--exec: %s", strerror(errno));
		exec->dropped++;
		return;
	}
	exec->running[exec->nrunning++] = child;
}

void hf_exec_event(struct hf_exec *exec, const char *line, size_t length)
{
	char *text;

	if (!exec->command)
		return;
	if (exec->waiting == HF_EXEC_QUEUE || !(text = strndup(line, length))) {
		exec->dropped++;
		if (!exec->told)
			hf_tell("--exec: events come faster than the command ends: some get none");
		exec->told = true;
		return;
	}
	exec->queue[(exec->first + exec->waiting++) % HF_EXEC_QUEUE] = text;
	hf_exec_reap(exec);
}

static void tell_end(int status)
{
	if (WIFSIGNALED(status))
		hf_tell("--exec: the command was killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		hf_tell("--exec: the command ended with status %d", WEXITSTATUS(status));
}

void hf_exec_reap(struct hf_exec *exec)
{
	for (int i = exec->nrunning; i-- > 0;) {
		int status;

		if (waitpid(exec->running[i], &status, WNOHANG) <= 0)
			continue;
		tell_end(status);
		exec->running[i] = exec->running[--exec->nrunning];
	}
	while (exec->waiting > 0 && exec->nrunning < exec->limit) {
		char *text = exec->queue[exec->first];

		exec->first = (exec->first + 1) % HF_EXEC_QUEUE;
		exec->waiting--;
		start(exec, text);
		free(text);
	}
}

bool hf_exec_busy(const struct hf_exec *exec)
{
	return exec->nrunning > 0 || exec->waiting > 0;
}

void hf_exec_end(struct hf_exec *exec)
{
	for (; exec->waiting > 0; exec->waiting--) {
		free(exec->queue[exec->first]);
		exec->first = (exec->first + 1) % HF_EXEC_QUEUE;
		exec->dropped++;
	}
	if (exec->dropped > 0)
		hf_tell("--exec: %lu events got no command", exec->dropped);
}
