// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - one list of options per command: it feeds the parser and --help
 *
 * Not getopt_long(3): its messages cannot say what was probably meant, and it accepts
 * abbreviations, which break when an option is added.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/values.h"

#define WORD_MAX 40u
#define HELP_COLUMN 26

static const struct option_def *find_long(const struct option_def *defs, const char *name, size_t n)
{
	for (const struct option_def *d = defs; d->name; d++)
		if (strlen(d->name) == n && !memcmp(d->name, name, n))
			return d;
	return NULL;
}

static int unknown(const struct option_def *defs, const char *name, size_t len, struct err *e)
{
	char word[WORD_MAX + 1];
	const char *near;
	size_t n = 0;

	while (defs[n].name)
		n++;
	snprintf(word, sizeof(word), "%.*s", (int)len, name);
	near = value_nearest(word, &defs[0].name, n, sizeof(*defs));
	if (near)
		return err_set(e, -EINVAL, "unknown option --%s; did you mean --%s?", word, near);
	return err_set(e, -EINVAL, "unknown option --%s; --help lists them all", word);
}

static int parse_long(const struct option_def *defs, int argc, char **argv, int *i, option_fn *fn,
		      void *opaque, struct err *e)
{
	const char *name = argv[*i] + 2, *value = strchr(name, '=');
	size_t n = value ? (size_t)(value - name) : strlen(name);
	const struct option_def *d = find_long(defs, name, n);

	if (!d)
		return unknown(defs, name, n, e);
	if (value && !d->arg)
		return err_set(e, -EINVAL, "--%s takes no argument", d->name);
	if (value)
		value++;
	else if (d->arg && *d->arg != '[' && *i + 1 < argc)
		value = argv[++*i];
	if (d->arg && *d->arg != '[' && !value)
		return err_set(e, -EINVAL, "--%s needs an argument: %s", d->name, d->arg);
	return fn(opaque, d->id, value, e);
}

static int parse_short(const struct option_def *defs, int argc, char **argv, int *i, option_fn *fn,
		       void *opaque, struct err *e)
{
	int r = 0;

	for (const char *p = argv[*i] + 1; r == 0 && *p; p++) {
		const struct option_def *d = defs;

		while (d->name && d->key != *p)
			d++;
		if (!d->name)
			return err_set(e, -EINVAL, "unknown option -%c; --help lists them all", *p);
		if (!d->arg || *d->arg == '[') {
			r = fn(opaque, d->id, NULL, e);
			continue;
		}
		if (!p[1] && *i + 1 >= argc)
			return err_set(e, -EINVAL, "-%c needs an argument: %s", *p, d->arg);
		return fn(opaque, d->id, p[1] ? p + 1 : argv[++*i], e);
	}
	return r;
}

int options_parse(const struct option_def *defs, int argc, char **argv, option_fn *fn, void *opaque,
		  struct err *e)
{
	return options_parse_words(defs, 0, argc, argv, fn, opaque, e);
}

int options_parse_words(const struct option_def *defs, int word_id, int argc, char **argv,
			option_fn *fn, void *opaque, struct err *e)
{
	int i, r;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--"))
			return i + 1;
		bool word = argv[i][0] != '-' || !argv[i][1];
		if (word && !word_id)
			return err_set(
				e, -EINVAL,
				"unexpected argument \"%.80s\"; a command for the guest goes "
				"behind --",
				argv[i]);
		r = word		? fn(opaque, word_id, argv[i], e)
		    : argv[i][1] == '-' ? parse_long(defs, argc, argv, &i, fn, opaque, e)
					: parse_short(defs, argc, argv, &i, fn, opaque, e);
		if (r < 0)
			return r;
	}
	return argc;
}

static int print_head(char *ret, size_t size, const char *key, const struct option_def *d)
{
	if (d->arg && *d->arg == '[') /* [X] is written --name[=X] */
		return snprintf(ret, size, " %3s --%s[=%s", key, d->name, d->arg + 1);
	return snprintf(ret, size, " %3s --%s%s%s", key, d->name, d->arg ? " " : "",
			d->arg ? d->arg : "");
}

void options_print(const struct option_def *defs)
{
	for (const struct option_def *d = defs; d->name; d++) {
		const char *line = d->help;
		char key[4] = "", head[64];
		int n;

		if (d->key)
			snprintf(key, sizeof(key), "-%c,", d->key);
		n = print_head(head, sizeof(head), key, d);
		printf("%-*s", HELP_COLUMN, head);
		if (n >= HELP_COLUMN)
			printf("\n%*s", HELP_COLUMN, "");
		for (;;) {
			size_t len = strcspn(line, "\n");

			printf("%.*s\n", (int)len, line);
			if (!line[len])
				break;
			line += len + 1;
			printf("%*s", HELP_COLUMN, "");
		}
	}
}
