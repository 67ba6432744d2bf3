/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cpuid.c - CPU models: features, control bits, and a topology that a guest can work out
 */
#include "board/x86/cpuid.h"
#include "board/x86/layout.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct x86_cpuid_entry *get(const struct x86_cpuid_entry *e, unsigned n, u32 leaf,
					 u32 sub)
{
	for (unsigned i = 0; i < n; i++)
		if (e[i].leaf == leaf && (!e[i].indexed || e[i].subleaf == sub))
			return &e[i];
	return NULL;
}

static void models(void **state)
{
	enum x86_model m = X86_MODEL_V1;
	struct err e;

	assert_int_equal(x86_model_parse(NULL, &e, &m), 0);
	assert_int_equal(m, X86_MODEL_V2);
	assert_int_equal(x86_model_parse("x86-64-v1", &e, &m), 0);
	assert_int_equal(m, X86_MODEL_V1);
	assert_int_equal(x86_model_parse("v2", &e, &m), 0);
	assert_int_equal(m, X86_MODEL_V2);
	assert_int_equal(x86_model_parse("x86-64-v3", &e, &m), 0);
	assert_int_equal(m, X86_MODEL_V3);
	assert_int_equal(x86_model_parse("v2", &e, &m), 0);
	assert_int_equal(x86_model_parse("host", &e, &m), -ENOTSUP);
	assert_int_equal(x86_model_parse("486", &e, &m), -EINVAL);
	assert_int_equal(x86_model_parse("x86-64-", &e, &m), -EINVAL);
	assert_int_equal(m, X86_MODEL_V2);
}

/* The levels of the x86-64 psABI, and that nothing is promised that no control bit enables. */
static void features(void **state)
{
	struct x86_cpuid_entry e[X86_CPUID_ENTRIES_MAX];
	const u32 v2_ecx = 1u | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23;
	const u32 v3_ecx = 1u << 12 | 1u << 22 | 1u << 28 | 1u << 29; /* FMA, MOVBE, AVX, F16C */
	const u32 v3_ebx7 = 1u << 3 | 1u << 5 | 1u << 8;	      /* BMI1, AVX2, BMI2 */
	struct topo t;
	struct err err;

	assert_int_equal(topo_from_cpus(1, &err, &t), 0);
	for (int m = 0; m < X86_MODELS; m++) {
		unsigned n = x86_cpuid_build((enum x86_model)m, &t, 0, e);
		const struct x86_model_info *info = x86_model_get((enum x86_model)m);
		u32 ecx = get(e, n, 1, 0)->ecx, edx = get(e, n, 1, 0)->edx;
		u32 ebx7 = get(e, n, 7, 0)->ebx;

		assert_int_equal(ecx & v2_ecx, m >= X86_MODEL_V2 ? v2_ecx : 0);
		assert_int_equal(get(e, n, 0x80000001, 0)->ecx & 1, m >= X86_MODEL_V2);
		assert_int_equal(ecx & v3_ecx, m >= X86_MODEL_V3 ? v3_ecx : 0);
		assert_int_equal(ebx7 & v3_ebx7, m >= X86_MODEL_V3 ? v3_ebx7 : 0);
		assert_int_equal(get(e, n, 0x80000001, 0)->ecx >> 5 & 1, m >= X86_MODEL_V3);
		/* AES, MONITOR, PCLMUL, VMX; AVX-512: none. */
		assert_int_equal(ecx & (1u << 25 | 1u << 3 | 1u << 1 | 1u << 5), 0);
		assert_int_equal(ebx7 & 1u << 16, 0);
		/* XSAVE: what XCR0 may hold is what leaf 0xD describes. */
		if (info->cr4_allowed & CR4_OSXSAVE) {
			assert_int_equal(get(e, n, 0xd, 0)->eax, info->xcr0_allowed);
			assert_int_equal(get(e, n, 0xd, 0)->ecx,
					 info->xcr0_allowed & XCR0_AVX ? 832 : 576);
		}
		assert_int_equal((get(e, n, 0xd, 2) != NULL), (info->xcr0_allowed & XCR0_AVX) != 0);
		assert_int_equal(edx & (1u << 28), 0); /* HTT with one CPU */
		assert_int_equal(edx & 2, 0);	       /* VME */
		assert_int_equal((ecx >> 26 & 1), (info->cr4_allowed & CR4_OSXSAVE) != 0);
		assert_int_equal((ecx >> 17 & 1), (info->cr4_allowed & CR4_PCIDE) != 0);
		assert_int_equal((ebx7 & 1), (info->cr4_allowed & CR4_FSGSBASE) != 0);
		assert_int_equal((ebx7 >> 7 & 1), (info->cr4_allowed & CR4_SMEP) != 0);
		assert_int_equal((ebx7 >> 20 & 1), (info->cr4_allowed & CR4_SMAP) != 0);
		assert_int_equal(info->cr4_allowed & (CR4_VME | CR4_UMIP | CR4_LA57 | CR4_PKE), 0);
		assert_int_equal(info->phys_mask, (1ull << 46) - 1);
		assert_int_equal(get(e, n, 0x80000008, 0)->eax, 48 << 8 | 46);
		assert_memory_equal(&get(e, n, 0x40000000, 0)->ebx, "KVMKVMKVM\0\0\0", 12);
	}
	/* TSC = crystal * EBX / EAX */
	{
		unsigned n = x86_cpuid_build(X86_MODEL_V2, &t, 0, e);
		const struct x86_cpuid_entry *c = get(e, n, 0x15, 0);

		assert_int_equal((u64)c->ecx * c->ebx / c->eax, 1000ull * X86_TSC_KHZ);
		assert_memory_equal(&get(e, n, 0x80000002, 0)->eax, "Orrery x86-64-v2", 16);
		assert_null(get(e, n, 2, 0)->indexed ? e : NULL);
	}
}

/* Works out packages, cores and threads as a guest does and compares with the placement. */
static void check_topology(const char *text)
{
	struct x86_cpuids *all;
	struct topo t;
	struct err err;
	u32 prev = 0;

	assert_int_equal(topo_parse(text, &err, &t), 0);
	assert_int_equal(topo_validate(&t, 0, &err), 0);
	assert_int_equal(x86_cpuids_new(X86_MODEL_V2, &t, &all), 0);
	for (u32 cpu = 0; cpu < topo_cpus(&t); cpu++) {
		unsigned n, smt, core;
		const struct x86_cpuid_entry *e = x86_cpuids_get(all, cpu, &n);
		const struct x86_cpuid_entry *l4, *d, *b = get(e, n, 0xb, 0);
		struct topo_place p;
		u32 id = b->edx;

		topo_place(&t, cpu, &p);
		smt = b->eax;
		core = get(e, n, 0xb, 1)->eax;
		assert_int_equal(b->ecx >> 8, 1);
		assert_int_equal(get(e, n, 0xb, 1)->ecx >> 8, 2);
		assert_int_equal(get(e, n, 0xb, 2)->ecx >> 8, 0);
		assert_int_equal(b->ebx, t.threads);
		assert_int_equal(get(e, n, 0xb, 1)->ebx, t.threads * t.cores);
		assert_int_equal(id, x86_apic_id(&t, cpu));
		assert_int_equal(id >> core, p.llc);
		assert_int_equal((id & ((1u << core) - 1)) >> smt, p.core);
		assert_int_equal(id & ((1u << smt) - 1), p.thread);
		assert_true(cpu == 0 || id > prev);
		prev = id;
		assert_memory_equal(&get(e, n, 0x1f, 1)->eax, &get(e, n, 0xb, 1)->eax, 16);
		assert_int_equal(get(e, n, 1, 0)->ebx >> 24, id & 0xff);
		/* L1 by core, L3 by package, in both vendors' words. */
		l4 = get(e, n, 4, 0);
		assert_int_equal((l4->eax >> 14 & 0xfff) + 1, 1u << smt);
		l4 = get(e, n, 4, 3);
		assert_int_equal(l4->eax >> 5 & 7, 3);
		assert_int_equal((l4->eax >> 14 & 0xfff) + 1, 1u << core);
		assert_int_equal(get(e, n, 4, 4)->eax & 31, 0);
		d = get(e, n, 0x8000001d, 3);
		assert_int_equal((d->eax >> 14 & 0xfff) + 1, t.threads * t.cores);
		assert_int_equal(d->ebx, l4->ebx);
		assert_int_equal(d->ecx, l4->ecx);
		d = get(e, n, 0x8000001e, 0);
		assert_int_equal(d->eax, id);
		assert_int_equal((d->ebx >> 8) + 1, t.threads);
		assert_int_equal(d->ecx & 0xff, p.node);
	}
	x86_cpuids_free(all);
}

static void topologies(void **state)
{
	const struct topo_preset *p;
	unsigned n;

	p = topo_presets(&n);
	for (unsigned i = 0; i < n; i++)
		check_topology(p[i].name);
	check_topology("1n1l1c1t");
	check_topology("1n1l252c1t");
	check_topology("1n252l1c1t");
	check_topology("1n1l1c252t");
	check_topology("3n3l3c3t");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(models),
		cmocka_unit_test(features),
		cmocka_unit_test(topologies),
	};

	x86_cpuids_free(NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
