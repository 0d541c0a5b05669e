/*
 * What is agreed between the library's torture flavour (BUILD/torture: sys.h with HF_TORTURE defined) and the driver:
 * a file that both map, named by the environment variable HF_TORTURE.
 *
 * A site is a place in the library that makes a system call.  The library notes each it comes by and how often; the
 * driver says which site shall fail, at which of its hits and how.  Shared by all processes of a run; no lock: every
 * field is written by one side, or atomically.
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <stdatomic.h>
#include <stdint.h>

enum { TORTURE_SITES = 1024, TORTURE_SHORT = -1 };

struct torture_site {
	_Atomic uint32_t place; /* offset in the library; 0: free */
	_Atomic uint32_t nr;    /* the system call */
	_Atomic uint32_t hits;
};

struct torture {
	struct torture_site site[TORTURE_SITES];
	uint32_t place;    /* of the site that fails; 0: none */
	int32_t error;     /* the errno, or TORTURE_SHORT: a short count */
	uint32_t from, to; /* the hits that fail: [from, to) */
	_Atomic uint32_t failed;
};

#endif
