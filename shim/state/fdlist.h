/*
 * The open descriptors of this process, from /proc/self/fd.  Raw system calls, no allocation, errno untouched.
 */
#ifndef HOLDFAST_STATE_FDLIST_H
#define HOLDFAST_STATE_FDLIST_H

#include <stdbool.h>

/* FN for each of the numbers that name an entry of the directory PATH (of /proc).  False: there is none. */
bool hf_each_number(const char *path, void (*fn)(int number, void *arg), void *arg);

/* FN for each of them but the one that reads the list; FN may open others.  False: there is no /proc. */
bool hf_each_fd(void (*fn)(int fd, void *arg), void *arg);

#endif
