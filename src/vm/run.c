// SPDX-License-Identifier: Apache-2.0
/*
 * run.c - runs one virtual machine from its configuration to its end, and says how it ended
 *
 * How it works
 * Three things can end a run: the guest (power-off, reset, a fault, silence), the session (the
 * command's status arrived, time-out, a signal), or both at once. What the session saw counts
 * first: a command whose status arrived is done, whatever the guest does next. A panic that the
 * console reported explains every end that brings no status, because after one a guest resets,
 * spins or halts depending on its configuration.
 */
#include "vm/run.h"

#include "base/hosttime.h"
#include "base/symbols.h"
#include "vm/ctl.h"
#include "vm/gdb.h"
#include "vm/prepare.h"
#include "vm/sandbox.h"
#include "vm/session.h"
#include "vm/term.h"
#include "vm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TAIL_LINES 24u

/* --- how it ended ---------------------------------------------------------------------------- */

static void set_end(struct vm_result *r, enum vm_end end, int status, const char *fmt, ...)
	attr_printf(4, 5);

static void set_end(struct vm_result *r, enum vm_end end, int status, const char *fmt, ...)
{
	va_list ap;

	r->end = end;
	r->status = status;
	va_start(ap, fmt);
	vsnprintf(r->words, sizeof(r->words), fmt, ap);
	va_end(ap);
}

/* How far the guest came: the first thing to know about one that hangs or ends early. */
static const char *progress_words(const struct session *s)
{
	const struct cmdport *p = session_port(s);

	if (!p)
		return "";
	switch (cmdport_state(p)) {
	case CMDPORT_WAITING:
		return "; nothing was heard from its user space";
	case CMDPORT_HELLO:
		return "; the command had not been started yet";
	case CMDPORT_STARTED:
		return "; the command was running";
	default:
		return "";
	}
}

static void end_of_command(const struct vm_cfg *cfg, const struct session *s, struct vm_result *r)
{
	const struct cmdport_outcome *o = cmdport_outcome(session_port(s));
	int status = cmdport_status(o);

	if (o->how == CMDPORT_NOT_STARTED)
		set_end(r, VM_END_NOT_STARTED, status, "the guest could not run %s: %s",
			cfg->argv[0], o->words[0] ? o->words : strerror((int)(o->value & 0xfff)));
	else
		set_end(r, VM_END_COMMAND, status, "%s", "");
}

static void end_of_output(const struct session *s, struct vm_result *r)
{
	const char *what;
	int err = session_output_error(s, &what);

	/* As a program that writes to a pipe without a reader: silently. */
	if (err == -EPIPE)
		set_end(r, VM_END_OUTPUT, 128 + SIGPIPE, "%s", "");
	else
		set_end(r, VM_END_OUTPUT, VM_STATUS_FAILED, "cannot write to %s: %s", what,
			strerror(-err));
}

static void end_of_guest(const struct session *s, const struct machine *m, enum engine_exit why,
			 struct vm_result *r)
{
	bool command = session_port(s) != NULL;
	const char *far = progress_words(s);

	switch (why) {
	case ENGINE_POWEROFF:
		if (session_asked(s))
			set_end(r, VM_END_STOPPED, command ? 128 + SIGTERM : 0, "%s",
				command ? "stopped on request" : "");
		else if (command)
			set_end(r, VM_END_POWEROFF, VM_STATUS_HALTED,
				"the guest powered off without reporting the command's status%s",
				far);
		else
			set_end(r, VM_END_POWEROFF, 0, "%s", "");
		break;
	case ENGINE_RESET:
		set_end(r, VM_END_RESET, command ? VM_STATUS_HALTED : 0,
			command ? "the guest asked for a reset without reporting the command's "
				  "status%s"
				: "the guest asked for a reset; Orrery does not start it again%s",
			far);
		break;
	case ENGINE_TRIPLE:
		set_end(r, VM_END_TRIPLE, VM_STATUS_TRIPLE,
			"triple fault: a vCPU could not deliver an exception and shut down%s", far);
		break;
	case ENGINE_DEADLOCK:
		set_end(r, VM_END_HALTED, VM_STATUS_HALTED,
			"all vCPUs are halted, and nothing will ever wake them%s", far);
		break;
	case ENGINE_FAILED:
		set_end(r, VM_END_FAILED, VM_STATUS_FAILED,
			"the host's KVM cannot go on: %s%s; --engine soft does without it",
			machine_failure(m), far);
		break;
	case ENGINE_STOPPED: /* by the session: not here */
	case ENGINE_DEBUG:
		set_end(r, VM_END_HALTED, VM_STATUS_FAILED, "the machine stopped");
		break;
	}
}

/* As by SIGTERM, which is what it means. */
static void end_of_stop(const struct session *s, struct vm_result *r)
{
	u64 asked = session_asked(s);

	if (asked)
		set_end(r, VM_END_STOPPED, 128 + SIGTERM,
			"stopped on request: the guest had not ended by itself within %g s%s",
			(double)asked / 1e9, progress_words(s));
	else
		set_end(r, VM_END_STOPPED, 128 + SIGTERM, "stopped on request");
}

static void classify(const struct vm_cfg *cfg, const struct session *s, struct machine *m,
		     enum engine_exit why, struct vm_result *r)
{
	const struct conlog *con = session_console(s);
	enum session_stop stopped = session_stopped(s);
	u32 code;

	if (stopped == SESSION_EXITED)
		end_of_command(cfg, s, r);
	else if (stopped == SESSION_OUTPUT)
		end_of_output(s, r);
	else if (stopped == SESSION_SIGNAL)
		set_end(r, VM_END_SIGNAL, 128 + session_signal(s), "ended by signal %d (%s)",
			session_signal(s), strsignal(session_signal(s)));
	else if (stopped == SESSION_STOPPED)
		end_of_stop(s, r);
	else if (stopped == SESSION_ESCAPED)
		set_end(r, VM_END_USER, cfg->argv ? 128 + SIGINT : 0, "%s", "");
	else if (machine_debug_exited(m, &code))
		set_end(r, VM_END_DEBUG_EXIT, (int)(code & 0xff), "%s", "");
	else if (conlog_panicked(con))
		set_end(r, VM_END_PANIC, VM_STATUS_PANIC, "the guest's kernel panicked: %s",
			con->panic[0] ? con->panic : con->line);
	else if (stopped == SESSION_TIMEOUT)
		set_end(r, VM_END_TIMEOUT, VM_STATUS_TIMEOUT,
			"time-out: the guest had not ended after %g s%s",
			(double)cfg->timeout_ns / 1e9, progress_words(s));
	else if (stopped == SESSION_PROTOCOL)
		set_end(r, VM_END_PROTOCOL, VM_STATUS_HALTED,
			"the guest broke the command port's protocol (%s), so the command's status "
			"is not known",
			session_fault(s));
	else
		end_of_guest(s, m, why, r);
}

/* Whether the console's last lines may explain the end, to somebody who has not seen them. */
static bool wants_tail(const struct vm_cfg *cfg, const struct vm_result *r)
{
	if (!cfg->argv || cfg->verbose)
		return false;
	switch (r->end) {
	case VM_END_POWEROFF:
	case VM_END_RESET:
	case VM_END_PANIC:
	case VM_END_TRIPLE:
	case VM_END_HALTED:
	case VM_END_FAILED:
	case VM_END_TIMEOUT:
	case VM_END_PROTOCOL:
		return true;
	default:
		return false;
	}
}

/* --- running --------------------------------------------------------------------------------- */

static void add_stat(void *opaque, const char *name, u64 val)
{
	struct vm_result *r = opaque;

	if (r->n_stats == VM_STATS_MAX)
		return;
	snprintf(r->stat[r->n_stats].name, sizeof(r->stat[0].name), "%s", name);
	r->stat[r->n_stats++].val = val;
}

/* Where the engine tells what it translates. */
struct traces {
	FILE *dump, *map;
	struct symbols *symbols;
};

static int open_traces(const struct vm_cfg *cfg, struct err *e, struct traces *ret)
{
	char map[64];

	if (cfg->symbols) {
		int r = symbols_load(cfg->symbols, e, &ret->symbols);
		if (r < 0) {
			err_prefix(e, "--symbols");
			return r;
		}
	}
	if (cfg->code_dump) {
		ret->dump = fopen(cfg->code_dump, "we");
		if (!ret->dump)
			return err_sys(e, -errno, "--code-dump %s", cfg->code_dump);
	}
	if (cfg->perf_map) {
		snprintf(map, sizeof(map), "/tmp/perf-%d.map", (int)getpid());
		ret->map = fopen(map, "wex"); /* never through a link that someone put there */
		if (!ret->map)
			return err_sys(e, -errno, "--perf-map: %s", map);
	}
	return 0;
}

static void close_traces(struct traces *t)
{
	if (t->dump)
		fclose(t->dump);
	if (t->map)
		fclose(t->map);
	symbols_free(t->symbols);
}

static int new_machine(const struct vm_cfg *cfg, struct prepared *p, struct session *s,
		       const struct traces *t, struct err *e, struct machine **ret)
{
	int r = prepare_take_out(p, e);

	if (r < 0)
		return r;
	struct machine_cfg mc = {
		.topo = &p->topo,
		.mem = p->mem,
		.kvm = p->kvm,
		.perf = p->perf,
		.cpu_model = cfg->cpu_model,
		.clock = p->real_clock ? MACHINE_CLOCK_REAL : MACHINE_CLOCK_VIRTUAL,
		.mips = cfg->mips ? cfg->mips : MACHINE_MIPS_DEFAULT,
		.tier = cfg->tier,
		.code_cache = cfg->code_cache,
		.code_dump = t->dump,
		.perf_map = t->map,
		.symbols = t->symbols,
		.seed = p->seed,
		.rtc_base = p->rtc_base,
		.debug_exit = cfg->debug_exit,
		.kernel = p->kernel,
		.initrd = p->initrd.data,
		.initrd_size = p->initrd.len,
		.cmdline = (const char *)p->cmdline.data,
		.devs = cfg->devs,
		.gate = session_gate(s),
		.virtio_cmdline = cfg->virtio_cmdline,
		.tx = session_tx,
		.rx_space = session_rx_space,
		.opaque = s,
	};

	r = machine_new(&mc, e, ret);
	prepare_put_away(p);
	return r;
}

static void say_setup(const struct vm_cfg *cfg, const struct prepared *p)
{
	char shape[TOPO_TEXT_MAX];

	topo_format(&p->topo, shape);
	dprintf(cfg->err_fd,
		"orrery: kernel %s (%s%s%s), initrd %zu KiB, %llu MiB, topology %s, clock %s, seed "
		"%llu\norrery: command line: %s\n",
		p->file.release ? p->file.release : p->file.image,
		kernel_type_name(p->kernel->type), p->kernel->version[0] ? ", " : "",
		p->kernel->version, p->initrd_len >> 10, (unsigned long long)p->mem >> 20, shape,
		p->real_clock ? "real" : "virtual", (unsigned long long)p->seed,
		(const char *)p->cmdline.data);
}

static void say_fault(void *opaque, const char *dev, const char *why)
{
	const struct vm_cfg *cfg = opaque;

	dprintf(cfg->err_fd, "orrery: the guest's driver broke %s: %s\n", dev, why);
}

/* Creates the file that --console names; -1 in *ret without one. */
static int open_console(const struct vm_cfg *cfg, struct err *e, int *ret)
{
	*ret = -1;
	if (!cfg->console)
		return 0;
	*ret = open(cfg->console, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return *ret < 0 ? err_sys(e, -errno, "--console %s", cfg->console) : 0;
}

/* Where other processes find the VM. One that nobody has to find runs without. */
static int open_ctl(const struct vm_cfg *cfg, const struct prepared *p, struct session *s,
		    struct machine *m, const struct life *life, struct err *e, struct ctl **ret)
{
	struct ctl_cfg cc = { .name = cfg->name,
			      .session = s,
			      .life = life,
			      .devs = cfg->devs,
			      .agent = p->linux_guest && !cfg->initrd,
			      .engine = machine_engine(m),
			      .vcpus = topo_cpus(&p->topo),
			      .mem = p->mem,
			      .argv = cfg->argv };
	struct err why;
	int r;

	if (cfg->hidden)
		return 0;
	if (cfg->name || vm_has_vsock(cfg->devs))
		return ctl_new(&cc, e, ret);
	r = ctl_new(&cc, &why, ret);
	if (r < 0 && cfg->verbose)
		dprintf(cfg->err_fd, "orrery: `orrery ps` will not show this VM: %s\n", why.msg);
	return 0;
}

/* Whether a reset is a beginning. */
static bool restarts(const struct vm_cfg *cfg, const struct session *s, enum engine_exit why)
{
	return why == ENGINE_RESET && session_stopped(s) == SESSION_RUNS && !session_asked(s) &&
	       (cfg->restart || session_reset_asked(s));
}

/*
 * Runs the machine to its end. A reset builds another from the same parts: what is made anew has
 * forgotten everything, which a reset of each part would have to prove. What is outside of the
 * machine stays: disks' contents, networks, the terminal, the input that was read.
 */
static int run_to_end(const struct vm_cfg *cfg, struct prepared *p, struct session *s,
		      const struct traces *t, struct life *life, struct err *e, struct machine **m,
		      enum engine_exit *ret_why)
{
	int r;

	for (;;) {
		r = session_debug_begin(s, *m, e);
		if (r < 0)
			return r;
		life_set(life, LIFE_RUNNING);
		*ret_why = session_run(s, *m);
		if (!restarts(cfg, s, *ret_why))
			return 0;
		life_set(life, LIFE_INITIALIZING);
		r = session_reset(s);
		if (r < 0)
			return err_set(e, r, "out of memory");
		machine_free(*m);
		*m = NULL;
		r = new_machine(cfg, p, s, t, e, m);
		if (r < 0) {
			err_prefix(e, "reset");
			return r;
		}
	}
}

/* Before any thread is started, and before devices have taken what they name. */
static int new_sandbox(const struct vm_cfg *cfg, const struct prepared *p, const struct gdb *gdb,
		       struct err *e, struct sandbox **ret)
{
	struct sandbox_cfg bc = { .devs = cfg->devs,
				  .err_fd = cfg->err_fd,
				  .verbose = cfg->verbose };

	if (!cfg->sandbox)
		return 0;
	bc.uses = p->kvm ? SANDBOX_KVM : SANDBOX_SOFT;
	if (cfg->perf || cfg->cpu_cap)
		bc.uses |= SANDBOX_PERF;
	if (!cfg->hidden)
		bc.uses |= SANDBOX_CTL | SANDBOX_STREAM;
	if (gdb) {
		bc.uses |= SANDBOX_GDB | SANDBOX_STREAM;
		bc.leaves = gdb_path(gdb);
	}
	return sandbox_new(&bc, e, ret);
}

/* Somebody who started a VM for his debugger must know that it waits for that, and where. */
static int open_gdb(const struct vm_cfg *cfg, struct err *e, struct gdb **ret)
{
	int r = cfg->gdb ? gdb_new(cfg->gdb, e, ret) : 0;

	if (r == 0 && *ret)
		dprintf(cfg->err_fd, "orrery: %s: %s\n",
			gdb_waits(*ret) ? "waiting for a debugger" : "listening for a debugger",
			gdb_words(*ret));
	return r;
}

/* What is open while a VM runs. */
struct run {
	const struct vm_cfg *cfg;
	struct prepared *p;
	struct life *life;
	int console_fd;
	struct gdb *gdb;
	struct sandbox *sandbox;
	struct session *s;
	struct traces traces;
	struct machine *m;
	struct ctl *ctl;
};

/*
 * On the I/O thread: our own one may never come back. The kernel may not let the process go either,
 * but whoever asked for the end gets it.
 */
static void on_hung(void *opaque, const char *words)
{
	struct run *x = opaque;
	char line[300];
	int n;

	if (x->cfg->hung) {
		x->cfg->hung(x->cfg->opaque, words);
		return;
	}
	term_restore();
	/* Not dprintf: it looks at the file, which this thread may not. */
	n = snprintf(line, sizeof(line), "orrery: %s\n", words);
	(void)!write(x->cfg->err_fd, line, MIN((size_t)n, sizeof(line) - 1));
	ctl_hang_up(x->ctl);
	_exit(VM_STATUS_FAILED);
}

static int new_session(struct run *x, struct err *e)
{
	const struct vm_cfg *cfg = x->cfg;
	const struct prepared *p = x->p;
	bool terminal = p->input == INPUT_TERMINAL;
	struct session_cfg sc = {
		.command = cfg->argv != NULL,
		.linux_guest = p->linux_guest,
		.shell = p->shell && !terminal,
		.tty = cfg->tty,
		.verbose = cfg->verbose,
		.input = p->input,
		.live = terminal || (p->input == INPUT_STREAM && p->real_clock),
		.in_fd = cfg->in_fd,
		.out_fd = cfg->out_fd,
		.err_fd = cfg->err_fd,
		.console_fd = x->console_fd,
		.timeout_ns = cfg->timeout_ns,
		.no_signals = cfg->no_signals,
		.init = p->linux_guest && !cfg->initrd,
		.life = x->life,
		.devs = cfg->devs,
		.hvc = vcon_of(cfg->devs, &vm_dev_hvc),
		.port = vcon_of(cfg->devs, &vm_dev_port),
		.gdb = x->gdb,
		.hung = on_hung,
		.opaque = x,
	};

	return session_new(&sc, e, &x->s);
}

/* Everything that the guest's run needs; afterwards the guest decides what happens. */
static int open_run(struct run *x, struct err *e)
{
	const struct vm_cfg *cfg = x->cfg;
	int r = open_console(cfg, e, &x->console_fd);

	if (r == 0)
		r = open_gdb(cfg, e, &x->gdb);
	if (r == 0)
		r = new_sandbox(cfg, x->p, x->gdb, e, &x->sandbox);
	if (r == 0)
		r = new_session(x, e);
	if (r == 0)
		r = open_traces(cfg, e, &x->traces);
	if (r == 0)
		r = new_machine(cfg, x->p, x->s, &x->traces, e, &x->m);
	if (r == 0)
		r = open_ctl(cfg, x->p, x->s, x->m, x->life, e, &x->ctl);
	if (r == 0 && x->p->input == INPUT_TERMINAL && (cfg->tty || !cfg->argv))
		r = term_raw(cfg->in_fd, e);
	if (r == 0)
		sandbox_enter(x->sandbox);
	return r;
}

/* Legal on one that was opened in part. */
static void close_run(struct run *x)
{
	session_close(x->s);
	gdb_end(x->gdb);
	machine_free(x->m);
	session_end(x->s);
	ctl_free(x->ctl);
	session_free(x->s);
	gdb_free(x->gdb);
	close_traces(&x->traces);
	sandbox_free(x->sandbox);
	if (x->console_fd >= 0)
		close(x->console_fd);
}

/* How it ended, of a machine that still is as it was then. */
static int judge(struct run *x, enum engine_exit why, struct err *e, struct vm_result *r)
{
	const struct vm_cfg *cfg = x->cfg;

	r->guest_ns = machine_now(x->m);
	classify(cfg, x->s, x->m, why, r);
	gdb_exited(x->gdb, r->status);
	if (wants_tail(cfg, r))
		conlog_last(session_console(x->s), TAIL_LINES, r->tail);
	machine_stats(x->m, add_stat, r);
	if (cfg->verbose)
		machine_faults(x->m, say_fault, (void *)cfg);
	return cfg->digest ? machine_digest(x->m, e, r->digest) : 0;
}

/* From the prepared parts to the end, with the terminal as it was afterwards. */
static int run_prepared(const struct vm_cfg *cfg, struct prepared *p, u64 begun, struct life *life,
			struct err *e, struct vm_result *r)
{
	struct run x = { .cfg = cfg, .p = p, .life = life, .console_fd = -1 };
	enum engine_exit why;
	int rc = open_run(&x, e);

	if (rc < 0)
		goto out;
	r->prepare_ns = host_ns() - begun;
	begun = host_ns();
	if (cfg->attach)
		cfg->attach(cfg->opaque, x.s);
	rc = run_to_end(cfg, p, x.s, &x.traces, life, e, &x.m, &why);
	if (cfg->attach)
		cfg->attach(cfg->opaque, NULL);
	if (life_now(life) != LIFE_STOPPING)
		life_set(life, LIFE_STOPPING);
	r->run_ns = host_ns() - begun;
	session_close(x.s);
	term_restore();
	if (rc == 0)
		rc = judge(&x, why, e, r);
out:
	close_run(&x);
	return rc;
}

int vm_run(const struct vm_cfg *cfg, struct err *e, struct vm_result *ret)
{
	struct life own = { .state = LIFE_CREATED }, *life = cfg->life ? cfg->life : &own;
	struct prepared p = PREPARED_EMPTY;
	u64 begun = host_ns();
	int r;

	memset(ret, 0, sizeof(*ret));
	BUG_IF(life_set(life, LIFE_INITIALIZING) < 0);
	r = prepare(cfg, e, &p);
	if (r == 0 && cfg->verbose)
		say_setup(cfg, &p);
	if (r == 0) {
		r = run_prepared(cfg, &p, begun, life, e, ret);
	} else if (prepare_cancelled(cfg)) {
		/* Also where something else failed on the way: nobody wants it any more. */
		set_end(ret, VM_END_STOPPED, 128 + SIGTERM, "stopped on request before it ran");
		life_set(life, LIFE_STOPPING);
		r = 0;
	}
	prepare_fini(&p);
	life_set(life, r < 0 ? LIFE_FAILED : LIFE_STOPPED);
	return r;
}
