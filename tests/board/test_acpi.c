/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_acpi.c - every table of several machines, read back by a parser of our own and by iasl
 *
 * iasl (package acpica-tools) disassembles each table; any error or warning in what it prints, or
 * a field it marks as wrong, fails the test. Without iasl that part skips and says so.
 */
#include "board/x86/acpi.h"
#include "board/x86/cpuid.h"
#include "board/x86/layout.h"
#include "board/x86/memmap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct machine {
	const char *name, *topo;
	const char *node[5]; /* explicit nodes, NULL-terminated */
	const char *dist;
	u64 mem;
	unsigned slots;
};

static const struct machine machines[] = {
	{ "one", "1n1l1c1t", { NULL }, NULL, 64ull << 20, 0 },
	{ "four", "1n2l2c1t", { NULL }, NULL, 512ull << 20, 5 },
	{ "sixteen", "numa2-4llc", { NULL }, "10,17/17,10", 8ull << 30, 32 },
	{ "max", "max-cpu", { NULL }, NULL, 4ull << 30, 32 },
	{ "nodes32", "32n32l7c1t", { NULL }, NULL, 16ull << 30, 32 },
	{ "memonly",
	  "1n3l2c2t",
	  { "llcs=1,mem=2G", "llcs=2,mem=2G,lat=90,bw=200000,cache=1G:1:1:64", "mem=512M",
	    "mem=256M,lat=400,bw=9000" },
	  "10,20,17,28/20,10,17,28/17,17,10,28/28,28,28,10",
	  4864ull << 20,
	  3 },
};

struct built {
	struct topo t;
	struct mem_region r[MEM_REGIONS_MAX];
	struct x86_tables_in in;
	struct buf acpi;
};

static void build(const struct machine *m, struct built *b)
{
	struct err e = { 0 };

	memset(b, 0, sizeof(*b));
	assert_int_equal(topo_parse(m->topo, &e, &b->t), 0);
	for (unsigned i = 0; m->node[i]; i++)
		assert_int_equal(topo_add_node(&b->t, m->node[i], &e), 0);
	if (m->dist)
		assert_int_equal(topo_set_dist(&b->t, m->dist, &e), 0);
	if (topo_validate(&b->t, m->mem, &e) < 0)
		fail_msg("%s: %s", m->name, e.msg);
	b->in = (struct x86_tables_in){ .topo = &b->t, .regions = b->r, .virtio_slots = m->slots };
	assert_int_equal(x86_mem_layout(&b->t, m->mem, &e, b->r, &b->in.nregions), 0);
	assert_int_equal(
		x86_acpi_build(&b->in, X86_ACPI_BASE, X86_ACPI_END - X86_ACPI_BASE, &e, &b->acpi),
		0);
}

static u64 le(const u8 *p, unsigned n)
{
	u64 v = 0;

	memcpy(&v, p, n);
	return v;
}

static u8 sum(const u8 *p, size_t n)
{
	u8 s = 0;

	while (n--)
		s = (u8)(s + *p++);
	return s;
}

/* The table at guest address @gpa after checking its bounds and checksum. */
static const u8 *table_at(const struct built *b, u64 gpa, u32 *ret_len)
{
	const u8 *p;

	assert_true(gpa >= X86_ACPI_BASE && gpa - X86_ACPI_BASE + 36 <= b->acpi.len);
	assert_int_equal(gpa % 16, 0);
	p = b->acpi.data + (gpa - X86_ACPI_BASE);
	*ret_len = (u32)le(p + 4, 4);
	assert_true(gpa - X86_ACPI_BASE + *ret_len <= b->acpi.len);
	assert_int_equal(sum(p, *ret_len), 0);
	return p;
}

/* Finds a table by following RSDP and XSDT as a guest does; DSDT through the FADT. */
static const u8 *find(const struct built *b, const char *sig, u32 *ret_len)
{
	const u8 *rsdp = b->acpi.data, *xsdt, *t;
	u32 len;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(rsdp[15], 2);
	xsdt = table_at(b, le(rsdp + 24, 8), &len);
	assert_memory_equal(xsdt, "XSDT", 4);
	for (u32 i = 36; i < len; i += 8) {
		t = table_at(b, le(xsdt + i, 8), ret_len);
		if (memcmp(t, sig, 4) == 0)
			return t;
		if (memcmp(t, "FACP", 4) == 0 && strcmp(sig, "DSDT") == 0) {
			assert_int_equal(le(t + 40, 4), le(t + 140, 8));
			return table_at(b, le(t + 140, 8), ret_len);
		}
	}
	return NULL;
}

static void check_madt(const struct built *b)
{
	u32 len, cpus = 0;
	const u8 *p = find(b, "APIC", &len);

	assert_non_null(p);
	assert_int_equal(le(p + 36, 4), X86_LAPIC_BASE);
	for (u32 i = 44; i < len; i += p[i + 1]) {
		u32 id, want;

		assert_true(p[i + 1] >= 6);
		if (p[i] == 1) {
			assert_int_equal(le(p + i + 4, 4), X86_IOAPIC_BASE);
			assert_int_equal(le(p + i + 8, 4), 0);
		}
		if (p[i] != 0 && p[i] != 9)
			continue;
		want = x86_apic_id(&b->t, cpus);
		id = p[i] ? (u32)le(p + i + 4, 4) : p[i + 3];
		assert_int_equal(id, want);
		assert_int_equal(p[i] == 9, want >= 255);
		assert_int_equal(p[i] ? le(p + i + 12, 4) : p[i + 2], cpus);
		cpus++;
	}
	assert_int_equal(cpus, topo_cpus(&b->t));
}

static void check_srat(const struct built *b)
{
	u32 len, cpus = 0, regions = 0;
	const u8 *p = find(b, "SRAT", &len);

	assert_non_null(p);
	for (u32 i = 48; i < len; i += p[i + 1]) {
		if (p[i] == 2) {
			struct topo_place pl;

			topo_place(&b->t, cpus, &pl);
			assert_int_equal(le(p + i + 4, 4), pl.node);
			assert_int_equal(le(p + i + 8, 4), x86_apic_id(&b->t, cpus));
			cpus++;
		} else {
			const struct mem_region *r = &b->r[regions++];

			assert_int_equal(p[i], 1);
			assert_int_equal(le(p + i + 2, 4), r->node);
			assert_int_equal(le(p + i + 8, 8), r->base);
			assert_int_equal(le(p + i + 16, 8), r->size);
			assert_int_equal(le(p + i + 28, 4), 1);
		}
	}
	assert_int_equal(cpus, topo_cpus(&b->t));
	assert_int_equal(regions, b->in.nregions);
}

static void check_fadt(const struct built *b)
{
	u32 len;
	const u8 *p = find(b, "FACP", &len);

	assert_non_null(p);
	assert_int_equal(len, 276);
	assert_int_equal(p[8], 6);
	assert_int_equal(le(p + 109, 2), 4);	       /* IAPC_BOOT_ARCH: no 8042, no VGA */
	assert_int_equal(le(p + 112, 4) >> 20 & 1, 1); /* hardware reduced */
	assert_int_equal(le(p + 112, 4) >> 10 & 1, 1); /* reset register */
	assert_int_equal(le(p + 116 + 4, 8), X86_RESET_PORT);
	assert_int_equal(p[128], X86_RESET_VALUE);
	assert_int_equal(le(p + 244 + 4, 8), X86_SLEEP_CONTROL_PORT);
	assert_int_equal(le(p + 256 + 4, 8), X86_SLEEP_STATUS_PORT);
}

static void check_locality(const struct built *b)
{
	u32 len, n = b->t.nodes;
	const u8 *p = find(b, "SLIT", &len);

	assert_non_null(p);
	assert_int_equal(le(p + 36, 8), n);
	for (u32 i = 0; i < n * n; i++)
		assert_int_equal(p[44 + i], topo_dist(&b->t, i / n, i % n));
	p = find(b, "HMAT", &len);
	assert_int_equal(p != NULL, n > 1);
	for (u32 i = 40; p && i < len; i += (u32)le(p + i + 4, 4)) {
		assert_true(le(p + i, 2) <= 2);
		assert_true(le(p + i + 4, 4) >= 32);
		assert_true(i + le(p + i + 4, 4) <= len);
	}
}

static void structure(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(machines); i++) {
		struct built b;
		u32 len;

		build(&machines[i], &b);
		check_fadt(&b);
		check_madt(&b);
		check_srat(&b);
		check_locality(&b);
		assert_non_null(find(&b, "DSDT", &len));
		buf_fini(&b.acpi);
	}
}

/* What the HMAT says of latency and bandwidth from node @init to node @target. */
static void hmat_get(const struct built *b, u32 init, u32 target, u64 *ret_ps, u64 *ret_mbs)
{
	u32 len;
	const u8 *p = find(b, "HMAT", &len);

	assert_non_null(p);
	for (u32 i = 40; i < len; i += (u32)le(p + i + 4, 4)) {
		const u8 *s = p + i;
		u32 ni = (u32)le(s + 12, 4), nt = (u32)le(s + 16, 4), row = ni;
		u64 v;

		if (le(s, 2) != 1)
			continue;
		for (u32 k = 0; k < ni; k++)
			if (le(s + 32 + 4 * k, 4) == init)
				row = k;
		assert_true(row < ni);
		v = le(s + 32 + 4 * (ni + nt) + 2 * (row * nt + target), 2) * le(s + 24, 8);
		*(s[9] == 3 ? ret_mbs : ret_ps) = v;
	}
}

static void hmat_figures(void **state)
{
	struct built b;
	u64 ps = 0, mbs = 0;

	build(&machines[2], &b);
	hmat_get(&b, 0, 0, &ps, &mbs);
	assert_int_equal(ps, 100000);
	assert_int_equal(mbs, 51200);
	hmat_get(&b, 0, 1, &ps, &mbs);
	assert_int_equal(ps, 170000);
	assert_int_equal(mbs, 51200 * 10 / 17);
	buf_fini(&b.acpi);

	build(&machines[5], &b);
	hmat_get(&b, 1, 1, &ps, &mbs);
	assert_int_equal(ps, 90000);
	assert_in_range(mbs, 199990, 200000); /* rounded down to the table's unit */
	hmat_get(&b, 0, 2, &ps, &mbs);
	assert_int_equal(ps, 510000); /* 300 ns at distance 17 */
	hmat_get(&b, 0, 3, &ps, &mbs);
	assert_int_equal(ps, 400000); /* as given, from the nearest CPUs */
	assert_in_range(mbs, 8990, 9000);
	buf_fini(&b.acpi);
}

static void too_small_a_place(void **state)
{
	struct built b;
	struct buf out = { 0 };
	struct err e;

	build(&machines[3], &b);
	assert_int_equal(x86_acpi_build(&b.in, X86_ACPI_BASE, b.acpi.len - 1, &e, &out), -ENOSPC);
	buf_fini(&out);
	memset(&out, 0, sizeof(out));
	b.in.virtio_slots = X86_VIRTIO_SLOTS + 1;
	assert_int_equal(x86_acpi_build(&b.in, X86_ACPI_BASE, 1 << 20, &e, &out), -EINVAL);
	buf_fini(&out);
	buf_fini(&b.acpi);
}

/* Devices that the command line names are in no ACPI table, or they would be found twice. */
static void hidden_devices(void **state)
{
	struct built b;
	struct buf out = { 0 };
	struct err e;

	build(&machines[3], &b);
	assert_true(b.in.virtio_slots > 0);
	assert_non_null(memmem(b.acpi.data, b.acpi.len, "LNRO0005", 8));
	b.in.virtio_hidden = true;
	assert_int_equal(x86_acpi_build(&b.in, X86_ACPI_BASE, 1 << 20, &e, &out), 0);
	assert_null(memmem(out.data, out.len, "LNRO0005", 8));
	buf_fini(&out);
	buf_fini(&b.acpi);
}

static void mp_table(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(machines); i++) {
		struct built b;
		struct buf mp = { 0 };
		struct err e;
		u32 cpus = 0, want = 0, entries = 0;
		const u8 *p;
		u16 len;

		build(&machines[i], &b);
		assert_int_equal(x86_mptable_build(&b.in, X86_MPTABLE_BASE,
						   X86_MPTABLE_END - X86_MPTABLE_BASE, &e, &mp),
				 0);
		assert_memory_equal(mp.data, "_MP_", 4);
		assert_int_equal(sum(mp.data, 16), 0);
		assert_int_equal(le(mp.data + 4, 4), X86_MPTABLE_BASE + 16);
		p = mp.data + 16;
		len = (u16)le(p + 4, 2);
		assert_int_equal(len + 16, mp.len);
		assert_int_equal(sum(p, len), 0);
		for (u32 at = 44; at < len; at += p[at] == 0 ? 20 : 8, entries++)
			cpus += p[at] == 0;
		assert_int_equal(entries, le(p + 34, 2));
		for (u32 c = 0; c < topo_cpus(&b.t); c++)
			want += x86_apic_id(&b.t, c) < 255;
		assert_int_equal(cpus, want);
		buf_fini(&mp);
		buf_fini(&b.acpi);
	}
}

/* --- iasl ------------------------------------------------------------------------------------- */

/* Runs iasl in @dir; fails the test on any complaint. */
static void disassemble(const char *dir, const char *file)
{
	char cmd[512], line[512];
	FILE *f;
	int rc;

	snprintf(cmd, sizeof(cmd), "cd %s && iasl -d %s.aml 2>&1", dir, file);
	f = popen(cmd, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strcasestr(line, "error") || strcasestr(line, "warning") ||
		    strcasestr(line, "invalid"))
			fail_msg("iasl on %s: %s", file, line);
	rc = pclose(f);
	assert_int_equal(rc, 0);
	snprintf(cmd, sizeof(cmd), "%s/%s.dsl", dir, file);
	f = fopen(cmd, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strcasestr(line, "error") || strcasestr(line, "incorrect") ||
		    strcasestr(line, "invalid") || strcasestr(line, "unknown"))
			fail_msg("%s.dsl: %s", file, line);
	fclose(f);
}

/* Compiles the DSDT's source again: what was encoded is legal ASL, with the same code. */
static void recompile(const char *dir, const char *file)
{
	char cmd[512], line[512];
	FILE *f;

	snprintf(cmd, sizeof(cmd), "cd %s && iasl -oa -p again-%s %s.dsl 2>&1", dir, file, file);
	f = popen(cmd, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "Compilation") && !strstr(line, " 0 Errors, 0 Warnings"))
			fail_msg("iasl compiles %s: %s", file, line);
	assert_int_equal(pclose(f), 0);
	snprintf(cmd, sizeof(cmd),
		 "cd %s && tail -c +37 %s.aml >x && tail -c +37 again-%s.aml | cmp - x", dir, file,
		 file);
	assert_int_equal(system(cmd), 0);
}

static void write_table(const char *dir, const char *name, const u8 *p, u32 len)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.aml", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void iasl_reads_all(void **state)
{
	static const char *const sigs[] = { "FACP", "APIC", "SRAT", "SLIT", "HMAT", "DSDT" };
	char dir[] = "/tmp/orr-acpi-XXXXXX", cmd[64];

	if (system("iasl -v >/dev/null 2>&1") != 0) {
		print_message("skip: iasl is not installed (package acpica-tools)\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (unsigned i = 0; i < ARRAY_LEN(machines); i++) {
		struct built b;

		build(&machines[i], &b);
		for (unsigned k = 0; k < ARRAY_LEN(sigs); k++) {
			char name[32];
			u32 len;
			const u8 *p = find(&b, sigs[k], &len);

			if (!p)
				continue; /* HMAT of one node */
			snprintf(name, sizeof(name), "%s-%s", machines[i].name, sigs[k]);
			write_table(dir, name, p, len);
			disassemble(dir, name);
			if (k == ARRAY_LEN(sigs) - 1)
				recompile(dir, name);
		}
		buf_fini(&b.acpi);
	}
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(structure),	     cmocka_unit_test(hmat_figures),
		cmocka_unit_test(too_small_a_place), cmocka_unit_test(hidden_devices),
		cmocka_unit_test(mp_table),	     cmocka_unit_test(iasl_reads_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
