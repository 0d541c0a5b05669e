/*
 * The exported names, each one line into the layer below.  Nothing else in the library is visible.
 */
#include "preload/real.h"

/*
 * The assembler name carries the export, so that libc's own declarations (variadic, fortified, nonnull, or absent
 * from the headers of this version) cannot disagree with the list.
 */
#define EXPORT __attribute__((visibility("default"), used))

#define X(ret, name, params, args)                         \
	EXPORT ret hf_export_##name params __asm__(#name); \
	ret hf_export_##name params                        \
	{                                                  \
		return hf_##name args;                     \
	}
HF_CALLS(X)
#undef X

#define V(ret, name, params, last, target, args)           \
	EXPORT ret hf_export_##name params __asm__(#name); \
	ret hf_export_##name params                        \
	{                                                  \
		va_list ap;                                \
		ret result;                                \
		va_start(ap, last);                        \
		result = hf_##target args;                 \
		va_end(ap);                                \
		return result;                             \
	}
HF_VARIADIC(V)
#undef V
