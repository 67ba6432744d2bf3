// SPDX-License-Identifier: Apache-2.0
/*
 * control.c - the commands pause, resume, stop, reset, balloon and stats of a VM that is running
 *
 * They are one request each (vm/remote.h). Which VM is meant is the first word, or said as for
 * `orrery exec`.
 */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/values.h"
#include "options.h"
#include "vm/ctl.h"
#include "vm/remote.h"
#include "vm/run.h"

/* For what needs the VM's thread: it may wait for whoever reads the guest's output. */
#define ORDER_MS 10000u
/* A machine is made anew, from files that the host may have to read again. */
#define RESET_MS 60000u

enum { OPT_VM = 1, OPT_TIMEOUT, OPT_FORCE, OPT_HELP, OPT_WORD };

#define WORDS_MAX 2u

struct args {
	const char *vm;
	const char *word[WORDS_MAX];
	unsigned n_words;
	u64 timeout_ns;
	bool force, has_timeout, help;
};

static const struct option_def options[] = {
	{ "vm", 0, "NAME|PID", "the same as VM: which one, if more than one is running", OPT_VM },
	{ "help", 'h', NULL, "this list", OPT_HELP },
	{ 0 },
};

static const struct option_def stop_options[] = {
	{ "vm", 0, "NAME|PID", "the same as VM: which one, if more than one is running", OPT_VM },
	{ "timeout", 0, "SEC", "how long the guest has to end by itself (default 10)",
	  OPT_TIMEOUT },
	{ "force", 0, NULL, "does not ask the guest: ends it at once", OPT_FORCE },
	{ "help", 'h', NULL, "this list", OPT_HELP },
	{ 0 },
};

static int on_option(void *opaque, int id, const char *v, struct err *e)
{
	struct args *a = opaque;

	switch (id) {
	case OPT_VM:
		a->vm = v;
		return 0;
	case OPT_TIMEOUT:
		a->has_timeout = true;
		return value_seconds("--timeout", v, e, &a->timeout_ns);
	case OPT_FORCE:
		a->force = true;
		return 0;
	case OPT_WORD:
		if (a->n_words == WORDS_MAX)
			return err_set(e, -EINVAL, "unexpected argument \"%.80s\"", v);
		a->word[a->n_words++] = v;
		return 0;
	default:
		a->help = true;
		return 0;
	}
}

/* What a command does once its VM is found. */
typedef int act_fn(struct remote *vm, const struct args *a, u64 number, struct err *e);

struct command {
	const char *name;
	const struct option_def *options;
	const char *number; /* what its argument is called; NULL: it has none */
	act_fn *act;
	const char *intro;
};

static int run(const struct command *c, const struct args *a, const char *number, struct err *e)
{
	struct remote vm;
	u64 n = 0;
	int r = 0;

	if (number)
		r = value_size(c->number, number, e, &n);
	if (r == 0)
		r = remote_open(a->vm, false, e, &vm);
	if (r < 0)
		return r;
	r = c->act(&vm, a, n, e);
	remote_close(&vm);
	return r;
}

/* [VM] [NUMBER] without dashes, as the command takes them. */
static int take_words(const struct command *c, struct args *a, const char **ret_number,
		      struct err *e)
{
	unsigned n = a->n_words;

	if (c->number && n)
		*ret_number = a->word[--n];
	if (n > 1 || (n && a->vm))
		return err_set(e, -EINVAL,
			       "unexpected argument \"%.80s\"; `orrery %s --help` says more",
			       a->word[n > 1], c->name);
	if (n)
		a->vm = a->word[0];
	if (c->number && !*ret_number)
		return err_set(e, -EINVAL, "which %s? `orrery %s --help` says more", c->number,
			       c->name);
	return 0;
}

static int command(const struct command *c, int argc, char **argv)
{
	struct args a = { 0 };
	struct err e = { 0 };
	const char *number = NULL;
	int r = options_parse_words(c->options, OPT_WORD, argc, argv, on_option, &a, &e);

	if (r >= 0 && a.help) {
		fputs(c->intro, stdout);
		options_print(c->options);
		return fflush(stdout) ? VM_STATUS_FAILED : 0;
	}
	if (r >= 0 && r < argc)
		r = err_set(&e, -EINVAL, "%s: it takes no command", c->name);
	if (r >= 0)
		r = take_words(c, &a, &number, &e);
	if (r >= 0 && a.force && a.has_timeout)
		r = err_set(&e, -EINVAL,
			    "--force and --timeout exclude each other: the guest is not asked, or "
			    "it has time");
	if (r >= 0)
		r = run(c, &a, number, &e);
	if (r >= 0)
		return fflush(stdout) ? VM_STATUS_FAILED : 0;
	fprintf(stderr, "orrery: %s\n", e.msg);
	return VM_STATUS_FAILED;
}

static int act_pause(struct remote *vm, const struct args *a, u64 number, struct err *e)
{
	return remote_order(vm, "pause", ORDER_MS, e);
}

int cmd_pause(int argc, char **argv)
{
	static const struct command c = {
		"pause", options, NULL, act_pause,
		"usage: orrery pause [OPTION...] [VM]\n"
		"\n"
		"Stops the guest's vCPUs, devices and time until `orrery resume`. When it comes back,\n"
		"nothing of the guest changes any more. Host time runs on, and with it a --timeout.\n"
		"\n"
	};

	return command(&c, argc, argv);
}

static int act_resume(struct remote *vm, const struct args *a, u64 number, struct err *e)
{
	return remote_order(vm, "resume", ORDER_MS, e);
}

int cmd_resume(int argc, char **argv)
{
	static const struct command c = { "resume", options, NULL, act_resume,
					  "usage: orrery resume [OPTION...] [VM]\n"
					  "\n"
					  "Lets a paused guest go on where it was.\n"
					  "\n" };

	return command(&c, argc, argv);
}

static int act_reset(struct remote *vm, const struct args *a, u64 number, struct err *e)
{
	return remote_order(vm, "reset", RESET_MS, e);
}

int cmd_reset(int argc, char **argv)
{
	static const struct command c = {
		"reset", options, NULL, act_reset,
		"usage: orrery reset [OPTION...] [VM]\n"
		"\n"
		"Begins the guest anew, as a reset button does: memory, vCPUs, devices and guest time\n"
		"are as at power-on, and what a disk holds stays. The guest is not asked.\n"
		"\n"
	};

	return command(&c, argc, argv);
}

static int act_stop(struct remote *vm, const struct args *a, u64 number, struct err *e)
{
	u64 ms = a->has_timeout ? a->timeout_ns / 1000000 : CTL_STOP_MS;

	return remote_stop(vm, a->force ? 0 : (unsigned)MIN(ms, (u64)86400000), e);
}

int cmd_stop(int argc, char **argv)
{
	static const struct command c = {
		"stop", stop_options, NULL, act_stop,
		"usage: orrery stop [OPTION...] [VM]\n"
		"\n"
		"Asks the guest to end: its command gets SIGTERM; a guest without Orrery's init finds\n"
		"its power button pressed. If it has not ended in time, it is ended. Comes back when the\n"
		"VM is gone. `orrery run` ends with the command's status, or with 143.\n"
		"\n"
	};

	return command(&c, argc, argv);
}

static int act_balloon(struct remote *vm, const struct args *a, u64 number, struct err *e)
{
	return remote_balloon(vm, number, e);
}

int cmd_balloon(int argc, char **argv)
{
	static const struct command c = {
		"balloon", options, "SIZE", act_balloon,
		"usage: orrery balloon [OPTION...] [VM] SIZE\n"
		"\n"
		"Tells a guest with --balloon to keep SIZE of its memory, such as 256M, and to give the\n"
		"rest back to the host. It takes a while, and it may keep more: `orrery stats` shows it.\n"
		"\n"
	};

	return command(&c, argc, argv);
}

static void print_stat(void *opaque, const char *name, u64 val)
{
	printf("%-24s %llu\n", name, (unsigned long long)val);
}

static int act_stats(struct remote *vm, const struct args *a, u64 number, struct err *e)
{
	return remote_stats(vm, print_stat, NULL, e);
}

int cmd_stats(int argc, char **argv)
{
	static const struct command c = { "stats", options, NULL, act_stats,
					  "usage: orrery stats [OPTION...] [VM]\n"
					  "\n"
					  "The counters of a running VM, as `orrery run --stats` "
					  "prints them at its end.\n"
					  "\n" };

	return command(&c, argc, argv);
}
