// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - the options of a VM, as text: of `orrery run`, and of a program (orr_vm_set)
 *
 * How it works
 * One table of the options that make sense without a terminal and without a process of their own;
 * devices are those of devices.c. What an option means is said in the structs it fills in; only how
 * its text is read is here. Each reader gets the option's name as its user writes it.
 */
#include "vm/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/values.h"
#include "vm/ctl.h"

#define NAME_MAX_LEN 40u /* of an option, with its dashes */

static char *keep(struct vm_options *o, const char *text)
{
	char **more = realloc(o->text, (o->n_text + 1) * sizeof(*more));
	char *copy = more ? strdup(text) : NULL;

	if (more)
		o->text = more;
	if (copy)
		o->text[o->n_text++] = copy;
	return copy;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- options that are more than a field ------------------------------------------------------- */

static int set_engine(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	static const char *const names[] = { "auto", "soft", "kvm" };
	unsigned n = o->cfg.engine;
	int r = value_choice(name, v, names, ARRAY_LEN(names), e, &n);

	o->cfg.engine = (enum vm_engine)n;
	return r;
}

static int set_clock(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	static const char *const names[] = { "auto", "virtual", "real" };
	unsigned n = o->cfg.clock;
	int r = value_choice(name, v, names, ARRAY_LEN(names), e, &n);

	o->cfg.clock = (enum vm_clock)n;
	return r;
}

static int set_tier(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	static const char *const names[] = { "mix", "interp", "jit" };
	unsigned n = o->cfg.tier;
	int r = value_choice(name, v, names, ARRAY_LEN(names), e, &n);

	o->cfg.tier = (enum machine_tier)n;
	return r;
}

static int set_on_reset(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	static const char *const names[] = { "exit", "restart" };
	unsigned n = o->cfg.restart;
	int r = value_choice(name, v, names, ARRAY_LEN(names), e, &n);

	o->cfg.restart = n == 1;
	return r;
}

static int set_seed(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	o->cfg.has_seed = true;
	return value_u64(name, v, 0, UINT64_MAX, e, &o->cfg.seed);
}

static int set_mips(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	u64 n = 0;
	int r = value_u64(name, v, 1, 100000, e, &n);

	o->cfg.mips = (u32)n;
	return r;
}

static int set_rtc(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	o->cfg.has_rtc = true;
	return value_time(name, v, e, &o->cfg.rtc_base);
}

static int set_debug_exit(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	u64 n = 0;
	int r = value_u64(name, v, 1, 0xfffc, e, &n);

	if (r == 0)
		o->cfg.debug_exit = (int)n;
	return r;
}

static int set_mem(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	int r = value_size(name, v, e, &o->cfg.mem);

	return r == 0 && !o->cfg.mem ? err_set(e, -EINVAL, "%s 0: a VM needs memory", name) : r;
}

static int set_code_cache(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	int r = value_size(name, v, e, &o->cfg.code_cache);

	return r == 0 && (o->cfg.code_cache < 1u << 20 || o->cfg.code_cache > 1u << 30)
		       ? err_set(e, -EINVAL, "%s %s: it takes 1M to 1G", name, v)
		       : r;
}

static int set_timeout(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	return value_seconds(name, v, e, &o->cfg.timeout_ns);
}

static int set_cpus(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	u64 n = 0;
	int r = value_u64(name, v, 1, TOPO_CPUS_MAX, e, &n);

	o->has_cpus = true;
	return r < 0 ? r : topo_from_cpus((u32)n, e, &o->topo);
}

static int set_topology(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	o->has_topology = true;
	return topo_parse(v, e, &o->topo);
}

static int set_numa(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	if (o->n_numa == TOPO_NODES_MAX)
		return err_set(e, -E2BIG, "%s: more than %u of them", name, TOPO_NODES_MAX);
	o->numa[o->n_numa] = keep(o, v);
	return o->numa[o->n_numa++] ? 0 : no_memory(e);
}

static int set_distances(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	o->distances = keep(o, v);
	return o->distances ? 0 : no_memory(e);
}

static int set_name(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	int r = ctl_check_name(v, e);

	if (r < 0)
		return r;
	o->cfg.name = keep(o, v);
	return o->cfg.name ? 0 : no_memory(e);
}

static int set_append(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	char *all;

	if (asprintf(&all, "%s%s%s", o->cfg.append ? o->cfg.append : "", o->cfg.append ? " " : "",
		     v) < 0)
		return no_memory(e);
	o->cfg.append = keep(o, all);
	free(all);
	return o->cfg.append ? 0 : no_memory(e);
}

static int add(struct vm_options *o, const char *name, const char *v, const char **list,
	       unsigned *n, struct err *e)
{
	if (*n == VM_OPTIONS_LIST)
		return err_set(e, -E2BIG, "%s: more than %u of them", name, VM_OPTIONS_LIST);
	list[*n] = keep(o, v);
	return list[(*n)++] ? 0 : no_memory(e);
}

static int set_module(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	return add(o, name, v, o->module, &o->n_module, e);
}

static int set_env(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	if (v[0] == '=' || !strchr(v, '='))
		return err_set(e, -EINVAL, "%s %.80s: it takes NAME=VALUE", name, v);
	return add(o, name, v, o->env, &o->n_env, e);
}

/* FILE or FILE:GUESTPATH, split at the first colon. */
static int set_include(struct vm_options *o, const char *name, const char *v, struct err *e)
{
	char *host, *colon;

	if (o->cfg.n_include == VM_OPTIONS_LIST)
		return err_set(e, -E2BIG, "%s: more than %u of them", name, VM_OPTIONS_LIST);
	host = keep(o, v);
	if (!host)
		return no_memory(e);
	colon = strchr(host, ':');
	/* A name with a colon in it is a name, if there is such a file. */
	if (colon && access(host, F_OK) == 0)
		colon = NULL;
	if (colon)
		*colon = 0;
	if (!*host || (colon && !colon[1]))
		return err_set(e, -EINVAL, "%s %s: it takes FILE or FILE:GUESTPATH", name, v);
	o->include[o->cfg.n_include++] =
		(struct initramfs_include){ .host = host, .guest = colon ? colon + 1 : NULL };
	return 0;
}

/* --- the table -------------------------------------------------------------------------------- */

#define TEXT(option, field)                                                                        \
	{                                                                                          \
		.name = option, .text = offsetof(struct vm_cfg, field) + 1                         \
	}
#define FLAG(option, field)                                                                        \
	{                                                                                          \
		.name = option, .flag = offsetof(struct vm_cfg, field) + 1                         \
	}

static const struct vm_option {
	const char *name;
	size_t text, flag; /* offset + 1 of a text or a bool in struct vm_cfg; 0: none */
	int (*set)(struct vm_options *o, const char *name, const char *v, struct err *e);
} table[] = {
	TEXT("kernel", kernel),
	TEXT("initrd", initrd),
	TEXT("cpu-model", cpu_model),
	TEXT("console", console),
	TEXT("code-dump", code_dump),
	TEXT("symbols", symbols),
	FLAG("digest", digest),
	FLAG("hidden", hidden),
	FLAG("perf-map", perf_map),
	FLAG("serial-port", serial_port),
	FLAG("verbose", verbose),
	FLAG("virtio-cmdline", virtio_cmdline),
	{ .name = "append", .set = set_append },
	{ .name = "clock", .set = set_clock },
	{ .name = "code-cache", .set = set_code_cache },
	{ .name = "cpus", .set = set_cpus },
	{ .name = "debug-exit", .set = set_debug_exit },
	{ .name = "engine", .set = set_engine },
	{ .name = "env", .set = set_env },
	{ .name = "include", .set = set_include },
	{ .name = "mem", .set = set_mem },
	{ .name = "mips", .set = set_mips },
	{ .name = "module", .set = set_module },
	{ .name = "name", .set = set_name },
	{ .name = "numa", .set = set_numa },
	{ .name = "numa-distances", .set = set_distances },
	{ .name = "on-reset", .set = set_on_reset },
	{ .name = "rtc-base", .set = set_rtc },
	{ .name = "seed", .set = set_seed },
	{ .name = "tier", .set = set_tier },
	{ .name = "timeout", .set = set_timeout },
	{ .name = "topology", .set = set_topology },
};

static int set_option(struct vm_options *o, const struct vm_option *d, const char *name,
		      const char *v, struct err *e)
{
	if (d->flag) {
		if (v)
			return err_set(e, -EINVAL, "%s takes no value", name);
		*(bool *)((char *)&o->cfg + d->flag - 1) = true;
		return 0;
	}
	if (!v)
		return err_set(e, -EINVAL, "%s takes a value", name);
	if (d->set)
		return d->set(o, name, v, e);
	v = keep(o, v);
	if (!v)
		return no_memory(e);
	*(const char **)(void *)((char *)&o->cfg + d->text - 1) = v;
	return 0;
}

static int set_device(struct vm_options *o, const struct vm_dev_kind *k, const char *name,
		      const char *v, struct err *e)
{
	if (!v && k->arg && k->arg[0] != '[')
		return err_set(e, -EINVAL, "%s takes a value", name);
	if (v && !k->arg)
		return err_set(e, -EINVAL, "%s takes no value", name);
	if (v && !(v = keep(o, v)))
		return no_memory(e);
	return vm_devs_add(&o->devs, k, v, e);
}

int vm_options_set(struct vm_options *o, const char *name, const char *value, struct err *e)
{
	char full[NAME_MAX_LEN];

	snprintf(full, sizeof(full), "%s%s", o->dashes, name);
	for (unsigned i = 0; i < ARRAY_LEN(table); i++)
		if (!strcmp(name, table[i].name))
			return set_option(o, &table[i], full, value, e);
	for (unsigned i = 0; vm_dev_kinds[i]; i++)
		if (!strcmp(name, vm_dev_kinds[i]->name))
			return set_device(o, vm_dev_kinds[i], full, value, e);
	return err_set(e, -EINVAL, "%s is no option of a VM in a program", full);
}

int vm_options_command(struct vm_options *o, const char *const *argv, struct err *e)
{
	size_t n = 0;

	while (argv && argv[n])
		n++;
	if (!n)
		return err_set(e, -EINVAL, "the command is empty");
	free(o->argv);
	o->argv = calloc(n + 1, sizeof(*o->argv));
	for (size_t i = 0; o->argv && i < n; i++)
		if (!(o->argv[i] = keep(o, argv[i])))
			return no_memory(e);
	o->cfg.argv = (const char *const *)o->argv;
	return o->argv ? 0 : no_memory(e);
}

int vm_options_finish(struct vm_options *o, struct err *e)
{
	int r = o->has_cpus || o->has_topology ? 0 : topo_from_cpus(1, e, &o->topo);

	if (o->has_cpus && o->has_topology)
		return err_set(e, -EINVAL,
			       "%scpus and %stopology exclude each other: the topology says how "
			       "many CPUs there are",
			       o->dashes, o->dashes);
	for (unsigned i = 0; r >= 0 && i < o->n_numa; i++)
		r = topo_add_node(&o->topo, o->numa[i], e);
	if (r >= 0 && o->distances)
		r = topo_set_dist(&o->topo, o->distances, e);
	o->cfg.topo = &o->topo;
	o->cfg.devs = &o->devs;
	o->cfg.include = o->include;
	o->cfg.modules = o->module;
	o->cfg.env = o->env;
	return MIN(r, 0);
}

void vm_options_init(struct vm_options *o, const char *dashes)
{
	*o = (struct vm_options){ .dashes = dashes,
				  .cfg = { .in_fd = -1,
					   .out_fd = -1,
					   .err_fd = -1,
					   .debug_exit = -1,
					   .no_signals = true } };
}

void vm_options_fini(struct vm_options *o)
{
	vm_devs_fini(&o->devs);
	for (unsigned i = 0; i < o->n_text; i++)
		free(o->text[i]);
	free(o->text);
	free(o->argv);
}
