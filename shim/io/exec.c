#include "io/exec.h"
#include "io/gate.h"
#include "io/process.h"
#include "io/wrap_inner.h"
#include "report.h"
#include "state/arena.h"
#include "state/fdlist.h"
#include "sys.h"
#include "watch/watch.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

enum {
	MOST_KEPT = 40,      /* variables to give back */
	KEPT_BYTES = 8192,   /* and their text */
	MOST_ENV = 8192,     /* variables of a program's environment, for one repaired on the stack */
	MOST_SURVIVORS = 64, /* connections taken from a program that cannot have them */
};

/* LD_PRELOAD and HOLDFAST_* as this process got them: the environment itself may be overwritten (setproctitle(3)). */
static char kept_text[KEPT_BYTES];
static const char *kept[MOST_KEPT];
static unsigned nkept;

static const char preload[] = "LD_PRELOAD=", library[] = "libholdfast";

void hf_exec_remember(char **envp)
{
	size_t used = 0;

	for (; *envp != NULL && nkept < MOST_KEPT; envp++) {
		size_t len = strlen(*envp) + 1;

		if ((strncmp(*envp, preload, sizeof(preload) - 1) != 0 && strncmp(*envp, "HOLDFAST_", 9) != 0) ||
		    len > KEPT_BYTES - used)
			continue;
		memcpy(kept_text + used, *envp, len);
		kept[nkept++] = kept_text + used;
		used += len;
	}
}

void hf_exec_spawning(void)
{
	hf_real_ready();
	hf_proc_count_spawn();
}

/* The environment */

static const char *variable(char *const *envp, const char *entry, size_t name)
{
	for (; *envp != NULL; envp++)
		if (strncmp(*envp, entry, name) == 0)
			return *envp;
	return NULL;
}

/*
 * ENVP with what is missing, into OUT of ROOM entries and the text buffer; ENVP itself if nothing is.  A variable that
 * the program has set otherwise stays as it is; but LD_PRELOAD has us in it.
 */
static char *const *repaired(char *const *envp, char **out, size_t room, char *text, size_t text_room)
{
	size_t n = 0;
	bool changed = false;

	while (envp[n] != NULL)
		n++;
	if (n + nkept + 1 > room)
		return envp;
	memcpy(out, envp, n * sizeof(*out));
	for (unsigned i = 0; i < nkept; i++) {
		size_t name = strcspn(kept[i], "=") + 1;
		const char *has = variable(envp, kept[i], name);
		size_t len = has != NULL ? strlen(has) : 0, ours = strlen(kept[i] + name);

		if (has == NULL) {
			out[n++] = (char *)(uintptr_t)kept[i];
			changed = true;
		} else if (strncmp(has, preload, name) == 0 && strstr(has, library) == NULL &&
			   len + ours + 2 <= text_room) {
			memcpy(text, has, len + 1);
			text[len] = ':';
			memcpy(text + len + 1, kept[i] + name, ours + 1);
			for (size_t k = 0; k < n; k++)
				out[k] = out[k] == has ? text : out[k];
			changed = true;
		}
	}
	out[n] = NULL;
	return changed ? out : envp;
}

static size_t count_env(char *const *envp)
{
	size_t n = 0;

	while (envp != NULL && envp[n] != NULL)
		n++;
	return n;
}

/* ENVP, repaired if WANTED for a program that inherits wrapped connections, as env for the rest of the block. */
#define REPAIRED(envp, wanted)                                                         \
	size_t count_ = (wanted) && (envp) != NULL ? count_env(envp) : 0;              \
	bool repair_ = (wanted) && (envp) != NULL && nkept != 0 && count_ < MOST_ENV;  \
	char *array_[repair_ ? count_ + MOST_KEPT + 1 : 1], text_[repair_ ? 4096 : 1]; \
	char *const *env = repair_ ? repaired(envp, array_, count_ + MOST_KEPT + 1, text_, sizeof(text_)) : (envp)

/* What goes along */

struct survivors {
	int fds[MOST_SURVIVORS];
	int kept[STDERR_FILENO + 1]; /* copies of those whose number something else has for now, -1: none */
	unsigned count;
	bool withheld;
};

static void note_survivor(int fd, void *arg)
{
	struct survivors *s = arg;

	if (s->count < MOST_SURVIVORS && hf_wrap_marked(fd) && (hf_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC) == 0)
		s->fds[s->count++] = fd;
}

static void gather(struct survivors *s)
{
	enum { LOW = 64 };

	s->count = 0;
	s->withheld = false;
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		s->kept[fd] = -1;
	if (!hf_each_fd(note_survivor, s))
		for (int fd = 0; fd < LOW; fd++)
			note_survivor(fd, s);
}

static const char *reason(enum hf_target target)
{
	switch (target) {
	case HF_TARGET_STATIC:
		return "a program is started that is static: the library cannot be in it, so it does not get this "
		       "wrapped connection";
	case HF_TARGET_SECURE:
		return "a program is started that changes its user or group: the library is not loaded into it, so it "
		       "does not get this wrapped connection";
	default:
		return "a program of another architecture is started: the library cannot be in it, so it does not get "
		       "this wrapped connection";
	}
}

static void tell_withheld(const struct survivors *s, enum hf_target target)
{
	struct hf_event event;

	for (unsigned i = 0; i < s->count && hf_report_wanted(HF_EV_CONFIG); i++) {
		hf_event_init(&event, HF_EV_CONFIG);
		event.fd = s->fds[i];
		event.detail = reason(target);
		hf_report(&event);
	}
}

/*
 * The connections are not for a program without the library: it would read frames as data.  They are closed by the
 * exec; standard input and output are replaced by a socket that is connected to nothing, so that no file takes their
 * numbers.
 */
static void withhold(struct survivors *s)
{
	s->withheld = true;
	for (unsigned i = 0; i < s->count; i++)
		(void)hf_sys_fcntl(s->fds[i], F_SETFD, FD_CLOEXEC);
}

static void replace_standard(struct survivors *s)
{
	for (unsigned i = 0; i < s->count; i++) {
		int fd = s->fds[i], dead;

		if (fd > STDERR_FILENO || (dead = hf_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
			continue;
		s->kept[fd] = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		(void)hf_sys_dup3(dead, fd, 0);
		hf_sys_close(dead);
	}
}

/* The program is not to be executed after all. */
static void give_back(struct survivors *s)
{
	for (unsigned i = 0; s->withheld && i < s->count; i++) {
		int fd = s->fds[i];

		if (fd <= STDERR_FILENO && s->kept[fd] >= 0) {
			(void)hf_sys_dup3(s->kept[fd], fd, 0);
			hf_sys_close(s->kept[fd]);
		}
		(void)hf_sys_fcntl(fd, F_SETFD, 0);
	}
}

static bool any_wrapped(void)
{
	return hf_on() && hf_wrap_in_use();
}

/*
 * A program that runs with other rights than ours, and starts others with whose rights it likes (su, sudo), has no
 * business with what the family shares; the library stands aside in it.  True: it will not get the descriptor.
 */
static bool withhold_arena(int dir, const char *path)
{
	int fd = hf_arena_fd();

	return !hf_wild(path) && hf_arena_owns(fd) && hf_sys_fcntl(fd, F_GETFD, 0) == 0 &&
	       hf_exec_look(dir, path) == HF_TARGET_SECURE && hf_sys_fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static int arena_back(int result, bool withheld)
{
	int error = errno;

	if (withheld)
		(void)hf_sys_fcntl(hf_arena_fd(), F_SETFD, 0);
	errno = error;
	return result;
}

/* Before an exec. True: wrapped connections go along. */
static bool prepare(int dir, const char *path, struct survivors *s)
{
	enum hf_target target;

	gather(s);
	if (s->count == 0)
		return false;
	target = path != NULL ? hf_exec_look(dir, path) : HF_TARGET_LOADS;
	if (target == HF_TARGET_LOADS)
		return true;
	tell_withheld(s, target);
	withhold(s);
	return false;
}

/* The watchdog ends with this image, and must not be in the middle of anything then; what only it would do is done
 * before, as at exit. False: it is not ours (vfork). */
static bool hand_over(struct survivors *s)
{
	bool ours = !hf_proc_elsewhere();

	if (ours) {
		hf_wrap_before_exec();
		hf_watch_suspend();
		hf_wrap_leave_to_others();
	}
	if (s->withheld)
		replace_standard(s);
	return ours;
}

/* The exec has failed. */
static int came_back(int result, bool suspended, struct survivors *s)
{
	int error = errno;

	give_back(s);
	if (suspended) {
		hf_wrap_come_back();
		hf_watch_resume();
	}
	errno = error;
	return result;
}

#define EXEC(dir, path, envp, call_as_is, call_with)                              \
	do {                                                                      \
		struct survivors s_;                                              \
		bool along_, suspended_, arena_;                                  \
		const char *path_;                                                \
		hf_real_ready();                                                  \
		if (hf_likely(hf_arena_fd() < 0 && !any_wrapped()))               \
			return call_as_is;                                        \
		path_ = path;                                                     \
		arena_ = withhold_arena(dir, path_);                              \
		if (!any_wrapped())                                               \
			return arena_back(call_as_is, arena_);                    \
		along_ = prepare(dir, path_, &s_);                                \
		suspended_ = hand_over(&s_);                                      \
		REPAIRED(envp, along_);                                           \
		return arena_back(came_back(call_with, suspended_, &s_), arena_); \
	} while (0)

int hf_execve(const char *path, char *const argv[], char *const envp[])
{
	EXEC(AT_FDCWD, path, envp, hf_real.execve(path, argv, envp), hf_real.execve(path, argv, env));
}

int hf_execv(const char *path, char *const argv[])
{
	EXEC(AT_FDCWD, path, environ, hf_real.execv(path, argv), hf_real.execve(path, argv, env));
}

int hf_execvp(const char *file, char *const argv[])
{
	char found[PATH_MAX];

	EXEC(AT_FDCWD, hf_exec_find(file, found, sizeof(found)), environ, hf_real.execvp(file, argv),
	     hf_real.execvpe(file, argv, env));
}

int hf_execvpe(const char *file, char *const argv[], char *const envp[])
{
	char found[PATH_MAX];

	EXEC(AT_FDCWD, hf_exec_find(file, found, sizeof(found)), envp, hf_real.execvpe(file, argv, envp),
	     hf_real.execvpe(file, argv, env));
}

int hf_fexecve(int fd, char *const argv[], char *const envp[])
{
	EXEC(fd, "", envp, hf_real.fexecve(fd, argv, envp), hf_real.fexecve(fd, argv, env));
}

int hf_execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	hf_real_ready();
	if (hf_real.execveat == NULL) {
		errno = ENOSYS;
		return -1;
	}
	EXEC(dir, path, envp, hf_real.execveat(dir, path, argv, envp, flags),
	     hf_real.execveat(dir, path, argv, env, flags));
}

/* Which descriptors go along is in the file actions, which only libc can read: the environment is repaired in any case,
 * and a program without the library is told of. */
static void spawning(const char *path)
{
	struct hf_event event;

	hf_exec_spawning();
	if (!any_wrapped() || !hf_wrap_any() || hf_exec_look(AT_FDCWD, path) == HF_TARGET_LOADS ||
	    !hf_report_wanted(HF_EV_CONFIG))
		return;
	hf_event_init(&event, HF_EV_CONFIG);
	event.detail = "a program is started that the library cannot be in: it cannot use a wrapped connection";
	hf_report(&event);
}

int hf_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		   const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawning(path);
	REPAIRED(envp, any_wrapped());
	return hf_real.posix_spawn(pid, path, actions, attr, argv, env);
}

int hf_posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
		    const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	char found[PATH_MAX];

	spawning(hf_exec_find(file, found, sizeof(found)));
	REPAIRED(envp, any_wrapped());
	return hf_real.posix_spawnp(pid, file, actions, attr, argv, env);
}

int hf_system(const char *command)
{
	hf_exec_spawning();
	return hf_real.system(command);
}

FILE *hf_popen(const char *command, const char *mode)
{
	hf_exec_spawning();
	return hf_real.popen(command, mode);
}
