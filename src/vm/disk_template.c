// SPDX-License-Identifier: Apache-2.0
/*
 * disk_template.c - disks with a file system on them, made once
 *
 * How it works
 * A small VM of our own runs the host's mkfs, packed like any command, on a sparse file. So it
 * needs no privileges, and a mkfs that looks around or crashes does so in there; and since the
 * VM's time, random numbers and the file system's UUID are fixed, the same mkfs makes the same
 * bytes each time: a run with such a disk is as exact on the first use as on the second.
 *
 * The file goes to the cache, named after all that its contents depend on: the file system, its
 * size, and a hash of mkfs, its libraries and its arguments. Guests get private copies of it.
 */
#include "vm/disk_template.h"

#include "host/disk_cache.h"
#include "image/closure.h"
#include "image/kcache.h"
#include "vm/devices.h"
#include "vm/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#define FORMAT 1 /* changes when what is made from the same mkfs changes */
#define PATHS "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
#define UUID "6f727265-7279-4d69-b372-6f766d646973"
#define EPOCH "1767225600" /* 2026-01-01, the guest's own date */
#define BUILD_S 300u
#define WAIT_S 600u
#define ARGS_MAX 16u
#define FILE_MAX (256u << 20)

static const char *const ext4_args[] = {
	/* Nothing for the kernel to do behind the user's back after mounting. */
	"-F", "-q", "-U", UUID, "-E", "lazy_itable_init=0,lazy_journal_init=0,hash_seed=" UUID, NULL
};
static const char *const ext4_env[] = { "E2FSPROGS_FAKE_TIME=" EPOCH, "SOURCE_DATE_EPOCH=" EPOCH,
					"MKE2FS_SYNC=0", NULL };
static const char *const ext4_modules[] = { "ext4", NULL };
static const char *const btrfs_args[] = { "-f", "-q", "-U", UUID, NULL };
static const char *const btrfs_env[] = { "SOURCE_DATE_EPOCH=" EPOCH, NULL };
static const char *const btrfs_modules[] = { "btrfs", NULL };

static const struct disk_fs table[] = {
	{ "ext4", "mkfs.ext4", "e2fsprogs", ext4_args, ext4_env, ext4_modules, 8ull << 20 },
	{ "btrfs", "mkfs.btrfs", "btrfs-progs", btrfs_args, btrfs_env, btrfs_modules,
	  128ull << 20 },
};

const struct disk_fs *disk_fs_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

struct build {
	const struct disk_fs *fs;
	u64 size;
	const char *kernel, *opt;
	char *mkfs; /* owned */
	int err_fd;
};

/* --- what the contents depend on -------------------------------------------------------------- */

static int hash_file(XXH3_state_t *h, const char *path, struct err *e)
{
	struct buf b = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return err_sys(e, -errno, "%s", path);
	r = buf_read_fd(&b, fd, FILE_MAX);
	close(fd);
	if (r == 0)
		XXH3_64bits_update(h, b.data, b.len);
	buf_fini(&b);
	return r < 0 ? err_sys(e, r, "%s", path) : 0;
}

static void hash_words(XXH3_state_t *h, const char *const *words)
{
	for (; *words; words++)
		XXH3_64bits_update(h, *words, strlen(*words) + 1);
}

static int fingerprint(const struct build *b, struct err *e, u64 *ret)
{
	struct closure_env env = { .path = getenv("PATH"),
				   .ld_library_path = getenv("LD_LIBRARY_PATH") };
	XXH3_state_t *h = XXH3_createState();
	struct closure c = { 0 };
	enum closure_kind kind;
	u32 format = FORMAT;
	int r = h ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (r == 0)
		r = closure_add(&c, b->mkfs, &env, e, &kind);
	if (r < 0)
		goto out;
	XXH3_64bits_reset(h);
	XXH3_64bits_update(h, &format, sizeof(format));
	hash_words(h, b->fs->args);
	hash_words(h, b->fs->env);
	r = hash_file(h, b->mkfs, e);
	for (size_t i = 0; r == 0 && i < c.n; i++)
		r = hash_file(h, c.path[i], e);
	if (r == 0)
		*ret = XXH3_64bits_digest(h);
out:
	closure_fini(&c);
	XXH3_freeState(h);
	return r;
}

/* --- making one ------------------------------------------------------------------------------- */

/* "PATH" as a value of --disk: a comma is written as two. */
static char *disk_text(const char *path)
{
	char *text = malloc(2 * strlen(path) + 8), *p = text;

	if (!text)
		return NULL;
	p = stpcpy(p, "file=");
	for (; *path; path++) {
		if (*path == ',')
			*p++ = ',';
		*p++ = *path;
	}
	*p = 0;
	return text;
}

/* The last line of what the VM said. */
static void last_line(int fd, char *ret, size_t size)
{
	char text[4096], *line;
	off_t len = lseek(fd, 0, SEEK_END), at = MAX(len - (off_t)sizeof(text) + 1, (off_t)0);
	ssize_t n = pread(fd, text, sizeof(text) - 1, at);

	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	text[n > 0 ? n : 0] = 0;
	line = strrchr(text, '\n');
	snprintf(ret, size, "%.200s", line ? line + 1 : text);
}

static int run_mkfs(const struct build *b, struct vm_devs *devs, int null_fd, int out_fd,
		    struct err *e)
{
	static struct vm_result result; /* large */
	const char *argv[ARGS_MAX];
	struct vm_cfg cfg = { .kernel = b->kernel,
			      .engine = VM_ENGINE_SOFT, /* the same bytes on every host */
			      .argv = argv,
			      .env = b->fs->env,
			      .devs = devs,
			      .in_fd = null_fd,
			      .out_fd = out_fd,
			      .err_fd = out_fd,
			      .debug_exit = -1,
			      .hidden = true,
			      .timeout_ns = BUILD_S * 1000000000ull };
	char said[256];
	unsigned n = 0;
	int r;

	argv[n++] = b->mkfs;
	for (const char *const *a = b->fs->args; *a; a++)
		argv[n++] = *a;
	argv[n++] = "/dev/vda";
	argv[n] = NULL;
	BUG_IF(n >= ARGS_MAX);
	r = vm_run(&cfg, e, &result);
	if (r < 0) {
		err_prefix(e, "%s: no VM to make the file system in", b->opt);
		return r;
	}
	if (result.status == 0)
		return 0;
	last_line(out_fd, said, sizeof(said));
	return err_set(e, -EIO, "%s: %s failed in its VM with status %d: %.160s", b->opt,
		       b->fs->mkfs, result.status, result.words[0] ? result.words : said);
}

static int make(void *opaque, const char *path, struct err *e)
{
	struct build *b = opaque;
	struct vm_devs devs = { 0 };
	char *text = disk_text(path);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC), out_fd, r;

	out_fd = memfd_create("orrery-mkfs", MFD_CLOEXEC);
	dprintf(b->err_fd, "orrery: making an empty %s file system of %llu MiB, once\n",
		b->fs->name, (unsigned long long)b->size >> 20);
	if (!text)
		r = err_set(e, -ENOMEM, "out of memory");
	else if (null_fd < 0 || out_fd < 0)
		r = err_sys(e, -errno, "%s", b->opt);
	else if (truncate(path, (off_t)b->size) < 0)
		r = err_sys(e, -errno, "%s: cannot make %s of %llu bytes", b->opt, path,
			    (unsigned long long)b->size);
	else
		r = vm_devs_add(&devs, &vm_dev_disk, text, e);
	if (r == 0)
		r = run_mkfs(b, &devs, null_fd, out_fd, e);
	vm_devs_fini(&devs);
	if (null_fd >= 0)
		close(null_fd);
	if (out_fd >= 0)
		close(out_fd);
	free(text);
	return r;
}

static void waits(void *opaque, const char *who)
{
	const struct build *b = opaque;

	dprintf(b->err_fd, "orrery: waiting for %s, which makes the %s file system\n", who,
		b->fs->name);
}

/* Where the templates are: beside the kernels. */
static int cache_dir(struct err *e, char **ret)
{
	char *dir, *slash;
	int r = kcache_dir(e, &dir);

	if (r < 0)
		return r;
	slash = strrchr(dir, '/');
	if (asprintf(ret, "%.*s/disks", (int)(slash - dir), dir) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	free(dir);
	return r;
}

static int from_cache(struct build *b, struct err *e, char **ret_path)
{
	struct disk_cache_cfg cc = { .make = make, .waits = waits, .opaque = b, .wait_s = WAIT_S };
	char *dir = NULL, key[128];
	u64 hash = 0;
	int r = fingerprint(b, e, &hash);

	if (r == 0)
		r = cache_dir(e, &dir);
	if (r < 0)
		return r;
	snprintf(key, sizeof(key), "%s-%llum-%016llx.img", b->fs->name,
		 (unsigned long long)b->size >> 20, (unsigned long long)hash);
	cc.dir = dir;
	cc.key = key;
	r = disk_cache_get(&cc, e, ret_path);
	free(dir);
	return r;
}

int disk_template_get(const struct disk_fs *fs, u64 size, const char *kernel, const char *opt,
		      int err_fd, struct err *e, char **ret_path)
{
	/* A kernel of one's own may have neither modules nor drivers: the default one makes it. */
	struct build b = { .fs = fs,
			   .size = size,
			   .kernel = kernel && !strchr(kernel, '/') ? kernel : NULL,
			   .opt = opt,
			   .err_fd = err_fd };
	int r;

	if (size < fs->least || size % DISK_TEMPLATE_UNIT)
		return err_set(e, -EINVAL,
			       "%s: a disk with %s has whole MiB, and at least %llu of them", opt,
			       fs->name, (unsigned long long)fs->least >> 20);
	r = closure_which(PATHS, fs->mkfs, &b.mkfs);
	if (r < 0)
		return err_set(e, r,
			       "%s: this host has no %s to make the file system with; apt-get "
			       "install %s",
			       opt, fs->mkfs, fs->package);
	r = from_cache(&b, e, ret_path);
	free(b.mkfs);
	return r;
}
