/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the options of a VM, as text: of `orrery run`, and of a program (orr_vm_set)
 */
#ifndef ORR_VM_OPTIONS_H
#define ORR_VM_OPTIONS_H

#include "vm/run.h"

#define VM_OPTIONS_LIST 128u

/* What they say, and the storage that struct vm_cfg only points to. */
struct vm_options {
	struct vm_cfg cfg;
	const char *dashes; /* before an option's name in messages: "--" or "" */
	struct vm_devs devs;
	struct topo topo;
	bool has_cpus, has_topology;
	const char *numa[TOPO_NODES_MAX], *distances;
	unsigned n_numa;
	struct initramfs_include include[VM_OPTIONS_LIST];
	const char *module[VM_OPTIONS_LIST + 1], *env[VM_OPTIONS_LIST + 1];
	unsigned n_module, n_env;
	char **argv;
	char **text; /* owned copies */
	unsigned n_text;
};

/* No streams, no signals: what else differs is the caller's to set. @dashes: static storage. */
void vm_options_init(struct vm_options *o, const char *dashes);
void vm_options_fini(struct vm_options *o);
/*
 * Sets option @name, without dashes; of devices, too. Those of a terminal, of the process and of its
 * CPUs are not here, but the caller's. 0, or -EINVAL, -E2BIG, -ENOMEM with message. Texts are copied.
 */
int vm_options_set(struct vm_options *o, const char *name, const char *value, struct err *e);
int vm_options_command(struct vm_options *o, const char *const *argv, struct err *e);
/* Joins what options said apart. Before vm_run. 0 or an error with message. */
int vm_options_finish(struct vm_options *o, struct err *e);

#endif
