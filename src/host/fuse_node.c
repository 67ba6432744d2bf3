// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_node.c - nodes: files that the client knows, their descriptors
 *
 * How it works
 * A node stands for one file, whatever its names: it is found by device, inode number and mount. It
 * lives until the client has forgotten it as often as it was given it, and nothing uses it. Its
 * O_PATH descriptor keeps the host's inode, so the number cannot come to mean another file.
 *
 * A client may know more files than we may have descriptors. Then those least recently used are
 * closed; they are opened again by their file handle (open_by_handle_at(2)), which names the
 * generation of the inode too: if the file is gone, the answer is ESTALE. That needs a capability
 * and a file system that has such handles; where they are missing, look-ups fail with ENFILE
 * when descriptors run out. While a node has no descriptor its inode number may be used anew, so
 * a file that is found by number is then compared by handle.
 *
 * A file that was opened by handle may have no place in the tree of names as far as the host knows,
 * if it has forgotten it meanwhile. Landlock, which judges by place, then refuses to open it
 * (vm/sandbox). So such a refusal is ESTALE, on which the client's kernel looks the name up again,
 * and that look-up puts a descriptor that was opened by name in the place of the other.
 *
 * Numbers of nodes are never used again: a stale one means nothing rather than something else.
 *
 * What the client sees as an inode number is the host's, mixed with the device where that is not
 * the root's. Under cfg.exact it is the order in which files were first seen.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EVICT_TRIES 32u
#define TAB_MIN 64u

/* A file's number under cfg.exact. */
struct number {
	struct flink link;
	u64 dev, ino, shown;
};

/* --- hash tables ------------------------------------------------------------------------------ */

u64 fuse_hash(u64 a, u64 b)
{
	u64 z = a * 0x9e3779b97f4a7c15ull ^ b;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static int tab_grow(struct ftab *t)
{
	u32 size = t->size ? 2 * t->size : TAB_MIN;
	struct flink **slot = calloc(size, sizeof(struct flink *));

	if (!slot)
		return -ENOMEM;
	for (u32 i = 0; i < t->size; i++)
		for (struct flink *l = t->slot[i], *next; l; l = next) {
			struct flink **at = &slot[l->hash & (size - 1)];

			next = l->next;
			l->next = *at;
			*at = l;
		}
	free(t->slot);
	t->slot = slot;
	t->size = size;
	return 0;
}

int ftab_add(struct ftab *t, struct flink *l, u64 hash)
{
	struct flink **at;

	if (t->n == t->size && tab_grow(t) < 0 && !t->size)
		return -ENOMEM;
	at = &t->slot[hash & (t->size - 1)];
	l->hash = hash;
	l->next = *at;
	*at = l;
	t->n++;
	return 0;
}

void ftab_del(struct ftab *t, struct flink *l)
{
	struct flink **at = &t->slot[l->hash & (t->size - 1)];

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	t->n--;
}

struct flink *ftab_next(const struct flink *l)
{
	struct flink *next = l->next;

	while (next && next->hash != l->hash)
		next = next->next;
	return next;
}

struct flink *ftab_first(const struct ftab *t, u64 hash)
{
	struct flink *l = t->size ? t->slot[hash & (t->size - 1)] : NULL;

	return l && l->hash != hash ? ftab_next(&(struct flink){ .next = l, .hash = hash }) : l;
}

static void tab_fini(struct ftab *t)
{
	free(t->slot);
	*t = (struct ftab){ 0 };
}

/* --- numbers for the client ------------------------------------------------------------------- */

static struct number *find_number(struct fuse *f, u64 dev, u64 ino)
{
	struct flink *l = ftab_first(&f->numbers, fuse_hash(dev, ino));

	for (; l; l = ftab_next(l)) {
		struct number *n = container_of(l, struct number, link);

		if (n->dev == dev && n->ino == ino)
			return n;
	}
	return NULL;
}

static u64 shown_locked(struct fuse *f, u64 dev, u64 ino, bool anew)
{
	struct number *n;

	if (!f->cfg.exact)
		return dev == f->root_dev ? ino : fuse_hash(dev, ino) >> 1;
	n = find_number(f, dev, ino);
	if (n && anew)
		n->shown = ++f->next_shown;
	if (n)
		return n->shown;
	n = calloc(1, sizeof(*n));
	if (!n || ftab_add(&f->numbers, &n->link, fuse_hash(dev, ino)) < 0) {
		free(n);
		return ++f->next_shown;
	}
	n->dev = dev;
	n->ino = ino;
	n->shown = ++f->next_shown;
	return n->shown;
}

u64 fuse_shown(struct fuse *f, u64 dev, u64 ino)
{
	u64 shown;

	pthread_mutex_lock(&f->lock);
	shown = shown_locked(f, dev, ino, false);
	pthread_mutex_unlock(&f->lock);
	return shown;
}

/* The file is gone for good: its number will not be asked for again. */
static void drop_number(struct fuse *f, const struct fnode *n)
{
	struct number *num = f->cfg.exact ? find_number(f, n->dev, n->ino) : NULL;
	struct stat st;

	if (!num || n->fd < 0 || fstat(n->fd, &st) < 0 || st.st_nlink)
		return;
	ftab_del(&f->numbers, &num->link);
	free(num);
}

/* --- file handles ----------------------------------------------------------------------------- */

static struct file_handle *handle_of(int fd)
{
	struct file_handle *h = malloc(sizeof(*h) + MAX_HANDLE_SZ);
	int mount;

	if (!h)
		return NULL;
	h->handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", h, &mount, AT_EMPTY_PATH) < 0) {
		free(h);
		return NULL;
	}
	return h;
}

static bool same_handle(const struct file_handle *a, const struct file_handle *b)
{
	return a && b && a->handle_type == b->handle_type && a->handle_bytes == b->handle_bytes &&
	       !memcmp(a->f_handle, b->f_handle, a->handle_bytes);
}

static int mount_fd(const struct fuse *f, u64 mnt)
{
	for (unsigned i = 0; i < f->n_mounts; i++)
		if (f->mount[i].id == mnt)
			return f->mount[i].fd;
	return -1;
}

/* open_by_handle_at(2) wants a descriptor of the mount that is not O_PATH. */
static void know_mount(struct fuse *f, const struct fnode *n)
{
	int fd;

	if (n->type != S_IFDIR || f->n_mounts == FUSE_MOUNTS || mount_fd(f, n->mnt) >= 0)
		return;
	fd = fuse_reopen(f, n, O_RDONLY, 0);
	if (fd < 0)
		return;
	f->mount[f->n_mounts].id = n->mnt;
	f->mount[f->n_mounts++].fd = fd;
}

static void set_placed(struct fnode *n, bool placed)
{
	/* Directories are always opened with all that is above them (exportfs in the host's kernel). */
	__atomic_store_n(&n->unplaced, !placed && n->type != S_IFDIR, __ATOMIC_RELAXED);
}

/* --- descriptors ------------------------------------------------------------------------------ */

static void lru_add(struct fuse *f, struct fnode *n)
{
	n->older = f->newest;
	n->newer = NULL;
	*(f->newest ? &f->newest->newer : &f->oldest) = n;
	f->newest = n;
	f->n_fds++;
}

static void lru_del(struct fuse *f, struct fnode *n)
{
	*(n->newer ? &n->newer->older : &f->newest) = n->older;
	*(n->older ? &n->older->newer : &f->oldest) = n->newer;
	f->n_fds--;
}

static void lru_touch(struct fuse *f, struct fnode *n)
{
	if (f->newest == n)
		return;
	lru_del(f, n);
	lru_add(f, n);
}

static void close_node(struct fuse *f, struct fnode *n)
{
	if (n->fd < 0)
		return;
	lru_del(f, n);
	close(n->fd);
	n->fd = -1;
}

/* Makes room for one descriptor more. False: there is none. */
static bool evict(struct fuse *f)
{
	struct fnode *n = f->oldest, *newer;

	if (f->n_fds < f->cfg.fds / 2)
		return true;
	if (!f->by_handle)
		return false;
	for (unsigned i = 0; n && i < EVICT_TRIES && f->n_fds >= f->cfg.fds / 2; i++, n = newer) {
		newer = n->newer;
		if (!n->refs && n != f->root && mount_fd(f, n->mnt) >= 0) {
			if (!n->handle)
				n->handle = handle_of(n->fd);
			if (n->handle) {
				close_node(f, n);
				f->stat.evicted++;
				continue;
			}
		}
		lru_touch(f, n);
	}
	return f->n_fds < f->cfg.fds / 2;
}

static int open_node(struct fuse *f, struct fnode *n)
{
	int fd;

	if (n->fd >= 0)
		return 0;
	if (!evict(f))
		return -ENFILE;
	fd = open_by_handle_at(mount_fd(f, n->mnt), n->handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n->fd = fd;
	set_placed(n, false);
	lru_add(f, n);
	f->stat.reopened++;
	return 0;
}

/* --- references ------------------------------------------------------------------------------- */

static struct fnode *by_id(struct fuse *f, u64 id)
{
	struct flink *l = ftab_first(&f->ids, fuse_hash(id, 0));

	for (; l; l = ftab_next(l)) {
		struct fnode *n = container_of(l, struct fnode, by_id);

		if (n->id == id)
			return n;
	}
	return NULL;
}

static void unkey(struct fuse *f, struct fnode *n)
{
	if (n->keyed)
		ftab_del(&f->keys, &n->by_key);
	n->keyed = false;
}

static void free_unused(struct fuse *f, struct fnode *n)
{
	if (n->refs || n->lookups)
		return;
	fuse_lockers_drop_locked(f, n);
	drop_number(f, n);
	unkey(f, n);
	ftab_del(&f->ids, &n->by_id);
	close_node(f, n);
	free(n->handle);
	free(n);
}

int fuse_node_get(struct fuse *f, u64 id, struct fnode **ret)
{
	struct fnode *n;
	int r = -ESTALE;

	pthread_mutex_lock(&f->lock);
	n = by_id(f, id);
	if (n)
		r = open_node(f, n);
	if (r == 0) {
		n->refs++;
		lru_touch(f, n);
		*ret = n;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

void fuse_node_put_locked(struct fuse *f, struct fnode *n)
{
	n->refs--;
	free_unused(f, n);
}

void fuse_node_put(struct fuse *f, struct fnode *n)
{
	pthread_mutex_lock(&f->lock);
	fuse_node_put_locked(f, n);
	pthread_mutex_unlock(&f->lock);
}

void fuse_node_forget(struct fuse *f, u64 id, u64 count)
{
	struct fnode *n;

	pthread_mutex_lock(&f->lock);
	n = by_id(f, id);
	if (n && n != f->root) {
		n->lookups -= MIN(n->lookups, count);
		free_unused(f, n);
	}
	pthread_mutex_unlock(&f->lock);
}

void fuse_nodes_forget_all(struct fuse *f)
{
	pthread_mutex_lock(&f->lock);
	for (u32 i = 0; i < f->ids.size; i++)
		for (struct flink *l = f->ids.slot[i], *next; l; l = next) {
			struct fnode *n = container_of(l, struct fnode, by_id);

			next = l->next;
			if (n == f->root)
				continue;
			n->lookups = 0;
			free_unused(f, n);
		}
	pthread_mutex_unlock(&f->lock);
}

/* --- finding ---------------------------------------------------------------------------------- */

/* File systems in which the kernel shows itself: see fuse.c. */
static bool is_kernels_own(int fd)
{
	static const u32 types[] = {
		PROC_SUPER_MAGIC,
		SYSFS_MAGIC,
		DEVPTS_SUPER_MAGIC,
		CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC,
		TRACEFS_MAGIC,
		DEBUGFS_MAGIC,
		SECURITYFS_MAGIC,
		PSTOREFS_MAGIC,
		BPF_FS_MAGIC,
		EFIVARFS_MAGIC,
		SELINUX_MAGIC,
		SMACK_MAGIC,
		BINFMTFS_MAGIC,
		NSFS_MAGIC,
		AUTOFS_SUPER_MAGIC,
		0x62656570u /* configfs */,
		0x65735543u /* fusectl */,
		0x19800202u /* mqueue */,
		0x67596969u /* rpc_pipefs */,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if ((u32)fs.f_type == types[i])
			return true;
	return false;
}

static struct fnode *by_key(struct fuse *f, const struct statx *st)
{
	u64 dev = fuse_stx_dev(st);
	struct flink *l = ftab_first(&f->keys, fuse_hash(dev, st->stx_ino));

	for (; l; l = ftab_next(l)) {
		struct fnode *n = container_of(l, struct fnode, by_key);

		if (n->dev == dev && n->ino == st->stx_ino && n->mnt == st->stx_mnt_id)
			return n;
	}
	return NULL;
}

static int add_node(struct fuse *f, int fd, const struct statx *st, bool created, bool hollow,
		    struct fnode **ret)
{
	struct fnode *n;
	int r;

	if (f->ids.n >= FUSE_NODES_MAX || !evict(f))
		return -ENFILE;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->id = f->next_id;
	n->dev = fuse_stx_dev(st);
	n->ino = st->stx_ino;
	n->mnt = st->stx_mnt_id;
	n->type = st->stx_mode & S_IFMT;
	n->hollow = hollow;
	r = ftab_add(&f->ids, &n->by_id, fuse_hash(n->id, 0));
	if (r == 0) {
		r = ftab_add(&f->keys, &n->by_key, fuse_hash(n->dev, n->ino));
		if (r < 0)
			ftab_del(&f->ids, &n->by_id);
	}
	if (r < 0) {
		free(n);
		return r;
	}
	n->keyed = true;
	n->shown = shown_locked(f, n->dev, n->ino, created);
	f->next_id++;
	n->fd = fd;
	lru_add(f, n);
	if (!hollow)
		know_mount(f, n);
	*ret = n;
	return 0;
}

/* The node of @fd, which is taken. */
static int keep(struct fuse *f, int fd, const struct statx *st, bool created, bool hollow,
		struct fnode **ret)
{
	struct fnode *n = by_key(f, st);
	struct file_handle *h;
	int r;

	if (n && n->fd < 0) {
		/* Its number may have gone to another file meanwhile. */
		h = handle_of(fd);
		if (same_handle(h, n->handle) && evict(f)) {
			n->fd = fd;
			fd = -1;
			lru_add(f, n);
			set_placed(n, true);
		} else {
			unkey(f, n);
			n = NULL;
		}
		free(h);
	} else if (n) {
		/* Others may be using the number just now: it goes on meaning this file. */
		if (n->unplaced && dup3(fd, n->fd, O_CLOEXEC) >= 0)
			set_placed(n, true);
		close(fd);
		fd = -1;
	}
	if (!n) {
		r = add_node(f, fd, st, created, hollow, &n);
		if (r < 0) {
			close(fd);
			return r;
		}
	}
	n->lookups++;
	n->refs++;
	*ret = n;
	return 0;
}

static int open_name(int dir, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int fuse_node_look(struct fuse *f, struct fnode *dir, const char *name, bool created,
		   struct fnode **ret, struct statx *ret_st)
{
	struct statx st;
	struct fnode *n;
	bool hollow;
	int fd, r;

	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	if (dir->hollow)
		return -ENOENT;
	/* Most look-ups are of what is known, and need no descriptor. */
	if (statx(dir->fd, name, AT_SYMLINK_NOFOLLOW, FUSE_STATX, &st) < 0)
		return -errno;
	pthread_mutex_lock(&f->lock);
	n = created ? NULL : by_key(f, &st);
	if (n && n->fd >= 0 && !n->unplaced) {
		n->lookups++;
		n->refs++;
		lru_touch(f, n);
		pthread_mutex_unlock(&f->lock);
		*ret = n;
		*ret_st = st;
		return 0;
	}
	pthread_mutex_unlock(&f->lock);
	fd = open_name(dir->fd, name);
	if (fd < 0)
		return fd;
	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, FUSE_STATX, &st) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	hollow = fuse_stx_dev(&st) != dir->dev && is_kernels_own(fd);
	if (hollow && !S_ISDIR(st.stx_mode)) {
		close(fd);
		return -ENOENT;
	}
	pthread_mutex_lock(&f->lock);
	r = keep(f, fd, &st, created, hollow, ret);
	pthread_mutex_unlock(&f->lock);
	if (r == 0)
		*ret_st = st;
	return r;
}

int fuse_node_of(struct fuse *f, int fd, struct fnode **ret, struct statx *ret_st)
{
	char path[FUSE_PROC_PATH];
	struct statx st;
	int node, r;

	fuse_proc_path(path, fd);
	node = open(path, O_PATH | O_CLOEXEC);
	if (node < 0 || statx(node, "", AT_EMPTY_PATH, FUSE_STATX, &st) < 0) {
		r = -errno;
		if (node >= 0)
			close(node);
		return r;
	}
	pthread_mutex_lock(&f->lock);
	r = keep(f, node, &st, true, false, ret);
	pthread_mutex_unlock(&f->lock);
	if (r == 0)
		*ret_st = st;
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Whether nodes can be opened by handle: a capability, and the file system's doing. */
static bool test_handles(struct fuse *f)
{
	struct file_handle *h = handle_of(f->root->fd);
	int fd = h ? open_by_handle_at(mount_fd(f, f->root->mnt), h, O_PATH | O_CLOEXEC) : -1;

	free(h);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int fuse_nodes_up(struct fuse *f)
{
	struct statx st;
	int r;

	if (statx(f->cfg.root, "", AT_EMPTY_PATH, FUSE_STATX, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.stx_mode))
		return -ENOTDIR;
	if (is_kernels_own(f->cfg.root))
		return -EOPNOTSUPP;
	f->root_dev = fuse_stx_dev(&st);
	f->root_ino = st.stx_ino;
	f->next_id = FUSE_ROOT_ID;
	r = add_node(f, f->cfg.root, &st, false, false, &f->root);
	if (r < 0)
		return r;
	f->root->lookups = 1;
	f->by_handle = test_handles(f);
	return 0;
}

void fuse_nodes_down(struct fuse *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->root && f->cfg.root < 0) {
		/* The caller keeps its descriptor. */
		lru_del(f, f->root);
		f->root->fd = -1;
	}
	if (f->root)
		f->root->lookups = 0;
	f->root = NULL;
	pthread_mutex_unlock(&f->lock);
	fuse_nodes_forget_all(f);
	for (unsigned i = 0; i < f->n_mounts; i++)
		close(f->mount[i].fd);
	for (u32 i = 0; i < f->numbers.size; i++)
		for (struct flink *l = f->numbers.slot[i], *next; l; l = next) {
			next = l->next;
			free(container_of(l, struct number, link));
		}
	tab_fini(&f->numbers);
	tab_fini(&f->ids);
	tab_fini(&f->keys);
}
