/*
 * The constructor.  Runs before those of every other object (-z initfirst), even libc's own, and therefore takes its
 * arguments from the dynamic linker and uses nothing of libc that needs initialising.
 */
#include "io/exec.h"
#include "io/gate.h"
#include "io/inherit.h"
#include "io/stdio.h"
#include "key.h"
#include "report.h"
#include "state/clock.h"
#include "sys.h"
#include "watch/watch.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct hf_runtime hf_runtime;

static const char *variable(const char *name, void *arg)
{
	size_t len = strlen(name);

	for (char **env = arg; env != NULL && *env != NULL; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

static void complain(const char *line, void *arg)
{
	static const char prefix[] = "holdfast: ";
	char buf[1024];
	size_t len = strlen(line);

	(void)arg;
	if (len > sizeof(buf) - sizeof(prefix))
		len = sizeof(buf) - sizeof(prefix);
	memcpy(buf, prefix, sizeof(prefix) - 1);
	memcpy(buf + sizeof(prefix) - 1, line, len);
	buf[sizeof(prefix) - 1 + len] = '\0';
	hf_report_stderr(buf);
}

/* The auxiliary vector follows the environment's NULL (getauxval(3) is libc's, not yet initialised). */
static unsigned long auxiliary(char **envp, unsigned long type)
{
	const ElfW(auxv_t) * aux;

	while (*envp != NULL)
		envp++;
	for (aux = (const void *)(envp + 1); aux->a_type != AT_NULL; aux++)
		if (aux->a_type == type)
			return aux->a_un.a_val;
	return 0;
}

/* The last part of the path the program was started by: the name its operator types. For a script, the script's. */
static void take_name(char **argv, char **envp)
{
	const char *path = (const char *)auxiliary(envp, AT_EXECFN);
	const char *slash;
	size_t len;

	if (path == NULL)
		path = argv[0] != NULL ? argv[0] : "?";
	slash = strrchr(path, '/');
	if (slash != NULL)
		path = slash + 1;
	len = strlen(path);
	if (len >= sizeof(hf_runtime.prog))
		len = sizeof(hf_runtime.prog) - 1;
	memcpy(hf_runtime.prog, path, len);
	hf_runtime.prog[len] = '\0';
}

/*
 * The shared secret.  One that cannot be read must not become none: then nobody is believed.  It lies in pages of its
 * own that a core dump leaves out (MADV_DONTDUMP, madvise(2)).
 */
static void take_key(const struct hf_config *config)
{
	enum { RANDOM = 32 };
	static uint8_t random[RANDOM];
	uint8_t *bytes;
	long size = -ENOMEM;

	if (config->key_file[0] == '\0')
		return;
	bytes = hf_sys_mmap(NULL, HF_KEY_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!hf_sys_failed(bytes)) {
		(void)hf_sys_madvise(bytes, HF_KEY_ROOM, MADV_DONTDUMP);
		size = hf_key_read(config->key_file, bytes, HF_KEY_ROOM);
	}
	if (size < 0) {
		hf_config_wrong("HOLDFAST_KEY_FILE", config->key_file, hf_key_expected((int)-size), complain, NULL);
		bytes = random;
		size = sizeof(random);
		(void)hf_sys_getrandom(bytes, sizeof(random), 0);
	}
	hf_runtime.key = (struct hf_key){bytes, (size_t)size};
}

/* A setting that is not there by a slip of the finger: who wrote it believes that it is. */
static void find_slips(char **envp)
{
	char line[HF_UNKNOWN_LINE];
	bool slip;

	for (; *envp != NULL; envp++)
		if (hf_config_unknown(*envp, line, &slip) && slip)
			complain(line, NULL);
}

static void take_policy(const struct hf_config *config, struct hf_policy *policy)
{
	policy->interval = config->interval;
	policy->timeout = config->timeout;
	policy->abort_on_dead = config->on_dead != HF_REPORT;
	policy->reply_timeout = config->reply_timeout;
	policy->abort_on_unanswered = config->on_unanswered != HF_REPORT;
	policy->connect_timeout = config->connect_timeout;
	policy->stall_timeout = config->stall_timeout;
	policy->abort_on_stall = config->on_stall == HF_ABORT;
	policy->half_close_timeout = config->half_close_timeout;
	policy->abort_on_half_close = config->on_half_close == HF_ABORT;
	hf_runtime.note_order = config->reply_timeout != 0;
}

/* By a system call the time costs as much as what is done in it. */
static void take_clock(uintptr_t vdso)
{
#ifdef __aarch64__
	hf_clock_use((int (*)(clockid_t, struct timespec *))hf_real_vdso(vdso, "__kernel_clock_gettime"));
#else
	hf_clock_use((int (*)(clockid_t, struct timespec *))hf_real_vdso(vdso, "__vdso_clock_gettime"));
#endif
}

/* Standard input or output is a wrapped connection, though no arena has come along: the parent has it. */
static bool standard_wrapped(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (hf_wrap_marked(fd))
			return hf_arena_borrow(hf_wrap_layout());
	return false;
}

/*
 * What the program has written is handed over, within HOLDFAST_LINGER, and what the watchdog is telling gets told.  Not
 * in a destructor: those of libraries that depend on nothing of ours come later, and may use their connections.
 * Registered before anything else is, with no object to be finalised with, this comes after all of them (atexit(3): in
 * reverse order).
 */
static void leave(void *arg)
{
	(void)arg;
	if (!hf_on() || hf_proc_elsewhere())
		return;
	if (hf_wrap_in_use()) {
		hf_stdio_exit();
		hf_wrap_exit();
	}
	hf_watch_finish();
}

extern int __cxa_atexit(void (*fn)(void *), void *arg, void *object); /* the C++ ABI's, in every libc */

/* glibc passes these three to every constructor. */
static __attribute__((constructor)) void boot(int argc, char **argv, char **envp)
{
	struct hf_config *config = &hf_runtime.config;
	bool acts, wraps, inherits;

	(void)argc;
	hf_real_resolve();
	/* Set-uid and the like: the environment is somebody else's (ld.so(8), secure-execution mode). Stand aside. */
	if (argv == NULL || envp == NULL || auxiliary(envp, AT_SECURE) != 0)
		return;
	take_name(argv, envp);
	hf_config_read(config, variable, complain, envp);
	find_slips(envp);
	acts = hf_config_acts_in(config, hf_runtime.prog) && (config->mode != HF_MODE_OFF || config->nrules != 0);
	wraps = acts && (config->mode == HF_MODE_WRAP || config->nrules != 0);
	inherits = hf_arena_inherit(hf_wrap_layout(), wraps) || (wraps && standard_wrapped());
	if (!acts && !inherits)
		return;
	if (!acts) {
		/* Only for connections that are wrapped already: without us their frames would pass for data. */
		config->mode = HF_MODE_OFF;
		config->nrules = 0;
	}
	if (inherits || wraps)
		hf_exec_remember(envp);
	take_clock(auxiliary(envp, AT_SYSINFO_EHDR));
	take_key(config);
	take_policy(config, &hf_runtime.policy);
	(void)hf_proc_init();
	hf_report_open(config, hf_runtime.prog);
	atomic_store(&hf_runtime.on, true);
	(void)__cxa_atexit(leave, NULL, NULL);
	if (inherits && !hf_inherit() && !acts)
		atomic_store(&hf_runtime.on, false);
}
