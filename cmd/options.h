/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - one list of options per command: it feeds the parser and --help
 */
#ifndef ORR_CMD_OPTIONS_H
#define ORR_CMD_OPTIONS_H

#include "base/err.h"

struct option_def {
	const char *name; /* without the dashes; NULL ends the list */
	char key;	  /* the short form, or 0 */
	/* What its argument is called; NULL: it takes none; "[...": only behind '=', if at all. */
	const char *arg;
	const char *help; /* lines separated by '\n' */
	int id;		  /* the command's own number for it, > 0 */
};

/* Called for each option; @value is NULL for one without argument. 0 or an error with message. */
typedef int option_fn(void *opaque, int id, const char *value, struct err *e);

/*
 * Parses @argv[1] to the end or to "--". Both "--name value" and "--name=value" are understood, and
 * short options in one word. Returns the index of what follows "--", or of the end of @argv; or
 * -EINVAL with a message for an unknown option (with the one that is meant, if one is near), a
 * missing or superfluous argument, or a word that is no option.
 */
int options_parse(const struct option_def *defs, int argc, char **argv, option_fn *fn, void *opaque,
		  struct err *e);

/* The same, where words that are no options are the command's own: @fn gets them as @word_id (> 0). */
int options_parse_words(const struct option_def *defs, int word_id, int argc, char **argv,
			option_fn *fn, void *opaque, struct err *e);

/* Writes the list to standard output. */
void options_print(const struct option_def *defs);

#endif
