/*
 * The program enters a sandbox: prctl(2) and seccomp(2) by whichever door.
 */
#ifndef HOLDFAST_IO_PROCESS_H
#define HOLDFAST_IO_PROCESS_H

#include <stdbool.h>

/* Before the call: the library stands aside. False: it was not acting, nothing was done. errno may change. */
bool hf_sandbox_enter(void);

/* The call failed after all: back to work. Only after hf_sandbox_enter() returned true. */
void hf_sandbox_failed(void);

#endif
