// SPDX-License-Identifier: Apache-2.0
/*
 * slots.c - the guest's memory as KVM sees it, and which of its pages were written
 *
 * Each region of mem is a memory slot with its number. What a device maps into a window
 * (virtio-fs DAX) or a balloon gives back changes the host's page tables only; KVM follows those
 * by itself.
 */
#include "cpu/kvm/call.h"
#include "cpu/kvm/kvm_priv.h"

#include <errno.h>
#include <string.h>

static int set_slot(struct kvm *k, unsigned i, struct err *e)
{
	const struct mem_region *r = mem_region_get(k->cfg.mem, i);
	struct kvm_userspace_memory_region mr = {
		.slot = i,
		.flags = k->dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = r->base,
		.memory_size = r->size,
		.userspace_addr = (uintptr_t)mem_ptr(k->cfg.mem, r->base, r->size),
	};

	return KVM_TRY(e, k->vm, KVM_SET_USER_MEMORY_REGION, &mr);
}

int kvm_slots_set(struct kvm *k, struct err *e)
{
	unsigned n = mem_region_count(k->cfg.mem);
	int slots = KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);

	if (slots >= 0 && (unsigned)slots < n)
		return err_set(e, -ENOTSUP,
			       "this host's KVM has %d memory slots, and %u are needed", slots, n);
	for (unsigned i = 0; i < n; i++) {
		int r = set_slot(k, i, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int kvm_dirty_log(struct kvm *k, bool on, struct err *e)
{
	bool was = k->dirty_log;
	int r;

	if (on == was)
		return 0;
	k->dirty_log = on;
	r = kvm_slots_set(k, e);
	if (r < 0)
		k->dirty_log = was;
	return r < 0 ? r : 0;
}

int kvm_dirty_get(struct kvm *k, unsigned region, u64 *ret_map, size_t words, struct err *e)
{
	struct kvm_dirty_log dl = { .slot = region, .dirty_bitmap = ret_map };
	u64 pages;

	if (!k->dirty_log)
		return err_set(e, -EINVAL, "written pages are not logged");
	if (region >= mem_region_count(k->cfg.mem))
		return err_set(e, -EINVAL, "there is no memory region %u", region);
	pages = mem_region_get(k->cfg.mem, region)->size / GUEST_PAGE_SIZE;
	if (words < (pages + 63) / 64)
		return err_set(e, -EINVAL, "room for %zu words, the region has %llu pages", words,
			       (unsigned long long)pages);
	int r = KVM_TRY(e, k->vm, KVM_GET_DIRTY_LOG, &dl);
	return r < 0 ? r : 0;
}
