// SPDX-License-Identifier: Apache-2.0
/*
 * kvm.c - the KVM engine: creating and freeing it, and what the VM sees of it
 *
 * How it works
 * vCPUs have a host thread each (run.c); interrupts are in x86/irq.c, registers in x86/state.c,
 * time in clock.c. State is fetched from KVM when somebody asks for it while the machine stands, and
 * given back, if it was changed, before the next run.
 */
#include "cpu/kvm/kvm.h"

#include "cpu/kvm/call.h"
#include "cpu/kvm/caps.h"
#include "cpu/kvm/kvm_priv.h"
#include "isa/x86/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- what a page walk over a vCPU's state needs ----------------------------------------------- */

static struct mem *mem_of(struct x86_cpu *c)
{
	struct kvm *k = c->engine;

	return k->cfg.mem;
}

static u64 phys_read(struct x86_cpu *c, gpa_t a, unsigned size)
{
	u64 val = 0;

	return mem_read(mem_of(c), a, &val, size) < 0 ? UINT64_MAX : val;
}

/* Accessed and dirty bits are the processor's: who looks at a stopped guest leaves no traces. */
static void phys_or(struct x86_cpu *c, gpa_t a, unsigned size, u64 bits)
{
}

/* --- creation --------------------------------------------------------------------------------- */

static int open_events(struct kvm *k, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int r = kvm_gate("eventfd");

	if (r == 0) {
		k->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		k->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (k->wake_fd < 0 || k->epoll < 0 ||
		    epoll_ctl(k->epoll, EPOLL_CTL_ADD, k->wake_fd, &ev) < 0)
			r = -errno;
	}
	return r < 0 ? err_sys(e, r, "cannot create the descriptors that wake the VM's thread") : 0;
}

static int make_locks(struct kvm *k, struct err *e)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	/*
	 * A vCPU with a real-time priority must not wait for the device lock in the hands of a thread
	 * that does not get to run.
	 */
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setprotocol(&ma, PTHREAD_PRIO_INHERIT);
	int r = -pthread_mutex_init(&k->dev, &ma);

	pthread_mutexattr_destroy(&ma);
	if (r < 0)
		return err_sys(e, r, "cannot create the device lock");
	k->dev_made = true;
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->go, NULL);
	pthread_cond_init(&k->parked, &ca);
	pthread_condattr_destroy(&ca);
	k->lock_made = true;
	return 0;
}

static int create_vcpu(struct kvm_vcpu *v, struct err *e)
{
	struct kvm *k = v->k;
	/* With local APICs in the kernel a vCPU's id is its APIC id. */
	int r = KVM_CALL(k->vm, KVM_CREATE_VCPU, v->apic_id);
	void *p = MAP_FAILED;

	if (r < 0)
		return err_sys(e, r, "KVM_CREATE_VCPU failed for vCPU %u (APIC id %u)", v->index,
			       v->apic_id);
	v->fd = r;
	r = kvm_gate("mmap(vCPU)");
	if (r == 0) {
		p = mmap(NULL, k->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		r = p == MAP_FAILED ? -errno : 0;
	}
	if (r < 0)
		return err_sys(e, r, "cannot map the page of vCPU %u", v->index);
	v->run = p;
	kvm_stats_open(v);
	return 0;
}

static void init_state(struct kvm_vcpu *v)
{
	struct kvm *k = v->k;

	v->c.index = v->index;
	v->c.ops = &k->ops;
	v->c.engine = k;
	v->c.phys_mask = k->cfg.phys_mask;
	v->c.cr4_allowed = k->cfg.cr4_allowed;
	v->c.xcr0_allowed = k->cfg.xcr0_allowed;
	v->c.tsc_khz = k->tsc_khz;
	x86_reset(&v->c);
	v->fetched = v->changed = v->fresh = true;
}

static int check_limits(struct kvm *k, struct err *e)
{
	int cpus = KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	int ids = KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
	int xsave = KVM_CALL(k->sys, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	int len = KVM_TRY(e, k->sys, KVM_GET_VCPU_MMAP_SIZE, 0);
	u32 top = 0;

	if (len < 0)
		return len;
	for (unsigned i = 0; i < k->cfg.ncpus; i++)
		top = MAX(top, k->cfg.apic_ids[i]);
	if (cpus > 0 && k->cfg.ncpus > (unsigned)cpus)
		return err_set(e, -ENOTSUP, "this host's KVM runs %d vCPUs at most, not %u", cpus,
			       k->cfg.ncpus);
	if (ids > 0 && top >= (unsigned)ids)
		return err_set(e, -ENOTSUP, "this host's KVM takes APIC ids below %d, not %u", ids,
			       top);
	k->run_len = (size_t)len;
	k->xsave_len = MAX(sizeof(struct kvm_xsave), (size_t)MAX(xsave, 0));
	return 0;
}

static int create(struct kvm *k, struct err *e)
{
	int r = kvm_open("/dev/kvm", e);

	if (r < 0)
		return r;
	k->sys = r;
	r = kvm_caps_check(k->sys, e);
	if (r == 0)
		r = check_limits(k, e);
	if (r < 0)
		return r;
	r = kvm_create_vm(k->sys, e);
	if (r < 0)
		return r;
	k->vm = r;
	r = kvm_irqchip_new(k, e);
	if (r == 0)
		r = kvm_slots_set(k, e);
	for (unsigned i = 0; r == 0 && i < k->cfg.ncpus; i++)
		r = create_vcpu(&k->cpu[i], e);
	if (r == 0)
		r = kvm_cpuid_set(k, e);
	/* Behind CPUID, which says whether there is an x2APIC mode. */
	for (unsigned i = 0; r == 0 && i < k->cfg.ncpus; i++)
		r = kvm_lapic_init(&k->cpu[i], e);
	if (r == 0)
		r = kvm_clock_init(k, e);
	for (unsigned i = 0; r == 0 && i < k->cfg.ncpus; i++)
		init_state(&k->cpu[i]);
	return r == 0 ? kvm_threads_start(k, e) : r;
}

static struct kvm *alloc(const struct kvm_cfg *cfg)
{
	struct kvm *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->cfg = *cfg;
	k->sys = k->vm = k->wake_fd = k->epoll = -1;
	k->debug.step = -1;
	k->ops = (struct x86_ops){ .phys_read = phys_read, .phys_or = phys_or };
	k->cpu = aligned_alloc(64, ALIGN_UP(cfg->ncpus * sizeof(*k->cpu), (size_t)64));
	if (!k->cpu) {
		free(k);
		return NULL;
	}
	memset(k->cpu, 0, cfg->ncpus * sizeof(*k->cpu));
	for (unsigned i = 0; i < cfg->ncpus; i++) {
		k->cpu[i].k = k;
		k->cpu[i].index = i;
		k->cpu[i].apic_id = cfg->apic_ids[i];
		k->cpu[i].fd = k->cpu[i].stats_fd = -1;
	}
	return k;
}

int kvm_new(const struct kvm_cfg *cfg, struct err *e, struct kvm **ret)
{
	struct kvm *k;
	int r;

	if (!cfg->ncpus || cfg->ncpus > KVM_CPUS_MAX || cfg->pins > KVM_PINS_MAX)
		return err_set(e, -EINVAL, "a machine of %u vCPUs", cfg->ncpus);
	k = alloc(cfg);
	if (!k)
		return err_set(e, -ENOMEM, "out of memory");
	r = make_locks(k, e);
	if (r == 0)
		r = open_events(k, e);
	if (r == 0)
		r = create(k, e);
	if (r < 0) {
		err_prefix(e, "KVM");
		kvm_free(k);
		return r;
	}
	k->cfg.apic_ids = NULL; /* the caller's; each vCPU has its own */
	*ret = k;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* Threads, vCPUs, the VM, and at last the node: the guest's memory is the caller's. */
void kvm_free(struct kvm *k)
{
	if (!k)
		return;
	kvm_threads_join(k);
	for (unsigned i = 0; i < k->n_notify; i++) {
		close_fd(k->notify[i]->fd);
		free(k->notify[i]);
	}
	free(k->notify);
	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		if (k->cpu[i].run)
			munmap(k->cpu[i].run, k->run_len);
		close_fd(k->cpu[i].stats_fd);
		close_fd(k->cpu[i].fd);
	}
	close_fd(k->vm);
	close_fd(k->sys);
	close_fd(k->epoll);
	close_fd(k->wake_fd);
	gclock_fini(&k->clk);
	if (k->lock_made) {
		pthread_cond_destroy(&k->parked);
		pthread_cond_destroy(&k->go);
		pthread_mutex_destroy(&k->lock);
	}
	if (k->dev_made)
		pthread_mutex_destroy(&k->dev);
	free(k->cpu);
	free(k);
}

/* --- notifications ---------------------------------------------------------------------------- */

static int notify_new(struct kvm *k, struct kvm_notify *n)
{
	struct kvm_ioeventfd io = {
		.datamatch = n->val, .addr = n->gpa, .len = 4, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH
	};
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = n };
	int r = kvm_gate("eventfd");

	if (r < 0)
		return r;
	n->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->fd < 0)
		return -errno;
	io.fd = n->fd;
	if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, n->fd, &ev) < 0)
		return -errno;
	return KVM_CALL(k->vm, KVM_IOEVENTFD, &io);
}

int kvm_add_notify(struct kvm *k, gpa_t gpa, u32 val, void (*fn)(void *opaque, u32 val),
		   void *opaque)
{
	struct kvm_notify **all = realloc(k->notify, (k->n_notify + 1) * sizeof(*all));
	struct kvm_notify *n;
	int r;

	if (!all)
		return -ENOMEM;
	k->notify = all;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	*n = (struct kvm_notify){ .fd = -1, .gpa = gpa, .val = val, .fn = fn, .opaque = opaque };
	r = notify_new(k, n);
	if (r < 0) {
		close_fd(n->fd);
		free(n);
		return r;
	}
	k->notify[k->n_notify++] = n;
	return 0;
}

/* --- the engine's operations ------------------------------------------------------------------ */

static void op_free(void *o)
{
	kvm_free(o);
}

static struct gclock *op_gclock(void *o)
{
	return &((struct kvm *)o)->clk;
}

static enum engine_exit op_run(void *o, void (*poll)(void *opaque), void *opaque)
{
	return kvm_run_vm(o, poll, opaque);
}

static void op_kick(void *o)
{
	kvm_kick(o);
}

static void op_stop(void *o, enum engine_exit why)
{
	kvm_stop(o, why);
}

/* Time passes at the host's pace always. */
static void op_set_live(void *o, bool live)
{
}

static struct x86_cpu *op_cpu(void *o, unsigned cpu)
{
	struct kvm *k = o;
	struct kvm_vcpu *v = &k->cpu[cpu];
	struct err e = { 0 };

	BUG_IF(cpu >= k->cfg.ncpus);
	if (!v->fetched) {
		/* Nothing can be said here: the next run ends with these words. */
		if (kvm_state_get(v, &e) < 0 && !k->failure[0])
			snprintf(k->failure, sizeof(k->failure), "%.250s", e.msg);
		v->fetched = true;
	}
	return &v->c;
}

static void op_cpu_changed(void *o, unsigned cpu)
{
	struct kvm *k = o;

	BUG_IF(cpu >= k->cfg.ncpus);
	k->cpu[cpu].fetched = k->cpu[cpu].changed = true;
}

static void op_digest(void *o, void (*add)(void *h, const void *p, size_t n), void *h)
{
	struct kvm *k = o;

	for (unsigned i = 0; i < k->cfg.ncpus; i++) {
		struct x86_cpu *c = op_cpu(o, i);
		u64 flags = x86_get_rflags(c);

		add(h, c->r, X86_GPRS * sizeof(c->r[0]));
		add(h, &c->rip, sizeof(c->rip));
		add(h, &flags, sizeof(flags));
		add(h, &c->cr3, sizeof(c->cr3));
		add(h, &c->x, offsetof(struct x86_xstate, xstate_bv));
	}
}

static void op_stats(void *o, void (*line)(void *l, const char *name, u64 val), void *l)
{
	kvm_stats(o, line, l);
}

static int op_debug(void *o, const struct engine_debug *d)
{
	return kvm_debug_set(o, d);
}

static struct engine_debug_event op_debug_event(void *o)
{
	return ((struct kvm *)o)->event;
}

static const char *op_failure(void *o)
{
	return ((struct kvm *)o)->failure;
}

struct engine kvm_engine(struct kvm *k)
{
	static const struct engine_ops ops = {
		.name = "kvm",
		.free = op_free,
		.gclock = op_gclock,
		.run = op_run,
		.kick = op_kick,
		.stop = op_stop,
		.set_live = op_set_live,
		.cpu = op_cpu,
		.cpu_changed = op_cpu_changed,
		.digest = op_digest,
		.stats = op_stats,
		.debug = op_debug,
		.debug_event = op_debug_event,
		.failure = op_failure,
	};

	return (struct engine){ &ops, k };
}
