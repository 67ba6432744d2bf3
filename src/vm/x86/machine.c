/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - the x86 machine: what is created, in which order, and which wire goes where
 */
#include "vm/machine.h"

#include "board/x86/acpi.h"
#include "board/x86/boot.h"
#include "board/x86/cpuid.h"
#include "board/x86/layout.h"
#include "board/x86/memmap.h"
#include "cpu/kvm/kvm.h"
#include "cpu/soft/soft.h"
#include "dev/acpi_pm.h"
#include "dev/debug_exit.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/rtc.h"
#include "dev/uart16550.h"
#include "virtio/mmio.h"
#include "vm/perf.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define BOARD_DEVICES 16
#define DEVICES_MAX (BOARD_DEVICES + VM_DEVS_MAX * (VDEV_DEVICES + 1))

_Static_assert(VM_DEVS_MAX == X86_VIRTIO_SLOTS, "a device, a slot");
_Static_assert(VIRTIO_MMIO_LEN == X86_VIRTIO_LEN, "what ACPI says is what is there");

struct port_ctx {
	struct machine *m;
	enum machine_port port;
};

#define BUTTON_PRESSES 30u
#define BUTTON_AGAIN_NS 1000000000u

struct machine {
	struct machine_cfg cfg;
	struct mem_region regions[MEM_REGIONS_MAX]; /* RAM; with the window behind it for mem */
	unsigned nregions;
	struct mem *mem;
	struct bus *bus;
	struct x86_cpuids *cpuids;
	struct engine engine;
	struct lapics *lapics; /* of the soft engine */
	struct kvm *kvm;       /* or this, owned by the engine */
	struct ioapic *ioapic;
	struct uart *uart[MACHINE_PORTS];
	struct port_ctx port[MACHINE_PORTS];
	struct rtc *rtc;
	struct i8042 *i8042;
	struct acpi_pm *pm;
	struct debug_exit *dbg;
	struct vdev *vdev[VM_DEVS_MAX];
	struct virtio_mmio *mmio[VM_DEVS_MAX];
	unsigned n_vdev;
	gpa_t window;			/* where the devices' own memory begins */
	struct device dev[DEVICES_MAX]; /* in the order they were created */
	unsigned ndev;
	bool exited;
	u32 exit_code;
	struct gtimer button;
	unsigned presses;
};

/* --- what devices ask for --------------------------------------------------------------------- */

static void on_poweroff(void *o)
{
	struct machine *m = o;

	engine_stop(m->engine, ENGINE_POWEROFF);
}

static void on_reset(void *o)
{
	struct machine *m = o;

	engine_stop(m->engine, ENGINE_RESET);
}

static void on_debug_exit(void *o, u32 code)
{
	struct machine *m = o;

	m->exited = true;
	m->exit_code = code;
	engine_stop(m->engine, ENGINE_POWEROFF);
}

static void on_tx(void *o, const u8 *bytes, size_t n)
{
	struct port_ctx *p = o;

	p->m->cfg.tx(p->m->cfg.opaque, p->port, bytes, n);
}

static void on_rx_space(void *o)
{
	struct port_ctx *p = o;

	if (p->m->cfg.rx_space)
		p->m->cfg.rx_space(p->m->cfg.opaque, p->port);
}

static unsigned on_msi(void *o, u64 addr, u32 data)
{
	struct machine *m = o;

	return m->kvm ? kvm_msi(m->kvm, addr, data) : lapics_msi(m->lapics, addr, data);
}

static void on_route(void *o, unsigned pin, u64 addr, u32 data)
{
	struct machine *m = o;

	if (m->kvm)
		kvm_route(m->kvm, pin, addr, data);
}

/* --- building --------------------------------------------------------------------------------- */

static void add_device(struct machine *m, struct device d)
{
	BUG_IF(m->ndev == DEVICES_MAX);
	m->dev[m->ndev++] = d;
}

/* The vCPUs' APIC ids; returns the highest. */
static u32 apic_ids(const struct topo *t, u32 ret[TOPO_CPUS_MAX])
{
	u32 top = 0;

	for (u32 i = 0; i < topo_cpus(t); i++) {
		ret[i] = x86_apic_id(t, i);
		top = MAX(top, ret[i]);
	}
	return top;
}

static int add_soft(struct machine *m, const struct x86_model_info *mi, struct err *e)
{
	u32 ids[TOPO_CPUS_MAX], n = topo_cpus(m->cfg.topo), top = apic_ids(m->cfg.topo, ids);
	struct soft *soft;
	struct soft_cfg sc = {
		.ncpus = n,
		.mem = m->mem,
		.bus = m->bus,
		.clock = m->cfg.clock == MACHINE_CLOCK_REAL ? SOFT_CLOCK_REAL : SOFT_CLOCK_VIRTUAL,
		.tier = (enum soft_tier)m->cfg.tier,
		.code_cache = m->cfg.code_cache,
		.code_dump = m->cfg.code_dump,
		.perf_map = m->cfg.perf_map,
		.symbols = m->cfg.symbols,
		.mips = m->cfg.mips,
		.seed = m->cfg.seed,
		.cr4_allowed = mi->cr4_allowed,
		.xcr0_allowed = mi->xcr0_allowed,
		.phys_mask = mi->phys_mask,
		.tsc_khz = X86_TSC_KHZ,
		.cpuid = x86_cpuids_get,
		.cpuid_opaque = m->cpuids,
	};
	int r = soft_new(&sc, e, &soft);

	if (r < 0)
		return r;
	m->engine = soft_engine(soft);
	struct lapics_cfg lc = {
		.ncpus = n,
		.apic_ids = ids,
		.start_x2apic = top > 254,
		.clk = engine_gclock(m->engine),
		.cpu = soft_signals(soft),
	};
	r = lapics_new(&lc, e, &m->lapics);
	if (r < 0)
		return r;
	struct cpu_intc intc = lapics_intc(m->lapics);
	soft_set_intc(soft, &intc);
	add_device(m, lapics_device(m->lapics));
	return bus_add(m->bus, BUS_MMIO, X86_LAPIC_BASE, X86_LAPIC_LEN, &lapics_bus_ops, m->lapics,
		       "lapic");
}

/* Asked once: it is a file of the host's, and a VM that is reset may open none any more. */
static u64 host_cpus(void)
{
	static long online;

	if (!online)
		online = sysconf(_SC_NPROCESSORS_ONLN);
	return (u64)MAX(online, 1L);
}

/* The local APICs are the kernel's. */
static int add_kvm(struct machine *m, const struct x86_model_info *mi, bool host, struct err *e)
{
	u32 ids[TOPO_CPUS_MAX], top = apic_ids(m->cfg.topo, ids);
	struct kvm_cfg kc = {
		.ncpus = topo_cpus(m->cfg.topo),
		.apic_ids = ids,
		.start_x2apic = top > 254,
		.mem = m->mem,
		.bus = m->bus,
		.pins = X86_IOAPIC_PINS,
		.cpuid = x86_cpuids_get,
		.cpuid_opaque = m->cpuids,
		.host_features = host,
		/* An idle vCPU that spins keeps a CPU from one that works. */
		.halt_poll_set = topo_cpus(m->cfg.topo) > host_cpus(),
		.halt_poll_ns = 0,
		.own_cpus = perf_owns_cpus(m->cfg.perf),
		.keep_cpus = perf_owns_cpus(m->cfg.perf),
		.thread_start = m->cfg.perf ? perf_vcpu_thread : NULL,
		.warn = m->cfg.perf ? perf_warn : NULL,
		.perf_opaque = m->cfg.perf,
		.cr4_allowed = mi->cr4_allowed,
		.xcr0_allowed = mi->xcr0_allowed,
		.phys_mask = mi->phys_mask,
	};
	int r = kvm_new(&kc, e, &m->kvm);

	if (r < 0)
		return r;
	m->engine = kvm_engine(m->kvm);
	add_device(m, kvm_device(m->kvm));
	return 0;
}

static bool model_is_host(const char *name)
{
	return name && strcmp(name, "host") == 0;
}

static int add_cpus(struct machine *m, struct err *e)
{
	bool host = m->cfg.kvm && model_is_host(m->cfg.cpu_model);
	/* Topology and names of the host's own model are those of ours with the most features. */
	enum x86_model model = X86_MODEL_V3;
	int r = host ? 0 : x86_model_parse(m->cfg.cpu_model, e, &model);

	if (r < 0)
		return r;
	r = x86_cpuids_new(model, m->cfg.topo, &m->cpuids);
	if (r < 0)
		return err_set(e, r, "out of memory for CPUID tables");
	return m->cfg.kvm ? add_kvm(m, x86_model_get(model), host, e)
			  : add_soft(m, x86_model_get(model), e);
}

static int add_uart(struct machine *m, enum machine_port port, u16 base, unsigned gsi)
{
	struct uart_cfg uc = {
		.clk = engine_gclock(m->engine),
		.irq = ioapic_line(m->ioapic, gsi),
		.tx = on_tx,
		.rx_space = on_rx_space,
		.opaque = &m->port[port],
	};
	int r = uart_new(&uc, &m->uart[port]);

	m->port[port] = (struct port_ctx){ .m = m, .port = port };
	if (r < 0)
		return r;
	add_device(m, uart_device(m->uart[port]));
	return bus_add(m->bus, BUS_PIO, base, X86_COM_PORTS, &uart_bus_ops, m->uart[port], "uart");
}

static void press(void *opaque);

static int add_devices(struct machine *m)
{
	struct gclock *clk = engine_gclock(m->engine);
	struct ioapic_cfg ic = {
		.pins = X86_IOAPIC_PINS,
		.id = X86_IOAPIC_ID,
		.msg = on_msi,
		.route = on_route,
		.opaque = m,
	};
	struct i8042_cfg kc = { .reset = on_reset, .opaque = m };
	struct acpi_pm_cfg pc = { .poweroff = on_poweroff, .reset = on_reset, .opaque = m };
	struct debug_exit_cfg dc = { .exit = on_debug_exit, .opaque = m };
	int r;

	gtimer_init(&m->button, clk, press, m);
	r = ioapic_new(&ic, &m->ioapic);
	if (r < 0)
		return r;
	if (m->kvm)
		kvm_set_eoi(m->kvm, ioapic_eoi, m->ioapic);
	else
		lapics_set_eoi(m->lapics, ioapic_eoi, m->ioapic);
	add_device(m, ioapic_device(m->ioapic));
	r = bus_add(m->bus, BUS_MMIO, X86_IOAPIC_BASE, X86_IOAPIC_LEN, &ioapic_bus_ops, m->ioapic,
		    "ioapic");
	if (r < 0)
		return r;
	r = add_uart(m, MACHINE_CONSOLE, X86_COM1_PORT, X86_COM1_GSI);
	if (r < 0)
		return r;
	r = add_uart(m, MACHINE_CMDPORT, X86_COM2_PORT, X86_COM2_GSI);
	if (r < 0)
		return r;

	struct rtc_cfg rc = { .clk = clk,
			      .irq = ioapic_line(m->ioapic, X86_CMOS_GSI),
			      .base = m->cfg.rtc_base };
	r = rtc_new(&rc, &m->rtc);
	if (r < 0)
		return r;
	add_device(m, rtc_device(m->rtc));
	r = bus_add(m->bus, BUS_PIO, X86_CMOS_PORT, X86_CMOS_PORTS, &rtc_bus_ops, m->rtc, "rtc");
	if (r < 0)
		return r;

	kc.irq = ioapic_line(m->ioapic, X86_I8042_GSI);
	r = i8042_new(&kc, &m->i8042);
	if (r < 0)
		return r;
	add_device(m, i8042_device(m->i8042));
	r = i8042_attach(m->i8042, m->bus);
	if (r < 0)
		return r;

	r = acpi_pm_new(&pc, &m->pm);
	if (r < 0)
		return r;
	add_device(m, acpi_pm_device(m->pm));
	r = bus_add(m->bus, BUS_PIO, ACPI_PM_PORT, ACPI_PM_PORTS, &acpi_pm_bus_ops, m->pm,
		    "acpi-pm");
	if (r < 0 || m->cfg.debug_exit < 0)
		return r;

	r = debug_exit_new(&dc, &m->dbg);
	if (r < 0)
		return r;
	add_device(m, debug_exit_device(m->dbg));
	return bus_add(m->bus, BUS_PIO, (u16)m->cfg.debug_exit, DEBUG_EXIT_PORTS,
		       &debug_exit_bus_ops, m->dbg, "debug-exit");
}

/* Each device another stream, and another VM seed other streams (SplitMix64's increment). */
static u64 device_seed(const struct machine *m, unsigned slot)
{
	return (m->cfg.seed ^ 0x76697274696full) + 0x9e3779b97f4a7c15ull * ((u64)slot << 32 | 1);
}

/* The part of the window that slot @slot has. */
static struct vdev_shm window(const struct machine *m, unsigned slot)
{
	const struct vm_devs *d = m->cfg.devs;
	struct vdev_shm w = { .base = m->window };

	for (unsigned i = 0; d && i <= slot && i < d->n; i++) {
		w.base += w.len;
		w.len = d->dev[i].kind->window ? d->dev[i].kind->window(d->dev[i].dev) : 0;
	}
	return w;
}

static void on_notify(void *vdev, u32 queue)
{
	vdev_notify_queue(vdev, queue);
}

/*
 * KVM can hand a write to QueueNotify to the VM's thread and let the vCPU go on. That pays where the
 * device does all of its work when it is notified: sending frames is several times as fast. Block devices
 * and shares give theirs to workers anyway, and another thread in between only makes them later.
 */
static int add_notifies(struct machine *m, unsigned slot)
{
	gpa_t at = X86_VIRTIO_BASE + slot * X86_VIRTIO_STRIDE + VIRTIO_MMIO_QUEUE_NOTIFY;
	u32 id = vdev_ops(m->vdev[slot])->id;
	bool pays = id == VIRTIO_ID_NET || id == VIRTIO_ID_VSOCK || id == VIRTIO_ID_CONSOLE;
	int r = 0;

	for (u32 q = 0; m->kvm && pays && r == 0 && q < vdev_queues(m->vdev[slot]); q++)
		r = kvm_add_notify(m->kvm, at, q, on_notify, m->vdev[slot]);
	return r;
}

static int add_virtio(struct machine *m, const struct vm_dev *d, struct err *e)
{
	unsigned slot = m->n_vdev;
	struct vdev_env env = { .mem = m->mem,
				.clk = engine_gclock(m->engine),
				.gate = m->cfg.gate,
				.exact = m->cfg.clock == MACHINE_CLOCK_VIRTUAL,
				.seed = device_seed(m, slot),
				.window = window(m, slot) };
	struct irq_line irq = ioapic_line(m->ioapic, X86_VIRTIO_GSI + slot);
	struct device own[VDEV_DEVICES];
	int r;

	snprintf(env.name, sizeof(env.name), "%.7s%u", d->kind->name, d->index % 100);
	r = d->kind->create(d->dev, &env, e, &m->vdev[slot]);
	if (r < 0)
		return r;
	m->n_vdev++;
	r = virtio_mmio_new(m->vdev[slot], &irq, &m->mmio[slot]);
	if (r == 0)
		r = bus_add(m->bus, BUS_MMIO, X86_VIRTIO_BASE + slot * X86_VIRTIO_STRIDE,
			    X86_VIRTIO_LEN, &virtio_mmio_bus_ops, m->mmio[slot], "virtio-mmio");
	if (r == 0)
		r = add_notifies(m, slot);
	if (r < 0)
		return err_sys(e, r, "cannot create the device of --%s", d->kind->name);
	add_device(m, virtio_mmio_device(m->mmio[slot]));
	vdev_devices(m->vdev[slot], own);
	for (unsigned i = 0; i < VDEV_DEVICES; i++)
		add_device(m, own[i]);
	return 0;
}

/*
 * A kernel that resets through the firmware jumps to FFFF:0 in real mode (Linux does, on a
 * hardware-reduced ACPI machine). Firmware here is: MOV DX, 604h; MOV AL, 1; OUT DX, AL; HLT; JMP.
 */
static const u8 reset_vector[] = {
	0xba, X86_RESET_PORT & 0xff, X86_RESET_PORT >> 8, 0xb0, X86_RESET_VALUE, 0xee, 0xf4, 0xeb,
	0xfd
};
#define RESET_VECTOR 0xffff0u

static int load(struct machine *m, struct err *e)
{
	struct x86_tables_in ti = { .topo = m->cfg.topo,
				    .regions = m->regions,
				    .nregions = m->nregions,
				    .virtio_slots = m->n_vdev,
				    .virtio_hidden = m->cfg.virtio_cmdline };
	struct x86_boot_in bi = { .kernel = m->cfg.kernel,
				  .initrd = m->cfg.initrd,
				  .initrd_size = m->cfg.initrd_size,
				  .cmdline = m->cfg.cmdline,
				  .regions = m->regions,
				  .nregions = m->nregions };
	struct x86_boot b;
	int r = x86_tables_write(&ti, m->mem, e);

	if (r < 0)
		return r;
	r = x86_boot_load(&bi, m->mem, e, &b);
	if (r < 0)
		return r;
	r = mem_write(m->mem, RESET_VECTOR, reset_vector, sizeof(reset_vector));
	if (r < 0)
		return err_set(e, r, "no RAM below 1 MiB");
	for (unsigned i = 0; i < topo_cpus(m->cfg.topo); i++) {
		x86_boot_cpu(engine_cpu(m->engine, i), i ? NULL : &b);
		engine_cpu_changed(m->engine, i);
	}
	return 0;
}

/*
 * RAM, and behind it one region for what devices share with the guest. Linux maps such memory in
 * sections of 128 MiB, so it shares none with RAM.
 */
static int add_mem(struct machine *m, struct err *e)
{
	const struct mem_region *top = &m->regions[m->nregions - 1];
	const struct vm_devs *d = m->cfg.devs;
	unsigned n = m->nregions;
	u64 len = 0;

	m->window = ALIGN_UP(MAX(top->base + top->size, X86_GAP_END), 1ull << 30);
	for (unsigned i = 0; d && i < d->n; i++)
		len += window(m, i).len;
	if (len)
		m->regions[n++] = (struct mem_region){
			.base = m->window, .size = len, .node = top->node, .window = true
		};
	int r = mem_new(m->regions, n, e, &m->mem);

	return r == 0 ? perf_back_mem(m->cfg.perf, m->mem, e) : r;
}

int machine_new(const struct machine_cfg *cfg, struct err *e, struct machine **ret)
{
	struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->cfg = *cfg;
	r = x86_mem_layout(cfg->topo, cfg->mem, e, m->regions, &m->nregions);
	if (r < 0)
		goto fail;
	r = add_mem(m, e);
	if (r < 0)
		goto fail;
	r = bus_new(&m->bus);
	if (r < 0) {
		err_set(e, r, "out of memory");
		goto fail;
	}
	r = add_cpus(m, e);
	if (r < 0)
		goto fail;
	r = add_devices(m);
	if (r == -EEXIST) {
		err_set(e, r, "--debug-exit 0x%x: a device of the board is at this port",
			(unsigned)cfg->debug_exit);
		goto fail;
	}
	if (r < 0) {
		err_sys(e, r, "cannot create the devices");
		goto fail;
	}
	for (unsigned i = 0; r == 0 && cfg->devs && i < cfg->devs->n; i++)
		r = add_virtio(m, &cfg->devs->dev[i], e);
	if (r == 0)
		r = load(m, e);
	if (r < 0)
		goto fail;
	*ret = m;
	return 0;
fail:
	machine_free(m);
	return r;
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	gtimer_cancel(&m->button);
	/* Back ends first: their workers use guest memory. */
	for (unsigned i = 0; i < m->n_vdev; i++) {
		virtio_mmio_free(m->mmio[i]);
		vdev_free(m->vdev[i]);
	}
	debug_exit_free(m->dbg);
	acpi_pm_free(m->pm);
	i8042_free(m->i8042);
	rtc_free(m->rtc);
	for (int i = 0; i < MACHINE_PORTS; i++)
		uart_free(m->uart[i]);
	ioapic_free(m->ioapic);
	lapics_free(m->lapics);
	engine_free(m->engine);
	x86_cpuids_free(m->cpuids);
	bus_free(m->bus);
	mem_free(m->mem);
	free(m);
}

/* --- running ---------------------------------------------------------------------------------- */

enum engine_exit machine_run(struct machine *m, void (*poll)(void *opaque), void *opaque)
{
	return engine_run(m->engine, poll, opaque);
}

void machine_kick(struct machine *m)
{
	engine_kick(m->engine);
}

void machine_stop(struct machine *m)
{
	engine_stop(m->engine, ENGINE_STOPPED);
}

void machine_pause(struct machine *m)
{
	for (unsigned i = 0; i < m->ndev; i++)
		device_pause(&m->dev[i]);
}

/* A device that was not paused has nothing to rebuild; to do it all the same could change an order. */
void machine_resume(struct machine *m)
{
	for (unsigned i = 0; i < m->ndev; i++)
		if (m->dev[i].ops->pause)
			device_resume(&m->dev[i]);
}

/*
 * An edge that nobody takes is lost, be it that the pin is masked until there is a driver, that the driver
 * of the button proper (a module) comes later, or that its events have no reader yet. A person would
 * press again, so the button is. The number is bounded for the guest's clock: if that is virtual, an
 * idle guest is through with them in no time.
 */
static void press(void *opaque)
{
	struct machine *m = opaque;
	struct irq_line l = ioapic_line(m->ioapic, X86_BUTTON_GSI);

	irq_set(&l, true);
	irq_set(&l, false);
	if (++m->presses < BUTTON_PRESSES)
		gtimer_arm(&m->button, machine_now(m) + BUTTON_AGAIN_NS);
}

void machine_power_button(struct machine *m)
{
	m->presses = 0;
	press(m);
}

const char *machine_engine(const struct machine *m)
{
	return m->engine.ops->name;
}

void machine_parts(const struct machine *m, struct engine *ret_e, struct mem **ret_mem,
		   unsigned *ret_cpus)
{
	*ret_e = m->engine;
	*ret_mem = m->mem;
	*ret_cpus = topo_cpus(m->cfg.topo);
}

const char *machine_failure(const struct machine *m)
{
	return m->engine.ops->failure ? m->engine.ops->failure(m->engine.o) : "";
}

void machine_set_live(struct machine *m, bool live)
{
	engine_set_live(m->engine, live);
}

size_t machine_rx(struct machine *m, enum machine_port port, const u8 *bytes, size_t n)
{
	return uart_rx(m->uart[port], bytes, n);
}

bool machine_rx_listening(const struct machine *m, enum machine_port port)
{
	return uart_rx_listening(m->uart[port]);
}

bool machine_debug_exited(const struct machine *m, u32 *ret_code)
{
	if (m->exited)
		*ret_code = m->exit_code;
	return m->exited;
}

u64 machine_now(struct machine *m)
{
	return gclock_now(engine_gclock(m->engine));
}

static void digest_add(void *h, const void *p, size_t n)
{
	XXH3_128bits_update(h, p, n);
}

int machine_digest(struct machine *m, struct err *e, char ret[MACHINE_DIGEST_LEN + 1])
{
	struct mem_digest md;
	XXH3_state_t *h;
	int r = mem_digest(m->mem, e, &md);

	if (r < 0)
		return r;
	h = XXH3_createState();
	if (!h)
		return err_set(e, -ENOMEM, "out of memory for the digest");
	XXH3_128bits_reset(h);
	digest_add(h, &md, sizeof(md));
	m->engine.ops->digest(m->engine.o, digest_add, h);
	for (unsigned i = 0; i < m->ndev; i++)
		device_digest(&m->dev[i], digest_add, h);
	XXH128_hash_t x = XXH3_128bits_digest(h);
	XXH3_freeState(h);
	snprintf(ret, MACHINE_DIGEST_LEN + 1, "%016llx%016llx", (unsigned long long)x.high64,
		 (unsigned long long)x.low64);
	return 0;
}

void machine_stats(struct machine *m, void (*line)(void *o, const char *name, u64 val), void *o)
{
	struct vdev_stats sum = { 0 };

	m->engine.ops->stats(m->engine.o, line, o);
	for (unsigned i = 0; i < m->n_vdev; i++) {
		struct vdev_stats s = vdev_stats(m->vdev[i]);

		sum.notified += s.notified;
		sum.interrupts += s.interrupts;
	}
	if (m->n_vdev) {
		line(o, "virtio_notifications", sum.notified);
		line(o, "virtio_interrupts", sum.interrupts);
	}
	for (unsigned i = 0; i < m->n_vdev; i++)
		if (m->cfg.devs->dev[i].kind->stats)
			m->cfg.devs->dev[i].kind->stats(m->cfg.devs->dev[i].dev, line, o);
}

void machine_faults(struct machine *m, void (*line)(void *o, const char *dev, const char *why),
		    void *o)
{
	for (unsigned i = 0; i < m->n_vdev; i++)
		if (vdev_fault(m->vdev[i]))
			line(o, vdev_name(m->vdev[i]), vdev_fault(m->vdev[i]));
}

int machine_virtio_cmdline(struct buf *out, unsigned n)
{
	int r = 0;

	/* SIZE@BASE:IRQ, as the driver's parameter has it; without ACPI the MP table names pins. */
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = buf_printf(out, " virtio_mmio.device=0x%llx@0x%llx:%u",
			       (unsigned long long)X86_VIRTIO_LEN,
			       (unsigned long long)(X86_VIRTIO_BASE + i * X86_VIRTIO_STRIDE),
			       X86_VIRTIO_GSI + i);
	return r;
}

u64 machine_mem_floor(const struct kernel_image *k, u64 initrd, u32 cpus)
{
	struct x86_mem_need n = {
		.kernel = k->mem_top, .initrd = initrd, .initrd_unpacked = initrd, .cpus = cpus
	};

	return x86_mem_floor(&n);
}

const char *machine_default_cmdline(bool verbose)
{
	return x86_default_cmdline(verbose);
}

int machine_check_model(const char *name, bool kvm, struct err *e)
{
	const struct x86_model_info *mi;
	enum x86_model model;
	const char *lacks;
	int r = kvm && model_is_host(name) ? 0 : x86_model_parse(name, e, &model);

	if (r < 0 || kvm)
		return r;
	mi = x86_model_get(model);
	lacks = soft_host_lacks(mi->xcr0_allowed);
	if (lacks)
		return err_set(
			e, -ENOTSUP,
			"CPU model %s executes on this host's own units, and this host has no %s; "
			"use --cpu-model x86-64-v2",
			mi->name, lacks);
	return r;
}
