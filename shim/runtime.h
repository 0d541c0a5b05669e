/*
 * What the library knows of the process it is in: whether it acts, the settings, the program's name.
 *
 * Written by the constructor (preload/boot.c) before any other thread exists; read-only afterwards, except `on`,
 * which goes from true to false, once, when the process sandboxes itself.
 */
#ifndef HOLDFAST_RUNTIME_H
#define HOLDFAST_RUNTIME_H

#include "config.h"
#include "core/hello.h"
#include "core/judge.h"

#include <stdatomic.h>
#include <stdbool.h>

struct hf_runtime {
	_Atomic bool on;   /* false: every call goes straight through */
	bool note_order;   /* the reply timeout needs to know which call moved bytes last */
	char prog[64];     /* name under which the program was started, for events and HOLDFAST_PROGRAMS */
	struct hf_key key; /* HOLDFAST_KEY_FILE as read at load; size 0: none */
	struct hf_config config;
	struct hf_policy policy;
};

extern struct hf_runtime hf_runtime;

#define hf_likely(x)   __builtin_expect(!!(x), 1)
#define hf_unlikely(x) __builtin_expect(!!(x), 0)

static inline bool hf_on(void)
{
	return atomic_load_explicit(&hf_runtime.on, memory_order_relaxed);
}

#endif
