/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kcache.c - the kernel cache, through packages made by hand and, where there is an apt,
 * through the real apt with a repository in a directory
 *
 * Each test has its own cache (XDG_CACHE_HOME) in a directory that is removed afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libkmod.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/path.h"
#include "image/child.h"
#include "image/deb.h"
#include "image/kcache.h"
#include "image/kcache_priv.h"
#include "image/kernel.h"
#include "kimage.h"

#define REL "6.99.1-test"

static char top[256];	/* this test's directory */
static char cache[300]; /* the cache in it */

static int setup(void **state)
{
	strcpy(top, "/tmp/orrery-test-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(cache, sizeof(cache), "%s/orrery/kernels", top);
	return setenv("XDG_CACHE_HOME", top, 1);
}

static int teardown(void **state)
{
	return path_remove_tree(top);
}

/* A file of a package; NULL text: the kernel. type 0 is a regular file. */
struct member {
	const char *path;
	const char *text;
	int type; /* AE_IFREG (or 0), AE_IFDIR, AE_IFLNK; -1: a hard link */
};

static void put_member(struct archive *a, const struct member *m, const void *data, size_t n)
{
	struct archive_entry *ent = archive_entry_new();

	archive_entry_set_pathname(ent, m->path);
	archive_entry_set_perm(ent, 0644);
	archive_entry_set_filetype(ent, m->type > 0 ? (unsigned)m->type : AE_IFREG);
	if (m->type == AE_IFLNK)
		archive_entry_set_symlink(ent, m->text);
	else if (m->type < 0)
		archive_entry_set_hardlink(ent, m->text);
	else if (m->type != AE_IFDIR)
		archive_entry_set_size(ent, (la_int64_t)n);
	assert_int_equal(archive_write_header(a, ent), ARCHIVE_OK);
	if (!m->type)
		assert_int_equal(archive_write_data(a, data, n), (la_ssize_t)n);
	archive_entry_free(ent);
}

static struct buf make_tar(const struct member *m, unsigned nm)
{
	struct buf elf = kimage_elf(KIMAGE_LINUX), packed = kimage_pack(PAYLOAD_ZSTD, &elf);
	struct buf bz = kimage_bzimage(&packed), out = { 0 };
	struct archive *a = archive_write_new();
	size_t used = 0;

	assert_int_equal(buf_reserve(&out, 4 << 20), 0);
	archive_write_add_filter_xz(a);
	archive_write_set_format_gnutar(a);
	assert_int_equal(archive_write_open_memory(a, out.data, out.cap, &used), ARCHIVE_OK);
	for (unsigned i = 0; i < nm; i++)
		put_member(a, &m[i], m[i].text ? m[i].text : (char *)bz.data,
			   m[i].text ? strlen(m[i].text) : bz.len);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	out.len = used;
	buf_fini(&elf);
	buf_fini(&packed);
	buf_fini(&bz);
	return out;
}

/* Writes TOP/@name: a package with these files. */
static char *make_deb(const char *name, const char *control, const struct member *m, unsigned nm)
{
	static char path[600];
	struct member ctl = { "./control", control, 0 };
	struct buf c = make_tar(&ctl, 1), d = make_tar(m, nm);
	struct archive *a = archive_write_new();

	snprintf(path, sizeof(path), "%s/%s", top, name);
	archive_write_set_format_ar_svr4(a);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	put_member(a, &(struct member){ "debian-binary" }, "2.0\n", 4);
	put_member(a, &(struct member){ "control.tar.xz" }, c.data, c.len);
	put_member(a, &(struct member){ "data.tar.xz" }, d.data, d.len);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	buf_fini(&c);
	buf_fini(&d);
	return path;
}

#define CONTROL(version)                                                                           \
	"Package: linux-image-" REL "\nVersion: " version "\nArchitecture: amd64\n"                \
	"Maintainer: none\nDescription: test\n"

#define MODS "./lib/modules/" REL "/"
static const struct member good[] = {
	{ "./boot/", "", AE_IFDIR },
	{ "./boot/config-" REL, "CONFIG_X86_64=y\n" },
	{ "./boot/vmlinuz-" REL, NULL },
	{ "./etc/evil", "must not be unpacked" },
	{ MODS "modules.order", "kernel/foo.ko\n" },
	{ MODS "modules.builtin", "kernel/fs/ext9.ko\n" },
	{ MODS "kernel/deep/down/data", "some data\n" },
	{ MODS "build", "/etc", AE_IFLNK },
};

static char *good_deb(void)
{
	return make_deb("good.deb", CONTROL("6.99.1-1"), good, ARRAY_LEN(good));
}

static bool exists(const char *fmt, ...)
{
	char path[1024];
	struct stat st;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return lstat(path, &st) == 0;
}

/* Names in the cache directory, apart from the lock. */
static unsigned names(void)
{
	DIR *d = opendir(cache);
	struct dirent *ent;
	unsigned n = 0;

	while (d && (ent = readdir(d)))
		n += strcmp(ent->d_name, ".") && strcmp(ent->d_name, "..") &&
		     strcmp(ent->d_name, KCACHE_LOCK);
	if (d)
		closedir(d);
	return n;
}

static void fetch_ok(const char *spec)
{
	struct err e = { 0 };
	char *rel = NULL;

	if (kcache_fetch(spec, NULL, &e, &rel) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(rel, REL);
	free(rel);
}

/* The fetch must fail so, and leave nothing behind. */
static void fetch_fails(const char *spec, int code, const char *part)
{
	unsigned before = names();
	struct err e = { 0 };
	char *rel = NULL;
	int r = kcache_fetch(spec, NULL, &e, &rel);

	assert_null(rel);
	if (r != code || !strstr(e.msg, part) || strchr(e.msg, '\n'))
		fail_msg("wanted %d and '%s', got %d and '%s'", code, part, r, e.msg);
	assert_int_equal(names(), before);
}

static bool have(const char *prog)
{
	char *p = child_find(prog);

	free(p);
	if (!p)
		print_message("skipped: %s is not installed\n", prog);
	return p != NULL;
}

static void package_becomes_entry(void **state)
{
	struct kcache_kernel k = { 0 };
	struct kernel_image *img = NULL;
	struct kcache_list l = { 0 };
	struct kmod_ctx *ctx;
	struct err e = { 0 };
	char *json;

	if (!have("depmod"))
		skip();
	fetch_ok(good_deb());
	assert_int_equal(names(), 1);
	assert_int_equal(kcache_list(&e, &l), 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.entry[0].package, "linux-image-" REL);
	assert_string_equal(l.entry[0].version, "6.99.1-1");
	assert_true(l.entry[0].modules && l.entry[0].bytes > 0 && l.entry[0].fetched > 0);
	json = kcache_list_json(&l);
	assert_non_null(strstr(json, "\"" REL "\""));
	free(json);
	kcache_list_fini(&l);

	assert_int_equal(kcache_resolve(REL, NULL, &e, &k), 0);
	assert_int_equal(kernel_image_open(k.image, &e, &img), 0);
	kernel_image_free(img);
	assert_true(exists("%s/modules.dep.bin", k.modules));
	assert_true(exists("%s/kernel/deep/down/data", k.modules));
	assert_false(exists("%s/build", k.modules));
	assert_true(exists("%s/" REL "/config", cache));
	assert_false(exists("%s/" REL "/root", cache));
	/* libkmod takes the tree as it is. */
	ctx = kmod_new(k.modules, NULL);
	assert_int_equal(kmod_load_resources(ctx), 0);
	kmod_unref(ctx);
	kcache_kernel_fini(&k);
}

static void bad_packages_leave_nothing(void **state)
{
	static const struct {
		struct member m[3];
		const char *arch;
		int code;
		const char *part;
	} cases[] = {
		{ { { MODS "../../../../../evil", "x" } }, "amd64", -EINVAL, "unsafe path" },
		{ { { "lib/modules/../../evil", "x" } }, "amd64", -EINVAL, "unsafe path" },
		{ { { "lib/modules//etc/passwd", "x" } }, "amd64", -EINVAL, "unsafe path" },
		{ { { "boot/vmlinuz-../../x", NULL } }, "amd64", -EINVAL, "impossible" },
		{ { { "boot/vmlinuz-.tmp-x", NULL } }, "amd64", -EINVAL, "impossible" },
		{ { { "usr/bin/x", "x" } }, "amd64", -EINVAL, "holds no kernel" },
		{ { { "boot/vmlinuz-a", NULL }, { "boot/vmlinuz-b", NULL } },
		  "amd64",
		  -EINVAL,
		  "more than one" },
		{ { { "boot/vmlinuz-a", "this is no kernel" } },
		  "amd64",
		  -ENOEXEC,
		  "not a kernel" },
		{ { { "boot/vmlinuz-a", NULL } }, "arm64", -ENOEXEC, "for arm64" },
		/* The same file twice, and a link in the place of a directory. */
		{ { { MODS "a", "x" }, { MODS "a", "y" } }, "amd64", -EEXIST, "exists" },
		{ { { MODS "l", "/tmp", AE_IFLNK }, { "usr/bin/x", "x" } },
		  "amd64",
		  -EINVAL,
		  "holds no kernel" },
		{ { { MODS "l", "/etc/passwd", -1 }, { "usr/bin/x", "x" } },
		  "amd64",
		  -EINVAL,
		  "holds no kernel" },
	};
	char control[256];

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned n = 0;

		while (n < 3 && cases[i].m[n].path)
			n++;
		snprintf(control, sizeof(control),
			 "Package: p\nVersion: 1\nArchitecture: %s\nDescription: d\n",
			 cases[i].arch);
		fetch_fails(make_deb("bad.deb", control, cases[i].m, n), cases[i].code,
			    cases[i].part);
		assert_false(exists("%s/evil", top));
	}
	fetch_fails("/nonexistent/x.deb", -EINVAL, "x.deb");
	fetch_fails("-oDir::x=y", -EINVAL, "no package name");
	fetch_fails("../escape", -EINVAL, "no package name");
}

static void truncated_package_leaves_nothing(void **state)
{
	char *path = good_deb();
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	for (off_t len = st.st_size - 40; len >= 0; len -= 1 + st.st_size / 40) {
		struct err e = { 0 };
		char *rel = NULL;

		assert_int_equal(truncate(path, len), 0);
		assert_int_equal(kcache_fetch(path, NULL, &e, &rel), -EINVAL);
		assert_non_null(strstr(e.msg, "good.deb"));
		assert_int_equal(names(), 0);
	}
}

/* Makes an entry without depmod and packages. */
static void plant(const char *release, const char *version, const char *requested)
{
	struct kcache_entry ent = { .arch = "x86_64", .image_xxh128 = "0" };
	struct err e = { 0 };
	char path[512];

	snprintf(path, sizeof(path), "%s/orrery", top);
	mkdir(path, 0777);
	mkdir(cache, 0777);
	snprintf(path, sizeof(path), "%s/%s/image", cache, release);
	*strrchr(path, '/') = 0;
	assert_int_equal(mkdir(path, 0777), 0);
	snprintf(ent.release, sizeof(ent.release), "%s", release);
	snprintf(ent.version, sizeof(ent.version), "%s", version);
	snprintf(ent.package, sizeof(ent.package), "linux-image-%s", release);
	if (requested)
		strcpy(ent.requested[ent.nrequested++], requested);
	assert_int_equal(kcache_write_entry(path, &ent, &e), 0);
	strcat(path, "/image");
	close(open(path, O_CREAT | O_WRONLY, 0666));
}

static void names_resolve(void **state)
{
	static const struct {
		const char *spec, *release; /* NULL: unknown */
	} cases[] = {
		{ "6.1.0-9-amd64", "6.1.0-9-amd64" },
		{ "6.1", "6.1.0-56-cloud-amd64" },
		{ "6.1.0-9", "6.1.0-9-amd64" },
		{ "6.1.0-5", NULL },
		{ "6", "6.12.117+deb12-cloud-amd64" },
		{ "6.12", "6.12.117+deb12-cloud-amd64" },
		{ "6.12.117+deb12-amd64", "6.12.117+deb12-amd64" },
		{ "debian", "6.1.0-56-cloud-amd64" },
		{ "linux-image-6.12-amd64", "6.12.117+deb12-amd64" },
		{ "linux-image-6.1.0-9-amd64", "6.1.0-9-amd64" },
		{ "7", NULL },
		{ "", NULL },
		{ ".lock", NULL },
	};
	struct kcache_kernel k = { 0 };
	struct err e = { 0 };
	char path[300];

	/* An empty cache: the message says so and how to fill it. */
	assert_int_equal(kcache_resolve("6.1", NULL, &e, &k), -ENOENT);
	assert_non_null(strstr(e.msg, "empty"));
	assert_non_null(strstr(e.msg, "kernel fetch"));
	assert_false(exists("%s", cache));
	plant("6.1.0-9-amd64", "6.1.9-1", NULL);
	plant("6.1.0-56-cloud-amd64", "6.1.192-2", KCACHE_DEBIAN_PACKAGE);
	plant("6.1.0-50-cloud-amd64", "6.1.170-1", KCACHE_DEBIAN_PACKAGE);
	plant("6.12.117+deb12-amd64", "6.12.117-1~deb12u1", "linux-image-6.12-amd64");
	plant("6.12.117+deb12-cloud-amd64", "6.12.117-1~deb12u1", NULL);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int r = kcache_resolve(cases[i].spec, NULL, &e, &k);

		assert_int_equal(r, cases[i].release ? 0 : -ENOENT);
		if (r < 0) {
			assert_non_null(strstr(e.msg, "6.12.117+deb12-amd64"));
			continue;
		}
		assert_string_equal(k.release, cases[i].release);
		assert_true(exists("%s", k.image));
		assert_null(k.modules);
		kcache_kernel_fini(&k);
	}
	/* Whatever has a slash is a file, and so is what exists. */
	snprintf(path, sizeof(path), "%s/6.1", top);
	assert_int_equal(kcache_resolve(path, NULL, &e, &k), 0);
	assert_string_equal(k.image, path);
	assert_null(k.release);
	assert_null(k.modules);
	kcache_kernel_fini(&k);
}

/* A file of the cache, or of any directory like an entry: its modules are beside it. */
static void files_have_modules(void **state)
{
	struct kcache_kernel k = { 0 };
	struct err e = { 0 };
	char path[400], link[400], want[400];

	plant("6.1.0-9-amd64", "6.1.9-1", NULL);
	snprintf(path, sizeof(path), "%s/6.1.0-9-amd64/image", cache);
	snprintf(link, sizeof(link), "%s/link", top);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(kcache_resolve(path, NULL, &e, &k), 0);
	assert_null(k.modules);
	kcache_kernel_fini(&k);
	snprintf(want, sizeof(want), "%s/6.1.0-9-amd64/modules", cache);
	assert_int_equal(mkdir(want, 0777), 0);
	/* A directory that happens to have the name is no module tree. */
	assert_int_equal(kcache_resolve(path, NULL, &e, &k), 0);
	assert_null(k.modules);
	kcache_kernel_fini(&k);
	strcat(want, "/modules.dep");
	close(open(want, O_CREAT | O_WRONLY, 0666));
	*strrchr(want, '/') = 0;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(kcache_resolve(i ? link : path, NULL, &e, &k), 0);
		assert_string_equal(k.image, i ? link : path);
		assert_string_equal(k.modules, want);
		kcache_kernel_fini(&k);
	}
}

static void versions_compare(void **state)
{
	static const char *const rising[] = {
		"1.0~rc1",	 "1.0",
		"1.0-1~deb12u1", "1.0-1",
		"1.0-2",	 "1.0-10",
		"1.0a",		 "1.0+b",
		"1.2",		 "1.10",
		"6.1.9-1",	 "6.1.192-2",
		"6.12.1-1",	 "6.12.117-1~deb12u1",
		"6.12.117-1",	 "1:0.1",
	};

	for (unsigned i = 0; i < ARRAY_LEN(rising); i++)
		for (unsigned j = 0; j < ARRAY_LEN(rising); j++) {
			int d = kcache_version_cmp(rising[i], rising[j]);

			if ((d > 0) - (d < 0) != (i > j) - (i < j))
				fail_msg("%s and %s compare as %d", rising[i], rising[j], d);
		}
	assert_int_equal(kcache_version_cmp("1.01", "1.1"), 0);
}

static void clean_keeps_the_newest(void **state)
{
	struct kcache_list l = { 0 };
	struct err e = { 0 };
	char path[512];

	/* Cleaning what is not there creates nothing. */
	assert_int_equal(kcache_clean(0, NULL, &e), 0);
	assert_false(exists("%s", cache));
	plant("1-a", "1", NULL);
	plant("2-a", "2", NULL);
	plant("10-a", "10", NULL);
	snprintf(path, sizeof(path), "%s/.tmp-left/over", cache);
	*strrchr(path, '/') = 0;
	mkdir(path, 0777);
	assert_int_equal(kcache_clean(1, NULL, &e), 2);
	assert_int_equal(names(), 1);
	assert_int_equal(kcache_list(&e, &l), 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.entry[0].release, "10-a");
	kcache_list_fini(&l);
	assert_int_equal(kcache_clean(0, NULL, &e), 1);
	assert_int_equal(names(), 0);
}

/* A damaged entry is not offered, and fetching the release again repairs it. */
static void damaged_entry_is_replaced(void **state)
{
	struct kcache_kernel k = { 0 };
	struct err e = { 0 };
	char path[512];

	if (!have("depmod"))
		skip();
	plant(REL, "0.1", NULL);
	snprintf(path, sizeof(path), "%s/" REL "/metadata.json", cache);
	assert_int_equal(truncate(path, 20), 0);
	assert_int_equal(kcache_resolve(REL, NULL, &e, &k), -ENOENT);
	fetch_ok(good_deb());
	assert_int_equal(kcache_resolve(REL, NULL, &e, &k), 0);
	assert_non_null(k.modules);
	kcache_kernel_fini(&k);
	assert_int_equal(names(), 1);
}

static void two_at_once(void **state)
{
	char *deb = good_deb(), *rel = NULL;
	struct err e = { 0 };
	pid_t pid[3];
	int st;

	if (!have("depmod"))
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(pid); i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(kcache_fetch(deb, NULL, &e, &rel) < 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(pid); i++) {
		assert_int_equal(waitpid(pid[i], &st, 0), pid[i]);
		assert_int_equal(st, 0);
	}
	assert_int_equal(names(), 1);
}

static void killed_at_any_moment(void **state)
{
	char *deb = good_deb(), *rel = NULL;
	unsigned killed = 0;
	struct err e = { 0 };
	int st;

	if (!have("depmod"))
		skip();
	for (unsigned i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(kcache_fetch(deb, NULL, &e, &rel) < 0);
		usleep(i * i * 40); /* not to wait for something: to kill at another point */
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &st, 0), pid);
		killed += WIFSIGNALED(st);
		/* Whatever is listed now is complete. */
		if (exists("%s/" REL, cache)) {
			assert_true(exists("%s/" REL "/image", cache));
			assert_true(exists("%s/" REL "/metadata.json", cache));
			assert_true(exists("%s/" REL "/modules/modules.dep.bin", cache));
		}
	}
	assert_true(killed > 5);
	/*
	 * A depmod that outlived its parent by a moment may still have been writing while a sweep
	 * ran; the sweep of the next fetch gets that too.
	 */
	fetch_ok(deb);
	fetch_ok(deb);
	assert_int_equal(names(), 1);
}

static void unwritable_cache(void **state)
{
	struct err e = { 0 };
	char *rel = NULL, *deb = good_deb();
	int st;

	/* As an unprivileged user, since nothing is unwritable to root. */
	pid_t pid = fork();

	if (!pid) {
		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(2);
		setenv("XDG_CACHE_HOME", "/proc/self", 1);
		st = kcache_fetch(deb, NULL, &e, &rel);
		_exit(!(st < 0 && strstr(e.msg, "/proc/self/orrery/kernels") &&
			strstr(e.msg, "XDG_CACHE_HOME")));
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
}

/* A private mount of @kib KiB over the cache; false if that is not allowed here. */
static bool small_disk(unsigned kib)
{
	char opt[32];

	snprintf(opt, sizeof(opt), "size=%uk", kib);
	return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("tmpfs", cache, "tmpfs", 0, opt);
}

static void full_disk(void **state)
{
	static char big[120000];
	const struct member m[] = {
		good[1], good[2], { MODS "a", big }, { MODS "b", big }, { MODS "c", big },
	};
	unsigned full = 0, fine = 0;
	char *deb, *rel = NULL;
	int st;

	if (!have("depmod"))
		skip();
	for (unsigned i = 0; i < sizeof(big) - 1; i++)
		big[i] = (char)('a' + (i * 2654435761u >> 28));
	deb = make_deb("big.deb", CONTROL("1"), m, ARRAY_LEN(m));
	plant("1-a", "1", NULL); /* creates the directory */
	for (unsigned kib = 4; kib <= 2048; kib += kib / 3 + 4) {
		pid_t pid = fork();

		if (!pid) {
			struct err e = { 0 };
			int r;

			if (!small_disk(kib))
				_exit(77);
			r = kcache_fetch(deb, NULL, &e, &rel);
			if (!r)
				_exit(names() == 1 ? 0 : 3);
			if (r != -ENOSPC || !strstr(e.msg, "XDG_CACHE_HOME") || names())
				fprintf(stderr, "%u KiB: %d %s, %u names\n", kib, r, e.msg,
					names());
			_exit(r == -ENOSPC && strstr(e.msg, "XDG_CACHE_HOME") && !names() ? 1 : 3);
		}
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFEXITED(st));
		if (WEXITSTATUS(st) == 77) {
			print_message("skipped: mounting a small tmpfs needs root\n");
			skip();
		}
		assert_true(WEXITSTATUS(st) <= 1);
		full += WEXITSTATUS(st) == 1;
		fine += WEXITSTATUS(st) == 0;
	}
	assert_true(full > 3 && fine > 0);
}

static void write_text(const char *name, const char *fmt, ...)
{
	char path[512];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	f = fopen(path, "w");
	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	assert_int_equal(fclose(f), 0);
}

/* Points apt at @source and nothing else (apt.conf(5): APT_CONFIG is read before the rest). */
static void use_source(const char *source)
{
	char path[512];

	write_text("sources.list", "%s\n", source);
	write_text(
		"apt.conf",
		"Dir::Etc::SourceList \"%s/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n",
		top, top);
	snprintf(path, sizeof(path), "%s/apt.conf", top);
	setenv("APT_CONFIG", path, 1);
}

static void sha256(const char *path, char ret[65])
{
	char *argv[] = { child_find("sha256sum"), (char *)path, NULL };
	struct buf out = { 0 }, errs = { 0 };

	assert_non_null(argv[0]);
	assert_int_equal(child_run(argv, NULL, &out, &errs, NULL), 0);
	assert_true(out.len > 64);
	memcpy(ret, out.data, 64);
	ret[64] = 0;
	free(argv[0]);
	buf_fini(&out);
	buf_fini(&errs);
}

/* The real apt, a repository in a directory: a meta package leads to the kernel. */
static void apt_fetches(void **state)
{
	struct kcache_kernel k = { 0 };
	struct err e = { 0 };
	char line[400], sum[65], *deb;
	struct stat st;

	if (!have("depmod") || !have("apt-get"))
		skip();
	deb = good_deb();
	assert_int_equal(stat(deb, &st), 0);
	sha256(deb, sum);
	write_text("Packages",
		   "Package: linux-image-test\nVersion: 6.99\nArchitecture: amd64\n"
		   "Depends: linux-image-" REL " (= 6.99.1-1)\nFilename: ./meta.deb\nSize: 1\n"
		   "Description: d\n\n"
		   "Package: linux-image-" REL "\nVersion: 6.99.1-1\nArchitecture: amd64\n"
		   "Depends: kmod, linux-base\nFilename: ./good.deb\nSize: %lld\n"
		   "SHA256: %s\nDescription: d\n\n"
		   "Package: linux-image-gone\nVersion: 1\nArchitecture: amd64\n"
		   "Filename: ./gone.deb\nSize: 5\nSHA256: %s\nDescription: d\n\n"
		   "Package: linux-image-huge\nVersion: 1\nArchitecture: amd64\n"
		   "Filename: ./huge.deb\nSize: 90000000000000\nDescription: d\n",
		   (long long)st.st_size, sum, sum);
	snprintf(line, sizeof(line), "deb [trusted=yes] copy:%s ./", top);
	use_source(line);
	fetch_ok("linux-image-test");
	fetch_ok("linux-image-" REL "=6.99.1-1"); /* cached */
	assert_int_equal(kcache_resolve("linux-image-test", NULL, &e, &k), 0);
	assert_string_equal(k.release, REL);
	kcache_kernel_fini(&k);
	fetch_fails("linux-image-none", -ENOENT, "apt knows no package");
	fetch_fails("linux-image-gone", -EIO, "(apt: E: ");
	fetch_fails("linux-image-huge", -ENOSPC, "not enough space");
	unsetenv("APT_CONFIG");
}

static void apt_without_network(void **state)
{
	if (!have("apt-get"))
		skip();
	/* Port 1 of this machine: refused at once, as a missing network is. */
	use_source("deb [trusted=yes] http://127.0.0.1:1/debian stable main");
	fetch_fails("debian", -EIO, "check the network");
	unsetenv("APT_CONFIG");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(package_becomes_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_packages_leave_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(truncated_package_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(names_resolve, setup, teardown),
		cmocka_unit_test_setup_teardown(files_have_modules, setup, teardown),
		cmocka_unit_test_setup_teardown(versions_compare, setup, teardown),
		cmocka_unit_test_setup_teardown(clean_keeps_the_newest, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_entry_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(two_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(killed_at_any_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(unwritable_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(apt_fetches, setup, teardown),
		cmocka_unit_test_setup_teardown(apt_without_network, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
