// SPDX-License-Identifier: Apache-2.0
/*
 * ps.c - the command `orrery ps`: the user's running VMs
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "options.h"
#include "vm/remote.h"
#include "vm/run.h"

enum { OPT_JSON = 1, OPT_HELP };

struct args {
	bool json, help;
};

static const struct option_def options[] = {
	{ "json", 0, NULL, "an array of objects, for programs", OPT_JSON },
	{ "help", 'h', NULL, "this list", OPT_HELP },
	{ 0 },
};

static const char intro[] =
	"usage: orrery ps [OPTION...]\n"
	"\n"
	"The VMs of this user that are running: name or process number, state, engine, vCPUs, memory,\n"
	"for how long, and the command. One that does not answer has \"?\".\n"
	"\n";

static int on_option(void *opaque, int id, const char *v, struct err *e)
{
	struct args *a = opaque;

	if (id == OPT_JSON)
		a->json = true;
	else
		a->help = true;
	return 0;
}

static void up_text(u64 ms, char ret[24])
{
	unsigned long long s = ms / 1000;

	if (s < 60)
		snprintf(ret, 24, "%llu.%llus", s, (unsigned long long)(ms % 1000) / 100);
	else if (s < 3600)
		snprintf(ret, 24, "%llum%02llus", s / 60, s % 60);
	else
		snprintf(ret, 24, "%lluh%02llum", s / 3600, s / 60 % 60);
}

static void print_text(const struct remote_info *v, int n)
{
	char up[24];

	printf("%-16s %8s %-12s %-6s %5s %8s %8s  %s\n", "NAME", "PID", "STATE", "ENGINE", "VCPUS",
	       "MEMORY", "UP", "COMMAND");
	for (int i = 0; i < n; i++, v++) {
		if (!v->answered) {
			printf("%-16s %8d %-12s\n", v->name, (int)v->pid, "?");
			continue;
		}
		up_text(v->up_ms, up);
		printf("%-16s %8d %-12s %-6s %5u %7lluM %8s  %s\n", v->name, (int)v->pid, v->state,
		       v->engine, v->vcpus, (unsigned long long)v->mem >> 20, up, v->command);
	}
}

static int print_json(const struct remote_info *v, int n)
{
	json_t *list = json_array();
	int r;

	for (int i = 0; i < n; i++, v++) {
		json_t *j = json_pack("{s:s, s:i}", "name", v->name, "pid", (int)v->pid);

		if (v->answered)
			json_object_update_new(
				j, json_pack("{s:s, s:s, s:i, s:I, s:I, s:s?}", "state", v->state,
					     "engine", v->engine, "vcpus", (int)v->vcpus, "memory",
					     (json_int_t)v->mem, "up_ms", (json_int_t)v->up_ms,
					     "command", v->command[0] ? v->command : NULL));
		else
			json_object_set_new(j, "state", json_null());
		json_array_append_new(list, j);
	}
	r = json_dumpf(list, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(list);
	return r;
}

int cmd_ps(int argc, char **argv)
{
	struct remote_info *list = NULL;
	struct args a = { 0 };
	struct err e = { 0 };
	int r = options_parse(options, argc, argv, on_option, &a, &e), n;

	if (r >= 0 && a.help) {
		fputs(intro, stdout);
		options_print(options);
		return fflush(stdout) ? VM_STATUS_FAILED : 0;
	}
	n = r < 0 ? r : remote_list(&e, &list);
	if (n < 0) {
		fprintf(stderr, "orrery: %s\n", e.msg);
		return VM_STATUS_FAILED;
	}
	r = 0;
	if (a.json)
		r = print_json(list, n);
	else if (n)
		print_text(list, n);
	free(list);
	return r < 0 || fflush(stdout) ? VM_STATUS_FAILED : 0;
}
