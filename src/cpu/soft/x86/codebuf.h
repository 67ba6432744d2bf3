/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codebuf.h - memory for generated code, never writable and executable at the same address
 *
 * The same pages are mapped twice: once read-write for the generator, once read-execute for the
 * CPU. Pages cost nothing until code is put in them.
 */
#ifndef ORR_CPU_SOFT_X86_CODEBUF_H
#define ORR_CPU_SOFT_X86_CODEBUF_H

#include "base/compiler.h"

struct codebuf {
	u8 *rw, *rx; /* two views of the same pages; NULL while not initialized */
	size_t cap;  /* bytes, a multiple of the page size */
	size_t len;  /* bytes in use */
};

/* @cap bytes of address space at most. 0, -ENOMEM, or -EPERM if the host forbids such memory. */
int codebuf_init(struct codebuf *cb, size_t cap);
void codebuf_fini(struct codebuf *cb);

/*
 * Copies @n bytes of position-independent code behind what is there, on a boundary of @align (a
 * power of two). 0 and its executable address, or -ENOMEM if the buffer is full.
 */
int codebuf_add(struct codebuf *cb, const void *code, size_t n, size_t align,
		const u8 **ret_code) attr_nodiscard;

/* Forgets all code behind @keep bytes. The caller knows that none of it will run again. */
void codebuf_truncate(struct codebuf *cb, size_t keep);

#endif
