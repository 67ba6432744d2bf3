/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_priv.h - the parts of the FUSE server
 *
 *	fuse.c       session, dispatch, requests and replies
 *	fuse_node.c  nodes: files that the client knows, their descriptors
 *	fuse_fh.c    handles: files that the client has open
 *	fuse_attr.c  attributes, extended ones too, and whose they are
 *	fuse_name.c  names: look-up, creation, removal, renaming
 *	fuse_file.c  data
 *	fuse_dir.c   reading directories
 *	fuse_lock.c  POSIX and flock locks
 *	fuse_dax.c   mapping files into the window
 *
 * Lock order: fhandle.lock, fuse.lock. No system call that can block on a disk is made under the
 * latter, but for the rare reopening of a node.
 */
#ifndef ORR_HOST_FUSE_PRIV_H
#define ORR_HOST_FUSE_PRIV_H

#include "host/fuse.h"

#include <limits.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sys/stat.h>

/* --- hash tables ------------------------------------------------------------------------------ */

struct flink {
	struct flink *next;
	u64 hash;
};

struct ftab {
	struct flink **slot;
	u32 size, n; /* size: a power of two, or 0 */
};

int ftab_add(struct ftab *t, struct flink *l, u64 hash); /* 0 or -ENOMEM */
void ftab_del(struct ftab *t, struct flink *l);
/* The first with @hash, and the next one behind @l. */
struct flink *ftab_first(const struct ftab *t, u64 hash);
struct flink *ftab_next(const struct flink *l);
u64 fuse_hash(u64 a, u64 b);

/* --- nodes ------------------------------------------------------------------------------------ */

struct fuse_locker;

/* A file of any type that the client has looked up and not forgotten. */
struct fnode {
	struct flink by_id, by_key;
	struct fnode *newer, *older; /* among those with a descriptor */
	u64 id;			     /* the client's number; never used again */
	u64 dev, ino, mnt;	     /* which file it is */
	u64 shown;		     /* st_ino for the client */
	u64 lookups;		     /* names given to the client, less those forgotten */
	u32 refs;		     /* requests and handles that use it */
	int fd;			     /* O_PATH; -1: closed for want of descriptors, see @handle */
	struct file_handle *handle;  /* NULL: not asked for yet */
	/* When it was last opened: a client's copies from before are good if nothing has changed. */
	struct {
		s64 mtime, ctime;
		u32 mtime_ns, ctime_ns;
		u64 size;
	} seen;
	/*
	 * @fd is from @handle, so the host may not know in which directory the file is. Atomic, and
	 * changed under the lock.
	 */
	bool unplaced;
	u16 type;    /* S_IFMT */
	bool keyed;  /* in the table by key */
	bool hollow; /* the root of a file system of the kernel's own: nothing is shown of it */
	struct fuse_locker *lockers; /* owners of POSIX locks */
};

/* --- handles ---------------------------------------------------------------------------------- */

struct fdirent {
	u64 ino;
	u32 name; /* offset in names */
	u8 type;
};

struct fhandle {
	u64 value; /* the client's */
	u32 refs;
	bool closed; /* by the client */
	bool dir;
	bool sync_name; /* unused names are kept at release */
	int fd;		/* -1 for a directory */
	struct fnode *node;
	/* A directory as it was when reading began. */
	pthread_mutex_t lock;
	bool read;
	struct fdirent *ent;
	u32 n_ent;
	char *names;
	size_t bytes; /* what both cost */
};

#define FUSE_MOUNTS 64u
#define FUSE_DIRS_BYTES (256u << 20) /* of all directories read */
#define FUSE_NODES_MAX (1u << 20)

struct fuse_mapping {
	u64 off, len;
};

struct fuse {
	struct fuse_cfg cfg;
	int proc;	 /* /proc/self/fd */
	bool privileged; /* acts as whoever asks */
	bool by_handle;	 /* nodes can be reopened */
	u64 root_dev, root_ino;

	pthread_mutex_t lock; /* of what follows */
	bool ready;	      /* INIT was answered */
	u32 flags;	      /* negotiated */
	struct ftab ids, keys, numbers;
	struct fnode *root, *newest, *oldest;
	u64 next_id, next_shown;
	u32 n_fds; /* of nodes */
	struct {
		u64 id;
		int fd;
	} mount[FUSE_MOUNTS];
	unsigned n_mounts;
	struct fhandle **fh;
	u32 fh_cap, fh_n, fh_gen;
	size_t dirs_bytes;
	unsigned n_lockers;
	struct fuse_mapping *map; /* by offset */
	u32 n_map, map_cap;
	struct fuse_stats stat;
};

/* --- requests --------------------------------------------------------------------------------- */

struct freq {
	struct fuse *f;
	struct fuse_req *r;
	struct fuse_in_header h;
	size_t at, end;	    /* the rest of the request's body */
	size_t room;	    /* for the reply's body */
	size_t len;	    /* of the reply's body so far */
	struct fnode *node; /* of h.nodeid, referenced; see enum op_flag */
	struct fhandle *fh; /* the handle that the body begins with, referenced */
};

/*
 * Reads an argument of @size bytes, of which the client must have sent @min; the rest are zeros.
 * 0 or -EINVAL.
 */
int freq_arg(struct freq *q, void *ret, size_t size, size_t min);
/* A name of one component into @ret (NAME_MAX + 1). 0, -EINVAL, -ENAMETOOLONG. */
int freq_name(struct freq *q, char *ret);
/* A string that may be anything, into @ret. */
int freq_text(struct freq *q, char *ret, size_t size);
/* Appends to the reply's body. 0, or -ENOBUFS: the client left no room. */
int freq_put(struct freq *q, const void *p, size_t n);

#define FUSE_PROC_PATH 40
/* "/proc/self/fd/N". */
void fuse_proc_path(char ret[FUSE_PROC_PATH], int fd);
/*
 * Opens a node anew. A descriptor, or negative errno. The type of the node must allow it. @mode is
 * for O_TMPFILE. -ESTALE also means that the client must look the name up again.
 */
int fuse_reopen(struct fuse *f, const struct fnode *n, int flags, mode_t mode);
/*
 * What a refusal of a call on @n is for the client: ESTALE if it may be for want of a place, which
 * a look-up by name gives it (fuse_node.c).
 */
int fuse_refusal(const struct fnode *n, int error);
/* Acts as the client's user until the other is called; the file mode mask is 0 meanwhile. */
struct fuse_cred {
	bool changed;
	mode_t mask;
};
void fuse_become(const struct freq *q, struct fuse_cred *c);
void fuse_unbecome(struct fuse_cred *c);
/* Under cfg.exact: the file's times become the client's. */
void fuse_stamp(const struct freq *q, int fd);

/* fuse_node.c; those with _locked are called under f->lock, the others not. */
int fuse_nodes_up(struct fuse *f); /* makes the root */
void fuse_nodes_down(struct fuse *f);
int fuse_node_get(struct fuse *f, u64 id, struct fnode **ret); /* 0, -ESTALE, ... */
void fuse_node_put(struct fuse *f, struct fnode *n);
void fuse_node_put_locked(struct fuse *f, struct fnode *n);
void fuse_node_forget(struct fuse *f, u64 id, u64 n);
void fuse_nodes_forget_all(struct fuse *f);
/* Finds @name in @dir, and makes or finds the node. @created: its number must be a new one. */
int fuse_node_look(struct fuse *f, struct fnode *dir, const char *name, bool created,
		   struct fnode **ret, struct statx *ret_st);
/* The node of an open file that was just created. */
int fuse_node_of(struct fuse *f, int fd, struct fnode **ret, struct statx *ret_st);
/* The number that the client sees for a file. */
u64 fuse_shown(struct fuse *f, u64 dev, u64 ino);

#define FUSE_STATX (STATX_BASIC_STATS | STATX_MNT_ID)
static inline u64 fuse_stx_dev(const struct statx *st)
{
	return (u64)st->stx_dev_major << 32 | st->stx_dev_minor;
}

/* fuse_fh.c */
/* Takes @fd on success. */
int fuse_fh_new(struct fuse *f, struct fnode *n, int fd, bool dir, u64 *ret);
int fuse_fh_get(struct fuse *f, u64 value, struct fhandle **ret); /* 0 or -EBADF */
void fuse_fh_put(struct fuse *f, struct fhandle *h);
void fuse_fh_close(struct fuse *f, struct fhandle *h);
void fuse_fh_close_all(struct fuse *f);

/* fuse_attr.c */
void fuse_fill_attr(struct fuse *f, const struct fnode *n, const struct statx *st,
		    struct fuse_attr *ret);
/* A fuse_entry_out for a node that was looked up. */
void fuse_fill_entry(struct fuse *f, const struct fnode *n, const struct statx *st,
		     struct fuse_entry_out *ret);
u32 fuse_valid_secs(const struct fuse *f);
/* Drops the set-user-ID and set-group-ID bits that a write must drop. */
void fuse_kill_suid(const struct freq *q, int fd);

/* fuse_lock.c */
void fuse_lockers_drop_locked(struct fuse *f, struct fnode *n);
void fuse_locker_end(struct fuse *f, struct fnode *n, u64 owner);

/* fuse_dax.c */
/* True: something was mapped. */
bool fuse_unmap_all(struct fuse *f);

/* Operations: 0 or a negative errno, which becomes the reply; in a table in fuse.c. */
int fuse_do_lookup(struct freq *q);
int fuse_do_forget(struct freq *q);
int fuse_do_batch_forget(struct freq *q);
int fuse_do_getattr(struct freq *q);
int fuse_do_setattr(struct freq *q);
int fuse_do_readlink(struct freq *q);
int fuse_do_symlink(struct freq *q);
int fuse_do_mknod(struct freq *q);
int fuse_do_mkdir(struct freq *q);
int fuse_do_unlink(struct freq *q);
int fuse_do_rmdir(struct freq *q);
int fuse_do_rename(struct freq *q);
int fuse_do_rename2(struct freq *q);
int fuse_do_link(struct freq *q);
int fuse_do_open(struct freq *q);
int fuse_do_create(struct freq *q);
int fuse_do_tmpfile(struct freq *q);
int fuse_do_read(struct freq *q);
int fuse_do_write(struct freq *q);
int fuse_do_statfs(struct freq *q);
int fuse_do_release(struct freq *q);
int fuse_do_fsync(struct freq *q);
int fuse_do_setxattr(struct freq *q);
int fuse_do_getxattr(struct freq *q);
int fuse_do_listxattr(struct freq *q);
int fuse_do_removexattr(struct freq *q);
int fuse_do_flush(struct freq *q);
int fuse_do_opendir(struct freq *q);
int fuse_do_readdir(struct freq *q);
int fuse_do_readdirplus(struct freq *q);
int fuse_do_releasedir(struct freq *q);
int fuse_do_fsyncdir(struct freq *q);
int fuse_do_getlk(struct freq *q);
int fuse_do_setlk(struct freq *q);
int fuse_do_access(struct freq *q);
int fuse_do_fallocate(struct freq *q);
int fuse_do_lseek(struct freq *q);
int fuse_do_copy_file_range(struct freq *q);
int fuse_do_syncfs(struct freq *q);
int fuse_do_setupmapping(struct freq *q);
int fuse_do_removemapping(struct freq *q);

#endif
