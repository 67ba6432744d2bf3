// SPDX-License-Identifier: Apache-2.0
/*
 * sandbox_files.c - which files may still be opened (Landlock)
 *
 * How it works
 * A ruleset handles all kinds of access that this kernel's Landlock knows, so all of them are
 * refused but where a rule grants them to a directory and what is below it. What is open already
 * stays as it is, and O_PATH descriptors can still be made: they give no access. A file that is
 * opened by handle (fuse_node.c) is judged like any other, by where it is, so the capability for
 * that leads nowhere outside of the shares.
 *
 * The alternative, a mount namespace with nothing but the shares in it, needs a capability or a
 * user namespace, and it does not stop open_by_handle_at: it is for kernels without (sandbox_root.c).
 *
 * Numbers: Documentation/userspace-api/landlock.rst. The installed header may be older than the
 * running kernel, so what came later is spelled out here.
 */
#include "vm/sandbox_priv.h"

#include <errno.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Each version's last bit of file access. */
#define FS_V1 LANDLOCK_ACCESS_FS_MAKE_SYM
#define FS_REFER (1ull << 13)	  /* version 2 */
#define FS_TRUNCATE (1ull << 14)  /* 3 */
#define FS_IOCTL_DEV (1ull << 15) /* 5 */
#define NET_TCP 3ull		  /* 4: bind and connect */
#define SCOPE_ABSTRACT 1ull	  /* 6: connections to abstract Unix sockets of others */

#define V_REFER 2
#define V_TRUNCATE 3
#define V_NET 4
#define V_IOCTL_DEV 5
#define V_SCOPE 6

/* struct landlock_ruleset_attr as of version 6; older kernels take it as long as the rest is 0. */
struct ruleset_attr {
	u64 fs, net, scoped;
};

_Static_assert(LANDLOCK_ACCESS_FS_MAKE_SYM == 1u << 12, "the last of version 1");

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* No block devices; a character device only as what overlay file systems leave behind (0:0). */
#define CHANGE                                                                                     \
	(READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                    \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                           \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                               \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                             \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | FS_REFER | FS_TRUNCATE)
/* What a rule for a file, not a directory, may grant. */
#define OF_A_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)

int sandbox_landlock(void)
{
	long v = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return v > 0 ? (int)v : 0;
}

static u64 handled_fs(int version)
{
	u64 fs = 2 * FS_V1 - 1;

	if (version >= V_REFER)
		fs |= FS_REFER;
	if (version >= V_TRUNCATE)
		fs |= FS_TRUNCATE;
	if (version >= V_IOCTL_DEV)
		fs |= FS_IOCTL_DEV;
	return fs;
}

static int add_path(int ruleset, const struct sandbox_path *p, u64 handled)
{
	static const u64 access[] = { [SANDBOX_READ] = READ,
				      [SANDBOX_CHANGE] = CHANGE,
				      [SANDBOX_REMOVE] = LANDLOCK_ACCESS_FS_REMOVE_FILE };
	struct landlock_path_beneath_attr rule = { .parent_fd = p->fd };
	struct stat st;

	if (p->access == SANDBOX_REACH) /* Landlock does not judge it */
		return 0;
	if (fstat(p->fd, &st) < 0)
		return -errno;
	rule.allowed_access = access[p->access] & handled;
	if (!S_ISDIR(st.st_mode))
		rule.allowed_access &= OF_A_FILE;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

int sandbox_files_new(const struct sandbox_path *paths, unsigned n, bool net)
{
	int version = sandbox_landlock(), fd, r = 0;
	struct ruleset_attr attr = {
		.fs = handled_fs(version),
		.net = version >= V_NET && !net ? NET_TCP : 0,
		.scoped = version >= V_SCOPE ? SCOPE_ABSTRACT : 0,
	};

	if (!version)
		return -ENOSYS;
	/* The first version refuses to move a file to another directory, wherever it is. */
	for (unsigned i = 0; i < n; i++)
		if (paths[i].access == SANDBOX_CHANGE && version < V_REFER)
			return -EOPNOTSUPP;
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = add_path(fd, &paths[i], attr.fs);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int sandbox_files_enter(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
