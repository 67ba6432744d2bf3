/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mptable.c - the MP table, for guests that do not read ACPI
 *
 * MultiProcessor Specification 1.4, chapter 4: a floating pointer at the start of the 64 KiB that
 * are searched for it, the configuration table behind it. Entries are sorted by type. ISA
 * interrupts are wired to the pins of their number; the virtio slots appear as further sources of
 * the same bus, level-triggered and active high.
 */
#include "board/x86/acpi.h"

#include "board/x86/cpuid.h"
#include "board/x86/layout.h"

#include <errno.h>
#include <string.h>

#define POINTER_LEN 16u
#define HEADER_LEN 44u
#define ISA_IRQS 16u
#define CPU_FEATURES 0x0781ffffu /* CPUID leaf 1 EDX of any x86-64, informative */
#define CPU_SIGNATURE 0x6a5u

static int put_le(struct buf *b, u64 v, unsigned n)
{
	return buf_add(b, &v, n);
}

static u8 checksum(const u8 *p, size_t n)
{
	u8 sum = 0;

	while (n--)
		sum = (u8)(sum + *p++);
	return (u8)-sum;
}

/* Entry type 0: the first vCPU is the bootstrap processor. */
static int put_cpu(struct buf *b, u8 id, bool bsp)
{
	const u8 head[4] = { 0, id, 0x14 /* integrated APIC */, (u8)(bsp ? 3 : 1) };
	int rc = buf_add(b, head, sizeof(head));

	if (rc == 0)
		rc = put_le(b, CPU_SIGNATURE, 4);
	if (rc == 0)
		rc = put_le(b, CPU_FEATURES, 4);
	return rc == 0 ? buf_add(b, NULL, 8) : rc;
}

/* Types 3 (I/O APIC) and 4 (local APIC). @kind: 0 INT, 1 NMI, 3 ExtINT. */
static int put_int(struct buf *b, u8 type, u8 kind, u16 flags, u8 irq, u8 dest, u8 pin)
{
	const u8 ent[8] = { type, kind, (u8)flags, (u8)(flags >> 8), 0, irq, dest, pin };

	return buf_add(b, ent, sizeof(ent));
}

static int put_entries(const struct x86_tables_in *in, struct buf *b, u16 *ret_n)
{
	static const u8 bus[8] = { 1, 0, 'I', 'S', 'A', ' ', ' ', ' ' };
	const u8 ioapic[4] = { 2, X86_IOAPIC_ID, 0x20, 1 /* enabled */ };
	u16 n = 0;
	int rc = 0;

	for (u32 cpu = 0; rc == 0 && cpu < topo_cpus(in->topo); cpu++) {
		u32 id = x86_apic_id(in->topo, cpu);

		if (id >= 255)
			break;
		rc = put_cpu(b, (u8)id, cpu == 0);
		n++;
	}
	if (rc == 0)
		rc = buf_add(b, bus, sizeof(bus));
	if (rc == 0)
		rc = buf_add(b, ioapic, sizeof(ioapic));
	if (rc == 0)
		rc = put_le(b, X86_IOAPIC_BASE, 4);
	n = (u16)(n + 2);
	for (u8 i = 0; rc == 0 && i < ISA_IRQS; i++, n++)
		rc = put_int(b, 3, 0, 0, i, X86_IOAPIC_ID, i);
	for (u8 i = 0; rc == 0 && i < in->virtio_slots; i++, n++) {
		u8 pin = (u8)(X86_VIRTIO_GSI + i);

		rc = put_int(b, 3, 0, 1 | 3 << 2, pin, X86_IOAPIC_ID, pin);
	}
	if (rc == 0)
		rc = put_int(b, 4, 1, 0, 0, 0xff, 1);
	*ret_n = (u16)(n + 1);
	return rc;
}

int x86_mptable_build(const struct x86_tables_in *in, gpa_t base, size_t max, struct err *e,
		      struct buf *out)
{
	u16 n = 0, len;
	u32 conf = (u32)base + POINTER_LEN, lapic = (u32)X86_LAPIC_BASE;
	int rc;
	u8 *p;

	if (out->len || in->virtio_slots > X86_VIRTIO_SLOTS)
		return err_set(e, -EINVAL, "MP table: at most %u virtio slots and an empty buffer",
			       X86_VIRTIO_SLOTS);
	rc = buf_add(out, NULL, POINTER_LEN + HEADER_LEN);
	if (rc == 0)
		rc = put_entries(in, out, &n);
	if (rc < 0)
		return err_sys(e, rc, "MP table");
	if (out->len > max || out->len - POINTER_LEN > UINT16_MAX)
		return err_set(e, -ENOSPC, "the MP table has %zu bytes, there is room for %zu",
			       out->len, max);
	len = (u16)(out->len - POINTER_LEN);

	p = out->data;
	memcpy(p, "_MP_", 4);
	memcpy(p + 4, &conf, 4);
	p[8] = 1; /* length in paragraphs */
	p[9] = 4; /* revision 1.4 */
	p[10] = checksum(p, POINTER_LEN);

	p += POINTER_LEN;
	memcpy(p, "PCMP", 4);
	memcpy(p + 4, &len, 2);
	p[6] = 4;
	memcpy(p + 8, "ORRERY  ", 8);
	memcpy(p + 16, "ORRERY BOARD", 12);
	memcpy(p + 34, &n, 2);
	memcpy(p + 36, &lapic, 4);
	p[7] = checksum(p, len);
	return 0;
}
