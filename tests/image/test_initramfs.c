// SPDX-License-Identifier: Apache-2.0
/*
 * test_initramfs.c - the archive, library closures, kernel modules, and the whole composition
 *
 * Programs and libraries are made with the compiler on the spot, archives read back by libarchive.
 */
#include "image/initramfs.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "image/closure.h"
#include "image/cpio.h"
#include "image/elfinfo.h"
#include "image/ldcache.h"
#include "image/modules.h"

static char dir[] = "/tmp/orrery-initramfs-XXXXXX";
static bool have_cc;

/* Runs a shell command in the test's directory. */
static void sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;
	int n = snprintf(cmd, sizeof(cmd), "set -e; cd %s; ", dir);

	va_start(ap, fmt);
	n += vsnprintf(cmd + n, sizeof(cmd) - (size_t)n, fmt, ap);
	va_end(ap);
	assert_true(n < (int)sizeof(cmd));
	if (system(cmd) != 0)
		fail_msg("failed: %s", cmd);
}

static char *at(const char *file)
{
	static char path[4][PATH_MAX];
	static unsigned k;

	k = (k + 1) % 4;
	snprintf(path[k], PATH_MAX, "%s/%s", dir, file);
	return path[k];
}

/* The entry @name of archive @b: its mode in *ret_mode, its data or link target in @text. */
static bool entry(const struct buf *b, const char *name, unsigned *ret_mode, struct buf *text)
{
	struct archive *a = archive_read_new();
	struct archive_entry *ent;
	bool found = false;

	text->len = 0;
	archive_read_support_format_cpio(a);
	assert_int_equal(archive_read_open_memory(a, b->data, b->len), ARCHIVE_OK);
	while (!found && archive_read_next_header(a, &ent) == ARCHIVE_OK) {
		if (strcmp(archive_entry_pathname(ent), name) != 0)
			continue;
		found = true;
		*ret_mode = archive_entry_mode(ent);
		if (archive_entry_symlink(ent)) {
			assert_int_equal(buf_printf(text, "%s", archive_entry_symlink(ent)), 0);
		} else if (archive_entry_size(ent)) {
			size_t n = (size_t)archive_entry_size(ent);

			assert_int_equal(buf_reserve(text, n), 0);
			assert_int_equal(archive_read_data(a, text->data, n), n);
			text->len = n;
		}
		assert_int_equal(archive_entry_mtime(ent), 0);
		assert_int_equal(archive_entry_uid(ent), 0);
	}
	archive_read_free(a);
	assert_int_equal(buf_add(text, "", 1), 0);
	text->len--;
	return found;
}

static void check_entry(const struct buf *b, const char *name, unsigned mode, const char *want)
{
	struct buf text = { 0 };
	unsigned got = 0;

	if (!entry(b, name, &got, &text))
		fail_msg("%s is not in the archive", name);
	assert_int_equal(got, mode);
	if (want)
		assert_string_equal((char *)text.data, want);
	buf_fini(&text);
}

/* Every name's parent comes first, and names are in byte order. */
static void check_order(const struct buf *b)
{
	struct archive *a = archive_read_new();
	struct archive_entry *ent;
	char last[PATH_MAX] = "";

	archive_read_support_format_cpio(a);
	assert_int_equal(archive_read_open_memory(a, b->data, b->len), ARCHIVE_OK);
	while (archive_read_next_header(a, &ent) == ARCHIVE_OK) {
		char name[PATH_MAX], *slash;
		struct buf text = { 0 };
		unsigned mode;

		snprintf(name, sizeof(name), "%s", archive_entry_pathname(ent));
		assert_true(strcmp(last, name) < 0);
		strcpy(last, name);
		slash = strrchr(name, '/');
		if (slash) {
			*slash = 0;
			assert_true(entry(b, name, &mode, &text));
			assert_true(S_ISDIR(mode));
		}
		buf_fini(&text);
	}
	archive_read_free(a);
}

static void test_cpio(void **state)
{
	struct cpio *c;
	struct err e = { 0 };
	struct buf b = { 0 };

	assert_int_equal(cpio_new(&c), 0);
	assert_int_equal(cpio_symlink(c, "/bin", "usr/bin", &e), 0);
	assert_int_equal(cpio_file(c, "/bin/x-y", 0755, "xy", 2, &e), 0);
	assert_int_equal(cpio_file(c, "/bin/x/../x-z", 0644, "", 0, &e), 0);
	assert_int_equal(cpio_node(c, "/dev/null", S_IFCHR | 0666, 1, 3, &e), 0);
	assert_int_equal(cpio_symlink(c, "/abs", "/bin", &e), 0);
	assert_int_equal(cpio_file(c, "/abs/./deep//er", 04711, "1", 1, &e), 0);
	/* The same again is fine, something else is not. */
	assert_int_equal(cpio_file(c, "/usr/bin/x-y", 0755, "xy", 2, &e), 0);
	assert_int_equal(cpio_file(c, "/usr/bin/x-y", 0755, "xx", 2, &e), -EEXIST);
	assert_int_equal(cpio_file(c, "/usr/bin/x-y", 0700, "xy", 2, &e), -EEXIST);
	assert_int_equal(cpio_dir(c, "/bin/x-y", 0755, &e), -EEXIST);
	assert_int_equal(cpio_dir(c, "/bin", 0755, &e), 0);
	assert_int_equal(cpio_dir(c, "/", 0755, &e), 0);
	assert_int_equal(cpio_file(c, "/bin/x-y/z", 0755, "", 0, &e), -ENOTDIR);
	assert_int_equal(cpio_file(c, "relative", 0755, "", 0, &e), -EINVAL);
	assert_int_equal(cpio_file(c, "/a/..", 0755, "", 0, &e), -EISDIR);
	assert_true(cpio_has(c, "/abs/x-y"));
	assert_false(cpio_has(c, "/abs/x-q"));
	assert_int_equal(cpio_write(c, &e, &b), 0);
	assert_int_equal(b.len, cpio_size(c));
	check_entry(&b, "bin", S_IFLNK | 0777, "usr/bin");
	check_entry(&b, "usr/bin/x-y", S_IFREG | 0755, "xy");
	check_entry(&b, "usr/bin/deep/er", S_IFREG | 04711, "1");
	check_entry(&b, "dev/null", S_IFCHR | 0666, NULL);
	check_order(&b);
	buf_fini(&b);
	cpio_free(c);
}

static void test_cpio_link_loop(void **state)
{
	struct cpio *c;
	struct err e = { 0 };
	char path[3 * PATH_MAX];

	assert_int_equal(cpio_new(&c), 0);
	assert_int_equal(cpio_symlink(c, "/a", "/b", &e), 0);
	assert_int_equal(cpio_symlink(c, "/b", "/a", &e), 0);
	assert_int_equal(cpio_file(c, "/a/x", 0644, "", 0, &e), -ELOOP);
	assert_false(cpio_has(c, "/a/x"));
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = 0;
	assert_int_equal(cpio_file(c, path, 0644, "", 0, &e), -ENAMETOOLONG);
	cpio_free(c);
}

static void test_host_file_shrinks(void **state)
{
	struct cpio *c;
	struct err e = { 0 };
	struct buf b = { 0 };
	u64 size;

	sh("printf 12345 >shrinks");
	assert_int_equal(cpio_new(&c), 0);
	assert_int_equal(cpio_host_file(c, "/f", at("shrinks"), &e, &size), 0);
	assert_int_equal(size, 5);
	sh("printf 123 >shrinks");
	assert_int_equal(cpio_write(c, &e, &b), -EIO);
	assert_int_equal(b.len, 0);
	assert_non_null(strstr(e.msg, "shrinks"));
	sh("printf 1234567 >shrinks");
	assert_int_equal(cpio_write(c, &e, &b), 0);
	check_entry(&b, "f", S_IFREG | 0644, "12345");
	assert_int_equal(cpio_host_file(c, "/g", dir, &e, &size), -EINVAL);
	assert_int_equal(cpio_host_file(c, "/g", at("absent"), &e, &size), -ENOENT);
	buf_fini(&b);
	cpio_free(c);
}

static bool need_cc(void)
{
	if (!have_cc)
		print_message("SKIP: no C compiler \"cc\" in PATH; install gcc\n");
	return have_cc;
}

static bool has(const struct closure *c, const char *path)
{
	for (size_t i = 0; i < c->n; i++)
		if (!strcmp(c->path[i], path))
			return true;
	return false;
}

static int close_over(const char *prog, const char *llp, struct err *e, struct closure *c)
{
	struct closure_env env = { .path = getenv("PATH"), .ld_library_path = llp };
	enum closure_kind kind;

	*c = (struct closure){ 0 };
	return closure_add(c, prog, &env, e, &kind);
}

/* prog -> liba (RUNPATH $ORIGIN/../lib) -> libb (no path of its own: RUNPATH is not inherited) */
static void test_closure_paths(void **state)
{
	struct closure c;
	struct err e = { 0 };

	if (!need_cc())
		skip();
	sh("mkdir -p p/bin p/lib p/other; cd p;"
	   "echo 'int b(void){return 1;}' | cc -shared -fPIC -xc - -o other/libb.so -Wl,-soname,libb.so;"
	   "echo 'int b(void);int a(void){return b();}' |"
	   " cc -shared -fPIC -xc - -o lib/liba.so.1 -Lother -lb -Wl,-soname,liba.so.1;"
	   "ln -sf liba.so.1 lib/liba.so;"
	   "echo 'int a(void);int main(void){return a();}' > m.c;"
	   "cc m.c -o bin/run -Llib -la -Wl,--allow-shlib-undefined -Wl,--enable-new-dtags"
	   " -Wl,-rpath,'$ORIGIN/../lib:$ORIGIN/../other';"
	   "cc m.c -o bin/old -Llib -la -Wl,--allow-shlib-undefined -Wl,--disable-new-dtags"
	   " -Wl,-rpath,'${ORIGIN}/../lib:$ORIGIN/../other'");
	/* DT_RUNPATH of the program does not help liba find libb... */
	assert_int_equal(close_over(at("p/bin/run"), NULL, &e, &c), -ENOENT);
	assert_non_null(strstr(e.msg, "libb.so"));
	assert_non_null(strstr(e.msg, "liba.so.1"));
	assert_non_null(strstr(e.msg, "p/bin/run"));
	closure_fini(&c);
	/* ...LD_LIBRARY_PATH does... */
	assert_int_equal(close_over(at("p/bin/run"), at("p/other"), &e, &c), 0);
	assert_true(has(&c, at("p/bin/../lib/liba.so.1")));
	assert_true(has(&c, at("p/other/libb.so")));
	assert_true(has(&c, "/lib64/ld-linux-x86-64.so.2"));
	closure_fini(&c);
	/* ...and so does DT_RPATH, which is inherited. */
	assert_int_equal(close_over(at("p/bin/old"), NULL, &e, &c), 0);
	assert_true(has(&c, at("p/bin/../other/libb.so")));
	closure_fini(&c);
	/* ld.so agrees. */
	sh("! p/bin/run 2>/dev/null; LD_LIBRARY_PATH=p/other p/bin/run || test $? = 1;"
	   "p/bin/old || test $? = 1");
	/* The program's own name may be a link: $ORIGIN is where it really lies. */
	sh("ln -sf p/bin/old link");
	assert_int_equal(close_over(at("link"), NULL, &e, &c), 0);
	closure_fini(&c);
}

/* A candidate of another word size or no library at all is passed over. */
static void test_closure_passes_over(void **state)
{
	struct closure c;
	struct err e = { 0 };
	char llp[PATH_MAX];

	if (!need_cc())
		skip();
	sh("mkdir -p w/bad w/alien w/good; cd w;"
	   "echo 'int f(void){return 1;}' | cc -shared -fPIC -xc - -o good/libf.so;"
	   "echo '/* GNU ld script */' > bad/libf.so;"
	   "cp good/libf.so alien/libf.so; printf '\\267' | dd of=alien/libf.so bs=1 seek=18"
	   " conv=notrunc 2>/dev/null;"
	   "echo 'int f(void);int main(void){return f();}' | cc -xc - -o run -Lgood -lf");
	snprintf(llp, sizeof(llp), "%s:%s;%s", at("w/bad"), at("w/alien"), at("w/good"));
	assert_int_equal(close_over(at("w/run"), llp, &e, &c), 0);
	assert_true(has(&c, at("w/good/libf.so")));
	closure_fini(&c);
}

static void test_closure_scripts(void **state)
{
	struct closure c;
	struct err e = { 0 };

	sh("printf '#!/bin/sh\\n' > s1; printf '#! %s/s1 -x\\n' > s2; printf '#!/no/interp\\n' > s3;"
	   "printf '#!/usr/bin/env -S A=1 cat -n\\n' > s4; printf '#!/usr/bin/env nosuchprog1\\n' > s5;"
	   "printf '#!%s/s6\\n' > s6; printf '#!relative\\n' > s7; printf '#!' > s8; : > s9",
	   dir, dir);
	assert_int_equal(close_over(at("s2"), NULL, &e, &c), 0);
	assert_true(has(&c, at("s1")));
	assert_true(has(&c, "/bin/sh"));
	closure_fini(&c);
	assert_int_equal(close_over(at("s3"), NULL, &e, &c), -ENOENT);
	assert_non_null(strstr(e.msg, "/no/interp"));
	closure_fini(&c);
	assert_int_equal(close_over(at("s4"), NULL, &e, &c), 0);
	assert_true(has(&c, "/usr/bin/env"));
	assert_true(has(&c, "/usr/bin/cat") || has(&c, "/bin/cat"));
	closure_fini(&c);
	assert_int_equal(close_over(at("s5"), NULL, &e, &c), -ENOENT);
	assert_non_null(strstr(e.msg, "nosuchprog1"));
	closure_fini(&c);
	assert_int_equal(close_over(at("s6"), NULL, &e, &c), -ELOOP);
	closure_fini(&c);
	assert_int_equal(close_over(at("s7"), NULL, &e, &c), -ENOEXEC);
	closure_fini(&c);
	assert_int_equal(close_over(at("s8"), NULL, &e, &c), -ENOEXEC);
	closure_fini(&c);
	assert_int_equal(close_over(at("s9"), NULL, &e, &c), 0);
	assert_int_equal(c.n, 0);
	closure_fini(&c);
}

static u32 rnd(u32 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Damaged ELF files and caches give an answer or an error, never a crash. */
static void test_hostile_files(void **state)
{
	struct buf good = { 0 }, cache = { 0 };
	char path[64];
	u32 x = 12345;
	int in = open("/bin/sh", O_RDONLY), fd = memfd_create("elf", 0);

	assert_int_equal(buf_read_fd(&good, in, 16 << 20), 0);
	close(in);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	in = open(LDCACHE_FILE, O_RDONLY);
	if (in >= 0) {
		assert_int_equal(buf_read_fd(&cache, in, 16 << 20), 0);
		close(in);
	}
	for (unsigned round = 0; round < 1500; round++) {
		struct buf *b = round % 2 && cache.len ? &cache : &good;
		size_t len = round % 5 ? b->len : rnd(&x) % b->len;
		u8 head[1024];
		size_t n = MIN(sizeof(head), len);
		struct elfinfo info = { 0 };
		struct ldcache lc;
		struct err e = { 0 };
		u32 pos = 0;

		memcpy(head, b->data, n);
		for (unsigned k = 0; n > 8 && k < 1 + round % 4; k++)
			head[4 + rnd(&x) % (n - 4)] = (u8)rnd(&x);
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		assert_int_equal(pwrite(fd, b->data, len, 0), len);
		assert_int_equal(pwrite(fd, head, n, 0), n);
		if (elfinfo_read(path, &e, &info) == 0)
			elfinfo_fini(&info);
		assert_int_equal(ldcache_open(&lc, path), 0);
		for (unsigned k = 0; k < 100 && ldcache_next(&lc, "libc.so.6", &pos); k++)
			;
		ldcache_close(&lc);
	}
	close(fd);
	buf_fini(&good);
	buf_fini(&cache);
}

/* Makes m/FILE, an object file with the given .modinfo strings. */
static void make_module(const char *file, const char *depends, const char *softdep)
{
	sh("mkdir -p m/kernel/a m/kernel/b;"
	   "printf '.section .modinfo,\"a\"\\n.asciz \"depends=%s\"\\n%s%s%s' |"
	   " cc -c -xassembler - -o m/kernel/%s",
	   depends, softdep ? ".asciz \"softdep=" : "", softdep ? softdep : "",
	   softdep ? "\"\\n" : "", file);
}

static void test_modules(void **state)
{
	const char *const all[] = { "top-mod", "built-in", "top_mod", NULL };
	const char *const unknown[] = { "nosuch", NULL }, *const broken[] = { "brk", NULL };
	const char *const torn[] = { "torn", NULL };
	static const char *const order[] = { "base", "soft", "mid_dle", "top_mod", "after" };
	struct modules m;
	struct err e = { 0 };

	if (!need_cc())
		skip();
	make_module("a/top_mod.ko", "mid-dle,base", "pre: soft absent post: after");
	make_module("b/mid-dle.ko", "base", NULL);
	make_module("b/base.ko", "", "pre: top_mod"); /* a cycle */
	make_module("b/soft.ko", "", NULL);
	make_module("b/after.ko", "", NULL);
	make_module("b/brk.ko", "gone", NULL);
	sh("cd m; gzip -c kernel/b/after.ko | head -c 80 > kernel/b/torn.ko.gz; gzip kernel/b/mid-dle.ko;"
	   "printf 'kernel/a/top_mod.ko\\nkernel/b/mid-dle.ko\\n' > modules.order;"
	   "printf 'kernel/x/built-in.ko\\n' > modules.builtin");
	assert_int_equal(modules_resolve(at("m"), all, &e, &m), 0);
	assert_int_equal(m.n, 5);
	for (size_t i = 0; i < m.n; i++) {
		bool known = false;

		for (size_t k = 0; k < ARRAY_LEN(order); k++)
			known |= !strcmp(order[k], m.mod[i].name);
		assert_true(known);
		assert_memory_equal(m.mod[i].data.data, "\177ELF", 4);
	}
	assert_string_equal(m.mod[4].name, "after");
	assert_string_equal(m.mod[3].name, "top_mod");
	modules_fini(&m);
	assert_int_equal(modules_resolve(at("m"), unknown, &e, &m), -ENOENT);
	assert_non_null(strstr(e.msg, "nosuch"));
	assert_int_equal(modules_resolve(at("m"), broken, &e, &m), -ENOENT);
	assert_non_null(strstr(e.msg, "gone, needed by brk"));
	assert_int_equal(modules_resolve(at("m"), torn, &e, &m), -ENOEXEC);
	assert_int_equal(modules_resolve(at("absent"), all, &e, &m), -ENOENT);
}

static struct initramfs_cfg config(const char *const *argv)
{
	return (struct initramfs_cfg){
		.argv = argv, .path = "/usr/bin:/bin", .cwd = dir, .port = "/dev/ttyS1"
	};
}

static bool contains(const struct buf *b, const char *text)
{
	return memmem(b->data, b->len, text, strlen(text)) != NULL;
}

static void test_compose(void **state)
{
	const char *const argv[] = { "cat", "a b", "", NULL };
	const char *const env[] = { "FOO=bar", "HOME=/h", NULL };
	struct initramfs_include inc[] = { { "tree", NULL },
					   { "tree/f", "/opt/" },
					   { "ls", NULL } };
	struct initramfs_cfg cfg = config(argv);
	struct initramfs_sizes sizes;
	struct err e = { 0 };
	struct buf b = { 0 }, again = { 0 }, spec = { 0 };
	char name[PATH_MAX];
	unsigned mode;

	sh("mkdir -p tree/sub; echo text > tree/f; chmod 640 tree/f; ln -sf ../f tree/sub/l;"
	   "printf '#!/no/such\\n' > tree/sub/script");
	cfg.env = env;
	cfg.include = inc;
	cfg.n_include = ARRAY_LEN(inc);
	assert_int_equal(initramfs_compose(&cfg, &e, &sizes, &b), 0);
	assert_int_equal(initramfs_compose(&cfg, &e, NULL, &again), 0);
	assert_int_equal(b.len, again.len);
	assert_memory_equal(b.data, again.data, b.len);
	assert_int_equal(sizes.total, b.len);
	assert_true(sizes.base > 100000 && sizes.command > 100000 && sizes.include > 0);
	assert_int_equal(sizes.modules, 0);
	check_order(&b);
	check_entry(&b, "init", S_IFREG | 0755, NULL);
	check_entry(&b, "opt/f", S_IFREG | 0640, "text\n");
	snprintf(name, sizeof(name), "%s/tree/sub/l", dir + 1);
	check_entry(&b, name, S_IFLNK | 0777, "../f");
	assert_true(entry(&b, ".orrery/spec", &mode, &spec));
	/* Applets stand in for what is not packed, and only for that. */
	if (!entry(&b, "usr/bin/cat", &mode, &again))
		assert_true(entry(&b, "bin/cat", &mode, &again));
	assert_true(S_ISREG(mode));
	if (!entry(&b, "usr/bin/wc", &mode, &again))
		assert_true(entry(&b, "bin/wc", &mode, &again));
	assert_string_equal((char *)again.data, "/bin/busybox");
	assert_true(entry(&b, ".orrery/spec", &mode, &spec));
	assert_true(contains(&spec, "FOO=bar"));
	assert_true(contains(&spec, "arg=a b"));
	assert_false(contains(&spec, "/root"));
	buf_fini(&b);
	buf_fini(&again);
	buf_fini(&spec);
}

static void check_refused(struct initramfs_cfg *cfg, int want, const char *words)
{
	struct err e = { 0 };
	struct buf b = { 0 };

	assert_int_equal(initramfs_compose(cfg, &e, NULL, &b), want);
	assert_int_equal(b.len, 0);
	if (!strstr(e.msg, words))
		fail_msg("\"%s\" does not say \"%s\"", e.msg, words);
	buf_fini(&b);
}

static void refuse_command(const char *cmd, int want, const char *words)
{
	const char *const argv[] = { cmd, NULL };
	struct initramfs_cfg cfg = config(argv);

	check_refused(&cfg, want, words);
}

static void refuse_include(const char *host, const char *guest, int want, const char *words)
{
	struct initramfs_include inc = { host, guest };
	struct initramfs_cfg cfg = config(NULL);

	cfg.include = &inc;
	cfg.n_include = 1;
	check_refused(&cfg, want, words);
}

static void test_refusals(void **state)
{
	const char *const mods[] = { "virtio_mmio", NULL };
	struct initramfs_cfg cfg = config(NULL);

	sh("echo data > data; chmod +x data; echo x > noexec; cp /bin/sh alien; mkfifo fifo;"
	   "printf '\\267' | dd of=alien bs=1 seek=18 conv=notrunc 2>/dev/null");
	refuse_command("no-such-command", -ENOENT, "no-such-command");
	refuse_command("", -ENOENT, "no command");
	refuse_command("./absent", -ENOENT, "./absent");
	refuse_command("./data", -ENOEXEC, "neither an ELF program");
	refuse_command("./noexec", -EACCES, "chmod");
	refuse_command("./alien", -ENOEXEC, "x86-64");
	refuse_command("/proc/self/exe", -EINVAL, "/proc");
	refuse_command("/tmp", -EACCES, "regular");
	refuse_include("absent", NULL, -ENOENT, "absent");
	refuse_include("data", "relative", -EINVAL, "begin with /");
	refuse_include("data", "/proc/x", -EINVAL, "/proc");
	refuse_include("data", "/init", -EINVAL, "/init");
	refuse_include("data", "/x/../y", -EINVAL, "..");
	refuse_include("fifo", "/f", -EINVAL, "fifo");
	cfg.modules = mods;
	check_refused(&cfg, -EINVAL, "modules");
	cfg = config(NULL);
	cfg.busybox = "/no/busybox";
	check_refused(&cfg, -ENOENT, "busybox-static");
	cfg.busybox = "/bin/false";
	check_refused(&cfg, -ENOEXEC, "busybox-static");
}

static void test_applet_command(void **state)
{
	const char *const argv[] = { "usleep", "1", NULL }; /* busybox alone has it */
	struct initramfs_cfg cfg = config(argv);
	struct err e = { 0 };
	struct buf b = { 0 }, spec = { 0 };
	unsigned mode;

	cfg.path = "/nonexistent";
	assert_int_equal(initramfs_compose(&cfg, &e, NULL, &b), 0);
	assert_true(entry(&b, ".orrery/spec", &mode, &spec));
	assert_true(contains(&spec, "exec=/bin/usleep"));
	buf_fini(&b);
	buf_fini(&spec);
}

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	have_cc = system("cc --version >/dev/null 2>&1") == 0;
	return 0;
}

static int teardown(void **state)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpio),
		cmocka_unit_test(test_cpio_link_loop),
		cmocka_unit_test(test_host_file_shrinks),
		cmocka_unit_test(test_closure_paths),
		cmocka_unit_test(test_closure_passes_over),
		cmocka_unit_test(test_closure_scripts),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_modules),
		cmocka_unit_test(test_compose),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_applet_command),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
