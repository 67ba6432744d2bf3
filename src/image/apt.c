/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apt.c - downloads a Debian package through apt, without root and without changing the system
 *
 * How it works
 * apt keeps its sources, its keys and its state in directories that its configuration names. A
 * configuration file of our own, read after the system's (apt.conf(5), --config-file), leaves
 * sources and keys alone and moves caches, and where necessary the package lists, into a private
 * directory. So an unprivileged user can download, mirrors and proxies configured by the
 * administrator are honoured, signatures are checked as ever, and the system's own apt never
 * notices. Hooks that the system runs after an update are cleared: they act on the system.
 *
 * The system's lists are used if they were refreshed within a day. Older ones name versions that
 * are gone from the archive; and lists can be absent, as in containers. Whenever the system's
 * lists do not lead to a downloaded package, fresh private ones are fetched and it is tried again.
 */
#include "image/apt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/child.h"

#define APT_SYSTEM_LISTS "/var/lib/apt/lists"
#define APT_LISTS_MAX_AGE (24 * 3600)
#define APT_META_DEPTH 4 /* a meta package may depend on another one */

struct apt {
	char *dir; /* owned, absolute */
	char *conf, *get, *cache;
	bool private; /* lists are in dir */
	const struct image_progress *say;
	char trouble[256]; /* the last error line of the last update, "" if none */
};

void image_say(const struct image_progress *p, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!p || !p->line)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->line(p->opaque, text);
}

bool apt_name_valid(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789+.-"), v;

	if (n < 2 || n > 100 || s[0] == '-' || s[0] == '.' || s[0] == '+')
		return false;
	if (!s[n])
		return true;
	if (s[n] != '=')
		return false;
	s += n + 1;
	v = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.:~-");
	return v && v < 100 && !s[v];
}

/* The configuration file. @private moves the lists as well. */
static int apt_write_conf(struct apt *a, bool private, struct err *e)
{
	FILE *f = fopen(a->conf, "we");
	int r = 0;

	if (!f)
		return err_sys(e, -errno, "cannot write %s", a->conf);
	fprintf(f,
		"Dir::Cache \"%s/cache\";\n"
		"Dir::Cache::archives \"%s/archives\";\n"
		"Dir::Log \"%s/log\";\n"
		"Debug::NoLocking \"true\";\n"
		/* Root's apt would drop to a user who may not enter this directory. */
		"APT::Sandbox::User \"\";\n"
		"Acquire::Languages \"none\";\n"
		"Acquire::Retries \"2\";\n"
		"Acquire::http::Timeout \"30\";\n"
		"Acquire::https::Timeout \"30\";\n"
		"Acquire::IndexTargets::deb-src::Sources::DefaultEnabled \"false\";\n"
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
		"Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n"
		"#clear APT::Update::Pre-Invoke;\n"
		"#clear APT::Update::Post-Invoke;\n"
		"#clear APT::Update::Post-Invoke-Success;\n"
		"#clear DPkg::Post-Invoke;\n",
		a->dir, a->dir, a->dir);
	if (private)
		fprintf(f,
			"Dir::State \"%s/state\";\n"
			"Dir::State::lists \"%s/state/lists\";\n"
			"Dir::State::status \"%s\";\n",
			a->dir, a->dir,
			access("/var/lib/dpkg/status", R_OK) ? "/dev/null"
							     : "/var/lib/dpkg/status");
	if (ferror(f))
		r = -errno;
	if (fclose(f) && !r)
		r = -errno;
	if (r < 0)
		return err_sys(e, r, "cannot write %s", a->conf);
	a->private = private;
	return 0;
}

/* Whether the system's package lists are readable and were refreshed lately. */
static bool apt_system_lists_fresh(void)
{
	DIR *d = opendir(APT_SYSTEM_LISTS);
	struct dirent *ent;
	time_t newest = 0;
	bool any = false;
	struct stat st;

	if (!d)
		return false;
	/* An update that finds nothing new still touches partial/ or the lock. */
	while ((ent = readdir(d))) {
		if (fstatat(dirfd(d), ent->d_name, &st, 0) < 0 || !strcmp(ent->d_name, ".."))
			continue;
		newest = MAX(newest, st.st_ctime);
		if (strstr(ent->d_name, "_Packages") &&
		    !faccessat(dirfd(d), ent->d_name, R_OK, AT_EACCESS))
			any = true;
	}
	closedir(d);
	return any && time(NULL) - newest < APT_LISTS_MAX_AGE;
}

static int apt_mkdirs(struct apt *a, struct err *e)
{
	static const char *const subs[] = {
		"cache",    "cache/archives",	"cache/archives/partial",
		"archives", "archives/partial", "log",
		"state",    "state/lists",	"state/lists/partial",
		"download"
	};
	char path[4096];

	for (unsigned i = 0; i < ARRAY_LEN(subs); i++) {
		snprintf(path, sizeof(path), "%s/%s", a->dir, subs[i]);
		if (mkdir(path, 0777) < 0 && errno != EEXIST)
			return err_sys(e, -errno, "cannot create %s", path);
	}
	return 0;
}

/* Remembers apt's last error line; without one, what it says about a failed download. */
static void apt_note_trouble(struct apt *a, const struct buf *out, const struct buf *errs)
{
	static const char *const marks[] = { "E: ", "W: Failed to fetch" };
	const char *best = NULL;

	a->trouble[0] = 0;
	for (unsigned m = 0; m < ARRAY_LEN(marks) && !best; m++)
		for (int i = 0; i < 2; i++) {
			const struct buf *b = i ? out : errs;

			for (const char *p = (char *)b->data; p && *p;) {
				const char *nl = strchr(p, '\n');

				if (!strncmp(p, marks[m], strlen(marks[m])))
					best = p;
				p = nl ? nl + 1 : NULL;
			}
		}
	if (best)
		snprintf(a->trouble, sizeof(a->trouble), "%.*s",
			 (int)MIN(strcspn(best, "\n"), sizeof(a->trouble) - 1), best);
}

/* Runs apt-get or apt-cache; @args is NULL-terminated. The exit status, or a negative errno. */
static int apt_run(struct apt *a, char *prog, char *cwd, const char *const *args, struct buf *out,
		   struct err *e)
{
	static char quiet[] = "-q", conf[] = "-c";
	char *argv[12] = { prog, quiet, conf, a->conf };
	struct buf errs = { 0 };
	unsigned n = 4;
	int r;

	for (; *args; args++) {
		BUG_IF(n + 1 >= ARRAY_LEN(argv));
		argv[n++] = (char *)*args;
	}
	out->len = 0;
	r = child_run(argv, cwd, out, &errs, e);
	if (r >= 0)
		apt_note_trouble(a, out, &errs);
	buf_fini(&errs);
	return r;
}

static bool apt_disk_full(const struct apt *a)
{
	struct statvfs v;

	if (strstr(a->trouble, "No space left") || strstr(a->trouble, "enough free space"))
		return true;
	return !statvfs(a->dir, &v) && (u64)v.f_bavail * v.f_frsize < (1u << 20);
}

static int apt_failed(struct apt *a, const char *what, struct err *e)
{
	if (apt_disk_full(a))
		return err_set(e, -ENOSPC,
			       "%s: no space left in %s; free some or point "
			       "XDG_CACHE_HOME elsewhere (apt: %s)",
			       what, a->dir, a->trouble[0] ? a->trouble : "no message");
	return err_set(e, -EIO,
		       "%s failed (apt: %s); check the network and that `apt-get update` works, or "
		       "give a kernel file instead",
		       what, a->trouble[0] ? a->trouble : "no message");
}

/* Switches to private lists and downloads them. */
static int apt_update(struct apt *a, struct err *e)
{
	const char *const args[] = { "update", NULL };
	struct buf out = { 0 };
	int r = apt_write_conf(a, true, e);

	if (r < 0)
		return r;
	image_say(a->say, "downloading package lists");
	r = apt_run(a, a->get, NULL, args, &out, e);
	buf_fini(&out);
	if (r > 0)
		return apt_failed(a, "downloading package lists", e);
	/* 0 with a warning if some source failed: the package may be in another. */
	return r;
}

void apt_free(struct apt *a)
{
	if (!a)
		return;
	free(a->dir);
	free(a->conf);
	free(a->get);
	free(a->cache);
	free(a);
}

int apt_new(const char *dir, const struct image_progress *p, struct err *e, struct apt **ret)
{
	struct apt *a;
	int r;

	/* apt's configuration has no way to write these in a string. */
	if (strpbrk(dir, "\"\\\n"))
		return err_set(e, -EINVAL,
			       "the cache directory %s has a quote, backslash or line "
			       "break in its name, which apt cannot use",
			       dir);
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(e, -ENOMEM, "no memory to run apt");
	a->say = p;
	a->dir = strdup(dir);
	a->get = child_find("apt-get");
	a->cache = child_find("apt-cache");
	if (asprintf(&a->conf, "%s/apt.conf", dir) < 0)
		a->conf = NULL;
	if (!a->dir || !a->conf)
		r = err_set(e, -ENOMEM, "no memory to run apt");
	else if (!a->get || !a->cache)
		r = err_set(e, -ENOENT,
			    "apt-get and apt-cache are not installed: kernels are fetched "
			    "through apt; give a kernel file or a .deb instead");
	else
		r = apt_mkdirs(a, e);
	if (!r)
		r = apt_system_lists_fresh() ? apt_write_conf(a, false, e) : apt_update(a, e);
	if (r < 0) {
		apt_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

/* Copies the value of a field of the first paragraph. False if there is none. */
static bool apt_field(const char *text, const char *key, char *ret, size_t size)
{
	size_t n = strlen(key);

	for (const char *p = text; p && *p && *p != '\n';) {
		const char *nl = strchr(p, '\n');

		if (!strncmp(p, key, n) && p[n] == ':') {
			p += n + 1;
			p += strspn(p, " ");
			snprintf(ret, size, "%.*s", (int)MIN(strcspn(p, "\n"), size - 1), p);
			return true;
		}
		p = nl ? nl + 1 : NULL;
	}
	return false;
}

/*
 * Finds the kernel in a Depends field: the first "linux-image-..." and its "(= version)", as
 * name or name=version. Real kernel packages depend on no other linux-image.
 */
static bool apt_next(const char *depends, char *ret, size_t size)
{
	const char *p = strstr(depends, "linux-image-");
	size_t n, v;

	if (!p || (p != depends && p[-1] != ' '))
		return false;
	n = strcspn(p, " ,|:");
	v = strspn(p + n, " ");
	if (!strncmp(p + n + v, "(= ", 3))
		snprintf(ret, size, "%.*s=%.*s", (int)n, p, (int)strcspn(p + n + v + 3, ")"),
			 p + n + v + 3);
	else
		snprintf(ret, size, "%.*s", (int)n, p);
	return apt_name_valid(ret);
}

/* One look at the lists in use. -ENOENT without a message if the package is not there. */
static int apt_lookup(struct apt *a, const char *name, struct err *e, struct apt_package *ret)
{
	char cur[256], depends[4096], num[32];
	struct apt_package pkg = { 0 };
	struct buf out = { 0 };
	int r = -ENOENT;

	snprintf(cur, sizeof(cur), "%s", name);
	for (int depth = 0; depth < APT_META_DEPTH; depth++) {
		const char *const args[] = { "--no-all-versions", "show", "--", cur, NULL };
		const char *text;

		r = apt_run(a, a->cache, NULL, args, &out, e);
		if (r)
			break;
		text = (char *)out.data;
		if (!apt_field(text, "Package", pkg.name, sizeof(pkg.name)) ||
		    !apt_field(text, "Version", pkg.version, sizeof(pkg.version))) {
			r = -ENOENT;
			break;
		}
		if (!apt_field(text, "Depends", depends, sizeof(depends)) ||
		    !apt_next(depends, cur, sizeof(cur))) {
			if (apt_field(text, "Size", num, sizeof(num)))
				pkg.download = strtoull(num, NULL, 10);
			if (apt_field(text, "Installed-Size", num, sizeof(num)))
				pkg.installed = strtoull(num, NULL, 10) * 1024;
			*ret = pkg;
			break;
		}
	}
	buf_fini(&out);
	return r > 0 ? -ENOENT : r;
}

int apt_resolve(struct apt *a, const char *name, struct err *e, struct apt_package *ret)
{
	char trouble[sizeof(a->trouble)] = "";
	int r;

	if (!apt_name_valid(name))
		return err_set(e, -EINVAL, "'%s' is no package name", name);
	if (!a->private) {
		r = apt_lookup(a, name, e, ret);
		if (r != -ENOENT)
			return r;
		r = apt_update(a, e);
		if (r < 0)
			return r;
	}
	/* What the update complained about explains a missing package. */
	memcpy(trouble, a->trouble, sizeof(trouble));
	r = apt_lookup(a, name, e, ret);
	if (r != -ENOENT)
		return r;
	if (trouble[0]) {
		memcpy(a->trouble, trouble, sizeof(trouble));
		return apt_failed(a, "looking for the package", e);
	}
	return err_set(e, -ENOENT,
		       "apt knows no package '%s' (`apt-cache search linux-image` lists kernels)",
		       name);
}

static int apt_find_deb(const char *dir, struct err *e, char **ret)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	int r = -ENOENT;

	while (d && r == -ENOENT && (ent = readdir(d))) {
		size_t n = strlen(ent->d_name);

		if (n > 4 && !strcmp(ent->d_name + n - 4, ".deb"))
			r = asprintf(ret, "%s/%s", dir, ent->d_name) < 0 ? -ENOMEM : 0;
	}
	if (d)
		closedir(d);
	return r < 0 ? err_set(e, r, "apt-get downloaded nothing to %s", dir) : 0;
}

int apt_download(struct apt *a, const struct apt_package *pkg, struct err *e, char **ret_deb)
{
	char what[320], spec[300], dir[4096];
	const char *const args[] = { "download", spec, NULL };
	struct buf out = { 0 };
	int r;

	snprintf(spec, sizeof(spec), "%s=%s", pkg->name, pkg->version);
	snprintf(what, sizeof(what), "downloading %s", spec);
	snprintf(dir, sizeof(dir), "%s/download", a->dir);
	image_say(a->say, "downloading %s %s (%llu MB)", pkg->name, pkg->version,
		  (unsigned long long)(pkg->download + 500000) / 1000000);
	r = apt_run(a, a->get, dir, args, &out, e);
	if (r > 0 && !a->private && !apt_disk_full(a)) {
		/* The lists may name a version that has left the archive. */
		struct apt_package now;

		r = apt_update(a, e);
		if (!r)
			r = apt_lookup(a, pkg->name, e, &now);
		if (!r) {
			snprintf(spec, sizeof(spec), "%s=%s", now.name, now.version);
			r = apt_run(a, a->get, dir, args, &out, e);
		} else if (r == -ENOENT) {
			r = 1;
		}
	}
	buf_fini(&out);
	if (r > 0)
		return apt_failed(a, what, e);
	return r < 0 ? r : apt_find_deb(dir, e, ret_deb);
}
