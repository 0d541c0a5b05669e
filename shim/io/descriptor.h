/*
 * Closing a descriptor by other calls than close(2).
 *
 * Async-signal-safe; errno is that of the call.
 */
#ifndef HOLDFAST_IO_DESCRIPTOR_H
#define HOLDFAST_IO_DESCRIPTOR_H

#include "state/fdmap.h"

/* As close(2), but no cancellation point: fclose(3) is none while it closes. */
int hf_close_quietly(int fd);

/* What is known of a descriptor between the two calls below. */
struct hf_parting {
	hf_fd_entry entry, mark;
	int kept;
};

/* FD is about to be closed or replaced by a call that will not fail: last words are said, the entry is busy. errno is
 * preserved. */
void hf_part(int fd, struct hf_parting *parting);

/* It has been: the map knows nothing of the number any more, the connection is let go of. errno is preserved. */
void hf_parted(int fd, const struct hf_parting *parting);

#endif
