/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - directories of the host
 */
#ifndef ORR_BASE_PATH_H
#define ORR_BASE_PATH_H

/* Makes @dir and those above it that are missing, as mkdir -p. 0 or negative errno. */
int path_make_dirs(const char *dir);

#endif
