/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deb.c - takes the kernel out of a Debian kernel package
 *
 * How it works
 * A .deb (deb(5)) is an ar archive: debian-binary, control.tar.*, data.tar.*. libarchive reads
 * the outer archive; a second reader takes its input from the outer one's current member, so
 * nothing is unpacked twice or held in memory.
 *
 * Packages are hostile input. libarchive's own writer to disk follows what the archive says
 * (links, owners, modes), so files are written here instead: only names below three known
 * prefixes, only directories and regular files, each created exclusively, below a directory that
 * nobody else writes to. As no link is ever created, no name can lead outside. Sizes and
 * counts are bounded.
 */
#include "image/deb.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/filters.h"

#define DEB_BYTES_MAX (8ull << 30) /* unpacked; Debian's largest kernel package has 0.6 GiB */
#define DEB_FILES_MAX 200000u
#define DEB_CONTROL_MAX 65536u
#define DEB_BLOCK 65536u

struct deb {
	const char *path; /* for messages: its last component, as it may be a temporary file */
	int dirfd;
	struct archive *outer;
	struct deb_info info;
	bool control, image;
	unsigned files;
	struct err *e;
};

bool deb_release_valid(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-");

	return n && n < DEB_FIELD_MAX && !s[n] && s[0] != '.' && s[0] != '-';
}

static int deb_damaged(struct deb *d, struct archive *a)
{
	const char *why = a ? archive_error_string(a) : NULL;

	return err_set(d->e, -EINVAL, "%s: damaged package: %s", d->path,
		       why ? why : "unexpected end");
}

/* libarchive read callback: the bytes of the outer archive's current member. */
static la_ssize_t deb_read_member(struct archive *inner, void *opaque, const void **ret_buf)
{
	struct deb *d = opaque;
	size_t n;
	la_int64_t off;
	int r = archive_read_data_block(d->outer, ret_buf, &n, &off);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK) {
		archive_set_error(inner, EINVAL, "%s", archive_error_string(d->outer));
		return -1;
	}
	return (la_ssize_t)n;
}

static struct archive *deb_open_member(struct deb *d)
{
	struct archive *a = archive_read_new();

	if (!a)
		return NULL;
	filters_add(a);
	archive_read_support_format_tar(a);
	if (archive_read_open(a, d, NULL, deb_read_member, NULL) != ARCHIVE_OK) {
		deb_damaged(d, a);
		archive_read_free(a);
		return NULL;
	}
	return a;
}

/* Copies the value of "@key: value" in a control file (deb-control(5)). */
static void deb_field(const char *text, const char *key, char *ret)
{
	size_t n = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		size_t len;

		if (strncmp(p, key, n) || p[n] != ':')
			continue;
		p += n + 1;
		p += strspn(p, " \t");
		len = strcspn(p, " \t\r\n");
		snprintf(ret, DEB_FIELD_MAX, "%.*s", (int)MIN(len, (size_t)DEB_FIELD_MAX - 1), p);
		return;
	}
}

static int deb_control(struct deb *d)
{
	struct archive *a = deb_open_member(d);
	struct archive_entry *ent;
	char text[4096];
	int r;

	if (!a)
		return -EINVAL;
	while ((r = archive_read_next_header(a, &ent)) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(ent);
		la_ssize_t n;

		if (!name || (strcmp(name, "./control") && strcmp(name, "control")))
			continue;
		/* The fields of interest come first; a long description may be cut off. */
		n = archive_read_data(a, text, sizeof(text) - 1);
		if (n < 0) {
			r = ARCHIVE_FATAL;
			break;
		}
		text[n] = 0;
		deb_field(text, "Package", d->info.package);
		deb_field(text, "Version", d->info.version);
		deb_field(text, "Architecture", d->info.arch);
		d->control = true;
		break;
	}
	if (r != ARCHIVE_OK && r != ARCHIVE_EOF)
		r = deb_damaged(d, a);
	else
		r = 0;
	archive_read_free(a);
	if (!r && (!d->control || !d->info.package[0] || !d->info.version[0]))
		r = err_set(d->e, -EINVAL, "%s: damaged package: no package name or version",
			    d->path);
	return r;
}

/* Opens the directory that will hold the last component of @path, creating those on the way. */
static int deb_open_parent(struct deb *d, const char *path, const char **ret_name)
{
	int fd = openat(d->dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *slash;
	char part[NAME_MAX + 1];

	while (fd >= 0 && (slash = strchr(path, '/'))) {
		size_t n = (size_t)(slash - path);
		int next;

		if (n > NAME_MAX) {
			close(fd);
			return -ENAMETOOLONG;
		}
		memcpy(part, path, n);
		part[n] = 0;
		if (mkdirat(fd, part, 0777) < 0 && errno != EEXIST) {
			n = (size_t)errno;
			close(fd);
			return -(int)n;
		}
		next = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		n = (size_t)errno;
		close(fd);
		if (next < 0)
			return -(int)n;
		fd = next;
		path = slash + 1;
	}
	*ret_name = path;
	return fd < 0 ? -errno : fd;
}

/* Writes the current member of @a to @fd. */
static int deb_copy(struct deb *d, struct archive *a, int fd, const char *what)
{
	char buf[DEB_BLOCK];
	la_ssize_t n;

	while ((n = archive_read_data(a, buf, sizeof(buf))) > 0) {
		d->info.bytes += (u64)n;
		if (d->info.bytes > DEB_BYTES_MAX)
			return err_set(d->e, -EFBIG, "%s: unpacks to more than %llu GiB", d->path,
				       DEB_BYTES_MAX >> 30);
		int r = buf_write_fd(fd, buf, (size_t)n);
		if (r < 0)
			return err_sys(d->e, r, "cannot unpack %s from %s", what, d->path);
	}
	return n < 0 ? deb_damaged(d, a) : 0;
}

static int deb_write_file(struct deb *d, struct archive *a, const char *to)
{
	const char *name;
	int dir, fd, r;

	if (++d->files > DEB_FILES_MAX)
		return err_set(d->e, -EFBIG, "%s: has more than %u files", d->path, DEB_FILES_MAX);
	dir = deb_open_parent(d, to, &name);
	if (dir < 0)
		return err_sys(d->e, dir, "cannot unpack %s from %s", to, d->path);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	r = fd < 0 ? -errno : 0;
	close(dir);
	if (r < 0)
		return err_sys(d->e, r, "cannot unpack %s from %s", to, d->path);
	r = deb_copy(d, a, fd, to);
	/* Some file systems report a full disk only here. */
	if (close(fd) < 0 && !r)
		r = err_sys(d->e, -errno, "cannot unpack %s from %s", to, d->path);
	return r;
}

/* Whether every component is a plain name. */
static bool deb_path_safe(const char *p)
{
	if (strlen(p) >= PATH_MAX - 64)
		return false;
	for (;;) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

static const char *deb_after(const char *p, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(p, prefix, n) ? NULL : p + n;
}

/* Unpacks one member if it is wanted. @p has no leading "./". */
static int deb_member(struct deb *d, struct archive *a, const char *p)
{
	const char *rest = deb_after(p, "boot/vmlinuz-");
	char to[PATH_MAX];

	if (rest) {
		if (d->image)
			return err_set(d->e, -EINVAL, "%s: holds more than one kernel", d->path);
		if (!deb_release_valid(rest))
			return err_set(d->e, -EINVAL, "%s: impossible kernel release", d->path);
		snprintf(d->info.release, sizeof(d->info.release), "%s", rest);
		d->image = true;
		return deb_write_file(d, a, "image");
	}
	if (deb_after(p, "boot/config-")) {
		if (d->info.config)
			return 0;
		d->info.config = true;
		return deb_write_file(d, a, "config");
	}
	rest = deb_after(p, "lib/modules/");
	if (!rest)
		rest = deb_after(p, "usr/lib/modules/");
	if (!rest)
		return 0;
	if (!deb_path_safe(rest))
		return err_set(d->e, -EINVAL, "%s: unsafe path in the package: %s", d->path, p);
	if (snprintf(to, sizeof(to), "root/lib/modules/%s", rest) >= (int)sizeof(to))
		return err_set(d->e, -ENAMETOOLONG, "%s: a path is too long", d->path);
	d->info.modules++;
	return deb_write_file(d, a, to);
}

static int deb_data(struct deb *d)
{
	struct archive *a = deb_open_member(d);
	struct archive_entry *ent;
	int r, ret = 0;

	if (!a)
		return -EINVAL;
	while (!ret && (r = archive_read_next_header(a, &ent)) == ARCHIVE_OK) {
		const char *p = archive_entry_pathname(ent);

		if (!p || archive_entry_filetype(ent) != AE_IFREG || archive_entry_hardlink(ent))
			continue;
		while (p[0] == '.' && p[1] == '/')
			p += 2;
		ret = deb_member(d, a, p);
	}
	if (!ret && r != ARCHIVE_EOF)
		ret = deb_damaged(d, a);
	archive_read_free(a);
	if (!ret && !d->image)
		ret = err_set(d->e, -EINVAL, "%s: package %s holds no kernel (no /boot/vmlinuz-*)",
			      d->path, d->info.package);
	return ret;
}

static int deb_members(struct deb *d)
{
	struct archive_entry *ent;
	bool data = false;
	int r, ret = 0;

	while (!ret && (r = archive_read_next_header(d->outer, &ent)) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(ent);

		if (!name)
			continue;
		if (!strncmp(name, "control.tar", 11)) {
			ret = deb_control(d);
			if (!ret && strcmp(d->info.arch, "amd64"))
				ret = err_set(d->e, -ENOEXEC, "%s: a package for %s, not amd64",
					      d->path, d->info.arch);
		} else if (!strncmp(name, "data.tar", 8)) {
			/* deb(5): control comes first. */
			ret = d->control ? deb_data(d) : deb_damaged(d, NULL);
			data = true;
			break;
		}
	}
	if (!ret && !data)
		ret = deb_damaged(d, r == ARCHIVE_EOF ? NULL : d->outer);
	return ret;
}

int deb_unpack_kernel(const char *deb, const char *dir, struct err *e, struct deb_info *ret)
{
	const char *slash = strrchr(deb, '/');
	struct deb d = { .path = slash ? slash + 1 : deb, .e = e, .dirfd = -1 };
	int r;

	d.dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (d.dirfd < 0)
		return err_sys(e, -errno, "cannot open %s", dir);
	d.outer = archive_read_new();
	if (!d.outer) {
		r = err_set(e, -ENOMEM, "%s: no memory", deb);
		goto out;
	}
	archive_read_support_format_ar(d.outer);
	if (archive_read_open_filename(d.outer, deb, DEB_BLOCK) != ARCHIVE_OK)
		r = err_set(e, -EINVAL, "%s: cannot read it as a package: %s", deb,
			    archive_error_string(d.outer));
	else
		r = deb_members(&d);
	if (!r)
		*ret = d.info;
out:
	archive_read_free(d.outer);
	close(d.dirfd);
	return r;
}
