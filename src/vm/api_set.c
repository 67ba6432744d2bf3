// SPDX-License-Identifier: Apache-2.0
/*
 * api_set.c - the options of a VM that a program configures
 *
 * How it works
 * One table of the options of `orrery run` that make sense without a terminal and without a process
 * of their own; devices are those of devices.c. What an option means is said in the structs it fills
 * in; only how its text is read is here.
 */
#include "vm/api_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/values.h"
#include "vm/ctl.h"

static char *keep(struct api_config *c, const char *text)
{
	char **more = realloc(c->text, (c->n_text + 1) * sizeof(*more));
	char *copy = more ? strdup(text) : NULL;

	if (more)
		c->text = more;
	if (copy)
		c->text[c->n_text++] = copy;
	return copy;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int choice(const char *name, const char *text, const char *const *names, unsigned n,
		  struct err *e)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(text, names[i]))
			return (int)i;
	return err_set(e, -EINVAL, "%s %.40s: unknown", name, text);
}

/* --- options that are more than a field ------------------------------------------------------- */

static int set_engine(struct api_config *c, const char *v, struct err *e)
{
	static const char *const names[] = { "auto", "soft", "kvm" };
	int r = choice("engine", v, names, ARRAY_LEN(names), e);

	c->cfg.engine = r < 0 ? c->cfg.engine : (enum vm_engine)r;
	return MIN(r, 0);
}

static int set_clock(struct api_config *c, const char *v, struct err *e)
{
	static const char *const names[] = { "auto", "virtual", "real" };
	int r = choice("clock", v, names, ARRAY_LEN(names), e);

	c->cfg.clock = r < 0 ? c->cfg.clock : (enum vm_clock)r;
	return MIN(r, 0);
}

static int set_tier(struct api_config *c, const char *v, struct err *e)
{
	static const char *const names[] = { "mix", "interp", "jit" };
	int r = choice("tier", v, names, ARRAY_LEN(names), e);

	c->cfg.tier = r < 0 ? c->cfg.tier : (enum machine_tier)r;
	return MIN(r, 0);
}

static int set_on_reset(struct api_config *c, const char *v, struct err *e)
{
	static const char *const names[] = { "exit", "restart" };
	int r = choice("on-reset", v, names, ARRAY_LEN(names), e);

	c->cfg.restart = r == 1;
	return MIN(r, 0);
}

static int set_seed(struct api_config *c, const char *v, struct err *e)
{
	c->cfg.has_seed = true;
	return value_u64("seed", v, 0, UINT64_MAX, e, &c->cfg.seed);
}

static int set_mips(struct api_config *c, const char *v, struct err *e)
{
	u64 n = 0;
	int r = value_u64("mips", v, 1, 100000, e, &n);

	c->cfg.mips = (u32)n;
	return r;
}

static int set_rtc(struct api_config *c, const char *v, struct err *e)
{
	c->cfg.has_rtc = true;
	return value_time("rtc-base", v, e, &c->cfg.rtc_base);
}

static int set_debug_exit(struct api_config *c, const char *v, struct err *e)
{
	u64 n = 0;
	int r = value_u64("debug-exit", v, 1, 0xfffc, e, &n);

	if (r == 0)
		c->cfg.debug_exit = (int)n;
	return r;
}

static int set_mem(struct api_config *c, const char *v, struct err *e)
{
	return value_size("mem", v, e, &c->cfg.mem);
}

static int set_code_cache(struct api_config *c, const char *v, struct err *e)
{
	int r = value_size("code-cache", v, e, &c->cfg.code_cache);

	return r == 0 && (c->cfg.code_cache < 1u << 20 || c->cfg.code_cache > 1u << 30)
		       ? err_set(e, -EINVAL, "code-cache %s: it takes 1M to 1G", v)
		       : r;
}

static int set_timeout(struct api_config *c, const char *v, struct err *e)
{
	return value_seconds("timeout", v, e, &c->cfg.timeout_ns);
}

static int set_cpus(struct api_config *c, const char *v, struct err *e)
{
	u64 n = 0;
	int r = value_u64("cpus", v, 1, TOPO_CPUS_MAX, e, &n);

	c->has_topo = true;
	return r < 0 ? r : topo_from_cpus((u32)n, e, &c->topo);
}

static int set_topology(struct api_config *c, const char *v, struct err *e)
{
	c->has_topo = true;
	return topo_parse(v, e, &c->topo);
}

static int set_numa(struct api_config *c, const char *v, struct err *e)
{
	if (c->n_numa == TOPO_NODES_MAX)
		return err_set(e, -E2BIG, "numa: more than %u of them", TOPO_NODES_MAX);
	c->numa[c->n_numa] = keep(c, v);
	return c->numa[c->n_numa++] ? 0 : no_memory(e);
}

static int set_distances(struct api_config *c, const char *v, struct err *e)
{
	c->distances = keep(c, v);
	return c->distances ? 0 : no_memory(e);
}

static int set_name(struct api_config *c, const char *v, struct err *e)
{
	int r = ctl_check_name(v, e);

	if (r < 0)
		return r;
	c->cfg.name = keep(c, v);
	return c->cfg.name ? 0 : no_memory(e);
}

static int set_append(struct api_config *c, const char *v, struct err *e)
{
	char *all;

	if (asprintf(&all, "%s%s%s", c->cfg.append ? c->cfg.append : "", c->cfg.append ? " " : "",
		     v) < 0)
		return no_memory(e);
	c->cfg.append = keep(c, all);
	free(all);
	return c->cfg.append ? 0 : no_memory(e);
}

static int add(struct api_config *c, const char *name, const char *v, const char **list,
	       unsigned *n, struct err *e)
{
	if (*n == API_LIST)
		return err_set(e, -E2BIG, "%s: more than %u of them", name, API_LIST);
	list[*n] = keep(c, v);
	return list[(*n)++] ? 0 : no_memory(e);
}

static int set_module(struct api_config *c, const char *v, struct err *e)
{
	return add(c, "module", v, c->module, &c->n_module, e);
}

static int set_env(struct api_config *c, const char *v, struct err *e)
{
	if (v[0] == '=' || !strchr(v, '='))
		return err_set(e, -EINVAL, "env %.80s: it takes NAME=VALUE", v);
	return add(c, "env", v, c->env, &c->n_env, e);
}

/* FILE or FILE:GUESTPATH, split at the first colon. */
static int set_include(struct api_config *c, const char *v, struct err *e)
{
	char *host, *colon;

	if (c->cfg.n_include == API_LIST)
		return err_set(e, -E2BIG, "include: more than %u of them", API_LIST);
	host = keep(c, v);
	if (!host)
		return no_memory(e);
	colon = strchr(host, ':');
	if (colon)
		*colon = 0;
	if (!*host || (colon && !colon[1]))
		return err_set(e, -EINVAL, "include %s: it takes FILE or FILE:GUESTPATH", v);
	c->include[c->cfg.n_include++] =
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

static const struct option {
	const char *name;
	size_t text, flag; /* offset + 1 of a text or a bool in struct vm_cfg; 0: none */
	int (*set)(struct api_config *c, const char *v, struct err *e);
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

static int set_option(struct api_config *c, const struct option *o, const char *v, struct err *e)
{
	if (o->flag) {
		if (v)
			return err_set(e, -EINVAL, "%s takes no value", o->name);
		*(bool *)((char *)&c->cfg + o->flag - 1) = true;
		return 0;
	}
	if (!v)
		return err_set(e, -EINVAL, "%s takes a value", o->name);
	if (o->set)
		return o->set(c, v, e);
	v = keep(c, v);
	if (!v)
		return no_memory(e);
	*(const char **)(void *)((char *)&c->cfg + o->text - 1) = v;
	return 0;
}

int api_config_set(struct api_config *c, const char *name, const char *value, struct err *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(table); i++)
		if (!strcmp(name, table[i].name))
			return set_option(c, &table[i], value, e);
	for (unsigned i = 0; vm_dev_kinds[i]; i++) {
		const struct vm_dev_kind *k = vm_dev_kinds[i];

		if (strcmp(name, k->name) != 0)
			continue;
		if (!value && k->arg && k->arg[0] != '[')
			return err_set(e, -EINVAL, "%s takes a value", name);
		if (value && !k->arg)
			return err_set(e, -EINVAL, "%s takes no value", name);
		if (value && !(value = keep(c, value)))
			return no_memory(e);
		return vm_devs_add(&c->devs, k, value, e);
	}
	return err_set(e, -EINVAL, "%.40s is no option of a VM in a program", name);
}

int api_config_command(struct api_config *c, const char *const *argv, struct err *e)
{
	size_t n = 0;

	while (argv && argv[n])
		n++;
	if (!n)
		return err_set(e, -EINVAL, "the command is empty");
	free(c->argv);
	c->argv = calloc(n + 1, sizeof(*c->argv));
	for (size_t i = 0; c->argv && i < n; i++)
		if (!(c->argv[i] = keep(c, argv[i])))
			return no_memory(e);
	c->cfg.argv = (const char *const *)c->argv;
	return c->argv ? 0 : no_memory(e);
}

int api_config_finish(struct api_config *c, struct err *e)
{
	int r = c->has_topo ? 0 : topo_from_cpus(1, e, &c->topo);

	for (unsigned i = 0; r >= 0 && i < c->n_numa; i++)
		r = topo_add_node(&c->topo, c->numa[i], e);
	if (r >= 0 && c->distances)
		r = topo_set_dist(&c->topo, c->distances, e);
	c->cfg.topo = &c->topo;
	c->cfg.devs = &c->devs;
	c->cfg.include = c->include;
	c->cfg.modules = c->module;
	c->cfg.env = c->env;
	return MIN(r, 0);
}

void api_config_init(struct api_config *c)
{
	*c = (struct api_config){ .cfg = { .in_fd = -1,
					   .out_fd = -1,
					   .err_fd = -1,
					   .debug_exit = -1,
					   .no_signals = true } };
}

void api_config_fini(struct api_config *c)
{
	vm_devs_fini(&c->devs);
	for (unsigned i = 0; i < c->n_text; i++)
		free(c->text[i]);
	free(c->text);
	free(c->argv);
}
