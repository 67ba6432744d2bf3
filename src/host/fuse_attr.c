// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_attr.c - attributes, extended ones too, and whose they are
 *
 * How it works
 * Under cfg.exact only what follows from the tree and from the client's requests is shown: no time
 * of status changes (it cannot be set), no blocks (they depend on the host's file system and when
 * it allocates), no size of directories, no room left on the device.
 *
 * Set-user-ID bits. The client's kernel leaves it to us (FUSE_HANDLE_KILLPRIV_V2) to drop them
 * when a file is written, truncated or given away; the host's kernel does so for ordinary users
 * only, so it is done here.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/iov.h"

#define CACHED_SECS 86400u
#define EXACT_BLOCK 4096u
#define EXACT_BLOCKS (1u << 28) /* a terabyte, all of it free */
#define XATTR_MAX 65536u

u32 fuse_valid_secs(const struct fuse *f)
{
	return f->cfg.cached ? CACHED_SECS : 1;
}

void fuse_fill_attr(struct fuse *f, const struct fnode *n, const struct statx *st,
		    struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = n->shown,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (u64)st->stx_atime.tv_sec,
		.mtime = (u64)st->stx_mtime.tv_sec,
		.ctime = (u64)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.rdev = (u32)makedev(st->stx_rdev_major, st->stx_rdev_minor),
		.blksize = st->stx_blksize,
	};
	if (!f->cfg.exact)
		return;
	if (n->type == S_IFDIR)
		ret->size = EXACT_BLOCK;
	ret->blocks = (ret->size + 511) / 512;
	ret->blksize = EXACT_BLOCK;
	ret->ctime = ret->mtime;
	ret->ctimensec = ret->mtimensec;
	/* Reading changes it behind our back where O_NOATIME is not ours to ask for. */
	if (f->cfg.ro || n->type == S_IFLNK) {
		ret->atime = ret->mtime;
		ret->atimensec = ret->mtimensec;
	}
}

void fuse_fill_entry(struct fuse *f, const struct fnode *n, const struct statx *st,
		     struct fuse_entry_out *ret)
{
	*ret = (struct fuse_entry_out){ .nodeid = n->id,
					.entry_valid = fuse_valid_secs(f),
					.attr_valid = fuse_valid_secs(f) };
	fuse_fill_attr(f, n, st, &ret->attr);
}

static int put_attr(struct freq *q, int fd)
{
	struct fuse_attr_out o = { .attr_valid = fuse_valid_secs(q->f) };
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, FUSE_STATX, &st) < 0)
		return -errno;
	fuse_fill_attr(q->f, q->node, &st, &o.attr);
	return freq_put(q, &o, sizeof(o));
}

int fuse_do_getattr(struct freq *q)
{
	struct fuse_getattr_in in;
	int r = freq_arg(q, &in, sizeof(in), 0);

	return r < 0 ? r : put_attr(q, q->node->fd);
}

/* --- changes ---------------------------------------------------------------------------------- */

void fuse_kill_suid(const struct freq *q, int fd)
{
	char path[FUSE_PROC_PATH];
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	mode = st.st_mode & 07777 & ~(mode_t)S_ISUID;
	/* Without permission to execute for the group it means mandatory locking, not privilege. */
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	fuse_proc_path(path, fd);
	if (mode != (st.st_mode & 07777))
		(void)!chmod(path, mode);
}

static int set_owner(struct freq *q, const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	if (!(in->valid & (FATTR_UID | FATTR_GID)))
		return 0;
	return fchownat(q->node->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
											    : 0;
}

static int set_size(struct freq *q, const struct fuse_setattr_in *in)
{
	struct fhandle *h = NULL;
	int fd, r;

	if (!(in->valid & FATTR_SIZE))
		return 0;
	if (in->size > INT64_MAX)
		return -EFBIG;
	if (in->valid & FATTR_FH) {
		r = fuse_fh_get(q->f, in->fh, &h);
		if (r == 0 && (h->node != q->node || h->dir))
			r = -EBADF;
		if (r < 0) {
			if (h)
				fuse_fh_put(q->f, h);
			return r;
		}
		fd = h->fd;
	} else {
		fd = fuse_reopen(q->f, q->node, O_WRONLY, 0);
		if (fd < 0)
			return fd;
	}
	r = ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
	if (h)
		fuse_fh_put(q->f, h);
	else
		close(fd);
	if (r == 0 && (in->valid & FATTR_KILL_SUIDGID))
		fuse_kill_suid(q, q->node->fd);
	if (r == 0)
		fuse_stamp(q, q->node->fd);
	return r;
}

static struct timespec one_time(const struct freq *q, bool set, bool now, u64 sec, u32 nsec)
{
	u64 t;

	if (!set)
		return (struct timespec){ .tv_nsec = UTIME_OMIT };
	if (now && q->f->cfg.exact) {
		t = q->f->cfg.now(q->f->cfg.opaque);
		return (struct timespec){ .tv_sec = (time_t)(t / 1000000000),
					  .tv_nsec = (long)(t % 1000000000) };
	}
	if (now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	return (struct timespec){ .tv_sec = (time_t)sec, .tv_nsec = MIN(nsec, 999999999u) };
}

static int set_times(struct freq *q, const struct fuse_setattr_in *in)
{
	char path[FUSE_PROC_PATH];
	struct timespec ts[2];

	if (!(in->valid & (FATTR_ATIME | FATTR_MTIME)))
		return 0;
	ts[0] = one_time(q, in->valid & FATTR_ATIME, in->valid & FATTR_ATIME_NOW, in->atime,
			 in->atimensec);
	ts[1] = one_time(q, in->valid & FATTR_MTIME, in->valid & FATTR_MTIME_NOW, in->mtime,
			 in->mtimensec);
	fuse_proc_path(path, q->node->fd);
	return utimensat(AT_FDCWD, path, ts, 0) < 0 ? -errno : 0;
}

int fuse_do_setattr(struct freq *q)
{
	struct fuse_setattr_in in;
	char path[FUSE_PROC_PATH];
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0 && q->node->hollow)
		r = -EPERM;
	if (r == 0)
		r = set_owner(q, &in);
	if (r == 0 && (in.valid & (FATTR_UID | FATTR_GID)) && (in.valid & FATTR_KILL_SUIDGID))
		fuse_kill_suid(q, q->node->fd);
	/* Of a symbolic link there is none; through /proc/self/fd that would be its target's. */
	if (r == 0 && (in.valid & FATTR_MODE)) {
		fuse_proc_path(path, q->node->fd);
		r = q->node->type == S_IFLNK	       ? -EOPNOTSUPP
		    : chmod(path, in.mode & 07777) < 0 ? -errno
						       : 0;
	}
	if (r == 0)
		r = set_size(q, &in);
	if (r == 0)
		r = set_times(q, &in);
	return r < 0 ? r : put_attr(q, q->node->fd);
}

int fuse_do_access(struct freq *q)
{
	struct fuse_access_in in;
	struct fuse_cred c;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in.mask));

	if (r < 0)
		return r;
	if (q->f->cfg.ro && (in.mask & W_OK))
		return -EROFS;
	fuse_become(q, &c);
	r = faccessat(q->node->fd, "", (int)(in.mask & (R_OK | W_OK | X_OK)),
		      AT_EMPTY_PATH | AT_EACCESS) < 0
		    ? -errno
		    : 0;
	fuse_unbecome(&c);
	return r;
}

int fuse_do_readlink(struct freq *q)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(q->node->fd, "", target, sizeof(target));

	if (q->node->type != S_IFLNK)
		return -EINVAL;
	return n < 0 ? -errno : freq_put(q, target, (size_t)n);
}

int fuse_do_statfs(struct freq *q)
{
	struct fuse_statfs_out o = { .st = { .blocks = EXACT_BLOCKS,
					     .bfree = EXACT_BLOCKS,
					     .bavail = EXACT_BLOCKS,
					     .files = EXACT_BLOCKS,
					     .ffree = EXACT_BLOCKS,
					     .bsize = EXACT_BLOCK,
					     .namelen = NAME_MAX,
					     .frsize = EXACT_BLOCK } };
	struct statvfs st;

	if (q->f->cfg.exact)
		return freq_put(q, &o, sizeof(o));
	if (fstatvfs(q->node->fd, &st) < 0)
		return -errno;
	o.st = (struct fuse_kstatfs){ .blocks = st.f_blocks,
				      .bfree = st.f_bfree,
				      .bavail = st.f_bavail,
				      .files = st.f_files,
				      .ffree = st.f_ffree,
				      .bsize = (u32)st.f_bsize,
				      .namelen = (u32)st.f_namemax,
				      .frsize = (u32)st.f_frsize };
	return freq_put(q, &o, sizeof(o));
}

/* --- extended attributes ---------------------------------------------------------------------- */

/*
 * system.* are POSIX ACLs and the like: they name users of this host, and the client did not ask
 * to interpret them.
 */
static int xattr_name(struct freq *q, char *ret)
{
	int r = freq_text(q, ret, XATTR_NAME_MAX + 1);

	if (r == 0 && (!strncmp(ret, "system.", 7) || q->node->hollow))
		r = -EOPNOTSUPP;
	return r;
}

int fuse_do_setxattr(struct freq *q)
{
	/* The longer form is only sent if FUSE_SETXATTR_EXT was negotiated. */
	struct {
		u32 size, flags;
	} in;
	char name[XATTR_NAME_MAX + 1], path[FUSE_PROC_PATH];
	static _Thread_local u8 value[XATTR_MAX];
	int r;

	_Static_assert(sizeof(in) == FUSE_COMPAT_SETXATTR_IN_SIZE, "fuse_setxattr_in");
	r = freq_arg(q, &in, sizeof(in), sizeof(in));
	if (r == 0)
		r = xattr_name(q, name);
	if (r < 0)
		return r;
	if (in.size > XATTR_MAX)
		return -E2BIG;
	r = freq_arg(q, value, in.size, in.size);
	if (r < 0)
		return r;
	fuse_proc_path(path, q->node->fd);
	return setxattr(path, name, value, in.size, (int)in.flags) < 0 ? -errno : 0;
}

static int put_xattr(struct freq *q, u32 size, ssize_t n, const void *value)
{
	struct fuse_getxattr_out o = { .size = (u32)n };

	if (n < 0)
		return -errno;
	return size ? freq_put(q, value, (size_t)n) : freq_put(q, &o, sizeof(o));
}

int fuse_do_getxattr(struct freq *q)
{
	struct fuse_getxattr_in in;
	char name[XATTR_NAME_MAX + 1], path[FUSE_PROC_PATH];
	static _Thread_local u8 value[XATTR_MAX];
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0)
		r = xattr_name(q, name);
	if (r < 0)
		return r;
	fuse_proc_path(path, q->node->fd);
	return put_xattr(
		q, in.size,
		getxattr(path, name, in.size ? value : NULL, MIN((size_t)in.size, sizeof(value))),
		value);
}

int fuse_do_listxattr(struct freq *q)
{
	struct fuse_getxattr_in in;
	char path[FUSE_PROC_PATH];
	static _Thread_local char list[XATTR_MAX];
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	if (q->node->hollow)
		return -EOPNOTSUPP;
	fuse_proc_path(path, q->node->fd);
	return put_xattr(q, in.size,
			 listxattr(path, in.size ? list : NULL, MIN((size_t)in.size, sizeof(list))),
			 list);
}

int fuse_do_removexattr(struct freq *q)
{
	char name[XATTR_NAME_MAX + 1], path[FUSE_PROC_PATH];
	int r = xattr_name(q, name);

	if (r < 0)
		return r;
	fuse_proc_path(path, q->node->fd);
	return removexattr(path, name) < 0 ? -errno : 0;
}
