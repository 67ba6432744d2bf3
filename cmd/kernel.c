/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.c - the command `orrery kernel`: list, fetch, clean
 *
 * Results go to standard output, progress and errors to standard error. Status 125: it failed.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "image/kcache.h"

#define KERNEL_FAILED 125

static const char kernel_usage[] =
	"usage: orrery kernel list [--json]\n"
	"       orrery kernel fetch debian|PACKAGE[=VERSION]|FILE.deb...\n"
	"       orrery kernel clean --keep N | --all\n"
	"\n"
	"  list    shows the cached kernels, newest first\n"
	"  fetch   downloads a kernel package through apt, without root and without changing the\n"
	"          system, and prints its release; 'debian' is Debian's newest\n"
	"          " KCACHE_DEBIAN_PACKAGE "\n"
	"  clean   removes all cached kernels, or all but the newest N\n"
	"\n"
	"The cache is $XDG_CACHE_HOME/orrery/kernels (default ~/.cache/orrery/kernels).\n";

static void kernel_say(void *opaque, const char *text)
{
	fprintf(stderr, "orrery: %s\n", text);
}

static const struct image_progress kernel_progress = { .line = kernel_say };

static int kernel_fail(const struct err *e)
{
	fprintf(stderr, "orrery: %s\n", e->msg);
	return KERNEL_FAILED;
}

static int kernel_bad_usage(const char *what, const char *arg)
{
	fprintf(stderr, "orrery: kernel: %s%s%s\n%s", what, arg ? ": " : "", arg ? arg : "",
		kernel_usage);
	return KERNEL_FAILED;
}

/* Output that did not arrive (a full disk behind a redirection) is a failure. */
static int kernel_flush(void)
{
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "orrery: cannot write to standard output: %s\n", strerror(errno));
		return KERNEL_FAILED;
	}
	return 0;
}

static int kernel_list(int argc, char **argv)
{
	struct kcache_list l = { 0 };
	struct err e = { 0 };
	char *json;

	if (argc > 2)
		return kernel_bad_usage("too many arguments", argv[2]);
	if (argc > 1 && strcmp(argv[1], "--json"))
		return kernel_bad_usage("unknown argument", argv[1]);
	if (kcache_list(&e, &l) < 0)
		return kernel_fail(&e);
	if (argc > 1) {
		json = kcache_list_json(&l);
		if (json)
			puts(json);
		free(json);
	} else if (l.n) {
		printf("%-32s %-40s %8s  %s\n", "RELEASE", "PACKAGE", "SIZE", "FETCHED");
	} else {
		fprintf(stderr,
			"orrery: no kernel is cached; `orrery kernel fetch debian` gets one\n");
	}
	for (unsigned i = 0; argc == 1 && i < l.n; i++) {
		struct kcache_entry *ent = &l.entry[i];
		time_t t = (time_t)ent->fetched;
		char when[32] = "?";
		struct tm tm;

		if (localtime_r(&t, &tm))
			strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
		printf("%-32s %-40s %5llu MB  %s\n", ent->release, ent->package,
		       (unsigned long long)(ent->bytes + 500000) / 1000000, when);
	}
	kcache_list_fini(&l);
	return kernel_flush();
}

static int kernel_fetch(int argc, char **argv)
{
	struct err e = { 0 };
	char *release;

	if (argc < 2)
		return kernel_bad_usage("fetch what? (debian, a package name, or a .deb file)",
					NULL);
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-')
			return kernel_bad_usage("unknown option", argv[i]);
		if (kcache_fetch(argv[i], &kernel_progress, &e, &release) < 0)
			return kernel_fail(&e);
		puts(release);
		free(release);
	}
	return kernel_flush();
}

static int kernel_clean(int argc, char **argv)
{
	unsigned long keep = 0;
	struct err e = { 0 };
	char *end;

	if (argc == 3 && !strcmp(argv[1], "--keep")) {
		errno = 0;
		keep = strtoul(argv[2], &end, 10);
		if (argv[2][0] < '0' || argv[2][0] > '9' || *end || errno || keep > 1000000)
			return kernel_bad_usage("--keep takes a number", argv[2]);
	} else if (argc != 2 || strcmp(argv[1], "--all")) {
		return kernel_bad_usage("clean takes --keep N or --all", NULL);
	}
	if (kcache_clean((unsigned)keep, &kernel_progress, &e) < 0)
		return kernel_fail(&e);
	return 0;
}

int cmd_kernel(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} subs[] = {
		{ "list", kernel_list },
		{ "fetch", kernel_fetch },
		{ "clean", kernel_clean },
	};

	if (argc < 2)
		return kernel_bad_usage("which? list, fetch or clean", NULL);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		fputs(kernel_usage, stdout);
		return kernel_flush();
	}
	for (unsigned i = 0; i < ARRAY_LEN(subs); i++)
		if (!strcmp(argv[1], subs[i].name))
			return subs[i].run(argc - 1, argv + 1);
	return kernel_bad_usage("unknown subcommand", argv[1]);
}
