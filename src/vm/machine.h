/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - one virtual machine: RAM, board, devices and engine wired together
 *
 * A machine knows nothing of files, terminals or processes of the host: bytes come and go through
 * callbacks. All functions but machine_kick belong to the thread that calls machine_run.
 */
#ifndef ORR_VM_MACHINE_H
#define ORR_VM_MACHINE_H

#include "base/err.h"
#include "board/topology.h"
#include "cpu/engine.h"
#include "image/kernel.h"
#include "vm/devices.h"

#include <stdio.h>

struct machine;

enum machine_port { MACHINE_CONSOLE, MACHINE_CMDPORT, MACHINE_PORTS };

enum machine_clock { MACHINE_CLOCK_VIRTUAL, MACHINE_CLOCK_REAL };

#define MACHINE_MIPS_DEFAULT 1000u

/* Which tiers of the soft engine run; same order as enum soft_tier. */
enum machine_tier { MACHINE_TIER_MIX, MACHINE_TIER_INTERP, MACHINE_TIER_JIT };

struct perf;
struct symbols;

struct machine_cfg {
	const struct topo *topo; /* validated; borrowed, as all here */
	u64 mem;		 /* bytes */
	bool kvm;		 /* the host's KVM instead of the built-in CPU; the real clock */
	struct perf *perf;	 /* where on the host it runs (vm/perf.h); NULL: anywhere */
	const char *cpu_model;	 /* NULL: the default */
	enum machine_clock clock;
	enum machine_tier tier;
	u64 code_cache;		    /* bytes of translated code; 0: the default */
	FILE *code_dump, *perf_map; /* borrowed, or NULL: soft.h */
	const struct symbols *symbols;
	u32 mips;
	u64 seed;
	s64 rtc_base;		    /* Unix time at power-on */
	int debug_exit;		    /* port number, or -1 */
	const struct vm_devs *devs; /* opened; NULL: none */
	struct gate *gate;	    /* NULL: nothing enters from the host */
	bool virtio_cmdline;	    /* the command line names the devices: ACPI does not */
	const struct kernel_image *kernel;
	const void *initrd;
	size_t initrd_size;
	const char *cmdline;
	/* Bytes the guest wrote to a serial port. */
	void (*tx)(void *opaque, enum machine_port port, const u8 *bytes, size_t n);
	/* The guest made room: machine_rx takes bytes again. */
	void (*rx_space)(void *opaque, enum machine_port port);
	void *opaque;
};

/* Builds the machine and loads the kernel. 0, or a negative errno with a message. */
int machine_new(const struct machine_cfg *cfg, struct err *e, struct machine **ret);
void machine_free(struct machine *m);

/* Runs the guest until it ends or somebody stops it; see soft_run for @poll. */
enum engine_exit machine_run(struct machine *m, void (*poll)(void *opaque), void *opaque);
void machine_kick(struct machine *m); /* from any thread */
void machine_stop(struct machine *m);
/*
 * While machine_run is not running: all devices become quiet, so that nothing of the guest changes,
 * and go on. What their back ends bring meanwhile must wait: the gate is not to be dispatched.
 */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);
/*
 * On the VM's thread: somebody presses the power button, now and each second of guest time for half a minute. A
 * guest with a driver for it, and somebody who listens, shuts down; others do not notice.
 */
void machine_power_button(struct machine *m);
const char *machine_engine(const struct machine *m);  /* its name */
const char *machine_failure(const struct machine *m); /* why it is ENGINE_FAILED */
void machine_set_live(struct machine *m, bool live);
/* For a debugger. */
void machine_parts(const struct machine *m, struct engine *ret_e, struct mem **ret_mem,
		   unsigned *ret_cpus);

/* Gives bytes to a serial port's receiver; returns how many it took. */
size_t machine_rx(struct machine *m, enum machine_port port, const u8 *bytes, size_t n);

/*
 * Whether the guest's driver waits for received bytes. When it begins to, rx_space is called.
 */
bool machine_rx_listening(const struct machine *m, enum machine_port port);

/* Whether the guest wrote to the debug-exit port, and what status that asks for. */
bool machine_debug_exited(const struct machine *m, u32 *ret_code);

u64 machine_now(struct machine *m); /* ns of guest time */

#define MACHINE_DIGEST_LEN 32
/* A digest of RAM, vCPUs and devices as hexadecimal text. */
int machine_digest(struct machine *m, struct err *e, char ret[MACHINE_DIGEST_LEN + 1]);
/*
 * The devices that their drivers have broken and not reset: why, a call each.
 */
void machine_faults(struct machine *m, void (*line)(void *o, const char *dev, const char *why),
		    void *o);
/* Counters, a call each. */
void machine_stats(struct machine *m, void (*line)(void *o, const char *name, u64 val), void *o);

/* RAM that the guest needs at least, in bytes; see x86_mem_floor. */
u64 machine_mem_floor(const struct kernel_image *k, u64 initrd, u32 cpus);
/* Orrery's own part of the kernel command line. */
const char *machine_default_cmdline(bool verbose);
/* Appends " virtio_mmio.device=..." for slots 0 to @n - 1 to a command line. 0 or -ENOMEM. */
int machine_virtio_cmdline(struct buf *out, unsigned n);
/* Whether the built-in CPU, or KVM as far as one can tell before asking it, has this CPU model. */
int machine_check_model(const char *name, bool kvm, struct err *e);

#endif
