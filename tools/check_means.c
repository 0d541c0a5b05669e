#include "check_means.h"

#include <string.h>

#define FINE(text)                  \
	{                           \
		HF_FINE, text, NULL \
	}
#define LIMITS(brief, text)            \
	{                              \
		HF_LIMITS, text, brief \
	}
#define UNSAFE(brief, text)            \
	{                              \
		HF_UNSAFE, text, brief \
	}
#define USELESS(brief, text)            \
	{                               \
		HF_USELESS, text, brief \
	}
#define BOTH(meaning) meaning, meaning

const struct hf_means hf_means[HF_FOUND_COUNT] = {
	[HF_FOUND_MACHINE] = {"machine", "made for another machine than the library",
			      BOTH(USELESS("made for another machine", "the library cannot be loaded into it"))},
	[HF_FOUND_STATIC] = {"static", "statically linked: no dynamic linker takes part",
			     BOTH(USELESS("static", "LD_PRELOAD is not looked at"))},
	[HF_FOUND_PRIVILEGED] = {"privileged",
				 "set-user-ID, set-group-ID or with file capabilities, and you are not that user",
				 BOTH(USELESS("privileged", "ld.so ignores the library in secure-execution mode"))},
	[HF_FOUND_SET_ID] = {"set-id", "set-user-ID, set-group-ID or with file capabilities",
			     BOTH(LIMITS("not for other users",
					 "loaded when you run it; ignored when another user does"))},
	[HF_FOUND_MUSL] = {"musl", "linked against musl",
			   BOTH(USELESS("musl", "the library needs glibc: with it the program would not start"))},
	[HF_FOUND_LOADER] = {"loader", "has a dynamic linker of its own",
			     BOTH(USELESS("unknown dynamic linker", "the library needs that of glibc"))},
	[HF_FOUND_GO] = {"go", "written in Go, which makes its system calls without libc",
			 BOTH(USELESS("Go", "loaded, but it sees none of the program's own calls"))},
	[HF_FOUND_IO_URING] =
		{"io_uring", "uses io_uring",
		 LIMITS("io_uring is seen in part",
			"connections only io_uring touches are unknown; others are ended with the kernel's error"),
		 UNSAFE("io_uring moves bytes past the library",
			"bytes moved by io_uring are not framed: the connection ends as corrupt")},
	[HF_FOUND_SECCOMP] = {"seccomp", "makes seccomp sandboxes",
			      BOTH(LIMITS(
				      "not inside a seccomp sandbox",
				      "connections are no longer watched once the filter is on; event config tells"))},
	[HF_FOUND_STDIO] = {"stdio", "uses stdio streams on sockets, likely",
			    LIMITS("stdio gets the kernel's error",
				   "calls on a dead connection wake in time, with the kernel's own error, once"),
			    FINE("streams on a wrapped connection pass through the library")},
	[HF_FOUND_EXEC] =
		{"exec", "executes other programs", FINE("they are watched too, unless they get a cleaned environment"),
		 FINE("connections handed over are taken up there, but not by static or set-user-ID programs")},
	[HF_FOUND_FORK] = {"fork", "forks", FINE("children are watched as well"),
			   FINE("several processes may use one connection; one of them sends the heartbeats")},
	[HF_FOUND_RAW_PROCESS] = {"raw-process", "makes processes by calls that do not go through fork()",
				  BOTH(FINE("children are found out at their first call on a connection"))},
	[HF_FOUND_STDIO_MAYBE] = {"stdio-maybe", "uses stdio and sockets, perhaps together",
				  FINE("if so: calls on a dead connection wake in time, with the kernel's own error"),
				  FINE("if so: streams on a wrapped connection pass through the library")},
	[HF_FOUND_INETD] =
		{"inetd", "asks for its peer without making connections: run by inetd or a tcpserver, perhaps",
		 FINE("an inherited connection is watched from the first call on it"),
		 FINE("an inherited connection is taken up if the program that hands it over has holdfast too")},
	[HF_FOUND_SYSCALL] =
		{"syscall", "makes system calls by number, through syscall()",
		 FINE("socket calls made so are followed; io_uring set up so is not, and cannot be told from here"),
		 FINE("socket calls made so are followed; io_uring set up so is not, and cannot be told from here")},
	[HF_FOUND_PRCTL] = {"prctl", "calls prctl(), which may turn on a seccomp sandbox",
			    BOTH(FINE("if so: connections are no longer watched from then on; event config tells"))},
	[HF_FOUND_SENDFILE] = {"sendfile", "uses sendfile() or splice()", FINE("nothing to heed"),
			       FINE("followed; each call moves what one frame takes")},
	[HF_FOUND_DLOPEN] = {"dlopen", "loads further libraries while it runs",
			     BOTH(FINE("they were not looked at; their calls are followed as all others"))},
	[HF_FOUND_MISSING] = {"missing", "needs a library that is not here", BOTH(FINE("it was not looked at"))},
	[HF_FOUND_TORN] = {"torn", "headers point outside the file",
			   BOTH(LIMITS("the file is damaged", "only a part of the file could be looked at"))},
	[HF_FOUND_NO_SOCKETS] =
		{"no-sockets", "makes no socket calls of its own",
		 BOTH(FINE("there is nothing to do unless it inherits connections or its children make them"))},
};

enum {
	NET = 1 << 0,     /* makes or takes connections */
	PEER = 1 << 1,    /* asks who the peer is */
	STREAM = 1 << 2,  /* makes a stream of a descriptor */
	PRINT = 1 << 3,   /* writes or reads streams */
	REPLACE = 1 << 4, /* can put a socket where a stream is */
	FORK = 1 << 5,
	PROCESS = 1 << 6,
	EXEC = 1 << 7,
	URING = 1 << 8,
	SANDBOX = 1 << 9,
	PRCTL = 1 << 10,
	NUMBER = 1 << 11,
	FILES = 1 << 12,
	LOADS = 1 << 13,
	DIRECT = 1 << 14, /* prints to a descriptor without a stream of its own */
	DATA = 1 << 15,   /* moves data by socket calls proper */
};

/* clang-format off */
static const struct name {
	const char *name;
	uint32_t groups;
} names[] = {
	{"socket", NET}, {"connect", NET}, {"accept", NET}, {"accept4", NET}, {"listen", NET}, {"bind", NET},
	{"send", DATA}, {"recv", DATA}, {"sendto", DATA}, {"recvfrom", DATA}, {"sendmsg", DATA}, {"recvmsg", DATA},
	{"__recv_chk", DATA}, {"__recvfrom_chk", DATA}, {"sendmmsg", DATA}, {"recvmmsg", DATA}, {"shutdown", DATA},
	{"getpeername", PEER},
	{"fdopen", STREAM}, {"fopencookie", STREAM},
	{"dprintf", DIRECT}, {"vdprintf", DIRECT}, {"__dprintf_chk", DIRECT}, {"__vdprintf_chk", DIRECT},
	{"printf", PRINT}, {"__printf_chk", PRINT}, {"vprintf", PRINT}, {"__vprintf_chk", PRINT}, {"puts", PRINT},
	{"putchar", PRINT}, {"fprintf", PRINT}, {"__fprintf_chk", PRINT}, {"vfprintf", PRINT},
	{"__vfprintf_chk", PRINT}, {"fputs", PRINT}, {"fwrite", PRINT}, {"fgets", PRINT}, {"__fgets_chk", PRINT},
	{"fread", PRINT}, {"getline", PRINT}, {"getchar", PRINT}, {"scanf", PRINT}, {"__isoc99_scanf", PRINT},
	{"dup2", REPLACE}, {"dup3", REPLACE}, {"freopen", REPLACE}, {"freopen64", REPLACE},
	{"fork", FORK}, {"_Fork", FORK}, {"daemon", FORK}, {"forkpty", FORK}, {"__libc_fork", FORK},
	{"clone", PROCESS}, {"__clone", PROCESS}, {"vfork", PROCESS}, {"__vfork", PROCESS},
	{"posix_spawn", PROCESS | EXEC}, {"posix_spawnp", PROCESS | EXEC}, {"system", PROCESS | EXEC},
	{"popen", PROCESS | EXEC},
	{"execve", EXEC}, {"execv", EXEC}, {"execvp", EXEC}, {"execvpe", EXEC}, {"execl", EXEC}, {"execlp", EXEC},
	{"execle", EXEC}, {"fexecve", EXEC}, {"execveat", EXEC},
	{"io_uring_queue_init", URING}, {"io_uring_queue_init_params", URING}, {"io_uring_setup", URING},
	{"io_uring_submit", URING}, {"io_uring_enter", URING}, {"liburing.so", URING},
	{"seccomp", SANDBOX}, {"seccomp_init", SANDBOX}, {"seccomp_load", SANDBOX}, {"libseccomp.so", SANDBOX},
	{"prctl", PRCTL},
	{"syscall", NUMBER},
	{"sendfile", FILES}, {"sendfile64", FILES}, {"splice", FILES},
	{"dlopen", LOADS}, {"dlmopen", LOADS},
};
/* clang-format on */

enum { NAMES = sizeof names / sizeof names[0] };
_Static_assert(NAMES <= HF_IMPORT_WORDS * 64, "a bit for each name");

static void note(struct hf_imports *imports, size_t i)
{
	imports->seen[i / 64] |= UINT64_C(1) << (i % 64);
	imports->groups |= names[i].groups;
}

void hf_imports_add(struct hf_imports *imports, const char *name)
{
	for (size_t i = 0; i < NAMES; i++) {
		if (strcmp(names[i].name, name) == 0)
			note(imports, i);
	}
}

void hf_imports_needs(struct hf_imports *imports, const char *library)
{
	for (size_t i = 0; i < NAMES; i++) {
		if (strchr(names[i].name, '.') && strncmp(library, names[i].name, strlen(names[i].name)) == 0)
			note(imports, i);
	}
}

bool hf_imports_sockets(const struct hf_imports *imports)
{
	return imports->groups & (NET | DATA | PEER);
}

/* The groups of names that make the finding, and what else has to be there. */
static uint32_t groups_of(enum hf_finding finding)
{
	switch (finding) {
	case HF_FOUND_IO_URING:
		return URING;
	case HF_FOUND_SECCOMP:
		return SANDBOX;
	case HF_FOUND_STDIO:
	case HF_FOUND_STDIO_MAYBE:
		return STREAM | DIRECT | REPLACE;
	case HF_FOUND_FORK:
		return FORK;
	case HF_FOUND_RAW_PROCESS:
		return PROCESS;
	case HF_FOUND_EXEC:
		return EXEC;
	case HF_FOUND_INETD:
		return PEER;
	case HF_FOUND_SYSCALL:
		return NUMBER;
	case HF_FOUND_PRCTL:
		return PRCTL;
	case HF_FOUND_SENDFILE:
		return FILES;
	case HF_FOUND_DLOPEN:
		return LOADS;
	default:
		return 0;
	}
}

/*
 * Streams: fdopen or dprintf in a program that has connections of its own is the old way of serving.  In a library it
 * mostly is for files (libcrypto has both), and so is dup2 beside printf: these only may be.
 */
static bool shows_stdio(uint32_t groups, bool is_library, bool maybe)
{
	bool net = groups & (NET | PEER);
	bool likely = net && !is_library && (groups & (STREAM | DIRECT));
	bool inetd = !is_library && (groups & PEER) && !(groups & NET) && (groups & PRINT);

	if (!maybe)
		return likely || inetd;
	if (likely || inetd)
		return false;
	return net && ((groups & DIRECT) || (is_library ? (groups & STREAM) : (groups & REPLACE) && (groups & PRINT)));
}

bool hf_imports_show(const struct hf_imports *imports, enum hf_finding finding, bool is_library)
{
	uint32_t groups = imports->groups;

	switch (finding) {
	case HF_FOUND_STDIO:
	case HF_FOUND_STDIO_MAYBE:
		return shows_stdio(groups, is_library, finding == HF_FOUND_STDIO_MAYBE);
	case HF_FOUND_INETD:
		return !is_library && (groups & PEER) && !(groups & NET);
	case HF_FOUND_PRCTL:
		return (groups & PRCTL) && !(groups & SANDBOX);
	default:
		return groups & groups_of(finding);
	}
}

const char *hf_imports_because(const struct hf_imports *imports, enum hf_finding finding, size_t n)
{
	uint32_t groups = groups_of(finding);

	for (size_t i = 0; i < NAMES; i++) {
		if ((names[i].groups & groups) && (imports->seen[i / 64] >> (i % 64) & 1) && n-- == 0)
			return names[i].name;
	}
	return NULL;
}
