// SPDX-License-Identifier: Apache-2.0
/*
 * orrery.c - the program: finds the command that was named
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/values.h"
#include "connect.h"
#include "control.h"
#include "doctor.h"
#include "exec.h"
#include "kernel.h"
#include "locks.h"
#include "options.h"
#include "run.h"
#include "shell.h"
#include "topo.h"

#define FAILED 125

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "run", cmd_run, "boots a kernel; runs a command in it, or gives its console" },
	{ "exec", cmd_exec, "runs a command in a guest that is running already" },
	{ "connect", cmd_connect, "standard input and output to a vsock port of a guest" },
	{ "shell", cmd_shell, "an interactive shell in a guest, as on a terminal of its own" },
	{ "ps", cmd_ps, "lists the VMs that are running" },
	{ "pause", cmd_pause, "stops a guest's vCPUs, devices and time" },
	{ "resume", cmd_resume, "lets a paused guest go on" },
	{ "stop", cmd_stop, "asks a guest to end, and ends it if it does not" },
	{ "reset", cmd_reset, "begins a guest anew" },
	{ "balloon", cmd_balloon, "tells a guest how much memory to keep" },
	{ "stats", cmd_stats, "counters of a running VM" },
	{ "kernel", cmd_kernel, "lists, fetches and removes cached kernels" },
	{ "doctor", cmd_doctor, "says what this host has, and what each lack costs" },
	{ "locks", cmd_locks, "shows who has which CPUs and caches of this host" },
	{ "topo", cmd_topo, "shows what a CPU topology means, and lists the presets" },
};

static int help(void)
{
	printf("usage: orrery COMMAND [OPTION...]\n"
	       "\n"
	       "Boots real Linux kernels on a built-in x86-64 CPU, without hardware virtualization,\n"
	       "in guest time that is exact to the bit.\n"
	       "\n");
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
		printf("  %-10s%s\n", commands[i].name, commands[i].help);
	printf("\n"
	       "`orrery COMMAND --help` says more. `orrery --version` prints the version.\n"
	       "\n"
	       "  orrery run -- uname -a              runs a command in Debian's newest kernel\n"
	       "  orrery run --topology 2n4l4c2t -- lscpu\n"
	       "  orrery run                          a shell in the guest; Ctrl-A X ends it\n");
	return fflush(stdout) ? FAILED : 0;
}

/*
 * A descriptor 0, 1 or 2 that is closed would be given to the next file that is opened, a kernel
 * perhaps, and the guest's output would go there.
 */
static void open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "", *near;

	open_standard_streams();
	if (argc < 2) {
		fputs("orrery: which command? `orrery --help` lists them\n", stderr);
		return FAILED;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
		return help();
	if (!strcmp(name, "--version")) {
		printf("orrery %s\n", ORRERY_VERSION);
		return fflush(stdout) ? FAILED : 0;
	}
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	near = value_nearest(name, &commands[0].name, ARRAY_LEN(commands), sizeof(commands[0]));
	fprintf(stderr, "orrery: unknown command \"%s\"; %s%s%s\n", name,
		near ? "did you mean " : "`orrery --help` lists them", near ? near : "",
		near ? "?" : "");
	return FAILED;
}
