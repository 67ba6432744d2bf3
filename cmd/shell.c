// SPDX-License-Identifier: Apache-2.0
/*
 * shell.c - the command `orrery shell`: a shell in a guest that feels like one on the host
 *
 * How it works
 * It is `orrery run --tty` with a shell: a pseudo-terminal in the guest, the host's terminal in
 * raw mode, window size and its changes passed on, the real clock. What it adds is what a shell
 * misses in an empty root: the host's bash if there is one, the description of the terminal in
 * TERM, a prompt that says where one is, colours. Options of `run` come behind and so win.
 */
#include "shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "run.h"

#define ARGS_MAX 1024
#define FAILED 125
#define BASH "/bin/bash"
#define PROMPT "PS1=\\[\\e[1;36m\\]guest\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]\\$ "
#define ASH_PROMPT "PS1=\033[1;36mguest\033[0m:\\w\\$ "
/* How bash hands a function down (execute_cmd): the one way that needs no file in the guest. */
#define BASH_LS "BASH_FUNC_ls%%=() { command ls --color=auto \"$@\"; }"

static const char usage[] =
	"usage: orrery shell [OPTION...] [-- COMMAND [ARG...]]\n"
	"\n"
	"An interactive shell, or COMMAND, on a terminal of its own in a new guest. The options are\n"
	"those of `orrery run`; the clock is real unless they say otherwise. Ctrl-A X ends the guest,\n"
	"Ctrl-A H shows the keys.\n";

/* The compiled description of the terminal, where the host's ncurses has it (terminfo(5)). */
static const char *terminfo(char *path, size_t size)
{
	static const char *const dirs[] = { "/etc/terminfo", "/lib/terminfo",
					    "/usr/share/terminfo" };
	const char *term = getenv("TERM");

	if (!term || !*term || strchr(term, '/') || *term == '.')
		return NULL;
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		int n = snprintf(path, size, "%s/%c/%s", dirs[i], *term, term);

		if (n > 0 && (size_t)n < size && !strchr(path, ':') && access(path, R_OK) == 0)
			return path;
	}
	return NULL;
}

int cmd_shell(int argc, char **argv)
{
	bool bash = access(BASH, X_OK) == 0, command = false;
	const char *args[ARGS_MAX + 32];
	char info[512], colour[64];
	const char *given = getenv("COLORTERM");
	int n = 0;

	if (argc > ARGS_MAX) {
		fputs("orrery: shell: too many arguments\n", stderr);
		return FAILED;
	}
	for (int i = 1; i < argc && !command; i++) {
		command = !strcmp(argv[i], "--");
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return fflush(stdout) ? FAILED : 0;
		}
	}
	if (!isatty(STDIN_FILENO)) {
		fputs("orrery: shell: standard input is no terminal; `orrery run -- COMMAND` runs a "
		      "command without one\n",
		      stderr);
		return FAILED;
	}
	const char *const first[] = { "run",  "--tty", "--clock",
				      "real", "--env", bash ? PROMPT : ASH_PROMPT };

	for (unsigned i = 0; i < ARRAY_LEN(first); i++)
		args[n++] = first[i];
	if (bash) {
		args[n++] = "--env";
		args[n++] = BASH_LS;
	}
	if (given && strlen(given) < sizeof(colour) - sizeof("COLORTERM=")) {
		snprintf(colour, sizeof(colour), "COLORTERM=%s", given);
		args[n++] = "--env";
		args[n++] = colour;
	}
	if (terminfo(info, sizeof(info))) {
		args[n++] = "--include";
		args[n++] = info;
	}
	for (int i = 1; i < argc; i++)
		args[n++] = argv[i];
	if (!command) {
		args[n++] = "--";
		args[n++] = bash ? BASH : "busybox";
		if (!bash)
			args[n++] = "sh";
	}
	args[n] = NULL;
	return cmd_run(n, (char **)args);
}
