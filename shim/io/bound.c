#include "io/bound.h"
#include "runtime.h"
#include "sys.h"

#include <netinet/tcp.h>

/* How much later than the watchdog the kernel's own bound falls. */
enum { BACKSTOP_MS = 1000 };

void hf_bound(struct hf_slot *slot, int fd)
{
	uint32_t program = 0, lent = hf_runtime.policy.connect_timeout + BACKSTOP_MS;
	socklen_t len = sizeof(program);

	if (hf_sys_getsockopt(fd, SOL_TCP, TCP_USER_TIMEOUT, &program, &len) < 0)
		return;
	if (program != 0 && program <= lent)
		return; /* the program's own bound is stricter */
	atomic_store(&slot->program_user_timeout, program);
	if (hf_sys_setsockopt(fd, SOL_TCP, TCP_USER_TIMEOUT, &lent, sizeof(lent)) == 0)
		atomic_store(&slot->bounded, 1);
}

void hf_unbound(struct hf_slot *slot, int fd)
{
	uint32_t program;

	atomic_store(&slot->connecting, 0);
	if (atomic_exchange(&slot->bounded, 0) == 0)
		return;
	program = atomic_load(&slot->program_user_timeout);
	hf_sys_setsockopt(fd, SOL_TCP, TCP_USER_TIMEOUT, &program, sizeof(program));
}
