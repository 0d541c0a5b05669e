/*
 * Programs started from here: what becomes of the wrapped connections they inherit.
 *
 * A new image takes them up by itself (io/inherit.h) if the library is loaded into it and the arena is at hand.  So,
 * when wrapped connections go along: an environment that was cleaned gets back LD_PRELOAD and the settings; a program
 * into which the dynamic linker preloads nothing (static, set-user-ID) does not get the connections, and it is told.
 * Without wrapped connections a call goes through untouched.
 *
 * All of it may run in a vfork(2) child: nothing of the process's own state is written.
 */
#ifndef HOLDFAST_IO_EXEC_H
#define HOLDFAST_IO_EXEC_H

#include <stdbool.h>

/* Remember what a child's environment needs; at load, from the environment as it came. */
void hf_exec_remember(char **envp);

/* A program or child is about to be started that does not tell of itself at once. */
void hf_exec_spawning(void);

/* shim/io/exec_look.c */

enum hf_target {
	HF_TARGET_LOADS,   /* the dynamic linker will load us, as far as can be told */
	HF_TARGET_STATIC,  /* no dynamic linker */
	HF_TARGET_SECURE,  /* set-user-ID, set-group-ID or file capabilities: ld.so(8), secure-execution mode */
	HF_TARGET_FOREIGN, /* of another architecture */
};

/* What the program at PATH (relative to DIR, as openat(2); an open file's descriptor with an empty PATH) is; a script
 * is what its interpreter is.  When in doubt, HF_TARGET_LOADS. */
enum hf_target hf_exec_look(int dir, const char *path);

/* FILE as execvp(3) would find it, in OUT of ROOM bytes; OUT is FILE when it is not found. */
const char *hf_exec_find(const char *file, char *out, unsigned room);

#endif
