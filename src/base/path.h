/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - directories of the host
 */
#ifndef ORR_BASE_PATH_H
#define ORR_BASE_PATH_H

/* Makes @dir and those above it that are missing, as mkdir -p. 0 or negative errno. */
int path_make_dirs(const char *dir);
/*
 * Removes @path with everything below it; never follows a link. What cannot be removed stays, the
 * rest goes. 0, also if there is none, or negative errno.
 */
int path_remove_tree(const char *path);

#endif
