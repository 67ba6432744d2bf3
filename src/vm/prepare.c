// SPDX-License-Identifier: Apache-2.0
/*
 * prepare.c - from what the user asked for to what a machine is built from
 *
 * How it works
 * The order is: the kernel (its kind decides what else makes sense), the input (it decides the
 * clock), topology, root file system, memory (sized by what is loaded), command line. Whatever is
 * wrong is said before a machine exists.
 *
 * What a run depends on is kept small, so that the same command line gives the same guest: of the
 * user's environment only PATH and LD_LIBRARY_PATH (to find files, and for the guest's own), the
 * working directory, and, only where a terminal is attached, TERM and its size.
 */
#include "vm/prepare.h"

#include "cpu/kvm/probe.h"
#include "image/child.h"
#include "vm/perf.h"
#include "vm/pick.h"
#include "vm/term.h"
#include "vm/vcon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/wire.h"

#define INITRD_MAX (2ull << 30)
#define ENV_MAX 256u
#define MODULES_MAX 256u
#define PORT "/dev/ttyS1"
#define HVC "/dev/hvc0"
#define UNPACK_GUESS 4u /* a compressed initrd grows by about this */
#define CPIO_MAGIC "07070"

static void progress_line(void *opaque, const char *text)
{
	const struct vm_cfg *cfg = opaque;

	dprintf(cfg->err_fd, "orrery: %s\n", text);
}

static int prepare_kernel(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	struct image_progress say = { .line = progress_line, .opaque = (void *)cfg };
	int r = kcache_resolve(cfg->kernel ? cfg->kernel : "debian", &say, e, &p->file);

	if (r < 0)
		return r;
	r = p->file.unpacked
		    ? kernel_image_open_kept(p->file.image, p->file.unpacked, e, &p->kernel)
		    : kernel_image_open(p->file.image, e, &p->kernel);
	if (r < 0)
		return r;
	p->linux_guest = p->kernel->type == KERNEL_BZIMAGE || p->kernel->type == KERNEL_VMLINUX;
	if (!p->linux_guest && cfg->argv)
		return err_set(e, -EINVAL,
			       "%s is not Linux but a bare-metal image (%s): it cannot run the "
			       "command %s",
			       p->file.image, kernel_type_name(p->kernel->type), cfg->argv[0]);
	if (!p->linux_guest && (cfg->n_include || (cfg->modules && cfg->modules[0])))
		return err_set(e, -EINVAL,
			       "%s is not Linux but a bare-metal image: --include and --module are "
			       "of no use to it",
			       p->file.image);
	return 0;
}

/* Which engine it is. Whether KVM can do all of it is said when the machine is created. */
static int prepare_engine(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	char words[PICK_WORDS];
	int r = pick_engine(cfg, kvm_probe, e, &p->kvm, words);

	if (r == 0 && cfg->verbose)
		dprintf(cfg->err_fd, "orrery: %s\n", words);
	return r;
}

static int prepare_clock(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	p->input = input_kind(cfg->in_fd);
	if (p->input == INPUT_TERMINAL && cfg->argv && !cfg->interactive && !cfg->tty)
		p->input = INPUT_NULL;
	p->real_clock = p->kvm || cfg->clock == VM_CLOCK_REAL ||
			(cfg->clock == VM_CLOCK_AUTO && p->input == INPUT_TERMINAL && !cfg->argv);
	p->seed = cfg->has_seed ? cfg->seed : 0;
	if (p->real_clock && !cfg->has_seed &&
	    getrandom(&p->seed, sizeof(p->seed), 0) != sizeof(p->seed))
		return err_sys(e, -errno, "cannot get a random seed (give one with --seed)");
	p->rtc_base = cfg->has_rtc    ? cfg->rtc_base
		      : p->real_clock ? (s64)time(NULL)
				      : VM_RTC_BASE_DEFAULT;
	return 0;
}

static int prepare_devs(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	struct vm_dev_host host = { .cpus = topo_cpus(&p->topo),
				    .mem = p->mem,
				    .exact = !p->real_clock,
				    .seed = p->seed,
				    .err_fd = cfg->err_fd,
				    .kernel = cfg->kernel,
				    .rtc_base = p->rtc_base };

	return cfg->devs ? vm_devs_open(cfg->devs, &host, e) : 0;
}

/*
 * The faster way for a command's bytes. It needs no asking for and must not be in the way: what
 * stands against it leaves the serial port. Its drivers are loaded when enough bytes have come.
 */
static int add_port(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	if (!cfg->devs || !cfg->argv || !p->linux_guest || cfg->serial_port ||
	    cfg->virtio_cmdline || cfg->devs->n == VM_DEVS_MAX)
		return 0;
	return vm_devs_add(cfg->devs, &vm_dev_port, NULL, e);
}

static int prepare_topo(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	u64 sum;
	int r;

	if (cfg->topo)
		p->topo = *cfg->topo;
	else if ((r = topo_from_cpus(1, e, &p->topo)) < 0)
		return r;
	r = topo_validate(&p->topo, cfg->mem, e);
	if (r < 0)
		return r;
	sum = topo_mem_sum(&p->topo);
	p->mem = cfg->mem ? cfg->mem : sum;
	return 0;
}

/* --- the root file system --------------------------------------------------------------------- */

static int read_initrd(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	int fd = open(cfg->initrd, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return err_sys(e, -errno, "--initrd %s", cfg->initrd);
	r = buf_read_fd(&p->initrd, fd, INITRD_MAX);
	/* A pipe can be read once. */
	if (lseek(fd, 0, SEEK_CUR) == (off_t)p->initrd.len)
		p->initrd_fd = fd;
	else
		close(fd);
	if (r == -EFBIG)
		return err_set(e, r, "--initrd %s: larger than %llu MiB", cfg->initrd,
			       INITRD_MAX >> 20);
	if (r < 0)
		return err_sys(e, r, "--initrd %s", cfg->initrd);
	if (!p->initrd.len)
		return err_set(e, -EINVAL, "--initrd %s: the file is empty", cfg->initrd);
	return 0;
}

static bool env_has(const char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return true;
	return false;
}

/* The command's environment: ours where the user says nothing. @term: storage for TERM. */
static int fill_env(const struct vm_cfg *cfg, const struct prepared *p, char *term,
		    size_t term_size, const char **env, struct err *e)
{
	const char *host = getenv("TERM");
	unsigned n = 0;

	if (p->input == INPUT_TERMINAL && host && *host && !env_has(cfg->env, "TERM")) {
		snprintf(term, term_size, "TERM=%s", host);
		env[n++] = term;
	}
	/* The one UTF-8 locale that needs no files. */
	if (!env_has(cfg->env, "LANG"))
		env[n++] = "LANG=C.UTF-8";
	for (const char *const *v = cfg->env; v && *v; v++) {
		if (n == ENV_MAX)
			return err_set(e, -E2BIG, "--env: at most %u of them", ENV_MAX - 2);
		env[n++] = *v;
	}
	env[n] = NULL;
	return 0;
}

/*
 * What the user named, then the devices' drivers. A kernel without modules must have those built
 * in: who asks for details is told, since otherwise devices are just not there.
 */
static int fill_modules(const struct vm_cfg *cfg, const struct prepared *p, const char **list,
			struct err *e)
{
	size_t n = 0;

	for (const char *const *m = cfg->modules; m && *m; m++) {
		if (n + 1 == MODULES_MAX)
			return err_set(e, -E2BIG, "--module: too many");
		list[n++] = *m;
	}
	list[n] = NULL;
	if (!cfg->devs)
		return 0;
	if (!p->file.modules) {
		if (cfg->verbose)
			dprintf(cfg->err_fd,
				"orrery: there is no modules/modules.dep beside %s: drivers must be "
				"built in\n",
				p->file.image);
		return 0;
	}
	return vm_devs_modules(cfg->devs, list + n, MODULES_MAX - n, e);
}

static const char *const port_drivers[] = { "virtio_mmio", "virtio_console", NULL };

static int compose(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	const char *env[ENV_MAX + 1], *modules[MODULES_MAX];
	char cwd[PATH_MAX], term[128], port[] = PORT;
	struct initramfs_cfg ic = {
		.argv = cfg->argv,
		.env = env,
		.path = getenv("PATH"),
		.ld_library_path = getenv("LD_LIBRARY_PATH"),
		.port = cfg->argv ? port : NULL,
		.vport = vcon_of(cfg->devs, &vm_dev_port) ? WIRE_PORT_NAME : NULL,
		.console = vcon_of(cfg->devs, &vm_dev_hvc) ? HVC : NULL,
		.modules_dir = p->file.modules,
		.modules = modules,
		.later = vcon_of(cfg->devs, &vm_dev_port) ? port_drivers : NULL,
		.host_root = cfg->devs && vm_devs_root(cfg->devs),
		.include = cfg->include,
		.n_include = cfg->n_include,
		.stdin_null = cfg->argv && !cfg->tty && p->input == INPUT_NULL,
		.tty = cfg->argv ? cfg->tty : p->input == INPUT_TERMINAL,
	};
	const char *const listen[] = { "listen", PORT, NULL };
	struct buf setup = { 0 };
	int r = fill_env(cfg, p, term, sizeof(term), env, e);

	if (r == 0)
		r = fill_modules(cfg, p, modules, e);
	if (r == 0 && cfg->devs)
		r = vm_devs_guest(cfg->devs, &setup, e);
	if (r == 0 && !cfg->argv && vm_setup_line(&setup, listen) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	if (r < 0)
		goto out;
	ic.setup = setup.data;
	ic.setup_len = setup.len;
	/* A directory that was removed, or is the kernel's own: there is no such place. */
	if (getcwd(cwd, sizeof(cwd)) && cwd[0] == '/')
		ic.cwd = cwd;
	if (ic.tty)
		term_size((int[]){ cfg->in_fd, cfg->out_fd }, 2, &ic.rows, &ic.cols);
	vcon_resize(vcon_of(cfg->devs, &vm_dev_hvc), ic.rows, ic.cols);
	p->shell = !cfg->argv;
	r = initramfs_compose(&ic, e, &p->sizes, &p->initrd);
out:
	buf_fini(&setup);
	return r;
}

/* --- memory ---------------------------------------------------------------------------------- */

static unsigned long long kib(u64 bytes)
{
	return (bytes + 1023) >> 10;
}

static int too_small(const struct vm_cfg *cfg, const struct prepared *p, u64 floor, struct err *e)
{
	char parts[160] = "";

	if (p->sizes.total)
		snprintf(parts, sizeof(parts),
			 " (base %llu, command %llu, --include %llu, modules %llu KiB)",
			 kib(p->sizes.base), kib(p->sizes.command), kib(p->sizes.include),
			 kib(p->sizes.modules));
	return err_set(
		e, -ENOMEM,
		"%llu MiB of memory are too little: the kernel occupies memory up to %llu MiB, "
		"the initrd has %llu KiB%s and is unpacked beside it, %u vCPU%s; use --mem %lluM%s",
		(unsigned long long)p->mem >> 20,
		(unsigned long long)((p->kernel->mem_top + 0xfffff) >> 20), kib(p->initrd.len),
		parts, topo_cpus(&p->topo), topo_cpus(&p->topo) == 1 ? "" : "s",
		(unsigned long long)floor >> 20,
		cfg->mem ? " or more, or leave it out" : " or larger --numa nodes");
}

/* Sizes the memory, or checks that the user's size can do. */
static int prepare_mem(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	u64 size = p->initrd.len, floor;
	int r;

	if (size >= sizeof(CPIO_MAGIC) && memcmp(p->initrd.data, CPIO_MAGIC, 5) != 0)
		size *= UNPACK_GUESS;
	floor = machine_mem_floor(p->kernel, size, topo_cpus(&p->topo));
	if (!p->mem)
		p->mem = MAX(VM_MEM_DEFAULT, ALIGN_UP(floor, 2ull << 20));
	else if (p->linux_guest && p->mem < floor)
		return too_small(cfg, p, floor, e);
	r = topo_validate(&p->topo, p->mem, e);
	return r < 0 ? r : 0;
}

static int prepare_cmdline(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	const char *ours = p->linux_guest ? machine_default_cmdline(cfg->verbose) : "";
	const char *more = cfg->append ? cfg->append : "";
	int r = buf_printf(&p->cmdline, "%s%s%s", ours, *ours && *more ? " " : "", more);

	if (r == 0 && cfg->virtio_cmdline && cfg->devs)
		r = machine_virtio_cmdline(&p->cmdline, cfg->devs->n);
	if (r == 0)
		r = buf_add(&p->cmdline, "", 1);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int prepare_initrd(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	int r = 0;

	if (cfg->initrd)
		r = read_initrd(cfg, e, p);
	else if (p->linux_guest)
		r = compose(cfg, e, p);
	p->initrd_len = p->initrd.len;
	return r;
}

static int check_model(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	return machine_check_model(cfg->cpu_model, p->kvm, e);
}

static int prepare_perf(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	return perf_new(cfg, &p->topo, p->kvm, e, &p->perf);
}

static int check_options(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	if (cfg->initrd && cfg->argv)
		return err_set(e, -EINVAL,
			       "--initrd and a command exclude each other: the command needs "
			       "Orrery's own init; use --include to add files to it");
	if (cfg->initrd && (cfg->n_include || (cfg->modules && cfg->modules[0])))
		return err_set(
			e, -EINVAL,
			"--include and --module add to Orrery's own initramfs; with --initrd "
			"there is none");
	if (cfg->devs && vm_devs_root(cfg->devs) && cfg->n_include)
		return err_set(
			e, -EINVAL,
			"--include packs files, and with --share / nothing is packed: all of "
			"this host's are there");
	return 0;
}

bool prepare_cancelled(const struct vm_cfg *cfg)
{
	return cfg->cancel && __atomic_load_n(cfg->cancel, __ATOMIC_ACQUIRE);
}

int prepare(const struct vm_cfg *cfg, struct err *e, struct prepared *p)
{
	static int (*const steps[])(const struct vm_cfg *, struct err *, struct prepared *) = {
		check_options,
		prepare_engine,
		check_model,
		prepare_topo,
		prepare_kernel,
		prepare_clock,
		add_port,
		prepare_devs,
		prepare_initrd,
		prepare_mem,
		prepare_cmdline,
		/* Last: this thread moves, and while others wait for its CPUs, it should have a use for them. */
		prepare_perf,
	};
	int r = 0;

	child_cancel(cfg->cancel);
	for (unsigned i = 0; r >= 0 && i < ARRAY_LEN(steps); i++) {
		r = steps[i](cfg, e, p);
		if (r >= 0 && prepare_cancelled(cfg))
			r = err_set(e, -ECANCELED, "stopped before it ran");
	}
	child_cancel(NULL);
	return MIN(r, 0);
}

/* --- between two machines --------------------------------------------------------------------- */

/* A file without a name that holds the initrd; -1 without one. */
static int shelve(const struct buf *b)
{
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);

	if (fd >= 0 && buf_write_fd(fd, b->data, b->len) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

void prepare_put_away(struct prepared *p)
{
	kernel_image_put_away(p->kernel);
	if (p->initrd_fd < 0 && p->initrd.len && !p->no_shelf)
		p->initrd_fd = shelve(&p->initrd);
	p->no_shelf = p->initrd_fd < 0;
	if (p->initrd_fd >= 0)
		buf_fini(&p->initrd);
	/* What preparing has freed in small pieces. */
	malloc_trim(0);
}

int prepare_take_out(struct prepared *p, struct err *e)
{
	int r = kernel_image_take_out(p->kernel, e);

	if (r < 0 || p->initrd_fd < 0 || p->initrd.len)
		return r;
	if (lseek(p->initrd_fd, 0, SEEK_SET) < 0)
		return err_sys(e, -errno, "the initrd cannot be read again");
	r = buf_read_fd(&p->initrd, p->initrd_fd, INITRD_MAX);
	if (r < 0)
		return err_sys(e, r, "the initrd cannot be read again");
	if (p->initrd.len != p->initrd_len)
		return err_set(e, -EINVAL,
			       "the initrd's file has changed since the guest was started");
	return 0;
}

void prepare_fini(struct prepared *p)
{
	perf_free(p->perf);
	kernel_image_free(p->kernel);
	kcache_kernel_fini(&p->file);
	buf_fini(&p->initrd);
	if (p->initrd_fd >= 0)
		close(p->initrd_fd);
	buf_fini(&p->cmdline);
}
