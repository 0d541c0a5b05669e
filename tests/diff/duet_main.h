/*
 * How the two sides of a script are started: both are this program once more, each with an environment of its own.
 */
#ifndef DUET_MAIN_H
#define DUET_MAIN_H

enum { DUET_LIMIT_S = 25, DUET_HIGH = 200 };

/* One side: the script alone, as cmocka runs it. */
DUET int duet_side(const struct CMUnitTest *tests, size_t count, const char *script, const char *family)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(tests[i].name, script) != 0)
			continue;
		is_v6 = *family == '6';
		sham = getenv("DUET_SHAM") != NULL;
		control = DUET_HIGH;
		out = DUET_HIGH + 1;
		int failed = _cmocka_run_group_tests(script, &tests[i], 1, NULL, NULL);
		say("%s", failed ? "FAILED" : "end");
		return failed != 0;
	}
	return 2;
}

DUET void duet_environment(const char *script, const char *mode, bool is_sham)
{
	const char *lib = getenv("LIB"), *first = getenv("DUET_FIRST");
	char preload[8192];

	if (is_sham)
		setenv("DUET_SHAM", "1", 1);
	if (strcmp(mode, "plain") == 0)
		return;
	snprintf(preload, sizeof preload, "%s%s%s", first ? first : "", first ? " " : "", lib ? lib : "");
	setenv("LD_PRELOAD", preload, 1);
	bool armed = strcmp(mode, "armed") == 0;
	setenv("HOLDFAST_MODE", armed ? "wrap" : mode, 1);
	if (armed)
		setenv("HOLDFAST_ON_DEAD", "reconnect", 1);
	setenv("HOLDFAST_INTERVAL", strcmp(script, "interrupted") == 0 ? "500ms" : "50ms", 1);
	setenv("HOLDFAST_TIMEOUT", "10s", 1);
}

/* Whatever else is open stays out of the numbers the program gets. */
DUET pid_t duet_start(char **argv, const char *role, const char *mode, bool is_sham, int mine, int others)
{
	char name[4096];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	snprintf(name, sizeof name, "%s.%s", argv[5], role);
	int transcript = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
	snprintf(name, sizeof name, "%s.cmocka", argv[5]);
	int noise = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (transcript < 0 || noise < 0)
		_exit(3);
	close(others);
	dup2(mine, DUET_HIGH);
	dup2(transcript, DUET_HIGH + 1);
	dup2(noise, 1);
	dup2(noise, 2);
	for (int i = 3; i < DUET_HIGH; i++)
		close(i);
	duet_environment(argv[1], mode, is_sham);
	execl(argv[0], argv[0], role, argv[1], argv[4], (char *)NULL);
	_exit(3);
}

static pid_t duet_pid[2];
static void duet_over(int number)
{
	(void)number;
	for (int i = 0; i < 2; i++)
		if (duet_pid[i] > 0)
			kill(duet_pid[i], SIGKILL);
}

DUET int duet_launch(char **argv)
{
	int pair[2], status, bad = 0;
	bool wrapped = strcmp(argv[2], "wrap") == 0 || strcmp(argv[2], "armed") == 0;

	signal(SIGALRM, duet_over);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return 3;
	duet_pid[0] = duet_start(argv, "client", argv[2], false, pair[0], pair[1]);
	duet_pid[1] = duet_start(argv, "server", argv[3], wrapped && strcmp(argv[3], argv[2]) != 0, pair[1], pair[0]);
	close(pair[0]);
	close(pair[1]);
	alarm(DUET_LIMIT_S);
	for (int i = 0; i < 2; i++) {
		pid_t pid;

		while ((pid = wait(&status)) < 0 && errno == EINTR)
			;
		if (pid < 0)
			return 3;
		int who = pid == duet_pid[0] ? 0 : 1;
		duet_pid[who] = 0;
		if (status == 0)
			continue;
		bad = 1;
		fprintf(stderr, "%s %s %s-%s: ended with %s %d\n", who == 0 ? "client" : "server", argv[1], argv[2],
			argv[3], WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	return bad;
}

int duet_main(int argc, char **argv, const struct CMUnitTest *tests, size_t count)
{
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (size_t i = 0; i < count; i++)
			puts(tests[i].name);
		return 0;
	}
	if (argc == 6)
		return duet_launch(argv);
	if (argc != 4)
		return 2;
	is_client = strcmp(argv[1], "client") == 0;
	return duet_side(tests, count, argv[2], argv[3]);
}

#endif
