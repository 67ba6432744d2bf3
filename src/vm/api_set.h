/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_set.h - the options of a VM that a program configures
 */
#ifndef ORR_VM_API_SET_H
#define ORR_VM_API_SET_H

#include "vm/run.h"

#define API_LIST 128u

/* What struct vm_cfg only points to. Zeroed but for cfg at first; freed by api_config_fini. */
struct api_config {
	struct vm_cfg cfg;
	struct vm_devs devs;
	struct topo topo;
	bool has_topo;
	char *numa[TOPO_NODES_MAX], *distances;
	unsigned n_numa;
	struct initramfs_include include[API_LIST];
	const char *module[API_LIST + 1], *env[API_LIST + 1];
	unsigned n_module, n_env;
	char **argv;
	char **text; /* owned copies */
	unsigned n_text;
};

void api_config_init(struct api_config *c);
void api_config_fini(struct api_config *c);
/* Sets option @name, without dashes. 0, or -EINVAL, -ENOMEM with message. */
int api_config_set(struct api_config *c, const char *name, const char *value, struct err *e);
int api_config_command(struct api_config *c, const char *const *argv, struct err *e);
/* Joins what options said apart. Before vm_run. 0 or an error with message. */
int api_config_finish(struct api_config *c, struct err *e);

#endif
