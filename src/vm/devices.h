/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.h - the devices that a user adds to a VM
 *
 * Each kind of device is one file, src/vm/dev_NAME.c, which exports one struct vm_dev_kind: its
 * option, how the option's argument is read, what the host must open, and which virtio device
 * comes of it. The table in devices.c lists the kinds; nothing else knows them one by one.
 */
#ifndef ORR_VM_DEVICES_H
#define ORR_VM_DEVICES_H

#include "base/buf.h"
#include "base/err.h"
#include "virtio/vdev.h"

#define VM_DEVS_MAX 32u /* slots of the board */

struct sandbox;
struct vm_devs;

/* What a device may know of its VM before there is one. */
struct vm_dev_host {
	unsigned cpus;
	u64 mem;	/* bytes of guest RAM; 0 if not known yet */
	bool exact;	/* the virtual clock */
	u64 seed;	/* of the VM */
	unsigned index; /* among the devices of its kind, in the order of the command line */
	int err_fd;	/* for what a user should know, a line each */
	/* As struct vm_cfg has it; may be NULL. */
	const char *kernel;
	/* Of the VM: those before this one are open. */
	const struct vm_devs *all;
	s64 rtc_base; /* Unix time at power-on */
};

struct vm_dev_kind {
	const char *name; /* the option without its dashes, and in messages */
	char key;	  /* its short form, or 0 */
	/*
	 * What its argument is called; NULL: it takes none. One that begins with '[' may be left
	 * out: it is given behind '=' only.
	 */
	const char *arg;
	const char *help; /* for --help: lines separated by '\n' */
	unsigned max;	  /* how many a VM may have; 0: as many as there are slots */
	/* Names of the modules that a guest needs besides virtio_mmio, NULL-terminated. */
	const char *const *modules;
	/* More of them, of this one device. NULL, also as the answer: none. */
	const char *const *(*needs)(void *dev);

	/*
	 * Reads the option's argument (NULL without one). Opens nothing. 0 and *ret (owned, given
	 * to the functions below), or -EINVAL with a message that names the option.
	 */
	int (*parse)(const char *text, struct err *e, void **ret);
	/*
	 * Opens what the host has to give, before a machine exists. NULL: nothing to open. 0, or
	 * an error whose message says what failed, why, and what to do.
	 */
	int (*open)(void *dev, const struct vm_dev_host *host, struct err *e);
	/*
	 * Bytes of guest memory that the device maps files into (virtio-fs DAX), a multiple of
	 * 2 MiB: they come as vdev_env.window. NULL: none. Asked after open.
	 */
	u64 (*window)(void *dev);
	/* Whether it brings the guest's root, the host's own: no command is packed. NULL: no. */
	bool (*root)(void *dev);
	/* Appends lines for the guest's init to @out (see WIRE_SETUP_FILE). NULL: none. */
	int (*guest)(void *dev, struct buf *out);
	/* Says what it will go on doing while the guest runs (vm/sandbox.h). Asked after open. */
	void (*sandbox)(void *dev, struct sandbox *s); /* NULL: nothing that all do not do */
	/* Makes the virtio device. The machine owns it, and frees it before this one. */
	int (*create)(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret);
	/* Counters for --stats, a call each. NULL: none. */
	void (*stats)(void *dev, void (*line)(void *o, const char *name, u64 val), void *o);
	void (*free)(void *dev); /* NULL is legal for @dev; NULL: nothing to free */
};

/* All kinds, in the order in which they take slots; NULL-terminated. */
extern const struct vm_dev_kind *const vm_dev_kinds[];
/* Each is defined in its own file. */
extern const struct vm_dev_kind vm_dev_rng;
extern const struct vm_dev_kind vm_dev_disk;
extern const struct vm_dev_kind vm_dev_share;
extern const struct vm_dev_kind vm_dev_hvc;
extern const struct vm_dev_kind vm_dev_balloon;
extern const struct vm_dev_kind vm_dev_net;
/* Not in the list, no option: prepare.c adds it, and it comes behind all others. */
extern const struct vm_dev_kind vm_dev_port;
extern const struct vm_dev_kind vm_dev_vsock;

struct vm_dev {
	const struct vm_dev_kind *kind;
	void *dev;
	unsigned index; /* among those of its kind */
};

/* In slot order: by kind, then by the order of the command line. Zeroed by the owner. */
struct vm_devs {
	struct vm_dev dev[VM_DEVS_MAX];
	unsigned n;
};

/* Adds a device of @kind. 0, or an error with message: more than slots, a bad argument. */
int vm_devs_add(struct vm_devs *d, const struct vm_dev_kind *kind, const char *text, struct err *e);
void vm_devs_fini(struct vm_devs *d);
/* @host->index is filled in. */
int vm_devs_open(struct vm_devs *d, const struct vm_dev_host *host, struct err *e);
/* Whether one of them brings the guest's root. */
bool vm_devs_root(const struct vm_devs *d);
/* The modules that the guest needs: up to @max names, NULL-terminated, none twice. */
int vm_devs_modules(const struct vm_devs *d, const char **ret, size_t max, struct err *e);
/*
 * Appends one line of WIRE_SETUP_FILE: @words are NULL-terminated, the first the directive. For
 * struct vm_dev_kind.guest. 0 or -ENOMEM.
 */
int vm_setup_line(struct buf *out, const char *const *words);

/* The lines for the guest's init. */
int vm_devs_guest(const struct vm_devs *d, struct buf *out, struct err *e);

#endif
