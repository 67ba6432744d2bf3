/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prepare.h - from what the user asked for to what a machine is built from
 */
#ifndef ORR_VM_PREPARE_H
#define ORR_VM_PREPARE_H

#include "base/buf.h"
#include "image/initramfs.h"
#include "image/kcache.h"
#include "vm/io.h"
#include "vm/run.h"

struct perf;

/* Filled by prepare(); freed by prepare_fini, also when half done. */
struct prepared {
	struct kcache_kernel file;
	struct kernel_image *kernel;
	bool linux_guest; /* else a bare-metal image */
	bool shell;	  /* the composed initramfs ends in a shell on the console */
	struct topo topo;
	enum input_kind input;
	struct buf initrd; /* empty while it is put away */
	size_t initrd_len;
	int initrd_fd; /* a file that holds it; -1: none */
	bool no_shelf; /* there is no place for such a file: not to be tried inside the sandbox */
	struct initramfs_sizes sizes; /* of a composed one, else zero */
	struct buf cmdline;	      /* with NUL */
	u64 mem;
	bool kvm; /* else the built-in CPU */
	bool real_clock;
	u64 seed;
	s64 rtc_base;
	struct perf *perf; /* where on the host it runs; NULL: anywhere */
};

#define PREPARED_EMPTY                                                                             \
	{                                                                                          \
		.initrd_fd = -1                                                                    \
	}

/*
 * Everything but the machine. @p is PREPARED_EMPTY. 0, or an error with message; -ECANCELED: cfg.cancel,
 * between two steps, or while another program is waited for.
 */
int prepare(const struct vm_cfg *cfg, struct err *e, struct prepared *p);
/*
 * Once a machine has been built, kernel and initrd are only needed for another one, after a reset:
 * tens of MiB that are not kept in memory meanwhile. Where a file cannot be had they stay.
 */
void prepare_put_away(struct prepared *p);
int prepare_take_out(struct prepared *p, struct err *e);
void prepare_fini(struct prepared *p);
bool prepare_cancelled(const struct vm_cfg *cfg);

#endif
