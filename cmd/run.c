// SPDX-License-Identifier: Apache-2.0
/*
 * run.c - the command `orrery run`: options, and what is said at the end
 */
#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/values.h"
#include "options.h"
#include "vm/ctl.h"
#include "vm/run.h"

#define LIST_MAX 128u

enum {
	OPT_ENGINE = 1,
	OPT_CLOCK,
	OPT_SEED,
	OPT_MIPS,
	OPT_TIER,
	OPT_CODE_CACHE,
	OPT_CODE_DUMP,
	OPT_PERF_MAP,
	OPT_SYMBOLS,
	OPT_CPU_MODEL,
	OPT_KERNEL,
	OPT_INITRD,
	OPT_APPEND,
	OPT_MEM,
	OPT_CPUS,
	OPT_TOPOLOGY,
	OPT_NUMA,
	OPT_DISTANCES,
	OPT_CONSOLE,
	OPT_INCLUDE,
	OPT_MODULE,
	OPT_ENV,
	OPT_INTERACTIVE,
	OPT_TTY,
	OPT_TIMEOUT,
	OPT_RTC,
	OPT_DEBUG_EXIT,
	OPT_STATS,
	OPT_DIGEST,
	OPT_VERBOSE,
	OPT_VIRTIO_CMDLINE,
	OPT_SERIAL_PORT,
	OPT_NAME,
	OPT_NO_SANDBOX,
	OPT_PERF,
	OPT_PERF_WAIT,
	OPT_CPU_CAP,
	OPT_ON_RESET,
	OPT_GDB,
	OPT_HELP,
	OPT_DEVICE, /* + index in vm_dev_kinds; the last */
};

static const struct option_def options[] = {
	{ "kernel", 0, "FILE|VERSION",
	  "a kernel image, a cached release (6.12), or debian (default):\n"
	  "Debian's newest cloud kernel, fetched if there is none",
	  OPT_KERNEL },
	{ "initrd", 0, "FILE", "your own initramfs; not with a command", OPT_INITRD },
	{ "append", 0, "STR", "kernel parameters, behind Orrery's own; may be repeated",
	  OPT_APPEND },
	{ "mem", 0, "SIZE", "guest memory, such as 2G; default: what is needed, at least 512M",
	  OPT_MEM },
	{ "cpus", 0, "N", "N cores in one package (default 1)", OPT_CPUS },
	{ "topology", 0, "SHAPE",
	  "nodes, last-level caches, cores, threads, as 2n4l8c2t, or a\n"
	  "preset (orrery topo lists them)",
	  OPT_TOPOLOGY },
	{ "numa", 0, "NODE",
	  "a NUMA node: mem=SIZE[,llcs=N][,lat=NS][,bw=MBS][,cache=SIZE];\n"
	  "may be repeated",
	  OPT_NUMA },
	{ "numa-distances", 0, "MATRIX", "rows separated by /, columns by commas: 10,20/20,10",
	  OPT_DISTANCES },
	{ "include", 0, "FILE[:GUEST]",
	  "packs a file, directory or command for the guest; may be\n"
	  "repeated",
	  OPT_INCLUDE },
	{ "module", 0, "NAME", "loads a kernel module before the command; may be repeated",
	  OPT_MODULE },
	{ "env", 0, "NAME=VALUE", "sets a variable for the command; may be repeated", OPT_ENV },
	{ "interactive", 'i', NULL, "the command reads from the terminal", OPT_INTERACTIVE },
	{ "tty", 't', NULL, "the command gets a terminal of its own; Ctrl-A X ends it", OPT_TTY },
	{ "console", 0, "FILE", "what the guest's console says also goes to FILE", OPT_CONSOLE },
	{ "verbose", 'v', NULL, "kernel messages, and what Orrery does, on standard error",
	  OPT_VERBOSE },
	{ "timeout", 0, "SEC", "ends the guest after SEC seconds of host time: status 124",
	  OPT_TIMEOUT },
	{ "engine", 0, "NAME",
	  "auto (default): kvm if this host's KVM runs at hardware speed (it is\n"
	  "measured) and nothing below asks for an exact run; soft: the built-in\n"
	  "CPU; kvm. $ORRERY_ENGINE is another default",
	  OPT_ENGINE },
	{ "clock", 0, "NAME",
	  "virtual: guest time counts instructions, and runs are exact; real:\n"
	  "it follows the host's. Default: real with kvm and for a console on a\n"
	  "terminal, else virtual",
	  OPT_CLOCK },
	{ "seed", 0, "N", "another interleaving of the vCPUs, other random numbers (default 0)",
	  OPT_SEED },
	{ "mips", 0, "N", "million instructions per second of guest time (default 1000)",
	  OPT_MIPS },
	{ "tier", 0, "NAME",
	  "mix (default): hot code is translated; interp: none is; jit: all\n"
	  "is, at once. The guest cannot tell",
	  OPT_TIER },
	{ "code-cache", 0, "SIZE", "memory for translated code (default 64M)", OPT_CODE_CACHE },
	{ "code-dump", 0, "FILE", "translated code beside the guest's, as it is made",
	  OPT_CODE_DUMP },
	{ "perf-map", 0, NULL, "writes /tmp/perf-PID.map, for perf to name translated code",
	  OPT_PERF_MAP },
	{ "symbols", 0, "FILE",
	  "names of guest code for these two: what nm prints, a System.map, or the\n"
	  "guest's /proc/kallsyms",
	  OPT_SYMBOLS },
	{ "rtc-base", 0, "TIME",
	  "the guest's date at power-on: Unix seconds or YYYY-MM-DDTHH:MM:SSZ", OPT_RTC },
	{ "cpu-model", 0, "NAME", "x86-64-v2 (default), x86-64-v1, x86-64-v3;\nwith kvm also host",
	  OPT_CPU_MODEL },
	{ "debug-exit", 0, "PORT", "an I/O port (0xf4): the guest ends with status value<<1|1",
	  OPT_DEBUG_EXIT },
	{ "gdb", 0, "PORT|SOCKET[,nowait]",
	  "waits for GDB on a port of 127.0.0.1 or a Unix socket, before the first\n"
	  "instruction; with nowait, runs until it comes",
	  OPT_GDB },
	{ "stats", 0, NULL, "counters and times on standard error at the end", OPT_STATS },
	{ "digest", 0, NULL, "a hash of RAM, vCPUs and devices on standard error at the end",
	  OPT_DIGEST },
	{ "virtio-cmdline", 0, NULL,
	  "names devices as virtio_mmio.device=..., for kernels without ACPI", OPT_VIRTIO_CMDLINE },
	{ "serial-port", 0, NULL,
	  "the command's bytes stay on a serial port; default: a virtio port,\n"
	  "much faster, if the kernel has the drivers",
	  OPT_SERIAL_PORT },
	{ "name", 0, "NAME",
	  "what `orrery ps`, `exec`, `stop` and others call this VM; default:\nthe process number",
	  OPT_NAME },
	{ "no-sandbox", 0, NULL, "keeps all privileges while the guest runs, for debugging Orrery",
	  OPT_NO_SANDBOX },
	{ "perf", 0, "[WHAT]",
	  "host CPUs of its own for the guest: llcs (default), nobody else on\n"
	  "their caches; cpus: on the CPUs only. Huge pages, real-time priority",
	  OPT_PERF },
	{ "cpu-cap", 0, "N",
	  "at most N of the host's CPUs (auto: 30 %), which other such runs may share",
	  OPT_CPU_CAP },
	{ "perf-wait", 0, "SEC",
	  "waits so long for CPUs that others have taken (orrery locks); default:\n"
	  "that is an error",
	  OPT_PERF_WAIT },
	{ "on-reset", 0, "WHAT",
	  "when the guest resets: exit (default) ends the run, restart begins\nit anew",
	  OPT_ON_RESET },
	{ "help", 'h', NULL, "this list", OPT_HELP },
	{ 0 },
};

/* The options above, then those of the kinds of devices. */
static struct option_def all_options[ARRAY_LEN(options) + VM_DEVS_MAX];

static void fill_options(void)
{
	unsigned n = 0;

	for (const struct option_def *d = options; d->name; d++)
		all_options[n++] = *d;
	for (unsigned i = 0; vm_dev_kinds[i]; i++) {
		const struct vm_dev_kind *k = vm_dev_kinds[i];

		BUG_IF(n + 1 >= ARRAY_LEN(all_options));
		all_options[n++] = (struct option_def){ .name = k->name,
							.key = k->key,
							.arg = k->arg,
							.help = k->help,
							.id = OPT_DEVICE + (int)i };
	}
}

static const char intro[] =
	"usage: orrery run [OPTION...] [-- COMMAND [ARG...]]\n"
	"\n"
	"Boots a kernel on the built-in CPU. With a COMMAND from this host, runs it in the guest with\n"
	"its libraries, standard input, output and error, and exits with its status. Without one, the\n"
	"guest's console is standard input and output; on a terminal Ctrl-A X ends it.\n"
	"\n";

static const char outro[] =
	"\n"
	"Exit status: the command's; 127 or 126 if it could not be started. 125: Orrery could not do\n"
	"what was asked. 124: time-out. 123: the guest's kernel panicked. 122: triple fault. 121: the\n"
	"guest ended or halted for ever without a status.\n";

/* What the options say, and the storage that struct vm_cfg only points to. */
struct run_args {
	struct vm_cfg cfg;
	struct topo topo;
	struct vm_devs devs;
	const char *cpus, *topology;
	const char *numa[TOPO_NODES_MAX], *distances;
	unsigned n_numa;
	struct initramfs_include include[LIST_MAX];
	const char *module[LIST_MAX + 1], *env[LIST_MAX + 1];
	unsigned n_module, n_env;
	char *append; /* owned */
	bool stats, help;
};

static int choice(const char *opt, const char *text, const char *const *names, unsigned n,
		  struct err *e)
{
	const char *near = options_nearest(text, names, n, sizeof(*names));

	for (unsigned i = 0; i < n; i++)
		if (!strcmp(text, names[i]))
			return (int)i;
	return err_set(e, -EINVAL, "%s %.40s: unknown%s%s%s", opt, text,
		       near ? "; did you mean " : "; --help lists what there is", near ? near : "",
		       near ? "?" : "");
}

static int add_text(const char *opt, const char *text, const char **list, unsigned *n, unsigned max,
		    struct err *e)
{
	if (*n == max)
		return err_set(e, -E2BIG, "%s: more than %u of them", opt, max);
	list[(*n)++] = text;
	return 0;
}

static int add_include(struct run_args *a, char *text, struct err *e)
{
	char *colon = strchr(text, ':');

	if (a->cfg.n_include == LIST_MAX)
		return err_set(e, -E2BIG, "--include: more than %u of them", LIST_MAX);
	/* A name with a colon in it is a name, if there is such a file. */
	if (colon && access(text, F_OK) == 0)
		colon = NULL;
	if (colon)
		*colon = 0;
	if (!*text || (colon && !colon[1]))
		return err_set(e, -EINVAL, "--include %s%s: it takes FILE or FILE:GUESTPATH", text,
			       colon ? ":" : "");
	a->include[a->cfg.n_include++] =
		(struct initramfs_include){ .host = text, .guest = colon ? colon + 1 : NULL };
	return 0;
}

static int add_env(struct run_args *a, const char *text, struct err *e)
{
	if (text[0] == '=' || !strchr(text, '='))
		return err_set(e, -EINVAL, "--env %.80s: it takes NAME=VALUE", text);
	return add_text("--env", text, a->env, &a->n_env, LIST_MAX, e);
}

static int add_append(struct run_args *a, const char *text, struct err *e)
{
	char *all;

	if (asprintf(&all, "%s%s%s", a->append ? a->append : "", a->append ? " " : "", text) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	free(a->append);
	a->append = all;
	return 0;
}

/* Options that describe the machine. 1: not one of them. */
static int machine_option(struct run_args *a, int id, const char *v, struct err *e)
{
	static const char *const engines[] = { "auto", "soft", "kvm" };
	static const char *const clocks[] = { "auto", "virtual", "real" };
	static const char *const tiers[] = { "mix", "interp", "jit" };
	struct vm_cfg *c = &a->cfg;
	u64 n = 0;
	int r;

	switch (id) {
	case OPT_ENGINE:
		r = choice("--engine", v, engines, ARRAY_LEN(engines), e);
		c->engine = r < 0 ? c->engine : (enum vm_engine)r;
		return MIN(r, 0);
	case OPT_CLOCK:
		r = choice("--clock", v, clocks, ARRAY_LEN(clocks), e);
		c->clock = r < 0 ? c->clock : (enum vm_clock)r;
		return MIN(r, 0);
	case OPT_SEED:
		c->has_seed = true;
		return value_u64("--seed", v, 0, UINT64_MAX, e, &c->seed);
	case OPT_MIPS:
		r = value_u64("--mips", v, 1, 100000, e, &n);
		c->mips = (u32)n;
		return r;
	case OPT_TIER:
		r = choice("--tier", v, tiers, ARRAY_LEN(tiers), e);
		c->tier = r < 0 ? c->tier : (enum machine_tier)r;
		return MIN(r, 0);
	case OPT_CODE_CACHE:
		r = value_size("--code-cache", v, e, &c->code_cache);
		return r == 0 && (c->code_cache < 1u << 20 || c->code_cache > 1u << 30)
			       ? err_set(e, -EINVAL, "--code-cache %s: it takes 1M to 1G", v)
			       : r;
	case OPT_CODE_DUMP:
		c->code_dump = v;
		return 0;
	case OPT_PERF_MAP:
		c->perf_map = true;
		return 0;
	case OPT_SYMBOLS:
		c->symbols = v;
		return 0;
	case OPT_CPU_MODEL:
		c->cpu_model = v;
		return 0;
	case OPT_MEM:
		r = value_size("--mem", v, e, &c->mem);
		return r == 0 && !c->mem ? err_set(e, -EINVAL, "--mem 0: a VM needs memory") : r;
	case OPT_CPUS:
		a->cpus = v;
		return 0;
	case OPT_TOPOLOGY:
		a->topology = v;
		return 0;
	case OPT_NUMA:
		return add_text("--numa", v, a->numa, &a->n_numa, ARRAY_LEN(a->numa), e);
	case OPT_DISTANCES:
		a->distances = v;
		return 0;
	case OPT_RTC:
		c->has_rtc = true;
		return value_time("--rtc-base", v, e, &c->rtc_base);
	case OPT_DEBUG_EXIT:
		r = value_u64("--debug-exit", v, 1, 0xfffc, e, &n);
		c->debug_exit = (int)n;
		return r;
	default:
		return 1;
	}
}

/* Options about what the VM takes of the host. 1: not one of them. */
static int host_option(struct vm_cfg *c, int id, const char *v, struct err *e)
{
	static const char *const perfs[] = { "llcs", "cpus" };
	u64 n = 0;
	int r = 0;

	switch (id) {
	case OPT_PERF:
		r = v ? choice("--perf", v, perfs, ARRAY_LEN(perfs), e) : 0;
		c->perf = r < 0 ? c->perf : (enum vm_perf)(r + VM_PERF_LLCS);
		return MIN(r, 0);
	case OPT_PERF_WAIT:
		return value_seconds("--perf-wait", v, e, &c->perf_wait_ns);
	case OPT_CPU_CAP:
		c->cpu_cap = VM_CPU_CAP_AUTO;
		if (strcmp(v, "auto") == 0)
			return 0;
		r = value_u64("--cpu-cap", v, 1, 4096, e, &n);
		c->cpu_cap = (u32)n;
		return r;
	default:
		return 1;
	}
}

static int run_option(void *opaque, int id, const char *v, struct err *e)
{
	static const char *const on_reset[] = { "exit", "restart" };
	struct run_args *a = opaque;
	struct vm_cfg *c = &a->cfg;
	int r = machine_option(a, id, v, e);

	if (r > 0)
		r = host_option(c, id, v, e);
	if (r <= 0)
		return r;
	if (id >= OPT_DEVICE)
		return vm_devs_add(&a->devs, vm_dev_kinds[id - OPT_DEVICE], v, e);
	switch (id) {
	case OPT_KERNEL:
		c->kernel = v;
		return 0;
	case OPT_INITRD:
		c->initrd = v;
		return 0;
	case OPT_APPEND:
		return add_append(a, v, e);
	case OPT_CONSOLE:
		c->console = v;
		return 0;
	case OPT_INCLUDE:
		return add_include(a, (char *)v, e);
	case OPT_MODULE:
		return add_text("--module", v, a->module, &a->n_module, LIST_MAX, e);
	case OPT_ENV:
		return add_env(a, v, e);
	case OPT_INTERACTIVE:
		c->interactive = true;
		return 0;
	case OPT_TTY:
		c->tty = true;
		return 0;
	case OPT_TIMEOUT:
		return value_seconds("--timeout", v, e, &c->timeout_ns);
	case OPT_STATS:
		a->stats = true;
		return 0;
	case OPT_DIGEST:
		c->digest = true;
		return 0;
	case OPT_VERBOSE:
		c->verbose = true;
		return 0;
	case OPT_VIRTIO_CMDLINE:
		c->virtio_cmdline = true;
		return 0;
	case OPT_SERIAL_PORT:
		c->serial_port = true;
		return 0;
	case OPT_ON_RESET:
		r = choice("--on-reset", v, on_reset, ARRAY_LEN(on_reset), e);
		c->restart = r == 1;
		return MIN(r, 0);
	case OPT_GDB:
		c->gdb = v;
		return 0;
	case OPT_NAME:
		c->name = v;
		return ctl_check_name(v, e);
	case OPT_NO_SANDBOX:
		c->sandbox = false;
		return 0;
	default:
		a->help = true;
		return 0;
	}
}

static int parse_topo(struct run_args *a, struct err *e)
{
	u64 cpus = 1;
	int r;

	if (a->cpus && a->topology)
		return err_set(e, -EINVAL,
			       "--cpus and --topology exclude each other: the topology says how "
			       "many CPUs there are");
	if (a->topology) {
		r = topo_parse(a->topology, e, &a->topo);
	} else {
		r = a->cpus ? value_u64("--cpus", a->cpus, 1, TOPO_CPUS_MAX, e, &cpus) : 0;
		if (r == 0)
			r = topo_from_cpus((u32)cpus, e, &a->topo);
	}
	for (unsigned i = 0; r == 0 && i < a->n_numa; i++)
		r = topo_add_node(&a->topo, a->numa[i], e);
	if (r == 0 && a->distances)
		r = topo_set_dist(&a->topo, a->distances, e);
	return r;
}

static int check_perf(const struct vm_cfg *c, struct err *e)
{
	if (c->perf && c->cpu_cap)
		return err_set(
			e, -EINVAL,
			"--perf and --cpu-cap exclude each other: one gives each vCPU a CPU of "
			"its own, the other lets them share a few");
	if (c->perf_wait_ns && !c->perf && !c->cpu_cap)
		return err_set(e, -EINVAL,
			       "--perf-wait: there is nothing to wait for without --perf "
			       "or --cpu-cap");
	return 0;
}

/* What --engine is if it is not given. */
static int default_engine(struct run_args *a, struct err *e)
{
	const char *name = getenv("ORRERY_ENGINE");
	int r = name && *name ? machine_option(a, OPT_ENGINE, name, e) : 0;

	if (r < 0)
		err_prefix(e, "ORRERY_ENGINE in the environment");
	return r;
}

static int parse(struct run_args *a, int argc, char **argv, struct err *e)
{
	struct vm_cfg *c = &a->cfg;
	int r;

	*c = (struct vm_cfg){
		.in_fd = 0, .out_fd = 1, .err_fd = 2, .debug_exit = -1, .sandbox = true
	};
	c->devs = &a->devs;
	fill_options();
	r = default_engine(a, e);
	if (r < 0)
		return r;
	r = options_parse(all_options, argc, argv, run_option, a, e);
	if (r < 0 || a->help)
		return MIN(r, 0);
	if (r < argc)
		c->argv = (const char *const *)argv + r;
	else if (!strcmp(argv[argc - 1], "--"))
		return err_set(e, -EINVAL, "the command behind -- is missing");
	if (!c->argv && (c->interactive || c->tty))
		return err_set(e, -EINVAL,
			       "-i and -t are for a command; without one the console is "
			       "interactive anyway");
	r = check_perf(c, e);
	if (r == 0)
		r = parse_topo(a, e);
	c->topo = &a->topo;
	c->append = a->append;
	c->include = a->include;
	c->modules = a->module;
	c->env = a->env;
	return r < 0 ? r : 0;
}

static void print_stats(const struct vm_result *r)
{
	double run = (double)r->run_ns / 1e9;
	u64 insns = 0;

	for (unsigned i = 0; i < r->n_stats; i++) {
		fprintf(stderr, "%-24s %llu\n", r->stat[i].name,
			(unsigned long long)r->stat[i].val);
		if (!strcmp(r->stat[i].name, "instructions"))
			insns = r->stat[i].val;
	}
	fprintf(stderr, "%-24s %.3f\n%-24s %.3f\n%-24s %.6f\n%-24s %.1f\n", "prepare_s",
		(double)r->prepare_ns / 1e9, "run_s", run, "guest_s", (double)r->guest_ns / 1e9,
		"mips", run > 0 ? (double)insns / run / 1e6 : 0.0);
}

static void report(const struct run_args *a, const struct vm_result *r)
{
	if (r->words[0])
		fprintf(stderr, "orrery: %s\n", r->words);
	if (r->tail[0])
		fprintf(stderr, "orrery: the guest's console ends with:\n%s\n", r->tail);
	if (a->stats)
		print_stats(r);
	if (r->digest[0])
		fprintf(stderr, "digest: %s\n", r->digest);
}

int cmd_run(int argc, char **argv)
{
	static struct run_args a;
	static struct vm_result result;
	struct err e = { 0 };
	int r;

	a = (struct run_args){ 0 };
	r = parse(&a, argc, argv, &e);
	if (r == 0 && a.help) {
		fputs(intro, stdout);
		options_print(all_options);
		fputs(outro, stdout);
		return fflush(stdout) ? VM_STATUS_FAILED : 0;
	}
	if (r == 0)
		r = vm_run(&a.cfg, &e, &result);
	if (r < 0) {
		fprintf(stderr, "orrery: %s\n", e.msg);
		result.status = VM_STATUS_FAILED;
	} else {
		report(&a, &result);
	}
	vm_devs_fini(&a.devs);
	free(a.append);
	return result.status;
}
