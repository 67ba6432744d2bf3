// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_name.c - names: look-up, creation, removal, renaming
 *
 * Every name is one component (freq_name sees to that) in a directory of which we hold a
 * descriptor, and no call follows a link at its end.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* --- what all have in common ------------------------------------------------------------------ */

static int dir_ok(const struct freq *q)
{
	return q->node->type != S_IFDIR ? -ENOTDIR : q->node->hollow ? -EPERM : 0;
}

/* Under cfg.exact: what was just created, and the directory it is in. */
static void stamp_new(const struct freq *q, const char *name)
{
	struct timespec ts[2];
	u64 now;

	if (!q->f->cfg.exact)
		return;
	now = q->f->cfg.now(q->f->cfg.opaque);
	ts[0].tv_sec = ts[1].tv_sec = (time_t)(now / 1000000000);
	ts[0].tv_nsec = ts[1].tv_nsec = (long)(now % 1000000000);
	(void)!utimensat(q->node->fd, name, ts, AT_SYMLINK_NOFOLLOW);
	fuse_stamp(q, q->node->fd);
}

/* Replies with the node of @name. */
static int put_entry(struct freq *q, const char *name, bool created)
{
	struct fuse_entry_out o;
	struct fnode *n;
	struct statx st;
	int r = fuse_node_look(q->f, q->node, name, created, &n, &st);

	if (r < 0)
		return r;
	fuse_fill_entry(q->f, n, &st, &o);
	r = freq_put(q, &o, sizeof(o));
	if (r < 0)
		fuse_node_forget(q->f, n->id, 1);
	fuse_node_put(q->f, n);
	return r;
}

int fuse_do_lookup(struct freq *q)
{
	struct fuse_entry_out none = { .entry_valid = fuse_valid_secs(q->f) };
	char name[NAME_MAX + 1];
	int r = freq_name(q, name);

	if (r == 0)
		r = put_entry(q, name, false);
	/* Node 0: there is nothing, and that may be remembered. */
	return r == -ENOENT ? freq_put(q, &none, sizeof(none)) : r;
}

int fuse_do_forget(struct freq *q)
{
	struct fuse_forget_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0)
		fuse_node_forget(q->f, q->h.nodeid, in.nlookup);
	return r;
}

int fuse_do_batch_forget(struct freq *q)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	/* Bounded by the request's length, whatever the count says. */
	for (u32 i = 0; r == 0 && i < in.count; i++) {
		r = freq_arg(q, &one, sizeof(one), sizeof(one));
		if (r == 0)
			fuse_node_forget(q->f, one.nodeid, one.nlookup);
	}
	return r;
}

/* --- creation --------------------------------------------------------------------------------- */

int fuse_do_mkdir(struct freq *q)
{
	struct fuse_mkdir_in in;
	char name[NAME_MAX + 1];
	struct fuse_cred c;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0)
		r = freq_name(q, name);
	if (r == 0)
		r = dir_ok(q);
	if (r < 0)
		return r;
	fuse_become(q, &c);
	r = mkdirat(q->node->fd, name, in.mode & 07777) < 0 ? -errno : 0;
	fuse_unbecome(&c);
	if (r < 0)
		return r;
	stamp_new(q, name);
	return put_entry(q, name, true);
}

int fuse_do_mknod(struct freq *q)
{
	struct fuse_mknod_in in;
	char name[NAME_MAX + 1];
	struct fuse_cred c;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0)
		r = freq_name(q, name);
	if (r == 0)
		r = dir_ok(q);
	if (r < 0)
		return r;
	/*
	 * A node for a device would open the host's. Not so 0:0, by which overlay file systems mark
	 * what was deleted.
	 */
	if (!S_ISREG(in.mode) && !S_ISFIFO(in.mode) && !S_ISSOCK(in.mode) &&
	    !(S_ISCHR(in.mode) && in.rdev == 0))
		return -EPERM;
	fuse_become(q, &c);
	r = mknodat(q->node->fd, name, in.mode & (S_IFMT | 07777), 0) < 0 ? -errno : 0;
	fuse_unbecome(&c);
	if (r < 0)
		return r;
	stamp_new(q, name);
	return put_entry(q, name, true);
}

int fuse_do_symlink(struct freq *q)
{
	char name[NAME_MAX + 1], target[PATH_MAX];
	struct fuse_cred c;
	int r = freq_name(q, name);

	if (r == 0)
		r = freq_text(q, target, sizeof(target));
	if (r == 0)
		r = dir_ok(q);
	if (r < 0)
		return r;
	fuse_become(q, &c);
	r = symlinkat(target, q->node->fd, name) < 0 ? -errno : 0;
	fuse_unbecome(&c);
	if (r < 0)
		return r;
	stamp_new(q, name);
	return put_entry(q, name, true);
}

int fuse_do_link(struct freq *q)
{
	char name[NAME_MAX + 1], path[FUSE_PROC_PATH];
	struct fuse_link_in in;
	struct fnode *old;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0)
		r = freq_name(q, name);
	if (r == 0)
		r = dir_ok(q);
	if (r == 0)
		r = fuse_node_get(q->f, in.oldnodeid, &old);
	if (r < 0)
		return r;
	fuse_proc_path(path, old->fd);
	/* With AT_EMPTY_PATH it would need a capability. */
	r = linkat(AT_FDCWD, path, q->node->fd, name, AT_SYMLINK_FOLLOW) < 0
		    ? fuse_refusal(old, -errno)
		    : 0;
	if (r == 0)
		fuse_stamp(q, q->node->fd);
	fuse_node_put(q->f, old);
	return r < 0 ? r : put_entry(q, name, false);
}

/* --- removal and renaming --------------------------------------------------------------------- */

static int remove_name(struct freq *q, int flags)
{
	char name[NAME_MAX + 1];
	int r = freq_name(q, name);

	if (r == 0)
		r = dir_ok(q);
	if (r == 0 && unlinkat(q->node->fd, name, flags) < 0)
		r = -errno;
	if (r == 0)
		fuse_stamp(q, q->node->fd);
	return r;
}

int fuse_do_unlink(struct freq *q)
{
	return remove_name(q, 0);
}

int fuse_do_rmdir(struct freq *q)
{
	return remove_name(q, AT_REMOVEDIR);
}

static int move(struct freq *q, u64 to, u32 flags)
{
	char from_name[NAME_MAX + 1], to_name[NAME_MAX + 1];
	struct fnode *dir;
	int r = freq_name(q, from_name);

	if (r == 0)
		r = freq_name(q, to_name);
	if (r == 0)
		r = dir_ok(q);
	if (r == 0)
		r = fuse_node_get(q->f, to, &dir);
	if (r < 0)
		return r;
	if (dir->type != S_IFDIR)
		r = -ENOTDIR;
	else if (dir->hollow)
		r = -EPERM;
	else if (renameat2(q->node->fd, from_name, dir->fd, to_name, flags) < 0)
		r = -errno;
	if (r == 0) {
		fuse_stamp(q, q->node->fd);
		fuse_stamp(q, dir->fd);
	}
	fuse_node_put(q->f, dir);
	return r;
}

int fuse_do_rename(struct freq *q)
{
	struct fuse_rename_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	return r < 0 ? r : move(q, in.newdir, 0);
}

int fuse_do_rename2(struct freq *q)
{
	struct fuse_rename2_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0 && in.flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		r = -EINVAL;
	return r < 0 ? r : move(q, in.newdir, in.flags);
}

/* --- opening ---------------------------------------------------------------------------------- */

/*
 * Without O_APPEND: the client may write back a page of a mapping through any handle of the file,
 * and that must go where it belongs. See fuse_do_write.
 */
static int open_flags(const struct fuse *f, u32 asked)
{
	int flags = (int)(asked & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC));

	/* Pages that are written in part are read first. */
	if ((f->flags & FUSE_WRITEBACK_CACHE) && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags;
}

static bool wants_change(u32 flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

/* A file that exists. A descriptor or negative errno. */
static int open_node(struct freq *q, const struct fnode *n, u32 asked)
{
	int flags = open_flags(q->f, asked), fd;

	if (n->type == S_IFDIR)
		return -EISDIR;
	if (q->f->cfg.ro && wants_change(asked))
		return -EROFS;
	fd = fuse_reopen(q->f, n, flags, 0);
	/* A file that may be written and not read. */
	if (fd == -EACCES && (flags & O_ACCMODE) != (int)(asked & O_ACCMODE))
		fd = fuse_reopen(q->f, n, (flags & ~O_ACCMODE) | (int)(asked & O_ACCMODE), 0);
	return fd;
}

/* Whether the file is as it was when it was last opened, by statx as of now. */
static bool unchanged(struct fuse *f, struct fnode *n, int fd)
{
	struct statx st;
	bool same;

	if (statx(fd, "", AT_EMPTY_PATH, FUSE_STATX, &st) < 0)
		return false;
	pthread_mutex_lock(&f->lock);
	same = n->seen.mtime == st.stx_mtime.tv_sec && n->seen.mtime_ns == st.stx_mtime.tv_nsec &&
	       n->seen.ctime == st.stx_ctime.tv_sec && n->seen.ctime_ns == st.stx_ctime.tv_nsec &&
	       n->seen.size == st.stx_size;
	n->seen.mtime = st.stx_mtime.tv_sec;
	n->seen.mtime_ns = st.stx_mtime.tv_nsec;
	n->seen.ctime = st.stx_ctime.tv_sec;
	n->seen.ctime_ns = st.stx_ctime.tv_nsec;
	n->seen.size = st.stx_size;
	pthread_mutex_unlock(&f->lock);
	return same;
}

/* The handle of an opened file; takes @fd. @entry (may be NULL) goes before it in the reply. */
static int put_open(struct freq *q, struct fnode *n, int fd, const struct fuse_entry_out *entry)
{
	bool keep = q->f->cfg.cached || unchanged(q->f, n, fd);
	struct fuse_open_out o = { .open_flags = keep ? FOPEN_KEEP_CACHE : 0 };
	struct fhandle *h;
	int r = fuse_fh_new(q->f, n, fd, false, &o.fh);

	if (r < 0) {
		close(fd);
		return r;
	}
	if (entry)
		r = freq_put(q, entry, sizeof(*entry));
	if (r == 0)
		r = freq_put(q, &o, sizeof(o));
	if (r < 0 && fuse_fh_get(q->f, o.fh, &h) == 0) {
		fuse_fh_close(q->f, h);
		fuse_fh_put(q->f, h);
	}
	return r;
}

int fuse_do_open(struct freq *q)
{
	struct fuse_open_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in)), fd;

	if (r < 0)
		return r;
	fd = open_node(q, q->node, in.flags);
	if (fd < 0)
		return fd;
	if (in.flags & O_TRUNC) {
		if (in.open_flags & FUSE_OPEN_KILL_SUIDGID)
			fuse_kill_suid(q, fd);
		fuse_stamp(q, fd);
	}
	return put_open(q, q->node, fd, NULL);
}

/* Replies with node @n of state @st, of which @fd (taken) is open. Takes the reference to @n. */
static int put_entry_open(struct freq *q, struct fnode *n, const struct statx *st, int fd)
{
	struct fuse_entry_out entry;
	int r;

	fuse_fill_entry(q->f, n, st, &entry);
	r = put_open(q, n, fd, &entry);
	if (r < 0)
		fuse_node_forget(q->f, n->id, 1);
	fuse_node_put(q->f, n);
	return r;
}

/* Replies with the node of @name, of which @fd (taken) is open. */
static int put_created(struct freq *q, const char *name, bool created, int fd)
{
	struct fnode *n;
	struct statx st;
	int r = fuse_node_look(q->f, q->node, name, created, &n, &st);

	if (r < 0) {
		close(fd);
		return r;
	}
	return put_entry_open(q, n, &st, fd);
}

/* There was something already: it is opened as OPEN would. */
static int create_open(struct freq *q, const char *name, u32 flags)
{
	struct fnode *n;
	struct statx st;
	struct stat sb;
	int r = fuse_node_look(q->f, q->node, name, false, &n, &st), fd;

	if (r < 0)
		return r;
	fd = open_node(q, n, flags);
	/* The reply names what was opened, even if the name means something else by now. */
	if (fd >= 0 && fstat(fd, &sb) == 0 && sb.st_size == 0 && (flags & O_TRUNC))
		fuse_stamp(q, fd);
	if (fd < 0) {
		r = fd;
	} else {
		struct fuse_entry_out entry;

		if (statx(fd, "", AT_EMPTY_PATH, FUSE_STATX, &st) < 0)
			r = -errno;
		fuse_fill_entry(q->f, n, &st, &entry);
		if (r == 0)
			r = put_open(q, n, fd, &entry);
		else
			close(fd);
	}
	if (r < 0)
		fuse_node_forget(q->f, n->id, 1);
	fuse_node_put(q->f, n);
	return r;
}

int fuse_do_create(struct freq *q)
{
	struct fuse_create_in in;
	char name[NAME_MAX + 1];
	struct fuse_cred c;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in)), fd;

	if (r == 0)
		r = freq_name(q, name);
	if (r == 0)
		r = dir_ok(q);
	if (r < 0)
		return r;
	fuse_become(q, &c);
	fd = openat(q->node->fd, name,
		    open_flags(q->f, in.flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC |
			    O_NONBLOCK | O_NOCTTY,
		    in.mode & 07777);
	r = fd < 0 ? -errno : 0;
	fuse_unbecome(&c);
	if (r == -EEXIST && !(in.flags & O_EXCL))
		return create_open(q, name, in.flags);
	if (r < 0)
		return r;
	stamp_new(q, name);
	return put_created(q, name, true, fd);
}

/* A file without a name, though LINK may give it one. The name in the request means nothing. */
int fuse_do_tmpfile(struct freq *q)
{
	struct fuse_create_in in;
	struct fuse_cred c;
	struct fnode *n;
	struct statx st;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in)), fd;

	if (r == 0)
		r = dir_ok(q);
	if (r < 0)
		return r;
	fuse_become(q, &c);
	fd = fuse_reopen(q->f, q->node, O_RDWR | O_TMPFILE, in.mode & 07777);
	fuse_unbecome(&c);
	if (fd < 0)
		return fd;
	fuse_stamp(q, fd);
	r = fuse_node_of(q->f, fd, &n, &st);
	if (r < 0) {
		close(fd);
		return r;
	}
	return put_entry_open(q, n, &st, fd);
}
