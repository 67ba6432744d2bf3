// SPDX-License-Identifier: Apache-2.0
/*
 * cpulock.c - who uses which CPUs and caches of this host: the directory of locks
 *
 * Any user may make the directory and the files in it, so nothing is written there, no link is
 * followed, and what is there is opened only if it is a plain file. The worst that another user can do
 * is to hold a lock, or to keep the directory from being used.
 */
#include "host/cpulock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DIR_NAME "orrery-cpus"

static const char *const kinds[] = { [CPULOCK_LLC] = "llc", [CPULOCK_CPU] = "cpu" };

/* Numbers that linux/magic.h has not everywhere, from statfs(2) and the file systems themselves. */
static const struct {
	unsigned long type;
	const char *name;
} remote[] = {
	{ NFS_SUPER_MAGIC, "NFS" },   { SMB_SUPER_MAGIC, "SMB" }, { 0xff534d42ul, "CIFS" },
	{ 0xfe534d42ul, "SMB2" },     { 0x00c36400ul, "Ceph" },	  { AFS_SUPER_MAGIC, "AFS" },
	{ 0x6b414653ul, "AFS" },      { 0x65735546ul, "FUSE" },	  { V9FS_MAGIC, "9P" },
	{ CODA_SUPER_MAGIC, "Coda" }, { 0x0bd00bd0ul, "Lustre" }, { 0x47504653ul, "GPFS" },
	{ 0x01161970ul, "GFS2" },     { 0x7461636ful, "OCFS2" },  { 0x19830326ul, "BeeGFS" },
};

const char *cpulock_refuses(long fs_type)
{
	for (unsigned i = 0; i < ARRAY_LEN(remote); i++)
		if ((u32)fs_type == remote[i].type)
			return remote[i].name;
	return NULL;
}

static bool for_everybody(const char *dir)
{
	struct stat sb;

	return lstat(dir, &sb) == 0 && S_ISDIR(sb.st_mode) &&
	       (sb.st_mode & (S_ISVTX | S_IWOTH)) == (S_ISVTX | S_IWOTH);
}

static int check(const char *dir, struct err *e)
{
	const char *net;
	struct statfs fs;
	struct stat sb;

	if (lstat(dir, &sb) < 0)
		return errno == ENOENT ? -ENOENT
				       : err_sys(e, -errno, "cannot use %s for locks of CPUs", dir);
	if (!S_ISDIR(sb.st_mode))
		return err_set(e, -ENOTDIR,
			       "%s, for locks of CPUs, is no directory; remove it, or set "
			       "ORRERY_LOCK_DIR",
			       dir);
	if (statfs(dir, &fs) < 0)
		return err_sys(e, -errno, "cannot use %s for locks of CPUs", dir);
	net = cpulock_refuses((long)fs.f_type);
	if (net)
		return err_set(e, -EREMOTE,
			       "%s is on %s, which other hosts may share: locks there say nothing "
			       "about this host's CPUs; set ORRERY_LOCK_DIR to a local directory",
			       dir, net);
	return 0;
}

int cpulock_dir(bool make, struct err *e, char ret[CPULOCK_DIR_MAX])
{
	static const char *const base[] = { "/run/lock", "/tmp" };
	const char *own = getenv("ORRERY_LOCK_DIR");
	char dir[CPULOCK_DIR_MAX];
	int n, r;

	if (own && *own)
		n = snprintf(dir, sizeof(dir), "%s", own);
	else
		n = snprintf(dir, sizeof(dir), "%s/" DIR_NAME,
			     base[for_everybody(base[0]) ? 0 : 1]);
	if ((unsigned)n >= sizeof(dir) || dir[0] != '/')
		return err_set(e, -EINVAL,
			       "ORRERY_LOCK_DIR %.80s: it takes an absolute path of at "
			       "most %u bytes",
			       own, CPULOCK_DIR_MAX - 1);
	r = check(dir, e);
	if (r == -ENOENT && make) {
		/* Somebody else may make it just now. The mode is against the umask. */
		r = mkdir(dir, 0777) == 0 ? chmod(dir, 01777) : errno == EEXIST ? 0 : -1;
		if (r < 0)
			return err_sys(e, -errno, "cannot make %s, for locks of CPUs", dir);
		r = check(dir, e);
	}
	if (r == 0)
		memcpy(ret, dir, sizeof(dir));
	return r;
}

int cpulock_open(const char *dir, enum cpulock_kind kind, unsigned n, struct err *e)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	char path[CPULOCK_DIR_MAX + 32];
	struct stat sb;
	int fd = -1;

	snprintf(path, sizeof(path), "%s/%s-%u.lock", dir, kinds[kind], n);
	/*
	 * Without O_CREAT first: with it, the kernel refuses other users' files in such a directory
	 * (fs.protected_regular). Two may make it at once, and one is first.
	 */
	for (unsigned i = 0; fd < 0 && i < 3; i++) {
		fd = open(path, flags);
		if (fd >= 0 || errno != ENOENT)
			break;
		fd = open(path, flags | O_CREAT | O_EXCL, 0444);
		if (fd >= 0)
			fchmod(fd, 0444); /* against the umask */
		else if (errno != EEXIST)
			break;
	}
	if (fd < 0)
		return err_sys(e, -errno, "cannot open the lock %s", path);
	if (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode)) {
		close(fd);
		return err_set(e, -EINVAL, "the lock %s is no plain file; remove it", path);
	}
	return fd;
}

bool cpulock_name(const char *file, enum cpulock_kind *ret_kind, unsigned *ret_n)
{
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		size_t len = strlen(kinds[k]);
		unsigned n;
		int end = 0;

		if (strncmp(file, kinds[k], len) != 0 || file[len] != '-' || file[len + 1] < '0' ||
		    file[len + 1] > '9')
			continue;
		if (sscanf(file + len + 1, "%9u.lock%n", &n, &end) == 1 && end &&
		    !file[len + 1 + (size_t)end]) {
			*ret_kind = (enum cpulock_kind)k;
			*ret_n = n;
			return true;
		}
	}
	return false;
}
