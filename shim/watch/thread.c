#include "watch/thread.h"
#include "hand.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* One mapping: a guard page, the stack, then room on both sides of the thread pointer (TLS lies below it on x86-64,
 * above it on aarch64).  Only touched pages become memory: two or three. */
enum {
	GUARD = 64 * 1024, /* the largest page of the architectures we know: a page is guarded as a whole */
	STACK = 64 * 1024,
	TLS_BELOW = 16 * 1024,
	TLS_ABOVE = 16 * 1024,
	WHOLE = GUARD + STACK + TLS_BELOW + TLS_ABOVE,
};

/* Of the watchdog and of the thread it sends aside; kept for the next start. */
static char *room, *aside_room;

/* Set by the kernel when the thread starts, cleared (and woken) when it ends: CLONE_CHILD_CLEARTID. */
static uint32_t tid_word, aside_word;
static int last_tid;

#if defined(__x86_64__)
static long clone_into(unsigned long flags, void *stack, uint32_t *tid, void *tls)
{
	long ret;
	register long r10 __asm__("r10") = (long)tid;
	register long r8 __asm__("r8") = (long)tls;

	/* The child finds the function on its stack; exit is system call 60. */
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "pop %%rax\n\t"
			 "pop %%rdi\n\t"
			 "call *%%rax\n\t"
			 "mov %%eax, %%edi\n\t"
			 "mov $60, %%eax\n\t"
			 "syscall\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(tid), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}
#elif defined(__aarch64__)
static long clone_into(unsigned long flags, void *stack, uint32_t *tid, void *tls)
{
	register long x8 __asm__("x8") = SYS_clone;
	register long x0 __asm__("x0") = (long)flags;
	register long x1 __asm__("x1") = (long)stack;
	register long x2 __asm__("x2") = (long)tid;
	register long x3 __asm__("x3") = (long)tls;
	register long x4 __asm__("x4") = (long)tid;

	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "ldp x1, x0, [sp], #16\n\t"
			 "blr x1\n\t"
			 "mov x8, #93\n\t"
			 "svc 0\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory", "cc", "x30");
	return x0;
}
#endif

static char *make_room(void)
{
	char *map =
		hf_sys_mmap(NULL, WHOLE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (hf_sys_failed(map))
		return NULL;
	hf_sys3(SYS_mprotect, map, GUARD, PROT_NONE);
	return map;
}

/* Start FN(ARG) in the room at *MAP; what it returns is its exit status. The thread's number or -errno. */
static long spawn(char **map, uint32_t *word, int (*fn)(void *), void *arg)
{
	const uint64_t all = ~UINT64_C(0);
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			      CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	uint64_t mask;
	uintptr_t tls;
	void **top;
	long tid;

	if (*map == NULL && (*map = make_room()) == NULL)
		return -ENOMEM;
	top = (void **)(void *)(*map + GUARD + STACK) - 2;
	top[0] = (void *)fn;
	top[1] = arg;
	tls = (uintptr_t)(*map + GUARD + STACK + TLS_BELOW);
	/* x86-64's thread control block begins with a pointer to itself, and has another at 16. */
	((uintptr_t *)tls)[0] = tls;
	((uintptr_t *)tls)[2] = tls;
	hf_sys_sigprocmask(SIG_SETMASK, &all, &mask);
	tid = clone_into(flags, top, word, (void *)tls);
	hf_sys_sigprocmask(SIG_SETMASK, &mask, NULL);
	return tid;
}

/* The kernel's wake-up is on a shared futex (set_tid_address(2)). */
static void wait_for(uint32_t *word)
{
	const struct timespec again = {0, 5000000};
	uint32_t tid;

	/* It wakes one waiter only; there may be several. */
	while ((tid = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != 0)
		hf_sys_futex(word, FUTEX_WAIT, tid, &again);
}

static int run(void *arg)
{
	static const char name[] = "holdfast";
	int (*body)(void) = (int (*)(void))arg;

	hf_hand_begin((uintptr_t)room + GUARD, STACK);
	hf_sys_prctl(PR_SET_NAME, (unsigned long)name, 0);
	return body();
}

int hf_thread_start(int (*body)(void))
{
	long tid = spawn(&room, &tid_word, run, (void *)body);

	if (tid < 0)
		return (int)tid;
	last_tid = (int)tid;
	return 0;
}

void hf_thread_join(void)
{
	const struct timespec moment = {0, 50000};
	int pid = hf_sys_getpid();

	wait_for(&tid_word);
	/* The word is cleared a little before the thread leaves its group, which unshare(2) looks at. */
	for (int i = 0; i < 20000 && last_tid != 0 && hf_sys_tgkill(pid, last_tid, 0) == 0; i++)
		hf_sys_nanosleep(&moment, NULL);
	last_tid = 0;
}

struct errand {
	void (*fn)(void *);
	void *arg;
	bool only_apart, apart;
};

static int go_aside(void *arg)
{
	struct errand *errand = arg;

	/* One step: a table of our own, and of the program's descriptors no more than 0 to 2 in it (close_range(2)). */
	errand->apart = hf_sys3(SYS_close_range, STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_UNSHARE) == 0;
	if (errand->apart || !errand->only_apart)
		errand->fn(errand->arg);
	return 0;
}

static bool send_aside(struct errand *errand)
{
	if (hf_sys_gettid() != last_tid || spawn(&aside_room, &aside_word, go_aside, errand) < 0)
		return false;
	wait_for(&aside_word);
	return true;
}

void hf_thread_aside(void (*fn)(void *), void *arg)
{
	struct errand errand = {.fn = fn, .arg = arg};

	if (hf_hand_own() || !send_aside(&errand))
		fn(arg);
}

bool hf_thread_apart(void (*fn)(void *), void *arg)
{
	struct errand errand = {.fn = fn, .arg = arg, .only_apart = true};

	return send_aside(&errand) && errand.apart;
}

void hf_thread_forget(void)
{
	hf_hand_begin(0, 0);
	__atomic_store_n(&tid_word, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&aside_word, 0, __ATOMIC_RELEASE);
	last_tid = 0;
}
