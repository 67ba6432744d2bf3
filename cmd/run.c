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
#include "vm/options.h"

/* Those that are not of a VM but of this program: the terminal, the process, its CPUs. */
enum {
	OPT_INTERACTIVE = 1,
	OPT_TTY,
	OPT_STATS,
	OPT_NO_SANDBOX,
	OPT_PERF,
	OPT_PERF_WAIT,
	OPT_CPU_CAP,
	OPT_GDB,
	OPT_HELP,
	OPT_VM, /* + index in all_options: vm_options_set reads it; the last */
};

static const struct option_def options[] = {
	{ "kernel", 0, "FILE|VERSION",
	  "a kernel image, a cached release (6.12), or debian (default):\n"
	  "Debian's newest cloud kernel, fetched if there is none" },
	{ "initrd", 0, "FILE", "your own initramfs; not with a command" },
	{ "append", 0, "STR", "kernel parameters, behind Orrery's own; may be repeated" },
	{ "mem", 0, "SIZE", "guest memory, such as 2G; default: what is needed, at least 512M" },
	{ "cpus", 0, "N", "N cores in one package (default 1)" },
	{ "topology", 0, "SHAPE",
	  "nodes, last-level caches, cores, threads, as 2n4l8c2t, or a\n"
	  "preset (orrery topo lists them)" },
	{ "numa", 0, "NODE",
	  "a NUMA node: mem=SIZE[,llcs=N][,lat=NS][,bw=MBS][,cache=SIZE];\n"
	  "may be repeated" },
	{ "numa-distances", 0, "MATRIX", "rows separated by /, columns by commas: 10,20/20,10" },
	{ "include", 0, "FILE[:GUEST]",
	  "packs a file, directory or command for the guest; may be\n"
	  "repeated" },
	{ "module", 0, "NAME", "loads a kernel module before the command; may be repeated" },
	{ "env", 0, "NAME=VALUE", "sets a variable for the command; may be repeated" },
	{ "interactive", 'i', NULL, "the command reads from the terminal", OPT_INTERACTIVE },
	{ "tty", 't', NULL, "the command gets a terminal of its own; Ctrl-A X ends it", OPT_TTY },
	{ "console", 0, "FILE", "what the guest's console says also goes to FILE" },
	{ "verbose", 'v', NULL, "kernel messages, and what Orrery does, on standard error" },
	{ "timeout", 0, "SEC", "ends the guest after SEC seconds of host time: status 124" },
	{ "engine", 0, "NAME",
	  "auto (default): kvm if this host's KVM runs at hardware speed (it is\n"
	  "measured) and nothing below asks for an exact run; soft: the built-in\n"
	  "CPU; kvm. $ORRERY_ENGINE is another default" },
	{ "clock", 0, "NAME",
	  "virtual: guest time counts instructions, and runs are exact; real:\n"
	  "it follows the host's. Default: real with kvm and for a console on a\n"
	  "terminal, else virtual" },
	{ "seed", 0, "N", "another interleaving of the vCPUs, other random numbers (default 0)" },
	{ "mips", 0, "N", "million instructions per second of guest time (default 1000)" },
	{ "tier", 0, "NAME",
	  "mix (default): hot code is translated; interp: none is; jit: all\n"
	  "is, at once. The guest cannot tell" },
	{ "code-cache", 0, "SIZE", "memory for translated code (default 64M)" },
	{ "code-dump", 0, "FILE", "translated code beside the guest's, as it is made" },
	{ "perf-map", 0, NULL, "writes /tmp/perf-PID.map, for perf to name translated code" },
	{ "symbols", 0, "FILE",
	  "names of guest code for these two: what nm prints, a System.map, or the\n"
	  "guest's /proc/kallsyms" },
	{ "rtc-base", 0, "TIME",
	  "the guest's date at power-on: Unix seconds or YYYY-MM-DDTHH:MM:SSZ" },
	{ "cpu-model", 0, "NAME",
	  "x86-64-v2 (default), x86-64-v1, x86-64-v3;\nwith kvm also host" },
	{ "debug-exit", 0, "PORT", "an I/O port (0xf4): the guest ends with status value<<1|1" },
	{ "gdb", 0, "PORT|SOCKET[,nowait]",
	  "waits for GDB on a port of 127.0.0.1 or a Unix socket, before the first\n"
	  "instruction; with nowait, runs until it comes",
	  OPT_GDB },
	{ "stats", 0, NULL, "counters and times on standard error at the end", OPT_STATS },
	{ "digest", 0, NULL, "a hash of RAM, vCPUs and devices on standard error at the end" },
	{ "virtio-cmdline", 0, NULL,
	  "names devices as virtio_mmio.device=..., for kernels without ACPI" },
	{ "serial-port", 0, NULL,
	  "the command's bytes stay on a serial port; default: a virtio port,\n"
	  "much faster, if the kernel has the drivers" },
	{ "name", 0, "NAME",
	  "what `orrery ps`, `exec`, `stop` and others call this VM; default:\nthe process number" },
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
	  "when the guest resets: exit (default) ends the run, restart begins\nit anew" },
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
		all_options[n++] = (struct option_def){
			.name = k->name, .key = k->key, .arg = k->arg, .help = k->help
		};
	}
	for (unsigned i = 0; i < n; i++)
		if (!all_options[i].id)
			all_options[i].id = OPT_VM + (int)i;
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

struct run_args {
	struct vm_options vm;
	bool stats, help;
};

/* Options about what the VM takes of the host. 1: not one of them. */
static int host_option(struct vm_cfg *c, int id, const char *v, struct err *e)
{
	static const char *const perfs[] = { "llcs", "cpus" };
	unsigned which = 0;
	u64 n = 0;
	int r = 0;

	switch (id) {
	case OPT_PERF:
		r = v ? value_choice("--perf", v, perfs, ARRAY_LEN(perfs), e, &which) : 0;
		c->perf = (enum vm_perf)(which + VM_PERF_LLCS);
		return r;
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
	struct run_args *a = opaque;
	struct vm_cfg *c = &a->vm.cfg;
	int r = host_option(c, id, v, e);

	if (r <= 0)
		return r;
	switch (id) {
	case OPT_INTERACTIVE:
		c->interactive = true;
		return 0;
	case OPT_TTY:
		c->tty = true;
		return 0;
	case OPT_STATS:
		a->stats = true;
		return 0;
	case OPT_GDB:
		c->gdb = v;
		return 0;
	case OPT_NO_SANDBOX:
		c->sandbox = false;
		return 0;
	case OPT_HELP:
		a->help = true;
		return 0;
	default:
		return vm_options_set(&a->vm, all_options[id - OPT_VM].name, v, e);
	}
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
	int r = name && *name ? vm_options_set(&a->vm, "engine", name, e) : 0;

	if (r < 0)
		err_prefix(e, "ORRERY_ENGINE in the environment");
	return r;
}

static int parse(struct run_args *a, int argc, char **argv, struct err *e)
{
	struct vm_cfg *c = &a->vm.cfg;
	int r;

	vm_options_init(&a->vm, "--");
	c->in_fd = STDIN_FILENO;
	c->out_fd = STDOUT_FILENO;
	c->err_fd = STDERR_FILENO;
	c->no_signals = false;
	c->sandbox = true;
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
	return r == 0 ? vm_options_finish(&a->vm, e) : r;
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
		r = vm_run(&a.vm.cfg, &e, &result);
	if (r < 0) {
		fprintf(stderr, "orrery: %s\n", e.msg);
		result.status = VM_STATUS_FAILED;
	} else {
		report(&a, &result);
	}
	vm_options_fini(&a.vm);
	return result.status;
}
