// SPDX-License-Identifier: Apache-2.0
/*
 * dev_blk.c - the option --disk
 *
 * Its argument is FILE or, without one, a size; then what is to be done with it. A FILE may have
 * any name: a comma in it is written as two, and FILE is what stands first unless that is one of
 * the words below.
 */
#include "dev/virtio_blk.h"
#include "base/values.h"
#include "vm/devices.h"
#include "vm/disk_template.h"
#include "vm/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_DEFAULT (256ull << 20)
#define SIZE_MAX_DISK (1ull << 60)

struct dev_disk {
	char *opt;     /* owned: "--disk TEXT", for messages */
	char *path;    /* owned; NULL: none */
	char *overlay; /* owned: of cow, where what is written stays; NULL: nowhere */
	char *dir;     /* owned: where to mount it; NULL: /mnt/NAME */
	u64 size;      /* 0: not given */
	bool ro, cow, no_mount;
	const struct disk_fs *fs;
	char name[VIRTIO_BLK_SERIAL_LEN + 1], serial[VIRTIO_BLK_SERIAL_LEN + 1];
	struct throttle iops, bps;
	unsigned queues;

	/* From open on. */
	struct disk *disk; /* owned */
	unsigned index;
	int err_fd;
	bool said;
	struct virtio_blk_stats stats;
};

/* --- the argument ----------------------------------------------------------------------------- */

enum word {
	W_FILE,
	W_SIZE,
	W_RO,
	W_COW,
	W_OVERLAY,
	W_FS,
	W_NAME,
	W_MOUNT,
	W_NO_MOUNT,
	W_SERIAL,
	W_QUEUES,
	W_IOPS,
	W_IOPS_BURST,
	W_BPS,
	W_BPS_BURST,
};

static const struct {
	const char *word;
	enum word id;
	bool value;
} words[] = {
	{ "file", W_FILE, true },     { "size", W_SIZE, true },
	{ "ro", W_RO, false },	      { "cow", W_COW, false },
	{ "snapshot", W_COW, false }, { "overlay", W_OVERLAY, true },
	{ "fs", W_FS, true },	      { "name", W_NAME, true },
	{ "mount", W_MOUNT, true },   { "nomount", W_NO_MOUNT, false },
	{ "serial", W_SERIAL, true }, { "queues", W_QUEUES, true },
	{ "iops", W_IOPS, true },     { "iops_burst", W_IOPS_BURST, true },
	{ "bps", W_BPS, true },	      { "bps_burst", W_BPS_BURST, true },
};

static int find_word(const char *piece)
{
	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(words[i].word, piece))
			return (int)i;
	return -1;
}

static int set_text(const struct dev_disk *d, const char *val, struct err *e, char **ret)
{
	free(*ret);
	*ret = strdup(val);
	return *ret ? 0 : err_set(e, -ENOMEM, "%s: out of memory", d->opt);
}

/* A name that is safe as one of a directory, and as a serial number. */
static int set_name(const struct dev_disk *d, const char *word, const char *val, struct err *e,
		    char *ret)
{
	size_t n = strspn(val, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	if (!n || val[n] || n > VIRTIO_BLK_SERIAL_LEN || val[0] == '.')
		return err_set(e, -EINVAL,
			       "%s: %s= takes up to %u letters, digits, '.', '_' and '-'", d->opt,
			       word, VIRTIO_BLK_SERIAL_LEN);
	memcpy(ret, val, n + 1);
	return 0;
}

/* A rate: any number of bytes, or one with a unit. */
static int set_bytes(const struct dev_disk *d, const char *val, struct err *e, u64 *ret)
{
	return val[strspn(val, "0123456789")] ? value_size(d->opt, val, e, ret)
					      : value_u64(d->opt, val, 1, THROTTLE_MAX, e, ret);
}

static int set_fs(struct dev_disk *d, const char *val, struct err *e)
{
	d->fs = disk_fs_find(val);
	if (!d->fs && strcmp(val, "raw"))
		return err_set(e, -EINVAL, "%s: fs=%.40s is unknown; there are ext4, btrfs and raw",
			       d->opt, val);
	return 0;
}

static int set_size(struct dev_disk *d, const char *val, struct err *e)
{
	u64 size;
	int r = value_size(d->opt, val, e, &size);

	if (r < 0)
		return r;
	if (!size || size % DISK_SECTOR || size > SIZE_MAX_DISK)
		return err_set(e, -EINVAL, "%s: a disk has a multiple of %u bytes, and some",
			       d->opt, DISK_SECTOR);
	d->size = size;
	return 0;
}

static int set_word(struct dev_disk *d, enum word id, const char *val, struct err *e)
{
	u64 n = 0;
	int r;

	switch (id) {
	case W_FILE:
		return set_text(d, val, e, &d->path);
	case W_SIZE:
		return set_size(d, val, e);
	case W_RO:
		d->ro = true;
		return 0;
	case W_COW:
		d->cow = true;
		return 0;
	case W_OVERLAY:
		d->cow = true;
		return set_text(d, val, e, &d->overlay);
	case W_FS:
		return set_fs(d, val, e);
	case W_NAME:
		return set_name(d, "name", val, e, d->name);
	case W_MOUNT:
		if (val[0] != '/' || strlen(val) >= PATH_MAX)
			return err_set(e, -EINVAL, "%s: mount= takes an absolute path", d->opt);
		return set_text(d, val, e, &d->dir);
	case W_NO_MOUNT:
		d->no_mount = true;
		return 0;
	case W_SERIAL:
		return set_name(d, "serial", val, e, d->serial);
	case W_QUEUES:
		r = value_u64(d->opt, val, 1, VDEV_QUEUES_MAX, e, &n);
		d->queues = (unsigned)n;
		return r;
	case W_IOPS:
		return value_u64(d->opt, val, 1, THROTTLE_MAX, e, &d->iops.rate);
	case W_IOPS_BURST:
		return value_u64(d->opt, val, 1, THROTTLE_MAX, e, &d->iops.burst);
	case W_BPS:
		return set_bytes(d, val, e, &d->bps.rate);
	default:
		return set_bytes(d, val, e, &d->bps.burst);
	}
}

/* @piece was cut at its '=', if it has one. */
static int take_piece(struct dev_disk *d, char *piece, const char *val, bool first, struct err *e)
{
	int i = find_word(piece);

	if (i >= 0 && words[i].value && val && *val)
		return set_word(d, words[i].id, val, e);
	if (i >= 0 && !words[i].value && !val)
		return set_word(d, words[i].id, NULL, e);
	if (i >= 0 && first && !val && words[i].value)
		return err_set(e, -EINVAL, "%s: %s= takes a value (a file of that name is ./%s)",
			       d->opt, piece, piece);
	if (i >= 0)
		return err_set(e, -EINVAL, "%s: %s takes %s value", d->opt, piece,
			       words[i].value ? "a" : "no");
	if (!first)
		return err_set(
			e, -EINVAL,
			"%s: %.40s is unknown; there are ro, cow, overlay=, size=, fs=, name=, mount=, "
			"nomount, serial=, queues=, iops=, iops_burst=, bps=, bps_burst=",
			d->opt, piece);
	if (val)
		piece[strlen(piece)] = '=';
	return set_text(d, piece, e, &d->path);
}

static int disagree(const struct dev_disk *d, struct err *e)
{
	if (!d->path && !d->size && !d->fs)
		return err_set(e, -EINVAL, "%s: it takes a FILE, or size=SIZE for an empty disk",
			       d->opt);
	if (d->path && d->size)
		return err_set(e, -EINVAL,
			       "%s: size= is for a disk without a file; this one's file has a size",
			       d->opt);
	if (d->ro && d->cow)
		return err_set(e, -EINVAL,
			       "%s: ro and %s exclude each other: that is for a guest that writes",
			       d->opt, d->overlay ? "overlay=" : "cow");
	if (!d->path && d->cow)
		return err_set(e, -EINVAL,
			       "%s: %s needs a FILE; a disk without one is private anyway", d->opt,
			       d->overlay ? "overlay=" : "cow");
	if (!d->fs && (d->dir || d->no_mount))
		return err_set(e, -EINVAL,
			       "%s: what has no file system is not mounted; fs=ext4 says which it "
			       "has",
			       d->opt);
	if (d->dir && d->no_mount)
		return err_set(e, -EINVAL, "%s: mount= and nomount exclude each other", d->opt);
	return 0;
}

static void disk_dev_free(void *dev)
{
	struct dev_disk *d = dev;

	if (!d)
		return;
	disk_free(d->disk);
	free(d->opt);
	free(d->path);
	free(d->overlay);
	free(d->dir);
	free(d);
}

static int disk_parse(const char *text, struct err *e, void **ret)
{
	struct dev_disk *d = calloc(1, sizeof(*d));
	char piece[PATH_MAX];
	const char *val;
	bool first = true;
	int r;

	if (!d || asprintf(&d->opt, "--disk %.200s", text) < 0) {
		free(d);
		return err_set(e, -ENOMEM, "--disk: out of memory");
	}
	while ((r = value_piece(d->opt, &text, piece, sizeof(piece), e, &val)) > 0) {
		r = take_piece(d, piece, val, first, e);
		if (r < 0)
			break;
		first = false;
	}
	if (r == 0)
		r = disagree(d, e);
	if (r == 0)
		r = throttle_check(&d->iops, d->opt, "iops", e);
	if (r == 0)
		r = throttle_check(&d->bps, d->opt, "bps", e);
	if (r < 0) {
		disk_dev_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

/* --- the host's side -------------------------------------------------------------------------- */

/* Two disks in one place of the guest would hide each other. */
static int check_others(const struct dev_disk *d, const struct vm_devs *all, struct err *e)
{
	for (unsigned i = 0; all && i < all->n; i++) {
		const struct dev_disk *o = all->dev[i].dev;

		if (all->dev[i].kind != &vm_dev_disk || all->dev[i].index >= d->index)
			continue;
		if (!strcmp(o->name, d->name))
			return err_set(e, -EEXIST, "%s: another disk has the name %s", d->opt,
				       d->name);
		if (d->dir && o->dir && !strcmp(o->dir, d->dir))
			return err_set(e, -EEXIST, "%s: another disk is mounted at %s", d->opt,
				       d->dir);
	}
	return 0;
}

/* Where it is mounted, unless the user said so. */
static int choose_dir(struct dev_disk *d, struct err *e)
{
	if (!d->fs || d->no_mount || d->dir)
		return 0;
	if (asprintf(&d->dir, "/mnt/%s", d->name) < 0) {
		d->dir = NULL;
		return err_set(e, -ENOMEM, "%s: out of memory", d->opt);
	}
	return 0;
}

static int disk_dev_open(void *dev, const struct vm_dev_host *host, struct err *e)
{
	struct dev_disk *d = dev;
	struct disk_cfg c = { .opt = d->opt,
			      .path = d->path,
			      .size = d->size,
			      .overlay = d->overlay,
			      .mode = d->ro    ? DISK_RO
				      : d->cow ? DISK_COW
					       : DISK_RW };
	char *template = NULL;
	int r;

	d->index = host->index;
	d->err_fd = host->err_fd;
	if (!d->queues)
		d->queues = MIN(MAX(host->cpus, 1u), VDEV_QUEUES_MAX);
	if (!d->name[0])
		snprintf(d->name, sizeof(d->name), "disk%u", d->index);
	if (!d->serial[0])
		memcpy(d->serial, d->name, sizeof(d->serial));
	r = choose_dir(d, e);
	if (r == 0)
		r = check_others(d, host->all, e);
	if (r == 0 && !d->path && d->fs) {
		r = disk_template_get(d->fs, d->size ? d->size : SIZE_DEFAULT, host->kernel, d->opt,
				      host->err_fd, e, &template);
		c.path = template;
		c.mode = d->ro ? DISK_RO : DISK_COW;
	}
	if (r == 0)
		r = disk_open(&c, e, &d->disk);
	free(template);
	return r;
}

/* vda to vdz, then vdaa. */
static void node_name(unsigned index, char *ret, size_t size)
{
	char last = (char)('a' + index % 26);

	if (index < 26)
		snprintf(ret, size, "/dev/vd%c", last);
	else
		snprintf(ret, size, "/dev/vd%c%c", (char)('a' + index / 26 - 1), last);
}

static void disk_sandbox(void *dev, struct sandbox *s)
{
	sandbox_use(s, SANDBOX_DISK);
}

static int disk_guest(void *dev, struct buf *out)
{
	struct dev_disk *d = dev;
	char node[16];

	if (!d->dir)
		return 0;
	node_name(d->index, node, sizeof(node));
	return vm_setup_line(out, (const char *const[]){ "mount", d->fs->name, node, d->dir,
							 d->ro ? "ro" : "", NULL });
}

static const char *const *disk_needs(void *dev)
{
	const struct dev_disk *d = dev;

	return d->fs ? d->fs->modules : NULL;
}

/* --- the device ------------------------------------------------------------------------------- */

/* Once: a guest that tries again and again would fill the terminal. */
static void on_failed(void *opaque, const char *what, u64 off, int err)
{
	struct dev_disk *d = opaque;
	struct err why = { 0 };

	if (d->said)
		return;
	d->said = true;
	if (disk_check(d->disk, &why) < 0)
		dprintf(d->err_fd, "orrery: %s\n", why.msg);
	dprintf(d->err_fd, "orrery: %s: cannot %s at byte %llu: %s; the guest gets I/O errors\n",
		d->opt, what, (unsigned long long)off, strerror(-err));
}

static int disk_create(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	struct dev_disk *d = dev;
	struct virtio_blk_cfg c = { .disk = d->disk,
				    .queues = d->queues,
				    .iops = d->iops,
				    .bps = d->bps,
				    .stats = &d->stats,
				    .failed = on_failed,
				    .opaque = d };
	/* What grew or shrank while the guest was prepared will go on doing so. */
	int r = disk_kind(d->disk) == DISK_REFLINK ? 0 : disk_check(d->disk, e);

	if (r < 0)
		return r;
	memcpy(c.serial, d->serial, sizeof(c.serial));
	r = virtio_blk_new(env, &c, ret);
	return r < 0 ? err_sys(e, r, "%s: cannot create the device", d->opt) : 0;
}

static void disk_stats(void *dev, void (*line)(void *o, const char *name, u64 val), void *o)
{
	const struct dev_disk *d = dev;
	const struct virtio_blk_stats *s = &d->stats;
	const struct {
		const char *name;
		u64 val;
	} all[] = {
		{ "reads", s->reads },		 { "writes", s->writes },
		{ "flushes", s->flushes },	 { "discards", s->discards },
		{ "zeroes", s->zeroes },	 { "read_bytes", s->read_bytes },
		{ "written", s->written_bytes }, { "delayed", s->delayed },
		{ "refused", s->refused },	 { "failed", s->failed },
	};
	char name[32];

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		if (!all[i].val && i > 1)
			continue;
		snprintf(name, sizeof(name), "disk%u_%s", d->index, all[i].name);
		line(o, name, all[i].val);
	}
}

static const char *const modules[] = { "virtio_blk", NULL };

const struct vm_dev_kind vm_dev_disk = {
	.name = "disk",
	.arg = "FILE|size=SIZE",
	.help = "a disk: a raw image or a block device, or an empty one; ,ro ,cow\n"
		"(private copy) ,overlay=PATH (a copy whose changes stay there)\n"
		",fs=ext4|btrfs (is mounted at /mnt/disk0; with size= formatted) ,name=\n"
		",mount=DIR ,nomount ,serial= ,queues= ,iops= ,iops_burst= ,bps=\n"
		",bps_burst=; may be repeated",
	.modules = modules,
	.parse = disk_parse,
	.open = disk_dev_open,
	.guest = disk_guest,
	.needs = disk_needs,
	.sandbox = disk_sandbox,
	.create = disk_create,
	.stats = disk_stats,
	.free = disk_dev_free,
};
