// SPDX-License-Identifier: Apache-2.0
/*
 * cpio.c - composes a file tree into a reproducible newc archive
 *
 * How it works
 * The tree is a set of canonical paths in byte order (a libc red-black tree), without leading
 * slash. Byte order puts a directory before what is in it, since a prefix sorts first. Because no
 * entry lies below a symbolic link, the kernel, which creates entry after entry as it reads, never
 * meets a path whose parent does not exist yet; it would drop that file without a word.
 *
 * Every field that could vary between two runs over the same inputs is fixed: inode numbers count
 * from 1 in archive order, owner, time and device are 0. The layout is the "new ASCII format" of
 * cpio(5) and Documentation/driver-api/early-userspace/buffer-format.rst: a header of "070701" and
 * 13 fields of 8 hex digits, the name with its NUL, the data; header+name and data each padded to
 * 4 bytes. We write it ourselves: it is one printf, while libarchive's writer wants an object per
 * entry and chooses inode numbers and padding itself.
 */
#include "image/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel's MAXSYMLINKS */
#define HEAD_LEN 110u
#define TRAILER "TRAILER!!!"

struct node {
	char *path; /* canonical, no leading slash */
	u32 mode;   /* with the type bits */
	u32 major, minor;
	u8 *data;   /* file contents or link target; NULL with @host */
	char *host; /* host file to read */
	u64 len;
};

struct cpio {
	void *tree; /* of struct node, for tsearch(3) */
	u64 size;
};

static void node_free(void *p)
{
	struct node *n = p;

	if (!n)
		return;
	free(n->path);
	free(n->data);
	free(n->host);
	free(n);
}

static int node_cmp(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->path, ((const struct node *)b)->path);
}

int cpio_new(struct cpio **ret)
{
	struct cpio *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->size = ALIGN_UP(HEAD_LEN + sizeof(TRAILER), 4u);
	*ret = c;
	return 0;
}

void cpio_free(struct cpio *c)
{
	if (!c)
		return;
	tdestroy(c->tree, node_free);
	free(c);
}

static struct node *find(const struct cpio *c, const char *path)
{
	struct node key = { .path = (char *)path };
	struct node **n = tfind(&key, &c->tree, node_cmp);

	return n ? *n : NULL;
}

/* Takes @n, also on failure. */
static int insert(struct cpio *c, struct node *n)
{
	if (!tsearch(n, &c->tree, node_cmp)) {
		node_free(n);
		return -ENOMEM;
	}
	c->size += ALIGN_UP(HEAD_LEN + strlen(n->path) + 1, 4ul) + ALIGN_UP(n->len, 4ul);
	return 0;
}

static struct node *node_new(const char *path, u32 mode, const void *data, size_t len)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->path = strdup(path);
	n->mode = mode;
	n->len = len;
	n->data = malloc(len + 1); /* + 1: a link target gets its NUL */
	if (!n->path || !n->data) {
		node_free(n);
		return NULL;
	}
	if (len)
		memcpy(n->data, data, len);
	n->data[len] = 0;
	return n;
}

/* The canonical path being built and what is still to be walked. */
struct walk {
	char out[PATH_MAX];
	char rest[2 * PATH_MAX];
	unsigned links;
};

/* Puts the target of link @n in front of the rest; @n->path is at the end of w->out. */
static int walk_link(struct walk *w, const struct node *n)
{
	char rest[sizeof(w->rest)];
	char *slash;

	if (++w->links > LINKS_MAX)
		return -ELOOP;
	if ((size_t)snprintf(rest, sizeof(rest), "%s/%s", (char *)n->data, w->rest) >= sizeof(rest))
		return -ENAMETOOLONG;
	memcpy(w->rest, rest, sizeof(rest));
	slash = strrchr(w->out, '/');
	if (n->data[0] == '/' || !slash)
		w->out[0] = 0;
	else
		*slash = 0;
	return 0;
}

/* Moves the first component of the rest to the end of out; "" and "." vanish, ".." takes one off.
 * Returns 1 if there was a name, 0 if not. */
static int walk_step(struct walk *w)
{
	size_t n = strcspn(w->rest, "/");
	size_t skip = n + strspn(w->rest + n, "/");
	size_t have = strlen(w->out);
	int ret = 0;

	if (n == 2 && !memcmp(w->rest, "..", 2)) {
		char *slash = strrchr(w->out, '/');

		*(slash ? slash : w->out) = 0;
	} else if (n && !(n == 1 && w->rest[0] == '.')) {
		if (have + n + 2 > sizeof(w->out))
			return -ENAMETOOLONG;
		if (have)
			w->out[have++] = '/';
		memcpy(w->out + have, w->rest, n);
		w->out[have + n] = 0;
		ret = 1;
	}
	memmove(w->rest, w->rest + skip, strlen(w->rest + skip) + 1);
	return ret;
}

/*
 * Leaves the canonical form of @path in w->out: links in all but the last component followed.
 * With @make, missing parents become directories. 0, -ENOTDIR, -ELOOP, -ENAMETOOLONG, -ENOMEM,
 * and without @make -ENOENT.
 */
static int resolve(struct cpio *c, const char *path, bool make, struct walk *w)
{
	struct node *n;
	int ret;

	w->out[0] = 0;
	w->links = 0;
	if (path[0] != '/')
		return -EINVAL;
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(w->rest, path + strspn(path, "/"));
	for (;;) {
		ret = walk_step(w);
		if (ret < 0)
			return ret;
		if (!w->rest[0])
			return 0;
		if (!ret)
			continue;
		n = find(c, w->out);
		if (n && S_ISLNK(n->mode)) {
			ret = walk_link(w, n);
		} else if (n && !S_ISDIR(n->mode)) {
			ret = -ENOTDIR;
		} else if (!n && !make) {
			ret = -ENOENT;
		} else if (!n) {
			n = node_new(w->out, S_IFDIR | 0755, NULL, 0);
			ret = n ? insert(c, n) : -ENOMEM;
		} else {
			ret = 0;
		}
		if (ret < 0)
			return ret;
	}
}

/*
 * Resolves @path for an addition. 1 with the entry that is there already, 0 if there is none,
 * or an error with its message.
 */
static int lookup(struct cpio *c, const char *path, struct err *e, struct walk *w,
		  struct node **ret_node)
{
	int ret = resolve(c, path, true, w);
	struct node *n;

	if (!ret && !w->out[0])
		ret = -EISDIR;
	if (ret)
		return err_sys(e, ret, "cannot put %s into the initramfs", path);
	n = find(c, w->out);
	if (!n)
		return 0;
	*ret_node = n;
	return 1;
}

static int conflict(struct err *e, const char *path)
{
	return err_set(e, -EEXIST,
		       "two different files are to be %s in the guest; give one another guest path",
		       path);
}

/* Adds an entry with inline data, or accepts the identical one. */
static int add(struct cpio *c, const char *path, const struct node *want, struct err *e)
{
	struct walk w;
	struct node *n;
	int ret = lookup(c, path, e, &w, &n);

	if (ret < 0)
		return ret;
	if (ret) {
		if (n->mode == want->mode && n->len == want->len && n->data &&
		    n->major == want->major && n->minor == want->minor &&
		    !memcmp(n->data, want->data, want->len))
			return 0;
		return conflict(e, path);
	}
	n = node_new(w.out, want->mode, want->data, want->len);
	if (n) {
		n->major = want->major;
		n->minor = want->minor;
	}
	ret = n ? insert(c, n) : -ENOMEM;
	return ret ? err_sys(e, ret, "cannot put %s into the initramfs", path) : 0;
}

int cpio_dir(struct cpio *c, const char *path, unsigned mode, struct err *e)
{
	struct walk w;
	struct node *n;
	int ret;

	if (!path[strspn(path, "/")])
		return 0; /* the root itself */
	ret = lookup(c, path, e, &w, &n);
	if (ret < 0)
		return ret;
	if (ret)
		return S_ISDIR(n->mode) || S_ISLNK(n->mode) ? 0 : conflict(e, path);
	n = node_new(w.out, S_IFDIR | (mode & 07777), NULL, 0);
	ret = n ? insert(c, n) : -ENOMEM;
	return ret ? err_sys(e, ret, "cannot put %s into the initramfs", path) : 0;
}

int cpio_file(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len,
	      struct err *e)
{
	struct node want = { .mode = S_IFREG | (mode & 07777), .data = (u8 *)data, .len = len };

	return add(c, path, &want, e);
}

int cpio_symlink(struct cpio *c, const char *path, const char *target, struct err *e)
{
	struct node want = { .mode = S_IFLNK | 0777, .data = (u8 *)target, .len = strlen(target) };

	return add(c, path, &want, e);
}

int cpio_node(struct cpio *c, const char *path, unsigned mode, unsigned major, unsigned minor,
	      struct err *e)
{
	struct node want = { .mode = mode, .data = (u8 *)"", .major = major, .minor = minor };

	return add(c, path, &want, e);
}

int cpio_host_file(struct cpio *c, const char *path, const char *host, struct err *e, u64 *ret_size)
{
	struct walk w;
	struct node *n;
	struct stat sb;
	int ret;

	if (stat(host, &sb) < 0)
		return err_sys(e, -errno, "cannot pack %s", host);
	if (!S_ISREG(sb.st_mode))
		return err_set(e, -EINVAL, "cannot pack %s: not a regular file", host);
	if ((u64)sb.st_size > UINT32_MAX)
		return err_set(e, -EFBIG, "cannot pack %s: a file in an initramfs is < 4 GiB",
			       host);
	ret = lookup(c, path, e, &w, &n);
	if (ret < 0)
		return ret;
	if (ret) {
		if (!n->host || strcmp(n->host, host) != 0)
			return conflict(e, path);
		*ret_size = 0;
		return 0;
	}
	n = node_new(w.out, S_IFREG | (sb.st_mode & 07777), NULL, 0);
	if (!n)
		return -ENOMEM;
	free(n->data);
	n->data = NULL;
	n->len = (u64)sb.st_size;
	n->host = strdup(host);
	if (!n->host) {
		node_free(n);
		return -ENOMEM;
	}
	ret = insert(c, n);
	if (!ret)
		*ret_size = (u64)sb.st_size;
	return ret;
}

bool cpio_has(struct cpio *c, const char *path)
{
	struct walk w;

	return !resolve(c, path, false, &w) && find(c, w.out);
}

u64 cpio_size(const struct cpio *c)
{
	return c->size;
}

/* The archive being written, through twalk_r. */
struct writer {
	struct buf *b;
	struct err *e;
	u32 ino;
	int ret;
};

static int write_head(struct writer *w, const struct node *n, u32 ino)
{
	u32 size = (u32)n->len;
	size_t name = strlen(n->path) + 1;
	int ret;

	ret = buf_printf(w->b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ino,
			 n->mode, 0, 0, S_ISDIR(n->mode) ? 2 : 1, 0, size, 0, 0, n->major, n->minor,
			 (unsigned)name, 0);
	if (!ret)
		ret = buf_add(w->b, n->path, name);
	if (!ret)
		ret = buf_pad(w->b, 4);
	return ret;
}

/* Appends exactly n->len bytes of n->host. Not buf_read_fd, which reserves room for more: at the
 * end of the archive that would double a large buffer. */
static int write_host(struct writer *w, const struct node *n)
{
	size_t want = n->len;
	ssize_t got = 0;
	int fd, ret;

	ret = buf_reserve(w->b, want);
	if (ret)
		return ret;
	fd = open(n->host, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_sys(w->e, -errno, "cannot pack %s", n->host);
	while (want) {
		got = read(fd, w->b->data + w->b->len, want);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		w->b->len += (size_t)got;
		want -= (size_t)got;
	}
	ret = got < 0 ? -errno : 0;
	close(fd);
	if (!ret && want)
		return err_set(w->e, -EIO, "cannot pack %s: it shrank while it was read", n->host);
	return ret ? err_sys(w->e, ret, "cannot pack %s", n->host) : 0;
}

static void write_node(const void *at, VISIT visit, void *opaque)
{
	const struct node *n = *(struct node *const *)at;
	struct writer *w = opaque;

	if (w->ret || (visit != postorder && visit != leaf))
		return;
	w->ret = write_head(w, n, ++w->ino);
	if (w->ret)
		return;
	w->ret = n->host ? write_host(w, n) : buf_add(w->b, n->data, n->len);
	if (!w->ret)
		w->ret = buf_pad(w->b, 4);
}

int cpio_write(const struct cpio *c, struct err *e, struct buf *ret_buf)
{
	struct writer w = { .b = ret_buf, .e = e };
	struct node end = { .path = (char *)TRAILER };
	size_t start = ret_buf->len;

	w.ret = buf_pad(ret_buf, 4);
	if (!w.ret)
		w.ret = buf_reserve(ret_buf, c->size);
	if (!w.ret)
		twalk_r(c->tree, write_node, &w);
	if (!w.ret)
		w.ret = write_head(&w, &end, 0);
	if (w.ret) {
		ret_buf->len = start;
		if (w.ret == -ENOMEM)
			err_sys(e, w.ret, "cannot compose the initramfs (%llu bytes)",
				(unsigned long long)c->size);
	}
	return w.ret;
}
