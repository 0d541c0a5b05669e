/*
 * Between the files of stdio; nobody else's business.
 */
#ifndef HOLDFAST_IO_STDIO_INNER_H
#define HOLDFAST_IO_STDIO_INNER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

/*
 * The C library's own functions that are used here and not interposed; NULL if it lacks them, or as long as nothing has
 * been wrapped.  Written once by hf_stdio_arm().  They are called only from inside calls of the program's to stdio.
 */
extern struct hf_libc {
	ssize_t (*read)(FILE *stream, void *buf, ssize_t size); /* what the tables held */
	ssize_t (*write)(FILE *stream, const void *data, ssize_t size);
	FILE **streams;
	int (*fflush)(FILE *stream);
	int (*fflush_unlocked)(FILE *stream);
	void (*purge)(FILE *stream);
	int (*trylock)(FILE *stream);
	void (*unlock)(FILE *stream);
	int (*format)(char *buf, size_t size, const char *format, va_list ap);
	int (*format_chk)(char *buf, size_t size, int flag, size_t room, const char *format, va_list ap);
	const char *(*version)(void);
} hf_libc;

/* Whether FD is a wrapped connection. errno is preserved. */
bool hf_stdio_wrapped(int fd);

#endif
