// SPDX-License-Identifier: Apache-2.0
/*
 * rig.c - a machine of a few pages under the KVM engine, without a board
 */
#include "rig.h"

#include "board/topology.h"
#include "board/x86/cpuid.h"
#include "cpu/kvm/probe.h"
#include "isa/x86/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ATTR_CODE32 (0xb | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_DATA32 (0x3 | SEG_S | SEG_P | SEG_DB | SEG_G)
#define SEL_CODE 8
#define SEL_DATA 16
#define WATCHDOG_NS 10000000000u

bool rig_has_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skip: /dev/kvm cannot be opened (%s); run on a host with KVM, as a user who "
		       "may use it\n",
		       strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

bool rig_is_real(void)
{
	struct kvm_probe p;

	/* On a busy machine a round of the probe may be interrupted; none makes a slow KVM look fast. */
	for (unsigned i = 0; i < 10; i++) {
		kvm_probe(&p);
		if (p.verdict == KVM_VERDICT_GOOD)
			return true;
	}
	printf("skip: %s; make test-kvm runs this on another\n", p.words);
	return false;
}

/* --- a device --------------------------------------------------------------------------------- */

static u64 port_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct rig *r = opaque;

	r->reads++;
	return off == 12 ? RIG_IN & (size == 4 ? UINT32_MAX : BIT(8 * size) - 1) : 0;
}

static void record(struct rig_report *list, unsigned *n, struct rig_report rep)
{
	if (*n < RIG_REPORTS)
		list[(*n)++] = rep;
}

static void port_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct rig *r = opaque;

	record(r->port, &r->n_port, (struct rig_report){ off, val, size, cpu });
	if (off == 4)
		engine_stop(r->e, ENGINE_STOPPED);
	else if (off == 8)
		engine_stop(r->e, ENGINE_POWEROFF);
	else if (r->on_report)
		r->on_report(r, (u32)val);
}

static u64 mmio_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	return off == 16 ? RIG_IN & (size >= 4 ? UINT32_MAX : BIT(8 * size) - 1) : 0;
}

static void mmio_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct rig *r = opaque;

	record(r->mmio, &r->n_mmio, (struct rig_report){ off, val, size, cpu });
}

static const struct bus_ops port_ops = { port_read, port_write };
static const struct bus_ops mmio_ops = { mmio_read, mmio_write };

/* --- the machine ------------------------------------------------------------------------------ */

static struct x86_seg flat(u16 sel, u16 attr)
{
	return (struct x86_seg){ .limit = 0xffffffff, .sel = sel, .attr = attr };
}

void rig_start(struct rig *r, unsigned cpu)
{
	struct x86_cpu *c = engine_cpu(r->e, cpu);

	for (unsigned i = 0; i < X86_SEGS; i++)
		c->seg[i] = i == X86_CS ? flat(SEL_CODE, ATTR_CODE32) : flat(SEL_DATA, ATTR_DATA32);
	c->gdtr = (struct x86_dtr){ .base = RIG_GDT, .limit = 23 };
	c->idtr = (struct x86_dtr){ .base = RIG_IDT, .limit = 256 * 8 - 1 };
	c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
	c->cr4 = CR4_OSFXSR;
	c->rip = RIG_CODE;
	c->r[X86_RSP] = RIG_STACK - 64 * cpu;
	c->x.fcw = 0x37f;
	c->x.ftw = 0;
	c->wait_sipi = c->halted = false;
	x86_put_rflags(c, 2);
	x86_derive(c);
	engine_cpu_changed(r->e, cpu);
}

static int build(struct rig *r, unsigned n, const u32 *x2apic_ids, struct err *e)
{
	static const u64 gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
	struct mem_region region = { .base = 0, .size = RIG_MEM };
	u32 ids[RIG_CPUS_MAX];
	struct topo t;
	int rc = topo_from_cpus(n, e, &t);

	for (unsigned i = 0; i < n; i++)
		ids[i] = x86_apic_id(&t, i);
	if (rc == 0)
		rc = mem_new(&region, 1, e, &r->mem);
	if (rc == 0)
		rc = bus_new(&r->bus);
	if (rc == 0)
		rc = bus_add(r->bus, BUS_PIO, RIG_PORT, 16, &port_ops, r, "port");
	if (rc == 0)
		rc = bus_add(r->bus, BUS_MMIO, RIG_MMIO, 0x1000, &mmio_ops, r, "mmio");
	if (rc == 0)
		rc = x86_cpuids_new(X86_MODEL_V1, &t, &r->cpuids);
	if (rc == 0)
		rc = mem_write(r->mem, RIG_GDT, gdt, sizeof(gdt));
	struct kvm_cfg kc = {
		.ncpus = n,
		.apic_ids = x2apic_ids ? x2apic_ids : ids,
		.start_x2apic = x2apic_ids != NULL,
		.mem = r->mem,
		.bus = r->bus,
		.pins = 64,
		.cpuid = x86_cpuids_get,
		.cpuid_opaque = r->cpuids,
		.xcr0_allowed = 1,
		.phys_mask = BIT(46) - 1,
	};
	return rc == 0 ? kvm_new(&kc, e, &r->kvm) : rc;
}

int rig_new(struct rig *r, unsigned n, struct err *e)
{
	return rig_new_x2apic(r, n, NULL, e);
}

int rig_new_x2apic(struct rig *r, unsigned n, const u32 *ids, struct err *e)
{
	int rc;

	*r = (struct rig){ 0 };
	BUG_IF(n > RIG_CPUS_MAX);
	rc = build(r, n, ids, e);
	if (rc < 0) {
		rig_free(r);
		return rc;
	}
	r->e = kvm_engine(r->kvm);
	rig_start(r, 0);
	for (unsigned i = 1; i < n; i++) {
		engine_cpu(r->e, i)->wait_sipi = true;
		engine_cpu_changed(r->e, i);
	}
	return 0;
}

void rig_free(struct rig *r)
{
	kvm_free(r->kvm);
	x86_cpuids_free(r->cpuids);
	bus_free(r->bus);
	mem_free(r->mem);
	*r = (struct rig){ 0 };
}

void rig_load(struct rig *r, const u8 *code, size_t len)
{
	BUG_IF(mem_write(r->mem, RIG_CODE, code, len) < 0);
}

void rig_gate(struct rig *r, u8 vector, size_t offset)
{
	u64 at = RIG_CODE + offset;
	/* A 32-bit interrupt gate, present (SDM vol. 3, 6.11). */
	u64 gate = (at & 0xffff) | SEL_CODE << 16 | 0x8e00ull << 32 | (at >> 16 & 0xffff) << 48;

	BUG_IF(mem_write(r->mem, RIG_IDT + 8u * vector, &gate, sizeof(gate)) < 0);
}

u32 rig_peek(struct rig *r, gpa_t at)
{
	u32 val;

	BUG_IF(mem_read(r->mem, at, &val, sizeof(val)) < 0);
	return val;
}

static void bark(void *opaque)
{
	struct rig *r = opaque;

	r->late = true;
	engine_stop(r->e, ENGINE_STOPPED);
}

enum engine_exit rig_run(struct rig *r, void (*poll)(void *opaque), void *opaque)
{
	struct gclock *clk = engine_gclock(r->e);
	enum engine_exit why;

	r->late = false;
	gtimer_init(&r->watchdog, clk, bark, r);
	gtimer_arm(&r->watchdog, gclock_now(clk) + WATCHDOG_NS);
	alarm(4 * WATCHDOG_NS / 1000000000u); /* for an engine that does not come back at all */
	why = engine_run(r->e, poll, opaque);
	alarm(0);
	gtimer_cancel(&r->watchdog);
	if (why == ENGINE_FAILED)
		printf("the engine failed: %s\n", r->e.ops->failure(r->e.o));
	return why;
}

bool rig_runs(struct rig *r, enum engine_exit want)
{
	enum engine_exit why = rig_run(r, NULL, NULL);

	if (why == ENGINE_FAILED && strstr(r->e.ops->failure(r->e.o), "cannot emulate")) {
		printf("skip: this host's KVM is emulated, and not the whole instruction set; "
		       "make test-kvm runs this on another\n");
		rig_free(r);
		return false;
	}
	BUG_IF(why != want);
	return true;
}

void rig_stop(void *opaque)
{
	engine_stop(((struct rig *)opaque)->e, ENGINE_STOPPED);
}
