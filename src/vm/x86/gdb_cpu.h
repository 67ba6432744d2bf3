/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb_cpu.h - an x86-64 vCPU as GDB knows it: registers by number, their description, linear addresses
 */
#ifndef ORR_VM_X86_GDB_CPU_H
#define ORR_VM_X86_GDB_CPU_H

#include "base/compiler.h"
#include "base/buf.h"
#include "mem/mem.h"

struct x86_cpu;

/* Bytes of register @reg, in GDB's order; 0: there is none. */
unsigned gdb_reg_size(const struct x86_cpu *c, unsigned reg);
/* Little-endian, gdb_reg_size bytes. */
void gdb_reg_get(const struct x86_cpu *c, unsigned reg, u8 *ret);
/* Whether the state has changed. What the CPU model does not have is left as it is. */
bool gdb_reg_set(struct x86_cpu *c, unsigned reg, const u8 *val);
/* Registers that every stop reports, ended by ~0u. */
extern const unsigned gdb_expedite[];
/* Appends the description (GDB's manual, appendix G) of a vCPU like @c. 0 or -ENOMEM. */
int gdb_describe_regs(const struct x86_cpu *c, struct buf *out);
/* What it is doing, in a few words. */
void gdb_describe_cpu(const struct x86_cpu *c, char *ret, size_t size);
/*
 * The guest-physical address of linear address @a, as the supervisor sees it. Leaves accessed and dirty bits as they
 * are. -EFAULT: nothing is mapped there.
 */
int gdb_translate(const struct x86_cpu *c, struct mem *mem, u64 a, gpa_t *ret);

#endif
