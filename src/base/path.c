/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - directories of the host
 */
#include "base/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
