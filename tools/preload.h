/*
 * Where libholdfast.so is, and the LD_PRELOAD that names it.  Called by "holdfast run".  All functions tell what is
 * wrong on standard error (hf_tell) and return false then.
 */
#ifndef HOLDFAST_PRELOAD_H
#define HOLDFAST_PRELOAD_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Find the library into PATH, SIZE bytes, absolute: GIVEN (from --library) if not NULL, else beside the tool, in
 * ../lib and ../lib/MULTIARCH relative to it and "holdfast" below these, and in the directory it was configured with
 * (HF_LIBDIR).
 */
bool hf_preload_find(const char *given, char *path, size_t size);

/*
 * The new value of LD_PRELOAD: OLD (NULL: unset) with LIBRARY at its end, unless it is in there already.  At the end,
 * because ASan insists on coming first.  The caller frees *VALUE.
 */
bool hf_preload_append(const char *old, const char *library, char **value);

#endif
