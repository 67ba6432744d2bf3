// SPDX-License-Identifier: Apache-2.0
/*
 * exit.c - why KVM stopped a vCPU, and what is done about it
 *
 * Register accesses go to the bus under the device lock. Sizes that no instruction has (KVM splits
 * an access at a page's end) go byte by byte.
 */
#include "cpu/kvm/kvm_priv.h"

#include <stdio.h>
#include <string.h>

static u64 load(const u8 *p, unsigned size)
{
	u64 v = 0;

	memcpy(&v, p, size);
	return v;
}

static void bus_access(struct kvm_vcpu *v, enum bus_kind kind, u64 addr, u8 *data, unsigned size,
		       bool write)
{
	struct bus *b = v->k->cfg.bus;
	u64 val;

	if (size & (size - 1)) {
		for (unsigned i = 0; i < size; i++)
			bus_access(v, kind, addr + i, data + i, 1, write);
		return;
	}
	if (write) {
		bus_write(b, kind, addr, size, load(data, size), v->index);
		return;
	}
	bus_read(b, kind, addr, size, v->index, &val);
	memcpy(data, &val, size);
}

static void handle_io(struct kvm_vcpu *v)
{
	u8 *data = (u8 *)v->run + v->run->io.data_offset;
	bool write = v->run->io.direction == KVM_EXIT_IO_OUT;
	unsigned size = v->run->io.size;

	/* REP INS and OUTS: as many as KVM's page holds. A stop in between lets the rest happen. */
	for (u32 i = 0; i < v->run->io.count; i++)
		bus_access(v, BUS_PIO, v->run->io.port, data + (size_t)i * size, size, write);
}

static void handle_debug(struct kvm_vcpu *v)
{
	struct kvm *k = v->k;

	v->debug = v->run->debug.arch;
	v->debug_hit = true;
	if (k->stop)
		return; /* told at the begin of the next run */
	k->event = kvm_debug_decode(v);
	v->debug_hit = false;
	kvm_stop(k, ENGINE_DEBUG);
}

static void internal_error(struct kvm_vcpu *v)
{
	const struct kvm_run *run = v->run;
	char bytes[3 * 15 + 1] = "";
	unsigned n = 0;

	switch (run->internal.suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		if (run->emulation_failure.ndata >= 1 &&
		    (run->emulation_failure.flags &
		     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
			n = MIN((unsigned)run->emulation_failure.insn_size, 15u);
		for (unsigned i = 0; i < n; i++)
			snprintf(bytes + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
		kvm_fail(v->k, "KVM cannot emulate an instruction of vCPU %u%s%s", v->index,
			 n ? ":" : "", bytes);
		return;
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		kvm_fail(v->k,
			 "KVM met an exit it does not expect while delivering an event to "
			 "vCPU %u",
			 v->index);
		return;
	default:
		kvm_fail(v->k, "KVM gave up on vCPU %u: internal error %u", v->index,
			 run->internal.suberror);
	}
}

static void unexpected(struct kvm_vcpu *v)
{
	const struct kvm_run *run = v->run;

	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		kvm_fail(v->k, "the processor refused to enter vCPU %u: hardware reason 0x%llx",
			 v->index,
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
	else
		kvm_fail(v->k, "vCPU %u ended with KVM exit reason %u, which nobody asked for",
			 v->index, run->exit_reason);
}

void kvm_handle_exit(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	struct kvm *k = v->k;

	pthread_mutex_lock(&k->dev);
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(v);
		break;
	case KVM_EXIT_MMIO:
		bus_access(v, BUS_MMIO, run->mmio.phys_addr, run->mmio.data,
			   MIN(run->mmio.len, (u32)sizeof(run->mmio.data)), run->mmio.is_write);
		break;
	case KVM_EXIT_IOAPIC_EOI:
		if (k->eoi)
			k->eoi(k->eoi_opaque, run->eoi.vector);
		break;
	case KVM_EXIT_DEBUG:
		handle_debug(v);
		break;
	case KVM_EXIT_SHUTDOWN:
		kvm_stop(k, ENGINE_TRIPLE);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT: /* only without a local APIC in the kernel */
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(v);
		break;
	default:
		unexpected(v);
	}
	pthread_mutex_unlock(&k->dev);
}
