/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filters.h - how the files of kernel packages are compressed
 *
 * Named one by one: "all" would link libarchive's others too, and what they need.
 */
#ifndef ORR_IMAGE_FILTERS_H
#define ORR_IMAGE_FILTERS_H

#include <archive.h>

/* ARCHIVE_OK, or less than ARCHIVE_WARN without memory. */
static inline int filters_add(struct archive *a)
{
	int r = archive_read_support_filter_gzip(a);

	if (r >= ARCHIVE_WARN)
		r = archive_read_support_filter_xz(a);
	if (r >= ARCHIVE_WARN)
		r = archive_read_support_filter_zstd(a);
	return r;
}

#endif
