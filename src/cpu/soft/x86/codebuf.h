/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codebuf.h - memory for generated code, never writable and executable at the same address
 *
 * The same pages are mapped twice: once read-write for the generator, once read-execute for the
 * CPU. Pages cost nothing until code is put in them. What was put there is never overwritten: room
 * for other code comes with other pages. So it may be shared with a child process, see
 * codebuf_fork_child.
 */
#ifndef ORR_CPU_SOFT_X86_CODEBUF_H
#define ORR_CPU_SOFT_X86_CODEBUF_H

#include "base/compiler.h"

struct codebuf {
	u8 *rx;	    /* what is executed; NULL while not initialized */
	u8 *rw;	    /* the same pages; NULL once sealed */
	size_t cap; /* bytes that can be used, a multiple of the page size */
	size_t len; /* bytes in use */
	size_t map; /* bytes mapped */
};

/* @cap bytes of address space at most. 0, -ENOMEM, or -EPERM if the host forbids such memory. */
int codebuf_init(struct codebuf *cb, size_t cap);
void codebuf_fini(struct codebuf *cb);

/*
 * Copies @n bytes of position-independent code behind what is there, on a boundary of @align (a
 * power of two). 0 and its executable address, or -ENOMEM if the buffer is full or sealed.
 */
int codebuf_add(struct codebuf *cb, const void *code, size_t n, size_t align,
		const u8 **ret_code) attr_nodiscard;

/* Nothing more will be added: the writable view goes. */
void codebuf_seal(struct codebuf *cb);

/*
 * Forgets all code behind @keep bytes; what comes next goes to new pages. The caller knows that none
 * of what is forgotten will run again. If there is no memory nothing can be added until the next time.
 */
void codebuf_truncate(struct codebuf *cb, size_t keep);

/*
 * To be called in a child process before it adds anything: the code that is there stays shared with
 * the parent, what comes next goes to pages of the child's own. 0, or -ENOMEM: then nothing can be
 * added.
 */
int codebuf_fork_child(struct codebuf *cb);

#endif
