/* SPDX-License-Identifier: Apache-2.0 */
/*
 * payload.h - unpacks the compressed kernel inside a bzImage
 */
#ifndef ORR_IMAGE_PAYLOAD_H
#define ORR_IMAGE_PAYLOAD_H

#include "base/compiler.h"
#include "base/err.h"

enum payload_format {
	PAYLOAD_UNKNOWN,
	PAYLOAD_NONE, /* an ELF file as it is */
	PAYLOAD_GZIP,
	PAYLOAD_XZ,
	PAYLOAD_ZSTD,
	PAYLOAD_LZ4, /* the legacy frame format */
	PAYLOAD_LZMA,
	PAYLOAD_BZIP2, /* recognized, not unpacked */
	PAYLOAD_LZO,   /* recognized, not unpacked */
};

/* What the first bytes say. */
enum payload_format payload_detect(const u8 *p, size_t len);
/* A static string: "gzip", ..., "unknown". */
const char *payload_name(enum payload_format f);
/* Whether payload_unpack can do it. True of everything but UNKNOWN, NONE, BZIP2 and LZO. */
bool payload_can_unpack(enum payload_format f);

/* How long the payload says that it is unpacked; 0 of one that is too short to say so. */
size_t payload_size(const u8 *p, size_t len);

/*
 * Unpacks [@p, @p+@len) in format @f (one that payload_can_unpack). The last four bytes of the
 * payload are the unpacked size, as the kernel's build appends it (gzip has it by nature); they
 * decide how much is allocated, and more than @max is refused.
 * Returns 0 and an owned buffer (free) with its length, -EINVAL for damaged data, -EFBIG, -ENOMEM.
 */
int payload_unpack(enum payload_format f, const u8 *p, size_t len, size_t max, struct err *e,
		   u8 **ret_data, size_t *ret_len);

#endif
