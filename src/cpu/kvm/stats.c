// SPDX-License-Identifier: Apache-2.0
/*
 * stats.c - counters for --stats: our own, by exit reason, and those that the kernel keeps
 *
 * The descriptor is opened with the vCPU: later, KVM_GET_STATS_FD waits until the vCPU leaves KVM_RUN,
 * which an idle one does not, and a running machine may be asked for its counters. To read it waits
 * for nobody.
 *
 * The kernel's come through the binary statistics descriptor of each vCPU (Linux 5.14; api.rst 4.133),
 * a header, descriptions with names, and an array of values. Sums over all vCPUs are told, of
 * simple counters only. Without that descriptor there are just our own.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DESCS_MAX 256u /* the kernel has about forty */
#define NAME_MAX_LEN 64u

static const struct {
	u32 reason;
	const char *name;
} reasons[] = {
	{ KVM_EXIT_IO, "kvm_exit_io" },
	{ KVM_EXIT_MMIO, "kvm_exit_mmio" },
	{ KVM_EXIT_IOAPIC_EOI, "kvm_exit_ioapic_eoi" },
	{ KVM_EXIT_INTR, "kvm_exit_intr" },
	{ KVM_EXIT_DEBUG, "kvm_exit_debug" },
	{ KVM_EXIT_SHUTDOWN, "kvm_exit_shutdown" },
};

/* What the kernel counts and a person asks for. */
static const char *const wanted[] = {
	"exits",
	"halt_exits",
	"halt_successful_poll",
	"halt_wait_ns",
	"halt_attempted_poll",
	"preemption_reported",
	"signal_exits",
	"hypercalls",
	"irq_injections",
	"irq_exits",
	"io_exits",
	"mmio_exits",
	"insn_emulation",
	"request_irq_exits",
	"nmi_injections",
};

struct sums {
	u64 val[ARRAY_LEN(wanted)];
	bool seen[ARRAY_LEN(wanted)];
};

void kvm_stats_open(struct kvm_vcpu *v)
{
	int fd = KVM_CALL(v->fd, KVM_GET_STATS_FD, 0);

	v->stats_fd = MAX(fd, -1);
}

static bool read_at(int fd, u64 off, void *buf, size_t len)
{
	return pread(fd, buf, len, (off_t)off) == (ssize_t)len;
}

static void add_desc(int fd, const struct kvm_stats_header *h, const struct kvm_stats_desc *d,
		     const char *name, struct sums *s)
{
	u64 val;

	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
		if (strcmp(name, wanted[i]) != 0)
			continue;
		if (d->size != 1 ||
		    !read_at(fd, (u64)h->data_offset + d->offset, &val, sizeof(val)))
			return;
		s->val[i] += val;
		s->seen[i] = true;
		return;
	}
}

static void add_vcpu(struct kvm_vcpu *v, struct sums *s)
{
	u8 buf[sizeof(struct kvm_stats_desc) + NAME_MAX_LEN + 1];
	struct kvm_stats_header h;
	int fd = v->stats_fd;

	if (fd < 0)
		return;
	if (read_at(fd, 0, &h, sizeof(h)) && h.name_size <= NAME_MAX_LEN) {
		size_t len = sizeof(struct kvm_stats_desc) + h.name_size;

		for (u32 i = 0; i < MIN(h.num_desc, DESCS_MAX); i++) {
			if (!read_at(fd, h.desc_offset + i * (u64)len, buf, len))
				break;
			buf[len] = 0;
			add_desc(fd, &h, (const struct kvm_stats_desc *)(void *)buf,
				 (const char *)buf + sizeof(struct kvm_stats_desc), s);
		}
	}
}

u64 kvm_guest_exits(const struct kvm *k)
{
	u64 n = 0;

	for (unsigned i = 0; i < k->cfg.ncpus; i++)
		for (unsigned x = 0; x <= KVM_EXITS; x++)
			if (x != KVM_EXIT_INTR)
				n += __atomic_load_n(&k->cpu[i].exits[x], __ATOMIC_RELAXED);
	return n;
}

void kvm_stats(struct kvm *k, void (*line)(void *l, const char *name, u64 val), void *l)
{
	u64 exits[KVM_EXITS + 1] = { 0 }, all = 0;
	struct sums s = { 0 };
	char name[80];

	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		for (unsigned x = 0; x <= KVM_EXITS; x++) {
			u64 n = __atomic_load_n(&k->cpu[i].exits[x], __ATOMIC_RELAXED);

			exits[x] += n;
			all += n;
		}
		add_vcpu(&k->cpu[i], &s);
	}
	line(l, "kvm_user_exits", all);
	for (unsigned i = 0; i < ARRAY_LEN(reasons); i++)
		line(l, reasons[i].name, exits[reasons[i].reason]);
	line(l, "kvm_messages", atomic_load(&k->msis));
	line(l, "kvm_polls", k->kicks);
	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
		if (!s.seen[i])
			continue;
		snprintf(name, sizeof(name), "kvm_kernel_%s", wanted[i]);
		line(l, name, s.val[i]);
	}
}
