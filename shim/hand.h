/*
 * The program's descriptors in the watchdog's hand.
 *
 * In a process of one thread the kernel finds an open file without counting a reference (__fget_light(), Linux); a
 * second thread with the same table of descriptors ends that, for every call the program makes.  It costs a program of
 * one thread more than all else we do in probe mode (README, "Cost").  So the watchdog, once it has something to look
 * at, parts with the program's table: it has one of its own, with nothing in it, and takes what it looks at out of the
 * program's for the time of the look (pidfd_getfd(2)).  Nothing it opens is then among the program's.
 *
 * For that a kernel must let one thread be named (PIDFD_THREAD, Linux 6.9): the first thread of a process may end
 * before the others, and is then no way to their table.  Where it does not, and where the watchdog has to open and
 * close descriptors of the program's (wrap mode, redial), the table is shared.
 *
 * A function that hooks call as well takes the program's number and asks for a hand: in any other thread that is the
 * number itself.
 */
#ifndef HOLDFAST_HAND_H
#define HOLDFAST_HAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether this is the watchdog's thread and its table is its own. */
bool hf_hand_own(void);

/* A descriptor by which this thread reaches what the program has as FD, to be given back with hf_hand_drop(). -EBADF:
 * FD is not open; another -errno: it cannot be reached now. FD itself, unless hf_hand_own(). */
int hf_hand_take(int fd);
void hf_hand_drop(int hand);

/*
 * The watchdog's, while it shares the program's table: part with it, if the kernel lets us reach it without.  Not under
 * a seccomp filter, which was written for the program's calls, nor without /proc.  ASIDE runs a function on a thread
 * with a table of its own and nowhere else (watch/thread.h), where that is tried.  False: it is shared for good.
 */
bool hf_hand_part(bool (*aside)(void (*fn)(void *), void *arg));

/* A new watchdog, which shares the table: its stack is at FROM, of SIZE bytes.  0, 0: there is none any more. */
void hf_hand_begin(uintptr_t from, size_t size);

#endif
