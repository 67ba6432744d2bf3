// SPDX-License-Identifier: Apache-2.0
/*
 * cpuid.c - what the guest's CPUID says under KVM
 *
 * How it works
 * The board's table is the model: topology, caches, names and features are those of the soft engine.
 * Three things are taken from the host's KVM (KVM_GET_SUPPORTED_CPUID).
 *
 * Features that it cannot give are taken off. Some it never reports and always gives with local APICs
 * in the kernel (x2APIC, TSC deadline, the hypervisor bit); they stay. With @host_features
 * all that it offers is there, but for what needs more than a CPU: a PMU, MONITOR, nested
 * virtualization, five-level paging.
 *
 * The processor's identity (vendor, family, model, stepping) is the host's. It decides which errata a
 * kernel works around and which instruction it uses for a hypercall (VMCALL on Intel, VMMCALL on
 * AMD; KVM would patch the wrong one into read-only text), so a lie costs correctness. On AMD the
 * topology leaves that Linux reads there are switched on: the board fills them in for every vendor.
 *
 * The clocks. Leaves 0x15 and 0x16 state the board's own 1 GHz, and KVM's guests run at the host's
 * frequency, so they are empty, and kvmclock says the frequency instead.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>

#define SUPPORTED_MAX 256u

/* Leaf 1 */
#define F1C_MONITOR BIT(3)
#define F1C_VMX BIT(5)
#define F1C_PDCM BIT(15)
#define F1C_X2APIC BIT(21)
#define F1C_TSC_DEADLINE BIT(24)
#define F1C_OSXSAVE BIT(27)
#define F1C_HYPERVISOR BIT(31)
#define F1C_ALWAYS (F1C_X2APIC | F1C_TSC_DEADLINE | F1C_HYPERVISOR)
#define F1C_NEVER (F1C_MONITOR | F1C_VMX | F1C_PDCM | F1C_OSXSAVE)
#define F1D_HTT BIT(28)
/* Leaf 7 */
#define F7C_LA57 BIT(16)
/* 0x80000001 */
#define F81C_CMP_LEGACY BIT(1)
#define F81C_SVM BIT(2)
#define F81C_TOPOEXT BIT(22)
#define F81C_PERFCTR (BIT(23) | BIT(24) | BIT(28))

/* KVM's own (Documentation/virt/kvm/x86/cpuid.rst) */
#define KVM_OURS                                                                                   \
	(BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |                            \
	 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) |                             \
	 BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) |                              \
	 BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_POLL_CONTROL) |                            \
	 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))
#define KVM_BY_US BIT(KVM_FEATURE_MSI_EXT_DEST_ID) /* the I/O APIC's work */

struct supported {
	struct kvm_cpuid2 *t;
	bool amd;
	bool host; /* all features instead of the model's */
	bool own_cpus;
};

static const struct kvm_cpuid_entry2 none;

static const struct kvm_cpuid_entry2 *find(const struct supported *s, u32 leaf, u32 sub)
{
	for (u32 i = 0; i < s->t->nent; i++) {
		const struct kvm_cpuid_entry2 *x = &s->t->entries[i];

		if (x->function == leaf && x->index == sub)
			return x;
	}
	return &none;
}

static int get_supported(struct kvm *k, struct err *e, struct supported *ret)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + SUPPORTED_MAX * sizeof(t->entries[0]));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->nent = SUPPORTED_MAX;
	r = KVM_TRY(e, k->sys, KVM_GET_SUPPORTED_CPUID, t);
	if (r < 0) {
		free(t);
		return r;
	}
	*ret = (struct supported){ .t = t,
				   .host = k->cfg.host_features,
				   .own_cpus = k->cfg.own_cpus };
	/* "AuthenticAMD", "HygonGenuine": by the first four letters. */
	ret->amd = find(ret, 0, 0)->ebx == 0x68747541 || find(ret, 0, 0)->ebx == 0x6f677948;
	return 0;
}

static u32 features(const struct supported *s, u32 model, u32 can)
{
	return s->host ? can : model & can;
}

static void shape_leaf1(const struct supported *s, const struct kvm_cpuid_entry2 *h,
			struct kvm_cpuid_entry2 *x)
{
	x->eax = h->eax;
	x->ecx = features(s, x->ecx, (u32)((h->ecx & ~F1C_NEVER) | F1C_ALWAYS));
	x->edx = features(s, x->edx, (u32)(h->edx & ~F1D_HTT)) | (x->edx & (u32)F1D_HTT);
}

static void shape_leaf7(const struct supported *s, const struct kvm_cpuid_entry2 *h,
			struct kvm_cpuid_entry2 *x)
{
	if (s->host)
		x->eax = h->eax; /* how many subleaves */
	x->ebx = features(s, x->ebx, h->ebx);
	x->ecx = features(s, x->ecx, (u32)(h->ecx & ~F7C_LA57));
	x->edx = features(s, x->edx, h->edx);
}

static void shape_ext(const struct supported *s, const struct kvm_cpuid_entry2 *h,
		      struct kvm_cpuid_entry2 *x, u32 threads)
{
	x->ecx = features(
		s, x->ecx,
		(u32)(h->ecx & ~(F81C_SVM | F81C_PERFCTR | F81C_CMP_LEGACY | F81C_TOPOEXT)));
	x->edx = features(s, x->edx, h->edx);
	if (s->amd)
		x->ecx |= (u32)(F81C_TOPOEXT | (threads > 1 ? F81C_CMP_LEGACY : 0));
}

/* 0x80000008: address sizes, and on AMD how many CPUs a package has. */
static void shape_sizes(const struct supported *s, const struct kvm_cpuid_entry2 *h,
			struct kvm_cpuid_entry2 *x, u32 threads)
{
	u32 phys = h->eax & 0xff, ids = 0;

	if (phys && phys < (x->eax & 0xff))
		x->eax = (x->eax & ~0xffu) | phys;
	if (s->host)
		x->ebx = h->ebx;
	while (1u << ids < threads)
		ids++;
	if (s->amd)
		x->ecx = (threads - 1) | ids << 12;
}

/* --- what a model must have ------------------------------------------------------------------- */

/* The psABI's levels; the rest of a model's features are taken off where the host has none. */
static const struct {
	u32 leaf;
	u8 reg; /* 0: EBX, 1: ECX */
	u8 bit;
	const char *name;
} levels[] = {
	{ 1, 1, 0, "SSE3" },	       { 1, 1, 9, "SSSE3" },   { 1, 1, 13, "CMPXCHG16B" },
	{ 1, 1, 19, "SSE4.1" },	       { 1, 1, 20, "SSE4.2" }, { 1, 1, 23, "POPCNT" },
	{ 1, 1, 26, "XSAVE" },	       { 1, 1, 12, "FMA" },    { 1, 1, 22, "MOVBE" },
	{ 1, 1, 28, "AVX" },	       { 1, 1, 29, "F16C" },   { 7, 0, 3, "BMI1" },
	{ 7, 0, 5, "AVX2" },	       { 7, 0, 8, "BMI2" },    { 0x80000001, 1, 0, "LAHF" },
	{ 0x80000001, 1, 5, "LZCNT" },
};

static const char *lacks(const struct supported *s, const struct x86_cpuid_entry *t, unsigned n)
{
	for (unsigned i = 0; !s->host && i < n; i++) {
		const struct kvm_cpuid_entry2 *h = find(s, t[i].leaf, 0);

		for (unsigned k = 0; k < ARRAY_LEN(levels); k++) {
			u32 want = levels[k].reg ? t[i].ecx : t[i].ebx;
			u32 have = levels[k].reg ? h->ecx : h->ebx;

			if (t[i].leaf == levels[k].leaf && t[i].subleaf == 0 &&
			    (want & ~have & BIT(levels[k].bit)))
				return levels[k].name;
		}
	}
	return NULL;
}

/* --- the tables ------------------------------------------------------------------------------- */

/* @threads: of a package, a power of two that APIC ids count in. */
static void shape(const struct supported *s, struct kvm_cpuid_entry2 *x, u32 threads)
{
	const struct kvm_cpuid_entry2 *h = find(s, x->function, x->index);

	switch (x->function) {
	case 0:
		x->ebx = h->ebx;
		x->ecx = h->ecx;
		x->edx = h->edx;
		break;
	case 1:
		shape_leaf1(s, h, x);
		break;
	case 7:
		shape_leaf7(s, h, x);
		break;
	case 0xd:
		if (x->index == 1)
			x->eax &= h->eax;
		break;
	case 0x15:
	case 0x16:
		x->eax = x->ebx = x->ecx = x->edx = 0;
		break;
	case KVM_CPUID_FEATURES:
		x->eax = (u32)((h->eax & KVM_OURS) | KVM_BY_US);
		x->edx = s->own_cpus ? BIT(KVM_HINTS_REALTIME) : 0;
		break;
	case 0x80000000:
		if (s->host)
			x->eax = MAX(x->eax, 0x80000021u);
		break;
	case 0x80000001:
		shape_ext(s, h, x, threads);
		break;
	case 0x80000007:
		x->edx &= h->edx;
		break;
	case 0x80000008:
		shape_sizes(s, h, x, threads);
		break;
	default:
		break;
	}
}

/* Leaves of the host's own that no model has: more subleaves of 7 and 0xD, and 0x80000021. */
static unsigned add_host(const struct supported *s, struct kvm_cpuid_entry2 *x, unsigned n)
{
	for (u32 i = 0; i < s->t->nent && n < SUPPORTED_MAX; i++) {
		const struct kvm_cpuid_entry2 *h = &s->t->entries[i];

		if ((h->function == 7 && h->index) || h->function == 0xd ||
		    h->function == 0x80000021)
			x[n++] = *h;
	}
	return n;
}

static u32 package_ids(const struct x86_cpuid_entry *t, unsigned n)
{
	/* Leaf 0xB, core level: the shift that leaves the package's number. */
	for (unsigned i = 0; i < n; i++)
		if (t[i].leaf == 0xb && t[i].subleaf == 1)
			return 1u << MIN(t[i].eax & 31, 16u);
	return 1;
}

static int set_cpu(struct kvm_vcpu *v, const struct supported *s, struct kvm_cpuid2 *out,
		   struct err *e)
{
	struct kvm_cfg *cfg = &v->k->cfg;
	unsigned n, m = 0;
	const struct x86_cpuid_entry *t = cfg->cpuid(cfg->cpuid_opaque, v->index, &n);
	u32 threads = package_ids(t, n);
	const char *missing = lacks(s, t, n);

	if (missing)
		return err_set(
			e, -ENOTSUP,
			"this host's KVM offers no %s, which the CPU model needs; use a lower "
			"--cpu-model, or host",
			missing);
	for (unsigned i = 0; i < n && m < SUPPORTED_MAX; i++) {
		if (s->host && t[i].leaf == 0xd)
			continue;
		out->entries[m] = (struct kvm_cpuid_entry2){
			.function = t[i].leaf,
			.index = t[i].subleaf,
			.flags = t[i].indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = t[i].eax,
			.ebx = t[i].ebx,
			.ecx = t[i].ecx,
			.edx = t[i].edx,
		};
		shape(s, &out->entries[m++], threads);
	}
	if (s->host)
		m = add_host(s, out->entries, m);
	out->nent = m;
	/* For page walks and the reset value of RDX; leaves that mirror state are KVM's business. */
	v->c.cpuid = t;
	v->c.cpuid_n = n;
	return KVM_TRY(e, v->fd, KVM_SET_CPUID2, out);
}

int kvm_cpuid_set(struct kvm *k, struct err *e)
{
	struct kvm_cpuid2 *out = calloc(1, sizeof(*out) + SUPPORTED_MAX * sizeof(out->entries[0]));
	struct supported s = { 0 };
	int r = -ENOMEM;

	if (!out)
		return err_set(e, -ENOMEM, "out of memory");
	r = get_supported(k, e, &s);
	if (r == 0) {
		for (unsigned i = 0; r == 0 && i < k->cfg.ncpus; i++)
			r = set_cpu(&k->cpu[i], &s, out, e);
		free(s.t);
	}
	free(out);
	return r;
}
