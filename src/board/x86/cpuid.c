/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.c - CPU models of the x86 board
 *
 * How it works
 * A model is a fixed set of features, never the host's (Intel SDM vol. 2A, CPUID; AMD APM vol. 3,
 * appendix E, for 0x8000001D and E). The tables are static per vCPU; bits that mirror state
 * (OSXSAVE, the APIC's enable bit, XSAVE sizes) are filled in by whoever executes CPUID.
 *
 * x86-64-v3 is v2, the psABI's list of that level (AVX, AVX2, BMI1, BMI2, F16C, FMA, LZCNT, MOVBE),
 * and XSAVEC, which saves only what is in use; XSAVES and XGETBV(1) are not in it.
 *
 * Identity. GenuineIntel, family 6, model 0x1A (Nehalem-EP, the first with the whole of
 * x86-64-v2), stepping 5. Linux needs family 6 for a fast "constant TSC" and REP strings, and has
 * errata work-arounds by model: CLFLUSH before MONITOR for 0x1D, 0x2E, 0x2F; TSC-deadline errata
 * for Haswell to Kaby Lake; bad microcode lists for Broadwell to Coffee Lake; split-lock and
 * power tables for later ones. 0x1A is in none that matters to a CPU without MWAIT and PMU.
 *
 * Speculation. ARCH_CAPABILITIES is offered so that its MSR can say that this CPU has none of
 * the defects; a guest then does not spend time on defences.
 *
 * Hypervisor. The signature is KVM's because a guest must know the hypervisor to use x2APIC
 * without interrupt remapping and, with MSI_EXT_DEST_ID, APIC ids above 254. Of KVM's
 * paravirtual features only PV_UNHALT is set besides: Linux replaces its queued spinlocks by
 * test-and-set ones on any hypervisor, unless PV_UNHALT and the hint REALTIME are both there; then
 * it keeps the native ones and never makes the PV_UNHALT hypercall. The kernel under test is to
 * run its real locks. No kvmclock, steal time or asynchronous page faults: the TSC is the clock.
 *
 * Topology. An LLC is a package. CPUs enumerate as SMT and core levels in leaves 0xB and 0x1F.
 * L1 and L2 belong to a core, L3 to a package. TOPOEXT stays clear, because on an Intel
 * part that bit is reserved and guests that look at it expect AMD's node semantics; leaves
 * 0x8000001D and E are filled in all the same and agree with leaf 4.
 */
#include "board/x86/cpuid.h"

#include "board/x86/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Leaf 1 */
#define F1D_BASE                                                                                   \
	(BIT(0) /* FPU */ | BIT(2) /* DE */ | BIT(3) /* PSE */ | BIT(4) /* TSC */ |                \
	 BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ | BIT(8) /* CX8 */ |               \
	 BIT(9) /* APIC */ | BIT(11) /* SEP */ | BIT(12) /* MTRR */ | BIT(13) /* PGE */ |          \
	 BIT(14) /* MCA */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ | BIT(17) /* PSE36 */ |        \
	 BIT(19) /* CLFSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ | BIT(25) /* SSE */ |        \
	 BIT(26) /* SSE2 */)
#define F1D_HTT BIT(28)
#define F1C_BASE                                                                                   \
	(BIT(17) /* PCID */ | BIT(21) /* x2APIC */ | BIT(24) /* TSC deadline */ |                  \
	 BIT(30) /* RDRAND */ | BIT(31) /* hypervisor */)
#define F1C_V2                                                                                     \
	(BIT(0) /* SSE3 */ | BIT(9) /* SSSE3 */ | BIT(13) /* CX16 */ | BIT(19) /* SSE4.1 */ |      \
	 BIT(20) /* SSE4.2 */ | BIT(23) /* POPCNT */ | BIT(26) /* XSAVE */)
#define F1C_V3 (BIT(12) /* FMA */ | BIT(22) /* MOVBE */ | BIT(28) /* AVX */ | BIT(29) /* F16C */)
/* Leaf 7 */
#define F7B_V3 (BIT(3) /* BMI1 */ | BIT(5) /* AVX2 */ | BIT(8) /* BMI2 */)
#define F7B                                                                                        \
	(BIT(0) /* FSGSBASE */ | BIT(1) /* TSC_ADJUST */ | BIT(7) /* SMEP */ | BIT(9) /* ERMS */ | \
	 BIT(10) /* INVPCID */ | BIT(18) /* RDSEED */ | BIT(20) /* SMAP */)
#define F7D (BIT(4) /* FSRM */ | BIT(29) /* ARCH_CAPABILITIES */)
/* 0x80000001 */
#define F81D                                                                                       \
	(BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1 GiB pages */ |                    \
	 BIT(27) /* RDTSCP */ | BIT(29) /* LM */)
#define F81C_V2 BIT(0) /* LAHF in long mode */
#define F81C_V3 BIT(5) /* LZCNT */

#define KVM_PV_UNHALT BIT(7)
#define KVM_MSI_EXT_DEST_ID BIT(15)
#define KVM_HINT_REALTIME BIT(0)

#define SIGNATURE 0x000106a5u /* family 6, model 0x1A, stepping 5 */
#define MAX_BASIC 0x1fu
#define MAX_EXT 0x8000001eu
#define PHYS_BITS 46u
#define LIN_BITS 48u

#define CR4_COMMON                                                                                 \
	(CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR |         \
	 CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_PCIDE | CR4_SMEP | CR4_SMAP)

static const struct x86_model_info models[X86_MODELS] = {
	[X86_MODEL_V1] = { "x86-64-v1", CR4_COMMON, 1, (1ull << PHYS_BITS) - 1 },
	[X86_MODEL_V2] = { "x86-64-v2", CR4_COMMON | CR4_OSXSAVE, 3, (1ull << PHYS_BITS) - 1 },
	[X86_MODEL_V3] = { "x86-64-v3", CR4_COMMON | CR4_OSXSAVE, 7, (1ull << PHYS_BITS) - 1 },
};

int x86_model_parse(const char *name, struct err *e, enum x86_model *ret)
{
	if (!name || !*name)
		name = models[X86_MODEL_V2].name;
	for (unsigned i = 0; i < X86_MODELS; i++) {
		/* "v2" is what people type. */
		if (strcmp(name, models[i].name) == 0 || strcmp(name, models[i].name + 7) == 0) {
			*ret = (enum x86_model)i;
			return 0;
		}
	}
	if (strcmp(name, "host") == 0)
		return err_set(
			e, -ENOTSUP,
			"CPU model host is for engines that run on the host's CPU; the built-in "
			"CPU has x86-64-v1, x86-64-v2 and x86-64-v3");
	return err_set(e, -EINVAL,
		       "unknown CPU model \"%.40s\"; there are x86-64-v1, x86-64-v2 and x86-64-v3",
		       name);
}

const struct x86_model_info *x86_model_get(enum x86_model m)
{
	return &models[m];
}

/* --- topology ------------------------------------------------------------------------------ */

/* The fewest bits that number @n things. */
static unsigned id_bits(u32 n)
{
	return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

u32 x86_apic_id(const struct topo *t, u32 cpu)
{
	unsigned tbits = id_bits(t->threads), cbits = id_bits(t->cores);
	struct topo_place p;

	topo_place(t, cpu, &p);
	return p.llc << (cbits + tbits) | p.core << tbits | p.thread;
}

/* --- tables --------------------------------------------------------------------------------- */

struct table {
	struct x86_cpuid_entry *e;
	unsigned n;
};

static struct x86_cpuid_entry *add(struct table *tb, u32 leaf, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
	struct x86_cpuid_entry *e = &tb->e[tb->n++];

	BUG_IF(tb->n > X86_CPUID_ENTRIES_MAX);
	*e = (struct x86_cpuid_entry){
		.leaf = leaf, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx
	};
	return e;
}

static void add_sub(struct table *tb, u32 leaf, u32 sub, const u32 r[4])
{
	struct x86_cpuid_entry *e = add(tb, leaf, r[0], r[1], r[2], r[3]);

	e->subleaf = sub;
	e->indexed = true;
}

/* Twelve characters as EBX, EDX, ECX (@kvm false) or EBX, ECX, EDX. */
static void add_name(struct table *tb, u32 leaf, u32 max, const char *name, bool kvm)
{
	u32 w[3];

	memcpy(w, name, sizeof(w));
	add(tb, leaf, max, w[0], kvm ? w[1] : w[2], kvm ? w[2] : w[1]);
}

/*
 * Leaf 4 and, in the same form, 0x8000001D. Sizes are those of a current server part; the L3
 * grows with the cores that share it.
 */
static void add_caches(struct table *tb, const struct topo *t, bool amd)
{
	const struct {
		u32 type, level, ways, sets, sharers;
	} c[] = {
		{ 1, 1, 8, 64, t->threads },			      /* L1d: 32 KiB */
		{ 2, 1, 8, 64, t->threads },			      /* L1i: 32 KiB */
		{ 3, 2, 16, 1024, t->threads },			      /* L2: 1 MiB */
		{ 3, 3, 16, 2048 * t->cores, t->threads * t->cores }, /* L3: 2 MiB per core */
	};
	unsigned tbits = id_bits(t->threads), cbits = id_bits(t->cores);
	/* Leaf 4 counts APIC ids, powers of two; AMD's leaf counts threads. */
	u32 cores = MIN((1u << cbits) - 1, 63u);

	for (u32 i = 0; i < ARRAY_LEN(c); i++) {
		u32 ids = c[i].level == 3 ? 1u << (tbits + cbits) : 1u << tbits;
		u32 share = (amd ? c[i].sharers : ids) - 1;
		u32 r[4] = {
			c[i].type | c[i].level << 5 | 1u << 8 | share << 14 |
				(amd ? 0 : cores << 26),
			(c[i].ways - 1) << 22 | 63, /* one partition, lines of 64 bytes */
			c[i].sets - 1,
			0,
		};

		add_sub(tb, amd ? 0x8000001d : 4, i, r);
	}
	add_sub(tb, amd ? 0x8000001d : 4, ARRAY_LEN(c), (const u32[4]){ 0 });
}

/* Leaves 0xB and 0x1F: SMT level, core level, end. */
static void add_levels(struct table *tb, const struct topo *t, u32 leaf, u32 id)
{
	unsigned tbits = id_bits(t->threads), cbits = id_bits(t->cores);

	add_sub(tb, leaf, 0, (const u32[4]){ tbits, t->threads, 1u << 8 | 0, id });
	add_sub(tb, leaf, 1,
		(const u32[4]){ tbits + cbits, t->threads * t->cores, 2u << 8 | 1, id });
	add_sub(tb, leaf, 2, (const u32[4]){ 0, 0, 2, id });
}

/* x87 and SSE: the legacy region and the header. EBX follows XCR0. */
static void add_xsave_sse(struct table *tb)
{
	add_sub(tb, 0xd, 0, (const u32[4]){ 3, 576, 576, 0 });
	add_sub(tb, 0xd, 1, (const u32[4]){ BIT(0) /* XSAVEOPT */, 0, 0, 0 });
}

/* And behind it the upper halves of the YMM registers. */
static void add_xsave_avx(struct table *tb)
{
	add_sub(tb, 0xd, 0, (const u32[4]){ 7, 576, 576 + 256, 0 });
	add_sub(tb, 0xd, 1, (const u32[4]){ BIT(0) | BIT(1) /* XSAVEOPT, XSAVEC */, 0, 0, 0 });
	add_sub(tb, 0xd, 2, (const u32[4]){ 256, 576, 0, 0 });
}

static void add_basic(struct table *tb, enum x86_model m, const struct topo *t, u32 id)
{
	unsigned pkg_bits = id_bits(t->threads) + id_bits(t->cores);
	u32 f1c = (u32)(F1C_BASE | (m >= X86_MODEL_V2 ? F1C_V2 : 0) |
			(m >= X86_MODEL_V3 ? F1C_V3 : 0));
	u32 f1d = (u32)(F1D_BASE | (t->threads * t->cores > 1 ? F1D_HTT : 0));

	add_name(tb, 0, MAX_BASIC, "GenuineIntel", false);
	/* EBX: CLFLUSH line in units of 8 bytes, ids per package, initial APIC id (low 8 bits). */
	add(tb, 1, SIGNATURE, (id & 0xff) << 24 | MIN(1u << pkg_bits, 255u) << 16 | 8u << 8, f1c,
	    f1d);
	/* Descriptor 0xFF: see leaf 4 for the caches. 0xFE would say: leaf 0x18 for the TLBs. */
	add(tb, 2, 0x00ff01, 0, 0, 0);
	add(tb, 3, 0, 0, 0, 0);
	add_caches(tb, t, false);
	add(tb, 5, 0, 0, 0, 0);	     /* no MONITOR: an idle vCPU halts */
	add(tb, 6, BIT(2), 0, 0, 0); /* ARAT: the APIC timer never stops */
	add_sub(tb, 7, 0, (const u32[4]){ 0, F7B | (m >= X86_MODEL_V3 ? F7B_V3 : 0), 0, F7D });
	add(tb, 0xa, 0, 0, 0, 0); /* no PMU */
	add_levels(tb, t, 0xb, id);
	if (m >= X86_MODEL_V3)
		add_xsave_avx(tb);
	else if (m >= X86_MODEL_V2)
		add_xsave_sse(tb);
	/* TSC = crystal * EBX / EAX. With it the guest calibrates nothing. */
	add(tb, 0x15, 1, X86_TSC_KHZ / (X86_CRYSTAL_HZ / 1000), X86_CRYSTAL_HZ, 0);
	add(tb, 0x16, X86_TSC_KHZ / 1000, X86_TSC_KHZ / 1000, 100, 0);
	add_levels(tb, t, 0x1f, id);
}

_Static_assert(X86_TSC_KHZ % (X86_CRYSTAL_HZ / 1000) == 0, "leaf 0x15 states the TSC exactly");

static void add_extended(struct table *tb, enum x86_model m, const struct topo *t, u32 cpu, u32 id)
{
	char brand[48] = "Orrery ";
	struct topo_place p;
	u32 w[12];

	topo_place(t, cpu, &p);
	strncat(brand, models[m].name, sizeof(brand) - strlen(brand) - 1);
	memcpy(w, brand, sizeof(w));
	add(tb, 0x80000000, MAX_EXT, 0, 0, 0);
	add(tb, 0x80000001, 0, 0,
	    (m >= X86_MODEL_V2 ? F81C_V2 : 0) | (m >= X86_MODEL_V3 ? F81C_V3 : 0), F81D);
	for (u32 i = 0; i < 3; i++)
		add(tb, 0x80000002 + i, w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]);
	/* L2: 1 MiB, 16 ways (code 8), 64-byte lines. */
	add(tb, 0x80000006, 0, 0, 1024u << 16 | 8u << 12 | 64, 0);
	add(tb, 0x80000007, 0, 0, 0, BIT(8)); /* invariant TSC */
	add(tb, 0x80000008, LIN_BITS << 8 | PHYS_BITS, 0, 0, 0);
	add_caches(tb, t, true);
	/* Extended APIC id; threads per core and core id; nodes per processor (one) and node id. */
	add(tb, 0x8000001e, id, (t->threads - 1) << 8 | ((p.llc * t->cores + p.core) & 0xff),
	    p.node, 0);
}

unsigned x86_cpuid_build(enum x86_model m, const struct topo *t, u32 cpu,
			 struct x86_cpuid_entry ret[X86_CPUID_ENTRIES_MAX])
{
	struct table tb = { .e = ret };
	u32 id = x86_apic_id(t, cpu);

	add_basic(&tb, m, t, id);
	add_name(&tb, 0x40000000, 0x40000001, "KVMKVMKVM\0\0", true);
	add(&tb, 0x40000001, KVM_PV_UNHALT | KVM_MSI_EXT_DEST_ID, 0, 0, KVM_HINT_REALTIME);
	add_extended(&tb, m, t, cpu, id);
	return tb.n;
}

/* --- all vCPUs ------------------------------------------------------------------------------- */

struct x86_cpuids {
	u32 ncpus;
	unsigned n[TOPO_CPUS_MAX];
	struct x86_cpuid_entry e[][X86_CPUID_ENTRIES_MAX];
};

int x86_cpuids_new(enum x86_model m, const struct topo *t, struct x86_cpuids **ret)
{
	u32 ncpus = topo_cpus(t);
	struct x86_cpuids *c = calloc(1, sizeof(*c) + ncpus * sizeof(c->e[0]));

	if (!c)
		return -ENOMEM;
	c->ncpus = ncpus;
	for (u32 i = 0; i < ncpus; i++)
		c->n[i] = x86_cpuid_build(m, t, i, c->e[i]);
	*ret = c;
	return 0;
}

void x86_cpuids_free(struct x86_cpuids *c)
{
	free(c);
}

const struct x86_cpuid_entry *x86_cpuids_get(void *opaque, unsigned cpu, unsigned *ret_n)
{
	struct x86_cpuids *c = opaque;

	BUG_IF(cpu >= c->ncpus);
	*ret_n = c->n[cpu];
	return c->e[cpu];
}
