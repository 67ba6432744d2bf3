// SPDX-License-Identifier: Apache-2.0
/*
 * fuse_file.c - data: between the file and the client's memory, without a copy in between
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/iov.h"

#define PIECES 256u
#define COPY_MAX (64u << 20) /* one request does not keep a worker longer than this takes */

enum how { READ, READ_NOWAIT, WRITE, APPEND };

/* Moves up to @len bytes between @fd and @iov at @at. How many, or a negative errno. */
static s64 transfer(int fd, enum how how, const struct iovec *iov, unsigned n, size_t at,
		    size_t len, u64 offset)
{
	struct iovec piece[PIECES];
	size_t done = 0;

	if (offset > INT64_MAX - len)
		return -EINVAL;
	while (done < len) {
		size_t part;
		unsigned k = iov_slice(iov, n, at + done, len - done, piece, PIECES, &part);
		ssize_t got;

		if (!part)
			break;
		got = how <= READ_NOWAIT ? preadv2(fd, piece, (int)k, (off_t)(offset + done),
						   how == READ_NOWAIT ? RWF_NOWAIT : 0)
					 : pwritev2(fd, piece, (int)k, (off_t)(offset + done),
						    how == APPEND ? RWF_APPEND : 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return done ? (s64)done : -errno;
		done += (size_t)got;
		if ((size_t)got < part)
			break;
	}
	return (s64)done;
}

/* Whether a read of @n bytes at @offset came to the file's end. */
static bool at_end(int fd, u64 offset, s64 n)
{
	struct stat st;

	return n >= 0 && fstat(fd, &st) == 0 && offset + (u64)n >= (u64)st.st_size;
}

int fuse_do_read(struct freq *q)
{
	struct fuse_read_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));
	size_t want;
	s64 n;

	if (r < 0)
		return r;
	want = MIN((size_t)in.size, q->room);
	n = transfer(q->fh->fd, q->r->nowait ? READ_NOWAIT : READ, q->r->in, q->r->n_in,
		     sizeof(struct fuse_out_header), want, in.offset);
	/* Short: at the end of the file, or of what is in memory. */
	if (q->r->nowait && (n < 0 || (size_t)n < want) && !at_end(q->fh->fd, in.offset, n)) {
		q->r->blocked = true;
		return 0;
	}
	if (n < 0)
		return (int)n;
	q->len = (size_t)n;
	pthread_mutex_lock(&q->f->lock);
	q->f->stat.read_bytes += (u64)n;
	pthread_mutex_unlock(&q->f->lock);
	return 0;
}

int fuse_do_write(struct freq *q)
{
	struct fuse_write_out o = { 0 };
	struct fuse_write_in in;
	enum how how = WRITE;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));
	s64 n;

	if (r < 0)
		return r;
	if (in.size > q->end - q->at)
		return -EINVAL;
	if (in.write_flags & FUSE_WRITE_KILL_SUIDGID)
		fuse_kill_suid(q, q->fh->fd);
	/* To the end as it is now, on the host: unless the client writes back what it had cached. */
	if ((in.flags & O_APPEND) && !(in.write_flags & FUSE_WRITE_CACHE) &&
	    !(q->f->flags & FUSE_WRITEBACK_CACHE))
		how = APPEND;
	n = transfer(q->fh->fd, how, q->r->out, q->r->n_out, q->at, in.size, in.offset);
	if (n < 0)
		return (int)n;
	fuse_stamp(q, q->fh->fd);
	pthread_mutex_lock(&q->f->lock);
	q->f->stat.written_bytes += (u64)n;
	pthread_mutex_unlock(&q->f->lock);
	o.size = (u32)n;
	return freq_put(q, &o, sizeof(o));
}

int fuse_do_release(struct freq *q)
{
	struct fuse_release_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	if (in.release_flags & FUSE_RELEASE_FLOCK_UNLOCK)
		flock(q->fh->fd, LOCK_UN);
	fuse_fh_close(q->f, q->fh);
	return 0;
}

/* A close(2) of the client's; there may be more before RELEASE. */
int fuse_do_flush(struct freq *q)
{
	struct fuse_flush_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in)), fd;

	if (r < 0)
		return r;
	/* Nothing can be left to write, nor locks: it need not tell us. */
	if (q->f->cfg.ro)
		return -ENOSYS;
	fuse_locker_end(q->f, q->node, in.lock_owner);
	/* Network file systems and quotas report failed writes at close(2). */
	fd = dup(q->fh->fd);
	return fd < 0 || close(fd) < 0 ? -errno : 0;
}

int fuse_do_fsync(struct freq *q)
{
	struct fuse_fsync_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	r = in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(q->fh->fd) : fsync(q->fh->fd);
	return r < 0 ? -errno : 0;
}

int fuse_do_syncfs(struct freq *q)
{
	int fd, r;

	if (q->f->cfg.ro)
		return 0;
	fd = fuse_reopen(q->f, q->f->root, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	r = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int fuse_do_fallocate(struct freq *q)
{
	const u32 known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |
			  FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;
	struct fuse_fallocate_in in;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	if (in.mode & ~known)
		return -EOPNOTSUPP;
	if (fallocate(q->fh->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0)
		return -errno;
	/* These requests have no flag that says so; root keeps them (CAP_FSETID). */
	if (q->h.uid)
		fuse_kill_suid(q, q->fh->fd);
	fuse_stamp(q, q->fh->fd);
	return 0;
}

int fuse_do_lseek(struct freq *q)
{
	struct fuse_lseek_out o;
	struct fuse_lseek_in in;
	struct stat st;
	off_t at;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r < 0)
		return r;
	if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE)
		return -EINVAL;
	if (q->f->cfg.exact) {
		/* Where the host has holes is its own affair: none is always true. */
		if (fstat(q->fh->fd, &st) < 0)
			return -errno;
		if (in.offset >= (u64)st.st_size)
			return -ENXIO;
		o.offset = in.whence == SEEK_DATA ? in.offset : (u64)st.st_size;
		return freq_put(q, &o, sizeof(o));
	}
	at = lseek(q->fh->fd, (off_t)in.offset, (int)in.whence);
	if (at < 0)
		return -errno;
	o.offset = (u64)at;
	return freq_put(q, &o, sizeof(o));
}

int fuse_do_copy_file_range(struct freq *q)
{
	struct fuse_write_out o = { 0 };
	struct fuse_copy_file_range_in in;
	struct fhandle *to;
	loff_t from_at, to_at;
	ssize_t n;
	int r = freq_arg(q, &in, sizeof(in), sizeof(in));

	if (r == 0 && in.flags)
		r = -EINVAL;
	if (r == 0)
		r = fuse_fh_get(q->f, in.fh_out, &to);
	if (r < 0)
		return r;
	if (to->dir || to->node->id != in.nodeid_out) {
		fuse_fh_put(q->f, to);
		return -EBADF;
	}
	from_at = (loff_t)in.off_in;
	to_at = (loff_t)in.off_out;
	n = copy_file_range(q->fh->fd, &from_at, to->fd, &to_at, MIN(in.len, (u64)COPY_MAX), 0);
	if (n < 0)
		/* Between file systems: the client's kernel copies by itself. */
		r = errno == EXDEV ? -EOPNOTSUPP : -errno;
	else
		fuse_stamp(q, to->fd);
	if (n > 0 && q->h.uid)
		fuse_kill_suid(q, to->fd);
	fuse_fh_put(q->f, to);
	o.size = (u32)MAX(n, (ssize_t)0);
	return r < 0 ? r : freq_put(q, &o, sizeof(o));
}
