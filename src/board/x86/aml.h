/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml.h - a small encoder of ACPI machine language
 *
 * Enough of ACPI 6.3, chapter 20, to describe fixed devices. Errors stick: after -ENOMEM or
 * -EINVAL every call does nothing, and the caller looks at aml.rc once.
 */
#ifndef ORR_BOARD_X86_AML_H
#define ORR_BOARD_X86_AML_H

#include "base/buf.h"

struct aml {
	struct buf *out; /* borrowed; the code is appended */
	int rc;		 /* 0 or the first failure */
};

/*
 * A block whose length is written in front of it when it ends. Blocks nest, inner ones end first.
 * Each _begin returns the mark for its _end.
 */
size_t aml_scope_begin(struct aml *a, const char *path); /* "\\_SB" or "\\_SB.NAME" */
size_t aml_device_begin(struct aml *a, const char *name);
size_t aml_method_begin(struct aml *a, const char *name, unsigned args);
void aml_end(struct aml *a, size_t mark);
/* Name(_CRS, ResourceTemplate() { ... }) */
size_t aml_crs_begin(struct aml *a);
void aml_crs_end(struct aml *a, size_t mark);

/* Name(@name, value). Names have four characters; a shorter one is padded with '_'. */
void aml_name_int(struct aml *a, const char *name, u64 v);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_name_eisaid(struct aml *a, const char *name, const char *id); /* "PNP0501" */
/* Name(@name, Package() { v[0], ... }) of at most 16 integers. */
void aml_name_package(struct aml *a, const char *name, const u64 *v, unsigned n);

/* Notify(@path, @value), in a method. */
void aml_notify(struct aml *a, const char *path, u8 value);

/* Resource descriptors (ACPI 6.3, 6.4), only inside _CRS. */
void aml_res_io(struct aml *a, u16 base, u8 len);
void aml_res_mem32(struct aml *a, u32 base, u32 len);
void aml_res_irq(struct aml *a, u32 gsi, bool level); /* active high, exclusive */

#endif
