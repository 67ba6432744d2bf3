// SPDX-License-Identifier: Apache-2.0
/*
 * locks.c - the command `orrery locks`: who holds CPUs, caches and the caches of files
 *
 * It shows what the kernel says of locks on files that Orrery knows, and takes none itself.
 */
#include "locks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/cpulock.h"
#include "host/flocks.h"
#include "host/rundir.h"
#include "image/kcache.h"

#define FAILED 125
#define HOLDERS_MAX 256u
#define LOCK ".lock"

static const char usage[] =
	"usage: orrery locks [--json] [--watch]\n"
	"\n"
	"Shows who holds, or waits for, what runs share on this host: last-level caches and CPUs (orrery\n"
	"run --perf and --cpu-cap), the caches of kernels and of disks with file systems, and the list\n"
	"of running VMs.\n"
	"\n"
	"  --json    as JSON: one object a line with --watch\n"
	"  --watch   again every second, until it is interrupted\n";

struct row {
	char what[80];
	unsigned order, n; /* kinds in order, then by number */
	struct flock_holder who;
	char command[160];
};

struct rows {
	struct row *row; /* owned */
	unsigned n;
};

static int add_file(struct rows *r, const struct flocks *locks, int dirfd, const char *file,
		    const char *what, unsigned order, unsigned number)
{
	int fd = openat(dirfd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct flock_holder who[HOLDERS_MAX];
	unsigned n = fd < 0 ? 0 : flocks_of(locks, fd, who, HOLDERS_MAX);
	struct row *more;

	if (fd >= 0)
		close(fd);
	if (!n)
		return 0;
	more = reallocarray(r->row, r->n + n, sizeof(*more));
	if (!more)
		return -ENOMEM;
	r->row = more;
	for (unsigned i = 0; i < n; i++) {
		struct row *w = &r->row[r->n++];

		*w = (struct row){ .order = order, .n = number, .who = who[i] };
		snprintf(w->what, sizeof(w->what), "%s", what);
		flocks_command(who[i].pid, w->command, sizeof(w->command));
	}
	return 0;
}

static int add_cpus(struct rows *r, const struct flocks *locks, struct err *e)
{
	static const char *const names[] = { [CPULOCK_LLC] = "llc", [CPULOCK_CPU] = "cpu" };
	char path[CPULOCK_DIR_MAX];
	struct dirent *ent;
	int rc = cpulock_dir(false, e, path);
	DIR *d = rc == 0 ? opendir(path) : NULL;

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (!d)
		return err_sys(e, -errno, "cannot read %s", path);
	while (rc == 0 && (ent = readdir(d))) {
		enum cpulock_kind kind;
		unsigned n;
		char what[32];

		if (!cpulock_name(ent->d_name, &kind, &n))
			continue;
		snprintf(what, sizeof(what), "%s %u", names[kind], n);
		rc = add_file(r, locks, dirfd(d), ent->d_name, what, kind, n);
	}
	closedir(d);
	return rc;
}

/* The caches of files, and the list of running VMs. What is not there is not locked. */
static int add_caches(struct rows *r, const struct flocks *locks, struct err *e)
{
	char *kernels, disks[4096], what[80];
	struct err none;
	struct dirent *ent;
	int fd, rc = 0;
	DIR *d;

	if (kcache_dir(&none, &kernels) < 0)
		return 0;
	fd = open(kernels, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		rc = add_file(r, locks, fd, LOCK, "kernels", 2, 0);
		close(fd);
	}
	/* Beside the kernels: vm/disk_template. */
	snprintf(disks, sizeof(disks), "%.*s/disks", (int)(strrchr(kernels, '/') - kernels),
		 kernels);
	free(kernels);
	fd = rc == 0 ? rundir_open(&none) : -1;
	if (fd >= 0) {
		rc = add_file(r, locks, fd, LOCK, "running VMs", 4, 0);
		close(fd);
	}
	d = opendir(disks);
	while (rc == 0 && d && (ent = readdir(d))) {
		size_t n = strlen(ent->d_name);

		if (n <= strlen(LOCK) || strcmp(ent->d_name + n - strlen(LOCK), LOCK) != 0)
			continue;
		snprintf(what, sizeof(what), "disk %.*s", (int)(n - strlen(LOCK)), ent->d_name);
		rc = add_file(r, locks, dirfd(d), ent->d_name, what, 3, 0);
	}
	if (d)
		closedir(d);
	return rc;
}

static int by_kind(const void *pa, const void *pb)
{
	const struct row *a = pa, *b = pb;
	int d = (a->order > b->order) - (a->order < b->order);

	if (!d)
		d = (a->n > b->n) - (a->n < b->n);
	if (!d)
		d = strcmp(a->what, b->what);
	if (!d)
		d = a->who.waits - b->who.waits;
	return d ? d : (a->who.pid > b->who.pid) - (a->who.pid < b->who.pid);
}

static int gather(struct err *e, struct rows *ret)
{
	struct flocks *locks = flocks_read("");
	int r = locks ? 0 : -ENOMEM;

	if (r == 0)
		r = add_cpus(ret, locks, e);
	if (r == 0)
		r = add_caches(ret, locks, e);
	flocks_free(locks);
	if (ret->n)
		qsort(ret->row, ret->n, sizeof(*ret->row), by_kind);
	return r == -ENOMEM ? err_set(e, r, "out of memory") : r;
}

static const char *mode(const struct row *w)
{
	return w->who.waits ? "waits" : w->who.exclusive ? "exclusive" : "shared";
}

static void print_table(const struct rows *r)
{
	int width = 4;

	for (unsigned i = 0; i < r->n; i++)
		width = MAX(width, (int)strlen(r->row[i].what));
	if (r->n)
		printf("%-*s  %-9s  %8s  %s\n", width, "LOCK", "MODE", "PID", "COMMAND");
	for (unsigned i = 0; i < r->n; i++)
		printf("%-*s  %-9s  %8d  %s\n", width, r->row[i].what, mode(&r->row[i]),
		       (int)r->row[i].who.pid, r->row[i].command);
}

static int print_json(const struct rows *r, bool one_line)
{
	json_t *all = json_array(), *o;
	char *text;

	for (unsigned i = 0; i < r->n; i++)
		json_array_append_new(all,
				      json_pack("{s:s,s:s,s:i,s:s}", "lock", r->row[i].what, "mode",
						mode(&r->row[i]), "pid", (int)r->row[i].who.pid,
						"command", r->row[i].command));
	o = json_pack("{s:o}", "locks", all);
	text = json_dumps(o, one_line ? JSON_COMPACT : JSON_INDENT(2));
	json_decref(o);
	if (!text)
		return -ENOMEM;
	puts(text);
	free(text);
	return 0;
}

static int show(bool json, bool watch)
{
	struct rows rows = { 0 };
	struct err e = { 0 };
	int r = gather(&e, &rows);

	if (r == 0 && json) {
		r = print_json(&rows, watch);
		if (r < 0)
			err_set(&e, r, "out of memory");
	} else if (r == 0) {
		/* Home, and clear what is below: without the flicker of an empty screen. */
		if (watch && isatty(STDOUT_FILENO))
			fputs("\033[H\033[J", stdout);
		print_table(&rows);
		if (!rows.n)
			fputs(watch ? "nothing is locked\n" : "", stdout);
	}
	free(rows.row);
	if (r == 0 && (fflush(stdout) || ferror(stdout)))
		r = err_sys(&e, -errno, "cannot write to standard output");
	if (r == 0 && !rows.n && !json && !watch)
		fputs("orrery: nothing is locked\n", stderr);
	if (r < 0)
		fprintf(stderr, "orrery: %s\n", e.msg);
	return r;
}

int cmd_locks(int argc, char **argv)
{
	const struct timespec second = { .tv_sec = 1 };
	bool json = false, watch = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			json = true;
		} else if (!strcmp(argv[i], "--watch")) {
			watch = true;
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return fflush(stdout) ? FAILED : 0;
		} else {
			fprintf(stderr, "orrery: locks: unknown argument: %s\n%s", argv[i], usage);
			return FAILED;
		}
	}
	do {
		if (show(json, watch) < 0)
			return FAILED;
		if (watch)
			nanosleep(&second, NULL);
	} while (watch);
	return 0;
}
