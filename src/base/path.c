/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - directories of the host
 */
#include "base/path.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int path_make_dirs(const char *dir)
{
	char *p = strdup(dir);
	int r = p ? 0 : -ENOMEM;

	for (char *s = p ? p + 1 : NULL; r == 0 && s; s++) {
		char c = *s;

		if (c && c != '/')
			continue;
		*s = 0;
		if (mkdir(p, 0777) < 0 && errno != EEXIST)
			r = -errno;
		*s = c;
		if (!c)
			break;
	}
	free(p);
	return r;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	/* Going on after a failure removes as much as possible; the caller checks the root. */
	if (type == FTW_DP || type == FTW_D || type == FTW_DNR)
		rmdir(path);
	else
		unlink(path);
	return 0;
}

int path_remove_tree(const char *path)
{
	struct stat st;

	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (lstat(path, &st) == 0)
		return rmdir(path) < 0 ? -errno : 0;
	return errno == ENOENT ? 0 : -errno;
}
