/* What every subcommand says on standard error. */
#include "command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void hf_tell(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("holdfast: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args); /* NOLINT(clang-analyzer-valist.Uninitialized): false when cross-checked */
	va_end(args);
	fputc('\n', stderr);
}

bool hf_flushed(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return true;
	hf_tell("standard output: %s", strerror(errno));
	return false;
}
