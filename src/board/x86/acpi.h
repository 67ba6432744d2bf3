/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.h - the ACPI tables and the MP table of the x86 board
 */
#ifndef ORR_BOARD_X86_ACPI_H
#define ORR_BOARD_X86_ACPI_H

#include "base/buf.h"
#include "base/err.h"
#include "board/topology.h"
#include "mem/mem.h"

struct x86_tables_in {
	const struct topo *topo;	  /* validated; borrowed, as all here */
	const struct mem_region *regions; /* as x86_mem_layout made them */
	unsigned nregions;
	unsigned virtio_slots; /* slots with a device behind them, from slot 0; 0..32 */
	bool virtio_hidden;    /* in the MP table only: the command line names them */
};

/*
 * The tables as one image for guest-physical address @base: the RSDP, then XSDT, FADT, MADT,
 * SRAT, SLIT, HMAT (with several nodes only) and DSDT, each aligned to 16 bytes. Appends to @out,
 * which must be empty. 0, -EINVAL, -ENOMEM, or -ENOSPC if the image exceeds @max.
 */
int x86_acpi_build(const struct x86_tables_in *in, gpa_t base, size_t max, struct err *e,
		   struct buf *out);

/*
 * The MP floating pointer and configuration table (MultiProcessor Specification 1.4) for @base.
 * vCPUs with APIC ids above 254 have no place in it. Same contract as x86_acpi_build.
 */
int x86_mptable_build(const struct x86_tables_in *in, gpa_t base, size_t max, struct err *e,
		      struct buf *out);

/* Builds both and writes them to their fixed places below 1 MiB. */
int x86_tables_write(const struct x86_tables_in *in, struct mem *m, struct err *e);

#endif
