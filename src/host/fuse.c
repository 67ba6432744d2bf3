// SPDX-License-Identifier: Apache-2.0
/*
 * fuse.c - a file server for one directory: session, dispatch, requests and replies
 *
 * How it works
 * A request is a fuse_in_header and a body of the opcode's own; a reply a fuse_out_header and a
 * body, or none (FORGET). The protocol is described by linux/fuse.h; 7.38 is spoken, which
 * includes all older minors down to 7.27 in requests, since arguments only ever grew at the end:
 * what a client did not send reads as zeros.
 *
 * Nothing of a request is used in place: arguments are copied out first, since the client can
 * change them at any time. Data goes straight between the file and the client's memory.
 *
 * Confinement. The client names files by node numbers that it was given and by single components,
 * which are looked up with openat2(2) in the node's O_PATH descriptor without following a link.
 * No path is ever built from what the client says, so neither `..`, nor a symbolic link, nor a
 * rename under our feet leads out. Nodes are opened through /proc/self/fd, regular files and
 * directories only: their type cannot change.
 *
 * Whose files. A process that is root acts with the file-system user and group of the request, but
 * keeps its capabilities: the client's kernel has checked permissions, with supplementary groups
 * that we do not know, and only the owner of what is created matters. Another process acts as
 * itself. Device nodes are not created (a guest's root is not the host's).
 *
 * What the kernel shows of itself (/proc, /sys, /dev/pts) is not shared: the mount point is an
 * empty directory. Such files block, have no size, and describe this machine.
 */
#include "host/fuse_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/iov.h"

#define WRITE_MAX (1u << 20)
#define MINOR_MIN 27u
/* The size of an init reply before flags2 and its friends came, 7.36, is the same. */
#define PAGE 4096u

enum op_flag {
	OP_NODE = 1,	  /* h.nodeid must be known: q->node */
	OP_FILE = 2,	  /* the body begins with the handle of an open file: q->fh */
	OP_DIR = 4,	  /* ... of a directory */
	OP_CHANGES = 8,	  /* refused on a read-only share */
	OP_NO_REPLY = 16, /* whatever happens */
	OP_ANY_TIME = 32, /* before INIT too */
};

static int do_init(struct freq *q);
static int do_destroy(struct freq *q);
static int do_nothing(struct freq *q);
static int do_ioctl(struct freq *q);

static const struct op {
	int (*fn)(struct freq *q);
	u8 flags;
} ops[] = {
	[FUSE_LOOKUP] = { fuse_do_lookup, OP_NODE },
	[FUSE_FORGET] = { fuse_do_forget, OP_NO_REPLY },
	[FUSE_GETATTR] = { fuse_do_getattr, OP_NODE },
	[FUSE_SETATTR] = { fuse_do_setattr, OP_NODE | OP_CHANGES },
	[FUSE_READLINK] = { fuse_do_readlink, OP_NODE },
	[FUSE_SYMLINK] = { fuse_do_symlink, OP_NODE | OP_CHANGES },
	[FUSE_MKNOD] = { fuse_do_mknod, OP_NODE | OP_CHANGES },
	[FUSE_MKDIR] = { fuse_do_mkdir, OP_NODE | OP_CHANGES },
	[FUSE_UNLINK] = { fuse_do_unlink, OP_NODE | OP_CHANGES },
	[FUSE_RMDIR] = { fuse_do_rmdir, OP_NODE | OP_CHANGES },
	[FUSE_RENAME] = { fuse_do_rename, OP_NODE | OP_CHANGES },
	[FUSE_LINK] = { fuse_do_link, OP_NODE | OP_CHANGES },
	[FUSE_OPEN] = { fuse_do_open, OP_NODE },
	[FUSE_READ] = { fuse_do_read, OP_NODE | OP_FILE },
	[FUSE_WRITE] = { fuse_do_write, OP_NODE | OP_FILE | OP_CHANGES },
	[FUSE_STATFS] = { fuse_do_statfs, OP_NODE },
	[FUSE_RELEASE] = { fuse_do_release, OP_NODE | OP_FILE },
	[FUSE_FSYNC] = { fuse_do_fsync, OP_NODE | OP_FILE },
	[FUSE_SETXATTR] = { fuse_do_setxattr, OP_NODE | OP_CHANGES },
	[FUSE_GETXATTR] = { fuse_do_getxattr, OP_NODE },
	[FUSE_LISTXATTR] = { fuse_do_listxattr, OP_NODE },
	[FUSE_REMOVEXATTR] = { fuse_do_removexattr, OP_NODE | OP_CHANGES },
	[FUSE_FLUSH] = { fuse_do_flush, OP_NODE | OP_FILE },
	[FUSE_INIT] = { do_init, OP_ANY_TIME },
	[FUSE_OPENDIR] = { fuse_do_opendir, OP_NODE },
	[FUSE_READDIR] = { fuse_do_readdir, OP_NODE | OP_DIR },
	[FUSE_RELEASEDIR] = { fuse_do_releasedir, OP_NODE | OP_DIR },
	[FUSE_FSYNCDIR] = { fuse_do_fsyncdir, OP_NODE | OP_DIR },
	[FUSE_GETLK] = { fuse_do_getlk, OP_NODE | OP_FILE },
	[FUSE_SETLK] = { fuse_do_setlk, OP_NODE | OP_FILE },
	[FUSE_SETLKW] = { fuse_do_setlk, OP_NODE | OP_FILE },
	[FUSE_ACCESS] = { fuse_do_access, OP_NODE },
	[FUSE_CREATE] = { fuse_do_create, OP_NODE | OP_CHANGES },
	[FUSE_INTERRUPT] = { do_nothing, OP_NO_REPLY },
	[FUSE_DESTROY] = { do_destroy, 0 },
	[FUSE_IOCTL] = { do_ioctl, OP_NODE },
	[FUSE_BATCH_FORGET] = { fuse_do_batch_forget, OP_NO_REPLY },
	[FUSE_FALLOCATE] = { fuse_do_fallocate, OP_NODE | OP_FILE | OP_CHANGES },
	[FUSE_READDIRPLUS] = { fuse_do_readdirplus, OP_NODE | OP_DIR },
	[FUSE_RENAME2] = { fuse_do_rename2, OP_NODE | OP_CHANGES },
	[FUSE_LSEEK] = { fuse_do_lseek, OP_NODE | OP_FILE },
	[FUSE_COPY_FILE_RANGE] = { fuse_do_copy_file_range, OP_NODE | OP_FILE | OP_CHANGES },
	[FUSE_SETUPMAPPING] = { fuse_do_setupmapping, OP_NODE },
	[FUSE_REMOVEMAPPING] = { fuse_do_removemapping, 0 },
	[FUSE_SYNCFS] = { fuse_do_syncfs, OP_NODE },
	[FUSE_TMPFILE] = { fuse_do_tmpfile, OP_NODE | OP_CHANGES },
};

/* --- requests and replies --------------------------------------------------------------------- */

int freq_arg(struct freq *q, void *ret, size_t size, size_t min)
{
	size_t n = MIN(size, q->end - q->at);

	if (n < min)
		return -EINVAL;
	memset(ret, 0, size);
	if (iov_read(q->r->out, q->r->n_out, q->at, ret, n) != n)
		return -EINVAL;
	q->at += n;
	return 0;
}

int freq_text(struct freq *q, char *ret, size_t size)
{
	size_t n = MIN(size, q->end - q->at), len;

	n = iov_read(q->r->out, q->r->n_out, q->at, ret, n);
	len = strnlen(ret, n);
	if (len == n)
		return n == size ? -ENAMETOOLONG : -EINVAL;
	q->at += len + 1;
	return 0;
}

int freq_name(struct freq *q, char *ret)
{
	int r = freq_text(q, ret, NAME_MAX + 1);

	if (r < 0)
		return r;
	if (!*ret || strchr(ret, '/') || !strcmp(ret, ".") || !strcmp(ret, ".."))
		return -EINVAL;
	return 0;
}

int freq_put(struct freq *q, const void *p, size_t n)
{
	if (n > q->room - q->len)
		return -ENOBUFS;
	iov_write(q->r->in, q->r->n_in, sizeof(struct fuse_out_header) + q->len, p, n);
	q->len += n;
	return 0;
}

static void answer(struct fuse_req *r, u64 unique, int error, size_t len)
{
	struct fuse_out_header o = { .len = (u32)(sizeof(o) + (error ? 0 : len)),
				     .error = error,
				     .unique = unique };

	iov_write(r->in, r->n_in, 0, &o, sizeof(o));
	r->written = o.len;
}

void fuse_refuse(struct fuse_req *r, int error)
{
	answer(r, r->unique, error, 0);
}

/* --- what nobody else's file is about --------------------------------------------------------- */

static int do_nothing(struct freq *q)
{
	return 0;
}

/* All of them act on the host's file system or device in ways that were never meant for a guest. */
static int do_ioctl(struct freq *q)
{
	return -ENOTTY;
}

static u32 offer(const struct fuse *f)
{
	u32 flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_DO_READDIRPLUS |
		    FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
		    FUSE_HANDLE_KILLPRIV_V2;

	flags |= f->cfg.cached ? FUSE_CACHE_SYMLINKS : FUSE_AUTO_INVAL_DATA;
	/* Locks on what nobody in the guest can change are the guest's own affair. */
	if (!f->cfg.ro)
		flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	if (!f->cfg.ro && f->cfg.cached)
		flags |= FUSE_WRITEBACK_CACHE;
	if (f->cfg.window_len)
		flags |= FUSE_MAP_ALIGNMENT;
	return flags;
}

/* What the client had. True: the window is not what it was. */
static bool forget_all(struct fuse *f)
{
	bool mapped;

	fuse_fh_close_all(f);
	mapped = fuse_unmap_all(f);
	fuse_nodes_forget_all(f);
	return mapped;
}

static bool forget_session(struct fuse *f)
{
	bool mapped = forget_all(f);

	pthread_mutex_lock(&f->lock);
	f->ready = false;
	pthread_mutex_unlock(&f->lock);
	return mapped;
}

static void window_changed(struct freq *q)
{
	q->r->map_lo = 0;
	q->r->map_hi = q->f->cfg.window_len;
}

static int do_init(struct freq *q)
{
	struct fuse *f = q->f;
	struct fuse_init_out o = { .major = FUSE_KERNEL_VERSION,
				   .minor = FUSE_KERNEL_MINOR_VERSION };
	struct fuse_init_in in;
	int r = freq_arg(q, &in, sizeof(in), offsetof(struct fuse_init_in, flags2));

	if (r < 0)
		return r;
	/* A newer major asks again with ours (linux/fuse.h, "Protocol negotiation"). */
	if (in.major > FUSE_KERNEL_VERSION)
		return freq_put(q, &o, sizeof(o));
	if (in.major < FUSE_KERNEL_VERSION || in.minor < MINOR_MIN)
		return -EPROTO;
	if (forget_all(f))
		window_changed(q);
	o.flags = in.flags & offer(f);
	o.max_readahead = MIN(in.max_readahead, WRITE_MAX);
	o.max_background = 64;
	o.congestion_threshold = 48;
	o.max_pages = o.flags & FUSE_MAX_PAGES ? WRITE_MAX / PAGE : 32;
	o.max_write = o.max_pages * PAGE;
	o.time_gran = 1;
	o.map_alignment = o.flags & FUSE_MAP_ALIGNMENT ? 12 : 0;
	r = freq_put(q, &o, sizeof(o));
	if (r < 0)
		return r;
	pthread_mutex_lock(&f->lock);
	f->flags = o.flags;
	f->ready = true;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int do_destroy(struct freq *q)
{
	if (forget_session(q->f))
		window_changed(q);
	return 0;
}

/* --- dispatch --------------------------------------------------------------------------------- */

static int take_handle(struct freq *q, bool dir)
{
	u64 value;

	if (iov_read(q->r->out, q->r->n_out, q->at, &value, sizeof(value)) != sizeof(value) ||
	    q->end - q->at < sizeof(value))
		return -EINVAL;
	if (fuse_fh_get(q->f, value, &q->fh) < 0)
		return -EBADF;
	return q->fh->dir == dir && q->fh->node == q->node ? 0 : -EBADF;
}

static int dispatch(struct freq *q, const struct op *op)
{
	struct fuse *f = q->f;
	bool ready;
	int r = 0;

	pthread_mutex_lock(&f->lock);
	ready = f->ready;
	f->stat.requests++;
	pthread_mutex_unlock(&f->lock);
	if (!op->fn)
		return -ENOSYS;
	if (!ready && !(op->flags & OP_ANY_TIME))
		return -EINVAL;
	if (f->cfg.ro && (op->flags & OP_CHANGES))
		return -EROFS;
	if (op->flags & OP_NODE)
		r = fuse_node_get(f, q->h.nodeid, &q->node);
	if (r == 0 && (op->flags & (OP_FILE | OP_DIR)))
		r = take_handle(q, op->flags & OP_DIR);
	if (r == 0)
		r = op->fn(q);
	if (q->fh)
		fuse_fh_put(f, q->fh);
	if (q->node)
		fuse_node_put(f, q->node);
	return r;
}

int fuse_serve(struct fuse *f, struct fuse_req *r)
{
	static const struct op none;
	struct freq q = { .f = f, .r = r, .at = sizeof(q.h) };
	const struct op *op = &none;
	int error;

	r->written = 0;
	r->map_lo = r->map_hi = 0;
	r->blocked = false;
	if (iov_read(r->out, r->n_out, 0, &q.h, sizeof(q.h)) != sizeof(q.h))
		return -EPROTO;
	r->unique = q.h.unique;
	if (q.h.opcode < ARRAY_LEN(ops))
		op = &ops[q.h.opcode];
	if (!(op->flags & OP_NO_REPLY) && r->in_len < sizeof(struct fuse_out_header))
		return -EPROTO;
	q.end = MIN((size_t)q.h.len, r->out_len);
	if (r->in_len > sizeof(struct fuse_out_header))
		q.room = r->in_len - sizeof(struct fuse_out_header);
	error = q.h.len < sizeof(q.h) ? -EINVAL : dispatch(&q, op);
	if (op->flags & OP_NO_REPLY || r->blocked)
		return 0;
	/* An errno beyond this is no error to Linux but a protocol breach. */
	BUG_IF(error > 0 || error < -511);
	if (error) {
		pthread_mutex_lock(&f->lock);
		f->stat.failed++;
		pthread_mutex_unlock(&f->lock);
	}
	answer(r, q.h.unique, error, q.len);
	return 0;
}

void fuse_look(const struct fuse_req *r, struct fuse_peek *ret)
{
	struct fuse_in_header h;
	struct fuse_write_in w; /* fuse_read_in has its size at the same place */

	_Static_assert(offsetof(struct fuse_write_in, size) == offsetof(struct fuse_read_in, size),
		       "READ and WRITE");
	*ret = (struct fuse_peek){ 0 };
	if (iov_read(r->out, r->n_out, 0, &h, sizeof(h)) != sizeof(h))
		return;
	ret->opcode = h.opcode;
	ret->unique = h.unique;
	if (h.opcode == FUSE_INTERRUPT)
		iov_read(r->out, r->n_out, sizeof(h), &ret->interrupts, sizeof(ret->interrupts));
	if (h.opcode == FUSE_READ)
		ret->bytes = r->in_len;
	if (h.opcode == FUSE_WRITE)
		ret->bytes = r->out_len;
	if ((h.opcode == FUSE_READ || h.opcode == FUSE_WRITE) &&
	    iov_read(r->out, r->n_out, sizeof(h), &w, sizeof(w)) == sizeof(w))
		ret->bytes = MIN(ret->bytes, (u64)w.size);
}

/* --- as whom, and when ------------------------------------------------------------------------ */

/*
 * Of this thread: its file mode mask is its own, and a change of the file-system user leaves its
 * capabilities alone (capabilities(7), SECBIT_NO_SETUID_FIXUP).
 */
static void prepare_thread(void)
{
	static _Thread_local bool done;
	int bits;

	if (done)
		return;
	done = true;
	(void)!unshare(CLONE_FS);
	bits = prctl(PR_GET_SECUREBITS);
	if (bits >= 0)
		(void)!prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP);
}

void fuse_become(const struct freq *q, struct fuse_cred *c)
{
	prepare_thread();
	c->mask = umask(0);
	c->changed = q->f->privileged && (q->h.uid || q->h.gid);
	if (!c->changed)
		return;
	/* Not by libc: it would change all threads. */
	syscall(SYS_setfsgid, q->h.gid);
	syscall(SYS_setfsuid, q->h.uid);
}

void fuse_unbecome(struct fuse_cred *c)
{
	if (c->changed) {
		syscall(SYS_setfsuid, 0);
		syscall(SYS_setfsgid, 0);
	}
	umask(c->mask);
}

void fuse_proc_path(char ret[FUSE_PROC_PATH], int fd)
{
	snprintf(ret, FUSE_PROC_PATH, "/proc/self/fd/%d", fd);
}

int fuse_reopen(struct fuse *f, const struct fnode *n, int flags, mode_t mode)
{
	char name[16];
	int fd;

	if (n->type == S_IFDIR)
		flags |= O_DIRECTORY;
	else if (n->type != S_IFREG)
		return n->type == S_IFLNK ? -ELOOP : -ENXIO;
	snprintf(name, sizeof(name), "%d", n->fd);
	flags = (flags & ~(O_NOFOLLOW | O_CREAT | O_EXCL)) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	/* To read is not to change: but only the owner, or root, may ask for it. */
	fd = openat(f->proc, name, flags | O_NOATIME, mode);
	if (fd < 0 && errno == EPERM)
		fd = openat(f->proc, name, flags, mode);
	return fd < 0 ? fuse_refusal(n, -errno) : fd;
}

int fuse_refusal(const struct fnode *n, int error)
{
	bool refused = error == -EACCES || error == -EXDEV;

	return refused && __atomic_load_n(&n->unplaced, __ATOMIC_RELAXED) ? -ESTALE : error;
}

void fuse_stamp(const struct freq *q, int fd)
{
	struct timespec ts[2];
	char path[FUSE_PROC_PATH];
	u64 now;

	if (!q->f->cfg.exact)
		return;
	now = q->f->cfg.now(q->f->cfg.opaque);
	ts[0].tv_sec = ts[1].tv_sec = (time_t)(now / 1000000000);
	ts[0].tv_nsec = ts[1].tv_nsec = (long)(now % 1000000000);
	fuse_proc_path(path, fd);
	(void)!utimensat(AT_FDCWD, path, ts, 0);
}

/* --- life ------------------------------------------------------------------------------------- */

int fuse_new(const struct fuse_cfg *cfg, struct fuse **ret)
{
	struct fuse *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->cfg = *cfg;
	f->privileged = geteuid() == 0;
	f->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = f->proc < 0 ? -errno : 0;
	pthread_mutex_init(&f->lock, NULL);
	if (r == 0)
		r = fuse_nodes_up(f);
	if (r < 0) {
		f->cfg.root = -1;
		fuse_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void fuse_reset(struct fuse *f)
{
	(void)forget_session(f);
}

void fuse_free(struct fuse *f)
{
	if (!f)
		return;
	fuse_fh_close_all(f);
	(void)fuse_unmap_all(f);
	fuse_nodes_down(f);
	free(f->map);
	free(f->fh);
	if (f->proc >= 0)
		close(f->proc);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void fuse_get_stats(struct fuse *f, struct fuse_stats *ret)
{
	pthread_mutex_lock(&f->lock);
	*ret = f->stat;
	ret->nodes = f->ids.n;
	ret->handles = f->fh_n;
	pthread_mutex_unlock(&f->lock);
}
