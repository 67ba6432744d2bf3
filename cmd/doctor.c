// SPDX-License-Identifier: Apache-2.0
/*
 * doctor.c - the command `orrery doctor`: what this host has, and what each lack costs
 *
 * On a terminal, lines are broken at words, under the column where they began; elsewhere each check is
 * one line.
 */
#include "doctor.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vm/doctor.h"

#define FAILED 125
#define COLUMN 30      /* where the text begins */
#define WIDTH_MAX 110u /* longer lines are hard to read */
#define WIDTH_MIN 60u

static const char usage[] =
	"usage: orrery doctor [--json]\n"
	"\n"
	"Looks at this host: what runs guests, and how fast; CPUs, memory, isolation, storage, network and\n"
	"programs. Each line says what there is and, where something is missing, what that costs.\n"
	"Status 0 if guests run here, 1 if not.\n"
	"\n"
	"  --json    as JSON\n";

static const struct {
	const char *word, *colour;
} states[] = {
	[DOCTOR_OK] = { "ok", "\033[32m" },
	[DOCTOR_INFO] = { "info", "\033[2m" },
	[DOCTOR_LACKS] = { "lacks", "\033[33m" },
	[DOCTOR_FAILS] = { "fails", "\033[1;31m" },
};

struct look {
	bool colours;
	unsigned width; /* 0: lines are not broken */
};

static struct look look_of_stdout(void)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
	struct winsize ws;
	struct look l = { 0 };

	if (!isatty(STDOUT_FILENO))
		return l;
	l.colours = !(no && *no) && term && strcmp(term, "dumb") != 0;
	l.width = WIDTH_MAX;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col)
		l.width = MAX(MIN((unsigned)ws.ws_col, WIDTH_MAX), WIDTH_MIN);
	return l;
}

/* Text from COLUMN on, broken at words. */
static void print_text(const char *text, unsigned width)
{
	unsigned room = width ? width - COLUMN : UINT32_MAX;

	for (;;) {
		size_t n = strlen(text), at;

		if (n <= room) {
			puts(text);
			return;
		}
		for (at = room; at && text[at] != ' ';)
			at--;
		if (!at) /* one long word */
			at = strcspn(text, " ");
		printf("%.*s\n", (int)at, text);
		text += at + strspn(text + at, " ");
		if (!*text)
			return;
		printf("%*s", COLUMN, "");
	}
}

static void print_check(const struct doctor_check *c, const struct look *l)
{
	char text[sizeof(c->found) + sizeof(c->cost) + 4];

	snprintf(text, sizeof(text), "%s%s%s", c->found, c->cost[0] ? "; " : "", c->cost);
	printf("  %s%-6s%s %-20s ", l->colours ? states[c->state].colour : "",
	       states[c->state].word, l->colours ? "\033[0m" : "", c->name);
	print_text(text, l->width);
}

static void print_report(const struct doctor_report *r)
{
	struct look l = look_of_stdout();
	const char *group = "";
	unsigned lacks = 0;

	for (unsigned i = 0; i < r->n; i++) {
		const struct doctor_check *c = &r->check[i];

		if (strcmp(group, c->group) != 0)
			printf("%s%s%s%s\n", i ? "\n" : "", l.colours ? "\033[1m" : "", c->group,
			       l.colours ? "\033[0m" : "");
		group = c->group;
		print_check(c, &l);
		lacks += c->state == DOCTOR_LACKS;
	}
	if (r->can_run)
		printf("\nGuests run here%s.\n",
		       lacks ? "; what is missing costs what it says" : "");
	else
		printf("\nGuests do not run here: neither engine works.\n");
}

static int print_json(const struct doctor_report *r)
{
	json_t *all = json_array(), *o;
	char *text;

	for (unsigned i = 0; i < r->n; i++) {
		const struct doctor_check *c = &r->check[i];

		/* What a path holds may be no UTF-8; it is left out then, not the check. */
		o = json_pack("{s:s,s:s,s:s,s:s*}", "group", c->group, "name", c->name, "state",
			      states[c->state].word, "cost", c->cost[0] ? c->cost : NULL);
		json_object_set_new(o, "found", json_string(c->found));
		json_array_append_new(all, o);
	}
	o = json_pack("{s:b,s:o}", "can_run", r->can_run, "checks", all);
	text = json_dumps(o, JSON_INDENT(2));
	json_decref(o);
	if (!text) {
		fputs("orrery: out of memory\n", stderr);
		return FAILED;
	}
	puts(text);
	free(text);
	return 0;
}

int cmd_doctor(int argc, char **argv)
{
	static struct doctor_report report;
	bool json = argc > 1 && !strcmp(argv[1], "--json");
	int r = 0;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(usage, stdout);
		return fflush(stdout) ? FAILED : 0;
	}
	if (argc > 1 + json) {
		fprintf(stderr, "orrery: doctor: unknown argument: %s\n%s", argv[1 + json], usage);
		return FAILED;
	}
	doctor_examine(&report);
	if (json)
		r = print_json(&report);
	else
		print_report(&report);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "orrery: cannot write to standard output: %s\n", strerror(errno));
		return FAILED;
	}
	return r ? r : !report.can_run;
}
