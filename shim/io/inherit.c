#include "io/inherit.h"
#include "io/adopt.h"
#include "io/gate.h"
#include "io/wrap_inner.h"
#include "state/family.h"
#include "state/fdlist.h"

struct found {
	int count;
};

static void look_at(int fd, void *arg)
{
	struct found *found = arg;

	if (hf_wrap_marked(fd) && hf_adopt_unknown(fd, HF_FD_UNKNOWN) != NULL)
		found->count++;
}

bool hf_inherit(void)
{
	enum { LOW = 256 };
	struct found found = {0};

	/* Without /proc the low numbers must do; others are met when they are first used. */
	if (!hf_each_fd(look_at, &found))
		for (int fd = 0; fd < LOW; fd++)
			look_at(fd, &found);
	/* What the image before us held and did not pass on it has closed. */
	hf_family_succeed();
	return found.count > 0;
}
