/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.c - the ACPI tables of the x86 board
 *
 * How it works
 * The machine is "hardware-reduced" (ACPI 6.3, 4.1): no PM timer, no SCI, no fixed power button;
 * sleep and reset are one-byte port registers. That fits a board without a chipset, and it makes
 * Linux skip the 8259, the 8254 and the search for them. FADT says further that there is no 8042
 * (Linux then does not probe for a keyboard; the reset pulse through port 0x64 works all the same)
 * and no VGA.
 *
 * All tables are one image: the RSDP first, so that it is found at its fixed address, then each
 * table at a multiple of 16. A table's length and checksum are filled in when it ends; the XSDT
 * comes last, because it holds the addresses of the others.
 *
 * The DSDT describes what the guest cannot find by itself: UARTs, RTC, the power button and
 * virtio-mmio slots.
 * Processors come from the MADT alone; device objects for them would only be interpreted to say
 * that there are no P-, C- or T-states. Field layouts: ACPI 6.3, chapter 5.2; DSDT: acpi_dsdt().
 */
#include "board/x86/acpi.h"

#include "board/x86/aml.h"
#include "board/x86/cpuid.h"
#include "board/x86/layout.h"

#include <errno.h>
#include <string.h>

#define HEADER_LEN 36u
#define RSDP_LEN 36u
#define TABLES_MAX 8u

/* HMAT figures where a node says nothing (reference platform: local DRAM and a CXL expander). */
#define DRAM_LAT_NS 100u
#define DRAM_BW_MBS 51200u
#define CXL_LAT_NS 300u
#define CXL_BW_MBS 20480u

struct image {
	const struct x86_tables_in *in;
	struct buf *out;
	gpa_t base;
	gpa_t table[TABLES_MAX]; /* what the XSDT lists */
	unsigned ntables;
	int rc; /* first failure; later calls do nothing */
};

static void put(struct image *im, const void *p, size_t n)
{
	if (im->rc == 0)
		im->rc = buf_add(im->out, p, n);
}

/* Little-endian, as every host this runs on. */
static void put_le(struct image *im, u64 v, unsigned n)
{
	put(im, &v, n);
}

static u8 checksum(const u8 *p, size_t n)
{
	u8 sum = 0;

	while (n--)
		sum = (u8)(sum + *p++);
	return (u8)-sum;
}

/* Starts a table with the common header (5.2.6). Returns its offset. */
static size_t table_begin(struct image *im, const char *sig, u8 rev)
{
	size_t at;

	if (im->rc == 0)
		im->rc = buf_pad(im->out, 16);
	at = im->out->len;
	put(im, sig, 4);
	put_le(im, 0, 4); /* length, in table_end */
	put_le(im, rev, 1);
	put_le(im, 0, 1); /* checksum, in table_end */
	put(im, "ORRERY", 6);
	put(im, "ORRBOARD", 8);
	put_le(im, 1, 4);
	put(im, "ORRY", 4);
	put_le(im, 1, 4);
	return at;
}

static gpa_t table_end(struct image *im, size_t at, bool listed)
{
	u32 len;

	if (im->rc)
		return 0;
	len = (u32)(im->out->len - at);
	memcpy(im->out->data + at + 4, &len, 4);
	im->out->data[at + 9] = checksum(im->out->data + at, len);
	if (listed) {
		BUG_IF(im->ntables == TABLES_MAX);
		im->table[im->ntables++] = im->base + at;
	}
	return im->base + at;
}

/* --- DSDT ------------------------------------------------------------------------------------ */

static void dsdt_isa(struct aml *a, const char *name, const char *hid, unsigned uid, u16 port,
		     u8 len, u32 gsi)
{
	size_t dev = aml_device_begin(a, name), crs;

	aml_name_eisaid(a, "_HID", hid);
	aml_name_int(a, "_UID", uid);
	crs = aml_crs_begin(a);
	aml_res_io(a, port, len);
	aml_res_irq(a, gsi, false);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

static void dsdt_virtio(struct aml *a, unsigned slot)
{
	static const char hex[] = "0123456789ABCDEF";
	const char name[] = { 'V', 'I', hex[slot / 16], hex[slot % 16], '\0' };
	size_t dev = aml_device_begin(a, name), crs;

	aml_name_string(a, "_HID", "LNRO0005");
	aml_name_int(a, "_UID", slot);
	/* DMA is coherent; virtio-mmio's driver for ACPI asks on every architecture. */
	aml_name_int(a, "_CCA", 1);
	crs = aml_crs_begin(a);
	aml_res_mem32(a, (u32)(X86_VIRTIO_BASE + slot * X86_VIRTIO_STRIDE), (u32)X86_VIRTIO_LEN);
	aml_res_irq(a, X86_VIRTIO_GSI + slot, true);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

/*
 * The power button, a control method one (4.8.3.2), and the device that tells of it: on a
 * hardware-reduced machine events come through a generic event device (5.6.9), here by one edge.
 */
static void dsdt_button(struct aml *a)
{
	enum { POWER_BUTTON_PRESSED = 0x80 }; /* 5.6.6: notification values of the device */
	size_t dev = aml_device_begin(a, "PWRB"), in;

	aml_name_eisaid(a, "_HID", "PNP0C0C");
	aml_end(a, dev);
	dev = aml_device_begin(a, "GED");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_name_int(a, "_UID", 0);
	in = aml_crs_begin(a);
	aml_res_irq(a, X86_BUTTON_GSI, false);
	aml_crs_end(a, in);
	in = aml_method_begin(a, "_EVT", 1);
	aml_notify(a, "\\_SB.PWRB", POWER_BUTTON_PRESSED);
	aml_end(a, in);
	aml_end(a, dev);
}

static gpa_t acpi_dsdt(struct image *im)
{
	static const u64 s5[] = { X86_S5_SLP_TYP, 0, 0, 0 };
	size_t at = table_begin(im, "DSDT", 2), sb;
	struct aml a = { .out = im->out, .rc = im->rc };

	aml_name_package(&a, "\\_S5", s5, ARRAY_LEN(s5));
	sb = aml_scope_begin(&a, "\\_SB");
	dsdt_isa(&a, "COM1", "PNP0501", 1, X86_COM1_PORT, X86_COM_PORTS, X86_COM1_GSI);
	dsdt_isa(&a, "COM2", "PNP0501", 2, X86_COM2_PORT, X86_COM_PORTS, X86_COM2_GSI);
	dsdt_isa(&a, "RTC", "PNP0B00", 0, X86_CMOS_PORT, X86_CMOS_PORTS, X86_CMOS_GSI);
	dsdt_button(&a);
	for (unsigned i = 0; !im->in->virtio_hidden && i < im->in->virtio_slots; i++)
		dsdt_virtio(&a, i);
	aml_end(&a, sb);
	im->rc = a.rc;
	return table_end(im, at, false);
}

/* --- FADT (5.2.9) -------------------------------------------------------------------------- */

static void put_gas_port(struct image *im, u16 port)
{
	put_le(im, 1, 1); /* system I/O */
	put_le(im, 8, 1); /* bits */
	put_le(im, 0, 1);
	put_le(im, 1, 1); /* byte access */
	put_le(im, port, 8);
}

static void acpi_fadt(struct image *im, gpa_t dsdt)
{
	enum {
		WBINVD = 1,
		PROC_C1 = 4,
		PWR_BUTTON = 0x10,
		SLP_BUTTON = 0x20,
		RESET_REG = 0x400,
		HW_REDUCED = 0x100000
	};
	enum { VGA_ABSENT = 4 }; /* 8042 and legacy devices absent: bits clear; CMOS RTC present */
	size_t at = table_begin(im, "FACP", 6);

	put_le(im, 0, 4); /* FIRMWARE_CTRL: hardware-reduced machines may lack a FACS */
	put_le(im, dsdt, 4);
	put(im, NULL, 109 - 44); /* fixed hardware, all absent */
	put_le(im, VGA_ABSENT, 2);
	put_le(im, 0, 1);
	/* Buttons "not fixed": the power button is a device of the namespace; no sleep button. */
	put_le(im, WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | RESET_REG | HW_REDUCED, 4);
	put_gas_port(im, X86_RESET_PORT);
	put_le(im, X86_RESET_VALUE, 1);
	put_le(im, 0, 2); /* ARM boot flags */
	put_le(im, 3, 1); /* minor version: 6.3 */
	put_le(im, 0, 8); /* X_FIRMWARE_CTRL */
	put_le(im, dsdt, 8);
	put(im, NULL, 244 - 148); /* extended addresses of the absent fixed hardware */
	put_gas_port(im, X86_SLEEP_CONTROL_PORT);
	put_gas_port(im, X86_SLEEP_STATUS_PORT);
	put(im, "ORRERY\0", 8); /* hypervisor vendor identity */
	table_end(im, at, true);
}

/* --- MADT (5.2.12) -------------------------------------------------------------------------- */

static void acpi_madt(struct image *im)
{
	const struct topo *t = im->in->topo;
	size_t at = table_begin(im, "APIC", 5);
	bool x2apic = false;

	put_le(im, X86_LAPIC_BASE, 4);
	put_le(im, 0, 4); /* no 8259s */
	for (u32 cpu = 0; cpu < topo_cpus(t); cpu++) {
		u32 id = x86_apic_id(t, cpu);

		if (id < 255) { /* local APIC; 255 is the broadcast id */
			put_le(im, 0 | 8 << 8, 2);
			put_le(im, cpu, 1);
			put_le(im, id, 1);
			put_le(im, 1, 4); /* enabled */
		} else {
			put_le(im, 9 | 16 << 8, 2);
			put_le(im, 0, 2);
			put_le(im, id, 4);
			put_le(im, 1, 4);
			put_le(im, cpu, 4);
			x2apic = true;
		}
	}
	put_le(im, 1 | 12 << 8, 2); /* I/O APIC */
	put_le(im, X86_IOAPIC_ID, 1);
	put_le(im, 0, 1);
	put_le(im, X86_IOAPIC_BASE, 4);
	put_le(im, 0, 4); /* GSI base */
	/* NMI is LINT1 of every local APIC, polarity and trigger as the bus has them. */
	put_le(im, 4 | 6 << 8, 2);
	put_le(im, 0xff, 1);
	put_le(im, 0, 2);
	put_le(im, 1, 1);
	if (x2apic) {
		put_le(im, 0xa | 12 << 8, 2);
		put_le(im, 0, 2);
		put_le(im, 0xffffffff, 4);
		put_le(im, 1, 4);
	}
	table_end(im, at, true);
}

/* --- SRAT (5.2.16), SLIT (5.2.17) ---------------------------------------------------------- */

static void acpi_srat(struct image *im)
{
	const struct topo *t = im->in->topo;
	size_t at = table_begin(im, "SRAT", 3);

	put_le(im, 1, 4); /* reserved, 1 for compatibility */
	put_le(im, 0, 8);
	for (u32 cpu = 0; cpu < topo_cpus(t); cpu++) {
		struct topo_place p;

		topo_place(t, cpu, &p);
		put_le(im, 2 | 24 << 8, 2); /* x2APIC affinity; ids below 255 are legal in it */
		put_le(im, 0, 2);
		put_le(im, p.node, 4);
		put_le(im, x86_apic_id(t, cpu), 4);
		put_le(im, 1, 4);
		put_le(im, 0, 4); /* clock domain */
		put_le(im, 0, 4);
	}
	for (unsigned i = 0; i < im->in->nregions; i++) {
		const struct mem_region *r = &im->in->regions[i];

		put_le(im, 1 | 40 << 8, 2);
		put_le(im, r->node, 4);
		put_le(im, 0, 2);
		put_le(im, r->base, 8);
		put_le(im, r->size, 8);
		put_le(im, 0, 4);
		put_le(im, 1, 4); /* enabled */
		put_le(im, 0, 8);
	}
	table_end(im, at, true);
}

static void acpi_slit(struct image *im)
{
	const struct topo *t = im->in->topo;
	size_t at = table_begin(im, "SLIT", 1);

	put_le(im, t->nodes, 8);
	for (u32 i = 0; i < t->nodes; i++)
		for (u32 j = 0; j < t->nodes; j++)
			put_le(im, topo_dist(t, i, j), 1);
	table_end(im, at, true);
}

/* --- HMAT (5.2.27), revision 2 ------------------------------------------------------------- */

/* Distance from @target to the nearest node with CPUs. */
static u32 nearest(const struct topo *t, u32 target)
{
	u32 best = UINT32_MAX;

	for (u32 i = 0; i < t->nodes; i++)
		if (topo_node_llcs(t, i))
			best = MIN(best, topo_dist(t, i, target));
	return best;
}

/*
 * What @init sees of @target's memory. The defaults are figures for distance 10 and scale with
 * the distance; a figure the user gave is what the nearest CPUs see.
 */
static u64 hmat_value(const struct topo *t, u32 init, u32 target, bool bandwidth)
{
	const struct topo_node *n = t->nexplicit ? &t->node[target] : NULL;
	bool dram = topo_node_llcs(t, target) != 0;
	u64 d = topo_dist(t, init, target), ref = TOPO_DIST_LOCAL, v;

	v = !n ? 0 : bandwidth ? n->bw_mbs : n->lat_ns;
	if (v)
		ref = nearest(t, target);
	else if (bandwidth)
		v = dram ? DRAM_BW_MBS : CXL_BW_MBS;
	else
		v = dram ? DRAM_LAT_NS : CXL_LAT_NS;
	return MAX(bandwidth ? v * ref / d : v * d / ref, (u64)1);
}

/* System locality latency and bandwidth information (5.2.27.4): CPU nodes by all nodes. */
static void hmat_sllbi(struct image *im, bool bandwidth)
{
	const struct topo *t = im->in->topo;
	u32 ninit = 0;
	u64 max = 1, unit;

	for (u32 i = 0; i < t->nodes; i++) {
		if (!topo_node_llcs(t, i))
			continue;
		ninit++;
		for (u32 j = 0; j < t->nodes; j++)
			max = MAX(max, hmat_value(t, i, j, bandwidth));
	}
	/* Entries have 16 bits, 0xffff means unreachable: coarser units for larger values. */
	unit = (max + 0xfffd) / 0xfffe;
	put_le(im, 1, 2);
	put_le(im, 0, 2);
	put_le(im, 32 + 4 * ninit + 4 * t->nodes + 2 * ninit * t->nodes, 4);
	put_le(im, 0, 1);		  /* memory, not a memory-side cache */
	put_le(im, bandwidth ? 3 : 0, 1); /* access bandwidth / access latency */
	put_le(im, 0, 2);
	put_le(im, ninit, 4);
	put_le(im, t->nodes, 4);
	put_le(im, 0, 4);
	put_le(im, bandwidth ? unit : unit * 1000, 8); /* MB/s, or picoseconds */
	for (u32 i = 0; i < t->nodes; i++)
		if (topo_node_llcs(t, i))
			put_le(im, i, 4);
	for (u32 j = 0; j < t->nodes; j++)
		put_le(im, j, 4);
	for (u32 i = 0; i < t->nodes; i++)
		for (u32 j = 0; topo_node_llcs(t, i) && j < t->nodes; j++)
			put_le(im, MAX(hmat_value(t, i, j, bandwidth) / unit, (u64)1), 2);
}

/* Memory-side cache (5.2.27.5): one level, its attributes in one word. */
static void hmat_msci(struct image *im, u32 node, const struct topo_side_cache *c)
{
	put_le(im, 2, 2);
	put_le(im, 0, 2);
	put_le(im, 32, 4);
	put_le(im, node, 4);
	put_le(im, 0, 4);
	put_le(im, c->size, 8);
	put_le(im, 1 | 1 << 4 | (u32)c->assoc << 8 | (u32)c->policy << 12 | (u32)c->line << 16, 4);
	put_le(im, 0, 2);
	put_le(im, 0, 2); /* SMBIOS handles */
}

static void acpi_hmat(struct image *im)
{
	const struct topo *t = im->in->topo;
	size_t at = table_begin(im, "HMAT", 2);

	put_le(im, 0, 4);
	for (u32 i = 0; i < t->nodes; i++) {
		/* Proximity domain attributes: a node with CPUs is its memory's initiator. For
		 * memory-only ones the guest is to work out the nearest from the figures. */
		bool cpus = topo_node_llcs(t, i) != 0;

		put_le(im, 0, 2);
		put_le(im, 0, 2);
		put_le(im, 40, 4);
		put_le(im, cpus, 2);
		put_le(im, 0, 2);
		put_le(im, cpus ? i : 0, 4);
		put_le(im, i, 4);
		put(im, NULL, 20);
	}
	hmat_sllbi(im, false);
	hmat_sllbi(im, true);
	for (u32 i = 0; i < t->nexplicit; i++)
		if (t->node[i].cache.size)
			hmat_msci(im, i, &t->node[i].cache);
	table_end(im, at, true);
}

/* --- the whole ------------------------------------------------------------------------------- */

static void acpi_root(struct image *im)
{
	size_t at = table_begin(im, "XSDT", 1);
	gpa_t xsdt;
	u8 *p;

	for (unsigned i = 0; i < im->ntables; i++)
		put_le(im, im->table[i], 8);
	xsdt = table_end(im, at, false);
	if (im->rc)
		return;
	/* RSDP (5.2.5.3). No RSDT: revision 2 makes it optional. */
	p = im->out->data;
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "ORRERY", 6);
	p[15] = 2;
	p[20] = RSDP_LEN;
	memcpy(p + 24, &xsdt, 8);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, RSDP_LEN);
}

int x86_acpi_build(const struct x86_tables_in *in, gpa_t base, size_t max, struct err *e,
		   struct buf *out)
{
	struct image im = { .in = in, .out = out, .base = base };

	if (out->len || in->virtio_slots > X86_VIRTIO_SLOTS || base % 16)
		return err_set(e, -EINVAL,
			       "ACPI: at most %u virtio slots, an aligned base and an empty "
			       "buffer",
			       X86_VIRTIO_SLOTS);
	put(&im, NULL, RSDP_LEN);
	acpi_fadt(&im, acpi_dsdt(&im));
	acpi_madt(&im);
	acpi_srat(&im);
	acpi_slit(&im);
	if (in->topo->nodes > 1)
		acpi_hmat(&im);
	acpi_root(&im);
	if (im.rc)
		return err_sys(e, im.rc, "ACPI tables");
	if (out->len > max)
		return err_set(e, -ENOSPC, "the ACPI tables have %zu bytes, there is room for %zu",
			       out->len, max);
	return 0;
}

static int write_one(struct mem *m, gpa_t at, struct buf *b, struct err *e)
{
	int rc = mem_write(m, at, b->data, b->len);

	buf_fini(b);
	return rc < 0 ? err_set(e, rc, "no RAM for tables at 0x%llx", (unsigned long long)at) : 0;
}

int x86_tables_write(const struct x86_tables_in *in, struct mem *m, struct err *e)
{
	struct buf acpi = { 0 }, mp = { 0 };
	int rc = x86_acpi_build(in, X86_ACPI_BASE, X86_ACPI_END - X86_ACPI_BASE, e, &acpi);

	if (rc == 0)
		rc = x86_mptable_build(in, X86_MPTABLE_BASE, X86_MPTABLE_END - X86_MPTABLE_BASE, e,
				       &mp);
	if (rc < 0) {
		buf_fini(&acpi);
		buf_fini(&mp);
		return rc;
	}
	rc = write_one(m, X86_ACPI_BASE, &acpi, e);
	if (rc < 0) {
		buf_fini(&mp);
		return rc;
	}
	return write_one(m, X86_MPTABLE_BASE, &mp, e);
}
