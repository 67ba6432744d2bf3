// SPDX-License-Identifier: Apache-2.0
/*
 * irq.c - interrupts under KVM: local APICs in the kernel, the I/O APIC in our hands
 *
 * How it works
 * The board's I/O APIC has 64 pins and KVM's 24, so the irqchip is always split: the kernel emulates
 * the local APICs, and the board's own device turns levels of its pins into messages, which reach the
 * local APICs through KVM_SIGNAL_MSI. The same I/O APIC is under the soft engine, so both see the same
 * registers, and there is one wiring for APIC ids below and above 254.
 *
 * A level-triggered vector's completion must come back to the I/O APIC. The kernel stops a vCPU for
 * it (KVM_EXIT_IOAPIC_EOI) if it finds the vector among the GSI routes, which mirror the redirection
 * table for this only: nothing is delivered by them. To replace the routes takes the kernel a grace
 * period, and a booting Linux writes each of 64 entries several times, so they are replaced just before
 * the first message that needs the new ones.
 *
 * irqfds are not used. What one saves is the way through the monitor for interrupts that are raised elsewhere, in
 * the kernel (vhost) or by a worker. Here rings are written on the VM's thread, under the device lock and
 * whatever engine runs, so an interrupt costs one system call either way: KVM_SIGNAL_MSI, or a write to an
 * eventfd. And the boards' virtio lines are levels, since that is what virtio-mmio's interrupt status is
 * (virtio 1.2, 4.2.2): they have to be sampled again after an EOI. KVM_IRQFD_FLAG_RESAMPLE does that
 * for KVM's own I/O APIC only (EINVAL with a split irqchip), and an irqfd without it, on a route whose message
 * is of a level, would set the vector in a local APIC behind our Remote IRR: the EOI would be for a pin that
 * waits for none, or two assertions would be on their way at once. Edges instead of levels would make
 * irqfds possible and save the exit for the EOI, not the two accesses to the interrupt status; but they would be
 * another wiring of the board than the soft engine's, and a device would have to send one for each
 * buffer, whatever the driver has acknowledged.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Four pages and one behind them in the gap below 4 GiB; only old Intel processors use them. */
#define TSS_ADDR 0xfffbd000ul
#define IDENTITY_MAP_ADDR 0xfffbc000ul

#define MSI_LEVEL 0x8000u
/* Bits 11:5 of a message's address are bits 14:8 of the destination (KVM_FEATURE_MSI_EXT_DEST_ID). */
#define EXT_DEST_SHIFT 5
#define EXT_DEST_MASK 0xfe0u

/* Local APIC registers (SDM vol. 3, 10.4.1) */
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define LVT_EXTINT 0x700u
#define LVT_NMI 0x400u
#define LVT_MASKED 0x10000u

static u32 addr_lo(u64 addr)
{
	return (u32)addr & ~EXT_DEST_MASK;
}

/* The high part of the address holds bits 31:8 of the destination where they are (X2APIC_API). */
static u32 addr_hi(u64 addr)
{
	return (u32)(addr & EXT_DEST_MASK) >> EXT_DEST_SHIFT << 8;
}

static int enable(struct kvm *k, const char *name, u32 cap, u64 arg, struct err *e)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { arg } };
	int r = KVM_CALL(k->vm, KVM_ENABLE_CAP, &c);

	return r < 0 ? err_sys(e, r, "KVM_ENABLE_CAP(%s) failed", name) : 0;
}

/* Without it the run is worth less, and still something: on some processors KVM refuses for their errata. */
static void keep_cpus(struct kvm *k)
{
	const u64 want = KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE;
	int can = KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);
	u64 have = can > 0 ? (u64)can & want : 0;

	if (have &&
	    enable(k, "KVM_CAP_X86_DISABLE_EXITS", KVM_CAP_X86_DISABLE_EXITS, have, NULL) < 0)
		have = 0;
	k->halts_inside = have & KVM_X86_DISABLE_EXITS_HLT;
	if (have == want || !k->cfg.warn)
		return;
	k->cfg.warn(
		k->cfg.perf_opaque,
		have & KVM_X86_DISABLE_EXITS_HLT
			? "this host's KVM does not let PAUSE stay in the guest, so a vCPU that "
			  "spins leaves its CPU"
		: have ? "this host's KVM does not let HLT stay in the guest, so a vCPU that idles "
			 "leaves its CPU"
		       : "this host's KVM does not let HLT and PAUSE stay in the guest, so a vCPU "
			 "that idles or spins leaves its CPU");
}

static int performance(struct kvm *k, struct err *e)
{
	if (k->cfg.keep_cpus)
		keep_cpus(k);
	/* Before Linux 5.10 it was for the administrator only. */
	if (!k->cfg.halt_poll_set || KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_HALT_POLL) <= 0)
		return 0;
	return enable(k, "KVM_CAP_HALT_POLL", KVM_CAP_HALT_POLL, k->cfg.halt_poll_ns, e);
}

int kvm_irqchip_new(struct kvm *k, struct err *e)
{
	u64 identity = IDENTITY_MAP_ADDR;
	int r = KVM_TRY(e, k->vm, KVM_SET_TSS_ADDR, TSS_ADDR);

	if (r == 0)
		r = KVM_TRY(e, k->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (r == 0)
		r = enable(k, "KVM_CAP_SPLIT_IRQCHIP", KVM_CAP_SPLIT_IRQCHIP, k->cfg.pins, e);
	/* Destinations of 32 bits, of which 255 is one like others. */
	if (r == 0)
		r = enable(k, "KVM_CAP_X2APIC_API", KVM_CAP_X2APIC_API,
			   KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
			   e);
	if (r == 0 && k->cfg.apic_ids[0])
		r = KVM_TRY(e, k->vm, KVM_SET_BOOT_CPU_ID, k->cfg.apic_ids[0]);
	return r < 0 ? r : performance(k, e);
}

static void set_reg(struct kvm_lapic_state *l, unsigned reg, u32 val)
{
	memcpy(l->regs + reg, &val, sizeof(val));
}

int kvm_lapic_init(struct kvm_vcpu *v, struct err *e)
{
	bool boot = v->index == 0;
	struct kvm_sregs s;
	int r = 0;

	if (v->k->cfg.start_x2apic) {
		r = KVM_TRY(e, v->fd, KVM_GET_SREGS, &s);
		if (r < 0)
			return r;
		s.apic_base |= 0xc00; /* enabled, x2APIC mode */
		r = KVM_TRY(e, v->fd, KVM_SET_SREGS, &s);
	}
	if (r == 0)
		r = KVM_TRY(e, v->fd, KVM_GET_LAPIC, &v->lapic0);
	if (r < 0)
		return r;
	/* As firmware leaves them: the boot CPU's pins are an 8259's and NMI (MP spec. 3.6.2). */
	set_reg(&v->lapic0, APIC_LVT_LINT0, LVT_EXTINT | (boot ? 0 : LVT_MASKED));
	set_reg(&v->lapic0, APIC_LVT_LINT1, LVT_NMI | (boot ? 0 : LVT_MASKED));
	return KVM_TRY(e, v->fd, KVM_SET_LAPIC, &v->lapic0);
}

/* --- messages --------------------------------------------------------------------------------- */

static int set_routes(struct kvm *k)
{
	struct {
		struct kvm_irq_routing h;
		struct kvm_irq_routing_entry e[KVM_PINS_MAX];
	} t = { 0 };

	for (u32 i = 0; i < k->cfg.pins; i++) {
		if (!(k->route[i].data & MSI_LEVEL))
			continue;
		t.e[t.h.nr++] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = addr_lo(k->route[i].addr),
				   .address_hi = addr_hi(k->route[i].addr),
				   .data = k->route[i].data },
		};
	}
	return KVM_CALL(k->vm, KVM_SET_GSI_ROUTING, &t);
}

unsigned kvm_msi(struct kvm *k, u64 addr, u32 data)
{
	struct kvm_msi m = { .address_lo = addr_lo(addr),
			     .address_hi = addr_hi(addr),
			     .data = data };
	int r = 0;

	if (k->routes_stale && (data & MSI_LEVEL)) {
		r = set_routes(k);
		if (r < 0) {
			kvm_fail(k, "KVM_SET_GSI_ROUTING failed: %s", strerror(-r));
			return 0;
		}
		k->routes_stale = false;
	}
	atomic_fetch_add_explicit(&k->msis, 1, memory_order_relaxed);
	r = KVM_CALL(k->vm, KVM_SIGNAL_MSI, &m);
	/*
	 * KVM says 0 if the guest blocks the vector, and -1 (EPERM) if no CPU is there: the guest's
	 * doing, both. The rest is the host's.
	 */
	if (r < 0 && r != -EPERM && r != -EINVAL)
		kvm_fail(k, "KVM_SIGNAL_MSI failed: %s", strerror(-r));
	return r > 0 ? (unsigned)r : 0;
}

void kvm_route(struct kvm *k, unsigned pin, u64 addr, u32 data)
{
	BUG_IF(pin >= k->cfg.pins);
	if (k->route[pin].addr == addr && k->route[pin].data == data)
		return;
	k->route[pin].addr = addr;
	k->route[pin].data = data;
	k->routes_stale = true;
}

void kvm_set_eoi(struct kvm *k, void (*eoi)(void *opaque, u8 vector), void *opaque)
{
	k->eoi = eoi;
	k->eoi_opaque = opaque;
}

/* --- reset ------------------------------------------------------------------------------------ */

static void dev_reset(void *dev)
{
	struct kvm *k = dev;

	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		struct kvm_vcpu *v = &k->cpu[i];
		int r;

		if (!k->ran)
			return;
		/* A failure ends the next run: reset has no other way to say it. */
		r = KVM_CALL(v->fd, KVM_SET_LAPIC, &v->lapic0);
		if (r < 0)
			kvm_fail(k, "KVM_SET_LAPIC failed at reset: %s", strerror(-r));
		v->fresh = v->changed = true;
	}
}

static void *dev_state(void *dev, unsigned i)
{
	return NULL;
}

static const struct field_desc fields[] = { DEV_FIELDS_END };

struct device kvm_device(struct kvm *k)
{
	static const struct device_ops ops = {
		.name = "kvm", .reset = dev_reset, .state = dev_state, .fields = fields
	};

	return (struct device){ &ops, k };
}
