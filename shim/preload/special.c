/*
 * Exported names that a line of the list cannot make: variadic ones, whose arguments are on the stack, and vfork(2),
 * which returns twice into its caller and therefore must be entered by a jump.
 */
#include "io/exec.h"
#include "preload/real.h"
#include "state/proc.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default"), used))

enum { MOST_ARGS = 65536 };

/* The arguments as an array on the stack, as libc itself does it (execl(3)); then RUN with argv and the list's rest. */
#define WITH_ARGS(first, run)                                               \
	do {                                                                \
		va_list list;                                               \
		size_t n = 1;                                               \
		va_start(list, first);                                      \
		while (n < MOST_ARGS && va_arg(list, const char *) != NULL) \
			n++;                                                \
		va_end(list);                                               \
		if (n == MOST_ARGS) {                                       \
			errno = E2BIG;                                      \
			return -1;                                          \
		}                                                           \
		{                                                           \
			char *argv[n + 1];                                  \
			argv[0] = (char *)(uintptr_t)(first);               \
			va_start(list, first);                              \
			for (size_t i = 1; i <= n; i++)                     \
				argv[i] = va_arg(list, char *);             \
			result = run;                                       \
			va_end(list);                                       \
		}                                                           \
	} while (0)

EXPORT int hf_export_execl(const char *path, const char *arg, ...) __asm__("execl");
int hf_export_execl(const char *path, const char *arg, ...)
{
	int result;

	WITH_ARGS(arg, hf_execv(path, argv));
	return result;
}

EXPORT int hf_export_execlp(const char *file, const char *arg, ...) __asm__("execlp");
int hf_export_execlp(const char *file, const char *arg, ...)
{
	int result;

	WITH_ARGS(arg, hf_execvp(file, argv));
	return result;
}

EXPORT int hf_export_execle(const char *path, const char *arg, ...) __asm__("execle");
int hf_export_execle(const char *path, const char *arg, ...)
{
	int result;

	WITH_ARGS(arg, hf_execve(path, argv, va_arg(list, char *const *)));
	return result;
}

/* Called by the code below: count it, say that a child will have our memory, and where to go. */
__attribute__((used, visibility("hidden"))) void *hf_before_vfork(void)
{
	hf_exec_spawning();
	hf_proc_lend();
	return (void *)hf_real.vfork;
}

__attribute__((used, visibility("hidden"))) void *hf_before_clone(void)
{
	hf_exec_spawning();
	hf_proc_lend();
	return (void *)hf_real.clone;
}

/* Neither may have a frame of ours beneath it: the child goes on in it, and the parent would come back to what is left
 * of it (vfork); or its arguments are not known to be complete (clone(2) has three that may be left out). */
#if defined(__x86_64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	".cfi_startproc\n"
	"	endbr64\n"
	"	sub $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call hf_before_vfork\n"
	"	add $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	jmp *%rax\n"
	".cfi_endproc\n"
	".size vfork, . - vfork\n"
	".globl clone\n"
	".type clone, @function\n"
	".globl __clone\n"
	".set __clone, clone\n"
	"clone:\n"
	".cfi_startproc\n"
	"	endbr64\n"
	"	sub $56, %rsp\n"
	"	.cfi_adjust_cfa_offset 56\n"
	"	mov %rdi, (%rsp)\n"
	"	mov %rsi, 8(%rsp)\n"
	"	mov %rdx, 16(%rsp)\n"
	"	mov %rcx, 24(%rsp)\n"
	"	mov %r8, 32(%rsp)\n"
	"	mov %r9, 40(%rsp)\n"
	"	call hf_before_clone\n"
	"	mov (%rsp), %rdi\n"
	"	mov 8(%rsp), %rsi\n"
	"	mov 16(%rsp), %rdx\n"
	"	mov 24(%rsp), %rcx\n"
	"	mov 32(%rsp), %r8\n"
	"	mov 40(%rsp), %r9\n"
	"	add $56, %rsp\n"
	"	.cfi_adjust_cfa_offset -56\n"
	"	jmp *%rax\n"
	".cfi_endproc\n"
	".size clone, . - clone\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, %function\n"
	"vfork:\n"
	".cfi_startproc\n"
	"	hint #34\n" /* bti c */
	"	stp x29, x30, [sp, #-16]!\n"
	"	.cfi_adjust_cfa_offset 16\n"
	"	bl hf_before_vfork\n"
	"	ldp x29, x30, [sp], #16\n"
	"	.cfi_adjust_cfa_offset -16\n"
	"	mov x16, x0\n"
	"	br x16\n"
	".cfi_endproc\n"
	".size vfork, . - vfork\n"
	".globl clone\n"
	".type clone, %function\n"
	".globl __clone\n"
	".set __clone, clone\n"
	"clone:\n"
	".cfi_startproc\n"
	"	hint #34\n"
	"	stp x29, x30, [sp, #-80]!\n"
	"	.cfi_adjust_cfa_offset 80\n"
	"	stp x0, x1, [sp, #16]\n"
	"	stp x2, x3, [sp, #32]\n"
	"	stp x4, x5, [sp, #48]\n"
	"	stp x6, x7, [sp, #64]\n"
	"	bl hf_before_clone\n"
	"	mov x16, x0\n"
	"	ldp x0, x1, [sp, #16]\n"
	"	ldp x2, x3, [sp, #32]\n"
	"	ldp x4, x5, [sp, #48]\n"
	"	ldp x6, x7, [sp, #64]\n"
	"	ldp x29, x30, [sp], #80\n"
	"	.cfi_adjust_cfa_offset -80\n"
	"	br x16\n"
	".cfi_endproc\n"
	".size clone, . - clone\n");
#endif
